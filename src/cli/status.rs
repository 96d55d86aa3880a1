//! `portcullis status`: the state of each namespace.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::cluster_arguments::ClusterArguments;
use super::output::{Output, print_json};
use super::sources::Sources;
use super::{BOLD, FAINT, OK, YELLOW, block_on};
use crate::audit::{Actions, Audited, BaselineState, Input, NamespaceState, Scope};
use crate::baseline;
use crate::view::{Site, View};

/// Show the profile, the baseline, the hatch, the isolated pods, the findings and the contracts of each namespace.
///
/// Needs read access. Kinds that may not be read are named, and everything else is answered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  portcullis status\n  portcullis status --namespace shop --output json")]
pub(super) struct Arguments {
    /// Show only this namespace. Repeatable.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Read the configuration from this file [default: the built-in configuration].
    ///
    /// Use the configuration of the Portcullis that runs in the cluster.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Read the baseline policies from this folder [default: the built-in policies].
    #[arg(long, value_name = "FOLDER", env = "PORTCULLIS_POLICIES")]
    policies: Option<PathBuf>,
    /// Print the namespaces in this format.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The row of a namespace.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    state: NamespaceState,
    findings: Actions,
    /// The state of the baseline in the words of the controller.
    #[serde(rename = "baselineStatus", skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let (config, policies) = (arguments.config.clone(), arguments.policies.clone());
    let (configuration, policies) = Sources { config, policies, ..Sources::default() }.read()?.settings()?;
    let snapshot = block_on(async {
        let cluster = arguments.cluster.connect().await?;
        let snapshot = cluster.snapshot_keeping(Audited::is_evaluated).await;
        snapshot.map_err(|why| anyhow!("API server {}: {why}", cluster.server))
    })?;
    let stored = snapshot.view;
    if let Some(unknown) = arguments.namespace.iter().find(|name| stored.namespace(name).is_none()) {
        bail!("namespace {unknown} not found");
    }
    let mut view = stored.clone();
    baseline::complete(&mut view, &policies, &configuration.site);
    let objects: Vec<Audited<'_>> = snapshot.objects.iter().map(|object| Audited { object, source: None }).collect();
    let input = Input {
        configuration: &configuration,
        policies: &policies,
        view: &view,
        stored: &stored,
        objects: &objects,
        scope: &Scope::of(arguments.namespace.iter().cloned()),
        now: Timestamp::now(),
    };
    let rows = input.namespaces().into_iter().map(|(state, findings)| {
        let status = status(&stored, &configuration.site, &state.name);
        Row { state, findings, status }
    });
    let rows: Vec<Row> = rows.collect();
    match arguments.output {
        Output::Json => print_json(&serde_json::json!({ "namespaces": rows, "missing": snapshot.missing }))?,
        Output::Text => print_text(&rows, &snapshot.missing)?,
    }
    Ok(OK)
}

/// The status annotation of a namespace, which the controller writes.
fn status(view: &View, site: &Site, namespace: &str) -> Option<String> {
    view.namespace(namespace)?.annotations.get(&site.status_annotation()).map(str::to_owned)
}

const HEADINGS: [&str; 10] = [
    "NAMESPACE",
    "PROFILE",
    "ACCESS",
    "BASELINE",
    "HATCH UNTIL",
    "PODS",
    "ISOLATED IN",
    "ISOLATED OUT",
    "FINDINGS",
    "CONTRACTS",
];

fn print_text(rows: &[Row], missing: &[String]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let cells: Vec<[String; 10]> = rows.iter().map(cells).collect();
    let widths = HEADINGS.iter().enumerate().map(|(column, heading)| {
        let cells = cells.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading.len()]).max().unwrap_or_default()
    });
    let widths: Vec<usize> = widths.collect();
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    writeln!(out, "{BOLD}{}{BOLD:#}", line(&HEADINGS))?;
    for cells in &cells {
        writeln!(out, "{}", line(&cells.each_ref().map(String::as_str)))?;
    }
    let mut notes = Vec::new();
    for Row { state, status, .. } in rows {
        let is_settled = matches!(state.baseline, BaselineState::Applied | BaselineState::None | BaselineState::Exempt);
        notes.extend(status.as_ref().filter(|_| !is_settled).map(|status| format!("{}: {status}", state.name)));
        let fault = state.hatch.as_ref().and_then(|hatch| hatch.fault.as_ref());
        notes.extend(fault.map(|fault| format!("{}: the hatch is not in effect: {fault}", state.name)));
    }
    for note in notes {
        writeln!(out, "{YELLOW}note{YELLOW:#}: {note}")?;
    }
    for missing in missing {
        writeln!(out, "{FAINT}not read{FAINT:#}: {missing}")?;
    }
    Ok(())
}

/// The cells of a row. An empty cell is `-`, so that columns can be cut.
fn cells(Row { state, findings, .. }: &Row) -> [String; 10] {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let baseline = match state.baseline {
        BaselineState::Exempt if state.is_platform => "platform",
        BaselineState::Exempt => "excluded",
        other => other.name(),
    };
    let hatch = state.hatch.as_ref().map(|hatch| hatch.until.clone().unwrap_or_else(|| "unknown".to_owned()));
    let findings = [(findings.deny, "deny"), (findings.warn, "warn"), (findings.audit, "audit")];
    let contracts = &state.contracts;
    let contracts = [(contracts.broken, "broken"), (contracts.undecided, "undecided"), (contracts.hold, "hold")];
    let counted = |counts: [(usize, &str); 3]| {
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        or_dash(counts.collect::<Vec<_>>().join(", "))
    };
    [
        state.name.clone(),
        or_dash(state.profile.clone().unwrap_or_default()),
        or_dash(state.access.join(",")),
        baseline.to_owned(),
        or_dash(hatch.unwrap_or_default()),
        state.pods.to_string(),
        state.isolated.ingress.to_string(),
        state.isolated.egress.to_string(),
        counted(findings),
        counted(contracts),
    ]
}
