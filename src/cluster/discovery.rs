//! What a cluster serves of the kinds that are understood.

use std::collections::HashMap;

use kube::core::ApiResource;

/// The kinds that a cluster serves and a dialect reads, by group and kind, each in the version that both know best.
#[derive(Clone, Debug, Default)]
pub struct Served(HashMap<(String, String), (ApiResource, bool)>);

impl Served {
    /// How a kind is asked for, if it is served.
    #[must_use]
    pub fn find(&self, group: &str, kind: &str) -> Option<&ApiResource> {
        self.0.get(&(group.to_owned(), kind.to_owned())).map(|(resource, _)| resource)
    }

    /// Whether objects of a kind are in namespaces.
    #[must_use]
    pub fn is_namespaced(&self, group: &str, kind: &str) -> bool {
        self.0.get(&(group.to_owned(), kind.to_owned())).is_some_and(|(_, namespaced)| *namespaced)
    }

    /// Adds a kind.
    pub fn insert(&mut self, resource: ApiResource, is_namespaced: bool) {
        self.0.insert((resource.group.clone(), resource.kind.clone()), (resource, is_namespaced));
    }
}
