//! The oracle against answers that were found by hand.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a table of JSON is easier to read without a borrow in front of each"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::oracle::calico::selector_matches;
use crate::oracle::{
    Answer, Direction, End, Flow, Pod, PodPort, Policy, Question, World, answer, conformance, generate, policies,
};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(
    name: &str,
    namespace: &str,
    pairs: &[(&str, &str)],
    account: &str,
    address: [u8; 4],
    ports: &[(&str, &str, u16)],
) -> Pod {
    Pod {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels: labels(pairs),
        service_account: account.to_owned(),
        address: IpAddr::from(address),
        ports: ports
            .iter()
            .map(|(name, protocol, number)| PodPort {
                name: (*name).to_owned(),
                protocol: (*protocol).to_owned(),
                number: *number,
            })
            .collect(),
    }
}

/// Two pods in namespace a, of which `http` is not the same port, and one in namespace b.
fn world(manifests: &[Value]) -> World {
    World {
        namespaces: BTreeMap::from([
            ("a".to_owned(), labels(&[("kubernetes.io/metadata.name", "a"), ("app", "x")])),
            ("b".to_owned(), labels(&[("kubernetes.io/metadata.name", "b"), ("tier", "y")])),
        ]),
        pods: vec![
            pod(
                "p1",
                "a",
                &[("app", "x"), ("tier", "x")],
                "robot",
                [10, 0, 0, 1],
                &[("http", "TCP", 80), ("dns", "UDP", 53)],
            ),
            pod("p2", "a", &[("app", "y")], "default", [10, 0, 0, 2], &[("http", "TCP", 81)]),
            pod("p3", "b", &[("app", "x")], "default", [10, 0, 1, 3], &[("http", "TCP", 80), ("media", "SCTP", 443)]),
        ],
        manifests: manifests.to_vec(),
    }
}

/// Passes; does not get out; does not get in; neither.
const YES: (bool, bool) = (true, true);
const NOT_OUT: (bool, bool) = (false, true);
const NOT_IN: (bool, bool) = (true, false);
const NEITHER: (bool, bool) = (false, false);

/// What becomes of a flow that is written `p1 > 192.0.2.1 TCP 80`.
fn ask(world: &World, flow: &str) -> (bool, bool) {
    let [from, ">", to, protocol, port] = flow.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{flow} is not how flows are written here");
    };
    let end = |name: &str| match world.pods.iter().find(|pod| pod.name == name) {
        Some(pod) => End::Pod(pod),
        None => End::Outside(name.parse().unwrap()),
    };
    let protocol = ["TCP", "UDP", "SCTP", "ICMP"].into_iter().find(|known| *known == protocol).unwrap();
    let Answer { egress, ingress } =
        answer(world, &Flow { from: end(from), to: end(to), protocol, port: port.parse().unwrap() });
    (egress, ingress)
}

