//! The JSON Schema of the configuration file, for editors.
//!
//! It is derived from the same types that read the file, so names, types and enumerations are equal. Conditions between
//! fields, such as `profiles.default` in `profiles.names`, are only in the reader: `portcullis config check`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::{Map, Value, json};

use super::written::Written;

/// Returns the JSON Schema (draft 2020-12) of the configuration file.
#[must_use]
pub fn schema() -> Schema {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Written>();
    make_optional(schema.ensure_object());
    schema.insert("required".to_owned(), json!(["apiVersion", "kind"]));
    RecursiveTransform(name_address_formats).transform(&mut schema);
    schema
}

/// Makes fields optional. Maps are merged over the shipped configuration, so none of their fields is required. Lists
/// replace the shipped ones, so their items are complete.
fn make_optional(object: &mut Map<String, Value>) {
    object.remove("required");
    for property in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        property.as_object_mut().into_iter().for_each(make_optional);
    }
}

/// Replaces the format `ip` of schemars, which JSON Schema does not define.
fn name_address_formats(schema: &mut Schema) {
    if schema.get("format").is_some_and(|format| format == "ip") {
        schema.remove("format");
        schema.insert("anyOf".to_owned(), json!([{"format": "ipv4"}, {"format": "ipv6"}]));
    }
}
