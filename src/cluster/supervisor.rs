//! Supervises discovery, the watches and the feed, and publishes the view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::api_server::{self, Endpoints};
use super::decode::Owning;
use super::discovery::{Served, discover, name};
use super::feed::{Event, Feed};
use super::status::{Report, WatchStatus};
use super::watch::{Told, Watch, jittered};
use crate::telemetry::ClusterMetrics;
use crate::view::View;

/// Interval of discovery.
const DISCOVERY: Duration = Duration::from_secs(30);
/// Half of the first pause after a failed discovery. The pause doubles with each failure, up to a third of
/// [`DISCOVERY`].
const RETRY: Duration = Duration::from_secs(1);
/// Minimum time between two views.
const APART: Duration = Duration::from_millis(20);
/// Interval at which objects are counted and unused workloads are dropped.
const TIDY: Duration = Duration::from_secs(5);
/// Maximum number of queued events. A watch waits while the queue is full.
const WAITING: usize = 1024;
/// Number of consecutive discoveries without a kind after which the kind counts as gone.
const MISSING: u32 = 2;

/// The running watches of a cluster.
#[derive(Debug)]
pub struct Running {
    /// Receives each new view. The first one is empty and not [whole](View::is_whole), because the cluster is still
    /// unknown. All later ones are complete.
    pub views: watch::Receiver<Arc<View>>,
    /// Receives the status of the watches.
    pub reports: watch::Receiver<Report>,
    /// The supervisor task. It ends when `end` is cancelled, or when a watch panics.
    pub task: JoinHandle<()>,
}

/// Starts to watch a cluster. If the cluster does not answer, requests are repeated until `end` is cancelled.
#[must_use]
pub fn run(
    cluster: &Cluster,
    owning: watch::Receiver<Owning>,
    metrics: ClusterMetrics,
    end: CancellationToken,
) -> Running {
    metrics.begin();
    let (views, view_receiver) = watch::channel(Arc::default());
    let waiting = "the watches are starting".to_owned();
    let (reports, report_receiver) = watch::channel(Report { unsynced: Some(waiting), ..Report::default() });
    let (supervisor, events) = Supervisor::new(cluster.clone(), owning, metrics, views, reports);
    let task = tokio::spawn(async move {
        let _ = end.run_until_cancelled(supervisor.run(events)).await;
    });
    Running { views: view_receiver, reports: report_receiver, task }
}

struct Supervisor {
    cluster: Cluster,
    feed: Feed,
    watches: BTreeMap<Arc<str>, Handle>,
    /// The watch of the endpoints of the API server, as it reported last.
    endpoints: Endpoints,
    /// Watch tasks and the discovery task.
    tasks: JoinSet<()>,
    /// The number of the watch that was started last.
    number: u64,
    told: mpsc::Sender<Told>,
    /// Tells every watch to reconnect.
    doubt: watch::Sender<()>,
    metrics: ClusterMetrics,
    owning: watch::Receiver<Owning>,
    /// The reason why the last discovery failed, if it did.
    discovery: Option<String>,
    is_synced: bool,
    views: watch::Sender<Arc<View>>,
    reports: watch::Sender<Report>,
}

