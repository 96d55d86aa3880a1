//! See [`AnyPort`].

use super::hosts::is_for_hosts;
use super::passed_on::{Later, for_whom, verb};
use super::{Case, Findings, Rule};
use crate::model::{
    BUDGET, Direction, Entity, Namespaces, Peer, Peers, Policy, Ports, Protocol, Ranges, Rule as TrafficRule, Who,
    is_link_local,
};

/// From how many ports of a protocol on a rule may be a part of one for every port.
const WIDE: u128 = 1000;

rule! {
    /// A rule allows every port.
    ///
    /// ## Why
    ///
    /// A rule without ports opens whatever the pods listen on: debug endpoints, admin ports, side cars, and all that is
    /// added later. It is rarely meant, and it is what is left out first.
    ///
    /// ## What it looks at
    ///
    /// Each rule that allows something: no list of ports; an entry with a protocol and no port; ranges that add up to more
    /// than `most` ports of one protocol, in one rule, or for one peer in several rules of an object.
    ///
    /// - NetworkPolicy: `ports` left out, a port without `port`, `endPort`.
    /// - Cilium: no `toPorts`, port `"0"`, ranges by `endPort`. A rule that allows nothing (`{}`, an empty list of peers) is
    ///   none.
    /// - Calico: an Allow rule without `destination.ports` whose `notPorts` leave more than `most`; a protocol alone. What a
    ///   Service stands for has the ports of the Service. In the default tier a Pass rule too, unless something in a later tier
    ///   stops all of it: after the last tier Calico asks the profile of the namespace, which allows everything, so there Pass
    ///   is Allow by another name. A rule for addresses of the near end that no pod has (`127.0.0.0/8`) is for hosts, and none.
    /// - ClusterNetworkPolicy: an Accept (Allow) rule without `protocols` (`ports`), ranges.
    ///
    /// Rules that concern ICMP alone do not count, and rules that deny, log or leave traffic to later tiers do not either. Not
    /// concerned as shipped: ingress from the node's side, which kubelets need for probes: link-local addresses, and the
    /// entities health, host, remote-node and kube-apiserver.
    ///
    /// A GlobalNetworkPolicy of Calico that is for hosts is not judged: one that can select no pod, since it is for what has
    /// no namespace (`!has(projectcalico.org/namespace)`); and in a cluster one that asks for a label by which hosts are
    /// marked and that no pod there has: `kubernetes-host`, `host-endpoint`, `projectcalico.org/created-by`,
    /// `node-role.kubernetes.io/control-plane`, `master` or `worker`.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backend
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: frontend
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backend
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: frontend
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// - `sameNamespace`: `true` lets pods of one namespace talk to each other on any port. `false` by default.
    /// - `nodeIngress`: `false` asks for ports on ingress from the node's side too. `true` by default.
    /// - `most`: how many ports of one protocol a rule may allow; more counts as any port. 60000 by default.
    "any-port", Deny,
    pub struct AnyPort {
        same_namespace: bool,
        node_ingress: bool,
        most: u16,
    }
}

impl Default for AnyPort {
    fn default() -> Self {
        Self { same_namespace: false, node_ingress: true, most: 60_000 }
    }
}

impl Rule for AnyPort {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let mut budget = BUDGET;
        let mut split: Vec<(Direction, Part<'_>)> = Vec::new();
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            let later = Later::than(case, policy, &mut budget);
            for (direction, side) in policy.sides() {
                for rule in side.rules.iter().filter(|rule| self.is_wide(rule)) {
                    if !later.lets_through(direction, rule, &mut budget) {
                        continue;
                    }
                    match self.every_port(&rule.ports) {
                        Some(what) => self.report(case, findings, direction, rule, &rule.peers, &what),
                        None => split.push((direction, Part { policy, rule })),
                    }
                }
            }
        }
        for direction in Direction::ALL {
            let parts = split.iter().filter(|(of, _)| *of == direction).map(|(_, part)| *part);
            self.check_split(case, findings, direction, parts);
        }
    }
}

/// A rule that allows many ports, and not all of them.
#[derive(Clone, Copy)]
struct Part<'a> {
    policy: &'a Policy,
    rule: &'a TrafficRule,
}

impl Part<'_> {
    /// Whether it is proved that this is for a peer of another rule (none: for any peer), and for all the pods that the other
    /// one is for.
    fn allows(&self, peer: Option<&Peer>, other: &Self, case: &Case<'_>, budget: &mut usize) -> bool {
        *budget = budget.saturating_sub(1);
        *budget > 0
            && (self.rule.only.is_none() || self.rule.only == other.rule.only)
            && (self.rule.within.is_none() || self.rule.within == other.rule.within)
            && self.policy.subject.covers(&other.policy.subject, case.view, budget)
            && match peer {
                None => self.rule.peers.are_everything(),
                Some(peer) => self.rule.peers.cover(&peer.who, case.view, budget),
            }
    }
}

