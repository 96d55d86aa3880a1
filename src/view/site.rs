//! Cluster settings from the configuration: names, DNS, platform namespaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{
    AddressSet, End, Endpoint, Labels, Names, ObjectRef, Protocol, Traffic, bare_name, is_stored_by_calico,
};

/// The cluster settings of the configuration. All names in it are resolved.
#[derive(Clone, Debug)]
pub struct Site {
    /// The namespace of Portcullis itself.
    pub namespace: String,
    /// The domain of the labels and annotations of Portcullis.
    pub label_domain: String,
    /// The endpoints where pods resolve names. Access to any one of them suffices.
    pub(crate) cluster_dns: Vec<ClusterDns>,
    /// Platform namespaces.
    pub(crate) platform_namespaces: Vec<NamePattern>,
    /// Excluded namespaces: Portcullis neither labels them nor gives them a baseline.
    pub excluded_namespaces: Vec<NamePattern>,
    /// The profiles.
    pub profiles: Profiles,
    /// The names that an access label may carry.
    pub access: Vec<String>,
    /// The dialect of the baseline policies.
    pub policy_set: SetName,
    /// The settings of the baseline controller.
    pub baseline: Baseline,
    /// The maximum time for which enforcement may be switched off.
    pub(crate) hatch_max_duration: SignedDuration,
    /// True if a request is denied when a lookup that it needs fails.
    pub(crate) denies_unknown: bool,
    /// True if a request is denied when its object cannot be read, or while the caches of the cluster are not complete.
    /// Otherwise it is allowed with a warning.
    pub(crate) denies_unjudged: bool,
    /// Users and groups that may bypass every rule. They apply only without a cluster to ask; with one, its RBAC
    /// decides.
    pub bypass: Vec<String>,
    /// The usernames with which Calico's API server authenticates to the API server of the cluster.
    pub(crate) calico_api_servers: Vec<String>,
}

/// The settings of the baseline controller.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// The namespaces that get a baseline.
    pub namespaces: BaselineScope,
    /// True if pods wait until the baseline of their namespace is applied.
    pub gate: bool,
    /// The prefix of the names of its policies. It is reserved for the baseline controller.
    pub(crate) reserved_prefix: String,
    /// The username with which the controller authenticates to the API server.
    pub username: String,
    /// Annotations that it writes on its policies, for tools that would otherwise delete them.
    pub annotations: BTreeMap<String, String>,
}

/// The namespaces that get a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BaselineScope {
    /// Namespaces created from now on, and namespaces labelled with a profile.
    New,
    /// All namespaces.
    All,
}

/// A dialect that the policy set for namespaces can be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SetName {
    /// NetworkPolicies, in each namespace.
    #[default]
    Kubernetes,
    /// Cluster-wide policies of Cilium.
    Cilium,
    /// Cluster-wide policies of Calico.
    Calico,
}

/// The syntax of a label value.
pub(crate) const LABEL_VALUE: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";

/// The profiles that namespaces can have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Their names, from the most to the least isolated. Each is a folder in `policies/profiles`.
    #[schemars(inner(regex(pattern = LABEL_VALUE)))]
    pub names: Vec<String>,
    /// The profile of a new namespace without a profile label. With `null` it gets no profile.
    pub default: Option<String>,
}

/// A name, or a prefix followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = r"^([a-z0-9-]{1,63}\*?|\*)$"))]
pub struct NamePattern(String);

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl NamePattern {
    /// Returns true if the pattern matches this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => self.0 == name,
        }
    }
}

impl NamePattern {
    /// The name, if the pattern is an exact name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(&*self.0).filter(|name| !name.ends_with('*'))
    }

    /// The prefix of the names that match, if the pattern ends in `*`.
    #[must_use]
    pub fn start(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Returns true if every name that `other` matches also matches this pattern.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.start(), other.start()) {
            (_, None) => self.matches(&other.0),
            (Some(start), Some(other)) => other.starts_with(start),
            (None, Some(_)) => false,
        }
    }

    /// Returns true if both patterns match a common name. One of them then covers the other.
    #[must_use]
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = SiteError;

    fn try_from(pattern: String) -> Result<Self, SiteError> {
        let name = pattern.strip_suffix('*').unwrap_or(&pattern);
        let can_stand = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        // A name that no namespace can have would be ignored silently.
        if pattern.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(can_stand) {
            return Err(SiteError::Namespace(pattern));
        }
        Ok(Self(pattern))
    }
}

/// Maximum length of a namespace name in bytes (RFC 1123).
const LONGEST_NAME: usize = 63;

/// One endpoint of the cluster DNS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenDns")]
pub struct ClusterDns {
    #[schemars(skip)]
    place: DnsPlace,
    port: u16,
    port_names: Vec<Box<str>>,
    services: Vec<Box<str>>,
}

/// The place where DNS is served.
#[derive(Clone, Debug)]
enum DnsPlace {
    Pods { namespace: String, labels: Labels },
    Addresses(AddressSet, Vec<IpAddr>),
}

