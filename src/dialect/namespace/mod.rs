//! `v1` Namespace.

use serde::Deserialize;

use super::error::parse;
use super::meta::Meta;
use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::json::object;
use crate::model::{Body, Fix, NAME_LABEL, Namespace, Object, ObjectRef, Path};

/// The dialect.
#[derive(Debug)]
pub struct Namespaces;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "object")]
    metadata: Meta,
}

impl Dialect for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind { group: "", versions: &["v1"], kind: "Namespace" }]
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        let Wire { metadata } = parse(manifest.json)?;
        // A request about a namespace names it as its namespace too; the object itself is in none.
        let id = ObjectRef { namespace: None, ..metadata.id(manifest) };
        let deleting = metadata.deleting();
        let labels = metadata.labels().with(NAME_LABEL, &id.name);
        let labels_path = Path::root().field("metadata").field("labels");
        Ok(Object { id, deleting, body: Body::Namespace(Namespace { labels, labels_path }) })
    }

    fn fix(&self, _fix: &Fix, _manifest: &str) -> Option<Patch> {
        None
    }
}
