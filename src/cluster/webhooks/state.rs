//! The state of one webhook configuration, and since when it has differed.

use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use serde_json::Value;

use super::difference::difference;

/// The result of one comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Same,
    Missing {
        failure: Option<String>,
    },
    Different {
        difference: String,
        failure: Option<String>,
    },
    /// The comparison failed.
    Unknown(String),
}

impl Status {
    pub(super) fn of(wanted: &Value, found: Option<&DynamicObject>) -> Self {
        let Some(found) = found else { return Self::Missing { failure: None } };
        match difference(wanted, &found.data) {
            Some(difference) => Self::Different { difference, failure: None },
            None => Self::Same,
        }
    }

    /// Returns the same difference, with the reason why writing it failed.
    pub(super) fn with_failure(self, why: &str) -> Self {
        let failure = Some(why.to_owned());
        match self {
            Self::Missing { .. } => Self::Missing { failure },
            Self::Different { difference, .. } => Self::Different { difference, failure },
            other => other,
        }
    }

    /// Returns the difference as the rest of a sentence about the configuration.
    pub(super) fn difference(&self) -> Option<String> {
        let (difference, failure) = match self {
            Self::Same | Self::Unknown(_) => return None,
            Self::Missing { failure } => ("is missing".to_owned(), failure),
            Self::Different { difference, failure } => {
                (format!("differs from the configuration in force: {difference}"), failure)
            }
        };
        Some(match failure {
            Some(why) => format!("{difference}; the write failed: {why}"),
            None => difference,
        })
    }
}

/// A status over time.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    /// None before the first check.
    status: Option<Status>,
    /// The time since which the configuration has differed. A failed check does not reset it.
    since: Option<Instant>,
    /// The object, for messages.
    object: String,
}

impl Tracked {
    /// Sets the status. Logs a change, and returns true if there is one.
    pub(super) fn set(&mut self, status: Status, kind: &str, name: &str) -> bool {
        self.object = format!("{kind} {name}");
        match status {
            Status::Same => self.since = None,
            Status::Missing { .. } | Status::Different { .. } => drop(self.since.get_or_insert_with(Instant::now)),
            Status::Unknown(_) => {}
        }
        if self.status.as_ref() == Some(&status) {
            return false;
        }
        match (&status, status.difference()) {
            (_, Some(difference)) => {
                tracing::warn!(configuration = kind, name, difference, "the webhook configuration differs");
            }
            (Status::Unknown(why), _) => tracing::warn!(why, "failed to compare the webhook configuration"),
            _ if self.status.is_some() => {
                tracing::info!(
                    configuration = kind,
                    name,
                    "the webhook configuration matches the configuration in force"
                );
            }
            _ => {}
        }
        self.status = Some(status);
        true
    }

    pub(super) fn difference(&self) -> Option<String> {
        self.status.as_ref().and_then(Status::difference)
    }

    /// Returns the reason why the last write failed.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.status {
            Some(Status::Missing { failure } | Status::Different { failure, .. }) => failure.clone(),
            _ => None,
        }
    }

    /// Returns the value of the label `state`.
    pub(super) fn word(&self) -> &'static str {
        match &self.status {
            Some(Status::Same) => "ok",
            Some(Status::Missing { .. }) => "missing",
            Some(Status::Different { .. }) => "different",
            Some(Status::Unknown(_)) | None => "unknown",
        }
    }

    /// Returns the time for which the configuration has differed, or zero if it does not differ.
    pub(super) fn age(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed().max(Duration::from_nanos(1)))
    }

    fn line(&self) -> Option<String> {
        let age = || format!(" (for {} s)", self.age().as_secs());
        match &self.status {
            None => Some("not compared yet".to_owned()),
            Some(Status::Unknown(why)) => Some(format!("unknown: {why}")),
            Some(status) => status.difference().map(|difference| format!("{} {difference}{}", self.object, age())),
        }
    }
}

/// A pause of writes over time.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) reason: String,
    pub(super) since: Instant,
    /// True if an Event has reported the pause.
    pub(super) is_announced: bool,
}

/// Formats the status of both configurations in one line, for `/readyz`.
pub(super) fn status_line(both: [&Tracked; 2], paused: Option<&Paused>) -> String {
    let pause =
        paused.map(|Paused { reason, since, .. }| format!("paused for {} s: {reason}", since.elapsed().as_secs()));
    let mut parts: Vec<String> = pause.into_iter().collect();
    for line in both.iter().filter_map(|tracked| tracked.line()) {
        if !parts.contains(&line) {
            parts.push(line);
        }
    }
    if parts.is_empty() { "ok".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "ValidatingWebhookConfiguration";

    fn missing() -> Status {
        Status::Missing { failure: None }
    }

    #[test]
    fn a_change_is_reported_once_and_a_failed_check_does_not_end_a_difference() {
        let mut tracked = Tracked::default();
        assert_eq!(tracked.word(), "unknown");
        assert!(tracked.set(Status::Same, KIND, "portcullis"));
        assert_eq!((tracked.word(), tracked.age()), ("ok", Duration::ZERO));
        assert!(tracked.set(missing(), KIND, "portcullis"));
        let since = tracked.since.unwrap();
        assert!(!tracked.set(missing(), KIND, "portcullis"));
        assert!(tracked.set(Status::Unknown("no answer".to_owned()), KIND, "portcullis"));
        assert_eq!((tracked.word(), tracked.since), ("unknown", Some(since)));
        assert!(tracked.set(missing().with_failure("forbidden"), KIND, "portcullis"));
        assert_eq!((tracked.word(), tracked.since), ("missing", Some(since)));
        assert!(tracked.age() > Duration::ZERO);
        assert_eq!(tracked.difference().unwrap(), "is missing; the write failed: forbidden");
        assert!(tracked.set(Status::Same, KIND, "portcullis"));
        assert_eq!(tracked.age(), Duration::ZERO);
    }

    #[test]
    fn the_line_names_what_differs_and_for_how_long() {
        let (mut first, mut second) = (Tracked::default(), Tracked::default());
        assert_eq!(status_line([&first, &second], None), "not compared yet");
        first.set(Status::Same, KIND, "portcullis");
        second.set(Status::Same, KIND, "portcullis");
        assert_eq!(status_line([&first, &second], None), "ok");
        first.set(missing(), KIND, "portcullis");
        first.since = Instant::now().checked_sub(Duration::from_secs(12));
        let line = "ValidatingWebhookConfiguration portcullis is missing (for 12 s)";
        assert_eq!(status_line([&first, &second], None), line);
        let since = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
        let paused = Paused { reason: "INC-1234".to_owned(), since, is_announced: true };
        assert_eq!(status_line([&first, &second], Some(&paused)), format!("paused for 90 s: INC-1234; {line}"));
        let unknown = Status::Unknown("no answer".to_owned());
        first.set(unknown.clone(), KIND, "portcullis");
        second.set(unknown, KIND, "portcullis");
        assert_eq!(status_line([&first, &second], None), "unknown: no answer", "both fail for the same reason");
    }
}
