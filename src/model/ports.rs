//! The ports and protocols of a rule.

use std::fmt;

use crate::budget::{charge, hold};

use super::ternary::{all_of, any_of};
use super::{Path, Ranges};

/// A protocol over IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
    /// Internet Control Message Protocol, for IPv4.
    Icmp,
    /// Internet Control Message Protocol, for IPv6.
    Icmpv6,
    /// The protocol with this IANA number.
    Other(u8),
}

impl Protocol {
    /// The protocols whose ports a policy can name.
    pub const WITH_PORTS: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol with this IANA number.
    #[must_use]
    pub fn of(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }

    /// Returns true if a policy can name ports of this protocol.
    #[must_use]
    pub(crate) fn has_ports(self) -> bool {
        Self::WITH_PORTS.contains(&self)
    }

    /// The name in manifests and messages, if the protocol has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Tcp => Some("TCP"),
            Self::Udp => Some("UDP"),
            Self::Sctp => Some("SCTP"),
            Self::Icmp => Some("ICMP"),
            Self::Icmpv6 => Some("ICMPv6"),
            Self::Other(_) => None,
        }
    }
}

impl Protocol {
    /// The ports from the first to the last in words, such as `TCP 80-90`.
    #[must_use]
    pub fn ports(self, first: u16, last: u16) -> String {
        match (first, last) {
            (0 | 1, u16::MAX) => format!("every {self} port"),
            _ if first == last => format!("{self} {first}"),
            _ => format!("{self} {first}-{last}"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "protocol {number}"),
            named => f.write_str(named.name().unwrap_or_default()),
        }
    }
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port of every protocol: the rule has no port list.
    Any,
    /// Only these ports.
    Only(Vec<Port>),
    /// These ports, except some.
    But {
        /// The ports to start from.
        of: Box<Ports>,
        /// The excluded ports.
        not: Vec<Port>,
    },
    /// The ports of the Service that the rule names, of one protocol or of all.
    OfService(Option<Protocol>),
}

/// One entry in the list of ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The path of the entry.
    pub path: Path,
    /// The protocol. `None`: every protocol that has ports.
    pub protocol: Option<Protocol>,
    /// The port numbers.
    pub numbers: Numbers,
}

impl Port {
    /// Creates an entry and charges its memory: a few bytes of a manifest become one entry.
    #[must_use]
    pub fn new(path: Path, protocol: Option<Protocol>, numbers: Numbers) -> Self {
        hold(size_of::<Self>() + size_of_val(path.steps()));
        Self { path, protocol, numbers }
    }
}

/// The port numbers of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// Every port of the protocol.
    All,
    /// The ports from the first to the last, both included.
    Range(u16, u16),
    /// The container port with this name. Its number depends on the pod.
    Named(Box<str>),
    /// ICMP messages of this type, and of this code if one is given.
    Messages(u8, Option<u8>),
}

/// The traffic of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic<'a> {
    /// Traffic to one port.
    Port {
        /// The protocol.
        protocol: Protocol,
        /// The port as policies see it: after the address translation of Services.
        number: u16,
        /// The names that the destination gives to the port.
        names: Names<'a>,
    },
    /// Traffic of a protocol without ports.
    Protocol(Protocol),
    /// An ICMP message.
    Message {
        /// The protocol: ICMP or ICMPv6.
        protocol: Protocol,
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// Traffic to an arbitrary port: a rule matches it if it matches any port.
    SomePort,
}

