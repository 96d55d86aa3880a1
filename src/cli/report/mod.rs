//! What was found, before it is printed. One file an output.

pub(super) mod json;
pub(super) mod text;

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
    /// What could not be read.
    pub(super) errors: Vec<String>,
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
