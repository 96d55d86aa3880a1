//! The connections between namespaces and between workloads.
//!
//! **Limits**: [`MAX_CELLS`] cells of each matrix, and [`MAX_EXPLAINED`] cells with an explanation.

use std::collections::HashMap;

use super::class::Class;
use super::ports::{MapId, PortMap, PortMaps};
use super::report::{Matrix, NamespaceCell, Outcomes, Reach, WorkloadCell, WorkloadMatrix};
use super::scope::Scope;
use super::side::{Asking, ClassId, Sides};
use crate::model::Direction;
use crate::trace::{Flow, SideOfFlow, Verdict, explain};
use crate::view::{Scene, View};

/// Maximum number of cells of a matrix.
pub(super) const MAX_CELLS: usize = 40_000;
/// Maximum number of cells that are explained.
const MAX_EXPLAINED: usize = 1_000;
/// Maximum number of reasons of one explanation.
const MAX_REASONS: usize = 4;

/// The answers from which both matrices are read.
struct Connections<'a, 'c> {
    view: &'a View,
    classes: &'c [Class<'a>],
    egress: Sides,
    ingress: Sides,
    maps: PortMaps,
    /// The namespaces with pods, and the positions of their classes.
    spans: Vec<(&'a str, Vec<usize>)>,
}

/// Reads the matrices of a view.
pub(super) fn matrix(view: &View, classes: &[Class<'_>], scope: &Scope) -> Matrix {
    let mut asking = Asking::new(view, classes);
    let mut maps = PortMaps::default();
    let egress = asking.sides(Direction::Egress, &mut maps);
    let ingress = asking.sides(Direction::Ingress, &mut maps);
    let mut spans = Vec::new();
    for (name, (start, end)) in asking.spans() {
        let is_on_pod_network = |at: &usize| classes.get(*at).is_some_and(Class::is_on_pod_network);
        let own: Vec<usize> = (*start..*end).filter(is_on_pod_network).collect();
        if !own.is_empty() {
            spans.push((*name, own));
        }
    }
    let mut connections = Connections { view, classes, egress, ingress, maps, spans };
    let mut matrix = connections.of_namespaces(scope);
    matrix.workloads = connections.of_workloads(scope);
    matrix
}

/// A pair of namespaces by position, with its outcome and its ports.
type Pair = (usize, usize, Reach, MapId);

/// The first pairs of each outcome. Which outcome most pairs have, and is left out, is known at the end.
#[derive(Default)]
struct Buckets {
    all: Vec<Pair>,
    none: Vec<Pair>,
    others: Vec<Pair>,
}

impl Buckets {
    fn push(&mut self, pair: Pair) {
        let bucket = match pair.2 {
            Reach::All => &mut self.all,
            Reach::None => &mut self.none,
            Reach::Some | Reach::Undecided => &mut self.others,
        };
        if bucket.len() < MAX_CELLS {
            bucket.push(pair);
        }
    }

    /// The first pairs with another outcome than this one.
    fn but(self, outcome: Reach) -> Vec<Pair> {
        let mut pairs = self.others;
        pairs.extend(if outcome == Reach::All { self.none } else { self.all });
        pairs.sort_unstable_by_key(|(from, to, ..)| (*from, *to));
        pairs.truncate(MAX_CELLS);
        pairs
    }
}

/// The ports of all pairs of workloads of two namespaces together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Sum {
    /// True if every pair connects on every port.
    is_all: bool,
    /// The ports that some pair connects on.
    any: MapId,
}

impl Connections<'_, '_> {
    fn of_namespaces(&mut self, scope: &Scope) -> Matrix {
        let spans = std::mem::take(&mut self.spans);
        let touched = [Touched::of(&self.egress, &spans), Touched::of(&self.ingress, &spans)];
        let defaults = [defaults(&self.egress, &spans), defaults(&self.ingress, &spans)];
        let mut sums: HashMap<(&[MapId], &[MapId]), Sum> = HashMap::new();
        let mut outcomes = Outcomes::default();
        let mut by_outcome = Buckets::default();
        for (from, (sender, senders)) in spans.iter().enumerate() {
            for (to, (receiver, receivers)) in spans.iter().enumerate() {
                if !scope.includes(sender) && !scope.includes(receiver) {
                    continue;
                }
                let [egress, ingress] = &touched;
                let is_touched = from == to || egress.contains(from, to) || ingress.contains(to, from);
                let sum = match (defaults[0].get(from), defaults[1].get(to)) {
                    (Some(own), Some(others)) if !is_touched => *sums.entry((own, others)).or_insert_with(|| {
                        sum_of(own.iter().flat_map(|a| others.iter().map(|b| (*a, *b))), &mut self.maps)
                    }),
                    _ => self.sum(senders, receivers),
                };
                let outcome = self.outcome(sum);
                *match outcome {
                    Reach::All => &mut outcomes.all,
                    Reach::Some => &mut outcomes.some,
                    Reach::None => &mut outcomes.none,
                    Reach::Undecided => &mut outcomes.undecided,
                } += 1;
                by_outcome.push((from, to, outcome, sum.any));
            }
        }
        drop(sums);
        let otherwise = if outcomes.all > outcomes.none { Reach::All } else { Reach::None };
        let total = outcomes.all + outcomes.some + outcomes.none + outcomes.undecided;
        let left_out = if otherwise == Reach::All { outcomes.all } else { outcomes.none };
        let cells: Vec<NamespaceCell> = by_outcome
            .but(otherwise)
            .into_iter()
            .map(|(from, to, outcome, any)| {
                let ports = self.maps.get(any).map(PortMap::words).unwrap_or_default();
                NamespaceCell { from, to, outcome, ports }
            })
            .collect();
        let omitted = total - left_out - cells.len();
        let namespaces = spans.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.spans = spans;
        Matrix { namespaces, otherwise, cells, omitted, outcomes, workloads: WorkloadMatrix::default() }
    }

