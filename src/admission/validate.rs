//! `/validate`: allows or denies a request.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde::Deserialize;

use super::answer::{self, Denial, Outcome};
use super::attempt::Attempt;
use super::fix::Manifests;
use super::review::{Malformed, Refusal, Request};
use super::{Answer, Decision, Knowledge, Reply, text};
use crate::budget::{self, Exceeded};
use crate::dialect::{self, Claim, Manifest, Origin, ReadError, Written};
use crate::engine::{self, Judgement};
use crate::model::{Object, ObjectRef};
use crate::preview::{is_only_previewed, preview};
use crate::rules::{self, Change, Old};
use crate::view::{Facts, Need, Site};

/// Answers a review, or returns the lookups that the decision requires.
///
/// # Errors
/// Fails if the body is not a review that can be answered.
pub fn validate<'a>(knowledge: &Knowledge, facts: &Facts, body: &'a [u8]) -> Result<Reply<'a>, Refusal> {
    let request = match Request::read(body)? {
        Ok(request) => request,
        Err(malformed) => return Ok(Reply::Answer(answer_malformed(malformed))),
    };
    Ok(match budget::attempt(|| judge(knowledge, facts, &request)) {
        Ok(Ok(judged)) => Reply::Answer(answer(request, judged)),
        Ok(Err(needs)) => Reply::Needs(needs),
        Err(exceeded) => {
            let judged = unjudged(knowledge, &request, exceeded);
            Reply::Answer(answer(request, judged))
        }
    })
}

/// The answer to a request that exceeded its budget before rules could be evaluated.
fn unjudged(knowledge: &Knowledge, request: &Request<'_>, exceeded: Exceeded) -> Judged {
    let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let object = ObjectRef {
        api_version: request.kind.api_version().into(),
        kind: (*request.kind.kind).into(),
        namespace: namespace.filter(|_| !request.is_about_a_namespace()).map(Box::from),
        name: request.name.as_deref().unwrap_or_default().into(),
    };
    let labels = namespace.and_then(|namespace| knowledge.view.all_labels(namespace));
    let is_deleted = request.operation == "DELETE";
    let judgement = engine::unjudged(&knowledge.configuration, &object, labels, is_deleted, exceeded);
    let judgements: Vec<Judgement> = judgement.into_iter().collect();
    let outcome = Outcome {
        denial: text::denial(&judgements, None),
        warnings: text::warnings(&judgements),
        audit: text::audit(&judgements),
        patch: None,
    };
    Judged { outcome, judgements, unreadable: None }
}

/// The users that finish a deletion that was already allowed, of a namespace or of an owner. They do not choose the
/// order of the deletions, and a denial would leave a namespace in phase Terminating forever. Calico's API server is
/// treated alike: it does not say whether it acts for one of these users, and the user was checked when the request
/// arrived.
pub(crate) const FINISHERS: [&str; 3] = [
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    // Both controllers, in clusters that run them without their own service accounts.
    "system:kube-controller-manager",
];

/// The result of checking a request.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) judgements: Vec<Judgement>,
    pub(super) unreadable: Option<String>,
}

impl Judged {
    /// The result without findings.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    pub(super) fn refused(mut denial: Denial) -> Self {
        denial.message = text::clean(&denial.message).into_owned();
        let unreadable = Some(denial.message.clone());
        Self { outcome: Outcome { denial: Some(denial), ..Outcome::default() }, unreadable, ..Self::default() }
    }

    /// The result for an object that cannot be parsed.
    fn unreadable(site: &Site, why: String) -> Self {
        if site.denies_unjudged {
            Self::refused(Denial::unreadable(why))
        } else {
            Self::warned(&format!("allowed without a check: {why}"))
        }
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

/// The response to a review of which only the uid could be parsed.
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

/// The change of an object that a dialect supports.
#[allow(clippy::large_enum_variant, reason = "there is one of them, on the stack, for the length of a request")]
pub(super) enum RequestedChange<'a> {
    /// The object is created or updated.
    Write {
        /// The new object.
        new: Object,
        /// The old object, on an update.
        old: Option<LazyOld<'a>>,
    },
    /// The object is deleted.
    Delete {
        /// The object before its deletion.
        old: Object,
    },
}

