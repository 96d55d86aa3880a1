//! Parses a JSON value with the place of each part.

use serde_json::Value;

use super::tree::Builder;
use super::{Document, Error, Mark, scalar};

/// Reads a text that is one valid JSON value, except that its strings may have invalid escapes.
pub(super) fn read(text: &str) -> Result<Document, Error> {
    let mut builder = Builder::default();
    let mut mark = Mark::default();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => string_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => 1,
            _ => rest.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let read = match first {
            b'{' => builder.start_map(mark, 0),
            b'[' => builder.start_list(mark, 0),
            b'}' | b']' => builder.end(),
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => Ok(()),
            _ => value(token).and_then(|value| builder.scalar(value, mark, 0)),
        };
        read.map_err(|problem| Error { line: mark.line, problem })?;
        mark = match first {
            b'\n' => Mark { line: mark.line + 1, column: 1 },
            _ => Mark { column: mark.column + token.chars().count(), ..mark },
        };
        rest = after;
    }
    Ok(builder.document(1))
}

/// The length of the string literal at the start of a text, including its quotes.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (position, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return position + 1,
            _ => {}
        }
    }
    text.len()
}

/// Parses a string, a number, true, false or null.
fn value(token: &str) -> Result<Value, String> {
    if token.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        return scalar::json_number(token).ok_or_else(|| format!("number `{token}` is out of range"));
    }
    serde_json::from_str(token).or_else(|_| serde_json::from_str(&without_lone_surrogates(token))).map_err(|error| {
        let problem = error.to_string();
        format!("not JSON: {}", problem.rsplit_once(" at line ").map_or(&*problem, |(problem, _)| problem))
    })
}

/// Replaces escapes of half a character by the replacement character, as `encoding/json` does.
fn without_lone_surrogates(token: &str) -> String {
    let unit = |at: usize| {
        let digits = token.get(at..).and_then(|rest| rest.strip_prefix("\\u")).and_then(|rest| rest.get(..4));
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    let mut out = String::with_capacity(token.len());
    let mut at = 0;
    while let Some(rest) = token.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push('\u{fffd}');
                at += 6;
                continue;
            }
            // The character after a backslash belongs to it.
            _ => rest.chars().take(1 + usize::from(rest.starts_with('\\'))).map(char::len_utf8).sum(),
        };
        out.push_str(rest.get(..length).unwrap_or(rest));
        at += length;
    }
    out
}
