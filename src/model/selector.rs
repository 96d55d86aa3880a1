//! Label selectors of every dialect, and proofs about them.
//!
//! A selector is a boolean expression over single labels. Questions about two selectors ("does this one cover that
//! one?") are answered by refutation: `a` covers `b` if no labels can satisfy both `b` and not `a`. The search is a
//! tableau: it opens one branch for each alternative and closes a branch when the demands on one key contradict each
//! other. It is always sound, and complete for the operators of Kubernetes. After [`STEPS`] steps it gives up, and an
//! unproved answer counts as "no".

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::ternary::{all_of, any_of};
use super::{Labels, NAME_LABEL};
use crate::budget::charge;

/// Maximum number of steps for one proof. Real selectors need a few dozen; a longer proof would delay other requests.
const STEPS: usize = 20_000;

/// Maximum number of values for which a linear search is faster than a hash set.
const FEW_VALUES: usize = 64;

/// A set of label sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The label sets that satisfy every part. Without parts, all label sets.
    All(Vec<Selector>),
    /// The label sets that satisfy at least one part. Without parts, no label set.
    Any(Vec<Selector>),
    /// The label sets that do not satisfy the part.
    Not(Box<Selector>),
    /// The label sets that satisfy the requirement.
    Label(Requirement),
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The object that has the label.
    pub owner: Owner,
    /// The label's key.
    pub key: Box<str>,
    /// The condition on its value.
    pub operator: Operator,
}

/// The object whose label a [`Requirement`] checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The selected object.
    Itself,
    /// The namespace of the selected pod.
    Namespace,
    /// The service account of the selected pod. Its name counts as the label `NAME_LABEL`.
    Account,
}

/// The state of one label, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// The label has this value.
    Value(&'a str),
    /// The label is present, with an unknown value.
    Present,
    /// The label is absent.
    Absent,
    /// The label is unknown.
    Unknown,
}

impl<'a> Fact<'a> {
    /// The state of a label of an object that has exactly these labels.
    #[must_use]
    pub fn of(labels: &'a Labels, key: &str) -> Self {
        labels.get(key).map_or(Self::Absent, Self::Value)
    }
}

/// A condition on the value of a label. Only [`Operator::NotIn`] and [`Operator::Absent`] hold if the label is absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is in the list.
    In(Vec<Box<str>>),
    /// The value is not in the list, or the label is absent.
    NotIn(Vec<Box<str>>),
    /// The label is present.
    Exists,
    /// The label is absent.
    Absent,
    /// The value contains this text.
    Contains(Box<str>),
    /// The value starts with this text.
    StartsWith(Box<str>),
    /// The value ends with this text.
    EndsWith(Box<str>),
}

impl Selector {
    /// The selector that matches every label set.
    #[must_use]
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// The selector that matches `key` = `value`.
    #[must_use]
    pub(crate) fn equals(key: &str, value: &str) -> Self {
        Self::label(key, Operator::In(vec![value.into()]))
    }

    /// A selector of one label.
    #[must_use]
    pub fn label(key: &str, operator: Operator) -> Self {
        Self::Label(Requirement { owner: Owner::Itself, key: key.into(), operator })
    }

    /// The same selector for the labels of another owner: turns a namespace selector into a selector of the pods in
    /// those namespaces.
    #[must_use]
    pub fn on(&self, owner: Owner) -> Self {
        charge(1);
        let each = |parts: &[Self]| parts.iter().map(|part| part.on(owner)).collect();
        match self {
            Self::All(parts) => Self::All(each(parts)),
            Self::Any(parts) => Self::Any(each(parts)),
            Self::Not(part) => Self::Not(Box::new(part.on(owner))),
            Self::Label(label) => {
                charge(label.operator.size() / 4);
                Self::Label(Requirement { owner, ..label.clone() })
            }
        }
    }

