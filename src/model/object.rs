//! What is judged: an object of a cluster, read into the terms that the rules speak.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::{Fault, Labels, Path, Policy, Protocol, Service, Tier};

/// The label that every namespace carries with its own name as the value, known or not (Kubernetes 1.22).
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Which object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Group and version, as in a manifest.
    pub api_version: Box<str>,
    /// Its kind.
    pub kind: Box<str>,
    /// Its namespace. None for objects of the cluster, and where a manifest does not say.
    pub namespace: Option<Box<str>>,
    /// Its name. Empty where the API server is still to make one up.
    pub name: Box<str>,
}

/// The group of Calico's API, and that in which its API server stores what it is given.
const CALICO: &str = "projectcalico.org";
const CALICO_STORED: &str = "crd.projectcalico.org";

/// The name of an object without the `default.` that Calico up to v3.31 puts before the names of policies of that tier where
/// it stores them, and takes for the same name where somebody else has written it.
#[must_use]
pub fn bare_name<'a>(api_version: &str, name: &'a str) -> &'a str {
    let is_of_calico = matches!(group(api_version), CALICO | CALICO_STORED);
    name.strip_prefix("default.").filter(|_| is_of_calico).unwrap_or(name)
}

/// Whether objects of this version are what Calico's API server stores of what it is given.
#[must_use]
pub fn is_stored_by_calico(api_version: &str) -> bool {
    group(api_version) == CALICO_STORED
}

/// The API group of a version; empty for the core.
fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

impl ObjectRef {
    /// Whether both are the same object of a cluster, whatever version of its kind they are written in, and also where one is
    /// what Calico stores and the other what Calico shows of it.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.is_same_entry(other) || self.is_stored_as(other) || other.is_stored_as(self)
    }

    /// Whether both are the same object of one API group. What Calico shows and what it stores are told of by watches of their
    /// own, and what one of them tells of is not for the other to take away.
    #[must_use]
    pub fn is_same_entry(&self, other: &Self) -> bool {
        // Objects that have no name yet are never the same.
        !self.name.is_empty()
            && self.name == other.name
            && self.namespace == other.namespace
            && self.kind == other.kind
            && self.group() == other.group()
    }

    /// Whether the other one is this one as Calico stores it.
    fn is_stored_as(&self, stored: &Self) -> bool {
        is_stored_by_calico(&stored.api_version)
            && self.group() == CALICO
            && !self.name.is_empty()
            && (stored.name == self.name || stored.bare_name() == &*self.name)
            && self.namespace == stored.namespace
            && self.kind == stored.kind
    }

    /// Its name, without what Calico puts before it where it stores it.
    #[must_use]
    pub fn bare_name(&self) -> &str {
        bare_name(&self.api_version, &self.name)
    }

    /// The API group of its kind; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        group(&self.api_version)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "(unnamed)" } else { &self.name };
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{name}", self.kind),
            None => write!(f, "{} {name}", self.kind),
        }
    }
}

/// An object that rules can judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Which one it is.
    pub id: ObjectRef,
    /// What it says.
    pub body: Body,
    /// What its own dialect will not do as it is written, and what is not understood.
    pub faults: Vec<Fault>,
    /// Those of its annotations that can mean something here.
    pub annotations: Labels,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Network policies: one, or several in one object.
    Policies(Vec<Policy>),
    /// A tier of policies.
    Tier(Tier),
    /// A namespace.
    Namespace(Namespace),
    /// A pod, or something that makes pods.
    Workload(Workload),
    /// A Service.
    Service(Service),
}

impl Object {
    /// The network policies that it holds.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        match &self.body {
            Body::Policies(policies) => policies,
            Body::Tier(_) | Body::Namespace(_) | Body::Workload(_) | Body::Service(_) => &[],
        }
    }

    /// The namespace that the object is, if it is one.
    #[must_use]
    pub fn as_namespace(&self) -> Option<&Namespace> {
        match &self.body {
            Body::Namespace(namespace) => Some(namespace),
            Body::Policies(_) | Body::Tier(_) | Body::Workload(_) | Body::Service(_) => None,
        }
    }

    /// The namespace that the object is in, or is.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match &self.body {
            Body::Namespace(_) => Some(&self.id.name),
            Body::Policies(_) | Body::Tier(_) | Body::Workload(_) | Body::Service(_) => self.id.namespace.as_deref(),
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels, as written and with `kubernetes.io/metadata.name`.
    pub labels: Labels,
    /// Where its labels are written.
    pub labels_path: Path,
    /// Which one of all that ever had its name. Empty where the API server did not write it.
    pub uid: Box<str>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// When it was made, where the API server says so.
    pub created: Option<Timestamp>,
}

/// Where pods ask to be scraped for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scrape {
    /// The port; none where they do not say.
    pub port: Option<u16>,
    /// The names of that port; none where none of their ports is listed, since then others may still be added.
    pub names: Option<Box<[Box<str>]>>,
}

/// A pod, or the template from which a controller makes pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// The labels of the pods.
    pub labels: Labels,
    /// True if these are the labels of a template, to which controllers add others.
    pub is_template: bool,
    /// Where `hostNetwork: true` is written, if it is.
    pub host_network: Option<Path>,
    /// The first address of the pod, if it has one.
    pub address: Option<IpAddr>,
    /// The ports that its containers list.
    pub ports: Box<[ContainerPort]>,
    /// The service account that the pods run as.
    pub service_account: Box<str>,
    /// Where the pods ask to be scraped for metrics, if they do.
    pub scrape: Option<Scrape>,
    /// What the pod still waits for before it is scheduled, by name.
    pub gates: Box<[Box<str>]>,
    /// Whether the pod has its node already.
    pub is_assigned: bool,
}

/// A port that a container lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerPort {
    /// The name.
    pub name: Option<Box<str>>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub number: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(api_version: &str, name: &str) -> ObjectRef {
        let (api_version, kind) = (api_version.into(), "NetworkPolicy".into());
        ObjectRef { api_version, kind, namespace: Some("shop".into()), name: name.into() }
    }

    #[test]
    fn what_calico_stores_is_what_it_shows() {
        let (shown, stored) =
            (|name| object("projectcalico.org/v3", name), |name| object("crd.projectcalico.org/v1", name));
        let same = |one: ObjectRef, other: ObjectRef| {
            assert_eq!(one.is_same_object(&other), other.is_same_object(&one), "{one:?} {other:?}");
            one.is_same_object(&other)
        };
        assert!(same(shown("dns"), stored("dns")));
        assert!(same(shown("dns"), stored("default.dns")), "up to v3.31");
        assert!(same(shown("default.dns"), stored("default.dns")));
        assert!(same(shown("security.dns"), stored("security.dns")));
        assert!(!same(shown("default.dns"), stored("dns")));
        assert!(!same(shown("dns"), stored("security.dns")));
        assert!(!same(shown("dns"), shown("default.dns")) && !same(stored("dns"), stored("default.dns")));
        assert!(!same(object("networking.k8s.io/v1", "dns"), stored("dns")));
        assert!(!same(shown(""), stored("default.")) && !same(shown(""), stored("")));
        assert!(!shown("dns").is_same_entry(&stored("dns")));
    }

    #[test]
    fn only_calico_puts_something_before_names() {
        assert_eq!(object("projectcalico.org/v3", "default.dns").bare_name(), "dns");
        assert_eq!(object("crd.projectcalico.org/v1", "default.default.dns").bare_name(), "default.dns");
        assert_eq!(object("networking.k8s.io/v1", "default.dns").bare_name(), "default.dns");
    }
}
