//! The work loop. It queues the keys that the watches report as changed, and resyncs the others at intervals.

mod reconcile;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use self::reconcile::broken;
use super::brake::Brake;
use super::dry_run::DryRuns;
use super::error::Failure;
use super::executor::{DryRun, Executor};
use super::limits::Limits;
use super::progress::Progress;
use super::queue::Queue;
use super::write_conflicts::{Write, WriteConflicts};
use crate::baseline::{Catalogue, PolicySet, request};
use crate::view::{Site, View};

/// The wanted policies, and the configuration with the names of their labels.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The part of the configuration that describes the cluster.
    pub site: Arc<Site>,
    /// The policies of the policies folder.
    pub policies: Arc<PolicySet>,
}

/// A key of the queue. The cluster sorts first, because namespaces wait for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Cluster,
    Namespace(Arc<str>),
}

/// The result of the work on a key.
struct Worked {
    key: Key,
    began: Instant,
    wake: Option<Timestamp>,
    complained: bool,
    /// The writes, if they succeeded.
    writes: Vec<Write>,
    /// The conflict that these writes are part of, if it is reported.
    conflict: Option<String>,
    /// True if the plan had no steps.
    is_idle: bool,
    /// The UID of the namespace.
    uid: Box<str>,
    result: Result<(), Failure>,
}

/// The reconciler of the replica that holds the Lease.
pub(super) struct Reconciler {
    executor: Executor,
    limits: Limits,
    views: watch::Receiver<Arc<View>>,
    wanted: watch::Receiver<Wanted>,
    dry_runs: DryRuns,
    /// The time at which Portcullis was installed.
    installed: Option<Timestamp>,
    view: Arc<View>,
    queue: Queue<Key>,
    progress: Progress<Key>,
    /// The time of the last failure report of each key.
    complained: HashMap<Key, Instant>,
    /// The recent writes of each key, with the number of times that they were reverted.
    write_conflicts: HashMap<Key, WriteConflicts>,
    /// The reason why the cluster-wide policies are not in their desired state, if that lasts.
    cluster_failure: Option<Box<str>>,
    /// The cluster-wide policies of another policy set, as they were reported last.
    kept: String,
    brake: Brake,
    /// The reason why cluster-wide policies of an earlier `labelDomain` are still in use.
    held: Option<Box<str>>,
}

impl Reconciler {
    pub(super) fn new(
        executor: Executor,
        limits: Limits,
        views: watch::Receiver<Arc<View>>,
        wanted: watch::Receiver<Wanted>,
        results: mpsc::UnboundedReceiver<DryRun>,
        installed: Option<Timestamp>,
    ) -> Self {
        Self {
            progress: Progress::new(executor.metrics.clone()),
            dry_runs: DryRuns::new(executor.clone(), limits.patience, results),
            executor,
            limits,
            views,
            wanted,
            installed,
            view: Arc::default(),
            queue: Queue::new(limits),
            complained: HashMap::new(),
            write_conflicts: HashMap::new(),
            cluster_failure: None,
            kept: String::new(),
            brake: Brake::new(limits.brake),
            held: None,
        }
    }

    /// Works until `stop` is cancelled. No task outlives this call.
    pub(super) async fn work(mut self, stop: &CancellationToken) {
        let mut tasks: JoinSet<Worked> = JoinSet::new();
        let mut keys: HashMap<task::Id, Key> = HashMap::new();
        let view = Arc::clone(&self.views.borrow_and_update());
        self.observe(view);
        self.wanted.mark_changed();
        while !stop.is_cancelled() {
            self.begin(&mut tasks, &mut keys);
            let full = tasks.len() >= self.limits.at_once;
            let next = self.queue.next().filter(|_| !full);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(worked) = tasks.join_next_with_id() => {
                    let id = worked.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    match (worked, keys.remove(&id)) {
                        (Ok((_, worked)), _) => self.end(worked),
                        (Err(error), Some(key)) => self.end(broken(key, &error)),
                        (Err(_), None) => {}
                    }
                }
                is_other = self.dry_runs.changed() => {
                    if is_other {
                        // Records about another policies folder do not apply to this one.
                        self.write_conflicts.clear();
                        self.brake.clear();
                    }
                    self.queue_all();
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.wanted.mark_unchanged();
                    let catalogue = self.wanted_catalogue();
                    self.dry_runs.begin(catalogue);
                }
                changed = self.views.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let view = Arc::clone(&self.views.borrow_and_update());
                    self.observe(view);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
        tasks.shutdown().await;
    }

    /// The catalogue of the desired policies, with the known endpoints of the API server.
    fn wanted_catalogue(&self) -> Catalogue {
        let wanted = self.wanted.borrow().clone();
        let mut catalogue = Catalogue::filled(wanted.site, &wanted.policies, self.view.api_server());
        catalogue.installed = self.installed;
        catalogue.home = Some(Arc::clone(&self.executor.home));
        catalogue
    }

    /// Replaces the view, and queues the keys that differ from the previous view.
    fn observe(&mut self, view: Arc<View>) {
        if !view.is_whole() {
            return;
        }
        let now = Instant::now();
        let before = std::mem::replace(&mut self.view, view);
        let site = Arc::clone(&self.wanted.borrow().site);
        let time = Timestamp::now();
        for (name, facts) in self.view.namespaces() {
            let known = before.facts(name);
            if known.is_some_and(|known| Arc::ptr_eq(known, facts)) {
                continue;
            }
            let key = Key::Namespace(Arc::clone(name));
            if known.is_some_and(|known| request::is_new(&site, known, facts, time)) {
                self.queue.urge(&key, now);
            } else {
                self.queue.add(&key, now);
            }
        }
        let gone = before.namespaces().filter(|(name, _)| self.view.namespace(name).is_none());
        let gone: Vec<Arc<str>> = gone.map(|(name, _)| Arc::clone(name)).collect();
        for name in gone {
            self.executor.metrics.hatch(&name, None);
            let key = Key::Namespace(name);
            self.queue.forget(&key);
            self.complained.remove(&key);
            self.write_conflicts.remove(&key);
            self.progress.set(&key, None);
        }
        if before.is_whole() && before.api_server() != self.view.api_server() {
            // All namespaces are reconciled when the catalogue becomes current. Only those with a policy that names the
            // endpoints are written.
            let catalogue = self.wanted_catalogue();
            self.dry_runs.refill(catalogue);
        }
        // Namespaces may have got the labels that the policies wait for.
        if self.held.is_some() {
            self.queue.add(&Key::Cluster, now);
        }
        if !before.is_whole() || before.owned_of_cluster() != self.view.owned_of_cluster() {
            self.queue.add(&Key::Cluster, now);
            self.queue_waiting();
        }
    }

    pub(super) fn queue_waiting(&mut self) {
        let now = Instant::now();
        for key in self.progress.waiting() {
            self.queue.add(&key, now);
        }
    }

    pub(super) fn queue_all(&mut self) {
        let now = Instant::now();
        self.queue.add(&Key::Cluster, now);
        let names: Vec<Key> = self.view.namespaces().map(|(name, _)| Key::Namespace(Arc::clone(name))).collect();
        for key in names {
            self.queue.add(&key, now);
        }
    }
}
