//! Dry runs of the policies, which show how the API server stores them.
//!
//! They run in the background, before the policies are compared with stored ones. While the API server does not answer,
//! all work continues that does not need the results.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::executor::{DryRun, Executor, in_time};
use crate::baseline::{Catalogue, Entry};

/// Maximum time that the work waits for the dry runs. Then it only checks which policies are present.
const GRACE: Duration = Duration::from_secs(5);
/// Maximum number of concurrent dry runs.
const AT_ONCE: usize = 4;

/// The current catalogue, and the task that dry-runs its policies.
pub(super) struct DryRuns {
    executor: Executor,
    patience: Duration,
    results: UnboundedReceiver<DryRun>,
    catalogue: Option<Arc<Catalogue>>,
    /// The next catalogue. It becomes current as soon as all its dry runs are complete, or at this time.
    next: Option<(Catalogue, Instant)>,
    /// True if the next catalogue is of another policies folder or another configuration.
    is_other: bool,
    /// The dry-run task. There is at most one, and it ends with this value.
    task: JoinSet<()>,
}

impl DryRuns {
    pub(super) fn new(executor: Executor, patience: Duration, results: UnboundedReceiver<DryRun>) -> Self {
        Self { executor, patience, results, catalogue: None, next: None, is_other: false, task: JoinSet::new() }
    }

    /// Returns the current catalogue.
    pub(super) fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.catalogue.as_ref()
    }

    /// Starts the dry runs of the catalogue of another policies folder or another configuration, which becomes current
    /// soon.
    pub(super) fn begin(&mut self, catalogue: Catalogue) {
        self.is_other = true;
        self.start(catalogue);
    }

    /// Starts the dry runs of the same policies with other endpoints of the API server.
    pub(super) fn refill(&mut self, catalogue: Catalogue) {
        self.start(catalogue);
    }

    fn start(&mut self, mut catalogue: Catalogue) {
        if let Some(before) = &self.catalogue {
            catalogue.remember(before);
        }
        let unknown: Vec<Entry> = catalogue.entries().iter().filter(|entry| !entry.has_dry_run()).cloned().collect();
        let grace = if unknown.is_empty() { Duration::ZERO } else { GRACE };
        self.next = Some((catalogue, Instant::now() + grace));
        // This aborts the dry runs of the previous catalogue.
        self.task = JoinSet::new();
        self.task.spawn(dry_run_all(self.executor.clone(), self.patience, unknown));
    }

    /// Waits until another catalogue becomes current, or until a new result changes the current one. Returns true if it
    /// is the catalogue of another policies folder or another configuration.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let due = self.next.as_ref().map(|(_, at)| *at);
            tokio::select! {
                Some(dry_run) = self.results.recv() => {
                    let is_news = self.take(dry_run);
                    if self.next.as_ref().is_some_and(|(next, _)| next.entries().iter().all(Entry::has_dry_run)) {
                        return self.change();
                    }
                    if is_news && self.next.is_none() {
                        return false;
                    }
                }
                Some(Err(error)) = self.task.join_next() => {
                    tracing::error!(%error, "a dry run task panicked; this is a bug in Portcullis");
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => return self.change(),
            }
        }
    }

    fn change(&mut self) -> bool {
        self.catalogue = self.next.take().map(|(next, _)| Arc::new(next)).or_else(|| self.catalogue.take());
        std::mem::take(&mut self.is_other)
    }

    /// Records the results that have arrived. Returns true if any of them is new.
    fn take(&mut self, dry_run: DryRun) -> bool {
        let (mut is_news, mut waiting) = (false, Some(dry_run));
        while let Some(dry_run) = waiting {
            is_news |= match (&mut self.next, &mut self.catalogue) {
                (Some((next, _)), _) => note(next, &dry_run),
                (None, Some(catalogue)) => note(Arc::make_mut(catalogue), &dry_run),
                (None, None) => false,
            };
            waiting = self.results.try_recv().ok();
        }
        is_news
    }
}

/// Records the result of one dry run. Returns true if it is new.
fn note(catalogue: &mut Catalogue, dry_run: &DryRun) -> bool {
    // A result for another policies folder counts only if this folder has the same manifest.
    let Some(position) = catalogue.entries().iter().position(|entry| entry.manifest == dry_run.manifest) else {
        return false;
    };
    let fingerprint = catalogue.fingerprint(&dry_run.stored);
    let is_news =
        catalogue.entries().get(position).is_some_and(|entry| !entry.has_dry_run() || !entry.comes_to(fingerprint));
    if is_news {
        catalogue.record_dry_run(position, &dry_run.stored);
    }
    is_news
}

/// Dry-runs these entries. Repeats those that failed until all have succeeded.
async fn dry_run_all(executor: Executor, patience: Duration, mut entries: Vec<Entry>) {
    while !entries.is_empty() {
        let asked = stream::iter(entries).map(|entry| dry_run_one(&executor, patience, entry));
        entries = asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        if !entries.is_empty() {
            sleep(patience / 2).await;
        }
    }
}

