//! See [`DnsBlocked`].

mod loss;

use serde::Deserialize;

use self::loss::check_loss;
use super::shared::attribution::{Blocker, assumptions, can_stop};
use super::shared::cluster_dns::{allow_cluster_dns, cluster_dns_entries, nearest, server_stopped, stopped_everywhere};
use super::shared::host_policies::is_for_hosts;
use super::shared::near_miss::NearMiss;
use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, Namespaces, Order, Policy, Protocol, Selector, Standing};
use crate::view::ClusterDns;

rule! {
    /// Pods are isolated for egress, and no policy allows them to query the cluster DNS over UDP.
    ///
    /// ## Why
    ///
    /// Nearly every connection starts with a DNS lookup. A policy that isolates egress and forgets DNS cuts its pods
    /// off from every service that they reach by name. It looks like an outage of all these services at once.
    ///
    /// ## What it checks
    ///
    /// All policies that apply to the pods, added up over all dialects. The policy itself, a baseline, or any other
    /// policy may allow DNS, if its selector is proved to cover the same pods.
    ///
    /// The rule also checks what a change removes: the change or deletion of a policy or tier is reported if pods that
    /// another policy isolates, or denies DNS to, lose their DNS.
    ///
    /// A policy that neither isolates nor denies egress is otherwise not reported, and is not blamed for the deny rule
    /// of another policy.
    ///
    /// Cluster-scoped policies also select pods by the labels of their namespace. A change of such a label is never denied.
    /// The response warns about the pods in the namespace that lose DNS. While Portcullis is down, such a change is allowed
    /// without a warning.
    ///
    /// - NetworkPolicy: policies that isolate egress, by `policyTypes` or by having egress rules.
    /// - Cilium: `egress` and `egressDeny` isolate, unless `enableDefaultDeny` turns this off; deny rules take
    ///   precedence over all allow rules. DNS rules (`rules.dns`) count as allowing DNS, for any name. CIDRs do not
    ///   match the cluster DNS pods.
    /// - Calico: tiers and orders, including `Pass`; a policy whose types include Egress isolates in its tier.
    /// - ClusterNetworkPolicy: does not isolate; a rule that denies DNS is reported, a rule that accepts DNS counts.
    ///
    /// For a cluster-scoped policy only cluster-scoped policies count, and policies of the namespaces that it names.
    /// Policies of single namespaces do not help the pods of the other namespaces.
    ///
    /// A policy for the cluster DNS pods alone does not need egress to them. But a policy that isolates or denies their
    /// ingress must allow queries from pods of any other namespace: a cluster-wide default deny that forgets this cuts
    /// off DNS for the whole cluster at once.
    ///
    /// A Calico GlobalNetworkPolicy for hosts is not checked, as in `any-port`.
    ///
    /// The entries of `clusterDNS` in the configuration are alternatives; one reachable entry is enough. If pods with
    /// these labels are known, they replace the entry: all of their labels count, the first address of each pod, and
    /// the port named `dns` that their containers list. Each of them has to be reachable, because the Service spreads
    /// lookups over all of them. hostNetwork pods count only if no others are known; policies then have to allow the
    /// nodes, because pod selectors do not match such pods.
    ///
    /// If the addresses of the DNS pods are unknown, they are assumed to be private (RFC 1918) or shared (RFC 6598), as
    /// in nearly every cluster. CIDRs that contain all of these addresses allow DNS, and `check` names the assumption.
    /// CIDRs that exclude some of them do not.
    ///
    /// **Limits.** At most 4 DNS pods are compared. The check of what a change removes takes at most 1,000,000 steps:
    /// among hundreds of policies with complex selectors it may miss a lost DNS path.
    ///
    /// ## The near miss
    ///
    /// A denial names the rule that comes closest to allowing DNS, and its fault: a label that the namespace or the
    /// pods do not have, the policy's own namespace, another namespace, TCP without UDP, another port, a port name, a
    /// ClusterIP or another address, an `except`, an entity without pods, ingress instead of egress, other pods, a later
    /// tier, or policy types without egress. The finding points at that rule. If several policies of one tier isolate
    /// the same pods, the policy with this rule is denied. If the rule matches another common DNS setup (NodeLocal
    /// DNSCache, OpenShift, another port or label), the help shows the `clusterDNS` entry for it.
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
    /// - `scope`: `union` (the default) counts all policies; `policy` requires each policy to allow DNS itself.
    /// - `inject`: `true` lets `/mutate` add the missing rule, so that the policy is not denied. `false` by default.
    /// - `servers`: `false` skips ingress to the cluster DNS pods. `true` by default.
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

/// The policies whose allow rules count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// All policies.
    #[default]
    Union,
    /// Only the policy under review.
    Policy,
}

/// The name of the rule. A preview of label changes belongs to it.
pub const DNS_BLOCKED: &str = <DnsBlocked as super::Defined>::NAME;

