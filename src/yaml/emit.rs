//! Writes values as YAML and JSON text, in the style of the text around them.

use granit_parser::ScalarStyle;
use serde_json::Value;

use super::ordered::Ordered;
use super::scalar;
use super::split::Format;

/// The layout of the document that a value is written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) newline: &'static str,
    /// Columns from a key to the keys of its map.
    pub(super) map_step: usize,
    /// Columns from a key to the dashes of its list.
    pub(super) list_step: usize,
}

impl Layout {
    /// Writes a key with its value as lines of a block map whose keys are at this column.
    pub(super) fn entry(&self, key: &str, value: &Ordered, column: usize) -> Vec<String> {
        let head = format!("{}{}:", " ".repeat(column), string(key));
        match value {
            value if !value.has_parts() => vec![format!("{head} {}", self.flow(value))],
            Ordered::List(_) => [vec![head], self.block(value, column + self.list_step)].concat(),
            _ => [vec![head], self.block(value, column + self.map_step)].concat(),
        }
    }

    /// Writes an item as lines of a block list whose dashes are at this column.
    pub(super) fn item(&self, value: &Ordered, column: usize) -> Vec<String> {
        let indentation = " ".repeat(column);
        if !value.has_parts() {
            return vec![format!("{indentation}- {}", self.flow(value))];
        }
        let mut lines = self.block(value, column + 2);
        if let Some(first) = lines.first_mut() {
            *first = format!("{indentation}- {}", first.trim_start());
        }
        lines
    }

    /// Writes a list or a map as lines at this column.
    pub(super) fn block(&self, value: &Ordered, column: usize) -> Vec<String> {
        match value {
            Ordered::List(items) => items.iter().flat_map(|item| self.item(item, column)).collect(),
            Ordered::Map(entries) => entries.iter().flat_map(|(key, value)| self.entry(key, value, column)).collect(),
            Ordered::Scalar(_) => vec![format!("{}{}", " ".repeat(column), self.flow(value))],
        }
    }

    /// Writes a value on one line.
    pub(super) fn flow(&self, value: &Ordered) -> String {
        match value {
            Ordered::Scalar(value) => self.scalar(value),
            Ordered::List(items) => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Ordered::Map(entries) => {
                let entries: Vec<String> = entries.iter().map(|(key, value)| self.flow_entry(key, value)).collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    /// Writes a key with its value on one line.
    pub(super) fn flow_entry(&self, key: &str, value: &Ordered) -> String {
        format!("{}: {}", self.scalar(&Value::String(key.to_owned())), self.flow(value))
    }

    /// Writes a value as JSON on several lines, each after the first one with this indentation.
    pub(super) fn spread(&self, value: &Ordered, indentation: &str, step: &str) -> String {
        let inner = format!("{indentation}{step}");
        let (open, close, parts): (_, _, Vec<String>) = match value {
            Ordered::List(items) => ('[', ']', items.iter().map(|item| self.spread(item, &inner, step)).collect()),
            Ordered::Map(entries) => {
                ('{', '}', entries.iter().map(|(key, value)| self.spread_entry(key, value, &inner, step)).collect())
            }
            Ordered::Scalar(value) => return self.scalar(value),
        };
        if parts.is_empty() {
            return format!("{open}{close}");
        }
        let newline = self.newline;
        let parts = parts.join(&format!(",{newline}{inner}"));
        format!("{open}{newline}{inner}{parts}{newline}{indentation}{close}")
    }

    /// Writes a key with its value as JSON on several lines.
    pub(super) fn spread_entry(&self, key: &str, value: &Ordered, indentation: &str, step: &str) -> String {
        format!("{}: {}", self.scalar(&Value::String(key.to_owned())), self.spread(value, indentation, step))
    }

    fn scalar(&self, value: &Value) -> String {
        match (self.format, value) {
            (Format::Yaml, Value::String(text)) => string(text),
            _ => value.to_string(),
        }
    }
}

/// Writes a string as a plain scalar if every parser reads it as the same string, and in double quotes otherwise.
fn string(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let is_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_safe)
        && !is_number
        && scalar::read(text, ScalarStyle::Plain, None) == Ok(Value::String(text.to_owned()));
    if is_plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { format: Format::Yaml, newline: "\n", map_step: 2, list_step: 0 };

    fn tree(text: &str) -> Ordered {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn strings_are_quoted_where_a_parser_would_read_something_else() {
        for plain in ["kube-system", "10.0.0.0/8", "kubernetes.io/metadata.name", "TCP", "a1"] {
            assert_eq!(string(plain), plain);
        }
        for quoted in ["", "yes", "null", "8080", "0x1f", "1e3", "fd00::/8", "a b", "*", "-", "2026-11-21", "a#b", "é"]
        {
            assert_eq!(string(quoted), format!("\"{quoted}\""));
        }
    }

    #[test]
    fn values_take_the_style_of_the_document() {
        let rule = tree(
            r#"{"to": [{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": [{"port": 53}], "x": []}"#,
        );
        let lines = LAYOUT.item(&rule, 2).join("\n");
        let expected = "  - to:\n    - podSelector:\n        matchLabels:\n          k8s-app: kube-dns\n    ports:\n    - port: 53\n    x: []";
        assert_eq!(lines, expected);
        let deeper = Layout { map_step: 4, list_step: 2, ..LAYOUT };
        let lines = deeper.entry("egress", &tree(r#"[{"a": {"b": "c"}}]"#), 0).join("\n");
        assert_eq!(lines, "egress:\n  - a:\n        b: c");
        assert_eq!(
            LAYOUT.flow(&rule),
            "{to: [{podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53}], x: []}"
        );
        let json = Layout { format: Format::Json, ..LAYOUT };
        assert_eq!(json.flow(&tree(r#"{"b": "x", "a": []}"#)), r#"{"b": "x", "a": []}"#);
        assert_eq!(json.spread(&tree(r#"{"b": [1]}"#), "  ", "  "), "{\n    \"b\": [\n      1\n    ]\n  }");
        assert_eq!(LAYOUT.item(&tree(r#"[["a"], "b"]"#), 0), ["- - - a", "  - b"]);
    }
}
