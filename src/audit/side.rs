//! One end of all connections: what the policies of some pods say about each class at the other end.
//!
//! Few of the pairs of classes need an answer of their own. The policies of an end see the other end only through the
//! peers of their rules, so two classes that the same rules match get the same answer. For each list of peers, the
//! classes that it matches are found once. All other classes share one answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::class::Class;
use super::ports::{MapId, Outcomes, PortMap, PortMaps};
use crate::model::{
    ContainerPort, Direction, End, Endpoint, NAME_LABEL, Namespaces, Numbers, Outcome, Peers, Policy, Port, PortSpans,
    Ports, Question, Rule, Subject, Traffic, Who, names,
};
use crate::view::{Scene, View};

/// A class by its position.
pub(super) type ClassId = u32;

/// The answers of one direction for every class.
pub(super) struct Sides {
    pub(super) groups: Vec<Group>,
    /// The group of each class. None for hostNetwork pods.
    pub(super) of_class: Vec<Option<u32>>,
}

/// Pods whose policies say the same about every other end.
pub(super) struct Group {
    /// The ports for all classes that are not listed.
    pub(super) default: MapId,
    /// The ports for the other classes, by class.
    pub(super) others: Vec<(ClassId, MapId)>,
}

impl Group {
    pub(super) fn ports(&self, class: ClassId) -> MapId {
        let at = self.others.binary_search_by_key(&class, |(class, _)| *class);
        at.ok().and_then(|at| self.others.get(at)).map_or(self.default, |(_, map)| *map)
    }
}

/// The classes that a list of peers matches.
enum Matched {
    /// Every class, or none of them. `None`: unknown for every class.
    Alike(Option<bool>),
    /// These classes, by position: true for a known match, false for an unknown one.
    Some(Vec<(ClassId, bool)>),
}

/// The state of the search for answers.
pub(super) struct Asking<'a, 'c> {
    view: &'a View,
    classes: &'c [Class<'a>],
    /// The classes of each namespace, as the positions of the first and after the last.
    spans: BTreeMap<&'a str, (usize, usize)>,
    matched: HashMap<&'a Peers, Matched>,
}

/// What makes the answers of a class differ from those of another one.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    policies: Vec<(*const Policy, bool)>,
    /// The ports of the pods, if a rule about their own ports names one.
    ports: &'a [ContainerPort],
    /// The class itself, if a rule applies to some of the pods of its policy only.
    own: Option<usize>,
}

/// The policies of a class that concern a direction.
struct Own<'a> {
    endpoint: Endpoint<'a>,
    policies: Vec<&'a Policy>,
    rules: Vec<&'a Rule>,
    direction: Direction,
    has_names: bool,
}

impl<'a, 'c> Asking<'a, 'c> {
    pub(super) fn new(view: &'a View, classes: &'c [Class<'a>]) -> Self {
        let mut spans: BTreeMap<&'a str, (usize, usize)> = BTreeMap::new();
        for (at, class) in classes.iter().enumerate() {
            spans.entry(class.namespace).or_insert((at, at)).1 = at + 1;
        }
        Self { view, classes, spans, matched: HashMap::new() }
    }

    /// The positions of the classes of each namespace.
    pub(super) fn spans(&self) -> &BTreeMap<&'a str, (usize, usize)> {
        &self.spans
    }

    /// Answers for one direction of every class.
    pub(super) fn sides(&mut self, direction: Direction, maps: &mut PortMaps) -> Sides {
        let mut sides = Sides { groups: Vec::new(), of_class: Vec::with_capacity(self.classes.len()) };
        let mut known: HashMap<Key<'a>, u32> = HashMap::new();
        for (at, class) in self.classes.iter().enumerate() {
            if !class.is_on_pod_network() {
                sides.of_class.push(None);
                continue;
            }
            let own = Own::of(class, direction);
            let is_special = |rule: &&Rule| rule.only.is_some() || rule.within.is_some();
            let is_sure =
                |policy: &&Policy| class.policies.iter().any(|one| std::ptr::eq(one.policy, *policy) && one.is_sure);
            let key = Key {
                policies: own.policies.iter().map(|policy| (std::ptr::from_ref(*policy), is_sure(policy))).collect(),
                ports: if own.has_names && direction == Direction::Ingress { &class.workload().ports } else { &[] },
                own: own.rules.iter().any(is_special).then_some(at),
            };
            let group = match known.get(&key) {
                Some(group) => *group,
                None => {
                    let group = self.group(&own, class, maps);
                    sides.groups.push(group);
                    let number = u32::try_from(sides.groups.len() - 1).unwrap_or(u32::MAX);
                    known.insert(key, number);
                    number
                }
            };
            sides.of_class.push(Some(group));
        }
        sides
    }

