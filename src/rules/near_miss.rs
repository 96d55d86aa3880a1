//! The rule that was meant to allow a flow, and the one thing that is wrong with it.

mod fault;

use std::cell::OnceCell;

use super::Case;
use crate::budget::charge;
use crate::model::{Action, Direction, End, Fix, Labels, Path, Pods, Policy, Protocol, Rule, Traffic};

pub(super) use fault::OtherWay;
use fault::{Fault, is_meant, lists_port, peer_fault, port_fault};

/// Maximum number of rules and peers that are compared for one finding.
const MAX_COMPARED: usize = 2_000;

/// Maximum number of steps for the proof that a policy is for all of the pods.
const MAX_STEPS: usize = 1_000;

/// The other end of a flow that pods need.
pub(super) struct Target<'a> {
    /// The other end in messages, such as `the DNS pods`.
    pub(super) name: &'a str,
    /// What the port belongs to in messages, such as `the DNS pods`.
    pub(super) port_of: &'a str,
    /// A part of the label values by which authors recognise these pods.
    pub(super) word: &'a str,
    /// Their namespace.
    pub(super) namespace: &'a str,
    /// Their labels, as far as they are known.
    pub(super) labels: &'a Labels,
    /// What a rule has to allow, in words.
    pub(super) place: String,
    pub(super) end: End<'a>,
    pub(super) protocol: Protocol,
    /// The port of the flow.
    pub(super) number: u16,
    /// True if the port is the configured one, and not the one on which known pods listen.
    pub(super) is_configured: bool,
    pub(super) traffic: Traffic<'a>,
}

/// The rule that came nearest to allowing a flow.
pub(super) struct NearMiss<'a> {
    pub(super) policy: &'a Policy,
    pub(super) rule: &'a Rule,
    /// What is wrong, as a sentence about the policy.
    pub(super) closest: String,
    /// What to change.
    pub(super) cure: String,
    /// What else the rule may have been written for: another way to serve the same.
    pub(super) other_way: Option<OtherWay>,
    /// How to change the rule itself, where that is simple.
    pub(super) fix: Option<Fix>,
    rank: Rank,
}

/// How near a rule is, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// One thing is wrong, in a rule for these pods.
    OneFault,
    /// The rule is right, and for other pods.
    OtherPods,
    /// The rule is right, and for the other direction.
    OtherDirection,
    /// Both the peer and the port are wrong.
    TwoFaults,
}

/// Returns the rule among these policies that came nearest to allowing the flow between some pods and the target.
pub(super) fn near_miss<'a>(
    case: &Case<'a>,
    around: &[&'a Policy],
    pods: &Pods,
    direction: Direction,
    target: &Target<'_>,
) -> Option<NearMiss<'a>> {
    let mut found: Option<NearMiss<'a>> = None;
    let mut left = MAX_COMPARED;
    let opposite = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    for policy in around.iter().copied() {
        let candidate =
            Candidate { case: *case, policy, pods, is_for_pods: OnceCell::new(), decides_alone: OnceCell::new() };
        for side in [direction, opposite] {
            for rule in policy.side(side).rules.iter().filter(|rule| rule.action == Action::Allow) {
                left = left.saturating_sub(1 + rule.peers.listed().len());
                if left == 0 {
                    return found;
                }
                charge(1);
                let other_direction = (side != direction).then_some(side);
                let Some(near) = candidate.compare(rule, target, other_direction) else { continue };
                let is_nearer = |best: &NearMiss<'_>| {
                    // Of two that are as near, the one in the object at hand.
                    let is_other = |near: &NearMiss<'_>| !is_of_case(case, near.policy);
                    (near.rank, is_other(&near)) < (best.rank, is_other(best))
                };
                if found.as_ref().is_none_or(is_nearer) {
                    found = Some(near);
                }
            }
        }
    }
    found
}

/// Returns true if a policy is one of the object at hand.
fn is_of_case(case: &Case<'_>, policy: &Policy) -> bool {
    policy.object.is_same_object(&case.change.object().id)
}

impl NearMiss<'_> {
    /// How near it is.
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// The place of the rule, if it is in the object at hand.
    pub(super) fn own_place(&self, case: &Case<'_>) -> Option<&Path> {
        is_of_case(case, self.policy).then_some(&self.rule.path)
    }
}

