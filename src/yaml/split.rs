//! Splits a file into documents like `YAMLOrJSONDecoder` of `k8s.io/apimachinery/pkg/util/yaml`.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::Error;

/// The text of one document.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) format: Format,
    pub(super) text: Cow<'a, str>,
    /// The number of lines before the document.
    pub(super) line: usize,
    /// The bytes of the document in the whole text.
    pub(super) range: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// Splits a text into documents. A text that starts with `{` is a stream of JSON objects for as long as it is valid
/// JSON. If that ends after at most one object, the rest is read as YAML. If it ends after several objects, the rest is
/// an error.
pub(super) fn parts(text: &str) -> Vec<Result<Part<'_>, Error>> {
    let mut parts = Vec::new();
    let (mut start, mut line) = (0, 0);
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') {
        let mut stream = Deserializer::from_str(text).into_iter::<IgnoredAny>();
        while let Some(object) = stream.next() {
            match object {
                Ok(_) => {
                    let range = start..stream.byte_offset();
                    let object = text.get(range.clone()).unwrap_or_default();
                    parts.push(Ok(Part { format: Format::Json, text: object.into(), line, range }));
                    line += count_lines(object);
                    start = stream.byte_offset();
                }
                Err(error) if parts.len() > 1 => {
                    let problem = error.to_string();
                    let problem = problem.rsplit_once(" at line ").map_or(&*problem, |(problem, _)| problem);
                    parts.push(Err(Error { line: error.line().max(1), problem: format!("not JSON: {problem}") }));
                    return parts;
                }
                Err(_) => {
                    yaml_parts(text.get(start..).unwrap_or_default(), (line, start), &mut parts);
                    return parts;
                }
            }
        }
    } else if trimmed.starts_with(['[', '"']) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        parts.push(Ok(Part { format: Format::Json, text: text.into(), line, range: 0..text.len() }));
    } else {
        yaml_parts(text, (line, start), &mut parts);
    }
    parts
}

/// Splits a text at lines that start with `---`. Every line of a part, including the last one, ends with a line feed
/// only. `before` counts the lines and the bytes before the text.
fn yaml_parts<'a>(text: &'a str, (before, offset): (usize, usize), parts: &mut Vec<Result<Part<'a>, Error>>) {
    let has_breaks = text.contains(BREAKS);
    let mut part = String::new();
    let (mut first, mut start, mut at) = (before, offset, offset);
    let take = |part: &mut String, line, range| {
        let text = std::mem::take(part);
        (!text.is_empty()).then_some(Ok(Part { format: Format::Yaml, text: text.into(), line, range }))
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let line_start = at;
        at += line.len();
        let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                parts.extend(take(&mut part, first, start..line_start));
                let problem =
                    format!("`{rest}` after `---`: kubectl accepts only a comment there; move it to the next line");
                parts.push(Err(Error { line: before + number + 1, problem }));
                continue;
            }
            if !part.is_empty() {
                parts.extend(take(&mut part, first, start..line_start));
                continue;
            }
        }
        if part.is_empty() {
            first = before + number;
            start = line_start;
        }
        if has_breaks {
            part.push_str(&line.replace(BREAKS, "\n"));
        } else {
            part.push_str(line);
        }
        part.push('\n');
    }
    parts.extend(take(&mut part, first, start..at));
}

/// Line breaks of YAML 1.1. The YAML 1.2 parser reads them as text, so without a replacement only `kubectl` would end a
/// comment there.
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}
