//! See [`DnsUdpOnly`].

use super::blame::{Stop, stopped_by, stops};
use super::dns_blocked::{allow, serves, ways};
use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, Fix, Numbers, Order, Policy, Port, Ports, Protocol, Rule as TrafficRule};

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
            let (path, help, fix) = match denied_by(case, policy) {
                // Where policies add up, nothing that is allowed comes before a denial.
                Some(rule) if policy.order == Order::Additive => {
                    let help = format!("leave TCP to the cluster's DNS out of what is denied: {}", ways(case.site));
                    (rule.path.clone(), help, None)
                }
                Some(rule) => {
                    let help = format!("allow TCP too to {}, before it is denied", ways(case.site));
                    (rule.path.clone(), help, allow(case.site, &[Protocol::Tcp], &policy.egress))
                }
                None => {
                    let help = format!("allow TCP too to {}", ways(case.site));
                    match udp_entry(case, policy) {
                        Some(port) => {
                            let fix = Fix::RepeatPort { port: port.path.clone(), protocol: Protocol::Tcp };
                            (port.path.clone(), help, Some(fix))
                        }
                        None => {
                            let fix = allow(case.site, &[Protocol::Tcp], &policy.egress);
                            (policy.egress.path.clone(), help, fix)
                        }
                    }
                }
            };
            findings.add::<Self>(case, path, message, help, fix);
        }
    }
}

/// The rule of the policy that denies the cluster's DNS over TCP, if it is one that does.
fn denied_by<'a>(case: &Case<'a>, policy: &'a Policy) -> Option<&'a TrafficRule> {
    let around = case.after().policies_for(&policy.subject);
    case.site.cluster_dns.iter().find_map(|dns| {
        let tcp = (dns.end(), dns.traffic(Protocol::Tcp));
        match stopped_by(case.after(), &around, policy, Direction::Egress, tcp) {
            Stop::Rule(rule) => Some(rule),
            Stop::Nothing | Stop::Isolation => None,
        }
    })
}

/// The entry of the policy that allows nothing but DNS over UDP, if there is one.
fn udp_entry<'a>(case: &Case<'_>, policy: &'a Policy) -> Option<&'a Port> {
    let allowing = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
    allowing.filter_map(|rule| if let Ports::Only(ports) = &rule.ports { Some((rule, ports)) } else { None }).find_map(
        |(rule, ports)| {
            let mut ways = case.site.cluster_dns.iter();
            let dns = ways.find(|dns| rule.means(&dns.end(), dns.traffic(Protocol::Udp), case.view) == Some(true))?;
            let is_dns = |port: &&Port| {
                port.protocol == Some(Protocol::Udp) && port.numbers == Numbers::Range(dns.port(), dns.port())
            };
            ports.iter().find(is_dns)
        },
    )
}
