//! The controller: it works whenever this replica knows what there is and holds the lease.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::events::Announcer;
use super::executor::Executor;
use super::lease::{Election, Terms};
use super::pace::Pace;
use super::policy_set::PolicySet;
use super::worker::Worker;
use crate::cluster::Cluster;
use crate::telemetry::BaselineMetrics;
use crate::view::{Site, View};

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
    /// Receives whether this replica holds the Lease.
    pub leads: watch::Sender<bool>,
}

/// Keeps the baselines of all namespaces as they are to be, until it is told to stop; whenever this replica is the one that
/// holds the lease.
pub async fn run(controller: Controller, stop: CancellationToken) {
    let Controller { cluster, namespace, identity, terms, pace, mut views, wanted, metrics, running, leads } =
        controller;
    metrics.leads(false);
    // Whoever cannot work does not keep others from it.
    if !matches!(stop.run_until_cancelled(views.wait_for(|view| view.is_whole())).await, Some(Ok(_))) {
        return;
    }
    let announcer = Arc::new(Announcer::new(cluster.client.clone(), &identity));
    let home: Arc<str> = namespace.into();
    let claim = || Claim::new(cluster.client.clone(), Arc::clone(&home), pace, metrics.clone(), Arc::clone(&announcer));
    while !stop.is_cancelled() {
        claim().wait_until_free(&stop).await;
        // It ends when another installation takes the cluster.
        let session = stop.child_token();
        let election = Election::new(cluster.client.clone(), &home, identity.clone(), terms, running.clone());
        election
            .run(&session, |stop, lease| {
                let (learnt, all_learnt) = mpsc::unbounded_channel();
                let executor = Executor {
                    cluster: cluster.clone(),
                    home: Arc::clone(&home),
                    metrics: metrics.clone(),
                    announcer: Arc::clone(&announcer),
                    learnt,
                };
                let (views, wanted, metrics) = (views.clone(), wanted.clone(), metrics.clone());
                let leads = leads.clone();
                let (mut claim, session) = (claim(), session.clone());
                async move {
                    if !claim.begin().await {
                        return session.cancel();
                    }
                    let installed = claim.installed(lease).await;
                    let worker = Worker::new(executor, pace, views, wanted, all_learnt, installed);
                    let leading = Leading::new(metrics, leads);
                    tokio::select! {
                        () = worker.work(&stop) => {}
                        () = claim.hold() => session.cancel(),
                    }
                    drop(leading);
                }
            })
            .await;
    }
}

/// Says that this replica works, until that ends: however it does.
struct Leading(BaselineMetrics, watch::Sender<bool>);

impl Leading {
    fn new(metrics: BaselineMetrics, leads: watch::Sender<bool>) -> Self {
        metrics.leads(true);
        leads.send_replace(true);
        Self(metrics, leads)
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.leads(false);
        self.1.send_replace(false);
    }
}
