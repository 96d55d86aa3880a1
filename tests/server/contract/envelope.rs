//! What an answer looks like, whatever was asked.

use serde_json::{Value, json};

use crate::support::reviews::{
    CONFIG, INJECTS, UID, Webhook, create, delete, egress, from_on_any_port, ingress, namespace, pod_on_the_node,
    policy, to_database, to_dns, update, with,
};
use crate::support::verdict::Verdict;

const ENDPOINTS: [&str; 2] = ["/validate", "/mutate"];

/// Trap 1. `Verdict` holds every answer of every test to the exact apiVersion and kind; here it is the uid.
#[test]
fn the_uid_comes_back_as_it_came() {
    let mut webhook = Webhook::new();
    let longest = "u".repeat(10_000);
    for uid in ["1", UID, "with \"quotes\", a \\ and a\nbreak", "über-🙂-\u{202e}", longest.as_str()] {
        for object in [policy(&egress(&[to_dns()])), policy(&egress(&[to_database()])), namespace("new", &json!({}))] {
            let review = with(create(&object), &json!({"uid": uid}));
            for endpoint in ENDPOINTS {
                assert_eq!(webhook.ask(endpoint, &review).uid, uid);
            }
        }
    }
}

/// Trap 1. An answer without the uid is a failed call, which `failurePolicy: Ignore` turns into an allowance.
#[test]
fn a_request_of_the_wrong_form_is_denied_by_its_uid() {
    let mut webhook = Webhook::new();
    let good = create(&policy(&egress(&[to_dns()])));
    let wrong = [
        json!({"operation": 5}),
        json!({"operation": null}),
        json!({"operation": "PATCH"}),
        json!({"operation": "create"}),
        json!({"kind": []}),
        json!({"kind": null}),
        json!({"kind": {"group": "networking.k8s.io", "version": "v1"}}),
        json!({"kind": {"group": 5, "version": "v1", "kind": "NetworkPolicy"}}),
        json!({"kind": {"group": null, "version": "v1", "kind": "NetworkPolicy"}}),
        json!({"userInfo": {"username": ["ada"]}}),
        json!({"name": 5}),
        json!({"namespace": {}}),
        json!({"subResource": true}),
        json!({"dryRun": "yes"}),
        json!({"object": null}),
    ];
    for endpoint in ENDPOINTS {
        for fields in &wrong {
            let verdict = webhook.ask(endpoint, &with(good.clone(), fields));
            verdict.refused(400, "BadRequest", &[]);
            assert!(verdict.denials.is_empty() && verdict.patch.is_none(), "{fields}: {verdict}");
        }
        for missing in ["operation", "kind", "object"] {
            let mut review = good.clone();
            review["request"].as_object_mut().unwrap().remove(missing);
            webhook.ask(endpoint, &review).refused(400, "BadRequest", &[missing]);
        }
    }
}

/// Trap 1. In v1beta1 nothing ties an answer to its request, so it is not spoken.
#[test]
fn another_version_of_the_review_is_refused_by_name() {
    let mut webhook = Webhook::new();
    for version in ["admission.k8s.io/v1beta1", "admission.k8s.io/v2", "v1", "Admission.k8s.io/v1"] {
        let mut review = create(&policy(&egress(&[to_database()])));
        review["apiVersion"] = json!(version);
        for endpoint in ENDPOINTS {
            let answer = webhook.post(endpoint, review.to_string());
            assert_eq!(answer.status, 400, "{answer}");
            assert!(answer.text.contains(&format!("apiVersion is {version} ")), "{answer}");
            assert!(answer.text.contains("expected admission.k8s.io/v1 AdmissionReview"), "{answer}");
        }
    }
}