/// The watch of one kind, which is aborted on drop.
struct Handle {
    number: u64,
    api_version: String,
    task: AbortHandle,
    /// Number of consecutive discoveries without the kind.
    missing: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Supervisor {
    fn new(
        cluster: Cluster,
        owning: watch::Receiver<Owning>,
        metrics: ClusterMetrics,
        views: watch::Sender<Arc<View>>,
        reports: watch::Sender<Report>,
    ) -> (Self, mpsc::Receiver<Told>) {
        let (told, events) = mpsc::channel(WAITING);
        let (doubt, _) = watch::channel(());
        let supervisor = Self {
            cluster,
            feed: Feed::default(),
            watches: BTreeMap::new(),
            endpoints: Endpoints::default(),
            tasks: JoinSet::new(),
            number: 0,
            told,
            doubt,
            metrics,
            owning,
            discovery: Some("not attempted yet".to_owned()),
            is_synced: false,
            views,
            reports,
        };
        (supervisor, events)
    }

    /// Runs until a watch panics.
    async fn run(mut self, mut events: mpsc::Receiver<Told>) {
        let (found, mut discovered) = mpsc::channel(1);
        self.tasks.spawn(keep_discovering(self.cluster.clone(), found));
        let (reported, mut endpoints) = watch::channel(Endpoints::default());
        self.tasks.spawn(api_server::run(self.cluster.client.clone(), self.doubt.subscribe(), reported));
        let mut tidy = tokio::time::interval(TIDY);
        let mut handed_out = Instant::now();
        let mut is_new = false;
        let mut owning = self.owning.clone();
        loop {
            tokio::select! {
                told = events.recv() => {
                    let Some((name, number, event)) = told else { return };
                    is_new |= self.take(&name, number, event);
                    // Queued events are handled together, so that one view covers them.
                    while let Ok((name, number, event)) = events.try_recv() {
                        is_new |= self.take(&name, number, event);
                        if handed_out.elapsed() > APART && self.is_synced {
                            break;
                        }
                    }
                }
                // Without this watch, changes would go unnoticed, and the view would look as if nothing changed.
                Some(Err(error)) = self.tasks.join_next() => if error.is_panic() {
                    tracing::error!(%error, "a watch task panicked; this is a bug in Portcullis");
                    return;
                },
                Ok(()) = endpoints.changed() => {
                    let endpoints = endpoints.borrow_and_update().clone();
                    is_new |= self.take_endpoints(endpoints);
                }
                Some(served) = discovered.recv() => is_new |= self.discovered(served),
                Ok(()) = owning.changed() => self.begin_again(),
                _ = tidy.tick() => {
                    self.feed.tidy();
                    self.count();
                    self.report();
                }
                () = tokio::time::sleep_until(handed_out + APART), if is_new && self.is_synced => {}
            }
            if is_new && self.is_synced && handed_out.elapsed() >= APART {
                self.views.send_replace(Arc::new(self.feed.view().clone()));
                (handed_out, is_new) = (Instant::now(), false);
            }
        }
    }

    /// Handles an event of a watch. Returns true if the view has changed.
    fn take(&mut self, name: &str, number: u64, event: Event) -> bool {
        // The event may come from a watch that has been replaced.
        if self.watches.get(name).is_none_or(|watch| watch.number != number) {
            return false;
        }
        let is_status = matches!(event, Event::End | Event::Resumed | Event::Lost(_));
        match &event {
            Event::Lost(_) => self.metrics.watch_failed(name),
            Event::Listed(_) | Event::Applied(_) | Event::Removed(_) => self.metrics.event(SystemTime::now()),
            Event::Begin | Event::End | Event::Resumed => {}
        }
        let is_changed = self.feed.take(name, event);
        if is_status {
            self.report();
        }
        is_changed
    }

    /// Handles a report about the endpoints of the API server. Returns true if the view has changed.
    fn take_endpoints(&mut self, endpoints: Endpoints) -> bool {
        if endpoints.status != WatchStatus::Synced {
            self.metrics.watch_failed(api_server::KIND);
        }
        let known = endpoints.known.clone().filter(|known| self.feed.view().api_server() != Some(&**known));
        self.endpoints = endpoints;
        let is_new = known.is_some();
        if let Some(known) = known {
            self.feed.set_api_server(known);
        }
        self.report();
        is_new
    }

    /// Starts the watches of kinds that are served, and stops those of kinds that are not. Returns true if the view has
    /// changed.
    fn discovered(&mut self, served: Result<Served, String>) -> bool {
        let served = match served {
            Ok(served) => served,
            Err(why) => {
                if self.discovery.replace(why.clone()).is_none_or(|before| before != why) {
                    tracing::warn!(%why, "discovery failed");
                }
                // If the API server is gone, the watches are silent too, which looks as if nothing changed.
                self.doubt.send_replace(());
                self.report();
                return false;
            }
        };
        self.discovery = None;
        self.warn(&served);
        let wanted: BTreeMap<Arc<str>, _> = served
            .watched()
            .into_iter()
            .map(|resource| (name(&resource.group, &resource.kind).into(), resource))
            .collect();
        let mut gone = Vec::new();
        for (name, handle) in &mut self.watches {
            handle.missing = if wanted.contains_key(name) { 0 } else { handle.missing + 1 };
            if handle.missing >= MISSING {
                gone.push(Arc::clone(name));
            }
        }
        for name in &gone {
            tracing::info!(kind = &**name, "stopped the watch; the API server no longer serves this kind");
            self.watches.remove(name);
            self.feed.unwatch(name);
            self.metrics.unwatch(name);
        }
        for (name, resource) in wanted {
            match self.watches.get(&name) {
                Some(handle) if handle.api_version == resource.api_version => {}
                _ => {
                    self.feed.watch(&name, resource.clone());
                    self.begin(name, resource.clone());
                }
            }
        }
        self.cluster.served.store(Arc::new(served));
        self.report();
        !gone.is_empty()
    }

    /// Logs kinds that are served only in unlisted versions, and groups whose discovery failed. Each is logged once.
    fn warn(&self, served: &Served) {
        let before = self.cluster.served.load();
        for (kind, problem) in served.other_versions() {
            if before.other_versions().get(kind) != Some(problem) {
                tracing::warn!(%kind, %problem, "this kind is served only in a version that Portcullis does not list");
            }
        }
        for (group, why) in served.unclear() {
            if before.unclear().get(group).is_none() {
                tracing::warn!(%group, %why, "discovery of an API group failed");
            }
        }
    }

    /// Starts the watch of a kind, which replaces an earlier one.
    fn begin(&mut self, name: Arc<str>, resource: kube::core::ApiResource) {
        self.number += 1;
        let api_version = resource.api_version.clone();
        let watch = Watch {
            client: self.cluster.client.clone(),
            resource,
            owning: Arc::new(self.owning.borrow().clone()),
            name: Arc::clone(&name),
            number: self.number,
            out: self.told.clone(),
            doubt: self.doubt.subscribe(),
        };
        let task = self.tasks.spawn(watch.run());
        self.watches.insert(name, Handle { number: self.number, api_version, task, missing: 0 });
    }

    /// Restarts all watches, because the configuration changes how policies of the controller are recognized.
    fn begin_again(&mut self) {
        tracing::info!("the configuration changed the labels of baseline policies; restarting all watches");
        let served = self.cluster.served.load_full();
        for resource in served.watched() {
            self.begin(name(&resource.group, &resource.kind).into(), resource.clone());
        }
    }

    /// Updates the report. Publishes the first view as soon as all watches are synced.
    fn report(&mut self) {
        let served = self.cluster.served.load();
        let mut watches: BTreeMap<String, WatchStatus> =
            self.feed.statuses().map(|(name, status)| (name.to_owned(), status.clone())).collect();
        let unsynced = if self.is_synced { None } else { self.missing(&served, &watches) };
        watches.insert(api_server::KIND.to_owned(), self.endpoints.status.clone());
        for (name, status) in &watches {
            self.metrics.watch(name, *status == WatchStatus::Synced);
        }
        if unsynced.is_none() && !self.is_synced {
            self.is_synced = true;
            self.views.send_replace(Arc::new(self.feed.view().clone()));
            self.count();
            tracing::info!(watches = watches.len(), "all watches are synced");
        }
        let report = Report {
            unsynced,
            discovery: self.discovery.clone(),
            watches,
            other_versions: served.other_versions().clone(),
            unclear: served.unclear().clone(),
            unreadable: self.feed.unreadable(),
        };
        self.reports.send_if_modified(|last| {
            let is_new = *last != report;
            if is_new {
                *last = report;
            }
            is_new
        });
    }

    /// Returns the reason why the view is not complete yet, if it is not.
    fn missing(&self, served: &Served, watches: &BTreeMap<String, WatchStatus>) -> Option<String> {
        if let Some(why) = &self.discovery {
            return Some(format!("discovery of API groups: {why}"));
        }
        if let Some((group, why)) = served.missing() {
            return Some(format!("discovery of API group {group}: {why}"));
        }
        let late = watches.iter().find_map(|(name, status)| match status {
            WatchStatus::Syncing(Some(why)) => Some(format!("failed to start the watch of {name}: {why}")),
            _ => None,
        });
        let waits = || {
            let syncing = watches.iter().filter(|(_, status)| matches!(status, WatchStatus::Syncing(_)));
            let names: Vec<&str> = syncing.map(|(name, _)| &**name).collect();
            (!names.is_empty()).then(|| format!("waiting for {}", names.join(", ")))
        };
        // An answer is enough, even a rejection. Only policies that name the endpoints wait for the endpoints themselves.
        let is_asked = self.endpoints.is_asked;
        late.or_else(waits).or_else(|| (!is_asked).then(|| "waiting for the endpoints of the API server".to_owned()))
    }

    fn count(&self) {
        for (name, known, unreadable) in self.feed.counts() {
            self.metrics.objects(name, known, unreadable);
        }
    }
}

/// Repeats discovery until the receiver is dropped.
async fn keep_discovering(cluster: Cluster, out: mpsc::Sender<Result<Served, String>>) {
    let mut retry = RETRY;
    loop {
        let before = cluster.served.load_full();
        let found = discover(&cluster.client, &before).await;
        let pause = match &found {
            Ok(served) if served.unclear().is_empty() => {
                retry = RETRY;
                DISCOVERY
            }
            _ => {
                retry = (retry * 2).min(DISCOVERY / 3);
                retry
            }
        };
        if out.send(found).await.is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Arriving, read};
    use arc_swap::ArcSwap;
    use hyper::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use kube::core::{ApiResource, GroupVersionKind};

    /// Returns a cluster whose API server does not respond.
    fn silent() -> Cluster {
        let silence = tower::service_fn(async |_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, tower::BoxError>>().await
        });
        let client = Client::new(silence, "default");
        Cluster { client, server: String::new(), served: Arc::new(ArcSwap::default()) }
    }

