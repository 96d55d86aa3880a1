//! Slows down the deletion of policies whose files were removed from the policies folder.
//!
//! A removed file means a deletion in every namespace. The removal is announced first; then the policy is deleted in a
//! share of the namespaces per interval, so that a mistake can be reverted. The controller never deletes a whole layer.

use std::collections::HashMap;
use std::time::Instant;

use super::limits::RemovalLimits;
use crate::baseline::{Layer, Plan, Step};
use crate::view::Owned;

/// A policy of the folder in any namespace: its layer, kind and name.
type Removed = (Box<str>, Box<str>, Box<str>);

/// The removals that were announced, and the number of namespaces in the current interval.
#[derive(Debug)]
pub(super) struct Brake {
    limits: RemovalLimits,
    announced: HashMap<Removed, Instant>,
    interval: Option<(Instant, usize)>,
}

/// The deletions of a plan that have to wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The policies that would be deleted.
    pub(super) policies: Vec<Owned>,
    /// The policies whose removal has to be announced.
    pub(super) new: Vec<Owned>,
    /// The time of the next attempt.
    pub(super) until: Option<Instant>,
}

impl Brake {
    pub(super) fn new(limits: RemovalLimits) -> Self {
        Self { limits, announced: HashMap::new(), interval: None }
    }

    /// Forgets the announcements, because another policies folder is in use.
    pub(super) fn clear(&mut self) {
        self.announced.clear();
    }

    /// The number of namespaces per interval.
    pub(super) fn share(&self, namespaces: usize) -> usize {
        (namespaces.saturating_mul(self.limits.percent) / 100).max(1)
    }

    /// Removes the deletions that have to wait from a plan. Deletions that a user requested stay in it.
    pub(super) fn hold(&mut self, plan: &mut Plan, namespaces: usize, now: Instant) -> Held {
        let mut held = Held::default();
        let removed: Vec<Owned> = plan.steps.iter().filter_map(removed).cloned().collect();
        let mut ready = now;
        for owned in &removed {
            let key = (owned.layer.clone(), owned.object.kind.clone(), owned.object.name.clone());
            let announced = self.announced.entry(key).or_insert_with(|| {
                held.new.push(owned.clone());
                now
            });
            ready = ready.max(*announced + self.limits.notice);
        }
        if removed.is_empty() || ready <= now && self.admits(namespaces, now) {
            return held;
        }
        let next = self.interval.map_or(now, |(start, _)| start + self.limits.every);
        held.until = Some(if ready > now { ready } else { next.max(now) });
        held.policies = removed;
        plan.steps.retain(|step| self::removed(step).is_none());
        held
    }

    /// Counts a namespace in the current interval. Returns false if its share is used up.
    fn admits(&mut self, namespaces: usize, now: Instant) -> bool {
        let share = self.share(namespaces);
        let (start, count) = self
            .interval
            .filter(|(start, _)| now.saturating_duration_since(*start) < self.limits.every)
            .unwrap_or((now, 0));
        self.interval = Some((start, count + usize::from(count < share)));
        count < share
    }
}

/// The policy that a step deletes because its file was removed: other files of its layer replace it.
fn removed(step: &Step) -> Option<&Owned> {
    match step {
        Step::Delete { owned, after: Some(layer) } if *layer != Layer::Hatch && layer.label() == *owned.layer => {
            Some(owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectRef;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn deletion(layer: &str, after: Option<Layer>) -> Step {
        let object = ObjectRef {
            api_version: "networking.k8s.io/v1".into(),
            kind: "NetworkPolicy".into(),
            namespace: Some("shop".into()),
            name: "portcullis-x".into(),
        };
        let owned =
            Owned { object, uid: "u".into(), layer: layer.into(), fingerprint: 0, is_applied: true, domain: None };
        Step::Delete { owned, after }
    }

    fn plan(steps: &[Step]) -> Plan {
        Plan { steps: steps.to_vec(), ..Plan::default() }
    }

    #[test]
    fn a_removed_file_is_announced_and_then_deleted_by_and_by() {
        let limits = RemovalLimits { notice: 120 * SECOND, every: 60 * SECOND, percent: 10 };
        let (mut brake, start) = (Brake::new(limits), Instant::now());
        let removal = plan(&[Step::Apply(0), deletion("baseline", Some(Layer::Baseline))]);
        let mut deleted = |now: Instant| {
            let mut plan = removal.clone();
            let held = brake.hold(&mut plan, 50, now);
            assert_eq!(plan.steps.len(), if held.until.is_some() { 1 } else { 2 }, "the rest of the plan stays");
            (held.until.is_none(), held.new.len(), held.until)
        };
        assert_eq!(deleted(start), (false, 1, Some(start + 120 * SECOND)));
        assert_eq!(deleted(start + SECOND), (false, 0, Some(start + 120 * SECOND)), "announced once");
        let ready = start + 120 * SECOND;
        let first: Vec<bool> = (0..50).map(|_| deleted(ready).0).collect();
        assert_eq!(first.iter().filter(|is_deleted| **is_deleted).count(), 5, "10 % of 50 namespaces");
        assert_eq!(deleted(ready).2, Some(ready + 60 * SECOND));
        let second = (0..50).filter(|_| deleted(ready + 60 * SECOND).0).count();
        assert_eq!(second, 5);
        brake.clear();
        assert_eq!(brake.hold(&mut removal.clone(), 50, ready).new.len(), 1, "another folder is announced again");
        assert_eq!(brake.share(3), 1, "at least one namespace");
    }

    #[test]
    fn changes_of_users_are_not_slowed_down() {
        let mut brake = Brake::new(RemovalLimits::default());
        let steps = [
            deletion("profile.standard", Some(Layer::Profile("isolated".to_owned()))),
            deletion("access.postgres", None),
            deletion("hatch", None),
            deletion("hatch", Some(Layer::Hatch)),
        ];
        let mut plan = plan(&steps);
        let held = brake.hold(&mut plan, 1000, Instant::now());
        assert_eq!((plan.steps.len(), held.policies.len(), held.until), (4, 0, None));
    }
}
