//! What is judged: an object of a cluster, read into the terms that the rules speak.

use std::fmt;

use jiff::Timestamp;

use super::{Fault, Labels, Path, Policy, Tier};

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

impl ObjectRef {
    /// Whether both are the same object of a cluster, whatever version of its kind they are written in.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        // Objects that have no name yet are never the same.
        !self.name.is_empty()
            && self.name == other.name
            && self.namespace == other.namespace
            && self.kind == other.kind
            && self.group() == other.group()
    }

    /// The API group of its kind; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
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
}

impl Object {
    /// The network policies that it holds.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        match &self.body {
            Body::Policies(policies) => policies,
            Body::Tier(_) | Body::Namespace(_) | Body::Workload(_) => &[],
        }
    }

    /// The namespace that the object is, if it is one.
    #[must_use]
    pub fn as_namespace(&self) -> Option<&Namespace> {
        match &self.body {
            Body::Namespace(namespace) => Some(namespace),
            Body::Policies(_) | Body::Tier(_) | Body::Workload(_) => None,
        }
    }

    /// The namespace that the object is in, or is.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match &self.body {
            Body::Namespace(_) => Some(&self.id.name),
            Body::Policies(_) | Body::Tier(_) | Body::Workload(_) => self.id.namespace.as_deref(),
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
    /// Where `hostNetwork: true` is written, if it is.
    pub host_network: Option<Path>,
    /// The service account that the pods run as.
    pub service_account: Box<str>,
    /// Where the pods ask to be scraped for metrics, if they do.
    pub scrape: Option<Scrape>,
    /// What the pod still waits for before it is scheduled, by name.
    pub gates: Box<[Box<str>]>,
    /// Whether the pod has its node already.
    pub is_assigned: bool,
}
