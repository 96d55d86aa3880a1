//! Contracts that may hold.

use crate::model::{Demand, Extent, Party, PortSpan};

/// The kind of a proposal, from the most to the least valuable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods that few other pods reach.
    FewSources,
    /// Namespaces that few other namespaces reach.
    IsolatedNamespace,
    /// Namespaces that the internet does not reach.
    NoInternetIngress,
    /// Pods that do not reach the internet.
    NoInternetEgress,
    /// Namespaces whose pods reach the cluster DNS.
    Dns,
    /// Backends that an ingress controller reaches.
    IngressBackend,
    /// Pods that Prometheus scrapes.
    Scraped,
}

/// A contract that may hold.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) kind: Kind,
    /// The position among the candidates of its kind, smallest first.
    pub(super) rank: usize,
    /// The namespace that it is about.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) why: String,
    pub(super) owner: String,
    pub(super) demand: Demand,
    /// The forms of the contract, the strongest first.
    pub(super) forms: Vec<Form>,
}

/// A form of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) extent: Extent,
    pub(super) from: Vec<Party>,
    pub(super) to: Vec<Party>,
    pub(super) ports: Vec<PortSpan>,
}

impl Form {
    /// The same form for any pods, and then for the existing ones.
    pub(super) fn for_both_extents(self) -> Vec<Self> {
        vec![Self { extent: Extent::Any, ..self.clone() }, Self { extent: Extent::Existing, ..self }]
    }
}
