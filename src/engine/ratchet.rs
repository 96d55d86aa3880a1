//! What an object was guilty of before a change of it does not deny the change: whoever has to change an old object is not
//! held up by what others left in it. An old fault is a new one where it weighs more than before: for other pods, or where
//! what came before it and stopped some of it is no more.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Judgement, Spared, ask};
use crate::budget::charge;
use crate::config::Configuration;
use crate::model::{
    Action, BUDGET, NAME_LABEL, Namespaces, Object, Order, Path, Peers, Policy, Rule, Selector, Side, Step,
    Surroundings,
};
use crate::rules::{Case, Change, Mode, Occasion};

/// What an object was guilty of before a change of it.
pub(super) struct Before<'a> {
    configuration: &'a Configuration,
    case: Case<'a>,
    found: OnceCell<Vec<Judgement>>,
}

impl<'a> Before<'a> {
    pub(super) fn new(configuration: &'a Configuration, case: Case<'a>) -> Self {
        Self { configuration, case, found: OnceCell::new() }
    }

    /// All of it, whoever comes with it now: who may not make a change could not have made it before. It is found when the
    /// first one asks.
    pub(super) fn found(&self) -> &[Judgement] {
        self.found.get_or_init(|| {
            let (Change::Write { .. }, Some(old)) = (self.case.change, self.case.change.old()) else {
                return Vec::new();
            };
            let occasion = Occasion::anonymous(self.case.occasion.now);
            let before = Case { change: Change::Write { new: old, old: None }, occasion, ..self.case };
            // What exceeds the budget spares nothing.
            ask(self.configuration, &before).0
        })
    }

    /// Spares what was there before.
    pub(super) fn spare(&self, judgements: &mut [Judgement]) {
        let object = self.case.change.object();
        let (Change::Write { .. }, true) = (self.case.change, judgements.iter().any(Judgement::denies)) else { return };
        let Some(old) = self.case.change.old().filter(|old| !concerns_more(object, old)) else { return };
        // Each of them spares one, since the same fault twice is one more than the same fault once.
        let mut known: HashMap<(&str, String), Vec<Option<Place<'_>>>> = HashMap::new();
        let (places, old_places) = (Places::of(object), Places::of(old));
        for Judgement { finding, .. } in self.found() {
            let fault = (finding.rule, old_places.fault(&finding.message));
            known.entry(fault).or_default().push(old_places.at(&finding.path));
        }
        let mut kept = Kept { around: self.case.view, budget: BUDGET, sides: HashMap::new() };
        for judgement in judgements.iter_mut().filter(|judgement| judgement.can_be_spared()) {
            let fault = (judgement.finding.rule, places.fault(&judgement.finding.message));
            let Some(known) = known.get_mut(&fault) else { continue };
            let place = places.at(&judgement.finding.path);
            let mut is_as_before = |old: &Option<Place<'_>>| match (old, &place) {
                (Some(old), Some(new)) => kept.are_before(new, old),
                _ => true,
            };
            if let Some(position) = known.iter().position(&mut is_as_before) {
                known.swap_remove(position);
                judgement.action = Mode::Warn;
                judgement.spared = Some(Spared::WasThereBefore);
            }
        }
    }
}

/// The place of a rule that something was found in: what is evaluated before it decides how much it allows.
struct Place<'a> {
    policy: &'a Policy,
    side: &'a Side,
    /// The position in the side.
    at: usize,
}

/// The rules of an object by their paths, and its subjects in words.
struct Places<'a> {
    /// The policy and the direction of each rule, and its position there.
    rules: HashMap<&'a [Step], (&'a Policy, &'a Side, usize)>,
    subjects: Vec<String>,
}

impl<'a> Places<'a> {
    fn of(object: &'a Object) -> Self {
        let mut rules = HashMap::new();
        for policy in object.policies() {
            for (_, side) in policy.sides() {
                charge(side.rules.len());
                for (at, rule) in side.rules.iter().enumerate() {
                    // Of several rules of one path the first one counts.
                    rules.entry(rule.path.steps()).or_insert((policy, side, at));
                }
            }
        }
        let subjects = object.policies().iter().map(|policy| {
            charge(1 + policy.subject.labels.as_ref().map_or(0, Selector::size));
            policy.subject.to_string()
        });
        Self { rules, subjects: subjects.collect() }
    }

    /// The place of the rule at this path, or around it. None where there is none: then nothing comes before.
    fn at(&self, path: &Path) -> Option<Place<'a>> {
        let steps = path.steps();
        let mut around = (0..=steps.len()).rev().filter_map(|length| self.rules.get(steps.get(..length)?));
        let (policy, side, at) = *around.next()?;
        Some(Place { policy, side, at })
    }

    /// A message without the pods that it is about: a policy may be for fewer pods than before.
    fn fault(&self, message: &str) -> String {
        self.subjects.iter().fold(message.to_owned(), |message, subject| {
            charge(1 + message.len() / 64);
            if message.contains(subject) { message.replace(subject, "the pods") } else { message }
        })
    }
}

impl<'a> Place<'a> {
    /// Whether a rule at a position of its side stops something before this one is evaluated.
    fn is_stopped_by(&self, at: usize, rule: &Rule) -> bool {
        match rule.action {
            Action::Deny => at < self.at || self.policy.order == Order::Additive,
            Action::Pass => at < self.at,
            Action::Allow | Action::Log => false,
        }
    }

