//! The findings of a run before they are printed. Each output format has its own file.

mod excerpt;
mod fingerprint;
mod github;
mod gitlab;
mod json;
mod junit;
pub(super) mod markdown;
mod place;
mod sarif;
mod text;

pub(super) use junit::escaped as escaped_for_xml;

use std::collections::HashSet;

use anyhow::Result;
use clap::ValueEnum;

use super::inputs::{Found, Inputs, Problem, Skipped, without_patches};
use super::words::{named, plural};
use crate::dialect::Patch;
use crate::engine::Judgement;
use crate::model::ObjectRef;
use crate::rules::{self, Mode, RULES};
use crate::yaml::Mark;

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    Text,
    /// One JSON object for programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for test reports: a suite for each file, a test case for each object.
    Junit,
    /// GitHub workflow commands, which annotate the lines of a pull request.
    Github,
    /// A GitLab Code Quality report.
    Gitlab,
    /// Markdown, for a comment on a pull request.
    Markdown,
}

/// The results of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order of the files, then of the paths within them.
    pub(super) entries: Vec<Entry>,
    /// The checked objects, in the order of the files.
    pub(super) objects: Vec<Judged>,
    /// Number of checked objects.
    pub(super) resources: usize,
    /// Number of objects that were not checked because no dialect reads their kind.
    pub(super) passed_over: usize,
    /// Number of objects that were not checked because a kustomization deletes them.
    pub(super) deleted: usize,
    /// Number of objects that were not checked because their files have not changed.
    pub(super) unchanged: usize,
    /// Namespaces that have policies but no Namespace manifest, in order. They are assumed to have no profile and no
    /// baseline.
    pub(super) undescribed: Vec<String>,
    /// Folders of manifests without a namespace that are assumed to go to one namespace. Empty for a single folder.
    pub(super) one_namespace: Vec<String>,
    /// Folders of kustomizations whose patches are not applied.
    pub(super) with_patches: Vec<String>,
    /// Other assumptions, as text.
    pub(super) assumed: Vec<String>,
    /// Files that were skipped.
    pub(super) skipped: Vec<Skipped>,
    /// Text that could not be read or checked.
    pub(super) errors: Vec<Problem>,
}

/// A checked object with the file and line of its manifest.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) object: ObjectRef,
    /// The position of the document in the file, and of the manifest in the list that it is an item of.
    pub(super) position: (usize, Option<usize>),
}

/// A finding with its place.
#[derive(Debug)]
pub(super) struct Entry {
    /// The position of the manifest in [`Report::objects`].
    pub(super) manifest: usize,
    pub(super) file: String,
    pub(super) mark: Mark,
    pub(super) judgement: Judgement,
    pub(super) fix: Option<Patch>,
}

impl Report {
    /// Adds an object to check and returns its position. Context is counted only.
    pub(super) fn add(&mut self, found: &Found, object: &ObjectRef, is_context: bool) -> usize {
        if is_context {
            self.unchanged += 1;
        } else {
            self.resources += 1;
            let (file, line) = (found.file.clone(), found.document.line);
            self.objects.push(Judged { file, line, object: object.clone(), position: found.position() });
        }
        self.objects.len().saturating_sub(1)
    }

    /// Prints the report to standard output, and its errors to standard error. The text shows lines of the inputs.
    pub(super) fn print(&self, format: Format, inputs: &Inputs) -> Result<()> {
        match format {
            Format::Text => text::print(self, inputs)?,
            Format::Json => json::print(self)?,
            Format::Sarif => super::output::print_json(&sarif::log(self))?,
            Format::Junit => print(&junit::document(self))?,
            Format::Github => print(&github::commands(self))?,
            Format::Gitlab => super::output::print_json(&gitlab::issues(self))?,
            Format::Markdown => print(&markdown::comment(self))?,
        }
        for error in &self.errors {
            let error = error.to_string();
            // GitHub reads commands from standard error too.
            let error = if format == Format::Github { github::without_commands(&error) } else { error };
            anstream::eprintln!("{}error{:#}: {error}", super::RED, super::RED);
        }
        Ok(())
    }

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

    /// Returns the counts as one line: `1 denial, 2 warnings in 3 objects`.
    fn tally(&self) -> String {
        let audit = self.count(Mode::Audit);
        let counts = [
            Some(plural(self.count(Mode::Deny), "denial")),
            Some(plural(self.count(Mode::Warn), "warning")),
            (audit > 0).then(|| format!("{audit} audit")),
            (!self.errors.is_empty()).then(|| plural(self.errors.len(), "error")),
        ];
        let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        format!("{counts} in {}", plural(self.resources, "object"))
    }

    /// Returns the assumptions as sentences.
    fn assumptions(&self) -> Vec<String> {
        let mut sentences = self.assumed.clone();
        if !self.undescribed.is_empty() {
            let names = named(&self.undescribed);
            sentences.push(format!("namespaces without a manifest have no profile and no baseline: {names}"));
        }
        if !self.one_namespace.is_empty() {
            let folders = named(&self.one_namespace);
            sentences.push(format!("manifests without a namespace in {folders} share one namespace"));
        }
        sentences.extend(without_patches(&self.with_patches));
        sentences
    }
}

impl Entry {
    /// Returns the finding with its place and its advice, for formats that show several findings as one text.
    fn details(&self) -> String {
        let Judgement { finding, action, spared } = &self.judgement;
        let note = spared.map(|spared| format!(" ({})", spared.note())).unwrap_or_default();
        let path = if finding.path.steps().is_empty() { String::new() } else { format!(" at {}", finding.path) };
        let head = format!("{}[{}]{note}: {}", action.name(), finding.rule, finding.message);
        format!(
            "{head}\n  --> {}:{}, {}{path}\n  {}",
            self.file,
            self.mark.line,
            finding.object,
            self.advice().join("\n  ")
        )
    }

    /// Returns the near miss, if there is one, and the help.
    fn advice(&self) -> Vec<String> {
        let finding = &self.judgement.finding;
        let closest = finding.closest.as_ref().map(|closest| format!("closest: {closest}"));
        closest.into_iter().chain([format!("help: {}", finding.help)]).collect()
    }
}

/// The findings that no rule makes, with their summaries.
const REMARKS: [(&str, &str); 3] = [
    ("dropped-text", "A part of the manifest does not count."),
    ("overwritten-object", "A later manifest of the same object overwrites this one."),
    ("unresolved-variable", "A name or a label contains a variable."),
];

/// Returns the summary of a rule, or of a finding that no rule makes.
fn summary(rule: &str) -> String {
    let remark = || REMARKS.iter().find(|(name, _)| *name == rule).map(|(_, summary)| (*summary).to_owned());
    rules::find(rule).map(rules::Definition::summary).or_else(remark).unwrap_or_else(|| rule.to_owned())
}

/// Returns the position of a rule in reports: rules in their order, then the findings that no rule makes.
fn position(rule: &str) -> usize {
    RULES.iter().position(|one| one.name == rule).unwrap_or(RULES.len())
}

fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
