//! Lists and counts of the objects in a view.

#![allow(clippy::iter_over_hash_type, reason = "what is counted has no order, and what is listed is a set")]

use std::collections::HashMap;

use super::View;
use crate::model::ObjectRef;

/// The API group of contracts.
const CONTRACTS: &str = "portcullis.dev";

impl View {
    /// The known objects of a kind, with this API version. A namespace that is known only by its contents is not
    /// listed.
    #[must_use]
    pub fn objects_of(&self, api_version: &str, kind: &str) -> Vec<ObjectRef> {
        let object = |namespace: Option<&str>, name: &str| ObjectRef {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Box::from),
            name: name.into(),
        };
        let sample = object(None, "");
        match (kind, sample.group()) {
            ("Namespace", "") => {
                let known = self.namespaces.iter().filter(|(_, facts)| facts.labels.is_some());
                known.map(|(name, _)| object(None, name)).collect()
            }
            ("Tier", group) => {
                let known = self.tiers.iter().filter(|(_, (of, _))| of.group() == group);
                known.map(|(name, _)| object(None, name)).collect()
            }
            ("Contract", CONTRACTS) => self.contracts.keys().map(|name| object(None, name)).collect(),
            _ => {
                let mut found: Vec<ObjectRef> = Vec::new();
                let mut note = |other: &ObjectRef| {
                    if *other.kind == *kind && other.group() == sample.group() {
                        found.push(object(other.namespace.as_deref(), &other.name));
                    }
                };
                self.cluster_wide.iter().for_each(|policy| note(&policy.object));
                self.owned.iter().for_each(|owned| note(&owned.object));
                for facts in self.namespaces.values() {
                    facts.policies.iter().for_each(|policy| note(&policy.object));
                    facts.owned.iter().for_each(|owned| note(&owned.object));
                }
                for (namespace, facts) in &self.namespaces {
                    let running = facts.running().iter().filter(|running| *running.kind == *kind);
                    found.extend(running.map(|running| object(Some(namespace), &running.name)));
                }
                if (kind, sample.group()) == ("Service", "") {
                    for (namespace, facts) in &self.namespaces {
                        found.extend(facts.services.iter().map(|(name, _)| object(Some(namespace), name)));
                    }
                }
                for (group, other, namespace, name) in self.callers.iter() {
                    if (group, other) == (sample.group(), kind) {
                        found.push(object(namespace, name));
                    }
                }
                // An object can hold several policies.
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// The number of known objects by group and kind. Pods and workloads are counted under the empty group.
    #[must_use]
    pub fn census(&self) -> HashMap<(&str, &str), usize> {
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        let mut count = |group, kind, more: usize| *counts.entry((group, kind)).or_default() += more;
        count("", "Namespace", self.namespaces.values().filter(|facts| facts.labels.is_some()).count());
        for (object, _) in self.tiers.values() {
            count(object.group(), "Tier", 1);
        }
        count(CONTRACTS, "Contract", self.contracts.len());
        let lists = self.namespaces.values().map(|facts| &facts.policies).chain([&self.cluster_wide]);
        for policies in lists {
            let mut last: Option<&ObjectRef> = None;
            for object in policies.iter().map(|policy| &policy.object) {
                // Policies of one object are adjacent.
                if last.is_none_or(|last| last != object) {
                    count(object.group(), &object.kind, 1);
                }
                last = Some(object);
            }
        }
        count("", "Service", self.namespaces.values().map(|facts| facts.services.len()).sum());
        for (group, kind, _, _) in self.callers.iter() {
            count(group, kind, 1);
        }
        for facts in self.namespaces.values() {
            for alike in facts.running().chunk_by(|one, other| one.kind == other.kind) {
                if let Some(first) = alike.first() {
                    count("", &first.kind, alike.len());
                }
            }
        }
        counts
    }
}
