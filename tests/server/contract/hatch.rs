//! The escape hatch: who opens it, how, and what holds while it is open.

use serde_json::{Value, json};

use crate::support::reviews::{
    CONFIG, PROFILE, Webhook, create, egress, from_on_any_port, ingress, namespace, pod_on_the_node, policy,
    to_database, update, with,
};

const LISTED: &str = concat!(include_str!("../../corpus/portcullis.yaml"), "bypass: [grace]\n");
const ENFORCEMENT: &str = "network-policy.homelab/enforcement";
const REASON: &str = "network-policy.homelab/reason";
const UNTIL: &str = "network-policy.homelab/until";

/// A time so many minutes from now.
fn in_minutes(minutes: i64) -> String {
    let now = jiff::Timestamp::now();
    (now + jiff::SignedDuration::from_mins(minutes)).to_string()
}

/// The namespace `shop` with this on its hatch.
fn hatch(annotations: &Value) -> Value {
    let mut shop = namespace("shop", &json!({PROFILE: "isolated", ENFORCEMENT: "disabled"}));
    shop["metadata"]["annotations"] = annotations.clone();
    shop
}

fn open_for(minutes: i64) -> Value {
    hatch(&json!({REASON: "an outage", UNTIL: in_minutes(minutes)}))
}

fn closed() -> Value {
    namespace("shop", &json!({PROFILE: "isolated"}))
}

fn by_grace(review: Value) -> Value {
    with(review, &json!({"userInfo": {"username": "grace", "groups": []}}))
}

fn place() -> String {
    format!("metadata.labels[\"{ENFORCEMENT}\"]")
}

fn place_of_the_end() -> String {
    format!("metadata.annotations[\"{UNTIL}\"]")
}

#[test]
fn a_hatch_needs_a_reason_an_end_and_somebody_who_may() {
    let mut webhook = Webhook::with(LISTED, "");
    let no_reason = hatch(&json!({UNTIL: in_minutes(60)}));
    let no_end = hatch(&json!({REASON: "an outage"}));
    let no_time = hatch(&json!({REASON: "an outage", UNTIL: "tomorrow"}));
    for (shop, place) in [
        (no_reason, place()),
        (no_end, place()),
        (no_time, place_of_the_end()),
        (open_for(-5), place_of_the_end()),
        (open_for(25 * 60), place_of_the_end()),
    ] {
        for review in [create(&shop), update(&closed(), &shop)] {
            webhook.validate(&by_grace(review)).denied_by(&[("unguarded-hatch", &place)]);
        }
    }
    for review in [create(&open_for(60)), update(&closed(), &open_for(60))] {
        webhook.validate(&by_grace(review.clone())).allowed_without_a_word();
        let verdict = webhook.validate(&review);
        verdict.denied_by(&[("unguarded-hatch", &place())]);
        assert!(verdict.message.contains("`bypass`") && verdict.message.contains("ada"), "{verdict}");
    }
}

#[test]
fn only_what_opens_it_further_is_asked_about() {
    let mut webhook = Webhook::with(LISTED, "");
    let open = open_for(60);
    let mut labelled = open.clone();
    labelled["metadata"]["labels"]["team"] = json!("web");
    let mut other_reason = open.clone();
    other_reason["metadata"]["annotations"][REASON] = json!("another outage");
    for allowed in [&labelled, &closed(), &open_for(30)] {
        webhook.validate(&update(&open, allowed)).allowed_without_a_word();
    }
    for denied in [&other_reason, &open_for(90)] {
        webhook.validate(&update(&open, denied)).denied_by(&[("unguarded-hatch", &place())]);
        webhook.validate(&by_grace(update(&open, denied))).allowed_without_a_word();
    }
    // One that is over, or never was one, is nobody's business until somebody opens it.
    for shut in [open_for(-5), hatch(&json!({}))] {
        let mut labelled = shut.clone();
        labelled["metadata"]["labels"]["team"] = json!("web");
        webhook.validate(&update(&shut, &labelled)).allowed_without_a_word();
        webhook.validate(&update(&shut, &open_for(60))).denied_by(&[("unguarded-hatch", &place())]);
    }
    // Earlier, but it never was open: now it would be.
    let never = open_for(48 * 60);
    webhook.validate(&update(&never, &open_for(60))).denied_by(&[("unguarded-hatch", &place())]);
}

