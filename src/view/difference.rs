//! The objects in which two views differ, as far as they decide about connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NamespaceFacts, View};
use crate::model::{Labels, ObjectRef, Policy};

impl View {
    /// Returns the policies, tiers and namespaces that differ between both views, sorted. A namespace differs if its
    /// labels do. Unchanged parts cost one comparison of pointers for each namespace.
    #[must_use]
    pub fn changed_objects(&self, before: &Self) -> Vec<ObjectRef> {
        let mut changed = Vec::new();
        compare_policies(&before.cluster_wide, &self.cluster_wide, &mut changed);
        let names = before.namespaces.keys().filter(|name| !self.namespaces.contains_key(*name));
        for name in self.namespaces.keys().chain(names) {
            let [old, new] = [before.namespaces.get(name), self.namespaces.get(name)];
            if let (Some(old), Some(new)) = (old, new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
            compare_policies(policies(old), policies(new), &mut changed);
            if old.and_then(labels) != new.and_then(labels) {
                changed.push(ObjectRef {
                    api_version: "v1".into(),
                    kind: "Namespace".into(),
                    namespace: None,
                    name: (**name).into(),
                });
            }
        }
        let gone = before.tiers.keys().filter(|name| !self.tiers.contains_key(*name));
        for name in self.tiers.keys().chain(gone) {
            let [old, new] = [before.tiers.get(name), self.tiers.get(name)];
            if let (Some((object, _)), true) = (new.or(old), old.map(|(_, tier)| tier) != new.map(|(_, tier)| tier)) {
                changed.push(object.clone());
            }
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Returns true if both views share the facts about every namespace, so that no pod and no label differs.
    #[must_use]
    pub fn shares_namespaces(&self, other: &Self) -> bool {
        self.namespaces.len() == other.namespaces.len()
            && self
                .namespaces
                .iter()
                .all(|(name, facts)| other.namespaces.get(name).is_some_and(|other| Arc::ptr_eq(facts, other)))
    }
}

fn policies(facts: Option<&Arc<NamespaceFacts>>) -> &[Arc<Policy>] {
    facts.map_or(&[], |facts| &facts.policies)
}

fn labels(facts: &Arc<NamespaceFacts>) -> Option<&Labels> {
    facts.labels.as_ref()
}

/// Adds the objects whose policies differ.
fn compare_policies(old: &[Arc<Policy>], new: &[Arc<Policy>], changed: &mut Vec<ObjectRef>) {
    let is_same = |(old, new): (&Arc<Policy>, &Arc<Policy>)| Arc::ptr_eq(old, new);
    if old.len() == new.len() && old.iter().zip(new).all(is_same) {
        return;
    }
    let [old, new] = [by_object(old), by_object(new)];
    let gone = old.keys().filter(|object| !new.contains_key(*object));
    let differ = new.iter().filter(|(object, policies)| old.get(*object) != Some(*policies)).map(|(object, _)| object);
    changed.extend(gone.chain(differ).map(|object| (*object).clone()));
}

fn by_object(policies: &[Arc<Policy>]) -> BTreeMap<&ObjectRef, Vec<&Policy>> {
    let mut objects: BTreeMap<&ObjectRef, Vec<&Policy>> = BTreeMap::new();
    for policy in policies {
        objects.entry(&policy.object).or_default().push(policy);
    }
    objects
}
