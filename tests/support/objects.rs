//! Objects as the engine reads them.

use portcullis::dialect::{self, Manifest, Origin};
use portcullis::model::Object;
use portcullis::yaml;
use serde_json::Value;

/// The object of a manifest.
pub(crate) fn object(manifest: &Value) -> Object {
    let [api_version, kind] = ["apiVersion", "kind"].map(|field| manifest[field].as_str().unwrap());
    let json = manifest.to_string();
    let read = Manifest::read(api_version, kind, &json, Origin::Author).and_then(|manifest| dialect::read(&manifest));
    read.unwrap_or_else(|error| panic!("{error}: {manifest:#}")).expect("a kind that is known")
}

/// The objects in this YAML.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    let documents = yaml::read(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    documents.iter().map(|document| object(&document.value)).collect()
}
