//! The cases of the conformance tests of NetworkPolicy as data: those of Kubernetes (`test/e2e/network/netpol`, the
//! suites "Netpol" for TCP, UDP and SCTP), those of the older suite that have no counterpart there, and a selection of
//! what Cyclonus generates.
//!
//! All of them are about the namespaces x, y and z with the pods a, b and c in each, which serve the ports 80 and 81
//! over every protocol. A case that has several steps upstream is several cases here. As upstream, nothing is expected
//! of a pod that connects to itself.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a table of JSON is easier to read without a borrow in front of each"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::{End, Flow, Pod, PodPort, World};

/// What is expected of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The pod that connects, as `namespace/name`.
    pub(crate) from: String,
    /// The pod that it connects to, as `namespace/name`.
    pub(crate) to: String,
    /// The port that it connects to.
    pub(crate) port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: &'static str,
    /// Whether the connection comes about.
    pub(crate) connected: bool,
}

/// One case: a world with policies, and what is expected of each connection in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// What it is called upstream.
    pub(crate) name: String,
    /// The world, with the policies in it.
    pub(crate) world: World,
    /// What is expected.
    pub(crate) expected: Vec<Expected>,
}

impl Case {
    /// The flow that an expectation is about.
    pub(crate) fn flow(&self, expected: &Expected) -> Flow<'_> {
        let pod = |path: &str| {
            let pod = self.world.pods.iter().find(|pod| format!("{}/{}", pod.namespace, pod.name) == path);
            End::Pod(pod.expect("every expectation is about pods that there are"))
        };
        Flow { from: pod(&expected.from), to: pod(&expected.to), protocol: expected.protocol, port: expected.port }
    }
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    [
        end_to_end(),
        other_protocols(),
        legacy(),
        cyclonus_rules(),
        cyclonus_peers(),
        cyclonus_ports(),
        cyclonus_conflicts(),
    ]
    .concat()
}

/// Namespaces x, y and z with pods a, b and c, and no policy.
pub(crate) fn world() -> World {
    let ports: Vec<PodPort> = [80, 81]
        .into_iter()
        .flat_map(|number| ["TCP", "UDP", "SCTP"].map(|protocol| (number, protocol)))
        .map(|(number, protocol)| PodPort {
            name: format!("serve-{number}-{}", protocol.to_lowercase()),
            protocol: protocol.to_owned(),
            number,
        })
        .collect();
    let mut world = World { namespaces: BTreeMap::new(), pods: Vec::new(), manifests: Vec::new() };
    for (net, namespace) in (0u8..).zip(["x", "y", "z"]) {
        let labels = [("kubernetes.io/metadata.name", namespace), ("ns", namespace)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        world.namespaces.insert(namespace.to_owned(), BTreeMap::from(labels));
        for (host, name) in (1u8..).zip(["a", "b", "c"]) {
            world.pods.push(Pod {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                labels: BTreeMap::from([("pod".to_owned(), name.to_owned())]),
                service_account: "default".to_owned(),
                address: IpAddr::V4(Ipv4Addr::new(10, 0, net, host)),
                ports: ports.clone(),
            });
        }
    }
    world
}

/// A protocol and a port, and the connections over them that do not come about (or do after all): each is who connects,
/// to whom, and whether it succeeds; `*` is every pod, `x` every pod of a namespace, `x/a` one pod. Later ones come
/// first.
type Probe<'a> = (&'static str, u16, &'a [Exception<'a>]);

/// Who connects, to whom, and whether it succeeds.
type Exception<'a> = (&'a str, &'a str, bool);

/// What a case is called, the list that it is about, and what that list stands for.
type Row<'a, T> = (&'a str, Value, &'a [T]);

fn case(name: &str, manifests: &[Value], probes: &[Probe<'_>]) -> Case {
    case_in(world(), name, manifests, probes)
}

fn case_in(mut world: World, name: &str, manifests: &[Value], probes: &[Probe<'_>]) -> Case {
    world.manifests = manifests.to_vec();
    for (number, manifest) in world.manifests.iter_mut().enumerate() {
        manifest["metadata"]["name"] = json!(format!("policy-{number}"));
    }
    let is_one_of = |pattern: &str, pod: &Pod| {
        pattern == "*" || pattern == pod.namespace || pattern == format!("{}/{}", pod.namespace, pod.name)
    };
    let mut expected = Vec::new();
    for (protocol, port, exceptions) in probes {
        for from in &world.pods {
            for to in world.pods.iter().filter(|to| *to != from) {
                let exception = exceptions.iter().rev().find(|one| is_one_of(one.0, from) && is_one_of(one.1, to));
                expected.push(Expected {
                    from: format!("{}/{}", from.namespace, from.name),
                    to: format!("{}/{}", to.namespace, to.name),
                    port: *port,
                    protocol,
                    connected: exception.is_none_or(|one| one.2),
                });
            }
        }
    }
    Case { name: name.to_owned(), world, expected }
}

/// A NetworkPolicy of which the rest of the spec is given.
fn policy(namespace: &str, pods: Value, rest: Value) -> Value {
    let mut spec = rest;
    spec["podSelector"] = pods;
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "policy", "namespace": namespace},
        "spec": spec,
    })
}

