//! The error of an invalid configuration.

use serde_json::Value;
use serde_path_to_error::Segment;

use crate::model::{Path, Step};
use crate::rules::SettingsError;
use crate::yaml::{self, Document, Mark};

/// The error of an invalid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}", self.text())]
pub struct Error {
    /// The line in the file, from 1.
    pub line: usize,
    /// The column in the line, in characters from 1.
    pub column: usize,
    /// The field, such as `overrides[0].rules`.
    pub place: String,
    /// The invalid value, if it is a scalar.
    pub value: Option<Box<str>>,
    /// The problem, with the invalid value.
    pub problem: String,
    /// The action that solves the problem, if one is known.
    pub help: Option<Box<str>>,
    path: Path,
}

impl From<yaml::Error> for Error {
    fn from(error: yaml::Error) -> Self {
        Self::new(error.line, &error.problem)
    }
}

impl Error {
    /// An error of the file as a whole.
    pub(super) fn new(line: usize, problem: &str) -> Self {
        Self {
            line,
            column: 1,
            place: String::new(),
            value: None,
            problem: problem.to_owned(),
            help: None,
            path: Path::root(),
        }
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
        let Mark { line, column } = document.mark_of(&path);
        let value = match document.value.pointer(&path.pointer()) {
            None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => None,
            Some(Value::String(text)) => Some(text.as_str().into()),
            Some(other) => Some(other.to_string().into()),
        };
        Self { line, column, place: shown, value, problem: problem.into(), help: None, path }
    }

    /// The same error with a help.
    pub(super) fn with_help(self, help: Option<String>) -> Self {
        Self { help: help.map(Into::into), ..self }
    }

    pub(super) fn from_serde(document: &Document, place: &[&str], error: &SettingsError) -> Self {
        let inner = place_of(error.path());
        let place: Vec<&str> = place.iter().copied().chain(inner.iter().map(String::as_str)).collect();
        let text = error.inner().to_string();
        let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        match quoted.split_first() {
            // The place already has the name of the field.
            Some((name, known)) if text.starts_with("unknown field") => {
                Self::at(document, &place, "unknown field").with_help(similar(name, known.iter().copied()))
            }
            Some((name, known)) if text.starts_with("unknown variant") => {
                let problem = format!("unknown value `{name}`; expected one of: {}", known.join(", "));
                Self::at(document, &place, problem)
            }
            _ => Self::at(document, &place, text),
        }
    }

    /// Removes the invalid value, or the list that it is in. Returns false if other values depend on it, or if nothing
    /// was removed.
    pub(super) fn remove_from(&self, value: &mut Value) -> bool {
        let keys: Vec<&str> = self
            .path
            .steps()
            .iter()
            .map_while(|step| match step {
                Step::Key(key) => Some(&**key),
                Step::Field(name) => Some(&**name),
                Step::Index(_) => None,
            })
            .collect();
        let Some((last, parents)) = keys.split_last() else { return false };
        // `profiles.default` has to be one of `profiles.names`.
        if keys.first() == Some(&"profiles") {
            return false;
        }
        let parent = parents.iter().try_fold(value, |value, key| value.get_mut(key));
        parent.and_then(Value::as_object_mut).is_some_and(|parent| parent.remove(*last).is_some())
    }

    /// The field, the problem and the help, on one line.
    fn text(&self) -> String {
        let place = if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) };
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{place}{}{help}", self.problem)
    }
}

/// Converts a path of `serde_path_to_error` to field names and list positions.
fn place_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Returns "did you mean …?" with the most similar known name, if one is similar.
pub(super) fn similar<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}
