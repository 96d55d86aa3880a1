//! See [`InvalidSelector`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A selector cannot be parsed.
    ///
    /// ## Why
    ///
    /// A selector that cannot be parsed matches nothing, or makes the agent ignore the policy or a part of it. Felix
    /// drops a namespace selector that it cannot parse, and the policy then selects more pods than intended. Calico's
    /// API server rejects such an object, but a write directly to `crd.projectcalico.org` bypasses this check.
    ///
    /// ## What it checks
    ///
    /// - Calico: every selector of a policy and of its rules: `selector`, `notSelector`, `namespaceSelector`,
    ///   `serviceAccountSelector`, and the selectors of service accounts in rules. They are parsed by Calico's own
    ///   grammar: spaces are optional (`app=='web'` is valid), sets are written in braces, and both single and double
    ///   quotes are valid.
    /// - Cilium and ClusterNetworkPolicy: their selectors are objects. Reported are selectors that the schema accepts
    ///   and the agent rejects: an unknown operator, an operator without its values, a key that is not a valid label
    ///   key.
    /// - NetworkPolicy: not checked, because the API server validates its selectors.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: projectcalico.org/v3
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-client
    ///   namespace: shop
    /// spec:
    ///   selector: "app = 'web'"
    ///   types: [Ingress]
    ///   ingress:
    ///   - action: Allow
    ///     protocol: TCP
    ///     source:
    ///       selector: app == 'client'
    ///     destination:
    ///       ports: [8080]
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: projectcalico.org/v3
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-client
    ///   namespace: shop
    /// spec:
    ///   selector: "app == 'web'"
    ///   types: [Ingress]
    ///   ingress:
    ///   - action: Allow
    ///     protocol: TCP
    ///     source:
    ///       selector: app == 'client'
    ///     destination:
    ///       ports: [8080]
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "invalid-selector", Deny,
    #[derive(Default)]
    pub struct InvalidSelector {}
}

impl Rule for InvalidSelector {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::InvalidSelector]);
    }
}
