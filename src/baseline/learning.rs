//! What the API server makes of the policies of the folder. It is asked before they are held against what is stored, and
//! beside the work: where it does not answer, everything goes on that does not need to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::catalogue::{Catalogue, Entry};
use super::executor::{Executor, in_time};
use super::objects::Learnt;

/// How long the work waits for the answers. Then it goes on by what is there and what is not.
const GRACE: Duration = Duration::from_secs(5);
/// How many policies are tried at once.
const AT_ONCE: usize = 4;

/// The policies to work by, and whoever finds out what the API server makes of them.
pub(super) struct Learner {
    executor: Executor,
    patience: Duration,
    learnt: UnboundedReceiver<Learnt>,
    catalogue: Option<Arc<Catalogue>>,
    /// What takes its place: as soon as all of it is known, or at this time.
    next: Option<(Catalogue, Instant)>,
    /// One at a time. It ends with this.
    asking: JoinSet<()>,
}

impl Learner {
    pub(super) fn new(executor: Executor, patience: Duration, learnt: UnboundedReceiver<Learnt>) -> Self {
        Self { executor, patience, learnt, catalogue: None, next: None, asking: JoinSet::new() }
    }

    /// The policies to work by at present.
    pub(super) fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.catalogue.as_ref()
    }

    /// Begins to find out what the API server makes of other policies, which are soon the ones to work by.
    pub(super) fn begin(&mut self, mut catalogue: Catalogue) {
        if let Some(before) = &self.catalogue {
            catalogue.remember(before);
        }
        let unknown: Vec<Entry> = catalogue.entries().iter().filter(|entry| !entry.is_learnt()).cloned().collect();
        let grace = if unknown.is_empty() { Duration::ZERO } else { GRACE };
        self.next = Some((catalogue, Instant::now() + grace));
        // Whoever was asking about others asks no more.
        self.asking = JoinSet::new();
        self.asking.spawn(ask(self.executor.clone(), self.patience, unknown));
    }

    /// Waits until there are other policies to work by, or more is known of them. Says whether they are others.
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
                    tracing::error!(%error, "asking what the API server makes of the policies broke off, which is a fault of Portcullis");
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => return self.change(),
            }
        }
    }

    fn change(&mut self) -> bool {
        self.catalogue = self.next.take().map(|(next, _)| Arc::new(next)).or_else(|| self.catalogue.take());
        true
    }

    /// Notes what is known by now, and says whether it is news. What is waiting already is taken in one go.
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

/// Notes what the API server makes of a policy by now, and says whether that is news.
fn note(catalogue: &mut Catalogue, learnt: &Learnt) -> bool {
    // What was asked about another folder says nothing of this one, unless it is written in both.
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

/// Asks about these, and again about those that there was no answer for, until there are all.
async fn ask(executor: Executor, patience: Duration, mut entries: Vec<Entry>) {
    while !entries.is_empty() {
        let asked = stream::iter(entries).map(|entry| ask_about(&executor, patience, entry));
        entries = asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        if !entries.is_empty() {
            sleep(patience / 2).await;
        }
    }
}

/// Asks about one, and gives it back if there was no answer.
async fn ask_about(executor: &Executor, patience: Duration, entry: Entry) -> Option<Entry> {
    match in_time(patience, executor.learn(&entry)).await {
        Ok(stored) => {
            let _ = executor.learnt.send(Learnt { manifest: entry.manifest, stored });
            None
        }
        Err(error) => {
            let object = &entry.id;
            tracing::warn!(%object, %error, "the API server cannot be asked what it makes of a policy: changes of it are not noticed");
            Some(entry)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::baseline::events::Announcer;
    use crate::cluster::{Cluster, Served};
    use crate::config::Configuration;
    use crate::telemetry::BaselineMetrics;
    use arc_swap::ArcSwap;
    use hyper::{Request, Response};
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use kube::Client;
    use kube::api::ApiResource;
    use kube::client::Body;
    use tokio::sync::mpsc;

    /// What comes back of a request.
    #[derive(Clone, Copy)]
    enum Answer {
        /// What was sent.
        Same,
        /// A failure.
        Failure,
        /// Nothing.
        Silence,
    }

    /// Somebody who gets these answers, and the last of them ever after.
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

    /// A folder with one policy, for pods of this app.
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

    /// Whether it is known that the API server makes this of the one policy to work by.
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
        assert_eq!(learner.asking.len(), 1, "nobody asks about the first one any more");
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
