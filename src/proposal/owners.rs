//! The owner of pods, as labels and annotations name it.

use crate::model::Labels;
use crate::view::{NamespaceFacts, Running};

/// The last parts of keys that name an owner, as in `owner` and `example.com/team`.
const NAMES: [&str; 2] = ["owner", "team"];

/// Maximum length of an owner in bytes, as in the CustomResourceDefinition.
const MAX_OWNER: usize = 200;

/// Returns true if a label with this key names an owner.
pub(super) fn names_owner(key: &str) -> bool {
    let last = key.rsplit_once('/').map_or(key, |(_, last)| last);
    NAMES.contains(&last)
}

/// The owner of pods: of a label that all of them have with one value, or else of a label or annotation of their
/// namespace.
pub(super) fn owner(facts: &NamespaceFacts, members: &[&Running]) -> String {
    let of_first = members.first().and_then(|first| named(&first.workload.labels));
    let of_all = of_first
        .filter(|owner| members.iter().all(|member| named(&member.workload.labels).as_deref() == Some(&**owner)));
    let of_namespace = || facts.labels.as_ref().and_then(named).or_else(|| named(&facts.annotations));
    of_all.or_else(of_namespace).filter(|owner| owner.len() <= MAX_OWNER).unwrap_or_default()
}

fn named(labels: &Labels) -> Option<String> {
    let of = |name: &str| {
        let is_it = |key: &str| key.rsplit_once('/').map_or(key, |(_, last)| last) == name;
        labels.iter().find(|(key, value)| is_it(key) && !value.is_empty()).map(|(_, value)| value.to_owned())
    };
    NAMES.iter().find_map(|name| of(name))
}