/// The old object, parsed on first use.
pub(super) struct LazyOld<'a> {
    manifest: Manifest<'a>,
    object: OnceCell<Option<Object>>,
}

impl Old for LazyOld<'_> {
    fn object(&self) -> Option<&Object> {
        self.object.get_or_init(|| dialect::read(&self.manifest).ok().flatten()).as_ref()
    }
}

impl RequestedChange<'_> {
    /// The change as rules see it.
    pub(super) fn change(&self) -> Change<'_> {
        match self {
            Self::Write { new, old } => Change::Write { new, old: old.as_ref().map(|old| old as &dyn Old) },
            Self::Delete { old } => Change::Delete { old },
        }
    }
}

/// Parses the objects of a request. Returns the result instead if there is nothing to check, or if the object cannot be
/// parsed.
pub(super) fn subject<'a>(
    site: &Site,
    request: &'a Request<'_>,
    api_version: &'a str,
) -> Result<RequestedChange<'a>, Box<Judged>> {
    // Subresources such as status and scale cannot change a spec. The labels of a namespace can be set through any of
    // its subresources.
    let is_namespace = request.is_about_a_namespace();
    if request.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty()) && !is_namespace {
        return Err(Box::default());
    }
    match dialect::claim(api_version, &request.kind.kind) {
        Claim::Known(_) | Claim::Nearest(..) => {}
        Claim::Unknown => return Err(Box::default()),
        // Otherwise a served version that Portcullis does not support would bypass all rules.
        Claim::OtherVersions(versions) => {
            let error = ReadError::version(api_version, &request.kind.kind, versions);
            return Err(Judged::unreadable(site, error.to_string()).into());
        }
    }
    let (operation, kind, username) = (&*request.operation, &request.kind.kind, &*request.user_info.username);
    let unreadable = |error: ReadError| format!("{kind} cannot be parsed and was not checked: {error}");
    match (operation, request.object, request.old_object) {
        ("CONNECT", _, _) => Err(Box::default()),
        ("DELETE", _, _) if FINISHERS.contains(&username) || site.is_passed_on(api_version, username) => {
            Err(Box::default())
        }
        ("DELETE", _, Some(old)) => match dialect::read(&old_manifest(request, api_version, old)) {
            Ok(None) => Err(Box::default()),
            Ok(Some(old)) => Ok(RequestedChange::Delete { old }),
            // An object that cannot be parsed has no known effect that its deletion could remove.
            Err(error) => Err(Judged::warned(&unreadable(error)).into()),
        },
        ("CREATE" | "UPDATE", Some(new), old) => {
            let new = manifest(request, api_version, new);
            let old = old.map(|old| old_manifest(request, api_version, old));
            // Rules check the labels of a namespace, so a change of them is never only metadata. The baseline
            // controller identifies its policies by their labels, so metadata of reserved policies counts too. An
            // object that is being deleted must be able to lose its finalizers. It may stay as long as it keeps one, so
            // a change of its spec is still checked.
            let is_reserved = request.name.as_deref().is_some_and(|name| site.is_reserved_name(api_version, name));
            let says_the_same = old.is_some_and(|old| match (is_namespace, is_reserved) {
                (true, _) => new.deleting() && new.has_same_labels_and_annotations(&old),
                (false, true) => new.only_loses_finalizers(&old),
                (false, false) => new.differs_in_metadata_only(&old),
            });
            if says_the_same {
                return Err(Box::default());
            }
            match dialect::read(&new) {
                Ok(None) => Err(Box::default()),
                Ok(Some(new)) => {
                    let old = old.map(|manifest| LazyOld { manifest, object: OnceCell::new() });
                    Ok(RequestedChange::Write { new, old })
                }
                // An object that could not be parsed before may still be changed.
                Err(error) if old.is_some_and(|old| dialect::read(&old).err() == Some(error.clone())) => {
                    Err(Judged::warned(&unreadable(error)).into())
                }
                Err(error) => Err(Judged::unreadable(site, format!("{kind} cannot be parsed: {error}")).into()),
            }
        }
        ("CREATE" | "UPDATE" | "DELETE", _, _) => {
            let missing = if operation == "DELETE" { "oldObject" } else { "object" };
            let problem = format!("the review of {operation} {kind} has no `{missing}`");
            Err(Judged::refused(Denial::malformed(problem)).into())
        }
        (other, _, _) => Err(Judged::refused(Denial::malformed(format!("unknown operation {other:?}"))).into()),
    }
}

