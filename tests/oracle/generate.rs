//! Strategies for worlds, policies of every dialect, and flows.
//!
//! All alphabets are small, so that what is made up hits what is there. Every manifest is valid for its dialect when it
//! is part of a world: [`assemble`] gives them unique names, and takes away what no specification decides on (two
//! policies of the same order, two tiers that are both the last one).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Map, Value, json};

use super::{End, Flow, Pod, PodPort, World, calico, is_kind, items};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["x", "y", "xz"];
const ACCOUNTS: [&str; 2] = ["default", "robot"];
const NUMBERS: [u16; 4] = [80, 53, 81, 443];
const NAMES: [&str; 4] = ["http", "dns", "media", "absent"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const CALICO_TIERS: [&str; 2] = ["alpha", "beta"];
/// Blocks of addresses, and what may be taken out of them.
const BLOCKS: [(&str, &[&str]); 8] = [
    ("10.0.0.0/16", &["10.0.0.0/24", "10.0.1.0/24", "10.0.0.2/32"]),
    ("0.0.0.0/0", &["10.0.0.0/16", "192.0.2.0/24", "10.0.0.0/24"]),
    ("10.0.0.0/24", &["10.0.0.0/30", "10.0.0.1/32"]),
    ("10.0.1.0/24", &["10.0.1.4/30"]),
    ("10.0.0.0/30", &["10.0.0.1/32"]),
    ("192.0.2.0/24", &["192.0.2.1/32", "192.0.2.128/25"]),
    ("198.51.100.7/32", &[]),
    ("128.0.0.0/1", &["192.0.0.0/8"]),
];
/// Addresses that no pod has.
const OUTSIDE: [[u8; 4]; 3] = [[192, 0, 2, 1], [198, 51, 100, 7], [10, 0, 0, 200]];
/// Ports that flows go to.
const FLOW_PORTS: [u16; 6] = [80, 53, 81, 82, 443, 8080];

/// One of the items, given as they are.
fn one_of<T: Clone + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = T> {
    select(items)
}

/// An object of the fields that have a value.
fn object(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

/// A list that is not there, that is empty, or that has items.
fn list(item: impl Strategy<Value = Value> + 'static, up_to: usize) -> BoxedStrategy<Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!([]))),
        6 => vec(item, 1..=up_to).prop_map(|items| Some(items.into())),
    ]
    .boxed()
}

/// A list that is not there or that has items.
fn list_with_items(item: impl Strategy<Value = Value> + 'static, up_to: usize) -> BoxedStrategy<Option<Value>> {
    option::weighted(0.6, vec(item, 1..=up_to).prop_map(Value::from)).boxed()
}

// ----------------------------------------------------------------------------------------------------------------
// cluster

/// The labels of a pod or of a namespace.
fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(one_of(&KEYS).prop_map(str::to_owned), one_of(&VALUES).prop_map(str::to_owned), 0..=2)
}

/// The ports of a pod: the same names do not have the same numbers everywhere.
fn pod_ports() -> impl Strategy<Value = Vec<PodPort>> {
    let port = |name: &str, protocol: &str, number| PodPort { name: name.into(), protocol: protocol.into(), number };
    (option::of(one_of(&[80, 81])), option::of(one_of(&["UDP", "TCP"])), option::of(one_of(&[443, 80]))).prop_map(
        move |(http, dns, media)| {
            let http = http.map(|number| port("http", "TCP", number));
            let dns = dns.map(|protocol| port("dns", protocol, 53));
            let media = media.map(|number| port("media", "SCTP", number));
            http.into_iter().chain(dns).chain(media).collect()
        },
    )
}

/// Two or three namespaces and three to six pods, without a policy.
pub(crate) fn cluster() -> impl Strategy<Value = World> {
    let pod = (one_of(&NAMESPACES), labels(), one_of(&ACCOUNTS), one_of(&[0u8, 1, 2]), pod_ports());
    (vec(labels(), 2..=3), vec(pod, 3..=6)).prop_map(|(namespace_labels, pods)| {
        let mut namespaces = BTreeMap::new();
        for (name, mut labels) in NAMESPACES.iter().zip(namespace_labels) {
            labels.insert("kubernetes.io/metadata.name".to_owned(), (*name).to_owned());
            namespaces.insert((*name).to_owned(), labels);
        }
        let pods = pods.into_iter().zip(1u8..).map(|((namespace, labels, account, net, ports), number)| Pod {
            name: format!("p{number}"),
            namespace: if namespaces.contains_key(namespace) { namespace } else { "a" }.to_owned(),
            labels,
            service_account: account.to_owned(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, net, number)),
            ports,
        });
        World { pods: pods.collect(), namespaces, manifests: Vec::new() }
    })
}

// -------------------------------------------------------------------------------------------------------- label
// selectors

/// A requirement on one of the keys.
fn requirement(keys: BoxedStrategy<(String, Vec<String>)>) -> impl Strategy<Value = Value> {
    keys.prop_flat_map(|(key, values)| {
        let most = values.len().min(2);
        (Just(key), one_of(&["In", "NotIn", "Exists", "DoesNotExist"]), subsequence(values, 1..=most))
    })
    .prop_map(|(key, operator, values)| match operator {
        "Exists" | "DoesNotExist" => json!({"key": key, "operator": operator}),
        _ => json!({"key": key, "operator": operator, "values": values}),
    })
}

