//! Rules of several policies added up: all rules for the same pods count together, however they are split.
//!
//! Rules are for the same pods if a pod can exist that the selectors of all of them match. Such pods are searched
//! greedily: from each rule of the policy under review, the rules that open the most ports come first.
//!
//! **Limits.** At most 32 sets of pods are searched for one policy and direction.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::later_stages::LaterStages;
use crate::budget::charge;
use crate::model::{
    Action, AddressSet, Direction, Family, Layers, Number, Peers, Pods, Policy, Protocol, Ranges, Rule as TrafficRule,
    Stage, Who, Witness, sweep,
};
use crate::rules::rule::Case;

/// Number of ports that an object may add to the ports of other policies before the sum is reported for it.
pub(crate) const MIN_SHARE: u128 = 16;

/// Maximum number of combinations of rules that are searched.
const MAX_COMBINATIONS: usize = 32;

/// An allow rule with its policy.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) rule: &'a TrafficRule,
    /// True if the rule belongs to the policy under review.
    pub(crate) is_own: bool,
}

impl<'a> Part<'a> {
    /// The ports of a protocol that the rule is known to allow.
    pub(crate) fn ports(&self, protocol: Protocol) -> Ranges<u16> {
        self.rule.ports.known_numbers(protocol)
    }

    /// The policy, if it belongs to another object than the one under review.
    pub(crate) fn other_object(&self, case: &Case<'_>) -> Option<&'a Policy> {
        (!self.policy.object.is_same_object(&case.change.object().id)).then_some(self.policy)
    }
}

/// Returns true if rules of a policy open so many ports that a sum may be reported for them.
fn open_enough(rules: &[&TrafficRule]) -> bool {
    // Most policies list a few ports and need only this check.
    if rules.iter().map(|rule| rule.ports.known_at_most()).sum::<u128>() <= MIN_SHARE {
        return false;
    }
    Protocol::WITH_PORTS.into_iter().any(|protocol| {
        let sum: Ranges<u16> = rules.iter().flat_map(|rule| spans(rule, protocol)).collect();
        sum.count() > MIN_SHARE
    })
}

/// The matching allow rules of one direction for pods of a policy, as [`all_parts`]. None if its own rules open so few
/// ports that a sum is not reported for it.
pub(crate) fn parts<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    later: &LaterStages<'a>,
    is_wanted: impl Fn(&TrafficRule) -> bool,
) -> Option<Vec<Part<'a>>> {
    let own = policy.side(direction).rules.iter().filter(|rule| {
        charge(1);
        is_wanted(rule)
    });
    let mut own: Vec<&TrafficRule> = own.collect();
    if !open_enough(&own) {
        return None;
    }
    own.retain(|rule| later.lets_through(direction, rule, &mut { usize::MAX }));
    open_enough(&own).then(|| all_parts(case, policy, direction, own))
}

/// The allow rules of one direction that may apply to pods of a policy: first the rules of other objects, then those of
/// earlier policies in its object, then these rules of its own.
pub(crate) fn all_parts<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    own: Vec<&'a TrafficRule>,
) -> Vec<Part<'a>> {
    let object = &case.change.object().id;
    let others = case.after().policies_for(&policy.subject).into_iter();
    let others = others.filter(|other| !other.object.is_same_object(object));
    let before = case.policies().iter().take_while(|other| !std::ptr::eq(*other, policy));
    let mut parts = Vec::new();
    for other in others.chain(before).filter(|other| matches!(other.stage, Stage::Policies | Stage::Admin)) {
        let allowing = other.side(direction).rules.iter().filter(|rule| {
            charge(1);
            rule.action == Action::Allow && rule.is_for_pods()
        });
        parts.extend(allowing.map(|rule| Part { policy: other, rule, is_own: false }));
    }
    parts.extend(own.into_iter().map(|rule| Part { policy, rule, is_own: true }));
    parts
}

fn spans(rule: &TrafficRule, protocol: Protocol) -> Vec<(u16, u16)> {
    rule.ports.known_numbers(protocol).as_slice().to_vec()
}

/// The ports of a protocol that at least one of these rules allows.
pub(crate) fn sum<'a>(parts: impl IntoIterator<Item = &'a Part<'a>>, protocol: Protocol) -> Ranges<u16> {
    parts.into_iter().flat_map(|part| spans(part.rule, protocol)).collect()
}

