//! What is known of the cluster: an immutable snapshot, built alike from manifests and from watches.

mod scene;
mod site;

pub use scene::Scene;
pub use site::{ClusterDns, NamePattern, Profiles, SetName, Site, SiteError};

use std::collections::HashMap;

use crate::model::{Body, Labels, Namespaces, Object, ObjectRef, Policy, Surroundings, Tier};

/// A snapshot of what is known.
///
/// A namespace that it does not know may exist all the same, and of a namespace that it knows only by its
/// policies the labels are not known. Nothing here says "there is none" for "I do not know".
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By name. Objects whose manifest names no namespace are kept under the empty name.
    namespaces: HashMap<Box<str>, NamespaceFacts>,
    /// Policies of the cluster, for pods of any namespace.
    cluster_wide: Vec<Policy>,
    /// Tiers of policies, by name.
    tiers: HashMap<Box<str>, Tier>,
}

/// What is known of one namespace.
#[derive(Clone, Debug, Default)]
struct NamespaceFacts {
    /// All of its labels, if they are known.
    labels: Option<Labels>,
    policies: Vec<Policy>,
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

    fn insert(&mut self, object: Object) {
        match object.body {
            Body::Namespace(namespace) => {
                self.namespaces.entry(object.id.name).or_default().labels = Some(namespace.labels);
            }
            Body::Policies(policies) => {
                let (wide, narrow): (Vec<_>, Vec<_>) = policies.into_iter().partition(is_cluster_wide);
                replace(&mut self.cluster_wide, &object.id, wide);
                let name = object.id.namespace.clone().unwrap_or_default();
                replace(&mut self.namespaces.entry(name).or_default().policies, &object.id, narrow);
            }
            Body::Tier(tier) => {
                self.tiers.insert(object.id.name, tier);
            }
            Body::Workload(_) => {}
        }
    }

    /// All labels of a namespace, if they are known.
    #[must_use]
    pub fn all_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)?.labels.as_ref()
    }

    /// The policies of a namespace.
    #[must_use]
    pub fn own_policies(&self, namespace: &str) -> &[Policy] {
        self.namespaces.get(namespace).map(|known| known.policies.as_slice()).unwrap_or_default()
    }

    /// The policies of the cluster.
    #[must_use]
    pub fn cluster_wide_policies(&self) -> &[Policy] {
        &self.cluster_wide
    }

    /// The policies of all namespaces.
    pub fn all_own_policies(&self) -> impl Iterator<Item = &Policy> {
        self.namespaces.values().flat_map(|known| &known.policies)
    }
}

impl Surroundings for View {
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.all_labels(namespace)
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.get(name)
    }
}

/// Whether a policy is for pods of any namespace.
fn is_cluster_wide(policy: &Policy) -> bool {
    matches!(policy.subject.namespaces, Namespaces::Matching(_))
}

/// Puts the policies of an object in the place of those that it had.
fn replace(policies: &mut Vec<Policy>, object: &ObjectRef, new: Vec<Policy>) {
    policies.retain(|policy| !policy.object.is_same_object(object));
    policies.extend(new);
}
