//! `policy.networking.k8s.io`: ClusterNetworkPolicy, and its predecessors AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy.
//!
//! The semantics follow the types and CRDs of
//! [network-policy-api](https://github.com/kubernetes-sigs/network-policy-api):
//! `apis/v1alpha2/clusternetworkpolicy_types.go` of v0.2.0, and `apis/v1alpha1/` of v0.1.7. The latter is unchanged in
//! v0.1.8, the last release with those two kinds. Fields of the experimental channel are read like those of the
//! standard channel.
//!
//! The API server rejects objects that violate the CRDs. A violation that leaves the object without a meaning is an
//! error here. A BaselineAdminNetworkPolicy with a name other than `default` is reported and does not count. Limits of
//! length and number are left to the API server: they differ between the versions.

mod fix;
mod peer;
mod ports;
mod read;
mod spec;
mod wire;

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

const GROUP: &str = "policy.networking.k8s.io";

const KINDS: &[Kind] = &[
    Kind { group: GROUP, versions: &["v1alpha2"], kind: Which::Cluster.name() },
    Kind { group: GROUP, versions: &["v1alpha1"], kind: Which::Admin.name() },
    Kind { group: GROUP, versions: &["v1alpha1"], kind: Which::Baseline.name() },
];

/// The dialect of cluster-scoped policies.
#[derive(Debug)]
pub struct ClusterNetworkPolicy;

impl Dialect for ClusterNetworkPolicy {
    fn name(&self) -> &'static str {
        "cluster_network_policy"
    }

    fn kinds(&self) -> &'static [Kind] {
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

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Cluster,
    Admin,
    Baseline,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "ClusterNetworkPolicy",
            Self::Admin => "AdminNetworkPolicy",
            Self::Baseline => "BaselineAdminNetworkPolicy",
        }
    }

    fn article(self) -> &'static str {
        if self == Self::Admin { "an" } else { "a" }
    }

    fn of(manifest: &Manifest<'_>) -> Self {
        match manifest.kind {
            "AdminNetworkPolicy" => Self::Admin,
            "BaselineAdminNetworkPolicy" => Self::Baseline,
            _ => Self::Cluster,
        }
    }

    /// The name of the action that allows traffic.
    fn allow(self) -> &'static str {
        match self {
            Self::Cluster => "Accept",
            Self::Admin | Self::Baseline => "Allow",
        }
    }
}
