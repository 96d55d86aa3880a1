//! Write conflicts: writes that another client keeps reverting.

use std::time::{Duration, Instant};

use super::limits::Limits;
use crate::baseline::{Catalogue, Step};
use crate::model::ObjectRef;

/// Number of times that a write has to be reverted before the conflict is reported.
pub(super) const REPORTED_AFTER: u32 = 4;
/// Minimum time for which a write is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// One write of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// A policy was applied, in the version with this digest.
    Applied(ObjectRef, u64),
    /// A policy was deleted.
    Deleted(ObjectRef),
    /// An open hatch was recorded on the namespace.
    Opened,
    /// A hatch was closed on the namespace.
    Closed,
    /// The status of the namespace was written.
    Marked(String),
}

impl Write {
    /// Returns true if a later write of the controller itself replaced this one. Repeating the write after that is no
    /// sign of a conflict, because no other client reverted it.
    fn is_replaced_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Applied(object, _), Self::Deleted(other)) => object.is_same_object(other),
            // The endpoints of the API server changed.
            (Self::Applied(object, version), Self::Applied(other, later)) => {
                version != later && object.is_same_object(other)
            }
            (Self::Opened, Self::Closed) | (Self::Closed, Self::Opened) => true,
            (Self::Marked(status), Self::Marked(other)) => status != other,
            _ => false,
        }
    }
}

/// The writes of these steps. Gates are left out, because pods with gates arrive all the time.
pub(super) fn writes(catalogue: &Catalogue, namespace: Option<&str>, steps: &[Step]) -> Vec<Write> {
    let write = |step: &Step| match step {
        Step::Apply(position) => {
            let entry = catalogue.entries().get(*position)?;
            let object = ObjectRef { namespace: namespace.map(Into::into), ..entry.id.clone() };
            Some(Write::Applied(object, entry.digest()))
        }
        Step::Delete { owned, .. } => Some(Write::Deleted(owned.object.clone())),
        Step::OpenHatch { .. } => Some(Write::Opened),
        Step::CloseHatch => Some(Write::Closed),
        Step::Mark { status, .. } => Some(Write::Marked(status.clone())),
        Step::LiftGates(_) => None,
    };
    steps.iter().filter_map(write).collect()
}

/// The recent writes of one key.
#[derive(Debug, Default)]
pub(super) struct WriteConflicts {
    /// The UID of the namespace.
    uid: Box<str>,
    written: Vec<Written>,
    /// The conflict as the status reports it.
    pub(super) report: Option<String>,
}

/// A recent write.
#[derive(Debug)]
struct Written {
    write: Write,
    /// The time of the last repetition.
    at: Instant,
    /// The number of repetitions.
    times: u32,
}

impl WriteConflicts {
    /// Records these writes. Returns the highest number of times that one of them was reverted.
    pub(super) fn record(&mut self, uid: &str, writes: &[Write], now: Instant, limits: &Limits) -> u32 {
        if *self.uid != *uid {
            // The controller has to write everything again in a recreated namespace.
            *self = Self { uid: uid.into(), ..Self::default() };
        }
        self.forget(now, limits);
        let mut most = 0;
        for write in writes {
            self.written.retain(|known| !known.write.is_replaced_by(write));
            if matches!(write, Write::Deleted(_)) {
                continue;
            }
            match self.written.iter_mut().find(|known| known.write == *write) {
                Some(known) => {
                    known.times = known.times.saturating_add(1);
                    known.at = now;
                    most = most.max(known.times);
                }
                None => self.written.push(Written { write: write.clone(), at: now, times: 0 }),
            }
        }
        most
    }

    /// Returns the writes among these that were reverted so often that repeating them is reported as a conflict.
    pub(super) fn reported<'a>(&self, uid: &str, writes: &'a [Write]) -> Vec<&'a Write> {
        let is_reported = |write: &&Write| {
            let mut known = self.written.iter().filter(|known| known.times.saturating_add(1) >= REPORTED_AFTER);
            known.any(|known| known.write == **write)
        };
        if *self.uid == *uid { writes.iter().filter(is_reported).collect() } else { Vec::new() }
    }

    /// Forgets writes that were not reverted. Returns true if no write is left.
    pub(super) fn forget(&mut self, now: Instant, limits: &Limits) -> bool {
        let remembered = Self::remembered(limits);
        self.written.retain(|known| now.saturating_duration_since(known.at) < remembered);
        if !self.written.iter().any(Written::is_conflict) {
            self.report = None;
        }
        self.written.is_empty()
    }

    /// Returns the time at which the conflict counts as over, if no write is reverted until then.
    pub(super) fn over_at(&self, limits: &Limits) -> Option<Instant> {
        let contested = self.written.iter().filter(|known| known.is_conflict());
        contested.map(|known| known.at + Self::remembered(limits)).max().filter(|_| self.report.is_some())
    }

    /// Returns how long a write is remembered. That exceeds the longest backoff, or a conflict would start over each
    /// time.
    fn remembered(limits: &Limits) -> Duration {
        REMEMBERED.max(limits.most_rest().saturating_mul(3))
    }
}

