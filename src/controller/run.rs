//! The controller. It works while this replica has a complete view of the cluster and holds the Lease.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::events::Announcer;
use super::executor::Executor;
use super::lease::{Election, Terms};
use super::limits::Limits;
use super::reconciler::{Reconciler, Wanted};
use crate::cluster::Cluster;
use crate::telemetry::BaselineMetrics;
use crate::view::View;

/// The dependencies of the controller.
pub struct Controller {
    /// The connection to the cluster.
    pub cluster: Cluster,
    /// The namespace of Portcullis itself, with the Lease.
    pub namespace: String,
    /// The identity of this replica in the Lease.
    pub identity: String,
    /// The durations of leader election.
    pub terms: Terms,
    /// The limits and intervals of the controller.
    pub limits: Limits,
    /// The view of the cluster. The controller waits until it is [whole](View::is_whole).
    pub views: watch::Receiver<Arc<View>>,
    /// The desired policies.
    pub wanted: watch::Receiver<Wanted>,
    /// The metrics of the controller.
    pub metrics: BaselineMetrics,
    /// Receives true while any replica holds the Lease.
    pub running: watch::Sender<bool>,
    /// Receives true while this replica holds the Lease.
    pub leads: watch::Sender<bool>,
}

/// Keeps the baselines of all namespaces in their desired state while this replica holds the Lease, until `stop` is
/// cancelled.
pub async fn run(controller: Controller, stop: CancellationToken) {
    let Controller { cluster, namespace, identity, terms, limits, mut views, wanted, metrics, running, leads } =
        controller;
    metrics.leads(false);
    // A replica without a complete view does not compete for the Lease, so that another replica can work.
    if !matches!(stop.run_until_cancelled(views.wait_for(|view| view.is_whole())).await, Some(Ok(_))) {
        return;
    }
    let announcer = Arc::new(Announcer::new(cluster.client.clone(), &identity));
    let home: Arc<str> = namespace.into();
    let claim =
        || Claim::new(cluster.client.clone(), Arc::clone(&home), limits, metrics.clone(), Arc::clone(&announcer));
    while !stop.is_cancelled() {
        claim().wait_until_free(&stop).await;
        // The session ends when another installation claims the cluster.
        let session = stop.child_token();
        let election = Election::new(cluster.client.clone(), &home, identity.clone(), terms, running.clone());
        election
            .run(&session, |stop, lease| {
                let (results, receiver) = mpsc::unbounded_channel();
                let executor = Executor {
                    cluster: cluster.clone(),
                    home: Arc::clone(&home),
                    metrics: metrics.clone(),
                    announcer: Arc::clone(&announcer),
                    results,
                };
                let (views, wanted, metrics) = (views.clone(), wanted.clone(), metrics.clone());
                let leads = leads.clone();
                let (mut claim, session) = (claim(), session.clone());
                async move {
                    if !claim.begin().await {
                        return session.cancel();
                    }
                    let installed = claim.installed(lease).await;
                    let reconciler = Reconciler::new(executor, limits, views, wanted, receiver, installed);
                    let leading = Leading::new(metrics, leads);
                    tokio::select! {
                        () = reconciler.work(&stop) => {}
                        () = claim.hold() => session.cancel(),
                    }
                    drop(leading);
                }
            })
            .await;
    }
}

/// Reports that this replica leads. Clears that on drop, whatever ended the work.
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
