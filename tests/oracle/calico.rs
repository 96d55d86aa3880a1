//! `projectcalico.org/v3` and `crd.projectcalico.org/v1`: NetworkPolicy, GlobalNetworkPolicy and Tier, by the reference
//! of Calico (resources "Network policy", "Global network policy" and "Tier") and the comments on its types.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Action, DEFAULT_TIER, Direction, End, Pod, Policy, Question, Rule, Tier, World, is_kind, is_within, items,
};
use super::{name, namespace, text};

/// The object is of the kind, in one of the two groups that Calico has for the same kinds.
fn is_calico(manifest: &Value, kind: &str) -> bool {
    is_kind(manifest, "projectcalico.org", kind) || is_kind(manifest, "crd.projectcalico.org", kind)
}

/// A policy that is enforced. Staged policies (StagedNetworkPolicy, StagedGlobalNetworkPolicy and
/// StagedKubernetesNetworkPolicy) "are not enforced".
fn is_policy(manifest: &Value) -> bool {
    is_calico(manifest, "NetworkPolicy") || is_calico(manifest, "GlobalNetworkPolicy")
}

/// Tier.
///
/// - order: "Tiers with higher order are applied after those with lower order. If the order is omitted, it may be
///   considered to be infinite - i.e. the tier will be applied last." Calico itself fills in that of the default tier
///   (`DefaultTierFields` in `libcalico-go/lib/resources/tier.go`), and what it does counts.
/// - defaultAction: "specifies the action applied to traffic that matches a policy in the tier but does not match any
///   rule within that policy. Default: Deny".
pub(crate) fn tier(manifest: &Value) -> Option<Tier> {
    is_calico(manifest, "Tier").then(|| Tier {
        name: name(manifest).to_owned(),
        order: manifest["spec"]["order"].as_f64().unwrap_or(1_000_000.0),
        denies_by_default: manifest["spec"]["defaultAction"] != "Pass",
    })
}

/// NetworkPolicySpec.tier: "The name of the tier that this policy belongs to. If this is omitted, the default tier
/// (name is default) is assumed."
pub(crate) fn tier_of_policy(manifest: &Value) -> Option<String> {
    is_policy(manifest).then(|| manifest["spec"]["tier"].as_str().unwrap_or(DEFAULT_TIER).to_owned())
}

/// The manifest, if it is a policy of Calico and selects the subject of the question.
///
/// NetworkPolicySpec.order: "Policies with higher order are applied after those with lower order within the same tier.
/// If the order is omitted, it may be considered to be infinite - i.e. the policy will be applied last."
pub(crate) fn policy(manifest: &Value, question: &Question<'_>) -> Option<Policy> {
    let tier = tier_of_policy(manifest)?;
    if !selects(manifest, question) {
        return None;
    }
    let applies = applies(&manifest["spec"], question.direction);
    Some(Policy {
        tier,
        order: manifest["spec"]["order"].as_f64().unwrap_or(f64::INFINITY),
        name: name(manifest).to_owned(),
        isolates: applies,
        rules: if applies { rules(manifest, question) } else { Vec::new() },
    })
}

/// NetworkPolicySpec.selector: "an expression used to pick out the endpoints that the policy should be applied to";
/// "all() or the empty selector -> matches all endpoints". A NetworkPolicy applies to the endpoints of its own
/// namespace.
///
/// serviceAccountSelector: "used to select a pod based on service accounts". GlobalNetworkPolicySpec.namespaceSelector:
/// "used to select a pod based on namespaces".
fn selects(manifest: &Value, question: &Question<'_>) -> bool {
    let (spec, pod, world) = (&manifest["spec"], question.subject, question.world);
    let holds = |field: &str, labels: &BTreeMap<String, String>| match spec[field].as_str() {
        None | Some("") => true,
        Some(selector) => selector_matches(selector, labels),
    };
    let in_namespace = !is_calico(manifest, "NetworkPolicy") || namespace(manifest) == pod.namespace;
    in_namespace
        && holds("selector", &endpoint_labels(pod))
        && holds("serviceAccountSelector", &service_account_labels(pod))
        && holds("namespaceSelector", &namespace_labels(pod, world))
}

/// NetworkPolicySpec.types: "When not explicitly specified (and so the value on creation is empty or nil), Calico
/// defaults Types according to what Ingress and Egress are present in the policy. The default is:
///
/// - [Ingress], if there are no Egress rules (including the case where there are also no Ingress rules)
/// - [Egress], if there are Egress rules but no Ingress rules
/// - [Ingress, Egress], if there are both Ingress and Egress rules."
fn applies(spec: &Value, direction: Direction) -> bool {
    let types = items(&spec["types"]);
    let has_ingress = !items(&spec["ingress"]).is_empty();
    let has_egress = !items(&spec["egress"]).is_empty();
    match direction {
        Direction::Ingress if types.is_empty() => has_ingress || !has_egress,
        Direction::Ingress => types.iter().any(|kind| kind == "Ingress"),
        Direction::Egress if types.is_empty() => has_egress,
        Direction::Egress => types.iter().any(|kind| kind == "Egress"),
    }
}

