//! Protocols and ports. Destination ports become the ports of the rule; source ports become a condition.

use super::reader::{ASIDE, Reader};
use super::wire;
use crate::dialect::int_or_string::{IntOrString, is_port_name};
use crate::model::{FaultKind, Numbers, Path, Port, Ports, Protocol, Ranges};

/// Maximum number of entries in a list of ports.
const MOST: usize = 50;

/// The protocol number of UDP-Lite. Calico has a name for it, but does not match its ports.
const UDP_LITE: u8 = 136;

/// The effect of an entry that cannot be decoded.
const UNREADABLE: &str = "Felix can no longer read any policy of this kind";

/// The value of `protocol` or `notProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Absent,
    Known(Protocol),
    Unknown,
}

impl Reader {
    /// Reads the ports of a rule. Other constraints are added to `conditions`.
    pub(super) fn ports(
        &mut self,
        rule: &wire::Rule,
        source: &wire::Entity,
        destination: &wire::Entity,
        path: &Path,
        conditions: &mut Vec<Box<str>>,
    ) -> Ports {
        let protocol = self.protocol(rule.protocol.as_ref(), &path.field("protocol"));
        let excluded = self.protocol(rule.not_protocol.as_ref(), &path.field("notProtocol"));
        for (written, is, holds) in [(&rule.protocol, protocol, "is"), (&rule.not_protocol, excluded, "is not")] {
            if let (Some(written), Named::Unknown) = (written, is) {
                conditions.push(format!("the protocol {holds} `{written}`").into());
            }
        }
        for (entity, end) in [(source, "source"), (destination, "destination")] {
            self.check_protocol(entity, protocol, rule.protocol.as_ref(), &path.field(end));
        }
        self.source_ports(source, &path.field("source"), conditions);
        let listed = self.numbers(destination.ports.as_deref(), &path.field("destination").field("ports"));
        let excepted = self.numbers(destination.not_ports.as_deref(), &path.field("destination").field("notPorts"));
        let mut ports = without(listed, excepted, protocol, path);
        self.messages(rule, protocol, path, &mut ports, conditions);
        if let Named::Known(excluded) = excluded {
            let not = Port { path: path.field("notProtocol"), protocol: Some(excluded), numbers: Numbers::All };
            match protocol {
                Named::Known(protocol) if protocol == excluded => ports = Ports::Only(Vec::new()),
                Named::Known(_) => {}
                _ => ports = Ports::But { of: Box::new(ports), not: vec![not] },
            }
        }
        if destination.services.is_some() {
            return Ports::OfService(if let Named::Known(protocol) = protocol { Some(protocol) } else { None });
        }
        ports
    }

    fn protocol(&mut self, written: Option<&IntOrString>, path: &Path) -> Named {
        let Some(written) = written else { return Named::Absent };
        let help = "write TCP, UDP, SCTP, ICMP, ICMPv6 or UDPLite, or a number from 1 to 255";
        let number = match written {
            IntOrString::Number(number) => match u8::try_from(*number) {
                Ok(number) => Some(number),
                Err(_) => {
                    self.refuse(path, &format!("`{number}` is not a protocol number"), UNREADABLE, help);
                    return Named::Unknown;
                }
            },
            IntOrString::Text(text) => text.parse().ok(),
        };
        match (number, written) {
            (Some(0), _) => {
                self.refuse(path, "`0` is not a protocol number", ASIDE, help);
                Named::Unknown
            }
            (Some(number), _) => Named::Known(Protocol::of(number)),
            (None, IntOrString::Text(text)) => self.protocol_name(text, path, help),
            (None, IntOrString::Number(_)) => Named::Unknown,
        }
    }

