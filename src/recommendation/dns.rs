//! The cluster DNS: the pods behind the DNS Services, and NodeLocal DNSCache.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{POLICIES, Recommendation, json_of};
use crate::model::{Labels, Protocol, Service, Workload};
use crate::view::{ClusterDns, NamespaceFacts, Site, View};

/// The namespaces in which the Services of a cluster DNS are.
const NAMESPACES: [&str; 2] = ["kube-system", "openshift-dns"];
/// The port of a DNS Service.
const DNS: u16 = 53;
/// The DaemonSet of NodeLocal DNSCache, and the address on which its manifest lets it listen.
const NODE_LOCAL: (&str, &str) = ("node-local-dns", "169.254.20.10");

/// DNS pods, with the port on which they listen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pods {
    namespace: &'static str,
    labels: Vec<(String, String)>,
    port: u16,
}

/// The names under which policies may refer to them.
#[derive(Default)]
struct Names {
    ports: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// Returns the `clusterDNS` of the cluster, if the current one does not fit.
pub(super) fn recommend(view: &View, site: &Site) -> Option<Recommendation> {
    let servers = servers(view);
    let has_node_local = has_node_local(view);
    let fits = |(pods, _): (&Pods, &Names)| site.cluster_dns.iter().any(|dns| is_same(pods, dns));
    let fits_all = servers.iter().all(fits) && (!has_node_local || has_address(site));
    if servers.is_empty() || fits_all {
        return None;
    }
    let mut reasons = Vec::new();
    let mut entries: Vec<Value> = Vec::new();
    if has_node_local {
        reasons.push(format!(
            "DaemonSet {} runs: NodeLocal DNSCache answers on {}, unless its -localip says otherwise.",
            NODE_LOCAL.0, NODE_LOCAL.1
        ));
        entries.push(json!({"addresses": [NODE_LOCAL.1]}));
    }
    for (Pods { namespace, labels, port }, names) in &servers {
        let labels: Labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let services = names.services.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        reasons.push(format!("The pods of Service {services} in namespace {namespace} listen on port {port}."));
        entries.push(json!({
            "namespace": namespace,
            "podLabels": json_of(&labels),
            "port": port,
            "portNames": names.ports,
            "services": names.services,
        }));
    }
    reasons.push(POLICIES.to_owned());
    Some(Recommendation { field: "clusterDNS", value: entries.into(), reasons })
}

/// The pods behind the DNS Services.
fn servers(view: &View) -> BTreeMap<Pods, Names> {
    let mut servers: BTreeMap<Pods, Names> = BTreeMap::new();
    for namespace in NAMESPACES {
        let Some(facts) = view.namespace(namespace) else { continue };
        for (name, service) in &facts.services {
            let Some((port, port_names)) = target(facts, service) else { continue };
            let labels = service.selector.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let names = servers.entry(Pods { namespace, labels, port }).or_default();
            names.ports.extend(port_names);
            names.services.insert(name.to_string());
        }
    }
    servers
}

/// The UDP port of the pods behind a DNS Service, and the names of this port. None if it is not a DNS Service, or if its
/// pods are unknown.
fn target(facts: &NamespaceFacts, service: &Service) -> Option<(u16, BTreeSet<String>)> {
    let port = service.ports.iter().find(|port| port.protocol == Protocol::Udp && port.number == DNS)?;
    let workload = &*facts.distinct().find(|running| service.selects(&running.workload))?.workload;
    let number = port.target_in(workload)?;
    Some((number, names(workload, number)))
}

fn names(workload: &Workload, number: u16) -> BTreeSet<String> {
    let ports = workload.ports.iter().filter(|port| port.number == number);
    ports.filter_map(|port| port.name.as_deref().map(str::to_owned)).collect()
}

fn is_same(pods: &Pods, dns: &ClusterDns) -> bool {
    let has_all = |labels: &Labels| {
        labels
            .iter()
            .all(|(key, value)| pods.labels.iter().any(|(own, is)| (own.as_str(), is.as_str()) == (key, value)))
    };
    dns.port() == pods.port
        && dns.pods().is_some_and(|(namespace, labels)| namespace == pods.namespace && has_all(labels))
}

fn has_node_local(view: &View) -> bool {
    let running = view.namespace("kube-system").into_iter().flat_map(NamespaceFacts::running);
    running.into_iter().any(|one| &*one.kind == "DaemonSet" && &*one.name == NODE_LOCAL.0)
}

fn has_address(site: &Site) -> bool {
    site.cluster_dns.iter().any(|dns| dns.pods().is_none())
}
