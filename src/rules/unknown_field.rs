//! See [`UnknownField`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A field is not known, or what it means is not understood.
    ///
    /// ## Why
    ///
    /// A misspelt field is dropped on its way into the cluster, and the policy that is left means something else: a `ports`
    /// that is called `port` opens every port. And a field that is newer than Portcullis, or that it cannot judge, could
    /// change what all the others mean. The verdict is made without it, and says so.
    ///
    /// ## What it looks at
    ///
    /// The `spec` (and `specs`) of every policy, by the fields that its kind has; the pages of the dialects have a table of
    /// them.
    ///
    /// - NetworkPolicy, ClusterNetworkPolicy: fields that the kind does not have; peers and protocols of a later version.
    /// - Cilium: the same, and what is understood in part: groups of CIDRs and of clouds, policies for nodes.
    /// - Calico: the same, and policies for host endpoints only, `global()` in rules.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-web
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: api
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: web
    ///     ports:
    ///     - protocol: TCP
    ///       prot: 8080
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-web
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: api
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: web
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "unknown-field", Warn,
    #[derive(Default)]
    pub struct UnknownField {}
}

impl Rule for UnknownField {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::UnknownField, FaultKind::NotUnderstood]);
    }
}
