//! See [`DnsUdpOnly`].

use super::shared::attribution::{Blocker, can_stop};
use super::shared::cluster_dns::{allow_cluster_dns, cluster_dns_entries, server_stopped, stopped};
use super::{Case, Findings, Rule};
use crate::model::{Action, Fix, Numbers, Order, Policy, Port, Ports, Protocol, Standing};

rule! {
    /// Pods can query the cluster DNS over UDP, but not over TCP.
    ///
    /// ## Why
    ///
    /// A DNS response that does not fit into a datagram is truncated, and the resolver retries over TCP (RFC 1035
    /// §4.2.2, RFC 7766). Without TCP the lookup fails, but only for names with long responses: large sets of
    /// addresses, signed zones, long TXT records. It works in every test and fails in production.
    ///
    /// ## What it checks
    ///
    /// The same as `dns-blocked`: all `clusterDNS` entries, and all policies added up, in each dialect. Where
    /// `dns-blocked` fires, this rule does not. Policies for the DNS pods themselves are checked for ingress: pods of
    /// other namespaces have to reach them over TCP too. A Cilium port without a protocol, or with `ANY`, matches both
    /// UDP and TCP.
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
    "dns-udp-only", Warn, adds_up = true,
    #[derive(Default)]
    pub struct DnsUdpOnly {}
}

impl Rule for DnsUdpOnly {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies().iter().filter(|policy| can_stop(&policy.egress)) {
            let Some(stop) = tcp_stop(case, policy).filter(|stop| stop.is_own()) else { continue };
            let message = text!(
                "{} can reach the cluster DNS over UDP but not over TCP, so answers that exceed a UDP datagram fail",
                policy.subject
            );
            let (path, help, fix) = match stop {
                // In additive policies a deny rule takes precedence over every allow rule.
                Blocker::Rule(rule) if policy.order == Order::Additive => {
                    let help = text!("narrow this rule so that it does not deny TCP to {}", cluster_dns_entries(case));
                    (rule.path.clone(), help, None)
                }
                Blocker::Rule(rule) => {
                    let help = text!("allow TCP to {} before this rule", cluster_dns_entries(case));
                    (rule.path.clone(), help, allow_cluster_dns(case, &[Protocol::Tcp], &policy.egress))
                }
                Blocker::Isolation | Blocker::Nothing | Blocker::Others => {
                    let help = text!("also allow TCP to {}", cluster_dns_entries(case));
                    match udp_entry(case, policy) {
                        Some(port) => {
                            let fix = Fix::RepeatPort { port: port.path.clone(), protocol: Protocol::Tcp };
                            (port.path.clone(), help, Some(fix))
                        }
                        None => {
                            let fix = allow_cluster_dns(case, &[Protocol::Tcp], &policy.egress);
                            (policy.egress.path.clone(), help, fix)
                        }
                    }
                }
            };
            findings.add::<Self>(case, path, message, help, fix);
        }
        check_servers(case, findings);
    }
}

/// Reports policies for the DNS pods that allow ingress over UDP, but not over TCP.
fn check_servers(case: &Case<'_>, findings: &mut Findings) {
    let in_force = case.policies().iter().filter(|policy| policy.standing == Standing::InForce);
    for policy in in_force.filter(|policy| can_stop(&policy.ingress)) {
        if server_stopped(case, policy, Protocol::Udp).is_some() {
            continue;
        }
        let Some((server, stop)) = server_stopped(case, policy, Protocol::Tcp) else { continue };
        let path = match stop {
            Blocker::Rule(rule) => &rule.path,
            Blocker::Isolation | Blocker::Nothing | Blocker::Others => &policy.ingress.path,
        };
        let message = text!(
            "pods of other namespaces can reach the cluster DNS ({}) over UDP but not over TCP, so answers that exceed a UDP \
             datagram fail; this policy applies to {}",
            server.words(Protocol::Tcp),
            policy.subject
        );
        let help = text!("allow ingress on TCP port {} from all namespaces", server.port_over(Protocol::Tcp));
        findings.add::<DnsUdpOnly>(case, path.clone(), message, help, None);
    }
}

/// Finds the cause that blocks TCP to the cluster DNS where UDP passes. None if UDP passes nowhere, or if TCP passes
/// somewhere.
fn tcp_stop<'a>(case: &Case<'a>, policy: &'a Policy) -> Option<Blocker<'a>> {
    let scene = case.supposing();
    let around = scene.policies_for(&policy.subject);
    let mut found: Option<Blocker<'a>> = None;
    for dns in &case.site.cluster_dns {
        let stop = |protocol| stopped(case.view, scene, &around, policy, dns, protocol).0;
        if stop(Protocol::Udp) != Blocker::Nothing {
            continue;
        }
        match stop(Protocol::Tcp) {
            Blocker::Nothing => return None,
            own if own.is_own() => found = Some(own),
            others => found = found.or(Some(others)),
        }
    }
    found
}

/// The port entry of the policy that allows only UDP to the DNS port.
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
