//! `toPorts` and `icmps`: `pkg/policy/api/l4.go`, and their use in `pkg/policy/l4.go`.

use super::element::{Element, List, PortEntry};
use super::l7::L7;
use super::number::number;
use super::validity::Faults;
use super::{icmp, wire};
use crate::dialect::int_or_string::is_port_name;
use crate::model::{Direction, Filter, Numbers, Path, Port, Protocol, Proxy};

/// Maximum number of ports, or of ICMP messages, in an entry (`maxPorts`, `maxICMPFields`).
const MOST: usize = 40;

/// An entry of `toPorts` or `icmps`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Path,
    /// The ports. An entry without ports matches nothing.
    pub(super) ports: Vec<Port>,
    pub(super) conditions: Vec<Box<str>>,
    pub(super) filter: Option<Filter>,
    pub(super) proxy: Option<Proxy>,
}

/// Reads the entries of an element. Without entries, the element matches every port of every protocol.
pub(super) fn read(
    element: &Element<'_>,
    list: List,
    is_for_nodes: bool,
    path: &Path,
    faults: &mut Faults,
) -> Vec<Entry> {
    if !element.icmps.is_empty() && !element.ports.is_empty() {
        let problem = "`icmps` and `toPorts` are combined in one rule";
        faults.never(path.clone(), problem, "write one rule for each of them");
    }
    let mut entries = Vec::with_capacity(element.ports.len() + element.icmps.len());
    for (position, entry) in element.ports.iter().enumerate() {
        let path = path.field("toPorts").index(position);
        entries.extend(to_ports(*entry, list, is_for_nodes, path, faults));
    }
    for (position, rule) in element.icmps.iter().enumerate() {
        let path = path.field("icmps").index(position);
        let fields = rule.fields.as_deref().unwrap_or_default();
        if fields.len() > MOST {
            let problem = format!("the entry has {} messages; the maximum is {MOST}", fields.len());
            faults.never(path.field("fields"), &problem, "write several rules");
        }
        let fields = fields.iter().enumerate();
        let ports = fields
            .filter_map(|(position, field)| icmp::message(field, path.field("fields").index(position), faults))
            .collect();
        entries.push(Entry { path, ports, conditions: Vec::new(), filter: None, proxy: None });
    }
    entries
}

fn to_ports(
    entry: PortEntry<'_>,
    list: List,
    is_for_nodes: bool,
    path: Path,
    faults: &mut Faults,
) -> impl Iterator<Item = Entry> + use<> {
    let ports_path = path.field("ports");
    if entry.ports.len() > MOST {
        let problem = format!("the entry has {} ports; the maximum is {MOST}", entry.ports.len());
        faults.never(ports_path.clone(), &problem, "write several entries of `toPorts`");
    }
    let l7 = entry.rule.and_then(|rule| rule.rules.as_ref()).map(L7::of).unwrap_or_default();
    let mut ports = Vec::with_capacity(entry.ports.len());
    let mut ranges = Vec::new();
    for (position, written) in entry.ports.iter().enumerate() {
        let port = port(written, &l7, ports_path.index(position), faults);
        ranges.extend(port.as_ref().and_then(|port| range_from_name(written, port, list)));
        ports.extend(port);
    }
    let mut read = Entry { path, ports, conditions: Vec::new(), filter: None, proxy: None };
    if let Some(rule) = entry.rule {
        l7.check(rule, list, is_for_nodes, &read.path, faults);
        read.conditions = l7.conditions(rule, list, &read.path, faults);
        read.filter = l7.filter(&read.path, faults);
        read.proxy = l7.proxy(rule);
    }
    let ranges = ranges.into_iter().map(|(port, condition)| {
        let conditions = read.conditions.iter().cloned().chain([condition]).collect();
        Entry { path: read.path.clone(), ports: vec![port], conditions, filter: read.filter.clone(), proxy: None }
    });
    let ranges: Vec<Entry> = ranges.collect();
    std::iter::once(read).chain(ranges)
}

