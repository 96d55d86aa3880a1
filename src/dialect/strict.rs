//! Parsing that reports unknown fields.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ReadError;
use super::error::parse;
use crate::budget;
use crate::json::Object;
use crate::model::{Fault, FaultKind, Path};

/// Maximum number of faults of an object. Beyond it, unknown fields are not recorded.
pub(super) const MAX_FAULTS: usize = 100;

/// Parses a part of a manifest of this kind into a wire struct. Fields that the struct does not have are added to
/// `faults`.
pub(super) fn read<T: DeserializeOwned>(
    part: &RawValue,
    path: &Path,
    kind: &str,
    faults: &mut Vec<Fault>,
) -> Result<T, ReadError> {
    budget::charge_json(part.get());
    let mut deserializer = serde_json::Deserializer::from_str(part.get());
    let known = faults.len();
    let read = serde_ignored::deserialize::<_, _, Object<T>>(&mut deserializer, |field| {
        budget::charge(1);
        if faults.len() < MAX_FAULTS
            && let Some(path) = place(&field, path)
        {
            faults.push(unknown(kind, path));
        }
    });
    match read {
        Ok(Object(value)) => Ok(value),
        Err(_) => {
            faults.truncate(known);
            // This parser has no path for its error, so the text is parsed again.
            parse(part, path)
        }
    }
}

/// The fault for an unknown field.
pub(super) fn unknown(kind: &str, path: Path) -> Fault {
    let name = match path.steps().last() {
        Some(crate::model::Step::Field(name)) => name.to_string(),
        _ => path.to_string(),
    };
    let problem = format!("unknown field `{name}` in {kind}; it was ignored");
    Fault::new(path, FaultKind::UnknownField, problem, "correct its name or position, or remove it")
}

/// The path of an ignored field below `root`.
fn place(field: &serde_ignored::Path<'_>, root: &Path) -> Option<Path> {
    use serde_ignored::Path as Ignored;
    Some(match field {
        Ignored::Root => root.clone(),
        Ignored::Seq { parent, index } => place(parent, root)?.index(*index),
        Ignored::Map { parent, key } => place(parent, root)?.unknown_field(key),
        Ignored::Some { parent } | Ignored::NewtypeStruct { parent } | Ignored::NewtypeVariant { parent } => {
            place(parent, root)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{objects, optional};

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    #[allow(dead_code, reason = "only what is not read matters here")]
    struct Spec {
        #[serde(deserialize_with = "optional")]
        selector: Option<Inner>,
        #[serde(deserialize_with = "objects")]
        rules: Option<Vec<Inner>>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    #[allow(dead_code, reason = "only what is not read matters here")]
    struct Inner {
        name: Option<String>,
    }

    fn faults(json: &str) -> Vec<String> {
        let part: &RawValue = serde_json::from_str(json).unwrap();
        let mut faults = Vec::new();
        read::<Spec>(part, &Path::root().field("spec"), "Thing", &mut faults).unwrap();
        faults.iter().map(|fault| fault.path.to_string()).collect()
    }

    #[test]
    fn what_is_not_known_is_named_with_its_place() {
        assert!(faults(r#"{"selector": {"name": "a"}, "rules": [{"name": "b"}, null]}"#).is_empty());
        assert_eq!(
            faults(r#"{"selektor": {}, "selector": {"nam": {"x": 1}}, "rules": [{}, {"names": ["a"]}]}"#),
            ["spec.selektor", "spec.selector.nam", "spec.rules[1].names"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_one_error_and_no_fault() {
        let part: &RawValue = serde_json::from_str(r#"{"x": 1, "rules": 5}"#).unwrap();
        let mut faults = Vec::new();
        let error = read::<Spec>(part, &Path::root().field("spec"), "Thing", &mut faults).unwrap_err();
        assert!(error.to_string() == "spec.rules: `5` is a number; expected a list", "{error}");
        assert!(faults.is_empty());
    }
}
