//! Files of manifests, read as `kubectl` reads them, with the line of every part.
//!
//! `kubectl` converts YAML to JSON by the rules of YAML 1.1: `hostNetwork: yes` is true. A reader of YAML 1.2
//! would take it for a string and let the pod pass, so plain scalars are resolved here by those same rules
//! (sigs.k8s.io/yaml, which is a fork of go-yaml 2). Unlike there, a key that stands twice is an error.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, SpannedEventReceiver, Tag};
use serde_json::{Map, Number, Value};

use crate::model::{Path, Step};

/// How deep a document may nest, as in `serde_json`.
const DEPTH: usize = 128;
/// How many values the aliases of a document may add to it.
const ALIASED: usize = 1_000_000;

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it says. Null for an empty document.
    pub value: Value,
    /// The line on which it starts, from 1.
    pub line: usize,
    lines: Lines,
}

/// The lines of a value and of its parts, in the shape of the value.
#[derive(Clone, Debug, Default)]
struct Lines {
    line: usize,
    items: Vec<Lines>,
    fields: HashMap<String, Lines>,
}

impl Lines {
    /// Moves everything down by so many lines.
    fn shift(&mut self, by: usize) {
        if by == 0 {
            return;
        }
        self.line += by;
        self.items.iter_mut().chain(self.fields.values_mut()).for_each(|lines| lines.shift(by));
    }
}

/// Why a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

impl Document {
    /// A document that was not read from a file.
    #[must_use]
    pub fn from_value(value: Value) -> Self {
        Self { value, line: 1, lines: Lines { line: 1, ..Lines::default() } }
    }

    /// The line on which a part of the document is written: of the nearest enclosing part that is written at all.
    #[must_use]
    pub fn line_of(&self, path: &Path) -> usize {
        let mut lines = &self.lines;
        for step in path.steps() {
            let part = match step {
                Step::Field(name) => lines.fields.get(&**name),
                Step::Key(key) => lines.fields.get(&**key),
                Step::Index(index) => lines.items.get(*index),
            };
            match part {
                Some(part) => lines = part,
                None => break,
            }
        }
        lines.line
    }

    /// The documents in this one: the items of a list, or itself.
    ///
    /// An item without `kind` and `apiVersion` gets those of its list, without `List`: `kubectl get --raw` prints such items,
    /// and `kubectl apply` reads them so (`decodeToList` in `k8s.io/apimachinery/pkg/apis/meta/v1/unstructured`).
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
        let lines = self.lines.fields.remove("items").unwrap_or_default();
        let lines = lines.items.into_iter().chain(std::iter::repeat(Lines { line: self.line, ..Lines::default() }));
        std::mem::take(items)
            .into_iter()
            .zip(lines)
            .map(|(value, lines)| Self { value, line: lines.line, lines })
            .collect()
    }
}

/// Reads every document of a YAML text, or of JSON objects one after another.
///
/// # Errors
/// The first place at which the text is neither, has a key twice, nests too deep, or is not what it may be.
pub fn read(text: &str) -> Result<Vec<Document>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut line = 0;
    for part in json_objects(text).unwrap_or_else(|| vec![text]) {
        let mut read = read_yaml(part).map_err(|error| Error { line: error.line + line, ..error })?;
        for document in &mut read {
            document.line += line;
            document.lines.shift(line);
        }
        documents.append(&mut read);
        line += part.matches('\n').count();
    }
    Ok(documents)
}

/// The objects of a stream of JSON, each with the white space before it. None where the text is another thing: a single object
/// is YAML too, and a text that only starts like JSON may be.
fn json_objects(text: &str) -> Option<Vec<&str>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut objects = Vec::new();
    let mut start = 0;
    while let Some(object) = stream.next() {
        object.ok()?;
        objects.push(text.get(start..stream.byte_offset())?);
        start = stream.byte_offset();
    }
    Some(objects)
}

fn read_yaml(text: &str) -> Result<Vec<Document>, Error> {
    let mut builder = Builder::default();
    let read = Parser::new_from_str(text).load(&mut builder, true);
    match (builder.error, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(from_scan(&error)),
        (None, Ok(())) => Ok(builder.documents),
    }
}

fn from_scan(error: &ScanError) -> Error {
    Error { line: error.marker().line(), problem: format!("not YAML: {}", error.info()) }
}

/// A part of a document as it is written.
#[derive(Clone, Debug)]
struct Node {
    line: usize,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A list or a map that is not closed yet.
#[derive(Debug)]
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(String, usize)>,
    /// The keys of a map so far.
    keys: HashSet<String>,
    /// What `<<` brings in, where the map does not say otherwise.
    merged: Vec<(String, Node)>,
}

#[derive(Debug, Default)]
struct Builder {
    documents: Vec<Document>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    aliased: usize,
    error: Option<Error>,
}

