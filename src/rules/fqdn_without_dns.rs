//! See [`FqdnWithoutDns`].

use std::cell::Cell;
use std::collections::HashSet;

use super::shared::cluster_dns::cluster_dns_entries;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Action, Body, DomainPattern, Filter, Fix, Path, Policy, Port, Ports, Protocol, Rule as ModelRule, Stage, Standing,
    Surroundings, Who, concern_all,
};
use crate::view::{ClusterDns, Scene, Site};

rule! {
    /// Egress to a DNS name is allowed, but no DNS rule lets the agent observe lookups of that name.
    ///
    /// ## Why
    ///
    /// The Cilium agent learns the addresses of a name from the DNS responses that pass its proxy. Only lookups that a
    /// rule with `rules.dns` allows are redirected to the proxy. Without such a rule `toFQDNs` matches no address: the
    /// pods resolve the name, and every connection to it is dropped.
    ///
    /// ## What it checks
    ///
    /// - Cilium: each `toFQDNs` entry. The policies for the same pods need a DNS rule with a pattern that matches the
    ///   name; several policies may cover the pods together. One name that both the pattern and the entry match is
    ///   enough. The change or deletion of a policy is reported too if it removes the DNS rule for names of another
    ///   policy.
    /// - ClusterNetworkPolicy: not checked, because its `domainNames` do not depend on DNS rules.
    /// - NetworkPolicy and Calico: not checked, because they have no names.
    ///
    /// Cilium redirects lookups to the proxy by destination, protocol and port. So a DNS rule counts only if it may
    /// match UDP to a `clusterDNS` entry; a DNS rule only for TCP, or only for other servers, does not. If pods query
    /// other DNS servers, add them to `clusterDNS`.
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
    "fqdn-without-dns", Deny, adds_up = true,
    #[derive(Default)]
    pub struct FqdnWithoutDns {}
}

impl Rule for FqdnWithoutDns {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies() {
            let mut watching: Option<Watching<'_>> = None;
            let mut mending: Option<Option<Fix>> = None;
            for (path, name) in names(policy) {
                let watching = watching.get_or_insert_with(|| Watching::around(case.supposing(), case.site, policy));
                let seen = watching.seen(name, policy);
                if seen == Seen::Everywhere {
                    continue;
                }
                let message = text!(
                    "egress to {name} matches no address, because no DNS rule covers lookups of this name by {}",
                    policy.subject
                );
                let fix = mending.get_or_insert_with(|| fix(policy, case));
                let help = match seen {
                    Seen::Nowhere if fix.is_none() => watching.misfit(name),
                    _ => None,
                };
                let help = help.unwrap_or_else(|| watching.help(case));
                findings.add::<Self>(case, path.clone(), message, help, fix.clone());
            }
        }
        check_others(case, findings);
    }
}

/// Reports names that other policies allow egress to, if the agent sees their lookups before the change and not after
/// it.
fn check_others(case: &Case<'_>, findings: &mut Findings) {
    if case.is_new() || !matches!(case.change.object().body, Body::Policies(_)) {
        return;
    }
    let naming = case.others(|policy| names(policy).next().is_some());
    let has_lookups =
        |old: &Policy| old.standing == Standing::InForce && lookups(old, case.site, case.view).next().is_some();
    if naming.is_empty() || !case.change.old().is_some_and(|old| old.policies().iter().any(has_lookups)) {
        return;
    }
    let (mut found, verb) = (0, case.verb());
    for policy in naming {
        let watching = |scene| Watching::around(scene, case.site, policy);
        let (before, after) = (watching(case.before()), watching(case.after()));
        let is_seen = |watching: &Watching<'_>, name| watching.seen(name, policy) == Seen::Everywhere;
        let lost = names(policy).find(|(_, name)| is_seen(&before, name) && !is_seen(&after, name));
        let Some((_, name)) = lost else { continue };
        let message = text!(
            "{verb} this policy removes the only DNS rule for {name}, so egress to {name} in {} would match no address",
            policy.object
        );
        let help = "first add a DNS rule for these names to another policy for the same pods";
        findings.add::<FqdnWithoutDns>(case, Path::root().field("spec"), message, help.into(), None);
        found += 1;
        if found == Case::MOST_OTHERS {
            return;
        }
    }
}

