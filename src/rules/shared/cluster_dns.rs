//! The cluster DNS as rules see it: the known DNS pods, or else the `clusterDNS` entries of the configuration.

use super::attribution::{Blocker, stopped_by};
use super::near_miss::{NearMiss, Target, near_miss};
use crate::budget::charge;
use crate::model::{
    Action, AddressSet, Assumption, Block, ContainerPort, Decision, Direction, End, Endpoint, Entity, Fix, Labels,
    NAME_LABEL, Namespaces, Numbers, Object, Path, Peer, Pods, Policy, Port, Protocol, Question, Rule as TrafficRule,
    Selector, Side, Subject, Traffic, Who, always_added_to_pods, ask, names,
};
use crate::rules::rule::Case;
use crate::view::{ClusterDns, NamespaceFacts, Running, Scene, Site, View};

/// Maximum number of DNS pods that are compared in one decision.
const MAX_SERVERS: usize = 4;

/// One endpoint of a `clusterDNS` entry, with its ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server<'a> {
    pub(crate) end: End<'a>,
    /// The UDP port that policies see.
    pub(crate) port: u16,
    port_over_tcp: u16,
    /// The ports that its containers list. Empty if they are unknown.
    ports: &'a [ContainerPort],
    dns: &'a ClusterDns,
}

impl<'a> Server<'a> {
    /// The DNS traffic to the endpoint.
    pub(crate) fn traffic(&self, protocol: Protocol) -> Traffic<'a> {
        let number = self.port_over(protocol);
        if self.ports.is_empty() {
            return self.dns.traffic_to(number, protocol);
        }
        Traffic::Port { protocol, number, names: names(Some(self.ports), protocol, number) }
    }

    /// Returns true if the endpoint is a hostNetwork pod. Policies see the node instead of the pod.
    fn is_on_node(&self) -> bool {
        matches!(self.end, End::Entity(_))
    }

    /// Describes the endpoint with its port.
    pub(crate) fn words(&self, protocol: Protocol) -> String {
        let port = self.port_over(protocol);
        match self.dns.pods().filter(|_| self.is_on_node()) {
            Some((namespace, labels)) => {
                format!("port {port} of the nodes of hostNetwork pods with {labels} in namespace {namespace}")
            }
            None => self.dns.on_port(port),
        }
    }

    /// The port over a protocol, as policies see it.
    pub(crate) fn port_over(&self, protocol: Protocol) -> u16 {
        if protocol == Protocol::Tcp { self.port_over_tcp } else { self.port }
    }
}

/// The endpoints of one `clusterDNS` entry. The Service spreads lookups over all of its pods, so each of them has to be
/// reachable.
///
/// Known pods replace the configuration: all of their labels count, their addresses, and the port on which they listen.
/// If both pods and the templates that create them are known, the pods count. hostNetwork pods count only if no others
/// are known.
pub(crate) fn servers<'a>(view: &'a View, dns: &'a ClusterDns) -> Vec<Server<'a>> {
    let (end, port) = (dns.end(), dns.port());
    let configured = Server { end, port, port_over_tcp: port, ports: &[], dns };
    let (Some((namespace, labels)), End::Pod(named)) = (dns.pods(), end) else { return vec![configured] };
    let selector = Selector::of(labels);
    let is_server = |alike: &&[Running]| {
        charge(1);
        alike.first().is_some_and(|one| selector.matches(&one.workload.labels))
    };
    let is_on_node = |running: &Running| running.workload.host_network.is_some();
    let alike = view.namespace(namespace).into_iter().flat_map(NamespaceFacts::alike).filter(is_server);
    let (on_nodes, alike): (Vec<&[Running]>, Vec<&[Running]>) =
        alike.partition(|alike| alike.first().is_some_and(is_on_node));
    let (pods, templates): (Vec<&[Running]>, Vec<&[Running]>) =
        alike.into_iter().partition(|alike| alike.first().is_some_and(|one| &*one.kind == "Pod"));
    let known = [pods, templates, on_nodes].into_iter().find(|known| !known.is_empty()).unwrap_or_default();
    // Identical pods still have different addresses.
    let known = known.into_iter().flatten().take(MAX_SERVERS);
    let server = |running: &'a Running| {
        let endpoint = Endpoint::of(namespace, &running.workload);
        let Endpoint { services, within, .. } = named;
        let (addresses, present) = (running.address.as_slice(), always_added_to_pods(&running.kind));
        let pod = End::Pod(Endpoint { services, within, addresses, present, ..endpoint });
        // Lookups may go to any node, also to another one than that of the client.
        let end = if is_on_node(running) { End::Entity(Entity::RemoteNode) } else { pod };
        let ports = &running.workload.ports;
        let port = |protocol| listens_on(ports, dns, protocol).unwrap_or(dns.port());
        Server { end, port: port(Protocol::Udp), port_over_tcp: port(Protocol::Tcp), ports, dns }
    };
    let servers: Vec<Server<'a>> = known.map(server).collect();
    if servers.is_empty() { vec![configured] } else { servers }
}