/// A policy whose rules are compared with the flow. What holds for all of its rules is found out once.
struct Candidate<'c, 'a> {
    case: Case<'a>,
    policy: &'a Policy,
    pods: &'c Pods,
    is_for_pods: OnceCell<bool>,
    decides_alone: OnceCell<bool>,
}

impl<'a> Candidate<'_, 'a> {
    /// Compares a rule with the flow. None if nothing tells that the rule was meant for it.
    fn compare(&self, rule: &'a Rule, target: &Target<'_>, other_direction: Option<Direction>) -> Option<NearMiss<'a>> {
        let (case, policy) = (&self.case, self.policy);
        let (peers, ports) = (rule.peers.mean(&target.end, case.view), rule.ports.mean(target.traffic));
        let who = &policy.object;
        let near = |rank, Fault { problem, cure, other_way, fix }| {
            let closest = text!("{who} {problem}");
            Some(NearMiss { policy, rule, closest, cure, other_way, fix, rank })
        };
        let means_all = peers == Some(true) && ports == Some(true);
        if let Some(direction) = other_direction {
            // A rule for every peer says nothing about this one.
            let is_specific = lists_port(&rule.ports, target) && !rule.peers.listed().is_empty();
            if !means_all || !is_specific || !self.is_for_pods() {
                return None;
            }
            let (here, there) = match direction {
                Direction::Ingress => ("ingress from", "egress"),
                Direction::Egress => ("egress to", "ingress"),
            };
            let problem = text!("allows {here} {}, but not {there}", target.name);
            let cure = text!("move the rule to {there}");
            return near(Rank::OtherDirection, Fault { problem, cure, ..Fault::default() });
        }
        if means_all {
            // Either it is for other pods, or something comes before it.
            if self.is_for_pods() || rule.only.is_some() || !is_meant(rule, target) {
                return None;
            }
            let (problem, cure) =
                (text!("allows this flow only for {}", policy.subject), text!("extend what {who} selects"));
            return near(Rank::OtherPods, Fault { problem, cure, ..Fault::default() });
        }
        let mut port_fault = if ports == Some(true) { None } else { port_fault(rule, target) };
        if let Some(fault) = port_fault.as_mut().filter(|fault| fault.fix.is_some())
            && !self.decides_alone(rule)
        {
            fault.fix = None;
        }
        let peer_fault = if peers == Some(true) { None } else { peer_fault(case, rule, target) };
        match (peers == Some(true), ports == Some(true), peer_fault, port_fault) {
            (true, false, _, Some(fault)) if is_meant(rule, target) && self.is_for_pods() => {
                near(Rank::OneFault, fault)
            }
            (false, true, Some(fault), _) if self.is_for_pods() => near(Rank::OneFault, fault),
            // The rule is complete in itself, for another way.
            (false, false, Some(peer), Some(_)) if peer.other_way.is_some() && self.is_for_pods() => {
                near(Rank::TwoFaults, peer)
            }
            (false, false, Some(peer), Some(port)) if self.is_for_pods() => {
                let problem = text!("{}, and it {}", peer.problem, port.problem);
                let (cure, other_way) = (text!("{}, and {}", peer.cure, port.cure), peer.other_way.or(port.other_way));
                near(Rank::TwoFaults, Fault { problem, cure, other_way, fix: None })
            }
            _ => None,
        }
    }

    /// Returns true if it is proved that the policy is for all of the pods.
    fn is_for_pods(&self) -> bool {
        *self.is_for_pods.get_or_init(|| self.policy.subject.covers(self.pods, self.case.view, &mut { MAX_STEPS }))
    }

    /// Returns true if a rule decides by its peers and ports alone, whatever comes before it.
    fn decides_alone(&self, rule: &Rule) -> bool {
        let only_allows = || {
            let mut all = self.policy.sides().flat_map(|(_, side)| &side.rules).inspect(|_| charge(1));
            all.all(|other| matches!(other.action, Action::Allow | Action::Log))
        };
        rule.only.is_none()
            && rule.within.is_none()
            && rule.conditions.is_empty()
            && *self.decides_alone.get_or_init(only_allows)
    }
}