/// A label selector over keys, each of which has values to choose from.
fn selector_over(keys: BoxedStrategy<(String, Vec<String>)>) -> BoxedStrategy<Value> {
    let label = keys
        .clone()
        .prop_flat_map(|(key, values)| (Just(key), select(values)))
        .prop_map(|(key, value)| Value::from_iter([(key, Value::from(value))]))
        .boxed();
    prop_oneof![
        3 => Just(json!({})),
        4 => label.clone().prop_map(|labels| json!({"matchLabels": labels})),
        4 => requirement(keys.clone()).prop_map(|one| json!({"matchExpressions": [one]})),
        1 => (label, requirement(keys)).prop_map(|(labels, one)| json!({"matchLabels": labels, "matchExpressions": [one]})),
    ]
    .boxed()
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn pod_selector() -> BoxedStrategy<Value> {
    selector_over(one_of(&KEYS).prop_map(|key| (key.to_owned(), owned(&VALUES))).boxed())
}

fn namespace_selector() -> BoxedStrategy<Value> {
    let key = prop_oneof![
        one_of(&KEYS).prop_map(|key| (key.to_owned(), owned(&VALUES))),
        Just(("kubernetes.io/metadata.name".to_owned(), owned(&NAMESPACES))),
    ];
    selector_over(key.boxed())
}

// ----------------------------------------------------------------------------------------------------------
// NetworkPolicy

/// A `networking.k8s.io/v1` NetworkPolicy.
pub(crate) fn kubernetes_policy() -> BoxedStrategy<Value> {
    let types = prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!(["Ingress"]))),
        1 => Just(Some(json!(["Egress"]))),
        2 => Just(Some(json!(["Ingress", "Egress"]))),
    ];
    (one_of(&NAMESPACES), pod_selector(), types, list(kubernetes_rule("from"), 3), list(kubernetes_rule("to"), 3))
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "policy", "namespace": namespace},
                "spec": object([
                    ("podSelector", Some(pods)), ("policyTypes", types), ("ingress", ingress), ("egress", egress),
                ]),
            })
        })
        .boxed()
}

fn kubernetes_rule(peers: &'static str) -> BoxedStrategy<Value> {
    (list(kubernetes_peer(), 3), list(kubernetes_port(), 2))
        .prop_map(move |(peer_list, ports)| object([(peers, peer_list), ("ports", ports)]))
        .boxed()
}

fn kubernetes_peer() -> BoxedStrategy<Value> {
    prop_oneof![
        pod_selector().prop_map(|pods| json!({"podSelector": pods})),
        namespace_selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (namespace_selector(), pod_selector())
            .prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
        block_with_exceptions("cidr").prop_map(|block| json!({"ipBlock": block})),
    ]
    .boxed()
}

/// A block of addresses in the given field, at times with exceptions.
fn block_with_exceptions(field: &'static str) -> BoxedStrategy<Value> {
    one_of(&BLOCKS)
        .prop_flat_map(|(block, exceptions)| {
            let most = exceptions.len().min(2);
            (Just(block), option::of(subsequence(exceptions, 0..=most)))
        })
        .prop_map(move |(block, except)| {
            object([(field, Some(json!(block))), ("except", except.map(|except| json!(except)))])
        })
        .boxed()
}

fn kubernetes_port() -> BoxedStrategy<Value> {
    let protocol = option::of(one_of(&PROTOCOLS).prop_map(Value::from));
    let port = prop_oneof![
        1 => Just((None, None)),
        4 => one_of(&NUMBERS).prop_map(|number| (Some(json!(number)), None)),
        2 => range().prop_map(|(first, last)| (Some(json!(first)), Some(json!(last)))),
        2 => one_of(&NAMES).prop_map(|name| (Some(json!(name)), None)),
    ];
    (protocol, port)
        .prop_map(|(protocol, (port, end))| object([("protocol", protocol), ("port", port), ("endPort", end)]))
        .boxed()
}

/// Two ports, of which the first is less than the last.
fn range() -> impl Strategy<Value = (u16, u16)> {
    one_of(&[(80, 81), (53, 80), (79, 442), (81, 443), (1, 65535), (54, 79)])
}

// -----------------------------------------------------------------------------------------------------------------
// Cilium

/// A `cilium.io/v2` CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy.
pub(crate) fn cilium_policy() -> BoxedStrategy<Value> {
    (option::weighted(0.6, one_of(&NAMESPACES)))
        .prop_flat_map(|namespace| {
            let spec = cilium_spec(namespace.is_none());
            let specs = prop_oneof![
                6 => spec.clone().prop_map(|spec| vec![("spec", spec)]),
                1 => vec(spec.clone(), 1..=2).prop_map(|specs| vec![("specs", specs.into())]),
                1 => (spec.clone(), spec).prop_map(|(one, two)| vec![("spec", one), ("specs", json!([two]))]),
            ];
            (Just(namespace), specs)
        })
        .prop_map(|(namespace, specs)| {
            let kind = if namespace.is_some() { "CiliumNetworkPolicy" } else { "CiliumClusterwideNetworkPolicy" };
            let mut policy = json!({
                "apiVersion": "cilium.io/v2",
                "kind": kind,
                "metadata": object([("name", Some(json!("policy"))), ("namespace", namespace.map(Value::from))]),
            });
            for (field, value) in specs {
                policy[field] = value;
            }
            policy
        })
        .boxed()
}

