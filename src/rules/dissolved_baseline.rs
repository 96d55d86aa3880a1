//! See [`DissolvedBaseline`].

use std::collections::HashSet;

use super::any_port::AnyPort;
use super::shared::combined_rules::{self, MIN_SHARE, Part, are_anything};
use super::shared::later_stages::{LaterStages, for_whom, verb};
use super::shared::profiles::profiled;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Action, BUDGET, Direction, Filter, Order, Peers, Pods, Policy, Ports, Protocol, Ranges, Rule as TrafficRule, Side,
    Stage, Who,
};

rule! {
    /// A rule allows everything in a direction that the profile of the namespace isolates.
    ///
    /// ## Why
    ///
    /// Policies are additive: one policy that allows everything cancels all others. The namespace still has its profile
    /// label and its baseline policies, but neither restricts traffic any more, and the label misleads its readers.
    ///
    /// ## What it checks
    ///
    /// Rules that allow any peer, or nearly all addresses of an IP family, on more than `most` ports of one protocol. The
    /// rule is evaluated for policies that select pods of a namespace with a known profile label. A profile denies
    /// everything that it does not allow, in both directions.
    ///
    /// - A rule for some of the pods counts too, because these pods lose their baseline.
    /// - The rules of all policies are added up for every pod that they can have in common, so splitting ports or
    ///   addresses changes nothing, and neither do selectors that overlap in part. It does not matter whether such a pod
    ///   exists. An object is reported if it adds more than 16 ports to such a sum.
    /// - Addresses are nearly all of a family if they leave out less than 1/256 of the family in private addresses, and
    ///   less than 1/16 in public ones. `0.0.0.0/0` except `10.0.0.0/8` closes something; except `192.0.2.0/24`,
    ///   `25.0.0.0/8` or `240.0.0.0/4` it does not.
    /// - A rule does not count if the same policy denies all of its traffic first.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy: `ingress: [{}]`, `egress: [{}]`; `ipBlock` of `0.0.0.0/0` or `::/0`, or CIDRs that add up to
    ///   nearly all of IPv4 or IPv6, without ports.
    /// - Cilium: `fromEntities` and `toEntities` of `all` or `world`, CIDRs as above, without `toPorts`. A rule that
    ///   only allows single L7 requests (`rules`) does not count.
    /// - Calico: an Allow rule without peers or with all nets, and without ports. In the default tier a Pass rule
    ///   counts too, unless a later tier stops all of its traffic: after the last tier Calico applies the profile of
    ///   the namespace, which allows everything. In an earlier tier Pass leaves the decision to the policies of the
    ///   namespace. A rule whose local addresses belong to no pod (`127.0.0.0/8`) applies to hosts and is ignored.
    /// - ClusterNetworkPolicy: an Accept (Allow) rule for all `networks`, without `protocols`, in the Admin tier. The
    ///   Baseline tier is evaluated only for pods that are not isolated, so it does not count.
    ///
    /// A cluster-scoped policy is checked if its selector matches a known namespace with a profile, or can match only
    /// such namespaces. If it names neither the namespace nor a profile and selects only some pods, it is checked only
    /// if a matching pod or pod template is known there. Otherwise the policy may be meant for nodes, or for pods of
    /// other namespaces.
    ///
    /// A namespace with unknown labels counts as one without a profile. Offline, a namespace manifest without a profile
    /// counts as a new namespace and gets the default profile. Policies with a name reserved for the baseline controller
    /// are not checked: a reserved policy that allows everything belongs to an open hatch, which has an end time.
    ///
    /// **Limits.** At most 10,000 pods are compared in one decision. Selectors that overlap are combined greedily, those
    /// with the most ports first, in at most 32 combinations for each policy and direction.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: internal
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-all
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - {}
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: internal
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: https-out
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - ipBlock:
    ///         cidr: 0.0.0.0/0
    ///         except: [169.254.169.254/32]
    ///     ports:
    ///     - protocol: TCP
    ///       port: 443
    /// ```
    ///
    /// ## Settings
    ///
    /// - `profiles`: the profiles that count. All of `profiles.names` by default.
    /// - `most`: the maximum number of ports of one protocol that may be open to anywhere. More cancels the isolation.
    ///   16384 by default, a quarter of all ports.
    "dissolved-baseline", Deny,
    pub struct DissolvedBaseline {
        profiles: Option<Vec<String>>,
        most: u16,
    }
}

