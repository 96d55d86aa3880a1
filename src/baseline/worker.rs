//! The loop: what is heard of the cluster becomes work, and what is quiet is looked at again now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::catalogue::Catalogue;
use super::contest::{Contest, TOLD_AFTER};
use super::controller::Wanted;
use super::error::Failure;
use super::executor::{Executor, Subject, in_time, is_passing};
use super::learning::Learner;
use super::objects::Learnt;
use super::pace::{Pace, jittered};
use super::plan::{Plan, Standing, Step, plan, plan_cluster};
use super::queue::Queue;
use super::standings::Standings;
use crate::view::{NamespaceFacts, View};

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
    /// What was done, if it was.
    steps: Vec<Step>,
    /// Which namespace it was.
    uid: Box<str>,
    result: Result<(), Failure>,
}

/// The work of whoever holds the lease.
pub(super) struct Worker {
    executor: Executor,
    pace: Pace,
    views: watch::Receiver<Arc<View>>,
    wanted: watch::Receiver<Wanted>,
    learner: Learner,
    /// Since when Portcullis is there.
    installed: Option<Timestamp>,
    view: Arc<View>,
    queue: Queue<Key>,
    standings: Standings<Key>,
    /// When it was said of a namespace why something failed.
    complained: HashMap<Key, Instant>,
    /// What was written of late, and whether it stayed.
    contests: HashMap<Key, Contest>,
    /// Why the policies of the cluster are not as they are to be, if that lasts.
    cluster_failure: Option<Box<str>>,
}

impl Worker {
    pub(super) fn new(
        executor: Executor,
        pace: Pace,
        views: watch::Receiver<Arc<View>>,
        wanted: watch::Receiver<Wanted>,
        learnt: mpsc::UnboundedReceiver<Learnt>,
        installed: Option<Timestamp>,
    ) -> Self {
        Self {
            standings: Standings::new(executor.metrics.clone()),
            learner: Learner::new(executor.clone(), pace.patience, learnt),
            executor,
            pace,
            views,
            wanted,
            installed,
            view: Arc::default(),
            queue: Queue::new(pace),
            complained: HashMap::new(),
            contests: HashMap::new(),
            cluster_failure: None,
        }
    }

    /// Works until it is told to stop. Nothing goes on afterwards.
    pub(super) async fn work(mut self, stop: &CancellationToken) {
        let mut tasks: JoinSet<Worked> = JoinSet::new();
        let mut keys: HashMap<task::Id, Key> = HashMap::new();
        self.views.mark_changed();
        self.wanted.mark_changed();
        while !stop.is_cancelled() {
            self.begin(&mut tasks, &mut keys);
            let full = tasks.len() >= self.pace.at_once;
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
                is_other = self.learner.changed() => {
                    if is_other {
                        // What was written of another folder says nothing of this one.
                        self.contests.clear();
                    }
                    self.look_at_everything();
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    let mut catalogue = Catalogue::of(wanted.site, &wanted.policies);
                    catalogue.installed = self.installed;
                    catalogue.home = Some(Arc::clone(&self.executor.home));
                    self.learner.begin(catalogue);
                }
                changed = self.views.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let view = Arc::clone(&self.views.borrow_and_update());
                    self.hear(view);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
        tasks.shutdown().await;
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
            self.contests.remove(&key);
            self.standings.set(&key, None);
        }
        if !before.is_whole() || before.owned_of_cluster() != self.view.owned_of_cluster() {
            self.queue.add(&Key::Cluster, now);
            self.look_at_waiting();
        }
    }

