//! See [`IsolationDowngrade`].

use super::{Case, Defined, Findings, Rule};
use crate::model::{Labels, Namespace, Object};
use crate::view::Site;

rule! {
    /// A user without the right lowers the isolation of a namespace, by its profile or by an access label.
    ///
    /// ## Why
    ///
    /// Whoever may label a namespace could open it: one label from isolated to standard, and everything in it talks to the
    /// outside. Without a profile no policies are chosen for it at all.
    ///
    /// ## What it looks at
    ///
    /// The label of the profile, when a namespace that is there is changed, and who makes the change. Which profile allows
    /// more is the order of `profiles.names` in the configuration: the most isolated is the first. A profile that is not
    /// there counts as none, since any other could follow on it, and itself can be removed. Where there was none, and where one is left out when a namespace
    /// is made, nothing is taken away. On a namespace of the platform the label means nothing and can be removed.
    ///
    /// An access label opens a way out of a namespace. It needs the right where the namespace has the first profile of
    /// `profiles.names`, the most isolated one. With every other profile it needs none, nor when a namespace is created.
    ///
    /// It holds while a hatch is open, and no object can be exempt from it. Offline it never fires, since a file does not say
    /// what was there before, nor who comes with it. It looks at no policies, so the dialects (NetworkPolicy, Cilium, Calico,
    /// ClusterNetworkPolicy) make no difference.
    ///
    /// ## Fires
    ///
    /// The first is what was there, the second what somebody makes of it who may bypass nothing.
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
    /// None. The order is that of `profiles.names`. In a cluster who may is what RBAC says: the verb `bypass` on `rules` of
    /// the group portcullis.dev, by the name of this rule.
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
            let message = text!("{what}, by somebody who may not decide that: {why}");
            let help = text!(
                "{instead}, or ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {}, to do it",
                Self::NAME
            );
            findings.add::<Self>(case, namespace.labels_path.key(&label), message, help, None);
        }
    }
}

/// A label, what its change does, and what to do instead.
type Opening = (String, String, String);

/// A change of the profile that allows more.
fn profile(site: &Site, old: &Namespace, new: &Namespace) -> Option<Opening> {
    let label = site.profile_label();
    let before = old.labels.get(&label)?;
    let place = |profile: &str| site.profiles.names.iter().position(|known| known == profile);
    let what = match new.labels.get(&label) {
        None if place(before).is_some() => {
            text!("the profile {before} is removed, and the namespace has no profile any more")
        }
        // Where there was none in effect, none is taken away.
        None => return None,
        Some(after) => match (place(before), place(after)) {
            (Some(old), Some(new)) if old < new => {
                text!("the profile goes from {before} to {after}, which allows more")
            }
            // Any profile could follow on one that nobody knows.
            (Some(_), None) => text!("the profile goes from {before} to {after}, which is none"),
            _ => return None,
        },
    };
    let instead = text!("leave it at {before}");
    Some((label, what, instead))
}

/// Access that is added to a namespace with the most isolated profile.
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
            let what = text!("access to {name} is added to a namespace with profile {profile}");
            (label, what, "leave the label out".to_owned())
        })
        .collect()
}
