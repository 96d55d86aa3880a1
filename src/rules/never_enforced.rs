//! See [`NeverEnforced`].

use std::collections::HashMap;

use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Action, Direction, Entity, FaultKind, Filter, Numbers, Peers, Policy, Ports, Protocol, Rule as TrafficRule, Who,
};

rule! {
    /// The agent stores the policy and leaves it aside.
    ///
    /// ## Why
    ///
    /// The schema of a custom resource says little about what its agent takes. What the agent refuses is stored all the
    /// same: `kubectl apply` says "created", the reason stands in a status that nobody reads, and nothing is enforced, not
    /// even the denials in it. It fails open.
    ///
    /// ## What it looks at
    ///
    /// Each reason for which the agent itself would mark a stored policy invalid; the pages of the dialects list them.
    ///
    /// - Cilium: more than one kind of L3 peer in one rule, L7 rules without TCP, DNS rules on ingress or without ports, ports
    ///   that cannot be, more than 40 ports, neither endpointSelector nor nodeSelector, and so on. One such rule takes the
    ///   whole object out of force. Rules for DNS and rules for HTTP for the same peer and port, also in two policies for the
    ///   same pods, leave these pods without any policy that is up to date.
    /// - Calico: what its API server refuses and a write straight to `crd.projectcalico.org` gets past: actions and protocols
    ///   that do not exist, addresses that are none, ICMP together with ports, and so on.
    /// - ClusterNetworkPolicy: what only some versions of its schema refuse: a range of ports whose start is behind its end,
    ///   a port name together with networks, nodes or names.
    /// - NetworkPolicy: not concerned, its API server refuses what cannot be enforced.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    ///   - fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "never-enforced", Deny,
    #[derive(Default)]
    pub struct NeverEnforced {}
}

impl Rule for NeverEnforced {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::NeverEnforced]);
        for policy in case.policies().iter().take(MAX_POLICIES) {
            for direction in Direction::ALL {
                check_proxies(case, policy, direction, findings);
            }
        }
    }
}

/// What one proxy decides: the requests from or to one peer on one port.
#[derive(PartialEq, Eq, Hash)]
struct Proxied<'a> {
    /// The peer; none for every peer.
    peer: Option<&'a Who>,
    protocol: Protocol,
    numbers: &'a Numbers,
}

/// Reports rules that ask for the proxy for DNS and for the one for HTTP at once, for the same pods, peer and port. The agent
/// then fails to compute all policies of these pods (`mergeRedirect` in Cilium's `pkg/policy/rule.go`).
fn check_proxies<'a>(case: &Case<'a>, policy: &'a Policy, direction: Direction, findings: &mut Findings) {
    let is_proxied = |rule: &&TrafficRule| rule.action == Action::Allow && rule.filter.is_some();
    if !policy.side(direction).rules.iter().any(|rule| is_proxied(&rule)) {
        return;
    }
    let mut lookups: HashMap<Proxied<'a>, (bool, &'a Policy)> = HashMap::new();
    let before = case.policies().iter().take_while(|other| !std::ptr::eq(*other, policy));
    let others = case.supposing().policies_for(&policy.subject).into_iter();
    let others = others.filter(|other| !other.object.is_same_object(&policy.object)).chain(before);
    let is_for_the_same = |other: &&Policy| {
        let mut steps = MAX_STEPS;
        other.subject.covers(&policy.subject, case.view, &mut steps)
            || policy.subject.covers(&other.subject, case.view, &mut steps)
    };
    let with_proxies = others.filter(|other| other.side(direction).rules.iter().any(|rule| is_proxied(&rule)));
    for other in with_proxies.take(MAX_POLICIES).filter(is_for_the_same) {
        for rule in other.side(direction).rules.iter().filter(is_proxied) {
            for proxied in proxied(rule) {
                lookups.entry(proxied).or_insert((is_for_lookups(rule), other));
            }
        }
    }
    for rule in policy.side(direction).rules.iter().filter(is_proxied) {
        let is_lookup = is_for_lookups(rule);
        let conflict = proxied(rule).into_iter().find_map(|proxied| {
            let ports = text!("{} {}", proxied.protocol, number(proxied.numbers));
            let (other_is_lookup, other) = *lookups.entry(proxied).or_insert((is_lookup, policy));
            (other_is_lookup != is_lookup).then_some((ports, other))
        });
        let Some((ports, other)) = conflict else { continue };
        let (one, two) = if is_lookup { ("DNS", "HTTP") } else { ("HTTP", "DNS") };
        let whose = if std::ptr::eq(other, policy) { "another rule".to_owned() } else { text!("{}", other.object) };
        let message = text!(
            "{} get no policy at all: this rule has rules for {one} on {ports}, and {whose} has rules for {two} for the same \
             peer and port",
            policy.subject
        );
        let help = "the agent cannot merge them: remove one of them, or write them for other ports or peers";
        findings.add::<NeverEnforced>(case, rule.path.clone(), message, help.into(), None);
    }
}

/// Maximum number of policies that are compared: the proof that two are for the same pods is made for each pair.
const MAX_POLICIES: usize = 50;

/// Maximum number of steps for the proof that two policies are for the same pods.
const MAX_STEPS: usize = 1_000;

/// Returns true if the proxy of a rule is the one for DNS.
fn is_for_lookups(rule: &TrafficRule) -> bool {
    matches!(rule.filter, Some(Filter::Lookups(_)))
}

/// The peers and ports of a rule, each once.
fn proxied(rule: &TrafficRule) -> Vec<Proxied<'_>> {
    let Ports::Only(ports) = &rule.ports else { return Vec::new() };
    let peers: Vec<Option<&Who>> = match &rule.peers {
        Peers::Any => vec![None],
        Peers::Only(peers) => {
            let is_all = |who: &Who| matches!(who, Who::Entity(Entity::All));
            peers.iter().map(|peer| (!is_all(&peer.who)).then_some(&peer.who)).collect()
        }
    };
    charge(peers.len() * ports.len());
    let of_port = ports.iter().flat_map(|port| {
        let protocols = Protocol::WITH_PORTS.into_iter().filter(|protocol| port.is_for(*protocol));
        protocols.map(|protocol| (protocol, &port.numbers))
    });
    let of_port: Vec<(Protocol, &Numbers)> = of_port.collect();
    let all = peers.iter().flat_map(|peer| {
        of_port.iter().map(|(protocol, numbers)| Proxied { peer: *peer, protocol: *protocol, numbers })
    });
    all.collect()
}

fn number(numbers: &Numbers) -> String {
    match numbers {
        Numbers::Range(first, last) if first == last => first.to_string(),
        Numbers::Range(first, last) => text!("{first}-{last}"),
        Numbers::Named(name) => name.to_string(),
        Numbers::All | Numbers::Messages(..) => "every port".to_owned(),
    }
}