/// NetworkPolicySpec.ingress and .egress: "The ordered set of rules. Each rule contains a set of packet match criteria
/// and a corresponding action to apply."
fn rules(manifest: &Value, question: &Question<'_>) -> Vec<Rule> {
    let own_namespace = is_calico(manifest, "NetworkPolicy").then(|| namespace(manifest));
    let rules = match question.direction {
        Direction::Ingress => &manifest["spec"]["ingress"],
        Direction::Egress => &manifest["spec"]["egress"],
    };
    items(rules)
        .iter()
        .map(|rule| Rule { action: action(rule), matches: rule_matches(rule, own_namespace, question) })
        .collect()
}

/// Action: Allow, Deny, Log (which goes on with the next rule) and Pass (which goes on with the next tier).
fn action(rule: &Value) -> Action {
    match text(&rule["action"]) {
        "Allow" => Action::Allow,
        "Deny" => Action::Deny,
        "Log" => Action::Log,
        "Pass" => Action::Pass,
        action => panic!("{action} is no action"),
    }
}

/// Rule: "Each positive match criteria has a negated version, prefixed with Not. All the match criteria within a rule
/// must be satisfied for a packet to match. A single rule can contain the positive and negative version of a match and
/// both must be satisfied for the rule to match."
///
/// - ipVersion: "restricts the rule to only match a specific IP version".
/// - protocol: "restricts the rule to only apply to traffic of a specific IP protocol"; notProtocol: its negation.
/// - icmp: "restricts the rule to apply to a specific type and code of ICMP traffic"; flows here have neither.
/// - source and destination: "the match criteria that apply to source entity" and "to destination entity".
fn rule_matches(rule: &Value, own_namespace: Option<&str>, question: &Question<'_>) -> bool {
    for field in ["icmp", "notICMP", "http"] {
        assert!(rule[field].is_null(), "{field} is about what flows do not have here");
    }
    let ip_version = if question.other.address().is_ipv4() { 4 } else { 6 };
    let protocol = protocol_number(&question.protocol.into());
    (rule["ipVersion"].is_null() || rule["ipVersion"] == ip_version)
        && (rule["protocol"].is_null() || protocol_number(&rule["protocol"]) == protocol)
        && (rule["notProtocol"].is_null() || protocol_number(&rule["notProtocol"]) != protocol)
        && entity_matches(&rule["source"], question.source(), own_namespace, question)
        && source_has_no_ports(&rule["source"])
        && entity_matches(&rule["destination"], question.destination(), own_namespace, question)
        && destination_ports_match(&rule["destination"], question)
}

/// Protocol: "Must be one of these string values: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or an integer in the range
/// 1-255." The numbers are those of IANA.
fn protocol_number(protocol: &Value) -> u64 {
    match protocol {
        Value::Number(number) => number.as_u64().unwrap(),
        name => match text(name).to_ascii_lowercase().as_str() {
            "icmp" => 1,
            "tcp" => 6,
            "udp" => 17,
            "icmpv6" => 58,
            "sctp" => 132,
            "udplite" => 136,
            name => panic!("{name} is no protocol"),
        },
    }
}

