//! See [`PlatformFlowMissing`].

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::blame::{Stop, can_stop, stopped_everywhere};
use super::dns;
use super::dns_blocked::ways;
use super::well_known::WellKnown;
use super::{Case, Findings, Rule};
use crate::model::{AddressSet, Direction, End, Entity, Names, Namespaces, Policy, Protocol, Traffic};

rule! {
    /// In a namespace of the platform, policies keep out what the platform needs: metrics, health probes, the mesh.
    ///
    /// ## Why
    ///
    /// Namespaces of the platform get no baseline: their policies are their own, and what everybody else has from the
    /// baseline has to be in them. What is forgotten is not missed when the policy is applied. It is missed at night, when
    /// the database that nobody could scrape any more has run full.
    ///
    /// ## What it looks at
    ///
    /// Policies of the namespaces in `platformNamespaces` that isolate pods, with all policies that concern these pods
    /// added up, over all dialects:
    ///
    /// - `prometheus`: where ingress is isolated, the pods of Prometheus have to reach some port.
    /// - `probes`: where ingress is isolated and the namespace is in the mesh, the addresses from which the mesh sends the
    ///   kubelet's probes have to get in, or the node as a named entity. Outside of the mesh probes come from the node
    ///   itself, which every implementation lets through, so nothing is asked.
    /// - `mesh`: where the namespace is in the mesh (label `istio.io/dataplane-mode: ambient`), HBONE has to pass in each
    ///   direction that is isolated. Where the labels of the namespace are not known, it is taken not to be in the mesh.
    /// - `dns`: where egress is isolated, one way to the cluster's DNS has to be open. Not asked as shipped, since
    ///   `dns-blocked` asks it of every namespace.
    ///
    /// - NetworkPolicy, Cilium, Calico: policies in such a namespace are judged.
    /// - ClusterNetworkPolicy, and the policies of the cluster of Cilium and Calico: they count for what they allow and deny,
    ///   and are not judged themselves, since they are in no namespace.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-registry
    ///   namespace: kube-public
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: registry
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-registry
    ///   namespace: kube-public
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: registry
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: monitoring
    ///       podSelector:
    ///         matchLabels:
    ///           app.kubernetes.io/name: prometheus
    ///     ports:
    ///     - protocol: TCP
    ///       port: 9090
    /// ```
    ///
    /// ## Settings
    ///
    /// - `flows`: which of `prometheus`, `probes`, `mesh` and `dns` are required. The first three by default.
    /// - `prometheus`: `namespace` and `podLabels` of the pods that scrape. `monitoring` and
    ///   `app.kubernetes.io/name: prometheus` by default.
    /// - `meshPods`: `namespace` and `podLabels` of the pods that HBONE is spoken with. `istio-system` and `app: ztunnel` by
    ///   default.
    /// - `meshPort`: the port of HBONE. 15008 by default.
    /// - `probeAddresses`: from where the mesh sends probes. 169.254.7.127 by default, as in Istio's ambient mode.
    "platform-flow-missing", Deny, adds_up = true,
    pub struct PlatformFlowMissing {
        flows: Vec<Flow>,
        prometheus: WellKnown,
        mesh_pods: WellKnown,
        mesh_port: u16,
        probe_addresses: Vec<ProbeAddress>,
    }
}

/// An address from which probes come.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "IpAddr")]
struct ProbeAddress(AddressSet);

impl From<IpAddr> for ProbeAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

/// A flow that the platform needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Flow {
    Prometheus,
    Probes,
    Mesh,
    Dns,
}

impl Default for PlatformFlowMissing {
    fn default() -> Self {
        Self {
            flows: vec![Flow::Prometheus, Flow::Probes, Flow::Mesh],
            prometheus: WellKnown::prometheus(),
            mesh_pods: WellKnown::of("istio-system", ("app", "ztunnel")),
            mesh_port: 15_008,
            probe_addresses: vec![IpAddr::from(Ipv4Addr::new(169, 254, 7, 127)).into()],
        }
    }
}

