//! What becomes of a watch whose version the API server does not know any more, and where a watch goes on.
//!
//! A real API server forgets a version after minutes, and nobody can tell it when. So a small server plays one here: it
//! serves what every cluster serves, and of each request for network policies the test says what is answered, and when.

use std::time::Duration;

use crate::support::client::Sent;
use crate::support::played::{self, groups, json_body, resources};
use crate::support::server::until;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Bytes;
use portcullis::cluster::{self, Owning, Report, Running, WatchStatus};
use portcullis::config::Configuration;
use portcullis::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long it may take until the next request comes. Only what never comes takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

/// A request for network policies that waits for its answer.
struct Asked {
    query: String,
    answer: oneshot::Sender<Response>,
}

/// The changes that a watch is told.
struct Changes(UnboundedSender<Bytes>);

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    fn is_watch(&self) -> bool {
        self.parameter("watch") == Some("true")
    }

    fn answer(self, response: Response) {
        self.answer.send(response).expect("somebody waits for the answer");
    }

    /// A page of a list, and what leads to the next one.
    fn page(self, version: u32, names: &[&str], next: Option<&str>) {
        let metadata = json!({"resourceVersion": version.to_string(), "continue": next.unwrap_or_default()});
        let items: Vec<Value> = names.iter().map(|name| policy(name, version)).collect();
        self.answer(json_body(&json!({
            "kind": "NetworkPolicyList", "apiVersion": "networking.k8s.io/v1", "metadata": metadata, "items": items,
        })));
    }

    /// The watch begins.
    fn changes(self) -> Changes {
        let (changes, body) = Sent::open(None);
        self.answer(Body::new(body).into_response());
        Changes(changes)
    }

    /// What is asked for is not known any more.
    fn gone(self) {
        self.answer((StatusCode::GONE, expired().to_string()).into_response());
    }
}

impl Changes {
    fn tell(&self, what: &str, object: &Value) {
        self.0.send(format!("{}\n", json!({"type": what, "object": object})).into()).expect("the watch goes on");
    }

    /// Ends the watch as API servers do: without a word.
    fn end(self) {
        drop(self);
    }
}

fn policy(name: &str, version: u32) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()},
        "spec": {"podSelector": {}},
    })
}

fn expired() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "The resourceVersion is too old.",
    })
}

fn bookmark(version: u32) -> Value {
    json!({
        "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"resourceVersion": version.to_string()},
    })
}

