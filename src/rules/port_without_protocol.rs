//! See [`PortWithoutProtocol`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// A rule has ports, but no protocol that has ports.
    ///
    /// ## Why
    ///
    /// A port number has a meaning only together with TCP, UDP or SCTP. Calico's API server rejects such a rule.
    /// Written directly to `crd.projectcalico.org` it is stored, and its effect depends on the data plane.
    ///
    /// ## What it checks
    ///
    /// - Calico: `ports` and `notPorts` of source and destination, in a rule without `protocol` or with a protocol that
    ///   has no ports.
    /// - NetworkPolicy: not checked, because the protocol defaults to TCP.
    /// - Cilium: not checked, because a port without a protocol matches TCP, UDP and SCTP.
    /// - ClusterNetworkPolicy: not checked, because each port is nested under its protocol.
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
    ///   selector: app == 'web'
    ///   types: [Ingress]
    ///   ingress:
    ///   - action: Allow
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
    ///   selector: app == 'web'
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
    "port-without-protocol", Deny,
    #[derive(Default)]
    pub struct PortWithoutProtocol {}
}

impl Rule for PortWithoutProtocol {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::PortWithoutProtocol]);
    }
}
