//! Namespaces that have a profile.

use super::Case;
use crate::model::{NAME_LABEL, Namespaces, Operator, Policy, Selector};

/// Where a policy meets a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profiled<'a> {
    /// A namespace for whose pods the policy is; none where it is for whichever namespaces have the profile.
    pub(super) namespace: Option<&'a str>,
    /// The profile; none where it is one of several.
    pub(super) profile: Option<&'a str>,
}

/// The profile of a namespace, if it is known to have one of these.
fn profile_of<'a>(case: &Case<'a>, namespace: &str, profiles: &[String]) -> Option<&'a str> {
    let profile = case.view.all_labels(namespace)?.get(&case.site.profile_label())?;
    profiles.iter().any(|known| known == profile).then_some(profile)
}

/// A namespace with one of these profiles for whose pods a policy is known to be: its own; or, of a policy of the cluster,
/// the first one that its selector is known to mean, or whichever there are where it means no others.
pub(super) fn profiled<'a>(case: &Case<'a>, policy: &'a Policy, profiles: &[String]) -> Option<Profiled<'a>> {
    let selector = match &policy.subject.namespaces {
        Namespaces::Own(name) => {
            let namespace = name.as_deref()?;
            let profile = profile_of(case, namespace, profiles)?;
            return Some(Profiled { namespace: Some(namespace), profile: Some(profile) });
        }
        Namespaces::Matching(selector) => selector,
    };
    let values = profiles.iter().map(|name| name.as_str().into()).collect();
    if Selector::label(&case.site.profile_label(), Operator::In(values)).covers(selector) {
        return Some(Profiled { namespace: None, profile: None });
    }
    let meant = |namespace: &&'a str| policy.subject.namespaces.mean(namespace, case.view) == Some(true);
    let first = match selector.values_of(NAME_LABEL) {
        Some(names) => {
            let names = names.iter().map(|name| &**name).filter(meant);
            names.filter(|name| profile_of(case, name, profiles).is_some()).min()
        }
        None => {
            let names = case.view.namespaces().map(|(name, _)| &**name);
            names.filter(|name| profile_of(case, name, profiles).is_some()).filter(meant).min()
        }
    };
    let namespace = first?;
    Some(Profiled { namespace: Some(namespace), profile: profile_of(case, namespace, profiles) })
}

impl std::fmt::Display for Profiled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.namespace, self.profile) {
            (Some(namespace), Some(profile)) => write!(f, "namespace {namespace} by its profile {profile}"),
            (Some(namespace), None) => write!(f, "namespace {namespace} by its profile"),
            (None, _) => f.write_str("the namespaces that it is for by their profile"),
        }
    }
}
