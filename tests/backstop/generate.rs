//! Objects and requests, made up from the same seed each time.

use std::collections::BTreeSet;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cluster::{Action, Request};
use crate::oracle::generate::{calico_policy, cilium_policy, cluster_policy, kubernetes_policy};

/// The domain of the labels in the configuration of the corpus.
const DOMAIN: &str = "network-policy.homelab";

/// The namespaces of generated objects. `a` and `default` are stored with a profile, `b` with a label that an override
/// selects, `c` without a profile, and the hatch of `open` is open.
const NAMESPACES: [&str; 7] = ["a", "a", "a", "b", "c", "default", "open"];

/// How many generated policies and namespaces are stored before Portcullis is there.
const STORED: usize = 40;

/// One of the items.
fn one_of<T: Clone + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = T> {
    select(items)
}

/// Objects that the backstop denies: an open policy, and a hostNetwork workload.
pub(crate) fn probes() -> [Value; 2] {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "probe", "namespace": "c"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}});
    [policy, crate::corpus()["workloads/cni-cleanup"].clone()]
}

/// The namespaces of generated objects and of the corpus.
pub(crate) fn namespaces() -> Vec<Value> {
    let namespace = |name: &str, labels: Value, annotations: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "annotations": annotations}});
    let label = |name: &str| format!("{DOMAIN}/{name}");
    let mut objects = vec![
        namespace("a", json!({label("profile"): "isolated"}), json!({})),
        namespace("b", json!({label("profile"): "standard", "team": "web"}), json!({})),
        namespace("c", json!({}), json!({})),
        namespace("batch", json!({label("profile"): "isolated"}), json!({})),
        namespace(
            "open",
            json!({label("profile"): "isolated", label("enforcement"): "disabled"}),
            json!({label("reason"): "a test", label("until"): soon()}),
        ),
    ];
    let taken: BTreeSet<&str> = ["a", "b", "c", "batch", "open", "default"].into();
    let of_corpus: BTreeSet<String> = crate::corpus()
        .values()
        .filter_map(|object| object["metadata"]["namespace"].as_str().map(str::to_owned))
        .filter(|name| !taken.contains(&**name))
        .collect();
    objects.extend(of_corpus.iter().map(|name| namespace(name, json!({}), json!({}))));
    objects
}

/// Objects with and without faults that are stored without a check.
pub(crate) fn unchecked() -> Vec<Value> {
    let mut objects = Vec::new();
    let mut runner = TestRunner::deterministic();
    let mut make = |strategy: &BoxedStrategy<Value>| strategy.new_tree(&mut runner).unwrap().current();
    let (policies, namespaces, workloads) = (policy(), namespace_strategy(), workload());
    for number in 0..STORED {
        for (strategy, kind) in [(&policies, "policy"), (&namespaces, "namespace"), (&workloads, "workload")] {
            let mut object = make(strategy);
            // A name of the platform or of the controller would be denied or owned.
            object["metadata"]["name"] = json!(format!("stored-{kind}-{number}"));
            if object["kind"] == "BaselineAdminNetworkPolicy" {
                object["kind"] = json!("AdminNetworkPolicy");
                object["spec"]["priority"] = json!(1);
            }
            // Nothing of a pod and of a Job that matters here can be changed.
            if object["kind"] != "Pod" && object["kind"] != "Job" {
                objects.push(object);
            }
        }
    }
    objects
}

/// A time within the maximum duration of a hatch.
fn soon() -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(12)).to_string()
}

