//! A pod that several selectors match: the proof that it can exist.
//!
//! The pod is narrowed down step by step. Each step adds a selector, or changes nothing if no pod would be left. So
//! every result is a pod that can be created. The search does not go back: of several alternatives in one selector
//! (Calico's `||`) the first one that is possible stays chosen.

use std::collections::BTreeMap;

use super::{Fact, Namespaces, Operator, Owner, Pods, Selector, Surroundings};
use crate::budget::charge;

/// A pod that matches all selectors that were added.
#[derive(Clone)]
pub(crate) struct Witness<'a> {
    around: &'a dyn Surroundings,
    /// The name of its namespace, if a selector fixes it.
    namespace: Option<&'a str>,
    labels: BTreeMap<(Owner, &'a str), Label<'a>>,
    /// The steps, to undo them.
    steps: Vec<Step<'a>>,
}

/// The possible states of a label.
#[derive(Clone)]
struct Label<'a> {
    /// The values that meet all conditions, if a condition lists values. The label is then present.
    listed: Option<Vec<&'a str>>,
    state: State,
    /// The conditions on its value before the first one that lists values, each with true if it has to hold.
    conditions: Vec<(&'a Operator, bool)>,
}

/// The summary of the conditions on a label.
#[derive(Clone, Copy)]
struct State {
    may_be_absent: bool,
    may_be_present: bool,
    /// True if a condition requires a text in the value.
    has_text: bool,
}

/// A step that can be undone.
#[derive(Clone)]
enum Step<'a> {
    /// The namespace was fixed.
    Namespace,
    /// A condition was added to a label. The label had this state, and this number of conditions.
    Label((Owner, &'a str), Option<Vec<&'a str>>, State, usize),
}

impl Label<'_> {
    /// Returns true if the value meets all conditions.
    fn accepts(&self, value: &str) -> bool {
        match &self.listed {
            Some(values) => values.contains(&value),
            None => meets(&self.conditions, Some(value)),
        }
    }

    /// Returns true if a state is left.
    fn is_possible(&self) -> bool {
        match &self.listed {
            Some(values) => !values.is_empty(),
            None => self.state.may_be_absent || self.state.may_be_present && (!self.state.has_text || self.has_value()),
        }
    }

    /// Returns true if the texts that the conditions require make a value that meets all of them.
    fn has_value(&self) -> bool {
        charge(self.conditions.len());
        let (mut start, mut middle, mut end) = ("", String::new(), "");
        for (operator, holds) in &self.conditions {
            match operator {
                Operator::StartsWith(text) if *holds && text.len() > start.len() => start = text,
                Operator::Contains(text) if *holds => middle.push_str(text),
                Operator::EndsWith(text) if *holds && text.len() > end.len() => end = text,
                _ => {}
            }
        }
        meets(&self.conditions, Some(&format!("{start}{middle}{end}")))
    }
}

/// Returns true if a value, or an absent label, meets all conditions.
fn meets(conditions: &[(&Operator, bool)], value: Option<&str>) -> bool {
    charge(conditions.len());
    conditions.iter().all(|(operator, holds)| operator.accepts(value) == *holds)
}

impl<'a> Witness<'a> {
    /// Any pod of any namespace.
    #[must_use]
    pub(crate) fn new(around: &'a dyn Surroundings) -> Self {
        Self { around, namespace: None, labels: BTreeMap::new(), steps: Vec::new() }
    }

    /// Narrows the pod down to one of these pods that also matches the selector. Returns false, and changes nothing, if
    /// it finds no such pod.
    pub(crate) fn add(&mut self, pods: &'a Pods, only: Option<&'a Selector>) -> bool {
        let before = self.steps.len();
        let selectors = || pods.labels.iter().chain(only);
        let is_possible =
            self.enter(&pods.namespaces) && selectors().all(|selector| self.meet(selector, Owner::Itself, true));
        if !is_possible {
            self.go_back(before);
        }
        is_possible
    }

    /// Takes back all steps after the first ones.
    fn go_back(&mut self, to: usize) {
        for step in self.steps.drain(to..).rev() {
            match step {
                Step::Namespace => self.namespace = None,
                Step::Label(key, listed, state, conditions) => {
                    if let Some(label) = self.labels.get_mut(&key) {
                        label.listed = listed;
                        label.state = state;
                        label.conditions.truncate(conditions);
                    }
                }
            }
        }
    }

