//! Pods that settings name, such as those of Prometheus and of the mesh, and addresses that only the node of a pod has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

use crate::model::{AddressSet, End, Endpoint, Labels, is_link_local};

/// The IPv6 address from which Istio's ambient mesh sends the probes of kubelets. Each node uses it towards its own pods,
/// and no network routes it. The IPv4 address, 169.254.7.127, is link-local.
pub(crate) const MESH_PROBES: Ipv6Addr = Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff);

/// Returns true if the addresses of a CIDR belong to the node of each pod.
pub(crate) fn is_of_node(net: IpNet) -> bool {
    is_link_local(net) || net == IpNet::from(IpAddr::V6(MESH_PROBES))
}

/// The addresses of [`is_of_node`].
pub(crate) fn addresses_of_node() -> AddressSet {
    let mut all = AddressSet::link_local();
    all.extend(&IpAddr::V6(MESH_PROBES).into());
    all
}

/// Pods that are named in a setting.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(from = "WrittenPods")]
pub(crate) struct WellKnown {
    /// The namespace of the pods.
    pub(crate) namespace: String,
    /// The known labels of the pods.
    #[schemars(skip)]
    pub(crate) labels: Labels,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenPods {
    namespace: String,
    pod_labels: BTreeMap<String, String>,
}

impl From<WrittenPods> for WellKnown {
    fn from(written: WrittenPods) -> Self {
        Self { namespace: written.namespace, labels: written.pod_labels.into_iter().collect() }
    }
}

impl WellKnown {
    /// Pods with this label in a namespace.
    pub(crate) fn of(namespace: &str, (key, value): (&str, &str)) -> Self {
        Self { namespace: namespace.to_owned(), labels: [(key, value)].into_iter().collect() }
    }

    /// The pods as the other end of a connection.
    pub(crate) fn end(&self) -> End<'_> {
        End::Pod(Endpoint { labels: &self.labels, ..Endpoint::unknown(&self.namespace) })
    }
}

impl std::fmt::Display for WellKnown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pods with {} in namespace {}", self.labels, self.namespace)
    }
}

impl WellKnown {
    /// The Prometheus pods, with the labels that the Prometheus Operator sets.
    pub(crate) fn prometheus() -> Self {
        Self::of("monitoring", ("app.kubernetes.io/name", "prometheus"))
    }
}
