//! The rule that comes closest to allowing a flow, with its one fault.

mod fault;

use std::cell::OnceCell;

use super::spelling::types_field;
use crate::budget::charge;
use crate::model::{Action, Direction, End, Fix, Labels, Path, Pods, Policy, Protocol, Rule, Stage, Traffic};
use crate::rules::rule::Case;

pub(crate) use fault::OtherWay;
use fault::{Fault, is_meant, lists_port, peer_fault, port_fault, stage_fault};

/// Maximum number of rules and peers that are compared for one finding.
const MAX_COMPARED: usize = 2_000;

/// Maximum number of steps for the proof that a policy selects all of the pods.
const MAX_STEPS: usize = 1_000;

/// The other end of a flow that pods require.
pub(crate) struct Target<'a> {
    /// The other end in messages, such as `the DNS pods`.
    pub(crate) name: &'a str,
    /// The owner of the port in messages, such as `the DNS pods`.
    pub(crate) port_of: &'a str,
    /// A part of the label values by which authors recognise these pods.
    pub(crate) word: &'a str,
    /// The namespace of the target.
    pub(crate) namespace: &'a str,
    /// The labels of the target, as far as known.
    pub(crate) labels: &'a Labels,
    /// A description of the peer that a rule has to allow.
    pub(crate) place: String,
    pub(crate) end: End<'a>,
    pub(crate) protocol: Protocol,
    /// The port of the flow.
    pub(crate) number: u16,
    /// True if the port comes from the configuration, and not from known pods.
    pub(crate) is_configured: bool,
    pub(crate) traffic: Traffic<'a>,
}

/// The rule that comes closest to allowing a flow.
pub(crate) struct NearMiss<'a> {
    pub(crate) policy: &'a Policy,
    /// The rule. None if the whole policy has no effect in this direction.
    rule: Option<&'a Rule>,
    /// The fault, as a sentence about the policy.
    pub(crate) closest: String,
    /// The change that fixes it.
    pub(crate) cure: String,
    /// An alternative setup that the rule may have been written for, such as NodeLocal DNSCache.
    pub(crate) other_way: Option<OtherWay>,
    /// A patch of the rule itself, if it is simple.
    pub(crate) fix: Option<Fix>,
    rank: Rank,
}

/// The closeness of a rule, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A rule for these pods with one fault.
    OneFault,
    /// A correct rule for these pods, behind a stage that drops the flow.
    LaterStage,
    /// A correct rule for other pods.
    OtherPods,
    /// A correct rule for the other direction.
    OtherDirection,
    /// A rule with a wrong peer and a wrong port.
    TwoFaults,
    /// A policy whose rules have no effect.
    WithoutEffect,
}

/// Returns the rule among these policies that comes closest to allowing the flow between some pods and the target. The
/// flow never reaches the stages after that of `isolating`, the policy that isolates the pods.
pub(crate) fn near_miss<'a>(
    case: &Case<'a>,
    around: &[&'a Policy],
    pods: &Pods,
    direction: Direction,
    target: &Target<'_>,
    isolating: Option<&'a Policy>,
) -> Option<NearMiss<'a>> {
    let mut found: Option<NearMiss<'a>> = None;
    let mut left = MAX_COMPARED;
    let opposite = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    let of_case = |is_wanted| around.iter().copied().filter(move |policy| is_of_case(case, policy) == is_wanted);
    // The own rules come first, so that the limit never hides one that is as close as any other.
    for policy in of_case(true).chain(of_case(false)) {
        let candidate = Candidate::new(case, policy, pods, isolating);
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
                    // Of two equally close rules, prefer the one in the object under review.
                    let is_other = |near: &NearMiss<'_>| !is_of_case(case, near.policy);
                    (near.rank, is_other(&near)) < (best.rank, is_other(best))
                };
                if found.as_ref().is_none_or(is_nearer) {
                    found = Some(near);
                }
            }
        }
    }
    found.or_else(|| {
        let candidates = around.iter().copied().map(|policy| Candidate::new(case, policy, pods, isolating));
        candidates.take(MAX_COMPARED).find_map(|candidate| candidate.without_effect(direction, target))
    })
}

/// Returns true if a policy belongs to the object under review.
fn is_of_case(case: &Case<'_>, policy: &Policy) -> bool {
    policy.object.is_same_object(&case.change.object().id)
}

impl NearMiss<'_> {
    /// The closeness of the rule.
    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// The path of the rule, if it is in the object under review.
    pub(crate) fn own_place(&self, case: &Case<'_>) -> Option<&Path> {
        self.rule.filter(|_| is_of_case(case, self.policy)).map(|rule| &rule.path)
    }
}

