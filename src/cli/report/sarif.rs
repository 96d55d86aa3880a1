//! SARIF 2.1.0, the format of code scanning.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Entry, Report, fingerprint, place, position, summary};
use crate::dialect::Patch;
use crate::engine::Spared;
use crate::rules::{self, Definition, Mode};

#[derive(Serialize)]
pub(super) struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
struct Run<'a> {
    tool: Tool,
    invocations: [Invocation; 1],
    results: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    short_description: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Text>,
    default_configuration: Configuration,
}

#[derive(Serialize)]
struct Configuration {
    enabled: bool,
    level: &'static str,
}

#[derive(Serialize)]
struct Text {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<String>,
}

impl Text {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), markdown: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<[Location; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    logical_locations: Option<[LogicalLocation; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    fully_qualified_name: String,
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding<'a> {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressions: Option<[Suppression; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
}

#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    status: &'static str,
    justification: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    json_patch: &'a Patch,
}

/// Returns the log. It describes the rules that have findings. Errors, assumptions and skipped files are notifications.
pub(super) fn log(report: &Report) -> Log<'_> {
    let rules = report.entries.iter().map(|entry| entry.judgement.finding.rule);
    let rules: BTreeSet<(usize, &'static str)> = rules.map(|rule| (position(rule), rule)).collect();
    let indices: BTreeMap<&str, usize> = rules.iter().enumerate().map(|(index, (_, rule))| (*rule, index)).collect();
    let results = report.entries.iter().zip(fingerprint::of(report)).map(|(entry, fingerprint)| {
        let index = indices.get(entry.judgement.finding.rule).copied().unwrap_or_default();
        finding(entry, index, fingerprint)
    });
    let driver = Driver {
        name: "portcullis",
        version: env!("CARGO_PKG_VERSION"),
        rules: rules.iter().map(|(_, rule)| descriptor(rule)).collect(),
    };
    Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: Tool { driver },
            invocations: [Invocation {
                execution_successful: report.errors.is_empty(),
                tool_execution_notifications: notifications(report),
            }],
            results: results.collect(),
        }],
    }
}

fn descriptor(rule: &'static str) -> Descriptor {
    let definition = rules::find(rule);
    let mode = definition.map_or(Mode::Warn, |rule| rule.mode);
    // Without a web page for a rule, its page is the help.
    let help = |rule: &Definition| Text { text: rule.summary(), markdown: Some(rule.doc()) };
    Descriptor {
        id: rule,
        short_description: Text::plain(summary(rule)),
        help: definition.map(help),
        default_configuration: Configuration { enabled: mode != Mode::Off, level: level(mode) },
    }
}

fn level(mode: Mode) -> &'static str {
    match mode {
        Mode::Deny => "error",
        Mode::Warn => "warning",
        Mode::Audit => "note",
        Mode::Off => "none",
    }
}

fn finding(entry: &Entry, rule_index: usize, fingerprint: String) -> Finding<'_> {
    let finding = &entry.judgement.finding;
    let path = if finding.path.steps().is_empty() { String::new() } else { format!(" {}", finding.path) };
    let name = LogicalLocation { fully_qualified_name: format!("{}{path}", finding.object), kind: "object" };
    let text = [&[finding.message.clone()][..], &entry.advice()].concat().join("\n");
    Finding {
        rule_id: finding.rule,
        rule_index,
        level: level(entry.judgement.action),
        message: Text::plain(text),
        locations: [Location { logical_locations: Some([name]), ..Location::of(&entry.file, Some(entry.mark.line)) }],
        // GitHub reads `primaryLocationLineHash` only, and computes it from the text around the line if it is missing.
        partial_fingerprints: BTreeMap::from([
            ("primaryLocationLineHash", fingerprint.clone()),
            ("portcullis/v1", fingerprint),
        ]),
        suppressions: entry.judgement.spared.map(|spared| [suppression(spared)]),
        properties: entry.fix.as_ref().map(|json_patch| Properties { json_patch }),
    }
}

fn suppression(spared: Spared) -> Suppression {
    let kind = match spared {
        Spared::Exempt | Spared::Staged => "inSource",
        Spared::WasThereBefore | Spared::NamespaceGoes | Spared::HatchOpen => "external",
    };
    Suppression { kind, status: "accepted", justification: spared.note() }
}

fn notifications(report: &Report) -> Vec<Notification> {
    let errors = report.errors.iter().map(|problem| Notification {
        level: "error",
        message: Text::plain(&*problem.message),
        locations: Some([Location::of(&problem.file, problem.line)]),
    });
    let assumptions = report.assumptions().into_iter().map(|text| Notification {
        level: "note",
        message: Text::plain(format!("assumed: {text}")),
        locations: None,
    });
    let skipped = report.skipped.iter().map(|one| Notification {
        level: "note",
        message: Text::plain(format!("skipped: {}", one.reason)),
        locations: Some([Location::of(&one.file, None)]),
    });
    errors.chain(assumptions).chain(skipped).collect()
}

impl Location {
    fn of(file: &str, line: Option<usize>) -> Self {
        let artifact_location = ArtifactLocation { uri: place::uri(file) };
        let region = line.map(|line| Region { start_line: line.max(1) });
        Self { physical_location: PhysicalLocation { artifact_location, region }, logical_locations: None }
    }
}
