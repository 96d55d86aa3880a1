//! Rules of several policies added up: what they open for the same pods counts together, however it is split.

use std::collections::HashMap;

use super::Case;
use super::passed_on::Later;
use crate::budget::charge;
use crate::model::{Action, Direction, Policy, Protocol, Ranges, Rule as TrafficRule, Stage};

/// Number of ports that an object may add to what others open already without being blamed for the sum.
pub(super) const MIN_SHARE: u128 = 16;

/// A rule that allows something, and the policy it stands in.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) policy: &'a Policy,
    pub(super) rule: &'a TrafficRule,
    /// Whether the policy is the one at hand.
    pub(super) is_own: bool,
}

impl<'a> Part<'a> {
    /// Returns true if it is proved that this rule is for all pods that the other one is for.
    pub(super) fn is_for_those_of(&self, other: &Part<'_>, case: &Case<'_>) -> bool {
        charge(1);
        (self.rule.only.is_none() || self.rule.only == other.rule.only)
            && (self.rule.within.is_none() || self.rule.within == other.rule.within)
            && (std::ptr::eq(self.policy, other.policy)
                || self.policy.subject.covers(&other.policy.subject, case.view, &mut { usize::MAX }))
    }

    /// The ports of a protocol that the rule is sure to allow.
    pub(super) fn ports(&self, protocol: Protocol) -> Ranges<u16> {
        self.rule.ports.known_numbers(protocol)
    }

    /// The policy, if it is another object than the one at hand.
    pub(super) fn other_object(&self, case: &Case<'_>) -> Option<&'a Policy> {
        (!self.policy.object.is_same_object(&case.change.object().id)).then_some(self.policy)
    }
}

/// The rules of one direction that are wanted and allow something for pods of a policy: those of other objects, those of the
/// policies before it in its object, and then its own.
///
/// None where its own rules open so few ports that no sum is held against them.
pub(super) fn parts<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    later: &Later<'a>,
    is_wanted: impl Fn(&TrafficRule) -> bool,
) -> Option<Vec<Part<'a>>> {
    let is_wanted = |rule: &&TrafficRule| {
        charge(1);
        rule.ports.entries() > 0 && is_wanted(rule)
    };
    let own = || policy.side(direction).rules.iter().filter(is_wanted);
    // Most policies list a few ports, and need no more than this.
    if own().map(|rule| rule.ports.known_at_most()).sum::<u128>() <= MIN_SHARE {
        return None;
    }
    let own: Vec<&TrafficRule> =
        own().filter(|rule| later.lets_through(direction, rule, &mut { usize::MAX })).collect();
    let is_much = |protocol| {
        let sum: Ranges<u16> = own.iter().flat_map(|rule| spans(rule, protocol)).collect();
        sum.count() > MIN_SHARE
    };
    if !Protocol::WITH_PORTS.into_iter().any(is_much) {
        return None;
    }
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
    Some(parts)
}

fn spans(rule: &TrafficRule, protocol: Protocol) -> Vec<(u16, u16)> {
    rule.ports.known_numbers(protocol).as_slice().to_vec()
}

/// The ports of a protocol that some of these rules allow.
pub(super) fn sum<'a>(parts: impl IntoIterator<Item = &'a Part<'a>>, protocol: Protocol) -> Ranges<u16> {
    parts.into_iter().flat_map(|part| spans(part.rule, protocol)).collect()
}

/// For each kind of pods among these rules, the rules that are for all of them. A rule stands for those of the same pods.
pub(super) fn by_pods<'a>(parts: &[Part<'a>], case: &Case<'_>) -> Vec<Vec<Part<'a>>> {
    let mut kinds: HashMap<_, (Part<'a>, Vec<Part<'a>>)> = HashMap::new();
    let mut order = Vec::new();
    for part in parts {
        let key = (&part.policy.subject, &part.rule.only, &part.rule.within);
        let (_, alike) = kinds.entry(key).or_insert_with(|| {
            order.push(key);
            (*part, Vec::new())
        });
        alike.push(*part);
    }
    let kinds: Vec<(Part<'a>, Vec<Part<'a>>)> = order.into_iter().filter_map(|key| kinds.remove(&key)).collect();
    let all = |(one, own): &(Part<'a>, Vec<Part<'a>>)| {
        let mut all = Vec::new();
        for (other, alike) in &kinds {
            if std::ptr::eq(other.rule, one.rule) || other.is_for_those_of(one, case) {
                charge(alike.len());
                all.extend_from_slice(alike);
            }
        }
        charge(own.len());
        all
    };
    kinds.iter().map(all).filter(|parts| parts.iter().any(|part| part.is_own)).collect()
}

/// The objects with which the rules of the object at hand open something, for the end of a message.
pub(super) fn with_whom(parts: &[Part<'_>], case: &Case<'_>) -> String {
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
