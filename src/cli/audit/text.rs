//! The text output of `portcullis audit`: the counts, with the first objects of each.

use std::io::Write;

use anyhow::Result;

use crate::audit::{NamespaceState, Report, Section};
use crate::cli::contract_text::{counts, print_state};
use crate::cli::words::{plural, printable};
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};

/// Number of items that are printed of each section.
const MAX_ITEMS: usize = 5;
/// Number of contracts that are printed.
const MAX_CONTRACTS: usize = 20;
/// Number of findings that are printed.
const MAX_FINDINGS: usize = 20;

pub(super) fn print(report: &Report) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for line in summary(report) {
        writeln!(out, "{BOLD}{line}{BOLD:#}")?;
    }
    for section in report.sections.iter().filter(|section| !is_empty(section)) {
        print_section(&mut out, section)?;
    }
    let empty: Vec<&str> =
        report.sections.iter().filter(|section| is_empty(section)).map(|section| section.title).collect();
    if !empty.is_empty() {
        writeln!(out, "\n{GREEN}None of these{GREEN:#}:")?;
        empty.iter().try_for_each(|title| writeln!(out, "  {title}"))?;
    }
    print_contracts(&mut out, report)?;
    print_findings(&mut out, report)?;
    print_namespaces(&mut out, &report.namespaces)?;
    for assumed in &report.assumed {
        writeln!(out, "{FAINT}assumed{FAINT:#}: {}", printable(assumed))?;
    }
    for unread in &report.unread {
        writeln!(out, "{YELLOW}not read{YELLOW:#}: {}: {}", printable(&unread.kind), printable(&unread.why))?;
    }
    Ok(())
}

/// The totals, as lines.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let summary = &report.summary;
    let reach = &report.matrix.outcomes;
    let findings = &summary.findings;
    let mut lines = vec![
        format!(
            "{}, {} in {}, {}",
            plural(summary.namespaces, "namespace"),
            plural(summary.pods, "pod"),
            plural(summary.workloads, "workload"),
            plural(summary.policies, "policy"),
        ),
        format!(
            "isolated pods: {} for ingress, {} for egress, of {}",
            summary.isolated.ingress, summary.isolated.egress, summary.pods
        ),
        format!(
            "connections between namespaces: {} open, {} partly open, {} closed, {} undecided",
            reach.all, reach.some, reach.none, reach.undecided
        ),
        format!(
            "findings: {}, {}, {}",
            plural(findings.deny, "denial"),
            plural(findings.warn, "warning"),
            plural(findings.audit, "audit")
        ),
    ];
    if !report.contracts.is_empty() {
        lines.push(counts(&report.contracts));
    }
    lines
}

fn print_section(out: &mut impl Write, section: &Section) -> Result<()> {
    let style = if section.is_finding { RED } else { YELLOW };
    writeln!(out, "\n{style}{}{style:#}: {}", section.title, count(section))?;
    for item in section.items.iter().take(MAX_ITEMS) {
        let path = item.path.as_ref().map(|path| format!(" at {}", printable(path))).unwrap_or_default();
        let counted = if item.counted > 1 { format!(" ({})", item.counted) } else { String::new() };
        writeln!(out, "  {}{path}{counted}: {}", printable(&item.object), printable(&item.message))?;
    }
    let shown = section.items.len().min(MAX_ITEMS);
    if let more @ 1.. = section.items.len() + section.omitted - shown {
        writeln!(out, "  {FAINT}and {more} more (--output json lists them){FAINT:#}")?;
    }
    Ok(())
}

fn is_empty(section: &Section) -> bool {
    section.count == 0 && section.unanswered.is_none()
}

/// The number of a section: `3 of 7`.
pub(super) fn count(section: &Section) -> String {
    match (&section.unanswered, section.of) {
        (Some(why), _) => format!("not answered: {why}"),
        (None, Some(of)) => format!("{} of {of}", section.count),
        (None, None) => section.count.to_string(),
    }
}

fn print_contracts(out: &mut impl Write, report: &Report) -> Result<()> {
    if report.contracts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}Contracts{BOLD:#}")?;
    for state in report.contracts.iter().take(MAX_CONTRACTS) {
        print_state(out, state)?;
    }
    if let Some(more @ 1..) = report.contracts.len().checked_sub(MAX_CONTRACTS) {
        writeln!(out, "{FAINT}and {more} more (--output json lists them){FAINT:#}")?;
    }
    Ok(())
}

fn print_findings(out: &mut impl Write, report: &Report) -> Result<()> {
    if report.findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}Findings of the rules{BOLD:#}")?;
    for finding in report.findings.iter().take(MAX_FINDINGS) {
        let source = finding.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        writeln!(out, "  {}[{}]{source}: {}", finding.action.name(), finding.rule, printable(&finding.message))?;
    }
    if let Some(more @ 1..) = (report.findings.len() + report.omitted_findings).checked_sub(MAX_FINDINGS) {
        writeln!(out, "  {FAINT}and {more} more (--output json lists them){FAINT:#}")?;
    }
    Ok(())
}

fn print_namespaces(out: &mut impl Write, namespaces: &[NamespaceState]) -> Result<()> {
    if namespaces.is_empty() {
        return Ok(());
    }
    let name = |namespace: &NamespaceState| match &*namespace.name {
        "" => "(no namespace)".to_owned(),
        name => printable(name),
    };
    let width = namespaces.iter().map(|namespace| name(namespace).len()).max().unwrap_or(0).max("NAMESPACE".len());
    writeln!(
        out,
        "\n{BOLD}{:width$}  {:9}  {:12}  {:>5}  {:>7}  {:>6}  {:>6}{BOLD:#}",
        "NAMESPACE", "BASELINE", "PROFILE", "PODS", "INGRESS", "EGRESS", "NO DNS"
    )?;
    for namespace in namespaces {
        writeln!(
            out,
            "{:width$}  {:9}  {:12}  {:>5}  {:>7}  {:>6}  {:>6}",
            name(namespace),
            namespace.baseline.name(),
            printable(namespace.profile.as_deref().unwrap_or("-")),
            namespace.pods,
            namespace.isolated.ingress,
            namespace.isolated.egress,
            namespace.without_dns,
        )?;
    }
    writeln!(out)?;
    Ok(())
}
