//! A namespace with a profile, its policies, its pods and a webhook that leads to them, for whatever a hostile author sends there.

#![allow(dead_code, reason = "each test file compiles all of this and uses a part of it")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use portcullis::admission::Knowledge;
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect;
use portcullis::model::Object;
use portcullis::view::View;
use serde_json::{Value, json};

const DOMAIN: &str = "network-policy.portcullis.dev";

fn read(value: &Value) -> Object {
    dialect::read_value(value).unwrap().unwrap()
}

/// Namespace shop with the profile `isolated`, 20 policies, a webhook, and 100 pods of which some want to be scraped.
pub(crate) fn knowledge(configuration: Configuration) -> Knowledge {
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata":
        {"name": "shop", "labels": {format!("{DOMAIN}/profile"): "isolated", "kubernetes.io/metadata.name": "shop"}}})];
    for number in 0..20 {
        objects.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("app-{number}"), "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": format!("a{number}")}}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("a{}", number + 1)}}}],
                    "ports": [{"port": 8080, "protocol": "TCP"}]}],
                "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]}}));
    }
    for number in 0..100 {
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number}"),
            "namespace": "shop", "labels": {"app": format!("a{}", number % 40), "pod": number.to_string()},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}}, "spec": {"containers": []}}));
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "shop"},
        "spec": {"type": "NodePort", "selector": {"app": "a1"}, "ports": [{"port": 443, "targetPort": 10250}]}}));
    objects.push(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"}, "webhooks": [{"name": "hook.example.com",
            "clientConfig": {"service": {"namespace": "shop", "name": "hook"}}}]}));
    let policies = PolicySet::shipped(DOMAIN).unwrap();
    Knowledge::new(configuration, View::of(objects.iter().map(read)), policies)
}

/// A namespace with pods that differ only in the last of their ports.
pub(crate) fn pods_with_ports(count: u16, ports: u16) -> View {
    let pod = |number: u16| {
        let listed: Vec<Value> =
            (1..ports).chain([ports + number]).map(|port| json!({"containerPort": port})).collect();
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("many-{number}"), "namespace": "shop", "labels": {"app": "many"}},
            "spec": {"containers": [{"name": "main", "ports": listed}]}})
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    View::of([namespace].into_iter().chain((0..count).map(pod)).map(|manifest| read(&manifest)))
}
