//! The fields of a manifest that Portcullis reads, named as in the API.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::int_or_string::IntOrString;
use crate::dialect::label_selector::LabelSelector;
use crate::json::{objects, optional, values};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(deserialize_with = "optional")]
    pub(super) pod_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "values")]
    pub(super) policy_types: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<IngressRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<EgressRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IngressRule {
    #[serde(deserialize_with = "objects")]
    pub(super) from: Option<Vec<Peer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EgressRule {
    #[serde(deserialize_with = "objects")]
    pub(super) to: Option<Vec<Peer>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Peer {
    #[serde(deserialize_with = "optional")]
    pub(super) pod_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) namespace_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) ip_block: Option<IpBlock>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IpBlock {
    pub(super) cidr: Box<str>,
    #[serde(deserialize_with = "values")]
    pub(super) except: Option<Vec<Box<str>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) protocol: Option<Box<str>>,
    pub(super) port: Option<IntOrString>,
    pub(super) end_port: Option<i64>,
}

/// A policy as `kubectl apply` recorded it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Applied {
    #[serde(deserialize_with = "optional")]
    pub(super) spec: Option<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "kubectl.kubernetes.io/last-applied-configuration")]
    pub(super) last_applied: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ManagedFields<'a> {
    pub(super) operation: Box<str>,
    #[serde(borrow)]
    pub(super) fields_v1: Option<&'a RawValue>,
}

/// The part of `fieldsV1` that lists fields of the spec.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnedFields<'a> {
    #[serde(rename = "f:spec", borrow)]
    pub(super) spec: Option<OwnedSpec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnedSpec<'a> {
    #[serde(rename = "f:policyTypes", borrow)]
    pub(super) policy_types: Option<&'a RawValue>,
    #[serde(rename = "f:egress", borrow)]
    pub(super) egress: Option<&'a RawValue>,
}
