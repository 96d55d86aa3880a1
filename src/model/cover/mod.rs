//! Coverage between rules: proofs that a rule matches all traffic that another rule matches.
//!
//! An unproved coverage counts as false. A peer that is not understood covers no peer and is covered by none. The same
//! holds for a rule with conditions, and for a rule whose connections are filtered by a proxy. Only if policies replace
//! others ([`uncovered`]), equal conditions and equal DNS lookups count as covered. A rule whose proxy filters requests
//! never covers another, because the requests are not known here.
//!
//! Every proof takes its cost from a budget. After the budget is used up, every coverage counts as unproved.

mod peers;

use peers::covers;

use crate::budget::charge;

use super::{
    Action, Direction, Filter, Order, Peer, Peers, Pods, Policy, Port, Ports, Rule, Side, Stage, Surroundings,
};

/// Maximum cost of all proofs for one decision, in steps.
pub(crate) const BUDGET: usize = 20_000;

/// The cost of comparing two items, in steps.
const LOOK: usize = 1;

/// Takes one step from the budget. `None` if the budget is used up.
fn step(budget: &mut usize) -> Option<()> {
    spend(LOOK, budget)
}

/// Takes this cost from the budget. If the budget is too small, it is set to 0 and the result is `None`.
fn spend(cost: usize, budget: &mut usize) -> Option<()> {
    charge(cost);
    let left = budget.checked_sub(cost);
    *budget = left.unwrap_or_default();
    left.map(drop)
}

/// A part of a rule: one of its peers on one of its ports.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// The peer. `None`: any peer.
    peer: Option<&'a Peer>,
    ports: PartPorts<'a>,
}