    fn outcome(&self, sum: Sum) -> Reach {
        match self.maps.get(sum.any) {
            _ if sum.is_all => Reach::All,
            Some(map) if map.allows_any() => Reach::Some,
            Some(map) if map.is_undecided() => Reach::Undecided,
            _ => Reach::None,
        }
    }

    /// The ports of every pair of these classes. A single pod is not paired with itself.
    fn sum(&mut self, senders: &[usize], receivers: &[usize]) -> Sum {
        let mut sum: Option<Sum> = None;
        for from in senders {
            for to in receivers {
                if from == to && self.classes.get(*from).is_some_and(Class::is_one_pod) {
                    continue;
                }
                let map = self.ports(*from, *to);
                let is_all = self.maps.get(map).is_some_and(PortMap::allows_all);
                sum = Some(match sum {
                    None => Sum { is_all, any: map },
                    Some(sum) => Sum { is_all: sum.is_all && is_all, any: self.maps.or(sum.any, map) },
                });
            }
        }
        // The only pod of a namespace reaches itself.
        sum.unwrap_or_else(|| Sum { is_all: true, any: self.maps.insert(PortMap::open()) })
    }

    /// The ports of a connection between two classes.
    fn ports(&mut self, from: usize, to: usize) -> MapId {
        let side = |sides: &Sides, own: usize, other: usize| {
            let group = sides.of_class.get(own).copied().flatten()?;
            Some(sides.groups.get(group as usize)?.ports(ClassId::try_from(other).ok()?))
        };
        match (side(&self.egress, from, to), side(&self.ingress, to, from)) {
            (Some(egress), Some(ingress)) => self.maps.and(egress, ingress),
            _ => self.maps.insert(PortMap::closed()),
        }
    }

    fn of_workloads(&mut self, scope: &Scope) -> WorkloadMatrix {
        let spans = std::mem::take(&mut self.spans);
        let mut matrix = WorkloadMatrix::default();
        let mut explained = 0;
        for is_within in [true, false] {
            for (from, (sender, senders)) in spans.iter().enumerate() {
                for (to, (receiver, receivers)) in spans.iter().enumerate() {
                    if (from == to) != is_within || !scope.includes(sender) && !scope.includes(receiver) {
                        continue;
                    }
                    if matrix.cells.len() >= MAX_CELLS {
                        matrix.omitted += senders.len() * receivers.len();
                        continue;
                    }
                    for (from, to) in senders.iter().flat_map(|from| receivers.iter().map(move |to| (*from, *to))) {
                        let (Some(sender), Some(receiver)) = (self.classes.get(from), self.classes.get(to)) else {
                            continue;
                        };
                        if from == to && sender.is_one_pod() {
                            continue;
                        }
                        if matrix.cells.len() >= MAX_CELLS {
                            matrix.omitted += 1;
                            continue;
                        }
                        let map = self.ports(from, to);
                        let cell = self.cell((sender, receiver), map, &mut explained);
                        matrix.cells.push(cell);
                    }
                }
            }
        }
        self.spans = spans;
        matrix
    }

