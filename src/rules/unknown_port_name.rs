//! See [`UnknownPortName`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::shared::destination::{Destination, Looks, destinations, selected};
use super::shared::host_policies::is_for_hosts;
use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, Numbers, Path, Policy, Port, Ports, Protocol, Rule as TrafficRule, Who};

rule! {
    /// A rule names a port that no container of its pods has.
    ///
    /// ## Why
    ///
    /// A port name in a network policy is the name of a container port. If no container has it, the rule allows nothing, and
    /// the API server accepts it. The usual mistake is the name of the Service port.
    ///
    /// ## What it checks
    ///
    /// Each port name in an allow rule, against the containers of the known pods at the destination: the pods of the policy
    /// for ingress, the pods of the peer for egress.
    ///
    /// It is not reported if
    ///
    /// - no matching pod is known, or it is not known whether the rule matches one of them;
    /// - an operator creates pods in the namespace from a custom resource;
    /// - the name is one that a mesh adds to pods (`http-envoy-prom`, `linkerd-admin` and others);
    /// - the policy belongs to the baseline controller: the names in the shipped policies are alternatives for all namespaces;
    /// - the author of the change may not list the pods and Services of that namespace.
    ///
    /// **Limits.** At most 10,000 pods, Services and rules are compared in one decision. Beyond that no name is reported.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy and Calico: names in ports.
    /// - Cilium: names in ingress only. For egress it resolves a name by the pods of the whole cluster.
    /// - ClusterNetworkPolicy: `namedPort`.
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
    ///         - name: web
    ///           containerPort: 8080
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
    ///       port: http
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
    ///         - name: web
    ///           containerPort: 8080
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
    ///       port: web
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "unknown-port-name", Warn,
    #[derive(Default)]
    pub struct UnknownPortName {}
}

/// Parts of the names of ports that meshes add to pods.
const ADDED: [&str; 4] = ["envoy", "istio", "linkerd", "mesh"];

impl Rule for UnknownPortName {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.is_reserved() {
            return;
        }
        let mut looks = Looks::default();
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            for (direction, side) in policy.sides() {
                // Cilium resolves these by the pods of the whole cluster, whatever the peer is.
                if direction == Direction::Egress && policy.object.group() == "cilium.io" {
                    continue;
                }
                let rules = side.rules.iter().filter(|rule| rule.action == Action::Allow);
                // None means that the limit of comparisons was reached.
                let _ = check_rules(case, (policy, direction), rules, &mut looks, findings);
            }
        }
    }
}

/// Returns true if a mesh may add a port of this name to the pods.
fn is_added(name: &str) -> bool {
    ADDED.iter().any(|added| name.contains(added))
}

fn check_rules<'a>(
    case: &Case<'a>,
    (policy, direction): (&'a Policy, Direction),
    rules: impl Iterator<Item = &'a TrafficRule>,
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    let mut known: HashMap<Option<&'a Who>, Vec<Destination<'a>>> = HashMap::new();
    for rule in rules {
        let Ports::Only(ports) = &rule.ports else { continue };
        let is_named = |port: &&Port| matches!(&port.numbers, Numbers::Named(name) if !is_added(name));
        if !ports.iter().any(|port| is_named(&port)) {
            continue;
        }
        for (pods, peer) in selected(policy, direction, rule) {
            if let Entry::Vacant(vacant) = known.entry(peer) {
                vacant.insert(destinations(case, pods, looks)?);
            }
        }
        for port in ports.iter().filter(is_named) {
            let Numbers::Named(name) = &port.numbers else { continue };
            let protocol = port.protocol.unwrap_or(Protocol::Tcp);
            let mut wanting = None;
            for destination in selected(policy, direction, rule).filter_map(|(_, peer)| known.get(&peer)).flatten() {
                looks.take(1 + destination.matched.len())?;
                let mut workloads = destination.matched.iter().map(|running| &running.workload);
                if !destination.is_certain() || workloads.any(|workload| workload.port_named(name, protocol).is_some())
                {
                    wanting = None;
                    break;
                }
                wanting = wanting.or(Some(destination));
            }
            if let Some(destination) = wanting {
                report(case, &port.path, destination, (name, protocol), looks, findings)?;
            }
        }
    }
    Some(())
}

fn report(
    case: &Case<'_>,
    path: &Path,
    destination: &Destination<'_>,
    (name, protocol): (&str, Protocol),
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    let namespace = destination.namespace;
    let message =
        text!("containers of the pods in namespace {namespace} do not define a {protocol} port named `{name}`");
    let mut closest = None;
    let mut help = "use the name of a container port, or its number".to_owned();
    for running in &destination.matched {
        let workload = &running.workload;
        for (service, written) in destination.services_of(workload) {
            looks.take(1 + written.ports.len())?;
            let Some(port) = written.ports.iter().find(|port| *port.name == *name && port.protocol == protocol) else {
                continue;
            };
            closest = Some(text!(
                "Service {namespace}/{service} has a port named `{name}`, but policies match container ports"
            ));
            if let Some(number) = port.target_in(workload) {
                let listed =
                    workload.ports.iter().find(|listed| listed.protocol == protocol && listed.number == number);
                help = match listed.and_then(|listed| listed.name.as_deref()) {
                    Some(own) => text!("use `{own}`, the name of container port {number}"),
                    None => text!("use port number {number}"),
                };
            }
            break;
        }
        if closest.is_some() {
            break;
        }
    }
    findings.add_with_closest::<UnknownPortName>(case, path.clone(), message, closest, help, None);
    Some(())
}
