//! See [`FqdnWithoutDns`].

use std::cell::Cell;
use std::collections::HashSet;

use super::{Case, Findings, Rule};
use crate::model::{Action, Body, DomainPattern, Filter, Fix, Path, Policy, Ports, Stage, Standing, Who, concern_all};
use crate::view::Scene;

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
    ///   are enough. Also the deletion or the change of a policy that takes the DNS rule for names of another policy.
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
        for policy in case.policies() {
            let mut watching: Option<Watching<'_>> = None;
            for (path, name) in names(policy) {
                let watching = watching.get_or_insert_with(|| Watching::around(case.supposing(), policy));
                if watching.covers(name, policy) {
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
        check_others(case, findings);
    }
}

/// Names that other policies allow egress to, whose lookups the agent sees before the change and not after it.
fn check_others(case: &Case<'_>, findings: &mut Findings) {
    if case.is_new() || !matches!(case.change.object().body, Body::Policies(_)) {
        return;
    }
    let naming = case.others(|policy| names(policy).next().is_some());
    let has_lookups = |old: &Policy| old.standing == Standing::InForce && lookups(old).next().is_some();
    if naming.is_empty() || !case.change.old().is_some_and(|old| old.policies().iter().any(has_lookups)) {
        return;
    }
    let (mut found, verb) = (0, case.verb());
    for policy in naming {
        let (before, after) = (Watching::around(case.before(), policy), Watching::around(case.after(), policy));
        let lost = names(policy).find(|(_, name)| before.covers(name, policy) && !after.covers(name, policy));
        let Some((_, name)) = lost else { continue };
        let message = format!(
            "{verb} it takes the DNS rule by which the agent learns the addresses of {name}: {} allows egress to it, and \
             would match nothing",
            policy.object
        );
        let help = "let another policy have a DNS rule for these names and the same pods first";
        findings.add::<FqdnWithoutDns>(case, Path::root().field("spec"), message, help.into(), None);
        found += 1;
        if found == Case::MOST_OTHERS {
            return;
        }
    }
}

/// The names that a policy allows egress to, each with its place. Stages of the cluster do not learn names from lookups.
fn names(policy: &Policy) -> impl Iterator<Item = (&Path, &DomainPattern)> {
    let rules = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
    let peers = rules.filter(|_| policy.stage == Stage::Policies).flat_map(|rule| rule.peers.listed());
    peers.filter_map(|peer| match &peer.who {
        Who::Domain(name) => Some((&peer.path, name)),
        _ => None,
    })
}

/// The names whose lookups a policy sends through a proxy.
fn lookups(policy: &Policy) -> impl Iterator<Item = &DomainPattern> {
    let rules = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
    let filters = rules.filter_map(|rule| match &rule.filter {
        Some(Filter::Lookups(patterns)) => Some(patterns),
        Some(Filter::Requests) | None => None,
    });
    filters.flatten()
}

/// The policies around some pods that let lookups through a proxy, each with the names that it lets through.
struct Watching<'a> {
    scene: Scene<'a>,
    policies: Vec<(&'a Policy, Lookups<'a>)>,
    /// How many more steps patterns are compared for. Past that a name counts as covered: nobody is refused for a list that is
    /// too long to be looked through.
    left: Cell<usize>,
}

/// How many steps the patterns of one policy are compared for: some 20,000 of usual length.
const STEPS: usize = 8_000_000;

/// Names and patterns of names.
#[derive(Default)]
struct Lookups<'a> {
    exact: HashSet<String>,
    patterns: Vec<&'a DomainPattern>,
}

impl<'a> Watching<'a> {
    fn around(scene: Scene<'a>, policy: &'a Policy) -> Self {
        let mut policies = Vec::new();
        for other in scene.policies_for(&policy.subject) {
            let mut seen = Lookups::default();
            for pattern in lookups(other) {
                match pattern.exact() {
                    Some(name) => {
                        seen.exact.insert(name);
                    }
                    None => seen.patterns.push(pattern),
                }
            }
            if !seen.exact.is_empty() || !seen.patterns.is_empty() {
                policies.push((other, seen));
            }
        }
        Self { scene, policies, left: Cell::new(STEPS) }
    }

    /// Whether the lookups of a name by all pods of a policy pass a proxy.
    fn covers(&self, name: &DomainPattern, policy: &'a Policy) -> bool {
        let exact = name.exact();
        let overlaps = |pattern: &DomainPattern| match self.left.get().checked_sub(pattern.steps(name)) {
            Some(left) => {
                self.left.set(left);
                pattern.overlaps(name)
            }
            None => true,
        };
        let watching = self.policies.iter().filter(|(_, seen)| {
            let known = exact.as_ref().is_some_and(|exact| seen.exact.contains(exact));
            known
                || seen.patterns.iter().any(|pattern| overlaps(pattern))
                || exact.is_none() && seen.exact.iter().any(|exact| overlaps(&DomainPattern::name(exact)))
        });
        concern_all(watching.map(|(policy, _)| *policy), &policy.subject, &self.scene)
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