/// A number of ports of any protocol, as an order of rules: those that open the most come first.
pub(crate) fn weight(parts: &[Part<'_>]) -> u128 {
    parts.iter().map(|part| part.rule.ports.known_at_most()).fold(0, u128::saturating_add)
}

/// Searches combinations of items that can hold at once, each with at least one of the seeds. `join` adds an item to a
/// combination, or returns false if it contradicts the others there. In each combination the heaviest items come
/// first. Every item that can be together with a seed is in one combination with it, up to the limit.
///
/// Returns the positions of the items in each combination.
pub(crate) fn combinations<M>(
    weights: &[u128],
    seeds: impl IntoIterator<Item = usize>,
    start: impl Fn() -> M,
    mut join: impl FnMut(&mut M, usize) -> bool,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(weights.get(*at).copied()));
    let mut found: Vec<Vec<usize>> = Vec::new();
    let mut is_found = vec![false; weights.len()];
    for seed in seeds {
        if is_found.get(seed) == Some(&true) {
            continue;
        }
        let mut has_met = vec![false; weights.len()];
        for first in std::iter::once(None).chain(order.iter().copied().map(Some)) {
            if found.len() == MAX_COMBINATIONS {
                return found;
            }
            if first.is_some_and(|first| first == seed || has_met.get(first) == Some(&true)) {
                continue;
            }
            charge(1);
            let mut combination = start();
            if !join(&mut combination, seed) {
                break;
            }
            let mut members = vec![seed];
            if let Some(first) = first {
                if !join(&mut combination, first) {
                    continue;
                }
                members.push(first);
            }
            for other in &order {
                if *other != seed && Some(*other) != first && join(&mut combination, *other) {
                    members.push(*other);
                }
            }
            for member in &members {
                for marks in [&mut has_met, &mut is_found] {
                    if let Some(mark) = marks.get_mut(*member) {
                        *mark = true;
                    }
                }
            }
            members.sort_unstable();
            found.push(members);
        }
    }
    found
}

/// Pods that several rules apply to.
struct SamePods<'a> {
    witness: Witness<'a>,
    /// Their addresses, if a rule names them.
    within: Option<AddressSet>,
}

impl<'a> SamePods<'a> {
    /// Narrows the pods down to those of a rule. Returns false, and changes nothing, if there are none.
    fn add(&mut self, part: &Part<'a>) -> bool {
        let within = part.rule.within.as_ref().map(|other| match &self.within {
            Some(own) => own.intersection(other),
            None => other.clone(),
        });
        if within.as_ref().is_some_and(|within| !within.may_be_of_pods())
            || !self.witness.add(&part.policy.subject, part.rule.only.as_ref())
        {
            return false;
        }
        self.within = within.or_else(|| self.within.take());
        true
    }
}

/// Combines the rules that can apply to the same pod, as a list for each set of pods. Each list has a rule of the
/// policy itself.
pub(crate) fn for_same_pods<'a>(parts: &[Part<'a>], case: &'a Case<'a>) -> Vec<Vec<Part<'a>>> {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut kinds: Vec<Vec<Part<'a>>> = Vec::new();
    for part in parts {
        charge(1);
        let key = (&part.policy.subject, &part.rule.only, &part.rule.within);
        let at = *places.entry(key).or_insert(kinds.len());
        match kinds.get_mut(at) {
            Some(alike) => alike.push(*part),
            None => kinds.push(vec![*part]),
        }
    }
    let weights: Vec<u128> = kinds.iter().map(|kind| weight(kind)).collect();
    let is_own = |at: &usize| kinds.get(*at).is_some_and(|kind| kind.iter().any(|part| part.is_own));
    // A kind for all pods of the policy is in every combination that another one is in.
    let (for_all, for_some): (Vec<usize>, Vec<usize>) = (0..kinds.len()).filter(is_own).partition(|at| {
        kinds
            .get(*at)
            .and_then(|kind| kind.first())
            .is_some_and(|part| part.rule.only.is_none() && part.rule.within.is_none())
    });
    let start = || SamePods { witness: Witness::new(case.view), within: None };
    let join = |pods: &mut SamePods<'a>, at: usize| {
        kinds.get(at).and_then(|kind| kind.first()).is_some_and(|part| pods.add(part))
    };
    let found = combinations(&weights, for_all.into_iter().chain(for_some), start, join);
    let all = |members: Vec<usize>| {
        let parts: Vec<Part<'a>> = members.into_iter().filter_map(|at| kinds.get(at)).flatten().copied().collect();
        charge(parts.len());
        parts
    };
    found.into_iter().map(all).collect()
}

/// Maximum number of other rules for which it is checked that they suffice.
const MAX_SUFFICIENT: usize = 8;

