//! See [`FqdnWithoutDns`].

use std::collections::HashSet;

use super::{Case, Findings, Rule};
use crate::model::{Action, DomainPattern, Filter, Fix, Policy, Ports, Stage, Who, concern_all};

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
            let allowing = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
            let names = allowing.flat_map(|rule| rule.peers.listed()).filter_map(|peer| match &peer.who {
                Who::Domain(name) => Some((&peer.path, name)),
                _ => None,
            });
            let mut watching: Option<Watching<'_>> = None;
            for (path, name) in names {
                let watching = watching.get_or_insert_with(|| Watching::around(case, policy));
                if watching.covers(name, policy, case) {
                    continue;
                }
                let message = format!(
                    "egress to {name} is allowed, but no DNS rule covers its lookups by {}: its addresses are never \
                     learnt, and the rule matches nothing",
                    policy.subject
                );
                let help = "add `rules: {dns: [{matchPattern: \"*\"}]}` to the ports of the rule that allows DNS";
                findings.add::<Self>(case, path.clone(), message, help.into(), fix(policy, case));
            }
        }
    }
}

/// The policies around some pods that let lookups through a proxy, each with the names that it lets through.
struct Watching<'a>(Vec<(&'a Policy, Names<'a>)>);

/// Names and patterns of names.
#[derive(Default)]
struct Names<'a> {
    exact: HashSet<String>,
    patterns: Vec<&'a DomainPattern>,
}

impl<'a> Watching<'a> {
    fn around(case: &Case<'a>, policy: &'a Policy) -> Self {
        let mut watching = Vec::new();
        for other in case.supposing().policies_for(&policy.subject) {
            let mut names = Names::default();
            let filters = other.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
            for filter in filters.filter_map(|rule| rule.filter.as_ref()) {
                let Filter::Lookups(patterns) = filter else { continue };
                for pattern in patterns {
                    match pattern.exact() {
                        Some(name) => {
                            names.exact.insert(name);
                        }
                        None => names.patterns.push(pattern),
                    }
                }
            }
            if !names.exact.is_empty() || !names.patterns.is_empty() {
                watching.push((other, names));
            }
        }
        Self(watching)
    }

    /// Whether the lookups of a name by all pods of a policy pass a proxy.
    fn covers(&self, name: &DomainPattern, policy: &'a Policy, case: &Case<'a>) -> bool {
        let exact = name.exact();
        let watching = self.0.iter().filter(|(_, names)| match &exact {
            Some(exact) => names.exact.contains(exact) || names.patterns.iter().any(|pattern| pattern.overlaps(name)),
            None => {
                names.patterns.iter().any(|pattern| pattern.overlaps(name))
                    || names.exact.iter().any(|exact| DomainPattern::name(exact).overlaps(name))
            }
        });
        concern_all(watching.map(|(policy, _)| *policy), &policy.subject, &case.supposing())
    }
}

/// The policy's own rule for DNS, made to watch lookups.
fn fix(policy: &Policy, case: &Case<'_>) -> Option<Fix> {
    let is_dns = |number| case.site.cluster_dns.iter().any(|dns| dns.port() == number);
    policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow && rule.filter.is_none()).find_map(|rule| {
        let Ports::Only(ports) = &rule.ports else { return None };
        // The proxy takes nothing but lookups, so there must be nothing else.
        let all_dns = ports.iter().all(|port| port.known_numbers().is_some_and(|(a, b)| a == b && is_dns(a)));
        ports.first().filter(|_| all_dns).map(|port| Fix::WatchLookups { port: port.path.clone() })
    })
}
