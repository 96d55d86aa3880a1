//! Objects as the engine reads them.

use portcullis::dialect;
use portcullis::model::Object;
use portcullis::yaml;
use serde_json::Value;

/// The object of a manifest.
pub(crate) fn object(manifest: &Value) -> Object {
    dialect::read_value(manifest).unwrap_or_else(|error| panic!("{error}: {manifest:#}")).expect("a kind that is known")
}

/// The objects in this YAML.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    let documents = yaml::read(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    documents.iter().map(|document| object(&document.value)).collect()
}