    /// The conjunction of these selectors, without a list if there is only one.
    #[must_use]
    pub fn all(parts: Vec<Self>) -> Self {
        match <[Self; 1]>::try_from(parts) {
            Ok([only]) => only,
            Err(parts) => Self::All(parts),
        }
    }

    /// The values that this label may have, if the selector lists them explicitly.
    #[must_use]
    pub(crate) fn values_of(&self, key: &str) -> Option<&[Box<str>]> {
        if let Self::All(parts) = self {
            charge(parts.len() / 8);
        }
        match self {
            Self::All(parts) => parts.iter().find_map(|part| part.values_of(key)),
            Self::Label(Requirement { owner: Owner::Itself, key: own, operator: Operator::In(values) }) => {
                (**own == *key).then_some(values)
            }
            Self::Any(_) | Self::Not(_) | Self::Label(_) => None,
        }
    }

    /// The selector that requires each of these labels.
    #[must_use]
    pub fn of(labels: &Labels) -> Self {
        Self::All(labels.iter().map(|(key, value)| Self::equals(key, value)).collect())
    }

    /// Returns true if the selector is written without any requirement. This is cheaper than a proof, and is how
    /// authors write `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// Returns true if the selector matches an object with exactly these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.decided(&|_, key| Fact::of(labels, key)) == Some(true)
    }

    /// Returns true or false if the known labels decide whether the selector matches, and `None` if unknown labels
    /// decide.
    #[must_use]
    pub fn decided<'a>(&self, known: &dyn Fn(Owner, &str) -> Fact<'a>) -> Option<bool> {
        charge(1);
        match self {
            Self::All(parts) => all_of(parts.iter().map(|part| part.decided(known))),
            Self::Any(parts) => any_of(parts.iter().map(|part| part.decided(known))),
            Self::Not(part) => part.decided(known).map(|meant| !meant),
            Self::Label(label) => match known(label.owner, &label.key) {
                Fact::Value(value) => Some(label.operator.accepts(Some(value))),
                Fact::Absent => Some(label.operator.accepts(None)),
                Fact::Present => match label.operator {
                    Operator::Exists => Some(true),
                    Operator::Absent => Some(false),
                    _ => None,
                },
                Fact::Unknown => None,
            },
        }
    }

    /// Returns true if it is proved that this selector matches every label set that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        charge(1 + self.size() / 16);
        self.is_empty() || self == other || contradictory(&[(other, true), (self, false)])
    }

    /// Returns true if it is proved that no label set meets all of these demands. A demand is a selector and whether it
    /// must match.
    ///
    /// The steps of the proof are subtracted from `budget`. If the budget is too small for the proof, the result is
    /// false.
    #[must_use]
    pub(crate) fn contradictory(demands: &[(&Self, bool)], budget: &mut usize) -> bool {
        let mut own = STEPS.min(*budget);
        let before = own;
        let proved = Branch { open: demands.to_vec(), ..Branch::default() }.closes(&mut own);
        *budget -= before - own;
        proved
    }

    /// Returns true if it is proved that no label set matches both selectors.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        contradictory(&[(self, true), (other, true)])
    }
}

impl Selector {
    /// The number of its parts, plus the number of values that they list.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => 1 + parts.iter().map(Self::size).sum::<usize>(),
            Self::Not(part) => 1 + part.size(),
            Self::Label(label) => 1 + label.operator.size(),
        }
    }

    /// A copy whose size is charged to the budget.
    #[must_use]
    pub(super) fn copied(&self) -> Self {
        charge(self.size() / 4);
        self.clone()
    }
}

impl Operator {
    /// The listed values as a hash set.
    fn values(&self) -> Option<HashSet<&str>> {
        match self {
            Self::In(values) | Self::NotIn(values) => Some(values.iter().map(|value| &**value).collect()),
            _ => None,
        }
    }

