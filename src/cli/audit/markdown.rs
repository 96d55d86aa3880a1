//! The Markdown output of `portcullis audit`.

use std::io::Write;

use anyhow::Result;

use super::text::{count, summary};
use crate::audit::{Matrix, Reach, Report, Section};
use crate::cli::report::markdown::{cell, code, escaped};

/// Maximum number of rows of a table.
const MAX_ROWS: usize = 100;
/// Maximum number of namespaces of the matrix.
const MAX_NAMESPACES: usize = 20;

pub(super) fn print(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "# Network policy audit\n")?;
    for line in summary(report) {
        writeln!(out, "- {}", escaped(&line))?;
    }
    writeln!(out, "\n| question | answer |\n|---|---|")?;
    for section in &report.sections {
        let is_open = section.is_finding && section.count > 0;
        writeln!(out, "| {} | {}{} |", section.title, if is_open { ":x: " } else { "" }, cell(&count(section)))?;
    }
    for section in report.sections.iter().filter(|section| !section.items.is_empty()) {
        print_section(&mut out, section)?;
    }
    print_contracts(&mut out, report)?;
    print_findings(&mut out, report)?;
    print_namespaces(&mut out, report)?;
    print_matrix(&mut out, &report.matrix)?;
    if !report.assumed.is_empty() || !report.unread.is_empty() {
        writeln!(out, "\n## Limits\n")?;
    }
    for assumed in &report.assumed {
        writeln!(out, "- assumed: {}", cell(assumed))?;
    }
    for unread in &report.unread {
        writeln!(out, "- not read: {}: {}", escaped(&unread.kind), cell(&unread.why))?;
    }
    Ok(())
}

fn print_section(out: &mut impl Write, section: &Section) -> Result<()> {
    writeln!(out, "\n## {}: {}\n\n{}\n", section.title, count(section), section.summary)?;
    writeln!(out, "| object | path | fact |\n|---|---|---|")?;
    for item in section.items.iter().take(MAX_ROWS) {
        let path = item.path.as_ref().map(|path| code(path)).unwrap_or_default();
        writeln!(out, "| {} | {path} | {} |", code(&item.object), cell(&item.message))?;
    }
    let shown = section.items.len().min(MAX_ROWS);
    if let more @ 1.. = section.items.len() + section.omitted - shown {
        writeln!(out, "\n{more} more.")?;
    }
    Ok(())
}

fn print_contracts(out: &mut impl Write, report: &Report) -> Result<()> {
    if report.contracts.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## Contracts\n\n| contract | result | statement | detail | reason | owner |\n|---|---|---|---|---|---|"
    )?;
    for state in report.contracts.iter().take(MAX_ROWS) {
        let because = state.because.iter().map(|because| format!("because {because}"));
        let notes = state.notes.iter().map(|note| format!("note: {note}"));
        let lines: Vec<String> =
            state.detail.iter().cloned().chain(because).chain(notes).map(|line| cell(&line)).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            code(&state.name),
            state.result.name(),
            cell(&state.statement),
            lines.join("<br>"),
            cell(&state.reason),
            cell(&state.owner)
        )?;
    }
    if let Some(more @ 1..) = report.contracts.len().checked_sub(MAX_ROWS) {
        writeln!(out, "\n{more} more.")?;
    }
    Ok(())
}

fn print_findings(out: &mut impl Write, report: &Report) -> Result<()> {
    if report.findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Findings of the rules\n\n| rule | action | object | problem | help |\n|---|---|---|---|---|")?;
    for finding in report.findings.iter().take(MAX_ROWS) {
        let object = &finding.object;
        let name = match &object.namespace {
            Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
            None => format!("{} {}", object.kind, object.name),
        };
        let (message, help) = (cell(&finding.message), cell(&finding.help));
        writeln!(out, "| {} | {} | {} | {message} | {help} |", finding.rule, finding.action.name(), code(&name))?;
    }
    if let Some(more @ 1..) = (report.findings.len() + report.omitted_findings).checked_sub(MAX_ROWS) {
        writeln!(out, "\n{more} more.")?;
    }
    Ok(())
}

fn print_namespaces(out: &mut impl Write, report: &Report) -> Result<()> {
    writeln!(out, "\n## Namespaces\n")?;
    writeln!(out, "| namespace | profile | baseline | pods | isolated for ingress | for egress | without DNS |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for namespace in report.namespaces.iter().take(MAX_ROWS) {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            code(&namespace.name),
            escaped(namespace.profile.as_deref().unwrap_or_default()),
            namespace.baseline.name(),
            namespace.pods,
            namespace.isolated.ingress,
            namespace.isolated.egress,
            namespace.without_dns
        )?;
    }
    if let Some(more @ 1..) = report.namespaces.len().checked_sub(MAX_ROWS) {
        writeln!(out, "\n{more} more.")?;
    }
    Ok(())
}

fn print_matrix(out: &mut impl Write, matrix: &Matrix) -> Result<()> {
    if matrix.namespaces.is_empty() || matrix.namespaces.len() > MAX_NAMESPACES {
        return Ok(());
    }
    writeln!(out, "\n## Connections between namespaces\n")?;
    let names: Vec<String> = matrix.namespaces.iter().map(|name| code(name)).collect();
    writeln!(out, "| from \\ to | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for (from, name) in names.iter().enumerate() {
        let cells = (0..names.len()).map(|to| {
            let cell = matrix.cells.iter().find(|cell| (cell.from, cell.to) == (from, to));
            match cell.map_or(matrix.otherwise, |cell| cell.outcome) {
                Reach::All => "all".to_owned(),
                Reach::Some => cell.map(|cell| escaped(&cell.ports)).unwrap_or_default(),
                Reach::None => "-".to_owned(),
                Reach::Undecided => "?".to_owned(),
            }
        });
        writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    Ok(())
}
