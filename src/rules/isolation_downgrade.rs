//! See [`IsolationDowngrade`].

use super::shared::bypass::{ask_for_bypass, user};
use super::{Case, Defined, Findings, Rule};
use crate::model::{Labels, Namespace, Object};
use crate::view::Site;

rule! {
    /// A user without permission weakens the isolation of a namespace, by its profile or by an access label.
    ///
    /// ## Why
    ///
    /// Without this rule, every user who may label a namespace could open it: a change of one label from isolated to
    /// standard lets all of its pods connect to the outside. Without a profile label no policies are selected for it at
    /// all.
    ///
    /// ## What it checks
    ///
    /// The profile label, when an existing namespace is changed, and the user who changes it. `profiles.names` in the
    /// configuration orders the profiles from most to least isolated.
    ///
    /// - A profile name that is not configured counts as no profile: it may be replaced by any other, or removed.
    /// - Adding a profile to a namespace without one is always allowed, and so is creating a namespace without one.
    /// - On a platform namespace the label has no effect and may be removed.
    ///
    /// An access label allows additional traffic out of a namespace. Adding it requires the permission if the namespace
    /// has the first, most isolated profile of `profiles.names`. With other profiles, and when a namespace is created,
    /// it does not.
    ///
    /// The rule also applies while the escape hatch is open, and objects cannot be exempted from it. Offline it never
    /// fires, because a file shows neither the old object nor the user. Policies are not checked, so the dialects
    /// (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy) make no difference.
    ///
    /// ## Fires
    ///
    /// The first document is the old object, the second the update by a user without the permission to bypass rules.
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: isolated
    /// ---
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: standard
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: standard
    /// ---
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: isolated
    /// ```
    ///
    /// ## Settings
    ///
    /// None. The order is the order of `profiles.names`. On a cluster RBAC grants the permission: the verb `bypass` on
    /// `rules` of the group portcullis.dev, with the name of this rule.
    "isolation-downgrade", Deny, guard = true, on = [Namespaces],
    #[derive(Default)]
    pub struct IsolationDowngrade {}
}

impl Rule for IsolationDowngrade {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some((name, namespace)) = case.namespace() else { return };
        let Some(old) = case.change.old().and_then(Object::as_namespace).filter(|_| !case.site.is_platform(name))
        else {
            return;
        };
        let found = profile(case.site, old, namespace).into_iter().chain(access(case.site, old, namespace));
        for (label, what, instead) in found {
            let Err(why) = case.occasion.author.may_bypass(Self::NAME) else { return };
            let message = text!("{} may not {what}: {why}", user(case));
            let help = text!("{instead}, or {}", ask_for_bypass(Self::NAME));
            findings.add::<Self>(case, namespace.labels_path.key(&label), message, help, None);
        }
    }
}

/// The label, the effect of its change, and the alternative for the help text.
type Opening = (String, String, String);

/// A change of the profile to a less isolated one, or to none.
fn profile(site: &Site, old: &Namespace, new: &Namespace) -> Option<Opening> {
    let label = site.profile_label();
    let before = old.labels.get(&label)?;
    let place = |profile: &str| site.profiles.names.iter().position(|known| known == profile);
    let what = match new.labels.get(&label) {
        None if place(before).is_some() => {
            text!("remove profile {before} from the namespace")
        }
        // The old profile was not in effect, so nothing is weakened.
        None => return None,
        Some(after) => match (place(before), place(after)) {
            (Some(old), Some(new)) if old < new => {
                text!("change the profile from {before} to {after}, which allows more")
            }
            // An unknown profile counts as no profile.
            (Some(_), None) => text!("change the profile from {before} to {after}, which is not configured"),
            _ => return None,
        },
    };
    let instead = text!("keep profile {before}");
    Some((label, what, instead))
}

/// Access labels that are added to a namespace with the most isolated profile.
fn access(site: &Site, old: &Namespace, new: &Namespace) -> Vec<Opening> {
    let profile = new.labels.get(&site.profile_label());
    let Some(profile) = profile.filter(|profile| site.profiles.names.first().is_some_and(|first| first == profile))
    else {
        return Vec::new();
    };
    let is_granted = |labels: &Labels, label: &str| labels.get(label) == Some("true");
    let added = site.access.iter().map(|name| (name, site.access_label(name)));
    let added = added.filter(|(_, label)| is_granted(&new.labels, label) && !is_granted(&old.labels, label));
    added
        .map(|(name, label)| {
            let what = text!("add access to {name} to a namespace with profile {profile}");
            (label, what, "remove the label".to_owned())
        })
        .collect()
}