fn ingress(namespace: &str, pods: Value, rules: Value) -> Value {
    policy(namespace, pods, json!({"policyTypes": ["Ingress"], "ingress": rules}))
}

fn egress(namespace: &str, pods: Value, rules: Value) -> Value {
    policy(namespace, pods, json!({"policyTypes": ["Egress"], "egress": rules}))
}

/// The pods of one name.
fn pod(name: &str) -> Value {
    json!({"matchLabels": {"pod": name}})
}

/// The pods of these names.
fn pods(names: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "pod", "operator": "In", "values": names}]})
}

/// The namespace of one name.
fn ns(name: &str) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": name}})
}

/// All namespaces but one.
fn not_ns(name: &str) -> Value {
    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [name]}]})
}

fn all() -> Value {
    json!({})
}

const NOTHING_TO_X: &[Exception<'_>] = &[("*", "x", false)];
const NOTHING_FROM_X: &[Exception<'_>] = &[("x", "*", false)];
const NOTHING_TO_XA: &[Exception<'_>] = &[("*", "x/a", false)];
const ONLY_Y_TO_XA: &[Exception<'_>] = &[("*", "x/a", false), ("y", "x/a", true)];

/// "NetworkPolicy between server and client".
fn end_to_end() -> Vec<Case> {
    let deny_ingress = ingress("x", all(), json!([]));
    let deny_all = policy("x", all(), json!({"policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}));
    let from_y_on = |port: u16| {
        let rule = json!({"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": port, "protocol": "TCP"}]});
        ingress("x", pod("a"), json!([rule]))
    };
    let around_b_but_not_b =
        egress("x", pod("a"), json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/4", "except": ["10.0.0.2/32"]}}]}]));
    let together = policy(
        "x",
        pod("a"),
        json!({
            "policyTypes": ["Egress", "Ingress"],
            "ingress": [{"from": [{"podSelector": pod("b")}]}],
            "egress": [{"ports": [{"port": 80}]}],
        }),
    );
    let from_xa = json!([{"from": [{"namespaceSelector": ns("x"), "podSelector": pod("a")}]}]);
    let to_ya = json!([{"to": [{"namespaceSelector": ns("y"), "podSelector": pod("a")}]}]);

    let mut relabelled_namespace = world();
    relabelled_namespace.namespaces.get_mut("y").unwrap().insert("ns2".to_owned(), "updated".to_owned());
    let from_updated_namespace =
        ingress("x", pod("a"), json!([{"from": [{"namespaceSelector": {"matchLabels": {"ns2": "updated"}}}]}]));
    let mut relabelled_pod = world();
    relabelled_pod.pods[1].labels.insert("pod2".to_owned(), "updated".to_owned());
    let from_updated_pod =
        ingress("x", pod("a"), json!([{"from": [{"podSelector": {"matchLabels": {"pod": "b", "pod2": "updated"}}}]}]));
    let mut isolated_pod = world();
    isolated_pod.pods[0].labels.insert("target".to_owned(), "isolated".to_owned());
    let isolated = ingress("x", json!({"matchLabels": {"target": "isolated"}}), json!([]));

    vec![
        case("default-deny-ingress", std::slice::from_ref(&deny_ingress), &[("TCP", 80, NOTHING_TO_X)]),
        case(
            "default-deny-all",
            std::slice::from_ref(&deny_all),
            &[("TCP", 80, &[("*", "x", false), ("x", "*", false)])],
        ),
        case(
            "traffic from pods within server namespace based on PodSelector",
            &[ingress("x", pod("a"), json!([{"from": [{"podSelector": pod("b")}]}]))],
            &[("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true)])],
        ),
        case(
            "ingress traffic for a target",
            &[
                deny_ingress.clone(),
                ingress("x", pod("a"), json!([{"from": [{"podSelector": {}, "namespaceSelector": {}}]}])),
            ],
            &[("TCP", 80, &[("*", "x", false), ("*", "x/a", true)])],
        ),
        case(
            "ingress traffic from pods in all namespaces",
            &[ingress("x", pod("a"), json!([{"from": [{"namespaceSelector": {}}]}]))],
            &[("TCP", 80, &[])],
        ),
        case(
            "traffic only from a different namespace, based on NamespaceSelector",
            &[ingress("x", pod("a"), json!([{"from": [{"namespaceSelector": ns("y")}]}]))],
            &[("TCP", 80, &[("x", "x/a", false), ("z", "x/a", false)])],
        ),
        case(
            "PodSelector with MatchExpressions",
            &[ingress("x", pod("a"), json!([{"from": [{"podSelector": pods(&["b"])}]}]))],
            &[("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true)])],
        ),
        case(
            "NamespaceSelector with MatchExpressions",
            &[ingress(
                "x",
                pod("a"),
                json!([{"from": [{"namespaceSelector": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["y"]},
                ]}}]}]),
            )],
            &[("TCP", 80, &[("x", "x/a", false), ("z", "x/a", false)])],
        ),
        case(
            "PodSelector or NamespaceSelector",
            &[ingress(
                "x",
                pod("a"),
                json!([{"from": [{"namespaceSelector": not_ns("x")}, {"podSelector": pod("b")}]}]),
            )],
            &[("TCP", 80, &[("x/c", "x/a", false)])],
        ),
        case(
            "PodSelector and NamespaceSelector",
            &[ingress("x", pod("a"), json!([{"from": [{"namespaceSelector": not_ns("x"), "podSelector": pod("b")}]}]))],
            &[("TCP", 80, &[("*", "x/a", false), ("y/b", "x/a", true), ("z/b", "x/a", true)])],
        ),
        case(
            "Multiple PodSelectors and NamespaceSelectors",
            &[ingress(
                "x",
                pod("a"),
                json!([{"from": [{"namespaceSelector": not_ns("x"), "podSelector": pods(&["b", "c"])}]}]),
            )],
            &[("TCP", 80, &[("x", "x/a", false), ("y/a", "x/a", false), ("z/a", "x/a", false)])],
        ),
        case(
            "any PodSelectors",
            &[ingress("x", pod("a"), json!([{"from": [{"podSelector": pod("b")}, {"podSelector": pod("c")}]}]))],
            &[("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true), ("x/c", "x/a", true)])],
        ),
        case(
            "traffic only from a pod in a different namespace",
            &[ingress("x", pod("a"), json!([{"from": [{"namespaceSelector": ns("y"), "podSelector": pod("a")}]}]))],
            &[("TCP", 80, &[("*", "x/a", false), ("y/a", "x/a", true)])],
        ),
        case("Ports", &[from_y_on(81)], &[("TCP", 81, ONLY_Y_TO_XA)]),
        case("stacked policies: one", &[from_y_on(81)], &[("TCP", 81, ONLY_Y_TO_XA), ("TCP", 80, NOTHING_TO_XA)]),
        case(
            "stacked policies: both",
            &[from_y_on(81), from_y_on(80)],
            &[("TCP", 81, ONLY_Y_TO_XA), ("TCP", 80, ONLY_Y_TO_XA)],
        ),
        case("allow-all", &[ingress("x", all(), json!([{}]))], &[("TCP", 80, &[]), ("TCP", 81, &[])]),
        case(
            "ingress access on one named port",
            &[ingress("x", all(), json!([{"ports": [{"port": "serve-81-tcp"}]}]))],
            &[("TCP", 81, &[]), ("TCP", 80, NOTHING_TO_X)],
        ),
        case(
            "ingress access from namespace on one named port",
            &[ingress(
                "x",
                pod("a"),
                json!([{
                    "from": [{"namespaceSelector": ns("y")}],
                    "ports": [{"port": "serve-80-tcp", "protocol": "TCP"}],
                }]),
            )],
            &[("TCP", 80, ONLY_Y_TO_XA), ("TCP", 81, NOTHING_TO_XA)],
        ),
        case(
            "egress access on one named port",
            &[egress("x", all(), json!([{"ports": [{"port": "serve-80-tcp"}]}]))],
            &[("TCP", 80, &[]), ("TCP", 81, NOTHING_FROM_X)],
        ),
        case("updated policy: before", &[ingress("x", all(), json!([{}]))], &[("TCP", 81, &[])]),
        case("updated policy: after", &[ingress("x", all(), json!([]))], &[("TCP", 81, NOTHING_TO_X)]),
        case("updated namespace: before", std::slice::from_ref(&from_updated_namespace), &[("TCP", 80, NOTHING_TO_XA)]),
        case_in(
            relabelled_namespace,
            "updated namespace: after",
            &[from_updated_namespace],
            &[("TCP", 80, ONLY_Y_TO_XA)],
        ),
        case("updated pod: before", std::slice::from_ref(&from_updated_pod), &[("TCP", 80, NOTHING_TO_XA)]),
        case_in(
            relabelled_pod,
            "updated pod: after",
            &[from_updated_pod],
            &[("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true)])],
        ),
        case(
            "deny ingress from pods on other namespaces",
            &[ingress("x", all(), json!([{"from": [{"podSelector": {}}]}]))],
            &[("TCP", 80, &[("y", "x", false), ("z", "x", false)])],
        ),
        case("deny ingress to updated pod: before", std::slice::from_ref(&isolated), &[("TCP", 80, &[])]),
        case_in(isolated_pod, "deny ingress to updated pod: after", &[isolated], &[("TCP", 80, NOTHING_TO_XA)]),
        case(
            "deny egress from pods based on PodSelector",
            &[egress("x", pod("a"), json!([]))],
            &[("TCP", 80, &[("x/a", "*", false)])],
        ),
        case(
            "deny egress from all pods in a namespace",
            &[egress("x", all(), json!([]))],
            &[("TCP", 80, NOTHING_FROM_X)],
        ),
        case(
            "Ingress, Egress specified together",
            &[together],
            &[
                ("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true)]),
                ("TCP", 81, &[("*", "x/a", false), ("x/a", "*", false), ("x/b", "x/a", true)]),
            ],
        ),
        case(
            "denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
            &[
                egress("x", pod("a"), to_ya.clone()),
                ingress("y", pod("a"), from_xa.clone()),
                ingress("y", pod("b"), from_xa),
            ],
            &[("TCP", 80, &[("x/a", "*", false), ("*", "y/a", false), ("x/a", "y/a", true), ("*", "y/b", false)])],
        ),
        case(
            "egress policy allowing traffic to a server in a different namespace",
            &[egress("x", pod("a"), to_ya)],
            &[("TCP", 80, &[("x/a", "*", false), ("x/a", "y/a", true)])],
        ),
        case(
            "ingress policy allowing any port traffic to a server on a specific protocol",
            &[ingress("x", pod("a"), json!([{"ports": [{"protocol": "TCP"}]}]))],
            &[("TCP", 80, &[]), ("UDP", 80, NOTHING_TO_XA)],
        ),
        case(
            "ingress allow-all policy taking precedence: before",
            &[ingress("x", all(), json!([{"ports": [{"port": 80}]}]))],
            &[("TCP", 81, NOTHING_TO_X)],
        ),
        case(
            "ingress allow-all policy taking precedence: after",
            &[ingress("x", all(), json!([{"ports": [{"port": 80}]}])), ingress("x", all(), json!([{}]))],
            &[("TCP", 81, &[])],
        ),
        case(
            "egress allow-all policy taking precedence: before",
            &[egress("x", all(), json!([{"ports": [{"port": 80}]}]))],
            &[("TCP", 81, NOTHING_FROM_X)],
        ),
        case(
            "egress allow-all policy taking precedence: after",
            &[egress("x", all(), json!([{"ports": [{"port": 80}]}])), egress("x", all(), json!([{}]))],
            &[("TCP", 81, &[])],
        ),
        case(
            "stop enforcing policies after they are deleted: before",
            &[deny_all],
            &[("TCP", 80, &[("x", "*", false), ("*", "x", false)])],
        ),
        case("stop enforcing policies after they are deleted: after", &[], &[("TCP", 80, &[])]),
        case(
            "egress access to server in CIDR block",
            &[egress("x", pod("a"), json!([{"to": [{"ipBlock": {"cidr": "10.0.1.2/32"}}]}]))],
            &[("TCP", 80, &[("x/a", "*", false), ("x/a", "y/b", true)])],
        ),
        case(
            "except clause while egress access to server in CIDR block",
            std::slice::from_ref(&around_b_but_not_b),
            &[("TCP", 80, &[("x/a", "x/b", false)])],
        ),
        case(
            "IP overlapping both IPBlock.CIDR and IPBlock.Except: replaced",
            &[egress("x", pod("a"), json!([{"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}]}]))],
            &[("TCP", 80, &[("x/a", "*", false), ("x/a", "x/b", true)])],
        ),
        case(
            "IP overlapping both IPBlock.CIDR and IPBlock.Except: both (legacy)",
            &[around_b_but_not_b, egress("x", pod("a"), json!([{"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}]}]))],
            &[("TCP", 80, &[])],
        ),
        case(
            "ingress and egress policies can be controlled independently: egress",
            &[egress("x", pod("a"), json!([{}]))],
            &[("TCP", 80, &[])],
        ),
        case(
            "ingress and egress policies can be controlled independently: both",
            &[egress("x", pod("a"), json!([{}])), ingress("x", pod("a"), json!([]))],
            &[("TCP", 80, NOTHING_TO_XA)],
        ),
        case(
            "not mistakenly treat 'protocol: SCTP' as 'protocol: TCP'",
            &[deny_ingress, ingress("x", pod("a"), json!([{"ports": [{"port": 81, "protocol": "SCTP"}]}]))],
            &[("TCP", 81, NOTHING_TO_X)],
        ),
        case(
            "isolate pods that are selected by a policy allowing SCTP",
            &[ingress("x", pod("a"), json!([{"ports": [{"port": 80, "protocol": "SCTP"}]}]))],
            &[("TCP", 81, NOTHING_TO_XA)],
        ),
        case(
            "not allow access by TCP when a policy specifies only UDP",
            &[ingress("x", pod("a"), json!([{"ports": [{"port": 81, "protocol": "UDP"}]}]))],
            &[("TCP", 81, NOTHING_TO_XA)],
        ),
        case(
            "NamespaceSelector with MatchExpressions using default ns label",
            &[egress("x", pod("a"), json!([{"to": [{"namespaceSelector": not_ns("y")}]}]))],
            &[("TCP", 80, &[("x/a", "y", false)])],
        ),
    ]
}

/// "NetworkPolicy between server and client using UDP", and the same using SCTP.
fn other_protocols() -> Vec<Case> {
    ["UDP", "SCTP"]
        .into_iter()
        .flat_map(|protocol| {
            let from_y_on_81 =
                json!({"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": 81, "protocol": protocol}]});
            [
                case(
                    &format!("{protocol}: default-deny-ingress"),
                    &[ingress("x", all(), json!([]))],
                    &[(protocol, 80, NOTHING_TO_X)],
                ),
                case(
                    &format!("{protocol}: Ports"),
                    &[ingress("x", pod("a"), json!([from_y_on_81]))],
                    &[(protocol, 81, ONLY_Y_TO_XA)],
                ),
                case(
                    &format!("{protocol}: traffic only from a pod in a different namespace"),
                    &[ingress(
                        "x",
                        pod("a"),
                        json!([{"from": [{"namespaceSelector": ns("y"), "podSelector": pod("a")}]}]),
                    )],
                    &[(protocol, 80, &[("*", "x/a", false), ("y/a", "x/a", true)])],
                ),
            ]
        })
        .collect()
}

/// Of the older suite, the cases that leave out `policyTypes` or use operators that the newer one does not.
fn legacy() -> Vec<Case> {
    let mut without_labels = world();
    without_labels.pods[1].labels.clear();
    let mut isolated = world();
    isolated.pods[0].labels.insert("isolated".to_owned(), String::new());
    let to_isolated = policy(
        "x",
        json!({"matchLabels": {"pod": "a"}, "matchExpressions": [{"key": "isolated", "operator": "Exists"}]}),
        json!({"policyTypes": ["Ingress"], "ingress": []}),
    );
    let no_pod_label =
        json!([{"from": [{"podSelector": {"matchExpressions": [{"key": "pod", "operator": "DoesNotExist"}]}}]}]);
    vec![
        case(
            "legacy: default-deny-ingress without policyTypes",
            &[policy("x", all(), json!({"ingress": []}))],
            &[("TCP", 80, NOTHING_TO_X)],
        ),
        case("legacy: neither policyTypes nor rules", &[policy("x", all(), json!({}))], &[("TCP", 80, NOTHING_TO_X)]),
        case(
            "legacy: egress on a named port without policyTypes isolates both ways",
            &[policy("x", pod("a"), json!({"egress": [{"ports": [{"port": "serve-80-tcp"}]}]}))],
            &[("TCP", 80, NOTHING_TO_XA), ("TCP", 81, &[("*", "x/a", false), ("x/a", "*", false)])],
        ),
        case(
            "legacy: NamespaceSelector NotIn includes namespaces without the label",
            &[ingress(
                "x",
                pod("a"),
                json!([{"from": [{"namespaceSelector": {"matchExpressions": [
                    {"key": "there-is-no-such-label", "operator": "NotIn", "values": ["z"]},
                ]}}]}]),
            )],
            &[("TCP", 80, &[])],
        ),
        case(
            "legacy: DoesNotExist, all have the label",
            &[ingress("x", pod("a"), no_pod_label.clone())],
            &[("TCP", 80, NOTHING_TO_XA)],
        ),
        case_in(
            without_labels,
            "legacy: DoesNotExist, one has not",
            &[ingress("x", pod("a"), no_pod_label)],
            &[("TCP", 80, &[("*", "x/a", false), ("x/b", "x/a", true)])],
        ),
        case("legacy: Exists, nobody has the label", std::slice::from_ref(&to_isolated), &[("TCP", 80, &[])]),
        case_in(isolated, "legacy: Exists, with an empty value", &[to_isolated], &[("TCP", 80, NOTHING_TO_XA)]),
        case(
            "legacy: Ingress, Egress specified together for a whole namespace",
            &[policy(
                "x",
                all(),
                json!({
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": 80}]}],
                    "egress": [{"to": [{"namespaceSelector": ns("y")}], "ports": [{"port": 80}]}],
                }),
            )],
            &[
                ("TCP", 80, &[("*", "x", false), ("x", "*", false), ("y", "x", true), ("x", "y", true)]),
                ("TCP", 81, &[("*", "x", false), ("x", "*", false)]),
            ],
        ),
    ]
}

/// The policy that most of the cases of Cyclonus are variations of: the peers and the ports of its ingress are given.
fn base(ingress_rules: Value, egress_rules: Value) -> Value {
    policy(
        "x",
        pod("a"),
        json!({"policyTypes": ["Ingress", "Egress"], "ingress": ingress_rules, "egress": egress_rules}),
    )
}

fn base_sources() -> Value {
    json!([{
        "podSelector": pods(&["b", "c"]),
        "namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "In", "values": ["x", "y"]}]},
    }])
}

fn base_destinations() -> Value {
    json!([{
        "podSelector": pods(&["a", "b"]),
        "namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "In", "values": ["y", "z"]}]},
    }])
}

fn tcp_80() -> Value {
    json!([{"protocol": "TCP", "port": 80}])
}

fn dns() -> Value {
    json!({"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]})
}

fn base_ingress() -> Value {
    json!([{"from": base_sources(), "ports": tcp_80()}])
}

fn base_egress() -> Value {
    json!([{"to": base_destinations(), "ports": tcp_80()}, dns()])
}

/// Neither to nor from x/a.
const CLOSED: &[Exception<'_>] = &[("*", "x/a", false), ("x/a", "*", false)];
/// Of the base policy: who reaches x/a, and whom x/a reaches.
const BASE_IN: [Exception<'_>; 4] =
    [("x/b", "x/a", true), ("x/c", "x/a", true), ("y/b", "x/a", true), ("y/c", "x/a", true)];
const BASE_OUT: [Exception<'_>; 4] =
    [("x/a", "y/a", true), ("x/a", "y/b", true), ("x/a", "z/a", true), ("x/a", "z/b", true)];

fn closed_but<'a>(open: &[&[Exception<'a>]]) -> Vec<Exception<'a>> {
    [CLOSED, &open.concat()].concat()
}

/// "rules" and "target".
fn cyclonus_rules() -> Vec<Case> {
    let open_in = closed_but(&[&[("*", "x/a", true)], &BASE_OUT]);
    let open_out = closed_but(&[&BASE_IN, &[("x/a", "*", true)]]);
    let (only_in, only_out) = (closed_but(&[&BASE_IN]), closed_but(&[&BASE_OUT]));
    let both = closed_but(&[&BASE_IN, &BASE_OUT]);
    vec![
        case(
            "cyclonus: the base policy",
            &[base(base_ingress(), base_egress())],
            &[("TCP", 80, &both), ("TCP", 81, CLOSED), ("UDP", 80, CLOSED), ("SCTP", 81, CLOSED)],
        ),
        case(
            "cyclonus: no ingress rule",
            &[base(json!([]), base_egress())],
            &[("TCP", 80, &only_out), ("UDP", 81, CLOSED)],
        ),
        case(
            "cyclonus: an empty ingress rule",
            &[base(json!([{}]), base_egress())],
            &[("TCP", 80, &open_in), ("UDP", 81, &[("x/a", "*", false)])],
        ),
        case(
            "cyclonus: no egress rule",
            &[base(base_ingress(), json!([]))],
            &[("TCP", 80, &only_in), ("UDP", 81, CLOSED)],
        ),
        case(
            "cyclonus: an empty egress rule",
            &[base(base_ingress(), json!([{}]))],
            &[("TCP", 80, &open_out), ("UDP", 81, NOTHING_TO_XA)],
        ),
    ]
}

/// "peers": every single peer of an ingress rule, and of an egress rule.
fn cyclonus_peers() -> Vec<Case> {
    let peers: [Row<'_, &str>; 11] = [
        ("none", json!([]), &["*"]),
        ("all pods", json!([{"podSelector": {}}]), &["x"]),
        ("pod c", json!([{"podSelector": pod("c")}]), &["x/c"]),
        ("all namespaces", json!([{"namespaceSelector": {}}]), &["*"]),
        ("all pods in all namespaces", json!([{"podSelector": {}, "namespaceSelector": {}}]), &["*"]),
        (
            "pod c in all namespaces",
            json!([{"podSelector": pod("c"), "namespaceSelector": {}}]),
            &["x/c", "y/c", "z/c"],
        ),
        ("namespace x", json!([{"namespaceSelector": {"matchLabels": {"ns": "x"}}}]), &["x"]),
        (
            "all pods in namespace y",
            json!([{"podSelector": {}, "namespaceSelector": {"matchLabels": {"ns": "y"}}}]),
            &["y"],
        ),
        ("a block", json!([{"ipBlock": {"cidr": "10.0.2.0/24"}}]), &["z"]),
        ("a block but for all of it", json!([{"ipBlock": {"cidr": "10.0.2.0/24", "except": ["10.0.2.0/28"]}}]), &[]),
        (
            "a block but for one, or pod c",
            json!([{"ipBlock": {"cidr": "10.0.2.0/24", "except": ["10.0.2.3/32"]}}, {"podSelector": pod("c")}]),
            &["z/a", "z/b", "x/c"],
        ),
    ];
    peers
        .into_iter()
        .flat_map(|(name, peers, selected)| {
            let sources: Vec<_> = selected.iter().map(|source| (*source, "x/a", true)).collect();
            let destinations: Vec<_> = selected.iter().map(|destination| ("x/a", *destination, true)).collect();
            [
                case(
                    &format!("cyclonus: ingress from {name}"),
                    &[base(json!([{"from": peers, "ports": tcp_80()}]), base_egress())],
                    &[("TCP", 80, &closed_but(&[&sources, &BASE_OUT])), ("TCP", 81, CLOSED)],
                ),
                case(
                    &format!("cyclonus: egress to {name}"),
                    &[base(base_ingress(), json!([{"to": peers, "ports": tcp_80()}, dns()]))],
                    &[("TCP", 80, &closed_but(&[&BASE_IN, &destinations])), ("TCP", 81, CLOSED)],
                ),
            ]
        })
        .collect()
}

/// "ports": what the ports of a rule let pass.
fn cyclonus_ports() -> Vec<Case> {
    const PROBED: [(&str, u16); 6] = [("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 81), ("SCTP", 80), ("SCTP", 81)];
    let ports: [Row<'_, (&str, u16)>; 20] = [
        ("none", json!([]), &PROBED),
        ("an empty one", json!([{}]), &[("TCP", 80), ("TCP", 81)]),
        ("UDP", json!([{"protocol": "UDP"}]), &[("UDP", 80), ("UDP", 81)]),
        ("80", json!([{"port": 80}]), &[("TCP", 80)]),
        ("TCP 81", json!([{"protocol": "TCP", "port": 81}]), &[("TCP", 81)]),
        ("UDP 80", json!([{"protocol": "UDP", "port": 80}]), &[("UDP", 80)]),
        ("SCTP 81", json!([{"protocol": "SCTP", "port": 81}]), &[("SCTP", 81)]),
        ("a name", json!([{"port": "serve-81-tcp"}]), &[("TCP", 81)]),
        ("a name of UDP", json!([{"protocol": "UDP", "port": "serve-80-udp"}]), &[("UDP", 80)]),
        ("a name of SCTP", json!([{"protocol": "SCTP", "port": "serve-80-sctp"}]), &[("SCTP", 80)]),
        ("TCP 53 to 80", json!([{"protocol": "TCP", "port": 53, "endPort": 80}]), &[("TCP", 80)]),
        ("TCP 53 to 84", json!([{"port": 53, "endPort": 84}]), &[("TCP", 80), ("TCP", 81)]),
        ("UDP 53 to 80", json!([{"protocol": "UDP", "port": 53, "endPort": 80}]), &[("UDP", 80)]),
        ("SCTP 53 to 84", json!([{"protocol": "SCTP", "port": 53, "endPort": 84}]), &[("SCTP", 80), ("SCTP", 81)]),
        ("a name of another protocol", json!([{"protocol": "TCP", "port": "serve-81-udp"}]), &[]),
        ("a name that nobody has", json!([{"protocol": "TCP", "port": "serve-7981-udp"}]), &[]),
        ("a port that nobody serves", json!([{"protocol": "TCP", "port": 7981}]), &[]),
        ("an empty one and 80", json!([{}, {"port": 80}]), &[("TCP", 80), ("TCP", 81)]),
        (
            "80 and a name of UDP",
            json!([{"port": 80}, {"protocol": "UDP", "port": "serve-81-udp"}]),
            &[("TCP", 80), ("UDP", 81)],
        ),
        ("80 and a name", json!([{"port": 80}, {"port": "serve-81-tcp"}]), &[("TCP", 80), ("TCP", 81)]),
    ];
    ports
        .into_iter()
        .flat_map(|(name, ports, open)| {
            let in_and_base_out = closed_but(&[&BASE_IN, &BASE_OUT]);
            let (only_in, only_out) = (closed_but(&[&BASE_IN]), closed_but(&[&BASE_OUT]));
            let probes = |opened: &'static str| -> Vec<(&'static str, u16, Vec<Exception<'_>>)> {
                PROBED
                    .into_iter()
                    .map(|(protocol, port)| {
                        let is_base = (protocol, port) == ("TCP", 80);
                        let is_open = open.contains(&(protocol, port));
                        let (is_in, is_out) = if opened == "in" { (is_open, is_base) } else { (is_base, is_open) };
                        let exceptions = match (is_in, is_out) {
                            (true, true) => in_and_base_out.clone(),
                            (true, false) => only_in.clone(),
                            (false, true) => only_out.clone(),
                            (false, false) => CLOSED.to_vec(),
                        };
                        (protocol, port, exceptions)
                    })
                    .collect()
            };
            let (probes_in, probes_out) = (probes("in"), probes("out"));
            [
                case(
                    &format!("cyclonus: ingress on {name}"),
                    &[base(json!([{"from": base_sources(), "ports": ports}]), base_egress())],
                    &probes_in.iter().map(|one| (one.0, one.1, &one.2[..])).collect::<Vec<_>>(),
                ),
                case(
                    &format!("cyclonus: egress on {name}"),
                    &[base(base_ingress(), json!([{"to": base_destinations(), "ports": ports}, dns()]))],
                    &probes_out.iter().map(|one| (one.0, one.1, &one.2[..])).collect::<Vec<_>>(),
                ),
            ]
        })
        .collect()
}

/// "conflict": what one policy lets pass passes, whatever the others do not say.
fn cyclonus_conflicts() -> Vec<Case> {
    let allow_by_pod = json!([{"from": [{"namespaceSelector": {}}]}]);
    let allow_by_ip = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]);
    let deny_by_ip = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/31"}}]}]);
    let deny_by_pod = json!([{"from": [{"namespaceSelector": {"matchLabels": {"this-will-never-happen": "qrs123"}}}]}]);
    let outwards = |rules: &Value| {
        let mut rules = rules.clone();
        for rule in rules.as_array_mut().unwrap() {
            rule["to"] = rule["from"].take();
            rule.as_object_mut().unwrap().remove("from");
        }
        rules
    };
    let pairs: [(&str, Value, Value, bool); 8] = [
        ("nothing and everything", json!([]), json!([{}]), true),
        ("nothing and all pods", json!([]), allow_by_pod.clone(), true),
        ("nothing and all addresses", json!([]), allow_by_ip.clone(), true),
        ("no address and all pods", deny_by_ip.clone(), allow_by_pod, true),
        ("no pod and all addresses", deny_by_pod.clone(), allow_by_ip, true),
        ("no address", deny_by_ip.clone(), deny_by_ip, false),
        ("no pod", deny_by_pod.clone(), deny_by_pod, false),
        ("nothing", json!([]), json!([]), false),
    ];
    let mut cases: Vec<Case> = pairs
        .iter()
        .flat_map(|(name, one, other, passes)| {
            [
                case(
                    &format!("cyclonus: ingress from {name}"),
                    &[ingress("x", pod("b"), one.clone()), ingress("x", pod("b"), other.clone())],
                    &[("TCP", 80, &[("*", "x/b", *passes)])],
                ),
                case(
                    &format!("cyclonus: egress to {name}"),
                    &[egress("x", pod("b"), outwards(one)), egress("x", pod("b"), outwards(other))],
                    &[("TCP", 80, &[("x/b", "*", *passes)])],
                ),
            ]
        })
        .collect();
    cases.push(case(
        "cyclonus: the source denies what the destination allows",
        &[egress("x", pod("b"), json!([])), ingress("y", pod("c"), json!([{}]))],
        &[("TCP", 80, &[("x/b", "*", false)])],
    ));
    cases.push(case(
        "cyclonus: the source allows what the destination denies",
        &[egress("x", pod("b"), json!([{}])), ingress("y", pod("c"), json!([]))],
        &[("TCP", 80, &[("*", "y/c", false)])],
    ));
    cases
}