impl Default for DissolvedBaseline {
    fn default() -> Self {
        Self { profiles: None, most: 16_384 }
    }
}

impl Rule for DissolvedBaseline {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.written().is_none_or(|object| case.site.is_reserved(&object.id)) {
            return;
        }
        let profiles = self.profiles.as_ref().unwrap_or(&case.site.profiles.names);
        let mut budget = BUDGET;
        let mut looks = MOST_LOOKS;
        for policy in case.policies().iter().filter(|policy| !comes_too_late(case, policy)) {
            let later = LaterStages::after(case, policy, &mut budget);
            let mut wide: Vec<Wide<'_>> =
                policy.sides().flat_map(|side| self.wide(case, policy, side, &later, &mut budget)).collect();
            for direction in Direction::ALL {
                if !wide.iter().any(|wide| wide.direction == direction) {
                    wide.extend(self.wide_together(case, policy, direction, &later, &mut budget));
                }
            }
            // Wide rules are rare, and the namespace lookup is expensive.
            if wide.is_empty() || policy.subject.excludes(&policy.subject, case.view, &mut budget) {
                continue;
            }
            for Wide { direction, rule, ports, pods } in wide {
                let pods = pods.as_ref().unwrap_or(&policy.subject);
                let Some(profiled) = profiled(case, pods, profiles, &mut looks) else { continue };
                let whom = match for_whom(rule) {
                    all if all.is_empty() => text!("{pods}"),
                    some => text!("{pods}, only those{some},"),
                };
                let preposition = direction.preposition();
                let is_everything =
                    rule.action == Action::Allow && rule.peers == Peers::Any && rule.ports == Ports::Any;
                let message = if is_everything {
                    text!("this rule allows all {direction} for {whom} and cancels the isolation that {profiled}")
                } else {
                    text!(
                        "{direction} {preposition} {} {} for {whom} on {ports}; this cancels the isolation that {profiled}",
                        rule.peers,
                        verb(rule)
                    )
                };
                let help = "allow only the needed peers and ports, or choose another profile for the namespace";
                findings.add::<Self>(case, rule.path.clone(), message, help.into(), None);
            }
        }
    }
}

/// Maximum number of pods that one decision compares.
const MOST_LOOKS: usize = 10_000;

/// A rule that allows everything, alone or together with other rules.
struct Wide<'a> {
    direction: Direction,
    rule: &'a TrafficRule,
    /// The ports, as text.
    ports: String,
    /// The pods of the policy that this is about. None for all of them.
    pods: Option<Pods>,
}

