//! See [`FqdnWithoutDns`].

use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, DomainPattern, Filter, Fix, Policy, Ports, Stage, Who, concern_all};

rule! {
    /// Egress to a name is allowed, and no DNS rule lets the agent learn the addresses of the name.
    ///
    /// ## Why
    ///
    /// Cilium's agent learns the addresses of a name from the DNS answers that pass its proxy, and only lookups that a rule
    /// with `rules.dns` allows are sent there. Without one `toFQDNs` means no address at all: the pods resolve the name,
    /// and every connection to it is dropped.
    ///
    /// ## What it looks at
    ///
    /// - Cilium: each `toFQDNs` entry. Some policy that concerns the same pods has to have a DNS rule with a pattern that
    ///   the name fits; several policies may cover the pods together. A pattern and a name that have one name in common
    ///   are enough.
    /// - ClusterNetworkPolicy: not concerned, its `domainNames` do not depend on rules for DNS.
    /// - NetworkPolicy and Calico: not concerned, they have no names.
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
    ///   - toFQDNs:
    ///     - matchName: www.google.com
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
    ///     - matchName: www.google.com
    ///     toPorts:
    ///     - ports:
    ///       - port: "443"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "fqdn-without-dns", Deny,
    #[derive(Default)]
    pub struct FqdnWithoutDns {}
}

impl Rule for FqdnWithoutDns {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        // Stages of the cluster do not learn names from lookups.
        for policy in case.policies().iter().filter(|policy| policy.stage == Stage::Policies) {
            let mut around: Option<Vec<&Policy>> = None;
            for rule in policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow) {
                for peer in rule.peers.listed() {
                    let Who::Domain(name) = &peer.who else { continue };
                    let around = around.get_or_insert_with(|| case.after().policies_for(&policy.subject));
                    let watching = around.iter().copied().filter(|other| watches(other, name));
                    if concern_all(watching, &policy.subject, &case.after()) {
                        continue;
                    }
                    let message = format!(
                        "egress to {name} is allowed, but no DNS rule covers its lookups by {}: its addresses are never \
                         learnt, and the rule matches nothing",
                        policy.subject
                    );
                    let help = "add `rules: {dns: [{matchPattern: \"*\"}]}` to the ports of the rule that allows DNS";
                    findings.add::<Self>(case, peer.path.clone(), message, help.into(), fix(policy, case));
                }
            }
        }
    }
}

/// Whether lookups of a name by the pods of a policy pass a proxy.
fn watches(policy: &Policy, name: &DomainPattern) -> bool {
    let rules = policy.allow_rules().filter(|(direction, _)| *direction == Direction::Egress);
    rules.filter_map(|(_, rule)| rule.filter.as_ref()).any(|filter| match filter {
        Filter::Lookups(patterns) => patterns.iter().any(|pattern| pattern.overlaps(name)),
        Filter::Requests => false,
    })
}

/// The policy's own rule for DNS, made to watch lookups.
fn fix(policy: &Policy, case: &Case<'_>) -> Option<Fix> {
    let is_dns = |number| case.site.cluster_dns.iter().any(|dns| dns.port() == number);
    policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow && rule.filter.is_none()).find_map(|rule| {
        let Ports::Only(ports) = &rule.ports else { return None };
        let port = ports.iter().find(|port| port.known_numbers().is_some_and(|(a, b)| a == b && is_dns(a)))?;
        Some(Fix::WatchLookups { port: port.path.clone() })
    })
}
