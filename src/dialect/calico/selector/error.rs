//! The error of a selector that does not parse, with a hint for the likely mistake.

use std::borrow::Cow;
use std::fmt;

use super::tokens::is_key_byte;

/// Maximum number of characters of a selector that a message shows.
const LONGEST: usize = 160;

/// The parse error of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectorError {
    /// The offset of the error, in bytes.
    pub(crate) place: usize,
    /// The text found there, shortened.
    pub(crate) found: Box<str>,
    /// The expected syntax.
    pub(crate) expected: Cow<'static, str>,
    /// A suggested correction.
    pub(crate) hint: Cow<'static, str>,
    /// The selector, shortened.
    text: Box<str>,
}

impl SelectorError {
    /// An error at this offset, where something else was expected.
    pub(super) fn at(text: &str, place: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        let (before, found) = text.split_at_checked(place).unwrap_or((text, ""));
        Self { place, found: shown(found), expected: expected.into(), hint: hint(before, found), text: shown(text) }
    }

    /// An error for a quoted string without a closing quote.
    pub(super) fn unclosed(text: &str, place: usize, quote: char) -> Self {
        let other = if quote == '"' { '\'' } else { '"' };
        let inner = text.get(place + 1..).unwrap_or_default();
        let hint = if inner.contains(other) {
            format!("close the string with the quote that opened it: {quote}…{quote}")
        } else {
            format!("close the string with {quote}")
        };
        Self { hint: hint.into(), ..Self::at(text, place, format!("a string that ends with {quote}")) }
    }
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot parse selector `{}` at ", self.text)?;
        match &*self.found {
            "" => f.write_str("its end")?,
            found => write!(f, "`{found}`")?,
        }
        write!(f, " (expected {})", self.expected)
    }
}

/// Formats a part of a selector for a message: on one line, and at most 160 characters.
fn shown(text: &str) -> Box<str> {
    let mut shown = String::new();
    for char in text.chars().take(LONGEST) {
        if char.is_control() || char.is_whitespace() && char != ' ' {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown.into()
}

/// Guesses the mistake from the text before and after the error.
fn hint(before: &str, found: &str) -> Cow<'static, str> {
    let ends_with = |what: &[char]| before.trim_end_matches([' ', '\t']).ends_with(what);
    let word: &str = found.split(|char: char| !char.is_ascii() || !is_key_byte(char as u8)).next().unwrap_or_default();
    let last: &str = before
        .trim_end_matches([' ', '\t'])
        .rsplit(|char: char| !char.is_ascii() || !is_key_byte(char as u8))
        .next()
        .unwrap_or_default();
    let is_word = |words: &[&str], it: &str| words.iter().any(|other| other.eq_ignore_ascii_case(it));
    let Some(first) = found.chars().next() else {
        return if ends_with(&['&', '|', '!', '(']) {
            "complete it, or remove the operator at its end".into()
        } else if !last.is_empty() && !is_word(&["in", "contains", "with", "notin"], last) {
            format!("to test that the label exists, write has({last})").into()
        } else {
            "complete the selector".into()
        };
    };
    match first {
        '\n' | '\r' if found.trim().is_empty() => {
            "remove the newline at its end; in YAML, write `|-` or `>-` instead of `|` or `>`".into()
        }
        '\n' | '\r' => "write it on one line, with only spaces and tabs between its words".into(),
        '=' if before.ends_with('=') => "write == with two signs".into(),
        '=' => "write == instead of =".into(),
        '&' => "write && instead of &".into(),
        '|' => "write || instead of |".into(),
        '[' => "write a set in braces: {'a', 'b'}".into(),
        '(' if is_word(&["in", "not in", "notin"], last) => "write a set in braces: {'a', 'b'}".into(),
        '(' if is_word(&["has", "all", "global"], last) => {
            format!("write {}( in lower case, without a space before the parenthesis", last.to_ascii_lowercase()).into()
        }
        ':' => "write == between a label and its value".into(),
        '"' | '\'' if ends_with(&['=', ',', '{']) || last.is_empty() => {
            "write the label key without quotes and its value in quotes".into()
        }
        ')' | '}' if last.is_empty() || ends_with(&['\'', '"', ')']) => {
            "remove it, or add the one that opens it".into()
        }
        _ if is_word(&["and"], word) || is_word(&["and"], last) => "write && instead of the word".into(),
        _ if is_word(&["or"], word) || is_word(&["or"], last) => "write || instead of the word".into(),
        _ if (is_word(&["not"], word) || is_word(&["not"], last)) && !ends_with(&['=']) => {
            "write `!` before the negated term, or `not in` and a set".into()
        }
        _ if !word.is_empty() && (ends_with(&['=']) || is_word(&["contains", "with"], last)) => {
            format!("put the value in quotes: '{word}'").into()
        }
        _ if !word.is_empty() && ends_with(&['{', ',']) => format!("put each value in quotes: '{word}'").into(),
        _ if word.eq_ignore_ascii_case("in") => "write the operator in lower case".into(),
        _ if !first.is_ascii() => "use only ASCII characters outside quotes".into(),
        _ => "write key == 'value', key in {'a', 'b'}, has(key) or all(), joined by && and ||".into(),
    }
}
