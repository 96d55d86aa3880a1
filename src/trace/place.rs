//! The source and destination of a connection as a user names them, resolved in a view.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{
    AddressSet, ContainerPort, DomainPattern, End, Endpoint, Entity, Labels, Protocol, Service, Workload,
};
use crate::view::{NamespaceFacts, Running, View};

/// A port as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// A number, or the name of a Service port or container port.
    pub port: PortName,
}

/// The number or the name of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// The number.
    Number(u16),
    /// The name.
    Name(String),
}

/// A destination as a user names it, with a port if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The end.
    pub end: String,
    /// The port. None stands for every port.
    pub port: Option<Port>,
}

/// An end of a connection.
#[derive(Clone, Debug)]
pub struct Place {
    /// The end in messages, such as `Deployment shop/web`.
    pub name: String,
    /// What it is.
    pub kind: PlaceKind,
    /// The port of the pods, if the user named a port. For a Service it is the target port.
    pub port: Option<(Protocol, u16)>,
}

/// The kind of an end.
#[derive(Clone, Debug)]
pub enum PlaceKind {
    /// A pod, or the pods of a template.
    Pods {
        /// The namespace.
        namespace: String,
        /// The object that was found, as its kind and its name. None for a set of labels.
        object: Option<(String, String)>,
        /// The pods.
        workload: Box<Workload>,
        /// The address of the pod, if it is known.
        addresses: Vec<IpAddr>,
    },
    /// Addresses.
    Addresses {
        /// The addresses.
        set: AddressSet,
        /// True if they are known to be outside of the cluster.
        outside: bool,
    },
    /// A node, the API server, or another part of the cluster.
    Entity(Entity),
    /// A DNS name.
    Domain(Box<DomainPattern>),
}

/// An end that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The text is not an end.
    #[error(
        "`{0}` is not a source or destination; expected namespace/name, namespace/kind/name, namespace/label=value, an \
         IP address, a CIDR, a domain name, or one of: internet, node, apiserver"
    )]
    Syntax(String),
    /// The port is not a port.
    #[error(
        "`{0}` is not a port; expected PORT or PORT/PROTOCOL, with a number from 1 to 65535 or a name, and TCP, UDP or SCTP"
    )]
    Port(String),
    /// The namespace is unknown.
    #[error("namespace `{0}` is unknown: it is neither in the manifests nor in the cluster")]
    Namespace(String),
    /// Nothing has this name.
    #[error("`{name}` is not in namespace `{namespace}`; known there: {known}")]
    Name {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
        /// Some names that are there.
        known: String,
    },
    /// The Service has no such port.
    #[error("Service {namespace}/{service} has no port {port}; its ports are {known}")]
    ServicePort {
        /// The namespace.
        namespace: String,
        /// The Service.
        service: String,
        /// The port.
        port: String,
        /// The ports that it has.
        known: String,
    },
    /// The Service selects no known pod.
    #[error("Service {0} selects no known pod")]
    Unbacked(String),
    /// The pods list no port of this name.
    #[error("{0} lists no port with the name {1}")]
    PortName(String, String),
    /// A name of a port without pods that could list it.
    #[error("port name `{0}` needs pods that list it; give a number")]
    NameWithoutPods(String),
}

/// Parses a destination, and its port after a colon.
///
/// # Errors
/// Fails if the part after the colon is not a port.
pub fn parse_target(text: &str) -> Result<Target, PlaceError> {
    let plain = || Target { end: text.trim_matches(['[', ']']).to_owned(), port: None };
    // An IPv6 address has colons of its own; with a port it stands in brackets.
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return Ok(plain());
    }
    let Some((end, port)) = text.rsplit_once(':') else { return Ok(plain()) };
    if end.starts_with('[') && !end.ends_with(']') {
        return Ok(plain());
    }
    let (name, protocol) = port.split_once('/').unwrap_or((port, "TCP"));
    let bad = || PlaceError::Port(port.to_owned());
    let protocol = Protocol::WITH_PORTS
        .into_iter()
        .find(|known| known.name().is_some_and(|known| known.eq_ignore_ascii_case(protocol)))
        .ok_or_else(bad)?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let port = match name.parse::<u32>() {
        Ok(number) => PortName::Number(u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(bad)?),
        Err(_) if is_name(name) => PortName::Name(name.to_owned()),
        Err(_) => return Err(bad()),
    };
    Ok(Target { end: end.trim_matches(['[', ']']).to_owned(), port: Some(Port { protocol, port }) })
}

