//! `policy.networking.k8s.io`: ClusterNetworkPolicy v1alpha2, AdminNetworkPolicy and BaselineAdminNetworkPolicy
//! v1alpha1, by the comments on the types of the Network Policy API ("ClusterNetworkPolicySpec" and what it is made
//! of).

use serde_json::{Value, json};

use super::kubernetes::label_selector_matches;
use super::{
    ADMIN_TIER, Action, BASELINE_TIER, Direction, End, Policy, Question, Rule, is_kind, is_within, items, text,
};

const GROUP: &str = "policy.networking.k8s.io";

/// The manifest, if it is a policy of the group and selects the subject of the question.
pub(crate) fn policy(manifest: &Value, question: &Question<'_>) -> Option<Policy> {
    let (tier, order) = tier_and_priority(manifest)?;
    if !selects(manifest, question) {
        return None;
    }
    Some(Policy {
        tier: tier.to_owned(),
        order,
        name: super::name(manifest).to_owned(),
        // "CNPs with no ingress rules do not affect ingress traffic", and what no rule matches is left to the next
        // tier: none of these policies isolates what it selects.
        isolates: false,
        rules: rules(manifest, question),
    })
}

/// ClusterNetworkPolicySpec.tier: "Policy tiers are evaluated in the following order: Admin tier, NetworkPolicy tier,
/// Baseline tier." Priority: "a value from 0 to 1000 indicating the precedence of the policy within its tier. Policies
/// with lower priority values have higher precedence".
///
/// A BaselineAdminNetworkPolicy is the only one of its kind and has no priority; beside policies that do, it comes
/// last.
fn tier_and_priority(manifest: &Value) -> Option<(&'static str, f64)> {
    let priority = || manifest["spec"]["priority"].as_f64().unwrap();
    if is_kind(manifest, GROUP, "ClusterNetworkPolicy") {
        match text(&manifest["spec"]["tier"]) {
            "Admin" => Some((ADMIN_TIER, priority())),
            "Baseline" => Some((BASELINE_TIER, priority())),
            tier => panic!("{tier} is no tier"),
        }
    } else if is_kind(manifest, GROUP, "AdminNetworkPolicy") {
        Some((ADMIN_TIER, priority()))
    } else if is_kind(manifest, GROUP, "BaselineAdminNetworkPolicy") {
        Some((BASELINE_TIER, f64::INFINITY))
    } else {
        None
    }
}

/// ClusterNetworkPolicySubject: "defines what resources the policy applies to. Exactly one field must be set."
fn selects(manifest: &Value, question: &Question<'_>) -> bool {
    let subject = &manifest["spec"]["subject"];
    is_in_namespaces_or_pods(subject, End::Pod(question.subject), question)
}

/// ClusterNetworkPolicySubject.namespaces: "is used to select pods via namespace selectors"; pods: "is used to select
/// pods via namespace AND pod selectors".
///
/// NamespacedPod.namespaceSelector: "follows standard label selector semantics; if empty, it selects all Namespaces".
/// As it is no pointer, a field that is not there is an empty one.
fn is_in_namespaces_or_pods(selectors: &Value, end: End<'_>, question: &Question<'_>) -> bool {
    let End::Pod(pod) = end else {
        return false;
    };
    let namespace_labels = &question.world.namespaces[&pod.namespace];
    if selectors["namespaces"].is_object() {
        return label_selector_matches(&selectors["namespaces"], namespace_labels);
    }
    if selectors["pods"].is_object() {
        let pods = &selectors["pods"];
        let all_namespaces = json!({});
        let namespace_selector =
            if pods["namespaceSelector"].is_null() { &all_namespaces } else { &pods["namespaceSelector"] };
        return label_selector_matches(namespace_selector, namespace_labels)
            && label_selector_matches(&pods["podSelector"], &pod.labels);
    }
    false
}

/// ClusterNetworkPolicySpec.ingress and .egress: "The relative precedence of ingress rules within a single CNP object
/// (all of which share the priority) will be determined by the order in which the rule is written."
fn rules(manifest: &Value, question: &Question<'_>) -> Vec<Rule> {
    let (rules, peers) = match question.direction {
        Direction::Ingress => (&manifest["spec"]["ingress"], "from"),
        Direction::Egress => (&manifest["spec"]["egress"], "to"),
    };
    items(rules).iter().map(|rule| answer_of(rule, &rule[peers], question)).collect()
}

