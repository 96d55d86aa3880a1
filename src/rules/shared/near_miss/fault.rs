//! Faults in the ports or peers of a rule that was meant to allow a flow.

use super::super::spelling::{NAMESPACE_KEYS, is_of_cilium, namespace_key, selector_of_namespace};
use super::Target;
use crate::budget::charge;
use crate::model::{
    Block, End, Endpoint, Entity, Fact, Filter, Fix, NAME_LABEL, Namespaces, Numbers, ObjectRef, Operator, Owner, Pods,
    Policy, Port, Ports, Protocol, Requirement, Rule, Selector, Sets, Stage, Surroundings, Who, is_added_to_pods,
    is_link_local,
};
use crate::rules::rule::Case;

/// An alternative setup that the rule allows, such as another DNS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OtherWay {
    /// Pods with these labels on this port.
    Pods {
        /// The namespace.
        namespace: String,
        /// The labels.
        labels: Vec<(String, String)>,
        /// The port.
        port: u16,
    },
    /// An address on each node.
    Address(String),
    /// NodeLocal DNSCache at its usual address, although the rule selects its pods.
    NodeLocal,
}

impl OtherWay {
    /// The change of the rule that the alternative also needs, as the end of a sentence about the configuration. Empty
    /// if it needs none.
    pub(crate) fn change_of_rule(&self) -> String {
        match self {
            Self::Pods { .. } | Self::Address(_) => String::new(),
            Self::NodeLocal => text!(" and allow {NODE_LOCAL}/32 instead of its pods"),
        }
    }
}

/// A fault in a peer or port of a rule.
#[derive(Default)]
pub(super) struct Fault {
    /// The problem, as the end of a sentence about the policy.
    pub(super) problem: String,
    pub(super) cure: String,
    pub(super) other_way: Option<OtherWay>,
    pub(super) fix: Option<Fix>,
}

/// Returns true if a port entry contains exactly the target's port, over any protocol.
pub(super) fn lists_port(ports: &Ports, target: &Target<'_>) -> bool {
    let Ports::Only(ports) = ports else { return false };
    ports.iter().any(|port| match &port.numbers {
        Numbers::Range(first, last) => *first == target.number && *last == target.number,
        Numbers::Named(name) => name.contains(target.word),
        Numbers::All | Numbers::Messages(..) => false,
    })
}

/// Returns true if a rule whose peers include the target is specific to the target.
pub(super) fn is_meant(rule: &Rule, target: &Target<'_>) -> bool {
    lists_port(&rule.ports, target)
        || rule.peers.listed().iter().any(|peer| match &peer.who {
            Who::Pods(pods) => is_like_pods(pods, target),
            _ => false,
        })
}

/// Returns true if a pod selector requires a label value of the target's pods, or selects all pods of the target's
/// namespace.
fn is_like_pods(pods: &Pods, target: &Target<'_>) -> bool {
    let is_like_namespace = || match &pods.namespaces {
        Namespaces::Own(_) => false,
        Namespaces::Matching(selector) => {
            mentions(selector, &|_, value| value == target.namespace || value.contains(target.word))
        }
    };
    match &pods.labels {
        Some(labels) if !labels.is_empty() => is_like_labels(labels, target),
        _ => is_like_namespace(),
    }
}

fn is_like_labels(labels: &Selector, target: &Target<'_>) -> bool {
    mentions(labels, &|key, value| {
        key.contains(target.word) || value.contains(target.word) || target.labels.iter().any(|(_, own)| own == value)
    })
}

/// Returns true if a selector requires a label of this kind.
fn mentions(selector: &Selector, is_wanted: &dyn Fn(&str, &str) -> bool) -> bool {
    charge(1);
    match selector {
        Selector::All(parts) | Selector::Any(parts) => parts.iter().any(|part| mentions(part, is_wanted)),
        Selector::Not(_) => false,
        Selector::Label(Requirement { key, operator: Operator::In(values), .. }) => {
            charge(values.len() / 8);
            values.iter().any(|value| is_wanted(key, value))
        }
        Selector::Label(_) => false,
    }
}