    fn cell(&self, (from, to): (&Class<'_>, &Class<'_>), map: MapId, explained: &mut usize) -> WorkloadCell {
        let map = self.maps.get(map);
        let outcome = match map {
            Some(map) if map.allows_any() => Verdict::Allowed,
            Some(map) if map.is_undecided() => Verdict::Undecided,
            _ => Verdict::Blocked,
        };
        let ports = map.map(PortMap::words).unwrap_or_default();
        let mut cell =
            WorkloadCell { from: from.id(), to: to.id(), outcome, ports, policies: Vec::new(), explanation: None };
        let is_open =
            |class: &Class<'_>, direction: Direction| !class.policies.iter().any(|one| one.policy.concerns(direction));
        if is_open(from, Direction::Egress) && is_open(to, Direction::Ingress) {
            cell.explanation = Some("no policy isolates egress of the sender or ingress of the receiver".to_owned());
        } else if *explained < MAX_EXPLAINED {
            *explained += 1;
            let flows = explain(Scene::of(self.view), &from.place(), &to.place());
            cell.policies = policies(&flows);
            cell.explanation = Some(explanation(&flows));
        }
        cell
    }
}

/// The reasons of a connection at both ends: a line for each group of ports, and one for each end.
fn explanation(flows: &[Flow]) -> String {
    let mut lines: Vec<String> = flows.iter().take(MAX_REASONS).map(reasons).collect();
    if let Some(more @ 1..) = flows.len().checked_sub(MAX_REASONS) {
        lines.push(format!("{more} more groups of ports have other reasons"));
    }
    lines.join("\n")
}

fn reasons(flow: &Flow) -> String {
    let side = |name: &str, side: &Option<SideOfFlow>| {
        side.as_ref().map(|side| format!("\n{name}: {}", side.reason)).unwrap_or_default()
    };
    format!("{}: {}{}{}", flow.ports, flow.verdict.name(), side("egress", &flow.egress), side("ingress", &flow.ingress))
}

/// The policies that decide a connection, each with its deciding rules.
fn policies(flows: &[Flow]) -> Vec<String> {
    let mut policies = Vec::new();
    for side in flows.iter().flat_map(|flow| [&flow.egress, &flow.ingress]).flatten() {
        for line in &side.policies {
            let is_cause = side.verdict != Verdict::Allowed && line.isolates;
            let rules = line.rules.iter().map(|rule| format!("{} at {rule}", line.policy));
            let by_isolation = (line.rules.is_empty() && is_cause).then(|| line.policy.clone());
            for policy in rules.chain(by_isolation) {
                if !policies.contains(&policy) {
                    policies.push(policy);
                }
            }
        }
    }
    policies
}

/// The pairs of namespaces for which a group has an answer of its own.
struct Touched {
    width: usize,
    is_set: Vec<bool>,
}

impl Touched {
    fn of(sides: &Sides, spans: &[(&str, Vec<usize>)]) -> Self {
        let width = spans.len();
        let mut touched = Self { width, is_set: vec![false; width * width] };
        let mut namespaces = vec![None; sides.of_class.len()];
        for (at, (_, classes)) in spans.iter().enumerate() {
            for class in classes {
                if let Some(namespace) = namespaces.get_mut(*class) {
                    *namespace = Some(at);
                }
            }
        }
        for (own, (_, classes)) in spans.iter().enumerate() {
            let mut groups: Vec<u32> =
                classes.iter().filter_map(|class| sides.of_class.get(*class).copied().flatten()).collect();
            groups.sort_unstable();
            groups.dedup();
            let others =
                groups.iter().filter_map(|group| sides.groups.get(*group as usize)).flat_map(|group| &group.others);
            for other in others.filter_map(|(class, _)| namespaces.get(*class as usize).copied().flatten()) {
                if let Some(is_set) = touched.is_set.get_mut(own * width + other) {
                    *is_set = true;
                }
            }
        }
        touched
    }

    fn contains(&self, own: usize, other: usize) -> bool {
        self.is_set.get(own * self.width + other).is_some_and(|is_set| *is_set)
    }
}

/// The different default answers of the classes of each namespace.
fn defaults(sides: &Sides, spans: &[(&str, Vec<usize>)]) -> Vec<Vec<MapId>> {
    let of_class = |class: &usize| {
        let group = sides.of_class.get(*class).copied().flatten()?;
        sides.groups.get(group as usize).map(|group| group.default)
    };
    let of_namespace = |(_, classes): &(&str, Vec<usize>)| {
        let mut defaults: Vec<MapId> = classes.iter().filter_map(of_class).collect();
        defaults.sort_unstable();
        defaults.dedup();
        defaults
    };
    spans.iter().map(of_namespace).collect()
}

/// The ports of all of these pairs of answers.
fn sum_of(pairs: impl Iterator<Item = (MapId, MapId)>, maps: &mut PortMaps) -> Sum {
    let nothing = maps.insert(PortMap::closed());
    let mut sum = Sum { is_all: true, any: nothing };
    for (egress, ingress) in pairs {
        let map = maps.and(egress, ingress);
        sum.is_all &= maps.get(map).is_some_and(PortMap::allows_all);
        sum.any = maps.or(sum.any, map);
    }
    sum
}
