//! See [`ExplicitDefaultDeny`].

use super::{Case, Findings, Rule};
use crate::model::{Direction, Namespaces, Policy, Stage, Standing};

rule! {
    /// A policy adds a default deny that the baseline of its namespace already provides.
    ///
    /// ## Why
    ///
    /// If the baseline isolates every pod, another default deny in the namespace changes nothing. It is one more policy
    /// to read, and readers may mistake it for the policy that protects the namespace. The rule is off by default: such
    /// a policy does no harm, and a chart for several clusters may need it on clusters without a baseline.
    ///
    /// ## What it checks
    ///
    /// Policies that isolate a direction and have no rules, in a namespace with a baseline. A namespace has a baseline
    /// if it carries the label of a known profile, or the label with the state of its baseline. A namespace with
    /// unknown labels does not count, and neither do platform namespaces.
    ///
    /// - NetworkPolicy: no `ingress` and no `egress`, or empty lists.
    /// - Cilium: `ingress: [{}]`, `egress: [{}]`.
    /// - Calico: `types` and no rules. Only namespaced policies of the default tier count, and no staged ones: in an
    ///   earlier tier such a policy denies traffic that the baseline allows.
    /// - ClusterNetworkPolicy: does not isolate.
    ///
    /// Policies with a name reserved for the baseline controller are the baseline itself and are not checked.
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
                "redundant: the baseline of the namespace ({why}) already isolates {} for {}",
                policy.subject,
                directions.join(" and ")
            );
            let help = "delete the policy, unless clusters without a baseline use the manifest too".to_owned();
            findings.add::<Self>(case, policy.subject_path.parent(), message, help, None);
        }
    }
}

/// Returns true if a policy isolates and has no rules, in the same stage as the baseline. A policy of an earlier tier
/// would stop traffic that the baseline allows, and a staged policy stops nothing.
pub(super) fn only_isolates(policy: &Policy) -> bool {
    (policy.standing, &policy.stage) == (Standing::InForce, &Stage::Policies)
        && policy.sides().any(|(_, side)| side.isolates)
        && policy.sides().all(|(direction, side)| side.rules.is_empty() && !policy.may_isolate(direction))
}

/// Describes the label by which a namespace is known to have a baseline.
fn due(case: &Case<'_>, namespace: &str) -> Option<String> {
    if case.site.is_platform(namespace) {
        return None;
    }
    let labels = case.view.all_labels(namespace)?;
    let profile = labels
        .get(&case.site.profile_label())
        .filter(|profile| case.site.profiles.names.iter().any(|known| known == profile));
    match profile {
        Some(profile) => Some(text!("profile {profile}")),
        None => {
            let label = case.site.baseline_label();
            labels.get(&label).map(|stage| text!("{label}={stage}"))
        }
    }
}
