//! The rule that was meant to allow a flow, and the one thing that is wrong with it.

use std::cell::OnceCell;

use super::Case;
use crate::budget::charge;
use crate::model::{
    Action, Block, Direction, End, Endpoint, Entity, Fact, Filter, Fix, Labels, NAME_LABEL, Namespaces, Numbers,
    Operator, Owner, Path, Pods, Policy, Port, Ports, Protocol, Requirement, Rule, Selector, Surroundings, Traffic,
    Who,
};

/// Maximum number of rules and peers that are compared for one finding.
const MAX_COMPARED: usize = 2_000;

/// Maximum number of steps for the proof that a policy is for all of the pods.
const MAX_STEPS: usize = 1_000;

/// The other end of a flow that pods need.
pub(super) struct Target<'a> {
    /// The other end in messages, such as `the DNS pods`.
    pub(super) name: &'a str,
    /// What the port belongs to in messages, such as `the DNS pods`.
    pub(super) port_of: &'a str,
    /// A part of the label values by which authors recognise these pods.
    pub(super) word: &'a str,
    /// Their namespace.
    pub(super) namespace: &'a str,
    /// Their labels, as far as they are known.
    pub(super) labels: &'a Labels,
    /// What a rule has to allow, in words.
    pub(super) place: String,
    pub(super) end: End<'a>,
    pub(super) protocol: Protocol,
    /// The port of the flow.
    pub(super) number: u16,
    /// True if the port is the configured one, and not the one on which known pods listen.
    pub(super) is_configured: bool,
    pub(super) traffic: Traffic<'a>,
}

/// The rule that came nearest to allowing a flow.
pub(super) struct NearMiss<'a> {
    pub(super) policy: &'a Policy,
    pub(super) rule: &'a Rule,
    /// What is wrong, as a sentence about the policy.
    pub(super) closest: String,
    /// What to change.
    pub(super) cure: String,
    /// What else the rule may have been written for: another way to serve the same.
    pub(super) other_way: Option<OtherWay>,
    /// How to change the rule itself, where that is simple.
    pub(super) fix: Option<Fix>,
    rank: Rank,
}

/// How near a rule is, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// One thing is wrong, in a rule for these pods.
    OneFault,
    /// The rule is right, and for other pods.
    OtherPods,
    /// The rule is right, and for the other direction.
    OtherDirection,
    /// Both the peer and the port are wrong.
    TwoFaults,
}

/// Another way to serve the same, which the rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OtherWay {
    /// Pods with these labels on this port.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        labels: Vec<(String, String)>,
        /// The port.
        port: u16,
    },
    /// An address on each node.
    Address(String),
}

/// What is wrong with a peer or a port of a rule.
#[derive(Default)]
struct Fault {
    /// What is wrong, as the end of a sentence about the policy.
    problem: String,
    cure: String,
    other_way: Option<OtherWay>,
    fix: Option<Fix>,
}

/// Returns the rule among these policies that came nearest to allowing the flow between some pods and the target.
pub(super) fn near_miss<'a>(
    case: &Case<'a>,
    around: &[&'a Policy],
    pods: &Pods,
    direction: Direction,
    target: &Target<'_>,
) -> Option<NearMiss<'a>> {
    let mut found: Option<NearMiss<'a>> = None;
    let mut left = MAX_COMPARED;
    let opposite = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    for policy in around.iter().copied() {
        let candidate =
            Candidate { case: *case, policy, pods, is_for_pods: OnceCell::new(), decides_alone: OnceCell::new() };
        for side in [direction, opposite] {
            for rule in policy.side(side).rules.iter().filter(|rule| rule.action == Action::Allow) {
                left = left.saturating_sub(1 + rule.peers.listed().len());
                if left == 0 {
                    return found;
                }
                charge(1);
                let other_direction = (side != direction).then_some(side);
                let Some(near) = candidate.compare(rule, target, other_direction) else { continue };
                let is_nearer = |best: &NearMiss<'_>| {
                    let is_own = |near: &NearMiss<'_>| !is_of_case(case, near.policy);
                    (near.rank, is_own(&near)) < (best.rank, is_own(best))
                };
                if found.as_ref().is_none_or(is_nearer) {
                    found = Some(near);
                }
            }
        }
    }
    found
}

/// Returns true if a policy is one of the object at hand.
fn is_of_case(case: &Case<'_>, policy: &Policy) -> bool {
    policy.object.is_same_object(&case.change.object().id)
}