/// The ports after a named port, up to `endPort`. On ingress, the agent starts the range at the number that the pod
/// gives to the name. On egress, it ignores `endPort` (`resolvePort` and `keysForRange` in `pkg/policy/l4.go`).
fn range_from_name(written: &wire::PortProtocol, port: &Port, list: List) -> Option<(Port, Box<str>)> {
    let Numbers::Named(name) = &port.numbers else { return None };
    let last = written.end_port.and_then(|last| u16::try_from(last).ok()).filter(|last| *last > 0)?;
    let range = Port::new(port.path.clone(), port.protocol, Numbers::Range(1, last));
    let condition = format!("the port is at least the number of the pod's port {name}");
    (list.direction == Direction::Ingress).then(|| (range, condition.into()))
}

/// Reads a port. None if it is invalid.
fn port(written: &wire::PortProtocol, l7: &L7<'_>, path: Path, faults: &mut Faults) -> Option<Port> {
    let (protocol, has_ports) = match protocol(written.protocol.as_deref().unwrap_or_default()) {
        Some(Some(protocol)) => (Some(protocol), protocol.has_ports()),
        Some(None) => (None, true),
        None => {
            let other = written.protocol.as_deref().unwrap_or_default();
            let help = "write one of TCP, UDP, SCTP, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH and ANY";
            faults.never(path.field("protocol"), &format!("`{other}` is not a protocol"), help);
            return None;
        }
    };
    if !l7.http.is_empty() && protocol != Some(Protocol::Tcp) {
        let name = protocol.map_or("any protocol".into(), |protocol| protocol.to_string());
        let problem = format!("rules for HTTP are set for {name}; they require TCP");
        faults.never(path.field("protocol"), &problem, "write `protocol: TCP`");
    }
    let text = written.port.as_deref().unwrap_or_default();
    let numbers = if text.is_empty() && !has_ports {
        let name = written.protocol.as_deref().unwrap_or_default();
        let problem =
            format!("{name} without `port` is valid only if the agent runs with `enable-extended-ip-protocols`");
        faults.not_understood(path.clone(), problem, "write `port: \"0\"`");
        Numbers::All
    } else if text.is_empty() {
        // With `enable-extended-ip-protocols`, the agent reads a missing port as 0. The operator never does.
        faults.never(path.clone(), "the entry has no `port`", "write the port, or \"0\" for every port");
        return None;
    } else if let Some(name) = name(text) {
        Numbers::Named(name)
    } else {
        let Some(first) = number(text) else {
            let help = "write a number from 0 to 65535, or a name of at most 15 letters, digits and `-`";
            faults.never(path.field("port"), &format!("`{text}` is not a port"), help);
            return None;
        };
        let last = written.end_port.and_then(|last| u16::try_from(last).ok()).filter(|last| *last > first);
        if last.is_some() && !l7.dns.is_empty() {
            let problem = format!("rules for DNS are combined with a port range from `{text}`");
            faults.never(path.field("endPort"), &problem, "list the ports individually");
        }
        if !has_ports && first != 0 {
            let name = written.protocol.as_deref().unwrap_or_default();
            faults.never(path.field("port"), &format!("{name} has no port `{text}`"), "write \"0\"");
            return None;
        }
        if first == 0 { Numbers::All } else { Numbers::Range(first, last.unwrap_or(first)) }
    };
    Some(Port::new(path, protocol, numbers))
}

/// Parses a protocol. `Some(None)` stands for every protocol that has ports.
fn protocol(name: &str) -> Option<Option<Protocol>> {
    Some(Some(match &*name.to_ascii_uppercase() {
        "" | "ANY" => return Some(None),
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        "IGMP" => Protocol::Other(2),
        "IPIP" => Protocol::Other(4),
        "IPV6" => Protocol::Other(41),
        "GRE" => Protocol::Other(47),
        "ESP" => Protocol::Other(50),
        "AH" => Protocol::Other(51),
        "VRRP" => Protocol::Other(112),
        _ => return None,
    }))
}

