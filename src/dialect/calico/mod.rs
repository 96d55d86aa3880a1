//! Calico's policies: `projectcalico.org/v3`, and their stored form, `crd.projectcalico.org/v1`.
//!
//! The semantics follow the sources of Calico v3.32 (`projectcalico/calico` at 87c15906f20c):
//! - fields: `api/pkg/apis/projectcalico/v3`
//! - defaults: `api/pkg/defaults`
//! - scope of each selector: `libcalico-go/lib/backend/syncersv1/updateprocessors`
//! - selector language: `libcalico-go/lib/selector`
//! - enforcement: `felix/calc` and `felix/rules`
//! - validation: `libcalico-go/lib/validator/v3` and the CEL rules of the CRDs
//!
//! Network sets and the labels of host endpoints are read only from files. A selector of a rule may match network sets
//! that are unknown: then it is unknown whether the rule matches an address that is not one of a pod. Everywhere else a
//! selector selects pods.

mod fix;
mod host_endpoint;
mod icmp;
mod labels;
mod nets;
mod network_set;
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

pub(crate) use host_endpoint::host_endpoint;
pub(crate) use network_set::network_set;

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

/// The dialect of Calico.
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

    fn reads_other_versions(&self) -> bool {
        true
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

    /// Reads an ingress rule of a NetworkPolicy in the namespace `shop`, or of a GlobalNetworkPolicy.
    pub(super) fn ingress(kind: &str, rule: &Value) -> Rule {
        policy(kind, &json!({"ingress": [rule]})).ingress.rules.remove(0)
    }

    pub(super) fn egress(kind: &str, rule: &Value) -> Rule {
        policy(kind, &json!({"egress": [rule]})).egress.rules.remove(0)
    }
}