/// A policy whose rules are compared with the flow. Facts about the whole policy are computed once.
struct Candidate<'c, 'a> {
    case: Case<'a>,
    policy: &'a Policy,
    pods: &'c Pods,
    isolating: Option<&'a Policy>,
    is_for_pods: OnceCell<bool>,
    decides_alone: OnceCell<bool>,
}

impl<'c, 'a> Candidate<'c, 'a> {
    fn new(case: &Case<'a>, policy: &'a Policy, pods: &'c Pods, isolating: Option<&'a Policy>) -> Self {
        let (is_for_pods, decides_alone) = (OnceCell::new(), OnceCell::new());
        Self { case: *case, policy, pods, isolating, is_for_pods, decides_alone }
    }

    /// The policy that isolates the pods, if its stage comes before the stage of this policy.
    fn isolated_before(&self) -> Option<&'a Policy> {
        let scene = self.case.supposing();
        self.isolating.filter(|isolating| isolating.place(&scene) < self.policy.place(&scene))
    }

    /// The policy as a near miss, if it has rules for the direction and its types exclude the direction.
    fn without_effect(&self, direction: Direction, target: &Target<'_>) -> Option<NearMiss<'a>> {
        charge(1);
        let (policy, side) = (self.policy, self.policy.side(direction));
        let is_inert = !side.isolates && side.rules.is_empty() && side.written.is_some_and(|rules| rules > 0);
        let can_isolate = !matches!(policy.stage, Stage::Admin | Stage::Baseline);
        if !is_inert || !can_isolate || self.isolated_before().is_some() || !self.is_for_pods() {
            return None;
        }
        let (who, field) = (&policy.object, types_field(&policy.object));
        let name = match direction {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        };
        Some(NearMiss {
            policy,
            rule: None,
            closest: text!("{who} has {direction} rules, but its `{field}` do not include {name}"),
            cure: text!("if these rules allow {}, add {name} to `{field}` of {who}; otherwise allow it", target.place),
            other_way: None,
            fix: None,
            rank: Rank::WithoutEffect,
        })
    }

    /// Compares a rule with the flow. None if the rule shows no sign of being meant for it.
    fn compare(&self, rule: &'a Rule, target: &Target<'_>, other_direction: Option<Direction>) -> Option<NearMiss<'a>> {
        let (case, policy) = (&self.case, self.policy);
        let (peers, ports) = (rule.peers.mean(&target.end, case.view), rule.ports.mean(target.traffic));
        let who = &policy.object;
        let near = |rank, Fault { problem, cure, other_way, fix }| {
            let closest = text!("{who} {problem}");
            Some(NearMiss { policy, rule: Some(rule), closest, cure, other_way, fix, rank })
        };
        let means_all = peers == Some(true) && ports == Some(true);
        if let Some(isolating) = self.isolated_before() {
            let is_complete = means_all && other_direction.is_none() && rule.only.is_none() && self.is_for_pods();
            return if is_complete { near(Rank::LaterStage, stage_fault(policy, isolating, target)) } else { None };
        }
        if let Some(direction) = other_direction {
            // A rule for any peer is not specific to this one.
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
            // The rule is for other pods, or another rule takes precedence.
            if self.is_for_pods() || rule.only.is_some() || !is_meant(rule, target) {
                return None;
            }
            let (problem, cure) =
                (text!("allows this flow only for {}", policy.subject), text!("extend the pod selector of {who}"));
            return near(Rank::OtherPods, Fault { problem, cure, ..Fault::default() });
        }
        let mut port_fault = if ports == Some(true) { None } else { port_fault(rule, target) };
        if let Some(fault) = port_fault.as_mut().filter(|fault| fault.fix.is_some())
            && !self.decides_alone(rule)
        {
            fault.fix = None;
        }
        let peer_fault = if peers == Some(true) { None } else { peer_fault(case, who, rule, target) };
        match (peers == Some(true), ports == Some(true), peer_fault, port_fault) {
            (true, false, _, Some(fault)) if is_meant(rule, target) && self.is_for_pods() => {
                near(Rank::OneFault, fault)
            }
            (false, true, Some(fault), _) if self.is_for_pods() => near(Rank::OneFault, fault),
            // The rule is complete in itself, for an alternative setup.
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

    /// Returns true if it is proved that the policy selects all of the pods.
    fn is_for_pods(&self) -> bool {
        *self.is_for_pods.get_or_init(|| self.policy.subject.covers(self.pods, self.case.view, &mut { MAX_STEPS }))
    }

    /// Returns true if a rule decides by its peers and ports alone, and no other rule takes precedence.
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