    fn look_at_waiting(&mut self) {
        let now = Instant::now();
        for key in self.standings.waiting() {
            self.queue.add(&key, now);
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
    fn begin(&mut self, tasks: &mut JoinSet<Worked>, keys: &mut HashMap<task::Id, Key>) {
        let Some(catalogue) = self.learner.catalogue().cloned().filter(|_| self.view.is_whole()) else { return };
        while tasks.len() < self.pace.at_once
            && let Some(key) = self.queue.take(Instant::now())
        {
            let begun = match key.clone() {
                Key::Cluster => self.begin_cluster(&catalogue, &key, tasks),
                Key::Namespace(name) => match self.view.facts(&name).cloned() {
                    Some(facts) => self.begin_namespace(&catalogue, &key, name, facts, tasks),
                    None => {
                        self.queue.done(&key, Instant::now(), None, None);
                        self.queue.forget(&key);
                        self.contests.remove(&key);
                        None
                    }
                },
            };
            if let Some(id) = begun {
                keys.insert(id, key);
            }
        }
        self.executor.metrics.queued(self.queue.depth(Instant::now()));
    }

    fn begin_cluster(
        &mut self,
        catalogue: &Arc<Catalogue>,
        key: &Key,
        tasks: &mut JoinSet<Worked>,
    ) -> Option<task::Id> {
        let plan = plan_cluster(catalogue, self.view.owned_of_cluster());
        if plan.steps.is_empty() {
            self.cluster_failure = None;
            self.rest(key, &plan);
            return None;
        }
        let (executor, catalogue, patience) = (self.executor.clone(), Arc::clone(catalogue), self.pace.patience);
        let key = key.clone();
        let begun = tasks.spawn(async move {
            let (began, steps) = (Instant::now(), plan.steps.clone());
            let result = in_time(patience, executor.carry_out_for_cluster(&catalogue, plan)).await;
            Worked { key, began, wake: None, complained: false, steps, uid: Box::default(), result }
        });
        Some(begun.id())
    }

    fn begin_namespace(
        &mut self,
        catalogue: &Arc<Catalogue>,
        key: &Key,
        name: Arc<str>,
        facts: Arc<NamespaceFacts>,
        tasks: &mut JoinSet<Worked>,
    ) -> Option<task::Id> {
        let now = Timestamp::now();
        let plan = plan(catalogue, &name, &facts, self.view.owned_of_cluster(), now);
        self.executor.metrics.hatch(&name, plan.hatch.map(|since| since.unwrap_or(now).as_second()));
        let is_failing = self.queue.failures(key) > 0 && !plan.steps.is_empty();
        let of_cluster = self.cluster_failure.clone().filter(|_| plan.waits_for_cluster).map(Failure::OfCluster);
        let state = match plan.standing {
            Standing::NotDue => None,
            Standing::Unlabelled => Some("unlabelled"),
            _ if is_failing || of_cluster.is_some() => Some("failed"),
            Standing::Pending => Some("pending"),
            Standing::Applied => Some("applied"),
        };
        self.standings.set(key, state);
        let may_complain = self.complained.get(key).is_none_or(|at| at.elapsed() >= self.pace.complain);
        if plan.steps.is_empty() && !(of_cluster.is_some() && may_complain) {
            self.rest(key, &plan);
            return None;
        }
        // What fails once may be over the next time.
        let is_persistent = self.queue.failures(key) >= 2;
        let (executor, patience) = (self.executor.clone(), self.pace.patience);
        let owned_of_cluster = self.view.owned_of_cluster().to_vec();
        let subject = Subject { name, facts, of_cluster: owned_of_cluster, catalogue: Arc::clone(catalogue) };
        let key = key.clone();
        let begun = tasks.spawn(async move {
            let (began, wake, steps) = (Instant::now(), plan.wake, plan.steps.clone());
            let result = in_time(patience, executor.carry_out(&subject, plan)).await;
            let failure = match &result {
                Err(Failure::Gone) => None,
                Err(failure) => Some(failure).filter(|_| is_persistent),
                Ok(()) => of_cluster.as_ref(),
            };
            let mut complained = false;
            if let Some(failure) = failure.filter(|_| may_complain) {
                complained = true;
                executor.complain(&subject, failure).await;
            }
            Worked { key, began, wake, complained, steps, uid: subject.facts.uid.clone(), result }
        });
        Some(begun.id())
    }

    /// There is nothing to do for a key at present.
    fn rest(&mut self, key: &Key, plan: &Plan) {
        let now = Instant::now();
        self.executor.metrics.reconciled("unchanged", None);
        if self.contests.get_mut(key).is_some_and(|contest| contest.forget(now, &self.pace)) {
            self.contests.remove(key);
        }
        let again = self.again(!matches!(plan.standing, Standing::NotDue | Standing::Unlabelled), plan.wake);
        self.queue.done(key, now, None, again);
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
        let Worked { key, began, wake, complained, steps, uid, result } = worked;
        let now = Instant::now();
        if complained {
            self.complained.insert(key.clone(), now);
        }
        if key == Key::Cluster {
            self.end_cluster(&result);
        }
        let word = match result {
            Ok(()) if steps.is_empty() => {
                self.queue.done(&key, now, None, self.again(true, wake));
                "unchanged"
            }
            Ok(()) => {
                let times = self.contests.entry(key.clone()).or_default().note(&uid, steps, now, &self.pace);
                if times == TOLD_AFTER {
                    self.tell_of_contest(&key, uid);
                }
                // The watches will tell what was written. If they do not, that is noticed soon.
                self.queue.done(&key, now, Some(self.pace.after_contests(times)), self.again(true, wake));
                "written"
            }
            Err(Failure::Gone) => {
                self.queue.done(&key, now, Some(self.pace.settle), self.again(true, wake));
                "gone"
            }
            Err(failure) => {
                let times = self.queue.failures(&key);
                if is_passing(&failure) && times == 0 {
                    tracing::debug!(?key, %failure, "trying again");
                } else {
                    tracing::warn!(?key, %failure, times, "a baseline could not be applied");
                }
                self.queue.failed(&key, now, self.again(false, wake));
                self.standings.failed(&key);
                "failed"
            }
        };
        self.executor.metrics.reconciled(word, Some(began.elapsed()));
    }

    /// Remembers why the policies of the cluster are not as they are to be, for the namespaces that wait for them.
    fn end_cluster(&mut self, result: &Result<(), Failure>) {
        let failure = match result {
            // Once may be over the next time.
            Err(failure) if self.queue.failures(&Key::Cluster) >= 2 => Some(failure.to_string().into_boxed_str()),
            Err(_) => self.cluster_failure.clone(),
            Ok(()) => None,
        };
        if failure != self.cluster_failure {
            self.cluster_failure = failure;
            self.look_at_waiting();
        }
    }

    /// Says that what is written does not stay.
    fn tell_of_contest(&self, key: &Key, uid: Box<str>) {
        tracing::warn!(?key, "what is written is undone each time: somebody else writes the same objects");
        let Key::Namespace(name) = key else { return };
        let (announcer, name) = (Arc::clone(&self.executor.announcer), Arc::clone(name));
        let note = "What Portcullis writes here is undone each time, by somebody else who writes the same policies or \
                    labels. It is written again, more and more seldom.";
        tokio::spawn(async move {
            announcer.say(&name, &uid, true, "BaselineContested", note.to_owned()).await;
        });
    }
}

/// What came of work that came to an end which nobody foresaw.
fn broken(key: Key, error: &JoinError) -> Worked {
    tracing::error!(?key, %error, "the work on a baseline broke off, which is a fault of Portcullis");
    let result = Err(Failure::Fault("its work broke off".into()));
    Worked { key, began: Instant::now(), wake: None, complained: false, steps: Vec::new(), uid: Box::default(), result }
}
