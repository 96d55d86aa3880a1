//! See [`ServicePort`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::shared::destination::{Destination, Forwarded, Listening, Looks, destinations, selected};
use super::shared::host_policies::is_for_hosts;
use super::{Case, Findings, Rule};
use crate::model::{
    Action, Body, Direction, Names, Numbers, Path, Policy, Port, Ports, Protocol, Rule as TrafficRule, Service,
    Standing, Traffic, Who,
};

rule! {
    /// A rule allows the port of a Service, but its pods listen on the target port.
    ///
    /// ## Why
    ///
    /// The address and the port of a Service are translated before a network policy sees the packet. A rule that allows port
    /// 80 of a Service that forwards to 8080 allows nothing, and every connection times out. It looks right, because
    /// clients use port 80.
    ///
    /// ## What it checks
    ///
    /// Each single port that a rule of an isolating policy allows, against the known pods at the destination: the pods of
    /// the policy for ingress, the pods of the peer for egress.
    ///
    /// A port is reported if a Service in the namespace of these pods forwards it to another port of the same protocol, and
    /// none of the pods is known to listen on the port itself: no container lists it and no Service forwards to it.
    ///
    /// It is not reported if
    ///
    /// - another rule for these pods allows the target port to the same peers;
    /// - a pod lists no ports and no Service selects it, or the target is the name of a port that no container lists;
    /// - the Service is headless, the pods use hostNetwork, or the pods are known by a selector of namespaces other than a
    ///   name and the manifests are only a part of the cluster;
    /// - the author of the change may not list the pods and Services of that namespace;
    /// - the policy belongs to the baseline controller: the ports in the shipped policies are alternatives for all namespaces;
    /// - the port is TCP 15008, the tunnel of an Istio ambient mesh.
    ///
    /// A change of a Service is reported too: if it moves a port to a target that no policy of its pods allows, while they
    /// allow the old one.
    ///
    /// **Limits.** At most 10,000 pods, Services and rules are compared in one decision. Beyond that no port is reported.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy, Cilium, Calico and ClusterNetworkPolicy: numbers in the ports of an allow rule. Ranges, names and
    ///   `toServices` are not checked.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: api
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: api
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: api
    ///     spec:
    ///       containers:
    ///       - name: api
    ///         image: api:1
    ///         ports:
    ///         - containerPort: 8080
    /// ---
    /// apiVersion: v1
    /// kind: Service
    /// metadata:
    ///   name: api
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     app: api
    ///   ports:
    ///   - port: 80
    ///     targetPort: 8080
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: api
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector: {}
    ///     ports:
    ///     - protocol: TCP
    ///       port: 80
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: api
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: api
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: api
    ///     spec:
    ///       containers:
    ///       - name: api
    ///         image: api:1
    ///         ports:
    ///         - containerPort: 8080
    /// ---
    /// apiVersion: v1
    /// kind: Service
    /// metadata:
    ///   name: api
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     app: api
    ///   ports:
    ///   - port: 80
    ///     targetPort: 8080
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: api
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector: {}
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "service-port", Warn, on = [Policies, Services],
    #[derive(Default)]
    pub struct ServicePort {}
}

/// HBONE, which carries the traffic of an Istio ambient mesh whatever its port is.
const TUNNEL: (Protocol, u16) = (Protocol::Tcp, 15008);

impl Rule for ServicePort {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if let Some(Body::Service(service)) = case.written().map(|object| &object.body) {
            check_service(case, service, findings);
            return;
        }
        if case.is_reserved() {
            return;
        }
        let mut looks = Looks::default();
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            for (direction, side) in policy.sides() {
                if policy.isolates(direction, case.view) {
                    let rules = side.rules.iter().filter(|rule| rule.action == Action::Allow);
                    // None means that the limit of comparisons was reached.
                    let _ = check_rules(case, (policy, direction), rules, &mut looks, findings);
                }
            }
        }
    }
}

/// The destination of a rule with the ports there, once per set of pods.
type Known<'a> = HashMap<Option<&'a Who>, Vec<(Destination<'a>, Listening<'a>)>>;

fn check_rules<'a>(
    case: &Case<'a>,
    (policy, direction): (&'a Policy, Direction),
    rules: impl Iterator<Item = &'a TrafficRule>,
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    let mut known: Known<'a> = HashMap::new();
    for rule in rules {
        let Ports::Only(ports) = &rule.ports else { continue };
        if ports.iter().all(|port| single(port).is_none()) {
            continue;
        }
        for (pods, peer) in selected(policy, direction, rule) {
            let there = match known.entry(peer) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(vacant) => {
                    let mut all = Vec::new();
                    for destination in destinations(case, pods, looks)? {
                        let listening = destination.listening(looks)?;
                        all.push((destination, listening));
                    }
                    vacant.insert(all)
                }
            };
            for (destination, listening) in there {
                looks.take(ports.len())?;
                for port in ports {
                    let Some((protocol, number)) = single(port).filter(|single| *single != TUNNEL) else { continue };
                    let Some(forwarded) = listening.forwarded(protocol, number) else { continue };
                    let traffic = traffic(protocol, forwarded.target);
                    if !is_allowed(case, (policy, direction), rule, peer, traffic, looks)? {
                        report(case, &port.path, direction, destination, (protocol, number), forwarded, findings);
                    }
                }
            }
        }
    }
    Some(())
}

