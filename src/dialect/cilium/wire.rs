//! The fields of a manifest, named as in the API: all fields of Cilium 1.20, and those removed since 1.15.

use serde::Deserialize;

use crate::dialect::int_or_string::IntOrString;
use crate::dialect::label_map::LabelMap;
use crate::json::{Unread, objects, optional, values};

/// `Rule` of `pkg/policy/api/rule.go`: the spec, and each item of `specs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(deserialize_with = "optional")]
    pub(super) endpoint_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "optional")]
    pub(super) node_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress: Option<Vec<IngressRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) ingress_deny: Option<Vec<IngressDenyRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress: Option<Vec<EgressRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) egress_deny: Option<Vec<EgressDenyRule>>,
    #[serde(deserialize_with = "optional")]
    pub(super) enable_default_deny: Option<DefaultDeny>,
    #[serde(rename = "labels")]
    _labels: Option<Unread>,
    #[serde(rename = "description")]
    _description: Option<Unread>,
    #[serde(rename = "log")]
    _log: Option<Unread>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DefaultDeny {
    pub(super) ingress: Option<bool>,
    pub(super) egress: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelSelector {
    pub(super) match_labels: Option<LabelMap>,
    #[serde(deserialize_with = "objects")]
    pub(super) match_expressions: Option<Vec<Expression>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Expression {
    pub(super) key: Option<Box<str>>,
    pub(super) operator: Option<Box<str>>,
    #[serde(deserialize_with = "values")]
    pub(super) values: Option<Vec<Box<str>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IngressRule {
    #[serde(deserialize_with = "objects")]
    pub(super) from_endpoints: Option<Vec<LabelSelector>>,
    pub(super) from_requires: Option<Vec<Unread>>,
    #[serde(rename = "fromCIDR", deserialize_with = "values")]
    pub(super) from_cidr: Option<Vec<Box<str>>>,
    #[serde(rename = "fromCIDRSet", deserialize_with = "objects")]
    pub(super) from_cidr_set: Option<Vec<CidrRule>>,
    #[serde(deserialize_with = "values")]
    pub(super) from_entities: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from_groups: Option<Vec<Groups>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from_nodes: Option<Vec<LabelSelector>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_ports: Option<Vec<PortRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) icmps: Option<Vec<IcmpRule>>,
    #[serde(deserialize_with = "optional")]
    pub(super) authentication: Option<Authentication>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IngressDenyRule {
    #[serde(deserialize_with = "objects")]
    pub(super) from_endpoints: Option<Vec<LabelSelector>>,
    pub(super) from_requires: Option<Vec<Unread>>,
    #[serde(rename = "fromCIDR", deserialize_with = "values")]
    pub(super) from_cidr: Option<Vec<Box<str>>>,
    #[serde(rename = "fromCIDRSet", deserialize_with = "objects")]
    pub(super) from_cidr_set: Option<Vec<CidrRule>>,
    #[serde(deserialize_with = "values")]
    pub(super) from_entities: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from_groups: Option<Vec<Groups>>,
    #[serde(deserialize_with = "objects")]
    pub(super) from_nodes: Option<Vec<LabelSelector>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_ports: Option<Vec<PortDenyRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) icmps: Option<Vec<IcmpRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EgressRule {
    #[serde(deserialize_with = "objects")]
    pub(super) to_endpoints: Option<Vec<LabelSelector>>,
    pub(super) to_requires: Option<Vec<Unread>>,
    #[serde(rename = "toCIDR", deserialize_with = "values")]
    pub(super) to_cidr: Option<Vec<Box<str>>>,
    #[serde(rename = "toCIDRSet", deserialize_with = "objects")]
    pub(super) to_cidr_set: Option<Vec<CidrRule>>,
    #[serde(deserialize_with = "values")]
    pub(super) to_entities: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_services: Option<Vec<Service>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_groups: Option<Vec<Groups>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_nodes: Option<Vec<LabelSelector>>,
    #[serde(rename = "toFQDNs", deserialize_with = "objects")]
    pub(super) to_fqdns: Option<Vec<FqdnSelector>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_ports: Option<Vec<PortRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) icmps: Option<Vec<IcmpRule>>,
    #[serde(deserialize_with = "optional")]
    pub(super) authentication: Option<Authentication>,
}

/// A rule of `egressDeny`. It has no `toFQDNs`: the API server prunes that field, and the remaining rule may deny more
/// than intended.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EgressDenyRule {
    #[serde(deserialize_with = "objects")]
    pub(super) to_endpoints: Option<Vec<LabelSelector>>,
    pub(super) to_requires: Option<Vec<Unread>>,
    #[serde(rename = "toCIDR", deserialize_with = "values")]
    pub(super) to_cidr: Option<Vec<Box<str>>>,
    #[serde(rename = "toCIDRSet", deserialize_with = "objects")]
    pub(super) to_cidr_set: Option<Vec<CidrRule>>,
    #[serde(deserialize_with = "values")]
    pub(super) to_entities: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_services: Option<Vec<Service>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_groups: Option<Vec<Groups>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_nodes: Option<Vec<LabelSelector>>,
    #[serde(deserialize_with = "objects")]
    pub(super) to_ports: Option<Vec<PortDenyRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) icmps: Option<Vec<IcmpRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Authentication {
    pub(super) mode: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CidrRule {
    pub(super) cidr: Option<Box<str>>,
    pub(super) cidr_group_ref: Option<Box<str>>,
    #[serde(deserialize_with = "optional")]
    pub(super) cidr_group_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "values")]
    pub(super) except: Option<Vec<Box<str>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Service {
    #[serde(deserialize_with = "optional")]
    pub(super) k8s_service: Option<ServiceName>,
    #[serde(deserialize_with = "optional")]
    pub(super) k8s_service_selector: Option<ServiceSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceName {
    pub(super) service_name: Option<Box<str>>,
    pub(super) namespace: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceSelector {
    #[serde(deserialize_with = "optional")]
    pub(super) selector: Option<LabelSelector>,
    pub(super) namespace: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Groups {
    #[serde(rename = "aws")]
    _aws: Option<Unread>,
}

/// An entry of `toFQDNs` or `rules.dns`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FqdnSelector {
    pub(super) match_name: Option<Box<str>>,
    pub(super) match_pattern: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortRule {
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<PortProtocol>>,
    #[serde(rename = "terminatingTLS", deserialize_with = "optional")]
    pub(super) terminating_tls: Option<TlsContext>,
    #[serde(rename = "originatingTLS", deserialize_with = "optional")]
    pub(super) originating_tls: Option<TlsContext>,
    #[serde(deserialize_with = "values")]
    pub(super) server_names: Option<Vec<Box<str>>>,
    #[serde(deserialize_with = "optional")]
    pub(super) listener: Option<Listener>,
    #[serde(deserialize_with = "optional")]
    pub(super) rules: Option<L7Rules>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortDenyRule {
    #[serde(deserialize_with = "objects")]
    pub(super) ports: Option<Vec<PortProtocol>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortProtocol {
    pub(super) port: Option<Box<str>>,
    pub(super) end_port: Option<i64>,
    pub(super) protocol: Option<Box<str>>,
}

/// TLS settings of a proxy. The certificates are not evaluated here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TlsContext {
    #[serde(rename = "secret")]
    _secret: Option<Unread>,
    #[serde(rename = "trustedCA")]
    _trusted_ca: Option<Unread>,
    #[serde(rename = "certificate")]
    _certificate: Option<Unread>,
    #[serde(rename = "privateKey")]
    _private_key: Option<Unread>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Listener {
    #[serde(rename = "envoyConfig")]
    _envoy_config: Option<Unread>,
    pub(super) name: Option<Box<str>>,
    pub(super) priority: Option<i64>,
}

/// L7 rules. Cilium 1.20 removed `kafka`, `l7proto` and `l7`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct L7Rules {
    #[serde(deserialize_with = "objects")]
    pub(super) http: Option<Vec<HttpRule>>,
    #[serde(deserialize_with = "objects")]
    pub(super) dns: Option<Vec<FqdnSelector>>,
    pub(super) kafka: Option<Vec<Unread>>,
    pub(super) l7proto: Option<Box<str>>,
    pub(super) l7: Option<Vec<Unread>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpRule {
    pub(super) path: Option<Box<str>>,
    pub(super) method: Option<Box<str>>,
    #[serde(rename = "host")]
    _host: Option<Unread>,
    #[serde(rename = "headers")]
    _headers: Option<Unread>,
    #[serde(deserialize_with = "objects")]
    pub(super) header_matches: Option<Vec<HeaderMatch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HeaderMatch {
    pub(super) name: Option<Box<str>>,
    #[serde(rename = "value")]
    _value: Option<Unread>,
    #[serde(deserialize_with = "optional")]
    pub(super) secret: Option<Secret>,
    pub(super) mismatch: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Secret {
    #[serde(rename = "namespace")]
    _namespace: Option<Unread>,
    pub(super) name: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IcmpRule {
    #[serde(deserialize_with = "objects")]
    pub(super) fields: Option<Vec<IcmpField>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IcmpField {
    pub(super) family: Option<Box<str>>,
    #[serde(rename = "type")]
    pub(super) message: Option<IntOrString>,
}
