//! For people.

use std::io::Write as _;

use anyhow::Result;

use super::Report;
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};
use crate::rules::Mode;

/// Maximum number of namespaces named in one line.
const MAX_NAMED: usize = 5;

pub(in crate::cli) fn print(report: &Report) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for entry in &report.entries {
        let (finding, action) = (&entry.judgement.finding, entry.judgement.action);
        let style = match action {
            Mode::Deny => RED,
            Mode::Warn => YELLOW,
            Mode::Audit | Mode::Off => FAINT,
        };
        let (file, line) = (&entry.file, entry.line);
        let note = entry.judgement.spared.map(|spared| format!(" ({})", spared.note())).unwrap_or_default();
        writeln!(out, "{style}{}[{}]{note}{style:#}{BOLD}: {}{BOLD:#}", action.name(), finding.rule, finding.message)?;
        writeln!(out, "  {FAINT}-->{FAINT:#} {file}:{line}, {} at {}", finding.object, finding.path)?;
        if let Some(closest) = &finding.closest {
            writeln!(out, "  {FAINT}closest:{FAINT:#} {closest}")?;
        }
        writeln!(out, "  {FAINT}help:{FAINT:#} {}", finding.help)?;
        if let Some(fix) = &entry.fix {
            writeln!(out, "  {FAINT}JSON patch:{FAINT:#} {}", serde_json::to_string(fix)?)?;
        }
        writeln!(out)?;
    }
    if let [first, ..] = report.undescribed.as_slice() {
        let named =
            report.undescribed.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (named, have) = match report.undescribed.len() {
            1 => (format!("namespace `{first}`"), "has"),
            count if count <= MAX_NAMED => (format!("namespaces {named}"), "have"),
            count => (format!("{count} namespaces ({named}, …)"), "have"),
        };
        writeln!(out, "{FAINT}assumed:{FAINT:#} {named} {have} no profile and no baseline")?;
        writeln!(out, "  {FAINT}help:{FAINT:#} add the Namespace manifest, as a file to check or with --context\n")?;
    }
    let (deny, warn, audit) = (report.count(Mode::Deny), report.count(Mode::Warn), report.count(Mode::Audit));
    let style = match (deny, warn) {
        (0, 0) => GREEN,
        (0, _) => YELLOW,
        _ => RED,
    };
    let passed_over = match report.passed_over {
        0 => String::new(),
        kinds => format!(" ({kinds} of other kinds passed over)"),
    };
    let audit = if audit == 0 { String::new() } else { format!(", {audit} to audit") };
    let judged = plural(report.resources, "object");
    writeln!(out, "{judged} judged{passed_over}: {style}{deny} denied, {}{audit}{style:#}", plural(warn, "warning"))?;
    Ok(())
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
