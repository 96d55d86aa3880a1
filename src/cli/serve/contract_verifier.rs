//! The part of `portcullis serve` that verifies contracts in the background, in every replica.
//!
//! **Limits**: one round at a time, at most one a second, and a pause of nine times its duration after each, so at most
//! a tenth of one core; its thread has the priority of expensive requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::tasks::Tasks;
use crate::admission::Knowledge;
use crate::contract::{Ledger, Record, State, Status};
use crate::server::{Shared, lower_priority};

/// Minimum time between two rounds. Changes within it are verified together.
const EVERY: Duration = Duration::from_secs(1);
/// The pause after a round, as a multiple of its duration.
const PAUSE: u32 = 9;

/// The states of all contracts.
pub(super) type Records = Arc<[Record]>;

/// Starts the verifier. Returns the receiver of the states.
pub(super) fn start(shared: &Arc<Shared>, tasks: &mut Tasks) -> watch::Receiver<Records> {
    let (sender, receiver) = watch::channel(Records::default());
    tasks.spawn("contract verifier", run(Arc::clone(shared), sender, tasks.ending()));
    receiver
}

/// Verifies contracts until `end` is cancelled, and publishes their states.
async fn run(shared: Arc<Shared>, records: watch::Sender<Records>, end: CancellationToken) {
    let mut ledger = Ledger::default();
    let mut last: Option<Arc<Knowledge>> = None;
    let (mut pause, mut waits) = (EVERY, false);
    while end.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let knowledge = shared.knowledge.load_full();
        let is_known = last.as_ref().is_some_and(|last| {
            Arc::ptr_eq(&last.view, &knowledge.view) && Arc::ptr_eq(&last.configuration, &knowledge.configuration)
        });
        if knowledge.unsynced.is_some() || is_known && !waits {
            pause = EVERY;
            continue;
        }
        let has_new_site =
            last.as_ref().is_some_and(|last| !Arc::ptr_eq(&last.configuration, &knowledge.configuration));
        let started = Instant::now();
        let Some(round) = end.run_until_cancelled(round(ledger, Arc::clone(&knowledge), has_new_site)).await else {
            return;
        };
        // Its own thread ended early. The error ends the process like that of every other task.
        let Some(round) = round else { return };
        (ledger, waits) = round;
        publish(&shared, ledger.records(), &records);
        last = Some(knowledge);
        pause = EVERY.max(started.elapsed() * PAUSE);
    }
}

/// Runs one round on a thread of its own. Returns None if the thread fails.
async fn round(mut ledger: Ledger, knowledge: Arc<Knowledge>, has_new_site: bool) -> Option<(Ledger, bool)> {
    let (done, result) = oneshot::channel();
    let spawned = thread::Builder::new().name("contracts".to_owned()).spawn(move || {
        lower_priority();
        let waits = ledger.update(&knowledge.view, &knowledge.configuration.site, has_new_site);
        let _ = done.send((ledger, waits));
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "failed to start the thread that verifies contracts");
        return None;
    }
    result.await.ok()
}

/// Publishes the states if they are new, in metrics, in the log and to the writer of statuses.
fn publish(shared: &Shared, new: Vec<Record>, records: &watch::Sender<Records>) {
    let old = Arc::clone(&records.borrow());
    if *old == *new {
        return;
    }
    let states: Vec<(&str, String)> =
        new.iter().map(|record| (&*record.name, record.state.name().to_ascii_lowercase())).collect();
    shared.metrics.contracts.states(states.iter().map(|(name, state)| (*name, &**state)));
    let known: BTreeMap<_, _> = old.iter().map(|record| ((&record.name, record.is_object), &record.state)).collect();
    for record in &new {
        let before = known.get(&(&record.name, record.is_object)).map(|state| state.name());
        if before != Some(record.state.name()) {
            log(record, before);
        }
    }
    records.send_replace(new.into());
}

/// Logs the new state of a contract.
fn log(record: &Record, before: Option<&'static str>) {
    let contract = &*record.name;
    match &record.state {
        State::Verified(verified, Status::Broken(found)) => {
            let broken_by = record.broken_by.as_ref().map(ToString::to_string);
            let (connection, because) = (found.sentence(verified), found.why());
            tracing::warn!(contract, connection, because, broken_by, "contract broken");
        }
        State::Verified(_, Status::Holds) if before.is_some() => tracing::info!(contract, "contract holds again"),
        State::Verified(_, Status::Holds) => {}
        State::Verified(_, Status::Undecided(doubt)) => {
            tracing::warn!(contract, %doubt, "cannot decide whether a contract holds");
        }
        // The watch has logged the reason.
        State::Invalid(_) => {}
    }
}
