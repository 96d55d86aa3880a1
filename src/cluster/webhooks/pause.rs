//! The annotation that stops Portcullis from writing its webhook configurations, and the namespace that carries it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;

use crate::cluster::managed_fields::{Owned, written};

/// The annotation of the namespace of Portcullis; its value is the reason. The domain is fixed, so the command stays the
/// same whatever `labelDomain` is.
pub const PAUSE_ANNOTATION: &str = "portcullis.dev/webhooks-paused";

/// Maximum length of a reason in Events and `/readyz`; the rest is cut off.
const MAX_REASON_CHARS: usize = 200;

/// The parts of the namespace of Portcullis that writes depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) uid: String,
    /// True if the namespace is being deleted, which uninstalls Portcullis.
    pub(super) is_ending: bool,
    pub(super) pause: Option<Pause>,
}

/// A pause of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) reason: String,
    /// The time of the last write by the field manager that owns the annotation.
    pub(super) since: Option<Timestamp>,
}

impl Home {
    pub(super) fn of(namespace: &Namespace) -> Self {
        Self {
            uid: namespace.uid().unwrap_or_default(),
            is_ending: namespace.metadata.deletion_timestamp.is_some(),
            pause: namespace.annotations().get(PAUSE_ANNOTATION).map(|reason| {
                let reason = if reason.trim().is_empty() { "no reason given" } else { reason.trim() };
                let since = written(namespace, Owned::Annotation(PAUSE_ANNOTATION));
                Pause { reason: reason.chars().take(MAX_REASON_CHARS).collect(), since }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn home(metadata: &Value) -> Home {
        Home::of(&serde_json::from_value(json!({"metadata": metadata})).unwrap())
    }

    #[test]
    fn the_annotation_pauses_and_its_owner_tells_since_when() {
        assert_eq!(home(&json!({"uid": "u"})), Home { uid: "u".to_owned(), is_ending: false, pause: None });
        let fields = json!([
            {"manager": "kubectl-create", "time": "2026-11-01T00:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
            {"manager": "kubectl-annotate", "time": "2026-11-21T11:30:00Z",
             "fieldsV1": {"f:metadata": {"f:annotations": {"f:portcullis.dev/webhooks-paused": {}}}}},
        ]);
        let annotations = json!({PAUSE_ANNOTATION: " INC-1234 "});
        let pause = home(&json!({"uid": "u", "annotations": annotations, "managedFields": fields})).pause.unwrap();
        assert_eq!((pause.reason.as_str(), pause.since), ("INC-1234", "2026-11-21T11:30:00Z".parse().ok()));
    }

    #[test]
    fn a_pause_needs_no_reason_to_hold() {
        let pause = home(&json!({"annotations": {PAUSE_ANNOTATION: ""}})).pause.unwrap();
        assert_eq!((pause.reason.as_str(), pause.since), ("no reason given", None));
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_ending() {
        assert!(home(&json!({"deletionTimestamp": "2026-11-21T11:30:00Z"})).is_ending);
    }
}
