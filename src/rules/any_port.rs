//! See [`AnyPort`].

use std::collections::HashSet;

use super::shared::combined_peers::{self, Limits};
use super::shared::combined_rules::{self, MIN_SHARE, Part};
use super::shared::host_policies::is_for_hosts;
use super::shared::later_stages::{LaterStages, for_whom, verb};
use super::shared::well_known::{addresses_of_node, is_of_node};
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    AddressSet, BUDGET, Direction, Entity, Namespaces, Peers, Policy, Ports, Protocol, Ranges, Rule as TrafficRule, Who,
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
    /// up to more than `most` ports of one protocol. The ranges of all policies are added up for every pod and every
    /// peer that they can have in common, so splitting a range over several rules or policies changes nothing. An
    /// object is reported if it adds more than 16 ports to such a sum.
    ///
    /// - Pods: one policy for `app in (a, b)` and one for `app in (b, c)` are added up for pods with `app=b`, whether
    ///   such a pod exists or not. Policies for `app=a` and `app=b` are not, because no pod has both.
    /// - Peers: CIDRs are added up for the addresses that they share, so an `except` changes nothing. Pod selectors are
    ///   added up if one pod can match all of them.
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
    /// **Limits.** Selectors that overlap are combined greedily, those with the most ports first, in at most 32
    /// combinations for each policy and direction, and as many for the peers. Pods are not added up with CIDRs, because
    /// it depends on the network plugin whether a CIDR matches pods.
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
        case: &'a Case<'a>,
        findings: &mut Findings,
        policy: &'a Policy,
        direction: Direction,
        later: &LaterStages<'a>,
    ) {
        let is_part = |rule: &TrafficRule| rule.ports.entries() > 0 && self.every_port(&rule.ports).is_none();
        let Some(parts) = combined_rules::parts(case, policy, direction, later, is_part) else { return };
        if !self.is_too_much(&parts) {
            return;
        }
        let is_node_exempt = self.node_ingress && direction == Direction::Ingress;
        let exempt = if is_node_exempt { addresses_of_node() } else { AddressSet::default() };
        let limits = Limits { exempt, ports: u128::from(self.most), share: MIN_SHARE };
        // Each rule is reported once.
        let mut reported: HashSet<*const TrafficRule> = HashSet::new();
        for parts in combined_rules::for_same_pods(&parts, case) {
            if !self.is_too_much(&parts) {
                continue;
            }
            for at in combined_peers::at_same_peer(&parts, case, &limits) {
                let Some(Excess { parts, at_rule, what }) = self.excess(&at.parts) else { continue };
                let own = || parts.iter().filter(|part| part.is_own).map(|part| std::ptr::from_ref(part.rule));
                charge(parts.len());
                if own().any(|rule| reported.contains(&rule)) {
                    continue;
                }
                let peers = at.peers(&parts, case);
                let pods = combined_rules::common_pods(&parts, policy, case);
                let whom = pods.map(|pods| text!(" for {pods}")).unwrap_or_default();
                let what = text!("{what}{whom}, {}", combined_rules::with_whom(&parts, case));
                self.report(case, findings, direction, at_rule, &peers, &what);
                reported.extend(own());
            }
        }
    }

    /// Returns true if the rules together allow too many ports, if all of them are for the same peer.
    fn is_too_much(&self, parts: &[Part<'_>]) -> bool {
        Protocol::WITH_PORTS.into_iter().any(|protocol| self.of_all(parts, protocol).is_some())
    }

    /// Describes the ports of the rules if they count as every port together.
    fn of_all(&self, parts: &[Part<'_>], protocol: Protocol) -> Option<String> {
        self.all_of(&combined_rules::sum(parts, protocol), protocol)
    }

    /// The rule of this policy that pushes the sum over the limit. None if the other policies alone already open as
    /// many ports.
    fn excess<'a>(&self, parts: &[Part<'a>]) -> Option<Excess<'a>> {
        Protocol::WITH_PORTS.into_iter().find_map(|protocol| {
            self.of_all(parts, protocol)?;
            let all = combined_rules::sum(parts, protocol);
            let of_others = combined_rules::sum(parts.iter().filter(|part| !part.is_own), protocol);
            if all.count() - of_others.count() <= MIN_SHARE {
                return None;
            }
            let own = |part: &&Part<'a>| part.is_own && !of_others.covers(&part.ports(protocol));
            let at_rule = parts.iter().rfind(own)?.rule;
            let parts = combined_rules::sufficient(parts, |some| self.of_all(some, protocol).is_some());
            let what = self.of_all(&parts, protocol)?;
            Some(Excess { parts, at_rule, what })
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
        !peers.is_empty() && peers.iter().all(|peer| self.is_exempt_peer(direction, &peer.who))
    }

    fn is_exempt_peer(&self, direction: Direction, who: &Who) -> bool {
        match who {
            Who::Pods(pods) => self.same_namespace && matches!(pods.namespaces, Namespaces::Own(_)),
            Who::Addresses(block) => self.node_ingress && direction == Direction::Ingress && is_of_node(block.net),
            Who::Entity(entity) => {
                *entity == Entity::None || self.node_ingress && direction == Direction::Ingress && entity.is_node()
            }
            // A part of an exempt peer is exempt.
            Who::All(parts) => parts.iter().any(|part| self.is_exempt_peer(direction, part)),
            _ => false,
        }
    }
}

/// Rules that allow too many ports together.
struct Excess<'a> {
    /// The rules, without those that the sum does not need.
    parts: Vec<Part<'a>>,
    /// The rule that is reported.
    at_rule: &'a TrafficRule,
    /// The ports, as text.
    what: String,
}