    fn group(&mut self, own: &Own<'a>, class: &Class<'a>, maps: &mut PortMaps) -> Group {
        for rule in &own.rules {
            if !self.matched.contains_key(&rule.peers) {
                let matched = self.matched_by(&rule.peers);
                self.matched.insert(&rule.peers, matched);
            }
        }
        let mut base: Vec<Option<bool>> = Vec::with_capacity(own.rules.len());
        let mut differing: Vec<(ClassId, usize, bool)> = Vec::new();
        for (at, rule) in own.rules.iter().enumerate() {
            match self.matched.get(&rule.peers) {
                Some(Matched::Alike(answer)) => base.push(*answer),
                Some(Matched::Some(classes)) => {
                    base.push(Some(false));
                    differing.extend(classes.iter().map(|(class, is_sure)| (*class, at, *is_sure)));
                }
                None => base.push(Some(false)),
            }
        }
        differing.sort_unstable();
        let mut answers = Answers { own, listed: &class.workload().ports, known: HashMap::new() };
        let is_default = |at: &usize| {
            let class = ClassId::try_from(*at).unwrap_or(ClassId::MAX);
            differing.binary_search_by_key(&class, |(class, ..)| *class).is_err()
        };
        let on_pod_network = |(at, class): (usize, &'c Class<'a>)| class.is_on_pod_network().then_some((at, class));
        let mut all = self.classes.iter().enumerate().filter_map(on_pod_network);
        // Without such a class the answer is never used.
        let default = match all.find(|(at, _)| is_default(at)) {
            Some((_, other)) => answers.of(self.view, base.clone(), other, maps),
            None => maps.insert(PortMap::closed()),
        };
        let mut others = Vec::new();
        let mut add = |at: ClassId, signature: Vec<Option<bool>>| {
            let other = self.classes.get(at as usize).filter(|other| other.is_on_pod_network());
            let Some(other) = other else { return };
            let map = answers.of(self.view, signature, other, maps);
            if map != default {
                others.push((at, map));
            }
        };
        let mut left = differing.as_slice();
        if answers_depend_on_names(own) {
            for at in 0..ClassId::try_from(self.classes.len()).unwrap_or(ClassId::MAX) {
                let end = left.iter().take_while(|(other, ..)| *other == at).count();
                let (differing, rest) = left.split_at_checked(end).unwrap_or((left, &[]));
                left = rest;
                add(at, with(&base, differing));
            }
        } else {
            for differing in left.chunk_by(|a, b| a.0 == b.0) {
                differing.iter().take(1).for_each(|(at, ..)| add(*at, with(&base, differing)));
            }
        }
        Group { default, others }
    }

    /// Finds the classes that a list of peers matches.
    fn matched_by(&self, peers: &'a Peers) -> Matched {
        let listed = match peers {
            Peers::Any => return Matched::Alike(Some(true)),
            Peers::Only(listed) => listed,
        };
        let mut spans: BTreeSet<(usize, usize)> = BTreeSet::new();
        for peer in listed {
            match self.namespaces(&peer.who) {
                Some(names) => spans.extend(names.iter().filter_map(|name| self.spans.get(name))),
                None => {
                    spans.extend(self.spans.values());
                    break;
                }
            }
        }
        let mut matched = Vec::new();
        let mut count = 0_usize;
        let mut first: Option<Option<bool>> = None;
        let mut are_alike = true;
        for at in spans.into_iter().flat_map(|(start, end)| start..end) {
            let Some(class) = self.classes.get(at).filter(|class| class.is_on_pod_network()) else { continue };
            count += 1;
            let answer = peers.mean(&End::Pod(class.endpoint()), &Scene::of(self.view));
            are_alike &= *first.get_or_insert(answer) == answer;
            if answer != Some(false) {
                matched.push((ClassId::try_from(at).unwrap_or(ClassId::MAX), answer.is_some()));
            }
        }
        let all = self.classes.iter().filter(|class| class.is_on_pod_network()).count();
        match first {
            None => Matched::Alike(Some(false)),
            Some(answer) if are_alike && count == all => Matched::Alike(answer),
            Some(_) => Matched::Some(matched),
        }
    }

