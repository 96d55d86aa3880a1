//! The fields of a contract.

use serde::Deserialize;

use crate::dialect::label_selector::LabelSelector;
use crate::json::{objects, optional, values};

/// The spec. Exactly one of `mustReach` and `mustNotReach` is set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) reason: Option<Box<str>>,
    pub(super) owner: Option<Box<str>>,
    pub(super) pods: Option<Box<str>>,
    pub(super) enforcement: Option<Box<str>>,
    #[serde(deserialize_with = "optional")]
    pub(super) must_reach: Option<Connections>,
    #[serde(deserialize_with = "optional")]
    pub(super) must_not_reach: Option<Connections>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    #[serde(deserialize_with = "objects")]
    pub(super) from: Option<Vec<Party>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<Party>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<Port>>,
}

/// A source or destination: pods, or exactly one of the other fields. The fields of [`Pods`] are repeated, because unknown
/// fields are not found in a flattened struct.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Party {
    #[serde(deserialize_with = "values")]
    pub(super) namespaces: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "optional")]
    pub(super) namespace_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pod_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "objects")]
    pub(super) all_pods_except: Option<Vec<Pods>>,
    pub(super) cidr: Option<Box<str>>,
    pub(super) domain: Option<Box<str>>,
    pub(super) entity: Option<Box<str>>,
}

/// Pods of namespaces, which are given by name or by labels.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Pods {
    #[serde(deserialize_with = "values")]
    pub(super) namespaces: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "optional")]
    pub(super) namespace_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) pod_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) protocol: Option<Box<str>>,
    pub(super) port: Option<i64>,
    pub(super) end_port: Option<i64>,
}