impl AnyPort {
    /// Whether a rule means every port, or so many that it may with others.
    fn is_wide(&self, rule: &TrafficRule) -> bool {
        let many = |protocol| rule.ports.known_numbers(protocol).count() >= WIDE;
        self.every_port(&rule.ports).is_some() || Protocol::WITH_PORTS.into_iter().any(many)
    }

    /// Rules that allow every port to a peer only together. It is reported at the one that completes it.
    fn check_split<'a>(
        &self,
        case: &Case<'_>,
        findings: &mut Findings,
        direction: Direction,
        parts: impl Iterator<Item = Part<'a>>,
    ) {
        let mut sofar: Vec<Part<'_>> = Vec::new();
        let mut budget = BUDGET;
        for last in parts {
            sofar.push(last);
            if sofar.len() == 1 {
                continue;
            }
            let Some((peers, what, parts)) = self.completed(case, &sofar, &mut budget) else { continue };
            self.report(case, findings, direction, last.rule, &peers, &format!("{what}, by several rules together"));
            // Each is held against its author once.
            sofar.retain(|part| !parts.iter().any(|other| std::ptr::eq(*other, part.rule)));
        }
    }

    /// The peers that the last of these rules completes every port for, how, and by which rules.
    fn completed<'a>(
        &self,
        case: &Case<'_>,
        parts: &[Part<'a>],
        budget: &mut usize,
    ) -> Option<(Peers, String, Vec<&'a TrafficRule>)> {
        let last = parts.last()?;
        parts.iter().find_map(|for_whom| {
            let peers: Vec<Option<&Peer>> = match &for_whom.rule.peers {
                Peers::Any => vec![None],
                Peers::Only(peers) => peers.iter().map(Some).collect(),
            };
            peers.into_iter().find_map(|peer| {
                if !last.allows(peer, for_whom, case, budget) {
                    return None;
                }
                let mut together: Vec<&Part<'a>> = Vec::new();
                for part in parts {
                    if part.allows(peer, for_whom, case, budget) {
                        together.push(part);
                    }
                }
                let what = Protocol::WITH_PORTS.into_iter().find_map(|protocol| {
                    let mut numbers: Ranges<u16> = Ranges::none();
                    for part in &together {
                        numbers.extend(&part.rule.ports.known_numbers(protocol));
                    }
                    self.all_of(&numbers, protocol)
                })?;
                let peers = peer.map_or(Peers::Any, |peer| Peers::Only(vec![peer.clone()]));
                Some((peers, what, together.into_iter().map(|part| part.rule).collect()))
            })
        })
    }

    fn report(
        &self,
        case: &Case<'_>,
        findings: &mut Findings,
        direction: Direction,
        rule: &TrafficRule,
        peers: &Peers,
        what: &str,
    ) {
        if self.is_exempt(direction, peers) || *peers == Peers::Only(Vec::new()) {
            return;
        }
        let preposition = if direction == Direction::Ingress { "from" } else { "to" };
        let whom = match for_whom(rule) {
            all if all.is_empty() => all,
            some => format!(" for some of the pods{some}"),
        };
        let message = format!("{direction} {preposition} {peers} {} on {what}{whom}", verb(rule));
        let help = "list the ports that are needed, each with its protocol".to_owned();
        findings.add::<Self>(case, rule.path.clone(), message, help, None);
    }

    /// How the ports amount to every port, if they do.
    pub(super) fn every_port(&self, ports: &Ports) -> Option<String> {
        if *ports == Ports::Any {
            return Some("every port".into());
        }
        Protocol::WITH_PORTS.into_iter().find_map(|protocol| self.all_of(&ports.known_numbers(protocol), protocol))
    }

    /// How these ports amount to every port of the protocol, if they do.
    fn all_of(&self, numbers: &Ranges<u16>, protocol: Protocol) -> Option<String> {
        // Nothing is sent to port 0.
        match numbers.count() - u128::from(numbers.contains(0)) {
            few if few <= u128::from(self.most) => None,
            65_535 => Some(format!("every {protocol} port")),
            many => Some(format!("{many} of the 65535 {protocol} ports")),
        }
    }

    fn is_exempt(&self, direction: Direction, peers: &Peers) -> bool {
        let Peers::Only(peers) = peers else { return false };
        !peers.is_empty()
            && peers.iter().all(|peer| match &peer.who {
                Who::Pods(pods) => self.same_namespace && matches!(pods.namespaces, Namespaces::Own(_)),
                Who::Addresses(block) => {
                    self.node_ingress && direction == Direction::Ingress && is_link_local(block.net)
                }
                Who::Entity(entity) => {
                    *entity == Entity::None || self.node_ingress && direction == Direction::Ingress && entity.is_node()
                }
                _ => false,
            })
    }
}