/// The fault in the ports of a rule.
pub(super) fn port_fault(rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let Ports::Only(listed) = &rule.ports else { return None };
    charge(listed.len() / 8);
    let Target { port_of, protocol, number, .. } = target;
    let is_number = |port: &Port| port.known_numbers().is_some_and(|(first, last)| (first..=last).contains(number));
    if let Some(other) = listed.iter().find(|port| is_number(port) && !port.is_for(*protocol)) {
        let own = other.protocol.unwrap_or(Protocol::Tcp);
        return Some(Fault {
            problem: text!("allows port {number} over {own}, but not over {protocol}"),
            cure: text!("add port {number} with `protocol: {protocol}`"),
            // No fix for L7 rules, which are for one protocol; for port ranges, which would be opened as a whole; and
            // for entries other than TCP, because DNS needs TCP too.
            fix: (rule.filter != Some(Filter::Requests)
                && own == Protocol::Tcp
                && other.numbers == Numbers::Range(*number, *number))
            .then(|| Fix::RepeatPort { port: other.path.clone(), protocol: *protocol }),
            ..Fault::default()
        });
    }
    let of_protocol = || listed.iter().filter(|port| port.is_for(*protocol));
    if let Some(named) = of_protocol().find_map(|port| match &port.numbers {
        Numbers::Named(named) => Some(named),
        _ => None,
    }) {
        return Some(Fault {
            problem: text!("uses port name `{named}`, which {port_of} are not known to have"),
            cure: text!("use port number {number}"),
            ..Fault::default()
        });
    }
    let (first, last) = of_protocol().find_map(Port::known_numbers)?;
    let allowed = if first == last { text!("{first}") } else { text!("{first}–{last}") };
    Some(Fault {
        problem: text!("allows {protocol} port {allowed}, but {port_of} listen on {number}"),
        cure: text!("use port {number}"),
        other_way: (first == last && target.is_configured).then(|| OtherWay::Pods {
            namespace: target.namespace.to_owned(),
            labels: target.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            port: first,
        }),
        fix: None,
    })
}

/// The fault of a policy whose rule allows the flow in a later stage than that of `isolating`, which drops the flow.
pub(super) fn stage_fault(policy: &Policy, isolating: &Policy, target: &Target<'_>) -> Fault {
    let (by, place) = (&isolating.object, &target.place);
    let (problem, cure) = match &isolating.stage {
        Stage::Tier(tier) => (
            text!("allows this flow in tier {}, but tier {tier} comes first and drops it", policy.stage.name()),
            text!("allow {place} in tier {tier}, add a Pass rule to {by}, or set `defaultAction: Pass` in tier {tier}"),
        ),
        Stage::Admin | Stage::Policies | Stage::Baseline => (
            text!("allows this flow, but {by} comes first and drops it"),
            text!("allow {place} in {by}, or in another policy for the same pods"),
        ),
    };
    Fault { problem, cure, ..Fault::default() }
}

/// The fault of the peer that is most similar to the target.
pub(super) fn peer_fault(case: &Case<'_>, object: &ObjectRef, rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let faults = rule.peers.listed().iter().filter_map(|peer| {
        let (order, fault) = who_fault(case, object, &peer.who, rule, target)?;
        let may_be_in_set = peer.sets != Sets::None && matches!(peer.who, Who::Pods(_));
        if !may_be_in_set || matches!(target.end, End::Pod(_)) {
            return Some((order, fault));
        }
        let problem =
            text!("allows {}, and no known network set with these labels contains {}", peer.who, target.place);
        Some((order, Fault { problem, ..fault }))
    });
    // A fault of a pod selector is more specific than a fault of an address.
    faults.min_by_key(|(order, _)| *order).map(|(_, fault)| fault)
}

fn who_fault(case: &Case<'_>, object: &ObjectRef, who: &Who, rule: &Rule, target: &Target<'_>) -> Option<(u8, Fault)> {
    charge(1);
    let is_certain = lists_port(&rule.ports, target);
    match who {
        Who::Pods(pods) if is_like_pods(pods, target) || is_certain => {
            let fault = pods_fault(case, object, pods, rule, target)?;
            Some((if is_like_pods(pods, target) { 0 } else { 2 }, fault))
        }
        Who::Addresses(block) if is_certain => Some((1, block_fault(block, target))),
        Who::Entity(entity) if is_certain => {
            let fault = Fault {
                problem: match target.end {
                    End::Entity(_) => text!("allows entity `{}`, which does not include all nodes", entity.name()),
                    _ => text!("allows entity `{}`, which does not include pods", entity.name()),
                },
                cure: text!("allow {}", target.place),
                // A DNS server on the node itself is part of this entity.
                other_way: matches!(entity, Entity::Host | Entity::RemoteNode)
                    .then(|| OtherWay::Address(NODE_LOCAL.to_owned())),
                fix: None,
            };
            Some((1, fault))
        }
        Who::Service(service) if is_certain => {
            let fault = Fault {
                problem: text!("allows {}, which is not known to select {}", service.words, target.name),
                cure: text!("allow {}", target.place),
                ..Fault::default()
            };
            Some((1, fault))
        }
        Who::All(parts) => parts.iter().find_map(|part| match part.means(&target.end, case.view) {
            Some(true) => None,
            _ => who_fault(case, object, part, rule, target),
        }),
        _ => None,
    }
}

