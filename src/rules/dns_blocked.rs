//! See [`DnsBlocked`].

use serde::Deserialize;

use super::blame::{Stop, assumptions, can_stop};
use super::dns::{nearest, server_stopped, servers, stopped_everywhere};
use super::dns_taken::check_taken;
use super::hosts::is_for_hosts;
use super::near_miss::NearMiss;
use super::{Case, Findings, Rule};
use crate::model::{
    Action, Direction, Fix, NAME_LABEL, Namespaces, Numbers, Order, Path, Peer, Pods, Policy, Port, Protocol, Selector,
    Side, Standing, Who,
};
use crate::view::ClusterDns;

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
    /// or from any other policy whose selector is proved to cover the same pods. It also looks at what a change takes away:
    /// the deletion or the change of a policy, or of a tier, after which pods that another policy isolates, or denies DNS
    /// to, have it no more. So that no decision is slow, it takes at most a million steps for that: among hundreds of policies
    /// whose selectors are hard to compare some of it may not be noticed. A policy that neither isolates egress nor denies
    /// any is otherwise never concerned, and what somebody else's rule denies is not blamed on it.
    ///
    /// Policies of the cluster choose pods by labels of their namespace too. A change of such a label is never denied: the
    /// answer warns of the pods in the namespace that lose DNS by it, unless nobody answers.
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
    /// A policy that is for the pods of the cluster's DNS alone is not asked for egress to them. But where a policy isolates
    /// them for ingress, or denies it, pods of any other namespace have to be able to ask: a default-deny of the cluster
    /// that forgets this cuts everybody's DNS at once.
    ///
    /// A GlobalNetworkPolicy of Calico that is for hosts is not judged, as by `any-port`.
    ///
    /// The ways to the cluster's DNS are those of `clusterDNS` in the configuration, and any one of them is enough. Where
    /// pods with these labels are known, all of their labels count, the first address of each, and the port named `dns` that
    /// their containers list. Each of the pods has to be reachable, because the Service spreads lookups over all of them; at most
    /// four are compared. Pods of the host network do not count. Where no such pod is known, a block of
    /// all addresses counts as reaching the DNS pods, and a smaller one does not.
    ///
    /// ## The near miss
    ///
    /// A denial names the rule that came nearest to allowing DNS and what is wrong with it: a label that the namespace or
    /// the pods do not have, the namespace of the policy itself, another namespace, TCP without UDP, another port, a port
    /// name, a ClusterIP or another address, an `except`, an entity without pods, ingress instead of egress, or other pods. The
    /// place of the finding is that rule. Of several policies that isolate the same pods, the one with this rule is denied.
    /// Where the rule fits another way to resolve names (NodeLocal DNSCache, OpenShift, another port or label), the help
    /// shows the entry of `clusterDNS` for it.
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
    /// - `servers`: `false` does not look at ingress to the pods of the cluster's DNS. `true` by default.
    "dns-blocked", Deny, adds_up = true, on = [Policies, NamespaceLabels],
    pub struct DnsBlocked {
        scope: Scope,
        inject: bool,
        servers: bool,
    }
}

impl Default for DnsBlocked {
    fn default() -> Self {
        Self { scope: Scope::Union, inject: false, servers: true }
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
        for policy in case.policies().iter().filter(|policy| can_stop(&policy.egress) && !are_servers(case, policy)) {
            let mut around = case.supposing().policies_for(&policy.subject);
            if self.scope == Scope::Policy {
                around.retain(|other| other.object.is_same_object(&policy.object) || std::ptr::eq(*other, policy));
            }
            let stopped = stopped_everywhere(case, &around, policy);
            let Some((stop, mut assumed)) = stopped.filter(|_| !is_for_hosts(case, policy)) else { continue };
            // Where policies add up, nothing that is allowed comes before a denial.
            let is_final = policy.order == Order::Additive;
            let allowing = || allow(case, &[Protocol::Udp, Protocol::Tcp], &policy.egress);
            let (path, message, closest, help, fix) = match stop {
                Stop::Rule(rule) => (
                    rule.path.clone(),
                    text!(
                        "{} are denied egress to {} on {}, and so the cluster's DNS over UDP: they can resolve no name",
                        policy.subject,
                        rule.peers,
                        rule.ports
                    ),
                    None,
                    if is_final {
                        text!("leave the cluster's DNS out of what is denied: {}", ways(case))
                    } else {
                        text!("allow UDP and TCP to {} before it", ways(case))
                    },
                    if is_final { None } else { allowing() },
                ),
                Stop::Isolation => {
                    let message = text!(
                        "{} cannot resolve DNS, because their egress is isolated and no policy allows UDP to the cluster DNS",
                        policy.subject
                    );
                    let near = nearest(case, &around, policy);
                    // One finding for one set of pods, at the rule that came near.
                    if near.as_ref().is_some_and(|near| isolates_the_same(case, near.policy, policy)) {
                        continue;
                    }
                    // What is said of the near miss says why it does not apply.
                    assumed.retain(|one| near.as_ref().is_none_or(|near| !std::ptr::eq(one.policy, near.policy)));
                    let path =
                        near.as_ref().and_then(|near| near.own_place(case)).unwrap_or(&policy.egress.path).clone();
                    // Allowing DNS would leave them without everything else.
                    let only_denies = !policy.egress.rules.is_empty()
                        && policy.egress.rules.iter().all(|rule| rule.action == Action::Deny);
                    match near {
                        Some(NearMiss { closest, cure, other_way: Some(other), .. }) => {
                            let help = text!(
                                "if pods of this cluster resolve names there, set `clusterDNS: [{other}]` in the \
                                 configuration; otherwise {cure}"
                            );
                            // A rule for DNS pods that nobody asks would cure nothing.
                            (path, message, Some(closest), help, None)
                        }
                        Some(near) => {
                            let own = near.own_place(case).and(near.fix.clone());
                            (path, message, Some(near.closest), near.cure, own.or_else(allowing))
                        }
                        None if only_denies => {
                            let help = "this deny-only policy also enables default deny for egress. Turn default deny off, pass \
                                        the remaining traffic, or allow the traffic that the pods need, starting with DNS";
                            (path, message, None, help.to_owned(), None)
                        }
                        None => {
                            let help = text!(
                                "allow UDP and TCP to {}, in this policy or in another one for the same pods",
                                ways(case)
                            );
                            (path, message, None, help, allowing())
                        }
                    }
                }
                Stop::Nothing | Stop::Others => continue,
            };
            findings.add_with_closest::<Self>(case, path, message, closest, help + &assumptions(&assumed), fix);
        }
        if self.scope == Scope::Union {
            check_taken(case, findings);
        }
        if self.servers {
            check_servers(case, findings);
        }
    }