impl NearMiss<'_> {
    /// How near it is.
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// The place of the rule, if it is in the object at hand.
    pub(super) fn own_place(&self, case: &Case<'_>) -> Option<&Path> {
        is_of_case(case, self.policy).then_some(&self.rule.path)
    }
}

/// A policy whose rules are compared with the flow. What holds for all of its rules is found out once.
struct Candidate<'c, 'a> {
    case: Case<'a>,
    policy: &'a Policy,
    pods: &'c Pods,
    is_for_pods: OnceCell<bool>,
    decides_alone: OnceCell<bool>,
}

impl<'a> Candidate<'_, 'a> {
    /// Compares a rule with the flow. None if nothing tells that the rule was meant for it.
    fn compare(&self, rule: &'a Rule, target: &Target<'_>, other_direction: Option<Direction>) -> Option<NearMiss<'a>> {
        let (case, policy) = (&self.case, self.policy);
        let (peers, ports) = (rule.peers.mean(&target.end, case.view), rule.ports.mean(target.traffic));
        let who = &policy.object;
        let near = |rank, Fault { problem, cure, other_way, fix }| {
            let closest = text!("{who} {problem}");
            Some(NearMiss { policy, rule, closest, cure, other_way, fix, rank })
        };
        let means_all = peers == Some(true) && ports == Some(true);
        if let Some(direction) = other_direction {
            // A rule for every peer says nothing about this one.
            let is_specific = lists_port(&rule.ports, target) && !rule.peers.listed().is_empty();
            if !means_all || !is_specific || !self.is_for_pods() {
                return None;
            }
            let (here, there) = match direction {
                Direction::Ingress => ("ingress from", "egress"),
                Direction::Egress => ("egress to", "ingress"),
            };
            let problem = text!("allows {here} {}, but not {there}", target.name);
            let cure = text!("move the rule to {there}");
            return near(Rank::OtherDirection, Fault { problem, cure, ..Fault::default() });
        }
        if means_all {
            // Either it is for other pods, or something comes before it.
            if self.is_for_pods() || rule.only.is_some() || !is_meant(rule, target) {
                return None;
            }
            let (problem, cure) =
                (text!("allows this flow only for {}", policy.subject), text!("extend what {who} selects"));
            return near(Rank::OtherPods, Fault { problem, cure, ..Fault::default() });
        }
        let mut port_fault = if ports == Some(true) { None } else { port_fault(rule, target) };
        if let Some(fault) = port_fault.as_mut().filter(|fault| fault.fix.is_some())
            && !self.decides_alone(rule)
        {
            fault.fix = None;
        }
        let peer_fault = if peers == Some(true) { None } else { peer_fault(case, rule, target) };
        match (peers == Some(true), ports == Some(true), peer_fault, port_fault) {
            (true, false, _, Some(fault)) if is_meant(rule, target) && self.is_for_pods() => {
                near(Rank::OneFault, fault)
            }
            (false, true, Some(fault), _) if self.is_for_pods() => near(Rank::OneFault, fault),
            // The rule is complete in itself, for another way.
            (false, false, Some(peer), Some(_)) if peer.other_way.is_some() && self.is_for_pods() => {
                near(Rank::TwoFaults, peer)
            }
            (false, false, Some(peer), Some(port)) if self.is_for_pods() => {
                let problem = text!("{}, and it {}", peer.problem, port.problem);
                let (cure, other_way) = (text!("{}, and {}", peer.cure, port.cure), peer.other_way.or(port.other_way));
                near(Rank::TwoFaults, Fault { problem, cure, other_way, fix: None })
            }
            _ => None,
        }
    }

    /// Returns true if it is proved that the policy is for all of the pods.
    fn is_for_pods(&self) -> bool {
        *self.is_for_pods.get_or_init(|| self.policy.subject.covers(self.pods, self.case.view, &mut { MAX_STEPS }))
    }

    /// Returns true if a rule decides by its peers and ports alone, whatever comes before it.
    fn decides_alone(&self, rule: &Rule) -> bool {
        let only_allows = || {
            let mut all = self.policy.sides().flat_map(|(_, side)| &side.rules).inspect(|_| charge(1));
            all.all(|other| matches!(other.action, Action::Allow | Action::Log))
        };
        rule.only.is_none()
            && rule.within.is_none()
            && rule.conditions.is_empty()
            && *self.decides_alone.get_or_init(only_allows)
    }
}

