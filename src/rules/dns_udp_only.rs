//! See [`DnsUdpOnly`].

use super::blame::stops;
use super::dns_blocked::{allow, serves, ways};
use super::{Case, Findings, Rule};
use crate::model::{Fix, Numbers, Policy, Ports, Protocol};
use crate::view::Site;

rule! {
    /// Pods may ask the cluster's DNS over UDP, but not over TCP.
    ///
    /// ## Why
    ///
    /// An answer that does not fit into a datagram comes back truncated, and the resolver asks again over TCP
    /// (RFC 1035 §4.2.2, RFC 7766). Without TCP that lookup fails, and only for names with long answers: large sets of
    /// addresses, signed zones, long TXT records. It works in every test and fails in production.
    ///
    /// ## What it looks at
    ///
    /// The same as `dns-blocked`, with its ways to the cluster's DNS and all policies added up, in each dialect. It is
    /// silent where `dns-blocked` speaks. A port of Cilium without a protocol, or with ANY, is both UDP and TCP.
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
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: kube-system
    ///     ports:
    ///     - protocol: UDP
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
    ///   - to:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: kube-system
    ///     ports:
    ///     - protocol: UDP
    ///       port: 53
    ///     - protocol: TCP
    ///       port: 53
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "dns-udp-only", Warn,
    #[derive(Default)]
    pub struct DnsUdpOnly {}
}

impl Rule for DnsUdpOnly {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies().iter().filter(|policy| stops(&policy.egress)) {
            let served = |protocols: &[Protocol]| serves(case.after(), case.site, policy, protocols);
            if !served(&[Protocol::Udp]) || served(&[Protocol::Udp, Protocol::Tcp]) {
                continue;
            }
            let message = format!(
                "{} may ask the cluster's DNS over UDP but not over TCP: answers that do not fit into a datagram are lost",
                policy.subject
            );
            let udp = udp_entry(policy, case.site);
            let path = udp.map_or_else(|| policy.egress.path.clone(), |port| port.path.clone());
            let fix = match udp {
                Some(port) => Some(Fix::RepeatPort { port: port.path.clone(), protocol: Protocol::Tcp }),
                None => allow(case.site, &[Protocol::Tcp], &policy.egress),
            };
            let help = format!("allow TCP too to {}", ways(case.site));
            findings.add::<Self>(case, path, message, help, fix);
        }
    }
}

/// The entry of the policy that allows nothing but DNS over UDP, if there is one.
fn udp_entry<'a>(policy: &'a Policy, site: &Site) -> Option<&'a crate::model::Port> {
    policy.egress.rules.iter().find_map(|rule| match &rule.ports {
        Ports::Any | Ports::But { .. } | Ports::OfService => None,
        Ports::Only(ports) => ports.iter().find(|port| {
            port.protocol == Some(Protocol::Udp)
                && site.cluster_dns.iter().any(|dns| port.numbers == Numbers::Range(dns.port(), dns.port()))
        }),
    })
}
