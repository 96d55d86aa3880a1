//! The ports of one connection before and after the change.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::group::{Group, PARTS_PER_STEP};
use crate::budget::charge;
use crate::model::{
    AddressSet, Direction, End, Numbers, Outcome, Policy, PortSpans, Protocol, Question, Ranges, Subject, Traffic, Who,
    ask, names,
};
use crate::view::Scene;

/// Maximum number of ports of the changed rules that are compared.
const MAX_NAMED: usize = 8;
/// Maximum number of ports of one receiver that are compared.
const MAX_LISTED: usize = 16;

/// The cluster before and after the change of a policy.
pub(super) struct Comparison<'a> {
    before: Scene<'a>,
    after: Scene<'a>,
    /// The directions in which the old or the new policy has an effect.
    directions: Vec<Direction>,
    /// Single ports that the old and the new rules name for pods. Pods may serve them without listing them.
    named: BTreeSet<(Protocol, u16)>,
    internet: AddressSet,
}

/// An end of a connection: pods with their policies, or the internet.
pub(super) struct Side<'a> {
    pub(super) group: Option<Group<'a>>,
    /// The policies that may select the pods, before and after the change.
    policies: OnceCell<[Vec<&'a Policy>; 2]>,
}

/// Ports by protocol.
pub(super) type PortRanges = Vec<(Protocol, Ranges<u16>)>;

impl<'a> Side<'a> {
    pub(super) fn new(group: Option<Group<'a>>) -> Self {
        Self { group, policies: OnceCell::new() }
    }

    fn end<'b>(&self, internet: &'b AddressSet) -> End<'b>
    where
        'a: 'b,
    {
        match &self.group {
            Some(group) => End::Pod(group.endpoint()),
            None => End::Addresses { set: internet, outside: true },
        }
    }
}