/// Finds the ends that a text names. `namespace` is for names without one.
///
/// # Errors
/// Fails if the text is not an end, or names what the view does not have.
pub fn resolve(view: &View, text: &str, port: Option<&Port>, namespace: &str) -> Result<Vec<Place>, PlaceError> {
    let plain = |name: String, kind| -> Result<Vec<Place>, PlaceError> {
        let port = match port {
            None => None,
            Some(Port { protocol, port: PortName::Number(number) }) => Some((*protocol, *number)),
            Some(Port { port: PortName::Name(name), .. }) => return Err(PlaceError::NameWithoutPods(name.clone())),
        };
        Ok(vec![Place { name, kind, port }])
    };
    match text {
        "internet" => {
            return plain(
                "the internet".to_owned(),
                PlaceKind::Addresses { set: AddressSet::internet(), outside: true },
            );
        }
        "node" => return plain("another node".to_owned(), PlaceKind::Entity(Entity::RemoteNode)),
        "apiserver" => return plain("the API server".to_owned(), PlaceKind::Entity(Entity::KubeApiserver)),
        _ => {}
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return match pod_at(view, address) {
            Some((namespace, running)) => of_running(namespace, running, port).map(|place| vec![place]),
            None => plain(text.to_owned(), addresses(address.into())),
        };
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return plain(text.to_owned(), addresses(net));
    }
    if text.starts_with('/') || text.is_empty() {
        return Err(PlaceError::Syntax(text.to_owned()));
    }
    let (space, rest) = match text.split_once('/') {
        // The key of a label may have a slash, and a namespace has no dot.
        Some((space, rest)) if !space.contains(['=', '.']) && !space.is_empty() => (space, rest),
        Some(_) => (namespace, text),
        None if text.contains('=') => (namespace, text),
        None if text.contains('.') && is_domain(text) => {
            return plain(text.to_owned(), PlaceKind::Domain(Box::new(DomainPattern::name(text))));
        }
        None => (namespace, text),
    };
    if space.is_empty() || rest.is_empty() {
        return Err(PlaceError::Syntax(text.to_owned()));
    }
    if rest.contains('=') {
        let place = of_labels(space, rest, port).ok_or_else(|| PlaceError::Syntax(text.to_owned()))?;
        return place.map(|place| vec![place]);
    }
    let facts = view.namespace(space).ok_or_else(|| PlaceError::Namespace(space.to_owned()))?;
    let (kind, name) = rest.split_once('/').map_or((None, rest), |(kind, name)| (Some(kind), name));
    if kind.is_some_and(|kind| is_kind(kind, "Service", &["svc"])) {
        return of_service(space, facts, name, port);
    }
    let mut found = facts.running().iter().filter(|running| {
        *running.name == *name && kind.is_none_or(|kind| is_kind(kind, &running.kind, short_names(&running.kind)))
    });
    match (found.next(), kind) {
        (Some(running), _) => of_running(space, running, port).map(|place| vec![place]),
        // Of a name alone, a Service comes after pods and what creates pods.
        (None, None) if facts.services.iter().any(|(service, _)| **service == *name) => {
            of_service(space, facts, name, port)
        }
        (None, _) => Err(unknown(space, facts, rest)),
    }
}