fn cilium_spec(is_clusterwide: bool) -> BoxedStrategy<Value> {
    let default_deny = (option::of(any::<bool>()), option::of(any::<bool>())).prop_map(|(ingress, egress)| {
        object([("ingress", ingress.map(Value::from)), ("egress", egress.map(Value::from))])
    });
    (
        selector_over(cilium_label(is_clusterwide)),
        option::weighted(0.3, default_deny),
        list(cilium_rule("from", false), 2),
        option::weighted(0.3, vec(cilium_rule("from", true), 0..=2)),
        list(cilium_rule("to", false), 2),
        option::weighted(0.3, vec(cilium_rule("to", true), 0..=2)),
    )
        .prop_map(|(endpoints, default_deny, ingress, ingress_deny, egress, egress_deny)| {
            let mut spec = object([
                ("endpointSelector", Some(endpoints)),
                ("enableDefaultDeny", default_deny),
                ("ingress", ingress),
                ("ingressDeny", ingress_deny.map(Value::from)),
                ("egress", egress),
                ("egressDeny", egress_deny.map(Value::from)),
            ]);
            // "rule must have at least one of Ingress, IngressDeny, Egress, EgressDeny"
            if ["ingress", "ingressDeny", "egress", "egressDeny"].iter().all(|field| items(&spec[*field]).is_empty()) {
                spec["ingress"] = json!([{}]);
            }
            spec
        })
        .boxed()
}

/// A key of a selector for endpoints. Where namespaces are not to be chosen, there is no key for their names.
fn cilium_label(with_namespaces: bool) -> BoxedStrategy<(String, Vec<String>)> {
    let namespace_weight = if with_namespaces { 3 } else { 0 };
    let prefix = one_of(&["", "k8s:", "any:"]);
    let key = prop_oneof![
        6 => one_of(&KEYS).prop_map(|key| (key.to_owned(), owned(&VALUES))),
        1 => Just(("io.cilium.k8s.policy.serviceaccount".to_owned(), owned(&ACCOUNTS))),
        1 => one_of(&KEYS).prop_map(|key| (format!("io.cilium.k8s.namespace.labels.{key}"), owned(&VALUES))),
        namespace_weight => Just(("io.kubernetes.pod.namespace".to_owned(), owned(&NAMESPACES))),
        namespace_weight => Just((
            "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name".to_owned(), owned(&NAMESPACES)
        )),
    ];
    (prefix, key).prop_map(|(prefix, (key, values))| (format!("{prefix}{key}"), values)).boxed()
}

fn cilium_rule(prefix: &'static str, denies: bool) -> BoxedStrategy<Value> {
    (cilium_peers(prefix, denies), cilium_ports(denies))
        .prop_map(|(peers, ports)| peers.into_iter().chain(ports).collect::<Map<_, _>>().into())
        .boxed()
}

/// The peers of a rule, which are all of one kind.
fn cilium_peers(prefix: &'static str, denies: bool) -> BoxedStrategy<Option<(String, Value)>> {
    let names_weight = u32::from(prefix == "to" && !denies);
    let of = move |kind: &'static str, peers: BoxedStrategy<Value>| {
        peers.prop_map(move |peers| Some((format!("{prefix}{kind}"), peers))).boxed()
    };
    let list = |item: BoxedStrategy<Value>, most: usize| vec(item, 1..=most).prop_map(Value::from).boxed();
    let endpoints = selector_over(cilium_label(true));
    let entities =
        one_of(&["all", "world", "cluster", "all", "host", "remote-node", "kube-apiserver", "health", "init", "none"]);
    let block = one_of(&BLOCKS).prop_map(|(block, _)| json!(block)).boxed();
    let empty = one_of(&["Endpoints", "Entities", "CIDR", "CIDRSet"]);
    prop_oneof![
        5 => Just(None),
        8 => of("Endpoints", list(endpoints, 2)),
        3 => of("Entities", list(entities.prop_map(Value::from).boxed(), 2)),
        3 => of("CIDR", list(block, 2)),
        3 => of("CIDRSet", list(block_with_exceptions("cidr"), 2)),
        1 => empty.prop_map(move |kind| Some((format!("{prefix}{kind}"), json!([])))),
        names_weight => Just(Some(("toFQDNs".to_owned(), json!([{"matchName": "example.com"}])))),
    ]
    .boxed()
}

/// The ports of a rule, or what it says of ICMP.
fn cilium_ports(denies: bool) -> BoxedStrategy<Option<(String, Value)>> {
    let layer_7_weight = u32::from(!denies);
    let port_rule = prop_oneof![
        8 => vec(cilium_port(), 1..=2).prop_map(|ports| json!({"ports": ports})),
        1 => Just(json!({"ports": []})),
        layer_7_weight => one_of(&NUMBERS).prop_map(|number| json!({
            "ports": [{"port": number.to_string(), "protocol": "TCP"}],
            "rules": {"http": [{"method": "GET", "path": "/"}]},
        })),
    ];
    let echo = prop_oneof![
        Just(json!({"type": 8})),
        Just(json!({"type": "EchoRequest", "family": "IPv4"})),
        Just(json!({"type": 8, "family": "IPv4"})),
    ];
    prop_oneof![
        9 => Just(None),
        1 => Just(Some(("toPorts".to_owned(), json!([])))),
        8 => vec(port_rule, 1..=2).prop_map(|ports| Some(("toPorts".to_owned(), ports.into()))),
        1 => vec(echo, 0..=1).prop_map(|fields| Some(("icmps".to_owned(), json!([{"fields": fields}])))),
        1 => Just(Some(("icmps".to_owned(), json!([])))),
    ]
    .boxed()
}

fn cilium_port() -> BoxedStrategy<Value> {
    let protocol = option::weighted(0.7, one_of(&["TCP", "UDP", "SCTP", "ANY"]).prop_map(Value::from));
    let port = prop_oneof![
        4 => one_of(&NUMBERS).prop_map(|number| (number.to_string(), None)),
        2 => range().prop_map(|(first, last)| (first.to_string(), Some(json!(last)))),
        2 => one_of(&NAMES).prop_map(|name| (name.to_owned(), None)),
        1 => Just(("0".to_owned(), None)),
    ];
    (protocol, port)
        .prop_map(|(protocol, (port, end))| {
            object([("port", Some(port.into())), ("endPort", end), ("protocol", protocol)])
        })
        .boxed()
}

