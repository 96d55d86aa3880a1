//! Selectors in every language: what is proved of two selectors holds for each label set that can tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::model::{Fact, Operator, Owner, Selector};
use serde_json::{Value, json};

use crate::cost::within_budget;
use crate::surroundings;

/// Label sets that one pair of selectors is tried on.
const MAX_SETS: usize = 512;

/// The labels that selectors speak of, and values that tell them apart.
type Alphabet = BTreeMap<Label, BTreeSet<Option<Box<str>>>>;
/// Whose label, and its key.
type Label = (Owner, Box<str>);

/// Reads two selectors, one on each line. The first byte chooses the language.
pub fn run(data: &[u8]) {
    let Some((language, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut lines = text.split('\n');
    let (Some(one), other) = (lines.next().and_then(|line| read(*language, line)), lines.next()) else { return };
    let Some(other) = other.and_then(|line| read(*language, line)) else { return };
    let length = text.len();
    let proofs =
        within_budget(length, || (one.covers(&other), other.covers(&one), one.excludes(&other), one.covers(&one)));
    let Some((covers, is_covered, excludes, itself)) = proofs else { return };
    assert!(itself, "a selector covers itself: {one:?}");
    let mut alphabet = Alphabet::new();
    for selector in [&one, &other] {
        collect(selector, &mut alphabet);
    }
    for number in 0..sets(&alphabet).min(MAX_SETS) {
        let labels = labels(&alphabet, number);
        let known = |owner, key: &str| match labels.get(&(owner, key.into())) {
            Some(Some(value)) => Fact::Value(value),
            _ => Fact::Absent,
        };
        let (by_one, by_other) = (one.decided(&known), other.decided(&known));
        let told = || format!("{one:?}\n{other:?}\n{labels:?}");
        assert!(by_one.is_some() && by_other.is_some(), "everything is known: {}", told());
        assert!(!covers || by_other == Some(false) || by_one == Some(true), "not covered: {}", told());
        assert!(!is_covered || by_one == Some(false) || by_other == Some(true), "not covered: {}", told());
        assert!(!excludes || by_one == Some(false) || by_other == Some(false), "not excluded: {}", told());
        // What some labels decide, the others do not change.
        let partly = |owner, key: &str| if key.len().is_multiple_of(2) { known(owner, key) } else { Fact::Unknown };
        for (selector, whole) in [(&one, by_one), (&other, by_other)] {
            let part = selector.decided(&partly);
            assert!(part.is_none() || part == whole, "{selector:?} is decided too early: {labels:?}");
        }
    }
}

/// The selector of the pods of a policy.
fn read(language: u8, line: &str) -> Option<Selector> {
    let json = || serde_json::from_str::<Value>(line).ok();
    let (api_version, kind, spec) = match language % 3 {
        0 => ("projectcalico.org/v3", "GlobalNetworkPolicy", json!({"selector": line, "types": ["Ingress"]})),
        1 => ("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": json()?})),
        _ => ("cilium.io/v2", "CiliumNetworkPolicy", json!({"endpointSelector": json()?, "ingress": [{}]})),
    };
    let manifest =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": spec});
    let object = within_budget(line.len(), || surroundings::read(&manifest)).flatten()?;
    let selector = object.policies().first()?.subject.labels.clone()?;
    Some(selector)
}

fn collect(selector: &Selector, alphabet: &mut Alphabet) {
    match selector {
        Selector::All(parts) | Selector::Any(parts) => parts.iter().for_each(|part| collect(part, alphabet)),
        Selector::Not(part) => collect(part, alphabet),
        Selector::Label(label) => {
            let values =
                alphabet.entry((label.owner, label.key.clone())).or_insert_with(|| [None, Some("".into())].into());
            match &label.operator {
                Operator::In(some) | Operator::NotIn(some) => values.extend(some.iter().take(4).cloned().map(Some)),
                Operator::Contains(text) | Operator::StartsWith(text) | Operator::EndsWith(text) => {
                    let around = [format!("{text}"), format!("{text}y"), format!("x{text}"), format!("x{text}y")];
                    values.extend(around.map(|text| Some(text.into())));
                }
                Operator::Exists | Operator::Absent => {}
            }
        }
    }
}

/// The number of label sets over an alphabet.
fn sets(alphabet: &Alphabet) -> usize {
    alphabet.values().fold(1, |sets, values| sets.saturating_mul(values.len()))
}

/// The label set of this number. Where there are more than are tried, the last labels vary first.
fn labels(alphabet: &Alphabet, number: usize) -> BTreeMap<Label, Option<Box<str>>> {
    let mut rest = number;
    let choose = |(label, values): (&Label, &BTreeSet<Option<Box<str>>>)| {
        let value = values.iter().nth(rest % values.len()).cloned().flatten();
        rest /= values.len();
        (label.clone(), value)
    };
    alphabet.iter().map(choose).collect()
}
