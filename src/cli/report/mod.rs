//! The findings of a run before they are printed. Each output format has its own file.

pub(super) mod json;
pub(super) mod text;

use std::collections::HashSet;

use super::inputs::{Problem, Skipped};
use crate::dialect::Patch;
use crate::engine::Judgement;
use crate::rules::Mode;

/// The results of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order of the files, then of the paths within them.
    pub(super) entries: Vec<Entry>,
    /// Number of judged objects.
    pub(super) resources: usize,
    /// Number of objects that were not judged because no dialect reads their kind.
    pub(super) passed_over: usize,
    /// Namespaces that have policies but no Namespace manifest, in order. They are assumed to have no profile and no
    /// baseline.
    pub(super) undescribed: Vec<String>,
    /// Folders of manifests without a namespace that are assumed to go to one namespace. Empty for a single folder.
    pub(super) one_namespace: Vec<String>,
    /// Other assumptions, as text.
    pub(super) assumed: Vec<String>,
    /// Files that were skipped.
    pub(super) skipped: Vec<Skipped>,
    /// Text that could not be read or judged.
    pub(super) errors: Vec<Problem>,
}

/// A judgement with the file and line of its subject.
#[derive(Debug)]
pub(super) struct Entry {
    /// The position of the manifest among all manifests of the run.
    pub(super) manifest: usize,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) judgement: Judgement,
    pub(super) fix: Option<Patch>,
}

impl Report {
    pub(super) fn count(&self, action: Mode) -> usize {
        self.entries.iter().filter(|entry| entry.judgement.action == action).count()
    }

    /// Returns the number of manifests that have findings.
    pub(super) fn resources_with_findings(&self) -> usize {
        self.entries.iter().map(|entry| entry.manifest).collect::<HashSet<_>>().len()
    }

    pub(super) fn denies(&self) -> bool {
        self.count(Mode::Deny) > 0
    }
}
