//! See [`DnsBlocked`].

use serde::Deserialize;

use super::blame::{Stop, stopped_by, stops};
use super::{Case, Change, Findings, Rule};
use crate::model::{
    Body, Direction, End, Fix, NAME_LABEL, Namespaces, Numbers, Order, Path, Peer, Pods, Policy, Port, Protocol,
    Selector, Side, Traffic, Who,
};
use crate::view::{ClusterDns, Scene, Site};

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
    /// All policies that concern the pods, added up over all dialects: DNS may come from the policy itself, from a baseline,
    /// or from any other policy whose selector is proved to cover the same pods. It also looks at the deletion or the
    /// change of a policy that takes the last allowance from pods which another policy isolates. A policy that neither
    /// isolates egress nor denies any is never concerned, and what somebody else's rule denies is not blamed on it.
    ///
    /// - NetworkPolicy: those that isolate egress, by `policyTypes` or by having egress rules.
    /// - Cilium: `egress` and `egressDeny` isolate, unless `enableDefaultDeny` says otherwise; a denial counts before all
    ///   that is allowed. DNS rules (`rules.dns`) count as allowing DNS, whatever names they are for. Blocks of addresses
    ///   do not reach the pods of the cluster's DNS.
    /// - Calico: tiers and orders, `Pass` included; a policy whose types include Egress isolates for its tier.
    /// - ClusterNetworkPolicy: does not isolate; a rule of it that denies DNS is reported, one that accepts it counts.
    ///
    /// A policy of the cluster has to be served by policies of the cluster, or of the namespaces that it names: what some
    /// namespaces have of their own says nothing about the others.
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
        for policy in case.policies().iter().filter(|policy| stops(&policy.egress)) {
            let mut around = case.after().policies_for(&policy.subject);
            if self.scope == Scope::Policy {
                around.retain(|other| other.object.is_same_object(&policy.object) || std::ptr::eq(*other, policy));
            }
            let each = case.site.cluster_dns.iter();
            let mut stops: Vec<Stop<'_>> = each
                .map(|dns| stopped_by(case.after(), &around, policy, Direction::Egress, way(dns, Protocol::Udp)))
                .collect();
            if stops.contains(&Stop::Nothing) {
                continue;
            }
            // Where policies add up, nothing that is allowed comes before a denial.
            let is_final = policy.order == Order::Additive;
            let allowing = || allow(case.site, &[Protocol::Udp, Protocol::Tcp], &policy.egress);
            let (path, message, help, fix) = match stops.pop() {
                Some(Stop::Rule(rule)) => (
                    rule.path.clone(),
                    format!(
                        "{} are denied egress to {} on {}, and so the cluster's DNS over UDP: they can resolve no name",
                        policy.subject, rule.peers, rule.ports
                    ),
                    if is_final {
                        format!("leave the cluster's DNS out of what is denied: {}", ways(case.site))
                    } else {
                        format!("allow UDP and TCP to {} before it", ways(case.site))
                    },
                    if is_final { None } else { allowing() },
                ),
                _ => (
                    policy.egress.path.clone(),
                    format!(
                        "{} are isolated for egress and nothing lets them ask the cluster's DNS over UDP: they can \
                         resolve no name",
                        policy.subject
                    ),
                    format!(
                        "add an egress rule on UDP and TCP to {}, or cover the same pods by another policy that has one",
                        ways(case.site)
                    ),
                    allowing(),
                ),
            };
            findings.add::<Self>(case, path, message, help, fix);
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
    let verb = match case.change {
        Change::Write { old: None, .. } => return,
        Change::Write { .. } => "changing",
        Change::Delete { .. } => "deleting",
    };
    // In this order, since what was there before is read only if somebody asks for it.
    let others = |namespace: &str| {
        let concerned = case.after().policies(namespace);
        concerned.filter(|policy| policy.egress.isolates && !policy.object.is_same_object(&object.id)).collect()
    };
    let isolated: Vec<&Policy> = match (&object.body, object.namespace()) {
        (Body::Policies(_), Some(namespace)) => others(namespace),
        (Body::Policies(policies), None) if policies.iter().all(is_narrow) => others(""),
        // Of the cluster: it may have served pods anywhere.
        (Body::Policies(_), None) => {
            let everywhere = case.after().all_policies();
            everywhere.filter(|policy| policy.egress.isolates && !policy.object.is_same_object(&object.id)).collect()
        }
        (Body::Namespace(_) | Body::Tier(_) | Body::Workload(_), _) => return,
    };
    if isolated.is_empty() || !case.change.old().is_some_and(|old| old.policies().iter().any(|old| opens(case, old))) {
        return;
    }
    let mut found = 0;
    for policy in isolated {
        let has = |scene| serves(scene, case.site, policy, &[Protocol::Udp]);
        if !has(case.after()) && has(case.before()) {
            let message = format!(
                "{verb} it takes the last way to the cluster's DNS from {}, which {} isolates for egress",
                policy.subject, policy.object
            );
            let help = "let another policy allow DNS to these pods first, or remove the one that isolates them";
            findings.add::<DnsBlocked>(case, Path::root().field("spec"), message, help.into(), None);
            found += 1;
            if found == MOST_OTHERS {
                break;
            }
        }
    }
}

/// Of how many other policies one change is said to take DNS from their pods.
const MOST_OTHERS: usize = 20;

fn is_narrow(policy: &Policy) -> bool {
    matches!(policy.subject.namespaces, Namespaces::Own(_))
}

/// Whether a policy lets pods ask the cluster's DNS.
fn opens(case: &Case<'_>, policy: &Policy) -> bool {
    policy.allow_rules().filter(|(direction, _)| *direction == Direction::Egress).any(|(_, rule)| {
        let mut ways = case.site.cluster_dns.iter();
        ways.any(|dns| rule.means(&dns.end(), dns.traffic(Protocol::Udp), case.view) == Some(true))
    })
}

/// Whether a policy leaves one way to the cluster's DNS open for all its pods, over each of the protocols.
pub(super) fn serves(scene: Scene<'_>, site: &Site, policy: &Policy, protocols: &[Protocol]) -> bool {
    let around = scene.policies_for(&policy.subject);
    site.cluster_dns.iter().any(|dns| {
        protocols
            .iter()
            .all(|protocol| stopped_by(scene, &around, policy, Direction::Egress, way(dns, *protocol)) == Stop::Nothing)
    })
}

/// One way to the cluster's DNS, as a connection.
fn way(dns: &ClusterDns, protocol: Protocol) -> (End<'_>, Traffic<'_>) {
    (dns.end(), dns.traffic(protocol))
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
    let has_rules = side.written.is_some_and(|rules| rules > 0);
    Some(Fix::Allow { rules: side.path.clone(), has_rules, direction: Direction::Egress, peers, ports })
}
