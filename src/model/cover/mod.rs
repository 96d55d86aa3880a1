//! Which traffic rules mean that others mean too.
//!
//! That one covers another is proved, or it does not hold: a peer that is not understood covers nothing and is covered by
//! nothing, and so is a rule with conditions, or of whose connections a proxy picks single requests. Only where policies
//! take the place of others ([`uncovered`]) the same conditions and the same lookups stay what they were; which requests a
//! proxy picks is not told here, so a rule that has it do so stands for no other.
//! Every question takes what it costs from a budget, and past it nothing is proved.

mod peers;

use peers::covers;

use crate::budget::charge;

use super::{
    Action, Direction, Filter, Order, Peer, Peers, Pods, Policy, Port, Ports, Rule, Side, Stage, Surroundings,
};

/// What all the questions of one decision may cost together.
pub const BUDGET: usize = 20_000;

/// What it costs to look at two things at all.
const LOOK: usize = 1;

/// Takes a step from the budget; none if there is nothing left.
fn step(budget: &mut usize) -> Option<()> {
    spend(LOOK, budget)
}

/// Takes this much from the budget. None if that is more than is left, and then nothing is left.
fn spend(cost: usize, budget: &mut usize) -> Option<()> {
    charge(cost);
    let left = budget.checked_sub(cost);
    *budget = left.unwrap_or_default();
    left.map(drop)
}

/// A part of what a rule means: one of its peers, on one of its ports.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// None: anything.
    peer: Option<&'a Peer>,
    ports: PartPorts<'a>,
}

#[derive(Clone, Copy)]
enum PartPorts<'a> {
    One(&'a Port),
    /// All that the rule names, which cannot be told apart.
    All(&'a Ports),
}

impl Rule {
    /// Whether all that the rule means is known, and it is a decision about whole connections.
    fn is_plain(&self) -> bool {
        self.conditions.is_empty() && self.filter.is_none()
    }

    /// Whether this holds wherever another rule does, as far as conditions and single requests go.
    fn asks_no_more_than(&self, other: &Self) -> bool {
        (self.conditions.is_empty() || self.conditions == other.conditions)
            && match &self.filter {
                None => true,
                Some(Filter::Lookups(_)) => self.filter == other.filter,
                Some(Filter::Requests) => false,
            }
    }

    /// What the rule means, part by part. None, if that is more than the budget allows.
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

    /// Whether it is proved that this means a part of what another rule does, wherever it is for the same pods.
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

    /// Whether it is proved that this is for all the pods for which another rule of a policy for these pods is.
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

    /// Whether it is proved that this means all that another rule of the same policy does. One that means nothing may be one
    /// that was not understood.
    #[must_use]
    pub fn covers(&self, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        self.is_plain()
            && other.is_plain()
            && self.is_for_those_of(other, budget)
            && other.parts(budget).is_some_and(|parts| {
                !parts.is_empty() && parts.iter().all(|part| self.covers_part(*part, other, around, budget))
            })
    }

    /// Whether it is proved that others let through, together and for these pods, a part of what this rule does.
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

    /// Whether it is proved that what this rule of a policy for these pods lets through others let through together.
    fn is_covered(&self, pods: &Pods, by: &[(&Policy, &Self)], around: &dyn Surroundings, budget: &mut usize) -> bool {
        self.is_plain()
            && self
                .parts(budget)
                .is_some_and(|parts| parts.iter().all(|part| self.is_part_covered(*part, pods, by, around, budget)))
    }

    /// The peers and the ports of what this rule of a policy for these pods lets through and others are not proved to. None
    /// where that is nothing.
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
    /// Whether it is proved that others let through, together and for the same pods, all that this policy lets through in
    /// a direction. What any of them denies is not looked at.
    #[must_use]
    pub fn allows_no_more_than(
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

/// The rules of policies that let something through in a direction.
fn allowing<'a>(policies: &[&'a Policy], direction: Direction) -> Vec<(&'a Policy, &'a Rule)> {
    let rules = |policy: &'a Policy| policy.side(direction).rules.iter().map(move |rule| (policy, rule));
    policies.iter().flat_map(|policy| rules(policy)).filter(|(_, rule)| rule.action == Action::Allow).collect()
}

/// What a rule lets through, or some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Whether its pods receive or send.
    pub direction: Direction,
    /// The rule.
    pub rule: &'a Rule,
    /// Those of its peers that it is about.
    pub peers: Peers,
    /// Those of its ports.
    pub ports: Ports,
}

/// What policies let through of which it is not proved that it may pass when others stand in their place, for the same pods
/// and with nothing else around. Both are those that are in force.
///
/// It may pass if rules of the others allow it, or if none of them isolates the pods. Where one of them may deny it, or may
/// leave it to a later stage, nothing is proved, unless the same policy was there before and what allows stands where it
/// stood. None if there is so much of all this that not all of it was looked at.
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

/// Whether a rule may keep traffic from what allows it.
fn stops(side: &Side) -> bool {
    side.rules.iter().any(|rule| matches!(rule.action, Action::Deny | Action::Pass))
}

/// A policy of which a rule may keep traffic from what allows it.
struct Stop<'a> {
    policy: &'a Policy,
    /// Whether it was not there before.
    is_new: bool,
}

/// What may keep traffic of some pods from what allows it.
#[derive(Default)]
struct Obstacles<'a> {
    /// The stages that drop what none of their policies allows.
    isolating: Vec<&'a Stage>,
    /// Whether a rule stops something.
    stops: bool,
    /// Whether one does that was not there before.
    stops_anew: bool,
    /// The stages in which one does at its place in an order.
    in_order: Vec<&'a Stage>,
}

impl<'a> Obstacles<'a> {
    /// Those for these pods. What is not proved to be for none of them is one.
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
        // Asked only about those from which something follows that is not known yet.
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

    /// Whether what a policy allows is asked before traffic is dropped because nothing allowed it, and nothing comes before it
    /// that did not come before what the earlier one allowed.
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
