//! See [`NeverEnforced`].

use std::collections::HashMap;

use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Action, Direction, Endpoint, Entity, FaultKind, Namespaces, Numbers, Parser, Peers, Policy, Ports, Protocol, Proxy,
    Rule as TrafficRule, Who,
};

rule! {
    /// The API server stores the policy, but the agent ignores it.
    ///
    /// ## Why
    ///
    /// The schema of a custom resource does not contain every check of its agent. A policy that the agent rejects is
    /// stored anyway: `kubectl apply` reports "created", the reason is only in the status, and no part of the policy is
    /// enforced, including its deny rules. It fails open.
    ///
    /// ## What it checks
    ///
    /// The checks that the agent itself makes on a stored policy. The pages of the dialects list them.
    ///
    /// - Cilium: more than one kind of L3 peer in one rule, L7 rules without TCP, DNS rules on ingress or without
    ///   ports, invalid ports, more than 40 ports, neither endpointSelector nor nodeSelector, and so on. One such rule
    ///   disables the whole object. Rules that require two proxies for the same peer and port (DNS, HTTP, Kafka, TLS
    ///   server names, listeners), also in two policies for the same pods, leave these pods without an up-to-date
    ///   policy.
    /// - Calico: objects that its API server rejects, and that a write directly to `crd.projectcalico.org` bypasses:
    ///   unknown actions and protocols, invalid addresses, ICMP together with ports, and so on.
    /// - ClusterNetworkPolicy: objects that only some versions of its schema reject: a port range whose start is after
    ///   its end, a port name together with networks, nodes or names. A BaselineAdminNetworkPolicy that is not named
    ///   `default`.
    /// - NetworkPolicy: not checked, because its API server rejects policies that cannot be enforced.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: cilium.io/v2
    /// kind: CiliumNetworkPolicy
    /// metadata:
    ///   name: from-web-or-office
    ///   namespace: shop
    /// spec:
    ///   endpointSelector:
    ///     matchLabels:
    ///       app: api
    ///   ingress:
    ///   - fromEndpoints:
    ///     - matchLabels:
    ///         app: web
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    ///   - fromEntities: [host]
    ///     toPorts:
    ///     - ports:
    ///       - port: "8080"
    ///         protocol: TCP
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "never-enforced", Deny,
    #[derive(Default)]
    pub struct NeverEnforced {}
}

impl Rule for NeverEnforced {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        findings.add_faults::<Self>(case, &[FaultKind::NeverEnforced]);
        for policy in case.policies().iter().take(MAX_POLICIES) {
            for direction in Direction::ALL {
                check_proxies(case, policy, direction, findings);
            }
        }
    }
}

/// The scope of one proxy: the requests from or to one peer on one port.
#[derive(PartialEq, Eq, Hash)]
struct Proxied<'a> {
    peer: PeerKey<'a>,
    protocol: Protocol,
    numbers: &'a Numbers,
}

/// A peer as the agent compares it: two overlapping peers are different keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey<'a> {
    Everything,
    Entity(Entity),
    Other(&'a Who),
}

/// The required proxies, each with one of the policies that require it.
type Asked<'a> = HashMap<Proxied<'a>, Vec<(&'a Proxy, &'a Policy)>>;

/// Reports rules that require two different proxies for the same pods, peer and port. The agent then fails to compute
/// all policies of these pods.
fn check_proxies<'a>(case: &Case<'a>, policy: &'a Policy, direction: Direction, findings: &mut Findings) {
    if !has_proxies(policy, direction) {
        return;
    }
    let mut asked = Asked::new();
    let before = case.policies().iter().take_while(|other| !std::ptr::eq(*other, policy));
    let others = case.others(|other| has_proxies(other, direction)).into_iter();
    let with_proxies = others.chain(before.filter(|other| has_proxies(other, direction))).take(MAX_POLICIES);
    for other in with_proxies.filter(|other| share_pods(case, policy, other)) {
        for (rule, proxy) in redirected(other, direction) {
            for proxied in proxied(rule) {
                remember(&mut asked, proxied, proxy, other);
            }
        }
    }
    for (rule, proxy) in redirected(policy, direction) {
        let conflict = proxied(rule).into_iter().find_map(|proxied| {
            let (protocol, numbers) = (proxied.protocol, proxied.numbers);
            let (other, by) = remember(&mut asked, proxied, proxy, policy)?;
            Some((text!("{protocol} {}", number(numbers)), other, by))
        });
        let Some((ports, other, by)) = conflict else { continue };
        let whose = if std::ptr::eq(by, policy) { "another rule".to_owned() } else { text!("{}", by.object) };
        let message = text!(
            "the agent cannot compute the policy of {}, because this rule has {} on {ports} and {whose} has {} for the \
             same peer and port",
            policy.subject,
            in_words(proxy, other),
            in_words(other, proxy)
        );
        let help = "remove one of the two rules, or give them different ports or peers";
        findings.add::<NeverEnforced>(case, rule.path.clone(), message, help.into(), None);
    }
}

/// Maximum number of policies that are compared. Each pair needs a proof that both select the same pods.
const MAX_POLICIES: usize = 50;

/// Maximum number of steps for the proof that two policies select the same pods.
const MAX_STEPS: usize = 1_000;

/// Maximum number of pods, and of namespaces with pods, that are compared with two policies.
const MAX_PODS: usize = 1_000;