/// The rules of the policy itself, and as many of the others as the sum needs: those that open the most ports.
pub(crate) fn sufficient<'a>(parts: &[Part<'a>], is_enough: impl Fn(&[Part<'a>]) -> bool) -> Vec<Part<'a>> {
    let (own, mut others): (Vec<Part<'a>>, Vec<Part<'a>>) = parts.iter().partition(|part| part.is_own);
    others.sort_by_key(|part| std::cmp::Reverse(weight(&[*part])));
    for count in 0..=others.len().min(MAX_SUFFICIENT) {
        let some: Vec<Part<'a>> = others.iter().take(count).chain(&own).copied().collect();
        if is_enough(&some) {
            return some;
        }
    }
    parts.to_vec()
}

/// The pods of a policy that all of these rules apply to. None if these are all of its pods.
pub(crate) fn common_pods(parts: &[Part<'_>], policy: &Policy, case: &Case<'_>) -> Option<Pods> {
    let mut common: Option<Pods> = None;
    for other in parts.iter().filter(|part| !part.is_own).map(|part| &part.policy.subject) {
        let own = common.as_ref().unwrap_or(&policy.subject);
        if !other.covers(own, case.view, &mut { usize::MAX }) {
            common = own.and(other, case.view);
        }
    }
    common
}

/// Returns true if these peers are any peer, or nearly all addresses of an IP family.
pub(crate) fn are_anything(peers: &Peers) -> bool {
    let Peers::Only(listed) = peers else { return true };
    listed.iter().any(|peer| peer.who.is_anywhere()) || blocks(peers).is_nearly_everywhere()
}

/// The addresses among these peers.
fn blocks(peers: &Peers) -> AddressSet {
    AddressSet::union(peers.listed().iter().filter_map(|peer| match &peer.who {
        Who::Addresses(block) => Some(block.addresses()),
        _ => None,
    }))
}

/// The ports of a protocol that these rules open to any peer, or to nearly all addresses of an IP family.
pub(crate) fn open_to_anywhere(parts: &[Part<'_>], protocol: Protocol) -> Ranges<u16> {
    // Most policies have few different port lists.
    let mut places: HashMap<Ranges<u16>, usize> = HashMap::new();
    let mut groups: Vec<(bool, Vec<AddressSet>)> = Vec::new();
    for part in parts {
        let at = *places.entry(part.ports(protocol)).or_insert(groups.len());
        if groups.len() == at {
            groups.push((false, Vec::new()));
        }
        let Some((is_open, sets)) = groups.get_mut(at) else { continue };
        if *is_open
            || part.rule.peers == Peers::Any
            || part.rule.peers.listed().iter().any(|peer| peer.who.is_anywhere())
        {
            *is_open = true;
        } else {
            sets.push(blocks(&part.rule.peers));
        }
    }
    let mut ports: Vec<(Ranges<u16>, usize)> = places.into_iter().collect();
    ports.sort_by_key(|(_, at)| *at);
    let (mut open, mut rest) = (Vec::new(), Vec::new());
    for ((ports, _), (is_open, sets)) in ports.into_iter().zip(groups) {
        let addresses = AddressSet::union(sets);
        if is_open || addresses.is_nearly_everywhere() {
            open.extend_from_slice(ports.as_slice());
        } else if addresses != AddressSet::default() {
            rest.push((ports, addresses));
        }
    }
    if rest.len() > 1 {
        let v4 = |set: &AddressSet| set.v4().clone();
        let v6 = |set: &AddressSet| set.v6().clone();
        open.extend_from_slice(nearly_open(&rest, v4, &Family::v4()).as_slice());
        open.extend_from_slice(nearly_open(&rest, v6, &Family::v6()).as_slice());
    }
    open.into_iter().collect()
}

/// The ports that are open to nearly all addresses of one family.
fn nearly_open<T: Number>(
    groups: &[(Ranges<u16>, AddressSet)],
    of_family: impl Fn(&AddressSet) -> Ranges<T>,
    family: &Family<T>,
) -> Ranges<u16> {
    let sets: Vec<Ranges<T>> = groups.iter().map(|(_, set)| of_family(set)).collect();
    let all: Ranges<T> = sets.iter().flat_map(Ranges::as_slice).copied().collect();
    if !family.is_nearly_all(&all) {
        return Ranges::none();
    }
    let parts = sets.iter().chain([&family.private, &family.public]);
    let mut layers = Layers::new(parts, |first, last| family.size(first, last));
    let ports: Vec<&Ranges<u16>> = groups.iter().map(|(ports, _)| ports).collect();
    let (mut open, mut since) = (Vec::new(), None);
    sweep(&ports, |number, changes| {
        open.extend(since.take().map(|first| (first, number.saturating_sub(1))));
        for (_, begins, at) in changes {
            if let Some(set) = sets.get(*at) {
                layers.change(set, *begins);
            }
        }
        since = family.is_nearly_all_of(layers.covered()).then_some(number);
        ControlFlow::Continue(())
    });
    open.extend(since.map(|first| (first, u16::MAX)));
    open.into_iter().collect()
}

/// The other objects that contribute to a sum, as the end of a message.
pub(crate) fn with_whom(parts: &[Part<'_>], case: &Case<'_>) -> String {
    const MAX_NAMES: usize = 3;
    let mut names: Vec<&Policy> = Vec::new();
    for other in parts.iter().filter_map(|part| part.other_object(case)) {
        if names.len() <= MAX_NAMES && !names.iter().any(|named| named.object == other.object) {
            names.push(other);
        }
    }
    if names.is_empty() {
        return "by several rules together".to_owned();
    }
    let more = if names.len() > MAX_NAMES { " and others" } else { "" };
    let names: Vec<String> = names.iter().take(MAX_NAMES).map(|policy| policy.object.to_string()).collect();
    text!("together with {}{more}", names.join(", "))
}
