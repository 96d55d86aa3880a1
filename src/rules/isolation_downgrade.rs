//! See [`IsolationDowngrade`].

use super::{Case, Defined, Findings, Rule};
use crate::model::Object;

rule! {
    /// A namespace gives up its profile, or takes one that allows more, by somebody who may not decide that.
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
    /// is made, nothing is taken away. Nor are access labels, which open one named way each. On a namespace of the platform the label
    /// means nothing and can be removed.
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
        let Some(old) = case.change.old().and_then(Object::as_namespace) else { return };
        let (site, label) = (case.site, case.site.profile_label());
        let Some(before) = old.labels.get(&label).filter(|_| !site.is_platform(name)) else { return };
        let place = |profile: &str| site.profiles.names.iter().position(|known| known == profile);
        let what = match namespace.labels.get(&label) {
            None if place(before).is_some() => {
                text!("the profile {before} is removed, and the namespace has no profile any more")
            }
            // Where there was none in effect, none is taken away.
            None => return,
            Some(after) => match (place(before), place(after)) {
                (Some(old), Some(new)) if old < new => {
                    text!("the profile goes from {before} to {after}, which allows more")
                }
                // Any profile could follow on one that nobody knows.
                (Some(_), None) => text!("the profile goes from {before} to {after}, which is none"),
                _ => return,
            },
        };
        let Err(why) = case.occasion.author.may_bypass(Self::NAME) else { return };
        let message = text!("{what}, by somebody who may not decide that: {why}");
        let help = text!(
            "leave it at {before}, or ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {}, to \
             do it",
            Self::NAME
        );
        findings.add::<Self>(case, namespace.labels_path.key(&label), message, help, None);
    }
}
