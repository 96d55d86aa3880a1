//! `/validate` and `/mutate` over HTTP: the body, its limits, its deadline and the response.
//!
//! A request that was evaluated gets status 200 and a review. Every failure is 4xx or 5xx, so that the failurePolicy of
//! the webhook decides. A failure never allows a request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, oneshot};

use super::Shared;
use super::judges::{Busy, INLINE_BYTES, INLINE_STEPS, Judges};
use super::memory::{self, Memory};
use super::record::record;
use crate::admission::{self, Answer, Knowledge, Refusal, Reply};
use crate::budget::{self, Exceeded, Limits};
use crate::telemetry::Metrics;
use crate::view::{Facts, Need};

/// The deadline of a request without `?timeout=`: the default of the API server.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time before the deadline of the API server at which a request is given up. The API server rounds its deadline up to
/// a second.
const MARGIN: Duration = Duration::from_millis(250);
/// Maximum number of rounds of cluster lookups for one request. One lookup may require another.
const ROUNDS: usize = 6;

/// The function that answers a body.
type Endpoint = for<'a> fn(&Knowledge, &Facts, &'a [u8]) -> Result<Reply<'a>, Refusal>;

#[derive(Clone)]
struct Handler {
    name: &'static str,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    memory: Memory,
    judges: Arc<Judges>,
}

/// Returns the routes of the webhook.
///
/// # Errors
/// The operating system cannot create the evaluation threads.
pub(super) fn router(shared: &Arc<Shared>) -> std::io::Result<Router> {
    let places = Arc::new(Semaphore::new(shared.limits.in_flight));
    let memory = Memory::new(shared.limits.memory);
    let judges = Arc::new(Judges::start()?);
    let handler = |name, endpoint| Handler {
        name,
        endpoint,
        shared: Arc::clone(shared),
        places: Arc::clone(&places),
        memory: memory.clone(),
        judges: Arc::clone(&judges),
    };
    Ok(Router::new()
        .route("/validate", post(handle).with_state(handler("validate", admission::validate)))
        .route("/mutate", post(handle).with_state(handler("mutate", admission::mutate)))
        .fallback(|uri: Uri| async move {
            (
                StatusCode::NOT_FOUND,
                format!("unknown path {}; POST an AdmissionReview to /validate or /mutate\n", uri.path()),
            )
        }))
}

/// A request that is not answered with a review.
struct Failure {
    status: StatusCode,
    /// The label in metrics.
    reason: &'static str,
    message: String,
}

/// The result of an evaluation with the facts known so far.
enum Evaluated {
    /// The body of the answer.
    Answered(Vec<u8>),
    /// The lookups that are needed first.
    Needs(Vec<Need>),
}

/// The state shared by the task of a request and its evaluation thread.
#[derive(Default)]
struct Flight {
    /// The client or the task no longer waits. An evaluation that still runs is stopped.
    cancelled: Arc<AtomicBool>,
    /// The outcome is counted.
    settled: AtomicBool,
}

impl Flight {
    /// Claims to count the outcome. A decision can be made at the very moment at which the deadline passes or the
    /// client closes the connection, and only the first of these is counted.
    fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }
}

/// A request in flight. When the client closes the connection, hyper drops the task and this value with it.
struct Pending<'a> {
    metrics: &'a Metrics,
    flight: Arc<Flight>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.flight.cancelled.store(true, Ordering::Relaxed);
        if self.flight.settle() {
            self.metrics.refused("cancelled");
        }
    }
}

async fn handle(State(handler): State<Handler>, request: Request) -> Response {
    let pending = Pending { metrics: &handler.shared.metrics, flight: Arc::default() };
    match handler.answer(request, &pending.flight).await {
        Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(failure) => {
            pending.flight.settle();
            handler.shared.metrics.refused(failure.reason);
            let status = failure.status.as_u16();
            tracing::warn!(endpoint = handler.name, status, reason = failure.reason, "{}", failure.message);
            (failure.status, format!("{}\n", failure.message)).into_response()
        }
    }
}

