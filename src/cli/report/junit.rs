//! JUnit XML: a suite for each file, a test case for each object.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use super::{Entry, Judged, Report, place};
use crate::cli::inputs::Problem;

/// The results of one file.
#[derive(Default)]
struct Suite<'a> {
    objects: Vec<(&'a Judged, Vec<&'a Entry>)>,
    errors: Vec<&'a Problem>,
}

impl Suite<'_> {
    fn tests(&self) -> usize {
        self.objects.len() + self.errors.len()
    }

    /// Returns the number of objects that are denied.
    fn failures(&self) -> usize {
        self.objects.iter().filter(|(_, entries)| entries.iter().any(|entry| entry.judgement.denies())).count()
    }
}

/// Returns the document. An object with denials has one failure, because many readers show only the first one. Other
/// findings are its output. Text that cannot be checked is a test case with an error.
pub(super) fn document(report: &Report) -> String {
    let mut entries: HashMap<usize, Vec<&Entry>> = HashMap::new();
    for entry in &report.entries {
        entries.entry(entry.manifest).or_default().push(entry);
    }
    let mut suites: BTreeMap<String, Suite<'_>> = BTreeMap::new();
    for (position, judged) in report.objects.iter().enumerate() {
        let suite = suites.entry(place::relative(&judged.file)).or_default();
        suite.objects.push((judged, entries.remove(&position).unwrap_or_default()));
    }
    for problem in &report.errors {
        suites.entry(place::relative(&problem.file)).or_default().errors.push(problem);
    }
    let tests: usize = suites.values().map(Suite::tests).sum();
    let failures: usize = suites.values().map(Suite::failures).sum();
    let errors = report.errors.len();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let _ = writeln!(out, "<testsuites name=\"portcullis check\" {counts}>");
    for (file, suite) in &suites {
        write_suite(&mut out, &escaped(file), suite);
    }
    out.push_str("</testsuites>\n");
    out
}

fn write_suite(out: &mut String, file: &str, suite: &Suite<'_>) {
    let (tests, failures, errors) = (suite.tests(), suite.failures(), suite.errors.len());
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let _ = writeln!(out, "  <testsuite name=\"{file}\" {counts} file=\"{file}\">");
    let mut names = HashSet::new();
    let mut case = |name: String, line: Option<usize>| {
        // Readers take two cases of one name for two runs of the same case.
        let name = match line {
            Some(line) if names.contains(&name) => format!("{name} (line {line})"),
            _ => name,
        };
        let start = format!("    <testcase name=\"{}\" classname=\"{file}\"", escaped(&name));
        names.insert(name);
        start
    };
    for (judged, entries) in &suite.objects {
        out.push_str(&case(judged.object.to_string(), Some(judged.line)));
        if entries.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        let (denials, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.judgement.denies());
        if let [first, rest @ ..] = denials.as_slice() {
            let finding = &first.judgement.finding;
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            let message = escaped(&format!("{}{more}", finding.message));
            let details = content(&details(&denials));
            let _ = writeln!(out, "      <failure type=\"{}\" message=\"{message}\">{details}</failure>", finding.rule);
        }
        if !others.is_empty() {
            let _ = writeln!(out, "      <system-out>{}</system-out>", content(&details(&others)));
        }
        out.push_str("    </testcase>\n");
    }
    for problem in &suite.errors {
        let name = problem.line.map_or_else(|| "file".to_owned(), |line| format!("line {line}"));
        let message = escaped(&problem.message);
        let _ = writeln!(out, "{}>", case(name, problem.line));
        let text = content(&problem.to_string());
        let _ = writeln!(out, "      <error type=\"error\" message=\"{message}\">{text}</error>\n    </testcase>");
    }
    out.push_str("  </testsuite>\n");
}

fn details(entries: &[&Entry]) -> String {
    entries.iter().map(|entry| entry.details()).collect::<Vec<_>>().join("\n\n")
}

/// Escapes a text for an attribute, where a line break would be read as a space.
pub(in crate::cli) fn escaped(text: &str) -> String {
    content(text).replace('\t', "&#9;").replace('\n', "&#10;")
}

/// Escapes a text for an element. A character that XML 1.0 does not allow, not even as a reference, is replaced.
fn content(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' => out.push(letter),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(escaped("<a b=\"c\">'&]]>"), "&lt;a b=&quot;c&quot;&gt;&apos;&amp;]]&gt;");
        assert_eq!(content("a\r\n\tb"), "a&#13;\n\tb");
        assert_eq!(escaped("a\r\n\tb\0\u{1b}[1m\u{ffff}ü"), "a&#13;&#10;&#9;b\u{fffd}\u{fffd}[1m\u{fffd}ü");
    }
}