/// The port on which a pod serves DNS: the listed port of this protocol whose name contains `dns`. None if the pod
/// lists the configured port, or no such port.
fn listens_on(ports: &[ContainerPort], dns: &ClusterDns, protocol: Protocol) -> Option<u16> {
    charge(ports.len());
    let of_protocol = || ports.iter().filter(|port| port.protocol == protocol);
    if of_protocol().any(|port| port.number == dns.port()) {
        return None;
    }
    let is_named = |port: &&ContainerPort| port.name.as_deref().is_some_and(|name| name.contains("dns"));
    of_protocol().find(is_named).map(|port| port.number)
}

/// Finds the cause that blocks some of the pods of a policy from one `clusterDNS` entry, and the assumptions of the
/// answer.
pub(crate) fn stopped<'a>(
    view: &'a View,
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    dns: &'a ClusterDns,
    protocol: Protocol,
) -> (Blocker<'a>, Vec<Assumption<'a>>) {
    let mut assumed = Vec::new();
    for server in servers(view, dns) {
        let stopped = stopped_at(scene, around, policy, &server, protocol);
        if stopped.0 != Blocker::Nothing {
            return stopped;
        }
        assumed = stopped.1;
    }
    (Blocker::Nothing, assumed)
}

/// The same for one endpoint.
fn stopped_at<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    server: &Server<'a>,
    protocol: Protocol,
) -> (Blocker<'a>, Vec<Assumption<'a>>) {
    stopped_by(scene, around, policy, Direction::Egress, (server.end, server.traffic(protocol)))
}

/// Finds the part of a policy that blocks some of its pods from every `clusterDNS` entry, and the assumptions of the
/// answer. None if one entry is reachable, or if only other policies block them.
pub(crate) fn stopped_everywhere<'a>(
    case: &Case<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
) -> Option<(Blocker<'a>, Vec<Assumption<'a>>)> {
    let mut own = None;
    for dns in &case.site.cluster_dns {
        match stopped(case.view, case.supposing(), around, policy, dns, Protocol::Udp) {
            (Blocker::Nothing, _) => return None,
            stopped if stopped.0.is_own() => own = own.or(Some(stopped)),
            _ => {}
        }
    }
    own
}

/// Finds a DNS pod that the policy selects and blocks for pods of other namespaces, with the part of the policy that
/// does so.
pub(crate) fn server_stopped<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    protocol: Protocol,
) -> Option<(Server<'a>, Blocker<'a>)> {
    let any_pod = End::Pod(Endpoint {
        complete: true,
        within: Some(AddressSet::usual_v4_of_pods()),
        // No namespace has this name, so only selectors for all namespaces, or for all but some, match it.
        ..Endpoint::unknown("*")
    });
    let stop = |server: Server<'a>| {
        let End::Pod(pod) = server.end else { return None };
        if policy.subject.mean(&pod, case.view) != Some(true) {
            return None;
        }
        let (subject, direction) = (Subject::One(pod), Direction::Ingress);
        let question = Question { subject, direction, other: any_pod, traffic: server.traffic(protocol) };
        let scene = case.after();
        let decisions = ask(scene.policies(pod.namespace), &question, &scene).decisions;
        decisions.into_iter().find_map(|decision| match decision {
            Decision::Isolated(by) if by.iter().any(|by| std::ptr::eq(*by, policy)) => Some(Blocker::Isolation),
            Decision::Denied(by, rule) if std::ptr::eq(by, policy) => Some(Blocker::Rule(rule)),
            _ => None,
        })
    };
    let mut all = case.site.cluster_dns.iter().flat_map(|dns| servers(case.view, dns));
    all.find_map(|server| Some((server, stop(server)?)))
}

/// The assumption behind an object that allows the cluster DNS by address.
#[must_use]
pub(crate) fn assumed_for_dns(object: &Object, site: &Site, view: &View) -> Option<String> {
    let rules = || {
        let rules = object.policies().iter().flat_map(|policy| &policy.egress.rules);
        rules.filter(|rule| rule.action == Action::Allow)
    };
    let usual = site.cluster_dns.iter().find_map(|dns| {
        let rule =
            rules().find(|rule| servers(view, dns).iter().any(|server| is_by_usual_address(rule, server, view)))?;
        Some(text!(
            "{} of {} contains the unknown addresses of the cluster DNS; pods usually have addresses of RFC 1918 or \
             RFC 6598",
            rule.peers,
            object.id
        ))
    });
    usual.or_else(|| assumed_for_nodes(object, site, rules()))
}

