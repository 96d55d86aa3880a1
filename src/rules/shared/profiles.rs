//! Namespaces that have a profile.

use crate::model::{Endpoint, NAME_LABEL, Namespaces, Operator, Pods, Selector};
use crate::rules::rule::Case;
use crate::view::NamespaceFacts;

/// The profile that a policy affects, with its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profiled<'a> {
    /// The namespace; none if the policy selects namespaces by their profile.
    pub(crate) namespace: Option<&'a str>,
    /// The profile; none if the policy selects several profiles.
    pub(crate) profile: Option<&'a str>,
}

/// The profile of a namespace, if it is known to be one of these. In platform and excluded namespaces the label has no
/// effect.
fn profile_of<'a>(case: &Case<'a>, namespace: &str, profiles: &[String]) -> Option<&'a str> {
    if case.site.is_left_alone(namespace) {
        return None;
    }
    let profile = case.view.all_labels(namespace)?.get(&case.site.profile_label())?;
    profiles.iter().any(|known| known == profile).then_some(profile)
}

/// Returns true if a namespace is known only from a manifest that was never applied, so that Portcullis still adds
/// labels to it.
pub(crate) fn is_to_be_made(case: &Case<'_>, namespace: &str) -> bool {
    let is_written = |facts: &NamespaceFacts| facts.labels.is_some() && facts.uid.is_empty();
    !case.view.is_whole() && case.view.namespace(namespace).is_some_and(is_written)
}

/// A namespace with one of these profiles to which these pods of a policy are known to belong. For pods of one namespace
/// it is that namespace. Otherwise it is the first one that their namespace selector is known to match, or any, if the
/// selector can match only namespaces with these profiles.
pub(crate) fn profiled<'a>(
    case: &Case<'a>,
    subject: &'a Pods,
    profiles: &[String],
    looks: &mut usize,
) -> Option<Profiled<'a>> {
    let selector = match &subject.namespaces {
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
    let meant = |namespace: &&'a str| {
        profile_of(case, namespace, profiles).is_some() && subject.namespaces.mean(namespace, case.view) == Some(true)
    };
    let namespace = match selector.values_of(NAME_LABEL) {
        Some(names) => names.iter().map(|name| &**name).filter(meant).min()?,
        None => {
            let mut names: Vec<&'a str> = case.view.namespaces().map(|(name, _)| &**name).filter(meant).collect();
            names.sort_unstable();
            names.into_iter().find(|name| is_for_pods_of(case, subject, name, looks))?
        }
    };
    Some(Profiled { namespace: Some(namespace), profile: profile_of(case, namespace, profiles) })
}

/// Returns true if these pods are known to include all pods of a namespace, or a known pod there.
fn is_for_pods_of(case: &Case<'_>, subject: &Pods, namespace: &str, looks: &mut usize) -> bool {
    let any = Endpoint::unknown(namespace);
    if subject.all_pods() || subject.mean(&any, case.view) == Some(true) {
        return true;
    }
    case.view.namespace(namespace).into_iter().flat_map(NamespaceFacts::distinct).any(|running| {
        let Some(left) = looks.checked_sub(1) else { return false };
        *looks = left;
        subject.mean(&Endpoint::of(namespace, &running.workload), case.view) == Some(true)
    })
}

impl std::fmt::Display for Profiled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.namespace, self.profile) {
            (Some(namespace), Some(profile)) => write!(f, "profile {profile} gives namespace {namespace}"),
            (Some(namespace), None) => write!(f, "the profile gives namespace {namespace}"),
            (None, _) => f.write_str("profiles give the selected namespaces"),
        }
    }
}
