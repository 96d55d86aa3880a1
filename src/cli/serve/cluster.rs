//! The part of `portcullis serve` that needs a cluster: the watches, the lookups and the baseline controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::tasks::Tasks;
use super::contract_verifier::Records;
use super::webhook_keeper;
use crate::admission::Knowledge;
use crate::cluster::{self, Cluster, LiveLookup, Owning, Report, Running, WatchStatus};
use crate::controller::{self, ContractWriter, Controller, Limits, Terms, Wanted};
use crate::recommendation::{Recommendation, recommend};
use crate::server::{Shared, Watch, Watches};
use crate::telemetry::Metrics;
use crate::view::{Lookup, Site, View};

/// Returns the lookups in the cluster, for facts that the view does not have.
pub(super) fn lookup(cluster: &Cluster, metrics: &Metrics) -> Arc<dyn Lookup> {
    Arc::new(LiveLookup::new(cluster.client.clone(), Arc::clone(&cluster.served), metrics.cluster.clone()))
}

/// Replaces the view from files by the view of a watched cluster, which is empty at first.
pub(super) fn forget(knowledge: &mut Knowledge) {
    let contracts = Arc::clone(knowledge.view.given_contracts());
    knowledge.view = Arc::new(View::of_cluster().with_given_contracts(contracts));
    knowledge.unsynced = Some("the watches are starting".into());
}

/// The tasks that follow changes of files.
pub(super) struct Followers {
    owning: watch::Sender<Owning>,
    wanted: watch::Sender<Wanted>,
    /// True while this replica holds the Lease. None without a controller.
    pub(super) leads: Option<watch::Receiver<bool>>,
    /// The webhook keeper, if it runs.
    pub(super) webhooks: Option<webhook_keeper::WebhookUpdates>,
}

impl Followers {
    /// Sends the contents of changed files to the tasks.
    pub(super) fn tell(&self, knowledge: &Knowledge) {
        let new = Owning::from(&knowledge.configuration.site);
        self.owning.send_if_modified(|old| {
            let is_new = *old != new;
            *old = new;
            is_new
        });
        self.wanted.send_replace(wanted(knowledge));
        if let Some(webhooks) = &self.webhooks {
            webhooks.tell(knowledge);
        }
    }
}

/// Returns the configuration and policies that the controller applies.
fn wanted(knowledge: &Knowledge) -> Wanted {
    Wanted { site: Arc::new(knowledge.configuration.site.clone()), policies: Arc::clone(&knowledge.policies) }
}

/// Starts the watches of the cluster, and returns the tasks that follow changes of files. The server is not ready until
/// every watch is synced. The watches retry until the end if the API server does not answer. With a namespace for its
/// Lease, the baseline controller and the writer of the statuses of contracts start too.
pub(super) fn start(
    cluster: &Cluster,
    shared: &Arc<Shared>,
    lease_namespace: Option<String>,
    records: watch::Receiver<Records>,
    tasks: &mut Tasks,
) -> Followers {
    let applies_baselines = lease_namespace.is_some();
    shared.knowledge.rcu(|known| Knowledge { applies_baselines, ..Knowledge::clone(known) });
    let knowledge = shared.knowledge.load_full();
    let (owning, owning_receiver) = watch::channel(Owning::from(&knowledge.configuration.site));
    let (wanted, wanted_receiver) = watch::channel(wanted(&knowledge));
    let running = cluster::run(cluster, owning_receiver, shared.metrics.cluster.clone(), tasks.ending());
    let Running { views, reports, task } = running;
    shared.readiness.watches(words(&reports.borrow()));
    tasks.add("cluster watches", task);
    let mut leads = None;
    if let Some(namespace) = lease_namespace {
        let (running, runs) = watch::channel(false);
        let (leading, receiver) = watch::channel(false);
        let identity = controller::identity();
        let writer = ContractWriter::new(cluster.clone(), namespace.clone(), &identity);
        tasks.spawn("contract status", writer.run(records, receiver.clone(), tasks.ending()));
        leads = Some(receiver);
        let controller = Controller {
            cluster: cluster.clone(),
            namespace,
            identity,
            terms: Terms::default(),
            limits: Limits::default(),
            views: views.clone(),
            wanted: wanted_receiver,
            metrics: shared.metrics.baseline.clone(),
            running,
            leads: leading,
        };
        tasks.spawn("baseline controller", controller::run(controller, tasks.ending()));
        let telling = tell_whether_it_runs(Arc::clone(shared), runs, tasks.ending());
        tasks.spawn("controller status", telling);
    }
    tasks.spawn("cluster view", tell(Arc::clone(shared), views, reports, tasks.ending()));
    Followers { owning, wanted, leads, webhooks: None }
}

