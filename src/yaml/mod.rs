//! Manifest files, read as `kubectl` reads them, with the place of each part.
//!
//! `kubectl` splits a file at lines that start with `---` and converts each part to JSON by the rules of YAML 1.1
//! (`k8s.io/apimachinery/pkg/util/yaml` and `sigs.k8s.io/yaml`, a fork of go-yaml 2): `hostNetwork: yes` is true, `8e3`
//! is 8000. A YAML 1.2 parser would read `yes` as a string and miss the hostNetwork pod. This module therefore resolves
//! plain scalars by the rules of YAML 1.1. `tests/layouts` compares it with recorded answers of `kubectl`.

mod edit;
mod emit;
mod json;
mod operation;
mod ordered;
mod parse;
mod scalar;
mod spans;
mod split;
mod tree;

pub use edit::{EditError, edit};
pub use operation::Operation;
pub use ordered::Ordered;

use std::collections::HashMap;

use serde_json::Value;

use crate::model::{Path, Step};

use emit::Layout;
use split::Format;

/// Writes a value as a YAML document in block style.
#[must_use]
pub fn write(value: &Ordered) -> String {
    let layout = Layout { format: Format::Yaml, newline: "\n", map_step: 2, list_step: 0 };
    layout.block(value, 0).join("\n") + "\n"
}

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The content. Null for an empty document.
    pub value: Value,
    /// The line on which the document starts, from 1.
    pub line: usize,
    /// Text that `kubectl` drops silently.
    pub dropped: Vec<Error>,
    /// The position in the list that the document is an item of.
    pub item: Option<usize>,
    places: Places,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Default for Mark {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

/// The places of a value and of its parts, in the shape of the value.
#[derive(Clone, Debug, Default)]
struct Places {
    mark: Mark,
    items: Vec<Places>,
    fields: HashMap<String, Places>,
}

impl Places {
    /// Moves all lines down by this number.
    fn shift(&mut self, by: usize) {
        if by == 0 {
            return;
        }
        self.mark.line += by;
        self.items.iter_mut().chain(self.fields.values_mut()).for_each(|places| places.shift(by));
    }
}

/// An error of reading a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The problem.
    pub problem: String,
}

impl Document {
    /// A document that was not read from a file.
    #[must_use]
    pub fn from_value(value: Value) -> Self {
        Self { value, line: 1, dropped: Vec::new(), item: None, places: Places::default() }
    }

    /// Moves all lines down by this number.
    fn shifted(mut self, by: usize) -> Self {
        self.line += by;
        self.places.shift(by);
        self.dropped.iter_mut().for_each(|dropped| dropped.line += by);
        self
    }

    /// The line of a part of the document. If the part is missing, the line of the nearest enclosing part that exists.
    #[must_use]
    pub fn line_of(&self, path: &Path) -> usize {
        self.mark_of(path).line
    }

    /// The place of a part of the document: for a field, the place of its key. If the part is missing, the place of the
    /// nearest enclosing part that exists.
    #[must_use]
    pub(crate) fn mark_of(&self, path: &Path) -> Mark {
        let mut places = &self.places;
        for step in path.steps() {
            let part = match step {
                Step::Field(name) => places.fields.get(&**name),
                Step::Key(key) => places.fields.get(&**key),
                Step::Index(index) => places.items.get(*index),
            };
            match part {
                Some(part) => places = part,
                None => break,
            }
        }
        places.mark
    }

    /// Splits a list into its items. Returns any other document unchanged.
    ///
    /// An item without `kind` and `apiVersion` inherits them from its list, without the suffix `List`. `kubectl get
    /// --raw` prints such items, and `kubectl apply` reads them this way (`decodeToList` in
    /// `k8s.io/apimachinery/pkg/apis/meta/v1/unstructured`).
    #[must_use]
    pub fn items(mut self) -> Vec<Self> {
        let text = |name: &str| self.value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let of_items = kind.strip_suffix("List");
        let Some(items) = self.value.get_mut("items").and_then(Value::as_array_mut).filter(|_| of_items.is_some())
        else {
            return vec![self];
        };
        if let Some(kind) = of_items.filter(|kind| !kind.is_empty()) {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                if !item.contains_key("kind") && !item.contains_key("apiVersion") {
                    item.insert("apiVersion".to_owned(), Value::String(api_version.clone()));
                    item.insert("kind".to_owned(), Value::String(kind.to_owned()));
                }
            }
        }
        let mark = Mark { line: self.line, ..Mark::default() };
        let places = self.places.fields.remove("items").unwrap_or_default();
        let places = places.items.into_iter().chain(std::iter::repeat(Places { mark, ..Places::default() }));
        // Dropped text belongs to the list as a whole; its first item reports it.
        let mut dropped = std::mem::take(&mut self.dropped);
        std::mem::take(items)
            .into_iter()
            .zip(places)
            .enumerate()
            .map(|(position, (value, places))| Self {
                value,
                line: places.mark.line,
                dropped: std::mem::take(&mut dropped),
                item: Some(position),
                places,
            })
            .collect()
    }
}

