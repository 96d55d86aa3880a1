//! What a request is about: which object, which operation, whose.

use serde_json::{Value, json};

use crate::support::reviews::{
    BASELINE, CONFIG, INJECTS, PROFILE, SHOP, Webhook, create, delete, deployment_on_the_node, egress,
    from_on_any_port, ingress, namespace, object, pod_on_the_node, pod_spec, policy, to_database, to_dns, update, with,
};
use crate::support::verdict::borrowed;

/// A namespace whose pods are isolated for egress by one policy, and have DNS from another.
pub(crate) const RESOLVING: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: resolving}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolate, namespace: resolving}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-dns, namespace: resolving}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
";

/// The policy from which its pods have DNS.
pub(crate) fn allow_dns() -> Value {
    let metadata = json!({"name": "allow-dns", "namespace": "resolving"});
    object("networking.k8s.io/v1", "NetworkPolicy", &metadata, &egress(&[to_dns()]))
}

/// Trap 13. No cache has a namespace that is only being made.
#[test]
fn a_namespace_in_its_own_creation_is_decided_from_the_object() {
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    // Unknown, and known with other labels from before it was deleted.
    for context in ["", SHOP] {
        let mut webhook = Webhook::with(CONFIG, context);
        webhook.validate(&create(&namespace("shop", &json!({PROFILE: "standard"})))).allowed_without_a_word();
        let bad = create(&namespace("shop", &json!({PROFILE: "open"})));
        webhook.validate(&bad).denied_by(&[("invalid-profile", &place)]);
        let before = namespace("shop", &json!({}));
        let verdict = webhook.mutate(&create(&before));
        assert_eq!(verdict.patched(&before)["metadata"]["labels"][PROFILE], "standard", "{verdict}");
    }
}

/// Trap 14. A deletecollection is one call for each item, without its name; who looks at the name allows it.
#[test]
fn the_last_way_to_dns_cannot_be_deleted_by_any_name() {
    let mut webhook = Webhook::with(CONFIG, RESOLVING);
    let review = delete(&allow_dns());
    let mut nameless = with(review.clone(), &json!({"name": ""}));
    webhook.validate(&nameless).denied_by(&[("dns-blocked", "spec")]);
    nameless["request"].as_object_mut().unwrap().remove("name");
    for review in [review, nameless] {
        let verdict = webhook.validate(&review);
        verdict.denied_by(&[("dns-blocked", "spec")]);
        assert!(verdict.message.contains("isolate"), "it names who isolates: {verdict}");
        webhook.mutate(&review).allowed_without_a_word();
    }
    let mut isolate = allow_dns();
    isolate["metadata"]["name"] = json!("isolate");
    isolate["spec"] = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    webhook.validate(&with(delete(&isolate), &json!({"name": ""}))).allowed_without_a_word();

    let mut webhook = Webhook::with(CONFIG, "");
    webhook.validate(&delete(&allow_dns())).allowed_without_a_word();
    webhook.validate(&with(delete(&allow_dns()), &json!({"name": ""}))).allowed_without_a_word();
}

/// Trap 14. A deletion of which nothing is known has not been judged.
#[test]
fn a_deletion_without_the_old_object_is_denied() {
    let mut webhook = Webhook::new();
    for object in [allow_dns(), namespace("old", &json!({})), pod_on_the_node()] {
        let review = delete(&object);
        let mut without = review.clone();
        without["request"].as_object_mut().unwrap().remove("oldObject");
        for review in [with(review, &json!({"oldObject": null})), without] {
            for endpoint in ["/validate", "/mutate"] {
                webhook.ask(endpoint, &review).refused(400, "BadRequest", &["DELETE", "oldObject"]);
            }
        }
    }
}