    fn protocol_name(&mut self, text: &str, path: &Path, help: &str) -> Named {
        const NAMES: [(&str, Protocol); 6] = [
            ("TCP", Protocol::Tcp),
            ("UDP", Protocol::Udp),
            ("SCTP", Protocol::Sctp),
            ("ICMP", Protocol::Icmp),
            ("ICMPv6", Protocol::Icmpv6),
            ("UDPLite", Protocol::Other(UDP_LITE)),
        ];
        match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            Some((name, protocol)) => {
                if *name != text {
                    let problem = format!("`{text}` is not a protocol name");
                    self.refuse(path, &problem, "Felix accepts it", &format!("write `{name}`"));
                }
                Named::Known(*protocol)
            }
            None => {
                self.refuse(path, &format!("`{text}` is not a protocol name"), ASIDE, help);
                Named::Unknown
            }
        }
    }

    /// Checks the protocol of a side with ports. Numeric ports need a protocol that has ports. Named ports do not need
    /// a protocol.
    fn check_protocol(&mut self, entity: &wire::Entity, protocol: Named, written: Option<&IntOrString>, path: &Path) {
        for (list, field) in [(&entity.ports, "ports"), (&entity.not_ports, "notPorts")] {
            let list = list.as_deref().unwrap_or_default();
            let problem = match protocol {
                Named::Absent if list.iter().any(is_numeric) => "without a protocol".to_owned(),
                Named::Known(known) if !known.has_ports() && !list.is_empty() => {
                    let written = written.map(ToString::to_string).unwrap_or_default();
                    format!("with protocol {written}, whose ports Calico does not match")
                }
                _ => continue,
            };
            let listed = list.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "ports ({listed}) are set {problem}; Calico's API server rejects them; if they are stored \
                 anyway, {ASIDE}"
            );
            let help = "set `protocol` to TCP, UDP or SCTP; for several protocols, write one rule each";
            self.fault(&path.field(field), FaultKind::PortWithoutProtocol, problem, help);
        }
    }

    fn source_ports(&mut self, source: &wire::Entity, path: &Path, conditions: &mut Vec<Box<str>>) {
        for (list, field, holds) in [(&source.ports, "ports", "is"), (&source.not_ports, "notPorts", "is not")] {
            if let Some(listed) = self.numbers(list.as_deref(), &path.field(field)) {
                let spans = listed.iter().filter_map(|(_, numbers)| match numbers {
                    Numbers::Range(first, last) => Some((*first, *last)),
                    _ => None,
                });
                // No connection has source port 0.
                if field == "ports" && spans.collect::<Ranges<u16>>().covers(&Ranges::between(1, u16::MAX)) {
                    continue;
                }
                let numbers: Vec<String> = listed.iter().map(|(_, numbers)| described(numbers)).collect();
                conditions.push(format!("the source port {holds} {}", numbers.join(" or ")).into());
            }
        }
    }

    /// The entries of a list of ports. None if the list is missing or empty.
    fn numbers(&mut self, list: Option<&[IntOrString]>, path: &Path) -> Option<Vec<(Path, Numbers)>> {
        let list = list.filter(|list| !list.is_empty())?;
        self.at_most(list.len(), MOST, path);
        // A longer list is rejected, so entries beyond the limit are not parsed.
        let entries = list.iter().take(MOST).enumerate();
        Some(
            entries
                .filter_map(|(position, entry)| {
                    let path = path.index(position);
                    self.entry(entry, &path).map(|numbers| (path, numbers))
                })
                .collect(),
        )
    }

    fn entry(&mut self, written: &IntOrString, path: &Path) -> Option<Numbers> {
        let help = "write a number from 1 to 65535, a range such as \"8000:8080\", or the name of a container port";
        let (first, last) = match written {
            IntOrString::Number(number) => (u16::try_from(*number).ok(), u16::try_from(*number).ok()),
            IntOrString::Text(text) if is_numeric(written) => match text.split_once(':') {
                Some((first, last)) => (first.parse().ok(), last.parse().ok()),
                None => (text.parse().ok(), text.parse().ok()),
            },
            IntOrString::Text(name) => return self.name(name, path, help),
        };
        let (Some(first), Some(last)) = (first, last) else {
            self.refuse(path, &format!("`{written}` is not a port from 1 to 65535"), UNREADABLE, help);
            return None;
        };
        if first > last {
            let problem = format!("`{written}` is a range that ends before it starts");
            self.refuse(path, &problem, UNREADABLE, &format!("write \"{last}:{first}\""));
            return None;
        }
        if first == 0 {
            self.refuse(path, &format!("`{written}` is not a port from 1 to 65535"), ASIDE, help);
        }
        Some(Numbers::Range(first, last))
    }

    fn name(&mut self, name: &str, path: &Path, help: &str) -> Option<Numbers> {
        let is_readable = (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !is_readable {
            self.refuse(path, &format!("`{name}` is neither a port number nor a port name"), UNREADABLE, help);
            return None;
        }
        if !is_port_name(name) {
            let range = name.replacen('-', ":", 1);
            let is_range = is_numeric(&IntOrString::Text(range.as_str().into()));
            let help = if is_range { format!("write a range as \"{range}\"") } else { help.to_owned() };
            let problem = format!("`{name}` is not a valid port name");
            self.refuse(path, &problem, "Felix matches ports of that name", &help);
        }
        Some(Numbers::Named(name.into()))
    }
}

