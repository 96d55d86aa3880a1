//! The table of values in the README of the chart is written from `values.yaml`.

use std::env;
use std::fs;

use portcullis::yaml;
use serde_json::Value;

use super::{CHART, root};

const BEGIN: &str = "<!-- The table is written by `UPDATE_DOCS=1 cargo test --test chart`. Do not edit it. -->\n";
const END: &str = "<!-- end -->\n";

/// Returns the comments before the keys of the first two levels, by the path of the key.
fn comments(text: &str) -> Vec<(String, String)> {
    let (mut found, mut comment, mut parent) = (Vec::new(), Vec::new(), "");
    for line in text.lines() {
        let content = line.trim_start();
        let depth = line.len() - content.len();
        let key = content
            .split_once(':')
            .map(|(key, _)| key)
            .filter(|key| key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        match (content.strip_prefix("# "), key) {
            (Some(text), _) => {
                comment.push(text);
                continue;
            }
            (None, Some(key)) if depth == 0 => {
                parent = key;
                found.push((key.to_owned(), comment.join(" ")));
            }
            (None, Some(key)) if depth == 2 => found.push((format!("{parent}.{key}"), comment.join(" "))),
            _ => {}
        }
        comment.clear();
    }
    found
}

/// Returns the table: a row for each value of the schema. A value whose fields the schema names has a row for each.
fn table() -> String {
    let read = |name: &str| fs::read_to_string(root().join(CHART).join(name)).unwrap();
    let text = read("values.yaml");
    let values = yaml::read(&text).unwrap().remove(0).value;
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let comments = comments(&text);
    let mut rows = String::from("| value | default | meaning |\n|---|---|---|\n");
    for (path, comment) in &comments {
        let (parent, child) =
            path.split_once('.').map_or((path.as_str(), None), |(parent, child)| (parent, Some(child)));
        let described = &schema["properties"][parent];
        assert!(described.is_object(), "values.schema.json lacks {parent}");
        let is_row = match child {
            Some(child) => described["properties"].get(child).is_some(),
            None => described.get("properties").is_none(),
        };
        if !is_row {
            continue;
        }
        assert!(!comment.is_empty(), "{path} has no comment in values.yaml");
        let value = values.pointer(&format!("/{}", path.replace('.', "/"))).unwrap();
        let value = value.to_string();
        let default = if value.len() <= 50 { format!("`{value}`") } else { "see values.yaml".to_owned() };
        rows.push_str(&format!("| `{path}` | {default} | {} |\n", comment.replace('|', "\\|")));
    }
    rows
}

#[test]
fn the_readme_lists_every_value() {
    let file = root().join(CHART).join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let expected = format!("{head}{BEGIN}{}{END}{tail}", table());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &expected).unwrap();
        return;
    }
    assert!(text == expected, "{} is stale; run: UPDATE_DOCS=1 cargo test --test chart", file.display());
}

/// A value that the schema does not know would be rejected, and one without a default would be missing in the table.
#[test]
fn the_schema_and_the_defaults_have_the_same_values() {
    let read = |name: &str| fs::read_to_string(root().join(CHART).join(name)).unwrap();
    let values = yaml::read(&read("values.yaml")).unwrap().remove(0).value;
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut stack = vec![(String::new(), &schema, &values)];
    while let Some((path, schema, values)) = stack.pop() {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { continue };
        let values = values.as_object().unwrap_or_else(|| panic!("{path} is no map"));
        for (name, schema) in properties {
            // Helm itself passes `global` to every chart.
            if path.is_empty() && name == "global" {
                continue;
            }
            let value = values.get(name).unwrap_or_else(|| panic!("{path}/{name} has no default"));
            stack.push((format!("{path}/{name}"), schema, value));
        }
        let unknown: Vec<&String> = values.keys().filter(|name| !properties.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}