/// Requests of users with and without permissions: creations, changes of stored objects, and deletions.
pub(crate) fn requests(count: usize, stored: &[Value]) -> Vec<Request> {
    let mut runner = TestRunner::deterministic();
    let all = prop_oneof![5 => policy(), 2 => namespace_strategy(), 2 => workload()].boxed();
    let user = prop_oneof![4 => Just("ada"), 1 => Just("admin")];
    let action = prop_oneof![6 => Just(Action::Create), 5 => Just(Action::Update), 1 => Just(Action::Delete)];
    let shape = (all, user, action, any::<prop::sample::Index>());
    let mut requests = Vec::new();
    while requests.len() < count {
        let (mut object, user, action, index) = shape.new_tree(&mut runner).unwrap().current();
        if action == Action::Create {
            requests.push(Request { user, action, object });
            continue;
        }
        let is_alike = |other: &&Value| other["kind"] == object["kind"] && other["apiVersion"] == object["apiVersion"];
        let alike: Vec<&Value> = stored.iter().filter(is_alike).collect();
        if alike.is_empty() {
            continue;
        }
        let old = *index.get(&alike);
        if action == Action::Delete {
            requests.push(Request { user, action, object: old.clone() });
            continue;
        }
        let is_namespace = object["kind"] == "Namespace";
        let mut changed = old.clone();
        for field in ["spec", "specs", "template"] {
            match object.get_mut(field) {
                Some(new) => changed[field] = new.take(),
                None if is_namespace => {}
                None => {
                    changed.as_object_mut().unwrap().remove(field);
                }
            }
        }
        // Not the managed fields, which are of the stored object.
        for field in ["labels", "annotations"] {
            changed["metadata"][field] = object["metadata"][field].take();
        }
        if is_namespace {
            changed["metadata"]["labels"]["kubernetes.io/metadata.name"] = changed["metadata"]["name"].clone();
            // The controller writes to namespaces in the meantime.
            changed["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        }
        requests.push(Request { user, action, object: changed });
    }
    requests
}

/// A policy of any dialect, at times with a reserved name or with an exemption.
fn policy() -> BoxedStrategy<Value> {
    let policy = prop_oneof![
        4 => kubernetes_policy(),
        2 => wide_policy(),
        3 => cilium_policy(),
        3 => calico_policy(),
        3 => cluster_policy(),
    ];
    let name = prop_oneof![
        10 => "[a-z]{6}",
        1 => Just("portcullis-own".to_owned()),
        1 => Just("portcullis-baseline-default-deny".to_owned()),
        1 => Just("default.portcullis-own".to_owned()),
    ];
    (policy, name, one_of(&NAMESPACES), exemption(&["any-port", "too-complex", "dns-blocked", "any-port,host-network"]))
        .prop_map(|(mut policy, name, namespace, annotations)| {
            let kind = policy["kind"].as_str().unwrap();
            let name = if kind == "BaselineAdminNetworkPolicy" { "default".to_owned() } else { name };
            let is_namespaced = policy["metadata"].get("namespace").is_some();
            policy["metadata"] = json!({"name": name, "annotations": annotations});
            if is_namespaced {
                policy["metadata"]["namespace"] = json!(namespace);
            }
            policy
        })
        .boxed()
}

/// A NetworkPolicy with ranges of ports and peers that are on the border of the rule.
fn wide_policy() -> BoxedStrategy<Value> {
    let port = one_of(&[
        (Some(1), Some(65_535)),
        (Some(1), Some(32_768)),
        (Some(1), Some(32_769)),
        (Some(30_000), Some(65_535)),
        (Some(8080), None),
        (None, None),
    ]);
    let port = (port, option::of(one_of(&["TCP", "UDP"])))
        .prop_map(|((first, last), protocol)| {
            let fields = [
                ("port", first.map(Value::from)),
                ("endPort", last.map(Value::from)),
                ("protocol", protocol.map(Value::from)),
            ];
            fields
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect::<serde_json::Map<_, _>>()
        })
        .boxed();
    let peer = one_of(&[
        r#"{"ipBlock": {"cidr": "169.254.0.0/16"}}"#,
        r#"{"ipBlock": {"cidr": "169.254.7.127/32"}}"#,
        r#"{"ipBlock": {"cidr": "fe80::/10"}}"#,
        r#"{"ipBlock": {"cidr": "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"}}"#,
        r#"{"ipBlock": {"cidr": "0.0.0.0/0"}}"#,
        r#"{"ipBlock": {"cidr": "::/0"}}"#,
        r#"{"ipBlock": {"cidr": "128.0.0.0/1"}}"#,
        r#"{"podSelector": {}}"#,
        r#"{"namespaceSelector": {}}"#,
    ])
    .prop_map(|text| serde_json::from_str::<Value>(text).unwrap())
    .boxed();
    let rule = |peers: &'static str| {
        (prop::collection::vec(peer.clone(), 0..=2), prop::collection::vec(port.clone(), 0..=2))
            .prop_map(move |(peer, ports)| json!({peers: peer, "ports": ports}))
    };
    const TYPES: [&[&str]; 3] = [&["Ingress"], &["Egress"], &["Ingress", "Egress"]];
    let types = one_of(&TYPES);
    (types, prop::collection::vec(rule("from"), 0..=2), prop::collection::vec(rule("to"), 0..=2))
        .prop_map(|(types, ingress, egress)| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "policy", "namespace": "a"},
                "spec": {"podSelector": {}, "policyTypes": types, "ingress": ingress, "egress": egress}})
        })
        .boxed()
}

