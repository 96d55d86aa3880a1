//! The peers of a rule.

use std::fmt;

use super::{Block, DomainPattern, Path, Rule, Selector, Sets, Surroundings};
use crate::budget::hold;

/// The peers of a rule: the other ends of its traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Any peer, inside or outside of the cluster.
    Any,
    /// Only these peers. An empty list matches no peer.
    Only(Vec<Peer>),
}

/// An entry in the peer list of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The path of the entry.
    pub path: Path,
    /// The peer.
    pub who: Who,
    /// The network sets that the selectors of the peer match besides pods.
    pub sets: Sets,
}

impl Peer {
    /// Creates a peer and charges its memory: a few bytes of a manifest become one peer.
    #[must_use]
    pub fn new(path: Path, who: Who) -> Self {
        hold(size_of::<Self>() + size_of_val(path.steps()));
        Self { path, who, sets: Sets::None }
    }
}

/// The set of endpoints that a peer matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Pods, by their labels and those of their namespaces.
    Pods(Pods),
    /// A CIDR.
    Addresses(Block),
    /// An entity of Cilium: a named group of endpoints.
    Entity(Entity),
    /// Nodes, by their labels.
    Nodes(Selector),
    /// The addresses that a DNS name resolves to.
    Domain(DomainPattern),
    /// The endpoints of a Service.
    Service(ServicePeer),
    /// The endpoints that match every part.
    All(Vec<Who>),
    /// The endpoints that do not match the part.
    Not(Box<Who>),
    /// A peer that Portcullis does not understand, described as text.
    Unclear(Box<str>),
}

/// One or several Services. The model does not know Service objects. It knows the endpoints only of Services that the
/// configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePeer {
    /// The namespace of the Service. `None`: any namespace.
    pub namespace: Option<Box<str>>,
    /// The name, if the Service is selected by name.
    pub name: Option<Box<str>>,
    /// A description.
    pub words: Box<str>,
}

/// An entity of Cilium: a named group of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Everything.
    All,
    /// Everything outside of the cluster.
    World,
    /// Every IPv4 address outside of the cluster.
    WorldV4,
    /// Every IPv6 address outside of the cluster.
    WorldV6,
    /// Every pod and every node of the cluster.
    Cluster,
    /// The node that the pod is on.
    Host,
    /// Any other node.
    RemoteNode,
    /// The API servers.
    KubeApiserver,
    /// The endpoints of the agents' health checks.
    Health,
    /// Pods whose labels are not known yet.
    Init,
    /// Pods that the agent does not manage.
    Unmanaged,
    /// The ingress proxy of the agent.
    Ingress,
    /// Nothing.
    None,
}

impl Entity {
    /// The name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::World => "world",
            Self::WorldV4 => "world-ipv4",
            Self::WorldV6 => "world-ipv6",
            Self::Cluster => "cluster",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Health => "health",
            Self::Init => "init",
            Self::Unmanaged => "unmanaged",
            Self::Ingress => "ingress",
            Self::None => "none",
        }
    }

    /// Returns true if every endpoint of `other` is also in this entity.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other
            || match self {
                Self::All => true,
                Self::World => matches!(other, Self::WorldV4 | Self::WorldV6),
                Self::Cluster => !matches!(other, Self::All | Self::World | Self::WorldV4 | Self::WorldV6),
                _ => other == Self::None,
            }
    }

    /// Returns true for entities from which kubelets and node agents connect.
    #[must_use]
    pub(crate) fn is_node(self) -> bool {
        matches!(self, Self::Host | Self::RemoteNode | Self::KubeApiserver | Self::Health)
    }
}

/// Pods, by their labels and those of their namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pods {
    /// The namespaces of the pods.
    pub namespaces: Namespaces,
    /// The selector of the pods there. `None` if the author wrote no selector: all pods.
    pub labels: Option<Selector>,
}

/// The namespaces that a policy refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// The namespace of the policy. `None` if the manifest leaves it out.
    Own(Option<Box<str>>),
    /// The namespaces that this selector matches.
    Matching(Selector),
}

impl Pods {
    /// The selector of the pods. Without a written selector it matches all pods.
    #[must_use]
    pub fn selector(&self) -> Selector {
        self.labels.as_ref().map_or_else(Selector::everything, Selector::copied)
    }

