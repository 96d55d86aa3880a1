//! The states of the namespaces that should have a baseline, and the number of namespaces in each state.

use std::collections::HashMap;
use std::hash::Hash;

use crate::telemetry::BaselineMetrics;

/// The state of each key, and the number of keys in each state.
#[derive(Debug)]
pub(super) struct Progress<K> {
    states: HashMap<K, &'static str>,
    counts: HashMap<&'static str, usize>,
    metrics: BaselineMetrics,
}

impl<K: Clone + Ord + Hash> Progress<K> {
    pub(super) fn new(metrics: BaselineMetrics) -> Self {
        Self { states: HashMap::new(), counts: HashMap::new(), metrics }
    }

    /// Sets the state of a namespace, or removes it.
    pub(super) fn set(&mut self, key: &K, state: Option<&'static str>) {
        let before = match state {
            Some(state) => self.states.insert(key.clone(), state),
            None => self.states.remove(key),
        };
        if before == state {
            return;
        }
        if let Some(count) = before.and_then(|before| self.counts.get_mut(before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(state) = state {
            *self.counts.entry(state).or_default() += 1;
        }
        for state in before.into_iter().chain(state) {
            self.metrics.namespaces(state, self.counts.get(state).copied().unwrap_or(0));
        }
    }

    /// Records that the work on a namespace failed, if the namespace should have a baseline.
    pub(super) fn failed(&mut self, key: &K) {
        if self.states.contains_key(key) {
            self.set(key, Some("failed"));
        }
    }

    /// Returns the namespaces that lack a policy, because it is pending or failed.
    pub(super) fn waiting(&self) -> Vec<K> {
        let waiting = self.states.iter().filter(|(_, state)| matches!(**state, "pending" | "failed"));
        let mut waiting: Vec<K> = waiting.map(|(key, _)| key.clone()).collect();
        waiting.sort();
        waiting
    }
}
