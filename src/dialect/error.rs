//! What is wrong with a manifest that cannot be read.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::budget;
use crate::json::Object;
use crate::model::Path;

/// A manifest is not what its kind may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if .path.steps().is_empty() { "the manifest".to_owned() } else { .path.to_string() })]
pub struct ReadError {
    /// The place in the manifest.
    pub path: Path,
    /// What is wrong there, with the value.
    pub problem: String,
}

impl ReadError {
    /// Something is wrong at this place.
    #[must_use]
    pub fn at(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.clone(), problem: problem.into() }
    }

    /// The kind is understood, but not in this version.
    #[must_use]
    pub fn version(api_version: &str, kind: &str, versions: &[&str]) -> Self {
        let problem = format!("`{api_version}` of {kind} is not understood, only {}", versions.join(", "));
        Self::at(&Path::root().field("apiVersion"), problem)
    }
}

/// Reads a part of a manifest into a wire struct; what does not fit is named with its place.
pub(super) fn parse<T: DeserializeOwned>(part: &RawValue, path: &Path) -> Result<T, ReadError> {
    budget::charge_json(part.get());
    serde_json::from_str(part.get()).map(|Object(value)| value).map_err(|first| {
        // The place costs time, so it is looked for only once something is known to be wrong.
        let mut deserializer = serde_json::Deserializer::from_str(part.get());
        let (path, problem) = match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
            Err(error) => {
                let inner = error.path().iter().fold(path.clone(), |path, segment| match segment {
                    Segment::Seq { index } => path.index(*index),
                    Segment::Map { key } => path.unknown_field(key),
                    Segment::Enum { .. } | Segment::Unknown => path,
                });
                (inner, error.into_inner().to_string())
            }
            Ok(_) => (path.clone(), first.to_string()),
        };
        // "… at line 1 column 87": of the JSON in hand, which the author never saw.
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(problem, _)| problem).to_owned();
        ReadError { path, problem }
    })
}
