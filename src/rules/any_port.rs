//! See [`AnyPort`].

use std::collections::{HashMap, HashSet};

use super::shared::combined_rules::{self, MIN_SHARE, Part};
use super::shared::host_policies::is_for_hosts;
use super::shared::later_stages::{LaterStages, for_whom, verb};
use super::shared::well_known::is_of_node;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    BUDGET, Direction, Entity, Namespaces, Peer, Peers, Policy, Ports, Protocol, Ranges, Rule as TrafficRule, Who,
};

rule! {
    /// A rule allows every port.
    ///
    /// ## Why
    ///
    /// A rule without ports opens every port that the pods listen on: debug endpoints, admin ports, sidecars, and every
    /// port that is added later. It is rarely intended, and the port list is the easiest part of a rule to forget.
    ///
    /// ## What it checks
    ///
    /// Each allow rule is checked for: a missing port list; an entry with a protocol and no port; port ranges that add
    /// up to more than `most` ports of one protocol. The ranges of all policies for the same pods and the same peer are
    /// added up, so splitting a range over several rules or policies changes nothing. An object is reported if it adds
    /// more than 16 ports to such a sum.
    ///
    /// - NetworkPolicy: no `ports`, a port entry without `port`, `endPort` ranges.
    /// - Cilium: no `toPorts`, port `"0"`, `endPort` ranges. A rule that allows nothing (`{}`, an empty list of peers)
    ///   is ignored.
    /// - Calico: an Allow rule without `destination.ports` whose `notPorts` leave more than `most` ports; an entry with
    ///   only a protocol. A Service peer has the ports of the Service. In the default tier a Pass rule counts too,
    ///   unless a later tier stops all of its traffic: after the last tier Calico applies the profile of the namespace,
    ///   which allows everything, so there Pass has the effect of Allow. A rule whose local addresses are not pod
    ///   addresses (`127.0.0.0/8`) applies to hosts and is ignored.
    /// - ClusterNetworkPolicy: an Accept (Allow) rule without `protocols` (`ports`), port ranges.
    ///
    /// Rules only for ICMP are ignored, and so are rules that deny, log or pass traffic. By default ingress from the
    /// node is also exempt, because kubelet probes need it: link-local addresses, the IPv6 address of probes in
    /// Istio's ambient mesh (`fd16:9254:7127:1337:ffff:ffff:ffff:ffff`), and the entities health, host, remote-node and
    /// kube-apiserver.
    ///
    /// A Calico GlobalNetworkPolicy for hosts is not checked. A policy is for hosts if it cannot select pods because it
    /// requires objects without a namespace (`!has(projectcalico.org/namespace)`). It is also for hosts if it requires
    /// one of these host labels and no known pod has it: `kubernetes-host`, `host-endpoint`,
    /// `projectcalico.org/created-by`, `node-role.kubernetes.io/control-plane`, `master` or `worker`.
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
    /// - `sameNamespace`: `true` exempts rules whose peers are in the policy's own namespace. `false` by default.
    /// - `nodeIngress`: `false` also requires ports on ingress from the node. `true` by default.
    /// - `most`: the maximum number of ports of one protocol that a rule may allow. More counts as any port. 32768 by
    ///   default, half of all ports.
    "any-port", Deny,
    pub struct AnyPort {
        pub(crate) same_namespace: bool,
        node_ingress: bool,
        pub(crate) most: u16,
    }
}

impl Default for AnyPort {
    fn default() -> Self {
        Self { same_namespace: false, node_ingress: true, most: 32_768 }
    }
}

impl Rule for AnyPort {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let mut budget = BUDGET;
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            let later = LaterStages::after(case, policy, &mut budget);
            for (direction, side) in policy.sides() {
                for rule in &side.rules {
                    charge(1);
                    let Some(what) = self.every_port(&rule.ports) else { continue };
                    if later.lets_through(direction, rule, &mut budget) {
                        self.report(case, findings, direction, rule, &rule.peers, &what);
                    }
                }
                self.check_sum(case, findings, policy, direction, &later);
            }
        }
    }
}