// -----------------------------------------------------------------------------------------------------------------
// Calico

/// A selector of Calico over keys, each of which has values to choose from.
fn expression_over(keys: BoxedStrategy<(String, Vec<String>)>) -> BoxedStrategy<String> {
    let quoted = |value: String| if value.len() == 1 { format!("'{value}'") } else { format!("\"{value}\"") };
    let comparison = keys
        .prop_flat_map(|(key, values)| {
            let most = values.len().min(2);
            (Just(key), 0usize..10, select(values.clone()), subsequence(values, 0..=most))
        })
        .prop_map(move |(key, operator, value, set)| {
            let (value, set) = (quoted(value), set.into_iter().map(quoted).collect::<Vec<_>>().join(", "));
            match operator {
                0 => format!("{key} == {value}"),
                1 => format!("{key} != {value}"),
                2 => format!("has({key})"),
                3 => format!("!has({key})"),
                4 => format!("{key} in {{{set}}}"),
                5 => format!("{key} not in {{ {set} }}"),
                6 => format!("{key} contains {value}"),
                7 => format!("{key} starts with {value}"),
                8 => format!("{key} ends with {value}"),
                _ => format!("{key}=={value}"),
            }
        });
    let leaf = prop_oneof![8 => comparison, 1 => Just("all()".to_owned())];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("{one} && {two}")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("{one} || {two}")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} || {two}) && has(app)")),
            inner.prop_map(|one| format!("!({one})")),
        ]
    })
    .boxed()
}

fn calico_endpoints() -> BoxedStrategy<String> {
    let key = prop_oneof![
        6 => one_of(&KEYS).prop_map(|key| (key.to_owned(), owned(&VALUES))),
        1 => Just(("projectcalico.org/namespace".to_owned(), owned(&NAMESPACES))),
        1 => Just(("projectcalico.org/serviceaccount".to_owned(), owned(&ACCOUNTS))),
        1 => Just(("projectcalico.org/orchestrator".to_owned(), owned(&["k8s"]))),
    ];
    expression_over(key.boxed())
}

fn calico_namespaces() -> BoxedStrategy<String> {
    let key = prop_oneof![
        3 => one_of(&KEYS).prop_map(|key| (key.to_owned(), owned(&VALUES))),
        2 => Just(("projectcalico.org/name".to_owned(), owned(&NAMESPACES))),
        1 => Just(("kubernetes.io/metadata.name".to_owned(), owned(&NAMESPACES))),
    ];
    expression_over(key.boxed())
}

fn calico_accounts() -> BoxedStrategy<String> {
    prop_oneof![
        Just("projectcalico.org/name == 'robot'".to_owned()),
        Just("projectcalico.org/name != 'robot'".to_owned()),
        Just("all()".to_owned()),
        Just("has(app)".to_owned()),
    ]
    .boxed()
}

fn maybe(weight: f64, selector: BoxedStrategy<String>) -> impl Strategy<Value = Option<Value>> {
    option::weighted(weight, selector.prop_map(Value::from))
}

/// The group that a manifest of Calico is of.
fn calico_group() -> impl Strategy<Value = &'static str> {
    one_of(&["projectcalico.org/v3", "crd.projectcalico.org/v1"])
}

/// A NetworkPolicy or a GlobalNetworkPolicy of Calico, at times a staged one.
pub(crate) fn calico_policy() -> BoxedStrategy<Value> {
    let order = prop_oneof![
        3 => (1u32..=40).prop_map(|order| Some(json!(order * 10))),
        2 => (1u32..=40).prop_map(|order| Some(json!(f64::from(order).mul_add(10.0, 1000.5)))),
        1 => Just(None),
    ];
    let place = (option::weighted(0.6, one_of(&["default", "alpha", "beta"])), order, proptest::bool::weighted(0.08));
    let subject = (
        option::weighted(0.5, one_of(&NAMESPACES)),
        option::weighted(
            0.8,
            prop_oneof![1 => Just(String::new()), 1 => Just("all()".to_owned()), 5 => calico_endpoints()],
        ),
        maybe(0.15, calico_accounts()),
        maybe(0.4, calico_namespaces()),
    );
    let types = prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!(["Ingress"]))),
        1 => Just(Some(json!(["Egress"]))),
        2 => Just(Some(json!(["Ingress", "Egress"]))),
    ];
    let rules = (list_with_items(calico_rule(), 3), list_with_items(calico_rule(), 3));
    (calico_group(), place, subject, types, rules)
        .prop_map(|(group, (tier, order, is_staged), subject, types, (ingress, egress))| {
            let (namespace, selector, accounts, namespaces) = subject;
            let kind = match (namespace.is_some(), is_staged) {
                (true, false) => "NetworkPolicy",
                (false, false) => "GlobalNetworkPolicy",
                (true, true) => "StagedNetworkPolicy",
                (false, true) => "StagedGlobalNetworkPolicy",
            };
            // What is written straight into the CRDs has no defaults put in, so there it is better to say all.
            let types = types.or_else(|| (group == "crd.projectcalico.org/v1").then(|| json!(["Ingress", "Egress"])));
            json!({
                "apiVersion": group,
                "kind": kind,
                "metadata": object([("name", Some(json!("policy"))), ("namespace", namespace.map(Value::from))]),
                "spec": object([
                    ("tier", tier.map(Value::from)),
                    ("order", order),
                    ("selector", selector.map(Value::from)),
                    ("serviceAccountSelector", accounts),
                    ("namespaceSelector", namespaces.filter(|_| namespace.is_none())),
                    ("types", types),
                    ("ingress", ingress),
                    ("egress", egress),
                ]),
            })
        })
        .boxed()
}

