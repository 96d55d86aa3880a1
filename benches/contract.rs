//! What 200 contracts add to a decision in a cluster of 10,000 namespaces, 30,000 policies and 100,000 pods.
//!
//! `cargo bench --bench contract` prints the median and the p99 of decisions about a policy, with and without contracts:
//! of a namespace that contracts name, and of one that they only cover as "all pods except".
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot run says so by a panic"
)]

use std::time::{Duration, Instant};

use portcullis::admission::{Knowledge, validate};
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect;
use portcullis::model::Object;
use portcullis::view::{Facts, View};
use serde_json::{Value, json};

/// That of the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMESPACES: usize = 10_000;
const PODS: usize = 10;
const CONTRACTS: usize = 200;
const DECISIONS: usize = 2_000;

fn read(value: &Value) -> Object {
    dialect::read_value(value).unwrap().unwrap()
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn pods(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

/// Ingress to the database of a namespace from its API.
fn database(port: u16) -> Value {
    json!({"podSelector": pods("db"), "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": pods("api")}], "ports": [{"port": port, "protocol": "TCP"}]}]})
}

fn cluster(contracts: usize) -> View {
    let mut view = View::of_cluster();
    for number in 0..NAMESPACES {
        let name = format!("team-{number}");
        let labels =
            json!({"kubernetes.io/metadata.name": name, "stage": if number % 3 == 0 { "test" } else { "live" }});
        view.insert(read(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        ));
        let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        let dns = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]});
        for (policy_name, spec) in [("deny", &deny), ("dns", &dns), ("db", &database(5432))] {
            view.insert(read(&policy(&name, policy_name, spec)));
        }
        for pod in 0..PODS {
            let app = ["web", "api", "db"][pod % 3];
            let labels = json!({"app": app, "pod": pod.to_string()});
            let metadata = json!({"name": format!("pod-{pod}"), "namespace": name, "labels": labels});
            let spec = json!({"containers": [{"name": "main"}]});
            view.insert(read(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})));
        }
    }
    for number in 0..contracts {
        let own = format!("team-{number}");
        let spec = match number % 4 {
            0 => json!({"mustReach": {"from": [{"namespaces": [own]}], "to": [{"entity": "ClusterDNS"}]}}),
            1 => json!({"mustNotReach": {"from": [{"namespaces": [own]}], "to": [{"entity": "Internet"}]}}),
            _ => json!({"mustNotReach": {
                "from": [{"allPodsExcept": [{"namespaces": [own], "podSelector": pods("api")}]}],
                "to": [{"namespaces": [own], "podSelector": pods("db")}], "ports": [{"port": 5432}]}}),
        };
        let name = format!("contract-{number}");
        view.insert(read(&json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract",
            "metadata": {"name": name}, "spec": spec})));
    }
    view
}

/// The review of an update of the policy `db`.
fn review(namespace: &str) -> Vec<u8> {
    let object = |port| policy(namespace, "db", &database(port));
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"},
        "name": "db", "namespace": namespace, "operation": "UPDATE", "userInfo": {"username": "jane"},
        "object": object(5433), "oldObject": object(5432)}})
    .to_string()
    .into_bytes()
}

/// The times of decisions, shortest first.
fn times(knowledge: &Knowledge, bodies: &[Vec<u8>]) -> Vec<Duration> {
    let facts = Facts::default();
    let mut times: Vec<Duration> = (0..DECISIONS)
        .map(|number| {
            let start = Instant::now();
            let answer = validate(knowledge, &facts, &bodies[number % bodies.len()]).unwrap();
            std::hint::black_box(&answer);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

fn main() {
    let named: Vec<Vec<u8>> = (0..CONTRACTS).map(|number| review(&format!("team-{number}"))).collect();
    let covered: Vec<Vec<u8>> =
        (0..CONTRACTS).map(|number| review(&format!("team-{}", NAMESPACES / 2 + number))).collect();
    for contracts in [0, CONTRACTS / 4, CONTRACTS] {
        let policies = PolicySet::shipped("network-policy.portcullis.dev").unwrap();
        let knowledge = Knowledge::new(Configuration::shipped().unwrap(), cluster(contracts), policies);
        for (name, bodies) in [("named", &named), ("covered", &covered)] {
            let times = times(&knowledge, bodies);
            let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            println!("{contracts:3} contracts, {name:7} namespace: median {median:9.1?}, p99 {p99:9.1?}");
        }
    }
}