/// Trap 15. The object of a connection is of another kind, and there is nothing to judge.
#[test]
fn a_connection_is_allowed() {
    let mut webhook = Webhook::new();
    let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "command": ["sh"]});
    let review = with(
        create(&pod_on_the_node()),
        &json!({
            "operation": "CONNECT",
            "kind": {"group": "", "version": "v1", "kind": "PodExecOptions"},
            "subResource": "exec",
            "object": options,
            "options": null,
        }),
    );
    let of_a_known_kind = with(create(&pod_on_the_node()), &json!({"operation": "CONNECT"}));
    let without_object = with(of_a_known_kind.clone(), &json!({"object": null}));
    for review in [review, of_a_known_kind, without_object] {
        for endpoint in ["/validate", "/mutate"] {
            webhook.ask(endpoint, &review).allowed_without_a_word();
        }
    }
}

/// Trap 16. The name comes later.
#[test]
fn an_object_without_a_name_is_judged() {
    let mut webhook = Webhook::new();
    let nameless = |mut object: Value, metadata: Value| {
        object["metadata"] = metadata;
        with(create(&object), &json!({"name": ""}))
    };
    let generated = json!({"generateName": "web-", "namespace": "shop"});
    let verdict = webhook.validate(&nameless(policy(&egress(&[to_database()])), generated.clone()));
    verdict.denied_by(&[("dns-blocked", "spec.egress")]);
    // Nor does it have to say its namespace.
    let mut review = nameless(policy(&egress(&[to_database()])), json!({"generateName": "web-"}));
    webhook.validate(&review).denied_by(&[("dns-blocked", "spec.egress")]);
    review["request"]["object"]["spec"] = egress(&[to_dns()]);
    webhook.validate(&review).allowed_without_a_word();
    webhook.validate(&nameless(pod_on_the_node(), generated)).denied_by(&[("host-network", "spec.hostNetwork")]);

    let mut object = namespace("", &json!({PROFILE: "open"}));
    object["metadata"] = json!({"generateName": "tenant-", "labels": {PROFILE: "open"}});
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    webhook.validate(&create(&object)).denied_by(&[("invalid-profile", &place)]);
    object["metadata"]["labels"] = json!({});
    let verdict = webhook.mutate(&create(&object));
    let labels = verdict.patched(&object)["metadata"]["labels"].clone();
    assert_eq!(labels, json!({PROFILE: "standard", BASELINE: "pending"}), "{verdict}");
}

/// Trap 17. They cannot change what is judged, and a denial would stop kubelets, autoscalers and the garbage collector.
#[test]
fn subresources_are_allowed_untouched() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let cases = [
        (
            pod_on_the_node(),
            "host-network",
            "spec.hostNetwork",
            &["status", "ephemeralcontainers", "resize", "binding"][..],
        ),
        (deployment_on_the_node(), "host-network", "spec.template.spec.hostNetwork", &["status", "scale"]),
        (policy(&egress(&[to_database()])), "dns-blocked", "spec.egress", &["status"]),
    ];
    for (object, rule, place, subresources) in cases {
        webhook.validate(&create(&object)).denied_by(&[(rule, place)]);
        for subresource in subresources {
            let fields = json!({"subResource": subresource, "requestSubResource": subresource});
            for review in [create(&object), update(&json!({"metadata": {}}), &object)] {
                let review = with(review, &fields);
                webhook.validate(&review).allowed_without_a_word();
                webhook.mutate(&review).allowed_without_a_word();
            }
        }
    }
    // But the labels of a namespace can be set through those of its own.
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    for subresource in ["status", "finalize"] {
        let review = update(&namespace("new", &json!({})), &namespace("new", &json!({PROFILE: "open"})));
        let review = with(review, &json!({"subResource": subresource}));
        webhook.validate(&review).denied_by(&[("invalid-profile", &place)]);
    }
    // What is not about one says so by an empty text too.
    let review = with(create(&pod_on_the_node()), &json!({"subResource": ""}));
    webhook.validate(&review).denied_by(&[("host-network", "spec.hostNetwork")]);
}

