//! Markdown for a comment on a pull request.

use std::collections::BTreeMap;

use super::{Entry, Report, place, position};
use crate::cli::words::{plural, with_code_spans};
use crate::rules::Mode;

/// Maximum length of a comment on GitHub, in UTF-16 code units.
const MAX_LENGTH: usize = 65_536;
/// Length that is kept for the number of rows that are left out.
const RESERVE: usize = 200;

/// A text that grows up to a maximum length.
struct Comment {
    text: String,
    left: usize,
    left_out: usize,
}

impl Comment {
    /// Adds a text. Returns false and adds nothing if it is too long.
    fn push(&mut self, text: &str) -> bool {
        let length = text.encode_utf16().count();
        let Some(left) = self.left.checked_sub(length) else { return false };
        self.left = left;
        self.text.push_str(text);
        true
    }

    /// Adds rows below a head. A row that is too long is counted, and the rows after it are tried all the same.
    fn push_table(&mut self, head: &str, rows: impl Iterator<Item = String>) {
        let mut is_open = false;
        for row in rows {
            let is_in = if is_open { self.push(&row) } else { self.push(&format!("{head}{row}")) };
            is_open |= is_in;
            self.left_out += usize::from(!is_in);
        }
    }
}

/// Returns the comment: the counts, the errors, then the findings by action and rule.
pub(super) fn comment(report: &Report) -> String {
    let mut comment = Comment { text: String::new(), left: MAX_LENGTH - RESERVE, left_out: 0 };
    comment.push(&format!("### Portcullis: {}\n\n", report.tally()));
    comment.push("| denials | warnings | audit | errors | objects |\n|---|---|---|---|---|\n");
    let (deny, warn, audit) = (report.count(Mode::Deny), report.count(Mode::Warn), report.count(Mode::Audit));
    comment.push(&format!("| {deny} | {warn} | {audit} | {} | {} |\n", report.errors.len(), report.resources));
    let errors = report.errors.iter().map(|problem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("| {} | {} |\n", code(&format!("{}{line}", place::relative(&problem.file))), cell(&problem.message))
    });
    comment.push_table("\n#### Errors\n\n| place | error |\n|---|---|\n", errors);
    let mut groups: BTreeMap<(Mode, usize, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in &report.entries {
        let rule = entry.judgement.finding.rule;
        groups.entry((entry.judgement.action, position(rule), rule)).or_default().push(entry);
    }
    for ((action, _, rule), entries) in groups {
        let count = match action {
            Mode::Deny => plural(entries.len(), "denial"),
            Mode::Warn => plural(entries.len(), "warning"),
            Mode::Audit | Mode::Off => format!("{} audit", entries.len()),
        };
        let head = format!("\n#### `{rule}`: {count}\n\n| place | object | finding |\n|---|---|---|\n");
        comment.push_table(&head, entries.into_iter().map(row));
    }
    let assumptions = report.assumptions();
    comment.push_table("\n#### Assumed\n\n", assumptions.iter().map(|text| format!("- {}\n", cell(text))));
    if comment.left_out > 0 {
        let rows = plural(comment.left_out, "more row");
        comment.text.push_str(&format!("\n{rows} left out: a comment has at most 65,536 characters.\n"));
    }
    comment.text
}

fn row(entry: &Entry) -> String {
    let finding = &entry.judgement.finding;
    let place = code(&format!("{}:{}", place::relative(&entry.file), entry.mark.line));
    let note = entry.judgement.spared.map(|spared| format!("({}) ", spared.note())).unwrap_or_default();
    let path = if finding.path.steps().is_empty() { String::new() } else { format!(" at `{}`", finding.path) };
    let text = [&[finding.message.clone()][..], &entry.advice()].concat().join("\n");
    format!("| {place} | {}{} | {note}{} |\n", cell(&finding.object.to_string()), cell(&path), cell(&text))
}

/// Returns a text as the content of a table cell. Text in backticks becomes code, everything else stays plain text: the
/// author of a manifest can neither format the comment nor mention users in it.
pub(in crate::cli) fn cell(text: &str) -> String {
    with_code_spans(text, escaped, code)
}

/// HTML, because a code span of Markdown can neither hold every text nor a pipe in a table.
pub(in crate::cli) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Writes each character that has a meaning in Markdown or HTML as a reference, which never has one. A mention and a
/// reference to an issue are found after that, and need an invisible space.
pub(in crate::cli) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("<br>"),
            '@' | '#' => out.push_str(&format!("&#{};\u{200b}", u32::from(letter))),
            '&' | '<' | '>' | '"' | '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '!' | '|' | '~' | '$' | '^' => {
                out.push_str(&format!("&#{};", u32::from(letter)));
            }
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(cell("a `b|c` d"), "a <code>b&#124;c</code> d");
        assert_eq!(cell("one ` two"), "one &#96; two");
        assert_eq!(cell("<b> @all\n#1"), "&#60;b&#62; &#64;\u{200b}all<br>&#35;\u{200b}1");
        assert_eq!(cell("[a](b) ![c](d)"), "&#91;a&#93;&#40;b&#41; &#33;&#91;c&#93;&#40;d&#41;");
    }

    #[test]
    fn a_row_that_is_too_long_hides_no_other_row() {
        let mut comment = Comment { text: String::new(), left: 10, left_out: 0 };
        comment.push_table("h\n", ["123456789\n", "12\n", "34\n", "567\n"].into_iter().map(str::to_owned));
        assert_eq!((comment.text.as_str(), comment.left_out), ("h\n12\n34\n", 2));
    }
}