    fn enter(&mut self, namespaces: &'a Namespaces) -> bool {
        match namespaces {
            Namespaces::Own(name) => self.fix(name.as_deref().unwrap_or_default()),
            Namespaces::Matching(selector) => {
                let name = selector.values_of(super::NAME_LABEL).and_then(|names| match names {
                    [name] => Some(name),
                    _ => None,
                });
                name.is_none_or(|name| self.fix(name)) && self.meet(selector, Owner::Namespace, true)
            }
        }
    }

    /// Fixes the namespace. Conditions on its labels are checked against those that are known.
    fn fix(&mut self, name: &'a str) -> bool {
        if let Some(own) = self.namespace {
            return own == name;
        }
        charge(1 + self.labels.len());
        self.namespace = Some(name);
        self.steps.push(Step::Namespace);
        let mut labels = self.labels.iter().filter(|((owner, _), _)| *owner == Owner::Namespace);
        labels.all(|((_, key), label)| match self.around.namespace_label(name, key) {
            Fact::Value(value) => label.accepts(value),
            Fact::Absent => label.state.may_be_absent,
            Fact::Present => label.state.may_be_present,
            Fact::Unknown => true,
        })
    }

    /// Adds a selector, whose own labels belong to `owner`. If it fails, some steps may be taken.
    fn meet(&mut self, selector: &'a Selector, owner: Owner, holds: bool) -> bool {
        charge(1);
        match (selector, holds) {
            (Selector::Not(inner), _) => self.meet(inner, owner, !holds),
            (Selector::Label(label), _) => {
                let owner = if label.owner == Owner::Itself { owner } else { label.owner };
                self.ask((owner, &label.key), &label.operator, holds)
            }
            (Selector::All(parts), true) | (Selector::Any(parts), false) => {
                // Alternatives come last, when the other parts have ruled some of them out.
                let (sure, open): (Vec<&Selector>, Vec<&Selector>) =
                    parts.iter().partition(|part| matches!(part, Selector::Label(_)));
                sure.into_iter().chain(open).all(|part| self.meet(part, owner, holds))
            }
            (Selector::All(parts), false) | (Selector::Any(parts), true) => parts.iter().any(|part| {
                let before = self.steps.len();
                let is_possible = self.meet(part, owner, holds);
                if !is_possible {
                    self.go_back(before);
                }
                is_possible
            }),
        }
    }

