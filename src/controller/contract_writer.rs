//! Writes the status of contracts, and Events when a contract is broken or holds again.
//!
//! It is level-triggered, as the reconciler is: it lists the contracts, and writes each status that differs from the due
//! one. Only the replica with the Lease writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::jittered;
use super::contract_status::status;
use super::error::{is_conflict, is_missing};
use super::events::Announcer;
use super::limits::Limits;
use crate::cluster::{Cluster, Decoded, Owning, read};
use crate::contract::{Record, State, Status};
use crate::model::Body;

/// The field manager of the status.
const FIELD_MANAGER: &str = "portcullis-contracts";
/// The interval at which the stored statuses are compared without a change, with a jitter of 20 %: a contract may be
/// recreated with the same content.
const RESYNC: Duration = Duration::from_secs(60);
/// Maximum time for one comparison with its writes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of contracts per page of a list.
const PAGE: u32 = 500;

/// The writer of the statuses of contracts.
pub(crate) struct ContractWriter {
    cluster: Cluster,
    /// The namespace of Portcullis. It gets the Events of contracts from files.
    namespace: String,
    announcer: Announcer,
    /// The last reported states of contracts from files.
    reported: BTreeMap<Box<str>, &'static str>,
}

impl ContractWriter {
    /// Creates a writer for a replica with this identity, in the namespace of Portcullis.
    #[must_use]
    pub(crate) fn new(cluster: Cluster, namespace: String, identity: &str) -> Self {
        let announcer = Announcer::new(cluster.client.clone(), identity);
        Self { cluster, namespace, announcer, reported: BTreeMap::new() }
    }

    /// Writes statuses while this replica leads, until `end` is cancelled.
    pub(crate) async fn run(
        mut self,
        mut records: watch::Receiver<Arc<[Record]>>,
        mut leads: watch::Receiver<bool>,
        end: CancellationToken,
    ) {
        let (limits, mut failures) = (Limits::default(), 0);
        while !end.is_cancelled() {
            if !*leads.borrow_and_update() {
                self.reported.clear();
                match end.run_until_cancelled(leads.changed()).await {
                    Some(Ok(())) => continue,
                    _ => break,
                }
            }
            let due = Arc::clone(&records.borrow_and_update());
            let written = tokio::select! {
                () = end.cancelled() => break,
                lost = leads.wait_for(|leads| !leads) => if lost.is_ok() { continue } else { break },
                written = timeout(PATIENCE, self.reconcile(&due)) => written,
            };
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("timed out".to_owned()),
            };
            failures = if error.is_some() { failures + 1 } else { 0 };
            let pause = match error {
                None => jittered(RESYNC),
                Some(error) => {
                    tracing::warn!(error, "failed to write the status of contracts");
                    limits.after_failures(failures)
                }
            };
            let goes_on = tokio::select! {
                () = end.cancelled() => break,
                changed = records.changed(), if failures == 0 => changed.is_ok(),
                changed = leads.changed() => changed.is_ok(),
                () = sleep(pause) => true,
            };
            if !goes_on {
                break;
            }
        }
        // A task on which this one depends has ended early. It reports that itself.
        end.cancelled().await;
    }

    /// Brings the statuses up to date, and reports contracts from files.
    async fn reconcile(&mut self, records: &[Record]) -> kube::Result<()> {
        self.report_files(records).await;
        let served = self.cluster.served.load_full();
        let Some(resource) = served.find("portcullis.dev", "Contract") else { return Ok(()) };
        let objects: BTreeMap<&str, &Record> =
            records.iter().filter(|record| record.is_object).map(|record| (&*record.name, record)).collect();
        if objects.is_empty() {
            return Ok(());
        }
        let api: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), resource);
        let mut page = ListParams::default().limit(PAGE);
        let mut failed = Ok(());
        loop {
            let list = api.list(&page).await?;
            for object in &list.items {
                let Some(record) = objects.get(&*object.name_any()) else { continue };
                if is_of(record, object, resource)
                    && let Err(error) = self.write(&api, resource, object, record).await
                {
                    failed = Err(error);
                }
            }
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                return failed;
            }
        }
    }

    /// Writes the status of a contract if it differs from the stored one.
    async fn write(
        &self,
        api: &Api<DynamicObject>,
        resource: &ApiResource,
        object: &DynamicObject,
        record: &Record,
    ) -> kube::Result<()> {
        let stored = object.data.get("status").unwrap_or(&Value::Null);
        let new = status(record, stored, object.metadata.generation, Timestamp::now());
        if *stored == new {
            return Ok(());
        }
        let name = object.name_any();
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // The UID rejects the write if the contract was recreated.
            "metadata": {"name": name, "uid": object.metadata.uid},
            "status": new,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            // Deleted or recreated meanwhile, which the watch reports.
            Err(error) if is_conflict(&error) => return Ok(()),
            Err(error) if is_missing(&error) => {
                tracing::warn!(
                    contract = name, %error,
                    "cannot write the status of a contract; it was deleted, or its CustomResourceDefinition is of an \
                     older version of Portcullis"
                );
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let about = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            name: Some(name),
            uid: object.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        if let Some((is_warning, reason, note)) = news(record, stored["state"].as_str()) {
            self.announcer.say_about(about, is_warning, reason, note).await;
        }
        Ok(())
    }

    /// Reports contracts from files by Events on the namespace of Portcullis.
    async fn report_files(&mut self, records: &[Record]) {
        let mut reported = BTreeMap::new();
        for record in records.iter().filter(|record| !record.is_object) {
            if let Some((is_warning, reason, note)) = news(record, self.reported.get(&record.name).copied()) {
                let note = format!("contract {}: {note}", record.name);
                self.announcer.say(&self.namespace, "", is_warning, reason, note).await;
            }
            reported.insert(record.name.clone(), record.state.name());
        }
        self.reported = reported;
    }
}

/// Returns true if the state is that of the object as it is stored now.
fn is_of(record: &Record, object: &DynamicObject, resource: &ApiResource) -> bool {
    let Ok(arriving) = serde_json::to_string(object).and_then(|json| serde_json::from_str(&json)) else { return false };
    match (read(resource, &Owning::default(), &arriving), &record.state) {
        (Decoded::Read { object, .. }, State::Verified(contract, _)) => {
            matches!(&object.body, Body::Contract(stored) if *stored == **contract)
        }
        (Decoded::Unreadable { why, .. }, State::Invalid(known)) => *why == **known,
        _ => false,
    }
}

/// Returns the Event about a new state: whether it is a warning, the reason and the note.
fn news(record: &Record, before: Option<&str>) -> Option<(bool, &'static str, String)> {
    if before == Some(record.state.name()) {
        return None;
    }
    match &record.state {
        State::Verified(contract, Status::Broken(found)) => {
            let changed =
                record.broken_by.as_ref().map(|object| format!("; broken by a change of {object}")).unwrap_or_default();
            Some((true, "ContractBroken", format!("{}, because {}{changed}", found.sentence(contract), found.why())))
        }
        State::Verified(_, Status::Holds) if before == Some("Broken") => {
            Some((false, "ContractHolds", "the contract holds again".to_owned()))
        }
        State::Invalid(why) => Some((true, "ContractInvalid", format!("the contract is not in force: {why}"))),
        State::Verified(..) => None,
    }
}