/// Dry-runs one entry. Returns the entry if that failed.
async fn dry_run_one(executor: &Executor, patience: Duration, entry: Entry) -> Option<Entry> {
    match in_time(patience, executor.dry_run(&entry)).await {
        Ok(stored) => {
            let _ = executor.results.send(DryRun { manifest: entry.manifest, stored });
            None
        }
        Err(error) => {
            let object = &entry.id;
            tracing::warn!(%object, %error, "dry run of a baseline policy failed; drift in it will not be detected");
            Some(entry)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::cluster::{Cluster, Served};
    use crate::config::Configuration;
    use crate::controller::events::Announcer;
    use crate::telemetry::BaselineMetrics;
    use arc_swap::ArcSwap;
    use hyper::{Request, Response};
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use kube::Client;
    use kube::api::ApiResource;
    use kube::client::Body;
    use tokio::sync::mpsc;

    /// The response of the API server to a request.
    #[derive(Clone, Copy)]
    enum Answer {
        /// The object that was sent.
        Same,
        /// An error.
        Failure,
        /// No response.
        Silence,
    }

    /// Returns dry runs whose requests get these responses, and then the last one forever.
    fn dry_runs(answers: &'static [Answer]) -> DryRuns {
        let mut answers = answers.iter();
        let mut next = answers.next();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = next;
            next = answers.next().or(answer);
            async move {
                let sent = request.into_body().collect_bytes().await?;
                let code = match answer {
                    Some(Answer::Same) => 201,
                    Some(Answer::Failure) => 500,
                    Some(Answer::Silence) | None => std::future::pending().await,
                };
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(Body::from(sent))?)
            }
        });
        let client = Client::new(service, "default");
        let mut served = Served::default();
        served.insert(ApiResource::erase::<NetworkPolicy>(&()), true);
        let (results, receiver) = mpsc::unbounded_channel();
        let executor = Executor {
            announcer: Arc::new(Announcer::new(client.clone(), "test")),
            cluster: Cluster { client, server: String::new(), served: Arc::new(ArcSwap::from_pointee(served)) },
            home: "default".into(),
            metrics: BaselineMetrics::default(),
            results,
        };
        DryRuns::new(executor, Duration::from_millis(20), receiver)
    }

    /// Returns the catalogue of a folder with one policy, for pods of this app.
    fn catalogue(app: &str) -> Catalogue {
        let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        let manifest = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: portcullis-x}}\n\
             spec: {{podSelector: {{matchLabels: {{app: {app}}}}}}}\n"
        );
        let policies = PolicySet::read([("baseline/x.yaml".to_owned(), manifest)]).unwrap();
        Catalogue::of(Arc::new(Configuration::read(text).unwrap().site), &policies)
    }

    fn dry_run(manifest: &str, stored: &str) -> DryRun {
        let manifest_of = |app: &str| catalogue(app).entries()[0].manifest.clone();
        DryRun { manifest: manifest_of(manifest), stored: manifest_of(stored) }
    }

    /// Returns true if the recorded dry run of the only policy returned this one.
    fn knows(dry_runs: &DryRuns, stored: &str) -> bool {
        let catalogue = dry_runs.catalogue().unwrap();
        let entry = &catalogue.entries()[0];
        entry.has_dry_run() && entry.comes_to(catalogue.fingerprint(&dry_run(stored, stored).stored))
    }

    #[tokio::test]
    async fn it_is_asked_until_there_is_an_answer_and_then_no_more() {
        let mut dry_runs = dry_runs(&[Answer::Failure, Answer::Silence, Answer::Same, Answer::Silence]);
        dry_runs.begin(catalogue("a"));
        assert!(dry_runs.catalogue().is_none(), "it is soon known");
        assert!(dry_runs.changed().await);
        assert!(knows(&dry_runs, "a"));
        dry_runs.begin(catalogue("a"));
        assert!(dry_runs.changed().await);
        assert!(knows(&dry_runs, "a"), "it is the same policy, and there is no answer any more");
    }

    #[tokio::test]
    async fn other_endpoints_of_the_api_server_are_not_another_folder() {
        let mut dry_runs = dry_runs(&[Answer::Same]);
        dry_runs.begin(catalogue("a"));
        dry_runs.refill(catalogue("b"));
        assert!(dry_runs.changed().await, "the folder was not current before");
        dry_runs.refill(catalogue("c"));
        assert!(!dry_runs.changed().await);
        assert!(knows(&dry_runs, "c"));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for_and_heard_later() {
        let mut dry_runs = dry_runs(&[Answer::Silence]);
        dry_runs.begin(catalogue("a"));
        assert!(dry_runs.changed().await);
        assert!(!dry_runs.catalogue().unwrap().entries()[0].has_dry_run());
        dry_runs.executor.results.send(dry_run("a", "b")).unwrap();
        assert!(!dry_runs.changed().await, "it is the same folder, and more is known of it");
        assert!(knows(&dry_runs, "b"));
    }

    #[tokio::test]
    async fn what_is_learnt_of_another_folder_is_not_taken_for_this_one() {
        let mut dry_runs = dry_runs(&[Answer::Silence]);
        dry_runs.begin(catalogue("a"));
        dry_runs.begin(catalogue("b"));
        assert_eq!(dry_runs.task.len(), 1, "no dry run of the first one is left");
        dry_runs.executor.results.send(dry_run("a", "a")).unwrap();
        dry_runs.executor.results.send(dry_run("b", "b")).unwrap();
        assert!(dry_runs.changed().await);
        assert!(knows(&dry_runs, "b"));
        dry_runs.executor.results.send(dry_run("a", "a")).unwrap();
        assert!(!dry_runs.take(dry_run("a", "c")), "nor later");
        assert!(knows(&dry_runs, "b"));
        dry_runs.begin(catalogue("c"));
        assert!(knows(&dry_runs, "b"), "it is worked by the ones that are known meanwhile");
    }
}
