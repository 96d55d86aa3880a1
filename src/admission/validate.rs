//! `/validate`: may this request go on?

use std::borrow::Cow;

use serde::Deserialize;

use super::answer::{self, Denial, Outcome};
use super::review::{Malformed, Refusal, Request};
use super::{Answer, Decision, Knowledge, text};
use crate::dialect::{self, Claim, Manifest, Origin, ReadError, Written};
use crate::engine::{self, Judgement};
use crate::model::Object;
use crate::rules::Change;

/// Answers a review.
///
/// # Errors
/// The body is not a review that could be answered.
pub fn validate<'a>(knowledge: &Knowledge, body: &'a [u8]) -> Result<Answer<'a>, Refusal> {
    let request = match Request::read(body)? {
        Ok(request) => request,
        Err(malformed) => return Ok(answer_malformed(malformed)),
    };
    let judged = judge(knowledge, &request);
    Ok(answer(request, judged))
}

/// Those who only finish what somebody was allowed to begin, the deletion of a namespace or of an owner, in an order that
/// is not theirs to choose. A denial would leave a namespace terminating for ever.
const FINISHERS: [&str; 2] = [
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
];

/// What comes of judging a request.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) judgements: Vec<Judgement>,
    pub(super) unreadable: Option<String>,
}

impl Judged {
    /// There is nothing to say.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    fn refused(mut denial: Denial) -> Self {
        denial.message = text::clean(&denial.message);
        let unreadable = Some(denial.message.clone());
        Self { outcome: Outcome { denial: Some(denial), ..Outcome::default() }, unreadable, ..Self::default() }
    }

    fn warned(message: &str) -> Self {
        let warnings = vec![text::line(message)];
        Self {
            outcome: Outcome { warnings, ..Outcome::default() },
            unreadable: Some(message.to_owned()),
            ..Self::default()
        }
    }
}

/// The answer to a request.
pub(super) fn answer(request: Request<'_>, judged: Judged) -> Answer<'_> {
    let Judged { outcome, judgements, unreadable } = judged;
    let body = answer::write(&request.uid, &outcome);
    let (allowed, patched) = (outcome.denial.is_none(), outcome.patch.is_some());
    Answer { body, decision: Decision { request, allowed, patched, judgements, unreadable } }
}

/// The answer to a review of which no more than the uid could be read.
pub(super) fn answer_malformed<'a>(malformed: Malformed) -> Answer<'a> {
    let request = Request {
        uid: Cow::Owned(malformed.uid),
        kind: super::review::Kind { group: "".into(), version: "".into(), kind: "".into() },
        sub_resource: None,
        name: None,
        namespace: None,
        operation: "".into(),
        user_info: super::review::User::default(),
        object: None,
        old_object: None,
        dry_run: None,
    };
    answer(request, Judged::refused(Denial::malformed(malformed.problem)))
}

/// A request about an object that a dialect reads.
pub(super) struct Subject {
    pub(super) new: Option<Object>,
    pub(super) old: Option<Object>,
}

/// Reads the objects of a request. Where there is nothing to judge, or nothing that can be judged, the answer is given.
pub(super) fn subject(request: &Request<'_>) -> Result<Subject, Box<Judged>> {
    // Status, scale and the like cannot change a spec. The labels of a namespace can be set through any of its own.
    let is_namespace = request.kind.kind == "Namespace" && request.kind.group.is_empty();
    if request.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty()) && !is_namespace {
        return Err(Box::default());
    }
    let api_version = request.kind.api_version();
    match dialect::claim(&api_version, &request.kind.kind) {
        Claim::Known(_) => {}
        Claim::Unknown => return Err(Box::default()),
        // Otherwise a version that is served and not understood here would be a way around all rules.
        Claim::OtherVersions(versions) => {
            let error = ReadError::version(&api_version, &request.kind.kind, versions);
            return Err(Judged::refused(Denial::unreadable(error.to_string())).into());
        }
    }
    let read = |written| dialect::read(&manifest(request, &api_version, written));
    let kind = &request.kind.kind;
    match &*request.operation {
        "DELETE" if FINISHERS.contains(&&*request.user_info.username) => Err(Box::default()),
        "DELETE" => {
            let Some(old) = request.old_object else {
                let problem = format!("the review of a DELETE of {kind} has no oldObject");
                return Err(Judged::refused(Denial::malformed(problem)).into());
            };
            // What cannot be read has no effect that its deletion could take away.
            match read(old) {
                Ok(Some(old)) => Ok(Subject { new: None, old: Some(old) }),
                Ok(None) => Err(Box::default()),
                Err(error) => Err(Judged::warned(&format!("{kind} cannot be read and was not judged: {error}")).into()),
            }
        }
        "CREATE" | "UPDATE" => {
            let Some(new) = request.object else {
                let problem = format!("the review of {} of {kind} has no object", with_article(&request.operation));
                return Err(Judged::refused(Denial::malformed(problem)).into());
            };
            if is_only_metadata(request, &api_version, new) {
                return Err(Box::default());
            }
            let old = request.old_object.map(read);
            match read(new) {
                Ok(Some(new)) => Ok(Subject { new: Some(new), old: old.and_then(Result::ok).flatten() }),
                Ok(None) => Err(Box::default()),
                // Whoever has to change an object that was unreadable before is not held up by that.
                Err(error) if old == Some(Err(error.clone())) => {
                    Err(Judged::warned(&format!("{kind} cannot be read and was not judged: {error}")).into())
                }
                Err(error) => {
                    Err(Judged::refused(Denial::unreadable(format!("{kind} cannot be read: {error}"))).into())
                }
            }
        }
        "CONNECT" => Err(Box::default()),
        other => Err(Judged::refused(Denial::malformed(format!("the operation {other:?} is not understood"))).into()),
    }
}