/// The names that a policy allows egress to, with their paths. Cluster-wide stages do not learn names from lookups.
fn names(policy: &Policy) -> impl Iterator<Item = (&Path, &DomainPattern)> {
    let rules = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
    let peers = rules.filter(|_| policy.stage == Stage::Policies).flat_map(|rule| rule.peers.listed());
    peers.filter_map(|peer| match &peer.who {
        Who::Domain(name) => Some((&peer.path, name)),
        _ => None,
    })
}

/// The rules of a policy that redirect lookups to a proxy, each with the names that it allows.
fn filters(policy: &Policy) -> impl Iterator<Item = (&ModelRule, &[DomainPattern])> {
    let rules = policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow);
    rules.filter_map(|rule| match &rule.filter {
        Some(Filter::Lookups(patterns)) => Some((rule, &**patterns)),
        Some(Filter::Requests) | None => None,
    })
}

/// The names whose lookups at the cluster DNS a policy redirects to a proxy.
fn lookups<'a>(
    policy: &'a Policy,
    site: &'a Site,
    around: &'a dyn Surroundings,
) -> impl Iterator<Item = &'a DomainPattern> {
    filters(policy).filter(|(rule, _)| is_for_dns(rule, site, around)).flat_map(|(_, patterns)| patterns)
}

/// Returns true if a rule may match UDP to the cluster DNS. Without `clusterDNS` entries any rule may.
fn is_for_dns(rule: &ModelRule, site: &Site, around: &dyn Surroundings) -> bool {
    let means = |dns: &ClusterDns| rule.means(&dns.end(), dns.traffic(Protocol::Udp), around) != Some(false);
    site.cluster_dns.is_empty() || site.cluster_dns.iter().any(means)
}

/// The share of pods whose lookups of a name pass a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// All pods that the policy selects.
    Everywhere,
    /// Some of the pods, as far as known.
    Somewhere,
    /// No pods.
    Nowhere,
}

/// The policies for some pods that redirect lookups to a proxy, each with the names that it allows.
struct Watching<'a> {
    scene: Scene<'a>,
    policies: Vec<(&'a Policy, Lookups<'a>)>,
    /// Some of these names, for the help text.
    told: Vec<&'a DomainPattern>,
    /// True if there are DNS rules that do not match queries to the cluster DNS.
    has_others: bool,
    /// Remaining steps for comparing patterns. Beyond the limit a name counts as covered: a request is not denied
    /// because its list is too long to compare.
    left: Cell<usize>,
}

/// Maximum number of steps for comparing the patterns of one policy: about 20,000 patterns of usual length.
const STEPS: usize = 8_000_000;

/// Maximum number of DNS rule names in a help text.
const MOST_TOLD: usize = 3;

/// Names and patterns of names.
#[derive(Default)]
struct Lookups<'a> {
    exact: HashSet<String>,
    patterns: Vec<&'a DomainPattern>,
}

impl<'a> Watching<'a> {
    fn around(scene: Scene<'a>, site: &Site, policy: &'a Policy) -> Self {
        let mut watching =
            Self { scene, policies: Vec::new(), told: Vec::new(), has_others: false, left: Cell::new(STEPS) };
        for other in scene.policies_for(&policy.subject) {
            let mut seen = Lookups::default();
            for (rule, patterns) in filters(other) {
                if is_for_dns(rule, site, &scene) {
                    patterns.iter().for_each(|pattern| watching.add(pattern, &mut seen));
                } else {
                    watching.has_others = true;
                }
            }
            if !seen.exact.is_empty() || !seen.patterns.is_empty() {
                watching.policies.push((other, seen));
            }
        }
        watching
    }