#[derive(Clone, Copy)]
enum PartPorts<'a> {
    One(&'a Port),
    /// All ports of the rule, if they cannot be split.
    All(&'a Ports),
}

impl Rule {
    /// Returns true if it is known which traffic the rule matches, and the rule applies to whole connections.
    fn is_plain(&self) -> bool {
        self.conditions.is_empty() && self.filter.is_none()
    }

    /// Returns true if the conditions and the request filter of this rule are no stricter than those of `other`.
    fn asks_no_more_than(&self, other: &Self) -> bool {
        (self.conditions.is_empty() || self.conditions == other.conditions)
            && match &self.filter {
                None => true,
                Some(Filter::Lookups(_)) => self.filter == other.filter,
                Some(Filter::Requests) => false,
            }
    }

    /// The parts of the rule. `None` if there are more than the budget allows.
    fn parts(&self, budget: &mut usize) -> Option<Vec<Part<'_>>> {
        let peers: Vec<Option<&Peer>> = match &self.peers {
            Peers::Any => vec![None],
            Peers::Only(peers) => peers.iter().map(Some).collect(),
        };
        let ports: Vec<PartPorts<'_>> = match &self.ports {
            Ports::Only(ports) => ports.iter().map(PartPorts::One).collect(),
            ports => vec![PartPorts::All(ports)],
        };
        spend(peers.len().saturating_mul(ports.len()), budget)?;
        Some(peers.iter().flat_map(|peer| ports.iter().map(|ports| Part { peer: *peer, ports: *ports })).collect())
    }

    /// Returns true if it is proved that this rule matches a part of `other`, for pods that both rules apply to.
    fn covers_part(&self, part: Part<'_>, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        if step(budget).is_none() {
            return false;
        }
        let ports = match part.ports {
            PartPorts::One(port) => self.ports.cover(port),
            PartPorts::All(Ports::OfService(_)) => {
                self.ports == Ports::Any || self.ports == other.ports && self.peers == other.peers
            }
            PartPorts::All(ports) => match ports {
                _ if self.ports == Ports::Any || self.ports == *ports => true,
                Ports::But { of, .. } => match &**of {
                    Ports::Only(of) => of.iter().all(|port| self.ports.cover(port)),
                    _ => false,
                },
                _ => false,
            },
        };
        ports
            && match part.peer {
                Some(peer) => self.peers.cover(&peer.who, around, budget),
                None => self.peers.are_everything(),
            }
    }

    /// Returns true if it is proved that this rule applies to all pods that `other` applies to. Both are rules of
    /// policies for the same pods.
    fn is_for_those_of(&self, other: &Self, budget: &mut usize) -> bool {
        let within = match (&self.within, &other.within) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        within
            && match (&self.only, &other.only) {
                (None, _) => true,
                (Some(own), Some(other)) => covers(own, other, budget),
                (Some(_), None) => false,
            }
    }

    /// Returns true if it is proved that this rule matches all traffic that `other`, a rule of the same policy,
    /// matches. A rule that matches no traffic is never covered, because it may be a rule that was not understood.
    #[must_use]
    pub fn covers(&self, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        self.is_plain()
            && other.is_plain()
            && self.is_for_those_of(other, budget)
            && other.parts(budget).is_some_and(|parts| {
                !parts.is_empty() && parts.iter().all(|part| self.covers_part(*part, other, around, budget))
            })
    }

    /// Returns true if it is proved that other rules together allow a part of this rule for these pods.
    fn is_part_covered(
        &self,
        part: Part<'_>,
        pods: &Pods,
        by: &[(&Policy, &Self)],
        around: &dyn Surroundings,
        budget: &mut usize,
    ) -> bool {
        let mut for_some: Vec<&Pods> = Vec::new();
        for (policy, rule) in by {
            if !rule.asks_no_more_than(self)
                || !rule.covers_part(part, self, around, budget)
                || !rule.is_for_those_of(self, budget)
            {
                continue;
            }
            if policy.subject.covers(pods, around, budget) {
                return true;
            }
            for_some.push(&policy.subject);
        }
        for_some.len() > 1 && pods.are_covered(for_some, around, budget)
    }

    /// Returns true if it is proved that other rules together allow everything that this rule, of a policy for these
    /// pods, allows.
    fn is_covered(&self, pods: &Pods, by: &[(&Policy, &Self)], around: &dyn Surroundings, budget: &mut usize) -> bool {
        self.is_plain()
            && self
                .parts(budget)
                .is_some_and(|parts| parts.iter().all(|part| self.is_part_covered(*part, pods, by, around, budget)))
    }

    /// The peers and ports of this rule, of a policy for these pods, for which it is not proved that other rules allow
    /// them. `None` if all are proved.
    fn left(
        &self,
        pods: &Pods,
        by: &[(&Policy, &Self)],
        around: &dyn Surroundings,
        budget: &mut usize,
    ) -> Option<(Peers, Ports)> {
        let Some(mut parts) = self.parts(budget) else { return Some((self.peers.clone(), self.ports.clone())) };
        parts.retain(|part| !self.is_part_covered(*part, pods, by, around, budget));
        if parts.is_empty() {
            return None;
        }
        let has_peer = |peer: &&Peer| parts.iter().any(|part| part.peer.is_some_and(|left| std::ptr::eq(left, *peer)));
        let is_left = |port: &&Port| {
            parts.iter().any(|part| matches!(part.ports, PartPorts::One(left) if std::ptr::eq(left, *port)))
        };
        let peers = match &self.peers {
            Peers::Any => Peers::Any,
            Peers::Only(peers) => Peers::Only(peers.iter().filter(has_peer).cloned().collect()),
        };
        let ports = match &self.ports {
            Ports::Only(ports) => Ports::Only(ports.iter().filter(is_left).cloned().collect()),
            ports => ports.clone(),
        };
        Some((peers, ports))
    }
}

impl Policy {
    /// Returns true if it is proved that the other policies together allow, for the same pods, everything that this
    /// policy allows in a direction. Denials of the other policies are ignored.
    #[must_use]
    pub(crate) fn allows_no_more_than(
        &self,
        direction: Direction,
        others: &[&Self],
        around: &dyn Surroundings,
        budget: &mut usize,
    ) -> bool {
        let by = allowing(others, direction);
        let mut own = self.side(direction).rules.iter().filter(|rule| rule.action == Action::Allow);
        own.all(|rule| rule.is_covered(&self.subject, &by, around, budget))
    }
}

/// The rules of policies that allow traffic in a direction.
fn allowing<'a>(policies: &[&'a Policy], direction: Direction) -> Vec<(&'a Policy, &'a Rule)> {
    let rules = |policy: &'a Policy| policy.side(direction).rules.iter().map(move |rule| (policy, rule));
    policies.iter().flat_map(|policy| rules(policy)).filter(|(_, rule)| rule.action == Action::Allow).collect()
}

/// The traffic that a rule allows, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The direction: the pods receive or send.
    pub direction: Direction,
    /// The rule.
    pub rule: &'a Rule,
    /// The peers of the rule that the traffic belongs to.
    pub peers: Peers,
    /// The ports of the rule that the traffic belongs to.
    pub ports: Ports,
}

