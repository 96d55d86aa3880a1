//! Protocols and ports.

use super::read::Reader;
use super::{spec, wire};
use crate::dialect::ReadError;
use crate::model::{Action, FaultKind, Numbers, Path, Port, Ports, Protocol};

/// An entry of `protocols` or `ports`.
enum Entry {
    Port(Option<Protocol>, Numbers),
    /// Matches no traffic.
    Nothing,
    /// The entry is not understood, and a fault reports it.
    Unknown,
}

impl Reader {
    /// Reads the ports of a rule. None if an entry is not understood.
    pub(super) fn ports(
        &mut self,
        ports: &spec::Ports,
        action: Action,
        rule: &Path,
    ) -> Result<Option<Ports>, ReadError> {
        match ports {
            spec::Ports::Protocols(None) | spec::Ports::Ports(None) => Ok(Some(Ports::Any)),
            spec::Ports::Protocols(Some(entries)) => {
                self.entries(entries, &rule.field("protocols"), |reader, entry, path| {
                    reader.protocol(entry, action, path)
                })
            }
            spec::Ports::Ports(Some(entries)) => {
                self.entries(entries, &rule.field("ports"), |reader, entry, path| reader.port(entry, action, path))
            }
        }
    }

    fn entries<T>(
        &mut self,
        entries: &[T],
        path: &Path,
        read: impl Fn(&mut Self, &T, &Path) -> Result<Entry, ReadError>,
    ) -> Result<Option<Ports>, ReadError> {
        if entries.is_empty() {
            return Err(ReadError::at(path, "the list requires at least one entry; omit the list to match every port"));
        }
        let mut ports = Vec::with_capacity(entries.len());
        let mut is_understood = true;
        for (position, entry) in entries.iter().enumerate() {
            let path = path.index(position);
            match read(self, entry, &path)? {
                Entry::Port(protocol, numbers) => ports.push(Port { path, protocol, numbers }),
                Entry::Nothing => {}
                Entry::Unknown => is_understood = false,
            }
        }
        Ok(is_understood.then_some(Ports::Only(ports)))
    }

    /// Reads an entry of `protocols`.
    fn protocol(&mut self, entry: &wire::Protocol, action: Action, path: &Path) -> Result<Entry, ReadError> {
        let name = entry.destination_named_port.as_deref().filter(|name| !name.is_empty());
        let transports = [
            ("tcp", Protocol::Tcp, &entry.tcp),
            ("udp", Protocol::Udp, &entry.udp),
            ("sctp", Protocol::Sctp, &entry.sctp),
        ];
        let mut transports = transports.into_iter().filter_map(|(field, protocol, transport)| {
            transport.as_ref().map(|transport| (field, protocol, transport))
        });
        match (transports.next(), transports.next(), name) {
            (Some((field, protocol, transport)), None, None) => {
                let path = path.field(field);
                let Some(port) = &transport.destination_port else {
                    let problem = format!("`{field}` is set without a destinationPort");
                    let help = "write a `destinationPort`; the range 1-65535 matches every port";
                    self.closing(&path, action, &problem, help);
                    return Ok(Entry::Unknown);
                };
                self.destination(port, protocol, action, &path.field("destinationPort"))
            }
            (None, _, Some(name)) => Ok(Entry::Port(None, Numbers::Named(name.into()))),
            (None, _, None) => {
                self.closing(
                    path,
                    action,
                    "the entry has no known protocol",
                    "write one of tcp, udp, sctp or destinationNamedPort",
                );
                Ok(Entry::Unknown)
            }
            (Some(_), _, _) => Err(just_one(path, "tcp, udp, sctp and destinationNamedPort")),
        }
    }

    fn destination(
        &mut self,
        port: &wire::DestinationPort,
        protocol: Protocol,
        action: Action,
        path: &Path,
    ) -> Result<Entry, ReadError> {
        match (port.number, &port.range) {
            (Some(_), Some(_)) => Err(just_one(path, "number and range")),
            (Some(only), None) => {
                let only = number(Some(only), path, "number")?;
                Ok(Entry::Port(Some(protocol), Numbers::Range(only, only)))
            }
            (None, Some(range)) => {
                let path = path.field("range");
                let (first, last) = (number(range.start, &path, "start")?, number(range.end, &path, "end")?);
                if first < last {
                    Ok(Entry::Port(Some(protocol), Numbers::Range(first, last)))
                } else {
                    Err(ReadError::at(&path, format!("the start `{first}` must be less than the end `{last}`")))
                }
            }
            (None, None) => {
                let problem = "the destinationPort has no known field";
                self.closing(path, action, problem, "write `number` or `range`");
                Ok(Entry::Unknown)
            }
        }
    }

