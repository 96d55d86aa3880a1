//! Patches: a fix applies to the manifest it was made for, what comes out is read, and it is not denied for anything new.

use arbitrary::Unstructured;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::model::Object;
use portcullis::rules::{Change, Occasion};
use serde_json::{Value, json};

use crate::cost::within_budget;
use crate::decision::Request;

/// Fixes of one manifest that are tried.
const MAX_FIXES: usize = 20;
/// The longest manifest.
const MAX_LENGTH: usize = 50_000;

/// Applies every fix that findings offer.
pub fn run(data: &[u8]) {
    let Ok(request) = Request::from(&mut Unstructured::new(data)) else { return };
    let json = request.object.to_string();
    if json.len() > MAX_LENGTH {
        return;
    }
    let origin = Origin::Author;
    let Ok(manifest) = Manifest::read(request.kind.api_version, request.kind.kind, &json, origin) else { return };
    let Some(Ok(Some(object))) = within_budget(json.len(), || dialect::read(&manifest)) else { return };
    let judged = |object: &Object, old: Option<&Object>| {
        let change = Change::Write { new: object, old: old.map(|old| old as _) };
        within_budget(json.len(), || {
            judge(&request.knowledge.configuration, &request.knowledge.view, change, Occasion::default())
        })
    };
    let Some(before) = judged(&object, None) else { return };
    for judgement in before.judgements.iter().filter(|judgement| judgement.finding.fix.is_some()).take(MAX_FIXES) {
        let Some(fix) = &judgement.finding.fix else { continue };
        let Some(patch) = within_budget(json.len(), || dialect::fix(fix, &manifest)).flatten() else { continue };
        let told = || {
            format!("{} at {}: {}\n{:#}", judgement.finding.rule, judgement.finding.path, json!(patch), request.object)
        };
        let after = patch.applied_to(&request.object);
        assert!(after.is_some(), "the fix does not apply: {}", told());
        let mended = after.as_ref().and_then(crate::surroundings::read);
        assert!(mended.is_some(), "the mended manifest is not read: {}", told());
        let Some(mended) = mended else { continue };
        assert_eq!(problems(&mended), problems(&object), "{}", told());
        // What was there before may stay; the ratchet of the engine compares the two.
        let Some(verdict) = judged(&mended, Some(&object)) else { continue };
        let new: Vec<_> = verdict.judgements.iter().filter(|judgement| judgement.denies()).collect();
        assert!(
            new.is_empty(),
            "the fix brings a denial: {new:#?}\n{}\n{}",
            told(),
            after.as_ref().unwrap_or(&Value::Null)
        );
    }
}

fn problems(object: &Object) -> Vec<&str> {
    object.faults.iter().map(|fault| &*fault.problem).collect()
}
