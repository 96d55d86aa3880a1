//! Rules of several policies added up: all rules for the same pods count together, however they are split.

use std::collections::HashMap;

use super::later_stages::LaterStages;
use crate::budget::charge;
use crate::model::{Action, Direction, Policy, Protocol, Ranges, Rule as TrafficRule, Stage};
use crate::rules::rule::Case;

/// Number of ports that an object may add to the ports of other policies before the sum is reported for it.
pub(crate) const MIN_SHARE: u128 = 16;

/// An allow rule with its policy.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) rule: &'a TrafficRule,
    /// True if the rule belongs to the policy under review.
    pub(crate) is_own: bool,
}

impl<'a> Part<'a> {
    /// Returns true if it is proved that this rule applies to all pods of the other rule.
    pub(crate) fn is_for_those_of(&self, other: &Part<'_>, case: &Case<'_>) -> bool {
        charge(1);
        (self.rule.only.is_none() || self.rule.only == other.rule.only)
            && (self.rule.within.is_none() || self.rule.within == other.rule.within)
            && (std::ptr::eq(self.policy, other.policy)
                || self.policy.subject.covers(&other.policy.subject, case.view, &mut { usize::MAX }))
    }

    /// The ports of a protocol that the rule is known to allow.
    pub(crate) fn ports(&self, protocol: Protocol) -> Ranges<u16> {
        self.rule.ports.known_numbers(protocol)
    }

    /// The policy, if it belongs to another object than the one under review.
    pub(crate) fn other_object(&self, case: &Case<'_>) -> Option<&'a Policy> {
        (!self.policy.object.is_same_object(&case.change.object().id)).then_some(self.policy)
    }
}

/// The matching allow rules of one direction for pods of a policy: first the rules of other objects, then those of
/// earlier policies in its object, then its own.
///
/// None if its own rules open so few ports that a sum is not reported for it.
pub(crate) fn parts<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    later: &LaterStages<'a>,
    is_wanted: impl Fn(&TrafficRule) -> bool,
) -> Option<Vec<Part<'a>>> {
    let is_wanted = |rule: &&TrafficRule| {
        charge(1);
        rule.ports.entries() > 0 && is_wanted(rule)
    };
    let own = || policy.side(direction).rules.iter().filter(is_wanted);
    // Most policies list a few ports and need only this check.
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

/// The ports of a protocol that at least one of these rules allows.
pub(crate) fn sum<'a>(parts: impl IntoIterator<Item = &'a Part<'a>>, protocol: Protocol) -> Ranges<u16> {
    parts.into_iter().flat_map(|part| spans(part.rule, protocol)).collect()
}

/// Groups the rules by the pods that they apply to: for each distinct set of pods, all rules that apply to all of them.
pub(crate) fn by_pods<'a>(parts: &[Part<'a>], case: &Case<'_>) -> Vec<Vec<Part<'a>>> {
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
