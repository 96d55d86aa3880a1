//! `portcullis check --fix`: applies the patches of findings to the files.
//!
//! A pass applies one patch to each manifest and judges all files again. If a finding is still there or a new one
//! appears, the pass is repeated with each half of its patches, so that one bad patch does not hide the others. A
//! manifest with several findings takes several passes, because a patch is written for the manifest as it is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use similar::TextDiff;

use super::Check;
use crate::cli::inputs::{Inputs, STDIN_NAME};
use crate::cli::report::{Entry, Format, Report};
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};
use crate::dialect::Patch;

/// Number of lines around a change in a diff.
const CONTEXT_LINES: usize = 2;
/// Maximum number of passes, which is the maximum number of fixes in one manifest.
const MAX_PASSES: usize = 100;

/// A patch of one manifest.
#[derive(Clone)]
struct Fix {
    /// The position of the manifest in [`Report::objects`].
    manifest: usize,
    rule: &'static str,
    message: String,
    file: String,
    line: usize,
    position: (usize, Option<usize>),
    patch: Patch,
}

/// The fixes of a run.
#[derive(Default)]
struct Outcome {
    fixed: Vec<Fix>,
    /// Fixes that were not applied, with the reason.
    kept: Vec<(Fix, String)>,
}

/// Fixes the findings of a report in its files, and returns the report of what is left.
pub(super) fn apply(check: &Check<'_>, inputs: &mut Inputs, report: Report) -> Result<Report> {
    let original = inputs.clone();
    let mut report = report;
    let mut outcome = Outcome::default();
    let mut tried: HashSet<(usize, &'static str, String)> = HashSet::new();
    for _ in 0..MAX_PASSES {
        let fixes = next(&report, &tried);
        if fixes.is_empty() {
            break;
        }
        tried.extend(fixes.iter().map(|fix| (fix.manifest, fix.rule, fix.message.clone())));
        attempt(check, inputs, &mut report, fixes, &mut outcome);
    }
    let is_stdin = original.text(STDIN_NAME).is_some();
    let to_stdout = check.arguments.output == Format::Text && !is_stdin;
    let unwritten = write(&original, inputs, &mut outcome)?;
    show(&original, inputs, &outcome, to_stdout)?;
    if unwritten {
        report = check.judge(inputs);
    }
    if let Some(text) = inputs.text(STDIN_NAME) {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        for entry in &report.entries {
            let finding = &entry.judgement.finding;
            let (action, line) = (entry.judgement.action.name(), entry.mark.line);
            anstream::eprintln!("{BOLD}{action}[{}]{BOLD:#}: {} (line {line})", finding.rule, finding.message);
        }
        for error in &report.errors {
            anstream::eprintln!("{RED}error{RED:#}: {error}");
        }
    }
    Ok(report)
}

/// Returns the first fix of each manifest that was not tried yet.
fn next(report: &Report, tried: &HashSet<(usize, &'static str, String)>) -> Vec<Fix> {
    let mut manifests = HashSet::new();
    let fix = |entry: &Entry| {
        let (patch, finding) = (entry.fix.clone()?, &entry.judgement.finding);
        let is_new = !tried.contains(&(entry.manifest, finding.rule, finding.message.clone()));
        let judged = report.objects.get(entry.manifest)?;
        (is_new && manifests.insert(entry.manifest)).then(|| Fix {
            manifest: entry.manifest,
            rule: finding.rule,
            message: finding.message.clone(),
            file: entry.file.clone(),
            line: entry.mark.line,
            position: judged.position,
            patch,
        })
    };
    report.entries.iter().filter_map(fix).collect()
}

/// Applies fixes of different manifests, if that removes their findings and adds none. Otherwise tries each half.
fn attempt(check: &Check<'_>, inputs: &mut Inputs, report: &mut Report, fixes: Vec<Fix>, outcome: &mut Outcome) {
    let mut edited = inputs.clone();
    let mut applied = Vec::new();
    let open = counts(report);
    // Another fix may have solved the finding of this one.
    for fix in fixes.into_iter().filter(|fix| open.contains_key(&(fix.manifest, fix.rule))) {
        match edited.patched(&fix.file, fix.position, &fix.patch) {
            Ok(text) => {
                edited.set_text(&fix.file, &text);
                applied.push(fix);
            }
            Err(why) => outcome.kept.push((fix, why)),
        }
    }
    if applied.is_empty() {
        return;
    }
    let judged = check.judge(&edited);
    match fault(report, &judged, &applied) {
        None => {
            *inputs = edited;
            *report = judged;
            outcome.fixed.extend(applied);
        }
        Some(why) => {
            let rest = applied.split_off(applied.len() / 2);
            if applied.is_empty() {
                outcome.kept.extend(rest.into_iter().map(|fix| (fix, why.clone())));
            } else {
                attempt(check, inputs, report, applied, outcome);
                attempt(check, inputs, report, rest, outcome);
            }
        }
    }
}

/// Returns the reason why fixes are not accepted: a finding that is still there, or a new one.
fn fault(before: &Report, after: &Report, fixes: &[Fix]) -> Option<String> {
    let (had, has) = (counts(before), counts(after));
    if after.errors.len() > before.errors.len() {
        return after.errors.last().map(|error| format!("the edited file cannot be read: {error}"));
    }
    let left = fixes.iter().find(|fix| {
        let key = (fix.manifest, fix.rule);
        has.get(&key).copied().unwrap_or_default() >= had.get(&key).copied().unwrap_or_default()
    });
    if let Some(fix) = left {
        return Some(format!("the finding {} would still be there", fix.rule));
    }
    let new = has.iter().find(|(key, count)| **count > had.get(key).copied().unwrap_or_default());
    new.map(|((_, rule), _)| format!("the fix would cause the finding {rule}"))
}

/// Returns the number of findings of each manifest and rule.
fn counts(report: &Report) -> BTreeMap<(usize, &'static str), usize> {
    let mut counts = BTreeMap::new();
    for entry in &report.entries {
        *counts.entry((entry.manifest, entry.judgement.finding.rule)).or_default() += 1;
    }
    counts
}

/// Writes the changed files. A file that cannot be written gets its original text back in `inputs`. Returns true if
/// there is one.
fn write(original: &Inputs, inputs: &mut Inputs, outcome: &mut Outcome) -> Result<bool> {
    let mut failed = false;
    for file in &original.files {
        let (Some(path), Some(text)) = (file.path(), inputs.text(&file.name)) else { continue };
        let Some(before) = original.text(&file.name).filter(|before| *before != text) else { continue };
        if let Err(error) = replace(path, before, text) {
            failed = true;
            inputs.set_text(&file.name, before);
            let (lost, fixed) = std::mem::take(&mut outcome.fixed).into_iter().partition(|fix| fix.file == file.name);
            outcome.fixed = fixed;
            let lost: Vec<Fix> = lost;
            outcome.kept.extend(lost.into_iter().map(|fix| (fix, format!("{error:#}"))));
        }
    }
    Ok(failed)
}

/// Replaces the text of a file as a whole, and keeps its owner and mode. A symbolic link is kept, and its target is
/// replaced.
fn replace(path: &Path, before: &str, text: &str) -> Result<()> {
    let path = fs::canonicalize(path)?;
    let now = fs::read(&path)?;
    if now == text.as_bytes() {
        // It was written under another name: a link, or another path.
        return Ok(());
    }
    let metadata = fs::metadata(&path)?;
    if metadata.permissions().readonly() {
        bail!("the file is read-only");
    }
    if now.starts_with(b"\xff\xfe") || now.starts_with(b"\xfe\xff") {
        bail!("the file is UTF-16; save it as UTF-8");
    }
    if now != before.as_bytes() {
        bail!("the file has changed since it was read");
    }
    let folder = path.parent().context("the file has no folder")?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    if give_owner(new.as_file(), &metadata).is_err() {
        return overwrite(&path, before, text, new);
    }
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(metadata.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    Ok(())
}

/// Gives a file the owner and group of another one. Only root may give it to another user.
#[cfg(unix)]
fn give_owner(file: &fs::File, other: &fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (other.uid(), other.gid()) {
        return Ok(());
    }
    fchown(file, Some(other.uid()), Some(other.gid()))
}

#[cfg(not(unix))]
fn give_owner(_: &fs::File, _: &fs::Metadata) -> std::io::Result<()> {
    Ok(())
}

/// Writes a text into the file itself, so that its owner stays. If that fails halfway, the former text is kept beside it.
fn overwrite(path: &Path, before: &str, text: &str, mut backup: tempfile::NamedTempFile) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    backup.write_all(before.as_bytes())?;
    backup.as_file().sync_all()?;
    let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
    let Err(error) = written else { return Ok(()) };
    let (_, backup) = backup.keep()?;
    bail!("{error}; the former text is in {}", backup.display())
}

/// Prints a diff of each changed file, and the fixes.
fn show(original: &Inputs, inputs: &Inputs, outcome: &Outcome, to_stdout: bool) -> Result<()> {
    let mut text = Vec::new();
    let mut shown = HashSet::new();
    for file in &original.files {
        let (Some(before), Some(after)) = (original.text(&file.name), inputs.text(&file.name)) else { continue };
        if before == after || !shown.insert(&file.name) {
            continue;
        }
        let diff = TextDiff::from_lines(before, after);
        let mut diff = diff.unified_diff();
        let diff = diff.context_radius(CONTEXT_LINES).header(&file.name, &file.name).to_string();
        for line in diff.lines() {
            match line.as_bytes().first() {
                Some(b'+') => writeln!(text, "{GREEN}{line}{GREEN:#}")?,
                Some(b'-') => writeln!(text, "{RED}{line}{RED:#}")?,
                _ => writeln!(text, "{line}")?,
            }
        }
    }
    for Fix { rule, file, line, .. } in &outcome.fixed {
        writeln!(text, "{GREEN}fixed{GREEN:#}[{rule}]: {file}:{line}")?;
    }
    for (Fix { rule, file, line, .. }, why) in &outcome.kept {
        writeln!(text, "{YELLOW}not fixed{YELLOW:#}[{rule}]: {file}:{line}\n  {FAINT}reason:{FAINT:#} {why}")?;
    }
    if !text.is_empty() {
        writeln!(text)?;
    }
    if to_stdout {
        anstream::stdout().lock().write_all(&text)?;
    } else {
        anstream::stderr().lock().write_all(&text)?;
    }
    Ok(())
}
