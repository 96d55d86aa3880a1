//! The format of the configuration file.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{API_VERSION, Error, KIND, Preset, rules_schema};
use crate::model::{Operator, Selector};
use crate::rules::Mode;
use crate::view::{Baseline, ClusterDns, LABEL_VALUE, NamePattern, Profiles, SetName, Site};
use crate::yaml::Document;

/// The configuration of Portcullis. A file needs only the fields that differ from the shipped configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Portcullis configuration")]
pub(super) struct Written {
    /// The version of this format.
    #[serde(rename = "apiVersion")]
    #[schemars(extend("const" = API_VERSION))]
    _api_version: String,
    /// The kind of this file.
    #[serde(rename = "kind")]
    #[schemars(extend("const" = KIND))]
    _kind: String,
    /// Limits the modes of all rules that the file does not set.
    pub(super) preset: Preset,
    /// The names of Portcullis itself.
    installation: Installation,
    /// The domain of the labels and annotations of Portcullis on namespaces.
    #[schemars(length(max = 246), regex(pattern = LABEL_DOMAIN))]
    label_domain: String,
    /// The cluster DNS. A policy has to allow one of these entries.
    #[serde(rename = "clusterDNS")]
    #[schemars(length(min = 1))]
    cluster_dns: Vec<ClusterDns>,
    /// Platform namespaces, which have their own policies. A name may end with `*`.
    platform_namespaces: Vec<NamePattern>,
    /// Namespaces that get no labels, no profile and no baseline. A name may end with `*`.
    excluded_namespaces: Vec<NamePattern>,
    /// The profiles that a namespace can have.
    profiles: Profiles,
    /// The access labels that a namespace can have. Each is a folder in `policies/access`.
    #[schemars(inner(regex(pattern = LABEL_VALUE)))]
    access: Vec<String>,
    /// The dialect of baseline, profile and access policies.
    policy_set: SetName,
    /// The baseline controller.
    baseline: Baseline,
    /// The escape hatch.
    hatch: Hatch,
    /// Cluster lookups.
    lookups: Lookups,
    /// Users and groups that may bypass rules without a cluster. In a cluster RBAC decides.
    bypass: Vec<String>,
    /// The service accounts of Calico's own API server.
    #[serde(rename = "calicoAPIServers")]
    calico_api_servers: Vec<String>,
    /// Warn about the connections that an allowed change of a policy cuts or opens.
    pub(super) connection_preview: bool,
    /// The mode and the settings of each rule.
    #[schemars(schema_with = "rules_schema::rules")]
    pub(super) rules: BTreeMap<String, Entry>,
    /// Modes and settings for some namespaces. If several entries match, the last one applies.
    #[serde(default)]
    pub(super) overrides: Vec<Override>,
}

/// The names of Portcullis itself.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Installation {
    /// The namespace of Portcullis.
    namespace: String,
    /// The service account of Portcullis. It is part of the default of `baseline.username`.
    #[serde(rename = "serviceAccount")]
    _service_account: String,
}

/// The syntax of `labelDomain`, as in [`is_label_domain`].
const LABEL_DOMAIN: &str = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$";

/// The settings of the escape hatch.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hatch {
    /// The longest time until the end of a hatch, such as `24h` or `90m`.
    #[schemars(with = "String")]
    max_duration: SignedDuration,
}

/// The settings of cluster lookups.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lookups {
    /// The result of a request that needs a cluster lookup if the lookup fails.
    on_failure: OnFailure,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnFailure {
    Deny,
    Allow,
}

