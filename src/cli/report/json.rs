//! JSON output for programs.

use anyhow::Result;
use serde::Serialize;

use super::Report;
use crate::cli::inputs::{Problem, without_patches};
use crate::cli::output::print_json;
use crate::dialect::Patch;
use crate::rules::Mode;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    findings: Vec<Finding<'a>>,
    assumed_without_profile: &'a [String],
    assumed_one_namespace: &'a [String],
    assumed: Vec<String>,
    errors: Vec<Failure<'a>>,
    skipped: Vec<LeftOut<'a>>,
    summary: Summary,
}

#[derive(Serialize)]
struct Finding<'a> {
    rule: &'a str,
    action: Mode,
    resource: Resource<'a>,
    file: &'a str,
    line: usize,
    path: String,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    closest: Option<&'a str>,
    help: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a Patch>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    api_version: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
}

#[derive(Serialize)]
struct Failure<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    message: &'a str,
}

impl<'a> Failure<'a> {
    fn of(problem: &'a Problem) -> Self {
        Self { file: &problem.file, line: problem.line, message: &problem.message }
    }
}

#[derive(Serialize)]
struct LeftOut<'a> {
    file: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    resources: usize,
    deny: usize,
    warn: usize,
    audit: usize,
    passed_over: usize,
    unchanged: usize,
    skipped: usize,
    errors: usize,
}

pub(super) fn print(report: &Report) -> Result<()> {
    let findings = report
        .entries
        .iter()
        .map(|entry| {
            let finding = &entry.judgement.finding;
            Finding {
                rule: finding.rule,
                action: entry.judgement.action,
                resource: Resource {
                    api_version: &finding.object.api_version,
                    kind: &finding.object.kind,
                    namespace: finding.object.namespace.as_deref(),
                    name: &finding.object.name,
                },
                file: &entry.file,
                line: entry.mark.line,
                path: finding.path.to_string(),
                message: &finding.message,
                closest: finding.closest.as_deref(),
                help: &finding.help,
                fix: entry.fix.as_ref(),
            }
        })
        .collect();
    let summary = Summary {
        resources: report.resources,
        deny: report.count(Mode::Deny),
        warn: report.count(Mode::Warn),
        audit: report.count(Mode::Audit),
        passed_over: report.passed_over,
        unchanged: report.unchanged,
        skipped: report.skipped.len(),
        errors: report.errors.len(),
    };
    let output = Output {
        findings,
        assumed_without_profile: &report.undescribed,
        assumed_one_namespace: &report.one_namespace,
        assumed: report.assumed.iter().cloned().chain(without_patches(&report.with_patches)).collect(),
        errors: report.errors.iter().map(Failure::of).collect(),
        skipped: report.skipped.iter().map(|one| LeftOut { file: &one.file, reason: one.reason }).collect(),
        summary,
    };
    print_json(&output)
}