    /// The rules of its side that can stop something, with their positions.
    fn stops(&self) -> impl Iterator<Item = (usize, &'a Rule)> {
        charge(self.side.rules.len());
        let rules = self.side.rules.iter().enumerate();
        rules.filter(|(_, rule)| matches!(rule.action, Action::Deny | Action::Pass))
    }
}

/// Rules that stop something, by their positions, each with the position after which all of them up to it are found again.
type Stops = Vec<(usize, Option<usize>)>;

/// The rules that stopped something before a change, found again after it.
struct Kept<'a> {
    around: &'a dyn Surroundings,
    /// Steps that proofs may still take.
    budget: usize,
    /// For each pair of an old and a new side, by their addresses: the rules of the old one that stop something, in their
    /// order, and the earliest position at which the new one stops all that those up to this one did; none where it is not
    /// proved that it does.
    sides: HashMap<(*const Side, *const Side), Stops>,
}

impl Kept<'_> {
    /// Returns true if it is proved that all that was evaluated before the old rule is evaluated before the new one.
    fn are_before(&mut self, new: &Place<'_>, old: &Place<'_>) -> bool {
        let position = |place: &Place<'_>| place.policy.order.position();
        if new.policy.stage != old.policy.stage || position(new) < position(old) {
            return false;
        }
        let key = (std::ptr::from_ref(old.side), std::ptr::from_ref(new.side));
        if !self.sides.contains_key(&key) {
            let found = self.find(new, old);
            self.sides.insert(key, found);
        }
        let found = self.sides.get(&key).map(Vec::as_slice).unwrap_or_default();
        let is_additive = |place: &Place<'_>| place.policy.order == Order::Additive;
        // Those before the old rule are the first ones, or all of them.
        let count = if is_additive(old) { found.len() } else { found.partition_point(|(at, _)| *at < old.at) };
        match count.checked_sub(1).and_then(|last| found.get(last)) {
            None => true,
            Some((_, Some(earliest))) => is_additive(new) || *earliest < new.at,
            Some((_, None)) => false,
        }
    }

    fn find(&mut self, new: &Place<'_>, old: &Place<'_>) -> Stops {
        let mut alike: HashMap<u64, Vec<(usize, &Rule)>> = HashMap::new();
        let stops: Vec<(usize, &Rule)> = new.stops().collect();
        for (at, rule) in &stops {
            alike.entry(fingerprint(rule)).or_default().push((*at, rule));
        }
        let mut latest = Some(0);
        let mut found = Vec::new();
        for (at, rule) in old.stops() {
            if !old.is_stopped_by(at, rule) && old.policy.order == Order::Additive {
                continue;
            }
            let same = alike.get(&fingerprint(rule)).into_iter().flatten().find(|(_, new)| says_the_same(new, rule));
            let covering = || {
                stops.iter().find(|(_, new)| {
                    charge(1);
                    new.action == Action::Deny && self.budget > 0 && new.covers(rule, self.around, &mut self.budget)
                })
            };
            let earliest = same.or_else(covering).map(|(at, _)| *at);
            latest = latest.zip(earliest).map(|(latest, at)| latest.max(at));
            found.push((at, latest));
        }
        found
    }
}

/// A number that rules have in common which differ in nothing but their places.
fn fingerprint(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    (rule.action, rule.peers.listed().len(), &rule.only, &rule.conditions).hash(&mut hasher);
    rule.peers.listed().first().map(|peer| &peer.who).hash(&mut hasher);
    hasher.finish()
}

/// Returns true if two rules differ in nothing but their places.
fn says_the_same(new: &Rule, old: &Rule) -> bool {
    let (peers, ports) = (new.peers.listed(), new.ports.entries());
    charge(1 + peers.len() + ports);
    (new.action, &new.only, &new.within, &new.conditions, &new.filter)
        == (old.action, &old.only, &old.within, &old.conditions, &old.filter)
        && (new.peers == Peers::Any) == (old.peers == Peers::Any)
        && peers.len() == old.peers.listed().len()
        && new.ports.is_same(&old.ports)
        && peers.iter().zip(old.peers.listed()).all(|(new, old)| new.who == old.who)
}

/// Whether an object holds a policy for pods that none of its policies was for. An old fault is a new one for them.
fn concerns_more(new: &Object, old: &Object) -> bool {
    // Each of one has to be looked for among those of the other.
    if new.policies().len().saturating_mul(old.policies().len()) > MOST_COMPARED {
        return true;
    }
    let namespaces = |old: &Namespaces, new: &Namespaces| match (old, new) {
        (Namespaces::Matching(old), Namespaces::Matching(new)) => old.covers(new),
        (Namespaces::Matching(old), Namespaces::Own(Some(name))) => old.covers(&Selector::equals(NAME_LABEL, name)),
        _ => old == new,
    };
    let covers = |old: &Policy, new: &Policy| {
        namespaces(&old.subject.namespaces, &new.subject.namespaces)
            && old.subject.selector().covers(&new.subject.selector())
    };
    !new.policies().iter().all(|new| old.policies().iter().any(|old| covers(old, new)))
}

/// How many pairs of policies of an old and a new object are compared.
const MOST_COMPARED: usize = 2_500;
