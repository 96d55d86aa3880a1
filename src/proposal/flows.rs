//! Connections that policies allow on purpose: to the cluster DNS, from ingress controllers, from Prometheus.

use std::collections::BTreeSet;

use crate::model::{Caller, Demand, Direction, Extent, Labels, Party, PortSpan, Protocol};
use crate::view::{Running, View};

use super::candidate::{Candidate, Form, Kind};
use super::groups::{Place, pods};
use super::names::name;
use super::owners::owner;

/// Labels of ingress controllers and gateways, as their charts set them.
const INGRESS_CONTROLLERS: [(&str, &str); 10] = [
    ("app.kubernetes.io/name", "ingress-nginx"),
    ("app.kubernetes.io/name", "traefik"),
    ("app.kubernetes.io/name", "kubernetes-ingress"),
    ("app.kubernetes.io/name", "haproxy-ingress"),
    ("app.kubernetes.io/name", "kong"),
    ("app.kubernetes.io/name", "envoy"),
    ("app.kubernetes.io/name", "contour"),
    ("app", "ingress-nginx"),
    ("app", "istio-ingressgateway"),
    ("istio", "ingressgateway"),
];

/// The label that distinguishes the controller from its jobs, in the chart of ingress-nginx.
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "controller");

/// Labels of Prometheus, as its operator and its chart set them.
const PROMETHEUS: [(&str, &str); 2] = [("app.kubernetes.io/name", "prometheus"), ("app", "prometheus")];

/// Pods that connect to pods of many namespaces.
pub(super) struct Callers<'a> {
    ingress_controllers: Vec<WellKnown<'a>>,
    prometheus: Vec<WellKnown<'a>>,
}

/// Pods with well-known labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WellKnown<'a> {
    namespace: &'a str,
    labels: Vec<(&'a str, &'a str)>,
}

impl WellKnown<'_> {
    fn party(&self) -> Party {
        Party::Pods { pods: pods(self.namespace, &self.labels.iter().copied().collect()), except: Vec::new() }
    }
}

impl<'a> Callers<'a> {
    /// The callers that a view has.
    pub(super) fn of(view: &'a View) -> Self {
        let (mut ingress_controllers, mut prometheus) = (BTreeSet::new(), BTreeSet::new());
        for (namespace, facts) in view.namespaces().filter(|(name, _)| !name.is_empty()) {
            for running in facts.distinct().filter(|running| running.workload.host_network.is_none()) {
                let known = |wanted: &'static [(&'static str, &'static str)]| {
                    let has = |(key, value): &(&str, &str)| running.workload.labels.get(key) == Some(value);
                    wanted.iter().find(|label| has(label)).map(|label| {
                        let labels = [*label, COMPONENT].into_iter().filter(has).collect();
                        WellKnown { namespace, labels }
                    })
                };
                ingress_controllers.extend(known(&INGRESS_CONTROLLERS));
                prometheus.extend(known(&PROMETHEUS));
            }
        }
        Self {
            ingress_controllers: ingress_controllers.into_iter().collect(),
            prometheus: prometheus.into_iter().collect(),
        }
    }

    /// The ingress controllers in other namespaces.
    pub(super) fn ingress_controllers_outside(&self, namespace: &str) -> Vec<Party> {
        let outside = self.ingress_controllers.iter().filter(|known| known.namespace != namespace);
        outside.map(WellKnown::party).collect()
    }
}

/// Adds the candidates for a namespace.
pub(super) fn add(place: &Place<'_>, callers: &Callers<'_>, candidates: &mut Vec<Candidate>) {
    if place.members.iter().any(|member| place.isolates(&[*member], Direction::Egress)) {
        candidates.push(dns(place));
    }
    backends(place, callers, candidates);
    scraped(place, callers, candidates);
}

fn dns(place: &Place<'_>) -> Candidate {
    let from = vec![place.party(&Labels::default())];
    let form = Form { extent: Extent::Any, from, to: vec![Party::ClusterDns], ports: Vec::new() };
    Candidate {
        kind: Kind::Dns,
        rank: 0,
        namespace: place.name.to_owned(),
        name: name(&[place.name, "dns"]),
        why: format!("pods in namespace {} are isolated for egress and rules allow the cluster DNS", place.name),
        owner: owner(place.facts, &[]),
        demand: Demand::MustReach,
        forms: form.for_both_extents(),
    }
}

/// Adds a candidate for each port of a Service to which an Ingress or a route sends connections.
fn backends(place: &Place<'_>, callers: &Callers<'_>, candidates: &mut Vec<Candidate>) {
    let mut seen = BTreeSet::new();
    for backend in place.facts.backends.iter().filter(|backend| backend.caller == Caller::Proxy) {
        let known = place.facts.services.iter().find(|(service, _)| *service == backend.service);
        let Some((service_name, service)) = known else { continue };
        let Some(port) = service.backend_port(&backend.port) else { continue };
        let members: Vec<&Running> =
            place.members.iter().copied().filter(|member| service.selects(&member.workload)).collect();
        if members.is_empty() || !place.isolates(&members, Direction::Ingress) {
            continue;
        }
        let numbers: BTreeSet<u16> = members.iter().filter_map(|member| port.target_in(&member.workload)).collect();
        for (number, caller) in
            numbers.iter().flat_map(|number| callers.ingress_controllers.iter().map(move |caller| (*number, caller)))
        {
            if !seen.insert((service_name, number, caller)) {
                continue;
            }
            let form = Form {
                extent: Extent::Any,
                from: vec![caller.party()],
                to: vec![place.party(&service.selector)],
                ports: vec![PortSpan { protocol: Protocol::Tcp, first: number, last: number }],
            };
            candidates.push(Candidate {
                kind: Kind::IngressBackend,
                rank: 0,
                namespace: place.name.to_owned(),
                name: name(&[place.name, service_name, "from", caller.namespace, &number.to_string()]),
                why: format!(
                    "{} sends connections to Service {}/{service_name}, and rules allow the ingress controller in \
                     namespace {}",
                    backend.object, place.name, caller.namespace
                ),
                owner: owner(place.facts, &members),
                demand: Demand::MustReach,
                forms: form.for_both_extents(),
            });
        }
    }
}

/// Adds a candidate for each group of pods that request scraping on a known port.
fn scraped(place: &Place<'_>, callers: &Callers<'_>, candidates: &mut Vec<Candidate>) {
    for group in place.groups(Direction::Ingress) {
        if !place.isolates(&group.members, Direction::Ingress) {
            continue;
        }
        let port_of = |member: &&Running| member.workload.scrape.as_ref().and_then(|scrape| scrape.port);
        let ports: BTreeSet<u16> = group.members.iter().filter_map(port_of).collect();
        for (number, caller) in
            ports.iter().flat_map(|number| callers.prometheus.iter().map(move |caller| (*number, caller)))
        {
            let form = Form {
                extent: Extent::Any,
                from: vec![caller.party()],
                to: vec![place.party(&group.labels)],
                ports: vec![PortSpan { protocol: Protocol::Tcp, first: number, last: number }],
            };
            candidates.push(Candidate {
                kind: Kind::Scraped,
                rank: 0,
                namespace: place.name.to_owned(),
                name: name(&[place.name, &group.slug(), "scraped-by", caller.namespace, &number.to_string()]),
                why: format!(
                    "pods with {} in namespace {} request scraping, and rules allow Prometheus in namespace {}",
                    group.labels, place.name, caller.namespace
                ),
                owner: owner(place.facts, &group.members),
                demand: Demand::MustReach,
                forms: form.for_both_extents(),
            });
        }
    }
}
