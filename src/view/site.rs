//! What the people who run the cluster said about it: names, DNS, platform namespaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::model::{
    AddressSet, End, Endpoint, Labels, Names, ObjectRef, Protocol, Traffic, bare_name, is_stored_by_calico,
};

/// What is said about the cluster in the configuration. All names in it are resolved.
#[derive(Clone, Debug)]
pub struct Site {
    /// The domain of the labels of namespaces.
    pub label_domain: String,
    /// Where pods resolve names. Any one of these will do.
    pub cluster_dns: Vec<ClusterDns>,
    /// Namespaces of the platform itself.
    pub platform_namespaces: Vec<NamePattern>,
    /// Namespaces that get no labels of their own accord.
    pub excluded_namespaces: Vec<NamePattern>,
    /// The profiles.
    pub profiles: Profiles,
    /// The names that may stand in an access label.
    pub access: Vec<String>,
    /// In which dialect namespaces get their baseline.
    pub policy_set: SetName,
    /// What the baseline controller does.
    pub baseline: Baseline,
    /// For how long at most enforcement may be switched off.
    pub hatch_max_duration: SignedDuration,
    /// What follows where something cannot be found out: whether the request is refused.
    pub denies_unknown: bool,
    /// True if a request is denied whose object cannot be read, or before the cluster is known. Otherwise it is allowed with a
    /// warning.
    pub denies_unjudged: bool,
    /// Who may do what rules forbid, where there is no cluster to ask: users and groups.
    pub bypass: Vec<String>,
    /// The users that Calico's API server has to the cluster's.
    pub calico_api_servers: Vec<String>,
}

/// What the baseline controller does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// Which namespaces get a baseline.
    pub namespaces: BaselineScope,
    /// Whether pods wait until the baseline of their namespace is there.
    pub gate: bool,
    /// With what the names of its policies start. Nobody else may use such names.
    pub reserved_prefix: String,
    /// The user that it is to the API server.
    pub username: String,
    /// What it writes on its policies, for tools that would take them away.
    pub annotations: BTreeMap<String, String>,
}

/// Which namespaces get a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaselineScope {
    /// Those that are made from now on, and those that ask for a profile.
    New,
    /// All.
    All,
}

/// A dialect in which there is a set of policies for namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetName {
    /// NetworkPolicies, in each namespace.
    #[default]
    Kubernetes,
    /// Cilium's policies of the cluster.
    Cilium,
    /// Calico's policies of the cluster.
    Calico,
}

/// The profiles that namespaces can have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Their names.
    pub names: Vec<String>,
    /// The one that a new namespace gets. None: it gets none.
    pub default: Option<String>,
}

/// A name, or the start of one with a `*` after it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => self.0 == name,
        }
    }
}

impl NamePattern {
    /// The name, if it is that of one namespace.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        Some(&*self.0).filter(|name| !name.ends_with('*'))
    }

    /// How the names begin that are meant, if it is more than one.
    #[must_use]
    pub fn start(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether every name is meant that the other one means.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.start(), other.start()) {
            (_, None) => self.matches(&other.0),
            (Some(start), Some(other)) => other.starts_with(start),
            (None, Some(_)) => false,
        }
    }

    /// Whether both mean some name. Then one of them means all that the other does.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = SiteError;

    fn try_from(pattern: String) -> Result<Self, SiteError> {
        let name = pattern.strip_suffix('*').unwrap_or(&pattern);
        let can_stand = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        // One that no namespace can have would be passed over without a word.
        if pattern.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(can_stand) {
            return Err(SiteError::Namespace(pattern));
        }
        Ok(Self(pattern))
    }
}

/// How long the name of a namespace can be (RFC 1123).
const LONGEST_NAME: usize = 63;

/// One way to the cluster's DNS.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenDns")]
pub struct ClusterDns {
    place: DnsPlace,
    port: u16,
    port_names: Vec<Box<str>>,
    services: Vec<Box<str>>,
}