/// Maximum number of different proxies that are recorded for one peer and port.
const MAX_PROXIES: usize = 4;

/// The rules that redirect to a proxy, each with its proxy.
fn redirected(policy: &Policy, direction: Direction) -> impl Iterator<Item = (&TrafficRule, &Proxy)> {
    let rules = policy.side(direction).rules.iter().filter(|rule| rule.action == Action::Allow);
    rules.filter_map(|rule| Some((rule, rule.proxy.as_ref()?)))
}

fn has_proxies(policy: &Policy, direction: Direction) -> bool {
    redirected(policy, direction).next().is_some()
}

/// Returns true if it is proved that two policies select some of the same pods: one selects all pods of the other, or
/// both select a known pod.
fn share_pods(case: &Case<'_>, policy: &Policy, other: &Policy) -> bool {
    let mut steps = MAX_STEPS;
    if other.subject.covers(&policy.subject, case.view, &mut steps)
        || policy.subject.covers(&other.subject, case.view, &mut steps)
    {
        return true;
    }
    let one = [policy, other].into_iter().find_map(|policy| match &policy.subject.namespaces {
        Namespaces::Own(name) => Some(name.as_deref().unwrap_or_default()),
        Namespaces::Matching(_) => None,
    });
    let all = one.is_none().then(|| case.view.namespaces().take(MAX_PODS).map(|(name, facts)| (&**name, &**facts)));
    let one = one.and_then(|name| Some((name, case.view.namespace(name)?)));
    let known = one.into_iter().chain(all.into_iter().flatten()).inspect(|_| charge(1));
    let mut pods = known.flat_map(|(name, facts)| facts.distinct().map(move |running| (name, running))).take(MAX_PODS);
    pods.any(|(name, running)| {
        charge(1);
        let pod = Endpoint::of(name, &running.workload);
        let is_for = |policy: &Policy| policy.subject.mean(&pod, case.view) == Some(true);
        running.workload.host_network.is_none() && is_for(policy) && is_for(other)
    })
}

/// Records a proxy, and returns a recorded one that conflicts with it.
fn remember<'a>(
    asked: &mut Asked<'a>,
    proxied: Proxied<'a>,
    proxy: &'a Proxy,
    policy: &'a Policy,
) -> Option<(&'a Proxy, &'a Policy)> {
    let known = asked.entry(proxied).or_default();
    if let Some(conflict) = known.iter().find(|(other, _)| other.conflicts_with(proxy)) {
        return Some(*conflict);
    }
    if known.len() < MAX_PROXIES && !known.iter().any(|(other, _)| *other == proxy) {
        known.push((proxy, policy));
    }
    None
}

/// Describes the part of a rule that requires the proxy. In a conflict with another parser, a rule on TLS that is not
/// terminated requires it by its server names.
fn in_words(proxy: &Proxy, other: &Proxy) -> String {
    match proxy.parser {
        Parser::Tls if proxy.checks_server_names && other.parser != Parser::Tls => "TLS server names".to_owned(),
        _ => text!("{}", proxy.parser),
    }
}

/// The distinct pairs of peers and ports of a rule.
fn proxied(rule: &TrafficRule) -> Vec<Proxied<'_>> {
    let Ports::Only(ports) = &rule.ports else { return Vec::new() };
    let peers: Vec<PeerKey<'_>> = match &rule.peers {
        Peers::Any => vec![PeerKey::Everything],
        Peers::Only(peers) => peers.iter().flat_map(|peer| keys(&peer.who)).collect(),
    };
    charge(peers.len() * ports.len());
    let of_port = ports.iter().flat_map(|port| {
        let protocols = Protocol::WITH_PORTS.into_iter().filter(|protocol| port.is_for(*protocol));
        protocols.map(|protocol| (protocol, &port.numbers))
    });
    let of_port: Vec<(Protocol, &Numbers)> = of_port.collect();
    let all = peers.iter().flat_map(|peer| {
        of_port.iter().map(|(protocol, numbers)| Proxied { peer: *peer, protocol: *protocol, numbers })
    });
    all.collect()
}

/// The selectors that the agent derives from a peer (`EntitySelectorMapping` in Cilium's `pkg/policy/api/entity.go`).
/// Empty for peers whose addresses are unknown.
fn keys(who: &Who) -> Vec<PeerKey<'_>> {
    use Entity::{Cluster, Health, Host, Ingress, Init, KubeApiserver, RemoteNode, Unmanaged, World, WorldV4, WorldV6};
    let entities: &[Entity] = match who {
        Who::Entity(Entity::All) => return vec![PeerKey::Everything],
        Who::Entity(Entity::None) | Who::Service(_) | Who::Unclear(_) => &[],
        Who::Entity(World) => &[World, WorldV4, WorldV6],
        Who::Entity(Cluster) => &[Cluster, Host, RemoteNode, Init, Ingress, Health, Unmanaged, KubeApiserver],
        Who::Entity(entity) => return vec![PeerKey::Entity(*entity)],
        _ => return vec![PeerKey::Other(who)],
    };
    entities.iter().map(|entity| PeerKey::Entity(*entity)).collect()
}

fn number(numbers: &Numbers) -> String {
    match numbers {
        Numbers::Range(first, last) if first == last => first.to_string(),
        Numbers::Range(first, last) => text!("{first}-{last}"),
        Numbers::Named(name) => name.to_string(),
        Numbers::All | Numbers::Messages(..) => "every port".to_owned(),
    }
}
