//! See [`DissolvedBaseline`].

use super::any_port::AnyPort;
use super::passed_on::{Later, for_whom, verb};
use super::profiled::profiled;
use super::{Case, Findings, Rule};
use crate::model::{
    Action, AddressSet, BUDGET, Direction, Filter, Order, Peers, Policy, Rule as TrafficRule, Side, Stage, Who,
};

rule! {
    /// A rule allows everything in a direction that the profile of the namespace isolates.
    ///
    /// ## Why
    ///
    /// Policies add up: one that allows everything leaves nothing of all the others. The namespace still carries the label
    /// of its profile, its baseline is still there, and neither does anything. Whoever looks at the label believes it.
    ///
    /// ## What it looks at
    ///
    /// Rules that allow any peer, or all addresses of a family, on every port of every protocol or of one, in policies for
    /// pods of a namespace that carries the label of a known profile. A profile denies what it does not allow, in both
    /// directions. A rule for some of the pods is one too: for those the baseline is gone. So are several rules of a policy
    /// that do it together. One of which nothing is ever asked, since the policy denies all of it before, is none.
    ///
    /// - NetworkPolicy: `ingress: [{}]`, `egress: [{}]`; `ipBlock` of `0.0.0.0/0` or `::/0`, or blocks that make up all of
    ///   IPv4 or of IPv6, without ports. Leaving out addresses that no pod has (link-local, loopback, multicast) changes
    ///   nothing, and neither does leaving out fewer than 256 others: the pods of a single node have as many.
    /// - Cilium: `fromEntities` and `toEntities` of `all` or `world`, CIDRs as above, without `toPorts`. A rule that only
    ///   lets single requests through (`rules`) is none.
    /// - Calico: an Allow rule without peers or with all nets, and without ports. In the default tier a Pass rule too, unless
    ///   something in a later tier stops all of it: after the last tier Calico asks the profile of the namespace, which allows
    ///   everything. In an earlier tier Pass leaves it to the policies of the namespace. A rule for addresses of the near end
    ///   that no pod has (`127.0.0.0/8`) is for hosts, and none.
    /// - ClusterNetworkPolicy: an Accept (Allow) rule for all `networks`, without `protocols`, in the Admin tier. What the
    ///   Baseline tier accepts is asked only where nothing isolates.
    ///
    /// A policy of the cluster is judged where its selector is known to mean a namespace with a profile, or can mean no
    /// other. If it names neither the namespace nor a profile, and is for some of the pods, it is judged where such a pod, or a
    /// template of one, is known there: it may be meant for nodes, or for pods elsewhere. So that no decision is slow, at most
    /// 10000 are looked at. A namespace whose labels are not known has no profile here. Offline, one whose manifest names no
    /// profile has the default one, as if it were only made now. Policies whose names are reserved for the
    /// baseline controller are not judged: `enforcement: disabled` is its own way to open a namespace, and has an end.
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
    /// - `profiles`: the profiles that count. Where it is left out all of `profiles.names` do.
    "dissolved-baseline", Deny,
    #[derive(Default)]
    pub struct DissolvedBaseline {
        profiles: Option<Vec<String>>,
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
            let later = Later::than(case, policy, &mut budget);
            let wide: Vec<Wide<'_>> =
                policy.sides().flat_map(|side| wide(case, policy, side, &later, &mut budget)).collect();
            // What is wide is rare, and looking for namespaces is not free.
            if wide.is_empty() || policy.subject.excludes(&policy.subject, case.view, &mut budget) {
                continue;
            }
            let Some(profiled) = profiled(case, policy, profiles, &mut looks) else { continue };
            for Wide { direction, rule, ports } in wide {
                let whom = format!("{}{}", policy.subject, for_whom(rule));
                let preposition = if direction == Direction::Ingress { "from" } else { "to" };
                let message = format!(
                    "{direction} {preposition} {} {} on {ports} for {whom}: nothing is left there of what isolates {profiled}",
                    rule.peers,
                    verb(rule)
                );
                let help = "allow the peers and the ports that are needed, or give the namespace a profile that fits";
                findings.add::<Self>(case, rule.path.clone(), message, help.into(), None);
            }
        }
    }
}

/// How many pods one decision looks at.
const MOST_LOOKS: usize = 10_000;

/// A rule that lets everything through, alone or together with others of its policy.
struct Wide<'a> {
    direction: Direction,
    rule: &'a TrafficRule,
    /// On which ports, in words.
    ports: String,
}

/// The rules of one side that let everything through. Of several that do so together it is the last one.
fn wide<'a>(
    case: &Case<'_>,
    policy: &Policy,
    (direction, side): (Direction, &'a Side),
    later: &Later<'_>,
    budget: &mut usize,
) -> Vec<Wide<'a>> {
    let mut found = Vec::new();
    // Those of the same ports and for the same pods may do it together.
    let mut parts: Vec<(String, Vec<(&TrafficRule, AddressSet)>)> = Vec::new();
    for (at, rule) in side.rules.iter().enumerate() {
        let Some(ports) = every_port(rule) else { continue };
        let is_alone = are_anything(&rule.peers);
        let blocks = blocks(&rule.peers);
        if !is_alone && blocks == AddressSet::default()
            || !later.lets_through(direction, rule, budget)
            || is_never_asked(case, policy, side, (at, rule), budget)
        {
            continue;
        }
        if is_alone {
            found.push(Wide { direction, rule, ports });
            continue;
        }
        let is_alike = |(other_ports, others): &&mut (String, Vec<(&TrafficRule, AddressSet)>)| {
            let is_like = |(other, _): &(&TrafficRule, _)| (&other.only, &other.within) == (&rule.only, &rule.within);
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
            found.push(Wide { direction, rule, ports: format!("{ports}, by several rules together") });
        }
    }
    found
}

/// How many kinds of rules are told apart that may let everything through together.
const MOST_ALIKE: usize = 20;

/// Whether another rule of the policy decides all that this one would: one that denies, or in an order an earlier one.
fn is_never_asked(
    case: &Case<'_>,
    policy: &Policy,
    side: &Side,
    (at, rule): (usize, &TrafficRule),
    budget: &mut usize,
) -> bool {
    let has_order = policy.order != Order::Additive;
    side.rules.iter().enumerate().any(|(place, other)| {
        let decides = match other.action {
            Action::Deny => place < at || !has_order,
            Action::Pass => place < at && has_order,
            Action::Allow | Action::Log => false,
        };
        decides && *budget > 0 && other.covers(rule, case.view, budget)
    })
}

/// Whether a policy is asked only after what isolates the namespace.
fn comes_too_late(case: &Case<'_>, policy: &Policy) -> bool {
    policy.place(case.view).0 > Stage::Policies.position(None)
}

/// On which ports, in words, a rule lets its peers through, if these are all there are.
fn every_port(rule: &TrafficRule) -> Option<String> {
    let is_filtered = matches!(rule.filter, Some(Filter::Requests | Filter::Lookups(_)));
    let is_plain = rule.conditions.is_empty() && !is_filtered;
    if is_plain { AnyPort::default().every_port(&rule.ports) } else { None }
}

/// Whether these are any peer, or all addresses of a family.
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

/// So few addresses that leaving them out keeps nothing closed: the pods of one node have as many.
const FEW: u128 = 256;

/// Whether these are all the addresses of a family that pods can have, or all but a few.
fn is_a_family(addresses: &AddressSet) -> bool {
    [AddressSet::every_v4_of_pods(), AddressSet::every_v6_of_pods()].into_iter().any(|mut left| {
        left.subtract(addresses);
        left.count() < FEW
    })
}
