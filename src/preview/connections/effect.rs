//! The effect of a change on connections.

use super::comparison::{Comparison, PortRanges, Side};
use super::group::{Group, Groups};
use crate::budget::{self, Limits, charge};
use crate::model::{Body, Object, Policy, Protocol, Ranges, Standing};
use crate::preview::dns_loss::is_server;
use crate::rules::Change;
use crate::view::{Scene, Site, View};

/// Maximum number of steps of one comparison: less than half a millisecond.
pub const STEPS: usize = 5_000;
/// Maximum memory for the old policy, in bytes.
const BYTES: usize = 256 * 1024;
/// Maximum number of rules and peers of an object that is compared.
const MAX_PEERS: usize = 256;

/// The connections that a change cuts and opens.
#[derive(Clone, Debug, Default)]
pub struct Effect<'a> {
    /// The connections that are allowed before the change and blocked after it.
    pub cut: Vec<Flow<'a>>,
    /// The connections that are blocked before the change and allowed after it.
    pub opened: Vec<Flow<'a>>,
    /// True if not all groups and pairs were compared.
    pub is_partial: bool,
    /// Number of steps that the comparison took.
    pub steps: usize,
}

/// Connections between two ends. `None` is the internet.
#[derive(Clone, Debug)]
pub struct Flow<'a> {
    /// The senders.
    pub from: Option<Group<'a>>,
    /// The receivers.
    pub to: Option<Group<'a>>,
    /// The ports, by protocol.
    pub ports: Vec<(Protocol, Ranges<u16>)>,
}

/// Compares the connections before and after a change of an object that holds policies, within [`STEPS`] steps.
#[must_use]
pub fn compare<'a>(site: &Site, view: &'a View, change: Change<'a>) -> Effect<'a> {
    let mut effect = Effect::default();
    let limits = Limits { steps: STEPS, bytes: BYTES, ..Limits::default() };
    let done = budget::run(limits, || {
        effect.collect(site, view, change);
        budget::spent().steps
    });
    match done {
        Ok(steps) => effect.steps = steps,
        Err(_) => (effect.steps, effect.is_partial) = (STEPS, true),
    }
    effect
}

/// Returns true if the object holds policies, and not too many rules and peers.
pub(super) fn is_comparable(object: &Object) -> bool {
    let rules = object.policies().iter().flat_map(Policy::sides).flat_map(|(_, side)| &side.rules);
    let peers = rules.map(|rule| 1 + rule.peers.listed().len()).take(MAX_PEERS + 1);
    matches!(object.body, Body::Policies(_)) && peers.sum::<usize>() <= MAX_PEERS
}

impl<'a> Effect<'a> {
    /// Collects the connections that change.
    fn collect(&mut self, site: &Site, view: &'a View, change: Change<'a>) {
        let old = change.old();
        let new = match change {
            // The old object cannot be parsed.
            Change::Write { old: Some(_), .. } if old.is_none() => return,
            Change::Write { new, .. } => Some(new),
            Change::Delete { .. } => None,
        };
        if ![old, new].into_iter().flatten().all(is_comparable) {
            return;
        }
        let [old_policies, new_policies] = [old, new].map(|object| {
            let policies = object.map(Object::policies).unwrap_or_default().iter();
            let in_force = policies.filter(|policy| policy.standing == Standing::InForce);
            in_force.inspect(|_| charge(1)).collect::<Vec<&Policy>>()
        });
        if old_policies == new_policies {
            return;
        }
        let scene = |object| match object {
            Some(object) => Scene::with(view, object),
            None => Scene::without(view, change.object()),
        };
        let sides = [(&*old_policies, scene(old)), (&*new_policies, scene(new))];
        let groups = Groups::of(view, sides);
        self.is_partial = groups.is_partial;
        let comparison = Comparison::new(sides);
        let internet = Side::new(None);
        let sides = |groups: Vec<Group<'a>>| groups.into_iter().map(|group| Side::new(Some(group))).collect();
        let (subjects, others): (Vec<Side<'a>>, Vec<Side<'a>>) = (sides(groups.subjects), sides(groups.others));
        for (position, subject) in subjects.iter().enumerate() {
            let later = subjects.iter().skip(position + 1);
            for other in [&internet].into_iter().chain(later).chain(&others) {
                for (from, to) in [(subject, other), (other, subject)] {
                    self.add(site, &comparison, from, to);
                }
            }
            // A pod always reaches itself.
            if subject.group.is_some_and(|group| group.size > 1) {
                self.add(site, &comparison, subject, subject);
            }
        }
    }

    fn add(&mut self, site: &Site, comparison: &Comparison<'a>, from: &Side<'a>, to: &Side<'a>) {
        // Rules about the cluster DNS report it.
        if to.group.is_some_and(|group| is_server(site, group.namespace, &group.first.workload.labels)) {
            return;
        }
        let (closed, opened) = comparison.compare(from, to);
        let flow = |ports: PortRanges| {
            let flow = Flow { from: from.group, to: to.group, ports };
            (!flow.ports.is_empty()).then_some(flow)
        };
        self.cut.extend(flow(closed));
        self.opened.extend(flow(opened));
    }
}
