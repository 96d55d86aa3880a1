//! What Calico stores, `crd.projectcalico.org/v1`, is what it shows as `projectcalico.org/v3`, whoever writes it there.

use serde_json::{Value, json};

use crate::support::reviews::{SHOP, Webhook, create, delete, object, update, with};

const METADATA: &str = "projectcalico.org/metadata";
const LISTED: &str = concat!(include_str!("../corpus/portcullis.yaml"), "bypass: [grace]\n");

fn by(user: &str, review: Value) -> Value {
    with(review, &json!({"userInfo": {"username": user, "groups": ["system:authenticated"]}}))
}

fn shown(name: &str, spec: &Value) -> Value {
    object("projectcalico.org/v3", "NetworkPolicy", &json!({"name": name, "namespace": "shop"}), spec)
}

/// An object as Calico stores it, which shows it with this metadata, or as somebody else wrote it there.
fn stored(name: &str, metadata: Option<&Value>, spec: &Value) -> Value {
    let mut stored =
        object("crd.projectcalico.org/v1", "NetworkPolicy", &json!({"name": name, "namespace": "shop"}), spec);
    if let Some(metadata) = metadata {
        stored["metadata"]["annotations"] = json!({METADATA: metadata.to_string()});
    }
    stored
}

fn isolates() -> Value {
    json!({"tier": "default", "selector": "all()", "types": ["Egress"]})
}

fn to_dns() -> Value {
    let rule = |protocol: &str| {
        json!({"action": "Allow", "protocol": protocol, "destination": {
            "namespaceSelector": "projectcalico.org/name == 'kube-system'", "selector": "k8s-app == 'kube-dns'", "ports": [53],
        }})
    };
    json!({"tier": "default", "selector": "all()", "types": ["Egress"], "egress": [rule("UDP"), rule("TCP")]})
}

const RESERVED: (&str, &str) = ("managed-policy-change", "metadata.name");

fn knowing(objects: &[&Value]) -> Webhook {
    let context: Vec<String> = objects.iter().map(ToString::to_string).collect();
    Webhook::with(LISTED, &format!("{SHOP}---\n{}\n", context.join("\n---\n")))
}

/// What the others around it do not let through is gone when it is gone, by whichever name.
#[test]
fn what_takes_the_last_way_to_dns_from_what_is_stored_takes_it() {
    let mut webhook = knowing(&[&shown("isolates", &isolates()), &shown("dns", &to_dns())]);
    let metadata = json!({"name": "dns"});
    for (name, metadata) in
        [("default.dns", None), ("default.dns", Some(&metadata)), ("dns", None), ("dns", Some(&metadata))]
    {
        let old = stored(name, metadata, &to_dns());
        webhook.validate(&delete(&old)).denied_by(&[("dns-blocked", "spec")]);
        let verdict = webhook.validate(&update(&old, &stored(name, metadata, &isolates())));
        verdict.denied_by(&[("dns-blocked", "spec"), ("dns-blocked", "spec.egress")]);
    }
    // Another one is another one.
    webhook.validate(&delete(&stored("default.other", None, &to_dns()))).allowed_without_a_word();
    webhook.validate(&delete(&shown("default.dns", &to_dns()))).allowed_without_a_word();

    // Nothing else is known where only what is stored can be watched.
    for name in ["default.dns", "dns"] {
        let mut webhook = knowing(&[&stored("default.isolates", None, &isolates()), &stored(name, None, &to_dns())]);
        webhook.validate(&delete(&shown("dns", &to_dns()))).denied_by(&[("dns-blocked", "spec")]);
        webhook.validate(&delete(&stored(name, None, &to_dns()))).denied_by(&[("dns-blocked", "spec")]);
    }
    // There, one of these is not the other: Calico v3.32 has both.
    let mut webhook = knowing(&[
        &stored("isolates", None, &isolates()),
        &stored("dns", None, &to_dns()),
        &stored("default.dns", None, &to_dns()),
    ]);
    webhook.validate(&delete(&stored("default.dns", None, &to_dns()))).allowed_without_a_word();
}

#[test]
fn a_tier_that_is_stored_is_the_tier() {
    let tier = |version: &str, action: &str| {
        let spec = json!({"order": 10, "defaultAction": action});
        object(version, "Tier", &json!({"name": "security"}), &spec)
    };
    let (v3, v1) = ("projectcalico.org/v3", "crd.projectcalico.org/v1");
    let mail = json!({"action": "Deny", "protocol": "TCP", "destination": {"ports": [25]}});
    let first = json!({"tier": "security", "selector": "all()", "types": ["Egress"], "egress": [mail]});
    let around = [shown("security.mail", &first), shown("dns", &to_dns())];
    for (known, written) in [(v3, v1), (v1, v3), (v1, v1)] {
        let mut webhook = knowing(&[&tier(known, "Pass"), &around[0], &around[1]]);
        let drops = update(&tier(written, "Pass"), &tier(written, "Deny"));
        webhook.validate(&drops).denied_by(&[("dns-blocked", "spec")]);
    }
}

#[test]
fn names_are_reserved_as_they_are_shown() {
    let mut webhook = knowing(&[]);
    for name in ["portcullis-x", "default.portcullis-x"] {
        let policy = |annotations: Value| {
            let metadata = json!({"name": "portcullis-x", "annotations": annotations});
            stored(name, Some(&metadata), &to_dns())
        };
        let (plain, annotated) = (policy(json!({})), policy(json!({"argocd.argoproj.io/compare-options": "None"})));
        for review in
            [create(&plain), update(&plain, &annotated), delete(&plain), create(&stored(name, None, &to_dns()))]
        {
            webhook.validate(&review).denied_by(&[RESERVED]);
            webhook.validate(&by("grace", review.clone())).allowed_without_a_word();
        }
        webhook.validate(&create(&shown(name, &to_dns()))).denied_by(&[RESERVED]);
    }
}