/// Returns true if one entry of a list of ports is for the target's port, in whichever protocol.
fn lists_port(ports: &Ports, target: &Target<'_>) -> bool {
    let Ports::Only(ports) = ports else { return false };
    ports.iter().any(|port| match &port.numbers {
        Numbers::Range(first, last) => *first == target.number && *last == target.number,
        Numbers::Named(name) => name.contains(target.word),
        Numbers::All | Numbers::Messages(..) => false,
    })
}

/// Returns true if a rule whose peers include the target is about the target, and not about everything.
fn is_meant(rule: &Rule, target: &Target<'_>) -> bool {
    lists_port(&rule.ports, target)
        || rule.peers.listed().iter().any(|peer| match &peer.who {
            Who::Pods(pods) => is_like_pods(pods, target),
            _ => false,
        })
}

/// Returns true if a selector of pods mentions a label value of the target's pods, or all pods of the target's namespace.
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

/// Returns true if a selector asks for a label of this kind.
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

/// What is wrong with the ports of a rule.
fn port_fault(rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let Ports::Only(listed) = &rule.ports else { return None };
    charge(listed.len() / 8);
    let Target { port_of, protocol, number, .. } = target;
    let is_number = |port: &Port| port.known_numbers().is_some_and(|(first, last)| (first..=last).contains(number));
    if let Some(other) = listed.iter().find(|port| is_number(port) && !port.is_for(*protocol)) {
        let own = other.protocol.unwrap_or(Protocol::Tcp);
        return Some(Fault {
            problem: text!("allows port {number} over {own}, but not over {protocol}"),
            cure: text!("add port {number} with `protocol: {protocol}`"),
            // Rules for requests are for one protocol. An entry for more ports would open them all, and lookups need TCP too.
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
            problem: text!("names the port `{named}`, which {port_of} are not known to have"),
            cure: text!("use port number {number}"),
            ..Fault::default()
        });
    }
    let (first, last) = of_protocol().find_map(Port::known_numbers)?;
    let allowed = if first == last { text!("{first}") } else { text!("{first}–{last}") };
    Some(Fault {
        problem: text!("allows {protocol} port {allowed}, and {port_of} are on {number}"),
        cure: text!("use port {number}"),
        other_way: (first == last && target.is_configured).then(|| OtherWay::Pods {
            namespace: target.namespace.to_owned(),
            labels: target.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            port: first,
        }),
        fix: None,
    })
}

/// What is wrong with the peer of a rule that is most like the target.
fn peer_fault(case: &Case<'_>, rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let is_certain = lists_port(&rule.ports, target);
    let faults = rule.peers.listed().iter().filter_map(|peer| who_fault(case, &peer.who, rule, target, is_certain));
    // A fault of a selector of pods says more than one of an address.
    faults.min_by_key(|(order, _)| *order).map(|(_, fault)| fault)
}

fn who_fault(case: &Case<'_>, who: &Who, rule: &Rule, target: &Target<'_>, is_certain: bool) -> Option<(u8, Fault)> {
    charge(1);
    match who {
        Who::Pods(pods) if is_like_pods(pods, target) || is_certain => {
            let fault = pods_fault(case, pods, rule, target)?;
            Some((if is_like_pods(pods, target) { 0 } else { 2 }, fault))
        }
        Who::Addresses(block) if is_certain => Some((1, block_fault(block, target))),
        Who::Entity(entity) if is_certain => {
            let fault = Fault {
                problem: text!("allows entity {}, which does not include pods", entity.name()),
                cure: text!("allow {}", target.place),
                // DNS on the node itself is a part of this entity.
                other_way: matches!(entity, Entity::Host | Entity::RemoteNode)
                    .then(|| OtherWay::Address(NODE_LOCAL.to_owned())),
                fix: None,
            };
            Some((1, fault))
        }
        Who::Service(service) if is_certain => {
            let fault = Fault {
                problem: text!("allows {}, which is not known to lead to {}", service.words, target.name),
                cure: text!("allow {}", target.place),
                ..Fault::default()
            };
            Some((1, fault))
        }
        Who::All(parts) => parts.iter().find_map(|part| match part.means(&target.end, case.view) {
            Some(true) => None,
            _ => who_fault(case, part, rule, target, is_certain),
        }),
        _ => None,
    }
}

/// The usual address of NodeLocal DNSCache.
const NODE_LOCAL: &str = "169.254.20.10";

