//! The oracles for answers: what `/validate` and `/mutate` may say, whatever they are sent.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::admission::{Answer, Knowledge, Refusal, Reply, mutate, validate};
use portcullis::view::{Facts, Need};
use serde_json::Value;

use crate::cost::within_budget;
use crate::surroundings;

/// The largest answer beside what it quotes of the request: a denial lists 1,000 causes, each with a message of 400 characters.
const MAX_ANSWER: usize = 1024 * 1024;
/// Bytes of an answer for each byte of the request, which it quotes in paths and in the uid, at worst all of them escaped.
const QUOTED: usize = 8;
/// Rounds of lookups after which the server gives up.
const MAX_ROUNDS: usize = 6;
/// The longest body of which every answer is computed twice.
const MAX_REPEATED: usize = 16 * 1024;

/// An endpoint of the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/validate`.
    Validate,
    /// `/mutate`.
    Mutate,
}

/// What came back from an endpoint.
pub(crate) struct Answered {
    /// The `response` of the AdmissionReview.
    pub(crate) response: Value,
    /// The names of the rules that deny.
    pub(crate) denying: Vec<&'static str>,
}

impl Answered {
    /// Returns true if the request is allowed.
    pub(crate) fn allowed(&self) -> bool {
        self.response["allowed"] == true
    }

    /// The JSON patch, if there is one.
    pub(crate) fn patch(&self) -> Option<json_patch::Patch> {
        let patch = STANDARD.decode(self.response["patch"].as_str()?).expect("a patch is base64");
        Some(serde_json::from_slice(&patch).expect("a patch is a JSON patch"))
    }
}

/// Sends a body to an endpoint and checks the answer. None, if the body is no review, or exceeds the budget before it is
/// known whom to answer.
pub(crate) fn ask(knowledge: &Knowledge, endpoint: Endpoint, body: &[u8]) -> Option<Answered> {
    surroundings::show(&format!("{endpoint:?}"), &String::from_utf8_lossy(body));
    let mut facts = Facts::default();
    for _ in 0..MAX_ROUNDS {
        let once = || call(knowledge, endpoint, &facts, body).map(read);
        let reply = within_budget(body.len(), once)?.ok()?;
        match reply {
            Ok((answered, text)) => {
                check(&answered, &text, endpoint, body);
                if body.len() <= MAX_REPEATED {
                    let again = within_budget(body.len(), once)?.ok()?.ok().map(|(_, text)| text);
                    assert_eq!(again.as_deref(), Some(&*text), "the same request gets the same answer");
                }
                return Some(answered);
            }
            Err(needs) => {
                assert!(!needs.is_empty(), "a decision that needs nothing is made");
                for need in needs {
                    surroundings::look_up(need, &mut facts);
                }
            }
        }
    }
    panic!("{endpoint:?} asks again and again: {facts:?}");
}

fn call<'a>(knowledge: &Knowledge, endpoint: Endpoint, facts: &Facts, body: &'a [u8]) -> Result<Reply<'a>, Refusal> {
    match endpoint {
        Endpoint::Validate => validate(knowledge, facts, body),
        Endpoint::Mutate => mutate(knowledge, facts, body),
    }
}

/// The answer and its text, or what has to be looked up first.
fn read(reply: Reply<'_>) -> Result<(Answered, String), Vec<Need>> {
    let Answer { body, decision } = match reply {
        Reply::Answer(answer) => answer,
        Reply::Needs(needs) => return Err(needs),
    };
    let denying = decision.judgements.iter().filter(|judgement| judgement.denies());
    let denying: Vec<&str> = denying.map(|judgement| judgement.finding.rule).collect();
    assert!(denying.is_empty() || !decision.allowed, "what {denying:?} deny is not allowed");
    let text = String::from_utf8(body).expect("an answer is text");
    let mut review: Value = serde_json::from_str(&text).expect("an answer is JSON");
    assert_eq!((&review["apiVersion"], &review["kind"]), (&"admission.k8s.io/v1".into(), &"AdmissionReview".into()));
    Ok((Answered { response: review["response"].take(), denying }, text))
}

fn check(answered: &Answered, text: &str, endpoint: Endpoint, body: &[u8]) {
    let response = &answered.response;
    assert_eq!(response["uid"].as_str(), uid(body).as_deref(), "the uid of the request: {text}");
    assert!(response["allowed"].is_boolean(), "{text}");
    assert_eq!(response["allowed"] == false, response["status"]["code"].is_number(), "{text}");
    assert_eq!(response["patch"].is_string(), response["patchType"] == "JSONPatch", "{text}");
    assert!(response["patch"].is_null() || endpoint == Endpoint::Mutate, "/validate changes nothing: {text}");
    assert!(response["patch"].is_null() || answered.allowed(), "a denial carries no patch: {text}");
    for warning in response["warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().expect("a warning is text");
        assert!(!warning.contains(['\n', '\r', '\0']), "a warning is one line: {warning:?}");
    }
    let most = MAX_ANSWER + QUOTED * body.len();
    assert!(text.len() <= most, "an answer of {} bytes: {}…", text.len(), text.chars().take(2000).collect::<String>());
}

/// The uid that a review carries, read as leniently as JSON allows.
fn uid(body: &[u8]) -> Option<Cow<'_, str>> {
    let review: Value = serde_json::from_slice(body).ok()?;
    review["request"]["uid"].as_str().map(|uid| Cow::Owned(uid.to_owned()))
}
