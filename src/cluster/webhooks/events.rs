//! Events about webhook configurations and their pause.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Maximum time of one Event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes one Event about a cluster-scoped object. A failure is logged.
pub(super) async fn publish(
    client: &Client,
    identity: &str,
    (kind, name, uid): (&str, &str, Option<String>),
    type_: EventType,
    reason: &'static str,
    note: String,
) {
    let api_version = if kind == "Namespace" { "v1" } else { "admissionregistration.k8s.io/v1" };
    let reference = ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid: uid.filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    };
    let event =
        Event { type_, reason: reason.to_owned(), note: Some(note), action: "Reconcile".to_owned(), secondary: None };
    // A recorder counts repeated Events and keeps the first note, so each note has a recorder of its own.
    let reporter = Reporter { controller: "portcullis".to_owned(), instance: Some(identity.to_owned()) };
    let recorder = Recorder::new(client.clone(), reporter);
    match tokio::time::timeout(EVENT_TIMEOUT, recorder.publish(&event, &reference)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(reason, %error, "failed to write an Event"),
        Err(_) => tracing::warn!(reason, "timed out writing an Event"),
    }
}
