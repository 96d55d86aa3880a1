//! `/validate` and `/mutate` over HTTP: the body, its limits, its deadline, and what the answer says in a log.
//!
//! What could be judged is answered 200 with a review. Everything else is 4xx or 5xx, so that the API server's
//! failurePolicy decides: nothing that goes wrong here is ever an allowance.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use super::Shared;
use crate::admission::{self, Answer, Decision, Knowledge, Refusal, Reply};
use crate::dialect::DIALECTS;
use crate::rules::Mode;
use crate::telemetry::Counted;
use crate::view::{Facts, Need};

/// The deadline where the API server does not say one: its own default.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much before the API server gives up we do. It rounds its deadline up to a second.
const MARGIN: Duration = Duration::from_millis(250);
/// How often one request asks the cluster at most: one question may lead to another.
const ROUNDS: usize = 6;
/// After what time a denial is decided once more where a cluster is watched: what was stored just before, such as the policy
/// with DNS in the same `kubectl apply`, may still be on its way here. Whoever is refused can wait that long.
const SECOND_LOOK: Duration = Duration::from_millis(150);
/// From which size on a body is judged away from the tasks that serve others.
const LARGE: usize = 256 * 1024;

/// What answers a body.
type Endpoint = for<'a> fn(&Knowledge, &Facts, &'a [u8]) -> Result<Reply<'a>, Refusal>;

#[derive(Clone)]
struct Handler {
    name: &'static str,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// In KiB.
    memory: Arc<Semaphore>,
}

/// The routes of the webhook.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let places = Arc::new(Semaphore::new(shared.limits.in_flight));
    let memory = Arc::new(Semaphore::new(shared.limits.memory / 1024));
    let handler = |name, endpoint| Handler {
        name,
        endpoint,
        shared: Arc::clone(shared),
        places: Arc::clone(&places),
        memory: Arc::clone(&memory),
    };
    Router::new()
        .route("/validate", post(handle).with_state(handler("validate", admission::validate)))
        .route("/mutate", post(handle).with_state(handler("mutate", admission::mutate)))
        .fallback(|uri: Uri| async move {
            (
                StatusCode::NOT_FOUND,
                format!("there is nothing at {}; POST an AdmissionReview to /validate or /mutate\n", uri.path()),
            )
        })
}

/// Why a request is not answered with a review.
struct Failure {
    status: StatusCode,
    /// For metrics.
    reason: &'static str,
    message: String,
}

/// What comes of deciding with what is known.
enum Attempt {
    /// The answer.
    Answered(Vec<u8>),
    /// What has to be found out first.
    Needs(Vec<Need>),
    /// It would be refused by what was known a moment ago.
    Denied,
}

async fn handle(State(handler): State<Handler>, request: Request) -> Response {
    match handler.answer(request).await {
        Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(failure) => {
            handler.shared.metrics.refused(failure.reason);
            let status = failure.status.as_u16();
            tracing::warn!(endpoint = handler.name, status, reason = failure.reason, "{}", failure.message);
            (failure.status, format!("{}\n", failure.message)).into_response()
        }
    }
}

