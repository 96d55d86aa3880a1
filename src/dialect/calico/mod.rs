//! Calico's policies, `projectcalico.org/v3` and as it stores them, `crd.projectcalico.org/v1`.
//!
//! Meaning: the sources of Calico v3.32 (`projectcalico/calico` at 87c15906f20c): `api/pkg/apis/projectcalico/v3` for the
//! fields, `api/pkg/defaults` for what is filled in, `libcalico-go/lib/backend/syncersv1/updateprocessors` for what a
//! selector means and where, `libcalico-go/lib/selector` for its language, `felix/calc` and `felix/rules` for what becomes
//! of all that; `libcalico-go/lib/validator/v3` and the CEL rules of the CRDs for what is refused.
//!
//! Network sets are not read, and of host endpoints only the labels, in files: elsewhere a selector means pods.

mod fix;
mod host_endpoint;
mod icmp;
mod labels;
mod nets;
mod peers;
mod ports;
mod read;
mod reader;
mod rule;
mod selector;
pub(super) mod stored;
mod tier;
mod validity;
mod wire;

pub use host_endpoint::host_endpoint;

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

/// The dialect.
#[derive(Debug)]
pub struct Calico;

const fn kind(kind: &'static str) -> Kind {
    Kind { group: "projectcalico.org", versions: &["v3"], kind }
}

const fn stored(kind: &'static str) -> Kind {
    Kind { group: "crd.projectcalico.org", versions: &["v1"], kind }
}

impl Dialect for Calico {
    fn name(&self) -> &'static str {
        "calico"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: &[Kind] = &[
            kind("NetworkPolicy"),
            kind("GlobalNetworkPolicy"),
            kind("StagedNetworkPolicy"),
            kind("StagedGlobalNetworkPolicy"),
            kind("StagedKubernetesNetworkPolicy"),
            kind("Tier"),
            stored("NetworkPolicy"),
            stored("GlobalNetworkPolicy"),
            stored("StagedNetworkPolicy"),
            stored("StagedGlobalNetworkPolicy"),
            stored("StagedKubernetesNetworkPolicy"),
            stored("Tier"),
        ];
        KINDS
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        read::object(manifest)
    }

    fn fix(&self, fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
        fix::patch(fix, manifest)
    }
}

#[cfg(test)]
mod testing {
    use serde_json::{Value, json};

    use super::super::{Dialect, Manifest, Origin, ReadError};
    use super::Calico;
    use crate::model::{Object, Policy, Rule};

    pub(super) fn try_read(api_version: &str, kind: &str, spec: &Value) -> Result<Object, ReadError> {
        let metadata =
            if kind.contains("Global") { json!({"name": "p"}) } else { json!({"name": "p", "namespace": "shop"}) };
        let json = json!({"metadata": metadata, "spec": spec}).to_string();
        Calico.read(&Manifest::read(api_version, kind, &json, Origin::Author).unwrap())
    }

    pub(super) fn read(kind: &str, spec: &Value) -> Object {
        try_read("projectcalico.org/v3", kind, spec).unwrap()
    }

    pub(super) fn policy(kind: &str, spec: &Value) -> Policy {
        read(kind, spec).policies()[0].clone()
    }

    /// The paths of the faults, each with its kind.
    pub(super) fn faults(kind: &str, spec: &Value) -> Vec<String> {
        read(kind, spec).faults.iter().map(|fault| format!("{}: {:?}", fault.path, fault.kind)).collect()
    }

    /// An ingress rule of a NetworkPolicy in the namespace `shop`, or of a GlobalNetworkPolicy.
    pub(super) fn ingress(kind: &str, rule: &Value) -> Rule {
        policy(kind, &json!({"ingress": [rule]})).ingress.rules.remove(0)
    }

    pub(super) fn egress(kind: &str, rule: &Value) -> Rule {
        policy(kind, &json!({"egress": [rule]})).egress.rules.remove(0)
    }
}