    #[tokio::test]
    async fn it_does_not_go_on_when_a_watch_has_broken_off() {
        let cluster = silent();
        let (_owning, owning) = watch::channel(Owning::default());
        let (views, heard) = watch::channel(Arc::default());
        let (reports, _) = watch::channel(Report::default());
        let (mut supervisor, events) = Supervisor::new(cluster, owning, ClusterMetrics::default(), views, reports);
        supervisor.tasks.spawn(std::future::pending()).abort();
        supervisor.tasks.spawn(async { panic!("no such thing") });
        tokio::time::timeout(Duration::from_secs(60), supervisor.run(events)).await.unwrap();
        assert!(heard.has_changed().is_err(), "who relies on it can tell");
    }

    fn served(kinds: &[&ApiResource]) -> Served {
        let mut served = Served::default();
        kinds.iter().for_each(|kind| served.insert(ApiResource::clone(kind), true));
        served
    }

    /// Handles these objects as the complete list of a kind.
    fn list(supervisor: &mut Supervisor, resource: &ApiResource, objects: &[&str]) {
        let number = supervisor.watches[&*resource.kind].number;
        let arrivals = objects.iter().map(|object| {
            let arriving: Arriving = serde_json::from_str(object).unwrap();
            Event::Listed(read(resource, &Owning::default(), &arriving))
        });
        for event in [Event::Begin].into_iter().chain(arrivals).chain([Event::End]) {
            supervisor.take(&resource.kind, number, event);
        }
    }