    /// Adds a condition on one label.
    fn ask(&mut self, key: (Owner, &'a str), operator: &'a Operator, holds: bool) -> bool {
        let accepts = |value: Option<&str>| operator.accepts(value) == holds;
        let is_absence = matches!((operator, holds), (Operator::Absent, true) | (Operator::Exists, false));
        if let (Owner::Namespace, Some(name)) = (key.0, self.namespace) {
            match self.around.namespace_label(name, key.1) {
                Fact::Value(value) => return accepts(Some(value)),
                Fact::Absent => return accepts(None),
                Fact::Present if is_absence => return false,
                Fact::Present | Fact::Unknown => {}
            }
        }
        let any = State { may_be_absent: true, may_be_present: true, has_text: false };
        let label =
            self.labels.entry(key).or_insert_with(|| Label { listed: None, state: any, conditions: Vec::new() });
        let state = label.state;
        let conditions = label.conditions.len();
        let listing = match (operator, holds) {
            (Operator::In(values), true) | (Operator::NotIn(values), false) => Some(values),
            _ => None,
        };
        let before = label.listed.take();
        label.state.may_be_absent &= accepts(None);
        label.state.may_be_present &= !is_absence;
        label.state.has_text |=
            holds && matches!(operator, Operator::Contains(_) | Operator::StartsWith(_) | Operator::EndsWith(_));
        match (&before, listing) {
            (Some(values), _) => {
                charge(values.len());
                label.listed = Some(values.iter().copied().filter(|value| accepts(Some(value))).collect());
            }
            (None, Some(values)) => {
                let values = values.iter().map(|value| &**value);
                label.listed = Some(values.filter(|value| meets(&label.conditions, Some(value))).collect());
            }
            (None, None) => label.conditions.push((operator, holds)),
        }
        let is_possible = label.is_possible();
        self.steps.push(Step::Label(key, before, state, conditions));
        is_possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, NAME_LABEL, Nowhere, Tier};

    fn is_in(key: &str, values: &[&str]) -> Selector {
        Selector::label(key, Operator::In(values.iter().map(|value| Box::from(*value)).collect()))
    }

    fn pods(labels: Selector) -> Pods {
        Pods { namespaces: Namespaces::Own(Some("shop".into())), labels: Some(labels) }
    }

    /// Returns true for each selector that was added.
    fn added(all: &[Pods]) -> Vec<bool> {
        let mut witness = Witness::new(&Nowhere);
        all.iter().map(|pods| witness.add(pods, None)).collect()
    }

    #[test]
    fn selectors_that_overlap_meet_in_one_pod() {
        let app = |values: &[&str]| pods(is_in("app", values));
        assert_eq!(
            added(&[app(&["px", "a"]), app(&["px", "b"]), app(&["a"]), app(&["px"])]),
            [true, true, false, true]
        );
        assert_eq!(added(&[app(&["px"]), pods(Selector::equals("tier", "t"))]), [true, true]);
        assert_eq!(added(&[pods(Selector::everything()), app(&["a"]), app(&["b"])]), [true, true, false]);
    }

    #[test]
    fn a_label_cannot_be_both_present_and_absent() {
        let label = |operator| pods(Selector::label("app", operator));
        let (with, without) = (label(Operator::Exists), label(Operator::Absent));
        let not = label(Operator::NotIn(vec!["a".into()]));
        assert_eq!(added(&[with.clone(), without.clone(), not.clone()]), [true, false, true]);
        assert_eq!(added(&[without, not.clone(), with.clone()]), [true, true, false]);
        assert_eq!(added(&[not, pods(is_in("app", &["a"])), with]), [true, false, true]);
    }

    #[test]
    fn of_alternatives_one_is_enough() {
        let or = |other: &str| pods(Selector::Any(vec![Selector::equals("x", other), Selector::equals("app", "px")]));
        assert_eq!(added(&[or("1"), or("2"), or("3")]), [true, true, true]);
        let app = Selector::All(vec![
            Selector::Any(vec![Selector::equals("app", "a"), Selector::equals("app", "b")]),
            Selector::equals("app", "b"),
        ]);
        assert_eq!(added(&[pods(app)]), [true]);
    }

    #[test]
    fn texts_meet_if_one_value_has_them_all() {
        let label = |operator| pods(Selector::label("app", operator));
        let starts = |text: &str| label(Operator::StartsWith(text.into()));
        assert_eq!(added(&[starts("web"), starts("web-1"), starts("db")]), [true, true, false]);
        let ends = label(Operator::EndsWith("x".into()));
        assert_eq!(added(&[starts("web"), ends, label(Operator::Contains("y".into()))]), [true, true, true]);
    }

    struct Shop(Labels);

    impl Surroundings for Shop {
        fn namespace_labels(&self, _: &str) -> Option<&Labels> {
            Some(&self.0)
        }

        fn tier(&self, _: &str) -> Option<&Tier> {
            None
        }
    }

    #[test]
    fn known_labels_of_the_namespace_count() {
        let shop = Shop([("team", "a")].into_iter().collect());
        let named = |key: &str, value: &str| Pods {
            namespaces: Namespaces::Matching(Selector::equals(key, value)),
            labels: None,
        };
        let own = pods(Selector::everything());
        for (other, expected) in
            [(named("team", "a"), true), (named("team", "b"), false), (named(NAME_LABEL, "web"), false)]
        {
            for pair in [[&own, &other], [&other, &own]] {
                let mut witness = Witness::new(&shop);
                let added: Vec<bool> = pair.iter().map(|pods| witness.add(pods, None)).collect();
                assert_eq!(added, [true, expected], "{other}");
            }
        }
        assert_eq!(added(&[named("team", "a"), named("team", "b")]), [true, false]);
    }
}
