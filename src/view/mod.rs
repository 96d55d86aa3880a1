//! The cache of the cluster: an immutable snapshot, built in the same way from manifests and from watches.

mod callers;
mod census;
mod difference;
mod hatch;
mod lookup;
mod namespace;
mod scene;
mod site;
mod time;

pub use hatch::{Hatch, HatchFault};
pub use lookup::{Facts, Listed, Lookup, Need, Requester};
pub use namespace::{FIELD_MANAGER, NamespaceFacts, Owned, Running};
pub use scene::Scene;
pub(crate) use site::LABEL_VALUE;
pub use site::{Baseline, BaselineScope, ClusterDns, NamePattern, Profiles, SetName, Site, SiteError};
pub use time::parse_rfc3339;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{
    ApiServer, Backend, Body, Contract, Labels, Namespaces, NetworkSet, Object, ObjectRef, Policy, Surroundings, Tier,
};

/// A snapshot of the known objects of a cluster.
///
/// A namespace that is missing here may still exist. If only the policies of a namespace are known, its labels are
/// unknown. A lookup in the snapshot that returns nothing means "unknown", never "does not exist".
///
/// A clone shares memory with the original: a change of one namespace in the clone copies that namespace and the list
/// of names.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The namespaces by name. Objects from manifests without a namespace are kept under the empty name.
    namespaces: HashMap<Arc<str>, Arc<NamespaceFacts>>,
    /// Cluster-wide policies, grouped by object.
    cluster_wide: Vec<Arc<Policy>>,
    /// The cluster-scoped objects that belong to the baseline controller.
    owned: Vec<Owned>,
    /// The objects that send connections to Services. Each namespace holds the backends in it.
    callers: callers::Callers,
    /// The labels of Calico's host endpoints.
    host_endpoints: Vec<Labels>,
    /// Calico's network sets.
    network_sets: Vec<NetworkSet>,
    /// The policy tiers by name, each with the object that reported it last: a cluster may serve the same tier in two
    /// groups.
    tiers: HashMap<Box<str>, (ObjectRef, Tier)>,
    /// The endpoints of the API server, if they are known.
    api_server: Option<Arc<ApiServer>>,
    /// The contracts by name. The last one of a name wins.
    contracts: BTreeMap<Box<str>, Arc<Contract>>,
    /// The contracts that cannot be read, by name, with the reason.
    unreadable_contracts: BTreeMap<Box<str>, Box<str>>,
    /// The contracts that are not objects of the cluster.
    given_contracts: Arc<[Arc<Contract>]>,
    is_whole: bool,
}

impl View {
    /// Creates a snapshot of these objects. Of two objects with the same kind and name the later one wins.
    pub fn of(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut view = Self::default();
        for object in objects {
            view.insert(object);
        }
        view
    }

    /// Creates an empty snapshot that watches will fill with the whole cluster.
    #[must_use]
    pub fn of_cluster() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// Returns true if the snapshot holds the whole cluster, apart from changes that the watches have not reported yet.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The endpoints of the API server, if they are known.
    #[must_use]
    pub fn api_server(&self) -> Option<&ApiServer> {
        self.api_server.as_deref()
    }

    /// Replaces the endpoints of the API server.
    pub(crate) fn set_api_server(&mut self, api_server: Arc<ApiServer>) {
        self.api_server = Some(api_server);
    }

    /// Inserts an object and replaces its earlier state.
    pub fn insert(&mut self, object: Object) {
        let Object { id, body, annotations, .. } = object;
        match body {
            Body::Namespace(namespace) => {
                let facts = self.facts_mut(&id.name);
                facts.labels = Some(namespace.labels);
                facts.annotations = annotations;
                facts.uid = namespace.uid;
                facts.is_terminating = namespace.terminating;
                facts.created = namespace.created;
            }
            Body::Policies(policies) => {
                let (wide, narrow): (Vec<_>, Vec<_>) = policies.into_iter().partition(is_cluster_wide);
                if !wide.is_empty() || id.namespace.is_none() {
                    replace(&mut self.cluster_wide, &id, wide);
                }
                if !narrow.is_empty() || id.namespace.is_some() {
                    let name = id.namespace.clone().unwrap_or_default();
                    replace(&mut self.facts_mut(&name).policies, &id, narrow);
                }
            }
            Body::Tier(tier) => {
                self.tiers.insert(id.name.clone(), (id, tier));
            }
            Body::Workload(mut workload) => {
                let address = workload.address.take();
                self.insert_workload(&id, Arc::new(workload), address);
            }
            Body::Service(service) => {
                let name = id.namespace.unwrap_or_default();
                self.facts_mut(&name).insert_service(id.name, service);
            }
            Body::Backends(backends) => self.insert_backends(&id, backends),
            Body::Contract(contract) => self.insert_contract(Arc::new(contract)),
        }
    }

