//! Which ports a rule speaks of.

use std::fmt;

use super::{Path, Ranges};

/// A transport protocol that a port can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    /// Every protocol that has ports.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// The rule does not speak of ports: every port of every protocol.
    Any,
    /// These and no others.
    Only(Vec<Port>),
}

/// One entry in the list of ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Where it is written.
    pub path: Path,
    /// Of which protocol; every protocol where it is none.
    pub protocol: Option<Protocol>,
    /// Which numbers.
    pub numbers: Numbers,
}

/// The port numbers of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// Every port of the protocol.
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// The container port with this name, whose number depends on the pod.
    Named(Box<str>),
}

impl Port {
    /// Whether the entry speaks of this protocol.
    #[must_use]
    pub fn is_for(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
    }

    /// The numbers that are sure to be meant. A name is resolved pod by pod, so it gives none.
    fn known_numbers(&self) -> Option<(u16, u16)> {
        match self.numbers {
            Numbers::All => Some((u16::MIN, u16::MAX)),
            Numbers::Range(first, last) => Some((first, last)),
            Numbers::Named(_) => None,
        }
    }
}

impl Ports {
    /// Every number of `protocol` that the entries, added up, are sure to mean.
    #[must_use]
    pub fn known_numbers(&self, protocol: Protocol) -> Ranges<u16> {
        match self {
            Self::Any => Ranges::all(),
            Self::Only(ports) => {
                ports.iter().filter(|port| port.is_for(protocol)).filter_map(Port::known_numbers).collect()
            }
        }
    }

    /// Whether this port is sure to be meant, on pods that call it by one of `names`.
    #[must_use]
    pub fn contain(&self, protocol: Protocol, number: u16, names: &[Box<str>]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.iter().any(|port| {
                port.is_for(protocol)
                    && match &port.numbers {
                        Numbers::All => true,
                        Numbers::Range(first, last) => (*first..=*last).contains(&number),
                        Numbers::Named(name) => names.contains(name),
                    }
            }),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(protocol) => write!(f, "{protocol}")?,
            None => f.write_str("any protocol")?,
        }
        match &self.numbers {
            Numbers::All => f.write_str(" (every port)"),
            Numbers::Range(first, last) if first == last => write!(f, " {first}"),
            Numbers::Range(first, last) => write!(f, " {first}-{last}"),
            Numbers::Named(name) => write!(f, " {name:?}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("every port"),
            Self::Only(ports) if ports.is_empty() => f.write_str("no port"),
            Self::Only(ports) => {
                for (position, port) in ports.iter().enumerate() {
                    write!(f, "{}{port}", if position == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
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
        assert!(ports.contain(Protocol::Udp, 150, &[]));
        assert!(!ports.contain(Protocol::Udp, 50, &[]));
    }

    #[test]
    fn a_name_counts_only_on_pods_that_have_it() {
        let ports = Ports::Only(vec![port(Some(Protocol::Udp), Numbers::Named("dns".into()))]);
        assert!(!ports.contain(Protocol::Udp, 53, &[]));
        assert!(!ports.contain(Protocol::Udp, 53, &["metrics".into()]));
        assert!(ports.contain(Protocol::Udp, 53, &["dns".into()]));
        assert_eq!(ports.to_string(), "UDP \"dns\"");
    }
}