    /// Policies of a kind that is no longer served must leave the view, because they would keep allowing traffic there.
    /// One failed lookup of the kind must not remove them.
    #[tokio::test]
    async fn a_kind_is_gone_once_it_was_not_served_twice_in_a_row_and_never_by_an_error() {
        let cluster = silent();
        let (_owning, owning) = watch::channel(Owning::default());
        let (views, told_views) = watch::channel(Arc::default());
        let (reports, told) = watch::channel(Report::default());
        let (mut supervisor, _events) = Supervisor::new(cluster, owning, ClusterMetrics::default(), views, reports);
        let resource = |group, version, kind| ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let policy = resource("networking.k8s.io", "v1", "NetworkPolicy");
        let cilium = resource("cilium.io", "v2", "CiliumNetworkPolicy");
        let (with, without) = (served(&[&policy, &cilium]), served(&[&policy]));

        supervisor.discovered(Ok(with.clone()));
        let metadata = r#""metadata": {"name": "wide", "namespace": "shop"}"#;
        list(&mut supervisor, &policy, &[&format!(r#"{{{metadata}, "spec": {{"podSelector": {{}}}}}}"#)]);
        list(&mut supervisor, &cilium, &[&format!(r#"{{{metadata}, "spec": {{"endpointSelector": {{}}}}}}"#)]);
        // A rejected request for the endpoints of the API server is an answer.
        assert_eq!(told.borrow().unsynced.as_deref(), Some("waiting for the endpoints of the API server"));
        let status = WatchStatus::Syncing(Some("forbidden".to_owned()));
        assert!(!supervisor.take_endpoints(Endpoints { status, is_asked: true, ..Endpoints::default() }));
        let known = |supervisor: &Supervisor| -> Vec<String> {
            supervisor.feed.view().own_policies("shop").map(|policy| policy.object.kind.to_string()).collect()
        };
        let both = ["NetworkPolicy", "CiliumNetworkPolicy"];
        assert_eq!(known(&supervisor), both);
        assert!(told_views.borrow().is_whole() && told.borrow().unsynced.is_none());

        let failed = || Err("the API server does not answer".to_owned());
        let answers = [
            failed(),
            failed(),
            failed(),
            Ok(without.clone()),
            // A failed discovery does not count.
            failed(),
            Ok(with),
            Ok(without.clone()),
        ];
        for (turn, answer) in answers.into_iter().enumerate() {
            assert!(!supervisor.discovered(answer), "{turn}");
            assert_eq!(known(&supervisor), both, "{turn}");
            assert!(told.borrow().watches.contains_key("CiliumNetworkPolicy"), "{turn}");
        }
        assert!(supervisor.discovered(Ok(without.clone())), "the view is another one");
        assert_eq!(known(&supervisor), ["NetworkPolicy"]);
        let report = told.borrow().clone();
        assert!(!report.watches.contains_key("CiliumNetworkPolicy") && report.unsynced.is_none(), "{report:?}");
        assert!(!supervisor.discovered(Ok(without)), "it is gone once");
    }
}