/// The new object of the request, as a manifest.
pub(super) fn manifest<'a>(request: &'a Request<'_>, api_version: &'a str, written: Written<'a>) -> Manifest<'a> {
    let origin = Origin::Server { namespace: request.namespace.as_deref() };
    Manifest { api_version, kind: &request.kind.kind, written, origin }
}

/// The old object of the request, as a manifest.
fn old_manifest<'a>(request: &'a Request<'_>, api_version: &'a str, written: Written<'a>) -> Manifest<'a> {
    let origin = Origin::Stored { namespace: request.namespace.as_deref() };
    Manifest { origin, ..manifest(request, api_version, written) }
}

fn judge(knowledge: &Knowledge, facts: &Facts, request: &Request<'_>) -> Result<Judged, Vec<Need>> {
    let (api_version, site) = (request.kind.api_version(), &knowledge.configuration.site);
    let subject = match subject(site, request, &api_version) {
        Ok(subject) => subject,
        Err(judged) => return Ok(*judged),
    };
    if is_mirror_pod(request) {
        return Ok(Judged::nothing());
    }
    let attempt = Attempt::new(knowledge, facts, request);
    let own = match attempt.view() {
        Ok(own) => own,
        Err(_) if is_only_previewed(site, subject.change()) => return Ok(Judged::nothing()),
        // Unknown is not treated as absent. The configuration decides the result.
        Err(why) if !(site.denies_unknown && site.denies_unjudged) => {
            return Ok(Judged::warned(&format!("allowed without a check: {why}")));
        }
        Err(why) => return Ok(Judged::refused(Denial::undecided(why))),
    };
    let view = own.as_ref().unwrap_or(&knowledge.view);
    let judgements = engine::judge(&knowledge.configuration, view, subject.change(), attempt.occasion()).judgements;
    // A denied request has no effects to preview.
    let previewed = if judgements.iter().any(Judgement::denies) {
        Vec::new()
    } else {
        let Knowledge { configuration, policies, .. } = knowledge;
        preview(configuration, policies, view, subject.change(), attempt.occasion())
    };
    let needs = attempt.into_needs();
    if !needs.is_empty() {
        return Err(needs);
    }
    if judgements.is_empty() && previewed.is_empty() {
        return Ok(Judged::nothing());
    }
    let is_whole = !judgements.iter().any(|judgement| judgement.finding.rule == rules::TOO_COMPLEX);
    // A fix parses the object again, and an exceeded budget has no room for that.
    let new = request.object.filter(|_| is_whole);
    let old = request.old_object.filter(|_| request.operation == "UPDATE");
    let read = |object| manifest(request, &api_version, object);
    let manifests = new.map(|new| Manifests { new: read(new), old: old.map(read) });
    let outcome = Outcome {
        denial: text::denial(&judgements, manifests.as_ref()),
        warnings: text::with_preview(text::warnings(&judgements), &previewed),
        audit: text::audit(&judgements),
        patch: None,
    };
    Ok(Judged { outcome, judgements, unreadable: None })
}

/// Returns true if a kubelet creates the mirror pod of a static pod. The static pod runs whatever the response is, and
/// only its kubelet may create the mirror pod.
pub(super) fn is_mirror_pod(request: &Request<'_>) -> bool {
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
