//! Manifests of every kind, in JSON or YAML, as `portcullis check` reads them from a file.

use portcullis::config::Configuration;
use portcullis::dialect::{self, DIALECTS, Kind, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::model::Object;
use portcullis::rules::{Change, Mode, Occasion};
use portcullis::view::View;
use portcullis::yaml;
use serde_json::Value;
use std::sync::LazyLock;

use crate::cost::within_budget;

static SHIPPED: LazyLock<Configuration> = LazyLock::new(|| Configuration::shipped().expect("what ships is valid"));

/// Reads each document of a text. The first byte chooses the kind of documents that name none.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(documents) = yaml::read(text) else { return };
    let kinds: Vec<&Kind> = DIALECTS.iter().flat_map(|dialect| dialect.kinds()).collect();
    let kind = kinds[usize::from(choice % 128) % kinds.len()];
    let origin = if *choice < 128 { Origin::Author } else { Origin::Server { namespace: Some("shop") } };
    for document in documents.into_iter().flat_map(yaml::Document::items) {
        let value = named(document.value, kind);
        let (Some(api_version), Some(kind)) = (value["apiVersion"].as_str(), value["kind"].as_str()) else { continue };
        let json = value.to_string();
        let Ok(manifest) = Manifest::read(api_version, kind, &json, origin) else { continue };
        let read = within_budget(json.len(), || dialect::read(&manifest));
        if let Some(Ok(Some(object))) = read {
            check(&object, &manifest, &value, json.len());
        }
    }
}

/// The value with a kind, if it names none itself.
fn named(mut value: Value, kind: &Kind) -> Value {
    if let Some(fields) = value.as_object_mut() {
        let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
        fields.entry("apiVersion").or_insert_with(|| format!("{group}{}", kind.versions[0]).into());
        fields.entry("kind").or_insert_with(|| kind.kind.into());
    }
    value
}

/// An object that was there before is never denied, and each fix applies to the manifest.
fn check(object: &Object, manifest: &Manifest<'_>, value: &Value, length: usize) {
    let view = View::of([object.clone()]);
    let change = Change::Write { new: object, old: Some(object) };
    let verdict = within_budget(length, || judge(&SHIPPED, &view, change, Occasion::default()));
    for judgement in verdict.into_iter().flat_map(|verdict| verdict.judgements) {
        let rule = judgement.finding.rule;
        assert!(
            judgement.action != Mode::Deny || rule == "too-complex",
            "an unchanged object is denied: {judgement:?}"
        );
        let Some(fix) = judgement.finding.fix else { continue };
        let patch = within_budget(length, || dialect::fix(&fix, manifest)).flatten();
        let applies = patch.is_none_or(|patch| patch.applied_to(value).is_some());
        assert!(applies, "the fix of {rule} does not apply: {fix:?}\n{value:#}");
    }
}
