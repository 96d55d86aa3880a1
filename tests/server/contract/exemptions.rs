//! Objects that are exempt from rules: by whom, for how long, and from what not.

use serde_json::{Value, json};

use crate::support::reviews::{
    CONFIG, PROFILE, SHOP, Webhook, create, delete, deployment_on_the_node, from, from_on_any_port, ingress,
    pod_on_the_node, policy, update, with,
};
use crate::support::verdict::borrowed;

/// Those who may are listed, as where there is no cluster to ask.
const LISTED: &str = concat!(include_str!("../../corpus/portcullis.yaml"), "bypass: [grace, admins]\n");

const EXEMPT: &str = "network-policy.homelab/exempt";
const REASON: &str = "network-policy.homelab/reason";
const UNTIL: &str = "network-policy.homelab/until";

const FAULT: (&str, &str) = ("any-port", "spec.ingress[0]");

fn place() -> String {
    format!("metadata.annotations[\"{EXEMPT}\"]")
}

fn webhook() -> Webhook {
    Webhook::with(LISTED, SHOP)
}

/// A policy that `any-port` fires on, with these annotations.
fn annotated(annotations: &Value) -> Value {
    let mut policy = policy(&ingress(&[from_on_any_port("batch")]));
    policy["metadata"]["annotations"] = annotations.clone();
    policy
}

/// The same, exempt for good.
fn exempt() -> Value {
    annotated(&json!({EXEMPT: "any-port, split-peer", REASON: "a scanner"}))
}

fn until(time: &str) -> Value {
    annotated(&json!({EXEMPT: "any-port", REASON: "a scanner", UNTIL: time}))
}

fn by(user: &str, review: Value) -> Value {
    with(review, &json!({"userInfo": {"username": user, "groups": ["system:authenticated"]}}))
}

#[test]
fn an_exemption_by_somebody_who_may_is_honoured_with_a_warning() {
    let mut webhook = webhook();
    for review in [
        by("grace", create(&exempt())),
        with(create(&exempt()), &json!({"userInfo": {"username": "ada", "groups": ["admins"]}})),
        by("grace", create(&until("2999-01-01T00:00:00Z"))),
    ] {
        let verdict = webhook.validate(&review);
        verdict.allowed_with(&[FAULT]);
        assert!(verdict.warnings[0].contains(" (any-port, exempt, at spec.ingress[0]); "), "{verdict}");
    }
}

#[test]
fn an_exemption_by_anybody_else_is_refused_and_spares_nothing() {
    let mut webhook = webhook();
    let verdict = webhook.validate(&create(&exempt()));
    verdict.denied_by(&[("any-port", &place()), FAULT]);
    for words in
        ["exempt the object from any-port", "ada", "`bypass`", "rules.portcullis.dev", "resource name `any-port`"]
    {
        assert!(verdict.message.contains(words), "nothing of {words}: {verdict}");
    }
    // It is refused even where there is no fault yet.
    let mut good = exempt();
    good["spec"] = ingress(&[]);
    let verdict = webhook.validate(&create(&good));
    verdict.denied_by(&[("any-port", &place())]);
    // Of a rule that does not deny there is nothing to be exempt from.
    good["metadata"]["annotations"][EXEMPT] = json!("split-peer");
    webhook.validate(&create(&good)).allowed_without_a_word();
}

#[test]
fn what_is_no_exemption_says_why() {
    let mut webhook = webhook();
    for (policy, why) in [
        (until("2020-01-01T00:00:00Z"), "the exemption is not valid: it expired at 2020-01-01T00:00:00Z"),
        (until("next week"), "annotation `network-policy.homelab/until` is \"next week\", an invalid time"),
        (annotated(&json!({EXEMPT: "any-port"})), "requires annotation `network-policy.homelab/reason`"),
        (annotated(&json!({EXEMPT: "any-port", REASON: " "})), "requires annotation `network-policy.homelab/reason`"),
        (annotated(&json!({EXEMPT: "any-prot", REASON: "a scanner"})), "names the unknown rule \"any-prot\""),
    ] {
        // Not even for those who may.
        let verdict = webhook.validate(&by("grace", create(&policy)));
        verdict.denied_by(&[FAULT]);
        assert!(verdict.message.contains(why), "nothing of {why}: {verdict}");
    }
    let other = annotated(&json!({EXEMPT: "dns-blocked", REASON: "a scanner"}));
    let verdict = webhook.validate(&by("grace", create(&other)));
    verdict.denied_by(&[FAULT]);
    assert!(!verdict.message.contains("exempt"), "nobody meant this rule: {verdict}");
}

#[test]
fn a_change_of_metadata_alone_that_makes_exempt_is_judged() {
    let mut webhook = webhook();
    let plain = annotated(&json!({}));
    let verdict = webhook.validate(&update(&plain, &exempt()));
    verdict.denied_by(&[("any-port", &place())]);
    webhook.validate(&by("grace", update(&plain, &exempt()))).allowed_with(&[FAULT]);
}