/// EntityRule.
///
/// - nets: "restricts the rule to only apply to traffic that originates from (or terminates at) IP addresses in any of
///   the given subnets"; notNets: "the negated version of the Nets field".
/// - selector: "Only traffic that originates from (terminates at) endpoints matching the selector will be matched."
/// - notSelector: "matches packets that are not from Calico-controlled endpoints that do have the label".
/// - namespaceSelector: "Only traffic that originates from (or terminates at) endpoints within the selected namespaces
///   will be matched. When both NamespaceSelector and another selector are defined on the same rule, then only workload
///   endpoints that are matched by both selectors will be selected by the rule. For NetworkPolicy, an empty
///   NamespaceSelector implies that the Selector is limited to selecting only workload endpoints in the same namespace
///   as the NetworkPolicy. For NetworkPolicy, global() NamespaceSelector implies that the Selector is limited to
///   selecting only GlobalNetworkSet or HostEndpoint. For GlobalNetworkPolicy, an empty NamespaceSelector implies the
///   Selector applies to workload endpoints across all namespaces."
/// - serviceAccounts: "restricts the rule to only apply to traffic that originates from (or terminates at) a pod
///   running as a matching service account". names: "a service account whose name is in the list"; selector: "a service
///   account that matches the given label selector. If both Names and Selector are specified then they are AND'ed."
///
/// In a NetworkPolicy the limit to its own namespace (or to the selected ones) sets in as soon as there is any
/// selector, notSelector included (GetEntityRuleSelector: "endpoints for a namespaced policy being limited to the
/// namespace (or to selected namespaces) as soon as _any_ of the selector fields are used, including NotSelector").
fn entity_matches(entity: &Value, end: End<'_>, own_namespace: Option<&str>, question: &Question<'_>) -> bool {
    assert!(entity["services"].is_null(), "there are no services here");
    let given = |field: &str| entity[field].as_str().filter(|selector| !selector.is_empty());
    let (selector, not_selector) = (given("selector"), given("notSelector"));
    let namespace_selector = given("namespaceSelector");
    // `serviceAccounts: {}` asks for nothing.
    let accounts = Some(&entity["serviceAccounts"]).filter(|accounts| {
        !items(&accounts["names"]).is_empty() || accounts["selector"].as_str().is_some_and(|one| !one.is_empty())
    });

    let nets = items(&entity["nets"]);
    if !nets.is_empty() && !nets.iter().any(|net| is_within(end.address(), text(net))) {
        return false;
    }
    if items(&entity["notNets"]).iter().any(|net| is_within(end.address(), text(net))) {
        return false;
    }
    if let (Some(not_selector), End::Pod(pod)) = (not_selector, end)
        && selector_matches(not_selector, &endpoint_labels(pod))
    {
        return false;
    }

    let is_limited_to_own_namespace = own_namespace.is_some()
        && namespace_selector.is_none()
        && (selector.is_some() || not_selector.is_some() || accounts.is_some());
    let is_limited_to_pods =
        is_limited_to_own_namespace || selector.is_some() || namespace_selector.is_some() || accounts.is_some();
    if !is_limited_to_pods {
        return true;
    }
    let End::Pod(pod) = end else {
        return false;
    };
    (!is_limited_to_own_namespace || own_namespace == Some(pod.namespace.as_str()))
        && namespace_selector.is_none_or(|selector| selector_matches(selector, &namespace_labels(pod, question.world)))
        && selector.is_none_or(|selector| selector_matches(selector, &endpoint_labels(pod)))
        && accounts.is_none_or(|accounts| is_run_by(pod, accounts))
}

/// ServiceAccountMatch.
fn is_run_by(pod: &Pod, accounts: &Value) -> bool {
    let names = items(&accounts["names"]);
    let selector = accounts["selector"].as_str().unwrap_or("");
    (names.is_empty() || names.iter().any(|name| *name == *pod.service_account))
        && (selector.is_empty() || selector_matches(selector, &service_account_labels(pod)))
}

/// EntityRule.ports of the source: flows here have no source port.
fn source_has_no_ports(source: &Value) -> bool {
    assert!(source["ports"].is_null() && source["notPorts"].is_null(), "flows have no source port here");
    true
}

/// EntityRule.ports of the destination: "restricts the rule to only apply to traffic that has a source (destination)
/// port that matches one of these ranges/values. This value is a list of integers or strings that represent ranges of
/// ports." notPorts: "the negated version of the Ports field."
fn destination_ports_match(destination: &Value, question: &Question<'_>) -> bool {
    let ports = items(&destination["ports"]);
    (ports.is_empty() || ports.iter().any(|port| port_matches(port, question)))
        && !items(&destination["notPorts"]).iter().any(|port| port_matches(port, question))
}

/// Ports: "80" or 80, "a:b" for a range that includes both, or the name of a port of the endpoint.
fn port_matches(port: &Value, question: &Question<'_>) -> bool {
    assert!(question.protocol != "ICMP", "a rule with ports is one with a protocol that has ports");
    if let Some(number) = port.as_u64() {
        return number == u64::from(question.port);
    }
    let port = text(port);
    if let Ok(number) = port.parse::<u16>() {
        return number == question.port;
    }
    if let Some((first, last)) = port.split_once(':') {
        return first.parse::<u16>().unwrap() <= question.port && question.port <= last.parse::<u16>().unwrap();
    }
    question.goes_to_port_named(port)
}

/// The labels of a pod as Calico sees them: its own, and those that "Calico automatically adds".
fn endpoint_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.labels.clone();
    labels.insert("projectcalico.org/namespace".to_owned(), pod.namespace.clone());
    labels.insert("projectcalico.org/orchestrator".to_owned(), "k8s".to_owned());
    labels.insert("projectcalico.org/serviceaccount".to_owned(), pod.service_account.clone());
    labels
}

