//! `/mutate`: labels for new namespaces, and DNS for policies that forgot it.
//!
//! Patches are computed on the JSON as it came, so that fields nobody here knows stay, and are empty where nothing is
//! missing: applied twice they change nothing twice.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use super::answer::Outcome;
use super::review::{Refusal, Request};
use super::validate::{Judged, answer, answer_malformed, subject};
use super::{Answer, Knowledge, text};
use crate::dialect;
use crate::engine;
use crate::model::{Body, Labels, Object, Path};
use crate::rules::Change;

/// Answers a review with the patch that the object needs, if it needs one.
///
/// # Errors
/// The body is not a review that could be answered.
pub fn mutate<'a>(knowledge: &Knowledge, body: &'a [u8]) -> Result<Answer<'a>, Refusal> {
    let request = match Request::read(body)? {
        Ok(request) => request,
        Err(malformed) => return Ok(answer_malformed(malformed)),
    };
    let judged = match subject(&request) {
        Ok(subject) => match &subject.new {
            Some(new) if !new.deleting => Judged {
                outcome: Outcome { patch: patch(knowledge, &request, new, subject.old.as_ref()), ..Outcome::default() },
                ..Judged::default()
            },
            // A patch on a DELETE is an error that no failurePolicy forgives.
            _ => Judged::nothing(),
        },
        Err(judged) => judged,
    };
    Ok(answer(request, judged))
}

fn patch(knowledge: &Knowledge, request: &Request<'_>, new: &Object, old: Option<&Object>) -> Option<Patch> {
    let patch = match &new.body {
        Body::Namespace(namespace) if request.operation == "CREATE" => {
            let object: Value = serde_json::from_str(request.object?.get()).ok()?;
            labels(knowledge, &new.id.name, &namespace.labels, &object)
        }
        Body::Policies(_) => {
            let change = Change::Write { new, old };
            let fixes = engine::repairs(&knowledge.configuration, &knowledge.view, change);
            if fixes.is_empty() {
                return None;
            }
            let object: Value = with_kind(request)?;
            let mut operations = Vec::new();
            let mut patched = object.clone();
            for fix in &fixes {
                let patch = dialect::fix(fix, &patched)?;
                json_patch::patch(&mut patched, &patch).ok()?;
                operations.extend(patch.0);
            }
            let patch = Patch(operations);
            text::applies(&patch, &object).then_some(patch)?
        }
        Body::Namespace(_) | Body::Workload(_) => return None,
    };
    (!patch.0.is_empty()).then_some(patch)
}

/// The object, with the kind and version that the request says it has.
fn with_kind(request: &Request<'_>) -> Option<Value> {
    let mut object: Value = serde_json::from_str(request.object?.get()).ok()?;
    let fields = object.as_object_mut()?;
    fields.insert("apiVersion".into(), json!(request.kind.api_version()));
    fields.insert("kind".into(), json!(request.kind.kind));
    Some(object)
}

/// The labels that a new namespace lacks.
fn labels(knowledge: &Knowledge, name: &str, written: &Labels, object: &Value) -> Patch {
    let site = &knowledge.configuration.site;
    if site.is_platform(name) || site.is_excluded(name) {
        return Patch(Vec::new());
    }
    let mut missing: Vec<(String, &str)> = Vec::new();
    let mut after = written.clone();
    let (profile, baseline) = (site.profile_label(), site.baseline_label());
    if let Some(default) = site.profiles.default.as_deref().filter(|_| written.get(&profile).is_none()) {
        after = after.with(&profile, default);
        missing.push((profile, default));
    }
    // Whatever the author claims, nothing has been applied to a namespace that is only being made.
    let due = knowledge.policies.due(site, name, &after);
    if !due.is_empty() && written.get(&baseline) != Some("pending") {
        missing.push((baseline, "pending"));
    }
    if missing.is_empty() {
        return Patch(Vec::new());
    }
    let metadata = Path::root().field("metadata");
    let mut operations = Vec::new();
    let mut add = |path: &Path, value: Value| {
        if let Ok(path) = PointerBuf::parse(path.pointer()) {
            operations.push(PatchOperation::Add(AddOperation { path, value }));
        }
    };
    let is_there = |path: &Path| object.pointer(&path.pointer()).is_some_and(|value| !value.is_null());
    for parent in [metadata.clone(), metadata.field("labels")] {
        if !is_there(&parent) {
            add(&parent, json!({}));
        }
    }
    for (label, value) in missing {
        add(&metadata.field("labels").key(&label), json!(value));
    }
    Patch(operations)
}
