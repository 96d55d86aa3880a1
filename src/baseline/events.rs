//! Events on namespaces, a few at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// How many Events of one kind a namespace gets at once.
const BURST: f64 = 5.0;
/// How long it takes until there may be one more.
const REFILL: Duration = Duration::from_secs(120);
/// How many pairs of namespace and reason are remembered at least.
const REMEMBERED: usize = 4096;
/// How long an Event may take. It is not worth waiting for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes Events.
pub(super) struct Announcer {
    recorder: Recorder,
    buckets: Mutex<Buckets>,
}

/// What is left of each allowance.
#[derive(Debug, Default)]
struct Buckets(HashMap<(String, &'static str), (f64, Instant)>);

impl Announcer {
    pub(super) fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: "portcullis".into(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), buckets: Mutex::default() }
    }

    /// Says something about a namespace, unless that was said often of late.
    pub(super) async fn say(&self, namespace: &str, uid: &str, is_warning: bool, reason: &'static str, note: String) {
        {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            if !buckets.take(namespace, reason, Instant::now()) {
                return;
            }
        }
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.to_owned()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        match tokio::time::timeout(PATIENCE, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(namespace, reason, %error, "an Event could not be written"),
            Err(_) => tracing::warn!(namespace, reason, "an Event could not be written in time"),
        }
    }
}

impl Buckets {
    /// Whether there may be one more now.
    fn take(&mut self, namespace: &str, reason: &'static str, now: Instant) -> bool {
        let left = |(left, at): (f64, Instant)| {
            BURST.min(left + now.saturating_duration_since(at).as_secs_f64() / REFILL.as_secs_f64())
        };
        if self.0.len() >= REMEMBERED {
            // Those that are full again say nothing.
            self.0.retain(|_, bucket| left(*bucket) < BURST);
        }
        let bucket = self.0.entry((namespace.to_owned(), reason)).or_insert((BURST, now));
        let left = left(*bucket);
        let may = left >= 1.0;
        *bucket = (if may { left - 1.0 } else { left }, now);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_gets_a_few_of_each_and_then_one_at_a_time() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        let said = (0..20).filter(|_| buckets.take("shop", "A", start)).count();
        assert_eq!(said, 5);
        assert!(buckets.take("shop", "B", start) && buckets.take("other", "A", start));
        assert!(!buckets.take("shop", "A", start + REFILL / 2));
        assert!(buckets.take("shop", "A", start + REFILL));
        assert!(!buckets.take("shop", "A", start + REFILL));
    }
}