const OPENED_BY: &str = "network-policy.homelab/opened-by";

/// A namespace with this user as the one that opened its hatch.
fn opened_by(user: &str, shop: &Value) -> Value {
    let mut shop = shop.clone();
    let annotations = shop["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    shop["metadata"]["annotations"] = Value::Object(annotations);
    shop["metadata"]["annotations"][OPENED_BY] = json!(user);
    shop
}

#[test]
fn the_user_that_opens_a_hatch_is_recorded() {
    let mut webhook = Webhook::with(LISTED, "");
    let (open, longer, shorter) = (open_for(60), open_for(90), open_for(30));
    let mut recorded = |review: &dyn Fn(&Value) -> Value, new: &Value| {
        let verdict = webhook.mutate(&by_grace(review(new)));
        let after = if verdict.patch.is_some() { verdict.patched(new) } else { new.clone() };
        // Reinvoked, it changes nothing; and what it wrote passes.
        webhook.mutate(&by_grace(review(&after))).allowed_without_a_word();
        assert!(webhook.validate(&by_grace(review(&after))).allowed);
        after["metadata"]["annotations"][OPENED_BY].clone()
    };
    let from_closed = |new: &Value| update(&closed(), new);
    assert_eq!(recorded(&from_closed, &open), "grace");
    assert_eq!(recorded(&from_closed, &opened_by("ada", &open)), "grace", "a forged name is replaced");
    assert_eq!(recorded(&|new| create(new), &opened_by("ada", &open)), "grace");
    assert_eq!(recorded(&from_closed, &opened_by("ada", &closed())), Value::Null, "it is not open");
    let of_ada = opened_by("ada", &open);
    let from_ada = |new: &Value| update(&of_ada, new);
    assert_eq!(recorded(&from_ada, &opened_by("ada", &longer)), "grace", "the last user that prolongs it counts");
    assert_eq!(recorded(&from_ada, &opened_by("grace", &shorter)), "ada", "closing it earlier opens nothing");
    assert_eq!(recorded(&from_ada, &shorter), "ada", "nor does it erase the name");
    assert_eq!(recorded(&from_ada, &opened_by("ada", &closed())), Value::Null, "closed");
}

/// /mutate is not required to answer, so /validate checks it too.
#[test]
fn the_user_that_opened_a_hatch_cannot_be_forged() {
    let mut webhook = Webhook::with(LISTED, "");
    let (open, longer) = (open_for(60), open_for(90));
    let place = format!("metadata.annotations[\"{OPENED_BY}\"]");
    let of_ada = opened_by("ada", &open);
    for (old, new) in [
        (closed(), of_ada.clone()),
        (of_ada.clone(), open.clone()),
        (of_ada.clone(), opened_by("grace", &open)),
        (of_ada.clone(), opened_by("bob", &longer)),
        (closed(), opened_by("grace", &closed())),
    ] {
        webhook.validate(&by_grace(update(&old, &new))).denied_by(&[("unguarded-hatch", &place)]);
    }
    for (old, new) in [(closed(), open.clone()), (of_ada.clone(), closed()), (of_ada, opened_by("grace", &longer))] {
        assert!(webhook.validate(&by_grace(update(&old, &new))).allowed);
    }
}

#[test]
fn a_value_that_does_nothing_is_not_taken_for_a_hatch() {
    let mut webhook = Webhook::with(LISTED, "");
    let off = |value: &str| namespace("shop", &json!({PROFILE: "isolated", ENFORCEMENT: value}));
    for value in ["off", "Disabled", "false", ""] {
        let verdict = webhook.validate(&by_grace(update(&closed(), &off(value))));
        verdict.denied_by(&[("unguarded-hatch", &place())]);
        webhook.validate(&update(&off(value), &off(value))).allowed_without_a_word();
    }
    webhook.validate(&update(&closed(), &off("enabled"))).allowed_without_a_word();
}

fn any_port() -> Value {
    policy(&ingress(&[from_on_any_port("batch")]))
}

#[test]
fn while_it_is_open_faults_are_warnings_and_guards_deny() {
    let mut webhook = Webhook::with(LISTED, &open_for(60).to_string());
    let verdict = webhook.validate(&create(&any_port()));
    verdict.allowed_with(&[("any-port", "spec.ingress[0]")]);
    assert!(verdict.warnings[0].contains(" (any-port, enforcement is disabled, at "), "{verdict}");
    webhook.validate(&create(&policy(&egress(&[to_database()])))).allowed_with(&[("dns-blocked", "spec.egress")]);
    webhook.validate(&create(&pod_on_the_node())).allowed_with(&[("host-network", "spec.hostNetwork")]);

    let mut reserved = any_port();
    reserved["metadata"]["name"] = json!("portcullis-baseline-allow-dns");
    webhook.validate(&create(&reserved)).denied_by(&[("managed-policy-change", "metadata.name")]);
    // The namespace itself is not in it.
    let bad = namespace("shop", &json!({PROFILE: "isolatd"}));
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    webhook
        .validate(&update(&open_for(60), &bad))
        .denied_by(&[("invalid-profile", &place), ("isolation-downgrade", &place)]);
    // Nor is any other namespace.
    let mut elsewhere = any_port();
    elsewhere["metadata"]["namespace"] = json!("other");
    webhook.validate(&create(&elsewhere)).denied_by(&[("any-port", "spec.ingress[0]")]);
}

#[test]
fn one_that_is_over_or_unguarded_opens_nothing() {
    for shop in [open_for(-5), open_for(25 * 60), hatch(&json!({})), hatch(&json!({UNTIL: in_minutes(60)})), closed()] {
        let mut webhook = Webhook::with(LISTED, &shop.to_string());
        webhook.validate(&create(&any_port())).denied_by(&[("any-port", "spec.ingress[0]")]);
    }
}

#[test]
fn what_an_open_hatch_does_not_open_is_told() {
    let context = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {network-policy.homelab/profile: isolated}}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: never-that, namespace: shop}
