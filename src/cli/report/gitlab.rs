//! GitLab's Code Quality report, a subset of the format of Code Climate.

use serde::Serialize;

use super::{Report, fingerprint, place};
use crate::rules::Mode;

#[derive(Serialize)]
pub(super) struct Issue {
    description: String,
    check_name: &'static str,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

/// Returns an issue for each error and finding.
pub(super) fn issues(report: &Report) -> Vec<Issue> {
    let errors = report.errors.iter().zip(fingerprint::of_errors(report)).map(|(problem, fingerprint)| Issue {
        description: problem.message.clone(),
        check_name: "error",
        fingerprint,
        severity: "critical",
        location: Location::of(&problem.file, problem.line.unwrap_or(1)),
    });
    let findings = report.entries.iter().zip(fingerprint::of(report)).map(|(entry, fingerprint)| Issue {
        description: [&[entry.judgement.finding.message.clone()][..], &entry.advice()].concat().join("\n"),
        check_name: entry.judgement.finding.rule,
        fingerprint,
        severity: match entry.judgement.action {
            Mode::Deny => "major",
            Mode::Warn => "minor",
            Mode::Audit | Mode::Off => "info",
        },
        location: Location::of(&entry.file, entry.mark.line),
    });
    errors.chain(findings).collect()
}

impl Location {
    fn of(file: &str, line: usize) -> Self {
        Self { path: place::relative(file), lines: Lines { begin: line.max(1) } }
    }
}
