//! What guards Portcullis itself, and what a change of a namespace's profile will do.

use serde_json::{Value, json};

use crate::support::reviews::{
    BASELINE, CONFIG, PROFILE, SHOP, Webhook, create, delete, deployment_on_the_node, egress, from, from_on_any_port,
    ingress, namespace, object, pod_on_the_node, policy, to_database, to_dns, update, with,
};

const LISTED: &str = concat!(include_str!("../../corpus/portcullis.yaml"), "bypass: [grace]\n");
const CONTROLLER: &str = "system:serviceaccount:portcullis-system:portcullis";
const DENIED: (&str, &str) = ("managed-policy-change", "metadata.name");

fn by(user: &str, review: Value) -> Value {
    with(review, &json!({"userInfo": {"username": user, "groups": ["system:authenticated"]}}))
}

fn reserved() -> Value {
    let mut policy = policy(&ingress(&[from("frontend")]));
    policy["metadata"]["name"] = json!("portcullis-baseline-allow-dns");
    policy["metadata"]["labels"] = json!({"network-policy.homelab/layer": "baseline"});
    policy
}

#[test]
fn policies_with_reserved_names_are_the_controllers() {
    let mut webhook = Webhook::with(LISTED, SHOP);
    let mut wider = reserved();
    wider["spec"]["podSelector"] = json!({"matchLabels": {"app": "web"}});
    let cilium = object(
        "cilium.io/v2",
        "CiliumNetworkPolicy",
        &json!({"name": "portcullis-x", "namespace": "shop"}),
        &json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["health"]}]}),
    );
    // Staging a policy is how one finds out what it does, and takes the name all the same.
    let staged = object(
        "projectcalico.org/v3",
        "StagedNetworkPolicy",
        &json!({"name": "portcullis-x", "namespace": "shop"}),
        &json!({"types": ["Ingress"]}),
    );
    let changes =
        [create(&reserved()), update(&reserved(), &wider), delete(&reserved()), create(&cilium), create(&staged)];
    for review in changes {
        let verdict = webhook.validate(&review);
        verdict.denied_by(&[DENIED]);
        assert!(verdict.message.contains("`bypass`"), "{verdict}");
        for user in [CONTROLLER, "grace"] {
            let verdict = webhook.validate(&by(user, review.clone()));
            assert!(verdict.allowed, "{user}: {verdict}");
        }
    }
    // Those who only finish a deletion.
    let finisher = "system:serviceaccount:kube-system:generic-garbage-collector";
    webhook.validate(&by(finisher, delete(&reserved()))).allowed_without_a_word();
    // The addresses of the API server, which the controller fills in, are no finding.
    let mut filled = policy(&egress(&[json!({
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 6443}],
    })]));
    filled["metadata"]["name"] = json!("portcullis-access-kube-api");
    webhook.validate(&by(CONTROLLER, create(&filled))).allowed_without_a_word();
    // A name that has the prefix elsewhere is free.
    let mut free = reserved();
    free["metadata"]["name"] = json!("not-portcullis-baseline");
    webhook.validate(&create(&free)).allowed_without_a_word();
}