/// The names that a pod gives to one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names<'a> {
    /// Exactly these names.
    Exactly(&'a [Box<str>]),
    /// At least these names; the pod may have more.
    AtLeast(&'a [Box<str>]),
}

impl Port {
    /// Returns true if the entry applies to this protocol.
    #[must_use]
    pub(crate) fn is_for(&self, protocol: Protocol) -> bool {
        self.protocol.map_or(protocol.has_ports(), |own| own == protocol)
    }

    /// Returns true if the entry matches this traffic. `None` if that depends on something unknown.
    #[must_use]
    pub fn means(&self, traffic: Traffic<'_>) -> Option<bool> {
        charge(1);
        match traffic {
            Traffic::Port { protocol, .. } | Traffic::Protocol(protocol) | Traffic::Message { protocol, .. }
                if !self.is_for(protocol) =>
            {
                Some(false)
            }
            Traffic::Port { number, names, .. } => match (&self.numbers, names) {
                (Numbers::All, _) => Some(true),
                (Numbers::Range(first, last), _) => Some((*first..=*last).contains(&number)),
                (Numbers::Named(name), Names::Exactly(names)) => Some(names.contains(name)),
                (Numbers::Named(name), Names::AtLeast(names)) => names.contains(name).then_some(true),
                (Numbers::Messages(..), _) => Some(false),
            },
            Traffic::Protocol(_) => match &self.numbers {
                Numbers::All => Some(true),
                Numbers::Messages(..) => None,
                Numbers::Range(..) | Numbers::Named(_) => Some(false),
            },
            Traffic::Message { kind, code, .. } => match &self.numbers {
                Numbers::All => Some(true),
                Numbers::Messages(wanted, None) => Some(*wanted == kind),
                Numbers::Messages(wanted, Some(wanted_code)) => Some(*wanted == kind && *wanted_code == code),
                Numbers::Range(..) | Numbers::Named(_) => Some(false),
            },
            // The port is arbitrary, so any port of this entry matches.
            Traffic::SomePort => Some(self.protocol.is_none_or(Protocol::has_ports)),
        }
    }

    /// The port numbers that certainly match. A named port is resolved per pod, so it has none.
    #[must_use]
    pub(crate) fn known_numbers(&self) -> Option<(u16, u16)> {
        match self.numbers {
            Numbers::All => Some((u16::MIN, u16::MAX)),
            Numbers::Range(first, last) => Some((first, last)),
            Numbers::Named(_) | Numbers::Messages(..) => None,
        }
    }
}

impl Ports {
    /// The port numbers of `protocol` that the entries together certainly match.
    #[must_use]
    pub(crate) fn known_numbers(&self, protocol: Protocol) -> Ranges<u16> {
        match self {
            Self::Any => Ranges::all(),
            Self::Only(ports) => numbers(ports, protocol),
            Self::But { of, not } => {
                let mut left = of.known_numbers(protocol);
                left.subtract(&numbers(not, protocol));
                left
            }
            Self::OfService(_) => Ranges::none(),
        }
    }

    /// An upper bound on the count of [`known_numbers`](Self::known_numbers) of any protocol. It does not need to sort
    /// them.
    #[must_use]
    pub(crate) fn known_at_most(&self) -> u128 {
        match self {
            Self::Any => u128::from(u16::MAX) + 1,
            Self::Only(ports) => {
                let width = |(first, last): (u16, u16)| u128::from(last.saturating_sub(first)) + 1;
                ports.iter().filter_map(Port::known_numbers).map(width).sum()
            }
            Self::But { of, .. } => of.known_at_most(),
            Self::OfService(_) => 0,
        }
    }

    /// Returns true if both list the same ports, regardless of their paths.
    #[must_use]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |own: &[Port], other: &[Port]| {
            let alike = |(own, other): (&Port, &Port)| (own.protocol, &own.numbers) == (other.protocol, &other.numbers);
            own.len() == other.len() && own.iter().zip(other).all(alike)
        };
        match (self, other) {
            (Self::Only(own), Self::Only(other)) => same(own, other),
            (Self::But { of, not }, Self::But { of: other, not: others }) => of.is_same(other) && same(not, others),
            _ => self == other,
        }
    }

    /// Calls a function for each listed entry, also for excluded ones.
    pub fn for_each<'a>(&'a self, each: &mut impl FnMut(&'a Port)) {
        match self {
            Self::Any | Self::OfService(_) => {}
            Self::Only(ports) => ports.iter().for_each(each),
            Self::But { of, not } => {
                of.for_each(each);
                not.iter().for_each(each);
            }
        }
    }

    /// The number of listed entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        match self {
            Self::Any | Self::OfService(_) => 0,
            Self::Only(ports) => ports.len(),
            Self::But { of, not } => of.entries() + not.len(),
        }
    }

    /// Returns true if the ports match this traffic. `None` if that depends on something unknown.
    #[must_use]
    pub fn mean(&self, traffic: Traffic<'_>) -> Option<bool> {
        match self {
            Self::Any => Some(true),
            Self::Only(ports) => any_of(ports.iter().map(|port| port.means(traffic))),
            // The port is arbitrary, so any port that is not excluded matches.
            Self::But { of, .. } if traffic == Traffic::SomePort => of.mean(traffic),
            Self::But { of, not } => {
                let left_out = any_of(not.iter().map(|port| port.means(traffic)));
                all_of([of.mean(traffic), left_out.map(|left_out| !left_out)])
            }
            Self::OfService(own) => match traffic {
                Traffic::Port { protocol, .. } if own.is_none_or(|own| own == protocol) => None,
                Traffic::SomePort => None,
                Traffic::Port { .. } | Traffic::Protocol(_) | Traffic::Message { .. } => Some(false),
            },
        }
    }
}