/// The label by which a namespace joins Istio's ambient mesh, and its value.
const MESH: (&str, &str) = ("istio.io/dataplane-mode", "ambient");

impl Rule for PlatformFlowMissing {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for policy in case.policies() {
            let Namespaces::Own(Some(namespace)) = &policy.subject.namespaces else { continue };
            if !case.site.is_platform(namespace) {
                continue;
            }
            let labels = case.view.all_labels(namespace);
            let in_mesh = labels.is_some_and(|labels| labels.get(MESH.0) == Some(MESH.1));
            for flow in &self.flows {
                let needs_mesh = matches!(flow, Flow::Mesh | Flow::Probes);
                if needs_mesh && !in_mesh {
                    continue;
                }
                for (direction, stop, what) in self.missing(case, policy, *flow) {
                    let side = policy.side(direction);
                    let (path, verb) = match (stop, direction) {
                        (Stop::Rule(rule), _) => (&rule.path, "denies"),
                        (_, Direction::Ingress) => (&side.path, "does not let in"),
                        (_, Direction::Egress) => (&side.path, "does not let out to"),
                    };
                    let message = text!(
                        "the policy {verb} {what} for {}, in a namespace of the platform, and no other policy makes up for it",
                        policy.subject
                    );
                    let help = match stop {
                        Stop::Rule(_) => text!("leave it out of what is denied: {what}"),
                        _ => text!("allow it in this policy, or in another one for the same pods: {what}"),
                    };
                    findings.add::<Self>(case, path.clone(), message, help, None);
                }
            }
        }
    }
}

impl PlatformFlowMissing {
    /// In which directions a policy keeps a flow from its pods, by what of it, and what flow that is in words.
    fn missing<'a>(&'a self, case: &Case<'a>, policy: &'a Policy, flow: Flow) -> Vec<(Direction, Stop<'a>, String)> {
        let mut missing = Vec::new();
        match flow {
            Flow::Prometheus => {
                let ways = [(self.prometheus.end(), Traffic::SomePort)];
                let stop = stop(case, policy, Direction::Ingress, &ways);
                let what = text!("Prometheus ({}) on any port", self.prometheus);
                missing.extend(stop.map(|stop| (Direction::Ingress, stop, what)));
            }
            Flow::Probes => {
                let from = self.probe_addresses.iter().map(|address| End::Addresses { set: &address.0, outside: true });
                let node = [End::Entity(Entity::Host), End::Entity(Entity::Health)];
                let ways: Vec<_> = node.into_iter().chain(from).map(|end| (end, Traffic::SomePort)).collect();
                let stop = stop(case, policy, Direction::Ingress, &ways);
                missing.extend(stop.map(|stop| (Direction::Ingress, stop, "the mesh's health probes".to_owned())));
            }
            Flow::Mesh => {
                let port =
                    Traffic::Port { protocol: Protocol::Tcp, number: self.mesh_port, names: Names::AtLeast(&[]) };
                for direction in Direction::ALL {
                    let stop = stop(case, policy, direction, &[(self.mesh_pods.end(), port)]);
                    let what = text!("the mesh ({}, TCP {})", self.mesh_pods, self.mesh_port);
                    missing.extend(stop.map(|stop| (direction, stop, what)));
                }
            }
            Flow::Dns => {
                if can_stop(&policy.egress) {
                    let around = case.supposing().policies_for(&policy.subject);
                    let stop = dns::stopped_everywhere(case, &around, policy).map(|(stop, _)| stop);
                    let what = text!("the cluster's DNS ({})", ways(case));
                    missing.extend(stop.map(|stop| (Direction::Egress, stop, what)));
                }
            }
        }
        missing
    }
}

/// What of a policy stops all of these ways, if nothing is open and something of it does.
fn stop<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    ways: &[(End<'a>, Traffic<'a>)],
) -> Option<Stop<'a>> {
    if !can_stop(policy.side(direction)) {
        return None;
    }
    let around = case.supposing().policies_for(&policy.subject);
    stopped_everywhere(case.supposing(), &around, policy, direction, ways.iter().copied()).map(|(stop, _)| stop)
}