#[test]
fn an_old_exemption_lasts_when_somebody_else_edits() {
    let mut webhook = webhook();
    let mut new = exempt();
    new["spec"]["podSelector"] = json!({"matchLabels": {"app": "scanner"}});
    webhook.validate(&update(&exempt(), &new)).allowed_with(&[FAULT]);
    let mut again = exempt();
    again["spec"] = ingress(&[from_on_any_port("batch"), from_on_any_port("other")]);
    let verdict = webhook.validate(&update(&exempt(), &again));
    verdict.allowed_with(&[FAULT, ("any-port", "spec.ingress[1]")]);
    webhook.validate(&delete(&exempt())).allowed_without_a_word();
    // Whoever takes it away takes it away for those who come later.
    let mut without = again.clone();
    without["metadata"]["annotations"] = json!({});
    let verdict = webhook.validate(&update(&exempt(), &without));
    verdict.denied_by(&[("any-port", "spec.ingress[1]")]);
}

#[test]
fn making_it_last_longer_takes_the_right_again() {
    let mut webhook = webhook();
    let (near, far, over) =
        (until("2998-01-01T00:00:00Z"), until("2999-01-01T00:00:00Z"), until("2020-01-01T00:00:00Z"));
    for (old, new) in [(&near, &far), (&near, &exempt()), (&over, &near)] {
        let verdict = webhook.validate(&update(old, new));
        assert!(borrowed(&verdict.denials).contains(&("any-port", place().as_str())), "{verdict}");
        assert!(webhook.validate(&by("grace", update(old, new))).allowed, "{verdict}");
    }
    let verdict = webhook.validate(&update(&far, &near));
    assert!(verdict.allowed, "it lasts less long: {verdict}");
    assert!(webhook.validate(&update(&exempt(), &near)).allowed);
}

#[test]
fn nothing_is_exempt_from_a_guard() {
    let mut webhook = Webhook::with(CONFIG, SHOP);
    let mut policy = policy(&ingress(&[]));
    policy["metadata"]["name"] = json!("portcullis-baseline-allow-dns");
    policy["metadata"]["annotations"] = json!({EXEMPT: "managed-policy-change", REASON: "mine"});
    let verdict = webhook.validate(&update(&policy, &{
        let mut new = policy.clone();
        new["spec"]["podSelector"] = json!({"matchLabels": {"app": "other"}});
        new
    }));
    verdict.denied_by(&[("managed-policy-change", "metadata.name")]);
    assert!(verdict.message.contains("this rule does not allow exemptions"), "{verdict}");
}

/// Where there was nothing to spare, nobody was asked.
#[test]
fn an_exemption_that_spared_nothing_yet_takes_the_right_when_it_does() {
    let mut webhook = webhook();
    let mut quiet = exempt();
    quiet["spec"] = ingress(&[from("frontend")]);
    let mut edited = quiet.clone();
    edited["spec"] = ingress(&[from("frontend"), from("batch")]);
    webhook.validate(&update(&quiet, &edited)).allowed_without_a_word();
    let verdict = webhook.validate(&update(&quiet, &exempt()));
    verdict.denied_by(&[("any-port", &place()), FAULT]);
    webhook.validate(&by("grace", update(&quiet, &exempt()))).allowed_with(&[FAULT]);
}

/// What a Deployment makes carries its annotations, and whoever wrote those was asked.
#[test]
fn what_is_made_from_a_template_is_exempt_as_its_author_was() {
    let mut webhook = webhook();
    let annotations = json!({EXEMPT: "host-network", REASON: "an agent of the node"});
    let mut deployment = deployment_on_the_node();
    deployment["spec"]["template"]["metadata"]["annotations"] = annotations.clone();
    let fault = ("host-network", "spec.template.spec.hostNetwork");
    let verdict = webhook.validate(&create(&deployment));
    verdict.denied_by(&[("host-network", &place()), fault]);
    webhook.validate(&by("grace", create(&deployment))).allowed_with(&[fault]);

    let mut pod = pod_on_the_node();
    pod["metadata"]["annotations"] = annotations;
    let fault = ("host-network", "spec.hostNetwork");
    for controller in ["system:serviceaccount:kube-system:replicaset-controller", "system:kube-controller-manager"] {
        webhook.validate(&by(controller, create(&pod))).allowed_with(&[fault]);
    }
    webhook.validate(&create(&pod)).denied_by(&[("host-network", &place()), fault]);
    let others = "system:serviceaccount:shop:replicaset-controller";
    assert!(!webhook.validate(&by(others, create(&pod))).allowed, "anybody may have an account of that name");
}

/// Pods get what their template says, whatever the object says of itself.
#[test]
fn what_a_template_says_is_not_hidden_by_what_its_object_says() {
    let mut webhook = Webhook::with(LISTED, &SHOP.replace(&format!("{PROFILE}: isolated"), "team: web"));
    let (own, copied) = (json!({EXEMPT: "none"}), json!({EXEMPT: "host-network", REASON: "because"}));
    let mut deployment = deployment_on_the_node();
    deployment["metadata"]["annotations"] = own.clone();
    deployment["spec"]["template"]["metadata"]["annotations"] = copied.clone();
    let refused = ("host-network", &*place());
    webhook.validate(&by("ada", create(&deployment))).denied_by(&[refused]);
    assert!(webhook.validate(&by("grace", create(&deployment))).allowed);

    let mut cron = deployment_on_the_node();
    cron["apiVersion"] = json!("batch/v1");
    cron["kind"] = json!("CronJob");
    cron["spec"] =
        json!({"jobTemplate": {"metadata": {"annotations": copied}, "spec": deployment_on_the_node()["spec"]}});
    cron["metadata"]["annotations"] = own;
    webhook.validate(&by("ada", create(&cron))).denied_by(&[refused]);
    assert!(webhook.validate(&by("grace", create(&cron))).allowed);
}
