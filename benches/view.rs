//! What the view of a large cluster weighs: 10,000 namespaces, 30,000 policies, 100,000 pods, ten of a ReplicaSet each,
//! as an API server lists them, by the same way that they take in `portcullis serve`.
//!
//! `cargo bench --bench view` prints the resident memory before and after, and fails above 250 MB.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark says what it finds")]

use std::sync::Arc;
use std::time::Instant;

use kube::core::ApiResource;
use portcullis::cluster::{Arriving, Event, Feed, Owning, read};
use portcullis::config::Configuration;
use serde_json::{Value, json};

/// That of the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMESPACES: usize = 10_000;
/// What may be resident in the end, in bytes.
const BAR: usize = 250_000_000;

/// Makes the object with this number.
type Maker = fn(usize) -> Value;

fn main() {
    let owning = Owning::from(&Configuration::shipped().unwrap().site);
    let mut feed = Feed::default();
    let before = resident();
    println!("{:>12}  {:>9}  {:>12}  {:>7}  {:>6}", "", "objects", "resident", "each", "time");
    println!("{:>12}  {:>9}  {:>9} kB", "before", 0, before / 1000);
    let kinds: [(&str, ApiResource, usize, Maker); 3] = [
        ("namespaces", resource("", "v1", "Namespace", "namespaces"), 1, namespace),
        ("policies", resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"), 3, policy),
        ("pods", resource("", "v1", "Pod", "pods"), 10, pod),
    ];
    for (name, resource, times, object) in kinds {
        let (last, began) = (resident(), Instant::now());
        let count = NAMESPACES * times;
        feed.watch(name, resource.clone());
        feed.take(name, Event::Begin);
        for page in (0..count).collect::<Vec<_>>().chunks(500) {
            // A page is there as a whole.
            let page: Vec<Arriving> =
                page.iter().map(|at| serde_json::from_str(&object(*at).to_string()).unwrap()).collect();
            for arriving in &page {
                feed.take(name, Event::Listed(read(&resource, &owning, arriving)));
            }
        }
        feed.take(name, Event::End);
        let each = resident().saturating_sub(last) / count;
        let took = began.elapsed().as_secs_f64();
        println!("{name:>12}  {count:>9}  {:>9} kB  {each:>5} B  {took:>4.1} s", resident() / 1000);
    }
    feed.tidy();
    // Requests hold the view that was there when they came.
    let views = [Arc::new(feed.view().clone()), Arc::new(feed.view().clone())];
    let after = resident();
    println!("{:>12}  {:>9}  {:>9} kB", "two views", "", after / 1000);
    for (name, known, unreadable) in feed.counts() {
        println!("{name:>12}  {known:>9}  {unreadable} unreadable");
    }
    assert!(views.iter().all(|view| view.namespaces().count() == NAMESPACES));
    assert!(after < BAR, "{after} bytes are resident, and {BAR} may be");
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// What every stored object has.
fn metadata(at: usize, name: &str, namespace: Option<&str>, labels: &Value) -> Value {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}}, "f:spec": {"f:x": {}}});
    json!({
        "name": name, "namespace": namespace, "labels": labels,
        "uid": format!("5c0b24c0-0000-4000-8000-{at:012}"), "resourceVersion": format!("{at}"),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"apiVersion\": \"v1\"}"},
        "managedFields": [
            {"manager": "helm", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields},
            {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": fields},
        ],
    })
}

fn namespace(at: usize) -> Value {
    let labels = json!({
        "kubernetes.io/metadata.name": format!("team-{at}"),
        "network-policy.portcullis.dev/profile": "standard",
        "network-policy.portcullis.dev/baseline": "applied",
        "example.com/team": format!("team-{}", at % 300), "example.com/stage": "production",
    });
    json!({"metadata": metadata(at, &format!("team-{at}"), None, &labels), "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"}})
}

fn policy(at: usize) -> Value {
    let dns = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
    let (name, spec) = match at % 3 {
        0 => (
            "portcullis-baseline",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"to": dns,
                "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]}),
        ),
        1 => (
            "allow-ingress-controller",
            json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": format!("app-{at}")}},
                "policyTypes": ["Ingress"], "ingress": [{"from": [{"namespaceSelector":
                {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
                "ports": [{"protocol": "TCP", "port": 8080}]}]}),
        ),
        _ => (
            "allow-database",
            json!({"podSelector": {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In",
                "values": [format!("app-{at}"), "worker"]}]}, "policyTypes": ["Egress"], "egress": [
                {"to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "postgres"}}}],
                "ports": [{"protocol": "TCP", "port": 5432}]},
                {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 8443}]}]}),
        ),
    };
    let labels = json!({"app.kubernetes.io/managed-by": "helm"});
    json!({"metadata": metadata(at, name, Some(&format!("team-{}", at / 3)), &labels), "spec": spec})
}

fn pod(at: usize) -> Value {
    let set = at / 10;
    let labels = json!({
        "app.kubernetes.io/name": format!("app-{set}"), "app.kubernetes.io/instance": format!("release-{set}"),
        "app.kubernetes.io/version": format!("1.{}.0", set % 40), "app.kubernetes.io/component": "backend",
        "pod-template-hash": format!("{:08x}", set * 7919),
    });
    let name = format!("app-{set}-{:08x}-{:05x}", set * 7919, at % 99_991);
    let container = json!({"name": "app", "image": "registry.example.com/app:1", "resources": {"limits": {"cpu": "1"}},
        "env": [{"name": "A", "value": "b"}, {"name": "C", "value": "d"}], "ports": [{"containerPort": 8080}],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]});
    json!({"metadata": metadata(at, &name, Some(&format!("team-{set}")), &labels),
        "spec": {"containers": [container, container], "nodeName": format!("node-{}", at % 500),
            "serviceAccountName": format!("app-{set}"), "volumes": [{"name": "token", "projected": {"sources": []}}]},
        "status": {"phase": "Running", "podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": "True"}]}})
}
