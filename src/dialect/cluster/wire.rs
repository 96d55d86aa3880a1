//! What manifests look like. Field names are those of the API.

use serde::Deserialize;

use crate::dialect::label_selector::LabelSelector;
use crate::json::{objects, optional, values};

/// Of a ClusterNetworkPolicy.
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

/// Of an AdminNetworkPolicy.
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

/// Of a BaselineAdminNetworkPolicy.
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

/// One of the two.
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
    /// For people.
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
    /// For people.
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
    /// For people.
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
    /// For people.
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
    /// For people.
    #[serde(rename = "name")]
    _name: Option<Box<str>>,
    pub(super) action: Option<Box<str>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<BaselinePeer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<AdminPort>>,
}

/// One of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IngressPeer {
    #[serde(deserialize_with = "optional")]
    pub(super) namespaces: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pods: Option<NamespacedPod>,
}

/// One of these. The last two are of the experimental channel.
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

/// One of these. The last is of the experimental channel.
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

/// One of these.
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

/// One of the two.
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

/// One of these. The last is of the experimental channel.
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