/// The listed ports, or all ports of the protocol, minus the excepted ones.
fn without(
    listed: Option<Vec<(Path, Numbers)>>,
    excepted: Option<Vec<(Path, Numbers)>>,
    protocol: Named,
    path: &Path,
) -> Ports {
    let protocol = if let Named::Known(protocol) = protocol { Some(protocol) } else { None };
    let each = |entries: Vec<(Path, Numbers)>| -> Vec<Port> {
        entries.into_iter().map(|(path, numbers)| Port::new(path, protocol, numbers)).collect()
    };
    let of = match (listed, protocol) {
        (Some(listed), _) => Ports::Only(each(listed)),
        (None, Some(_)) => Ports::Only(each(vec![(path.field("protocol"), Numbers::All)])),
        (None, None) => Ports::Any,
    };
    match each(excepted.unwrap_or_default()) {
        not if not.is_empty() => of,
        not => Ports::But { of: Box::new(of), not },
    }
}

/// Returns true if the entry is a number or a range, not a name (`PortFromString` of
/// `api/pkg/lib/numorstring/port.go`).
fn is_numeric(entry: &IntOrString) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match entry {
        IntOrString::Number(_) => true,
        IntOrString::Text(text) => match text.split_once(':') {
            Some((first, last)) => is_number(first) && is_number(last),
            None => is_number(text),
        },
    }
}