fn addresses(net: IpNet) -> PlaceKind {
    let set = AddressSet::from(net);
    let mut private = set.clone();
    private.subtract(&AddressSet::internet());
    // Of IPv6, only unique local and link-local addresses are surely not on the internet (RFC 4193).
    let is_global_v6 = matches!(net, IpNet::V6(net) if net.network().segments()[0] & 0xe000 == 0x2000);
    PlaceKind::Addresses { outside: private == AddressSet::default() || is_global_v6, set }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.trim_end_matches('.').split('.').all(is_label)
}

fn pod_at(view: &View, address: IpAddr) -> Option<(&str, &Running)> {
    view.namespaces().find_map(|(name, facts)| {
        let is_there = |running: &&Running| running.address == Some(address) && running.workload.host_network.is_none();
        facts.running().iter().find(is_there).map(|running| (&**name, running))
    })
}

fn is_kind(written: &str, kind: &str, short: &[&str]) -> bool {
    let written = written.to_ascii_lowercase();
    let kind = kind.to_ascii_lowercase();
    written == kind || written == format!("{kind}s") || short.contains(&&*written)
}

fn short_names(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["po"],
        "Deployment" => &["deploy"],
        "StatefulSet" => &["sts"],
        "DaemonSet" => &["ds"],
        "CronJob" => &["cj"],
        "ReplicaSet" => &["rs"],
        _ => &[],
    }
}

fn of_running(namespace: &str, running: &Running, port: Option<&Port>) -> Result<Place, PlaceError> {
    let name = format!("{} {namespace}/{}", running.kind, running.name);
    let workload = &*running.workload;
    if workload.host_network.is_some() {
        let port = number_in(&name, workload, port)?;
        // Policies see such a pod as its node.
        return Ok(Place { name: format!("{name} (hostNetwork)"), kind: PlaceKind::Entity(Entity::RemoteNode), port });
    }
    let port = number_in(&name, workload, port)?;
    let kind = PlaceKind::Pods {
        namespace: namespace.to_owned(),
        object: Some((running.kind.to_string(), running.name.to_string())),
        workload: Box::new(workload.clone()),
        addresses: running.address.into_iter().collect(),
    };
    Ok(Place { name, kind, port })
}

fn number_in(name: &str, workload: &Workload, port: Option<&Port>) -> Result<Option<(Protocol, u16)>, PlaceError> {
    let Some(Port { protocol, port }) = port else { return Ok(None) };
    match port {
        PortName::Number(number) => Ok(Some((*protocol, *number))),
        PortName::Name(wanted) => match workload.port_named(wanted, *protocol) {
            Some(number) => Ok(Some((*protocol, number))),
            None => Err(PlaceError::PortName(name.to_owned(), wanted.clone())),
        },
    }
}

fn of_labels(namespace: &str, text: &str, port: Option<&Port>) -> Option<Result<Place, PlaceError>> {
    let labels: Option<Vec<(Box<str>, Box<str>)>> = text
        .split(',')
        .map(|pair| pair.split_once('=').map(|(key, value)| (key.trim().into(), value.trim().into())))
        .collect();
    let labels: Labels = labels?.into_iter().filter(|(key, _): &(Box<str>, Box<str>)| !key.is_empty()).collect();
    let workload = Workload { labels, ..Workload::default() };
    let name = format!("pods with {text} in namespace {namespace}");
    let port = match number_in(&name, &workload, port) {
        Ok(port) => port,
        Err(error) => return Some(Err(error)),
    };
    let namespace = namespace.to_owned();
    let kind = PlaceKind::Pods { namespace, object: None, workload: Box::new(workload), addresses: Vec::new() };
    Some(Ok(Place { name, kind, port }))
}