impl<'a> Comparison<'a> {
    /// Compares the cluster of two scenes, which differ in these policies.
    pub(super) fn new(sides: [(&[&Policy], Scene<'a>); 2]) -> Self {
        let [(old, before), (new, after)] = sides;
        let policies = || old.iter().chain(new).copied();
        let has_effect =
            |direction: &Direction| policies().inspect(|_| charge(1)).any(|policy| policy.concerns(*direction));
        let mut named = BTreeSet::new();
        for rule in policies().flat_map(Policy::sides).flat_map(|(_, side)| &side.rules) {
            charge(1);
            // A rule for any address says nothing about the ports that pods serve.
            if !rule.peers.listed().iter().any(|peer| matches!(peer.who, Who::Pods(_))) {
                continue;
            }
            rule.ports.for_each(&mut |port| {
                charge(1);
                if let Numbers::Range(first, last) = port.numbers
                    && first == last
                    && named.len() < MAX_NAMED
                {
                    named.insert((port.protocol.unwrap_or(Protocol::Tcp), first));
                }
            });
        }
        let directions = Direction::ALL.into_iter().filter(has_effect).collect();
        Self { before, after, directions, named, internet: AddressSet::internet() }
    }

    /// Returns the ports that the change closes, and the ports that it opens. Ports that depend on unknown facts are in
    /// neither.
    pub(super) fn compare(&self, from: &Side<'a>, to: &Side<'a>) -> (PortRanges, PortRanges) {
        let (mut closed, mut opened) = (PortRanges::new(), PortRanges::new());
        let ends = [(from, to, Direction::Egress), (to, from, Direction::Ingress)];
        if !ends.iter().any(|(own, _, direction)| self.may_change(own, *direction)) {
            return (closed, opened);
        }
        let listed = to.group.map(|group| &*group.first.workload.ports);
        for (protocol, first, last) in self.spans(from, to) {
            charge(listed.map_or(0, <[_]>::len) / PARTS_PER_STEP);
            let traffic = Traffic::Port { protocol, number: first, names: names(listed, protocol, first) };
            let outcome = |(own, other, direction), when| self.outcome(own, other, direction, traffic, when);
            let changed = ends.map(|end| {
                let (own, _, direction) = end;
                self.may_change(own, direction).then(|| When::ALL.map(|when| outcome(end, when)))
            });
            // The other end is evaluated only if this one changes.
            if changed.iter().flatten().all(|[before, after]| before == after) {
                continue;
            }
            let all = changed.into_iter().zip(ends);
            let all = all.map(|(changed, end)| changed.unwrap_or_else(|| [outcome(end, When::Before); 2]));
            let [before, after] = all.fold([Outcome::Allowed; 2], |[before, after], [own_before, own_after]| {
                [before.and(own_before), after.and(own_after)]
            });
            match (before, after) {
                (Outcome::Allowed, Outcome::Blocked) => extend(&mut closed, protocol, first, last),
                (Outcome::Blocked, Outcome::Allowed) => extend(&mut opened, protocol, first, last),
                _ => {}
            }
        }
        (closed, opened)
    }

    /// Returns true if the change may affect the connections of these pods in this direction.
    fn may_change(&self, side: &Side<'a>, direction: Direction) -> bool {
        side.group.is_some_and(|group| group.is_subject) && self.directions.contains(&direction)
    }

    /// The outcome at one end. An end outside of the cluster has no policies.
    fn outcome(
        &self,
        own: &Side<'a>,
        other: &Side<'a>,
        direction: Direction,
        traffic: Traffic<'_>,
        when: When,
    ) -> Outcome {
        charge(1);
        let Some(group) = own.group else { return Outcome::Allowed };
        let question =
            Question { subject: Subject::One(group.endpoint()), direction, other: other.end(&self.internet), traffic };
        let [before, after] = self.policies(own, group);
        let (policies, scene) = match when {
            When::Before => (before, &self.before),
            When::After => (after, &self.after),
        };
        ask(policies.iter().copied(), &question, scene).outcome(direction)
    }

    /// The policies that may select the pods, before and after the change.
    fn policies<'b>(&self, side: &'b Side<'a>, group: Group<'a>) -> &'b [Vec<&'a Policy>; 2] {
        side.policies.get_or_init(|| {
            [self.before, self.after].map(|scene| {
                let policies = scene.policies(group.namespace);
                policies.filter(|policy| policy.subject.mean(&group.endpoint(), &scene) != Some(false)).collect()
            })
        })
    }

    /// The ports to compare, each with the last one that every policy treats alike: the ports that the receiver lists,
    /// and those that the changed rules name. If it does not list any, all ports.
    fn spans(&self, from: &Side<'a>, to: &Side<'a>) -> Vec<(Protocol, u16, u16)> {
        let listed = to.group.map(|group| &*group.first.workload.ports).unwrap_or_default();
        if !listed.is_empty() {
            let listed = listed.iter().take(MAX_LISTED).map(|port| (port.protocol, port.number));
            let ports: BTreeSet<(Protocol, u16)> = listed.chain(self.named.iter().copied()).collect();
            return ports.into_iter().map(|(protocol, number)| (protocol, number, number)).collect();
        }
        let mut spans = PortSpans::new();
        for (side, direction) in [(from, Direction::Egress), (to, Direction::Ingress)] {
            let Some(group) = side.group else { continue };
            let policies = self.policies(side, group).iter().flatten();
            for rule in policies.flat_map(|policy| &policy.side(direction).rules) {
                spans.cut_at(&rule.ports);
            }
        }
        let of = |protocol| spans.iter().map(move |(first, last)| (protocol, first, last));
        Protocol::WITH_PORTS.into_iter().flat_map(of).collect()
    }
}

#[derive(Clone, Copy)]
enum When {
    Before,
    After,
}

impl When {
    const ALL: [Self; 2] = [Self::Before, Self::After];
}

/// Adds ports to those of their protocol. Protocols come one after another.
fn extend(ports: &mut PortRanges, protocol: Protocol, first: u16, last: u16) {
    let more = Ranges::between(first, last);
    match ports.last_mut() {
        Some((known, ranges)) if *known == protocol => ranges.extend(&more),
        _ => ports.push((protocol, more)),
    }
}
