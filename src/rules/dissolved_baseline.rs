//! See [`DissolvedBaseline`].

use std::collections::HashMap;

use super::any_port::AnyPort;
use super::shared::combined_rules::{self, MIN_SHARE, Part};
use super::shared::later_stages::{LaterStages, for_whom, verb};
use super::shared::profiles::profiled;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Action, AddressSet, BUDGET, Direction, Filter, Order, Peers, Policy, Ports, Protocol, Ranges, Rule as TrafficRule,
    Side, Stage, Who,
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
    /// Rules that allow any peer, or all addresses of an IP family, on more than `most` ports of one protocol. The rule
    /// is evaluated for policies that select pods of a namespace with a known profile label. A profile denies
    /// everything that it does not allow, in both directions.
    ///
    /// - A rule for some of the pods counts too, because these pods lose their baseline.
    /// - The rules of all policies for the same pods are added up, so splitting ports or addresses changes nothing. An
    ///   object is reported if it adds more than 16 ports to such a sum.
    /// - A rule does not count if the same policy denies all of its traffic first.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy: `ingress: [{}]`, `egress: [{}]`; `ipBlock` of `0.0.0.0/0` or `::/0`, or CIDRs that add up to
    ///   all of IPv4 or IPv6, without ports. An exception for addresses that no pod has (link-local, loopback,
    ///   multicast) changes nothing. Neither does an exception for fewer than 256 other addresses, about the pods of a
    ///   single node.
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
    /// **Limits.** At most 10,000 pods are compared in one decision.
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
                    wide.extend(self.wide_together(case, policy, direction, &later));
                }
            }
            // Wide rules are rare, and the namespace lookup is expensive.
            if wide.is_empty() || policy.subject.excludes(&policy.subject, case.view, &mut budget) {
                continue;
            }
            let Some(profiled) = profiled(case, policy, profiles, &mut looks) else { continue };
            for Wide { direction, rule, ports } in wide {
                let whom = match for_whom(rule) {
                    all if all.is_empty() => text!("{}", policy.subject),
                    some => text!("{}, only those{some},", policy.subject),
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

/// A rule that allows everything, alone or together with other rules of its policy.
struct Wide<'a> {
    direction: Direction,
    rule: &'a TrafficRule,
    /// The ports, as text.
    ports: String,
}

impl DissolvedBaseline {
    /// The rules of one side that allow everything. If several rules do so together, only the last one is returned.
    fn wide<'a>(
        &self,
        case: &Case<'_>,
        policy: &Policy,
        (direction, side): (Direction, &'a Side),
        later: &LaterStages<'_>,
        budget: &mut usize,
    ) -> Vec<Wide<'a>> {
        let mut found = Vec::new();
        // Rules with the same ports and for the same pods may allow everything together.
        let mut parts: Vec<(String, Vec<(&TrafficRule, AddressSet)>)> = Vec::new();
        let stopping: Vec<(usize, &TrafficRule)> = stopping(policy, side).collect();
        for (at, rule) in side.rules.iter().enumerate() {
            charge(1);
            let Some(ports) = self.every_port(rule) else { continue };
            let is_alone = are_anything(&rule.peers);
            let blocks = blocks(&rule.peers);
            if !is_alone && blocks == AddressSet::default()
                || !later.lets_through(direction, rule, budget)
                || is_never_asked(case, policy, &stopping, (at, rule), budget)
            {
                continue;
            }
            if is_alone {
                found.push(Wide { direction, rule, ports });
                continue;
            }
            let is_alike = |(other_ports, others): &&mut (String, Vec<(&TrafficRule, AddressSet)>)| {
                let is_like =
                    |(other, _): &(&TrafficRule, _)| (&other.only, &other.within) == (&rule.only, &rule.within);
                *other_ports == ports && others.first().is_some_and(is_like)
            };
            if let Some((_, others)) = parts.iter_mut().find(is_alike) {
                others.push((rule, blocks));
            } else if parts.len() < MOST_ALIKE {
                parts.push((ports, vec![(rule, blocks)]));
            }
        }
        for (ports, parts) in parts {
            let Some((rule, _)) = parts.last() else { continue };
            let rule: &TrafficRule = rule;
            if is_a_family(&AddressSet::union(parts.into_iter().map(|(_, blocks)| blocks))) {
                found.push(Wide { direction, rule, ports: text!("{ports}, by several rules together") });
            }
        }
        found
    }

    /// The rule that opens too many ports to anywhere, together with other rules for the same pods.
    fn wide_together<'a>(
        &self,
        case: &Case<'a>,
        policy: &'a Policy,
        direction: Direction,
        later: &LaterStages<'a>,
    ) -> Option<Wide<'a>> {
        let is_part = |rule: &TrafficRule| is_plain(rule) && (are_anything(&rule.peers) || has_blocks(&rule.peers));
        let parts = combined_rules::parts(case, policy, direction, later, is_part)?;
        let parts: Vec<Part<'a>> = parts.into_iter().filter(|part| is_part(part.rule)).collect();
        let stopping: Vec<(usize, &TrafficRule)> = stopping(policy, policy.side(direction)).collect();
        let may_be_wide = |protocol| combined_rules::sum(&parts, protocol).count() > u128::from(self.most);
        let protocols: Vec<Protocol> =
            Protocol::WITH_PORTS.into_iter().filter(|protocol| may_be_wide(*protocol)).collect();
        if protocols.is_empty() {
            return None;
        }
        combined_rules::by_pods(&parts, case).into_iter().find_map(|parts| {
            protocols.iter().find_map(|protocol| {
                let open = open_to_anywhere(&parts, *protocol);
                let before: Vec<Part<'a>> = parts.iter().filter(|part| !part.is_own).copied().collect();
                let added = open - open_to_anywhere(&before, *protocol).min(open);
                if open <= u128::from(self.most) || added <= MIN_SHARE {
                    return None;
                }
                let is_asked = |rule: &TrafficRule| {
                    let at = policy.side(direction).rules.iter().position(|own| std::ptr::eq(own, rule));
                    !is_never_asked(case, policy, &stopping, (at.unwrap_or_default(), rule), &mut { BUDGET })
                };
                let own: Vec<&TrafficRule> = parts.iter().filter(|part| part.is_own).map(|part| part.rule).collect();
                let rule = own.into_iter().rev().find(|rule| is_asked(rule))?;
                let ports = text!("{open} {protocol} ports, {}", combined_rules::with_whom(&parts, case));
                Some(Wide { direction, rule, ports })
            })
        })
    }

    /// Describes the ports if a rule allows more than `most` of them unconditionally.
    fn every_port(&self, rule: &TrafficRule) -> Option<String> {
        if is_plain(rule) { AnyPort::of(self.most).every_port(&rule.ports) } else { None }
    }
}