/// Annotations that exempt an object from rules, at times without a reason.
fn exemption(rules: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (option::weighted(0.2, one_of(rules)), any::<bool>()).prop_map(|(rules, has_reason)| {
        let mut annotations = json!({});
        if let Some(rules) = rules {
            annotations[format!("{DOMAIN}/exempt")] = json!(rules);
            if has_reason {
                annotations[format!("{DOMAIN}/reason")] = json!("a test");
            }
        }
        annotations
    })
}

/// A namespace with labels and annotations of Portcullis.
fn namespace_strategy() -> BoxedStrategy<Value> {
    let profile = option::of(one_of(&["isolated", "internal", "internal-egress", "standard", "standart"]));
    let value = || option::weighted(0.3, one_of(&["true", "yes"]));
    let enforcement = option::weighted(0.4, one_of(&["disabled", "enabled", "of"]));
    let baseline = option::weighted(0.3, one_of(&["pending", "applied", "gone"]));
    let reason = option::of(one_of(&["a test", " "]));
    let until = option::of(one_of(&["soon", "2020-01-01T00:00:00Z", "later", "+1", "+2"]));
    let opened = option::weighted(0.1, one_of(&["2020-01-01T00:00:00Z"]));
    let name = prop_oneof![8 => "new-[a-z]{5}", 1 => Just("monitoring".to_owned()), 1 => Just("database".to_owned())];
    let annotations = (reason, until, opened, exemption(&["invalid-profile", "too-complex", "isolation-downgrade"]));
    (name, profile, value(), value(), enforcement, baseline, annotations, option::of(one_of(&["web", "db"])))
        .prop_map(|(name, profile, postgres, unknown, enforcement, baseline, annotations, team)| {
            let now = jiff::Timestamp::now();
            let until = annotations.1.map(|until| match until.strip_prefix('+') {
                Some(hours) => (now + jiff::SignedDuration::from_hours(hours.parse().unwrap())).to_string(),
                None => until.to_owned(),
            });
            let mut metadata = json!({"name": name, "labels": {}, "annotations": annotations.3});
            let mut add = |part: &str, key: String, value: Option<&str>| {
                if let Some(value) = value {
                    metadata[part][key] = json!(value);
                }
            };
            add("labels", format!("{DOMAIN}/profile"), profile);
            add("labels", format!("access.{DOMAIN}/postgres"), postgres);
            add("labels", format!("access.{DOMAIN}/unknown"), unknown);
            add("labels", format!("{DOMAIN}/enforcement"), enforcement);
            add("labels", format!("{DOMAIN}/baseline"), baseline);
            add("labels", "team".to_owned(), team);
            add("annotations", format!("{DOMAIN}/reason"), annotations.0);
            add("annotations", format!("{DOMAIN}/until"), until.as_deref());
            add("annotations", format!("{DOMAIN}/opened"), annotations.2);
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        })
        .boxed()
}

/// A pod, or an object that makes pods.
fn workload() -> BoxedStrategy<Value> {
    let kind =
        one_of(&["Pod", "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob", "PodTemplate"]);
    let rules: &[&str] = &["host-network", "too-complex", "any-port"];
    (
        kind,
        one_of(&NAMESPACES),
        option::weighted(0.8, prop::bool::weighted(0.7)),
        "[a-z]{6}",
        exemption(rules),
        exemption(rules),
    )
        .prop_map(|(kind, namespace, host_network, name, own, of_template)| {
            let labels = json!({"app": "web"});
            let mut pod = json!({"containers": [{"name": "main", "image": "main:1"}]});
            if let Some(host_network) = host_network {
                pod["hostNetwork"] = json!(host_network);
            }
            if name.as_str() < "n" {
                pod["serviceAccountName"] = json!("robot");
            }
            let is_once = matches!(kind, "Job" | "CronJob");
            if is_once {
                pod["restartPolicy"] = json!("Never");
            }
            let template = json!({"metadata": {"labels": labels, "annotations": of_template}, "spec": pod});
            let selected = json!({"selector": {"matchLabels": labels}, "template": template});
            let metadata = json!({"name": name, "namespace": namespace, "annotations": own});
            let (version, field, value) = match kind {
                "Pod" => ("v1", "spec", pod),
                "PodTemplate" => ("v1", "template", template),
                "Job" => ("batch/v1", "spec", json!({"template": template})),
                "CronJob" => (
                    "batch/v1",
                    "spec",
                    json!({"schedule": "0 2 * * *", "jobTemplate": {"metadata": {}, "spec": {"template": template}}}),
                ),
                "StatefulSet" => ("apps/v1", "spec", {
                    let mut spec = selected;
                    spec["serviceName"] = json!("web");
                    spec
                }),
                _ => ("apps/v1", "spec", selected),
            };
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, field: value})
        })
        .boxed()
}
