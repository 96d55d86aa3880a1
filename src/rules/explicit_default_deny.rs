//! See [`ExplicitDefaultDeny`].

use super::{Case, Findings, Rule};
use crate::model::{Direction, Namespaces, Policy, Stage, Standing};

rule! {
    /// A policy denies by default what the baseline of its namespace denies already.
    ///
    /// ## Why
    ///
    /// Where the baseline isolates every pod, a default-deny of the namespace's own changes nothing. It is one more policy to
    /// read, and who finds it takes it for what protects the namespace. It is off as shipped, since it does no harm
    /// either, and since a chart that is made for other clusters too needs it there.
    ///
    /// ## What it looks at
    ///
    /// Policies that isolate a direction and have no rules at all, in a namespace that is due a baseline: it carries the label
    /// of a known profile, or the one that tells how far its baseline is. A namespace whose labels are not known is not due
    /// one here, and those of the platform never are.
    ///
    /// - NetworkPolicy: no `ingress` and no `egress`, or empty lists.
    /// - Cilium: `ingress: [{}]`, `egress: [{}]`.
    /// - Calico: `types`, and no rules. Only policies of a namespace, of the default tier, and none that are staged: in an
    ///   earlier tier it denies what the baseline allows.
    /// - ClusterNetworkPolicy: does not isolate.
    ///
    /// Policies whose names are reserved for the baseline controller are the baseline, and are not judged.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: standard
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: default-deny
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: default-deny
    ///   namespace: legacy
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "explicit-default-deny", Off,
    #[derive(Default)]
    pub struct ExplicitDefaultDeny {}
}

impl Rule for ExplicitDefaultDeny {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.written().is_none_or(|object| case.site.is_reserved(&object.id)) {
            return;
        }
        for policy in case.policies().iter().filter(|policy| only_isolates(policy)) {
            let Namespaces::Own(Some(namespace)) = &policy.subject.namespaces else { continue };
            let Some(why) = due(case, namespace) else { continue };
            let isolated = Direction::ALL.into_iter().filter(|direction| policy.side(*direction).isolates);
            let directions: Vec<&str> = isolated.map(Direction::name).collect();
            let message = text!(
                "the policy isolates {} for {} and allows nothing, which the baseline of the namespace does already ({why})",
                policy.subject,
                directions.join(" and ")
            );
            let help = "remove it, unless the manifests are made for clusters without a baseline too".to_owned();
            findings.add::<Self>(case, policy.subject_path.parent(), message, help, None);
        }
    }
}

/// Whether a policy isolates and does nothing else, where the baseline does it too: one of an earlier tier stops what the
/// baseline allows, and one that is staged stops nothing.
pub(super) fn only_isolates(policy: &Policy) -> bool {
    (policy.standing, &policy.stage) == (Standing::InForce, &Stage::Policies)
        && policy.sides().any(|(_, side)| side.isolates)
        && policy.sides().all(|(_, side)| side.rules.is_empty())
}

/// By which of its labels a namespace is due a baseline, if it is known to be.
fn due(case: &Case<'_>, namespace: &str) -> Option<String> {
    if case.site.is_platform(namespace) {
        return None;
    }
    let labels = case.view.all_labels(namespace)?;
    let profile = labels
        .get(&case.site.profile_label())
        .filter(|profile| case.site.profiles.names.iter().any(|known| known == profile));
    match profile {
        Some(profile) => Some(text!("its profile is {profile}")),
        None => {
            let label = case.site.baseline_label();
            labels.get(&label).map(|stage| text!("{label}={stage}"))
        }
    }
}
