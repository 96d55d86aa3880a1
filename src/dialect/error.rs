//! The error of a manifest that cannot be read.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::budget;
use crate::json::Object;
use crate::model::Path;

/// The error of a manifest that does not match its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if .path.steps().is_empty() { "the manifest".to_owned() } else { .path.to_string() })]
pub struct ReadError {
    /// The path in the manifest.
    pub path: Path,
    /// The problem, with the invalid value.
    pub problem: String,
}

impl ReadError {
    /// An error at this path.
    #[must_use]
    pub fn at(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.clone(), problem: problem.into() }
    }

    /// An error for a known kind in an unsupported version.
    #[must_use]
    pub fn version(api_version: &str, kind: &str, versions: &[&str]) -> Self {
        let problem = format!("`{api_version}` of {kind} is not supported; expected {}", versions.join(", "));
        Self::at(&Path::root().field("apiVersion"), problem)
    }
}

/// Parses an object of a manifest into a wire struct. An error has the path of the invalid value.
pub(super) fn parse<T: DeserializeOwned>(part: &RawValue, path: &Path) -> Result<T, ReadError> {
    parse_value(part, path).map(|Object(value)| value)
}

/// Parses a value of a manifest. An error has the path of the invalid value.
pub(super) fn parse_value<T: DeserializeOwned>(part: &RawValue, path: &Path) -> Result<T, ReadError> {
    budget::charge_json(part.get());
    serde_json::from_str(part.get()).map_err(|first| {
        // Finding the path costs time, so it happens only after an error.
        let mut deserializer = serde_json::Deserializer::from_str(part.get());
        let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Err(error) => {
                let inner = error.path().iter().fold(path.clone(), |path, segment| match segment {
                    Segment::Seq { index } => path.index(*index),
                    Segment::Map { key } => path.unknown_field(key),
                    Segment::Enum { .. } | Segment::Unknown => path,
                });
                (inner, error.into_inner())
            }
            Ok(_) => (path.clone(), first),
        };
        ReadError { path, problem: describe(&error, part.get()) }
    })
}

/// Maximum number of characters of a value in a message.
const MAX_SHOWN: usize = 60;

/// Describes an error of `serde_json` in plain words, with the invalid value.
fn describe(error: &serde_json::Error, json: &str) -> String {
    let text = error.to_string();
    // Drops "… at line 1 column 87": the position is in a part of the JSON that the author never saw.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    let parts = text.strip_prefix("invalid type: ").and_then(|text| text.rsplit_once(", expected "));
    let Some((found, expected)) = parts else { return text.to_owned() };
    let quoted = || found.split_once('`').and_then(|(_, rest)| rest.strip_suffix('`')).unwrap_or(found);
    let (value, kind) = match found.split(' ').next().unwrap_or_default() {
        "sequence" => (value_before(error, json, '['), "a list"),
        "map" => (value_before(error, json, '{'), "an object"),
        "string" => (found.strip_prefix("string ").unwrap_or(found).to_owned(), "a string"),
        "integer" => (quoted().to_owned(), "a number"),
        "floating" => (quoted().to_owned(), "a number with a fraction or an exponent"),
        "boolean" => (quoted().to_owned(), "a boolean"),
        _ => ("null".to_owned(), "empty"),
    };
    let (expected, is_scalar) = match expected {
        "a boolean" => ("true or false", true),
        "a string" | "a borrowed string" => ("a string", true),
        "a sequence" => ("a list", false),
        "a map" => ("an object", false),
        "f64" => ("a number", true),
        "i64" | "i32" | "u64" | "u32" | "u16" | "u8" => ("a whole number", true),
        other if other.starts_with("struct ") => ("an object", false),
        other => (other, other.contains("number")),
    };
    let hint = match kind {
        "a list" if is_scalar && value != "[]" => "; write an entry for each value",
        "a number" | "a boolean" if expected == "a string" => "; write it in quotes",
        "a string" if expected == "a whole number" && value.trim_matches('"').parse::<i64>().is_ok() => {
            "; write it without quotes"
        }
        _ => "",
    };
    let shown: String = value.chars().take(MAX_SHOWN).collect();
    let cut = if shown.len() < value.len() { "…" } else { "" };
    format!("`{shown}{cut}` is {kind}; expected {expected}{hint}")
}

/// The list or object at whose start an error was found, as text.
fn value_before(error: &serde_json::Error, json: &str, start: char) -> String {
    let line = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let position = line + error.column();
    // The column points to the start, or to the character after it.
    let candidates = [position.checked_sub(1), Some(position), position.checked_sub(2)];
    let rest = candidates.into_iter().flatten().find_map(|at| json.get(at..).filter(|rest| rest.starts_with(start)));
    let Some(rest) = rest else { return String::from(if start == '[' { "[…]" } else { "{…}" }) };
    // Long values are shortened anyway.
    let shown: String = rest.chars().take(MAX_SHOWN + 1).collect();
    let mut values = serde_json::Deserializer::from_str(&shown).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => shown.get(..values.byte_offset()).unwrap_or_default().to_owned(),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::int_or_string::IntOrString;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    #[allow(dead_code, reason = "only what does not fit matters here")]
    struct Rule {
        port: Option<IntOrString>,
        number: Option<i64>,
        name: Option<String>,
        open: Option<bool>,
        list: Option<Vec<String>>,
    }

    fn fault(json: &str) -> String {
        parse::<Rule>(serde_json::from_str(json).unwrap(), &Path::root().field("rule")).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_is_named_with_its_value() {
        for (json, message) in [
            (
                r#"{"port": [80, 443]}"#,
                "rule.port: `[80, 443]` is a list; expected one whole number or string; write an entry for each value",
            ),
            ("{\n \"port\": {\"a\": 1}}", "rule.port: `{\"a\": 1}` is an object; expected one whole number or string"),
            (
                r#"{"port": 80.5}"#,
                "rule.port: `80.5` is a number with a fraction or an exponent; expected one whole number or string",
            ),
            (r#"{"port": true}"#, "rule.port: `true` is a boolean; expected one whole number or string"),
            (r#"{"port": 9223372036854775808}"#, "rule.port: `9223372036854775808` is too large"),
            (
                r#"{"number": "90"}"#,
                "rule.number: `\"90\"` is a string; expected a whole number; write it without quotes",
            ),
            (r#"{"number": "a"}"#, "rule.number: `\"a\"` is a string; expected a whole number"),
            (r#"{"name": 5}"#, "rule.name: `5` is a number; expected a string; write it in quotes"),
            (r#"{"open": "yes"}"#, "rule.open: `\"yes\"` is a string; expected true or false"),
            (r#"{"list": "a"}"#, "rule.list: `\"a\"` is a string; expected a list"),
            (r#"{"list": [null]}"#, "rule.list[0]: `null` is empty; expected a string"),
            ("[5]", "rule: `[5]` is a list; expected an object"),
        ] {
            assert_eq!(fault(json), message);
        }
        let long = fault(&format!("{{\"port\": [{}1]}}", "1,".repeat(100)));
        assert!(long.contains("1,1…` is a list") && long.len() < 200, "{long}");
    }
}