impl<'input> SpannedEventReceiver<'input> for Builder {
    fn on_event(&mut self, event: Event<'input>, span: Span) {
        if self.error.is_some() {
            return;
        }
        let line = span.start.line();
        if let Err(problem) = self.event(event, line) {
            self.error = Some(Error { line, problem });
        }
    }
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.aliased = 0;
                self.root = None;
            }
            Event::DocumentEnd => {
                let root = self.root.take().unwrap_or(Node { line, content: Content::Scalar(Value::Null) });
                let line = root.line;
                let (value, lines) = root.apart();
                self.documents.push(Document { value, line, lines });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                self.close(Node { line, content: Content::Scalar(value) }, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.start(line, Content::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => self.start(line, Content::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.open.pop() {
                    if let Content::Map(entries) = &mut open.node.content {
                        add_missing(entries, open.merged);
                    }
                    self.close(open.node, open.anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let mut node = self.anchors.get(&anchor).ok_or("an alias to nothing that is complete")?.clone();
                node.line = line;
                self.count(node.size())?;
                self.close(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(())
    }

    fn start(&mut self, line: usize, content: Content, anchor: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH {
            return Err(format!("nested deeper than {DEPTH} levels"));
        }
        let node = Node { line, content };
        self.open.push(Open { node, anchor, key: None, keys: HashSet::new(), merged: Vec::new() });
        Ok(())
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.aliased += nodes;
        if self.aliased > ALIASED { Err(format!("aliases for more than {ALIASED} values")) } else { Ok(()) }
    }

    /// Puts a complete node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            // Anchors within anchors are copies of copies.
            self.count(node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.content, parent.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(_), None) => parent.key = Some((key(&node)?, node.line)),
            (Content::Map(_), Some((key, _))) if key == "<<" => merge(&mut parent.merged, node)?,
            (Content::Map(entries), Some((key, line))) => {
                if !parent.keys.insert(key.clone()) {
                    return Err(format!("the key `{key}` stands twice in one map"));
                }
                entries.push((key, Node { line, ..node }));
            }
            (Content::Scalar(_), _) => {}
        }
        Ok(())
    }
}

/// The merge key of YAML 1.1: of several maps the first one counts.
fn merge(merged: &mut Vec<(String, Node)>, from: Node) -> Result<(), String> {
    match from.content {
        Content::Map(entries) => {
            add_missing(merged, entries);
            Ok(())
        }
        Content::List(maps) => maps.into_iter().try_for_each(|map| merge(merged, map)),
        Content::Scalar(_) => Err("`<<` takes a map or a list of maps".into()),
    }
}

fn add_missing(entries: &mut Vec<(String, Node)>, from: Vec<(String, Node)>) {
    let known: HashSet<String> = entries.iter().map(|(key, _)| key.clone()).collect();
    entries.extend(from.into_iter().filter(|(key, _)| !known.contains(key)));
}

fn key(node: &Node) -> Result<String, String> {
    match &node.content {
        Content::Scalar(Value::String(key)) => Ok(key.clone()),
        Content::Scalar(value) => Ok(value.to_string()),
        Content::List(_) | Content::Map(_) => Err("a key has to be a plain value".into()),
    }
}

impl Node {
    fn size(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 1,
            Content::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Content::Map(entries) => 1 + entries.iter().map(|(_, node)| node.size()).sum::<usize>(),
        }
    }

    /// The value, and the lines of its parts.
    fn apart(self) -> (Value, Lines) {
        let mut lines = Lines { line: self.line, ..Lines::default() };
        let value = match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => {
                let (values, items) = items.into_iter().map(Self::apart).unzip();
                lines.items = items;
                Value::Array(values)
            }
            Content::Map(entries) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    let (value, part) = node.apart();
                    lines.fields.insert(key.clone(), part);
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        };
        (value, lines)
    }
}

/// What a scalar means.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    match core {
        Some("str" | "binary" | "timestamp") => return Ok(Value::String(text.to_owned())),
        Some("int" | "float" | "bool" | "null") => {
            let value = plain(text);
            return if value.is_string() { Err(format!("`{text}` does not fit its tag")) } else { Ok(value) };
        }
        _ => {}
    }
    if style == ScalarStyle::Plain && tag.is_none() { Ok(plain(text)) } else { Ok(Value::String(text.to_owned())) }
}

/// A plain scalar, by the rules of YAML 1.1 as go-yaml 2 has them.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
        return Value::String(text.to_owned());
    }
    integer(&text.replace('_', ""))
        .or_else(|| float(text))
        .map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    if negative {
        i64::from_str_radix(&format!("-{digits}"), base).ok().map(Number::from)
    } else {
        u64::from_str_radix(digits, base).ok().map(Number::from)
    }
}

fn float(text: &str) -> Option<Number> {
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
    if !text.chars().all(allowed) || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Number::from_f64(text.parse().ok()?)
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
                "a": true, "b": false, "c": "yes", "d": 31, "e": 8, "f": 1000, "g": 1.5, "h": null, "i": 1000.0, "j": -5
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
        assert_eq!(values, [&json!({"a": 1}), &json!(null), &json!({"b": 2}), &json!({"c": 3})]);
        assert_eq!(documents.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 3, 6, 7]);
    }

    #[test]
    fn anchors_aliases_and_merges_are_written_out() {
        assert_eq!(
            one("a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, k: 3}\nd: {k: 3, <<: *x}\n"),
            json!({
                "a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 3, "l": 2}, "d": {"k": 3, "l": 2}
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
    fn faults_name_their_line() {
        let fault = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(fault("a: 1\nb: 2\na: 3\n"), "line 3: the key `a` stands twice in one map");
        assert!(fault("a: [1, 2\nb: 3").starts_with("line "), "{}", fault("a: [1, 2\nb: 3"));
        assert!(fault(&"[".repeat(200)).contains("deeper than 128"), "{}", fault(&"[".repeat(200)));
        let bomb = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))
        });
        assert!(fault(&bomb).contains("aliases for more than 1000000 values"), "{}", fault(&bomb));
    }
}
