//! What `/mutate` changes. A patch that cannot be applied stops the request under any failurePolicy.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::support::reviews::{
    BASELINE, CONFIG, INJECTS, PROFILE, SHOP, Webhook, create, delete, deployment_on_the_node, egress, namespace,
    object, pod_on_the_node, policy, to_database, to_dns, update, with,
};

/// Trap 2. Every verdict of `/validate` is read with this in mind; here are the requests for which `/mutate` has a patch.
#[test]
fn validate_never_patches() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    for object in [namespace("new", &json!({})), policy(&egress(&[to_database()]))] {
        assert!(webhook.mutate(&create(&object)).patch.is_some());
        assert!(webhook.validate(&create(&object)).patch.is_none());
    }
}

/// Trap 3.
#[test]
fn parents_of_labels_are_added_where_they_are_missing() {
    let mut webhook = Webhook::new();
    let added = json!({PROFILE: "standard", BASELINE: "pending"});
    for metadata in
        [json!({"name": "new"}), json!({"name": "new", "labels": null}), json!({"name": "new", "labels": {}})]
    {
        let object = object("v1", "Namespace", &metadata, &json!({}));
        let verdict = webhook.mutate(&create(&object));
        assert_eq!(verdict.patched(&object)["metadata"]["labels"], added, "{verdict}");
    }
}

/// Trap 3. In Go a null is an empty value.
#[test]
fn metadata_is_added_where_it_is_missing() {
    let mut webhook = Webhook::new();
    let added = json!({PROFILE: "standard", BASELINE: "pending"});
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace"}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": null}),
    ] {
        let verdict = webhook.mutate(&create(&object));
        assert_eq!(verdict.patched(&object)["metadata"]["labels"], added, "{verdict}");
    }
}

/// Trap 3.
#[test]
fn parents_of_rules_are_added_where_they_are_missing() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    for egress in [Value::Null, json!([])] {
        let mut object = policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}));
        for _ in 0..2 {
            let verdict = webhook.mutate(&create(&object));
            assert_eq!(verdict.patched(&object)["spec"]["egress"], json!([to_dns()]), "{verdict}");
            object["spec"].as_object_mut().unwrap().remove("egress");
        }
    }
}

/// Trap 3. API servers send what a typed object says, and nobody else has to.
#[test]
fn no_patch_is_made_that_could_not_be_applied() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let namespace = |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    let strange = [
        namespace(json!([])),
        namespace(json!(["new"])),
        namespace(json!({"name": "new", "labels": []})),
        namespace(json!({"name": "new", "labels": "none"})),
        policy(&json!([])),
        policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": {}})),
        policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": "none"})),
    ];
    for object in strange {
        let review = with(create(&policy(&json!({}))), &json!({"object": object}));
        let kind = json!({"group": object["apiVersion"].as_str().unwrap().strip_suffix("/v1").unwrap_or_default(), "version": "v1", "kind": object["kind"]});
        let verdict = webhook.mutate(&with(review, &json!({"kind": kind})));
        // Reading what is strange may fail; a patch has to hold.
        let _ = verdict.patched(&object);
    }
}

/// Trap 3.
#[test]
fn a_deletion_is_never_patched() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let with_null_labels = object("v1", "Namespace", &json!({"name": "old", "labels": null}), &json!({}));
    for object in [namespace("old", &json!({})), with_null_labels, policy(&egress(&[to_database()]))] {
        webhook.mutate(&delete(&object)).allowed_without_a_word();
        // As an API server before 1.15 asked, or somebody who is none.
        let verdict = webhook.mutate(&with(delete(&object), &json!({"object": object})));
        assert!(verdict.patch.is_none(), "{verdict}");
    }
}

/// Trap 3. What is being deleted has to be able to lose its finalizers, and nothing else.
#[test]
fn what_is_being_deleted_is_never_patched() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    for mut object in [namespace("old", &json!({})), policy(&egress(&[to_database()]))] {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
        webhook.mutate(&update(&object, &object)).allowed_without_a_word();
    }
}

