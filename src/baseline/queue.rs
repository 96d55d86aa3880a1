//! What there is to look at, and when: each key once, with waits that grow while it fails.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::pace::Pace;

/// Keys, by the time at which they are to be looked at.
#[derive(Debug)]
pub(super) struct Queue<K> {
    pace: Pace,
    by_time: BTreeSet<(Instant, K)>,
    records: HashMap<K, Record>,
}

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// When it is to be looked at.
    at: Option<Instant>,
    /// Whether somebody is working on it. Nobody else begins before they end.
    busy: bool,
    /// The end of the backoff. Only requests of users are reconciled before.
    rest_until: Option<Instant>,
    /// The time at which the watches should have reported the last write. Requests of users wait for it too.
    settled_at: Option<Instant>,
    /// The time of a request of a user that arrived while the key was busy.
    urged: Option<Instant>,
    /// How often in a row it failed.
    failures: u32,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, by_time: BTreeSet::new(), records: HashMap::new() }
    }

    /// Has a key looked at at this time, or when it has rested, unless that is to be earlier anyway.
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

    /// The next key whose time has come. It is busy from now on.
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

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// How many keys wait whose time has come.
    pub(super) fn depth(&self, now: Instant) -> usize {
        self.by_time.iter().take_while(|(at, _)| *at <= now).count()
    }

    /// Work on a key has ended well. It rests for so long if anything was written, and is looked at again at this time.
    pub(super) fn done(&mut self, key: &K, now: Instant, rest: Option<Duration>, again: Option<Instant>) {
        // A request of a user that changed nothing does not end the backoff.
        let before = self.records.get(key).and_then(|record| record.rest_until);
        let settled_at = rest.map(|rest| now + rest.min(self.pace.settle));
        self.end(key, Record { rest_until: rest.map(|rest| now + rest).or(before), settled_at, ..Record::default() });
        if let Some(again) = again {
            self.add(key, again);
        }
    }

    /// Records a failure. The key is retried after a backoff, which news of it limits to a few seconds.
    pub(super) fn failed(&mut self, key: &K, now: Instant) {
        let failures = self.records.get(key).map_or(1, |record| record.failures.saturating_add(1));
        let wait = self.pace.after_failures(failures);
        let rest_until = Some(now + wait.min(self.pace.retry.saturating_mul(10)));
        let settled_at = Some(now + wait.min(self.pace.retry));
        self.end(key, Record { rest_until, settled_at, failures, ..Record::default() });
        self.add(key, now + wait);
    }

    /// How often in a row a key failed.
    pub(super) fn failures(&self, key: &K) -> u32 {
        self.records.get(key).map_or(0, |record| record.failures)
    }

    /// There is no such key any more. What is being done for it goes on.
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
        (Queue::new(Pace::default()), Instant::now())
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
        assert_eq!(queue.take(now + SECOND), None, "nobody works on it twice at once");
        queue.done(&"a", now, Some(Pace::default().settle), Some(now + 600 * SECOND));
        assert_eq!(queue.next(), Some(now + Pace::default().settle));
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
        assert_eq!(queue.next(), Some(now + 10 * Pace::default().retry), "news makes it a few seconds, and no less");
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
        assert_eq!(queue.next(), Some(now + Pace::default().retry), "but not at once");
    }

    #[test]
    fn a_request_of_a_user_has_no_backoff() {
        let (mut queue, now) = queue();
        let settle = Pace::default().settle;
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
