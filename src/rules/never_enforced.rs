//! See [`NeverEnforced`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// The agent stores the policy and leaves it aside.
    ///
    /// ## Why
    ///
    /// The schema of a custom resource says little about what its agent takes. What the agent refuses is stored all the
    /// same: `kubectl apply` says "created", the reason stands in a status that nobody reads, and nothing is enforced, not
    /// even the denials in it. It fails open.
    ///
    /// ## What it looks at
    ///
    /// Each reason for which the agent itself would mark a stored policy invalid; the pages of the dialects list them.
    ///
    /// - Cilium: more than one kind of L3 peer in one rule, L7 rules without TCP, DNS rules on ingress or without ports, ports
    ///   that cannot be, more than 40 ports, neither endpointSelector nor nodeSelector, and so on. One such rule takes the
    ///   whole object out of force.
    /// - Calico: what its API server refuses and a write straight to `crd.projectcalico.org` gets past: actions and protocols
    ///   that do not exist, addresses that are none, ICMP together with ports, and so on.
    /// - ClusterNetworkPolicy: what only some versions of its schema refuse: a range of ports whose start is behind its end,
    ///   a port name together with networks, nodes or names.
    /// - NetworkPolicy: not concerned, its API server refuses what cannot be enforced.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    ///   - fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "never-enforced", Deny,
    #[derive(Default)]
    pub struct NeverEnforced {}
}

impl Rule for NeverEnforced {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::NeverEnforced]);
    }
}
