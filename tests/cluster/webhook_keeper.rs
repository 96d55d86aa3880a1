//! When the webhook configurations are written and when they are only reported, against an API server that is played here.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::{Request, Response};
use k8s_openapi::ByteString;
use kube::Client;
use kube::client::Body;
use portcullis::cluster::{PAUSE_ANNOTATION, WantedWebhooks, WebhookKeeper};
use portcullis::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The interval of checks.
const EVERY: Duration = Duration::from_millis(5);
/// A number of checks after which a write would have happened.
const MANY: usize = 20;

/// An API server without webhook configurations.
#[derive(Clone)]
struct Played {
    /// The metadata of the namespace; null if it does not exist.
    namespace: Value,
    /// The status of a write.
    write_status: u16,
    /// The bodies of the writes of webhook configurations.
    writes: Arc<Mutex<Vec<Value>>>,
}

impl Played {
    fn new(namespace: Value) -> Self {
        Self { namespace, write_status: 200, writes: Arc::default() }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let status = |code: u16| {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no",
                "reason": if code == 404 { "NotFound" } else { "Other" }})
        };
        let (code, body) = match method.as_str() {
            "GET" if path.starts_with("/api/v1/namespaces/") && !self.namespace.is_null() => {
                (200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": self.namespace}))
            }
            "PATCH" => {
                let written: Value = serde_json::from_slice(&request.into_body().collect_bytes().await?)?;
                self.writes.lock().unwrap().push(written.clone());
                (self.write_status, if self.write_status == 200 { written } else { status(self.write_status) })
            }
            "POST" => (201, json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}})),
            _ => (404, status(404)),
        };
        Ok(Response::builder().status(code).body(Body::from(serde_json::to_vec(&body)?))?)
    }

    /// Runs a keeper for many checks, and returns the last line for `/readyz`.
    async fn keep(&self, leads: bool, bundle: Option<Option<&str>>) -> String {
        let played = self.clone();
        let client = Client::new(tower::service_fn(move |request| played.clone().answer(request)), "default");
        let webhooks = json!({"webhooks": [{"name": "policies.portcullis.dev", "clientConfig": {"url": "https://a"}}]});
        let wanted = WantedWebhooks { validating: webhooks.clone(), mutating: webhooks };
        let bundle = bundle.map(|bundle| watch::channel(bundle.map(|bundle| ByteString(bundle.into()))).1);
        let keeper = WebhookKeeper {
            client,
            name: "portcullis".to_owned(),
            namespace: "portcullis-system".to_owned(),
            wanted: watch::channel(Arc::new(wanted)).1,
            leads: Some(watch::channel(leads).1),
            bundle,
            identity: "test".to_owned(),
            every: EVERY,
            metrics: Metrics::default().webhooks,
        };
        let (end, lines) = (CancellationToken::new(), Mutex::new(Vec::new()));
        let tell = |line: String| {
            let mut lines = lines.lock().unwrap();
            lines.push(line);
            if lines.len() >= MANY {
                end.cancel();
            }
        };
        let started = Instant::now();
        tokio::time::timeout(Duration::from_secs(30), keeper.run(tell, &end)).await.expect("it checks on");
        assert!(started.elapsed() >= EVERY);
        lines.into_inner().unwrap().pop().unwrap()
    }

    fn writes(&self) -> Vec<Value> {
        self.writes.lock().unwrap().clone()
    }
}

const CA: Option<Option<&str>> = Some(Some("CA"));

#[tokio::test]
async fn the_leader_creates_what_is_missing_with_the_bundle_and_the_owner() {
    let played = Played::new(json!({"name": "portcullis-system", "uid": "u-1"}));
    played.keep(true, CA).await;
    let written = played.writes();
    let first = &written[0];
    assert_eq!(first["webhooks"][0]["clientConfig"], json!({"url": "https://a", "caBundle": "Q0E="}));
    assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(first["metadata"].get("resourceVersion"), None);
    // The played server stores nothing, so every write looks reverted: two of each are free, and then there is a pause.
    assert_eq!(written.len(), 4, "a writer that loses waits");
}

#[tokio::test]
async fn nothing_is_written_without_the_lease_the_bundle_or_a_namespace_that_stays() {
    let stable = || json!({"name": "portcullis-system", "uid": "u-1"});
    let mut paused = stable();
    paused["annotations"] = json!({PAUSE_ANNOTATION: "INC-1"});
    let mut ending = stable();
    ending["deletionTimestamp"] = json!("2026-11-21T11:30:00Z");
    for (what, namespace, leads, bundle) in [
        ("another replica leads", stable(), false, CA),
        ("differences are reported only", stable(), true, None),
        ("the CA is not known yet", stable(), true, Some(None)),
        ("writes are paused", paused, true, CA),
        ("the namespace is being deleted", ending, true, CA),
        ("the namespace does not exist", Value::Null, true, CA),
    ] {
        let played = Played::new(namespace);
        let line = played.keep(leads, bundle).await;
        assert_eq!(played.writes(), Vec::<Value>::new(), "{what}");
        let missing = "ValidatingWebhookConfiguration portcullis is missing (for 0 s); \
                       MutatingWebhookConfiguration portcullis is missing (for 0 s)";
        let expected =
            if what == "writes are paused" { format!("paused for 0 s: INC-1; {missing}") } else { missing.to_owned() };
        assert_eq!(line, expected, "{what}");
    }
}

#[tokio::test]
async fn a_write_that_fails_is_reported_with_its_reason_and_not_repeated_at_once() {
    let mut played = Played::new(json!({"name": "portcullis-system", "uid": "u-1"}));
    played.write_status = 403;
    let line = played.keep(true, CA).await;
    let said = "ValidatingWebhookConfiguration portcullis is missing; the write failed: no (403) (for 0 s)";
    assert!(line.starts_with(said), "{line}");
    assert_eq!(played.writes().len(), 4);
}

#[tokio::test]
async fn a_write_that_meets_a_change_is_decided_again() {
    let mut played = Played::new(json!({"name": "portcullis-system", "uid": "u-1"}));
    played.write_status = 409;
    let line = played.keep(true, CA).await;
    assert!(line.starts_with("ValidatingWebhookConfiguration portcullis is missing (for 0 s)"), "{line}");
    assert!(played.writes().len() > MANY, "it is no failure, and waits for nothing");
}