/// ClusterNetworkPolicyIngressRule.from: "If any element matches the source of incoming traffic then the specified
/// action is applied." ClusterNetworkPolicyIngressPeer: "If an implementation sees no fields are set [...] it should
/// fail closed. For Accept rules, fail closed means: treat the rule as matching no traffic. For Deny and Pass rules,
/// fail closed means: treat the rule as a Deny all rule."
fn answer_of(rule: &Value, peers: &Value, question: &Question<'_>) -> Rule {
    let action = action(rule);
    let has_peer_without_known_field = items(peers).iter().any(|peer| {
        ["namespaces", "pods", "networks", "nodes", "domainNames"].iter().all(|field| peer[*field].is_null())
    });
    if has_peer_without_known_field {
        return match action {
            Action::Allow => Rule { action: Action::Allow, matches: false },
            _ => Rule { action: Action::Deny, matches: true },
        };
    }
    Rule {
        action,
        matches: items(peers).iter().any(|peer| peer_matches(peer, question)) && protocols_match(rule, question),
    }
}

/// ClusterNetworkPolicyRuleAction: Accept, Deny and Pass; AdminNetworkPolicyRuleAction: Allow, Deny and Pass.
fn action(rule: &Value) -> Action {
    match text(&rule["action"]) {
        "Accept" | "Allow" => Action::Allow,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        action => panic!("{action} is no action"),
    }
}

/// ClusterNetworkPolicyEgressPeer, of which that of ingress is a part.
///
/// - namespaces: "a way to select all pods within a set of Namespaces"; pods: "a set of pods in a set of namespaces".
/// - networks: "a way to select peers via CIDR blocks. This is intended for representing entities that live outside the
///   cluster, [...] but note that cluster-internal traffic will be checked against the rule as well."
/// - nodes: "selects the nodeIPs": no end of a flow here is a node. domainNames: no address here has a name.
fn peer_matches(peer: &Value, question: &Question<'_>) -> bool {
    is_in_namespaces_or_pods(peer, question.other, question)
        || items(&peer["networks"]).iter().any(|network| is_within(question.other.address(), text(network)))
}

/// ClusterNetworkPolicyIngressRule.protocols: "allows for more fine-grain matching of traffic on protocol-specific
/// attributes such as the port. If unspecified, protocol-specific attributes will not be used to match traffic."
/// AdminNetworkPolicyIngressRule.ports: "If Ports is not set then the rule does not filter traffic via port."
fn protocols_match(rule: &Value, question: &Question<'_>) -> bool {
    if rule["protocols"].is_null() && rule["ports"].is_null() {
        return true;
    }
    items(&rule["protocols"]).iter().any(|protocol| protocol_matches(protocol, question))
        || items(&rule["ports"]).iter().any(|port| v1alpha1_port_matches(port, question))
}

/// ClusterNetworkPolicyProtocol: "Exactly one field must be set." destinationNamedPort: "selects a destination port on
/// a pod based on the ContainerPort name"; the protocol is that of the container port.
fn protocol_matches(protocol: &Value, question: &Question<'_>) -> bool {
    if let Some(name) = protocol["destinationNamedPort"].as_str() {
        return question.goes_to_port_named(name);
    }
    [("TCP", "tcp"), ("UDP", "udp"), ("SCTP", "sctp")].iter().any(|(name, field)| {
        question.protocol == *name
            && protocol[*field].is_object()
            && destination_port_matches(&protocol[*field]["destinationPort"], question.port)
    })
}

/// Port: "matches on port number. You must specify either Port or Range." PortRange: "an inclusive range of ports".
fn destination_port_matches(port: &Value, number: u16) -> bool {
    if port.is_null() {
        return true;
    }
    let number = u64::from(number);
    if let Some(only) = port["number"].as_u64() {
        return number == only;
    }
    port["range"]["start"].as_u64().unwrap() <= number && number <= port["range"]["end"].as_u64().unwrap()
}

/// AdminNetworkPolicyPort: "describes how to select network ports on pod(s). Exactly one field must be set." The
/// protocol of portNumber and of portRange: "If not specified, this field defaults to TCP."
fn v1alpha1_port_matches(port: &Value, question: &Question<'_>) -> bool {
    let number = u64::from(question.port);
    if let Some(name) = port["namedPort"].as_str() {
        return question.goes_to_port_named(name);
    }
    if port["portNumber"].is_object() {
        let only = &port["portNumber"];
        return only["protocol"].as_str().unwrap_or("TCP") == question.protocol
            && only["port"].as_u64() == Some(number);
    }
    let range = &port["portRange"];
    range["protocol"].as_str().unwrap_or("TCP") == question.protocol
        && range["start"].as_u64().unwrap() <= number
        && number <= range["end"].as_u64().unwrap()
}