fn calico_rule() -> BoxedStrategy<Value> {
    let action = prop_oneof![7 => Just("Allow"), 3 => Just("Deny"), 2 => Just("Pass"), 1 => Just("Log")];
    (action, calico_protocol(), calico_entity(), calico_entity())
        .prop_map(|(action, protocol, source, destination)| {
            let mut rule = protocol;
            rule["action"] = json!(action);
            // The blocks are all of IPv4, and a rule for IPv6 with such blocks is refused.
            let has_blocks = |entity: &Value| ["nets", "notNets"].iter().any(|field| !entity[*field].is_null());
            if rule["ipVersion"] == 6 && (has_blocks(&source) || has_blocks(&destination)) {
                rule["ipVersion"] = json!(4);
            }
            // The ports that the protocol came with are those of the destination.
            let mut destination = destination;
            for field in ["ports", "notPorts"] {
                let ports = rule[field].take();
                rule.as_object_mut().unwrap().remove(field);
                if !ports.is_null() {
                    destination[field] = ports;
                }
            }
            for (field, entity) in [("source", source), ("destination", destination)] {
                if entity != json!({}) {
                    rule[field] = entity;
                }
            }
            rule
        })
        .boxed()
}

/// What a rule says of protocols, and of the ports that only some of them have.
fn calico_protocol() -> BoxedStrategy<Value> {
    let protocol = one_of(&["TCP", "UDP", "SCTP"]).prop_map(Value::from);
    let protocol = prop_oneof![8 => protocol, 1 => Just(json!(6)), 1 => Just(json!(17)), 1 => Just(json!(132))].boxed();
    let ports = prop_oneof![
        4 => vec(calico_port(), 1..=2).prop_map(|ports| (Some(json!(ports)), None)),
        1 => vec(calico_port(), 1..=2).prop_map(|ports| (None, Some(json!(ports)))),
        1 => (calico_port(), calico_port()).prop_map(|(port, not)| (Some(json!([port])), Some(json!([not])))),
        2 => Just((None, None)),
    ];
    let version = option::weighted(0.1, one_of(&[4, 4, 6]).prop_map(Value::from)).boxed();
    let not_protocol = prop_oneof![protocol.clone(), Just(json!("ICMP")), Just(json!(1)), Just(json!("UDPLite"))];
    prop_oneof![
        8 => version.clone().prop_map(|version| object([("ipVersion", version)])),
        8 => (version, protocol, ports).prop_map(|(version, protocol, (ports, not_ports))| object([
            ("ipVersion", version), ("protocol", Some(protocol)), ("ports", ports), ("notPorts", not_ports),
        ])),
        1 => one_of(&["ICMP", "ICMPv6", "UDPLite"]).prop_map(|protocol| json!({"protocol": protocol})),
        1 => Just(json!({"protocol": 1, "ipVersion": 4})),
        1 => not_protocol.prop_map(|protocol| json!({"notProtocol": protocol})),
    ]
    .boxed()
}

fn calico_port() -> BoxedStrategy<Value> {
    prop_oneof![
        4 => one_of(&NUMBERS).prop_map(Value::from),
        1 => one_of(&NUMBERS).prop_map(|number| json!(number.to_string())),
        2 => range().prop_map(|(first, last)| json!(format!("{first}:{last}"))),
        2 => one_of(&NAMES).prop_map(Value::from),
    ]
    .boxed()
}

/// One end of a rule; most often anybody, and else mostly with one criterion.
fn calico_entity() -> BoxedStrategy<Value> {
    let blocks =
        || subsequence(BLOCKS.map(|(block, _)| block).to_vec(), 1..=2).prop_map(|blocks| json!(blocks)).boxed();
    // A negated 0.0.0.0/0 is one that Calico does not carry out.
    let not_blocks = subsequence(BLOCKS.map(|(block, _)| block)[2..].to_vec(), 1..=2).prop_map(|blocks| json!(blocks));
    let namespaces =
        prop_oneof![6 => calico_namespaces(), 1 => Just("all()".to_owned()), 1 => Just("global()".to_owned())].boxed();
    let accounts = prop_oneof![
        Just(json!({"names": ["robot"]})),
        Just(json!({"names": ["default", "other"]})),
        Just(json!({"selector": "projectcalico.org/name == 'robot'"})),
        Just(json!({"names": ["robot"], "selector": "projectcalico.org/name != 'default'"})),
        Just(json!({})),
    ]
    .boxed();
    let text = |selector: BoxedStrategy<String>| selector.prop_map(Value::from).boxed();
    prop_oneof![
        16 => Just(json!({})),
        5 => text(calico_endpoints()).prop_map(|selector| json!({"selector": selector})),
        2 => text(calico_endpoints()).prop_map(|selector| json!({"notSelector": selector})),
        3 => text(namespaces.clone()).prop_map(|selector| json!({"namespaceSelector": selector})),
        2 => (text(namespaces.clone()), text(calico_endpoints()))
            .prop_map(|(namespaces, selector)| json!({"namespaceSelector": namespaces, "selector": selector})),
        3 => blocks().prop_map(|nets| json!({"nets": nets})),
        2 => not_blocks.clone().prop_map(|nets| json!({"notNets": nets})),
        1 => (blocks(), not_blocks).prop_map(|(nets, not_nets)| json!({"nets": nets, "notNets": not_nets})),
        2 => accounts.clone().prop_map(|accounts| json!({"serviceAccounts": accounts})),
        1 => (
            option::of(text(calico_endpoints())),
            option::of(text(calico_endpoints())),
            option::of(text(namespaces)),
            option::of(blocks()),
            option::of(accounts),
        )
            .prop_map(|(selector, not_selector, namespaces, nets, accounts)| object([
                ("selector", selector),
                ("notSelector", not_selector),
                ("namespaceSelector", namespaces),
                ("nets", nets),
                ("serviceAccounts", accounts),
            ])),
    ]
    .boxed()
}