/// An object of the request, as a manifest.
pub(super) fn manifest<'a>(request: &'a Request<'_>, api_version: &'a str, written: Written<'a>) -> Manifest<'a> {
    let origin = Origin::Server { namespace: request.namespace.as_deref() };
    Manifest { api_version, kind: &request.kind.kind, written, origin }
}

/// Whether a change leaves all but metadata and status as it was, or the object is being deleted and has to be able to
/// lose its finalizers. Labels of a namespace are what is judged of it, so no change of one is only metadata.
fn is_only_metadata(request: &Request<'_>, api_version: &str, new: Written<'_>) -> bool {
    let new = manifest(request, api_version, new);
    let same = |old| new.differs_in_metadata_only(&manifest(request, api_version, old));
    new.deleting() || (request.kind.kind != "Namespace" && request.old_object.is_some_and(same))
}

fn with_article(operation: &str) -> String {
    format!("{} {operation}", if operation.starts_with('U') { "an" } else { "a" })
}

fn judge(knowledge: &Knowledge, request: &Request<'_>) -> Judged {
    let subject = match subject(request) {
        Ok(subject) => subject,
        Err(judged) => return *judged,
    };
    let change = match (&subject.new, &subject.old) {
        (Some(_), _) if is_mirror_pod(request) => return Judged::nothing(),
        (Some(new), old) => Change::Write { new, old: old.as_ref() },
        (None, Some(old)) => Change::Delete { old },
        (None, None) => return Judged::nothing(),
    };
    let judgements = engine::judge(&knowledge.configuration, &knowledge.view, change).judgements;
    if judgements.is_empty() {
        return Judged::nothing();
    }
    let api_version = request.kind.api_version();
    let object = request.object.map(|object| manifest(request, &api_version, object));
    let outcome = Outcome {
        denial: text::denial(&judgements, object.as_ref()),
        warnings: text::warnings(&judgements),
        audit: text::audit(&judgements),
        patch: None,
    };
    Judged { outcome, judgements, unreadable: None }
}

/// Whether a static pod shows itself to the API server. It runs whatever the answer is, and only its kubelet may do this.
fn is_mirror_pod(request: &Request<'_>) -> bool {
    #[derive(Default, Deserialize)]
    struct Annotations {
        #[serde(rename = "kubernetes.io/config.mirror")]
        mirror: Option<String>,
    }
    let annotations = || request.object?.metadata?.annotations;
    request.kind.kind == "Pod"
        && request.user_info.username.starts_with("system:node:")
        && annotations().is_some_and(|text| {
            serde_json::from_str::<Annotations>(text.get()).is_ok_and(|annotations| annotations.mirror.is_some())
        })
}