/// Number of ports of a protocol that these rules open to all addresses of a family.
fn open_to_anywhere(parts: &[Part<'_>], protocol: Protocol) -> u128 {
    // Grouped by ports first: most policies have few different port lists.
    let mut groups: HashMap<Ranges<u16>, (bool, Vec<AddressSet>)> = HashMap::new();
    for part in parts {
        let group = groups.entry(part.ports(protocol)).or_default();
        if are_anything(&part.rule.peers) {
            group.0 = true;
        } else {
            group.1.push(blocks(&part.rule.peers));
        }
    }
    let groups: Vec<(Ranges<u16>, bool, AddressSet)> =
        groups.into_iter().map(|(ports, (is_open, sets))| (ports, is_open, AddressSet::union(sets))).collect();
    // If the blocks of all rules do not add up to an IP family, only rules without blocks open ports to anywhere.
    let blocks = AddressSet::union(groups.iter().map(|(.., set)| set.clone()));
    let adds_up = is_a_family(&blocks);
    if !adds_up {
        let open = groups.iter().filter(|(_, is_open, _)| *is_open).flat_map(|(ports, ..)| ports.as_slice()).copied();
        let open: Ranges<u16> = open.collect();
        return open.count() - u128::from(open.contains(0));
    }
    let mut starts: Vec<u32> = groups
        .iter()
        .flat_map(|(ports, ..)| ports.as_slice())
        .flat_map(|(first, last)| [u32::from(*first), u32::from(*last) + 1])
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let mut known: HashMap<Vec<usize>, bool> = HashMap::new();
    let mut open = 0;
    for (first, end) in starts.iter().zip(starts.iter().skip(1)) {
        let Ok(number) = u16::try_from(*first) else { continue };
        charge(groups.len());
        let holding = groups.iter().enumerate().filter(|(_, (ports, ..))| ports.contains(number));
        let holding: Vec<usize> = holding.map(|(at, _)| at).collect();
        let is_open = *known.entry(holding).or_insert_with_key(|holding| {
            let of = || holding.iter().filter_map(|at| groups.get(*at));
            of().any(|(_, is_open, _)| *is_open) || is_a_family(&AddressSet::union(of().map(|(.., set)| set.clone())))
        });
        // Port 0 receives no traffic.
        open += if is_open { u128::from(end - first.max(&1).min(end)) } else { 0 };
    }
    open
}

/// Maximum number of distinct rule kinds (ports, pods) that are compared.
const MOST_ALIKE: usize = 20;

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

/// Returns true if these peers are any peer, or all addresses of an IP family.
fn are_anything(peers: &Peers) -> bool {
    let Peers::Only(listed) = peers else { return true };
    listed.iter().any(|peer| peer.who.is_anywhere()) || is_a_family(&blocks(peers))
}

/// The addresses among these peers.
fn blocks(peers: &Peers) -> AddressSet {
    AddressSet::union(peers.listed().iter().filter_map(|peer| match &peer.who {
        Who::Addresses(block) => Some(block.addresses()),
        _ => None,
    }))
}

/// An exception of fewer addresses than this closes nothing relevant: it is about the pods of one node.
const FEW: u128 = 256;

/// Returns true if these are all the addresses of an IP family that pods can have, except for fewer than [`FEW`].
fn is_a_family(addresses: &AddressSet) -> bool {
    [AddressSet::every_v4_of_pods(), AddressSet::every_v6_of_pods()].into_iter().any(|mut left| {
        left.subtract(addresses);
        left.count() < FEW
    })
}