/// Trap 18. With `matchPolicy: Equivalent` the object is converted to the registered version; `requestKind` is not it.
#[test]
fn the_kind_of_the_object_is_kind_and_not_request_kind() {
    let mut webhook = Webhook::new();
    let asked = json!({
        "requestKind": {"group": "extensions", "version": "v1beta1", "kind": "NetworkPolicy"},
        "requestResource": {"group": "extensions", "version": "v1beta1", "resource": "networkpolicies"},
    });
    let review = with(create(&policy(&egress(&[to_database()]))), &asked);
    webhook.validate(&review).denied_by(&[("dns-blocked", "spec.egress")]);
    let other = json!({"kind": {"group": "example.com", "version": "v1", "kind": "NetworkPolicy"}});
    webhook.validate(&with(create(&policy(&egress(&[to_database()]))), &other)).allowed_without_a_word();
}

/// Trap 18. A version that nobody here can read may hold anything.
#[test]
fn a_new_object_of_an_unknown_version_is_denied_by_name() {
    let mut webhook = Webhook::new();
    for (object, version) in of_unknown_versions() {
        for endpoint in ["/validate", "/mutate"] {
            webhook.ask(endpoint, &create(&object)).refused(
                422,
                "Invalid",
                &[version, "is not supported; expected v1"],
            );
        }
    }
}

/// Trap 18. Else a policy could be created in a known version and then changed in an unknown one.
#[test]
fn a_changed_object_of_an_unknown_version_is_denied_by_name() {
    let mut webhook = Webhook::new();
    for (new, version) in of_unknown_versions() {
        // The API server converts both objects to the version of the request.
        let mut old = new.clone();
        old["spec"] = json!({"podSelector": {}});
        webhook.validate(&update(&old, &new)).refused(422, "Invalid", &[version, "is not supported; expected v1"]);
    }
}

/// Trap 18. Else the last way to DNS could be deleted in an unknown version; the known one stays open for the rest.
#[test]
fn the_deletion_of_an_object_of_an_unknown_version_is_denied_by_name() {
    let mut webhook = Webhook::with(CONFIG, RESOLVING);
    let mut object = allow_dns();
    object["apiVersion"] = json!("networking.k8s.io/v9");
    let verdict = webhook.validate(&delete(&object));
    verdict.refused(422, "Invalid", &["networking.k8s.io/v9", "is not supported; expected v1"]);
}

