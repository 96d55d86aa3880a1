//! A validator of JSON Schema, draft 4, for the keywords that the schemas of reports use. A keyword that it does not
//! know is a panic, so that no part of a schema is passed over.

use serde_json::Value;

/// Returns the violations, each with its place.
pub(crate) fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    validate(schema, schema, value, "$", &mut violations);
    violations
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str, violations: &mut Vec<String>) {
    let mut wrong = |text: String| violations.push(format!("{at}: {text}"));
    for (keyword, wanted) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "id" | "title" | "description" | "default" | "definitions" => {}
            "type" => {
                let types = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                if !types.iter().any(|name| is_of_type(value, name.as_str().unwrap())) {
                    wrong(format!("is not of type {wanted}"));
                }
            }
            "enum" if !wanted.as_array().unwrap().contains(value) => wrong(format!("is none of {wanted}")),
            "enum" => {}
            "minimum" if value.as_f64().is_some_and(|value| value < wanted.as_f64().unwrap()) => {
                wrong(format!("is less than {wanted}"));
            }
            "maximum" if value.as_f64().is_some_and(|value| value > wanted.as_f64().unwrap()) => {
                wrong(format!("is more than {wanted}"));
            }
            "minimum" | "maximum" => {}
            "minLength" => {
                if value.as_str().is_some_and(|text| (text.chars().count() as u64) < wanted.as_u64().unwrap()) {
                    wrong(format!("is shorter than {wanted}"));
                }
            }
            "minItems" => {
                if value.as_array().is_some_and(|items| (items.len() as u64) < wanted.as_u64().unwrap()) {
                    wrong(format!("has less than {wanted} items"));
                }
            }
            "uniqueItems" => {
                let items = value.as_array().filter(|_| wanted == true);
                if items.is_some_and(|items| (1..items.len()).any(|at| items[..at].contains(&items[at]))) {
                    wrong("has an item twice".to_owned());
                }
            }
            "format" => {
                if value.as_str().is_some_and(|text| !has_format(text, wanted.as_str().unwrap())) {
                    wrong(format!("is no {wanted}: {value}"));
                }
            }
            "required" => {
                for name in wanted.as_array().unwrap().iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        wrong(format!("has no `{name}`"));
                    }
                }
            }
            "properties" | "additionalProperties" | "items" | "$ref" | "anyOf" | "oneOf" => {}
            // Nothing here has such a value.
            "pattern" => assert!(!value.is_string(), "{at}: no pattern can be checked"),
            other => panic!("{at}: unknown keyword {other}"),
        }
    }
    if let Some(fields) = value.as_object() {
        let named = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields {
            let at = format!("{at}.{name}");
            match (named.and_then(|named| named.get(name)), schema.get("additionalProperties")) {
                (Some(schema), _) => validate(root, schema, field, &at, violations),
                (None, Some(Value::Bool(false))) => violations.push(format!("{at}: is not allowed")),
                (None, Some(schema @ Value::Object(_))) => validate(root, schema, field, &at, violations),
                (None, _) => {}
            }
        }
    }
    if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
        for (position, item) in items.iter().enumerate() {
            validate(root, schema, item, &format!("{at}[{position}]"), violations);
        }
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        validate(root, target, value, at, violations);
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(choices) = schema.get(keyword).and_then(Value::as_array) else { continue };
        let is_valid = |choice: &&Value| {
            let mut violations = Vec::new();
            validate(root, choice, value, at, &mut violations);
            violations.is_empty()
        };
        let valid = choices.iter().filter(is_valid).count();
        if valid == 0 || keyword == "oneOf" && valid > 1 {
            violations.push(format!("{at}: {valid} of the choices in {keyword} fit"));
        }
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    }
}

fn has_format(text: &str, format: &str) -> bool {
    let is_of_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    match format {
        "uri" => text.contains("://") && text.bytes().all(is_of_uri),
        // The first segment of a relative reference has no colon.
        "uri-reference" => {
            let first = text.split('/').next().unwrap_or_default();
            text.bytes().all(is_of_uri) && (!first.contains(':') || text.contains("://"))
        }
        other => panic!("unknown format {other}"),
    }
}