impl Written {
    fn is_conflict(&self) -> bool {
        self.times >= REPORTED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn object(name: &str) -> ObjectRef {
        ObjectRef {
            api_version: "networking.k8s.io/v1".into(),
            kind: "NetworkPolicy".into(),
            namespace: Some("shop".into()),
            name: name.into(),
        }
    }

    fn applied(name: &str) -> Write {
        Write::Applied(object(name), 0)
    }

    fn deleted(name: &str) -> Write {
        Write::Deleted(object(name))
    }

    fn marked(status: &str) -> Write {
        Write::Marked(status.to_owned())
    }

    #[test]
    fn repeated_writes_count() {
        let (mut conflicts, limits, start) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let mut record =
            |writes: &[Write], seconds: u32| conflicts.record("u", writes, start + seconds * SECOND, &limits);
        assert_eq!(record(&[applied("a"), marked("x")], 0), 0);
        assert_eq!(record(&[applied("b")], 1), 0, "another policy");
        assert_eq!(record(&[applied("a"), applied("c")], 2), 1);
        assert_eq!(record(&[applied("b")], 3), 1, "each write has its own count");
        assert_eq!(record(&[applied("a"), applied("d")], 40), 2);
        assert_eq!(record(&[applied("a")], 1000), 0, "it stayed for a long time");
        assert!(!conflicts.forget(start + 1001 * SECOND, &limits) && conflicts.forget(start + 2000 * SECOND, &limits));
    }

    #[test]
    fn requested_changes_are_no_conflict() {
        let (mut conflicts, limits, now) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let open = [applied("hatch"), Write::Opened, marked("hatch open")];
        let close = [deleted("hatch"), Write::Closed, marked("applied")];
        for _ in 0..10 {
            assert_eq!(conflicts.record("u", &open, now, &limits), 0, "opened again after it was closed");
            assert!(conflicts.reported("u", &close).is_empty());
            assert_eq!(conflicts.record("u", &close, now, &limits), 0);
        }
        let (standard, isolated) = ([applied("out"), deleted("none")], [applied("none"), deleted("out")]);
        let times =
            [&standard, &isolated].repeat(5).into_iter().map(|writes| conflicts.record("u", writes, now, &limits));
        assert_eq!(times.max(), Some(0), "the profile goes back and forth");
    }

    #[test]
    fn another_version_of_a_policy_is_no_conflict() {
        let (mut conflicts, limits, now) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let version = |version: u64| [Write::Applied(object("a"), version)];
        let times = [1, 2, 1, 2, 1, 2].map(|number| conflicts.record("u", &version(number), now, &limits));
        assert_eq!(times, [0; 6], "the endpoints of the API server go back and forth");
        assert_eq!(conflicts.record("u", &version(2), now, &limits), 1, "another writer reverted it");
    }

    #[test]
    fn a_hatch_label_that_returns_after_its_end_is_a_conflict() {
        let (mut conflicts, limits, now) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let times = [(); 5].map(|()| conflicts.record("u", &[Write::Closed], now, &limits));
        assert_eq!(times, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_conflict_is_reported_with_the_writes_it_is_about() {
        let (mut conflicts, limits, now) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let writes = [applied("a"), marked("x")];
        for times in 0..REPORTED_AFTER {
            assert_eq!(conflicts.reported("u", &writes).len(), 0, "after {times} writes");
            conflicts.record("u", &[applied("a")], now, &limits);
        }
        assert_eq!(conflicts.reported("u", &writes), [&writes[0]]);
        assert!(conflicts.reported("other", &writes).is_empty(), "the namespace was recreated");
        assert_eq!(conflicts.over_at(&limits), None, "not reported yet");
        assert_eq!(conflicts.record("u", &writes, now, &limits), REPORTED_AFTER);
        conflicts.report = Some("contested".to_owned());
        assert!(conflicts.over_at(&limits).is_some_and(|at| at > now));
        conflicts.record("u", &[applied("b")], now, &limits);
        assert!(conflicts.report.is_some(), "another write changes nothing");
        assert!(conflicts.forget(now + 1000 * SECOND, &limits) && conflicts.report.is_none(), "it is over");
    }

    #[test]
    fn a_recreated_namespace_is_no_conflict() {
        let (mut conflicts, limits, now) = (WriteConflicts::default(), Limits::default(), Instant::now());
        let times = ["1", "1", "2", "3"].map(|uid| conflicts.record(uid, &[applied("a")], now, &limits));
        assert_eq!(times, [0, 1, 0, 0]);
    }
}