/// The configuration of a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) mode: Option<Mode>,
    #[serde(default)]
    pub(super) settings: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    /// The namespaces. All conditions have to match.
    pub(super) namespaces: Namespaces,
    /// The changed modes and settings of rules.
    #[schemars(schema_with = "rules_schema::rules")]
    pub(super) rules: BTreeMap<String, Entry>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Namespaces {
    /// Names of namespaces. A name may end with `*`.
    pub(super) names: Option<Vec<NamePattern>>,
    /// True for `platformNamespaces`, false for all others.
    pub(super) platform: Option<bool>,
    /// Labels that a namespace has to have.
    match_labels: Option<BTreeMap<String, String>>,
    /// Conditions on the labels of a namespace.
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expression {
    /// The key of the label.
    key: String,
    /// The condition on the label.
    operator: ExpressionOperator,
    /// The values for `In` and `NotIn`.
    #[serde(default)]
    values: Vec<Box<str>>,
}

#[derive(Deserialize, JsonSchema)]
enum ExpressionOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Namespaces {
    /// The label selector, if one is set. An error if no condition is set at all.
    pub(super) fn labels(&self) -> Result<Option<Selector>, String> {
        if self.match_labels.is_none() && self.match_expressions.is_none() {
            return if self.names.is_none() && self.platform.is_none() {
                Err("at least one of names, platform, matchLabels and matchExpressions is required".into())
            } else {
                Ok(None)
            };
        }
        let labels = self.match_labels.iter().flatten().map(|(key, value)| Selector::equals(key, value));
        let expressions = self.match_expressions.iter().flatten().map(|expression| {
            let values = expression.values.clone();
            let operator = match expression.operator {
                ExpressionOperator::In => Operator::In(values),
                ExpressionOperator::NotIn => Operator::NotIn(values),
                ExpressionOperator::Exists => Operator::Exists,
                ExpressionOperator::DoesNotExist => Operator::Absent,
            };
            Selector::label(&expression.key, operator)
        });
        Ok(Some(Selector::All(labels.chain(expressions).collect())))
    }
}

impl Written {
    /// Returns the facts about the cluster, or an error if a value is invalid.
    pub(super) fn site(&self, document: &Document) -> Result<Site, Error> {
        let domain = &self.label_domain;
        if !is_label_domain(domain) {
            let problem =
                format!("`{domain}` is not a lower-case DNS name; expected a value such as network-policy.example.com");
            return Err(Error::at(document, &["labelDomain"], problem));
        }
        if self.cluster_dns.is_empty() {
            return Err(Error::at(document, &["clusterDNS"], "at least one entry is required"));
        }
        let profiles = self.profiles.clone();
        if let Some(default) = profiles.default.as_ref().filter(|default| !profiles.names.contains(default)) {
            let problem = format!("`{default}` is not one of profiles.names");
            return Err(Error::at(document, &["profiles", "default"], problem));
        }
        for (place, names) in [(&["profiles", "names"][..], &profiles.names), (&["access"], &self.access)] {
            if let Some(name) = names.iter().find(|name| !is_label_value(name)) {
                return Err(Error::at(document, place, format!("`{name}` is not a valid label value")));
            }
        }
        let baseline = self.baseline.clone();
        if baseline.reserved_prefix.is_empty() {
            let problem = "the prefix must not be empty; an empty prefix would reserve all names";
            return Err(Error::at(document, &["baseline", "reservedPrefix"], problem));
        }
        if self.hatch.max_duration <= SignedDuration::ZERO {
            let problem = format!("`{:#}` is not a positive duration", self.hatch.max_duration);
            return Err(Error::at(document, &["hatch", "maxDuration"], problem));
        }
        Ok(Site {
            namespace: self.installation.namespace.clone(),
            label_domain: domain.clone(),
            cluster_dns: self.cluster_dns.clone(),
            platform_namespaces: self.platform_namespaces.clone(),
            excluded_namespaces: self.excluded_namespaces.clone(),
            profiles,
            access: self.access.clone(),
            policy_set: self.policy_set,
            baseline,
            hatch_max_duration: self.hatch.max_duration,
            denies_unjudged: true,
            denies_unknown: self.lookups.on_failure == OnFailure::Deny,
            bypass: self.bypass.clone(),
            calico_api_servers: self.calico_api_servers.clone(),
        })
    }
}

/// Returns true if the text can be the prefix of a label key: a DNS subdomain (RFC 1123) with room for `access.` before
/// it.
fn is_label_domain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 246 && text.split('.').all(part)
}

fn is_label_value(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Expands short forms: `any-port: warn` becomes `any-port: {mode: warn}`. YAML 1.1 reads `off` as false, so false
/// becomes the mode `off`.
pub(super) fn normalise(value: &mut Value) {
    let mut rules: Vec<&mut Value> = Vec::new();
    if let Some(root) = value.as_object_mut() {
        for (key, value) in root {
            match key.as_str() {
                "rules" => rules.push(value),
                "overrides" => {
                    rules.extend(value.as_array_mut().into_iter().flatten().filter_map(|one| one.get_mut("rules")));
                }
                _ => {}
            }
        }
    }
    for entry in rules.into_iter().filter_map(Value::as_object_mut).flat_map(|rules| rules.values_mut()) {
        match entry {
            Value::Bool(false) => *entry = json!({"mode": "off"}),
            Value::String(mode) => *entry = json!({ "mode": mode }),
            Value::Object(fields) => {
                if let Some(mode @ Value::Bool(false)) = fields.get_mut("mode") {
                    *mode = json!("off");
                }
            }
            _ => {}
        }
    }
}
