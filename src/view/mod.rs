//! What is known of the cluster: an immutable snapshot, built alike from manifests and from watches.

mod reach;
mod scene;
mod site;

pub use reach::{Place, Target, allows, lets_through};
pub use scene::Scene;
pub use site::{ClusterDns, NamePattern, Profiles, Site, SiteError};

use std::collections::HashMap;

use crate::model::{Body, Labels, NAME_LABEL, Object, Policy, Selector};

/// A snapshot of what is known.
///
/// A namespace that it does not know may exist all the same, and of a namespace that it knows only by its
/// policies the labels are not known. Nothing here says "there is none" for "I do not know".
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By name. Objects whose manifest names no namespace are kept under the empty name.
    namespaces: HashMap<Box<str>, Known>,
}

/// What is known of one namespace.
#[derive(Clone, Debug, Default)]
struct Known {
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
                let name = object.id.namespace.clone().unwrap_or_default();
                let known = &mut self.namespaces.entry(name).or_default().policies;
                known.retain(|policy| !policy.object.is_same_object(&object.id));
                known.extend(policies);
            }
            Body::Workload(_) => {}
        }
    }

    /// Whether a selector is sure to mean a namespace, as far as its labels are known: at least its name is.
    #[must_use]
    pub fn surely_means(&self, selector: &Selector, namespace: &str) -> bool {
        match self.all_labels(namespace) {
            Some(labels) => selector.matches(labels),
            None => {
                let known = |key: &str| (key == NAME_LABEL).then_some(namespace);
                selector.decided(&known).unwrap_or_else(|| selector.covers(&Selector::equals(NAME_LABEL, namespace)))
            }
        }
    }

    /// All labels of a namespace, if they are known.
    #[must_use]
    pub fn all_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)?.labels.as_ref()
    }

    /// The policies that can concern pods of a namespace.
    pub fn policies(&self, namespace: &str) -> impl Iterator<Item = &Policy> {
        let own = self.namespaces.get(namespace).map(|known| known.policies.as_slice());
        own.unwrap_or_default().iter()
    }
}