/// Reports to the server whether the controller of any replica runs, until the controller of this replica has ended.
async fn tell_whether_it_runs(shared: Arc<Shared>, mut runs: watch::Receiver<bool>, end: CancellationToken) {
    while runs.changed().await.is_ok() {
        let controller_runs = *runs.borrow_and_update();
        shared.knowledge.rcu(|known| Knowledge { controller_runs, ..Knowledge::clone(known) });
    }
    // If the controller ended too early, its own task reports that.
    end.cancelled().await;
}

/// Checks that the configuration names the namespace in which the controller runs. With another one, the rules would deny
/// the writes of the controller.
pub(super) fn expect_namespace(site: &Site, namespace: &str) -> Result<()> {
    if site.namespace != namespace {
        bail!(
            "the controller runs in namespace `{namespace}`, but installation.namespace in the configuration is `{}`; set \
             it to `{namespace}`",
            site.namespace
        );
    }
    Ok(())
}

/// Passes every new view and every new report of the watches to the server.
async fn tell(
    shared: Arc<Shared>,
    mut views: watch::Receiver<Arc<View>>,
    mut reports: watch::Receiver<Report>,
    end: CancellationToken,
) {
    let mut goes_on = true;
    let mut is_compared = false;
    while goes_on {
        goes_on = tokio::select! {
            () = end.cancelled() => return,
            changed = views.changed() => changed.is_ok(),
            changed = reports.changed() => changed.is_ok(),
        };
        let report = reports.borrow_and_update().clone();
        // The watches publish a view before the report that says that it is complete, so it is at least as new.
        let view = Arc::clone(&views.borrow_and_update());
        let unsynced: Option<Arc<str>> = report.unsynced.as_deref().map(Arc::from);
        shared.knowledge.rcu(|known| Knowledge {
            // The initial view of the channel is empty.
            view: if view.is_whole() { known.given_contracts_in(&view) } else { Arc::clone(&known.view) },
            unsynced: unsynced.clone(),
            ..Knowledge::clone(known)
        });
        shared.readiness.watches(words(&report));
        if report.unsynced.is_none() && !std::mem::replace(&mut is_compared, true) {
            log_misfits(&shared.knowledge.load());
        }
    }
    // The watches have ended too early. Their own task reports that.
    end.cancelled().await;
}

/// Logs the settings that do not fit the cluster, as `portcullis init` would recommend them.
fn log_misfits(knowledge: &Knowledge) {
    for Recommendation { field, value, reasons } in recommend(&knowledge.view, &knowledge.configuration.site) {
        let reason = reasons.join(" ");
        tracing::warn!(field, recommended = %value, reason, "the configuration may not fit the cluster");
    }
}

/// Converts the report of the watches to the type of the server.
fn words(report: &Report) -> Watches {
    let watch = |status: &WatchStatus| match status {
        WatchStatus::Synced => Watch::Synced,
        WatchStatus::Syncing(why) => Watch::Syncing(why.clone()),
        WatchStatus::Lost { since, why } => Watch::Lost { since: *since, why: why.clone() },
    };
    let mut notes: BTreeMap<String, String> = report.other_versions.clone();
    notes.extend(report.unclear.iter().map(|(group, why)| (group.clone(), format!("discovery failed: {why}"))));
    notes.extend(report.discovery.iter().map(|why| ("discovery".to_owned(), why.clone())));
    for (kind, (count, sample)) in &report.unreadable {
        notes.insert(format!("unreadable {kind}"), format!("{count}, for example {sample}"));
    }
    Watches {
        unsynced: report.unsynced.clone(),
        kinds: report.watches.iter().map(|(kind, status)| (kind.clone(), watch(status))).collect(),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    #[test]
    fn a_controller_in_another_namespace_than_the_configuration_names_does_not_start() {
        let site = Configuration::shipped().unwrap().site;
        assert!(expect_namespace(&site, "portcullis-system").is_ok());
        assert_eq!(
            expect_namespace(&site, "guard").unwrap_err().to_string(),
            "the controller runs in namespace `guard`, but installation.namespace in the configuration is \
             `portcullis-system`; set it to `guard`"
        );
    }
}