/// Parses the name of a port and converts it to lower case (`iana.IsSvcName`).
fn name(text: &str) -> Option<Box<str>> {
    let name = text.to_ascii_lowercase();
    is_port_name(&name).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fault, object, rules};
    use super::*;
    use crate::model::{FaultKind, Ports};
    use serde_json::{Value, json};

    /// The ports of the rule that has these entries.
    fn ports(element: &Value) -> Vec<String> {
        let rules = rules("egress", element);
        assert_eq!(rules.len(), 1, "{element}");
        let Ports::Only(ports) = &rules[0].ports else { panic!("a list") };
        ports.iter().map(ToString::to_string).collect()
    }

    fn port(port: &Value) -> String {
        ports(&json!({"toPorts": [{"ports": [port]}]})).remove(0)
    }

    fn port_fault(port: &Value) -> String {
        fault("egress", &json!({"toPorts": [{"ports": [port]}]}))
            .trim_start_matches("spec.egress[0].toPorts[0].ports[0]")
            .to_owned()
    }

    #[test]
    fn a_port_is_for_any_protocol_unless_it_says() {
        assert_eq!(port(&json!({"port": "53"})), "port 53 of any protocol");
        assert_eq!(port(&json!({"port": "53", "protocol": "ANY"})), "port 53 of any protocol");
        assert_eq!(port(&json!({"port": "53", "protocol": "udp"})), "UDP 53");
        assert_eq!(port(&json!({"port": "0", "protocol": "TCP"})), "TCP (every port)");
        assert_eq!(port(&json!({"port": "1", "endPort": 9, "protocol": "TCP"})), "TCP 1-9");
        assert_eq!(port(&json!({"port": "9", "endPort": 1, "protocol": "TCP"})), "TCP 9");
        assert_eq!(port(&json!({"port": "Web", "endPort": 9, "protocol": "TCP"})), "TCP \"web\"");
        assert_eq!(port(&json!({"port": "0", "protocol": "GRE"})), "protocol 47 (every port)");
    }

    #[test]
    fn ports_that_the_agent_refuses() {
        assert_eq!(port_fault(&json!({"protocol": "TCP"})), ": the entry has no `port`");
        assert_eq!(port_fault(&json!({"port": "80/tcp"})), ".port: `80/tcp` is not a port");
        assert_eq!(port_fault(&json!({"port": "a-name-that-is-long"})), ".port: `a-name-that-is-long` is not a port");
        assert_eq!(port_fault(&json!({"port": "80", "protocol": "HTTP"})), ".protocol: `HTTP` is not a protocol");
        assert_eq!(port_fault(&json!({"port": "80", "protocol": "GRE"})), ".port: GRE has no port `80`");
        let many: Vec<Value> = (1..=41).map(|port| json!({"port": port.to_string()})).collect();
        assert_eq!(
            fault("ingressDeny", &json!({"toPorts": [{"ports": many}]})),
            "spec.ingressDeny[0].toPorts[0].ports: the entry has 41 ports; the maximum is 40"
        );
    }

    #[test]
    fn a_protocol_without_ports_needs_no_port() {
        for name in ["VRRP", "IGMP"] {
            let object = object(&json!({"endpointSelector": {}, "egress": [
                {"toEntities": ["world"], "toPorts": [{"ports": [{"protocol": name}]}]},
            ]}));
            let kinds: Vec<FaultKind> = object.faults.iter().map(|fault| fault.kind).collect();
            assert_eq!(kinds, [FaultKind::NotUnderstood], "{name}");
            let Ports::Only(ports) = &object.policies()[0].egress.rules[0].ports else { panic!("a list") };
            assert_eq!(ports[0].numbers, Numbers::All);
        }
    }

    #[test]
    fn entries_without_ports_mean_nothing() {
        for element in [
            json!({"toEntities": ["world"], "toPorts": [{}]}),
            json!({"toEntities": ["world"], "toPorts": [{"ports": []}]}),
            json!({"toEntities": ["world"], "icmps": [{}]}),
            json!({"toEntities": ["world"], "icmps": [{"fields": []}]}),
        ] {
            assert!(rules("egress", &element).is_empty(), "{element}");
        }
        for field in ["toPorts", "icmps"] {
            let rules = rules("egress", &json!({"toEntities": ["world"], field: []}));
            assert_eq!(rules[0].ports, Ports::Any, "{field}");
        }
    }
}
