//! The annotation in which Calico's API server stores the original metadata of an object
//! (`libcalico-go/lib/backend/k8s/resources/resources.go`).

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::dialect::label_map::{LabelMap, means_something};
use crate::dialect::{Manifest, ReadError};
use crate::model::{Labels, Path, is_stored_by_calico};

/// The key of the annotation.
const METADATA: &str = "projectcalico.org/metadata";

/// The relevant part of that metadata.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metadata {
    names: Vec<Box<str>>,
    annotations: Labels,
}

/// The relevant annotations of an object. Those of the stored metadata, which Calico shows, override those of the
/// object.
pub(super) fn annotations(manifest: &Manifest<'_>) -> Result<Labels, ReadError> {
    let own = manifest.annotations()?;
    let Some(Metadata { names, annotations }) = metadata(manifest)? else { return Ok(own) };
    let id = manifest.id()?;
    // With another name, Calico would return this object in place of a different one.
    if let Some(other) = names.iter().find(|name| ***name != *id.name && ***name != *id.bare_name()) {
        let problem = format!("the name `{other}` differs from the stored name `{}`", id.name);
        return Err(ReadError::at(&place(), problem));
    }
    Ok(own.iter().chain(annotations.iter()).collect())
}

/// Returns true if the relevant metadata in that annotation is the same for both manifests.
pub(in crate::dialect) fn says_the_same(manifest: &Manifest<'_>, other: &Manifest<'_>) -> bool {
    matches!((metadata(manifest), metadata(other)), (Ok(own), Ok(others)) if own == others)
}

fn metadata(manifest: &Manifest<'_>) -> Result<Option<Metadata>, ReadError> {
    if !is_stored_by_calico(manifest.api_version) {
        return Ok(None);
    }
    manifest.annotation(METADATA)?.map(|text| read(&text)).transpose()
}

fn read(text: &str) -> Result<Metadata, ReadError> {
    let error = |error: serde_json::Error| ReadError::at(&place(), format!("Calico cannot read it: {error}"));
    let fields: Map<String, Value> = serde_json::from_str::<Option<_>>(text).map_err(error)?.unwrap_or_default();
    let mut metadata = Metadata::default();
    for (field, value) in fields {
        // Go matches field names case-insensitively.
        if field.eq_ignore_ascii_case("name") {
            let name = Option::<Box<str>>::deserialize(value).map_err(error)?;
            metadata.names.extend(name.filter(|name| !name.is_empty()));
        } else if field == "annotations" {
            let LabelMap(all) = Option::deserialize(value).map_err(error)?.unwrap_or_default();
            metadata.annotations = all.iter().filter(|(key, _)| means_something(key)).collect();
        }
    }
    Ok(metadata)
}

fn place() -> Path {
    Path::root().field("metadata").field("annotations").key(METADATA)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::Origin;

    fn read(api_version: &str, kind: &str, annotations: &Value) -> Result<Labels, ReadError> {
        let json = json!({"metadata": {"name": "default.p", "annotations": annotations}}).to_string();
        annotations_of(&Manifest::read(api_version, kind, &json, Origin::Author).unwrap())
    }

    fn annotations_of(manifest: &Manifest<'_>) -> Result<Labels, ReadError> {
        super::super::read::object(manifest).map(|object| object.annotations)
    }

    fn stored(metadata: &str) -> Result<Labels, ReadError> {
        read("crd.projectcalico.org/v1", "NetworkPolicy", &json!({METADATA: metadata, "x/exempt": "a", "x/until": "b"}))
    }

    #[test]
    fn what_calico_shows_counts_more_than_what_stands_there() {
        let labels = |annotations: &[(&str, &str)]| Ok(annotations.iter().copied().collect::<Labels>());
        let own = [("x/exempt", "a"), ("x/until", "b")];
        for nothing in ["{}", "null", r#"{"annotations": null, "name": null}"#, r#"{"name": "", "uid": "u"}"#] {
            assert_eq!(stored(nothing), labels(&own), "{nothing}");
        }
        let given = r#"{"name": "p", "annotations": {"x/exempt": "c", "y": "z"}, "managedFields": [{"manager": "m"}]}"#;
        assert_eq!(stored(given), labels(&[("x/exempt", "c"), ("x/until", "b")]));
        // Other API groups do not treat this annotation specially.
        let shown = read("projectcalico.org/v3", "NetworkPolicy", &json!({METADATA: given, "x/exempt": "a"}));
        assert_eq!(shown, labels(&own[..1]));
        for kind in ["GlobalNetworkPolicy", "StagedKubernetesNetworkPolicy", "Tier"] {
            let read = read("crd.projectcalico.org/v1", kind, &json!({METADATA: given}));
            assert_eq!(read, labels(&[("x/exempt", "c")]), "{kind}");
        }
    }

    #[test]
    fn what_calico_cannot_read_is_an_error() {
        for broken in ["", "[]", "{", r#"{"name": 5}"#, r#"{"annotations": ["a"]}"#] {
            let error = stored(broken).unwrap_err();
            assert_eq!(error.path.to_string(), "metadata.annotations[\"projectcalico.org/metadata\"]");
            assert!(error.problem.starts_with("Calico cannot read it: "), "{error}");
        }
        for name in ["q", "default.default.p", "default."] {
            let error = stored(&json!({"Name": name}).to_string()).unwrap_err();
            assert_eq!(error.problem, format!("the name `{name}` differs from the stored name `default.p`"));
        }
    }
}