    fn repairs(&self) -> bool {
        self.inject
    }
}

/// Returns true if a policy of another object isolates the same pods for egress, so that it is blamed itself.
fn isolates_the_same(case: &Case<'_>, other: &Policy, policy: &Policy) -> bool {
    !other.object.is_same_object(&policy.object)
        && other.subject == policy.subject
        && other.isolates(Direction::Egress, &case.after())
}

/// Whether policies that serve the cluster's DNS keep it from being asked: pods of any other namespace have to get in.
fn check_servers(case: &Case<'_>, findings: &mut Findings) {
    for policy in
        case.policies().iter().filter(|policy| policy.standing == Standing::InForce && can_stop(&policy.ingress))
    {
        let stopped = server_stopped(case, policy, Protocol::Udp);
        let Some((server, stop)) = stopped else { continue };
        let subject = &policy.subject;
        let among = text!("the pods of the cluster's DNS ({}) are among them", server.words(Protocol::Udp));
        let (path, message, help) = match stop {
            Stop::Rule(rule) => (
                &rule.path,
                text!(
                    "{subject} are denied ingress from {} on {}, and {among}: the pods of other namespaces cannot ask, and \
                     no pod of the cluster can resolve a name",
                    rule.peers,
                    rule.ports
                ),
                // Where policies add up, nothing that is allowed comes before a denial.
                if policy.order == Order::Additive {
                    "leave DNS to these pods out of what is denied, or their namespace out of what the policy selects"
                } else {
                    "allow ingress on UDP and TCP to the pods of the cluster's DNS from all namespaces before it, or leave \
                     their namespace out of what the policy selects"
                },
            ),
            Stop::Isolation | Stop::Nothing | Stop::Others => (
                &policy.ingress.path,
                text!(
                    "{subject} are isolated for ingress, and {among}: nothing lets the pods of other namespaces ask, and no \
                     pod of the cluster can resolve a name"
                ),
                "allow ingress on UDP and TCP to the pods of the cluster's DNS from all namespaces, or leave their namespace \
                 out of what the policy selects",
            ),
        };
        findings.add::<DnsBlocked>(case, path.clone(), message, help.into(), None);
    }
}

/// Whether all pods that a policy concerns serve the cluster's DNS. They ask others, and not themselves.
fn are_servers(case: &Case<'_>, policy: &Policy) -> bool {
    case.site.cluster_dns.iter().filter_map(ClusterDns::pods).any(|(namespace, labels)| {
        policy.subject.namespaces.mean(namespace, case.view) == Some(true)
            && matches!(&policy.subject.namespaces, Namespaces::Own(_))
            && Selector::of(labels).covers(&policy.subject.selector())
    })
}

/// The ways to the cluster's DNS, for advice.
pub(super) fn ways(case: &Case<'_>) -> String {
    let way = |dns: &ClusterDns| dns.on_port(port(case, dns, Protocol::Udp));
    let ways: Vec<String> = case.site.cluster_dns.iter().map(way).collect();
    ways.join("; or ")
}

/// The port on which a way to the cluster DNS is served.
fn port(case: &Case<'_>, dns: &ClusterDns, protocol: Protocol) -> u16 {
    servers(case.view, dns).first().map_or(dns.port(), |server| server.port_over(protocol))
}

/// The rule that opens the first way to the cluster's DNS.
pub(super) fn allow(case: &Case<'_>, protocols: &[Protocol], side: &Side) -> Option<Fix> {
    let dns = case.site.cluster_dns.first()?;
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
        .map(|protocol| {
            let port = port(case, dns, *protocol);
            Port { path: Path::root(), protocol: Some(*protocol), numbers: Numbers::Range(port, port) }
        })
        .collect();
    let has_rules = side.written.is_some_and(|rules| rules > 0);
    Some(Fix::Allow { rules: side.path.clone(), has_rules, direction: Direction::Egress, peers, ports })
}
