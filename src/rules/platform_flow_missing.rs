//! See [`PlatformFlowMissing`].

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::shared::attribution::{Blocker, can_stop, stopped_everywhere};
use super::shared::cluster_dns::{self, cluster_dns_entries};
use super::shared::well_known::{MESH_PROBES, WellKnown};
use super::{Case, Findings, Rule};
use crate::model::{AddressSet, Direction, End, Endpoint, Entity, Names, Namespaces, Policy, Protocol, Traffic};

rule! {
    /// Policies in a platform namespace block flows that the platform requires: metrics, health probes, the mesh.
    ///
    /// ## Why
    ///
    /// Platform namespaces get no baseline. Their own policies have to allow the flows that the baseline allows
    /// elsewhere. A forgotten flow does not show when the policy is applied. It shows later, for example when a
    /// database that Prometheus could no longer scrape has run out of disk space.
    ///
    /// ## What it checks
    ///
    /// Policies of the namespaces in `platformNamespaces` that isolate pods, with all policies for these pods added up,
    /// over all dialects:
    ///
    /// - `prometheus`: if ingress is isolated, the policies have to allow the Prometheus pods at least one port.
    /// - `probes`: if ingress is isolated and the namespace is in the mesh, the policies have to allow the addresses
    ///   from which the mesh sends kubelet probes, or the node as a named entity. Outside the mesh probes come from the
    ///   node itself, which every implementation allows, so the flow is not required.
    /// - `mesh`: if the namespace is in the mesh (label `istio.io/dataplane-mode: ambient`), the policies have to allow
    ///   HBONE in each isolated direction, either with other pods of the mesh (checked for the pods of this namespace)
    ///   or with `meshPods`. A namespace with unknown labels counts as outside the mesh.
    /// - `dns`: if egress is isolated, the policies have to allow one `clusterDNS` entry. Not required by default,
    ///   because `dns-blocked` checks it in every namespace.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy, Cilium, Calico: policies in a platform namespace are checked.
    /// - ClusterNetworkPolicy, and the cluster-scoped policies of Cilium and Calico: their allow and deny rules count,
    ///   but they are not checked themselves, because they are in no namespace.
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
    /// - `flows`: the required flows out of `prometheus`, `probes`, `mesh` and `dns`. The first three by default.
    /// - `prometheus`: `namespace` and `podLabels` of the Prometheus pods. `monitoring` and
    ///   `app.kubernetes.io/name: prometheus` by default.
    /// - `meshPods`: `namespace` and `podLabels` of other HBONE peers. `istio-system` and `app: ztunnel` by default, as
    ///   before Istio 1.21.
    /// - `meshPort`: the port of HBONE. 15008 by default.
    /// - `probeAddresses`: the source addresses of probes in the mesh, one of which has to be allowed. 169.254.7.127 and
    ///   `fd16:9254:7127:1337:ffff:ffff:ffff:ffff` by default, as in Istio's ambient mode.
    "platform-flow-missing", Deny, adds_up = true,
    pub struct PlatformFlowMissing {
        flows: Vec<Flow>,
        prometheus: WellKnown,
        mesh_pods: WellKnown,
        mesh_port: u16,
        probe_addresses: Vec<ProbeAddress>,
    }
}

/// A source address of probes.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(from = "IpAddr")]
struct ProbeAddress {
    address: IpAddr,
    #[schemars(skip)]
    set: AddressSet,
}

impl From<IpAddr> for ProbeAddress {
    fn from(address: IpAddr) -> Self {
        Self { address, set: address.into() }
    }
}

/// A flow that the platform requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
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
            probe_addresses: vec![
                IpAddr::from(Ipv4Addr::new(169, 254, 7, 127)).into(),
                IpAddr::from(MESH_PROBES).into(),
            ],
        }
    }
}