/// The traffic that the policies `before` allow, and that is not proved to be allowed when the policies `after` replace
/// them, for the same pods and without any other policy. Both lists hold policies in force.
///
/// Traffic is allowed if rules of the new policies allow it, or if none of them isolates the pods. Nothing is proved if
/// one of them may deny the traffic or pass it to a later stage. The exception is a stopping policy that is also among
/// the old ones, if the allowing policy keeps its position.
///
/// Returns `None` if the budget does not suffice for all rules.
#[must_use]
pub fn uncovered<'a>(
    before: &[&'a Policy],
    after: &[&'a Policy],
    around: &dyn Surroundings,
) -> Option<Vec<Allowance<'a>>> {
    let mut budget = BUDGET;
    let mut uncovered = Vec::new();
    for direction in Direction::ALL {
        let all = allowing(after, direction);
        let stopping: Vec<Stop<'_>> = after
            .iter()
            .filter(|policy| stops(policy.side(direction)))
            .map(|policy| Stop { policy, is_new: !before.contains(policy) })
            .collect();
        for policy in before {
            let rules = policy.side(direction).rules.iter().filter(|rule| rule.action == Action::Allow);
            let mut rules = rules.peekable();
            if rules.peek().is_none() {
                continue;
            }
            let obstacles = Obstacles::of(&policy.subject, direction, after, &stopping, around, &mut budget);
            if obstacles.isolating.is_empty() && !obstacles.stops {
                continue;
            }
            let by: Vec<(&Policy, &Rule)> =
                all.iter().copied().filter(|(other, _)| obstacles.leave(other, policy, around)).collect();
            for rule in rules {
                if let Some((peers, ports)) = rule.left(&policy.subject, &by, around, &mut budget) {
                    uncovered.push(Allowance { policy, direction, rule, peers, ports });
                }
            }
            if budget == 0 {
                return None;
            }
        }
    }
    Some(uncovered)
}

/// Returns true if a rule may stop traffic before another rule allows it.
fn stops(side: &Side) -> bool {
    side.rules.iter().any(|rule| matches!(rule.action, Action::Deny | Action::Pass))
}

/// A policy with a rule that may stop traffic before another rule allows it.
struct Stop<'a> {
    policy: &'a Policy,
    /// True if the policy is not among the old ones.
    is_new: bool,
}

/// The obstacles between the traffic of some pods and the rules that allow it.
#[derive(Default)]
struct Obstacles<'a> {
    /// The stages that drop traffic which none of their policies allows.
    isolating: Vec<&'a Stage>,
    /// True if a rule stops traffic.
    stops: bool,
    /// True if a new policy stops traffic.
    stops_anew: bool,
    /// The stages in which an ordered policy stops traffic.
    in_order: Vec<&'a Stage>,
}

impl<'a> Obstacles<'a> {
    /// The obstacles for these pods. A policy is one unless it is proved that it does not apply to any of the pods.
    fn of(
        pods: &Pods,
        direction: Direction,
        policies: &[&'a Policy],
        stopping: &[Stop<'a>],
        around: &dyn Surroundings,
        budget: &mut usize,
    ) -> Self {
        let mut concerns = |policy: &Policy| !policy.subject.excludes(pods, around, budget);
        let mut all = Self::default();
        // Proofs are costly, so only policies that could add an obstacle are checked.
        for policy in policies.iter().filter(|policy| policy.side(direction).isolates) {
            if !all.isolating.contains(&&policy.stage) && concerns(policy) {
                all.isolating.push(&policy.stage);
            }
        }
        for Stop { policy, is_new } in stopping {
            let is_news = !all.stops
                || *is_new && !all.stops_anew
                || policy.order != Order::Additive && !all.in_order.contains(&&policy.stage);
            if is_news && concerns(policy) {
                all.stops = true;
                all.stops_anew |= is_new;
                if policy.order != Order::Additive {
                    all.in_order.push(&policy.stage);
                }
            }
        }
        all
    }

    /// Returns true if the policy is evaluated before its traffic is dropped by default, and after no stopping rule
    /// that was not also evaluated before `earlier`.
    fn leave(&self, policy: &Policy, earlier: &Policy, around: &dyn Surroundings) -> bool {
        let position = |stage: &Stage| {
            let tier = matches!(stage, Stage::Tier(_)).then(|| around.tier(stage.name())).flatten();
            stage.position(tier)
        };
        let is_in_time = |stage: &&&Stage| ***stage == policy.stage || position(stage) > position(&policy.stage);
        let stands_where_it_stood = || {
            policy == earlier
                || policy.stage == earlier.stage && policy.order == Order::Additive && earlier.order == Order::Additive
        };
        self.isolating.iter().all(|stage| is_in_time(&stage))
            && !self.stops_anew
            && !self.in_order.contains(&&policy.stage)
            && (!self.stops || stands_where_it_stood())
    }
}