impl Rule for DnsBlocked {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies().iter().filter(|policy| can_stop(&policy.egress) && !are_servers(case, policy)) {
            let mut around = case.supposing().policies_for(&policy.subject);
            if self.scope == Scope::Policy {
                around.retain(|other| other.object.is_same_object(&policy.object) || std::ptr::eq(*other, policy));
            }
            let stopped = stopped_everywhere(case, &around, policy);
            let Some((stop, mut assumed)) = stopped.filter(|_| !is_for_hosts(case, policy)) else { continue };
            // In additive policies a deny rule takes precedence over every allow rule.
            let is_final = policy.order == Order::Additive;
            let allowing = || allow_cluster_dns(case, &[Protocol::Udp, Protocol::Tcp], &policy.egress);
            let (path, message, closest, help, fix) = match stop {
                Blocker::Rule(rule) => (
                    rule.path.clone(),
                    text!(
                        "{} cannot resolve DNS, because this rule denies egress to {} on {}, including UDP to the cluster DNS",
                        policy.subject,
                        rule.peers,
                        rule.ports
                    ),
                    None,
                    if is_final {
                        text!("narrow this rule so that it does not deny UDP and TCP to {}", cluster_dns_entries(case))
                    } else {
                        text!("allow UDP and TCP to {} before this rule", cluster_dns_entries(case))
                    },
                    if is_final { None } else { allowing() },
                ),
                Blocker::Isolation => {
                    let message = text!(
                        "{} cannot resolve DNS, because their egress is isolated and no policy allows UDP to the cluster DNS",
                        policy.subject
                    );
                    let near = nearest(case, &around, policy);
                    // One finding for one set of pods, at the rule that comes closest.
                    if near.as_ref().is_some_and(|near| isolates_the_same(case, near.policy, policy)) {
                        continue;
                    }
                    // The near miss already explains why it does not apply.
                    assumed.retain(|one| near.as_ref().is_none_or(|near| !std::ptr::eq(one.policy, near.policy)));
                    let path =
                        near.as_ref().and_then(|near| near.own_place(case)).unwrap_or(&policy.egress.path).clone();
                    // If the policy allowed DNS only, the pods would still lose all other traffic.
                    let only_denies = !policy.egress.rules.is_empty()
                        && policy.egress.rules.iter().all(|rule| rule.action == Action::Deny);
                    match near {
                        Some(NearMiss { closest, cure, other_way: Some(other), .. }) => {
                            let help = text!(
                                "if this is the cluster DNS, set `clusterDNS: [{other}]` in the configuration{}; otherwise \
                                 {cure}",
                                other.change_of_rule()
                            );
                            // A rule for DNS pods that the cluster does not use would fix nothing.
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
                                "allow UDP and TCP to {}, in this policy or in another policy for the same pods",
                                cluster_dns_entries(case)
                            );
                            (path, message, None, help, allowing())
                        }
                    }
                }
                Blocker::Nothing | Blocker::Others => continue,
            };
            findings.add_with_closest::<Self>(case, path, message, closest, help + &assumptions(&assumed), fix);
        }
        if self.scope == Scope::Union {
            check_loss(case, findings);
        }
        if self.servers {
            check_servers(case, findings);
        }
    }

    fn repairs(&self) -> bool {
        self.inject
    }
}

/// Returns true if a policy of another object isolates the same pods for egress in the same stage. The same decision then
/// blames both, so the other policy is reported itself.
fn isolates_the_same(case: &Case<'_>, other: &Policy, policy: &Policy) -> bool {
    let scene = case.supposing();
    !other.object.is_same_object(&policy.object)
        && other.subject == policy.subject
        && other.isolates(Direction::Egress, &scene)
        && other.place(&scene) == policy.place(&scene)
}

/// Reports policies that select the cluster DNS pods and block queries to them from other namespaces.
fn check_servers(case: &Case<'_>, findings: &mut Findings) {
    for policy in
        case.policies().iter().filter(|policy| policy.standing == Standing::InForce && can_stop(&policy.ingress))
    {
        let stopped = server_stopped(case, policy, Protocol::Udp);
        let Some((server, stop)) = stopped else { continue };
        let subject = &policy.subject;
        let among = text!("which include the cluster DNS ({})", server.words(Protocol::Udp));
        let (path, message, help) = match stop {
            Blocker::Rule(rule) => (
                &rule.path,
                text!(
                    "pods of other namespaces cannot resolve DNS, because this rule denies ingress from {} on {} to \
                     {subject}, {among}",
                    rule.peers,
                    rule.ports
                ),
                // In additive policies a deny rule takes precedence over every allow rule.
                if policy.order == Order::Additive {
                    "narrow this rule so that it does not deny DNS, or exclude the namespace of these pods from this \
                     policy"
                } else {
                    "allow ingress on UDP and TCP to the cluster DNS from all namespaces before this rule, or exclude the \
                     namespace of the cluster DNS from this policy"
                },
            ),
            Blocker::Isolation | Blocker::Nothing | Blocker::Others => (
                &policy.ingress.path,
                text!(
                    "pods of other namespaces cannot resolve DNS, because this policy isolates {subject} for \
                     ingress, {among}"
                ),
                "allow ingress on UDP and TCP to the cluster DNS from all namespaces, or exclude the namespace of the cluster \
                 DNS from this policy",
            ),
        };
        findings.add::<DnsBlocked>(case, path.clone(), message, help.into(), None);
    }
}

/// Returns true if a policy selects only cluster DNS pods. They do not query themselves.
fn are_servers(case: &Case<'_>, policy: &Policy) -> bool {
    case.site.cluster_dns.iter().filter_map(ClusterDns::pods).any(|(namespace, labels)| {
        policy.subject.namespaces.mean(namespace, case.view) == Some(true)
            && matches!(&policy.subject.namespaces, Namespaces::Own(_))
            && Selector::of(labels).covers(&policy.subject.selector())
    })
}
