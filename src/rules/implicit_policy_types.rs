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
    /// ## What it checks
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
    /// - Calico: rules in a direction that `types` does not name. If `types` is not set, Calico uses the directions that
    ///   have rules, as expected. An empty list is reported: Calico's API server treats it like a missing one, and the
    ///   admission policy of an installation without that server treats it like rules. An object that is stored
    ///   without `types` isolates both directions.
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
                findings.add::<Self>(case, path, message, help, fix);
            }
        }
    }
}

fn fault(policy: &Policy) -> Option<(Path, String, String, Option<Fix>)> {
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
        let place_text = place.to_string();
        let field = place_text.rsplit('.').next().unwrap_or_default();
        let so = if has_rules(Direction::Ingress) { "" } else { ", so ingress is isolated too" };
        let message =
            text!("`{field}` is not set; it defaults to Ingress and Egress because the policy has egress rules{so}");
        let help = text!("set `{field}` to [Egress], [Ingress] or [Ingress, Egress]");
        let fix = Fix::DeclareTypes { directions: Direction::ALL.into() };
        return Some((place.clone(), message, help, Some(fix)));
    }
    if let Types::Uncertain(place, directions) = &policy.types {
        let message = match directions.as_slice() {
            [Direction::Ingress] => {
                "`types` is not set: it depends on the installation of Calico whether ingress is isolated"
            }
            [Direction::Egress] => {
                "`types` is not set: it depends on the installation of Calico whether egress is isolated"
            }
            _ => "`types` is not set: it depends on the installation of Calico which direction is isolated",
        };
        let help = "set `types` to the directions to isolate: [Ingress], [Egress] or [Ingress, Egress]";
        return Some((place.clone(), message.into(), help.into(), None));
    }
    if written(Direction::Egress) == Some(0) && !policy.egress.isolates && policy.egress.rules.is_empty() {
        let message = "`egress: []` has no effect, because the policy does not isolate egress";
        let help = "isolate egress explicitly, or remove the list";
        return Some((policy.egress.path.clone(), message.to_owned(), help.to_owned(), None));
    }
    for (direction, name) in [(Direction::Egress, "Egress"), (Direction::Ingress, "Ingress")] {
        if inert(direction) {
            let message = text!("{direction} rules have no effect, because the policy types do not include {name}");
            let help = text!("add {name} to the policy types, or remove the rules");
            return Some((policy.side(direction).path.clone(), message, help, None));
        }
    }
    None
}