spec: {endpointSelector: {}, egressDeny: [{toCIDR: [192.0.2.0/24]}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: before-it}
spec: {order: 10, selector: all(), types: [Egress], egress: [{action: Deny, destination: {nets: [10.0.0.0/8]}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: after-it}
spec: {order: 2000, selector: all(), types: [Egress], egress: [{action: Deny}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"#;
    let mut webhook = Webhook::with(CONFIG, context);
    let review = with(
        update(&closed(), &open_for(60)),
        &json!({"userInfo": {"username": "root", "groups": ["system:masters"]}}),
    );
    for review in [review.clone(), with(review.clone(), &json!({"dryRun": true}))] {
        let verdict = webhook.validate(&review);
        assert!(verdict.allowed, "{verdict}");
        assert_eq!(
            verdict.warnings,
            [
                "preview: CiliumNetworkPolicy shop/never-that still denies traffic while the hatch is open",
                "preview: GlobalNetworkPolicy before-it still denies traffic while the hatch is open",
            ],
            "{verdict}"
        );
    }
    // Calico's own hatch stands before what has an order.
    let mut webhook = Webhook::with(&format!("{CONFIG}policySet: calico\n"), context);
    let verdict = webhook.validate(&review);
    assert!(verdict.warnings.iter().all(|warning| !warning.contains("before-it")), "{verdict}");
    webhook.validate(&update(&open_for(60), &closed())).allowed_without_a_word();
}
