//! See [`PortWithoutProtocol`].

use super::{Case, Findings, Rule};
use crate::model::FaultKind;

rule! {
    /// Ports are given without a protocol that has ports.
    ///
    /// ## Why
    ///
    /// A port number means something only together with TCP, UDP or SCTP. Calico's API server refuses such a rule; written
    /// straight to `crd.projectcalico.org` it is stored, and what becomes of it is up to the data plane.
    ///
    /// ## What it looks at
    ///
    /// - Calico: `ports` and `notPorts` of source and destination in a rule whose `protocol` is missing, or is one without
    ///   ports.
    /// - NetworkPolicy: not concerned, its protocol is TCP where it is left out.
    /// - Cilium: not concerned, a port without a protocol is one of TCP, UDP and SCTP.
    /// - ClusterNetworkPolicy: not concerned, a port stands below its protocol.
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