/// Where DNS is served.
#[derive(Clone, Debug)]
enum DnsPlace {
    Pods { namespace: String, labels: Labels },
    Addresses(AddressSet, Vec<IpAddr>),
}

/// As it is written in the configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenDns {
    namespace: Option<String>,
    pod_labels: Option<BTreeMap<String, String>>,
    addresses: Option<Vec<IpAddr>>,
    port: Option<u16>,
    #[serde(default)]
    port_names: Vec<Box<str>>,
    #[serde(default)]
    services: Vec<Box<str>>,
}

/// What is said about the cluster does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Neither pods nor addresses, or both.
    #[error("an entry of `clusterDNS` needs either `namespace` with `podLabels`, or `addresses`")]
    DnsPlace,
    /// No namespace can have this name.
    #[error(
        "`{0}` is no name of a namespace: these have lower-case letters, digits and `-`; a `*` may stand at the end"
    )]
    Namespace(String),
    /// No port can have this number.
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
    /// It as the other end of a connection.
    #[must_use]
    pub fn end(&self) -> End<'_> {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => End::Pod(Endpoint {
                namespace,
                labels,
                complete: false,
                is_template: false,
                account: None,
                addresses: &[],
                services: &self.services,
            }),
            // NodeLocal DNSCache answers on the node itself.
            DnsPlace::Addresses(set, _) => End::Addresses { set, outside: false },
        }
    }

    /// What is sent to it.
    #[must_use]
    pub fn traffic(&self, protocol: Protocol) -> Traffic<'_> {
        self.traffic_to(self.port, protocol)
    }

    /// What is sent to pods of it that listen on this port.
    #[must_use]
    pub fn traffic_to(&self, number: u16, protocol: Protocol) -> Traffic<'_> {
        Traffic::Port { protocol, number, names: Names::AtLeast(&self.port_names) }
    }

    /// What is sent to it over this protocol, with its other end.
    #[must_use]
    pub fn way(&self, protocol: Protocol) -> (End<'_>, Traffic<'_>) {
        (self.end(), self.traffic(protocol))
    }

    /// The port on which it answers.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The namespace and the labels of its pods, where it is pods.
    #[must_use]
    pub fn pods(&self) -> Option<(&str, &Labels)> {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => Some((namespace, labels)),
            DnsPlace::Addresses(..) => None,
        }
    }

    /// Its addresses, where it is not pods.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.place {
            DnsPlace::Pods { .. } => &[],
            DnsPlace::Addresses(_, addresses) => addresses,
        }
    }
}