    /// Inserts the Services to which an object sends connections, into the namespaces of these Services.
    fn insert_backends(&mut self, id: &ObjectRef, backends: Vec<Backend>) {
        for namespace in self.callers.insert(id, &backends) {
            self.change(&namespace, |facts| facts.remove_backends(id));
        }
        for backend in backends {
            let namespace = backend.namespace.clone().unwrap_or_default();
            self.facts_mut(&namespace).backends.push(Arc::new(backend));
        }
    }

    /// Inserts a pod or a workload. Pods of the same template share one [`Workload`](crate::model::Workload), so the
    /// address of a pod, which differs, is passed separately.
    pub fn insert_workload(&mut self, id: &ObjectRef, workload: Arc<crate::model::Workload>, address: Option<IpAddr>) {
        let name = id.namespace.clone().unwrap_or_default();
        self.facts_mut(&name).insert_workload(&id.kind, &id.name, workload, address);
    }

    /// Adds a host endpoint with these labels.
    pub(crate) fn insert_host_endpoint(&mut self, labels: Labels) {
        self.host_endpoints.push(labels);
    }

    /// Adds a network set.
    pub(crate) fn insert_network_set(&mut self, set: NetworkSet) {
        self.network_sets.push(set);
    }

    /// The labels of the known host endpoints.
    #[must_use]
    pub(crate) fn host_endpoints(&self) -> &[Labels] {
        &self.host_endpoints
    }

    /// Inserts a contract and replaces the one of the same name.
    pub(crate) fn insert_contract(&mut self, contract: Arc<Contract>) {
        self.unreadable_contracts.remove(&contract.name);
        self.contracts.insert(contract.name.clone(), contract);
    }

    /// Records that a contract cannot be read, with the reason, and removes its earlier state.
    pub fn insert_unreadable_contract(&mut self, name: &str, why: &str) {
        self.contracts.remove(name);
        self.unreadable_contracts.insert(name.into(), why.into());
    }