    /// Reads an entry of `ports`, in v1alpha1.
    fn port(&mut self, entry: &wire::AdminPort, action: Action, path: &Path) -> Result<Entry, ReadError> {
        let name = entry.named_port.as_deref().filter(|name| !name.is_empty());
        match (&entry.port_number, &entry.port_range, name) {
            (Some(port), None, None) => {
                let path = path.field("portNumber");
                let only = number(port.port, &path, "port")?;
                Ok(self.known(port.protocol.as_deref(), Numbers::Range(only, only), action, &path))
            }
            (None, Some(range), None) => {
                let path = path.field("portRange");
                let (first, last) = (number(range.start, &path, "start")?, number(range.end, &path, "end")?);
                let known = self.known(range.protocol.as_deref(), Numbers::Range(first, last), action, &path);
                // The CRD does not check this.
                if first > last {
                    let problem = format!("the range from `{first}` to `{last}` is empty");
                    self.fault(FaultKind::NeverEnforced, &path, problem, "put the smaller number first");
                    return Ok(if matches!(known, Entry::Unknown) { known } else { Entry::Nothing });
                }
                Ok(known)
            }
            (None, None, Some(name)) => Ok(Entry::Port(None, Numbers::Named(name.into()))),
            (None, None, None) => {
                let problem = "the port has no known field";
                self.closing(path, action, problem, "write one of portNumber, portRange or namedPort");
                Ok(Entry::Unknown)
            }
            _ => Err(just_one(path, "portNumber, portRange and namedPort")),
        }
    }

    /// Reads the protocol of ports by its name. The CRD accepts any name.
    fn known(&mut self, protocol: Option<&str>, numbers: Numbers, action: Action, path: &Path) -> Entry {
        let protocol = match protocol {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                let path = path.field("protocol");
                self.closing(&path, action, &format!("unknown protocol `{other}`"), "write TCP, UDP or SCTP");
                return Entry::Unknown;
            }
        };
        Entry::Port(Some(protocol), numbers)
    }

    /// Reports named ports in a rule whose peers are not pods, since only container ports have names. The experimental
    /// CRDs reject such a rule. The standard CRD of ClusterNetworkPolicy accepts it.
    pub(super) fn check_names(&mut self, rule: &spec::Rule, path: &Path) {
        let peers = rule.peers.as_deref().unwrap_or_default();
        let is_nameless = |peer: &wire::Peer| {
            if peer.networks.is_some() {
                Some("networks")
            } else if peer.nodes.is_some() {
                Some("nodes")
            } else {
                peer.domain_names.as_ref().map(|_| "domainNames")
            }
        };
        let Some(nameless) = peers.iter().find_map(is_nameless) else { return };
        let named: Vec<(Path, Box<str>)> = match &rule.ports {
            spec::Ports::Protocols(entries) => {
                let entries = entries.iter().flatten().enumerate();
                entries
                    .filter_map(|(position, entry)| {
                        let path = path.field("protocols").index(position).field("destinationNamedPort");
                        Some((path, entry.destination_named_port.clone()?))
                    })
                    .collect()
            }
            spec::Ports::Ports(entries) => {
                let entries = entries.iter().flatten().enumerate();
                entries
                    .filter_map(|(position, entry)| {
                        Some((path.field("ports").index(position).field("namedPort"), entry.named_port.clone()?))
                    })
                    .collect()
            }
        };
        for (path, name) in named {
            let problem = format!("the port name `{name}` is set in a rule for {nameless}, which have no named ports");
            self.fault(
                FaultKind::NeverEnforced,
                &path,
                problem,
                "write the port number, or a separate rule for the pods",
            );
        }
    }
}

