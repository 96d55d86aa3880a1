//! What Calico stores, `crd.projectcalico.org/v1`, is what it shows as `projectcalico.org/v3`, whoever writes it there.

use serde_json::{Value, json};

use crate::support::reviews::{CONFIG, SHOP, Webhook, create, delete, object, update, with};

/// Calico's API server, to that of the cluster.
const STORES: &str = "system:serviceaccount:calico-apiserver:calico-apiserver";
const STORES_SINCE: &str = "system:serviceaccount:calico-system:calico-apiserver";
const METADATA: &str = "projectcalico.org/metadata";
const EXEMPT: &str = "network-policy.homelab/exempt";
const LISTED: &str = concat!(include_str!("../../corpus/portcullis.yaml"), "bypass: [grace]\n");

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

/// Something that `any-port` fires on.
fn on_any_port() -> Value {
    json!({"tier": "default", "selector": "app == 'web'", "types": ["Ingress"], "ingress": [
        {"action": "Allow", "source": {"selector": "app == 'batch'"}},
    ]})
}

const ANY_PORT: (&str, &str) = ("any-port", "spec.ingress[0]");
const RESERVED: (&str, &str) = ("managed-policy-change", "metadata.name");

fn exempting() -> (&'static str, String) {
    ("any-port", format!("metadata.annotations[\"{EXEMPT}\"]"))
}

/// Metadata that makes a policy exempt from `any-port`.
fn exempt(name: &str) -> Value {
    json!({"name": name, "annotations": {EXEMPT: "any-port", "network-policy.homelab/reason": "a scanner"}})
}

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
        // Whoever began that was asked, unless they only finish something.
        webhook.validate(&by(STORES, delete(&old))).allowed_without_a_word();
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
            // Whoever wrote it was asked where they wrote it.
            for user in [STORES, STORES_SINCE] {
                webhook.validate(&by(user, review.clone())).allowed_without_a_word();
            }
        }
        webhook.validate(&create(&shown(name, &to_dns()))).denied_by(&[RESERVED]);
        // To Calico's API server it is a user like any other.
        webhook.validate(&by(STORES, create(&shown(name, &to_dns())))).denied_by(&[RESERVED]);
    }
    let everything = json!({"types": ["Ingress"], "ingress": [{"action": "Allow"}]});
    let hatch = stored("default.portcullis-hatch-allow-all", None, &everything);
    webhook.validate(&by(STORES, create(&hatch))).allowed_without_a_word();
}

#[test]
fn who_stores_what_others_write_is_said_in_the_configuration() {
    let mut webhook = Webhook::with(&format!("{CONFIG}calicoAPIServers: [calico]\n"), SHOP);
    let policy = stored("portcullis-x", None, &to_dns());
    webhook.validate(&by(STORES, create(&policy))).denied_by(&[RESERVED]);
    webhook.validate(&by("calico", create(&policy))).allowed_without_a_word();

    let config = format!("{CONFIG}rules: {{untrusted-change: {{mode: deny, settings: {{users: [flux]}}}}}}\n");
    let mut webhook = Webhook::with(&config, SHOP);
    let review = create(&stored("default.dns", None, &to_dns()));
    webhook.validate(&review).denied_by(&[("untrusted-change", "")]);
    webhook.validate(&by(STORES, review)).allowed_without_a_word();
    webhook.validate(&by(STORES, create(&shown("dns", &to_dns())))).denied_by(&[("untrusted-change", "")]);
}

#[test]
fn what_is_stored_is_judged_for_what_it_means_whoever_stores_it() {
    let mut webhook = knowing(&[]);
    for user in ["ada", STORES] {
        webhook.validate(&by(user, create(&stored("default.web", None, &on_any_port())))).denied_by(&[ANY_PORT]);
    }
}

#[test]
fn an_exemption_is_kept_where_it_is_stored() {
    let mut webhook = knowing(&[]);
    let policy = stored("default.web", Some(&exempt("web")), &on_any_port());
    webhook.validate(&by(STORES, create(&policy))).allowed_with(&[ANY_PORT]);
    let mut rules = on_any_port();
    rules["ingress"][0]["source"]["selector"] = json!("app == 'other'");
    let changed = stored("default.web", Some(&exempt("web")), &rules);
    webhook.validate(&by(STORES, update(&policy, &changed))).allowed_with(&[ANY_PORT]);

    // Whoever writes it there past Calico's API server is asked there.
    let (what, place) = exempting();
    webhook.validate(&create(&policy)).denied_by(&[(what, &place), ANY_PORT]);
    webhook.validate(&by("grace", create(&policy))).allowed_with(&[ANY_PORT]);
    // Also where nothing but the annotation changes, in whichever letters.
    let plain = stored("default.web", Some(&json!({"name": "web"})), &on_any_port());
    let mut escaped = policy.clone();
    let text = exempt("web").to_string().replace('/', "\\u002f");
    escaped["metadata"]["annotations"][METADATA] = json!(text);
    for exempt in [&policy, &escaped] {
        let verdict = webhook.validate(&update(&plain, exempt));
        assert!(verdict.denials.contains(&(what.to_owned(), place.clone())), "{verdict}");
        webhook.validate(&by(STORES, update(&plain, exempt))).allowed_with(&[ANY_PORT]);
    }
}

/// It would stand in what Calico shows for the object of that name.
#[test]
fn nothing_is_stored_by_the_name_of_something_else() {
    let mut webhook = knowing(&[]);
    let old = stored("default.web", Some(&json!({"name": "web"})), &to_dns());
    let names = ["portcullis-baseline-allow-dns", "web.default", "default.default.web"];
    let forged = names.iter().map(|name| json!({"name": name}));
    for metadata in forged.chain([json!({"name": "web", "NAME": "other"})]) {
        let new = stored("default.web", Some(&metadata), &to_dns());
        for review in [create(&new), update(&old, &new)] {
            let verdict = webhook.validate(&review);
            verdict.refused(422, "Invalid", &["the name `", "differs from the stored name `default.web`"]);
        }
    }
    let mut unnamed = stored("", Some(&json!({"name": "portcullis-x"})), &to_dns());
    unnamed["metadata"]["generateName"] = json!("web-");
    assert!(!webhook.validate(&create(&unnamed)).allowed);
    // Calico v3.32 stores what is shown as `default.web` so.
    let new = stored("default.web", Some(&json!({"name": "default.web"})), &to_dns());
    webhook.validate(&create(&new)).allowed_without_a_word();
}
