//! Faults of a manifest, as its own dialect sees them.

use super::Path;
use crate::budget;

/// A part of a manifest that its dialect does not apply as written, or that Portcullis does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path.
    pub path: Path,
    /// The kind of the fault.
    pub kind: FaultKind,
    /// The problem with the value, without a list index.
    pub problem: String,
    /// The action that solves the problem.
    pub help: String,
}

impl Fault {
    /// Creates a fault and charges its memory: a list may have a fault for every two bytes.
    #[must_use]
    pub fn new(path: Path, kind: FaultKind, problem: impl Into<String>, help: impl Into<String>) -> Self {
        let (problem, help) = (problem.into(), help.into());
        budget::hold(size_of::<Self>() + size_of_val(path.steps()) + problem.len() + help.len());
        Self { path, kind, problem, help }
    }
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A selector does not parse.
    InvalidSelector,
    /// Ports are given without a protocol that has ports.
    PortWithoutProtocol,
    /// A DNS name, or a pattern of names, is not valid.
    InvalidFqdn,
    /// The agent ignores the policy for another reason, although the API server stores it.
    NeverEnforced,
    /// The dialect does not define the field.
    UnknownField,
    /// The dialect defines the field, but Portcullis does not understand it. The policy is evaluated without it.
    NotUnderstood,
    /// The value is written in a form that newer versions of the API server reject. It is read as older ones read it.
    Nonstandard,
    /// The object has an API version that its dialect does not list. It is read like the nearest listed version.
    UnlistedVersion,
}

impl FaultKind {
    /// Returns true if the agent ignores the whole policy because of this fault.
    #[must_use]
    pub(crate) fn is_refused(self) -> bool {
        !matches!(self, Self::UnknownField | Self::NotUnderstood | Self::Nonstandard | Self::UnlistedVersion)
    }
}
