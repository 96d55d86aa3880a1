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

use super::executor::{Executor, Learnt, in_time};
use crate::baseline::{Catalogue, Entry};

/// Maximum time that the work waits for the dry runs. Then it only checks which policies are present.
const GRACE: Duration = Duration::from_secs(5);
/// Maximum number of concurrent dry runs.
const AT_ONCE: usize = 4;

/// The current catalogue, and the task that dry-runs its policies.
pub(super) struct Learner {
    executor: Executor,
    patience: Duration,
    learnt: UnboundedReceiver<Learnt>,
    catalogue: Option<Arc<Catalogue>>,
    /// The next catalogue. It becomes current as soon as all its dry runs are complete, or at this time.
    next: Option<(Catalogue, Instant)>,
    /// True if the next catalogue is of another policies folder or another configuration.
    is_other: bool,
    /// The dry-run task. There is at most one, and it ends with this value.
    asking: JoinSet<()>,
}

impl Learner {
    pub(super) fn new(executor: Executor, patience: Duration, learnt: UnboundedReceiver<Learnt>) -> Self {
        Self { executor, patience, learnt, catalogue: None, next: None, is_other: false, asking: JoinSet::new() }
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
        let unknown: Vec<Entry> = catalogue.entries().iter().filter(|entry| !entry.is_learnt()).cloned().collect();
        let grace = if unknown.is_empty() { Duration::ZERO } else { GRACE };
        self.next = Some((catalogue, Instant::now() + grace));
        // This aborts the dry runs of the previous catalogue.
        self.asking = JoinSet::new();
        self.asking.spawn(ask(self.executor.clone(), self.patience, unknown));
    }

    /// Waits until another catalogue becomes current, or until a new result changes the current one. Returns true if it
    /// is the catalogue of another policies folder or another configuration.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let due = self.next.as_ref().map(|(_, at)| *at);
            tokio::select! {
                Some(learnt) = self.learnt.recv() => {
                    let is_news = self.take(learnt);
                    if self.next.as_ref().is_some_and(|(next, _)| next.entries().iter().all(Entry::is_learnt)) {
                        return self.change();
                    }
                    if is_news && self.next.is_none() {
                        return false;
                    }
                }
                Some(Err(error)) = self.asking.join_next() => {
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
    fn take(&mut self, learnt: Learnt) -> bool {
        let (mut is_news, mut waiting) = (false, Some(learnt));
        while let Some(learnt) = waiting {
            is_news |= match (&mut self.next, &mut self.catalogue) {
                (Some((next, _)), _) => note(next, &learnt),
                (None, Some(catalogue)) => note(Arc::make_mut(catalogue), &learnt),
                (None, None) => false,
            };
            waiting = self.learnt.try_recv().ok();
        }
        is_news
    }
}

/// Records the result of one dry run. Returns true if it is new.
fn note(catalogue: &mut Catalogue, learnt: &Learnt) -> bool {
    // A result for another policies folder counts only if this folder has the same manifest.
    let Some(position) = catalogue.entries().iter().position(|entry| entry.manifest == learnt.manifest) else {
        return false;
    };
    let fingerprint = catalogue.fingerprint(&learnt.stored);
    let is_news =
        catalogue.entries().get(position).is_some_and(|entry| !entry.is_learnt() || !entry.comes_to(fingerprint));
    if is_news {
        catalogue.learn(position, &learnt.stored);
    }
    is_news
}

/// Dry-runs these entries. Repeats those that failed until all have succeeded.
async fn ask(executor: Executor, patience: Duration, mut entries: Vec<Entry>) {
    while !entries.is_empty() {
        let asked = stream::iter(entries).map(|entry| ask_about(&executor, patience, entry));
        entries = asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        if !entries.is_empty() {
            sleep(patience / 2).await;
        }
    }
}

/// Dry-runs one entry. Returns the entry if that failed.
async fn ask_about(executor: &Executor, patience: Duration, entry: Entry) -> Option<Entry> {
    match in_time(patience, executor.learn(&entry)).await {
        Ok(stored) => {
            let _ = executor.learnt.send(Learnt { manifest: entry.manifest, stored });
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

    /// Returns a learner whose requests get these responses, and then the last one forever.
    fn learner(answers: &'static [Answer]) -> Learner {
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
        let (learnt, all_learnt) = mpsc::unbounded_channel();
        let executor = Executor {
            announcer: Arc::new(Announcer::new(client.clone(), "test")),
            cluster: Cluster { client, server: String::new(), served: Arc::new(ArcSwap::from_pointee(served)) },
            home: "default".into(),
            metrics: BaselineMetrics::default(),
            learnt,
        };
        Learner::new(executor, Duration::from_millis(20), all_learnt)
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

    fn learnt(manifest: &str, stored: &str) -> Learnt {
        let manifest_of = |app: &str| catalogue(app).entries()[0].manifest.clone();
        Learnt { manifest: manifest_of(manifest), stored: manifest_of(stored) }
    }

    /// Returns true if the recorded dry run of the only policy returned this one.
    fn knows(learner: &Learner, stored: &str) -> bool {
        let catalogue = learner.catalogue().unwrap();
        let entry = &catalogue.entries()[0];
        entry.is_learnt() && entry.comes_to(catalogue.fingerprint(&learnt(stored, stored).stored))
    }

    #[tokio::test]
    async fn it_is_asked_until_there_is_an_answer_and_then_no_more() {
        let mut learner = learner(&[Answer::Failure, Answer::Silence, Answer::Same, Answer::Silence]);
        learner.begin(catalogue("a"));
        assert!(learner.catalogue().is_none(), "it is soon known");
        assert!(learner.changed().await);
        assert!(knows(&learner, "a"));
        learner.begin(catalogue("a"));
        assert!(learner.changed().await);
        assert!(knows(&learner, "a"), "it is the same policy, and there is no answer any more");
    }

    #[tokio::test]
    async fn other_endpoints_of_the_api_server_are_not_another_folder() {
        let mut learner = learner(&[Answer::Same]);
        learner.begin(catalogue("a"));
        learner.refill(catalogue("b"));
        assert!(learner.changed().await, "the folder was not current before");
        learner.refill(catalogue("c"));
        assert!(!learner.changed().await);
        assert!(knows(&learner, "c"));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for_and_heard_later() {
        let mut learner = learner(&[Answer::Silence]);
        learner.begin(catalogue("a"));
        assert!(learner.changed().await);
        assert!(!learner.catalogue().unwrap().entries()[0].is_learnt());
        learner.executor.learnt.send(learnt("a", "b")).unwrap();
        assert!(!learner.changed().await, "it is the same folder, and more is known of it");
        assert!(knows(&learner, "b"));
    }

    #[tokio::test]
    async fn what_is_learnt_of_another_folder_is_not_taken_for_this_one() {
        let mut learner = learner(&[Answer::Silence]);
        learner.begin(catalogue("a"));
        learner.begin(catalogue("b"));
        assert_eq!(learner.asking.len(), 1, "no dry run of the first one is left");
        learner.executor.learnt.send(learnt("a", "a")).unwrap();
        learner.executor.learnt.send(learnt("b", "b")).unwrap();
        assert!(learner.changed().await);
        assert!(knows(&learner, "b"));
        learner.executor.learnt.send(learnt("a", "a")).unwrap();
        assert!(!learner.take(learnt("a", "c")), "nor later");
        assert!(knows(&learner, "b"));
        learner.begin(catalogue("c"));
        assert!(knows(&learner, "b"), "it is worked by the ones that are known meanwhile");
    }
}
