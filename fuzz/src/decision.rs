//! The whole decision: an object of any kind, in any state of the cluster and of the configuration, in any size.

use arbitrary::{Result, Unstructured};
use portcullis::admission::Knowledge;
use portcullis::model::Object;
use serde_json::{Value, json};

use crate::answers::{Answered, Endpoint, ask};
use crate::cost::within_budget;
use crate::grammar::Grown;
use crate::kinds::{KINDS, Kind, METADATA};
use crate::surroundings;

/// Stored policies around the object.
const MAX_AROUND: usize = 3;
/// The longest body whose patches are applied and judged again.
const MAX_AGAIN: usize = 100_000;

/// A request and what is around it.
pub(crate) struct Request {
    pub(crate) knowledge: Knowledge,
    pub(crate) kind: &'static Kind,
    pub(crate) operation: &'static str,
    pub(crate) user: &'static str,
    pub(crate) object: Value,
    pub(crate) old: Value,
}

/// Judges the request that the bytes stand for.
pub fn run(data: &[u8]) {
    let Ok(request) = Request::from(&mut Unstructured::new(data)) else { return };
    let Some(validated) = request.ask(Endpoint::Validate, &request.object) else { return };
    let Some(mutated) = request.ask(Endpoint::Mutate, &request.object) else { return };
    if let Some(patch) = mutated.patch() {
        request.check_patch(&patch, &validated);
    }
}

impl Request {
    /// Reads a request from bytes.
    pub(crate) fn from(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let choice = bytes.arbitrary()?;
        let kind = bytes.choose(KINDS)?;
        let operation = *bytes.choose(&["CREATE", "CREATE", "UPDATE", "UPDATE", "UPDATE", "DELETE"])?;
        let user = *bytes.choose(&[
            "mallory",
            "root",
            "system:serviceaccount:portcullis-system:portcullis",
            "system:node:n",
        ])?;
        let mut around: Vec<Object> = Vec::new();
        for _ in 0..bytes.int_in_range(0..=MAX_AROUND)? {
            let kind = bytes.choose(KINDS)?;
            let grown = Grown::from(kind.shape, bytes);
            // What is stored was judged when it came, so it is not hostile beyond measure.
            let stored = manifest(kind, "shop", &format!("around-{}", around.len()), &grown.value(600), json!({}));
            around.extend(within_budget(stored.to_string().len(), || surroundings::read(&stored)).flatten());
        }
        let namespace = *bytes.choose(&["shop", "shop", "open", "kube-system", "default", "absent", "ab", "bc"])?;
        let name = *bytes.choose(&["x", "x", "portcullis-x", "default", "shop", "t1.x", ""])?;
        let metadata = Grown::from(METADATA, bytes);
        let spec = Grown::from(kind.shape, bytes);
        let object = manifest(kind, namespace, name, &spec.value(0), metadata.value(0));
        let old = match bytes.arbitrary::<u8>().unwrap_or_default() % 5 {
            0 => object.clone(),
            1 => manifest(kind, namespace, name, &spec.value(1), metadata.value(0)),
            2 => manifest(kind, namespace, name, &spec.value(600), metadata.value(1)),
            3 => manifest(kind, namespace, name, &spec.value(0), Grown::from(METADATA, bytes).value(0)),
            _ => manifest(kind, namespace, name, &Grown::from(kind.shape, bytes).value(0), metadata.value(0)),
        };
        Ok(Self { knowledge: surroundings::choose(choice, around), kind, operation, user, object, old })
    }

    /// The answer of an endpoint to the request with this object in it.
    pub(crate) fn ask(&self, endpoint: Endpoint, object: &Value) -> Option<Answered> {
        ask(&self.knowledge, endpoint, &self.body(object))
    }

    /// The body of the review, in the order in which an API server writes its fields.
    fn body(&self, object: &Value) -> Vec<u8> {
        let (group, version) = self.kind.api_version.split_once('/').unwrap_or(("", self.kind.api_version));
        let kind = json!({"group": group, "version": version, "kind": self.kind.kind});
        let metadata = &object["metadata"];
        let name = &metadata["name"];
        let namespace = if self.kind.kind == "Namespace" { name } else { &metadata["namespace"] };
        let null = Value::Null;
        let (object, old) = match self.operation {
            "CREATE" => (object, &null),
            "DELETE" => (&null, &self.old),
            _ => (object, &self.old),
        };
        let user = json!({"username": self.user, "groups": ["system:authenticated"]});
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u-1","kind":{kind},"name":{name},"namespace":{namespace},"operation":"{}","userInfo":{user},"object":{object},"oldObject":{old},"dryRun":false}}}}"#,
            self.operation
        )
        .into_bytes()
    }

    /// A patch of `/mutate` applies, is not needed a second time, and makes nothing worse.
    pub(crate) fn check_patch(&self, patch: &json_patch::Patch, before: &Answered) {
        let mut patched = self.object.clone();
        let applied = json_patch::patch(&mut patched, patch);
        assert!(applied.is_ok(), "the patch does not apply: {applied:?}: {}", json!(patch));
        if self.body(&patched).len() > MAX_AGAIN {
            return;
        }
        let again = self.ask(Endpoint::Mutate, &patched).and_then(|answered| answered.patch());
        assert!(again.is_none(), "a patched object is patched again: {} and {}", json!(patch), json!(again));
        let Some(after) = self.ask(Endpoint::Validate, &patched) else { return };
        let new: Vec<_> = after.denying.iter().filter(|rule| !before.denying.contains(rule)).collect();
        let told = || format!("{}\n{patched:#}\n{:#}", json!(patch), after.response);
        assert!(new.is_empty(), "the patch brings denials of {new:?}: {}", told());
        assert!(after.allowed() || !before.allowed(), "the patch brings a denial: {}", told());
    }
}

/// A manifest of a kind.
fn manifest(kind: &Kind, namespace: &str, name: &str, content: &Value, metadata: Value) -> Value {
    let mut manifest = json!({"apiVersion": kind.api_version, "kind": kind.kind, kind.field: content});
    // Sometimes metadata is no object: that is a case too.
    manifest["metadata"] = metadata;
    if let Some(metadata) = manifest["metadata"].as_object_mut() {
        let name = if kind.kind == "Namespace" { namespace } else { name };
        metadata.insert("name".to_owned(), name.into());
        if kind.is_namespaced {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
    manifest
}