/// An entry of `clusterDNS` as it is written in the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["namespace", "podLabels"]}, {"required": ["addresses"]}]))]
struct WrittenDns {
    /// The namespace of the DNS pods.
    namespace: Option<String>,
    /// The labels of the DNS pods.
    #[schemars(extend("minProperties" = 1))]
    pod_labels: Option<BTreeMap<String, String>>,
    /// The addresses of a DNS server that is not a pod, such as NodeLocal DNSCache.
    #[schemars(extend("minItems" = 1))]
    addresses: Option<Vec<IpAddr>>,
    /// The port on which DNS is served. 53 by default.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// The names of that port in the DNS pods.
    #[serde(default)]
    port_names: Vec<Box<str>>,
    /// The Services of the DNS pods.
    #[serde(default)]
    services: Vec<Box<str>>,
}

/// An error in the cluster settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// An entry names neither pods nor addresses, or both.
    #[error("an entry of `clusterDNS` needs either `namespace` with `podLabels`, or `addresses`")]
    DnsPlace,
    /// The text cannot be a namespace name.
    #[error("`{0}` is not a namespace name; use lower-case letters, digits and `-`, with an optional `*` at the end")]
    Namespace(String),
    /// The text cannot be a port number.
    #[error("`port: 0` of an entry of `clusterDNS` is not a port number from 1 to 65535")]
    DnsPort,
}

impl TryFrom<WrittenDns> for ClusterDns {
    type Error = SiteError;

    fn try_from(written: WrittenDns) -> Result<Self, SiteError> {
        let place = match (written.namespace, written.pod_labels, written.addresses) {
            (Some(namespace), Some(labels), None) if !labels.is_empty() => {
                DnsPlace::Pods { namespace, labels: labels.into_iter().collect() }
            }
            (None, None, Some(addresses)) if !addresses.is_empty() => {
                let mut set = AddressSet::default();
                for address in &addresses {
                    set.extend(&(*address).into());
                }
                DnsPlace::Addresses(set, addresses)
            }
            _ => return Err(SiteError::DnsPlace),
        };
        match written.port.unwrap_or(53) {
            0 => Err(SiteError::DnsPort),
            port => Ok(Self { place, port, port_names: written.port_names, services: written.services }),
        }
    }
}

impl ClusterDns {
    /// The cluster DNS as the other end of a connection.
    #[must_use]
    pub fn end(&self) -> End<'_> {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => {
                let within = Some(AddressSet::usual_v4_of_pods());
                End::Pod(Endpoint { labels, within, services: &self.services, ..Endpoint::unknown(namespace) })
            }
            // NodeLocal DNSCache answers on the node itself.
            DnsPlace::Addresses(set, _) => End::Addresses { set, outside: false },
        }
    }

    /// The traffic that a lookup over this protocol sends.
    #[must_use]
    pub fn traffic(&self, protocol: Protocol) -> Traffic<'_> {
        self.traffic_to(self.port, protocol)
    }

    /// The same traffic to pods of the cluster DNS that listen on this port.
    #[must_use]
    pub(crate) fn traffic_to(&self, number: u16, protocol: Protocol) -> Traffic<'_> {
        Traffic::Port { protocol, number, names: Names::AtLeast(&self.port_names) }
    }

    /// The other end and the traffic of a lookup over this protocol.
    #[must_use]
    pub fn way(&self, protocol: Protocol) -> (End<'_>, Traffic<'_>) {
        (self.end(), self.traffic(protocol))
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The namespace and the labels of its pods, if it is given by pods.
    #[must_use]
    pub fn pods(&self) -> Option<(&str, &Labels)> {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => Some((namespace, labels)),
            DnsPlace::Addresses(..) => None,
        }
    }

    /// The addresses, if the entry is given by addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.place {
            DnsPlace::Pods { .. } => &[],
            DnsPlace::Addresses(_, addresses) => addresses,
        }
    }
}

impl ClusterDns {
    /// Describes the endpoint with the port on which its pods are known to listen.
    #[must_use]
    pub(crate) fn on_port(&self, port: u16) -> String {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => {
                format!("port {port} of pods with {labels} in namespace {namespace}")
            }
            DnsPlace::Addresses(_, addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("port {port} of {}", addresses.join(" and "))
            }
        }
    }
}

impl std::fmt::Display for ClusterDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.on_port(self.port))
    }
}

impl Site {
    /// The label with the profile of a namespace.
    #[must_use]
    pub fn profile_label(&self) -> String {
        format!("{}/profile", self.label_domain)
    }

    /// The label with the state of a namespace's baseline.
    #[must_use]
    pub fn baseline_label(&self) -> String {
        format!("{}/baseline", self.label_domain)
    }

    /// The label that switches enforcement off in a namespace.
    #[must_use]
    pub fn enforcement_label(&self) -> String {
        format!("{}/enforcement", self.label_domain)
    }

    /// The annotation with the reason for an open hatch, or for an exemption of an object.
    #[must_use]
    pub fn reason_annotation(&self) -> String {
        format!("{}/reason", self.label_domain)
    }

