//! The label that exists and is nearest to one that does not.

use std::collections::BTreeSet;

use crate::budget::charge;

use crate::model::{Fact, Labels, Operator, Owner, Selector};

/// The nearest label, if one is near, and what it is near to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nearest(Option<Near>);

/// A label that is asked for and that nothing has, and one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Near {
    /// What is asked for, as `key=value`.
    pub(super) asked: String,
    /// What is there, in the same form.
    pub(super) there: String,
}

/// What looking for near labels may still cost in one decision: a step for two labels that are held against each other, and
/// one for every two characters.
#[derive(Clone, Debug)]
pub(super) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(100_000)
    }
}

impl Effort {
    /// Takes this much of it; none if that is more than there is left, and then there is nothing left.
    fn take(&mut self, cost: usize) -> Option<()> {
        charge(cost);
        let left = self.0.checked_sub(cost);
        self.0 = left.unwrap_or_default();
        left.map(drop)
    }
}

/// How many labels that a selector asks for are compared.
const MOST_ASKED: usize = 16;
/// How many labels that are there they are compared with.
const MOST: usize = 1_000;
/// How long a text is at most to be compared. No value of a label and no name in a key is longer.
const LONGEST: usize = 63;

type Label<'a> = (&'a str, &'a str);

impl Nearest {
    /// The label among these that is nearest to one that a selector asks for and that none of them is: the same key with
    /// nearly the value, or nearly the key with the same value. Were it what is asked for, something would match.
    pub(super) fn to<'a>(
        selector: &'a Selector,
        all: &(impl Iterator<Item = &'a Labels> + Clone),
        effort: &mut Effort,
    ) -> Self {
        Self(Self::find(selector, all, effort))
    }

    fn find<'a>(
        selector: &'a Selector,
        all: &(impl Iterator<Item = &'a Labels> + Clone),
        effort: &mut Effort,
    ) -> Option<Near> {
        let mut asked: Vec<Label<'a>> = Vec::new();
        collect(selector, &mut asked);
        // Of those that differ in both the key and the value nothing is to be said.
        let mut there: BTreeSet<Label<'a>> = BTreeSet::new();
        for labels in distinct(all.clone()) {
            for label in labels.iter() {
                effort.take(asked.len().max(1))?;
                if there.len() < MOST && asked.iter().any(|asked| asked.0 == label.0 || asked.1 == label.1) {
                    there.insert(label);
                }
            }
        }
        asked.retain(|asked| !there.contains(asked));
        let mut near: Vec<(usize, Label<'a>, Label<'a>)> = Vec::new();
        'compared: for asked in asked {
            for label in &there {
                match distance(asked, *label, effort) {
                    Some(Some(distance)) => near.push((distance, *label, asked)),
                    Some(None) => {}
                    None => break 'compared,
                }
            }
        }
        near.sort_unstable();
        for (_, label, asked) in near {
            for labels in distinct(all.clone()) {
                effort.take(1)?;
                if labels.get(label.0) != Some(label.1) {
                    continue;
                }
                effort.take(selector.size())?;
                if would_match(selector, labels, asked) {
                    let written = |(key, value): Label<'_>| text!("{key}={value}");
                    return Some(Near { asked: written(asked), there: written(label) });
                }
            }
        }
        None
    }

    /// The label, and what it is near to.
    pub(super) fn near(&self) -> Option<&Near> {
        self.0.as_ref()
    }

    /// Whether it is a label with this key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.0.as_ref().and_then(|near| near.there.strip_prefix(key)).is_some_and(|rest| rest.starts_with('='))
    }
}

/// Each once where the same stand next to each other: pods that are alike share theirs.
fn distinct<'a>(all: impl Iterator<Item = &'a Labels>) -> impl Iterator<Item = &'a Labels> {
    let mut last: Option<&Labels> = None;
    all.filter(move |labels| !last.replace(labels).is_some_and(|last| std::ptr::eq(last, *labels)))
}

/// Whether labels may be meant once one of them is as it is asked for.
fn would_match(selector: &Selector, labels: &Labels, asked: (&str, &str)) -> bool {
    let known = |owner, key: &str| match owner {
        Owner::Itself if key == asked.0 => Fact::Value(asked.1),
        Owner::Itself => Fact::of(labels, key),
        Owner::Namespace | Owner::Account => Fact::Unknown,
    };
    selector.decided(&known) != Some(false)
}

/// How far a label is from one that is asked for, if it is near. None, if there is no time to find out.
fn distance(asked: (&str, &str), label: (&str, &str), effort: &mut Effort) -> Option<Option<usize>> {
    effort.take(1)?;
    match (asked.0 == label.0, asked.1 == label.1) {
        (true, false) => near(asked.1, label.1, effort),
        (false, true) => match (asked.0.rsplit_once('/'), label.0.rsplit_once('/')) {
            (Some((prefix, asked)), Some((other, name))) if prefix == other => near(asked, name, effort),
            _ => near(asked.0, label.0, effort),
        },
        _ => Some(None),
    }
}

