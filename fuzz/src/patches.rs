//! Patches: a fix applies to the manifest it was made for, what comes out is read, and it is not denied for anything new.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use portcullis::admission::Knowledge;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::{Verdict, judge};
use portcullis::model::{FaultKind, Object};
use portcullis::rules::{Change, Occasion};
use serde_json::json;

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
    let Knowledge { configuration, view, .. } = &request.knowledge;
    let judged = |object: &Object| {
        let change = Change::Write { new: object, old: None };
        within_budget(json.len(), || judge(configuration, view, change, Occasion::default()))
    };
    let Some(before) = judged(&object) else { return };
    for judgement in before.judgements.iter().filter(|judgement| judgement.finding.fix.is_some()).take(MAX_FIXES) {
        let Some(fix) = &judgement.finding.fix else { continue };
        let Some(patch) = within_budget(json.len(), || dialect::fix(fix, &manifest)).flatten() else { continue };
        let told = || {
            format!("{} at {}: {}\n{:#}", judgement.finding.rule, judgement.finding.path, json!(patch), request.object)
        };
        let Some(patched) = patch.applied_to(&request.object) else { panic!("the fix does not apply: {}", told()) };
        let Some(read) = within_budget(json.len(), || crate::surroundings::read(&patched)) else { continue };
        let Some(mended) = read else { panic!("the mended manifest is not read: {}", told()) };
        let had = faults(&object);
        for (kind, count) in faults(&mended) {
            assert!(had.get(&kind).is_some_and(|had| count <= *had), "the fix brings faults of {kind:?}: {}", told());
        }
        let Some(after) = judged(&mended) else { continue };
        let had = denials(&before);
        for (rule, count) in denials(&after) {
            // As in `tests/engine/patches.rs`: what is said only once there is DNS, or a rule that does all that another one does.
            let of_fix = judgement.finding.rule;
            let is_next =
                ["dns-udp-only", "redundant-policy"].contains(&rule) || (of_fix, rule) == ("split-peer", "dns-blocked");
            let is_known = had.get(rule).is_some_and(|had| count <= *had);
            assert!(is_known || is_next, "the fix brings a denial of {rule}: {}\n{patched:#}", told());
        }
    }
}

/// The number of denials of each rule.
fn denials(verdict: &Verdict) -> BTreeMap<&'static str, usize> {
    let mut denials = BTreeMap::new();
    for judgement in verdict.judgements.iter().filter(|judgement| judgement.denies()) {
        *denials.entry(judgement.finding.rule).or_default() += 1;
    }
    denials
}

/// The number of faults of each kind. Their words may change, as they quote the manifest.
fn faults(object: &Object) -> BTreeMap<FaultKind, usize> {
    let mut faults = BTreeMap::new();
    for fault in &object.faults {
        *faults.entry(fault.kind).or_default() += 1;
    }
    faults
}