/// The one port of an entry.
fn single(port: &Port) -> Option<(Protocol, u16)> {
    match port.numbers {
        Numbers::Range(first, last) if first == last => Some((port.protocol.unwrap_or(Protocol::Tcp), first)),
        _ => None,
    }
}

/// Traffic to a port of which no name is known.
fn traffic(protocol: Protocol, number: u16) -> Traffic<'static> {
    Traffic::Port { protocol, number, names: Names::AtLeast(&[]) }
}

/// Returns true if a rule for the same pods may allow this traffic with the same peers. None if there are too many rules.
fn is_allowed(
    case: &Case<'_>,
    (policy, direction): (&Policy, Direction),
    rule: &TrafficRule,
    peer: Option<&Who>,
    traffic: Traffic<'_>,
    looks: &mut Looks,
) -> Option<bool> {
    let peers: Vec<&Who> = match peer {
        Some(peer) => vec![peer],
        None => rule.peers.listed().iter().map(|peer| &peer.who).collect(),
    };
    for other in case.supposing().policies_for(&policy.subject) {
        let rules = &other.side(direction).rules;
        looks.take(1 + rules.len() * (1 + peers.len()))?;
        let allows = |other: &&TrafficRule| {
            let covers = |who: &&Who| other.peers.cover(who, case.view, &mut { usize::MAX });
            other.action == Action::Allow
                && other.ports.mean(traffic) != Some(false)
                && (other.peers.are_everything() || !peers.is_empty() && peers.iter().all(covers))
        };
        if rules.iter().any(|other| allows(&other)) {
            return Some(true);
        }
    }
    Some(false)
}

fn report(
    case: &Case<'_>,
    path: &Path,
    direction: Direction,
    destination: &Destination<'_>,
    (protocol, number): (Protocol, u16),
    Forwarded { service, target }: Forwarded<'_>,
    findings: &mut Findings,
) {
    let namespace = destination.namespace;
    let message = text!(
        "{direction} on {protocol} {number} matches no traffic, because Service {namespace}/{service} forwards port {number} \
         to {protocol} {target} of the pods and policies match the pod port"
    );
    let help = text!("allow {protocol} {target} instead of {protocol} {number}");
    findings.add::<ServicePort>(case, path.clone(), message, help, None);
}

/// Reports ports that a change of a Service moves to a target that no policy allows.
fn check_service(case: &Case<'_>, service: &Service, findings: &mut Findings) {
    let Some(Body::Service(old)) = case.change.old().map(|object| &object.body) else { return };
    let object = case.change.object();
    let namespace = object.namespace().unwrap_or_default();
    let Some(facts) = case.view.namespace(namespace) else { return };
    let mut looks = Looks::default();
    let ports = Path::root().field("spec").field("ports");
    for (position, port) in service.ports.iter().enumerate() {
        let same = |other: &&crate::model::ServicePort| (other.protocol, other.number) == (port.protocol, port.number);
        if looks.take(1 + old.ports.len()).is_none() {
            return;
        }
        let Some(before) = old.ports.iter().find(same).filter(|before| before.target != port.target) else { continue };
        let moved = facts.distinct().filter(|running| service.selects(&running.workload)).find_map(|running| {
            looks.take(1 + facts.services.len())?;
            let (from, to) = (before.target_in(&running.workload)?, port.target_in(&running.workload)?);
            let endpoint = crate::model::Endpoint::of(namespace, &running.workload);
            let stops =
                stopped_by(case, &endpoint, traffic(port.protocol, from), traffic(port.protocol, to), &mut looks)?;
            Some((from, to, stops))
        });
        let Some((from, to, policy)) = moved else { continue };
        let protocol = port.protocol;
        let message = text!(
            "policies will block port {} of the Service, because it now forwards to {protocol} {to} and {} allows {protocol} \
             {from}",
            port.number,
            policy.object
        );
        let help = text!("first allow {protocol} {to} in {}", policy.object);
        findings.add::<ServicePort>(case, ports.index(position).field("targetPort"), message, help, None);
    }
}

/// Returns a policy that allows the old traffic to a pod, if the pod is isolated and no policy may allow the new traffic.
fn stopped_by<'a>(
    case: &Case<'a>,
    endpoint: &crate::model::Endpoint<'_>,
    from: Traffic<'_>,
    to: Traffic<'_>,
    looks: &mut Looks,
) -> Option<&'a Policy> {
    let (mut allows, mut is_isolated) = (None, false);
    for policy in case.after().policies(endpoint.namespace) {
        looks.take(1 + policy.ingress.rules.len())?;
        if policy.standing != Standing::InForce || policy.subject.mean(endpoint, case.view) == Some(false) {
            continue;
        }
        is_isolated |= policy.isolates(Direction::Ingress, case.view);
        for rule in policy.ingress.rules.iter().filter(|rule| rule.action != Action::Deny) {
            if rule.ports.mean(to) != Some(false) {
                return None;
            }
            if rule.action == Action::Allow && rule.ports.mean(from) == Some(true) {
                allows = allows.or(Some(policy));
            }
        }
    }
    allows.filter(|_| is_isolated)
}
