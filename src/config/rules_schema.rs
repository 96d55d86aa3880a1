//! The part of the JSON Schema for `rules`.

use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::rules::{Definition, Mode, RULES};

/// The names of the shared parts of the schema.
const RULES_PART: &str = "rules";
const MODE_PART: &str = "mode";

/// The schema of `rules`: every rule with its modes and settings. It is used twice, so it is a shared part.
pub(super) fn rules(generator: &mut SchemaGenerator) -> Schema {
    let reference = |part: &str| json_schema!({ "$ref": format!("#/$defs/{part}") });
    if !generator.definitions().contains_key(RULES_PART) {
        let rules: Map<String, Value> =
            RULES.iter().map(|rule| (rule.name.to_owned(), entry(rule, generator, &reference(MODE_PART)))).collect();
        let mode = mode(generator);
        let rules = json!({ "type": "object", "properties": rules, "additionalProperties": false });
        generator.definitions_mut().insert(MODE_PART.to_owned(), mode.to_value());
        generator.definitions_mut().insert(RULES_PART.to_owned(), rules);
    }
    reference(RULES_PART)
}

/// The schema of the entry of a rule: its mode, or its mode and its settings.
fn entry(rule: &Definition, generator: &mut SchemaGenerator, mode: &Schema) -> Value {
    json!({
        "description": format!("{} Default mode: {}.", rule.summary(), rule.mode.name()),
        "anyOf": [
            mode,
            {
                "type": "object",
                "properties": {"mode": mode, "settings": rule.settings_schema(generator)},
                "additionalProperties": false,
            },
        ],
    })
}

fn mode(generator: &mut SchemaGenerator) -> Schema {
    let mut mode = Mode::json_schema(generator);
    if let Some(modes) = mode.get_mut("oneOf").and_then(Value::as_array_mut) {
        modes.push(json!({"const": false, "description": "`off` without quotes, as YAML 1.1 reads it."}));
    }
    mode
}