fn just_one(path: &Path, of: &str) -> ReadError {
    ReadError::at(path, format!("the entry has more than one of {of}; write an entry for each"))
}

fn number(number: Option<i64>, path: &Path, field: &'static str) -> Result<u16, ReadError> {
    let problem = match number.map(|number| (number, u16::try_from(number))) {
        Some((_, Ok(number @ 1..))) => return Ok(number),
        Some((number, _)) => format!("`{number}` is not a port number from 1 to 65535"),
        None => "a port number from 1 to 65535 is required".to_owned(),
    };
    Err(ReadError::at(&path.field(field), problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::cluster_network_policy::read;
    use crate::dialect::{Manifest, Origin};
    use crate::model::{Object, Peers, Standing};
    use serde_json::{Value, json};

    fn protocols(rule: &Value) -> Result<Object, ReadError> {
        let mut rule = rule.clone();
        rule["action"] = "Accept".into();
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [rule]});
        read_kind("v1alpha2", "ClusterNetworkPolicy", &spec)
    }

    fn ports(ports: &Value) -> Result<Object, ReadError> {
        let rule = json!({"action": "Deny", "from": [{"namespaces": {}}], "ports": ports});
        let spec = json!({"subject": {"namespaces": {}}, "ingress": [rule]});
        read_kind("v1alpha1", "BaselineAdminNetworkPolicy", &spec)
    }

    fn read_kind(version: &str, kind: &str, spec: &Value) -> Result<Object, ReadError> {
        let json = json!({"metadata": {"name": "default"}, "spec": spec}).to_string();
        let api_version = format!("policy.networking.k8s.io/{version}");
        read::object(&Manifest::read(&api_version, kind, &json, Origin::Author).unwrap())
    }

    fn to_all(protocols: &Value) -> Value {
        json!({"to": [{"namespaces": {}}], "protocols": protocols})
    }

    fn described(object: &Object) -> Vec<(String, String)> {
        let policy = &object.policies()[0];
        let rule = policy.ingress.rules.iter().chain(&policy.egress.rules).next().unwrap();
        let Ports::Only(ports) = &rule.ports else { panic!("a list") };
        ports.iter().map(|port| (port.path.to_string(), port.to_string())).collect()
    }

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> [(String, String); N] {
        pairs.map(|(path, port)| (path.to_owned(), port.to_owned()))
    }

    fn faults(object: &Object) -> Vec<String> {
        object.faults.iter().map(|fault| format!("{} {:?}: {}", fault.path, fault.kind, fault.problem)).collect()
    }

    #[test]
    fn protocols_have_numbers_ranges_and_names() {
        let object = protocols(&to_all(&json!([
            {"tcp": {"destinationPort": {"number": 53}}},
            {"udp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}},
            {"sctp": {"destinationPort": {"range": {"start": 5, "end": 9}}}},
            {"destinationNamedPort": "web"},
        ])))
        .unwrap();
        let list = "spec.egress[0].protocols";
        let wanted = ["TCP 53", "UDP 1-65535", "SCTP 5-9"];
        let read = described(&object);
        let (paths, texts): (Vec<String>, Vec<String>) = read.into_iter().unzip();
        assert_eq!(paths, [0, 1, 2, 3].map(|position| format!("{list}[{position}]")));
        assert_eq!(texts[..3], wanted);
        let Ports::Only(ports) = &object.policies()[0].egress.rules[0].ports else { panic!("a list") };
        assert_eq!((ports[3].protocol, &ports[3].numbers), (None, &Numbers::Named("web".into())));
        assert!(object.faults.is_empty(), "{:?}", object.faults);
    }

    #[test]
    fn ports_are_tcp_unless_told() {
        let object = ports(&json!([
            {"portNumber": {"port": 53}},
            {"portNumber": {"protocol": "UDP", "port": 53}},
            {"portRange": {"protocol": "SCTP", "start": 5, "end": 5}},
        ]))
        .unwrap();
        assert_eq!(
            described(&object),
            owned([
                ("spec.ingress[0].ports[0]", "TCP 53"),
                ("spec.ingress[0].ports[1]", "UDP 53"),
                ("spec.ingress[0].ports[2]", "SCTP 5"),
            ])
        );
    }

    #[test]
    fn what_is_not_known_closes_the_rule() {
        for (entry, place, problem) in [
            (json!({"icmp": {}}), "", "the entry has no known protocol"),
            (json!(null), "", "the entry has no known protocol"),
            (json!({"destinationNamedPort": ""}), "", "the entry has no known protocol"),
            (json!({"tcp": {}}), ".tcp", "`tcp` is set without a destinationPort"),
            (json!({"udp": {"destinationPort": {}}}), ".udp.destinationPort", "the destinationPort has no known field"),
        ] {
            let object = protocols(&to_all(&json!([{"tcp": {"destinationPort": {"number": 1}}}, entry]))).unwrap();
            assert_eq!(object.policies()[0].egress.rules[0].peers, Peers::Only(Vec::new()));
            let wanted =
                format!("spec.egress[0].protocols[1]{place} NotUnderstood: {problem}; such a rule accepts nothing");
            assert_eq!(faults(&object).pop(), Some(wanted));
        }
        let object = ports(&json!([{"portNumber": {"protocol": "tcp", "port": 1}}])).unwrap();
        assert_eq!(object.policies()[0].ingress.rules[0].peers, Peers::Any);
        assert_eq!(object.policies()[0].ingress.rules[0].ports, Ports::Any);
        assert_eq!(
            faults(&object),
            ["spec.ingress[0].ports[0].portNumber.protocol NotUnderstood: unknown protocol `tcp`; such a rule denies \
              everything"]
        );
    }

    #[test]
    fn what_the_crd_refuses_is_named() {
        let list = "spec.egress[0].protocols";
        let tcp = |port: Value| json!([{"tcp": {"destinationPort": port}}]);
        for (written, message) in [
            (json!([]), format!("{list}: the list requires at least one entry; omit the list to match every port")),
            (
                json!([{"tcp": {}, "udp": {}}]),
                format!(
                    "{list}[0]: the entry has more than one of tcp, udp, sctp and destinationNamedPort; write an entry \
                     for each"
                ),
            ),
            (
                json!([{"tcp": {}, "destinationNamedPort": "a"}]),
                format!(
                    "{list}[0]: the entry has more than one of tcp, udp, sctp and destinationNamedPort; write an entry \
                     for each"
                ),
            ),
            (
                tcp(json!({"number": 0})),
                format!("{list}[0].tcp.destinationPort.number: `0` is not a port number from 1 to 65535"),
            ),
            (
                tcp(json!({"range": {"start": 5, "end": 5}})),
                format!("{list}[0].tcp.destinationPort.range: the start `5` must be less than the end `5`"),
            ),
            (
                tcp(json!({"range": {"start": 5}})),
                format!("{list}[0].tcp.destinationPort.range.end: a port number from 1 to 65535 is required"),
            ),
        ] {
            assert_eq!(protocols(&to_all(&written)).unwrap_err().to_string(), message);
        }
        assert_eq!(
            ports(&json!([{"portNumber": {"port": 1}, "namedPort": "a"}])).unwrap_err().to_string(),
            "spec.ingress[0].ports[0]: the entry has more than one of portNumber, portRange and namedPort; write an \
             entry for each"
        );
    }

    #[test]
    fn a_range_that_is_empty_is_stored_before_v1alpha2() {
        let object = ports(&json!([{"portRange": {"start": 9, "end": 1}}, {"portNumber": {"port": 2}}])).unwrap();
        assert_eq!(described(&object), owned([("spec.ingress[0].ports[1]", "TCP 2")]));
        assert_eq!(
            faults(&object),
            ["spec.ingress[0].ports[0].portRange NeverEnforced: the range from `9` to `1` is empty"]
        );
        assert_eq!(object.policies()[0].standing, Standing::Refused);
    }

    #[test]
    fn networks_have_no_port_names() {
        let rule = json!({
            "to": [{"namespaces": {}}, {"networks": ["10.0.0.0/8"]}],
            "protocols": [{"destinationNamedPort": "web"}],
        });
        let object = protocols(&rule).unwrap();
        assert_eq!(
            faults(&object),
            [
                "spec.egress[0].protocols[0].destinationNamedPort NeverEnforced: the port name `web` is set in a rule for \
                 networks, which have no named ports"
            ]
        );
    }
}
