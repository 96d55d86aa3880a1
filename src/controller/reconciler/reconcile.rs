//! Reconciles one key: plans, starts a task, and records its result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::{self, JoinError, JoinSet};

use super::super::backoff::jittered;
use super::super::error::Failure;
use super::super::executor::{PlanInput, in_time, is_passing};
use super::super::write_conflicts::{REPORTED_AFTER, Write, writes};
use super::{Key, Reconciler, Worked};
use crate::baseline::{Catalogue, Plan, PlanState, by_kind, domain_change, kept_in_cluster, plan, plan_cluster};
use crate::view::NamespaceFacts;

impl Reconciler {
    /// Starts tasks for the keys that are due, up to the maximum number of concurrent tasks.
    pub(super) fn begin(&mut self, tasks: &mut JoinSet<Worked>, keys: &mut HashMap<task::Id, Key>) {
        let Some(catalogue) = self.dry_runs.catalogue().cloned().filter(|_| self.view.is_whole()) else { return };
        while tasks.len() < self.limits.at_once
            && let Some(key) = self.queue.take(Instant::now())
        {
            let begun = match key.clone() {
                Key::Cluster => self.begin_cluster(&catalogue, &key, tasks),
                Key::Namespace(name) => match self.view.facts(&name).cloned() {
                    Some(facts) => self.begin_namespace(&catalogue, &key, name, facts, tasks),
                    None => {
                        self.queue.done(&key, Instant::now(), None, None);
                        self.queue.forget(&key);
                        self.write_conflicts.remove(&key);
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
        let mut plan = plan_cluster(catalogue, self.view.owned_of_cluster());
        self.report_kept(catalogue);
        self.hold_domain(catalogue, &mut plan);
        let wait = self.brake(&mut plan, None);
        if plan.steps.is_empty() {
            self.set_cluster_failure(self.held.clone());
            self.rest(key, &plan);
            wait.into_iter().for_each(|at| self.queue.add(key, at));
            return None;
        }
        let writes = writes(catalogue, None, &plan.steps);
        let reported = self.reported(key, "", &writes);
        let (executor, catalogue, patience) = (self.executor.clone(), Arc::clone(catalogue), self.limits.patience);
        let key = key.clone();
        let begun = tasks.spawn(async move {
            let began = Instant::now();
            let conflict = if reported.is_empty() {
                None
            } else {
                let reported: Vec<&Write> = reported.iter().collect();
                Some(executor.describe_conflict(&catalogue.site, None, &reported).await)
            };
            let result = in_time(patience, executor.carry_out_for_cluster(&catalogue, plan)).await;
            Worked { writes, conflict, ..Worked::new(key, began, result) }
        });
        wait.into_iter().for_each(|at| self.queue.add(&Key::Cluster, at));
        Some(begun.id())
    }

    /// Keeps policies of an earlier `labelDomain` in the cluster while namespaces depend on them.
    fn hold_domain(&mut self, catalogue: &Catalogue, plan: &mut Plan) {
        let held = domain_change::hold(catalogue, self.view.owned_of_cluster(), self.view.namespaces(), plan);
        if let Some(reason) = held.as_deref().filter(|_| held != self.held) {
            tracing::warn!(reason, "cluster-wide policies are not replaced");
        }
        self.held = held;
    }

    /// Removes the deletions that have to wait from a plan, and announces removed files. Returns the time of the next
    /// attempt.
    fn brake(&mut self, plan: &mut Plan, namespace: Option<(&Catalogue, &NamespaceFacts)>) -> Option<Instant> {
        let namespaces = self.view.namespaces().count();
        let held = self.brake.hold(plan, namespaces, Instant::now());
        for owned in &held.new {
            let (notice, every) = (self.limits.brake.notice.as_secs(), self.limits.brake.every.as_secs());
            let (kind, name, layer) = (&owned.object.kind, &owned.object.name, &owned.layer);
            tracing::warn!(%kind, %name, %layer, notice, "policy file removed; the policy will be deleted");
            let note = match namespace {
                Some(_) => format!(
                    "The file of {kind} {name} (layer {layer}) was removed from the policies folder. Deletion starts \
                     in {notice} s, in at most {} namespaces every {every} s. Restore the file to keep it",
                    self.brake.share(namespaces)
                ),
                None => format!(
                    "The file of {kind} {name} (layer {layer}) was removed from the policies folder. It will be \
                     deleted in {notice} s. Restore the file to keep it"
                ),
            };
            let (announcer, home) = (Arc::clone(&self.executor.announcer), Arc::clone(&self.executor.home));
            tokio::spawn(async move { announcer.say(&home, "", true, "PolicyRemoved", note).await });
        }
        if let Some((catalogue, facts)) = namespace.filter(|_| !held.policies.is_empty()) {
            plan.report_pending(catalogue, facts, &held.policies);
        }
        held.until
    }

    /// Reports cluster-wide policies of another policy set: in the log, in an Event and in a metric.
    fn report_kept(&mut self, catalogue: &Catalogue) {
        let kept = kept_in_cluster(catalogue, self.view.owned_of_cluster());
        self.executor.metrics.kept(kept.len());
        let kept = by_kind(&kept);
        if kept == self.kept {
            return;
        }
        self.kept.clone_from(&kept);
        // The status of each namespace reports them too.
        self.queue_all();
        if kept.is_empty() {
            return;
        }
        let selector = catalogue.site.layer_label();
        tracing::warn!(kept, selector, "policies of another policySet stay in force until you delete them");
        let (announcer, home) = (Arc::clone(&self.executor.announcer), Arc::clone(&self.executor.home));
        let note = format!(
            "{kept} of another policySet stay in force. Once every namespace is `applied`, delete them by label {selector}"
        );
        tokio::spawn(async move { announcer.say(&home, "", true, "PoliciesKept", note).await });
    }

    /// Returns the writes that repeat reverted ones, if the conflict is to be reported.
    fn reported(&self, key: &Key, uid: &str, writes: &[Write]) -> Vec<Write> {
        let conflicts = self.write_conflicts.get(key);
        conflicts.map(|conflicts| conflicts.reported(uid, writes).into_iter().cloned().collect()).unwrap_or_default()
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
        let mut plan = plan(catalogue, &name, &facts, self.view.owned_of_cluster(), now);
        self.executor.metrics.hatch(&name, plan.hatch.map(|since| since.unwrap_or(now).as_second()));
        let is_failing = self.queue.failures(key) > 0 && !plan.steps.is_empty();
        let of_cluster = self.cluster_failure.clone().filter(|_| plan.waits_for_cluster).map(Failure::OfCluster);
        if self.write_conflicts.get_mut(key).is_some_and(|conflicts| conflicts.forget(Instant::now(), &self.limits)) {
            self.write_conflicts.remove(key);
        }
        let wait = self.brake(&mut plan, Some((catalogue, &facts)));
        let known = self.write_conflicts.get(key).and_then(|conflicts| conflicts.report.clone());
        if let Some(report) = &known {
            plan.report_conflict(catalogue, &facts, report);
        }
        let writes = writes(catalogue, Some(&name), &plan.steps);
        let reported = self.reported(key, &facts.uid, &writes);
        let state = match plan.state {
            PlanState::NotDue => None,
            PlanState::Unlabelled => Some("unlabelled"),
            _ if is_failing || of_cluster.is_some() => Some("failed"),
            _ if known.is_some() || !reported.is_empty() => Some("contested"),
            PlanState::Pending => Some("pending"),
            PlanState::Applied => Some("applied"),
        };
        self.progress.set(key, state);
        let may_complain = self.complained.get(key).is_none_or(|at| at.elapsed() >= self.limits.complain);
        if plan.steps.is_empty() && !(of_cluster.is_some() && may_complain) {
            self.rest(key, &plan);
            wait.into_iter().for_each(|at| self.queue.add(key, at));
            return None;
        }
        // A failure counts as persistent from the third in a row on.
        let is_persistent = self.queue.failures(key) >= 2;
        let (executor, patience) = (self.executor.clone(), self.limits.patience);
        let owned_of_cluster = self.view.owned_of_cluster().to_vec();
        let input = PlanInput { name, facts, of_cluster: owned_of_cluster, catalogue: Arc::clone(catalogue) };
        // The key is busy. The queue uses this time when the work is done.
        wait.into_iter().for_each(|at| self.queue.add(key, at));
        let key = key.clone();
        let begun = tasks.spawn(async move {
            let (began, wake, is_idle) = (Instant::now(), plan.wake, plan.steps.is_empty());
            let mut conflict = None;
            if !reported.is_empty() {
                let reported: Vec<&Write> = reported.iter().collect();
                // Before the controller writes, since an apply removes the other field manager.
                let report = executor.describe_conflict(&input.catalogue.site, Some(&input), &reported).await;
                plan.report_conflict(&input.catalogue, &input.facts, &report);
                conflict = Some(report);
            }
            let result = in_time(patience, executor.carry_out(&input, plan)).await;
            let failure = match &result {
                Err(Failure::Gone) => None,
                Err(failure) => Some(failure).filter(|_| is_persistent),
                Ok(()) => of_cluster.as_ref(),
            };
            let mut complained = false;
            if let Some(failure) = failure.filter(|_| may_complain) {
                complained = true;
                executor.complain(&input, failure).await;
            }
            let uid = input.facts.uid.clone();
            Worked { wake, complained, writes, conflict, is_idle, uid, ..Worked::new(key, began, result) }
        });
        Some(begun.id())
    }

    /// Records that a key needs no change at present.
    fn rest(&mut self, key: &Key, plan: &Plan) {
        let now = Instant::now();
        self.executor.metrics.reconciled("unchanged", None);
        if self.write_conflicts.get_mut(key).is_some_and(|conflicts| conflicts.forget(now, &self.limits)) {
            self.write_conflicts.remove(key);
        }
        let over = self.write_conflicts.get(key).and_then(|conflicts| conflicts.over_at(&self.limits));
        let again = self.again(!matches!(plan.state, PlanState::NotDue | PlanState::Unlabelled));
        self.queue.done(key, now, None, again.into_iter().chain(over).min());
        self.wake(key, plan.wake);
    }

    /// The time of the next resync.
    fn again(&self, is_due: bool) -> Option<Instant> {
        is_due.then(|| Instant::now() + jittered(self.limits.resync))
    }

    /// Queues a key for the time at which its hatch closes, without backoff.
    fn wake(&mut self, key: &Key, wake: Option<Timestamp>) {
        let left = wake.map(|wake| wake.duration_since(Timestamp::now()));
        if let Some(left) = left.and_then(|left| Duration::try_from(left).ok()) {
            self.queue.urge(key, Instant::now() + left);
        }
    }

    pub(super) fn end(&mut self, worked: Worked) {
        let Worked { key, began, wake, complained, writes, conflict, is_idle, uid, result } = worked;
        let now = Instant::now();
        if complained {
            self.complained.insert(key.clone(), now);
        }
        if key == Key::Cluster {
            self.end_cluster(&result);
        }
        let word = match result {
            Ok(()) if is_idle => {
                self.queue.done(&key, now, None, self.again(true));
                "unchanged"
            }
            // Only gates were removed.
            Ok(()) if writes.is_empty() => {
                self.queue.done(&key, now, Some(self.limits.settle), self.again(true));
                "written"
            }
            Ok(()) => {
                let conflicts = self.write_conflicts.entry(key.clone()).or_default();
                let times = conflicts.record(&uid, &writes, now, &self.limits);
                if let Some(conflict) = conflict
                    && times >= REPORTED_AFTER
                    && conflicts.report.as_ref() != Some(&conflict)
                {
                    conflicts.report = Some(conflict.clone());
                    self.announce_conflict(&key, uid, &conflict);
                }
                // The watches will report the writes. If they do not, the resync finds out.
                self.queue.done(&key, now, Some(self.limits.after_reverts(times)), self.again(true));
                "written"
            }
            Err(Failure::Gone) => {
                self.queue.done(&key, now, Some(self.limits.settle), self.again(true));
                "gone"
            }
            Err(failure) => {
                let times = self.queue.failures(&key);
                if is_passing(&failure) && times == 0 {
                    tracing::debug!(?key, %failure, "reconcile failed; requeued");
                } else {
                    tracing::warn!(?key, %failure, times, "failed to reconcile; requeued with backoff");
                }
                self.queue.failed(&key, now);
                self.progress.failed(&key);
                "failed"
            }
        };
        self.wake(&key, wake);
        self.executor.metrics.reconciled(word, Some(began.elapsed()));
    }

    /// Records why the cluster-wide policies are not in their desired state, for the namespaces that wait for them.
    fn end_cluster(&mut self, result: &Result<(), Failure>) {
        let failure = match result {
            // A failure counts as persistent from the third in a row on.
            Err(failure) if self.queue.failures(&Key::Cluster) >= 2 => Some(failure.to_string().into_boxed_str()),
            Err(_) => self.cluster_failure.clone(),
            Ok(()) => self.held.clone(),
        };
        self.set_cluster_failure(failure);
    }

    fn set_cluster_failure(&mut self, failure: Option<Box<str>>) {
        if failure != self.cluster_failure {
            self.cluster_failure = failure;
            self.queue_waiting();
        }
    }

    /// Reports a write conflict in the log and in an Event.
    fn announce_conflict(&self, key: &Key, uid: Box<str>, conflict: &str) {
        let backoff = self.limits.most_rest().as_secs();
        tracing::warn!(?key, conflict, backoff, "another writer keeps reverting our changes");
        let name = match key {
            Key::Namespace(name) => Arc::clone(name),
            Key::Cluster => Arc::clone(&self.executor.home),
        };
        let announcer = Arc::clone(&self.executor.announcer);
        let note = format!("{conflict}. Portcullis writes it again, with a backoff of up to {backoff} s");
        tokio::spawn(async move {
            announcer.say(&name, &uid, true, "BaselineContested", note).await;
        });
    }
}

impl Worked {
    /// A result without writes.
    fn new(key: Key, began: Instant, result: Result<(), Failure>) -> Self {
        Self {
            key,
            began,
            wake: None,
            complained: false,
            writes: Vec::new(),
            conflict: None,
            is_idle: false,
            uid: Box::default(),
            result,
        }
    }
}

/// The result of a task that panicked.
pub(super) fn broken(key: Key, error: &JoinError) -> Worked {
    tracing::error!(?key, %error, "a reconcile task panicked; this is a bug in Portcullis");
    let result = Err(Failure::Fault("the reconcile task panicked".into()));
    Worked::new(key, Instant::now(), result)
}