/// Reads every document of a text: YAML documents, or consecutive JSON objects. Text that `kubectl` would drop is an
/// error.
///
/// # Errors
/// The first place that cannot be read, or that has text that `kubectl` would drop, such as a repeated key.
pub fn read(text: &str) -> Result<Vec<Document>, Error> {
    let read_strictly = |document: Result<Document, Error>| {
        let mut document = document?;
        if document.dropped.is_empty() { Ok(document) } else { Err(document.dropped.swap_remove(0)) }
    };
    read_each(text).into_iter().map(read_strictly).collect()
}

/// Reads every document of a text as `kubectl` reads it. A document that cannot be read becomes an error at its
/// position.
#[must_use]
pub fn read_each(text: &str) -> Vec<Result<Document, Error>> {
    let read = |part: split::Part<'_>| {
        let read = match part.format {
            Format::Json => json::read(&part.text),
            Format::Yaml => parse::read(&part.text),
        };
        match read {
            Ok(document) => Ok(document.shifted(part.line)),
            Err(error) => Err(Error { line: error.line + part.line, ..error }),
        }
    };
    split::parts(text).into_iter().map(|part| part.and_then(read)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        read(text).unwrap().remove(0).value
    }

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        assert_eq!(
            one("a: yes\nb: off\nc: 'yes'\nd: 0x1F\ne: 010\nf: 1_000\ng: 1.5\nh: ~\ni: 1e3\nj: -5"),
            json!({
                "a": true, "b": false, "c": "yes", "d": 31, "e": 8, "f": 1000, "g": 1.5, "h": null, "i": 1000, "j": -5
            })
        );
        assert_eq!(
            one("a: 10.0.0.0/8\nb: 1.2.3\nc: !!str 53\nd: 2026-11-21\n"),
            json!({
                "a": "10.0.0.0/8", "b": "1.2.3", "c": "53", "d": "2026-11-21"
            })
        );
    }

    #[test]
    fn every_part_knows_its_line() {
        let text = "# a comment\nkind: NetworkPolicy\nspec:\n  ingress:\n  - from:\n    - podSelector: {}\n  - {}\n";
        let document = read(text).unwrap().remove(0);
        let rules = Path::root().field("spec").field("ingress");
        assert_eq!(document.line_of(&Path::root().field("spec")), 3);
        assert_eq!(document.line_of(&rules.index(0).field("from").index(0)), 6);
        assert_eq!(document.line_of(&rules.index(1)), 7);
        assert_eq!(document.line_of(&rules.index(1).field("ports")), 7, "what is not there is where it would be");
    }

    #[test]
    fn documents_and_lists_come_apart() {
        let text = "a: 1\n---\n---\nkind: List\nitems:\n- b: 2\n- c: 3\n";
        let documents: Vec<Document> = read(text).unwrap().into_iter().flat_map(Document::items).collect();
        let values: Vec<&Value> = documents.iter().map(|document| &document.value).collect();
        assert_eq!(values, [&json!({"a": 1}), &json!({"b": 2}), &json!({"c": 3})]);
        assert_eq!(documents.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 6, 7]);
    }

    #[test]
    fn anchors_aliases_and_merges_are_written_out() {
        assert_eq!(
            one("a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, k: 3}\nd: {k: 3, <<: *x}\n"),
            json!({
                "a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 3, "l": 2}, "d": {"k": 1, "l": 2}
            })
        );
    }

    #[test]
    fn json_is_read_too() {
        assert_eq!(
            one(r#"{"a": [1, "yes", true, null], "b": "\u00e9\n"}"#),
            json!({"a": [1, "yes", true, null], "b": "é\n"})
        );
    }

    #[test]
    fn what_kubectl_drops_is_read_and_reported() {
        let dropped = |text: &str| {
            let document = read_each(text).remove(0).unwrap();
            let dropped: Vec<String> = document.dropped.iter().map(ToString::to_string).collect();
            (document.value, dropped)
        };
        let twice = "line 3: duplicate key `a`; only the last value is used";
        assert_eq!(dropped("a: 1\nb: 2\na: 3\n"), (json!({"a": 3, "b": 2}), vec![twice.to_owned()]));
        let json = "line 2: duplicate key `a`; only the last value is used";
        assert_eq!(dropped("{\"a\": 1,\n\"a\": 3}"), (json!({"a": 3}), vec![json.to_owned()]));
        assert_eq!(dropped("<<: {a: 1}\na: 3\n"), (json!({"a": 3}), Vec::new()));
        assert_eq!(dropped("{\"<<\": {\"a\": 1}}"), (json!({"<<": {"a": 1}}), Vec::new()));
        for rest in ["...\nb: 2\n", "...\n]\n"] {
            let (value, dropped) = dropped(&format!("a: 1\n{rest}"));
            assert_eq!(value, json!({"a": 1}));
            assert!(dropped[0].contains("kubectl ignores this text after the end"), "{dropped:?}");
        }
        assert!(read("a: 1\n...\nb: 2\n").is_err());
    }

    #[test]
    fn a_broken_document_leaves_the_others() {
        let read = |text: &str| -> Vec<Result<Value, String>> {
            let each = read_each(text).into_iter();
            each.map(|one| one.map(|document| document.value).map_err(|error| error.to_string())).collect()
        };
        let found = read("a: 1\n---\nb: [\n---\nc: 3\n");
        assert_eq!((&found[0], &found[2]), (&Ok(json!({"a": 1})), &Ok(json!({"c": 3}))));
        assert!(found[1].as_ref().unwrap_err().starts_with("line 3: not YAML: "), "{found:?}");
        let found = read("a: 1\n--- b: 2\nc: 3\n");
        assert_eq!((&found[0], &found[2]), (&Ok(json!({"a": 1})), &Ok(json!({"c": 3}))));
        assert!(found[1].as_ref().unwrap_err().starts_with("line 2: `b: 2` after `---`: kubectl"), "{found:?}");
        let found = read("{\"a\": 1}\n{\"b\": 2}\n{\"c\"\n");
        assert_eq!(found[..2], [Ok(json!({"a": 1})), Ok(json!({"b": 2}))]);
        assert!(found[2].as_ref().unwrap_err().contains("not JSON: "), "{found:?}");
        let found = read("{\"a\": 1}\n---\nb: 2\n");
        assert_eq!((found.first(), found.last()), (Some(&Ok(json!({"a": 1}))), Some(&Ok(json!({"b": 2})))));
    }

    #[test]
    fn scalars_and_collections_go_on_at_any_column() {
        for text in
            ["a: '[\n x\n]'\nb: 1", "a: \"[\n\n x\n]\"\nb: 1", "a: {\nx: 1\n}\nb: 1", "a: [\n\t1,\n\t2\n]\nb: 1"]
        {
            let value = one(text);
            assert_eq!(value["b"], json!(1), "{text}");
            let document = read(text).unwrap().remove(0);
            assert_eq!(document.line_of(&Path::root().field("b")), text.lines().count(), "{text}");
        }
    }

    #[test]
    fn a_comment_may_follow_a_collection_or_a_quote_at_once() {
        assert_eq!(one("a: {b: 1}#c: {}\nd: [1]#c\ne: \"x\"#c\n"), json!({"a": {"b": 1}, "d": [1], "e": "x"}));
        assert_eq!(one("a: {b: '}#c', d: [1]#]\n}\ne: x}#c\n"), json!({"a": {"b": "}#c", "d": [1]}, "e": "x}#c"}));
        let document = read("a: {b: 1}#é\nc: 1\n").unwrap().remove(0);
        assert_eq!(document.line_of(&Path::root().field("c")), 2);
    }

    #[test]
    fn half_a_character_in_json_is_replaced() {
        assert_eq!(
            one(r#"{"a": "\ud83d", "b": "\ud83d\ude00 \ude00\\ud83d", "c": "\ud83dé\u00e9"}"#),
            json!({"a": "\u{fffd}", "b": "\u{1f600} \u{fffd}\\ud83d", "c": "\u{fffd}éé"})
        );
    }

    #[test]
    fn breaks_of_yaml_1_1_end_a_comment() {
        assert_eq!(one("a: 1 # b\u{2028}c: 2\n"), json!({"a": 1, "c": 2}));
        assert_eq!(one("a: 1\r\nb: '1\r\n2'\r\n"), json!({"a": 1, "b": "1 2"}));
        assert_eq!(one("\u{feff}a: 1\n"), json!({"a": 1}));
    }

    #[test]
    fn faults_name_their_line() {
        let fault = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(fault("a: 1\nb: 2\na: 3\n"), "line 3: duplicate key `a`; only the last value is used");
        assert!(fault("a: [1, 2\nb: 3").starts_with("line "), "{}", fault("a: [1, 2\nb: 3"));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(fault(&deep).contains("deeper than 128"), "{}", fault(&deep));
        assert!(fault(&format!("a: {deep}")).contains("deeper than 128"), "{}", fault(&format!("a: {deep}")));
        let bomb = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))
        });
        assert!(fault(&bomb).contains("aliases expand to more than 1000000 values"), "{}", fault(&bomb));
    }
}