/// The usual address of NodeLocal DNSCache.
const NODE_LOCAL: &str = "169.254.20.10";
/// The value of the label of its pods.
const NODE_LOCAL_PODS: &str = "node-local-dns";

/// The fault of a pod selector.
fn pods_fault(case: &Case<'_>, object: &ObjectRef, pods: &Pods, rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let End::Pod(endpoint) = &target.end else {
        return Some(Fault {
            problem: match target.end {
                End::Entity(_) => {
                    text!("allows {pods}, but {} use hostNetwork, and pod selectors do not match them", target.name)
                }
                _ => text!("allows {pods}, but {} are not pods", target.name),
            },
            cure: text!("allow {}", target.place),
            ..Fault::default()
        });
    };
    let namespace = namespace_fault(case, object, pods, target);
    let labels = labels_fault(case, pods, endpoint, target);
    if let (Some(_), Some(fault)) = (&labels, misplaced_label(object, pods, target)) {
        return Some(fault);
    }
    let other_way = other_pods(object, pods, rule, target);
    let (problem, cure) = match (namespace, labels) {
        (_, Some((_, cure))) if other_way == Some(OtherWay::NodeLocal) => {
            let problem = "selects the pods of NodeLocal DNSCache, which use hostNetwork, and pod selectors do not match \
                           them, except with the local redirect of Cilium";
            (problem.to_owned(), cure)
        }
        (None, None) => return None,
        (Some(fault), None) | (None, Some(fault)) => fault,
        (Some(_), Some(_)) if other_way.is_some() => {
            (text!("allows {pods}, but {} are {}", target.name, target.place), text!("allow {}", target.place))
        }
        (Some((one, cure)), Some((other, other_cure))) => {
            (text!("{one}, and it {other}"), text!("{cure}, and {other_cure}"))
        }
    };
    Some(Fault { problem, cure, other_way, fix: None })
}

/// The fault of the namespaces of a pod selector, with its fix.
fn namespace_fault(case: &Case<'_>, object: &ObjectRef, pods: &Pods, target: &Target<'_>) -> Option<(String, String)> {
    let Target { name, namespace, .. } = target;
    if pods.namespaces.mean(namespace, case.view) == Some(true) {
        return None;
    }
    let cure = text!("select namespace {namespace} by `{}`", selector_of_namespace(object, namespace));
    let selector = match &pods.namespaces {
        Namespaces::Own(Some(own)) => {
            return Some((text!("selects pods in its own namespace {own}, but {name} are in {namespace}"), cure));
        }
        Namespaces::Own(None) => {
            return Some((text!("selects pods in its own namespace, but {name} are in {namespace}"), cure));
        }
        Namespaces::Matching(selector) => selector,
    };
    if let Some([other]) = selector.values_of(NAME_LABEL) {
        return Some((text!("selects pods in namespace {other}, but {name} are in {namespace}"), cure));
    }
    let around: &dyn Surroundings = case.view;
    let mut asked = Vec::new();
    collect(selector, &mut asked);
    let wrong = asked.into_iter().find_map(|(key, value)| {
        let when = match around.namespace_label(namespace, key) {
            Fact::Value(own) if own == value => return None,
            Fact::Value(_) | Fact::Absent => "",
            Fact::Present | Fact::Unknown => " by default",
        };
        Some(text!("{}={value}, a label that {namespace} does not have{when}", namespace_key(object, key)))
    });
    let problem = match wrong {
        Some(wrong) => text!("selects namespaces with {wrong}"),
        None => text!("selects namespaces with {selector}, but {name} are in {namespace}"),
    };
    Some((problem, cure))
}

/// The fault of the labels of a pod selector, with its fix.
fn labels_fault(
    case: &Case<'_>,
    pods: &Pods,
    endpoint: &Endpoint<'_>,
    target: &Target<'_>,
) -> Option<(String, String)> {
    let labels = pods.labels.as_ref()?;
    if labels.decided(&|owner, key| endpoint.label(owner, key, case.view)) == Some(true) {
        return None;
    }
    let own = target.labels;
    let mut asked = Vec::new();
    collect(labels, &mut asked);
    let is_added = |key: &str| endpoint.is_template && is_added_to_pods(key) && endpoint.labels.get(key).is_none();
    if let Some((key, value)) = asked.into_iter().find(|(key, _)| is_added(key)) {
        let problem = text!("selects pods with {key}={value}, a label that controllers set to a value of their own");
        return Some((problem, text!("select pods with {own}")));
    }
    Some((text!("selects pods with {labels}, but {} have {own}", target.name), text!("select pods with {own}")))
}

