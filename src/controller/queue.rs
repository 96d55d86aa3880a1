//! The work queue. Each key is in it once, and its backoff grows while it fails.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::limits::Limits;

/// A queue of keys, ordered by the time at which they are due.
#[derive(Debug)]
pub(super) struct Queue<K> {
    limits: Limits,
    by_time: BTreeSet<(Instant, K)>,
    records: HashMap<K, Record>,
}

/// The state of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The time at which the key is due.
    at: Option<Instant>,
    /// True while a task works on the key. No other task starts before that ends.
    busy: bool,
    /// The end of the backoff. Only requests of users are reconciled earlier.
    rest_until: Option<Instant>,
    /// The time at which the watches should have reported the last write. Requests of users wait for it too.
    settled_at: Option<Instant>,
    /// The time of a request of a user that arrived while the key was busy.
    urged: Option<Instant>,
    /// The number of consecutive failures.
    failures: u32,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, by_time: BTreeSet::new(), records: HashMap::new() }
    }

    /// Queues a key for this time, or for the end of its backoff if that is later. If the key is due earlier anyway,
    /// nothing changes.
    pub(super) fn add(&mut self, key: &K, at: Instant) {
        let rest = self.records.get(key).and_then(|record| record.rest_until);
        self.schedule(key, rest.map_or(at, |rest| at.max(rest)));
    }

    /// Queues a key for this time without backoff.
    pub(super) fn urge(&mut self, key: &K, at: Instant) {
        let record = self.records.entry(key.clone()).or_default();
        if record.busy {
            record.urged = Some(record.urged.map_or(at, |before| before.min(at)));
            return;
        }
        let at = record.settled_at.map_or(at, |settled| at.max(settled));
        self.schedule(key, at);
    }

    fn schedule(&mut self, key: &K, at: Instant) {
        let record = self.records.entry(key.clone()).or_default();
        if record.at.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = record.at.replace(at) {
            self.by_time.remove(&(before, key.clone()));
        }
        if !record.busy {
            self.by_time.insert((at, key.clone()));
        }
    }

    /// Takes the next key that is due. It is busy from now on.
    pub(super) fn take(&mut self, now: Instant) -> Option<K> {
        let (at, _) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        let record = self.records.entry(key.clone()).or_default();
        record.at = None;
        record.busy = true;
        Some(key)
    }

    /// Returns the time at which the next key is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Returns the number of keys that are due.
    pub(super) fn depth(&self, now: Instant) -> usize {
        self.by_time.iter().take_while(|(at, _)| *at <= now).count()
    }

    /// Records that the work on a key succeeded. `rest` is the backoff after a write, and `again` the time of the
    /// resync.
    pub(super) fn done(&mut self, key: &K, now: Instant, rest: Option<Duration>, again: Option<Instant>) {
        // A request of a user that changed nothing does not end the backoff.
        let before = self.records.get(key).and_then(|record| record.rest_until);
        let settled_at = rest.map(|rest| now + rest.min(self.limits.settle));
        self.end(key, Record { rest_until: rest.map(|rest| now + rest).or(before), settled_at, ..Record::default() });
        if let Some(again) = again {
            self.add(key, again);
        }
    }

    /// Records a failure, and requeues the key after a backoff. A change of the object shortens the backoff to at most
    /// 10 times `retry`.
    pub(super) fn failed(&mut self, key: &K, now: Instant) {
        let failures = self.records.get(key).map_or(1, |record| record.failures.saturating_add(1));
        let wait = self.limits.after_failures(failures);
        let rest_until = Some(now + wait.min(self.limits.retry.saturating_mul(10)));
        let settled_at = Some(now + wait.min(self.limits.retry));
        self.end(key, Record { rest_until, settled_at, failures, ..Record::default() });
        self.add(key, now + wait);
    }

    /// Returns the number of consecutive failures of a key.
    pub(super) fn failures(&self, key: &K) -> u32 {
        self.records.get(key).map_or(0, |record| record.failures)
    }

    /// Removes a key whose object is gone. A busy key stays, and so does its task.
    pub(super) fn forget(&mut self, key: &K) {
        if self.records.get(key).is_some_and(|record| !record.busy)
            && let Some(record) = self.records.remove(key)
            && let Some(at) = record.at
        {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    fn end(&mut self, key: &K, next: Record) {
        let record = self.records.entry(key.clone()).or_default();
        // Received while the key was busy.
        let (heard, urged) = (record.at.take(), record.urged.take());
        *record = next;
        if let Some(heard) = heard {
            self.add(key, heard);
        }
        if let Some(urged) = urged {
            self.urge(key, urged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue() -> (Queue<&'static str>, Instant) {
        (Queue::new(Limits::default()), Instant::now())
    }

    #[test]
    fn a_key_is_there_once_and_at_its_earliest_time() {
        let (mut queue, now) = queue();
        queue.add(&"a", now + SECOND);
        queue.add(&"a", now);
        queue.add(&"a", now + 2 * SECOND);
        queue.add(&"b", now + SECOND);
        assert_eq!(queue.depth(now), 1);
        assert_eq!(queue.take(now), Some("a"));
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next(), Some(now + SECOND));
    }

    #[test]
    fn what_is_heard_of_a_busy_key_waits_until_it_has_ended_and_rested() {
        let (mut queue, now) = queue();
        queue.add(&"a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.add(&"a", now);
        assert_eq!(queue.take(now + SECOND), None, "it is not reconciled twice at once");
        queue.done(&"a", now, Some(Limits::default().settle), Some(now + 600 * SECOND));
        assert_eq!(queue.next(), Some(now + Limits::default().settle));
        assert_eq!(queue.take(now + SECOND), Some("a"));
        queue.done(&"a", now + SECOND, None, Some(now + 600 * SECOND));
        assert_eq!(queue.next(), Some(now + 600 * SECOND), "nothing was heard, so it is the resync");
    }

    #[test]
    fn what_fails_waits_longer_and_longer_whatever_is_heard_of_it() {
        let (mut queue, now) = queue();
        let mut waits = Vec::new();
        for failures in 1..=12 {
            queue.add(&"a", now);
            let at = queue.next().unwrap();
            assert_eq!(queue.take(at), Some("a"));
            queue.failed(&"a", now);
            assert_eq!(queue.failures(&"a"), failures);
            waits.push(queue.next().unwrap() - now);
        }
        assert!(waits[0] <= SECOND && waits[4] > 5 * SECOND && waits[11] > 200 * SECOND, "{waits:?}");
        queue.add(&"a", now);
        assert_eq!(queue.next(), Some(now + 10 * Limits::default().retry), "news makes it a few seconds, and no less");
        let at = queue.next().unwrap();
        queue.take(at);
        queue.done(&"a", at, None, None);
        assert_eq!((queue.failures(&"a"), queue.next()), (0, None));
    }

    #[test]
    fn a_key_that_fails_is_reconciled_at_its_time() {
        let (mut queue, now) = queue();
        for _ in 0..13 {
            queue.add(&"a", now);
            let at = queue.next().unwrap();
            queue.take(at);
            queue.failed(&"a", now);
        }
        assert!(queue.next().unwrap() > now + 200 * SECOND);
        queue.urge(&"a", now + 20 * SECOND);
        assert_eq!(queue.next(), Some(now + 20 * SECOND));
        queue.urge(&"a", now);
        assert_eq!(queue.next(), Some(now + Limits::default().retry), "but not at once");
    }

    #[test]
    fn a_request_of_a_user_has_no_backoff() {
        let (mut queue, now) = queue();
        let settle = Limits::default().settle;
        queue.add(&"a", now);
        queue.take(now);
        queue.urge(&"a", now);
        queue.done(&"a", now, Some(30 * SECOND), Some(now + 600 * SECOND));
        assert_eq!(queue.next(), Some(now + settle), "it arrived while the key was busy");
        queue.take(now + settle);
        queue.done(&"a", now + settle, None, Some(now + 600 * SECOND));
        queue.add(&"a", now + SECOND);
        assert_eq!(queue.next(), Some(now + 30 * SECOND), "other news waits for the end of the backoff");
        queue.urge(&"a", now + 2 * SECOND);
        assert_eq!(queue.next(), Some(now + 2 * SECOND), "a request does not");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut queue, now) = queue();
        queue.add(&"a", now);
        queue.forget(&"a");
        assert_eq!((queue.take(now), queue.next()), (None, None));
    }
}
