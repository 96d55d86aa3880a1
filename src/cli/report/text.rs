//! Text output for people.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write as _;

use anyhow::Result;

use super::excerpt::Drawing;
use super::{Entry, Report};
use crate::cli::inputs::{Inputs, without_patches};
use crate::cli::words::{MAX_NAMED, named, plural, printable};
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};
use crate::model::ObjectRef;
use crate::rules::Mode;

/// Minimum number of findings at which those with the same text are printed as one.
const MIN_GROUPED: usize = 20;
/// Maximum number of other places that are listed for findings with the same text.
const MAX_PLACES: usize = 3;
/// Minimum number of denials of one rule at which the setting that turns them into warnings is printed.
const MIN_DENIALS: usize = 10;

/// Groups each finding with the later ones that have the same text. A short report lists each finding by itself.
fn groups(entries: &[Entry]) -> Vec<(&Entry, Vec<&Entry>)> {
    let mut groups: Vec<(&Entry, Vec<&Entry>)> = Vec::new();
    let mut known: HashMap<(&str, &str, &str, &str), usize> = HashMap::new();
    for entry in entries {
        let finding = &entry.judgement.finding;
        let key = (finding.rule, entry.judgement.action.name(), finding.message.as_str(), finding.help.as_str());
        match known.get(&key).and_then(|at| groups.get_mut(*at)) {
            Some((_, alike)) if entries.len() >= MIN_GROUPED => alike.push(entry),
            _ => {
                known.insert(key, groups.len());
                groups.push((entry, Vec::new()));
            }
        }
    }
    groups
}

/// Lists the places of findings with the same text.
fn places(alike: &[&Entry]) -> String {
    let named = alike.iter().take(MAX_PLACES).map(|entry| format!("{}:{}", entry.file, entry.mark.line));
    let named = named.collect::<Vec<_>>().join(", ");
    match alike.len().saturating_sub(MAX_PLACES) {
        0 => named,
        more => format!("{named} and {more} more places"),
    }
}

/// Prints, for each rule with many denials, the number of objects and the setting that turns the rule into a warning.
fn print_rules(out: &mut impl std::io::Write, entries: &[Entry]) -> Result<()> {
    let mut denials: BTreeMap<&str, (usize, HashSet<&ObjectRef>, BTreeSet<&str>)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.judgement.action == Mode::Deny) {
        let finding = &entry.judgement.finding;
        let (count, objects, namespaces) = denials.entry(finding.rule).or_default();
        *count += 1;
        objects.insert(&finding.object);
        namespaces.extend(finding.object.namespace.as_deref());
    }
    for (rule, (count, objects, namespaces)) in denials.into_iter().filter(|(_, (count, ..))| *count >= MIN_DENIALS) {
        let objects = plural(objects.len(), "object");
        writeln!(out, "{BOLD}{rule}{BOLD:#}: {count} denials in {objects}, {}", plural(namespaces.len(), "namespace"))?;
        let names: Vec<&str> = namespaces.into_iter().collect();
        match names.as_slice() {
            [] => {}
            names if names.len() <= MAX_NAMED => writeln!(
                out,
                "  {FAINT}to warn there:{FAINT:#} `overrides: [{{namespaces: {{names: [{}]}}, rules: {{{rule}: warn}}}}]`",
                printable(&names.join(", "))
            )?,
            _ => {}
        }
        writeln!(out, "  {FAINT}to warn everywhere:{FAINT:#} `rules: {{{rule}: warn}}` in the configuration\n")?;
    }
    Ok(())
}

pub(super) fn print(report: &Report, inputs: &Inputs) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let groups = groups(&report.entries);
    let mut drawing = Drawing::of(report, inputs);
    for (entry, alike) in &groups {
        let also = (!alike.is_empty()).then(|| places(alike));
        writeln!(out, "{}\n", drawing.text(entry, also.as_deref()))?;
    }
    print_rules(&mut out, &report.entries)?;
    for assumed in &report.assumed {
        writeln!(out, "{FAINT}assumed:{FAINT:#} {}\n", printable(assumed))?;
    }
    if let [first, ..] = report.undescribed.as_slice() {
        let named = named(&report.undescribed);
        let (named, have) = match report.undescribed.len() {
            1 => (format!("namespace `{}`", printable(first)), "has"),
            count if count <= MAX_NAMED => (format!("namespaces {named}"), "have"),
            count => (format!("{count} namespaces ({named})"), "have"),
        };
        writeln!(out, "{FAINT}assumed:{FAINT:#} {named} {have} no profile and no baseline")?;
        writeln!(out, "  {FAINT}help:{FAINT:#} add the Namespace manifest, as a file to check or with --context\n")?;
    }
    if !report.one_namespace.is_empty() {
        let folders = named(&report.one_namespace);
        writeln!(out, "{FAINT}assumed:{FAINT:#} manifests without a namespace in {folders} share one namespace")?;
        writeln!(out, "  {FAINT}help:{FAINT:#} set `metadata.namespace`, or check each folder separately\n")?;
    }
    if let (Some(assumed), [first, ..]) = (without_patches(&report.with_patches), report.with_patches.as_slice()) {
        writeln!(out, "{FAINT}assumed:{FAINT:#} {assumed}")?;
        writeln!(
            out,
            "  {FAINT}help:{FAINT:#} check the rendered manifests: `kustomize build {first} | portcullis check -`\n"
        )?;
    }
    let (deny, warn, audit) = (report.count(Mode::Deny), report.count(Mode::Warn), report.count(Mode::Audit));
    let style = match (deny, warn) {
        (0, 0) => GREEN,
        (0, _) => YELLOW,
        _ => RED,
    };
    let left_out: Vec<String> = [
        (report.unchanged > 0).then(|| format!("{} unchanged", report.unchanged)),
        (report.deleted > 0).then(|| format!("{} deleted by a kustomization", report.deleted)),
        (report.passed_over > 0).then(|| format!("{} of other kinds ignored", report.passed_over)),
        (!report.skipped.is_empty()).then(|| format!("{} skipped", plural(report.skipped.len(), "file"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let left_out = if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join(", ")) };
    let objects = plural(report.resources, "object");
    if report.entries.is_empty() {
        writeln!(out, "{style}no findings{style:#} in {objects}{left_out}")?;
    } else {
        let findings = plural(report.entries.len(), "finding");
        let subjects = report.resources_with_findings();
        let audit = if audit == 0 { String::new() } else { format!(", {audit} audit") };
        writeln!(
            out,
            "{findings} in {subjects} of {objects}{left_out}: {style}{deny} deny, {warn} warn{audit}{style:#}"
        )?;
        let fixable = report.entries.iter().filter(|entry| entry.fix.is_some()).count();
        if fixable > 0 {
            writeln!(out, "{FAINT}{} for `--fix`{FAINT:#}", plural(fixable, "candidate"))?;
        }
    }
    Ok(())
}