    /// The namespaces in which a peer may match pods. None for all of them.
    fn namespaces(&self, who: &'a Who) -> Option<Vec<&'a str>> {
        match who {
            Who::Pods(pods) => match &pods.namespaces {
                Namespaces::Own(name) => Some(vec![name.as_deref().unwrap_or_default()]),
                Namespaces::Matching(selector) if selector.is_empty() => None,
                Namespaces::Matching(selector) => match selector.values_of(NAME_LABEL) {
                    Some(names) => Some(names.iter().map(|name| &**name).collect()),
                    None => {
                        let may_be = |name: &&&'a str| pods.namespaces.mean(name, self.view) != Some(false);
                        Some(self.spans.keys().filter(may_be).copied().collect())
                    }
                },
            },
            Who::Addresses(block) if !block.inside => Some(Vec::new()),
            Who::Domain(_) | Who::Nodes(_) => Some(Vec::new()),
            Who::All(parts) => parts.iter().find_map(|part| self.namespaces(part)),
            _ => None,
        }
    }
}

/// The answers of the rules for a class: those for all classes, with its own ones.
fn with(base: &[Option<bool>], own: &[(ClassId, usize, bool)]) -> Vec<Option<bool>> {
    let mut signature = base.to_vec();
    for (_, rule, is_sure) in own {
        if let Some(answer) = signature.get_mut(*rule) {
            *answer = is_sure.then_some(true);
        }
    }
    signature
}

impl<'a> Own<'a> {
    fn of(class: &Class<'a>, direction: Direction) -> Self {
        let policies: Vec<&Policy> =
            class.policies.iter().map(|one| one.policy).filter(|policy| policy.concerns(direction)).collect();
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| &policy.side(direction).rules).collect();
        let has_names = rules.iter().any(|rule| has_name(&rule.ports));
        Self { endpoint: class.endpoint(), policies, rules, direction, has_names }
    }

    /// Evaluates the policies for every port of TCP, UDP and SCTP. `listed` are the ports that the receiver lists.
    fn ask(&self, view: &'a View, other: &Class<'a>, listed: &'a [ContainerPort]) -> PortMap {
        let mut spans = PortSpans::new();
        self.rules.iter().for_each(|rule| spans.cut_at(&rule.ports));
        if self.has_names {
            listed.iter().for_each(|port| spans.cut(port.number, port.number));
        }
        let (direction, subject) = (self.direction, Subject::One(self.endpoint));
        PortMap::of(|protocol| {
            let outcome = |(first, last)| {
                let traffic = Traffic::Port { protocol, number: first, names: names(Some(listed), protocol, first) };
                let question = Question { subject, direction, other: End::Pod(other.endpoint()), traffic };
                let answer = Scene::of(view).ask(self.policies.iter().copied(), &question);
                (answer.outcome(direction), (first, last))
            };
            let outcomes: Vec<(Outcome, (u16, u16))> = spans.iter().map(outcome).collect();
            let with = |wanted| {
                let with = outcomes.iter().filter(|(outcome, _)| *outcome == wanted);
                with.map(|(_, range)| *range).collect()
            };
            Outcomes { allowed: with(Outcome::Allowed), undecided: with(Outcome::Undecided) }
        })
    }
}

/// The answers of a group that are known already, by what decides them.
struct Answers<'o, 'a> {
    own: &'o Own<'a>,
    /// The ports that the pods of the group list.
    listed: &'a [ContainerPort],
    known: HashMap<Decider<'a>, MapId>,
}

/// Which rules match the other end, and the ports that it lists if a rule names one.
type Decider<'a> = (Vec<Option<bool>>, &'a [ContainerPort]);

impl<'a> Answers<'_, 'a> {
    fn of(&mut self, view: &'a View, signature: Vec<Option<bool>>, other: &Class<'a>, maps: &mut PortMaps) -> MapId {
        let listed = match self.own.direction {
            Direction::Ingress => self.listed,
            Direction::Egress => &other.workload().ports,
        };
        let key = (signature, if answers_depend_on_names(self.own) { listed } else { &[] });
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let map = maps.insert(self.own.ask(view, other, listed));
        self.known.insert(key, map);
        map
    }
}

/// Returns true if a rule names a port of the other end.
fn answers_depend_on_names(own: &Own<'_>) -> bool {
    own.has_names && own.direction == Direction::Egress
}

fn has_name(ports: &Ports) -> bool {
    let is_name = |port: &Port| matches!(port.numbers, Numbers::Named(_));
    match ports {
        Ports::Any | Ports::OfService(_) => false,
        Ports::Only(ports) => ports.iter().any(is_name),
        Ports::But { of, not } => has_name(of) || not.iter().any(is_name),
    }
}
