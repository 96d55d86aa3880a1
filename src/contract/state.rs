//! The state of a contract in words.

use serde::Serialize;

use crate::model::Contract;
use crate::view::Scene;

use super::{Cause, Status, unmatched};

/// The state of a contract in words, as the commands print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContractState {
    /// The name of the contract.
    pub name: String,
    /// The contract in one line.
    pub statement: String,
    /// The result.
    pub result: Verdict,
    /// A connection that breaks the contract, or the reason why it is undecided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The policies that decide that connection, each with the path of its rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// The ends that match nothing, if the contract holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The action for a change that breaks the contract: `Deny` or `Warn`.
    pub enforcement: &'static str,
    /// The reason for the contract, as the author wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The team or person to ask, as the author wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
}

/// The result for a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A connection breaks it.
    Broken,
    /// It is unknown whether it holds.
    Undecided,
    /// It is proved that it holds.
    Holds,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Undecided => "undecided",
            Self::Holds => "holds",
        }
    }
}

impl ContractState {
    /// Describes the status of a contract.
    #[must_use]
    pub fn of(contract: &Contract, scene: Scene<'_>, status: &Status) -> Self {
        let mut state = Self {
            name: contract.name.to_string(),
            statement: contract.to_string(),
            result: Verdict::Holds,
            detail: None,
            because: Vec::new(),
            notes: Vec::new(),
            enforcement: contract.enforcement.name(),
            reason: contract.reason.to_string(),
            owner: contract.owner.to_string(),
        };
        match status {
            Status::Holds => state.notes = unmatched(contract, scene),
            Status::Broken(found) => {
                state.result = Verdict::Broken;
                state.detail = Some(found.sentence(contract));
                state.because = found.causes.iter().map(because).collect();
            }
            Status::Undecided(doubt) => {
                state.result = Verdict::Undecided;
                state.detail = Some(doubt.to_string());
            }
        }
        state
    }
}

fn because(cause: &Cause) -> String {
    match &cause.path {
        Some(path) => format!("{cause} ({path})"),
        None => cause.to_string(),
    }
}