fn check(manifests: &[Value], expected: &[(&str, (bool, bool))]) {
    let world = world(manifests);
    for (flow, expected) in expected {
        assert_eq!(ask(&world, flow), *expected, "{flow} with {manifests:#?}");
    }
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

#[test]
fn the_conformance_cases_hold() {
    let cases = conformance::cases();
    assert!(cases.len() > 100, "{}", cases.len());
    for case in &cases {
        for expected in &case.expected {
            let found = answer(&case.world, &case.flow(expected)).connected();
            assert_eq!(found, expected.connected, "{}: {expected:?}", case.name);
        }
    }
}

#[test]
fn without_policies_all_passes() {
    check(&[], &[("p1 > p2 TCP 80", YES), ("p1 > 192.0.2.1 ICMP 0", YES), ("192.0.2.1 > p3 SCTP 443", YES)]);
}

mod kubernetes {
    use super::*;

    fn policy(namespace: &str, spec: Value) -> Value {
        object("networking.k8s.io/v1", "NetworkPolicy", Some(namespace), "np", spec)
    }

    #[test]
    fn an_empty_pod_selector_is_the_whole_namespace_and_no_other() {
        check(
            &[policy("a", json!({"podSelector": {}}))],
            &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p2 TCP 80", NOT_IN), ("p1 > p3 TCP 80", YES)],
        );
    }

    #[test]
    fn without_types_an_egress_rule_isolates_both_ways() {
        check(
            &[policy("a", json!({"podSelector": {}, "egress": [{}]}))],
            &[("p1 > p3 TCP 80", YES), ("p3 > p1 TCP 80", NOT_IN), ("p1 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn without_types_an_egress_section_without_rules_isolates_ingress_only() {
        check(
            &[policy("a", json!({"podSelector": {}, "egress": []}))],
            &[("p1 > p3 TCP 80", YES), ("p3 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn rules_of_a_direction_that_is_not_among_the_types_do_not_count() {
        check(
            &[
                policy("a", json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})),
                policy("a", json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
            ],
            &[("p1 > p3 TCP 80", NOT_OUT), ("p3 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn a_pod_selector_alone_is_about_the_namespace_of_the_policy() {
        check(
            &[policy("a", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))],
            &[("p2 > p1 TCP 80", YES), ("p3 > p1 TCP 80", NOT_IN), ("10.0.0.200 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn both_selectors_have_to_match() {
        let peer = json!({
            "namespaceSelector": {"matchLabels": {"tier": "y"}},
            "podSelector": {"matchLabels": {"app": "x"}},
        });
        check(
            &[policy("a", json!({"podSelector": {}, "ingress": [{"from": [peer]}]}))],
            &[("p3 > p1 TCP 80", YES), ("p1 > p2 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn empty_lists_of_peers_and_of_ports_are_like_none() {
        check(
            &[policy("a", json!({"podSelector": {}, "ingress": [{"from": [], "ports": []}]}))],
            &[("192.0.2.1 > p1 ICMP 0", YES), ("p3 > p2 SCTP 9", YES)],
        );
    }

    #[test]
    fn a_block_is_about_pods_too() {
        let block = json!({"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]});
        check(
            &[policy("a", json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]}))],
            &[
                ("p2 > p1 TCP 80", YES),
                ("p3 > p1 TCP 80", NOT_IN),
                ("10.0.0.200 > p1 TCP 80", YES),
                ("192.0.2.1 > p1 TCP 80", NOT_IN),
            ],
        );
    }

    #[test]
    fn a_protocol_that_is_not_given_is_tcp() {
        check(
            &[policy("a", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 81}]}]}))],
            &[
                ("p3 > p1 TCP 80", YES),
                ("p3 > p1 TCP 81", YES),
                ("p3 > p1 TCP 82", NOT_IN),
                ("p3 > p1 UDP 80", NOT_IN),
                ("p3 > p1 ICMP 0", NOT_IN),
            ],
        );
    }

    #[test]
    fn a_name_is_looked_up_at_the_destination() {
        check(
            &[policy(
                "a",
                json!({
                    "podSelector": {},
                    "ingress": [{"ports": [{"port": "http"}, {"protocol": "UDP", "port": "dns"}]}],
                    "egress": [{"ports": [{"port": "http"}]}],
                }),
            )],
            &[
                ("p3 > p1 TCP 80", YES),
                ("p3 > p1 TCP 81", NOT_IN),
                ("p3 > p2 TCP 80", NOT_IN),
                ("p3 > p2 TCP 81", YES),
                ("p3 > p1 UDP 53", YES),
                ("p3 > p2 UDP 53", NOT_IN),
                ("p1 > p2 TCP 81", YES),
                ("p1 > p2 TCP 80", NEITHER),
                ("p2 > p3 TCP 80", YES),
                ("p1 > 192.0.2.1 TCP 80", NOT_OUT),
            ],
        );
    }

    #[test]
    fn policies_add_up() {
        check(
            &[
                policy("a", json!({"podSelector": {}})),
                policy("a", json!({"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}]})),
            ],
            &[("p3 > p1 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn negative_operators_hold_without_the_label() {
        let not_x = |operator: &str| {
            let requirement = match operator {
                "NotIn" => json!({"key": "tier", "operator": "NotIn", "values": ["x"]}),
                operator => json!({"key": "tier", "operator": operator}),
            };
            policy("a", json!({"podSelector": {"matchExpressions": [requirement]}}))
        };
        check(&[not_x("NotIn")], &[("p3 > p1 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN)]);
        check(&[not_x("DoesNotExist")], &[("p3 > p1 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN)]);
        check(&[not_x("Exists")], &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p2 TCP 80", YES)]);
    }
}

mod cilium {
    use super::*;

    fn policy(namespace: &str, spec: Value) -> Value {
        object("cilium.io/v2", "CiliumNetworkPolicy", Some(namespace), "cnp", spec)
    }

    fn clusterwide(spec: Value) -> Value {
        object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", None, "ccnp", spec)
    }

    #[test]
    fn an_empty_rule_isolates_and_lets_nothing_pass() {
        check(
            &[policy("a", json!({"endpointSelector": {}, "ingress": [{}]}))],
            &[("p2 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN), ("p1 > p3 TCP 80", YES)],
        );
    }

    #[test]
    fn an_empty_peer_is_the_own_namespace_or_all_pods() {
        let spec = json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]});
        check(
            &[policy("a", spec.clone())],
            &[("p2 > p1 ICMP 0", YES), ("p3 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN)],
        );
        check(
            &[clusterwide(spec)],
            &[("p3 > p1 TCP 80", YES), ("p1 > p3 TCP 80", YES), ("192.0.2.1 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn an_empty_list_of_peers_selects_nothing_even_with_ports() {
        check(
            &[policy(
                "a",
                json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [], "toPorts": [{"ports": [{"port": "80"}]}]}]}),
            )],
            &[("p2 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn ports_alone_are_about_everybody() {
        check(
            &[policy(
                "a",
                json!({"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "ANY"}]}]}]}),
            )],
            &[
                ("p3 > p1 TCP 80", YES),
                ("192.0.2.1 > p1 SCTP 80", YES),
                ("p3 > p1 TCP 81", NOT_IN),
                ("p3 > p1 ICMP 0", NOT_IN),
            ],
        );
    }

    #[test]
    fn empty_lists_of_ports() {
        let with = |ports: Value| {
            policy("a", json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["all"], "toPorts": ports}]}))
        };
        check(&[with(json!([]))], &[("p3 > p1 TCP 80", YES), ("p3 > p1 ICMP 0", YES)]);
        check(&[with(json!([{}]))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(&[with(json!([{"ports": []}]))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(
            &[with(json!([{"ports": [{"port": "0"}]}]))],
            &[("p3 > p1 TCP 7", YES), ("p3 > p1 SCTP 9", YES), ("p3 > p1 ICMP 0", NOT_IN)],
        );
        check(
            &[with(json!([{"ports": [{"port": "80", "endPort": 81, "protocol": "UDP"}]}]))],
            &[("p3 > p1 UDP 81", YES), ("p3 > p1 UDP 82", NOT_IN), ("p3 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn denials_come_first_wherever_they_stand() {
        check(
            &[
                policy("a", json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}]})),
                clusterwide(json!({
                    "endpointSelector": {"matchLabels": {"app": "x"}},
                    "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "b"}}]}],
                    "enableDefaultDeny": {"ingress": false},
                })),
                object(
                    "networking.k8s.io/v1",
                    "NetworkPolicy",
                    Some("a"),
                    "np",
                    json!({"podSelector": {}, "ingress": [{}]}),
                ),
            ],
            &[("p3 > p1 TCP 80", NOT_IN), ("p2 > p1 TCP 80", YES), ("p3 > p2 TCP 80", YES), ("p1 > p3 TCP 80", YES)],
        );
    }

    #[test]
    fn denials_alone_isolate_unless_they_say_not_to() {
        let spec = json!({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["world"]}]});
        check(&[policy("a", spec.clone())], &[("p2 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
        let mut open = spec;
        open["enableDefaultDeny"] = json!({"ingress": false});
        check(&[policy("a", open)], &[("p2 > p1 TCP 80", YES), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
    }

    #[test]
    fn isolation_of_a_direction_without_rules_is_none() {
        check(
            &[policy(
                "a",
                json!({
                    "endpointSelector": {},
                    "ingress": [{}],
                    "egress": [],
                    "enableDefaultDeny": {"ingress": true, "egress": true},
                }),
            )],
            &[("p1 > p3 TCP 80", YES), ("p3 > p1 TCP 80", NOT_IN)],
        );
    }

    #[test]
    fn entities() {
        let from = |entity: &str| policy("a", json!({"endpointSelector": {}, "ingress": [{"fromEntities": [entity]}]}));
        check(&[from("world")], &[("192.0.2.1 > p1 TCP 80", YES), ("p3 > p1 TCP 80", NOT_IN)]);
        check(&[from("cluster")], &[("192.0.2.1 > p1 TCP 80", NOT_IN), ("p3 > p1 TCP 80", YES)]);
        check(&[from("all")], &[("192.0.2.1 > p1 TCP 80", YES), ("p3 > p1 TCP 80", YES)]);
        check(&[from("host")], &[("192.0.2.1 > p1 TCP 80", NOT_IN), ("p3 > p1 TCP 80", NOT_IN)]);
    }

    #[test]
    fn blocks_are_not_about_pods() {
        check(
            &[policy(
                "a",
                json!({"endpointSelector": {}, "egress": [
                    {"toCIDR": ["10.0.0.0/16"]},
                    {"toCIDRSet": [{"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}]},
                ]}),
            )],
            &[
                ("p1 > p2 TCP 80", NOT_OUT),
                ("p1 > 10.0.0.200 TCP 80", YES),
                ("p1 > 192.0.2.1 TCP 80", NOT_OUT),
                ("p1 > 192.0.2.2 TCP 80", YES),
            ],
        );
    }

    #[test]
    fn keys_have_sources_and_pods_have_the_labels_of_their_namespace() {
        let from = |selector: Value| {
            policy(
                "a",
                json!({
                    "endpointSelector": {"matchLabels": {"k8s:tier": "x"}},
                    "ingress": [{"fromEndpoints": [selector]}],
                }),
            )
        };
        let (p2, p3) = ("p2 > p1 TCP 80", "p3 > p1 TCP 80");
        check(&[from(json!({"matchLabels": {"any:app": "y"}}))], &[(p2, YES), (p3, NOT_IN)]);
        check(&[from(json!({"matchLabels": {"other:app": "y"}}))], &[(p2, NOT_IN), (p3, NOT_IN)]);
        check(&[from(json!({"matchLabels": {"app": "x"}}))], &[(p2, NOT_IN), (p3, NOT_IN)]);
        let of_b = json!({"matchLabels": {"io.kubernetes.pod.namespace": "b", "app": "x"}});
        check(&[from(of_b)], &[(p2, NOT_IN), (p3, YES)]);
        let of_tier_y = json!({"matchLabels": {"io.cilium.k8s.namespace.labels.tier": "y"}});
        check(&[from(of_tier_y)], &[(p2, NOT_IN), (p3, YES)]);
        let account = json!({
            "matchLabels": {"io.cilium.k8s.policy.serviceaccount": "default"},
            "matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}],
        });
        check(&[from(account)], &[(p2, YES), (p3, YES), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
        let not_b = json!({
            "matchExpressions": [{"key": "io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["b"]}],
        });
        check(&[from(not_b)], &[(p2, YES), (p3, NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
        check(
            &[from(json!({"matchLabels": {"reserved:world": ""}}))],
            &[(p2, NOT_IN), (p3, NOT_IN), ("192.0.2.1 > p1 TCP 80", YES)],
        );
    }

    #[test]
    fn the_namespace_of_a_policy_takes_the_place_of_another_one() {
        let with = |key: &str| policy("a", json!({"endpointSelector": {"matchLabels": {key: "b"}}, "ingress": [{}]}));
        check(&[with("k8s:io.kubernetes.pod.namespace")], &[("p3 > p1 TCP 80", NOT_IN), ("p1 > p3 TCP 80", YES)]);
        check(&[with("io.kubernetes.pod.namespace")], &[("p3 > p1 TCP 80", YES), ("p1 > p3 TCP 80", YES)]);
    }

    #[test]
    fn names_icmp_names_of_hosts_and_layer_7() {
        check(
            &[policy(
                "a",
                json!({"endpointSelector": {}, "egress": [
                    {"toEndpoints": [{}], "toPorts": [{
                        "ports": [{"port": "HTTP", "protocol": "TCP"}],
                        "rules": {"http": [{"method": "GET"}]},
                    }]},
                    {"toEntities": ["world"], "icmps": [{"fields": [{"type": 8, "family": "IPv4"}]}]},
                    {"toFQDNs": [{"matchName": "example.com"}]},
                ]}),
            )],
            &[
                ("p1 > p2 TCP 81", YES),
                ("p1 > p2 TCP 80", NOT_OUT),
                ("p1 > p2 ICMP 0", NOT_OUT),
                ("p1 > 192.0.2.1 ICMP 0", YES),
                ("p1 > 192.0.2.1 TCP 443", NOT_OUT),
            ],
        );
    }

    #[test]
    fn specs_are_as_good_as_a_spec() {
        let mut both = policy("a", json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["world"]}]}));
        both["specs"] =
            json!([{"endpointSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"fromEntities": ["cluster"]}]}]);
        check(&[both], &[("p3 > p1 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN), ("192.0.2.1 > p2 TCP 80", YES)]);
    }
}

mod calico {
    use super::*;

    fn policy(namespace: &str, spec: Value) -> Value {
        object("projectcalico.org/v3", "NetworkPolicy", Some(namespace), "policy", spec)
    }

    fn global(name: &str, spec: Value) -> Value {
        object("crd.projectcalico.org/v1", "GlobalNetworkPolicy", None, name, spec)
    }

    fn tier(name: &str, spec: Value) -> Value {
        object("projectcalico.org/v3", "Tier", None, name, spec)
    }

    fn holds(selector: &str) -> bool {
        selector_matches(selector, &labels(&[("app", "web-1"), ("k8s.io/tier", "x"), ("empty", "")]))
    }

    #[test]
    fn selectors() {
        for selector in [
            "",
            "  ",
            "all()",
            "all( )",
            "app == 'web-1'",
            "app==\"web-1\"",
            "app != 'x'",
            "none != 'x'",
            "has(k8s.io/tier)",
            "has( empty )",
            "! has(none)",
            "!!has(app)",
            "app in {'x', \"web-1\"}",
            "app in { 'web-1' }",
            "app not in {'x'}",
            "none not in {'x'}",
            "app notin {}",
            "app contains 'b-'",
            "app starts with 'web'",
            "app ends with '-1'",
            "app starts with ''",
            "empty == ''",
            "has(none) || has(app)",
            "has(app) || has(none) && has(none)",
            "(has(app) || has(none)) && !(has(none) || has(other))",
            "!has(none) && k8s.io/tier == 'x'",
        ] {
            assert!(holds(selector), "{selector}");
        }
        for selector in [
            "app == 'web'",
            "none == ''",
            "app != 'web-1'",
            "has(none)",
            "!has(app)",
            "!all()",
            "app in {}",
            "none in {'x'}",
            "app not in {'web-1'}",
            "none contains ''",
            "none starts with ''",
            "app ends with 'web'",
            "(has(app) || has(none)) && has(none)",
            "has(none) && has(app) || has(other)",
            "global()",
        ] {
            assert!(!holds(selector), "{selector}");
        }
    }

    #[test]
    fn types_follow_from_the_rules() {
        let (to, from) = ("p3 > p1 TCP 80", "p1 > p3 TCP 80");
        check(&[policy("a", json!({}))], &[(to, NOT_IN), (from, YES)]);
        check(&[policy("a", json!({"egress": [{"action": "Deny"}]}))], &[(to, YES), (from, NOT_OUT)]);
        check(
            &[policy("a", json!({"ingress": [{"action": "Allow"}], "egress": [{"action": "Deny"}]}))],
            &[(to, YES), (from, NOT_OUT)],
        );
        check(
            &[policy("a", json!({"types": ["Egress"], "ingress": [{"action": "Deny"}]}))],
            &[(to, YES), (from, NOT_OUT)],
        );
    }

    #[test]
    fn whom_policies_select() {
        check(
            &[policy("a", json!({"selector": "app == 'x'"}))],
            &[("p2 > p1 TCP 80", NOT_IN), ("p1 > p2 TCP 80", YES), ("p1 > p3 TCP 80", YES)],
        );
        check(
            &[global("g", json!({"selector": "app == 'x'", "types": ["Ingress"]}))],
            &[("p2 > p1 TCP 80", NOT_IN), ("p1 > p2 TCP 80", YES), ("p1 > p3 TCP 80", NOT_IN)],
        );
        check(
            &[global("g", json!({"namespaceSelector": "projectcalico.org/name == 'b'", "types": ["Ingress"]}))],
            &[("p2 > p1 TCP 80", YES), ("p1 > p3 TCP 80", NOT_IN)],
        );
        check(
            &[global(
                "g",
                json!({"serviceAccountSelector": "projectcalico.org/name == 'robot'", "types": ["Ingress"]}),
            )],
            &[("p2 > p1 TCP 80", NOT_IN), ("p1 > p3 TCP 80", YES)],
        );
    }

    #[test]
    fn the_first_rule_in_order_decides() {
        let allow = global("allow", json!({"order": 20, "types": ["Ingress"], "ingress": [{"action": "Allow"}]}));
        let deny = |order: Value| {
            let rules = json!([
                {"action": "Log"},
                {"action": "Deny", "protocol": "TCP", "destination": {"ports": [80]}},
            ]);
            global("deny", json!({"order": order, "types": ["Ingress"], "ingress": rules}))
        };
        check(&[allow.clone(), deny(json!(10.5))], &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p1 TCP 81", YES)]);
        check(&[allow.clone(), deny(json!(30))], &[("p3 > p1 TCP 80", YES)]);
        check(&[deny(Value::Null), allow], &[("p3 > p1 TCP 80", YES)]);
    }

    #[test]
    fn network_policy_stands_at_1000() {
        let np = object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            Some("a"),
            "np",
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}),
        );
        let calico = |order: i64, action: &str| {
            global("g", json!({"order": order, "types": ["Ingress"], "ingress": [{"action": action}]}))
        };
        check(&[np.clone(), calico(999, "Deny")], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(&[np.clone(), calico(1001, "Deny")], &[("p3 > p1 TCP 80", YES), ("p3 > p1 TCP 81", NOT_IN)]);
        check(&[np.clone(), calico(1001, "Allow")], &[("p3 > p1 TCP 81", YES)]);
        // What is passed on leaves the tier, and with it the isolation of NetworkPolicy.
        check(&[np, calico(999, "Pass")], &[("p3 > p1 TCP 81", YES)]);
    }

    #[test]
    fn tiers_come_one_after_the_other() {
        let in_tier = |tier: &str, action: &str| {
            let rules = json!([{"action": action, "protocol": "TCP", "destination": {"ports": ["80:81"]}}]);
            global(&format!("{tier}.g"), json!({"tier": tier, "types": ["Ingress"], "ingress": rules}))
        };
        let (one, two) = (tier("one", json!({"order": 1})), tier("two", json!({"order": 2})));
        check(
            &[in_tier("two", "Deny"), two.clone(), in_tier("one", "Allow"), one.clone()],
            &[("p3 > p1 TCP 81", YES), ("p3 > p1 TCP 82", NOT_IN)],
        );
        // Passed on to the second tier, and what the first one does not decide on is dropped at its end.
        check(
            &[in_tier("one", "Pass"), one.clone(), in_tier("two", "Allow"), two],
            &[("p3 > p1 TCP 80", YES), ("p3 > p1 TCP 82", NOT_IN)],
        );
        let open = tier("one", json!({"order": 1, "defaultAction": "Pass"}));
        check(&[in_tier("one", "Deny"), open], &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p1 TCP 82", YES)]);
        // A tier that is not there, and one without order, come after the default tier.
        let allow = global("g", json!({"types": ["Ingress"], "ingress": [{"action": "Allow"}]}));
        check(&[in_tier("gone", "Deny"), allow.clone()], &[("p3 > p1 TCP 80", YES)]);
        check(&[in_tier("gone", "Deny")], &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p1 TCP 82", NOT_IN)]);
        check(&[in_tier("one", "Deny"), tier("one", json!({})), allow], &[("p3 > p1 TCP 80", YES)]);
    }

    #[test]
    fn staged_policies_do_nothing() {
        check(
            &[
                object("projectcalico.org/v3", "StagedGlobalNetworkPolicy", None, "s", json!({"types": ["Ingress"]})),
                object("projectcalico.org/v3", "StagedNetworkPolicy", Some("a"), "s", json!({})),
                object(
                    "projectcalico.org/v3",
                    "StagedKubernetesNetworkPolicy",
                    Some("a"),
                    "s",
                    json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
                ),
            ],
            &[("p3 > p1 TCP 80", YES)],
        );
    }

    #[test]
    fn selectors_of_peers_are_about_pods_and_in_a_namespaced_policy_about_its_own() {
        let from = |source: Value| json!({"types": ["Ingress"], "ingress": [{"action": "Allow", "source": source}]});
        let (p2, p3, outside) = ("p2 > p1 TCP 80", "p3 > p1 TCP 80", "192.0.2.1 > p1 TCP 80");
        let cases = [
            (json!({}), [YES, YES, YES], [YES, YES, YES]),
            (json!({"selector": "all()"}), [YES, NOT_IN, NOT_IN], [YES, YES, NOT_IN]),
            (json!({"selector": "app == 'x'"}), [NOT_IN, NOT_IN, NOT_IN], [NOT_IN, YES, NOT_IN]),
            (json!({"notSelector": "app == 'y'"}), [NOT_IN, NOT_IN, NOT_IN], [NOT_IN, YES, YES]),
            (json!({"notSelector": "app == 'x'"}), [YES, NOT_IN, NOT_IN], [YES, NOT_IN, YES]),
            (json!({"namespaceSelector": "all()"}), [YES, YES, NOT_IN], [YES, YES, NOT_IN]),
            (json!({"namespaceSelector": "global()"}), [NOT_IN; 3], [NOT_IN; 3]),
            (json!({"namespaceSelector": "tier == 'y'"}), [NOT_IN, YES, NOT_IN], [NOT_IN, YES, NOT_IN]),
            (
                json!({"namespaceSelector": "all()", "selector": "app == 'x'"}),
                [NOT_IN, YES, NOT_IN],
                [NOT_IN, YES, NOT_IN],
            ),
            (json!({"serviceAccounts": {"names": ["default"]}}), [YES, NOT_IN, NOT_IN], [YES, YES, NOT_IN]),
            (json!({"serviceAccounts": {}}), [YES, YES, YES], [YES, YES, YES]),
            (json!({"nets": ["10.0.0.0/16"]}), [YES, YES, NOT_IN], [YES, YES, NOT_IN]),
            (json!({"notNets": ["10.0.1.0/24"]}), [YES, NOT_IN, YES], [YES, NOT_IN, YES]),
            (json!({"nets": ["0.0.0.0/0"], "selector": "app == 'y'"}), [YES, NOT_IN, NOT_IN], [YES, NOT_IN, NOT_IN]),
        ];
        for (source, in_namespace, in_cluster) in cases {
            let flows = |expected: [(bool, bool); 3]| [(p2, expected[0]), (p3, expected[1]), (outside, expected[2])];
            check(&[policy("a", from(source.clone()))], &flows(in_namespace));
            check(&[global("g", from(source))], &flows(in_cluster));
        }
    }

    #[test]
    fn ports_and_protocols() {
        let rule = |rule: Value| {
            let mut rule = rule;
            rule["action"] = json!("Allow");
            policy("a", json!({"types": ["Ingress"], "ingress": [rule]}))
        };
        check(
            &[rule(json!({"protocol": "TCP", "destination": {"ports": [443, "80:81"], "notPorts": ["81"]}}))],
            &[
                ("p3 > p1 TCP 80", YES),
                ("p3 > p1 TCP 81", NOT_IN),
                ("p3 > p1 TCP 443", YES),
                ("p3 > p1 UDP 80", NOT_IN),
                ("p3 > p1 ICMP 0", NOT_IN),
            ],
        );
        check(
            &[rule(json!({"protocol": 6, "destination": {"ports": ["http"]}}))],
            &[("p3 > p1 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN), ("p3 > p2 TCP 81", YES)],
        );
        check(
            &[rule(json!({"notProtocol": "TCP"}))],
            &[("p3 > p1 TCP 80", NOT_IN), ("p3 > p1 ICMP 0", YES), ("p3 > p1 SCTP 80", YES)],
        );
        check(&[rule(json!({"protocol": 1}))], &[("p3 > p1 ICMP 0", YES), ("p3 > p1 UDP 80", NOT_IN)]);
        check(&[rule(json!({"ipVersion": 6}))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(&[rule(json!({"ipVersion": 4, "protocol": "ICMP"}))], &[("p3 > p1 ICMP 0", YES)]);
    }

    #[test]
    fn both_ends_of_a_rule_count_in_either_direction() {
        let rule = json!({
            "action": "Deny",
            "source": {"selector": "app == 'x'"},
            "destination": {"selector": "app == 'y'"},
        });
        let rules = json!([rule, {"action": "Allow"}]);
        check(
            &[global("g", json!({"types": ["Ingress", "Egress"], "ingress": rules, "egress": rules}))],
            &[
                ("p1 > p2 TCP 80", NEITHER),
                ("p3 > p2 TCP 80", NEITHER),
                ("p2 > p1 TCP 80", YES),
                ("p1 > p3 TCP 80", YES),
            ],
        );
    }

    #[test]
    fn a_pod_has_the_labels_that_calico_gives_it() {
        check(
            &[global(
                "g",
                json!({
                    "types": ["Ingress"],
                    "selector": "projectcalico.org/namespace == 'a' && projectcalico.org/orchestrator == 'k8s'",
                    "ingress": [{
                        "action": "Allow",
                        "source": {"selector": "projectcalico.org/serviceaccount == 'robot'"},
                    }],
                }),
            )],
            &[("p1 > p2 TCP 80", YES), ("p3 > p2 TCP 80", NOT_IN), ("p1 > p3 TCP 80", YES)],
        );
    }
}

mod cluster {
    use super::*;

    fn cnp(tier: &str, priority: i64, rest: Value) -> Value {
        let mut spec = rest;
        spec["tier"] = json!(tier);
        spec["priority"] = json!(priority);
        object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", None, "cnp", spec)
    }

    fn anp(priority: i64, rest: Value) -> Value {
        let mut spec = rest;
        spec["priority"] = json!(priority);
        object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", None, "anp", spec)
    }

    fn banp(spec: Value) -> Value {
        object("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", None, "default", spec)
    }

    fn np(spec: Value) -> Value {
        object("networking.k8s.io/v1", "NetworkPolicy", Some("a"), "np", spec)
    }

    fn from_all(action: &str) -> Value {
        json!({"subject": {"namespaces": {}}, "ingress": [{"action": action, "from": [{"namespaces": {}}]}]})
    }

    #[test]
    fn what_no_rule_matches_is_not_isolated() {
        let rule = json!({"action": "Accept", "from": [{"namespaces": {"matchLabels": {"app": "x"}}}]});
        check(
            &[cnp("Admin", 1, json!({"subject": {"namespaces": {}}, "ingress": [rule]}))],
            &[("p1 > p2 TCP 80", YES), ("p3 > p1 TCP 80", YES), ("192.0.2.1 > p1 TCP 80", YES)],
        );
    }

    #[test]
    fn a_peer_of_ingress_is_a_pod() {
        check(
            &[cnp("Admin", 1, from_all("Deny"))],
            &[("p3 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", YES), ("p1 > 192.0.2.1 TCP 80", YES)],
        );
    }

    #[test]
    fn the_lower_priority_comes_first() {
        check(&[cnp("Admin", 2, from_all("Deny")), cnp("Admin", 1, from_all("Accept"))], &[("p3 > p1 TCP 80", YES)]);
        check(&[cnp("Admin", 2, from_all("Deny")), anp(3, from_all("Allow"))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(&[cnp("Admin", 2, from_all("Deny")), anp(0, from_all("Allow"))], &[("p3 > p1 TCP 80", YES)]);
    }

    #[test]
    fn admin_then_network_policy_then_baseline() {
        let allow_80 = np(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}));
        let flows = |results: [(bool, bool); 3]| {
            ["p3 > p1 TCP 80", "p3 > p1 TCP 81", "p1 > p3 TCP 80"].into_iter().zip(results).collect::<Vec<_>>()
        };
        check(&[allow_80.clone(), cnp("Admin", 1, from_all("Accept"))], &flows([YES, YES, YES]));
        check(&[allow_80.clone(), cnp("Admin", 1, from_all("Deny"))], &flows([NOT_IN; 3]));
        check(&[allow_80.clone(), cnp("Baseline", 1, from_all("Deny"))], &flows([YES, NOT_IN, NOT_IN]));
        check(&[allow_80.clone(), cnp("Baseline", 1, from_all("Accept"))], &flows([YES, NOT_IN, YES]));
        check(&[allow_80, banp(from_all("Deny"))], &flows([YES, NOT_IN, NOT_IN]));
    }

    #[test]
    fn what_is_passed_on_skips_the_rest_of_the_tier() {
        let (pass, deny) = (cnp("Admin", 1, from_all("Pass")), cnp("Admin", 2, from_all("Deny")));
        check(&[pass.clone(), deny.clone()], &[("p3 > p1 TCP 80", YES)]);
        check(&[pass.clone(), deny, np(json!({"podSelector": {}}))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(&[pass, banp(from_all("Deny"))], &[("p3 > p1 TCP 80", NOT_IN)]);
        check(
            &[cnp("Baseline", 1, from_all("Pass")), cnp("Baseline", 2, from_all("Deny"))],
            &[("p3 > p1 TCP 80", YES)],
        );
    }

    #[test]
    fn subjects_and_peers_by_namespaces_and_by_pods() {
        let rule = json!({"action": "Deny", "from": [{"pods": {
            "namespaceSelector": {"matchLabels": {"app": "x"}}, "podSelector": {"matchLabels": {"app": "y"}},
        }}]});
        let subject = json!({"pods": {"podSelector": {"matchLabels": {"app": "x"}}}});
        check(
            &[cnp("Admin", 1, json!({"subject": subject, "ingress": [rule]}))],
            &[("p2 > p1 TCP 80", NOT_IN), ("p2 > p3 TCP 80", NOT_IN), ("p3 > p1 TCP 80", YES), ("p2 > p2 TCP 80", YES)],
        );
    }

    #[test]
    fn networks_are_about_pods_too() {
        let rules = json!([
            {"action": "Accept", "to": [{"networks": ["10.0.1.0/24"]}]},
            {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]},
        ]);
        check(
            &[cnp("Admin", 1, json!({"subject": {"namespaces": {}}, "egress": rules}))],
            &[
                ("p1 > p3 TCP 80", YES),
                ("p1 > p2 TCP 80", NOT_OUT),
                ("p1 > 192.0.2.1 ICMP 0", NOT_OUT),
                ("p3 > p1 TCP 80", NOT_OUT),
            ],
        );
    }

    #[test]
    fn protocols_of_v1alpha2() {
        let rule = json!({"action": "Deny", "from": [{"namespaces": {}}], "protocols": [
            {"tcp": {"destinationPort": {"number": 443}}},
            {"udp": {"destinationPort": {"range": {"start": 80, "end": 81}}}},
            {"destinationNamedPort": "http"},
        ]});
        check(
            &[cnp("Baseline", 1, json!({"subject": {"namespaces": {}}, "ingress": [rule]}))],
            &[
                ("p3 > p1 TCP 443", NOT_IN),
                ("p3 > p1 UDP 443", YES),
                ("p3 > p1 UDP 81", NOT_IN),
                ("p3 > p1 UDP 82", YES),
                ("p3 > p1 TCP 80", NOT_IN),
                ("p3 > p2 TCP 80", YES),
                ("p3 > p2 TCP 81", NOT_IN),
                ("p3 > p1 ICMP 0", YES),
            ],
        );
    }

    #[test]
    fn ports_of_v1alpha1() {
        let rule = json!({"action": "Deny", "to": [{"namespaces": {}}], "ports": [
            {"portNumber": {"port": 443}},
            {"portNumber": {"protocol": "UDP", "port": 53}},
            {"portRange": {"protocol": "SCTP", "start": 80, "end": 81}},
            {"namedPort": "media"},
        ]});
        check(
            &[anp(1, json!({"subject": {"namespaces": {}}, "egress": [rule]}))],
            &[
                ("p1 > p3 TCP 443", NOT_OUT),
                ("p1 > p3 UDP 443", YES),
                ("p1 > p3 UDP 53", NOT_OUT),
                ("p1 > p3 SCTP 81", NOT_OUT),
                ("p1 > p3 SCTP 443", NOT_OUT),
                ("p1 > p2 SCTP 443", YES),
                ("p1 > 192.0.2.1 TCP 443", YES),
            ],
        );
    }

    #[test]
    fn a_rule_with_a_peer_that_nobody_knows_fails_closed() {
        let with = |action: &str| {
            let rules = json!([{"action": action, "from": [{"namespaces": {}}, {}]}]);
            [
                cnp("Admin", 1, json!({"subject": {"namespaces": {}}, "ingress": rules})),
                np(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]})),
            ]
        };
        check(&with("Accept"), &[("p3 > p1 TCP 80", YES), ("p3 > p1 TCP 81", NOT_IN)]);
        check(&with("Pass"), &[("p3 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
        check(&with("Deny"), &[("p3 > p1 TCP 80", NOT_IN), ("192.0.2.1 > p1 TCP 80", NOT_IN)]);
    }

    #[test]
    fn the_tiers_of_calico_stand_among_the_others() {
        let tier = |order: i64| object("projectcalico.org/v3", "Tier", None, "t", json!({"order": order}));
        let allow = object(
            "projectcalico.org/v3",
            "GlobalNetworkPolicy",
            None,
            "t.g",
            json!({"tier": "t", "types": ["Ingress"], "ingress": [{"action": "Allow"}]}),
        );
        let flow = "p3 > p1 TCP 80";
        check(&[tier(999), allow.clone(), cnp("Admin", 1, from_all("Deny"))], &[(flow, YES)]);
        check(&[tier(1001), allow.clone(), cnp("Admin", 1, from_all("Deny"))], &[(flow, NOT_IN)]);
        check(&[tier(999_999), allow.clone(), np(json!({"podSelector": {}}))], &[(flow, YES)]);
        check(&[tier(1_000_001), allow.clone(), np(json!({"podSelector": {}}))], &[(flow, NOT_IN)]);
        check(&[tier(9_999_999), allow.clone(), cnp("Baseline", 1, from_all("Deny"))], &[(flow, YES)]);
        check(&[tier(10_000_001), allow, cnp("Baseline", 1, from_all("Deny"))], &[(flow, NOT_IN)]);
    }
}

/// What becomes of flows in worlds that are made up.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    flows: usize,
    not_out: usize,
    not_in: usize,
    denied: usize,
    /// Flows of which some policy selects an end, and those of them that are denied.
    concerned: usize,
    concerned_and_denied: usize,
    /// Rules that were asked, and those that matched.
    rules: usize,
    matches: usize,
}

fn tally(worlds: &BoxedStrategy<World>, count: u32) -> Tally {
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() });
    runner
        .run(worlds, |world| {
            let mut tally = tally.borrow_mut();
            for flow in generate::flows(&world).into_iter().step_by(7) {
                let Answer { egress, ingress } = answer(&world, &flow);
                let denied = usize::from(!(egress && ingress));
                tally.flows += 1;
                tally.not_out += usize::from(!egress);
                tally.not_in += usize::from(!ingress);
                tally.denied += denied;
                let policies = policies_of(&world, &flow);
                tally.concerned += usize::from(!policies.is_empty());
                tally.concerned_and_denied += if policies.is_empty() { 0 } else { denied };
                for policy in &policies {
                    tally.rules += policy.rules.len();
                    tally.matches += policy.rules.iter().filter(|rule| rule.matches).count();
                }
            }
            Ok(())
        })
        .unwrap();
    tally.into_inner()
}

/// The policies that select one of the ends of a flow, in the direction that the flow has there.
fn policies_of(world: &World, flow: &Flow<'_>) -> Vec<Policy> {
    let ask = |subject: End<'_>, other, direction| match subject {
        End::Outside(_) => Vec::new(),
        End::Pod(subject) => {
            policies(&Question { world, subject, direction, other, protocol: flow.protocol, port: flow.port })
        }
    };
    let mut policies = ask(flow.from, flow.to, Direction::Egress);
    policies.extend(ask(flow.to, flow.from, Direction::Ingress));
    policies.retain(|policy| policy.isolates || !policy.rules.is_empty());
    policies
}

#[test]
fn worlds_are_neither_open_nor_closed() {
    let count = std::env::var("ORACLE_WORLDS").map_or(60, |count| count.parse().unwrap());
    for (name, worlds) in [
        ("kubernetes", generate::world_of_kubernetes()),
        ("cilium", generate::world_of_cilium()),
        ("calico", generate::world_of_calico()),
        ("cluster policies", generate::world_of_cluster_policies()),
        ("everything", generate::world()),
    ] {
        let tally = tally(&worlds, count);
        let denied = 100 * tally.concerned_and_denied / tally.concerned;
        if std::env::var_os("ORACLE_WORLDS").is_some() {
            println!("{name}: {denied}% of what is selected is denied; {tally:?}");
        }
        assert!((8..=92).contains(&denied), "{name}: {tally:?}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_order_of_manifests_makes_no_difference(world in generate::world(), picks in prop::collection::vec(generate::flow(), 20)) {
        let mut reversed = world.clone();
        reversed.manifests.reverse();
        for pick in picks {
            prop_assert_eq!(answer(&world, &pick.flow(&world)), answer(&reversed, &pick.flow(&reversed)));
        }
    }
}