fn described(numbers: &Numbers) -> String {
    match numbers {
        Numbers::Range(first, last) if first == last => first.to_string(),
        Numbers::Range(first, last) => format!("{first}-{last}"),
        Numbers::Named(name) => format!("{name:?}"),
        Numbers::All | Numbers::Messages(..) => "any".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, ingress, read};
    use serde_json::{Value, json};

    const KIND: &str = "NetworkPolicy";

    fn ports(rule: Value) -> String {
        conditions(rule).0
    }

    fn conditions(mut rule: Value) -> (String, Vec<Box<str>>) {
        rule["action"] = "Allow".into();
        let rule = ingress(KIND, &rule);
        (rule.ports.to_string(), rule.conditions)
    }

    /// The faults of an ingress rule, without the path of the rule.
    fn wrong(mut rule: Value) -> Vec<String> {
        rule["action"] = "Allow".into();
        faults(KIND, &json!({"ingress": [rule]})).iter().map(|fault| fault.replace("spec.ingress[0].", "")).collect()
    }

    #[test]
    fn ports_of_the_destination_are_those_of_the_rule() {
        assert_eq!(ports(json!({})), "every port");
        assert_eq!(ports(json!({"protocol": "TCP"})), "TCP (every port)");
        assert_eq!(
            ports(json!({"protocol": "UDP", "destination": {"ports": [53, "80", "8000:8080", "dns"]}})),
            "UDP 53, UDP 80, UDP 8000-8080, UDP \"dns\""
        );
        assert_eq!(ports(json!({"protocol": 132})), "SCTP (every port)");
        assert_eq!(ports(json!({"protocol": "6"})), "TCP (every port)");
        assert_eq!(ports(json!({"protocol": "UDPLite"})), "protocol 136 (every port)");
        let rule = ingress(KIND, &json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [1, 2]}}));
        let crate::model::Ports::Only(entries) = rule.ports else { panic!("a list") };
        assert_eq!(entries[1].path.to_string(), "spec.ingress[0].destination.ports[1]");
    }

    #[test]
    fn what_is_not_meant_is_taken_away() {
        assert_eq!(ports(json!({"notProtocol": "ICMP"})), "every port but ICMP (every port)");
        assert_eq!(ports(json!({"protocol": "TCP", "notProtocol": "TCP"})), "no port");
        assert_eq!(ports(json!({"protocol": "TCP", "notProtocol": "UDP"})), "TCP (every port)");
        assert_eq!(
            ports(json!({"protocol": "TCP", "destination": {"notPorts": [22, "1000:65535"]}})),
            "TCP (every port) but TCP 22, TCP 1000-65535"
        );
        assert_eq!(
            ports(json!({"protocol": "TCP", "destination": {"ports": ["20:30"], "notPorts": [22]}})),
            "TCP 20-30 but TCP 22"
        );
        let named = json!({"protocol": "TCP", "destination": {"ports": ["web"], "notPorts": [80, "admin"]}});
        assert_eq!(conditions(named), ("TCP \"web\" but TCP 80, TCP \"admin\"".into(), vec![]));
    }

    #[test]
    fn source_ports_are_a_condition() {
        let rule = json!({"protocol": "TCP", "source": {"ports": ["1024:65535", "x"], "notPorts": [8]}});
        assert_eq!(
            conditions(rule),
            (
                "TCP (every port)".into(),
                vec!["the source port is 1024-65535 or \"x\"".into(), "the source port is not 8".into()]
            )
        );
    }

    #[test]
    fn numbers_of_ports_need_a_protocol_and_names_do_not() {
        assert_eq!(wrong(json!({"destination": {"ports": [9090]}})), ["destination.ports: PortWithoutProtocol"]);
        assert_eq!(wrong(json!({"destination": {"ports": ["web"]}})), Vec::<String>::new());
        assert_eq!(
            wrong(json!({"destination": {"ports": ["web", "1:2"]}})),
            ["destination.ports: PortWithoutProtocol"]
        );
        assert_eq!(wrong(json!({"source": {"notPorts": [1]}})), ["source.notPorts: PortWithoutProtocol"]);
        for protocol in [json!("ICMP"), json!("UDPLite"), json!(1)] {
            let rule = json!({"protocol": protocol, "destination": {"ports": ["web"]}});
            assert_eq!(wrong(rule), ["destination.ports: PortWithoutProtocol"], "{protocol}");
        }
        let object = read(KIND, &json!({"ingress": [{"action": "Allow", "destination": {"ports": [9090]}}]}));
        assert_eq!(
            object.faults[0].problem,
            "ports (9090) are set without a protocol; Calico's API server rejects them; if they are stored anyway, \
             Felix ignores the whole policy"
        );
        assert_eq!(ports(json!({"destination": {"ports": [9090]}})), "port 9090 of any protocol");
    }

    #[test]
    fn what_is_no_port_and_no_protocol_is_a_fault() {
        let tcp = |port: Value| wrong(json!({"protocol": "TCP", "destination": {"ports": [port]}}));
        for port in [
            json!(0),
            json!(70000),
            json!("9:1"),
            json!("0:5"),
            json!("80-90"),
            json!("Web"),
            json!("a b"),
            json!(null),
        ] {
            assert_eq!(tcp(port.clone()), ["destination.ports[0]: NeverEnforced"], "{port}");
        }
        let rule = json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": ["80-90"]}});
        let object = read(KIND, &json!({"ingress": [rule]}));
        assert_eq!(object.faults[0].help, "write a range as \"80:90\"");
        for protocol in [json!("tcp"), json!(0), json!(256), json!("256"), json!("http")] {
            assert_eq!(wrong(json!({"protocol": protocol})), ["protocol: NeverEnforced"], "{protocol}");
        }
        assert_eq!(ports(json!({"protocol": "tcp", "destination": {"ports": [80]}})), "TCP 80");
        assert_eq!(
            conditions(json!({"protocol": "http", "destination": {"ports": [80]}})),
            ("port 80 of any protocol".into(), vec!["the protocol is `http`".into()])
        );
    }
}
