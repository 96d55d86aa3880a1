//! What an object was guilty of before a change of it does not deny the change: whoever has to change an old object is not
//! held up by what others left in it. An old fault is a new one where it weighs more than before: for other pods, or where
//! what came before it and stopped some of it is no more.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::{Judgement, Spared, ask};
use crate::config::Configuration;
use crate::model::{
    Action, BUDGET, NAME_LABEL, Namespaces, Object, Order, Path, Policy, Precedence, Rule, Selector, Stage,
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
            ask(self.configuration, &before)
        })
    }

    /// Spares what was there before.
    pub(super) fn spare(&self, judgements: &mut [Judgement]) {
        let object = self.case.change.object();
        let (Change::Write { .. }, true) = (self.case.change, judgements.iter().any(Judgement::denies)) else { return };
        let Some(old) = self.case.change.old().filter(|old| !concerns_more(object, old)) else { return };
        // Each of them spares one, since the same fault twice is one more than the same fault once.
        let mut known: HashMap<(&str, String), Vec<Option<Place<'_>>>> = HashMap::new();
        for Judgement { finding, .. } in self.found() {
            let fault = (finding.rule, fault(&finding.message, old));
            known.entry(fault).or_default().push(Place::of(old, &finding.path));
        }
        let mut budget = BUDGET;
        for judgement in judgements.iter_mut().filter(|judgement| judgement.can_be_spared()) {
            let fault = (judgement.finding.rule, fault(&judgement.finding.message, object));
            let Some(known) = known.get_mut(&fault) else { continue };
            let place = Place::of(object, &judgement.finding.path);
            let mut is_as_before = |old: &Option<Place<'_>>| match (old, &place) {
                (Some(old), Some(new)) => new.is_no_better_than(old, self.case.view, &mut budget),
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

/// Where a rule stands that something was found in: what is asked before it decides how much it lets through.
struct Place<'a> {
    stage: &'a Stage,
    position: Precedence,
    /// The rules of its policy that stop something before it is asked.
    stops: Vec<&'a Rule>,
}

impl<'a> Place<'a> {
    /// That of the rule at this path, or around it. None where there is none: then nothing comes before.
    fn of(object: &'a Object, path: &Path) -> Option<Self> {
        let holds = |rule: &Rule| path.steps().starts_with(rule.path.steps());
        object.policies().iter().find_map(|policy| {
            policy.sides().find_map(|(_, side)| {
                let at = side.rules.iter().position(holds)?;
                let is_before = |place: usize, rule: &Rule| match rule.action {
                    Action::Deny => place < at || policy.order == Order::Additive,
                    Action::Pass => place < at,
                    Action::Allow | Action::Log => false,
                };
                let stops = side.rules.iter().enumerate().filter(|(place, rule)| is_before(*place, rule));
                let stops = stops.map(|(_, rule)| rule).collect();
                Some(Self { stage: &policy.stage, position: policy.order.position(), stops })
            })
        })
    }

    /// Whether it is proved that all that came before the old one comes before this one.
    fn is_no_better_than(&self, old: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        let mut is_still_there = |old: &&Rule| {
            let is_same = |new: &Rule| Rule { path: old.path.clone(), ..new.clone() } == **old;
            self.stops.iter().any(|new| is_same(new) || new.action == Action::Deny && new.covers(old, around, budget))
        };
        self.stage == old.stage && self.position >= old.position && old.stops.iter().all(&mut is_still_there)
    }
}

/// What a message says, whichever pods it says it of: a policy may be for fewer pods than before.
fn fault(message: &str, object: &Object) -> String {
    object.policies().iter().fold(message.to_owned(), |message, policy| {
        let subject = policy.subject.to_string();
        if message.contains(&subject) { message.replace(&subject, "the pods") } else { message }
    })
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