/// How far a text is from another one, if it is near: a slip of the keyboard, or other case. Numbers and
/// whole words that differ name other things on purpose.
fn near(asked: &str, other: &str, effort: &mut Effort) -> Option<Option<usize>> {
    /// Number of characters from which two slips are as likely as one in a short text.
    const LONG: usize = 6;
    let (longer, shorter) = (asked.len().max(other.len()), asked.len().min(other.len()));
    if longer > LONGEST {
        return Some(None);
    }
    effort.take(1 + longer / 2)?;
    if asked.eq_ignore_ascii_case(other) {
        return Some(Some(1));
    }
    let most = if shorter < LONG { 1 } else { 2 };
    let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    // What one has more than the other has to be written in any case.
    if longer - shorter > most || without_digits(asked) == without_digits(other) {
        return Some(None);
    }
    effort.take(longer * shorter)?;
    let distance = strsim::damerau_levenshtein(asked, other);
    // Of short ones nothing may be left in common.
    Some((distance <= most && distance < shorter).then_some(distance))
}

/// The labels that a selector asks for, as many as are compared.
fn collect<'a>(selector: &'a Selector, asked: &mut Vec<Label<'a>>) {
    match selector {
        Selector::All(parts) | Selector::Any(parts) => parts.iter().for_each(|part| collect(part, asked)),
        Selector::Not(_) => {}
        Selector::Label(label) => {
            if let (Owner::Itself, Operator::In(values)) = (label.owner, &label.operator) {
                let room = MOST_ASKED.saturating_sub(asked.len());
                asked.extend(values.iter().take(room).map(|value| (&*label.key, &**value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(selector: &Selector, there: &[&[(&str, &str)]]) -> String {
        let all: Vec<Labels> = there.iter().map(|labels| labels.iter().copied().collect()).collect();
        match Nearest::to(selector, &all.iter(), &mut Effort::default()).near() {
            Some(near) => format!("{} for {}", near.there, near.asked),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn a_slip_in_the_value_or_in_the_key_is_near() {
        let there: &[&[(&str, &str)]] = &[&[("app", "backend")], &[("app", "frontend")], &[("tier", "data")]];
        assert_eq!(nearest(&Selector::equals("app", "backedn"), there), "app=backend for app=backedn");
        assert_eq!(nearest(&Selector::equals("tire", "data"), there), "tier=data for tire=data");
        assert_eq!(nearest(&Selector::equals("app", "postgres"), there), "none");
        assert_eq!(nearest(&Selector::equals("team", "backend"), there), "none");
        assert_eq!(nearest(&Selector::equals("a", "data"), &[&[("b", "data")]]), "none", "nothing in common");
        let named = Selector::equals("app.kubernetes.io/nmae", "web");
        assert_eq!(
            nearest(&named, &[&[("app.kubernetes.io/name", "web")]]).split(' ').next(),
            Some("app.kubernetes.io/name=web")
        );
    }

    #[test]
    fn what_is_there_already_is_not_proposed_anew() {
        let both = Selector::All(vec![Selector::equals("app", "web"), Selector::equals("tier", "dat")]);
        let there: &[&[(&str, &str)]] = &[&[("app", "web"), ("tier", "data")], &[("app", "wev")]];
        assert_eq!(nearest(&both, there), "tier=data for tier=dat");
    }

    #[test]
    fn what_matches_no_more_than_what_is_written_is_not_proposed() {
        let both = Selector::All(vec![Selector::equals("app", "wbe"), Selector::equals("tier", "back")]);
        let there: &[&[(&str, &str)]] = &[&[("app", "web"), ("tier", "front")], &[("app", "cart"), ("tier", "back")]];
        assert_eq!(nearest(&both, there), "none");
        let there: &[&[(&str, &str)]] = &[&[("app", "web"), ("tier", "front")], &[("app", "wbes"), ("tier", "back")]];
        assert_eq!(nearest(&both, there), "app=wbes for app=wbe");
    }

    #[test]
    fn long_names_of_many_labels_take_no_time() {
        let prefix = vec!["a".repeat(60); 4].join(".");
        let key = |letter: &str, number: usize| format!("{prefix}/{}{number:05}", letter.repeat(50));
        let labels: Labels = (0..1_000).map(|number| (key("b", number), "x")).collect();
        let asked = Selector::All((0..10).map(|number| Selector::equals(&key("c", number), "x")).collect());
        let (all, mut effort) = ([labels], Effort::default());
        for _ in 0..100 {
            assert_eq!(Nearest::to(&asked, &all.iter(), &mut effort), Nearest::default());
        }
        // A hundred thousand steps, whatever is asked and however often.
        assert_eq!(effort.0, 0);
    }
}
