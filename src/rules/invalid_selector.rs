//! See [`InvalidSelector`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A selector does not parse.
    ///
    /// ## Why
    ///
    /// A selector that does not parse selects nothing, or makes the agent leave the policy or a part of it aside: Felix
    /// drops a selector of namespaces that it cannot read, and the policy then selects more than was meant. Calico's API
    /// server refuses such an object, and a write straight to `crd.projectcalico.org` passes it by.
    ///
    /// ## What it looks at
    ///
    /// - Calico: every selector of a policy and of its rules: `selector`, `notSelector`, `namespaceSelector`,
    ///   `serviceAccountSelector`, and those of service accounts. It is read by Calico's own grammar: spaces are optional
    ///   (`app=='web'` is right), sets are written in braces, and both kinds of quotes will do.
    /// - Cilium and ClusterNetworkPolicy: their selectors are objects. What the schema lets through and the agent does not
    ///   take is reported: an operator that does not exist, one without its values, a key that cannot be that of a label.
    /// - NetworkPolicy: not concerned, the API server checks its selectors.
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
