//! Helpers for the tests of this dialect.

use serde_json::{Value, json};

use super::read;
use crate::dialect::{Manifest, Origin, ReadError};
use crate::model::{Object, Policy, Rule};

/// The namespaced kind.
pub(super) const NAMESPACED: &str = "CiliumNetworkPolicy";

/// Reads a manifest of this kind in namespace `shop`. The fields are set next to its metadata.
pub(super) fn read_fields(kind: &str, fields: &Value) -> Result<Object, ReadError> {
    let mut manifest = json!({"metadata": {"name": "p", "namespace": "shop"}});
    for (key, value) in fields.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    let json = manifest.to_string();
    read::object(&Manifest::read("cilium.io/v2", kind, &json, Origin::Author).unwrap())
}

/// Reads a CiliumNetworkPolicy with this spec. If it has no selector, one that selects all pods is added.
pub(super) fn object(spec: &Value) -> Object {
    object_of(NAMESPACED, spec)
}

/// Reads an object of this kind with this spec. If it has no selector, one that selects all pods is added.
pub(super) fn object_of(kind: &str, spec: &Value) -> Object {
    let mut spec = spec.clone();
    if spec.get("endpointSelector").is_none() && spec.get("nodeSelector").is_none() {
        spec["endpointSelector"] = json!({});
    }
    read_fields(kind, &json!({"spec": spec})).unwrap()
}

/// The only policy of a spec that has no faults.
pub(super) fn policy(spec: &Value) -> Policy {
    let object = object(spec);
    assert_eq!(faults_of(&object), Vec::<String>::new(), "{spec}");
    object.policies()[0].clone()
}

/// The rules of one element of this list, in a policy without faults.
pub(super) fn rules(list: &str, element: &Value) -> Vec<Rule> {
    let policy = policy(&json!({list: [element]}));
    if list.starts_with("ingress") { policy.ingress.rules } else { policy.egress.rules }
}

/// Each fault as `path: problem`, without the ending that most problems share.
pub(super) fn faults_of(object: &Object) -> Vec<String> {
    let said = "; the API server accepts the policy, but the agent does not enforce it";
    object
        .faults
        .iter()
        .map(|fault| {
            assert_eq!(fault.kind.is_refused(), fault.problem.ends_with(said), "{fault:?}");
            format!("{}: {}", fault.path, fault.problem.trim_end_matches(said))
        })
        .collect()
}

/// The faults of a spec.
pub(super) fn faults(spec: &Value) -> Vec<String> {
    faults_of(&object(spec))
}

/// The only fault of one element of this list.
pub(super) fn fault(list: &str, element: &Value) -> String {
    let mut faults = faults(&json!({list: [element]}));
    assert_eq!(faults.len(), 1, "{element}: {faults:?}");
    faults.remove(0)
}
