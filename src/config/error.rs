//! The error of an invalid configuration.

use serde_path_to_error::Segment;

use crate::model::Path;
use crate::rules::SettingsError;
use crate::yaml::{self, Document};

/// The error of an invalid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{}{problem}", place, if place.is_empty() { "" } else { ": " })]
pub struct Error {
    /// The line in the file, from 1.
    pub line: usize,
    /// The field, such as `overrides[0].rules`.
    pub place: String,
    /// The problem, with the invalid value.
    pub problem: String,
}

impl From<yaml::Error> for Error {
    fn from(error: yaml::Error) -> Self {
        Self::new(error.line, "", &error.problem)
    }
}

impl Error {
    pub(super) fn new(line: usize, place: &str, problem: &str) -> Self {
        Self { line, place: place.to_owned(), problem: problem.to_owned() }
    }

    /// An error at a place in the document, given as field names and list positions.
    pub(super) fn at(document: &Document, place: &[&str], problem: impl Into<String>) -> Self {
        let mut path = Path::root();
        let mut shown = String::new();
        for step in place {
            if let Ok(position) = step.parse() {
                path = path.index(position);
                shown.push_str(&format!("[{step}]"));
            } else {
                path = path.key(step);
                shown.push_str(if shown.is_empty() { "" } else { "." });
                shown.push_str(step);
            }
        }
        Self { line: document.line_of(&path), place: shown, problem: problem.into() }
    }

    pub(super) fn from_serde(document: &Document, error: &SettingsError) -> Self {
        let place = place_of(error.path());
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        Self::at(document, &place, Self::describe(error))
    }

    /// Describes the problem without the field's name, which the place already has.
    pub(super) fn describe(error: &SettingsError) -> String {
        let text = error.inner().to_string();
        let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        match quoted.split_first() {
            Some((name, known)) if text.starts_with("unknown field") => {
                format!("unknown field{}", suggest(name, known.iter().copied()))
            }
            Some((name, known)) if text.starts_with("unknown variant") => {
                format!("unknown value `{name}`; expected one of: {}", known.join(", "))
            }
            _ => text,
        }
    }
}

/// Converts a path of `serde_path_to_error` to field names and list positions.
pub(super) fn place_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Returns "; did you mean …?" with the most similar known name, or an empty text.
pub(super) fn suggest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}