#[test]
fn labels_and_annotations_of_a_reserved_policy_are_more_than_metadata() {
    let mut webhook = Webhook::with(LISTED, SHOP);
    let mut unlabelled = reserved();
    unlabelled["metadata"]["labels"] = json!({});
    let mut annotated = reserved();
    annotated["metadata"]["annotations"] = json!({"argocd.argoproj.io/compare-options": "None"});
    for new in [&unlabelled, &annotated] {
        webhook.validate(&update(&reserved(), new)).denied_by(&[DENIED]);
        webhook.validate(&by(CONTROLLER, update(&reserved(), new))).allowed_without_a_word();
    }
    // So are finalizers and owners, with which it would outlive its end or end with somebody else, and who wrote what.
    let held = |finalizers: Value| {
        let mut policy = reserved();
        policy["metadata"]["finalizers"] = finalizers;
        policy["metadata"]["managedFields"] = json!([{"manager": "portcullis-baseline", "operation": "Apply"}]);
        policy
    };
    let mut orphan = held(json!(["a/b"]));
    orphan["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}]);
    let mut nobodys = held(json!(["a/b"]));
    nobodys["metadata"]["managedFields"] = json!([]);
    for new in [&held(json!(["a/b", "c/d"])), &orphan, &nobodys] {
        webhook.validate(&update(&held(json!(["a/b"])), new)).denied_by(&[DENIED]);
    }
    // The rest is, and a finalizer can be removed, also of one that is being deleted.
    let (mut old, mut new) = (held(json!(["a/b"])), held(json!([])));
    new["metadata"]["resourceVersion"] = json!("2");
    webhook.validate(&update(&old, &new)).allowed_without_a_word();
    old["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    new["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    webhook.validate(&update(&old, &new)).allowed_without_a_word();
}

/// Pods may run there for as long as they like.
#[test]
fn in_a_namespace_that_is_being_deleted_everything_may_go_but_the_baseline() {
    let going =
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, deletionTimestamp: '2026-11-21T00:00:00Z'}}\n";
    let mut webhook = Webhook::with(LISTED, going);
    webhook.validate(&delete(&reserved())).denied_by(&[DENIED]);
    for finisher in ["system:serviceaccount:kube-system:namespace-controller", "system:kube-controller-manager"] {
        webhook.validate(&by(finisher, delete(&reserved()))).allowed_without_a_word();
    }
    let mut webhook = Webhook::with(LISTED, &format!("{going}---\n{}", policy(&egress(&[to_database()]))));
    let verdict = webhook.validate(&delete(&policy(&egress(&[to_dns()]))));
    assert!(verdict.allowed, "{verdict}");
}

#[test]
fn since_when_a_hatch_is_open_only_the_controller_says() {
    let mut webhook = Webhook::with(LISTED, "");
    let annotation = "network-policy.homelab/opened";
    let since = |time: Option<&str>| {
        let mut shop = namespace("shop", &json!({}));
        if let Some(time) = time {
            shop["metadata"]["annotations"] = json!({annotation: time});
        }
        shop
    };
    let (real, forged) = (since(Some("2026-11-21T00:00:00Z")), since(Some("1960-01-01T00:00:00Z")));
    let place = format!("metadata.annotations[\"{annotation}\"]");
    for (old, new) in [(&real, &forged), (&real, &since(None)), (&since(None), &forged)] {
        webhook.validate(&update(old, new)).denied_by(&[("managed-policy-change", &place)]);
        webhook.validate(&by(CONTROLLER, update(old, new))).allowed_without_a_word();
    }
    webhook.validate(&update(&real, &real)).allowed_without_a_word();
}

#[test]
fn what_the_controller_applies_is_what_its_folder_says() {
    let mut webhook = Webhook::with(LISTED, SHOP);
    let mut open = policy(&ingress(&[json!({})]));
    open["metadata"]["name"] = json!("portcullis-hatch-allow-all");
    webhook.validate(&by(CONTROLLER, create(&open))).allowed_without_a_word();
    open["metadata"]["name"] = json!("open");
    assert!(!webhook.validate(&by(CONTROLLER, create(&open))).allowed, "other names are none of its own");
}

#[test]
fn how_far_a_baseline_is_only_the_controller_says() {
    let mut webhook = Webhook::with(LISTED, "");
    let is = |state: &str| namespace("shop", &json!({BASELINE: state}));
    let silent = namespace("shop", &json!({}));
    let place = format!("metadata.labels[\"{BASELINE}\"]");
    let denied = [("managed-policy-change", place.as_str())];
    for (old, new) in [
        (&is("pending"), &is("applied")),
        (&is("applied"), &is("pending")),
        (&silent, &is("applied")),
        (&is("pending"), &silent),
    ] {
        webhook.validate(&update(old, new)).denied_by(&denied);
        webhook.validate(&by(CONTROLLER, update(old, new))).allowed_without_a_word();
    }
    webhook.validate(&update(&is("applied"), &silent)).allowed_without_a_word();
    webhook.validate(&update(&is("pending"), &is("pending"))).allowed_without_a_word();
    webhook.validate(&create(&is("applied"))).allowed_without_a_word();
}

