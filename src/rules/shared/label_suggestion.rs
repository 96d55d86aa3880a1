//! The existing label that is closest to a label without a match.

use std::collections::BTreeSet;

use crate::budget::charge;

use crate::model::{Fact, Labels, Operator, Owner, Selector};

/// The closest existing label, if one is close enough, with the requested label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSuggestion(Option<SimilarLabel>);

/// A requested label that does not exist, and a similar one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimilarLabel {
    /// The requested label, as `key=value`.
    pub(crate) asked: String,
    /// The existing label, in the same form.
    pub(crate) there: String,
}

/// The remaining budget for label comparison in one decision. One comparison of two labels costs one step, plus one
/// step for every two characters.
#[derive(Clone, Debug)]
pub(crate) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(100_000)
    }
}

impl Effort {
    /// Spends a part of the budget. None if too little is left; the budget is then used up.
    fn take(&mut self, cost: usize) -> Option<()> {
        charge(cost);
        let left = self.0.checked_sub(cost);
        self.0 = left.unwrap_or_default();
        left.map(drop)
    }
}

/// Maximum number of requested labels that are compared.
const MOST_ASKED: usize = 16;
/// Maximum number of existing labels that they are compared with.
const MOST: usize = 1_000;
/// Maximum length of a compared text. Label values and the names in label keys are never longer.
const LONGEST: usize = 63;

type Label<'a> = (&'a str, &'a str);

impl LabelSuggestion {
    /// Finds the existing label that is closest to a requested label that does not exist: the same key with a similar
    /// value, or a similar key with the same value. The suggestion must make the selector match.
    pub(crate) fn for_selector<'a>(
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
    ) -> Option<SimilarLabel> {
        let mut asked: Vec<Label<'a>> = Vec::new();
        collect(selector, &mut asked);
        // Labels that differ in both key and value are never suggested.
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
                    return Some(SimilarLabel { asked: written(asked), there: written(label) });
                }
            }
        }
        None
    }

    /// The closest label, with the requested label.
    pub(crate) fn near(&self) -> Option<&SimilarLabel> {
        self.0.as_ref()
    }

    /// Returns true if the suggested label has this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.0.as_ref().and_then(|near| near.there.strip_prefix(key)).is_some_and(|rest| rest.starts_with('='))
    }
}

/// Skips repeated labels that follow each other: identical pods share their labels.
fn distinct<'a>(all: impl Iterator<Item = &'a Labels>) -> impl Iterator<Item = &'a Labels> {
    let mut last: Option<&Labels> = None;
    all.filter(move |labels| !last.replace(labels).is_some_and(|last| std::ptr::eq(last, *labels)))
}

/// Returns true if the labels may match once one of them has the requested value.
fn would_match(selector: &Selector, labels: &Labels, asked: (&str, &str)) -> bool {
    let known = |owner, key: &str| match owner {
        Owner::Itself if key == asked.0 => Fact::Value(asked.1),
        Owner::Itself => Fact::of(labels, key),
        Owner::Namespace | Owner::Account => Fact::Unknown,
    };
    selector.decided(&known) != Some(false)
}

/// The distance of a label from a requested one; `Some(None)` if it is not close. None if the budget is used up.
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

/// The distance of two similar texts: a typo, or a difference in case. Different numbers and different words name
/// different things on purpose, so they are not similar.
fn near(asked: &str, other: &str, effort: &mut Effort) -> Option<Option<usize>> {
    /// The length in characters from which two typos are accepted instead of one.
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
    // The difference in length is the minimum distance.
    if longer - shorter > most || without_digits(asked) == without_digits(other) {
        return Some(None);
    }
    effort.take(longer * shorter)?;
    let distance = strsim::damerau_levenshtein(asked, other);
    // Short texts might have no character in common.
    Some((distance <= most && distance < shorter).then_some(distance))
}

/// Collects the labels that a selector requests, up to the maximum.
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
        match LabelSuggestion::for_selector(selector, &all.iter(), &mut Effort::default()).near() {
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
            assert_eq!(LabelSuggestion::for_selector(&asked, &all.iter(), &mut effort), LabelSuggestion::default());
        }
        // At most 100,000 steps, for any number of requests.
        assert_eq!(effort.0, 0);
    }
}
