//! What was wrong before: shown, and held against nobody.

use serde_json::{Value, json};

use crate::support::reviews::{
    PROFILE, Webhook, create, deployment_on_the_node, egress, from, from_on_any_port, ingress, namespace, policy,
    to_database, to_dns, update,
};
use crate::support::verdict::borrowed;

#[test]
fn an_old_fault_is_warned_about_wherever_it_stands_now() {
    let mut webhook = Webhook::new();
    let old = policy(&ingress(&[from_on_any_port("batch")]));
    let new = policy(&ingress(&[from("frontend"), from_on_any_port("batch")]));
    let verdict = webhook.validate(&update(&old, &new));
    verdict.allowed_with(&[("any-port", "spec.ingress[1]")]);
    assert_eq!(borrowed(&verdict.before), [("any-port", "spec.ingress[1]")], "{verdict}");
    assert!(verdict.warnings[0].contains(" (any-port, existing fault, at spec.ingress[1]); "), "{verdict}");

    let old = policy(&egress(&[to_database()]));
    let new = policy(&egress(&[to_database(), to_database()]));
    let verdict = webhook.validate(&update(&old, &new));
    verdict.allowed_with(&[("dns-blocked", "spec.egress"), ("redundant-policy", "spec.egress[1]")]);
    assert_eq!(borrowed(&verdict.before), [("dns-blocked", "spec.egress")], "{verdict}");
}

#[test]
fn a_new_fault_is_denied_beside_an_old_one() {
    let mut webhook = Webhook::new();
    let old = policy(&ingress(&[from_on_any_port("batch")]));
    let new = policy(&ingress(&[from_on_any_port("other"), from_on_any_port("batch")]));
    let verdict = webhook.validate(&update(&old, &new));
    verdict.denied_by(&[("any-port", "spec.ingress[0]")]);
    assert_eq!(borrowed(&verdict.before), [("any-port", "spec.ingress[1]")], "{verdict}");

    // The same fault once more is one more fault.
    let new = policy(&ingress(&[from_on_any_port("batch"), from_on_any_port("batch")]));
    let verdict = webhook.validate(&update(&old, &new));
    assert!(!verdict.allowed, "{verdict}");
    assert_eq!((verdict.denials.len(), verdict.before.len()), (1, 1), "{verdict}");

    let verdict = webhook.validate(&update(&policy(&egress(&[to_dns()])), &policy(&egress(&[to_database()]))));
    verdict.denied_by(&[("dns-blocked", "spec.egress")]);
}

#[test]
fn a_fault_that_goes_away_is_not_mentioned() {
    let mut webhook = Webhook::new();
    let old = policy(&egress(&[to_database()]));
    let new = policy(&egress(&[to_database(), to_dns()]));
    webhook.validate(&update(&old, &new)).allowed_without_a_word();
}

/// It stays for as long as it keeps a finalizer, which anybody can give it, and is in force until then.
#[test]
fn what_is_being_deleted_can_be_finished_and_not_rewritten() {
    let mut webhook = Webhook::new();
    let going = |mut object: Value, finalizers: &[&str]| {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
        object["metadata"]["finalizers"] = json!(finalizers);
        object
    };
    let good = policy(&egress(&[to_dns()]));
    for bad in [policy(&egress(&[to_database()])), policy(&ingress(&[from_on_any_port("batch")]))] {
        webhook.validate(&update(&going(bad.clone(), &["a/b"]), &going(bad.clone(), &[]))).allowed_without_a_word();
        let verdict = webhook.validate(&update(&going(good.clone(), &["a/b"]), &going(bad.clone(), &["a/b"])));
        assert!(!verdict.allowed && !verdict.denials.is_empty(), "{verdict}");
    }
    let named = |profile: &str| namespace("old", &json!({PROFILE: profile}));
    webhook.validate(&update(&going(named("open"), &["a/b"]), &going(named("open"), &[]))).allowed_without_a_word();
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    webhook
        .validate(&update(&going(named("isolated"), &[]), &going(named("standard"), &[])))
        .denied_by(&[("isolation-downgrade", &place)]);
}

#[test]
fn a_change_of_metadata_alone_is_never_denied() {
    let mut webhook = Webhook::new();
    for old in
        [policy(&egress(&[to_database()])), policy(&ingress(&[from_on_any_port("batch")])), deployment_on_the_node()]
    {
        assert!(!webhook.validate(&create(&old)).allowed, "it would be denied otherwise");
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"team": "a"});
        new["metadata"]["annotations"] = json!({"example.com/note": "seen"});
        new["metadata"]["resourceVersion"] = json!("2");
        new["status"] = json!({"seen": true});
        webhook.validate(&update(&old, &new)).allowed_without_a_word();
    }
}

#[test]
fn a_finalizer_can_be_removed() {
    let mut webhook = Webhook::new();
    let new = policy(&egress(&[to_database()]));
    let mut old = new.clone();
    old["metadata"]["finalizers"] = json!(["example.com/held"]);
    webhook.validate(&update(&old, &new)).allowed_without_a_word();
    let (mut old, mut new) = (old, new);
    for object in [&mut old, &mut new] {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    }
    webhook.validate(&update(&old, &new)).allowed_without_a_word();
}

/// Whoever has to change an object that nobody could read before is not held up by that, and by nothing less.
#[test]
fn what_could_not_be_read_before_is_warned_about() {
    let mut webhook = Webhook::new();
    let unreadable =
        |types: &str, app: &str| policy(&json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [types]}));
    let verdict = webhook.validate(&update(&unreadable("Both", "a"), &unreadable("Both", "b")));
    assert!(verdict.allowed && verdict.warnings.len() == 1, "{verdict}");
    assert!(verdict.warnings[0].contains("cannot be parsed and was not checked: spec.policyTypes[0]"), "{verdict}");

    let verdict = webhook.validate(&update(&unreadable("Both", "a"), &unreadable("None", "a")));
    verdict.refused(422, "Invalid", &["spec.policyTypes[0]", "None"]);
    let verdict = webhook.validate(&update(&unreadable("Ingress", "a"), &unreadable("Both", "a")));
    verdict.refused(422, "Invalid", &["spec.policyTypes[0]", "Both"]);
    let readable = policy(&egress(&[to_database()]));
    webhook.validate(&update(&unreadable("Both", "a"), &readable)).denied_by(&[("dns-blocked", "spec.egress")]);
}

/// The labels of a namespace are what is judged of it.
#[test]
fn a_guarded_label_is_more_than_metadata() {
    let mut webhook = Webhook::new();
    let old = namespace("shop", &json!({PROFILE: "isolated"}));
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    let new = namespace("shop", &json!({PROFILE: "isolatd"}));
    webhook.validate(&update(&old, &new)).denied_by(&[("invalid-profile", &place), ("isolation-downgrade", &place)]);

    let (old, new) =
        (namespace("old", &json!({PROFILE: "open"})), namespace("old", &json!({PROFILE: "open", "a": "b"})));
    let verdict = webhook.validate(&update(&old, &new));
    assert!(verdict.allowed, "{verdict}");
    assert_eq!(verdict.denials, []);
}
