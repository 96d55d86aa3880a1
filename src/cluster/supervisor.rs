//! What holds discovery, watches and the feed together, and hands out the view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::arrival::Owning;
use super::discovery::{Served, discover, name};
use super::feed::{Event, Feed};
use super::status::{Report, WatchStatus};
use super::watch::{Told, Watch, jittered};
use crate::telemetry::ClusterMetrics;
use crate::view::View;

/// How often it is asked what the cluster serves.
const DISCOVERY: Duration = Duration::from_secs(30);
/// How often, where there was no answer: the first pause.
const RETRY: Duration = Duration::from_secs(1);
/// How far apart views are handed out at least.
const APART: Duration = Duration::from_millis(20);
/// How often objects are counted, and what nobody uses is dropped.
const TIDY: Duration = Duration::from_secs(5);
/// How many events may wait. Who tells more has to wait.
const WAITING: usize = 1024;
/// How often in a row a kind has to be missing until it counts as gone.
const MISSING: u32 = 2;

/// Watches of a cluster that run.
#[derive(Debug)]
pub struct Running {
    /// The view, again and again. The first one is empty, and not [whole](View::is_whole): it says nothing. All others tell
    /// what is in the cluster.
    pub views: watch::Receiver<Arc<View>>,
    /// How the watches are.
    pub reports: watch::Receiver<Report>,
    /// Ends when it is told to.
    pub task: JoinHandle<()>,
}

/// Begins to watch a cluster. Where it does not answer, it is asked again until `end`.
#[must_use]
pub fn run(
    cluster: &Cluster,
    owning: watch::Receiver<Owning>,
    metrics: ClusterMetrics,
    end: CancellationToken,
) -> Running {
    metrics.begin();
    let (views, view_receiver) = watch::channel(Arc::default());
    let waiting = "nothing is known of the cluster yet".to_owned();
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
    /// Those of the watches, and of who asks what is served.
    tasks: JoinSet<()>,
    /// That of the last watch that was begun.
    number: u64,
    told: mpsc::Sender<Told>,
    /// Tells every watch to ask again, on another connection.
    doubt: watch::Sender<()>,
    metrics: ClusterMetrics,
    owning: watch::Receiver<Owning>,
    /// Why it is not known what the cluster serves, if it is not.
    discovery: Option<String>,
    is_synced: bool,
    views: watch::Sender<Arc<View>>,
    reports: watch::Sender<Report>,
}

/// The watch of one kind. It ends with this.
struct Handle {
    number: u64,
    api_version: String,
    task: AbortHandle,
    /// How often in a row the kind was missing.
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
            tasks: JoinSet::new(),
            number: 0,
            told,
            doubt,
            metrics,
            owning,
            discovery: Some("the cluster was not asked yet".to_owned()),
            is_synced: false,
            views,
            reports,
        };
        (supervisor, events)
    }

    /// Goes on without end, unless something breaks.
    async fn run(mut self, mut events: mpsc::Receiver<Told>) {
        let (found, mut discovered) = mpsc::channel(1);
        self.tasks.spawn(keep_discovering(self.cluster.clone(), found));
        let mut tidy = tokio::time::interval(TIDY);
        let mut handed_out = Instant::now();
        let mut is_new = false;
        let mut owning = self.owning.clone();
        loop {
            tokio::select! {
                told = events.recv() => {
                    let Some((name, number, event)) = told else { return };
                    is_new |= self.take(&name, number, event);
                    // What is waiting already is taken in one go.
                    while let Ok((name, number, event)) = events.try_recv() {
                        is_new |= self.take(&name, number, event);
                        if handed_out.elapsed() > APART && self.is_synced {
                            break;
                        }
                    }
                }
                // One that is not heard any more looks as if nothing happened.
                Some(Err(error)) = self.tasks.join_next() => if error.is_panic() {
                    tracing::error!(%error, "a watch broke off, which is a fault of Portcullis");
                    return;
                },
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

    /// Takes in what a watch tells, and says whether the view has changed.
    fn take(&mut self, name: &str, number: u64, event: Event) -> bool {
        // A watch that was ended may have told something before.
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

    /// Begins the watches of what is served, and ends those of what is not. Says whether the view has changed.
    fn discovered(&mut self, served: Result<Served, String>) -> bool {
        let served = match served {
            Ok(served) => served,
            Err(why) => {
                if self.discovery.replace(why.clone()).is_none_or(|before| before != why) {
                    tracing::warn!(%why, "it cannot be found out what the cluster serves");
                }
                // Where nobody answers, watches are silent for the same reason, which looks as if nothing happened.
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
            tracing::info!(kind = &**name, "it is not watched any more: it is not served, or served by another name");
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

    /// Says once what is served and not understood.
    fn warn(&self, served: &Served) {
        let before = self.cluster.served.load();
        for (kind, problem) in served.other_versions() {
            if before.other_versions().get(kind) != Some(problem) {
                tracing::warn!(%kind, %problem, "objects of this kind count for nothing");
            }
        }
        for (group, why) in served.unclear() {
            if before.unclear().get(group).is_none() {
                tracing::warn!(%group, %why, "it cannot be found out what is in this group");
            }
        }
    }

    /// Begins the watch of a kind, in the place of an earlier one.
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

    /// Has everything told again: it is not looked at as before.
    fn begin_again(&mut self) {
        tracing::info!("the configuration names the controller's policies in another way: they are read again");
        let served = self.cluster.served.load_full();
        for resource in served.watched() {
            self.begin(name(&resource.group, &resource.kind).into(), resource.clone());
        }
    }

    /// Says how the watches are.
    fn report(&mut self) {
        let served = self.cluster.served.load();
        let watches: BTreeMap<String, WatchStatus> =
            self.feed.statuses().map(|(name, status)| (name.to_owned(), status.clone())).collect();
        for (name, status) in &watches {
            self.metrics.watch(name, *status == WatchStatus::Synced);
        }
        let unsynced = if self.is_synced { None } else { self.missing(&served, &watches) };
        if unsynced.is_none() && !self.is_synced {
            self.is_synced = true;
            self.views.send_replace(Arc::new(self.feed.view().clone()));
            self.count();
            tracing::info!(watches = watches.len(), "every watch has told what is in the cluster");
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

    /// What is still missing before the view tells what is in the cluster.
    fn missing(&self, served: &Served, watches: &BTreeMap<String, WatchStatus>) -> Option<String> {
        if let Some(why) = &self.discovery {
            return Some(format!("it is not known what the cluster serves: {why}"));
        }
        if let Some((group, why)) = served.missing() {
            return Some(format!("it is not known what is in the group {group}: {why}"));
        }
        let late = watches.iter().find_map(|(name, status)| match status {
            WatchStatus::Syncing(Some(why)) => Some(format!("the watch of {name} does not begin: {why}")),
            _ => None,
        });
        let waits = || {
            let syncing = watches.iter().filter(|(_, status)| matches!(status, WatchStatus::Syncing(_)));
            let names: Vec<&str> = syncing.map(|(name, _)| &**name).collect();
            (!names.is_empty()).then(|| format!("waiting for {}", names.join(", ")))
        };
        late.or_else(waits)
    }

    fn count(&self) {
        for (name, known, unreadable) in self.feed.counts() {
            self.metrics.objects(name, known, unreadable);
        }
    }
}

/// Finds out again and again what the cluster serves.
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

    /// A cluster whose API server says nothing.
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

    /// The watch of a kind tells that this is all there is.
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

    /// A policy of a kind that is not there any more goes on allowing things, and one whose kind only cannot be found for a
    /// moment must not stop.
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
            // That is no second time.
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