    /// The contracts that cannot be read, by name, with the reason.
    pub fn unreadable_contracts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unreadable_contracts.iter().map(|(name, why)| (&**name, &**why))
    }

    /// The contracts that are objects of the cluster.
    pub(crate) fn stored_contracts(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.contracts.values()
    }

    /// Replaces the contracts that are not objects of the cluster.
    #[must_use]
    pub fn with_given_contracts(mut self, contracts: Arc<[Arc<Contract>]>) -> Self {
        self.given_contracts = contracts;
        self
    }

    /// The same snapshot without contracts.
    #[must_use]
    pub fn without_contracts(&self) -> Self {
        Self { contracts: BTreeMap::new(), given_contracts: Arc::default(), ..self.clone() }
    }

    /// The contracts that are not objects of the cluster.
    #[must_use]
    pub(crate) fn given_contracts(&self) -> &Arc<[Arc<Contract>]> {
        &self.given_contracts
    }

    /// All contracts.
    pub fn contracts(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.contracts.values().chain(self.given_contracts.iter())
    }

    /// Records that an operator creates pods in a namespace from a custom resource.
    pub(crate) fn insert_operator_pods(&mut self, namespace: &str) {
        self.facts_mut(namespace).has_operator_pods = true;
    }

    /// Removes an object.
    pub fn remove(&mut self, id: &ObjectRef) {
        match (&*id.kind, id.api_version.contains('/')) {
            ("Namespace", false) => self.change(&id.name, NamespaceFacts::forget),
            ("Tier", true) => {
                if self.tiers.get(&id.name).is_some_and(|(object, _)| object.is_same_entry(id)) {
                    self.tiers.remove(&id.name);
                }
            }
            ("Contract", true) => {
                self.contracts.remove(&id.name);
                self.unreadable_contracts.remove(&id.name);
            }
            _ => {
                for namespace in self.callers.remove(id).unwrap_or_default() {
                    self.change(&namespace, |facts| facts.remove_backends(id));
                }
                self.own(id, None);
                self.cluster_wide.retain(|policy| !policy.object.is_same_entry(id));
                let name = id.namespace.as_deref().unwrap_or_default();
                self.change(name, |facts| {
                    facts.policies.retain(|policy| !policy.object.is_same_entry(id));
                    match &*id.kind {
                        "Service" => facts.services.retain(|(name, _)| *name != id.name),
                        kind => facts.remove_workload(kind, &id.name),
                    }
                });
            }
        }
    }

    /// Records that an object belongs to the baseline controller, with its stored state. `None` deletes the record.
    pub fn own(&mut self, id: &ObjectRef, owned: Option<Owned>) {
        let forget = |all: &mut Vec<Owned>| all.retain(|other| !other.object.is_same_entry(id));
        match (&id.namespace, owned) {
            (None, owned) => {
                forget(&mut self.owned);
                self.owned.extend(owned);
            }
            (Some(name), Some(owned)) => {
                let all = &mut self.facts_mut(name).owned;
                forget(all);
                all.push(owned);
            }
            (Some(name), None) => self.change(name, |facts| forget(&mut facts.owned)),
        }
    }

    /// The facts about a namespace, if there are any.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&NamespaceFacts> {
        self.namespaces.get(name).map(|facts| &**facts)
    }

    /// The facts about a namespace with its name in this view, if there are any.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(&str, &NamespaceFacts)> {
        self.namespaces.get_key_value(name).map(|(name, facts)| (&**name, &**facts))
    }

    /// The same, shared: if a namespace has not changed, two snapshots hold the same `Arc`.
    #[must_use]
    pub fn facts(&self, name: &str) -> Option<&Arc<NamespaceFacts>> {
        self.namespaces.get(name)
    }

    /// Every namespace that has facts.
    pub fn namespaces(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<NamespaceFacts>)> + Clone {
        self.namespaces.iter()
    }

    /// All labels of a namespace, if they are known.
    #[must_use]
    pub fn all_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)?.labels.as_ref()
    }

    /// The policies of a namespace.
    pub fn own_policies(&self, namespace: &str) -> impl Iterator<Item = &Policy> + use<'_> {
        let policies = self.namespaces.get(namespace).map(|known| known.policies.as_slice());
        policies.unwrap_or_default().iter().map(|policy| &**policy)
    }

    /// The cluster-wide policies.
    pub fn cluster_wide_policies(&self) -> impl Iterator<Item = &Policy> {
        self.cluster_wide.iter().map(|policy| &**policy)
    }

    /// The cluster-scoped objects that belong to the baseline controller.
    #[must_use]
    pub(crate) fn owned_of_cluster(&self) -> &[Owned] {
        &self.owned
    }

    /// The policies of all namespaces.
    pub(crate) fn all_own_policies(&self) -> impl Iterator<Item = &Policy> {
        self.namespaces.values().flat_map(|known| &known.policies).map(|policy| &**policy)
    }

    fn facts_mut(&mut self, namespace: &str) -> &mut NamespaceFacts {
        Arc::make_mut(self.namespaces.entry(namespace.into()).or_default())
    }

    /// Changes the facts about a namespace, and removes them if nothing is left.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut NamespaceFacts)) {
        let Some(facts) = self.namespaces.get_mut(namespace) else { return };
        change(Arc::make_mut(facts));
        if facts.is_nothing() {
            self.namespaces.remove(namespace);
        }
    }
}

impl View {
    /// Returns true if both views know the same tiers.
    #[must_use]
    pub(crate) fn has_same_tiers(&self, other: &Self) -> bool {
        self.tiers.len() == other.tiers.len()
            && self.tiers.iter().all(|(name, (_, tier))| other.tiers.get(name).is_some_and(|(_, other)| other == tier))
    }
}

impl Surroundings for View {
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.all_labels(namespace)
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.get(name).map(|(_, tier)| tier)
    }

    fn network_sets(&self) -> &[NetworkSet] {
        &self.network_sets
    }
}

/// Returns true if a policy may select pods in any namespace.
fn is_cluster_wide(policy: &Policy) -> bool {
    matches!(policy.subject.namespaces, Namespaces::Matching(_))
}

/// Replaces the policies of an object.
fn replace(policies: &mut Vec<Arc<Policy>>, object: &ObjectRef, new: Vec<Policy>) {
    policies.retain(|policy| !policy.object.is_same_entry(object));
    policies.extend(new.into_iter().map(Arc::new));
}
