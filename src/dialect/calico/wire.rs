//! The fields of a manifest, named as in the API (`api/pkg/apis/projectcalico/v3`).

use serde::Deserialize;

use crate::dialect::int_or_string::IntOrString;
use crate::dialect::label_map::LabelMap;
use crate::json::{objects, optional, values};

/// The spec of a policy of any kind. `read.rs` handles the fields that only some kinds have.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) tier: Option<Box<str>>,
    pub(super) order: Option<f64>,
    pub(super) selector: Option<Box<str>>,
    pub(super) service_account_selector: Option<Box<str>>,
    #[serde(deserialize_with = "values")]
    pub(super) types: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<Rule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<Rule>>,
    #[serde(deserialize_with = "values")]
    pub(super) performance_hints: Option<Vec<Box<str>>>,
    /// Only in global kinds.
    pub(super) namespace_selector: Option<Box<str>>,
    /// Only in global kinds.
    pub(super) do_not_track: Option<bool>,
    /// Only in global kinds.
    #[serde(rename = "preDNAT")]
    pub(super) pre_dnat: Option<bool>,
    /// Only in global kinds.
    pub(super) apply_on_forward: Option<bool>,
    /// Only in staged kinds.
    pub(super) staged_action: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub(super) action: Option<Box<str>>,
    pub(super) ip_version: Option<i64>,
    pub(super) protocol: Option<IntOrString>,
    pub(super) not_protocol: Option<IntOrString>,
    #[serde(deserialize_with = "optional")]
    pub(super) icmp: Option<Icmp>,
    #[serde(rename = "notICMP", deserialize_with = "optional")]
    pub(super) not_icmp: Option<Icmp>,
    #[serde(deserialize_with = "optional")]
    pub(super) source: Option<Entity>,
    #[serde(deserialize_with = "optional")]
    pub(super) destination: Option<Entity>,
    #[serde(deserialize_with = "optional")]
    pub(super) http: Option<Http>,
    #[serde(deserialize_with = "optional")]
    pub(super) metadata: Option<RuleMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Icmp {
    #[serde(rename = "type")]
    pub(super) kind: Option<i64>,
    pub(super) code: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Http {
    #[serde(deserialize_with = "values")]
    pub(super) methods: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) paths: Option<Vec<HttpPath>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpPath {
    pub(super) exact: Option<Box<str>>,
    pub(super) prefix: Option<Box<str>>,
}

/// The metadata of a rule. It does not affect traffic; it is listed so that its fields are not reported as unknown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuleMetadata {
    annotations: Option<LabelMap>,
}

/// One side of a rule's traffic (`EntityRule`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entity {
    #[serde(deserialize_with = "values")]
    pub(super) nets: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "values")]
    pub(super) not_nets: Option<Vec<Box<str>>>,
    pub(super) selector: Option<Box<str>>,
    pub(super) not_selector: Option<Box<str>>,
    pub(super) namespace_selector: Option<Box<str>>,
    #[serde(deserialize_with = "optional")]
    pub(super) services: Option<Services>,
    #[serde(deserialize_with = "values")]
    pub(super) ports: Option<Vec<IntOrString>>,
    #[serde(deserialize_with = "values")]
    pub(super) not_ports: Option<Vec<IntOrString>>,
    #[serde(deserialize_with = "optional")]
    pub(super) service_accounts: Option<ServiceAccounts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Services {
    pub(super) name: Option<Box<str>>,
    pub(super) namespace: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceAccounts {
    #[serde(deserialize_with = "values")]
    pub(super) names: Option<Vec<Box<str>>>,
    pub(super) selector: Option<Box<str>>,
}

/// The spec of a Tier.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tier {
    pub(super) order: Option<f64>,
    pub(super) default_action: Option<Box<str>>,
}
