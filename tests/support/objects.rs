//! Objects from YAML.

use portcullis::dialect::{self, Manifest, Origin};
use portcullis::model::Object;
use portcullis::yaml;

/// The objects in this YAML.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    let documents = yaml::read(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    let read = |document: yaml::Document| {
        let value = document.value;
        let [api_version, kind] = ["apiVersion", "kind"].map(|field| value[field].as_str().unwrap().to_owned());
        let json = value.to_string();
        let manifest = Manifest::read(&api_version, &kind, &json, Origin::Author).unwrap();
        dialect::read(&manifest).unwrap_or_else(|error| panic!("{error}:\n{yaml}")).expect("a kind that is known")
    };
    documents.into_iter().map(read).collect()
}