/// Returns true if a rule allows the pod only because its unknown addresses are assumed to be usual ones.
fn is_by_usual_address(rule: &TrafficRule, server: &Server<'_>, view: &View) -> bool {
    charge(1);
    let End::Pod(pod @ Endpoint { addresses: [], within: Some(_), .. }) = server.end else { return false };
    let means = |pod: Endpoint<'_>| rule.means(&End::Pod(pod), server.traffic(Protocol::Udp), view) == Some(true);
    means(pod) && !means(Endpoint { within: None, ..pod })
}

/// The assumption behind rules that allow the cluster DNS by address, for agents that identify pods and nodes by labels.
/// Cilium matches a CIDR with the address of a node only if `policy-cidr-match-mode: nodes` is set.
fn assumed_for_nodes<'a>(object: &Object, site: &Site, rules: impl Iterator<Item = &'a TrafficRule>) -> Option<String> {
    let blocks = rules.flat_map(TrafficRule::blocks);
    let mut blocks = blocks.map(|(_, block)| block).filter(|block| !block.inside);
    blocks.find_map(|block| {
        charge(1);
        let mut addresses = site.cluster_dns.iter().flat_map(ClusterDns::addresses);
        let address = addresses.find(|address| block.contains(**address))?;
        Some(format!(
            "{block} of {} matches the cluster DNS at {address}; if that is the address of a node, Cilium needs \
             `policy-cidr-match-mode: nodes`, or the rule `toEntities: [host]`",
            object.id
        ))
    })
}

/// The rule that comes closest to allowing DNS for the pods that a policy isolates.
pub(crate) fn nearest<'a>(case: &Case<'a>, around: &[&'a Policy], policy: &'a Policy) -> Option<NearMiss<'a>> {
    let nothing = Labels::default();
    let near = |dns: &'a ClusterDns| {
        let (namespace, labels) = dns.pods().unwrap_or(("kube-system", &nothing));
        let is_isolated = |server: &Server<'a>| {
            stopped_at(case.supposing(), around, policy, server, Protocol::Udp).0 == Blocker::Isolation
        };
        let server = servers(case.view, dns).into_iter().find(is_isolated)?;
        let target = Target {
            name: "the DNS pods",
            port_of: "the DNS pods",
            word: "dns",
            namespace,
            labels,
            place: match dns.pods() {
                Some(_) if server.is_on_node() => "the nodes of the DNS pods".to_owned(),
                Some(_) => format!("{labels} in namespace {namespace}"),
                None => dns.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
            },
            end: server.end,
            protocol: Protocol::Udp,
            number: server.port,
            is_configured: server.port == dns.port(),
            traffic: server.traffic(Protocol::Udp),
        };
        near_miss(case, around, &policy.subject, Direction::Egress, &target, Some(policy))
    };
    case.site.cluster_dns.iter().filter_map(near).min_by_key(NearMiss::rank)
}

/// The `clusterDNS` entries in words, for a help text.
pub(crate) fn cluster_dns_entries(case: &Case<'_>) -> String {
    let way = |dns: &ClusterDns| match servers(case.view, dns).first() {
        Some(server) => server.words(Protocol::Udp),
        None => dns.to_string(),
    };
    let ways: Vec<String> = case.site.cluster_dns.iter().map(way).collect();
    ways.join(" or ")
}

/// The port of a `clusterDNS` entry.
fn port(case: &Case<'_>, dns: &ClusterDns, protocol: Protocol) -> u16 {
    servers(case.view, dns).first().map_or(dns.port(), |server| server.port_over(protocol))
}

/// A fix that allows the first `clusterDNS` entry.
pub(crate) fn allow_cluster_dns(case: &Case<'_>, protocols: &[Protocol], side: &Side) -> Option<Fix> {
    let dns = case.site.cluster_dns.first()?;
    // The addresses of nodes are not known.
    if servers(case.view, dns).iter().any(Server::is_on_node) {
        return None;
    }
    let peer = |who| Peer::new(Path::root(), who);
    let peers = match dns.pods() {
        Some((namespace, labels)) => vec![peer(Who::Pods(Pods {
            namespaces: Namespaces::Matching(Selector::equals(NAME_LABEL, namespace)),
            labels: Some(Selector::of(labels)),
        }))],
        None => dns.addresses().iter().map(|address| peer(Who::Addresses(Block::whole((*address).into())))).collect(),
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