/// Trap 4. A list of numbers is what some libraries write; Go takes it, and not everybody else does.
#[test]
fn a_patch_is_base64() {
    let mut webhook = Webhook::new();
    let answer = webhook.post("/mutate", create(&namespace("new", &json!({}))).to_string());
    let verdict = Verdict::read("/mutate", &answer);
    let body: Value = serde_json::from_str(&answer.text).unwrap();
    let patch = body["response"]["patch"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    assert!(patch.len().is_multiple_of(4) && patch.chars().all(base64), "{answer}");
    assert_eq!(body["response"]["patchType"], "JSONPatch", "{answer}");
    assert!(verdict.patch.is_some(), "{answer}");
}

/// Trap 5. Nothing is written, so there is nothing that a dry run would do differently.
#[test]
fn a_dry_run_gets_the_same_bytes_but_for_the_uid() {
    let context = format!("{}---\n{}", crate::support::reviews::SHOP, crate::contract::requests::RESOLVING);
    for config in [CONFIG, INJECTS] {
        let mut webhook = Webhook::with(config, &context);
        let bad = policy(&egress(&[to_database()]));
        let reviews = [
            create(&policy(&egress(&[to_dns()]))),
            create(&bad),
            update(&bad, &policy(&egress(&[to_database(), json!({"to": [{"podSelector": {}}]})]))),
            delete(&crate::contract::requests::allow_dns()),
            create(&pod_on_the_node()),
            create(&namespace("new", &json!({}))),
            create(&policy(&json!({"podSelector": 5}))),
            create(&policy(&ingress(&[
                json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}),
            ]))),
        ];
        for review in reviews {
            for endpoint in ENDPOINTS {
                let real = webhook.ask(endpoint, &review);
                let dry = with(review.clone(), &json!({"dryRun": true, "uid": "another"}));
                let dry = webhook.ask(endpoint, &dry);
                assert_eq!(dry.body.replacen("another", UID, 1), real.body);
            }
        }
    }
}

/// Trap 7. A code of 0 shows as 403 and one of 500 as an internal error, and a status of HTTP is a failed call.
#[test]
fn a_denial_has_the_code_and_the_reason_of_its_kind() {
    let mut webhook = Webhook::new();
    let denied = webhook.validate(&create(&policy(&egress(&[to_database()]))));
    denied.denied_by(&[("dns-blocked", "spec.egress")]);

    let unreadable = policy(&json!({"podSelector": {}, "ingress": [{"ports": "http"}]}));
    let verdict = webhook.validate(&create(&unreadable));
    verdict.refused(422, "Invalid", &["NetworkPolicy cannot be parsed", "spec.ingress[0].ports"]);
    let unreadable = policy(&json!({"podSelector": {}, "policyTypes": ["Both"]}));
    let verdict = webhook.validate(&create(&unreadable));
    verdict.refused(422, "Invalid", &["spec.policyTypes[0]", "`Both` is neither Ingress nor Egress"]);

    let malformed = with(create(&unreadable), &json!({"operation": 5}));
    webhook.validate(&malformed).refused(400, "BadRequest", &["the review cannot be parsed", "5"]);
}

/// Trap 8. The API server puts `admission webhook "x" denied the request: ` before it, and shows line breaks.
#[test]
fn a_denial_says_rule_fact_place_and_what_to_do() {
    let mut webhook = Webhook::new();
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [from_on_any_port("batch")],
        "egress": [to_database()],
    });
    let verdict = webhook.validate(&create(&policy(&spec)));
    verdict.denied_by(&[("dns-blocked", "spec.egress"), ("any-port", "spec.ingress[0]")]);
    let lines: Vec<&str> = verdict.message.lines().collect();
    assert_eq!(lines.len(), 7, "{verdict}");
    assert!(lines[0].starts_with("dns-blocked: pods with app=web "), "{verdict}");
    assert_eq!(lines[1], "  at spec.egress", "{verdict}");
    assert!(lines[2].starts_with("  help: allow UDP and TCP to port 53 of pods with k8s-app=kube-dns"), "{verdict}");
    assert!(lines[3].starts_with("  JSON patch: ["), "{verdict}");
    assert!(lines[4].starts_with("any-port: ") && lines[4].contains("app=batch"), "{verdict}");
    assert_eq!(lines[5], "  at spec.ingress[0]", "{verdict}");
    assert!(lines[6].starts_with("  help: list the ports"), "{verdict}");
}