/// A Tier of Calico.
pub(crate) fn calico_tier() -> BoxedStrategy<Value> {
    let order = prop_oneof![
        2 => one_of(&[100, 500]).prop_map(|order| Some(json!(order))),
        2 => one_of(&[5_000, 500_000]).prop_map(|order| Some(json!(order))),
        1 => one_of(&[2_000_000, 20_000_000]).prop_map(|order| Some(json!(order))),
        1 => Just(None),
    ];
    let default_action = prop_oneof![2 => Just(None), 1 => Just(Some(json!("Deny"))), 3 => Just(Some(json!("Pass")))];
    (calico_group(), one_of(&CALICO_TIERS), order, default_action)
        .prop_map(|(group, name, order, default_action)| {
            json!({
                "apiVersion": group,
                "kind": "Tier",
                "metadata": {"name": name},
                "spec": object([("order", order), ("defaultAction", default_action)]),
            })
        })
        .boxed()
}

// ------------------------------------------------------------------------------------------------------ Network Policy
// API

/// A ClusterNetworkPolicy, an AdminNetworkPolicy or a BaselineAdminNetworkPolicy.
pub(crate) fn cluster_policy() -> BoxedStrategy<Value> {
    prop_oneof![4 => cluster_network_policy(), 2 => admin_network_policy(), 1 => baseline_admin_network_policy()]
        .boxed()
}

fn cluster_network_policy() -> BoxedStrategy<Value> {
    const ACTIONS: [&str; 4] = ["Accept", "Deny", "Pass", "Deny"];
    (
        one_of(&["Admin", "Baseline"]),
        0u32..=1000,
        namespaces_or_pods(true),
        list(admin_rule("from", &ACTIONS, "protocols", cluster_protocol), 3),
        list(admin_rule("to", &ACTIONS, "protocols", cluster_protocol), 3),
    )
        .prop_map(|(tier, priority, subject, ingress, egress)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2",
                "kind": "ClusterNetworkPolicy",
                "metadata": {"name": "policy"},
                "spec": object([
                    ("tier", Some(json!(tier))),
                    ("priority", Some(json!(priority))),
                    ("subject", Some(subject)),
                    ("ingress", ingress),
                    ("egress", egress),
                ]),
            })
        })
        .boxed()
}

fn admin_network_policy() -> BoxedStrategy<Value> {
    const ACTIONS: [&str; 4] = ["Allow", "Deny", "Pass", "Deny"];
    (
        0u32..=1000,
        namespaces_or_pods(false),
        list(admin_rule("from", &ACTIONS, "ports", admin_port), 3),
        list(admin_rule("to", &ACTIONS, "ports", admin_port), 3),
    )
        .prop_map(|(priority, subject, ingress, egress)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha1",
                "kind": "AdminNetworkPolicy",
                "metadata": {"name": "policy"},
                "spec": object([
                    ("priority", Some(json!(priority))),
                    ("subject", Some(subject)),
                    ("ingress", ingress),
                    ("egress", egress),
                ]),
            })
        })
        .boxed()
}

fn baseline_admin_network_policy() -> BoxedStrategy<Value> {
    const ACTIONS: [&str; 2] = ["Allow", "Deny"];
    (
        namespaces_or_pods(false),
        list(admin_rule("from", &ACTIONS, "ports", admin_port), 3),
        list(admin_rule("to", &ACTIONS, "ports", admin_port), 3),
    )
        .prop_map(|(subject, ingress, egress)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha1",
                "kind": "BaselineAdminNetworkPolicy",
                "metadata": {"name": "default"},
                "spec": object([("subject", Some(subject)), ("ingress", ingress), ("egress", egress)]),
            })
        })
        .boxed()
}

/// A subject or a peer: namespaces, or pods in namespaces. In v1alpha2 the pods may come without namespaces.
fn namespaces_or_pods(namespaces_are_optional: bool) -> BoxedStrategy<Value> {
    let without_weight = u32::from(namespaces_are_optional);
    prop_oneof![
        3 => namespace_selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        3 => (namespace_selector(), pod_selector())
            .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
        without_weight => pod_selector().prop_map(|pods| json!({"pods": {"podSelector": pods}})),
    ]
    .boxed()
}

fn admin_rule(
    peers: &'static str,
    actions: &'static [&'static str],
    ports: &'static str,
    port: fn(bool) -> BoxedStrategy<Value>,
) -> BoxedStrategy<Value> {
    let selected = move || vec(namespaces_or_pods(ports == "protocols"), 1..=2);
    let networks =
        subsequence(BLOCKS.map(|(block, _)| block).to_vec(), 1..=2).prop_map(|networks| json!({"networks": networks}));
    let network_weight = if peers == "to" { 2 } else { 0 };
    // Networks have no named ports.
    let matches = prop_oneof![
        4 => (selected(), option::of(vec(port(true), 1..=2))),
        network_weight => (networks, option::of(selected()), option::of(vec(port(false), 1..=2)))
            .prop_map(|(networks, others, ports)| {
                (std::iter::once(networks).chain(others.unwrap_or_default().into_iter().take(1)).collect(), ports)
            }),
    ];
    (one_of(actions), matches)
        .prop_map(move |(action, (peer_list, port_list))| {
            object([
                ("action", Some(json!(action))),
                (peers, Some(peer_list.into())),
                (ports, port_list.map(Value::from)),
            ])
        })
        .boxed()
}