/// Trap 3. Typed structs drop what they do not know.
#[test]
fn unknown_fields_are_kept() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let mut before = namespace("new", &json!({"team": "a"}));
    before["metadata"]["futureField"] = json!({"deep": [1, 2.5, "x", null, {"a/b~c": true}]});
    before["futurePart"] = json!(["kept"]);
    before["spec"]["futureField"] = json!(1e100);
    let verdict = webhook.mutate(&create(&before));
    let mut expected = before.clone();
    expected["metadata"]["labels"][PROFILE] = json!("standard");
    expected["metadata"]["labels"][BASELINE] = json!("pending");
    assert_eq!(verdict.patched(&before), expected, "{verdict}");

    let mut before = policy(&egress(&[to_database()]));
    before["spec"]["futureField"] = json!({"mode": "strict"});
    before["spec"]["egress"][0]["futureField"] = json!(1);
    before["spec"]["egress"][0]["ports"][0]["futureField"] = json!("x");
    let verdict = webhook.mutate(&create(&before));
    let mut expected = before.clone();
    expected["spec"]["egress"].as_array_mut().unwrap().push(to_dns());
    assert_eq!(verdict.patched(&before), expected, "{verdict}");
}

/// Trap 3. In a JSON pointer a slash is `~1`.
#[test]
fn slashes_in_keys_are_escaped() {
    let mut webhook = Webhook::new();
    let verdict = webhook.mutate(&create(&namespace("new", &json!({}))));
    let patch = json!(verdict.patch);
    let paths: Vec<&str> =
        patch.as_array().unwrap().iter().map(|operation| operation["path"].as_str().unwrap()).collect();
    let label = |name: &str| format!("/metadata/labels/network-policy.homelab~1{name}");
    assert_eq!(paths, [label("profile"), label("baseline")], "{verdict}");
}

/// Only what is missing is added, and whatever the author claims, nothing has been applied to a new namespace.
#[test]
fn labels_that_are_there_stay() {
    let mut webhook = Webhook::new();
    let before = namespace("new", &json!({PROFILE: "isolated", BASELINE: "applied", "team": "a"}));
    let verdict = webhook.mutate(&create(&before));
    let labels = verdict.patched(&before)["metadata"]["labels"].clone();
    let expected = json!({
        PROFILE: "isolated", BASELINE: "pending", "team": "a", "kubernetes.io/metadata.name": "new",
    });
    assert_eq!(labels, expected, "{verdict}");
    for name in ["kube-system", "monitoring", "default"] {
        webhook.mutate(&create(&namespace(name, &json!({})))).allowed_without_a_word();
    }
}

/// Trap 20. With `reinvocationPolicy: IfNeeded` the same webhook sees what it made of the object.
#[test]
fn a_namespace_is_patched_once() {
    let mut webhook = Webhook::new();
    for labels in [json!({}), json!({PROFILE: "internal"}), json!({BASELINE: "applied"})] {
        let before = namespace("new", &labels);
        let verdict = webhook.mutate(&create(&before));
        assert!(verdict.patch.is_some(), "{verdict}");
        let after = verdict.patched(&before);
        let _: Namespace = serde_json::from_value(after.clone()).unwrap_or_else(|error| panic!("{error}: {after}"));
        webhook.mutate(&create(&after)).allowed_without_a_word();
        webhook.validate(&create(&after)).allowed_without_a_word();
    }
}

/// Trap 20.
#[test]
fn dns_is_added_once() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let udp = json!({"to": to_dns()["to"], "ports": [{"protocol": "UDP", "port": 53}]});
    for spec in [
        egress(&[to_database()]),
        egress(&[]),
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        json!({"podSelector": {}, "egress": [to_database()]}),
    ] {
        let before = policy(&spec);
        let verdict = webhook.mutate(&create(&before));
        assert!(verdict.patch.is_some(), "{verdict}");
        let after = verdict.patched(&before);
        let _: NetworkPolicy = serde_json::from_value(after.clone()).unwrap_or_else(|error| panic!("{error}: {after}"));
        webhook.mutate(&create(&after)).allowed_without_a_word();
        webhook.mutate(&update(&before, &after)).allowed_without_a_word();
        let verdict = webhook.validate(&create(&after));
        assert!(verdict.allowed, "{verdict}");
    }
    for good in [egress(&[to_dns()]), egress(&[udp]), json!({"podSelector": {}, "policyTypes": ["Ingress"]})] {
        webhook.mutate(&create(&policy(&good))).allowed_without_a_word();
    }
}

/// What cannot be put right by itself is for `/validate` to deny.
#[test]
fn other_faults_are_not_patched() {
    let mut webhook = Webhook::with(INJECTS, SHOP);
    let before = policy(&egress(&[json!({"to": [{"podSelector": {}}]}), to_dns()]));
    webhook.mutate(&create(&before)).allowed_without_a_word();
    for workload in [pod_on_the_node(), deployment_on_the_node()] {
        webhook.mutate(&create(&workload)).allowed_without_a_word();
    }
    let mut webhook = Webhook::with(CONFIG, SHOP);
    webhook.mutate(&create(&policy(&egress(&[to_database()])))).allowed_without_a_word();
}