impl Handler {
    async fn answer(&self, request: Request, flight: &Arc<Flight>) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + budget(request.uri().query());
        let mut body = request.into_body();
        let collected = self.collect(&mut body, deadline).await;
        if collected.is_err() {
            // A client that is still sending does not read the response, and would see a broken connection instead.
            tokio::spawn(async move {
                let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
                let _ = tokio::time::timeout_at(deadline.into(), rest).await;
            });
        }
        let (body, _held) = collected?;
        let mut facts = Facts::default();
        for _ in 0..ROUNDS {
            match self.evaluate(&body, &mut facts, deadline, flight).await? {
                Evaluated::Answered(answer) => return Ok(answer),
                Evaluated::Needs(needs) => self.look_up(needs, &mut facts, deadline).await,
            }
        }
        Err(Failure {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "lookup",
            message: format!("gave up after {ROUNDS} rounds of cluster lookups"),
        })
    }

    /// Evaluates with the facts known so far: on this thread if that takes few steps, or else on an evaluation thread.
    async fn evaluate(
        &self,
        body: &Bytes,
        facts: &mut Facts,
        deadline: Instant,
        flight: &Arc<Flight>,
    ) -> Result<Evaluated, Failure> {
        let cancelled = Some(Arc::clone(&flight.cancelled));
        let limits = Limits { deadline: Some(deadline), cancelled, ..Limits::default() };
        if body.len() <= memory::SMALL {
            let few = Limits { steps: INLINE_STEPS, bytes: INLINE_BYTES, is_trial: true, ..limits.clone() };
            if let Some(evaluated) = self.judge(body, facts, few, flight)? {
                return Ok(evaluated);
            }
        }
        let (handler, judged_body, known) = (self.clone(), body.clone(), std::mem::take(facts));
        let judged_flight = Arc::clone(flight);
        let (done, mut judged) = oneshot::channel();
        let job = move || {
            let evaluated = handler.judge(&judged_body, &known, limits, &judged_flight);
            // The receiver is dropped if the client has closed the connection.
            let _ = done.send((evaluated, known));
        };
        let user = username(body);
        self.judges.submit(user, job).map_err(|Busy| Failure {
            status: StatusCode::TOO_MANY_REQUESTS,
            reason: "share",
            message: format!("too many expensive requests of user {user:?} are queued; retry later"),
        })?;
        let judged = match tokio::time::timeout_at(deadline.into(), &mut judged).await {
            Ok(judged) => judged,
            Err(_) if flight.settle() => return Err(late()),
            // A decision is made and counted, and its answer is on its way.
            Err(_) => judged.await,
        };
        let (evaluated, known) = judged.map_err(|_| panicked())?;
        *facts = known;
        evaluated?.ok_or_else(panicked)
    }

    /// Looks facts up in the cluster. A lookup without a result in time has failed.
    async fn look_up(&self, needs: Vec<Need>, facts: &mut Facts, deadline: Instant) {
        let asked = needs.clone();
        let answered = match &self.shared.lookup {
            Some(lookup) => {
                // Time has to be left for the evaluation and the response.
                let until = deadline.checked_sub(MARGIN).unwrap_or(deadline);
                tokio::time::timeout_at(until.into(), lookup.look_up(needs, facts)).await.is_ok()
            }
            None => false,
        };
        let why = if answered {
            "the lookup was skipped"
        } else {
            "the API server did not answer before the deadline of the request"
        };
        for need in asked {
            facts.fail(need, why);
        }
    }

    /// Reads the whole body, and reserves its place among the requests in flight.
    async fn collect(&self, body: &mut Body, deadline: Instant) -> Result<(Bytes, impl Sized + use<>), Failure> {
        let limit = self.shared.limits.body;
        let too_large = || Failure {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "too-large",
            message: format!("the body exceeds the limit of {limit} bytes"),
        };
        let size = body.size_hint();
        if size.lower() > limit as u64 {
            return Err(too_large());
        }
        // A body of unknown length counts as one of the maximum size.
        let size = size.exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(limit);
        let held = (Arc::clone(&self.places).try_acquire_owned(), self.memory.take(size));
        let (Ok(place), Some(memory)) = held else {
            let super::Limits { in_flight, memory, .. } = self.shared.limits;
            let message = format!(
                "too many requests in flight (limit {in_flight}, or {} MiB of bodies); retry",
                memory / (1024 * 1024)
            );
            return Err(Failure { status: StatusCode::TOO_MANY_REQUESTS, reason: "overload", message });
        };
        let held = (place, memory, self.shared.metrics.request());
        let whole = async {
            let mut whole = Vec::new();
            let mut first = Bytes::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                if first.len() + whole.len() + data.len() > limit {
                    return Err(too_large());
                }
                // Most bodies come in one piece, which need not be copied.
                if first.is_empty() && whole.is_empty() {
                    first = data;
                } else {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                    whole.extend_from_slice(&data);
                }
            }
            Ok(if whole.is_empty() { first } else { Bytes::from(whole) })
        };
        match tokio::time::timeout_at(deadline.into(), whole).await {
            Ok(whole) => Ok((whole?, held)),
            Err(_) => Err(Failure {
                status: StatusCode::GATEWAY_TIMEOUT,
                reason: "deadline",
                message: "the body was incomplete at the deadline of the request".to_owned(),
            }),
        }
    }

    /// Evaluates within these limits. None if a trial exceeds them.
    fn judge(&self, body: &[u8], facts: &Facts, limits: Limits, flight: &Flight) -> Result<Option<Evaluated>, Failure> {
        let started = Instant::now();
        let knowledge = self.shared.knowledge.load();
        let is_trial = limits.is_trial;
        let judge = || budget::run(limits, || (self.endpoint)(&knowledge, facts, body));
        let judged = match std::panic::catch_unwind(AssertUnwindSafe(judge)) {
            Ok(Err(Exceeded::Steps | Exceeded::Bytes)) if is_trial => return Ok(None),
            Ok(Ok(judged)) => Ok(judged),
            Ok(Err(Exceeded::Steps | Exceeded::Bytes)) => {
                let message = "the review exceeds the limits of one request (steps or memory)".to_owned();
                return Err(Failure { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "too-large", message });
            }
            Ok(Err(Exceeded::Deadline | Exceeded::Cancelled)) => return Err(late()),
            Err(panic) => Err(panic),
        };
        match judged {
            // A policy of the same `kubectl apply` that allows DNS may be stored, but not yet be reported by the watch.
            Ok(Ok(Reply::Answer(Answer { decision, .. })))
                if self.shared.lookup.is_some() && facts.stored.is_none() && decision.may_be_outdated() =>
            {
                let namespace = decision.request.namespace.as_deref().filter(|name| !name.is_empty());
                Ok(Some(Evaluated::Needs(vec![Need::Stored(namespace.map(Box::from))])))
            }
            Ok(Ok(Reply::Answer(_))) if !flight.settle() => Err(late()),
            Ok(Ok(Reply::Answer(Answer { body, decision }))) => {
                record(self.name, &self.shared.metrics, &decision, started.elapsed());
                Ok(Some(Evaluated::Answered(body)))
            }
            Ok(Ok(Reply::Needs(needs))) => Ok(Some(Evaluated::Needs(needs))),
            Ok(Err(Refusal(message))) => {
                Err(Failure { status: StatusCode::BAD_REQUEST, reason: "not-a-review", message })
            }
            Err(_) => Err(panicked()),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that map_err needs")]
fn broken(error: axum::Error) -> Failure {
    Failure { status: StatusCode::BAD_REQUEST, reason: "broken", message: format!("failed to read the body: {error}") }
}

fn late() -> Failure {
    Failure {
        status: StatusCode::GATEWAY_TIMEOUT,
        reason: "deadline",
        message: "no decision before the deadline of the request".to_owned(),
    }
}

/// Returns the user of a request, for the share of the queue. Empty if the review does not start as API servers write
/// it.
///
/// An API server writes `userInfo` before the objects, and escapes quotes within strings, so the first match is the
/// user.
fn username(body: &[u8]) -> &str {
    const KEY: &[u8] = br#""userInfo":{"username":""#;
    const MAX_PREFIX: usize = 16 * 1024;
    let start = body.get(..body.len().min(MAX_PREFIX)).unwrap_or_default();
    let name = start.windows(KEY.len()).position(|part| part == KEY).and_then(|at| start.get(at + KEY.len()..));
    let name = name.and_then(|rest| rest.split(|byte| *byte == b'"').next());
    name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
}

fn panicked() -> Failure {
    Failure {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason: "panic",
        message: "the decision panicked; this is a bug in Portcullis".to_owned(),
    }
}

/// Returns the time that this request may take: the deadline of the API server from `?timeout=`, at most 30 s, less a
/// margin.
fn budget(query: Option<&str>) -> Duration {
    let asked = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("timeout="))
        .and_then(go_duration)
        .unwrap_or(DEADLINE);
    let asked = asked.min(Duration::from_secs(30));
    asked.saturating_sub(MARGIN).max(asked / 2)
}

/// Parses a duration as Go writes it, such as `10s`, `1m30s` or `500ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, left) = after.split_at_checked(unit_end)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "%C2%B5s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = left;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::config::Configuration;
    use crate::server::{Limits, Readiness};
    use crate::view::View;
    use arc_swap::ArcSwap;
    use serde_json::json;

    /// Decides, and returns after the deadline of the request.
    fn slow<'a>(knowledge: &Knowledge, facts: &Facts, body: &'a [u8]) -> Result<Reply<'a>, Refusal> {
        let reply = admission::validate(knowledge, facts, body);
        std::thread::sleep(Duration::from_millis(400));
        reply
    }

    #[tokio::test]
    async fn a_decision_after_the_deadline_is_counted_once() {
        let knowledge = Knowledge::new(Configuration::shipped().unwrap(), View::default(), PolicySet::default());
        let shared = Shared {
            knowledge: ArcSwap::from_pointee(knowledge),
            lookup: None,
            readiness: Readiness::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
        };
        let (places, memory) = (Arc::new(Semaphore::new(1)), Memory::new(shared.limits.memory));
        let judges = Arc::new(Judges::start().unwrap());
        let shared = Arc::new(shared);
        let handler = Handler { name: "validate", endpoint: slow, shared: Arc::clone(&shared), places, memory, judges };
        // A body of this size is evaluated on another thread.
        let annotations = json!({"note": "x".repeat(memory::SMALL)});
        let body = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"},
                "resource": {"group": "networking.k8s.io", "version": "v1", "resource": "networkpolicies"},
                "name": "web", "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "ada"},
                "object": {
                    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                    "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
                    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
                },
                "oldObject": null, "dryRun": false,
            },
        });
        let send = |timeout: &str| {
            let uri = format!("/validate?timeout={timeout}");
            let request = Request::builder().uri(uri).body(Body::from(body.to_string())).unwrap();
            handle(State(handler.clone()), request)
        };
        assert_eq!(send("400ms").await.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(send("30s").await.status(), StatusCode::OK);
        // The second request waited for the same thread, so the first decision has been made by now.
        let metrics = shared.metrics.text();
        let counts: Vec<&str> = metrics
            .lines()
            .filter(|line| {
                line.starts_with("portcullis_admission_re") && line.contains("_total{") && !line.ends_with(" 0")
            })
            .collect();
        assert_eq!(counts.len(), 2, "{metrics}");
        assert!(counts.iter().all(|line| line.ends_with(" 1")), "{metrics}");
    }

    #[test]
    fn the_deadline_is_the_api_servers_less_a_margin() {
        assert_eq!(budget(Some("timeout=10s")), Duration::from_millis(9750));
        assert_eq!(budget(Some("a=b&timeout=1s")), Duration::from_millis(750));
        assert_eq!(budget(Some("timeout=1m30s")), Duration::from_millis(29_750), "no request is that long");
        assert_eq!(budget(Some("timeout=200ms")), Duration::from_millis(100));
        for unread in [None, Some(""), Some("timeout="), Some("timeout=x"), Some("timeout=5"), Some("timeout=0s")] {
            assert_eq!(budget(unread), Duration::from_millis(9750), "{unread:?}");
        }
    }

    #[test]
    fn a_user_is_known_by_what_the_api_server_writes_first() {
        let body =
            br#"{"request":{"name":"\"userInfo\":{\"username\":\"mallory","userInfo":{"username":"ada"},"object":{}}}"#;
        assert_eq!(username(body), "ada");
        assert_eq!(username(br#"{"request":{"object":{}}}"#), "");
        assert_eq!(username(br#"{"userInfo":{"username":"cut"#), "cut");
    }
}
