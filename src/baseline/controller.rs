//! The loop: what is heard of the cluster becomes work, and what is quiet is looked at again now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::catalogue::Catalogue;
use super::error::Failure;
use super::events::Announcer;
use super::executor::{Executor, Subject, in_time, is_passing};
use super::lease::{Election, Terms};
use super::pace::{Pace, jittered};
use super::plan::{Plan, Standing, plan, plan_cluster};
use super::policy_set::PolicySet;
use super::queue::Queue;
use crate::cluster::Cluster;
use crate::telemetry::BaselineMetrics;
use crate::view::{NamespaceFacts, Site, View};

/// What namespaces are due, and by what names.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is said about the cluster.
    pub site: Arc<Site>,
    /// The folder of policies.
    pub policies: Arc<PolicySet>,
}

/// All that the controller needs.
pub struct Controller {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace of Portcullis itself, with the Lease.
    pub namespace: String,
    /// Who this replica is.
    pub identity: String,
    /// How long the lease holds.
    pub terms: Terms,
    /// How fast it goes.
    pub pace: Pace,
    /// What is known of the cluster. Nothing is done before a snapshot is [whole](View::is_whole).
    pub views: watch::Receiver<Arc<View>>,
    /// What is to be there.
    pub wanted: watch::Receiver<Wanted>,
    /// What is counted.
    pub metrics: BaselineMetrics,
    /// Told whether any replica works at present.
    pub running: watch::Sender<bool>,
}

/// Keeps the baselines of all namespaces as they are to be, until it is told to stop; whenever this replica is the one that
/// holds the lease.
pub async fn run(controller: Controller, stop: CancellationToken) {
    let Controller { cluster, namespace, identity, terms, pace, views, wanted, metrics, running } = controller;
    let election = Election::new(cluster.client.clone(), &namespace, identity.clone(), terms, running);
    let announcer = Arc::new(Announcer::new(cluster.client.clone(), &identity));
    let executor = Executor { cluster, metrics: metrics.clone(), announcer };
    election
        .run(&stop, |stop| {
            let worker = Worker {
                executor: executor.clone(),
                namespace: namespace.clone(),
                pace,
                views: views.clone(),
                wanted: wanted.clone(),
                view: Arc::default(),
                catalogue: None,
                queue: Queue::new(pace),
                states: HashMap::new(),
                counts: HashMap::new(),
                complained: HashMap::new(),
            };
            let metrics = metrics.clone();
            async move {
                metrics.leads(true);
                worker.work(&stop).await;
                metrics.leads(false);
            }
        })
        .await;
}

/// What is looked at. The cluster comes first, since namespaces wait for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Cluster,
    Namespace(Arc<str>),
}

/// What came of the work on a key.
struct Worked {
    key: Key,
    began: Instant,
    wake: Option<Timestamp>,
    complained: bool,
    result: Result<(), Failure>,
}

/// The work of whoever holds the lease.
struct Worker {
    executor: Executor,
    namespace: String,
    pace: Pace,
    views: watch::Receiver<Arc<View>>,
    wanted: watch::Receiver<Wanted>,
    view: Arc<View>,
    catalogue: Option<Arc<Catalogue>>,
    queue: Queue<Key>,
    /// How far the namespaces are that are due a baseline.
    states: HashMap<Key, &'static str>,
    /// How many are that far.
    counts: HashMap<&'static str, usize>,
    /// When it was said of a namespace why something failed.
    complained: HashMap<Key, Instant>,
}

