//! The policy itself.

use std::fmt;

use super::{Block, ObjectRef, Path, Ports, Protocol, Selector};

/// One policy as it counts in a cluster: whom it concerns, and what it does in each direction.
///
/// One object can hold several (a Cilium policy with `specs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The object that it stands in.
    pub object: ObjectRef,
    /// Where it stands among other policies.
    pub stage: Stage,
    /// The pods that it concerns.
    pub subject: Pods,
    /// Whether its author said which directions it isolates.
    pub types: Types,
    /// Traffic to the subject.
    pub ingress: Side,
    /// Traffic from the subject.
    pub egress: Side,
}

/// Which of two policies is asked first. Stages are asked in this order, and within one all policies add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Additive policies of namespaces and of the cluster: NetworkPolicy, Cilium.
    Policies,
}

/// Whether the author of a policy said which directions it isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Types {
    /// It is written down.
    Declared,
    /// It is not: the API server inferred it from the rules.
    Inferred,
    /// What is stored does not tell.
    Unknown,
}

/// Seen from the subject: traffic that comes, or traffic that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Traffic to the subject.
    Ingress,
    /// Traffic from the subject.
    Egress,
}

impl Direction {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a policy does in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// Where its rules are, or would be, written.
    pub path: Path,
    /// Whether it isolates the subject: what no policy allows is dropped.
    pub isolates: bool,
    /// What it lets through, or stops. Rules that have no effect are not here.
    pub rules: Vec<Rule>,
    /// How many rules the author wrote; none where the list is not there at all.
    pub written: Option<usize>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where it is written.
    pub path: Path,
    /// What happens to the traffic that it means.
    pub action: Action,
    /// The other side of the traffic.
    pub peers: Peers,
    /// The ports at the destination.
    pub ports: Ports,
}

/// What happens to the traffic that a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may pass.
    Allow,
}

/// The other sides of a rule's traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Anything, inside the cluster and outside of it.
    Any,
    /// One of these; with none of them, nothing.
    Only(Vec<Peer>),
}

/// One entry in the list of peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Where it is written.
    pub path: Path,
    /// What is meant.
    pub who: Who,
}

/// What a peer means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Pods, by their labels and those of their namespaces.
    Pods(Pods),
    /// Addresses.
    Addresses(Block),
}

/// Pods, by their labels and those of their namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pods {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which of the pods there. None where the author did not say: all of them.
    pub labels: Option<Selector>,
}

/// Namespaces, seen from a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// The one that the policy is in. None where a manifest does not name it.
    Own(Option<Box<str>>),
    /// Those with such labels.
    Matching(Selector),
}

impl Policy {
    /// What the policy does in one direction.
    #[must_use]
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Both directions, each with what the policy does there.
    pub fn sides(&self) -> impl Iterator<Item = (Direction, &Side)> {
        Direction::ALL.into_iter().map(|direction| (direction, self.side(direction)))
    }

    /// Every rule that lets traffic through, with its direction.
    pub fn allow_rules(&self) -> impl Iterator<Item = (Direction, &Rule)> {
        self.sides().flat_map(|(direction, side)| {
            side.rules.iter().filter(|rule| rule.action == Action::Allow).map(move |rule| (direction, rule))
        })
    }
}

impl Pods {
    /// The selector of the pods; that of all pods where the author did not say.
    #[must_use]
    pub fn selector(&self) -> Selector {
        self.labels.clone().unwrap_or_else(Selector::everything)
    }

    /// Whether it is written so that every pod of the namespaces is meant.
    #[must_use]
    pub fn all_pods(&self) -> bool {
        self.labels.as_ref().is_none_or(Selector::is_empty)
    }
}

impl Peers {
    /// The entries, where there is a list of them.
    #[must_use]
    pub fn listed(&self) -> &[Peer] {
        match self {
            Self::Any => &[],
            Self::Only(peers) => peers,
        }
    }
}

impl Rule {
    /// The blocks of addresses among the peers, each with its entry.
    pub fn blocks(&self) -> impl Iterator<Item = (&Peer, &Block)> {
        self.peers.listed().iter().filter_map(|peer| match &peer.who {
            Who::Addresses(block) => Some((peer, block)),
            Who::Pods(_) => None,
        })
    }

    /// Whether the rule speaks of this port, on pods that call it by one of `names`.
    #[must_use]
    pub fn has_port(&self, protocol: Protocol, number: u16, names: &[Box<str>]) -> bool {
        self.ports.contain(protocol, number, names)
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