/// An element of `protocols` of v1alpha2.
fn cluster_protocol(with_names: bool) -> BoxedStrategy<Value> {
    let names_weight = u32::from(with_names);
    let port = prop_oneof![
        2 => one_of(&NUMBERS).prop_map(|number| json!({"number": number})),
        1 => range().prop_map(|(start, end)| json!({"range": {"start": start, "end": end}})),
    ];
    let numbered = (one_of(&["tcp", "udp", "sctp"]), port)
        .prop_map(|(protocol, port)| object([(protocol, Some(json!({"destinationPort": port})))]));
    prop_oneof![
        4 => numbered,
        names_weight => one_of(&NAMES).prop_map(|name| json!({"destinationNamedPort": name})),
    ]
    .boxed()
}

/// An element of `ports` of v1alpha1.
fn admin_port(with_names: bool) -> BoxedStrategy<Value> {
    let names_weight = u32::from(with_names);
    let protocol = || option::weighted(0.8, one_of(&PROTOCOLS).prop_map(Value::from));
    prop_oneof![
        3 => (protocol(), one_of(&NUMBERS)).prop_map(|(protocol, number)| {
            json!({"portNumber": object([("protocol", protocol), ("port", Some(json!(number)))])})
        }),
        2 => (protocol(), range()).prop_map(|(protocol, (start, end))| {
            json!({"portRange": object([
                ("protocol", protocol), ("start", Some(json!(start))), ("end", Some(json!(end))),
            ])})
        }),
        names_weight => one_of(&NAMES).prop_map(|name| json!({"namedPort": name})),
    ]
    .boxed()
}

// -----------------------------------------------------------------------------------------------------------------
// worlds

/// A world with NetworkPolicy only.
pub(crate) fn world_of_kubernetes() -> BoxedStrategy<World> {
    world_with(vec(kubernetes_policy(), 1..=4).boxed())
}

/// A world with policies of Cilium and with NetworkPolicy.
pub(crate) fn world_of_cilium() -> BoxedStrategy<World> {
    world_with(together([vec(cilium_policy(), 1..=3).boxed(), vec(kubernetes_policy(), 0..=1).boxed()]))
}

/// A world with policies and tiers of Calico and with NetworkPolicy.
pub(crate) fn world_of_calico() -> BoxedStrategy<World> {
    world_with(together([
        vec(calico_tier(), 0..=4).boxed(),
        vec(calico_policy(), 1..=4).boxed(),
        vec(kubernetes_policy(), 0..=1).boxed(),
    ]))
}

/// A world with policies of the Network Policy API and with NetworkPolicy.
pub(crate) fn world_of_cluster_policies() -> BoxedStrategy<World> {
    world_with(together([vec(cluster_policy(), 1..=4).boxed(), vec(kubernetes_policy(), 0..=1).boxed()]))
}

/// A world with policies of all dialects.
pub(crate) fn world() -> BoxedStrategy<World> {
    world_with(together([
        vec(kubernetes_policy(), 0..=2).boxed(),
        vec(cilium_policy(), 0..=1).boxed(),
        vec(calico_tier(), 0..=3).boxed(),
        vec(calico_policy(), 0..=2).boxed(),
        vec(cluster_policy(), 0..=2).boxed(),
    ]))
}

fn together<const COUNT: usize>(parts: [BoxedStrategy<Vec<Value>>; COUNT]) -> BoxedStrategy<Vec<Value>> {
    Vec::from(parts).prop_map(|parts| parts.concat()).boxed()
}

fn world_with(manifests: BoxedStrategy<Vec<Value>>) -> BoxedStrategy<World> {
    (cluster(), manifests).prop_map(|(world, manifests)| assemble(world, manifests)).boxed()
}