impl Worker {
    /// Works until it is told to stop. Nothing goes on afterwards.
    async fn work(mut self, stop: &CancellationToken) {
        let mut tasks: JoinSet<Worked> = JoinSet::new();
        let relearn_every = self.pace.patience / 2;
        let mut relearn: Option<Instant> = None;
        // What the cluster serves is known when all is known that is in it.
        if !matches!(stop.run_until_cancelled(self.views.wait_for(|view| view.is_whole())).await, Some(Ok(_))) {
            return;
        }
        self.views.mark_changed();
        self.wanted.mark_changed();
        while !stop.is_cancelled() {
            self.begin(&mut tasks);
            let full = tasks.len() >= self.pace.at_once;
            let next = self.queue.next().filter(|_| !full).into_iter().chain(relearn).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(worked) = tasks.join_next() => {
                    // One that was aborted or panicked comes again with the resync.
                    if let Ok(worked) = worked {
                        self.end(worked);
                    }
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    let learnt = stop.run_until_cancelled(self.learn(Catalogue::of(wanted.site, &wanted.policies))).await;
                    relearn = (learnt == Some(false)).then(|| Instant::now() + relearn_every);
                    self.look_at_everything();
                }
                changed = self.views.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let view = Arc::clone(&self.views.borrow_and_update());
                    self.hear(view);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    if let Some(catalogue) = self.catalogue.clone().filter(|_| relearn.is_some_and(|at| at <= Instant::now())) {
                        let learnt = stop.run_until_cancelled(self.learn(Catalogue::clone(&catalogue))).await;
                        relearn = (learnt == Some(false)).then(|| Instant::now() + relearn_every);
                        if relearn.is_none() {
                            self.look_at_everything();
                        }
                    }
                }
            }
        }
        tasks.shutdown().await;
    }

    /// Finds out what the API server makes of each policy, and says whether that is known of all of them now.
    async fn learn(&mut self, mut catalogue: Catalogue) -> bool {
        let mut known = true;
        for position in 0..catalogue.entries().len() {
            let Some(entry) = catalogue.entries().get(position).filter(|entry| !entry.is_learnt()) else { continue };
            match in_time(self.pace.patience, self.executor.learn(entry, &self.namespace)).await {
                Ok(stored) => catalogue.learn(position, &stored),
                Err(error) => {
                    known = false;
                    let object = &entry.id;
                    tracing::warn!(%object, %error, "the API server cannot be asked what it makes of a policy: changes of it are not noticed");
                }
            }
        }
        self.catalogue = Some(Arc::new(catalogue));
        known
    }

    /// Compares what is heard with what was known, and has looked at what differs.
    fn hear(&mut self, view: Arc<View>) {
        if !view.is_whole() {
            return;
        }
        let now = Instant::now();
        let before = std::mem::replace(&mut self.view, view);
        let changed: Vec<Key> = self
            .view
            .namespaces()
            .filter(|(name, facts)| before.facts(name).is_none_or(|known| !Arc::ptr_eq(known, facts)))
            .map(|(name, _)| Key::Namespace(Arc::clone(name)))
            .collect();
        for key in &changed {
            self.queue.add(key, now);
        }
        let gone = before.namespaces().filter(|(name, _)| self.view.namespace(name).is_none());
        let gone: Vec<Arc<str>> = gone.map(|(name, _)| Arc::clone(name)).collect();
        for name in gone {
            self.executor.metrics.hatch(&name, None);
            let key = Key::Namespace(name);
            self.queue.forget(&key);
            self.complained.remove(&key);
            self.stands(&key, None);
        }
        if !before.is_whole() || before.owned_of_cluster() != self.view.owned_of_cluster() {
            self.queue.add(&Key::Cluster, now);
            let waiting: Vec<Key> =
                self.states.iter().filter(|(_, state)| **state != "applied").map(|(key, _)| key.clone()).collect();
            for key in waiting {
                self.queue.add(&key, now);
            }
        }
    }

    fn look_at_everything(&mut self) {
        let now = Instant::now();
        self.queue.add(&Key::Cluster, now);
        let names: Vec<Key> = self.view.namespaces().map(|(name, _)| Key::Namespace(Arc::clone(name))).collect();
        for key in names {
            self.queue.add(&key, now);
        }
    }

    /// Begins what there is to do, as much of it as may be under way at once.
    fn begin(&mut self, tasks: &mut JoinSet<Worked>) {
        let Some(catalogue) = self.catalogue.clone().filter(|_| self.view.is_whole()) else { return };
        while tasks.len() < self.pace.at_once
            && let Some(key) = self.queue.take(Instant::now())
        {
            match key.clone() {
                Key::Cluster => self.begin_cluster(&catalogue, key, tasks),
                Key::Namespace(name) => match self.view.facts(&name).cloned() {
                    Some(facts) => self.begin_namespace(&catalogue, key, name, facts, tasks),
                    None => {
                        self.queue.done(&key, Instant::now(), false, None);
                        self.queue.forget(&key);
                    }
                },
            }
        }
        self.executor.metrics.queued(self.queue.depth(Instant::now()));
    }

    fn begin_cluster(&mut self, catalogue: &Arc<Catalogue>, key: Key, tasks: &mut JoinSet<Worked>) {
        let owned = self.view.owned_of_cluster().to_vec();
        let plan = plan_cluster(catalogue, &owned);
        if plan.steps.is_empty() {
            self.rest(&key, &plan);
            return;
        }
        let (executor, catalogue, patience) = (self.executor.clone(), Arc::clone(catalogue), self.pace.patience);
        tasks.spawn(async move {
            let began = Instant::now();
            let result = in_time(patience, executor.carry_out_for_cluster(&catalogue, &owned, plan)).await;
            Worked { key, began, wake: None, complained: false, result }
        });
    }

    fn begin_namespace(
        &mut self,
        catalogue: &Arc<Catalogue>,
        key: Key,
        name: Arc<str>,
        facts: Arc<NamespaceFacts>,
        tasks: &mut JoinSet<Worked>,
    ) {
        let now = Timestamp::now();
        let plan = plan(catalogue, &name, &facts, self.view.owned_of_cluster(), now);
        self.executor.metrics.hatch(&name, plan.hatch.map(|since| since.unwrap_or(now).as_second()));
        let is_failing = self.queue.failures(&key) > 0;
        let state = match plan.standing {
            Standing::NotDue => None,
            _ if is_failing && !plan.steps.is_empty() => Some("failed"),
            Standing::Pending => Some("pending"),
            Standing::Applied => Some("applied"),
        };
        self.stands(&key, state);
        if plan.steps.is_empty() {
            self.rest(&key, &plan);
            return;
        }
        let may_complain = self.complained.get(&key).is_none_or(|at| at.elapsed() >= self.pace.complain);
        // What fails once may be over the next time.
        let is_persistent = self.queue.failures(&key) >= 2;
        let (executor, patience) = (self.executor.clone(), self.pace.patience);
        let of_cluster = self.view.owned_of_cluster().to_vec();
        let subject = Subject { name, facts, of_cluster, catalogue: Arc::clone(catalogue) };
        tasks.spawn(async move {
            let (began, wake) = (Instant::now(), plan.wake);
            let result = in_time(patience, executor.carry_out(&subject, plan)).await;
            let mut complained = false;
            if let Err(failure) = &result
                && is_persistent
                && may_complain
                && !matches!(failure, Failure::Gone)
            {
                complained = true;
                executor.complain(&subject, failure).await;
            }
            Worked { key, began, wake, complained, result }
        });
    }

    /// There is nothing to do for a key at present.
    fn rest(&mut self, key: &Key, plan: &Plan) {
        self.executor.metrics.reconciled("unchanged", None);
        let again = self.again(plan.standing != Standing::NotDue, plan.wake);
        self.queue.done(key, Instant::now(), false, again);
    }

    /// When to look at something again of which nothing is heard.
    fn again(&self, is_due: bool, wake: Option<Timestamp>) -> Option<Instant> {
        let now = Instant::now();
        let resync = is_due.then(|| now + jittered(self.pace.resync));
        let until = |wake: Timestamp| Duration::try_from(wake.duration_since(Timestamp::now())).unwrap_or_default();
        let wake = wake.map(|wake| now + until(wake));
        resync.into_iter().chain(wake).min()
    }

    fn end(&mut self, worked: Worked) {
        let Worked { key, began, wake, complained, result } = worked;
        let now = Instant::now();
        if complained {
            self.complained.insert(key.clone(), now);
        }
        let word = match result {
            Ok(()) => {
                // The watches will tell what was written. If they do not, that is noticed soon.
                let again = self.again(true, wake);
                self.queue.done(&key, now, true, again);
                "written"
            }
            Err(Failure::Gone) => {
                self.queue.done(&key, now, true, self.again(true, None));
                "gone"
            }
            Err(failure) => {
                let times = self.queue.failures(&key);
                if is_passing(&failure) && times == 0 {
                    tracing::debug!(?key, %failure, "trying again");
                } else {
                    tracing::warn!(?key, %failure, times, "a baseline could not be applied");
                }
                self.queue.failed(&key, now);
                if self.states.contains_key(&key) {
                    self.stands(&key, Some("failed"));
                }
                "failed"
            }
        };
        self.executor.metrics.reconciled(word, Some(began.elapsed()));
    }

    /// Notes how far a namespace is.
    fn stands(&mut self, key: &Key, state: Option<&'static str>) {
        let before = match state {
            Some(state) => self.states.insert(key.clone(), state),
            None => self.states.remove(key),
        };
        if before != state {
            if let Some(count) = before.and_then(|before| self.counts.get_mut(before)) {
                *count = count.saturating_sub(1);
            }
            if let Some(state) = state {
                *self.counts.entry(state).or_default() += 1;
            }
            for state in before.into_iter().chain(state) {
                self.executor.metrics.namespaces(state, self.counts.get(state).copied().unwrap_or(0));
            }
        }
    }
}
