//! Contracts: which connections must be possible, and which must never be.

use std::fmt;

use super::{AddressSet, DomainPattern, Entity, NAME_LABEL, Namespaces, Pods, Protocol};

/// A statement about connections that has to hold whatever the policies of a cluster are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The name.
    pub name: Box<str>,
    /// The statement: the connections are required or forbidden.
    pub demand: Demand,
    /// The pods that count.
    pub extent: Extent,
    /// The sources.
    pub from: Vec<Party>,
    /// The destinations.
    pub to: Vec<Party>,
    /// The ports. Empty: every port of TCP, UDP and SCTP.
    pub ports: Vec<PortSpan>,
    /// The action for a change that breaks the contract.
    pub enforcement: Enforcement,
    /// The reason for the contract, as the author wrote it.
    pub reason: Box<str>,
    /// The team or person to ask, as the author wrote it.
    pub owner: Box<str>,
}

/// The statement of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Every source reaches every destination on every port.
    MustReach,
    /// No source reaches any destination on any port.
    MustNotReach,
}

/// The pods that a contract covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every pod that could be created in the existing namespaces, with any labels.
    Any,
    /// The pods that exist, and the pods of the workloads that exist.
    Existing,
}

/// The action for a change that breaks a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The change is denied.
    Deny,
    /// The change is allowed with a warning.
    Warn,
}

impl Enforcement {
    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
        }
    }
}

/// A source or a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// Pods, without those that a later list excludes.
    Pods {
        /// The pods.
        pods: Pods,
        /// The pods that do not belong to them.
        except: Vec<Pods>,
    },
    /// Addresses.
    Addresses {
        /// The addresses.
        set: AddressSet,
        /// True if they are known to be outside of the cluster.
        outside: bool,
        /// The addresses as the author wrote them.
        text: Box<str>,
    },
    /// A DNS name outside of the cluster.
    Domain(DomainPattern),
    /// Nodes, or the API server.
    Entity(Entity),
    /// The cluster DNS of the configuration: at least one of its endpoints.
    ClusterDns,
}

/// A range of ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpan {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Contract {
    /// The statement as a verb.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self.demand {
            Demand::MustReach => "must reach",
            Demand::MustNotReach => "must not reach",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods { pods, except } => {
                describe(f, pods)?;
                for (position, pods) in except.iter().enumerate() {
                    f.write_str(if position == 0 { " except " } else { " and " })?;
                    describe(f, pods)?;
                }
                Ok(())
            }
            Self::Addresses { text, .. } => f.write_str(text),
            Self::Domain(name) => name.fmt(f),
            Self::Entity(Entity::KubeApiserver) => f.write_str("the API server"),
            Self::Entity(Entity::RemoteNode) => f.write_str("the nodes"),
            Self::Entity(entity) => f.write_str(entity.name()),
            Self::ClusterDns => f.write_str("the cluster DNS"),
        }
    }
}

impl fmt::Display for PortSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol.ports(self.first, self.last))
    }
}

impl fmt::Display for Contract {
    /// The statement in one line: `pods … must not reach … on TCP 5432`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, &self.from)?;
        write!(f, " {} ", self.verb())?;
        list(f, &self.to)?;
        if !self.ports.is_empty() {
            f.write_str(" on ")?;
            list(f, &self.ports)?;
        }
        Ok(())
    }
}

/// Describes pods. Namespaces that are given by name are named.
fn describe(f: &mut fmt::Formatter<'_>, pods: &Pods) -> fmt::Result {
    let names = match &pods.namespaces {
        Namespaces::Matching(namespaces) => namespaces.values_of(NAME_LABEL),
        Namespaces::Own(_) => None,
    };
    match (names, &pods.labels) {
        (None, _) => write!(f, "{pods}"),
        (Some(names), labels) => {
            match labels {
                Some(labels) if !labels.is_empty() => write!(f, "pods with {labels}")?,
                _ => f.write_str("all pods")?,
            }
            let word = if names.len() == 1 { "namespace" } else { "namespaces" };
            write!(f, " in {word} {}", names.join(", "))
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (position, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if position == 0 { "" } else { " or " })?;
    }
    Ok(())
}
