//! The ratchet: faults that an object had before a change do not deny the change. A user who has to change an old
//! object is not blocked by faults that others left in it.
//!
//! An old fault counts as new if its effect grows: it applies to more pods, or an earlier rule that stopped some of the
//! traffic is gone.

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

/// The findings in an object before its change.
pub(super) struct Before<'a> {
    configuration: &'a Configuration,
    case: Case<'a>,
    found: OnceCell<Vec<Judgement>>,
}

impl<'a> Before<'a> {
    pub(super) fn new(configuration: &'a Configuration, case: Case<'a>) -> Self {
        Self { configuration, case, found: OnceCell::new() }
    }

    /// All findings in the old object. They are evaluated without a requester, because a user who may not make a change
    /// could not have made it earlier either. They are computed on first use.
    pub(super) fn found(&self) -> &[Judgement] {
        self.found.get_or_init(|| {
            let (Change::Write { .. }, Some(old)) = (self.case.change, self.case.change.old()) else {
                return Vec::new();
            };
            let occasion = Occasion::anonymous(self.case.occasion.now);
            let before = Case { change: Change::Write { new: old, old: None }, occasion, ..self.case };
            // Findings past the budget are missing, and so spare nothing.
            ask(self.configuration, &before).0
        })
    }

    /// Spares the findings that the old object already had.
    pub(super) fn spare(&self, judgements: &mut [Judgement]) {
        let object = self.case.change.object();
        let (Change::Write { .. }, true) = (self.case.change, judgements.iter().any(Judgement::denies)) else { return };
        let Some(old) = self.case.change.old().filter(|old| !concerns_more(object, old)) else { return };
        // Each old finding spares one new finding: a fault that occurs twice is one more than before.
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

/// The rule in which a fault was found. The rules that are evaluated before it decide how much it allows.
struct Place<'a> {
    policy: &'a Policy,
    side: &'a Side,
    /// The index of the rule in its side.
    at: usize,
}

/// The rules of an object by their paths, and the descriptions of its subjects.
struct Places<'a> {
    /// The policy, the side and the index of the rule at each path.
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
                    // The first of several rules with the same path wins.
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

    /// The rule at this path, or the rule that contains it. `None` if the path is outside of rules: then no rule is
    /// evaluated before it.
    fn at(&self, path: &Path) -> Option<Place<'a>> {
        let steps = path.steps();
        let mut around = (0..=steps.len()).rev().filter_map(|length| self.rules.get(steps.get(..length)?));
        let (policy, side, at) = *around.next()?;
        Some(Place { policy, side, at })
    }

    /// The message without the description of the pods: the policy may apply to fewer pods than before.
    fn fault(&self, message: &str) -> String {
        self.subjects.iter().fold(message.to_owned(), |message, subject| {
            charge(1 + message.len() / 64);
            if message.contains(subject) { message.replace(subject, "the pods") } else { message }
        })
    }
}

impl<'a> Place<'a> {
    /// Returns true if the rule with this index of the same side can stop traffic before this rule is evaluated.
    fn is_stopped_by(&self, at: usize, rule: &Rule) -> bool {
        match rule.action {
            Action::Deny => at < self.at || self.policy.order == Order::Additive,
            Action::Pass => at < self.at,
            Action::Allow | Action::Log => false,
        }
    }

    /// The rules of its side that can stop traffic, with their indexes.
    fn stops(&self) -> impl Iterator<Item = (usize, &'a Rule)> {
        charge(self.side.rules.len());
        let rules = self.side.rules.iter().enumerate();
        rules.filter(|(_, rule)| matches!(rule.action, Action::Deny | Action::Pass))
    }
}

/// The rules of an old side that stop traffic: the index of each, and the index in the new side at which all of them up
/// to this one are matched.
type Stops = Vec<(usize, Option<usize>)>;

/// Matches the rules that stopped traffic before a change with those after it.
struct Kept<'a> {
    around: &'a dyn Surroundings,
    /// Remaining steps for proofs.
    budget: usize,
    /// The matches for each pair of an old and a new side, keyed by their addresses.
    ///
    /// An entry lists the stopping rules of the old side in order, each with the smallest index at which the new side
    /// stops all the traffic that they stop up to there. `None` if that is not proved.
    sides: HashMap<(*const Side, *const Side), Stops>,
}

impl Kept<'_> {
    /// Returns true if it is proved that all traffic stopped before the old rule is also stopped before the new rule.
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
        // The rules before the old rule are a prefix of the list; for an additive policy they are the whole list.
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

/// A hash that is equal for rules that differ only in their paths.
fn fingerprint(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    (rule.action, rule.peers.listed().len(), &rule.only, &rule.conditions).hash(&mut hasher);
    rule.peers.listed().first().map(|peer| &peer.who).hash(&mut hasher);
    hasher.finish()
}

/// Returns true if two rules differ only in their paths.
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

/// Returns true if a policy of the new object selects pods that no policy of the old object selected. For these pods an
/// old fault is new.
fn concerns_more(new: &Object, old: &Object) -> bool {
    // The comparison is quadratic: each new policy is compared with each old policy.
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

/// Maximum number of pairs of old and new policies that are compared.
const MOST_COMPARED: usize = 2_500;