/// Trap 18. A newer version of a custom resource is judged like the known one, with a warning.
#[test]
fn a_newer_version_of_a_custom_resource_is_judged_like_the_known_one() {
    let mut webhook = Webhook::new();
    let object = |version: &str, fields: Value| {
        let mut spec = json!({"tier": "Admin", "priority": 5, "subject": {"namespaces": {}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let api_version = format!("policy.networking.k8s.io/{version}");
        object(&api_version, "ClusterNetworkPolicy", &json!({"name": "admin"}), &spec)
    };
    let no_dns = json!({"egress": [{"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}]});
    for (version, warned) in [("v1alpha2", false), ("v1beta1", true), ("v1", true)] {
        let about_version = [("unknown-field", "apiVersion")];
        let expected = if warned { &about_version[..] } else { &[] };
        let (calm, fatal) = (object(version, json!({})), object(version, no_dns.clone()));
        webhook.validate(&create(&calm)).allowed_with(expected);
        webhook.validate(&delete(&calm)).allowed_without_a_word();
        webhook.validate(&create(&fatal)).denied_by(&[("dns-blocked", "spec.egress[0]")]);
        webhook.validate(&update(&calm, &fatal)).denied_by(&[("dns-blocked", "spec.egress[0]")]);
    }
    let unknown = object("v1", json!({"mode": "Audit"}));
    for review in [create(&unknown), update(&object("v1", json!({})), &unknown)] {
        let words = ["spec.mode: unknown field of ClusterNetworkPolicy", "is read as v1alpha2"];
        webhook.validate(&review).refused(422, "Invalid", &words);
    }
    let verdict = webhook.validate(&delete(&unknown));
    assert!(verdict.allowed, "an object that cannot be read has no known effect: {verdict}");
}

fn of_unknown_versions() -> [(Value, &'static str); 3] {
    let of = |mut object: Value, version: &'static str| {
        object["apiVersion"] = json!(version);
        (object, version)
    };
    [
        of(policy(&ingress(&[from_on_any_port("batch")])), "networking.k8s.io/v9"),
        of(deployment_on_the_node(), "apps/v2beta1"),
        of(pod_on_the_node(), "v2"),
    ]
}

/// Trap 27. A static pod runs whatever the answer is, and a patch would make its mirror differ from it.
#[test]
fn a_mirror_pod_is_allowed_and_never_patched() {
    let mut webhook = Webhook::new();
    let mut pod = pod_on_the_node();
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "2f7a"});
    let kubelet =
        json!({"userInfo": {"username": "system:node:x", "groups": ["system:nodes", "system:authenticated"]}});
    for endpoint in ["/validate", "/mutate"] {
        webhook.ask(endpoint, &with(create(&pod), &kubelet)).allowed_without_a_word();
    }
    // The annotation is not what makes one: everybody can write it.
    webhook.validate(&create(&pod)).denied_by(&[("host-network", "spec.hostNetwork")]);
    for user in ["system:nodex", "node:x", "system:serviceaccount:kube-system:node-controller", ""] {
        let review = with(create(&pod), &json!({"userInfo": {"username": user}}));
        webhook.validate(&review).denied_by(&[("host-network", "spec.hostNetwork")]);
    }
    let review = with(create(&pod_on_the_node()), &kubelet);
    webhook.validate(&review).denied_by(&[("host-network", "spec.hostNetwork")]);
}

/// Trap 27. What is no pod mirrors nothing.
#[test]
fn nothing_but_a_pod_is_a_mirror_pod() {
    let mut webhook = Webhook::new();
    let kubelet =
        json!({"userInfo": {"username": "system:node:x", "groups": ["system:nodes", "system:authenticated"]}});
    for (mut object, rule, place) in [
        (deployment_on_the_node(), "host-network", "spec.template.spec.hostNetwork"),
        (policy(&egress(&[to_database()])), "dns-blocked", "spec.egress"),
    ] {
        object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "2f7a"});
        webhook.validate(&with(create(&object), &kubelet)).denied_by(&[(rule, place)]);
    }
}

/// Trap 29. A pod that is denied shows only as an event of its controller, so the templates are judged too.
#[test]
fn templates_are_judged_like_pods() {
    let mut webhook = Webhook::new();
    let template = json!({"metadata": {"labels": {"app": "main"}}, "spec": pod_spec()});
    let of = |api_version: &str, kind: &str| {
        let spec = json!({"selector": {"matchLabels": {"app": "main"}}, "template": template});
        object(api_version, kind, &json!({"name": "main", "namespace": "shop"}), &spec)
    };
    let mut cases: Vec<(Value, &str)> = [
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "Job"),
        ("v1", "ReplicationController"),
    ]
    .map(|(api_version, kind)| (of(api_version, kind), "spec.template.spec.hostNetwork"))
    .into();
    let mut cron = of("batch/v1", "CronJob");
    cron["spec"] = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": template}}});
    cases.push((cron, "spec.jobTemplate.spec.template.spec.hostNetwork"));
    let mut pod_template = of("v1", "PodTemplate");
    pod_template.as_object_mut().unwrap().remove("spec");
    pod_template["template"] = template.clone();
    cases.push((pod_template, "template.spec.hostNetwork"));
    for (new, place) in cases {
        webhook.validate(&create(&new)).denied_by(&[("host-network", place)]);
        let old: Value =
            serde_json::from_str(&new.to_string().replace("\"hostNetwork\":true", "\"hostNetwork\":false")).unwrap();
        webhook.validate(&create(&old)).allowed_without_a_word();
        webhook.validate(&update(&old, &new)).denied_by(&[("host-network", place)]);
        let mut changed = new.clone();
        changed["spec"]["paused"] = json!(true);
        let verdict = webhook.validate(&update(&new, &changed));
        verdict.allowed_with(&[("host-network", place)]);
        assert_eq!(borrowed(&verdict.before), [("host-network", place)], "{verdict}");
    }
}