impl Handler {
    async fn answer(&self, request: Request) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + budget(request.uri().query());
        let mut body = request.into_body();
        let collected = self.collect(&mut body, deadline).await;
        if collected.is_err() {
            // Whoever is still sending does not read the answer, and would find the connection broken instead.
            tokio::spawn(async move {
                let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
                let _ = tokio::time::timeout_at(deadline.into(), rest).await;
            });
        }
        let (body, _held) = collected?;
        let mut facts = Facts::default();
        let mut looks_again = self.shared.lookup.is_some();
        for _ in 0..ROUNDS {
            match self.attempt(&body, &mut facts, looks_again).await? {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Needs(needs) => self.look_up(needs, &mut facts, deadline).await,
                Attempt::Denied => {
                    looks_again = false;
                    let left = deadline.saturating_duration_since(Instant::now());
                    tokio::time::sleep(SECOND_LOOK.min(left / 4)).await;
                }
            }
        }
        Err(Failure {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "lookup",
            message: "the cluster was asked again and again, and there was always more to ask".to_owned(),
        })
    }

    /// Decides with what is known. What takes long is done away from the tasks that serve others.
    async fn attempt(&self, body: &Bytes, facts: &mut Facts, looks_again: bool) -> Result<Attempt, Failure> {
        if body.len() < LARGE {
            return self.judge(body, facts, looks_again);
        }
        let (handler, body, known) = (self.clone(), body.clone(), std::mem::take(facts));
        let judged = tokio::task::spawn_blocking(move || (handler.judge(&body, &known, looks_again), known)).await;
        let (attempt, known) = judged.map_err(|_| panicked())?;
        *facts = known;
        attempt
    }

    /// Asks the cluster. What is not answered in time is a failed question, and not an answer.
    async fn look_up(&self, needs: Vec<Need>, facts: &mut Facts, deadline: Instant) {
        let asked = needs.clone();
        let answered = match &self.shared.lookup {
            Some(lookup) => {
                // Something has to be left for the answer itself.
                let until = deadline.checked_sub(MARGIN).unwrap_or(deadline);
                tokio::time::timeout_at(until.into(), lookup.look_up(needs, facts)).await.is_ok()
            }
            None => false,
        };
        let why = if answered { "it was not looked up" } else { "the cluster did not answer in time" };
        for need in asked {
            facts.fail(need, why);
        }
    }

    /// The whole body, and its place among those that are under way.
    async fn collect(&self, body: &mut Body, deadline: Instant) -> Result<(Bytes, impl Sized + use<>), Failure> {
        let limit = self.shared.limits.body;
        let too_large = || Failure {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "too-large",
            message: format!("the body is larger than {limit} bytes, which is as large as it may be"),
        };
        let size = body.size_hint();
        if size.lower() > limit as u64 {
            return Err(too_large());
        }
        // A body whose length is not known is counted as the largest that it can be.
        let kib = size.exact().unwrap_or(limit as u64).div_ceil(1024).max(1);
        let held = (
            Arc::clone(&self.places).try_acquire_owned(),
            Arc::clone(&self.memory).try_acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)),
        );
        let (Ok(place), Ok(memory)) = held else {
            let most = self.shared.limits.in_flight;
            return Err(Failure {
                status: StatusCode::TOO_MANY_REQUESTS,
                reason: "overload",
                message: format!("as many requests are under way as are allowed: {most}, or less if they are large"),
            });
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
                message: "the body was not whole in time: the deadline of the request is about to pass".to_owned(),
            }),
        }
    }

    fn judge(&self, body: &[u8], facts: &Facts, looks_again: bool) -> Result<Attempt, Failure> {
        let started = Instant::now();
        let knowledge = self.shared.knowledge.load();
        let judged = std::panic::catch_unwind(AssertUnwindSafe(|| (self.endpoint)(&knowledge, facts, body)));
        match judged {
            Ok(Ok(Reply::Answer(Answer { decision, .. }))) if looks_again && !decision.allowed => Ok(Attempt::Denied),
            Ok(Ok(Reply::Answer(Answer { body, decision }))) => {
                self.record(&decision, started.elapsed());
                Ok(Attempt::Answered(body))
            }
            Ok(Ok(Reply::Needs(needs))) => Ok(Attempt::Needs(needs)),
            Ok(Err(Refusal(message))) => {
                Err(Failure { status: StatusCode::BAD_REQUEST, reason: "not-a-review", message })
            }
            Err(_) => Err(panicked()),
        }
    }

    /// One line a decision for those who want to know it all, and one a denial for everybody.
    fn record(&self, decision: &Decision<'_>, took: Duration) {
        let metrics = &self.shared.metrics;
        let request = &decision.request;
        let counted = Counted {
            endpoint: self.name,
            operation: operation(&request.operation),
            kind: kind(&request.kind.kind),
            decision: decision.word(),
        };
        metrics.answered(counted, took);
        for judgement in &decision.judgements {
            metrics.found(judgement.finding.rule, judgement.action.name());
        }
        macro_rules! line {
            ($level:ident, $message:literal $(, $name:ident = $value:expr)*) => {
                tracing::$level!(
                    endpoint = self.name,
                    uid = &*request.uid,
                    operation = &*request.operation,
                    kind = &*request.kind.kind,
                    namespace = request.namespace.as_deref().unwrap_or_default(),
                    name = request.name.as_deref().unwrap_or_default(),
                    user = &*request.user_info.username,
                    dry_run = request.dry_run.unwrap_or_default(),
                    decision = counted.decision,
                    micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    $($name = $value,)*
                    $message
                )
            };
        }
        if decision.allowed {
            line!(debug, "decided", rules = rules(decision, None));
        } else {
            let why = decision.unreadable.as_deref().unwrap_or_default();
            line!(info, "denied", rules = rules(decision, Some(Mode::Deny)), why = why);
        }
    }
}

/// What rules found, as `rule at path`.
fn rules(decision: &Decision<'_>, action: Option<Mode>) -> String {
    let judgements =
        decision.judgements.iter().filter(|judgement| action.is_none_or(|action| judgement.action == action));
    let found: Vec<String> = judgements
        .take(20)
        .map(|judgement| format!("{} at {}", judgement.finding.rule, judgement.finding.path))
        .collect();
    found.join(", ")
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn broken(error: axum::Error) -> Failure {
    Failure {
        status: StatusCode::BAD_REQUEST,
        reason: "broken",
        message: format!("the body ended before it was whole: {error}"),
    }
}

fn panicked() -> Failure {
    Failure {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason: "panic",
        message: "the decision failed inside; this is a defect of Portcullis".to_owned(),
    }
}

/// How long this request may take: the API server's own deadline, which it sends as `?timeout=`, less a margin.
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

/// A duration as Go writes it, such as `10s`, `1m30s` or `500ms`.
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

/// The operation as a label: one of few.
fn operation(operation: &str) -> &'static str {
    match operation {
        "CREATE" => "create",
        "UPDATE" => "update",
        "DELETE" => "delete",
        "CONNECT" => "connect",
        _ => "other",
    }
}

/// The kind as a label: one of those that a dialect reads.
fn kind(kind: &str) -> &'static str {
    let known = DIALECTS.iter().flat_map(|dialect| dialect.kinds()).find(|known| known.kind == kind);
    known.map_or("other", |known| known.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn labels_have_few_values() {
        assert_eq!((kind("NetworkPolicy"), kind("Anything")), ("NetworkPolicy", "other"));
        assert_eq!((operation("CREATE"), operation("anything")), ("create", "other"));
    }
}
