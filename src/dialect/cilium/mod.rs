//! `cilium.io/v2` CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.
//!
//! The semantics follow Cilium 1.20:
//! - fields, and validation in `rule_validation.go`: `pkg/policy/api`
//! - labels added to selectors: `pkg/policy/k8s` and `pkg/k8s/apis/cilium.io/utils`
//! - empty and missing lists: `pkg/policy/utils/parserules.go` and `pkg/policy/l4.go`
//!
//! `docs/dialects/cilium.md` has a row for each field.

mod element;
mod fix;
mod icmp;
mod l7;
mod labels;
#[cfg(test)]
mod meaning;
mod names;
mod number;
mod peers;
mod ports;
mod read;
mod selector;
#[cfg(test)]
mod testing;
mod validity;
mod wire;
mod write;

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

/// The cluster-scoped kind.
const CLUSTERWIDE: &str = "CiliumClusterwideNetworkPolicy";

/// The dialect of Cilium.
#[derive(Debug)]
pub struct Cilium;

impl Dialect for Cilium {
    fn name(&self) -> &'static str {
        "cilium"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[
            Kind { group: "cilium.io", versions: &["v2"], kind: "CiliumNetworkPolicy" },
            Kind { group: "cilium.io", versions: &["v2"], kind: CLUSTERWIDE },
        ]
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