/// The label that adds a namespace to Istio's ambient mesh, with its value.
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
                for Missing { direction, stop, what, allow } in self.missing(case, policy, namespace, *flow) {
                    let subject = &policy.subject;
                    let (path, why, help) = match stop {
                        Blocker::Rule(rule) => (
                            &rule.path,
                            text!("this rule denies {direction} for {subject}"),
                            text!("narrow this rule so that it does not deny {allow}"),
                        ),
                        _ => (
                            &policy.side(direction).path,
                            text!("this policy isolates {subject} for {direction} and no policy allows this traffic"),
                            text!("allow {allow}, in this policy or in another policy for the same pods"),
                        ),
                    };
                    let message = match direction {
                        Direction::Ingress => {
                            text!("{what} cannot reach pods of platform namespace {namespace}, because {why}")
                        }
                        Direction::Egress => {
                            text!("pods of platform namespace {namespace} cannot reach {what}, because {why}")
                        }
                    };
                    findings.add::<Self>(case, path.clone(), message, help, None);
                }
            }
        }
    }
}

/// A flow that a policy blocks.
struct Missing<'a> {
    direction: Direction,
    stop: Blocker<'a>,
    /// The peer, as text.
    what: String,
    /// The traffic to allow, as text.
    allow: String,
}

impl PlatformFlowMissing {
    /// The blocked parts of a flow of the pods of a namespace, at most one per direction.
    fn missing<'a>(&'a self, case: &Case<'a>, policy: &'a Policy, namespace: &'a str, flow: Flow) -> Vec<Missing<'a>> {
        let mut missing = Vec::new();
        match flow {
            Flow::Prometheus => {
                let direction = Direction::Ingress;
                let ways = [(self.prometheus.end(), Traffic::SomePort)];
                missing.extend(stop(case, policy, direction, &ways).map(|stop| Missing {
                    direction,
                    stop,
                    what: text!("Prometheus in namespace {}", self.prometheus.namespace),
                    allow: text!("ingress from {} on the metrics ports", self.prometheus),
                }));
            }
            Flow::Probes => {
                let direction = Direction::Ingress;
                let from = self.probe_addresses.iter().map(|from| End::Addresses { set: &from.set, outside: true });
                let node = [End::Entity(Entity::Host), End::Entity(Entity::Health)];
                let ways: Vec<_> = node.into_iter().chain(from).map(|end| (end, Traffic::SomePort)).collect();
                let from: Vec<String> = self.probe_addresses.iter().map(|from| from.address.to_string()).collect();
                let from = if from.is_empty() { "the node".to_owned() } else { from.join(" or ") };
                missing.extend(stop(case, policy, direction, &ways).map(|stop| Missing {
                    direction,
                    stop,
                    what: "health probes of the mesh".to_owned(),
                    allow: text!("ingress from {from} on the probe ports"),
                }));
            }
            Flow::Mesh => {
                let number = self.mesh_port;
                let port = Traffic::Port { protocol: Protocol::Tcp, number, names: Names::AtLeast(&[]) };
                // Since Istio 1.21 the tunnel connects the pods themselves, not ztunnel. This namespace is in the mesh.
                let pod = End::Pod(Endpoint::unknown(namespace));
                let ways = [(pod, port), (self.mesh_pods.end(), port)];
                for direction in Direction::ALL {
                    let preposition = direction.preposition();
                    missing.extend(stop(case, policy, direction, &ways).map(|stop| Missing {
                        direction,
                        stop,
                        what: text!("the mesh (TCP {number})"),
                        allow: text!(
                            "{direction} {preposition} pods of namespaces with {}={} on TCP {number}",
                            MESH.0,
                            MESH.1
                        ),
                    }));
                }
            }
            Flow::Dns => {
                if can_stop(&policy.egress) {
                    let around = case.supposing().policies_for(&policy.subject);
                    let stop = cluster_dns::stopped_everywhere(case, &around, policy).map(|(stop, _)| stop);
                    missing.extend(stop.map(|stop| Missing {
                        direction: Direction::Egress,
                        stop,
                        what: text!("the cluster DNS ({})", cluster_dns_entries(case)),
                        allow: text!("UDP and TCP to {}", cluster_dns_entries(case)),
                    }));
                }
            }
        }
        missing
    }
}

/// Finds the part of a policy that blocks all of these paths. None if one of them is open, or if only other policies
/// block them.
fn stop<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    direction: Direction,
    ways: &[(End<'a>, Traffic<'a>)],
) -> Option<Blocker<'a>> {
    if !can_stop(policy.side(direction)) {
        return None;
    }
    let around = case.supposing().policies_for(&policy.subject);
    stopped_everywhere(case.supposing(), &around, policy, direction, ways.iter().copied()).map(|(stop, _)| stop)
}
