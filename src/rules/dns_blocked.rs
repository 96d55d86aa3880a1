//! See [`DnsBlocked`].

use serde::Deserialize;

use super::{Case, Change, Findings, Rule};
use crate::model::{
    Body, Direction, Fix, NAME_LABEL, Namespaces, Numbers, Path, Peer, Pods, Policy, Port, Protocol, Selector, Side,
    Who,
};
use crate::view::{ClusterDns, Scene, Site, allows, lets_through};

rule! {
    /// Pods are isolated for egress, and nothing lets them ask the cluster's DNS over UDP.
    ///
    /// ## Why
    ///
    /// The first thing that nearly every connection does is look up a name. A policy that isolates pods for egress and
    /// forgets DNS cuts them off from everything they talk to by name, and it looks like an outage of all of that.
    ///
    /// ## What it looks at
    ///
    /// All policies that concern the pods, added up: DNS may come from the policy itself, from a baseline, or from any
    /// other policy whose selector is proved to cover the same pods. It also looks at the deletion or the change of a
    /// policy that takes the last allowance from pods which another policy isolates. A policy that does not isolate
    /// egress is never concerned.
    ///
    /// The ways to the cluster's DNS are those of `clusterDNS` in the configuration, and any one of them is enough. A
    /// block of all addresses counts as reaching the DNS pods, since every implementation that compares the addresses
    /// of pods with blocks lets it through; any smaller block does not, since nobody knows what it holds tomorrow.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: backend-to-database
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backend
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: postgres
    ///     ports:
    ///     - protocol: TCP
    ///       port: 5432
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: backend-to-database
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backend
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: postgres
    ///     ports:
    ///     - protocol: TCP
    ///       port: 5432
    ///   - to:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: kube-system
    ///       podSelector:
    ///         matchLabels:
    ///           k8s-app: kube-dns
    ///     ports:
    ///     - protocol: UDP
    ///       port: 53
    ///     - protocol: TCP
    ///       port: 53
    /// ```
    ///
    /// ## Settings
    ///
    /// - `scope`: `union` (the default) counts all policies; `policy` asks each policy to carry DNS itself.
    /// - `inject`: `true` lets `/mutate` add the missing rule, so that the policy is not denied. `false` by default.
    "dns-blocked", Deny,
    #[derive(Default)]
    pub struct DnsBlocked {
        scope: Scope,
        inject: bool,
    }
}

/// Whose allowances count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// Those of all policies.
    #[default]
    Union,
    /// Those of the policy at hand only.
    Policy,
}

impl Rule for DnsBlocked {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies().iter().filter(|policy| policy.egress.isolates) {
            let served = match self.scope {
                Scope::Union => serves(case.after(), case.site, policy, &[Protocol::Udp], |_| true),
                Scope::Policy => serves(case.after(), case.site, policy, &[Protocol::Udp], |other| {
                    std::ptr::eq(other, policy) || other.object.is_same_object(&policy.object)
                }),
            };
            if !served {
                let message = format!(
                    "{} are isolated for egress and nothing lets them ask the cluster's DNS over UDP: they can resolve \
                     no name",
                    policy.subject
                );
                let help = format!(
                    "add an egress rule on UDP and TCP to {}, or cover the same pods by another policy that has one",
                    ways(case.site)
                );
                let fix = allow(case.site, &[Protocol::Udp, Protocol::Tcp], &policy.egress);
                findings.add::<Self>(case, policy.egress.path.clone(), message, help, fix);
            }
        }
        if self.scope == Scope::Union {
            check_others(case, findings);
        }
    }

    fn repairs(&self) -> bool {
        self.inject
    }
}

/// Other policies whose pods had DNS from the object before the change, and have it from nowhere after.
fn check_others(case: &Case<'_>, findings: &mut Findings) {
    let object = case.change.object();
    let Some(namespace) = object.namespace() else { return };
    if matches!(case.change, Change::Write { old: None, .. }) || matches!(object.body, Body::Workload(_)) {
        return;
    }
    let verb = match case.change {
        Change::Write { .. } => "changing",
        Change::Delete { .. } => "deleting",
    };
    let isolated: Vec<&Policy> = case
        .after()
        .policies(namespace)
        .filter(|policy| policy.egress.isolates && !policy.object.is_same_object(&object.id))
        .collect();
    // In this order, since what was there before is read only if somebody asks for it.
    let opened = |policy: &Policy| {
        let mut ways = case.site.cluster_dns.iter().map(|dns| dns.target(Protocol::Udp));
        ways.any(|target| allows(policy, &target, case.view))
    };
    if isolated.is_empty() || !case.change.old().is_some_and(|old| old.policies().iter().any(opened)) {
        return;
    }
    for policy in isolated {
        let has = |scene| serves(scene, case.site, policy, &[Protocol::Udp], |_| true);
        if !has(case.after()) && has(case.before()) {
            let message = format!(
                "{verb} it takes the last way to the cluster's DNS from {}, which {} isolates for egress",
                policy.subject, policy.object
            );
            let help = "let another policy allow DNS to these pods first, or remove the one that isolates them";
            findings.add::<DnsBlocked>(case, Path::root().field("spec"), message, help.into(), None);
        }
    }
}

/// Whether one way to the cluster's DNS is open for all pods of the policy's subject, over each of the protocols.
pub(super) fn serves<'a>(
    scene: Scene<'a>,
    site: &Site,
    policy: &'a Policy,
    protocols: &[Protocol],
    counts: impl Fn(&Policy) -> bool,
) -> bool {
    site.cluster_dns.iter().any(|dns| {
        protocols.iter().all(|protocol| lets_through(scene, &policy.subject, &dns.target(*protocol), &counts))
    })
}

/// The ways to the cluster's DNS, for advice.
pub(super) fn ways(site: &Site) -> String {
    let ways: Vec<String> = site.cluster_dns.iter().map(ClusterDns::to_string).collect();
    ways.join("; or ")
}

/// The rule that opens the first way to the cluster's DNS.
pub(super) fn allow(site: &Site, protocols: &[Protocol], side: &Side) -> Option<Fix> {
    let dns = site.cluster_dns.first()?;
    let peer = |who| Peer { path: Path::root(), who };
    let peers = match dns.pods() {
        Some((namespace, labels)) => vec![peer(Who::Pods(Pods {
            namespaces: Namespaces::Matching(Selector::equals(NAME_LABEL, namespace)),
            labels: Some(Selector::of(labels)),
        }))],
        None => dns
            .addresses()
            .iter()
            .map(|address| peer(Who::Addresses(crate::model::Block::whole((*address).into()))))
            .collect(),
    };
    let ports = protocols
        .iter()
        .map(|protocol| Port {
            path: Path::root(),
            protocol: Some(*protocol),
            numbers: Numbers::Range(dns.port(), dns.port()),
        })
        .collect();
    let has_rules = !side.rules.is_empty();
    Some(Fix::Allow { rules: side.path.clone(), has_rules, direction: Direction::Egress, peers, ports })
}
