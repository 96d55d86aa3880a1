//! See [`UnknownField`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A policy has an unknown field or version, or a field that Portcullis does not understand.
    ///
    /// ## Why
    ///
    /// The API server drops a misspelt field, and the remaining policy has another meaning: a rule with `port` instead
    /// of `ports` allows every port. And a field that is newer than Portcullis, or that it cannot evaluate, may change
    /// the meaning of all others. Portcullis ignores the field in its decision and reports it.
    ///
    /// ## What it checks
    ///
    /// The `spec` (and `specs`) of every policy, compared with the fields of its kind. The pages of the dialects have a
    /// table of these fields.
    ///
    /// - NetworkPolicy, ClusterNetworkPolicy: fields that the kind does not have; peers and protocols of a later
    ///   version.
    /// - NetworkPolicy: an `ipBlock` that Kubernetes 1.36 and later reject, such as `10.0.0.5/8`. It is read like older
    ///   versions read it, as `10.0.0.0/8`.
    /// - Cilium: the same, and fields that are only partly understood: CIDR groups and cloud provider groups, policies
    ///   for nodes.
    /// - Calico: the same, and policies for host endpoints only, `global()` in rules.
    /// - Every kind except NetworkPolicy: an API version that is newer than Portcullis, such as `v1beta1` of
    ///   ClusterNetworkPolicy. Portcullis reads it like the nearest version that it knows. If such an object has an
    ///   unknown field, it cannot be read and is denied.
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
        let kinds =
            [FaultKind::UnlistedVersion, FaultKind::UnknownField, FaultKind::NotUnderstood, FaultKind::Nonstandard];
        findings.add_faults::<Self>(case, &kinds);
    }
}