/// What is wrong with a selector of pods.
fn pods_fault(case: &Case<'_>, pods: &Pods, rule: &Rule, target: &Target<'_>) -> Option<Fault> {
    let End::Pod(endpoint) = &target.end else {
        return Some(Fault {
            problem: text!("allows {pods}, and {} are not pods", target.name),
            cure: text!("allow {}", target.place),
            ..Fault::default()
        });
    };
    let namespace = namespace_fault(case, pods, target);
    let labels = labels_fault(case, pods, endpoint, target);
    let other_way = other_pods(pods, rule, target);
    let (problem, cure) = match (namespace, labels) {
        (None, None) => return None,
        (Some(fault), None) | (None, Some(fault)) => fault,
        (Some(_), Some(_)) if other_way.is_some() => {
            (text!("allows {pods}, and {} are {}", target.name, target.place), text!("allow {}", target.place))
        }
        (Some((one, cure)), Some((other, other_cure))) => {
            (text!("{one}, and it {other}"), text!("{cure}, and {other_cure}"))
        }
    };
    Some(Fault { problem, cure, other_way, fix: None })
}

/// What is wrong with the namespaces of a selector of pods, and what to change.
fn namespace_fault(case: &Case<'_>, pods: &Pods, target: &Target<'_>) -> Option<(String, String)> {
    let Target { name, namespace, .. } = target;
    if pods.namespaces.mean(namespace, case.view) == Some(true) {
        return None;
    }
    let cure = text!("select namespace {namespace} by `{NAME_LABEL}: {namespace}`");
    let selector = match &pods.namespaces {
        Namespaces::Own(Some(own)) => {
            return Some((text!("selects pods in its own namespace {own}, and {name} are in {namespace}"), cure));
        }
        Namespaces::Own(None) => {
            return Some((text!("selects pods in its own namespace, and {name} are in {namespace}"), cure));
        }
        Namespaces::Matching(selector) => selector,
    };
    if let Some([other]) = selector.values_of(NAME_LABEL) {
        return Some((text!("selects pods in namespace {other}, and {name} are in {namespace}"), cure));
    }
    let around: &dyn Surroundings = case.view;
    let mut asked = Vec::new();
    collect(selector, &mut asked);
    let wrong = asked.into_iter().find_map(|(key, value)| match around.namespace_label(namespace, key) {
        Fact::Value(own) if own == value => None,
        Fact::Value(_) | Fact::Absent => Some(text!("{key}={value}, a label that {namespace} does not have")),
        Fact::Unknown => Some(text!("{key}={value}, a label that {namespace} does not have by default")),
    });
    let problem = match wrong {
        Some(wrong) => text!("selects namespaces with {wrong}"),
        None => text!("selects namespaces with {selector}, and {name} are in {namespace}"),
    };
    Some((problem, cure))
}

/// What is wrong with the labels that a selector of pods asks for, and what to change.
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
    Some((text!("selects pods with {labels}, and {} have {own}", target.name), text!("select pods with {own}")))
}

/// What is wrong with a block of addresses.
fn block_fault(block: &Block, target: &Target<'_>) -> Fault {
    let name = target.name;
    let cure = text!("allow {}", target.place);
    let addresses = match &target.end {
        End::Pod(endpoint) => endpoint.addresses,
        _ => &[],
    };
    let removed = block.except.iter().find(|net| addresses.iter().any(|address| net.contains(address)));
    let is_node_local = crate::model::is_link_local(block.net);
    let problem = if let Some(net) = removed {
        text!("leaves out {net}, which contains the address of {name}")
    } else if is_node_local && matches!(target.end, End::Pod(_)) {
        text!("allows {block}, an address on the node, and {name} are configured as pods")
    } else if block.net.prefix_len() == block.net.max_prefix_len() {
        text!("allows {block}; an address block matches the address of a pod, not the ClusterIP of its Service")
    } else if !block.inside {
        text!("allows {block}; the agent matches pods by labels, never by address")
    } else if !block.except.is_empty() && block.net.prefix_len() == 0 {
        text!("allows {block}, and may leave out the addresses of {name}")
    } else {
        text!("allows {block}, which is not known to contain the addresses of {name}")
    };
    let other_way = is_node_local.then(|| OtherWay::Address(block.net.addr().to_string()));
    Fault { problem, cure, other_way, fix: None }
}

/// The pods that a rule allows, if it tells their labels in full: they may serve the same.
fn other_pods(pods: &Pods, rule: &Rule, target: &Target<'_>) -> Option<OtherWay> {
    let labels = pods.labels.as_ref().filter(|labels| is_like_labels(labels, target))?;
    let mut asked = Vec::new();
    collect(labels, &mut asked);
    let namespace = match &pods.namespaces {
        // A peer without a namespace is a slip of the author, and no other way.
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

/// The labels that a selector asks for by one value each.
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
        }
    }
}
