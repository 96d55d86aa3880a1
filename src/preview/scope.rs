//! The changes that are only previewed, and the policies that a preview compares.

use crate::model::{Direction, Labels, Object, Policy, Standing};
use crate::rules::Change;
use crate::view::{Scene, Site, View};

/// Maximum number of policies that are evaluated.
pub(super) const POLICIES: usize = 200;
/// Maximum number of policies that are named for one reason.
pub(super) const NAMED_POLICIES: usize = 3;

/// Returns true if only labels of a namespace change that no rule denies. The effect of such a change is only
/// previewed.
#[must_use]
pub(crate) fn is_only_previewed(site: &Site, change: Change<'_>) -> bool {
    let (Some(old), new) = (change.old(), change.object()) else { return false };
    let (Some(before), Some(after)) = (labels(old), labels(new)) else { return false };
    // The same condition as in the webhook configuration.
    let domain = format!("{}/", site.label_domain);
    let own = |labels: &Labels| labels.iter().filter(|(key, _)| key.contains(&domain)).count();
    let is_kept = |(key, value): (&str, &str)| !key.contains(&domain) || after.get(key) == Some(value);
    matches!(change, Change::Write { .. })
        && before.iter().all(is_kept)
        && own(before) == own(after)
        && old.annotations == new.annotations
}

pub(super) fn labels(namespace: &Object) -> Option<&Labels> {
    namespace.as_namespace().map(|namespace| &namespace.labels)
}

/// The enforced policies that are known to select pods of the namespace.
pub(super) fn concerning<'a>(view: &'a View, namespace: &'a Object) -> impl Iterator<Item = &'a Policy> {
    let scene = Scene::with(view, namespace);
    let name = &*namespace.id.name;
    scene.policies(name).filter(move |policy| policy.subject.namespaces.mean(name, &scene) == Some(true))
}

/// Returns true if one of these policies isolates pods in this direction.
pub(super) fn isolates(policies: &[&Policy], direction: Direction, around: &Scene<'_>) -> bool {
    policies.iter().any(|policy| policy.standing == Standing::InForce && policy.isolates(direction, around))
}