#[test]
fn a_profile_that_allows_more_takes_somebody_who_may() {
    let mut webhook = Webhook::with(LISTED, "");
    let has = |profile: &str| namespace("shop", &json!({PROFILE: profile}));
    let none = namespace("shop", &json!({}));
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    for (old, new) in [
        (has("isolated"), has("standard")),
        (has("internal"), has("internal-egress")),
        (has("isolated"), none.clone()),
        (has("standard"), none.clone()),
    ] {
        webhook.validate(&update(&old, &new)).denied_by(&[("isolation-downgrade", &place)]);
        let verdict = webhook.validate(&by("grace", update(&old, &new)));
        assert!(verdict.allowed && verdict.warned.is_empty(), "{verdict}");
    }
    for (old, new) in [(has("standard"), has("isolated")), (none.clone(), has("standard"))] {
        let verdict = webhook.validate(&update(&old, &new));
        assert!(verdict.allowed && verdict.warned.is_empty(), "{verdict}");
    }
    webhook.validate(&create(&none)).allowed_without_a_word();
    webhook
        .validate(&update(&has("isolated"), &has("open")))
        .denied_by(&[("invalid-profile", &place), ("isolation-downgrade", &place)]);
    // Where the label names none, removing it takes nothing away.
    for label in ["open", ""] {
        webhook.validate(&update(&has(label), &none)).allowed_without_a_word();
    }
    // The platform's namespaces have no use for the label.
    let system = |labels: &Value| namespace("monitoring", labels);
    webhook.validate(&update(&system(&json!({PROFILE: "isolated"})), &system(&json!({})))).allowed_without_a_word();
}

#[test]
fn access_to_an_isolated_namespace_takes_the_right() {
    let mut webhook = Webhook::with(LISTED, "");
    let access = "access.network-policy.homelab/postgres";
    let has = |profile: &str, value: &str| namespace("shop", &json!({PROFILE: profile, access: value}));
    let without = |profile: &str| namespace("shop", &json!({PROFILE: profile}));
    let place = format!("metadata.labels[\"{access}\"]");
    for old in [without("isolated"), has("isolated", "false"), without("internal")] {
        let review = update(&old, &has("isolated", "true"));
        webhook.validate(&review).denied_by(&[("isolation-downgrade", &place)]);
        let verdict = webhook.validate(&by("grace", review));
        assert!(verdict.allowed, "{verdict}");
    }
    for (old, new) in [
        (without("internal"), has("internal", "true")),
        (has("isolated", "true"), without("isolated")),
        (has("isolated", "true"), has("isolated", "true")),
        (has("internal", "true"), has("isolated", "true")),
    ] {
        let verdict = webhook.validate(&update(&old, &new));
        assert!(verdict.allowed, "{verdict}");
    }
    webhook.validate(&create(&has("isolated", "true"))).allowed_without_a_word();
}

#[test]
fn a_pod_that_comes_before_its_baseline_is_warned_about() {
    let pending = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{PROFILE}: isolated, {BASELINE}: pending}}}}}}\n"
    );
    let mut webhook = Webhook::with(LISTED, &pending);
    let mut pod = pod_on_the_node();
    webhook.validate(&create(&pod)).denied_by(&[("host-network", "spec.hostNetwork")]);
    pod["spec"]["hostNetwork"] = json!(false);
    let warned = [("baseline-pending", "metadata.namespace")];
    webhook.validate(&create(&pod)).allowed_with(&warned);
    let mut labelled = pod.clone();
    labelled["spec"]["activeDeadlineSeconds"] = json!(5);
    webhook.validate(&update(&pod, &labelled)).allowed_without_a_word();
    pod["spec"]["schedulingGates"] = json!([{"name": "network-policy.homelab/baseline"}]);
    webhook.validate(&create(&pod)).allowed_without_a_word();
    // Gates are on, and nobody set one.
    let mut webhook = Webhook::with(&format!("{LISTED}baseline: {{gate: true}}\n"), &pending);
    pod["spec"]["schedulingGates"] = json!([]);
    webhook.validate(&create(&pod)).allowed_with(&warned);
    // Its label is a leftover.
    let mut webhook = Webhook::with(&format!("{LISTED}excludedNamespaces: [shop]\n"), &pending);
    webhook.validate(&create(&pod)).allowed_without_a_word();
}

