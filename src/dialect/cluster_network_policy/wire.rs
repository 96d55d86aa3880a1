//! The fields of manifests, named as in the API.

use serde::Deserialize;

use crate::dialect::label_selector::LabelSelector;
use crate::json::{objects, optional, values};

/// The spec of a ClusterNetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClusterSpec {
    pub(super) tier: Option<Box<str>>,
    pub(super) priority: Option<i64>,
    #[serde(deserialize_with = "optional")]
    pub(super) subject: Option<Subject>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<ClusterIngress>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<ClusterEgress>>,
}

/// The spec of an AdminNetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdminSpec {
    pub(super) priority: Option<i64>,
    #[serde(deserialize_with = "optional")]
    pub(super) subject: Option<Subject>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<AdminIngress>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<AdminEgress>>,
}

/// The spec of a BaselineAdminNetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BaselineSpec {
    #[serde(deserialize_with = "optional")]
    pub(super) subject: Option<Subject>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<AdminIngress>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<BaselineEgress>>,
}

/// The subject. Exactly one of the fields is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subject {
    #[serde(deserialize_with = "optional")]
    pub(super) namespaces: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pods: Option<NamespacedPod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NamespacedPod {
    #[serde(deserialize_with = "optional")]
    pub(super) namespace_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pod_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClusterIngress {
    /// A label for readers, without effect.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from: Option<Vec<IngressPeer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) protocols: Option<Vec<Protocol>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClusterEgress {
    /// A label for readers, without effect.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<Peer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) protocols: Option<Vec<Protocol>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdminIngress {
    /// A label for readers, without effect.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from: Option<Vec<IngressPeer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<AdminPort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdminEgress {
    /// A label for readers, without effect.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<Peer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<AdminPort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BaselineEgress {
    /// A label for readers, without effect.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<BaselinePeer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<AdminPort>>,
}

/// A peer of an ingress rule. Exactly one of the fields is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IngressPeer {
    #[serde(deserialize_with = "optional")]
    pub(super) namespaces: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pods: Option<NamespacedPod>,
}

/// A peer. Exactly one of the fields is set. `nodes` and `domainNames` are in the experimental channel.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Peer {
    #[serde(deserialize_with = "optional")]
    pub(super) namespaces: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pods: Option<NamespacedPod>,
    #[serde(deserialize_with = "values")]
    pub(super) networks: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "optional")]
    pub(super) nodes: Option<LabelSelector>,
    #[serde(deserialize_with = "values")]
    pub(super) domain_names: Option<Vec<Box<str>>>,
}

/// A peer of a BaselineAdminNetworkPolicy's egress rule. Exactly one of the fields is set. `nodes` is in the
/// experimental channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BaselinePeer {
    #[serde(deserialize_with = "optional")]
    pub(super) namespaces: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pods: Option<NamespacedPod>,
    #[serde(deserialize_with = "values")]
    pub(super) networks: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "optional")]
    pub(super) nodes: Option<LabelSelector>,
}

/// An entry of `protocols`. Exactly one of the fields is set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Protocol {
    #[serde(deserialize_with = "optional")]
    pub(super) tcp: Option<Transport>,
    #[serde(deserialize_with = "optional")]
    pub(super) udp: Option<Transport>,
    #[serde(deserialize_with = "optional")]
    pub(super) sctp: Option<Transport>,
    pub(super) destination_named_port: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Transport {
    #[serde(deserialize_with = "optional")]
    pub(super) destination_port: Option<DestinationPort>,
}

/// A destination port. Exactly one of the fields is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DestinationPort {
    pub(super) number: Option<i64>,
    #[serde(deserialize_with = "optional")]
    pub(super) range: Option<Range>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
}

/// An entry of `ports`. Exactly one of the fields is set. `namedPort` is in the experimental channel.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AdminPort {
    #[serde(deserialize_with = "optional")]
    pub(super) port_number: Option<PortNumber>,
    #[serde(deserialize_with = "optional")]
    pub(super) port_range: Option<PortRange>,
    pub(super) named_port: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortNumber {
    pub(super) protocol: Option<Box<str>>,
    pub(super) port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortRange {
    pub(super) protocol: Option<Box<str>>,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
}