/// The labels of the namespace of a pod: those of the namespace and `projectcalico.org/name`.
fn namespace_labels(pod: &Pod, world: &World) -> BTreeMap<String, String> {
    let mut labels = world.namespaces[&pod.namespace].clone();
    labels.insert("projectcalico.org/name".to_owned(), pod.namespace.clone());
    labels
}

/// The labels of the service account of a pod; service accounts have no labels of their own here.
fn service_account_labels(pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([("projectcalico.org/name".to_owned(), pod.service_account.clone())])
}

/// "Selectors": whether an expression holds of an endpoint (or of its namespace, or of its service account) that has
/// these labels. There are no host endpoints and no network sets here, of which alone `global()` holds.
pub(crate) fn selector_matches(selector: &str, labels: &BTreeMap<String, String>) -> bool {
    let mut reader = Reader { rest: selector, labels };
    reader.skip_space();
    if reader.rest.is_empty() {
        return true;
    }
    let holds = reader.either();
    assert!(reader.rest.is_empty(), "{selector} goes on with {}", reader.rest);
    holds
}

/// Reads a selector from the left to the right, and says of every part of it whether it holds.
struct Reader<'a> {
    rest: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Takes the symbol if it comes next, and the space after it.
    fn takes(&mut self, symbol: &str) -> bool {
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                self.skip_space();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) {
        assert!(self.takes(symbol), "expected {symbol} at {}", self.rest);
    }

    /// `a || b || ..`
    fn either(&mut self) -> bool {
        let mut holds = self.both();
        while self.takes("||") {
            let right = self.both();
            holds = holds || right;
        }
        holds
    }

    /// `a && b && ..`, which binds more tightly than `||`.
    fn both(&mut self) -> bool {
        let mut holds = self.operation();
        while self.takes("&&") {
            let right = self.operation();
            holds = holds && right;
        }
        holds
    }

    /// `! a`, `( a )`, `all()`, `global()`, `has(label)`, or a comparison of a label.
    fn operation(&mut self) -> bool {
        if self.takes("!") {
            return !self.operation();
        }
        if self.takes("(") {
            let holds = self.either();
            self.expect(")");
            return holds;
        }
        if self.takes("all(") {
            self.expect(")");
            return true;
        }
        if self.takes("global(") {
            self.expect(")");
            return false;
        }
        if self.takes("has(") {
            let label = self.identifier();
            self.expect(")");
            return self.labels.contains_key(label);
        }
        let label = self.identifier();
        let value = self.labels.get(label);
        self.comparison(value)
    }

    /// What is said of the value of a label. All that is negative holds also where there is no such label.
    fn comparison(&mut self, value: Option<&String>) -> bool {
        if self.takes("==") {
            let literal = self.literal();
            value.is_some_and(|value| value == literal)
        } else if self.takes("!=") {
            let literal = self.literal();
            value.is_none_or(|value| value != literal)
        } else if self.takes("contains") {
            let literal = self.literal();
            value.is_some_and(|value| value.contains(literal))
        } else if self.takes("starts") {
            self.expect("with");
            let literal = self.literal();
            value.is_some_and(|value| value.starts_with(literal))
        } else if self.takes("ends") {
            self.expect("with");
            let literal = self.literal();
            value.is_some_and(|value| value.ends_with(literal))
        } else if self.takes("not") {
            self.expect("in");
            let set = self.set();
            value.is_none_or(|value| !set.contains(&value.as_str()))
        } else if self.takes("in") {
            let set = self.set();
            value.is_some_and(|value| set.contains(&value.as_str()))
        } else {
            panic!("expected an operator at {}", self.rest)
        }
    }

    /// "Label names are allowed to contain alphanumerics, -, _ and /", and dots.
    fn identifier(&mut self) -> &'a str {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
        let end = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        assert!(end > 0, "expected a label at {}", self.rest);
        let (identifier, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        identifier
    }

    /// "String literals are more permissive but they do not support escape characters."
    fn literal(&mut self) -> &'a str {
        let quote = self.rest.chars().next().filter(|letter| "\"'".contains(*letter));
        let quote = quote.unwrap_or_else(|| panic!("expected a string at {}", self.rest));
        let (literal, rest) = self.rest[1..].split_once(quote).expect("a string has an end");
        self.rest = rest;
        self.skip_space();
        literal
    }

    /// `{ "a", "b", .. }`
    fn set(&mut self) -> Vec<&'a str> {
        let mut set = Vec::new();
        self.expect("{");
        while !self.takes("}") {
            set.push(self.literal());
            self.takes(",");
        }
        set
    }
}