    /// The annotation with the end time of a hatch or of an exemption.
    #[must_use]
    pub fn until_annotation(&self) -> String {
        format!("{}/until", self.label_domain)
    }

    /// The annotation with the rules that an object is exempt from.
    #[must_use]
    pub(crate) fn exempt_annotation(&self) -> String {
        format!("{}/exempt", self.label_domain)
    }

    /// The label with the layer of the policy set that an object belongs to.
    #[must_use]
    pub fn layer_label(&self) -> String {
        format!("{}/layer", self.label_domain)
    }

    /// The annotation with the time at which the hatch of a namespace was opened. The baseline controller removes it
    /// when it closes the hatch.
    #[must_use]
    pub fn opened_annotation(&self) -> String {
        format!("{}/opened", self.label_domain)
    }

    /// The annotation with the user that opened the hatch of a namespace.
    #[must_use]
    pub(crate) fn opened_by_annotation(&self) -> String {
        format!("{}/opened-by", self.label_domain)
    }

    /// The annotation that describes the state of a namespace's baseline as text.
    #[must_use]
    pub fn status_annotation(&self) -> String {
        format!("{}/baseline-status", self.label_domain)
    }

    /// The labels that the baseline controller writes on its policies.
    #[must_use]
    pub fn owned_labels(&self) -> [String; 2] {
        [self.layer_label(), "app.kubernetes.io/managed-by".to_owned()]
    }

    /// The annotations that the baseline controller writes on its policies.
    #[must_use]
    pub fn owned_annotations(&self) -> Vec<String> {
        self.baseline.annotations.keys().cloned().chain([self.template_annotation()]).collect()
    }

    /// The annotation with the digest of the file that a baseline policy was rendered from.
    #[must_use]
    pub(crate) fn template_annotation(&self) -> String {
        format!("{}/template", self.label_domain)
    }

    /// The annotation of a file of the policies folder that names what the baseline controller fills in.
    #[must_use]
    pub(crate) fn fill_annotation(&self) -> String {
        format!("{}/fill", self.label_domain)
    }

    /// The scheduling gate of pods that wait for the baseline of their namespace.
    #[must_use]
    pub fn gate_name(&self) -> String {
        self.baseline_label()
    }

    /// The label that grants access to something by name.
    #[must_use]
    pub fn access_label(&self, name: &str) -> String {
        format!("access.{}/{name}", self.label_domain)
    }

    /// The name that an access label grants access to. `None` for any other label.
    #[must_use]
    pub(crate) fn access_name<'a>(&self, label: &'a str) -> Option<&'a str> {
        label.strip_prefix("access.")?.strip_prefix(&*self.label_domain)?.strip_prefix('/')
    }

    /// Returns true if only the baseline controller may give this name to a policy.
    #[must_use]
    pub fn is_reserved(&self, object: &ObjectRef) -> bool {
        self.is_reserved_name(&object.api_version, &object.name)
    }

    /// Returns true if this name is reserved, for a kind of this API version.
    #[must_use]
    pub(crate) fn is_reserved_name(&self, api_version: &str, name: &str) -> bool {
        bare_name(api_version, name).starts_with(&self.baseline.reserved_prefix)
    }

    /// Returns true if the user is Calico's API server and the object is in the version that it stores. It then stores
    /// a change of another user, which was checked when that user sent it.
    #[must_use]
    pub(crate) fn is_passed_on(&self, api_version: &str, username: &str) -> bool {
        is_stored_by_calico(api_version) && self.calico_api_servers.iter().any(|user| user == username)
    }

    /// Returns true if the namespace is a platform namespace.
    #[must_use]
    pub(crate) fn is_platform(&self, namespace: &str) -> bool {
        self.platform_namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Returns true if the namespace never gets a baseline: it is a platform namespace, or excluded.
    #[must_use]
    pub(crate) fn is_left_alone(&self, namespace: &str) -> bool {
        self.is_platform(namespace) || self.is_excluded(namespace)
    }

    /// Returns true if a namespace with these labels gets a baseline, unless [`Self::is_left_alone`] holds for it.
    #[must_use]
    pub(crate) fn wants_baseline(&self, labels: &Labels) -> bool {
        let is_marked =
            || labels.get(&self.baseline_label()).is_some_and(|label| matches!(label, "pending" | "applied"));
        self.baseline.namespaces == BaselineScope::All || is_marked() || self.profile(labels).is_some()
    }

    /// The profile in these labels, if it is configured.
    #[must_use]
    pub fn profile(&self, labels: &Labels) -> Option<&str> {
        let name = labels.get(&self.profile_label())?;
        self.profiles.names.iter().map(String::as_str).find(|known| *known == name)
    }

    /// Returns true if the namespace is excluded from labels and baselines.
    #[must_use]
    pub(crate) fn is_excluded(&self, namespace: &str) -> bool {
        self.excluded_namespaces.iter().any(|pattern| pattern.matches(namespace))
    }
}
