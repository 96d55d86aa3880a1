//! The JSON Schema of a rule's settings.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::Definition;

impl Definition {
    /// The schema of the rule's settings, each with its description from [`Self::doc`].
    #[must_use]
    pub(crate) fn settings_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut schema = (self.schema)(generator);
        schema.remove("title");
        schema.remove("description");
        let doc = self.doc();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (name, text) in descriptions(&doc) {
                if let Some(property) = properties.get_mut(name).and_then(Value::as_object_mut) {
                    property.insert("description".to_owned(), Value::String(capitalised(&text)));
                }
            }
        }
        // Settings are merged over the shipped ones, so none of them is required.
        schema.remove("required");
        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().for_each(optional);
        schema
    }
}

/// Makes the fields of nested objects optional.
fn optional(properties: &mut Map<String, Value>) {
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        property.remove("required");
        property.get_mut("properties").and_then(Value::as_object_mut).into_iter().for_each(optional);
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the names and texts of the list under the heading "Settings", such as `` - `most`: the maximum … ``.
fn descriptions(doc: &str) -> Vec<(&str, String)> {
    let settings =
        doc.lines().skip_while(|line| *line != "## Settings").skip(1).take_while(|line| !line.starts_with('#'));
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in settings {
        let item = line.strip_prefix("- `").and_then(|item| item.split_once("`: "));
        match (item, found.last_mut()) {
            (Some((name, text)), _) => found.push((name, text.to_owned())),
            (None, Some((_, text))) if line.starts_with("  ") => {
                text.push(' ');
                text.push_str(line.trim());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;

    #[test]
    fn every_setting_is_described() {
        for rule in RULES {
            let schema = rule.settings_schema(&mut SchemaGenerator::default());
            let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, property) in &properties {
                assert!(property["description"].is_string(), "{}: {name}", rule.name);
            }
            let doc = rule.doc();
            for (name, _) in descriptions(&doc) {
                assert!(properties.contains_key(name), "{}: {name} is no setting", rule.name);
            }
        }
    }
}