impl DissolvedBaseline {
    /// The rules of one side that allow everything alone.
    fn wide<'a>(
        &self,
        case: &Case<'_>,
        policy: &Policy,
        (direction, side): (Direction, &'a Side),
        later: &LaterStages<'_>,
        budget: &mut usize,
    ) -> Vec<Wide<'a>> {
        let mut found = Vec::new();
        let stopping: Vec<(usize, &TrafficRule)> = stopping(policy, side).collect();
        for (at, rule) in side.rules.iter().enumerate() {
            charge(1);
            let Some(ports) = self.every_port(rule) else { continue };
            if are_anything(&rule.peers)
                && later.lets_through(direction, rule, budget)
                && !is_never_asked(case, policy, &stopping, (at, rule), budget)
            {
                found.push(Wide { direction, rule, ports, pods: None });
            }
        }
        found
    }

    /// The rule that opens too many ports to anywhere, together with other rules for the same pods.
    fn wide_together<'a>(
        &self,
        case: &'a Case<'a>,
        policy: &'a Policy,
        direction: Direction,
        later: &LaterStages<'a>,
        budget: &mut usize,
    ) -> Option<Wide<'a>> {
        let is_part = |rule: &TrafficRule| is_plain(rule) && (are_anything(&rule.peers) || has_blocks(&rule.peers));
        let parts = combined_rules::parts(case, policy, direction, later, is_part)?;
        let may_be_wide = |protocol| combined_rules::sum(&parts, protocol).count() > u128::from(self.most);
        let protocols: Vec<Protocol> =
            Protocol::WITH_PORTS.into_iter().filter(|protocol| may_be_wide(*protocol)).collect();
        if protocols.is_empty() {
            return None;
        }
        let side = policy.side(direction);
        let stopping: Vec<(usize, &TrafficRule)> = stopping(policy, side).collect();
        let never_asked: HashSet<*const TrafficRule> = if stopping.is_empty() {
            HashSet::new()
        } else {
            let rules = side.rules.iter().enumerate().filter(|(_, rule)| rule.action != Action::Deny);
            let never = rules.filter(|at| is_never_asked(case, policy, &stopping, *at, budget));
            never.map(|(_, rule)| std::ptr::from_ref(rule)).collect()
        };
        let is_open = |part: &&Part<'a>| is_part(part.rule) && !never_asked.contains(&std::ptr::from_ref(part.rule));
        let parts: Vec<Part<'a>> = parts.iter().filter(is_open).copied().collect();
        combined_rules::for_same_pods(&parts, case).into_iter().find_map(|parts| {
            protocols.iter().find_map(|protocol| {
                let open = self.open_ports(&parts, *protocol)?;
                let before: Vec<Part<'a>> = parts.iter().filter(|part| !part.is_own).copied().collect();
                let mut added = open;
                added.subtract(&combined_rules::open_to_anywhere(&before, *protocol));
                if added.count() <= MIN_SHARE {
                    return None;
                }
                let rule = parts.iter().rfind(|part| part.is_own)?.rule;
                let is_enough = |some: &[Part<'a>]| self.open_ports(some, *protocol).is_some();
                let parts = combined_rules::sufficient(&parts, is_enough);
                let with_whom = combined_rules::with_whom(&parts, case);
                let ports = match self.open_ports(&parts, *protocol)?.count() {
                    _ if parts.iter().all(|part| part.rule.ports == Ports::Any) => text!("every port, {with_whom}"),
                    65_535 => text!("every {protocol} port, {with_whom}"),
                    open => text!("{open} {protocol} ports, {with_whom}"),
                };
                Some(Wide { direction, rule, ports, pods: combined_rules::common_pods(&parts, policy, case) })
            })
        })
    }

    /// The ports that these rules open to anywhere, if there are too many.
    fn open_ports(&self, parts: &[Part<'_>], protocol: Protocol) -> Option<Ranges<u16>> {
        let mut open = combined_rules::open_to_anywhere(parts, protocol);
        // Port 0 receives no traffic.
        open.subtract(&Ranges::between(0, 0));
        (open.count() > u128::from(self.most)).then_some(open)
    }

    /// Describes the ports if a rule allows more than `most` of them unconditionally.
    fn every_port(&self, rule: &TrafficRule) -> Option<String> {
        if is_plain(rule) { AnyPort::of(self.most).every_port(&rule.ports) } else { None }
    }
}

/// The rules of a side that stop traffic (deny or pass), with their positions.
fn stopping<'a>(policy: &Policy, side: &'a Side) -> impl Iterator<Item = (usize, &'a TrafficRule)> {
    let has_order = policy.order != Order::Additive;
    side.rules.iter().enumerate().filter(move |(_, rule)| match rule.action {
        Action::Deny => true,
        Action::Pass => has_order,
        Action::Allow | Action::Log => false,
    })
}

/// Returns true if another rule of the policy decides all of this rule's traffic: a deny rule, or in an ordered policy
/// an earlier rule.
fn is_never_asked(
    case: &Case<'_>,
    policy: &Policy,
    stopping: &[(usize, &TrafficRule)],
    (at, rule): (usize, &TrafficRule),
    budget: &mut usize,
) -> bool {
    let is_before = |place: usize| place < at || policy.order == Order::Additive;
    for (_, other) in stopping.iter().take_while(|(place, _)| is_before(*place)) {
        if *budget == 0 {
            return false;
        }
        if other.covers(rule, case.view, budget) {
            return true;
        }
    }
    false
}

/// Returns true if a policy is evaluated only after the policies that isolate the namespace.
fn comes_too_late(case: &Case<'_>, policy: &Policy) -> bool {
    policy.place(case.view).0 > Stage::Policies.position(None)
}

/// Returns true if a rule allows or denies whole connections, without further conditions.
fn is_plain(rule: &TrafficRule) -> bool {
    rule.conditions.is_empty() && !matches!(rule.filter, Some(Filter::Requests | Filter::Lookups(_)))
}

/// Returns true if the peers include CIDRs.
fn has_blocks(peers: &Peers) -> bool {
    peers.listed().iter().any(|peer| matches!(peer.who, Who::Addresses(_)))
}
