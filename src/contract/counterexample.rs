//! A connection that breaks a contract, and what decides it.

use std::fmt;

use super::alphabet::{ELSEWHERE, FURTHER};
use crate::model::{Contract, Demand, Direction, Labels, ObjectRef, Path, Protocol};

/// A connection that breaks a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The source.
    pub from: Witness,
    /// The destination.
    pub to: Witness,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The names that the destination gives to the port.
    pub port_names: Vec<Box<str>>,
    /// What decides the connection, at one end or at both.
    pub causes: Vec<Cause>,
}

/// One end of a connection that breaks a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A pod that could be created.
    Pod {
        /// The namespace.
        namespace: Box<str>,
        /// All of its labels.
        labels: Labels,
        /// The service account, if it matters.
        service_account: Option<Box<str>>,
        /// The labels of the namespace, if it is any namespace without manifests. Its name is then `*`.
        namespace_labels: Labels,
    },
    /// An object that exists.
    Existing {
        /// The namespace.
        namespace: Box<str>,
        /// The kind.
        kind: Box<str>,
        /// The name.
        name: Box<str>,
    },
    /// Something that is not a pod.
    Other(String),
}

/// The decision of the policies of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Egress at the source, or ingress at the destination.
    pub direction: Direction,
    /// The decision.
    pub effect: Effect,
    /// The policy that decides. None if there is none.
    pub policy: Option<ObjectRef>,
    /// The path of the rule in the policy. None if no single rule decides.
    pub path: Option<Path>,
}

/// A decision of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A rule allows the connection.
    Allows,
    /// A rule denies it.
    Denies,
    /// The policy isolates the pod, and no rule allows the connection.
    Isolates,
    /// No policy isolates the pod.
    LeavesOpen,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, labels, service_account, namespace_labels } => {
                if labels.is_empty() {
                    f.write_str("a pod without labels")?;
                } else {
                    write!(f, "a pod with {labels}")?;
                }
                if let Some(account) = service_account {
                    write!(f, " and service account {account}")?;
                }
                match (&**namespace, namespace_labels.is_empty()) {
                    (ELSEWHERE | FURTHER, true) => f.write_str(" in another namespace"),
                    (ELSEWHERE | FURTHER, false) => write!(f, " in another namespace with {namespace_labels}"),
                    _ => write!(f, " in namespace {namespace}"),
                }
            }
            Self::Existing { namespace, kind, name } => write!(f, "{kind} {namespace}/{name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Cause {
    /// The decision without list positions: `NetworkPolicy payments/allow-partners allows it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = self.direction;
        let end = if direction == Direction::Egress { "source" } else { "destination" };
        match (&self.policy, self.effect) {
            (Some(policy), Effect::Allows) => write!(f, "{policy} allows it"),
            (Some(policy), Effect::Denies) => write!(f, "{policy} denies it"),
            (Some(policy), _) => {
                write!(f, "{policy} isolates the {end} for {direction} and no policy allows the connection")
            }
            (None, _) => write!(f, "no policy isolates the {end} for {direction}"),
        }
    }
}

impl Counterexample {
    /// The connection in one sentence: `a pod with … could reach a pod with … on TCP 5432`.
    #[must_use]
    pub fn sentence(&self, contract: &Contract) -> String {
        let verb = match contract.demand {
            Demand::MustNotReach => "could reach",
            Demand::MustReach => "could not reach",
        };
        let port = match self.port_names.first() {
            Some(name) => format!("{} port {} with the name {name}", self.protocol, self.port),
            None => self.protocol.ports(self.port, self.port),
        };
        format!("{} {verb} {} on {port}", self.from, self.to)
    }

    /// What decides the connection, in words.
    #[must_use]
    pub fn why(&self) -> String {
        let causes: Vec<String> = self.causes.iter().map(ToString::to_string).collect();
        causes.join(", and ")
    }
}