/// The fault of a pod selector that uses the name of a namespace as a label of the pods.
fn misplaced_label(object: &ObjectRef, pods: &Pods, target: &Target<'_>) -> Option<Fault> {
    let mut asked = Vec::new();
    collect(pods.labels.as_ref()?, &mut asked);
    let (key, value) = asked.into_iter().find(|(key, _)| NAMESPACE_KEYS.contains(key))?;
    let namespace = target.namespace;
    Some(Fault {
        problem: text!("selects pods with {key}={value}, which is a label of namespaces and not of pods"),
        cure: text!("select namespace {namespace} by `{}` instead", selector_of_namespace(object, namespace)),
        ..Fault::default()
    })
}

/// The fault of a CIDR.
fn block_fault(block: &Block, target: &Target<'_>) -> Fault {
    let name = target.name;
    let cure = text!("allow {}", target.place);
    let addresses = match &target.end {
        End::Pod(endpoint) => endpoint.addresses,
        _ => &[],
    };
    let removed = block.except.iter().find(|net| addresses.iter().any(|address| net.contains(address)));
    let is_node_local = is_link_local(block.net);
    let problem = if let Some(net) = removed {
        text!("excludes {net}, which contains the address of {name}")
    } else if is_node_local && matches!(target.end, End::Pod(_)) {
        text!("allows {block}, which is an address of the node and not of {name}")
    } else if block.net.prefix_len() == block.net.max_prefix_len() {
        text!("allows {block}; a CIDR matches the address of a pod, not the ClusterIP of its Service")
    } else if !block.inside {
        text!("allows {block}; the agent matches pods by labels, never by address")
    } else if !block.except.is_empty() && block.net.prefix_len() == 0 {
        text!("allows {block}, which may exclude the addresses of {name}")
    } else {
        text!("allows {block}, which is not known to contain the addresses of {name}")
    };
    let other_way = is_node_local.then(|| OtherWay::Address(block.net.addr().to_string()));
    Fault { problem, cure, other_way, fix: None }
}

/// The pods that a rule allows, if it requires all of their labels by value. They may serve the same purpose as the
/// target.
fn other_pods(object: &ObjectRef, pods: &Pods, rule: &Rule, target: &Target<'_>) -> Option<OtherWay> {
    let labels = pods.labels.as_ref().filter(|labels| is_like_labels(labels, target))?;
    let mut asked = Vec::new();
    collect(labels, &mut asked);
    // The local redirect of Cilium leads to these pods themselves.
    if !is_of_cilium(object) && asked.iter().any(|(_, value)| *value == NODE_LOCAL_PODS) {
        return Some(OtherWay::NodeLocal);
    }
    let namespace = match &pods.namespaces {
        // A missing namespace selector is a mistake of the author, not an alternative setup.
        Namespaces::Own(_) => return None,
        Namespaces::Matching(selector) => match selector.values_of(NAME_LABEL) {
            Some([name]) => &**name,
            _ => return None,
        },
    };
    let port = match &rule.ports {
        Ports::Only(ports) => ports.iter().filter(|port| port.is_for(target.protocol)).find_map(Port::known_numbers),
        _ => None,
    };
    let labels: Vec<(String, String)> =
        asked.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (!labels.is_empty()).then(|| OtherWay::Pods {
        namespace: namespace.to_owned(),
        labels,
        port: port.map_or(target.number, |(first, _)| first),
    })
}

/// Collects the labels that a selector requires with a single value.
fn collect<'a>(selector: &'a Selector, asked: &mut Vec<(&'a str, &'a str)>) {
    /// Maximum number of labels.
    const MAX: usize = 8;
    charge(1);
    match selector {
        Selector::All(parts) => parts.iter().for_each(|part| collect(part, asked)),
        Selector::Label(Requirement { owner: Owner::Itself, key, operator: Operator::In(values) }) => {
            if let ([value], true) = (values.as_slice(), asked.len() < MAX) {
                asked.push((key, value));
            }
        }
        Selector::Any(_) | Selector::Not(_) | Selector::Label(_) => {}
    }
}

impl std::fmt::Display for OtherWay {
    /// The entry of `clusterDNS` in the configuration, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods { namespace, labels, port } => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{namespace: {namespace}, podLabels: {{{}}}, port: {port}}}", labels.join(", "))
            }
            Self::Address(address) => write!(f, "{{addresses: ['{address}']}}"),
            Self::NodeLocal => write!(f, "{{addresses: ['{NODE_LOCAL}']}}"),
        }
    }
}