#[test]
fn changes_are_left_to_those_who_are_listed() {
    let config =
        format!("{CONFIG}rules: {{untrusted-change: {{mode: deny, settings: {{users: [flux], groups: [gitops]}}}}}}\n");
    let mut webhook = Webhook::with(&config, SHOP);
    let (old, new) = (policy(&ingress(&[from("a")])), policy(&ingress(&[from("b")])));
    let label = |labels: &Value| namespace("shop", labels);
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    for (review, place) in [
        (create(&old), ""),
        (update(&old, &new), ""),
        (delete(&old), ""),
        (create(&label(&json!({PROFILE: "isolated"}))), place.as_str()),
        (update(&label(&json!({})), &label(&json!({PROFILE: "isolated"}))), place.as_str()),
    ] {
        webhook.validate(&review).denied_by(&[("untrusted-change", place)]);
        for user in ["flux", CONTROLLER] {
            assert!(webhook.validate(&by(user, review.clone())).allowed);
        }
        let member = json!({"userInfo": {"username": "ada", "groups": ["gitops"]}});
        assert!(webhook.validate(&with(review, &member)).allowed);
    }
    // What everybody gets nobody set.
    webhook.validate(&create(&label(&json!({PROFILE: "standard"})))).allowed_without_a_word();
    webhook.validate(&update(&label(&json!({})), &label(&json!({"team": "web"})))).allowed_without_a_word();
}

#[test]
fn what_a_profile_will_do_is_told_before_it_is_done() {
    let mut open = policy(&ingress(&[from_on_any_port("batch"), json!({})]));
    open["metadata"]["name"] = json!("open");
    let pod = |name: &str| {
        let mut pod = pod_on_the_node();
        pod["metadata"]["name"] = json!(name);
        pod
    };
    let there =
        [namespace("shop", &json!({PROFILE: "standard"})), open, pod("agent-1"), pod("agent-2"), pod("agent-3")];
    let context = there.map(|object| object.to_string()).join("\n---\n");
    let mut webhook = Webhook::with(CONFIG, &context);
    let change = update(
        &namespace("shop", &json!({PROFILE: "internal-egress"})),
        &namespace("shop", &json!({PROFILE: "internal"})),
    );
    let verdict = webhook.validate(&change);
    assert!(verdict.allowed, "{verdict}");
    assert_eq!(
        verdict.warnings[0],
        "preview: 3 hostNetwork pods are not isolated by profile internal: agent-1, agent-2 and 1 more"
    );
    assert!(verdict.warnings[1].starts_with("preview: profile internal cuts egress to "), "{verdict}");
    assert_eq!(
        verdict.warnings[2], "preview: NetworkPolicy shop/open still allows ingress from anywhere on every port",
        "{verdict}"
    );
    assert_eq!(verdict.warnings.len(), 3, "{verdict}");
    let dry = webhook.validate(&with(change, &json!({"dryRun": true})));
    assert_eq!(dry.warnings, verdict.warnings);
}

