//! The objects that rules evaluate, translated from manifests into the model.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::{Backend, Contract, Fault, Labels, Path, Policy, Protocol, Service, Tier};

/// The label that every namespace carries with its own name as the value, even if its labels are unknown (Kubernetes
/// 1.22).
pub(crate) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The identity of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Group and version, as in a manifest.
    pub api_version: Box<str>,
    /// The kind.
    pub kind: Box<str>,
    /// The namespace. `None` for a cluster-scoped object, and if the manifest leaves it out.
    pub namespace: Option<Box<str>>,
    /// The name. Empty if the API server will generate it.
    pub name: Box<str>,
}

/// The group of Calico's API, and the group in which Calico's API server stores its objects.
const CALICO: &str = "projectcalico.org";
const CALICO_STORED: &str = "crd.projectcalico.org";

/// The name of an object without Calico's prefix `default.`. Calico up to v3.31 prefixes the names of policies in its
/// default tier when it stores them, and treats both names as the same when a client writes the prefixed one.
#[must_use]
pub(crate) fn bare_name<'a>(api_version: &str, name: &'a str) -> &'a str {
    let is_of_calico = matches!(group(api_version), CALICO | CALICO_STORED);
    name.strip_prefix("default.").filter(|_| is_of_calico).unwrap_or(name)
}

/// Returns true if Calico's API server stores its objects in this version.
#[must_use]
pub(crate) fn is_stored_by_calico(api_version: &str) -> bool {
    group(api_version) == CALICO_STORED
}

/// The API group of a version. Empty for the core group.
fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

impl ObjectRef {
    /// Returns true if both identify the same object of a cluster. The versions may differ, and one may be the object
    /// of Calico's API while the other is its stored form.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.is_same_entry(other) || self.is_stored_as(other) || other.is_stored_as(self)
    }

    /// Returns true if both identify the same object in one API group. The objects of Calico's API and their stored
    /// forms are reported by separate watches; a deletion in one watch must not remove the object of the other.
    #[must_use]
    pub(crate) fn is_same_entry(&self, other: &Self) -> bool {
        // Objects without a name are never the same.
        !self.name.is_empty()
            && self.name == other.name
            && self.namespace == other.namespace
            && self.kind == other.kind
            && self.group() == other.group()
    }

    /// Returns true if `stored` is the stored form of this object of Calico's API.
    fn is_stored_as(&self, stored: &Self) -> bool {
        is_stored_by_calico(&stored.api_version)
            && self.group() == CALICO
            && !self.name.is_empty()
            && (stored.name == self.name || stored.bare_name() == &*self.name)
            && self.namespace == stored.namespace
            && self.kind == stored.kind
    }

    /// The name without the prefix that Calico adds when it stores it.
    #[must_use]
    pub(crate) fn bare_name(&self) -> &str {
        bare_name(&self.api_version, &self.name)
    }

    /// The API group of its kind. Empty for the core group.
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

/// An object that rules can evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The identity of the object.
    pub id: ObjectRef,
    /// The content, by kind.
    pub body: Body,
    /// Parts of the manifest that its own dialect does not apply as written, or that Portcullis does not understand.
    pub faults: Vec<Fault>,
    /// The annotations that Portcullis reads.
    pub annotations: Labels,
}

/// The content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// One or several network policies.
    Policies(Vec<Policy>),
    /// A policy tier.
    Tier(Tier),
    /// A namespace.
    Namespace(Namespace),
    /// A pod or a workload.
    Workload(Workload),
    /// A Service.
    Service(Service),
    /// The Services to which an Ingress, an HTTPRoute, a webhook configuration or an APIService sends connections.
    Backends(Vec<Backend>),
    /// A contract.
    Contract(Contract),
}

impl Object {
    /// The network policies that it holds.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        match &self.body {
            Body::Policies(policies) => policies,
            Body::Tier(_)
            | Body::Namespace(_)
            | Body::Workload(_)
            | Body::Service(_)
            | Body::Backends(_)
            | Body::Contract(_) => &[],
        }
    }

    /// The namespace, if the object is one.
    #[must_use]
    pub(crate) fn as_namespace(&self) -> Option<&Namespace> {
        match &self.body {
            Body::Namespace(namespace) => Some(namespace),
            Body::Policies(_)
            | Body::Tier(_)
            | Body::Workload(_)
            | Body::Service(_)
            | Body::Backends(_)
            | Body::Contract(_) => None,
        }
    }

    /// The namespace of the object; for a Namespace, its own name.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match &self.body {
            Body::Namespace(_) => Some(&self.id.name),
            Body::Policies(_)
            | Body::Tier(_)
            | Body::Workload(_)
            | Body::Service(_)
            | Body::Backends(_)
            | Body::Contract(_) => self.id.namespace.as_deref(),
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The labels as written, plus `kubernetes.io/metadata.name`.
    pub labels: Labels,
    pub(crate) labels_path: Path,
    /// The UID. Empty if the API server has not set one.
    pub uid: Box<str>,
    /// True if it is being deleted.
    pub terminating: bool,
    /// The creation time, if the API server has set it.
    pub created: Option<Timestamp>,
}

/// The metrics endpoint that pods declare for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scrape {
    /// The port. `None` if the pods do not declare it.
    pub port: Option<u16>,
    /// The names of that port. `None` if the containers list no ports at all, since ports may then still be added.
    pub names: Option<Box<[Box<str>]>>,
}

/// A pod, or the template of a workload from which a controller creates pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// The labels of the pods.
    pub labels: Labels,
    /// True if these are the labels of a template. Controllers add more labels to its pods.
    pub is_template: bool,
    /// The path of `hostNetwork: true`, if it is set.
    pub host_network: Option<Path>,
    /// The first address of the pod, if it has one.
    pub address: Option<IpAddr>,
    /// The ports that its containers list.
    pub ports: Box<[ContainerPort]>,
    /// The service account that the pods run as.
    pub service_account: Box<str>,
    /// The metrics endpoint that the pods declare, if they do.
    pub scrape: Option<Scrape>,
    /// The names of its scheduling gates.
    pub gates: Box<[Box<str>]>,
    /// True if the pod is assigned to a node.
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
