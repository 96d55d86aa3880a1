//! Workflow commands of GitHub Actions, which become annotations.

use super::{Entry, Report, place};
use crate::cli::inputs::{Problem, STDIN_NAME};
use crate::rules::Mode;

/// Returns a command for each error and finding, and a closing line with the counts. Errors come first, because GitHub
/// shows only the first annotations of a step.
pub(super) fn commands(report: &Report) -> String {
    let errors = report.errors.iter().map(error);
    let findings = report.entries.iter().map(finding);
    let assumptions = report.assumptions().into_iter().map(|text| command("notice", None, None, "assumed", &text));
    let mut lines: Vec<String> = errors.chain(findings).chain(assumptions).collect();
    lines.push(report.tally());
    lines.join("\n") + "\n"
}

fn error(problem: &Problem) -> String {
    command("error", Some(&problem.file), problem.line, "cannot be checked", &problem.message)
}

fn finding(entry: &Entry) -> String {
    let finding = &entry.judgement.finding;
    let level = match entry.judgement.action {
        Mode::Deny => "error",
        Mode::Warn => "warning",
        Mode::Audit | Mode::Off => "notice",
    };
    let note = entry.judgement.spared.map(|spared| format!(" ({})", spared.note())).unwrap_or_default();
    let title = format!("{}{note}: {}", finding.rule, finding.object);
    let message = [&[finding.message.clone()][..], &entry.advice()].concat().join("\n");
    command(level, Some(&entry.file), Some(entry.mark.line), &title, &message)
}

fn command(level: &str, file: Option<&str>, line: Option<usize>, title: &str, message: &str) -> String {
    let file = file.filter(|file| *file != STDIN_NAME);
    let line = file.and(line).map(|line| format!("line={line}"));
    let file = file.map(|file| format!("file={}", property(&place::relative(file))));
    let title = Some(format!("title={}", property(title)));
    let properties: Vec<String> = [file, line, title].into_iter().flatten().collect();
    format!("::{level} {}::{}", properties.join(","), data(message))
}

/// Escapes the message of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Returns a text as one line in which GitHub finds no command. A command starts with `::` on a line of its own, or, in
/// its old form, with `##[` anywhere in a line.
pub(super) fn without_commands(text: &str) -> String {
    text.replace(['\r', '\n'], " ").replace("##[", "## [")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_escaped() {
        let hostile = "a,b:c%\r\n::add-mask::x";
        assert_eq!(
            command("error", Some(hostile), Some(3), hostile, hostile),
            "::error file=a%2Cb%3Ac%25%0D%0A%3A%3Aadd-mask%3A%3Ax,line=3,\
             title=a%2Cb%3Ac%25%0D%0A%3A%3Aadd-mask%3A%3Ax::a,b:c%25%0D%0A::add-mask::x"
        );
        assert_eq!(command("notice", Some("<stdin>"), Some(3), "t", "m"), "::notice title=t::m");
        assert_eq!(
            without_commands("a\n::add-mask::x\r##[set-output name=a]b"),
            "a ::add-mask::x ## [set-output name=a]b"
        );
    }
}
