//! The label that exists and is nearest to one that does not.

use std::collections::BTreeSet;

use crate::model::{Labels, Operator, Owner, Selector};

/// The nearest label, if one is near.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nearest(Option<(String, String)>);

/// How many labels a selector is compared with.
const MOST: usize = 1_000;

impl Nearest {
    /// The label among these that is nearest to one that a selector asks for and that none of them is: the same key with
    /// nearly the value, or nearly the key with the same value.
    pub(super) fn to<'a>(selector: &'a Selector, all: impl Iterator<Item = &'a Labels>) -> Self {
        let mut there: BTreeSet<(&str, &str)> = BTreeSet::new();
        for label in all.flat_map(Labels::iter) {
            if there.len() == MOST {
                break;
            }
            there.insert(label);
        }
        let mut asked = Vec::new();
        collect(selector, &mut asked);
        asked.retain(|asked| !there.contains(asked));
        let distances = asked
            .iter()
            .flat_map(|asked| there.iter().filter_map(move |label| Some((distance(*asked, *label)?, label))));
        Self(distances.min().map(|(_, (key, value))| ((*key).to_owned(), (*value).to_owned())))
    }

    /// The label.
    pub(super) fn label(&self) -> Option<(&str, &str)> {
        self.0.as_ref().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// How far a label is from one that is asked for, if it is near.
fn distance(asked: (&str, &str), label: (&str, &str)) -> Option<usize> {
    let near = |asked: &str, other: &str| {
        let most = 2.max(other.len() / 3);
        // Cheaper than to compare them, and enough to know.
        let is_possible = asked.len().abs_diff(other.len()) <= most * 4;
        let distance = is_possible.then(|| strsim::damerau_levenshtein(asked, other))?;
        // Of short ones nothing may be left in common.
        (distance <= most && distance < other.chars().count().min(asked.chars().count())).then_some(distance)
    };
    match (asked.0 == label.0, asked.1 == label.1) {
        (true, false) => near(asked.1, label.1),
        (false, true) => near(asked.0, label.0),
        _ => None,
    }
}

/// The labels that a selector asks for.
fn collect<'a>(selector: &'a Selector, asked: &mut Vec<(&'a str, &'a str)>) {
    match selector {
        Selector::All(parts) | Selector::Any(parts) => parts.iter().for_each(|part| collect(part, asked)),
        Selector::Not(_) => {}
        Selector::Label(label) => {
            if let (Owner::Itself, Operator::In(values)) = (label.owner, &label.operator) {
                asked.extend(values.iter().map(|value| (&*label.key, &**value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(selector: &Selector, there: &[(&str, &str)]) -> String {
        let all: Vec<Labels> = there.iter().map(|label| [*label].into_iter().collect()).collect();
        match Nearest::to(selector, all.iter()).label() {
            Some((key, value)) => format!("{key}={value}"),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn a_slip_in_the_value_or_in_the_key_is_near() {
        let there = [("app", "backend"), ("app", "frontend"), ("tier", "data")];
        assert_eq!(nearest(&Selector::equals("app", "backedn"), &there), "app=backend");
        assert_eq!(nearest(&Selector::equals("tire", "data"), &there), "tier=data");
        assert_eq!(nearest(&Selector::equals("app", "postgres"), &there), "none");
        assert_eq!(nearest(&Selector::equals("team", "backend"), &there), "none");
        assert_eq!(nearest(&Selector::equals("a", "data"), &[("b", "data")]), "none", "nothing in common");
    }

    #[test]
    fn what_is_there_already_is_not_proposed_anew() {
        let both = Selector::All(vec![Selector::equals("app", "web"), Selector::equals("tier", "dat")]);
        assert_eq!(nearest(&both, &[("app", "web"), ("app", "wev"), ("tier", "data")]), "tier=data");
    }
}
