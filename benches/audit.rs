//! The audit of a large cluster: 1,000 namespaces, 10,000 pods of 3,000 Deployments, 5,000 policies, with 50 contracts
//! and without.
//!
//! `cargo bench --bench audit` prints time and resident memory, and fails above 5 s or 300 MB. `--profile release` is
//! quicker to build.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark says what it finds")]

use std::time::Instant;

use jiff::Timestamp;
use portcullis::audit::{Audited, Input, Report, Scope};
use portcullis::baseline::{self, PolicySet};
use portcullis::config::Configuration;
use portcullis::dialect;
use portcullis::model::{Body, Object};
use portcullis::view::View;
use serde_json::{Value, json};

/// That of the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMESPACES: usize = 1_000;
const CONTRACTS: usize = 50;
/// The pods of each Deployment of a namespace.
const PODS: [usize; 3] = [6, 3, 1];
/// The bars: seconds and bytes.
const TIME: f64 = 5.0;
const MEMORY: usize = 300_000_000;

fn main() {
    for (name, policies) in [("isolated", isolated as fn(usize) -> Vec<Value>), ("open", open)] {
        for contracts in [0, CONTRACTS] {
            measure(name, policies, contracts);
        }
    }
}

fn measure(name: &str, policies: fn(usize) -> Vec<Value>, contracts: usize) {
    let configuration = Configuration::shipped().unwrap();
    let set = PolicySet::shipped(&configuration.site.label_domain).unwrap();
    let (mut stored, mut objects) = (View::of_cluster(), Vec::new());
    for manifest in (0..NAMESPACES)
        .flat_map(|at| namespace(at).into_iter().chain(policies(at)))
        .chain(platform())
        .chain((0..contracts).map(contract))
    {
        let object = read(&manifest);
        if !matches!(object.body, Body::Workload(_)) {
            objects.push(object.clone());
        }
        stored.insert(object);
    }
    let before = resident();
    let began = Instant::now();
    let mut view = stored.clone();
    baseline::complete(&mut view, &set, &configuration.site);
    let audited: Vec<Audited<'_>> = objects.iter().map(|object| Audited { object, source: None }).collect();
    let scope = Scope::default();
    let report = Report::of(&Input {
        configuration: &configuration,
        policies: &set,
        view: &view,
        stored: &stored,
        objects: &audited,
        scope: &scope,
        now: Timestamp::now(),
    });
    let took = began.elapsed().as_secs_f64();
    let json = serde_json::to_vec(&report).unwrap();
    let (after, cells) = (resident(), report.matrix.workloads.cells.len());
    println!(
        "{name}: {} pods in {} workloads, {} policies, {contracts} contracts, {took:.2} s, {} MB resident ({} MB before), {} MB of JSON, {cells} cells",
        report.summary.pods,
        report.workloads.len(),
        report.summary.policies,
        after / 1_000_000,
        before / 1_000_000,
        json.len() / 1_000_000,
    );
    let summary = &report.summary;
    println!("  {:?}, {:?}, {:?}", report.matrix.outcomes, summary.findings, summary.contracts);
    assert!(took < TIME, "{name}: {took:.2} s");
    assert!(after < MEMORY, "{name}: {after} bytes");
}

fn read(manifest: &Value) -> Object {
    dialect::read_value(manifest).unwrap().unwrap()
}

/// A namespace with its pods and the Deployments that create them.
fn namespace(at: usize) -> Vec<Value> {
    let name = format!("team-{at:04}");
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "uid": format!("{at}"), "labels": {"team": format!("t{}", at % 20)}},
    })];
    for (app, pods) in ["web", "api", "db"].into_iter().zip(PODS) {
        let ports = json!([{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}]);
        let spec = json!({"containers": [{"name": "c", "image": "example.com/c", "ports": ports}]});
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app, "namespace": name},
            "spec": {"template": {"metadata": {"labels": {"app": app}}, "spec": spec}},
        }));
        for pod in 0..pods {
            let address = format!("10.{}.{}.{}", at / 250, at % 250, pod + 10 * app.len());
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{app}-5d9c7b-{pod}"), "namespace": name,
                    "labels": {"app": app, "pod-template-hash": "5d9c7b"},
                },
                "spec": spec, "status": {"podIP": address},
            }));
        }
    }
    objects
}

