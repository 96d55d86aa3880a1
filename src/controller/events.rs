//! Events on namespaces and contracts, with a rate limit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::baseline::truncate_note;

/// Maximum number of Events with one reason that an object gets at once.
const BURST: f64 = 5.0;
/// The time after which one more Event is allowed.
const REFILL: Duration = Duration::from_secs(120);
/// Number of pairs of object and reason from which on unused ones are dropped.
const REMEMBERED: usize = 4096;
/// Maximum time for writing an Event. The work does not wait longer for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A writer of Events.
pub(super) struct Announcer {
    client: Client,
    reporter: Reporter,
    buckets: Mutex<Buckets<Recorder>>,
}

/// The rate limit and the last note of each pair of object and reason.
#[derive(Debug)]
struct Buckets<R>(HashMap<(String, &'static str), Bucket<R>>);

#[derive(Debug)]
struct Bucket<R> {
    left: f64,
    at: Instant,
    /// The last note and its recorder. A recorder counts repetitions, but does not notice that a note differs from the
    /// last.
    said: Option<(String, R)>,
}

impl<R> Default for Buckets<R> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl Announcer {
    pub(super) fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: "portcullis".into(), instance: Some(identity.to_owned()) };
        Self { client, reporter, buckets: Mutex::default() }
    }

    /// Writes an Event on a namespace, unless the rate limit is exceeded.
    pub(super) async fn say(&self, namespace: &str, uid: &str, is_warning: bool, reason: &'static str, note: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.to_owned()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        self.say_about(about, is_warning, reason, note).await;
    }

    /// Writes an Event on an object, unless the rate limit is exceeded.
    pub(super) async fn say_about(&self, about: ObjectReference, is_warning: bool, reason: &'static str, note: String) {
        let note = truncate_note(note);
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let object = format!("{} {}", name(&about.kind), name(&about.name));
        let recorder = {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let recorder = || Recorder::new(self.client.clone(), self.reporter.clone());
            buckets.take(&object, reason, &note, Instant::now(), recorder)
        };
        let Some(recorder) = recorder else { return };
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        match tokio::time::timeout(PATIENCE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(object, reason, %error, "failed to write an Event"),
            Err(_) => tracing::warn!(object, reason, "timed out writing an Event"),
        }
    }
}

impl<R: Clone> Buckets<R> {
    /// Returns the recorder for an Event, unless the rate limit is exceeded. A repeated note gets the recorder that
    /// wrote it last.
    fn take(
        &mut self,
        object: &str,
        reason: &'static str,
        note: &str,
        now: Instant,
        new: impl FnOnce() -> R,
    ) -> Option<R> {
        let left = |bucket: &Bucket<R>| {
            let gained = now.saturating_duration_since(bucket.at).as_secs_f64() / REFILL.as_secs_f64();
            BURST.min(bucket.left + gained)
        };
        if self.0.len() >= REMEMBERED {
            // A full bucket has no effect.
            self.0.retain(|_, bucket| left(bucket) < BURST);
        }
        let bucket = self.0.entry((object.to_owned(), reason));
        let bucket = bucket.or_insert_with(|| Bucket { left: BURST, at: now, said: None });
        (bucket.left, bucket.at) = (left(bucket), now);
        if bucket.left < 1.0 {
            return None;
        }
        bucket.left -= 1.0;
        let same = bucket.said.take().filter(|(said, _)| said == note);
        let (_, who) = bucket.said.insert(same.unwrap_or_else(|| (note.to_owned(), new())));
        Some(who.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_gets_a_few_of_each_and_then_one_at_a_time() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        let mut take =
            |namespace: &str, reason, now: Instant| buckets.take(namespace, reason, "note", now, || ()).is_some();
        assert_eq!((0..20).filter(|_| take("shop", "A", start)).count(), 5);
        assert!(take("shop", "B", start) && take("other", "A", start));
        assert!(!take("shop", "A", start + REFILL / 2));
        assert!(take("shop", "A", start + REFILL));
        assert!(!take("shop", "A", start + REFILL));
    }

    #[test]
    fn another_note_is_another_event() {
        let (mut buckets, now, mut made) = (Buckets::default(), Instant::now(), 0..);
        let mut take = |note: &str| buckets.take("shop", "A", note, now, || made.next().unwrap_or(0));
        let who = ["one", "one", "other", "one"].map(|note| take(note).unwrap_or(99));
        assert_eq!(who, [0, 0, 1, 2]);
    }
}