fn of_service(
    namespace: &str,
    facts: &NamespaceFacts,
    name: &str,
    port: Option<&Port>,
) -> Result<Vec<Place>, PlaceError> {
    let Some((_, service)) = facts.services.iter().find(|(service, _)| **service == *name) else {
        return Err(unknown(namespace, facts, &format!("service/{name}")));
    };
    let mut places = Vec::new();
    for running in facts.distinct().filter(|running| service.selects(&running.workload)) {
        for wanted in ports_of(namespace, name, service, port)? {
            let Some(number) = wanted.target_in(&running.workload) else { continue };
            let target = Port { protocol: wanted.protocol, port: PortName::Number(number) };
            let mut place = of_running(namespace, running, Some(&target))?;
            place.name = format!("{} behind Service {namespace}/{name} port {}", place.name, wanted.number);
            places.push(place);
        }
    }
    if places.is_empty() { Err(PlaceError::Unbacked(format!("{namespace}/{name}"))) } else { Ok(places) }
}

fn ports_of<'s>(
    namespace: &str,
    name: &str,
    service: &'s Service,
    port: Option<&Port>,
) -> Result<Vec<&'s crate::model::ServicePort>, PlaceError> {
    let Some(Port { protocol, port }) = port else { return Ok(service.ports.iter().collect()) };
    let is_it = |other: &&crate::model::ServicePort| {
        other.protocol == *protocol
            && match port {
                PortName::Number(number) => other.number == *number,
                PortName::Name(name) => *other.name == **name,
            }
    };
    match service.ports.iter().find(is_it) {
        Some(port) => Ok(vec![port]),
        None => {
            let known: Vec<String> =
                service.ports.iter().map(|port| format!("{}/{}", port.number, port.protocol)).collect();
            let port = match port {
                PortName::Number(number) => format!("{number}/{protocol}"),
                PortName::Name(name) => name.clone(),
            };
            let (namespace, service) = (namespace.to_owned(), name.to_owned());
            Err(PlaceError::ServicePort { namespace, service, port, known: known.join(", ") })
        }
    }
}

/// Maximum number of names that an error lists.
const MAX_KNOWN: usize = 10;

fn unknown(namespace: &str, facts: &NamespaceFacts, name: &str) -> PlaceError {
    let running = facts.distinct().map(|running| format!("{}/{}", running.kind.to_ascii_lowercase(), running.name));
    let services = facts.services.iter().map(|(name, _)| format!("service/{name}"));
    let mut known: Vec<String> = running.chain(services).take(MAX_KNOWN + 1).collect();
    if known.len() > MAX_KNOWN {
        known.truncate(MAX_KNOWN);
        known.push("…".to_owned());
    }
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    PlaceError::Name { name: name.to_owned(), namespace: namespace.to_owned(), known }
}

impl Place {
    /// The end in the model.
    #[must_use]
    pub fn end(&self) -> End<'_> {
        match &self.kind {
            PlaceKind::Pods { namespace, workload, addresses, object } => End::Pod(Endpoint {
                addresses,
                complete: true,
                is_template: object.is_some() && workload.is_template,
                ..Endpoint::of(namespace, workload)
            }),
            PlaceKind::Addresses { set, outside } => End::Addresses { set, outside: *outside },
            PlaceKind::Entity(entity) => End::Entity(*entity),
            PlaceKind::Domain(name) => End::Domain(name),
        }
    }

    /// The ports that the pods list. None if they are unknown.
    #[must_use]
    pub fn listed(&self) -> Option<&[ContainerPort]> {
        match &self.kind {
            PlaceKind::Pods { object: Some(_), workload, .. } => Some(&workload.ports),
            _ => None,
        }
    }

    /// The namespace, if the end is pods.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match &self.kind {
            PlaceKind::Pods { namespace, .. } => Some(namespace),
            _ => None,
        }
    }

    /// Returns true if both are the same pod.
    #[must_use]
    pub fn is_same_pod(&self, other: &Self) -> bool {
        let of = |place: &Self| match &place.kind {
            PlaceKind::Pods { namespace, object: Some((kind, name)), .. } if kind == "Pod" => {
                Some((namespace.clone(), name.clone()))
            }
            _ => None,
        };
        of(self).is_some() && of(self) == of(other)
    }
}