    /// Adds a pattern to the patterns of its policy.
    fn add(&mut self, pattern: &'a DomainPattern, seen: &mut Lookups<'a>) {
        // Keeps one more than the help text names, to know that there are more.
        if self.told.len() <= MOST_TOLD && !self.told.contains(&pattern) {
            self.told.push(pattern);
        }
        match pattern.exact() {
            Some(name) => {
                seen.exact.insert(name);
            }
            None => seen.patterns.push(pattern),
        }
    }

    /// The share of pods of a policy whose lookups of a name pass a proxy.
    fn seen(&self, name: &DomainPattern, policy: &'a Policy) -> Seen {
        charge(1 + self.policies.len());
        let exact = name.exact();
        let overlaps = |pattern: &DomainPattern| match self.left.get().checked_sub(pattern.steps(name)) {
            Some(left) => {
                charge(1 + pattern.steps(name) / 16);
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
        let watching: Vec<&Policy> = watching.map(|(policy, _)| *policy).collect();
        let is_nowhere = watching.is_empty();
        if concern_all(watching, &policy.subject, &self.scene) {
            Seen::Everywhere
        } else if is_nowhere {
            Seen::Nowhere
        } else {
            Seen::Somewhere
        }
    }

    /// The help text for a name that matches none of the existing DNS rules; none if there are no such rules.
    fn misfit(&self, name: &DomainPattern) -> Option<String> {
        let told: Vec<String> = self.told.iter().take(MOST_TOLD).map(ToString::to_string).collect();
        let more = if self.told.len() > MOST_TOLD { " and others" } else { "" };
        (!told.is_empty()).then(|| {
            text!(
                "add {name} or a matching pattern to the DNS rules; existing patterns: {}{more} (`*` as part of a pattern \
                 matches within one label)",
                told.join(", ")
            )
        })
    }

    /// The help text for a name whose lookups do not pass a proxy, or not for all pods.
    fn help(&self, case: &Case<'_>) -> String {
        let add =
            "add `rules: {dns: [{matchPattern: \"*\"}]}` to the ports of the rule that allows DNS over UDP and TCP";
        if self.policies.is_empty() && self.has_others {
            return text!("{add}; the existing DNS rules do not cover UDP to {}", cluster_dns_entries(case));
        }
        add.to_owned()
    }
}

/// Maximum number of port lists that a fix changes.
const MOST_LISTS: usize = 16;

/// A fix that adds `rules.dns` to the policy's own rules for DNS.
fn fix(policy: &Policy, case: &Case<'_>) -> Option<Fix> {
    let (mut lists, mut sees_udp) = (Vec::new(), false);
    for rule in policy.egress.rules.iter().filter(|rule| rule.action == Action::Allow && rule.filter.is_none()) {
        let Ports::Only(ports) = &rule.ports else { continue };
        // Some conditions cannot be combined with a DNS proxy.
        if !rule.conditions.is_empty() {
            continue;
        }
        let may_mean = |dns: &&ClusterDns| rule.peers.mean(&dns.end(), case.view) != Some(false);
        let servers: Vec<&ClusterDns> = case.site.cluster_dns.iter().filter(may_mean).collect();
        let asks = |port: &Port, protocol| {
            port.known_numbers().is_some_and(|(first, last)| first == last)
                && servers.iter().any(|dns| port.means(dns.traffic(protocol)) == Some(true))
        };
        // The proxy accepts only DNS, so the list must not contain other ports.
        let is_other = |port: &&Port| !asks(port, Protocol::Udp) && !asks(port, Protocol::Tcp);
        let mixed: HashSet<Path> = ports.iter().filter(is_other).map(|port| port.path.parent()).collect();
        for port in ports {
            let list = port.path.parent();
            if mixed.contains(&list) {
                continue;
            }
            sees_udp |= asks(port, Protocol::Udp);
            if lists.last() != Some(&list) {
                lists.push(list);
            }
        }
        if lists.len() > MOST_LISTS {
            return None;
        }
    }
    // A rule for TCP alone would see almost no lookups.
    sees_udp.then_some(Fix::WatchLookups { lists })
}