/// Puts manifests into a world, so that they are valid and that there is only one way to read them together:
///
/// - namespaces that do not exist become `a`;
/// - there is one tier of a name, no two tiers have the same order, and at most one is the last one;
/// - no two policies of Calico in the same tier have the same order, nor two policies of the Network Policy API in the
///   same tier the same priority; a BaselineAdminNetworkPolicy is alone in its tier;
/// - names are unique.
pub(crate) fn assemble(world: World, manifests: Vec<Value>) -> World {
    let mut world = world;
    let tiers = tidy_tiers(&manifests);
    let last_resort = tiers.iter().find(|tier| tier["spec"]["order"].is_null()).or(tiers.first()).cloned();
    let is_known = |name: &str| name == "default" || tiers.iter().any(|tier| tier["metadata"]["name"] == name);
    // A tier that does not exist comes last, and so does one without order: there is room for one of them.
    let room_for_unknown =
        tiers.iter().all(|tier| !tier["spec"]["order"].is_null()).then_some("alpha").filter(|name| !is_known(name));

    let mut taken: Vec<(String, f64)> = Vec::new();
    let mut priorities: Vec<(String, i64)> = Vec::new();
    let mut baseline: Option<bool> = None;
    let mut kept = tiers.clone();
    for mut manifest in manifests.into_iter().filter(|manifest| calico::tier(manifest).is_none()) {
        let number = kept.len();
        if let Some(namespace) = manifest["metadata"]["namespace"].as_str()
            && !world.namespaces.contains_key(namespace)
        {
            manifest["metadata"]["namespace"] = json!("a");
        }
        let mut name = format!("p{number}");
        if text_starts_with(&manifest["apiVersion"], &["projectcalico.org/", "crd.projectcalico.org/"]) {
            let tier = manifest["spec"]["tier"].as_str().unwrap_or("default").to_owned();
            let tier = match (is_known(&tier), room_for_unknown, &last_resort) {
                (true, _, _) => tier,
                (false, Some(unknown), _) => unknown.to_owned(),
                (false, None, Some(other)) => other["metadata"]["name"].as_str().unwrap().to_owned(),
                (false, None, None) => "default".to_owned(),
            };
            if tier != "default" {
                manifest["spec"]["tier"] = json!(tier);
                name = format!("{tier}.{name}");
            }
            let mut order = manifest["spec"]["order"].as_f64().unwrap_or(f64::INFINITY);
            if order.is_infinite() && taken.contains(&(tier.clone(), order)) {
                order = 3000.0;
            }
            while taken.contains(&(tier.clone(), order)) {
                order += 1.0;
            }
            if order.is_finite() {
                manifest["spec"]["order"] = json!(order);
            }
            taken.push((tier, order));
        } else if text_starts_with(&manifest["apiVersion"], &["policy.networking.k8s.io/"]) {
            let is_baseline_admin = manifest["kind"] == "BaselineAdminNetworkPolicy";
            let tier =
                if is_baseline_admin { "Baseline" } else { manifest["spec"]["tier"].as_str().unwrap_or("Admin") };
            let tier = tier.to_owned();
            if tier == "Baseline" {
                // Nobody says what comes first if there are both kinds.
                let is_another_kind = baseline.is_some_and(|kind| kind != is_baseline_admin);
                if is_another_kind || (is_baseline_admin && baseline.is_some()) {
                    continue;
                }
                baseline = Some(is_baseline_admin);
            }
            if is_baseline_admin {
                name = "default".to_owned();
            } else {
                let mut priority = manifest["spec"]["priority"].as_i64().unwrap();
                while priorities.contains(&(tier.clone(), priority)) {
                    priority = (priority + 1) % 1001;
                }
                manifest["spec"]["priority"] = json!(priority);
                priorities.push((tier, priority));
            }
        }
        manifest["metadata"]["name"] = json!(name);
        kept.push(manifest);
    }
    world.manifests = kept;
    world
}

fn text_starts_with(value: &Value, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| value.as_str().is_some_and(|text| text.starts_with(prefix)))
}

/// The tiers of Calico among the manifests: the first of each name, with orders that differ, and one at most without.
fn tidy_tiers(manifests: &[Value]) -> Vec<Value> {
    let mut tiers: Vec<Value> = Vec::new();
    for tier in manifests {
        let is_tier = is_kind(tier, "projectcalico.org", "Tier") || is_kind(tier, "crd.projectcalico.org", "Tier");
        if !is_tier || tiers.iter().any(|known| known["metadata"]["name"] == tier["metadata"]["name"]) {
            continue;
        }
        let mut tier = tier.clone();
        let is_taken = |tier: &Value| tiers.iter().any(|known| known["spec"]["order"] == tier["spec"]["order"]);
        while is_taken(&tier) {
            tier["spec"]["order"] = json!(tier["spec"]["order"].as_u64().unwrap_or(3_000_000) + 1);
        }
        tiers.push(tier);
    }
    tiers
}

// ------------------------------------------------------------------------------------------------------------------
// flows

/// The ends that flows in a world may have: its pods, and some addresses that no pod has.
pub(crate) fn ends(world: &World) -> Vec<End<'_>> {
    let outside = OUTSIDE.iter().map(|address| End::Outside(IpAddr::from(*address)));
    world.pods.iter().map(End::Pod).chain(outside).collect()
}

/// A choice of a flow, to be made once there is a world to choose from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    from: Index,
    to: Index,
    protocol: &'static str,
    port: u16,
}

impl Pick {
    /// The flow that it stands for in a world; one of its ends is a pod.
    pub(crate) fn flow(self, world: &World) -> Flow<'_> {
        let ends = ends(world);
        let from = *self.from.get(&ends);
        // Between two addresses outside there is nothing to decide on.
        let to = if from.pod().is_some() { *self.to.get(&ends) } else { End::Pod(self.to.get(&world.pods)) };
        Flow { from, to, protocol: self.protocol, port: self.port }
    }
}

/// A flow between two ends of a world that is not known yet.
pub(crate) fn flow() -> impl Strategy<Value = Pick> {
    let protocol = prop_oneof![6 => Just("TCP"), 3 => Just("UDP"), 2 => Just("SCTP"), 1 => Just("ICMP")];
    (any::<Index>(), any::<Index>(), protocol, one_of(&FLOW_PORTS)).prop_map(|(from, to, protocol, port)| Pick {
        from,
        to,
        protocol,
        port,
    })
}

/// All flows of a world that there are to tell apart, but for those between two addresses outside.
pub(crate) fn flows(world: &World) -> Vec<Flow<'_>> {
    let ends = ends(world);
    let mut flows = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| from.pod().is_some() || to.pod().is_some()) {
            for protocol in PROTOCOLS {
                flows.extend(FLOW_PORTS.map(|port| Flow { from: *from, to: *to, protocol, port }));
            }
            flows.push(Flow { from: *from, to: *to, protocol: "ICMP", port: 0 });
        }
    }
    flows
}
