//! What was found, before it is printed. One file an output.

pub(super) mod json;
pub(super) mod text;

use super::inputs::{Problem, Skipped};
use crate::dialect::Patch;
use crate::engine::Judgement;
use crate::rules::Mode;

/// All that a run found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order of the files, and there in the order of their paths.
    pub(super) entries: Vec<Entry>,
    /// How many objects were judged.
    pub(super) resources: usize,
    /// How many were not, because no dialect reads their kind.
    pub(super) passed_over: usize,
    /// Namespaces with policies whose own manifests were not given, in order. They are assumed to have no profile and no baseline.
    pub(super) undescribed: Vec<String>,
    /// The folders of manifests without a namespace that are assumed to be applied to one namespace. Empty if it is one folder.
    pub(super) one_namespace: Vec<String>,
    /// What else was assumed, in words.
    pub(super) assumed: Vec<String>,
    /// Files that were left out.
    pub(super) skipped: Vec<Skipped>,
    /// What could not be read or judged.
    pub(super) errors: Vec<Problem>,
}

/// A judgement, and where what it is about is written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) judgement: Judgement,
    pub(super) fix: Option<Patch>,
}

impl Report {
    pub(super) fn count(&self, action: Mode) -> usize {
        self.entries.iter().filter(|entry| entry.judgement.action == action).count()
    }

    pub(super) fn denies(&self) -> bool {
        self.count(Mode::Deny) > 0
    }
}