impl ClusterDns {
    /// It in words, with the port on which its pods are known to listen.
    #[must_use]
    pub fn on_port(&self, port: u16) -> String {
        match &self.place {
            DnsPlace::Pods { namespace, labels } => format!("pods with {labels} in {namespace}, port {port}"),
            DnsPlace::Addresses(_, addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("{}, port {port}", addresses.join(" and "))
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
    /// The label with a namespace's profile.
    #[must_use]
    pub fn profile_label(&self) -> String {
        format!("{}/profile", self.label_domain)
    }

    /// The label that tells how far a namespace's baseline is.
    #[must_use]
    pub fn baseline_label(&self) -> String {
        format!("{}/baseline", self.label_domain)
    }

    /// The label that switches enforcement off.
    #[must_use]
    pub fn enforcement_label(&self) -> String {
        format!("{}/enforcement", self.label_domain)
    }

    /// The annotation that says why a hatch is open, or why a rule does not hold for an object.
    #[must_use]
    pub fn reason_annotation(&self) -> String {
        format!("{}/reason", self.label_domain)
    }

    /// The annotation that says until when.
    #[must_use]
    pub fn until_annotation(&self) -> String {
        format!("{}/until", self.label_domain)
    }

    /// The annotation with the rules that do not hold for an object.
    #[must_use]
    pub fn exempt_annotation(&self) -> String {
        format!("{}/exempt", self.label_domain)
    }

    /// The label that says for which layer of the folder of policies an object is there.
    #[must_use]
    pub fn layer_label(&self) -> String {
        format!("{}/layer", self.label_domain)
    }

    /// The annotation that says since when the hatch of a namespace is open, or was until now.
    #[must_use]
    pub fn opened_annotation(&self) -> String {
        format!("{}/opened", self.label_domain)
    }

    /// The annotation with the user that opened the hatch of a namespace.
    #[must_use]
    pub fn opened_by_annotation(&self) -> String {
        format!("{}/opened-by", self.label_domain)
    }

    /// The annotation that says in words how far a namespace's baseline is.
    #[must_use]
    pub fn status_annotation(&self) -> String {
        format!("{}/baseline-status", self.label_domain)
    }

    /// The labels that the baseline controller writes on its policies.
    #[must_use]
    pub fn owned_labels(&self) -> [String; 2] {
        [self.layer_label(), "app.kubernetes.io/managed-by".to_owned()]
    }

    /// The annotations that it writes on them.
    #[must_use]
    pub fn owned_annotations(&self) -> Vec<String> {
        self.baseline.annotations.keys().cloned().chain([self.template_annotation()]).collect()
    }

    /// The annotation of its policies that tells one state of a file from another.
    #[must_use]
    pub fn template_annotation(&self) -> String {
        format!("{}/template", self.label_domain)
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

    /// What a label grants access to, if it is an access label.
    #[must_use]
    pub fn access_name<'a>(&self, label: &'a str) -> Option<&'a str> {
        label.strip_prefix("access.")?.strip_prefix(&*self.label_domain)?.strip_prefix('/')
    }

    /// Whether only the baseline controller may give this name to a policy.
    #[must_use]
    pub fn is_reserved(&self, object: &ObjectRef) -> bool {
        self.is_reserved_name(&object.api_version, &object.name)
    }

    /// The same of a name alone, in this version of its kind.
    #[must_use]
    pub fn is_reserved_name(&self, api_version: &str, name: &str) -> bool {
        bare_name(api_version, name).starts_with(&self.baseline.reserved_prefix)
    }

    /// Whether it is Calico's API server that writes an object of this version, and stores what somebody else wrote to it. It
    /// had that judged as theirs before.
    #[must_use]
    pub fn is_passed_on(&self, api_version: &str, username: &str) -> bool {
        is_stored_by_calico(api_version) && self.calico_api_servers.iter().any(|user| user == username)
    }

    /// Whether the namespace belongs to the platform.
    #[must_use]
    pub fn is_platform(&self, namespace: &str) -> bool {
        self.platform_namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether nobody gives the namespace a baseline: it is of the platform, or excluded.
    #[must_use]
    pub fn is_left_alone(&self, namespace: &str) -> bool {
        self.is_platform(namespace) || self.is_excluded(namespace)
    }

    /// Returns true if a namespace with these labels gets a baseline, unless it is left alone.
    #[must_use]
    pub fn wants_baseline(&self, labels: &Labels) -> bool {
        let is_marked =
            || labels.get(&self.baseline_label()).is_some_and(|label| matches!(label, "pending" | "applied"));
        self.baseline.namespaces == BaselineScope::All || is_marked() || self.profile(labels).is_some()
    }

    /// The name of the profile that these labels give, if it is configured.
    #[must_use]
    pub fn profile(&self, labels: &Labels) -> Option<&str> {
        let name = labels.get(&self.profile_label())?;
        self.profiles.names.iter().map(String::as_str).find(|known| *known == name)
    }

    /// Whether the namespace gets no labels of its own accord.
    #[must_use]
    pub fn is_excluded(&self, namespace: &str) -> bool {
        self.excluded_namespaces.iter().any(|pattern| pattern.matches(namespace))
    }
}
