//! What is wrong with a manifest in the eyes of its own dialect.

use super::Path;
use crate::budget;

/// Something in a manifest that its own dialect will not do as it is written, or that is not understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place.
    pub path: Path,
    /// What kind of thing is wrong.
    pub kind: FaultKind,
    /// What is wrong, with the value; no position in a list.
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

impl Fault {
    /// Creates a fault, and charges the memory that it holds: a list of two bytes an item may have a fault in each.
    #[must_use]
    pub fn new(path: Path, kind: FaultKind, problem: impl Into<String>, help: impl Into<String>) -> Self {
        let (problem, help) = (problem.into(), help.into());
        budget::hold(size_of::<Self>() + size_of_val(path.steps()) + problem.len() + help.len());
        Self { path, kind, problem, help }
    }
}

/// What kind of thing is wrong with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A selector does not parse.
    InvalidSelector,
    /// Ports are given without a protocol that has ports.
    PortWithoutProtocol,
    /// A name in DNS, or a pattern of names, cannot be one.
    InvalidFqdn,
    /// The agent stores it and leaves it aside, for another reason.
    NeverEnforced,
    /// The dialect has no such field.
    UnknownField,
    /// The dialect has it, and what it means is not understood here: the policy is judged as if it were not there.
    NotUnderstood,
}

impl FaultKind {
    /// Whether the agent leaves the whole policy aside for it.
    #[must_use]
    pub fn is_refused(self) -> bool {
        !matches!(self, Self::UnknownField | Self::NotUnderstood)
    }
}
