//! See [`InvalidFqdn`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A DNS name, or a pattern for DNS names, is invalid.
    ///
    /// ## Why
    ///
    /// Cilium stores the policy, sets `Valid: False` in its status, and enforces none of its rules: `kubectl apply`
    /// reports "created" and the pods are not restricted. The usual mistake is a wildcard in `matchName`, which belongs
    /// in `matchPattern`.
    ///
    /// ## What it checks
    ///
    /// - Cilium: `matchName` and `matchPattern` of `toFQDNs` and of DNS rules, by the regular expressions of the agent.
    /// - NetworkPolicy and Calico: not checked, because they have no names.
    /// - ClusterNetworkPolicy: not checked, because the API server validates its `domainNames`.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: to-google
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: web
    ///   egress:
    ///   - toEndpoints:
    ///     - matchLabels:
    ///         k8s:io.kubernetes.pod.namespace: kube-system
    ///         k8s:k8s-app: kube-dns
    ///     toPorts:
    ///     - ports:
    ///       - port: "53"
    ///         protocol: ANY
    ///       rules:
    ///         dns:
    ///         - matchPattern: "*"
    ///   - toFQDNs:
    ///     - matchName: "*.google.com"
    ///     toPorts:
    ///     - ports:
    ///       - port: "443"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: to-google
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: web
    ///   egress:
    ///   - toEndpoints:
    ///     - matchLabels:
    ///         k8s:io.kubernetes.pod.namespace: kube-system
    ///         k8s:k8s-app: kube-dns
    ///     toPorts:
    ///     - ports:
    ///       - port: "53"
    ///         protocol: ANY
    ///       rules:
    ///         dns:
    ///         - matchPattern: "*"
    ///   - toFQDNs:
    ///     - matchPattern: "*.google.com"
    ///     toPorts:
    ///     - ports:
    ///       - port: "443"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "invalid-fqdn", Deny,
    #[derive(Default)]
    pub struct InvalidFqdn {}
}

impl Rule for InvalidFqdn {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::InvalidFqdn]);
    }
}
