//! A finding as text for people, with the line of the manifest and the lines that its fix adds.

use std::collections::{HashMap, HashSet};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Patch, Renderer, Snippet};

use super::{Entry, Report};
use crate::cli::inputs::Inputs;
use crate::cli::words::printable;
use crate::rules::Mode;

/// Maximum length of a line that is shown, in bytes. JSON files are often a single line.
const MAX_LINE: usize = 300;
/// Maximum number of lines that a shown fix adds or replaces.
const MAX_FIX_LINES: usize = 30;
/// Maximum size of a file whose fixes are shown, in bytes. Each of them parses the file.
const MAX_FIXED_FILE: usize = 256 * 1024;
/// Maximum number of fixes that are shown.
const MAX_FIXES: usize = 200;

/// Draws findings.
pub(super) struct Drawing<'a> {
    report: &'a Report,
    inputs: &'a Inputs,
    /// The lines of each file with findings.
    lines: HashMap<&'a str, Vec<&'a str>>,
    /// Number of fixes that may still be shown.
    fixes: usize,
}

impl<'a> Drawing<'a> {
    pub(super) fn of(report: &'a Report, inputs: &'a Inputs) -> Self {
        let files: HashSet<&str> = report.entries.iter().map(|entry| entry.file.as_str()).collect();
        let texts = inputs.texts().filter(|(name, _)| files.contains(name));
        let lines = texts.map(|(name, text)| (name, text.lines().collect())).collect();
        Self { report, inputs, lines, fixes: MAX_FIXES }
    }

    /// Returns the lines that a fix adds or replaces, if they are few.
    fn hunk(&mut self, entry: &Entry) -> Option<Hunk> {
        let fix = entry.fix.as_ref().filter(|_| self.fixes > 0)?;
        let position = self.report.objects.get(entry.manifest)?.position;
        let text = self.inputs.text(&entry.file).filter(|text| text.len() <= MAX_FIXED_FILE)?;
        self.fixes -= 1;
        Hunk::between(text, &self.inputs.patched(&entry.file, position, fix).ok()?)
    }

    /// Returns the text of a finding. `also` names the places of equal findings.
    pub(super) fn text(&mut self, entry: &Entry, also: Option<&str>) -> String {
        let hunk = self.hunk(entry);
        let lines = self.lines.get(entry.file.as_str());
        let line = lines.and_then(|lines| lines.get(entry.mark.line.saturating_sub(1)).copied());
        draw(entry, line.filter(|line| line.len() <= MAX_LINE), hunk.as_ref(), also)
    }
}

fn draw(entry: &Entry, line: Option<&str>, hunk: Option<&Hunk>, also: Option<&str>) -> String {
    let finding = &entry.judgement.finding;
    let place = match finding.path.steps() {
        [] => finding.object.to_string(),
        _ => format!("{} of {}", finding.path, finding.object),
    };
    // A name with a line break could otherwise start a line of its own, which some pipelines read as a command.
    let (place, help) = (printable(&place), printable(&finding.help));
    let level = match entry.judgement.action {
        Mode::Deny => Level::ERROR,
        Mode::Warn => Level::WARNING,
        Mode::Audit | Mode::Off => Level::INFO,
    };
    let title =
        level.with_name(entry.judgement.action.name()).primary_title(printable(&finding.message)).id(finding.rule);
    let mut group = match line {
        Some(line) => title.element(
            Snippet::source(line)
                .path(&*entry.file)
                .line_start(entry.mark.line)
                .annotation(AnnotationKind::Primary.span(span(line, entry.mark.column)).label(&*place)),
        ),
        None => title
            .element(Origin::path(&*entry.file).line(entry.mark.line))
            .element(Level::NOTE.with_name("object").message(&*place)),
    };
    if let Some(spared) = entry.judgement.spared {
        group = group.element(Level::NOTE.message(spared.note()));
    }
    if let Some(closest) = &finding.closest {
        group = group.element(Level::NOTE.with_name("closest").message(printable(closest)));
    }
    if let Some(also) = also {
        group = group.element(Level::NOTE.no_name().message(format!("also at {also}")));
    }
    match hunk {
        Some(hunk) => {
            let fix = Snippet::source(&*hunk.before).path(&*entry.file).line_start(hunk.line).patch(hunk.patch());
            render(&[group, Level::HELP.secondary_title(help).element(fix)])
        }
        None => render(&[group.element(Level::HELP.message(help))]),
    }
}

fn render(groups: &[Group<'_>]) -> String {
    Renderer::styled().render(groups)
}

/// Returns the bytes of a line from a column, in characters, to the end of its text.
fn span(line: &str, column: usize) -> std::ops::Range<usize> {
    let start = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let text = line.get(start..).unwrap_or_default();
    let text = text.split_once(" #").map_or(text, |(text, _)| text).trim_end();
    start..start + text.len()
}

/// Returns the number of lines by which an insertion moves up, so that it starts with the line that is indented least.
///
/// If the line before an insertion equals its last line, the insertion may as well start one line earlier. Only then it
/// shows a whole list item.
fn slide(before: &[&str], after: &[&str], same: usize, tail: usize) -> usize {
    let inserted = after.len() - before.len().min(after.len());
    if same + tail != before.len() || inserted == 0 {
        return 0;
    }
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let starts = (0..=same).take_while(|up| {
        // The line above the insertion has to equal its last line, for each step.
        *up == 0 || before.get(same - up) == after.get(same - up + inserted)
    });
    starts.min_by_key(|up| after.get(same - up).map(|line| indentation(line))).unwrap_or_default()
}

/// The lines in which two texts differ, with the line before them.
struct Hunk {
    /// The number of the first line, from 1.
    line: usize,
    before: String,
    after: String,
}

impl Hunk {
    fn between(before: &str, after: &str) -> Option<Self> {
        let (before, after): (Vec<&str>, Vec<&str>) =
            (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
        let same = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        let rest = before.len().min(after.len()) - same;
        let tail = before.iter().rev().zip(after.iter().rev()).take(rest);
        let tail = tail.take_while(|(before, after)| before == after).count();
        let up = slide(&before, &after, same, tail);
        let (same, tail) = (same - up, tail + up);
        let start = same.saturating_sub(1);
        let (before, after) = (before.get(start..before.len() - tail)?, after.get(start..after.len() - tail)?);
        let is_short = |lines: &[&str]| lines.len() <= MAX_FIX_LINES && lines.iter().all(|line| line.len() <= MAX_LINE);
        // Without the last line break an insertion starts on its own line.
        let text = |lines: &[&str]| lines.concat().trim_end_matches('\n').to_owned();
        (is_short(before) && is_short(after)).then(|| Self {
            line: start + 1,
            before: text(before),
            after: text(after),
        })
    }

    fn patch(&self) -> Patch<'_> {
        let same = self.before.bytes().zip(self.after.bytes()).take_while(|(before, after)| before == after).count();
        let same = if self.before.is_char_boundary(same) { same } else { 0 };
        Patch::new(same..self.before.len(), self.after.get(same..).unwrap_or_default())
    }
}