/// The port numbers of `protocol` that these entries together certainly match.
fn numbers(ports: &[Port], protocol: Protocol) -> Ranges<u16> {
    charge(ports.len());
    ports.iter().filter(|port| port.is_for(protocol)).filter_map(Port::known_numbers).collect()
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(protocol) = self.protocol else {
            return match &self.numbers {
                Numbers::Range(first, last) if first == last => write!(f, "port {first} of any protocol"),
                Numbers::Range(first, last) => write!(f, "ports {first}-{last} of any protocol"),
                Numbers::Named(name) => write!(f, "port {name:?} of any protocol"),
                // Messages belong to a protocol.
                Numbers::All | Numbers::Messages(..) => f.write_str("every port of any protocol"),
            };
        };
        write!(f, "{protocol}")?;
        match &self.numbers {
            Numbers::All => f.write_str(" (every port)"),
            Numbers::Range(first, last) if first == last => write!(f, " {first}"),
            Numbers::Range(first, last) => write!(f, " {first}-{last}"),
            Numbers::Named(name) => write!(f, " {name:?}"),
            Numbers::Messages(kind, None) => write!(f, " type {kind}"),
            Numbers::Messages(kind, Some(code)) => write!(f, " type {kind} code {code}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = match self {
            Self::Any => return f.write_str("every port"),
            Self::Only(ports) if ports.is_empty() => return f.write_str("no port"),
            Self::OfService(None) => return f.write_str("the ports of the Service"),
            Self::OfService(Some(protocol)) => return write!(f, "the {protocol} ports of the Service"),
            Self::Only(ports) => ports,
            Self::But { of, not } => {
                write!(f, "{of} but ")?;
                not
            }
        };
        for (position, port) in ports.iter().enumerate() {
            write!(f, "{}{port}", if position == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Option<Protocol>, numbers: Numbers) -> Port {
        Port { path: Path::root(), protocol, numbers }
    }

    #[test]
    fn entries_of_one_protocol_add_up() {
        let ports = Ports::Only(vec![
            port(Some(Protocol::Tcp), Numbers::Range(1, 100)),
            port(None, Numbers::Range(101, 200)),
            port(Some(Protocol::Udp), Numbers::Range(201, 300)),
        ]);
        assert_eq!(ports.known_numbers(Protocol::Tcp), Ranges::between(1, 200));
        assert_eq!(ports.known_at_most(), 300, "of every protocol, as if none of them overlapped");
        let udp = |number| Traffic::Port { protocol: Protocol::Udp, number, names: Names::Exactly(&[]) };
        assert_eq!(ports.mean(udp(150)), Some(true));
        assert_eq!(ports.mean(udp(50)), Some(false));
        assert_eq!(ports.mean(Traffic::Protocol(Protocol::Icmp)), Some(false));
    }

    #[test]
    fn a_name_counts_only_on_pods_that_have_it() {
        let ports = Ports::Only(vec![port(Some(Protocol::Udp), Numbers::Named("dns".into()))]);
        let dns = |names| ports.mean(Traffic::Port { protocol: Protocol::Udp, number: 53, names });
        let (called, other) = ([Box::from("dns")], [Box::from("metrics")]);
        assert_eq!(dns(Names::Exactly(&[])), Some(false));
        assert_eq!(dns(Names::AtLeast(&other)), None, "it may have more names");
        assert_eq!(dns(Names::AtLeast(&called)), Some(true));
        assert_eq!(ports.to_string(), "UDP \"dns\"");
    }

    #[test]
    fn all_but_some_is_the_rest() {
        let not = vec![port(Some(Protocol::Tcp), Numbers::Range(10, 20))];
        let ports = Ports::But { of: Box::new(Ports::Any), not };
        let tcp = |number| Traffic::Port { protocol: Protocol::Tcp, number, names: Names::Exactly(&[]) };
        assert_eq!((ports.mean(tcp(15)), ports.mean(tcp(21))), (Some(false), Some(true)));
        assert_eq!(ports.mean(Traffic::Protocol(Protocol::Icmp)), Some(true));
        assert_eq!(ports.known_numbers(Protocol::Tcp).count(), 65_525);
        assert!(ports.known_numbers(Protocol::Udp).is_all());
        assert_eq!(ports.to_string(), "every port but TCP 10-20");
    }

    #[test]
    fn icmp_is_no_port() {
        let ports = Ports::Only(vec![port(Some(Protocol::Icmp), Numbers::Messages(8, None))]);
        assert_eq!(ports.mean(Traffic::Protocol(Protocol::Icmp)), None, "the message type is unknown");
        let message = |kind| Traffic::Message { protocol: Protocol::Icmp, kind, code: 0 };
        assert_eq!((ports.mean(message(8)), ports.mean(message(0))), (Some(true), Some(false)));
        assert_eq!(ports.mean(Traffic::SomePort), Some(false));
        assert!(Protocol::WITH_PORTS.iter().all(|protocol| ports.known_numbers(*protocol).is_empty()));
    }
}
