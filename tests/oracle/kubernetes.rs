//! `networking.k8s.io/v1` NetworkPolicy, by the API reference of Kubernetes ("NetworkPolicy v1 networking.k8s.io").

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Action, DEFAULT_TIER, Direction, End, Policy, Question, Rule, is_kind, is_within, items, namespace, text};

/// The order that NetworkPolicy has in the default tier.
pub(crate) const ORDER: f64 = 1000.0;

/// The manifest, if it is a NetworkPolicy and selects the subject of the question.
pub(crate) fn policy(manifest: &Value, question: &Question<'_>) -> Option<Policy> {
    if !is_kind(manifest, "networking.k8s.io", "NetworkPolicy") || !selects(manifest, question) {
        return None;
    }
    let isolates = isolates(manifest, question.direction);
    Some(Policy {
        tier: DEFAULT_TIER.to_owned(),
        order: ORDER,
        name: super::name(manifest).to_owned(),
        isolates,
        // A direction that the policy does not affect is one in which its rules are not there.
        rules: if isolates { rules(manifest, question) } else { Vec::new() },
    })
}

/// NetworkPolicySpec.podSelector: "selects the pods to which this NetworkPolicy object applies. The array of rules is
/// applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace."
fn selects(manifest: &Value, question: &Question<'_>) -> bool {
    question.subject.namespace == namespace(manifest)
        && label_selector_matches(&manifest["spec"]["podSelector"], &question.subject.labels)
}

/// NetworkPolicySpec.policyTypes: "If this field is not specified, it will default based on the existence of ingress or
/// egress rules; policies that contain an egress section are assumed to affect egress, and all policies (whether or not
/// they contain an ingress section) are assumed to affect ingress."
///
/// The defaulting of the API server takes an egress section without a rule for none, and an empty list of types for a
/// field that is not specified.
fn isolates(manifest: &Value, direction: Direction) -> bool {
    let types = items(&manifest["spec"]["policyTypes"]);
    let egress_rules = items(&manifest["spec"]["egress"]);
    match direction {
        Direction::Ingress if types.is_empty() => true,
        Direction::Ingress => types.iter().any(|kind| kind == "Ingress"),
        Direction::Egress if types.is_empty() => !egress_rules.is_empty(),
        Direction::Egress => types.iter().any(|kind| kind == "Egress"),
    }
}

/// NetworkPolicySpec.ingress and .egress: "If this field is empty then this NetworkPolicy does not allow any traffic".
/// A rule: traffic "must match both ports and from", or "both ports and to".
fn rules(manifest: &Value, question: &Question<'_>) -> Vec<Rule> {
    let (rules, peers) = match question.direction {
        Direction::Ingress => (&manifest["spec"]["ingress"], "from"),
        Direction::Egress => (&manifest["spec"]["egress"], "to"),
    };
    items(rules)
        .iter()
        .map(|rule| Rule {
            action: Action::Allow,
            matches: ports_match(&rule["ports"], question) && peers_match(&rule[peers], namespace(manifest), question),
        })
        .collect()
}

/// NetworkPolicyIngressRule.ports: "Each item in this list is combined using a logical OR. If this field is empty or
/// missing, this rule matches all ports (traffic not restricted by port)."
fn ports_match(ports: &Value, question: &Question<'_>) -> bool {
    let ports = items(ports);
    ports.is_empty() || ports.iter().any(|port| port_matches(port, question))
}

/// NetworkPolicyPort.
///
/// - protocol: "represents the protocol (TCP, UDP, or SCTP) which traffic must match. If not specified, this field
///   defaults to TCP."
/// - port: "the port on the given protocol. This can either be a numerical or named port on a pod. If this field is not
///   provided, this matches all port names and numbers. If present, only traffic on the specified protocol AND port
///   will be matched."
/// - endPort: "if set, indicates that the range of ports from port to endPort, inclusive, should be allowed by the
///   policy. This field cannot be defined if the port field is not defined or if the port field is defined as a named
///   (string) port."
fn port_matches(port: &Value, question: &Question<'_>) -> bool {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    if protocol != question.protocol {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(name) => question.goes_to_port_named(name),
        number => {
            let first = number.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            first <= u64::from(question.port) && u64::from(question.port) <= last
        }
    }
}

/// NetworkPolicyIngressRule.from: "Items in this list are combined using a logical OR operation. If this field is empty
/// or missing, this rule matches all sources (traffic not restricted by source)."
fn peers_match(peers: &Value, policy_namespace: &str, question: &Question<'_>) -> bool {
    let peers = items(peers);
    peers.is_empty() || peers.iter().any(|peer| peer_matches(peer, policy_namespace, question))
}

/// NetworkPolicyPeer.
///
/// - ipBlock: "defines policy on a particular IPBlock. If this field is set then neither of the other fields can be."
/// - namespaceSelector: "selects namespaces using cluster-scoped labels. This field follows standard label selector
///   semantics; if present but empty, it selects all namespaces. If podSelector is also set, then the NetworkPolicyPeer
///   as a whole selects the pods matching podSelector in the namespaces selected by namespaceSelector. Otherwise it
///   selects all pods in the namespaces selected by namespaceSelector."
/// - podSelector: "This field follows standard label selector semantics; if present but empty, it selects all pods. If
///   namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching podSelector in the
///   namespaces selected by NamespaceSelector. Otherwise it selects the pods matching podSelector in the policy's own
///   namespace."
fn peer_matches(peer: &Value, policy_namespace: &str, question: &Question<'_>) -> bool {
    if peer["ipBlock"].is_object() {
        return ip_block_matches(&peer["ipBlock"], question.other);
    }
    let End::Pod(pod) = question.other else {
        return false;
    };
    let in_namespace = match &peer["namespaceSelector"] {
        Value::Null => pod.namespace == policy_namespace,
        selector => label_selector_matches(selector, &question.world.namespaces[&pod.namespace]),
    };
    in_namespace
        && match &peer["podSelector"] {
            Value::Null => !peer["namespaceSelector"].is_null(),
            selector => label_selector_matches(selector, &pod.labels),
        }
}

/// IPBlock: "describes a particular CIDR that is allowed to the pods matched by a NetworkPolicySpec's podSelector. The
/// except entry describes CIDRs that should not be included within this rule."
///
/// It is about the address in the packet, whoever has it; a pod's is one, too.
fn ip_block_matches(block: &Value, other: End<'_>) -> bool {
    is_within(other.address(), text(&block["cidr"]))
        && !items(&block["except"]).iter().any(|except| is_within(other.address(), text(except)))
}

/// LabelSelector ("meta/v1"): "matchLabels and matchExpressions are ANDed. An empty label selector matches all objects.
/// A null label selector matches no objects."
pub(crate) fn label_selector_matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    if selector.is_null() {
        return false;
    }
    let match_labels = selector["matchLabels"]
        .as_object()
        .is_none_or(|pairs| pairs.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()));
    match_labels
        && items(&selector["matchExpressions"])
            .iter()
            .all(|requirement| requirement_matches(requirement, labels.get(text(&requirement["key"]))))
}

/// LabelSelectorRequirement: "relates the key and values. Valid operators are In, NotIn, Exists and DoesNotExist." As a
/// requirement that is negative, NotIn holds also where there is no such label.
pub(crate) fn requirement_matches(requirement: &Value, value: Option<&String>) -> bool {
    let listed = value.is_some_and(|value| items(&requirement["values"]).iter().any(|item| item == value));
    match text(&requirement["operator"]) {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        operator => panic!("{operator} is no operator of a label selector"),
    }
}
