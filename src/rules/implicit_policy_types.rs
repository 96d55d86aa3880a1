//! See [`ImplicitPolicyTypes`].

use super::{Case, Findings, Rule};
use crate::model::{Direction, Fix, Path, Policy, Stage, Types};

rule! {
    /// A policy omits policyTypes, or has rules in a direction that it does not isolate.
    ///
    /// ## Why
    ///
    /// If `policyTypes` is not set, the API server always adds Ingress, and adds Egress only if there are egress rules.
    /// A policy with only egress rules then also blocks all ingress, silently. And `egress: []`, which reads like "no
    /// egress", is dropped: egress stays open.
    ///
    /// ## What it looks at
    ///
    /// - Policies with egress rules and without `policyTypes`.
    /// - An empty list of egress rules, or rules, in a direction that `policyTypes` does not name.
    ///
    /// In a file, the fields are checked as written. In an admission request the API server has already added the
    /// defaults, so the rule reads the `kubectl apply` annotation, or the fields that a server-side apply owns. If
    /// neither exists, the rule reports nothing. A policy with only ingress rules is not reported, because the default
    /// matches its rules.
    ///
    /// - NetworkPolicy: all of the above.
    /// - Calico: rules in a direction that `types` does not name. If `types` is not set, Calico's API server uses the
    ///   directions that have rules, as expected. An object written directly to `crd.projectcalico.org` isolates both
    ///   directions.
    /// - Cilium: `egress: []`, which does not isolate (`egress: [{}]` does). `enableDefaultDeny` is not checked.
    /// - ClusterNetworkPolicy: not checked, because it does not isolate.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-dns
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   egress:
    ///   - ports:
    ///     - protocol: UDP
    ///       port: 53
    ///     - protocol: TCP
    ///       port: 53
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-dns
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - ports:
    ///     - protocol: UDP
    ///       port: 53
    ///     - protocol: TCP
    ///       port: 53
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "implicit-policy-types", Warn,
    #[derive(Default)]
    pub struct ImplicitPolicyTypes {}
}

impl Rule for ImplicitPolicyTypes {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies() {
            if let Some((path, message, help, fix)) = fault(policy) {
                findings.add::<Self>(case, path, message.into(), help.into(), fix);
            }
        }
    }
}

fn fault(policy: &Policy) -> Option<(Path, &'static str, &'static str, Option<Fix>)> {
    // Policies of these stages never isolate.
    if matches!(policy.stage, Stage::Admin | Stage::Baseline) {
        return None;
    }
    let written = |direction| policy.side(direction).written;
    let has_rules = |direction| written(direction).is_some_and(|rules| rules > 0);
    // Rules without effect are not part of the model.
    let inert = |direction| {
        let side = policy.side(direction);
        !side.isolates && side.rules.is_empty() && has_rules(direction)
    };
    if let Types::Inferred(place) = &policy.types
        && has_rules(Direction::Egress)
    {
        let message = if has_rules(Direction::Ingress) {
            "which directions the policy isolates is left out: that it is both follows only from the rules that happen to be \
             there"
        } else {
            "which directions the policy isolates is left out, so ingress is isolated too, although there are only egress \
             rules: nothing may connect to the pods"
        };
        let help = "write the directions that are meant: [Egress], [Ingress] or [Ingress, Egress]";
        let fix = Fix::DeclareTypes { directions: Direction::ALL.into() };
        return Some((place.clone(), message, help, Some(fix)));
    }
    if written(Direction::Egress) == Some(0) && !policy.egress.isolates && policy.egress.rules.is_empty() {
        let message =
            "`egress: []` has no effect, since nothing else in the policy isolates egress: the pods may send anywhere";
        let help = "say that egress is isolated to stop what they send, or leave the list out";
        return Some((policy.egress.path.clone(), message, help, None));
    }
    if inert(Direction::Egress) {
        let message = "the egress rules have no effect, since the types of the policy do not include Egress: the pods may send anywhere";
        return Some((policy.egress.path.clone(), message, "add Egress to the types, or remove the rules", None));
    }
    if inert(Direction::Ingress) {
        let message = "the ingress rules have no effect, since the types of the policy do not include Ingress: anything may connect";
        return Some((policy.ingress.path.clone(), message, "add Ingress to the types, or remove the rules", None));
    }
    None
}
