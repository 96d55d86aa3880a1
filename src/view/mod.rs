//! What is known of the cluster: an immutable snapshot, built alike from manifests and from watches.

mod census;
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
pub use site::{Baseline, BaselineScope, ClusterDns, NamePattern, Profiles, SetName, Site, SiteError};
pub use time::parse_rfc3339;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Body, Labels, Namespaces, Object, ObjectRef, Policy, Surroundings, Tier};

/// A snapshot of what is known.
///
/// A namespace that it does not know may exist all the same, and of a namespace that it knows only by its
/// policies the labels are not known. Nothing here says "there is none" for "I do not know".
///
/// A copy shares what it can with the original: changing one namespace of a copy costs that namespace and a list of names.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By name. Objects whose manifest names no namespace are kept under the empty name.
    namespaces: HashMap<Arc<str>, Arc<NamespaceFacts>>,
    /// Policies of the cluster, for pods of any namespace, by object.
    cluster_wide: Vec<Arc<Policy>>,
    /// Which objects among those the baseline controller put there.
    owned: Vec<Owned>,
    /// The labels of the host endpoints of Calico.
    host_endpoints: Vec<Labels>,
    /// Tiers of policies, by name, each with the group that told of it last: a cluster may serve the same one in two.
    tiers: HashMap<Box<str>, (Box<str>, Tier)>,
    is_whole: bool,
}

impl View {
    /// A snapshot of these objects. Of two with the same name and kind the later counts.
    pub fn of(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut view = Self::default();
        for object in objects {
            view.insert(object);
        }
        view
    }

    /// A snapshot that is told of everything in a cluster, and so far of nothing.
    #[must_use]
    pub fn of_cluster() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// Whether everything in the cluster is known, but for what has changed in the last moments.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Adds an object, in the place of an earlier state of it.
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
                let group = id.group().into();
                self.tiers.insert(id.name, (group, tier));
            }
            Body::Workload(mut workload) => {
                let address = workload.address.take();
                self.insert_workload(&id, Arc::new(workload), address);
            }
            Body::Service(service) => {
                let name = id.namespace.unwrap_or_default();
                self.facts_mut(&name).insert_service(id.name, service);
            }
        }
    }

    /// Adds a pod, or something that makes pods. Many are alike, and then they can share what is said of them.
    /// What differs between them is given apart: the first address of a pod.
    pub fn insert_workload(&mut self, id: &ObjectRef, workload: Arc<crate::model::Workload>, address: Option<IpAddr>) {
        let name = id.namespace.clone().unwrap_or_default();
        self.facts_mut(&name).insert_workload(&id.kind, &id.name, workload, address);
    }

    /// Adds a host endpoint with these labels.
    pub fn insert_host_endpoint(&mut self, labels: Labels) {
        self.host_endpoints.push(labels);
    }

    /// The labels of the known host endpoints.
    #[must_use]
    pub fn host_endpoints(&self) -> &[Labels] {
        &self.host_endpoints
    }

    /// Records that an operator makes pods in a namespace from a custom resource.
    pub fn insert_operator_pods(&mut self, namespace: &str) {
        self.facts_mut(namespace).has_operator_pods = true;
    }

    /// Takes an object away.
    pub fn remove(&mut self, id: &ObjectRef) {
        match (&*id.kind, id.api_version.contains('/')) {
            ("Namespace", false) => self.change(&id.name, NamespaceFacts::forget),
            ("Tier", true) => {
                if self.tiers.get(&id.name).is_some_and(|(group, _)| **group == *id.group()) {
                    self.tiers.remove(&id.name);
                }
            }
            _ => {
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

    /// Notes whether the baseline controller put an object there, and how it is stored.
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

    /// What is known of a namespace, if anything is.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&NamespaceFacts> {
        self.namespaces.get(name).map(|facts| &**facts)
    }

    /// The same, to be held on to, and to see whether it has changed: what has not is the same in both snapshots.
    #[must_use]
    pub fn facts(&self, name: &str) -> Option<&Arc<NamespaceFacts>> {
        self.namespaces.get(name)
    }

    /// Every namespace of which something is known.
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

    /// The policies of the cluster.
    pub fn cluster_wide_policies(&self) -> impl Iterator<Item = &Policy> {
        self.cluster_wide.iter().map(|policy| &**policy)
    }

    /// Those objects of the cluster that the baseline controller put there.
    #[must_use]
    pub fn owned_of_cluster(&self) -> &[Owned] {
        &self.owned
    }

    /// The policies of all namespaces.
    pub fn all_own_policies(&self) -> impl Iterator<Item = &Policy> {
        self.namespaces.values().flat_map(|known| &known.policies).map(|policy| &**policy)
    }

    fn facts_mut(&mut self, namespace: &str) -> &mut NamespaceFacts {
        Arc::make_mut(self.namespaces.entry(namespace.into()).or_default())
    }

    /// Changes what is known of a namespace, and forgets it if that is nothing any more.
    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut NamespaceFacts)) {
        let Some(facts) = self.namespaces.get_mut(namespace) else { return };
        change(Arc::make_mut(facts));
        if facts.is_nothing() {
            self.namespaces.remove(namespace);
        }
    }
}

impl Surroundings for View {
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.all_labels(namespace)
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.get(name).map(|(_, tier)| tier)
    }
}

/// Whether a policy is for pods of any namespace.
fn is_cluster_wide(policy: &Policy) -> bool {
    matches!(policy.subject.namespaces, Namespaces::Matching(_))
}

/// Puts the policies of an object in the place of those that it had.
fn replace(policies: &mut Vec<Arc<Policy>>, object: &ObjectRef, new: Vec<Policy>) {
    policies.retain(|policy| !policy.object.is_same_entry(object));
    policies.extend(new.into_iter().map(Arc::new));
}