/// Those that run escape the profile; those that come after them are denied.
#[test]
fn whose_pods_a_profile_lets_start_no_more_is_told_before_it_is_done() {
    let mut agents = deployment_on_the_node();
    agents["kind"] = json!("DaemonSet");
    agents["metadata"] = json!({"name": "agents", "namespace": "shop"});
    let context = [namespace("shop", &json!({})), agents].map(|object| object.to_string()).join("\n---\n");
    let change = update(&namespace("shop", &json!({})), &namespace("shop", &json!({PROFILE: "isolated"})));
    let told = |rules: &str| Webhook::with(&format!("{CONFIG}{rules}"), &context).validate(&change).warnings;
    let line = "preview: new hostNetwork pods of DaemonSet agents will be denied unless they are exempt";
    assert_eq!(told(""), [line]);
    assert_eq!(told("rules: {host-network: warn}\n"), Vec::<String>::new());
    assert_eq!(told("rules: {host-network: {settings: {profiles: [internal]}}}\n"), Vec::<String>::new());
}

/// Policies of the cluster choose pods by any label of their namespace.
#[test]
fn what_another_label_takes_from_pods_is_told_before_it_is_done() {
    let pod = |name: &str, app: &str, spec: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "shop", "labels": {{"app":
            "{app}"}}}}, "spec": {{{spec}}}}}"#
        )
    };
    let containers = r#""containers": [{"name": "c", "image": "i"}]"#;
    let on_the_node = format!(r#""hostNetwork": true, {containers}"#);
    let wide = |name: &str, label: &str, egress: &str| {
        format!(
            r#"{{"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {{"name": "{name}"}}, "spec":
            {{"endpointSelector": {{"matchLabels": {{"k8s:io.cilium.k8s.namespace.labels.{label}": "yes"}}}}, {egress}}}}}"#
        )
    };
    let dns = r#""egress": [{"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system",
        "k8s:k8s-app": "kube-dns"}}], "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]}]"#;
    let isolate_db = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "own", "namespace":
        "shop"}, "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"]}}"#;
    let context = [
        namespace("shop", &json!({})).to_string(),
        pod("web-1", "web", containers),
        pod("web-2", "web", containers),
        pod("db", "db", containers),
        pod("node", "web", &on_the_node),
        wide("closes", "closed", r#""egress": [{}]"#),
        wide("serves", "served", dns),
        wide("refuses", "refused", r#""egressDeny": [{"toEntities": ["cluster"]}]"#),
        isolate_db.to_owned(),
    ];
    let mut webhook = Webhook::with(CONFIG, &context.join("\n---\n"));
    let mut told = |before: Value, after: Value| -> Vec<String> {
        let verdict = webhook.validate(&update(&namespace("shop", &before), &namespace("shop", &after)));
        assert!(verdict.allowed, "{verdict}");
        verdict.warnings
    };
    let none = Vec::<String>::new();
    // The database has no DNS before, so it loses none.
    let closes = "preview: 2 pods lose DNS by these labels: web-1, web-2; isolated by \
                  CiliumClusterwideNetworkPolicy closes";
    assert_eq!(told(json!({}), json!({"closed": "yes"})), [closes]);
    assert_eq!(told(json!({"closed": "no"}), json!({"closed": "yes", "team": "a"})), [closes]);
    assert_eq!(told(json!({"closed": "yes"}), json!({"closed": "yes", "team": "a"})), none, "they have none already");
    assert_eq!(told(json!({}), json!({"closed": "yes", "served": "yes"})), none, "another policy gives it back");
    assert_eq!(told(json!({"closed": "yes"}), json!({})), none);
    assert_eq!(
        told(json!({"served": "yes"}), json!({})),
        ["preview: 1 pod loses DNS by these labels: db; isolated by NetworkPolicy shop/own"]
    );
    assert_eq!(
        told(json!({"served": "yes"}), json!({"served": "yes", "refused": "yes"})),
        ["preview: 3 pods lose DNS by these labels: db, web-1 and 1 more; denied by \
             CiliumClusterwideNetworkPolicy refuses"]
    );
    let mut webhook = Webhook::with(&format!("{CONFIG}rules: {{dns-blocked: off}}\n"), &context.join("\n---\n"));
    let closed = update(&namespace("shop", &json!({})), &namespace("shop", &json!({"closed": "yes"})));
    webhook.validate(&closed).allowed_without_a_word();
}