impl AnyPort {
    /// Reports rules that allow too many ports to a peer only in sum with other rules of the policies for the same
    /// pods. The finding is at the rule that exceeds the limit.
    fn check_sum<'a>(
        &self,
        case: &Case<'a>,
        findings: &mut Findings,
        policy: &'a Policy,
        direction: Direction,
        later: &LaterStages<'a>,
    ) {
        let is_part = |rule: &TrafficRule| self.every_port(&rule.ports).is_none();
        let Some(parts) = combined_rules::parts(case, policy, direction, later, is_part) else { return };
        let is_too_much =
            |parts: &[Part<'_>], protocol| self.all_of(&combined_rules::sum(parts, protocol), protocol).is_some();
        if !Protocol::WITH_PORTS.into_iter().any(|protocol| is_too_much(&parts, protocol)) {
            return;
        }
        // Each rule is reported once.
        let mut reported: HashSet<*const TrafficRule> = HashSet::new();
        for parts in combined_rules::by_pods(&parts, case) {
            for (peer, parts) in by_peer(&parts, case) {
                let Some((last, what)) = self.completed(&parts) else { continue };
                let own = || parts.iter().filter(|part| part.is_own).map(|part| std::ptr::from_ref(part.rule));
                charge(parts.len());
                if own().any(|rule| reported.contains(&rule)) {
                    continue;
                }
                let peers = peer.map_or(Peers::Any, |peer| Peers::Only(vec![peer.clone()]));
                let what = text!("{what}, {}", combined_rules::with_whom(&parts, case));
                self.report(case, findings, direction, last, &peers, &what);
                reported.extend(own());
            }
        }
    }

    /// The rule of this policy that pushes the sum over the limit, and the sum as text. None if the other policies
    /// alone already open as many ports.
    fn completed<'a>(&self, parts: &[Part<'a>]) -> Option<(&'a TrafficRule, String)> {
        Protocol::WITH_PORTS.into_iter().find_map(|protocol| {
            let all = combined_rules::sum(parts, protocol);
            let what = self.all_of(&all, protocol)?;
            let of_others = combined_rules::sum(parts.iter().filter(|part| !part.is_own), protocol);
            if all.count() - of_others.count() <= MIN_SHARE {
                return None;
            }
            let mut own = parts.iter().filter(|part| part.is_own && !of_others.covers(&part.ports(protocol)));
            Some((own.next_back()?.rule, what))
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
        let preposition = direction.preposition();
        let whom = match for_whom(rule) {
            all if all.is_empty() => all,
            some => text!(" for selected pods{some}"),
        };
        let message = text!("{direction} {preposition} {peers} {} on {what}{whom}", verb(rule));
        let help = "list the ports that are needed, each with its protocol".to_owned();
        findings.add::<Self>(case, rule.path.clone(), message, help, None);
    }

    /// The rule with default settings, except for the number of ports that it allows.
    pub(super) fn of(most: u16) -> Self {
        Self { most, ..Self::default() }
    }

    /// Describes the ports if they count as every port.
    pub(super) fn every_port(&self, ports: &Ports) -> Option<String> {
        if *ports == Ports::Any {
            return Some("every port".into());
        }
        Protocol::WITH_PORTS.into_iter().find_map(|protocol| self.all_of(&ports.known_numbers(protocol), protocol))
    }

    /// Describes the numbers if they count as every port of the protocol.
    fn all_of(&self, numbers: &Ranges<u16>, protocol: Protocol) -> Option<String> {
        // Port 0 receives no traffic.
        match numbers.count() - u128::from(numbers.contains(0)) {
            few if few <= u128::from(self.most) => None,
            65_535 => Some(text!("every {protocol} port")),
            many => Some(text!("{many} of the 65535 {protocol} ports")),
        }
    }

    fn is_exempt(&self, direction: Direction, peers: &Peers) -> bool {
        let Peers::Only(peers) = peers else { return false };
        !peers.is_empty()
            && peers.iter().all(|peer| match &peer.who {
                Who::Pods(pods) => self.same_namespace && matches!(pods.namespaces, Namespaces::Own(_)),
                Who::Addresses(block) => self.node_ingress && direction == Direction::Ingress && is_of_node(block.net),
                Who::Entity(entity) => {
                    *entity == Entity::None || self.node_ingress && direction == Direction::Ingress && entity.is_node()
                }
                _ => false,
            })
    }
}

/// Groups the rules by peer: for each peer, the rules that allow all of it. None stands for any peer.
fn by_peer<'a>(parts: &[Part<'a>], case: &Case<'_>) -> Vec<(Option<&'a Peer>, Vec<Part<'a>>)> {
    let mut kinds: HashMap<Option<&'a Who>, (Option<&'a Peer>, Vec<Part<'a>>)> = HashMap::new();
    let mut order = Vec::new();
    for part in parts {
        let peers: Vec<Option<&'a Peer>> = match &part.rule.peers {
            Peers::Any => vec![None],
            Peers::Only(peers) => peers.iter().map(Some).collect(),
        };
        charge(peers.len());
        for peer in peers {
            let key = peer.map(|peer| &peer.who);
            let (_, alike) = kinds.entry(key).or_insert_with(|| {
                order.push(key);
                (peer, Vec::new())
            });
            alike.push(*part);
        }
    }
    let allows = |part: &Part<'a>, who: Option<&Who>| match who {
        None => part.rule.peers.are_everything(),
        Some(who) => part.rule.peers.cover(who, case.view, &mut { usize::MAX }),
    };
    let all = |who: &Option<&'a Who>| {
        let (peer, alike) = kinds.get(who)?;
        charge(parts.len() + alike.len());
        let rules: HashSet<*const TrafficRule> = alike.iter().map(|part| std::ptr::from_ref(part.rule)).collect();
        let is_alike = |part: &Part<'a>| rules.contains(&std::ptr::from_ref(part.rule));
        let all = if alike.len() == parts.len() {
            alike.clone()
        } else {
            parts.iter().filter(|part| is_alike(part) || allows(part, *who)).copied().collect()
        };
        Some((*peer, all))
    };
    order.iter().filter_map(all).collect()
}