    /// The pods that both match. `None` if their namespaces exclude each other.
    #[must_use]
    pub fn and(&self, other: &Self, around: &dyn Surroundings) -> Option<Self> {
        let namespaces = match (&self.namespaces, &other.namespaces) {
            (Namespaces::Matching(a), Namespaces::Matching(b)) => Namespaces::Matching(if a == b || b.is_empty() {
                a.copied()
            } else if a.is_empty() {
                b.copied()
            } else {
                Selector::All(vec![a.copied(), b.copied()])
            }),
            (own @ Namespaces::Own(name), there) | (there, own @ Namespaces::Own(name)) => {
                if there.mean(name.as_deref().unwrap_or_default(), around) == Some(false) {
                    return None;
                }
                own.clone()
            }
        };
        let mut parts: Vec<Selector> = Vec::new();
        for labels in [&self.labels, &other.labels].into_iter().flatten() {
            if !labels.is_empty() && !parts.contains(labels) {
                parts.push(labels.copied());
            }
        }
        Some(Self { namespaces, labels: (!parts.is_empty()).then(|| Selector::all(parts)) })
    }

    /// Returns true if it is written so that it matches every pod of every namespace.
    #[must_use]
    pub(crate) fn are_all(&self) -> bool {
        self.all_pods() && matches!(&self.namespaces, Namespaces::Matching(namespaces) if namespaces.is_empty())
    }

    /// Returns true if the selector is written so that it matches every pod of the namespaces.
    #[must_use]
    pub(crate) fn all_pods(&self) -> bool {
        self.labels.as_ref().is_none_or(Selector::is_empty)
    }
}

impl Who {
    /// Returns true if it matches every address, or every address of one family, without exceptions.
    #[must_use]
    pub(crate) fn is_anywhere(&self) -> bool {
        match self {
            Self::Addresses(block) => block.is_everywhere(),
            Self::Entity(entity) => {
                matches!(entity, Entity::All | Entity::World | Entity::WorldV4 | Entity::WorldV6)
            }
            Self::All(parts) => parts.iter().all(Self::is_anywhere),
            // The negation matches every address outside of the cluster, because none of those belongs to its pods.
            Self::Not(part) => matches!(**part, Self::Pods(_)),
            Self::Pods(_) | Self::Nodes(_) | Self::Domain(_) | Self::Service(_) | Self::Unclear(_) => false,
        }
    }
}

impl Peers {
    /// The listed entries. Empty for [`Peers::Any`].
    #[must_use]
    pub fn listed(&self) -> &[Peer] {
        match self {
            Self::Any => &[],
            Self::Only(peers) => peers,
        }
    }
}

impl Rule {
    /// The CIDRs among the peers, each with its entry.
    pub fn blocks(&self) -> impl Iterator<Item = (&Peer, &Block)> {
        self.peers.listed().iter().filter_map(|peer| match &peer.who {
            Who::Addresses(block) => Some((peer, block)),
            _ => None,
        })
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(Some(name)) => write!(f, "in namespace {name}"),
            Self::Own(None) => f.write_str("in the same namespace"),
            Self::Matching(labels) if labels.is_empty() => f.write_str("in every namespace"),
            Self::Matching(labels) => write!(f, "in namespaces with {labels}"),
        }
    }
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.labels {
            Some(labels) if !labels.is_empty() => write!(f, "pods with {labels} {}", self.namespaces),
            _ => write!(f, "all pods {}", self.namespaces),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => pods.fmt(f),
            Self::Addresses(block) => block.fmt(f),
            Self::Entity(entity) => write!(f, "entity `{}`", entity.name()),
            Self::Nodes(labels) if labels.is_empty() => f.write_str("every node"),
            Self::Nodes(labels) => write!(f, "nodes with {labels}"),
            Self::Domain(pattern) => pattern.fmt(f),
            Self::Service(service) => f.write_str(&service.words),
            Self::Unclear(text) => f.write_str(text),
            Self::All(parts) => {
                for (position, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if position == 0 { "" } else { " and " })?;
                }
                Ok(())
            }
            Self::Not(part) => write!(f, "anything but {part}"),
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anywhere"),
            Self::Only(peers) if peers.is_empty() => f.write_str("nowhere"),
            Self::Only(peers) => {
                for (position, peer) in peers.iter().enumerate() {
                    write!(f, "{}{}", if position == 0 { "" } else { " or " }, peer.who)?;
                }
                Ok(())
            }
        }
    }
}
