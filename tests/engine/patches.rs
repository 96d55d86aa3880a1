//! What a finding offers as a patch puts it right, in every dialect: it applies to the manifest as it is written, what comes
//! out is read, has the fault no more, and has no fault that was not there. And no manifest, however it is broken, is too
//! much for a dialect.

use std::collections::BTreeMap;

use crate::oracle::World;
use crate::oracle::generate::{assemble, calico_policy, cilium_policy, cluster_policy, kubernetes_policy};
use crate::shipped::CONFIGURATION;
use portcullis::dialect::{self, Manifest, Origin, ReadError};
use portcullis::engine::{Judgement, judge};
use portcullis::model::{Finding, Object, Step};
use portcullis::rules::{Change, Mode, Occasion};
use portcullis::view::View;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// A policy of any dialect, valid in the eyes of its agent.
fn policy() -> impl Strategy<Value = Value> {
    prop_oneof![kubernetes_policy(), cilium_policy(), calico_policy(), cluster_policy()].prop_map(|manifest| {
        let world =
            World { namespaces: BTreeMap::from([("a".into(), BTreeMap::new())]), pods: vec![], manifests: vec![] };
        assemble(world, vec![manifest]).manifests.remove(0)
    })
}

fn with_manifest<T>(value: &Value, then: impl FnOnce(&Manifest<'_>) -> T) -> T {
    let (api_version, kind) = (value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
    let json = value.to_string();
    then(&Manifest::read(api_version, kind, &json, Origin::Author).unwrap())
}

fn read(value: &Value) -> Result<Object, ReadError> {
    with_manifest(value, dialect::read).map(|object| object.expect("a kind that is known"))
}

fn judged(object: &Object) -> Vec<Judgement> {
    judge(&CONFIGURATION, &View::default(), Change::Write { new: object, old: None }, Occasion::default()).judgements
}

/// How often each rule fires.
fn counts(judgements: &[Judgement]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for judgement in judgements {
        *counts.entry(judgement.finding.rule).or_default() += 1;
    }
    counts
}

/// The places in a JSON value, each as a pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{position}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                places(field, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        _ => {}
    }
}

/// Something that does not belong where it is put.
fn anything() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(70_000),
        json!(u64::MAX),
        json!(""),
        json!("*"),
        json!("a == 'b"),
        json!("!((("),
        json!("10.0.0.0/8"),
        json!("::/0"),
        json!("1:0"),
        json!([]),
        json!([null]),
        json!([[{}]]),
        json!({}),
        json!({"x": null}),
        json!({"matchLabels": {"": ""}}),
    ])
}

/// How many manifests.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn what_a_patch_puts_right_is_right(manifest in policy()) {
        let object = read(&manifest).unwrap();
        let before = judged(&object);
        for judgement in &before {
            let Some(fix) = &judgement.finding.fix else { continue };
            let Some(patch) = with_manifest(&manifest, |manifest| dialect::fix(fix, manifest)) else { continue };
            let told = format!("{} at {}: {}", judgement.finding.rule, judgement.finding.path, json!(patch));
            let after = patch.applied_to(&manifest);
            prop_assert!(after.is_some(), "it does not apply: {told}\n{manifest:#}");
            let after = after.unwrap();
            let mended = read(&after).unwrap();
            // A rule that is put first moves the others.
            let said = |object: &Object| object.faults.iter().map(|fault| fault.problem.clone()).collect::<Vec<_>>();
            prop_assert_eq!(said(&mended), said(&object), "{}", told);
            let later = judged(&mended);
            let (had, has) = (counts(&before), counts(&later));
            let rule = judgement.finding.rule;
            let left = has.get(rule).copied().unwrap_or_default();
            prop_assert!(left < had[rule], "it puts nothing right: {told}\n{after:#}");
            // A fix that repeats a rule for another protocol repeats the findings of that rule too.
            let is_known = |one: &Finding| {
                before.iter().any(|known| (known.finding.rule, &known.finding.message) == (one.rule, &one.message))
            };
            for Judgement { finding: Finding { rule, .. }, .. } in later.iter().filter(|one| !is_known(&one.finding)) {
                let (known, count) = (had.get(rule).copied().unwrap_or_default(), has[rule]);
                // DNS over UDP alone is what is said once there is DNS at all. And of two peers made one DNS may have been
                // the other. A rule that DNS is let through by may do all that a narrower one did.
                let is_next = ["dns-udp-only", "redundant-policy"].contains(rule) || judgement.finding.rule == "split-peer" && *rule == "dns-blocked";
                prop_assert!(count <= known || is_next, "it brings {rule}: {told}\n{after:#}");
            }
        }
    }

    #[test]
    fn a_broken_manifest_is_read_or_refused_with_its_place(
        manifest in policy(),
        breaks in prop::collection::vec((any::<Index>(), anything()), 1..4),
    ) {
        let mut broken = manifest;
        for (at, value) in breaks {
            let mut all = Vec::new();
            places(&broken["spec"], "/spec", &mut all);
            places(&broken["specs"], "/specs", &mut all);
            if let Some(part) = broken.pointer_mut(at.get::<String>(&all)) {
                *part = value;
            }
        }
        match read(&broken) {
            Ok(object) => {
                // Whatever was made of it can be judged, against itself too.
                let view = View::of([object.clone()]);
                let verdict = judge(&CONFIGURATION, &view, Change::Write { new: &object, old: Some(&object) }, Occasion::default());
                prop_assert!(!verdict.judgements.iter().any(|judgement| judgement.action == Mode::Deny));
                for judgement in verdict.judgements {
                    if let Some(fix) = judgement.finding.fix {
                        let patch = with_manifest(&broken, |manifest| dialect::fix(&fix, manifest));
                        let applied = patch.is_none_or(|patch| patch.applied_to(&broken).is_some());
                        prop_assert!(applied, "{fix:?} does not apply:\n{broken:#}");
                    }
                }
            }
            Err(error) => prop_assert!(matches!(error.path.steps().first(), None | Some(Step::Field(_))), "{error}"),
        }
    }
}

/// Calico isolates both directions where a stored policy names no types. With rules for DNS alone it would read as if only
/// egress were meant.
#[test]
fn dns_for_a_stored_calico_policy_brings_no_implicit_types() {
    for spec in [json!({}), json!({"types": null}), json!({"types": [], "egress": []})] {
        let manifest = json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "default.x", "namespace": "shop"}, "spec": spec,
        });
        let before = judged(&read(&manifest).unwrap());
        let blocked = before.iter().find(|judgement| judgement.finding.rule == "dns-blocked").unwrap();
        let fix = blocked.finding.fix.as_ref().unwrap();
        let patched =
            with_manifest(&manifest, |manifest| dialect::fix(fix, manifest)).unwrap().applied_to(&manifest).unwrap();
        assert_eq!(patched["spec"]["types"], json!(["Ingress", "Egress"]));
        let after = judged(&read(&patched).unwrap());
        assert_eq!(counts(&after).get("implicit-policy-types"), None, "{after:#?}");
    }
}