/// What everybody is answered: of namespaces and pods there are none, and there never are any.
async fn answered(request: Request, out: UnboundedSender<Asked>) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match request.uri().path() {
        "/readyz" => "ok".into_response(),
        "/apis" => groups(&["networking.k8s.io/v1"]),
        "/api/v1" => resources("v1", &[("namespaces", "Namespace"), ("pods", "Pod")]),
        "/apis/networking.k8s.io/v1" => resources("networking.k8s.io/v1", &[("networkpolicies", "NetworkPolicy")]),
        POLICIES => {
            let (answer, answered) = oneshot::channel();
            let _ = out.send(Asked { query, answer });
            answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
        "/api/v1/namespaces" | "/api/v1/pods" if query.contains("watch=true") => {
            let (changes, body) = Sent::open(None);
            tokio::spawn(async move { changes.closed().await });
            Body::new(body).into_response()
        }
        "/api/v1/namespaces" | "/api/v1/pods" => {
            json_body(&json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}))
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The watches of such an API server.
struct Watched {
    asked: UnboundedReceiver<Asked>,
    running: Running,
    metrics: Metrics,
    end: CancellationToken,
    _owning: watch::Sender<Owning>,
}

impl Watched {
    async fn start() -> Self {
        let (out, asked) = unbounded_channel();
        let cluster = played::cluster(move |request| answered(request, out.clone())).await;
        let (metrics, end) = (Metrics::default(), CancellationToken::new());
        let (owning, owning_receiver) = watch::channel(Owning::from(&Configuration::shipped().unwrap().site));
        let running = cluster::run(&cluster, owning_receiver, metrics.cluster.clone(), end.clone());
        Self { asked, running, metrics, end, _owning: owning }
    }

    /// The watches, once they know these policies in version 10 and follow what comes after.
    async fn synced(names: &[&str]) -> (Self, Changes) {
        let mut watched = Self::start().await;
        watched.list(None).await.page(10, names, None);
        let changes = watched.watch(10).await.changes();
        watched.until_known(names).await;
        watched.until_synced().await;
        (watched, changes)
    }

    async fn next(&mut self) -> Asked {
        let asked = tokio::time::timeout(PATIENCE, self.asked.recv()).await;
        asked.expect("somebody asks for network policies").expect("the server lives")
    }

    /// The next request, which is one for a list: from its beginning, or from where a page led to.
    async fn list(&mut self, from: Option<&str>) -> Asked {
        let asked = self.next().await;
        assert!(!asked.is_watch(), "{}", asked.query);
        assert_eq!(asked.parameter("continue"), from, "{}", asked.query);
        assert_eq!(asked.parameter("resourceVersion"), None, "what there is now: {}", asked.query);
        asked
    }

    /// The next request, which is one for what comes after a version.
    async fn watch(&mut self, version: u32) -> Asked {
        let asked = self.next().await;
        assert!(asked.is_watch(), "{}", asked.query);
        assert_eq!(asked.parameter("resourceVersion"), Some(&*version.to_string()), "{}", asked.query);
        assert_eq!(asked.parameter("allowWatchBookmarks"), Some("true"), "{}", asked.query);
        asked
    }

    /// The policies that decisions know of, by name.
    fn known(&self) -> Vec<String> {
        let view = self.running.views.borrow();
        let mut names: Vec<String> = view.own_policies("shop").map(|policy| policy.object.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn status(&self) -> Option<WatchStatus> {
        self.running.reports.borrow().watches.get("NetworkPolicy").cloned()
    }

    /// The value of a series about network policies.
    fn metric(&self, series: &str) -> Option<f64> {
        let series = format!("portcullis_watch_{series}{{kind=\"NetworkPolicy\"}} ");
        self.metrics.text().lines().find_map(|line| line.strip_prefix(&*series)?.parse().ok())
    }

    async fn until_known(&self, names: &[&str]) {
        let what = format!("{names:?} are known, and nothing else");
        until(&what, async || (self.known() == names).then_some(())).await;
    }

    async fn until_synced(&self) {
        let is_synced = |report: &Report| {
            report.unsynced.is_none() && report.watches.get("NetworkPolicy") == Some(&WatchStatus::Synced)
        };
        until("the watch is synced", async || is_synced(&self.running.reports.borrow()).then_some(())).await;
        assert_eq!(self.metric("synced"), Some(1.0));
    }

    /// Nothing is wrong, and nothing ever was.
    fn assert_quiet(&self) {
        assert_eq!(self.status(), Some(WatchStatus::Synced));
        assert_eq!((self.metric("synced"), self.metric("failures_total")), (Some(1.0), Some(0.0)));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// How an API server says that it does not know a version any more: to the request for the watch, or in the middle of it.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    Answer,
    Event,
}

impl Expiry {
    /// Ends a watch that knows everything up to this version.
    async fn end(self, watched: &mut Watched, changes: Changes, version: u32) {
        match self {
            Self::Answer => {
                changes.end();
                watched.watch(version).await.gone();
            }
            Self::Event => changes.tell("ERROR", &expired()),
        }
    }
}

#[tokio::test]
async fn a_watch_that_has_expired_lists_anew_and_drops_what_has_vanished_when_the_list_is_whole() {
    for expiry in [Expiry::Answer, Expiry::Event] {
        let (mut watched, changes) = Watched::synced(&["a", "b"]).await;
        changes.tell("ADDED", &policy("c", 11));
        watched.until_known(&["a", "b", "c"]).await;
        expiry.end(&mut watched, changes, 11).await;

        // `b` was deleted and `d` made while nobody watched.
        let first = watched.list(None).await;
        assert_eq!(watched.known(), ["a", "b", "c"], "{expiry:?}");
        first.page(20, &["a", "d"], Some("second"));
        let second = watched.list(Some("second")).await;
        watched.until_known(&["a", "b", "c", "d"]).await;
        // A list that is read anew is no trouble yet.
        watched.assert_quiet();
        second.page(20, &["c"], None);
        let changes = watched.watch(20).await.changes();
        watched.until_known(&["a", "c", "d"]).await;
        watched.assert_quiet();

        // And it is a watch as before.
        changes.tell("DELETED", &policy("a", 21));
        watched.until_known(&["c", "d"]).await;
    }
}

#[tokio::test]
async fn what_expires_as_soon_as_it_is_listed_is_said_and_nothing_is_forgotten() {
    for expiry in [Expiry::Answer, Expiry::Event] {
        let (mut watched, changes) = Watched::synced(&["a", "b"]).await;
        expiry.end(&mut watched, changes, 10).await;
        watched.list(None).await.page(20, &["a", "b"], None);
        let again = watched.watch(20).await;
        match expiry {
            Expiry::Answer => again.gone(),
            Expiry::Event => again.changes().tell("ERROR", &expired()),
        }

        let list = watched.list(None).await;
        let lost = async || match watched.status()? {
            WatchStatus::Lost { why, .. } => Some(why),
            _ => None,
        };
        assert_eq!(until("the watch is lost", lost).await, "the resource version of the last list has expired");
        assert_eq!((watched.metric("synced"), watched.metric("failures_total")), (Some(0.0), Some(1.0)), "{expiry:?}");
        assert_eq!(watched.known(), ["a", "b"], "a watch that is lost is no empty cluster");
        assert_eq!(watched.running.reports.borrow().unsynced, None, "what was told stays in force");

        list.page(30, &["b"], None);
        let _changes = watched.watch(30).await.changes();
        watched.until_known(&["b"]).await;
        watched.until_synced().await;
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_the_last_it_was_told_bookmarks_included() {
    let (mut watched, changes) = Watched::synced(&["a"]).await;
    changes.tell("BOOKMARK", &bookmark(42));
    changes.end();
    let changes = watched.watch(42).await.changes();
    changes.tell("BOOKMARK", &bookmark(50));
    changes.tell("ADDED", &policy("b", 51));
    watched.until_known(&["a", "b"]).await;
    changes.end();
    let changes = watched.watch(51).await.changes();
    changes.tell("DELETED", &policy("a", 60));
    changes.tell("BOOKMARK", &bookmark(70));
    watched.until_known(&["b"]).await;
    changes.end();
    let _changes = watched.watch(70).await.changes();
    watched.assert_quiet();
}

#[tokio::test]
async fn a_list_whose_next_page_has_expired_begins_again_before_anybody_relies_on_it() {
    let mut watched = Watched::start().await;
    watched.list(None).await.page(10, &["a", "b"], Some("second"));
    watched.list(Some("second")).await.gone();
    let list = watched.list(None).await;
    assert!(!watched.running.views.borrow().is_whole(), "half a list is not what there is");
    let unsynced = watched.running.reports.borrow().unsynced.clone();
    assert_eq!(unsynced.as_deref(), Some("waiting for NetworkPolicy"));
    assert_eq!(watched.metric("synced"), Some(0.0));

    // `a` is deleted meanwhile, though the first page told of it.
    list.page(20, &["b", "c"], Some("second"));
    watched.list(Some("second")).await.page(20, &["d"], None);
    let _changes = watched.watch(20).await.changes();
    watched.until_known(&["b", "c", "d"]).await;
    watched.until_synced().await;
}

#[tokio::test]
async fn a_list_that_begins_again_keeps_what_was_known_before_the_first_one() {
    let (mut watched, changes) = Watched::synced(&["a", "b", "c"]).await;
    Expiry::Event.end(&mut watched, changes, 10).await;
    watched.list(None).await.page(20, &["b", "d"], Some("second"));
    watched.until_known(&["a", "b", "c", "d"]).await;
    watched.list(Some("second")).await.gone();

    // `d` is deleted meanwhile, and `a` and `b` are further on.
    watched.list(None).await.page(30, &["e"], Some("second"));
    let second = watched.list(Some("second")).await;
    watched.until_known(&["a", "b", "c", "d", "e"]).await;
    second.page(30, &["a", "b"], None);
    let _changes = watched.watch(30).await.changes();
    watched.until_known(&["a", "b", "e"]).await;
    watched.until_synced().await;
}