/// Trap 8. What a denial proposes is what would be let in.
#[test]
fn the_patch_in_a_denial_puts_the_object_right() {
    let mut webhook = Webhook::new();
    for spec in [
        egress(&[to_database()]),
        egress(&[]),
        json!({"podSelector": {}, "policyTypes": ["Egress"]}),
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": null}),
    ] {
        let mut bad = policy(&spec);
        let verdict = webhook.validate(&create(&bad));
        verdict.denied_by(&[("dns-blocked", "spec.egress")]);
        let line = verdict.message.lines().last().unwrap();
        let patch = line.strip_prefix("  JSON patch: ").unwrap_or_else(|| panic!("{verdict}"));
        let patch: json_patch::Patch = serde_json::from_str(patch).unwrap_or_else(|error| panic!("{error}: {verdict}"));
        json_patch::patch(&mut bad, &patch).unwrap_or_else(|error| panic!("{error}: {verdict}"));
        webhook.validate(&create(&bad)).allowed_without_a_word();
    }
}

/// A denied update is not stored, so the command makes it together with the fix.
#[test]
fn the_command_in_a_denial_makes_the_update_with_the_fix() {
    let mut webhook = Webhook::new();
    let mut old = policy(&egress(&[to_database(), to_dns()]));
    old["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let to_cache = json!({"to": [{"podSelector": {"matchLabels": {"app": "o'cache"}}}], "ports": [{"protocol": "TCP", "port": 6379}]});
    for app in [json!({}), json!({"matchLabels": {"app": "web"}})] {
        let mut new = policy(&egress(std::slice::from_ref(&to_cache)));
        new["spec"]["podSelector"] = app;
        let verdict = webhook.validate(&update(&old, &new));
        verdict.denied_by(&[("dns-blocked", "spec.egress")]);
        let line = verdict.message.lines().last().unwrap();
        let start = "  fix: kubectl patch networkpolicy.networking.k8s.io web --namespace shop --type=json --patch '";
        let patch = line.strip_prefix(start).and_then(|rest| rest.strip_suffix('\''));
        let patch = patch.filter(|patch| !patch.contains('\'')).unwrap_or_else(|| panic!("{verdict}"));
        let patch: json_patch::Patch = serde_json::from_str(patch).unwrap_or_else(|error| panic!("{error}: {verdict}"));
        let mut fixed = old.clone();
        json_patch::patch(&mut fixed, &patch).unwrap_or_else(|error| panic!("{error}: {verdict}"));
        webhook.validate(&update(&old, &fixed)).allowed_without_a_word();
        assert_eq!(fixed["spec"]["podSelector"], new["spec"]["podSelector"], "{verdict}");
        assert_eq!(fixed["spec"]["egress"], json!([to_cache, to_dns()]), "{verdict}");
    }

    // With another finding the command would be denied, and with a new label it would lose that label.
    let both = policy(&json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [from_on_any_port("batch")], "egress": [to_database()],
    }));
    let mut labelled = policy(&egress(&[to_database()]));
    labelled["metadata"]["labels"] = json!({"team": "web"});
    for new in [both, labelled] {
        let verdict = webhook.validate(&update(&old, &new));
        assert!(verdict.message.contains("\n  JSON patch: ["), "{verdict}");
        assert!(!verdict.message.contains("kubectl patch"), "{verdict}");
    }
}

/// Trap 8. A line is a finding, whatever the author wrote into a label.
#[test]
fn what_the_author_wrote_breaks_no_line_of_a_denial() {
    let mut webhook = Webhook::new();
    let label = "x\nany-port: nothing\u{7}\r\u{85}";
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": label}}}]});
    let verdict = webhook.validate(&create(&policy(&ingress(&[rule]))));
    verdict.denied_by(&[("any-port", "spec.ingress[0]")]);
    assert_eq!(verdict.message.lines().count(), 3, "{verdict}");

    let verdict = webhook.validate(&create(&policy(&json!({"podSelector": {}, "policyTypes": [label]}))));
    verdict.refused(422, "Invalid", &["spec.policyTypes[0]"]);
    assert_eq!(verdict.message.lines().count(), 1, "{verdict}");
}