    /// The number of listed values.
    fn size(&self) -> usize {
        match self {
            Self::In(values) | Self::NotIn(values) => values.len(),
            _ => 0,
        }
    }

    /// Returns true if a label with this value satisfies the operator; `None` is an absent label.
    #[must_use]
    pub fn accepts(&self, value: Option<&str>) -> bool {
        charge(self.size() / 16);
        match (self, value) {
            (Self::In(values), Some(value)) => values.iter().any(|other| **other == *value),
            (Self::NotIn(values), Some(value)) => values.iter().all(|other| **other != *value),
            (Self::Contains(part), Some(value)) => value.contains(&**part),
            (Self::StartsWith(part), Some(value)) => value.starts_with(&**part),
            (Self::EndsWith(part), Some(value)) => value.ends_with(&**part),
            (Self::Exists, value) => value.is_some(),
            (Self::Absent, value) => value.is_none(),
            (Self::NotIn(_), None) => true,
            (Self::In(_) | Self::Contains(_) | Self::StartsWith(_) | Self::EndsWith(_), None) => false,
        }
    }
}

/// A selector, and true if it must match or false if it must not.
type Demand<'a> = (&'a Selector, bool);

/// Returns true if it is proved that no label set meets all the demands.
fn contradictory(demands: &[Demand<'_>]) -> bool {
    Selector::contradictory(demands, &mut { STEPS })
}

/// A branch of the tableau: the demands still to expand, and the conditions on single labels so far.
#[derive(Clone, Default)]
struct Branch<'a> {
    open: Vec<Demand<'a>>,
    /// Lists of selectors of which at least one must match (true) or must not match (false).
    choices: Vec<(&'a [Selector], bool)>,
    /// The conditions on each key.
    asked: BTreeMap<(Owner, &'a str), Vec<(&'a Operator, bool)>>,
}

impl<'a> Branch<'a> {
    /// Returns true if every way to meet the demands ends in a contradiction.
    fn closes(mut self, budget: &mut usize) -> bool {
        while let Some((selector, holds)) = self.open.pop() {
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            charge(1);
            match (selector, holds) {
                (Selector::Not(inner), holds) => self.open.push((inner, !holds)),
                (Selector::Label(label), holds) => {
                    let asked = self.asked.entry((label.owner, &label.key)).or_default();
                    asked.push((&label.operator, holds));
                    // Each new condition is checked against all earlier conditions on the same key.
                    let Some(left) = budget.checked_sub(asked.len()) else { return false };
                    *budget = left;
                    charge(asked.len());
                    if contradicts(asked) {
                        return true;
                    }
                }
                (Selector::All(parts), true) | (Selector::Any(parts), false) => {
                    charge(parts.len());
                    self.open.extend(parts.iter().map(|part| (part, holds)));
                }
                (Selector::All(parts), false) | (Selector::Any(parts), true) => match parts.as_slice() {
                    [] => return true,
                    [only] => self.open.push((only, holds)),
                    several => self.choices.push((several, holds)),
                },
            }
        }
        let Some((parts, holds)) = self.choices.pop() else { return false };
        parts.iter().all(|part| {
            // A branch costs as much as there is to copy.
            let cost = 1 + self.asked.len() + self.choices.len();
            let Some(left) = budget.checked_sub(cost) else { return false };
            *budget = left;
            charge(cost);
            let mut branch = self.clone();
            branch.open.push((part, holds));
            branch.closes(budget)
        })
    }
}

/// Returns true if the conditions on one label contradict each other: neither a value nor an absent label meets them all.
fn contradicts(asked: &[(&Operator, bool)]) -> bool {
    let meets = |value: Option<&str>| asked.iter().all(|(operator, holds)| operator.accepts(value) == *holds);
    if meets(None) {
        return false;
    }
    // The label must be present. If the conditions list its possible values, try each of them.
    let possible = asked.iter().find_map(|(operator, holds)| match (operator, holds) {
        (Operator::In(values), true) | (Operator::NotIn(values), false) => Some(values),
        _ => None,
    });
    if let Some(values) = possible {
        let listed: usize = asked.iter().map(|(operator, _)| operator.size()).sum();
        if listed <= FEW_VALUES {
            return !values.iter().any(|value| meets(Some(value)));
        }
        // Lists of thousands of values are turned into hash sets first.
        charge(listed);
        let sets: Vec<Option<HashSet<&str>>> = asked.iter().map(|(operator, _)| operator.values()).collect();
        let meets = |value: &str| {
            asked.iter().zip(&sets).all(|((operator, holds), set)| match (operator, set) {
                (Operator::In(_), Some(set)) => set.contains(value) == *holds,
                (Operator::NotIn(_), Some(set)) => set.contains(value) != *holds,
                _ => operator.accepts(Some(value)) == *holds,
            })
        };
        return !values.iter().any(|value| {
            charge(asked.len());
            meets(value)
        });
    }
    // Otherwise infinitely many values are possible. The conditions then contradict each other only if the label must
    // be absent, or if the same text condition must both hold and fail.
    asked.iter().enumerate().any(|(at, (operator, holds))| match (operator, holds) {
        (Operator::Absent, true) | (Operator::Exists, false) => true,
        (Operator::Contains(_) | Operator::StartsWith(_) | Operator::EndsWith(_), _) => {
            asked.iter().skip(at + 1).any(|(other, other_holds)| other == operator && other_holds != holds)
        }
        _ => false,
    })
}

impl fmt::Display for Selector {
    /// Formats the selector like `kubectl -l` where possible: `app=web,tier in (a,b),!legacy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => join(f, parts, ","),
            Self::Any(parts) if parts.is_empty() => f.write_str("nothing"),
            Self::Any(parts) => {
                f.write_str("(")?;
                join(f, parts, " or ")?;
                f.write_str(")")
            }
            Self::Not(part) => write!(f, "not ({part})"),
            Self::Label(label) => label.fmt(f),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match self.owner {
            Owner::Itself => {}
            Owner::Namespace => f.write_str("namespace label ")?,
            Owner::Account if **key == *NAME_LABEL => f.write_str("service account ")?,
            Owner::Account => f.write_str("service account label ")?,
        }
        let key = if self.owner == Owner::Account && **key == *NAME_LABEL { "name" } else { key };
        match &self.operator {
            Operator::In(values) => match values.as_slice() {
                [value] => write!(f, "{key}={value}"),
                _ => write!(f, "{key} in ({})", values.join(",")),
            },
            Operator::NotIn(values) => match values.as_slice() {
                [value] => write!(f, "{key}!={value}"),
                _ => write!(f, "{key} notin ({})", values.join(",")),
            },
            Operator::Exists => f.write_str(key),
            Operator::Absent => write!(f, "!{key}"),
            Operator::Contains(part) => write!(f, "{key} contains {part:?}"),
            Operator::StartsWith(part) => write!(f, "{key} starts with {part:?}"),
            Operator::EndsWith(part) => write!(f, "{key} ends with {part:?}"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Selector], between: &str) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        write!(f, "{}{part}", if position == 0 { "" } else { between })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespaces, Nowhere, Pods};
    use proptest::prelude::*;

    #[test]
    fn pods_with_one_value_of_a_label_are_plainly_not_those_with_another() {
        let pods = |labels| Pods { namespaces: Namespaces::Own(None), labels: Some(labels) };
        let prod = |app| pods(Selector::All(vec![Selector::equals("env", "prod"), Selector::equals("app", app)]));
        let around = Nowhere;
        assert_eq!(prod("web").have(&prod("api"), &around), Some(false));
        assert_eq!(prod("web").have(&pods(Selector::label("app", Operator::Absent)), &around), Some(false));
        assert_eq!(prod("web").have(&prod("web"), &around), Some(true));
        assert_eq!(pods(is_in("app", &["web", "api"])).have(&prod("db"), &around), None, "that takes a proof");
    }

    fn is_in(key: &str, values: &[&str]) -> Selector {
        Selector::label(key, Operator::In(values.iter().map(|value| Box::from(*value)).collect()))
    }

    fn not_in(key: &str, values: &[&str]) -> Selector {
        Selector::label(key, Operator::NotIn(values.iter().map(|value| Box::from(*value)).collect()))
    }

    #[test]
    fn everything_covers_all_and_is_covered_by_nothing_less() {
        let web = Selector::equals("app", "web");
        assert!(Selector::everything().covers(&web));
        assert!(!web.covers(&Selector::everything()));
        assert!(web.covers(&Selector::Any(vec![])), "nothing is covered by anything");
    }

    #[test]
    fn fewer_demands_cover_more_demands() {
        let web = Selector::equals("app", "web");
        let web_prod = Selector::All(vec![web.clone(), Selector::equals("env", "prod")]);
        assert!(web.covers(&web_prod));
        assert!(!web_prod.covers(&web));
        assert!(is_in("app", &["web", "api"]).covers(&web));
        assert!(Selector::label("app", Operator::Exists).covers(&web));
        assert!(not_in("app", &["db"]).covers(&web));
        assert!(!not_in("app", &["web"]).covers(&web));
    }

    #[test]
    fn two_selectors_together_cover_what_neither_does_alone() {
        let both = is_in("app", &["web", "api"]);
        let (web, api) = (Selector::equals("app", "web"), Selector::equals("app", "api"));
        assert!(!web.covers(&both) && !api.covers(&both));
        let together = |selectors: [&Selector; 2], other: &Selector| {
            Selector::Any(selectors.map(Clone::clone).into()).covers(other)
        };
        assert!(together([&web, &api], &both));
        let (with, without) = (Selector::label("x", Operator::Exists), Selector::label("x", Operator::Absent));
        assert!(together([&with, &without], &Selector::everything()));
    }

    #[test]
    fn an_absent_label_is_not_in_any_set() {
        assert!(not_in("app", &["web"]).matches(&Labels::default()));
        assert!(!is_in("app", &["web"]).matches(&Labels::default()));
        assert!(not_in("app", &["web"]).covers(&Selector::label("app", Operator::Absent)));
    }

    #[test]
    fn unknown_labels_are_not_guessed() {
        let known: Labels = [("kubernetes.io/metadata.name", "kube-system")].into_iter().collect();
        let facts = |_, key: &str| known.get(key).map_or(Fact::Unknown, Fact::Value);
        assert_eq!(Selector::equals("kubernetes.io/metadata.name", "kube-system").decided(&facts), Some(true));
        assert_eq!(Selector::equals("name", "kube-system").decided(&facts), None);
        assert_eq!(Selector::equals("name", "x").decided(&|_, key| Fact::of(&known, key)), Some(false));
        assert!(Selector::equals("kubernetes.io/metadata.name", "apps").excludes(&Selector::of(&known)));
    }

    #[test]
    fn a_label_of_the_namespace_is_not_one_of_the_pod() {
        let (pod, namespace) = (Selector::equals("tier", "x"), Selector::equals("tier", "x").on(Owner::Namespace));
        assert!(!pod.covers(&namespace) && !namespace.covers(&pod));
        assert!(!pod.excludes(&Selector::Not(Box::new(namespace.clone()))));
        assert_eq!(namespace.to_string(), "namespace label tier=x");
        assert_eq!(Selector::equals(NAME_LABEL, "bot").on(Owner::Account).to_string(), "service account name=bot");
    }

    #[test]
    fn a_proof_past_its_budget_is_no_proof() {
        let wide = |prefix: &str| {
            Selector::All(
                (0..14)
                    .map(|n| {
                        let key = format!("{prefix}{n}");
                        Selector::Any(vec![Selector::equals(&key, "a"), Selector::equals(&key, "b")])
                    })
                    .collect(),
            )
        };
        let (a, b) = (wide("k"), Selector::Not(Box::new(wide("k"))));
        assert!(!Selector::everything().excludes(&a));
        // The conclusion is true, but the proof needs more branches than are allowed: the answer must be "not proved".
        assert!(!b.excludes(&Selector::All(vec![a])));
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let key = prop::sample::select(vec!["a", "b"]);
        let values = prop::collection::vec(prop::sample::select(vec!["x", "y", "xy"]), 1..3);
        let label = (key, values, 0..7).prop_map(|(key, values, operator)| {
            let values: Vec<Box<str>> = values.into_iter().map(Box::from).collect();
            let first = values[0].clone();
            let operator = match operator {
                0 => Operator::In(values),
                1 => Operator::NotIn(values),
                2 => Operator::Exists,
                3 => Operator::Absent,
                4 => Operator::Contains(first),
                5 => Operator::StartsWith(first),
                _ => Operator::EndsWith(first),
            };
            Selector::label(key, operator)
        });
        label.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Selector::All),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Selector::Any),
                inner.prop_map(|part| Selector::Not(Box::new(part))),
            ]
        })
    }

    /// Every label set over the keys, with more values than the selectors can name.
    fn every_label_set() -> Vec<Labels> {
        let values = [None, Some("x"), Some("y"), Some("xy"), Some("yx"), Some("z")];
        values
            .iter()
            .flat_map(|a| {
                values.iter().map(|b| {
                    a.map(|value| ("a", value)).into_iter().chain(b.map(|value| ("b", value))).collect::<Labels>()
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_proved_is_true(a in selector(), b in selector(), c in selector()) {
            for labels in every_label_set() {
                let [in_a, in_b, in_c] = [&a, &b, &c].map(|selector| selector.matches(&labels));
                if a.covers(&b) {
                    prop_assert!(in_a || !in_b, "{a} does not cover {b}: {labels}");
                }
                if a.excludes(&b) {
                    prop_assert!(!(in_a && in_b), "{a} and {b} both mean {labels}");
                }
                if Selector::Any(vec![a.clone(), b.clone()]).covers(&c) {
                    prop_assert!(in_a || in_b || !in_c, "{a} and {b} do not cover {c}: {labels}");
                }
            }
        }

        #[test]
        fn what_some_labels_decide_no_other_label_changes(a in selector(), known in prop::sample::select(vec!["x", "y", "xy"])) {
            let facts = |_, key: &str| if key == "a" { Fact::Value(known) } else { Fact::Unknown };
            let Some(decided) = a.decided(&facts) else { return Ok(()) };
            for labels in every_label_set().into_iter().filter(|labels| labels.get("a") == Some(known)) {
                prop_assert_eq!(a.matches(&labels), decided, "{} and {}", a, labels);
            }
        }

        #[test]
        fn what_a_selector_says_of_all_its_pods_is_so_of_each(a in selector(), b in selector()) {
            let pods = |labels: &Selector| Pods { namespaces: Namespaces::Own(None), labels: Some(labels.clone()) };
            let (own, others) = (pods(&a), pods(&b));
            let around = Nowhere;
            let decided = own.have(&others, &around);
            for labels in every_label_set().iter().filter(|labels| a.matches(labels)) {
                prop_assert!(decided.is_none_or(|decided| b.matches(labels) == decided), "{labels:?}");
            }
        }

        #[test]
        fn a_selector_covers_itself_and_all_that_it_is_a_part_of(a in selector(), b in selector()) {
            prop_assert!(a.covers(&a));
            prop_assert!(a.covers(&Selector::All(vec![a.clone(), b.clone()])));
            prop_assert!(Selector::Any(vec![a.clone(), b]).covers(&a));
        }
    }
}