fn policy(namespace: usize, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": format!("team-{namespace:04}")}, "spec": spec,
    })
}

fn named(name: &str) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": name}})
}

/// Five policies that isolate a namespace and open what it needs.
fn isolated(at: usize) -> Vec<Value> {
    let other = format!("team-{:04}", (at + 1) % NAMESPACES);
    let dns =
        json!([{"namespaceSelector": named("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
    vec![
        policy(at, "default-deny", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        policy(
            at,
            "allow-dns",
            &json!({
                "podSelector": {}, "policyTypes": ["Egress"],
                "egress": [{"to": dns, "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}],
            }),
        ),
        policy(
            at,
            "web",
            &json!({
                "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"namespaceSelector": named("ingress-nginx")}], "ports": [{"port": "http"}]}],
                "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "api"}}}], "ports": [{"port": 8080}]}],
            }),
        ),
        policy(
            at,
            "api",
            &json!({
                "podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}],
                "egress": [
                    {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5432}]},
                    {"to": [{"namespaceSelector": named(&other)}], "ports": [{"port": 8080}]},
                    {"to": [{"ipBlock": {"cidr": format!("203.0.113.{}/32", at % 200)}}], "ports": [{"port": 443}]},
                ],
            }),
        ),
        policy(
            at,
            "metrics",
            &json!({
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "t0"}}}], "ports": [{"port": "metrics"}]}],
            }),
        ),
    ]
}

/// Five policies for all pods of all namespaces, which few audits have to answer.
fn open(at: usize) -> Vec<Value> {
    let from = |peer: &Value, port: u16| {
        json!({
            "podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"port": port}]}],
        })
    };
    vec![
        policy(at, "all", &from(&json!({"namespaceSelector": {}}), 8080)),
        policy(
            at,
            "web",
            &from(&json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}), 8081),
        ),
        policy(
            at,
            "odd",
            &from(
                &json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["t1"]}]}}),
                8082,
            ),
        ),
        policy(at, "net", &from(&json!({"ipBlock": {"cidr": format!("10.{}.0.0/16", at % 4)}}), 8083)),
        policy(
            at,
            "out",
            &json!({
                "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}, {"ports": [{"port": 443}]}],
            }),
        ),
    ]
}

/// Contracts about one namespace, and one of eight about all of them.
fn contract(at: usize) -> Value {
    let own = format!("team-{:04}", at * 17 % NAMESPACES);
    let pods = |app: &str| json!({"namespaces": [own], "podSelector": {"matchLabels": {"app": app}}});
    let spec = match at % 8 {
        0 => json!({"mustReach": {"from": [{"namespaceSelector": {"matchLabels": {"team": "t3"}}}],
            "to": [{"entity": "ClusterDNS"}]}}),
        1 => json!({"mustNotReach": {"from": [{"namespaceSelector": {}}], "to": [{"entity": "Internet"}],
            "ports": [{"port": 25}]}}),
        2 | 3 => json!({"mustNotReach": {"from": [{"namespaces": [own]}], "to": [{"entity": "Internet"}],
            "ports": [{"port": 22}]}}),
        4 => json!({"pods": "Existing", "mustReach": {"from": [pods("web")], "to": [pods("api")],
            "ports": [{"port": 8080}]}}),
        _ => json!({"mustNotReach": {"from": [{"allPodsExcept": [pods("api")]}], "to": [pods("db")],
            "ports": [{"port": 5432}]}}),
    };
    json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract",
        "metadata": {"name": format!("contract-{at}")}, "spec": spec})
}

/// The DNS, an ingress controller.
fn platform() -> Vec<Value> {
    let pod = |namespace: &str, name: &str, labels: &Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "example.com/c", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]},
        })
    };
    let namespace = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name},
        })
    };
    vec![
        namespace("kube-system"),
        namespace("ingress-nginx"),
        pod("kube-system", "coredns-1", &json!({"k8s-app": "kube-dns"})),
        pod("kube-system", "coredns-2", &json!({"k8s-app": "kube-dns"})),
        pod("ingress-nginx", "controller-1", &json!({"app": "nginx"})),
    ]
}

/// The resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
