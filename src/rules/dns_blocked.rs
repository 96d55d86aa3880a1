//! See [`DnsBlocked`].

use serde::Deserialize;

use super::blame::{Stop, assumptions, can_stop, stopped_by};
use super::{Case, Change, Findings, Rule};
use crate::model::{
    Action, Body, Direction, End, Fix, NAME_LABEL, Namespaces, Numbers, Order, Path, Peer, Pods, Policy, Port,
    Protocol, Rule as TrafficRule, Selector, Side, Standing, Traffic, Who,
};
use crate::view::{ClusterDns, Scene, Site, View};

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
    /// A change of a tier of Calico is not looked at.
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
        for policy in case.policies().iter().filter(|policy| can_stop(&policy.egress)) {
            let mut around = case.supposing().policies_for(&policy.subject);
            if self.scope == Scope::Policy {
                around.retain(|other| other.object.is_same_object(&policy.object) || std::ptr::eq(*other, policy));
            }
            let mut assumed = Vec::new();
            let each = case.site.cluster_dns.iter();
            let mut stops = each.map(|dns| {
                let udp = way(dns, Protocol::Udp);
                stopped_by(case.supposing(), &around, policy, Direction::Egress, udp, &mut assumed)
            });
            let mut stop = None;
            if stops.any(|one| {
                stop = stop.or(Some(one).filter(|stop| stop.is_own()));
                one == Stop::Nothing
            }) {
                continue;
            }
            // Where policies add up, nothing that is allowed comes before a denial.
            let is_final = policy.order == Order::Additive;
            let allowing = || allow(case.site, &[Protocol::Udp, Protocol::Tcp], &policy.egress);
            let (path, message, help, fix) = match stop {
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
                Some(Stop::Isolation) => (
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
                Some(Stop::Nothing | Stop::Others) | None => continue,
            };
            findings.add::<Self>(case, path, message, help + &assumptions(&assumed), fix);
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
    if !matches!(object.body, Body::Policies(_)) {
        return;
    }
    let isolates = |policy: &&Policy| policy.egress.isolates && !policy.object.is_same_object(&object.id);
    // In this order, since what was there before is read only if somebody asks for it.
    let mut isolated: Vec<&Policy> = match object.namespace() {
        Some(namespace) => case.after().policies(namespace).filter(isolates).collect(),
        // Of the cluster: it may have served pods anywhere.
        None => case.after().all_policies().filter(isolates).collect(),
    };
    if isolated.is_empty() {
        return;
    }
    let Some(old) = case.change.old() else { return };
    let served: Vec<&Policy> =
        old.policies().iter().filter(|old| old.standing == Standing::InForce && opens(case, old)).collect();
    isolated.retain(|policy| served.iter().any(|served| may_share(served, policy, case.view)));
    isolated.sort_by(|a, b| a.object.cmp(&b.object));
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

/// Whether two policies may concern pods of one namespace.
fn may_share(a: &Policy, b: &Policy, view: &View) -> bool {
    match (&a.subject.namespaces, &b.subject.namespaces) {
        (Namespaces::Own(Some(name)), other) | (other, Namespaces::Own(Some(name))) => {
            other.mean(name, view) != Some(false)
        }
        _ => true,
    }
}

/// Whether a policy lets pods ask the cluster's DNS, or leaves that to a later stage that may.
fn opens(case: &Case<'_>, policy: &Policy) -> bool {
    let lets = |rule: &&TrafficRule| matches!(rule.action, Action::Allow | Action::Pass);
    policy.egress.rules.iter().filter(lets).any(|rule| {
        let mut ways = case.site.cluster_dns.iter();
        ways.any(|dns| rule.means(&dns.end(), dns.traffic(Protocol::Udp), case.view) == Some(true))
    })
}

/// Whether one way to the cluster's DNS is open to all pods of a policy, over each of the protocols.
pub(super) fn serves(scene: Scene<'_>, site: &Site, policy: &Policy, protocols: &[Protocol]) -> bool {
    let around = scene.policies_for(&policy.subject);
    site.cluster_dns.iter().any(|dns| {
        protocols.iter().all(|protocol| {
            let way = way(dns, *protocol);
            stopped_by(scene, &around, policy, Direction::Egress, way, &mut Vec::new()) == Stop::Nothing
        })
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
