//! Builds a document from the parts that a parser reports.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{Document, Error, Mark, Places};

/// Maximum nesting of a document, as in `serde_json`.
pub(super) const MAX_DEPTH: usize = 128;
/// Maximum number of values that the aliases of a document may add to it.
const MAX_ALIASED: usize = 1_000_000;

/// Number of keys from which a map has a hash index.
const FEW_KEYS: usize = 16;

/// A part of a document with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    mark: Mark,
    content: Content,
    /// True for an unquoted `<<`, which merges maps if it is a key.
    is_merge: bool,
}

#[derive(Clone, Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A list or a map whose end has not been reached.
#[derive(Debug)]
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    /// For each entry of a map: true if the map itself has the key, false if a merge added it.
    is_own: Vec<bool>,
    /// The hash index of a map with many keys: the position of each key.
    positions: HashMap<String, usize>,
}

#[derive(Debug)]
enum Key {
    Name(String, Mark),
    Merge,
}

/// Builds a document from its parts in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    aliased: usize,
    dropped: Vec<Error>,
}

impl Builder {
    /// Returns the finished document. `line` is used for a document without content.
    pub(super) fn document(self, line: usize) -> Document {
        let root = self.root.unwrap_or_else(|| Node::scalar(Value::Null, Mark { line, column: 1 }));
        let line = root.mark.line;
        let (value, places) = root.apart();
        Document { value, line, dropped: self.dropped, item: None, places }
    }

    /// Returns true if the document has all its content.
    pub(super) fn is_complete(&self) -> bool {
        self.root.is_some()
    }

    /// Reports text that `kubectl` drops.
    pub(super) fn drop_text(&mut self, line: usize, problem: String) {
        self.dropped.push(Error { line, problem });
    }

    pub(super) fn scalar(&mut self, value: Value, mark: Mark, anchor: usize) -> Result<(), String> {
        self.close(Node::scalar(value, mark), anchor)
    }

    pub(super) fn merge_key(&mut self, mark: Mark, anchor: usize) -> Result<(), String> {
        self.close(Node { is_merge: true, ..Node::scalar(Value::String("<<".into()), mark) }, anchor)
    }

    pub(super) fn start_list(&mut self, mark: Mark, anchor: usize) -> Result<(), String> {
        self.start(Content::List(Vec::new()), mark, anchor)
    }

    pub(super) fn start_map(&mut self, mark: Mark, anchor: usize) -> Result<(), String> {
        self.start(Content::Map(Vec::new()), mark, anchor)
    }

    fn start(&mut self, content: Content, mark: Mark, anchor: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let node = Node { mark, content, is_merge: false };
        self.open.push(Open { node, anchor, key: None, is_own: Vec::new(), positions: HashMap::new() });
        Ok(())
    }

    /// Ends the innermost list or map.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(open) => self.close(open.node, open.anchor),
            None => Ok(()),
        }
    }

    pub(super) fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), String> {
        let mut node = self.anchors.get(&anchor).ok_or("an alias refers to the value that contains it")?.clone();
        node.mark = mark;
        self.count(node.size())?;
        self.close(node, 0)
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            Err(format!("aliases expand to more than {MAX_ALIASED} values"))
        } else {
            Ok(())
        }
    }

    /// Adds a complete node to the list or map around it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            // Nested anchors store copies of copies, so all of them count.
            self.count(node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.content, parent.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(_), None) if node.is_merge => parent.key = Some(Key::Merge),
            (Content::Map(_), None) => parent.key = Some(Key::Name(key(&node)?, node.mark)),
            (Content::Map(_), Some(Key::Merge)) => parent.merge(node)?,
            (Content::Map(_), Some(Key::Name(key, mark))) => {
                let repeats = parent.set(&key, Node { mark, ..node }, true);
                if repeats {
                    self.drop_text(mark.line, format!("duplicate key `{key}`; only the last value is used"));
                }
            }
            (Content::Scalar(_), _) => {}
        }
        Ok(())
    }
}

impl Open {
    /// Sets a key of a map. Returns true if the map itself had it already.
    fn set(&mut self, key: &str, node: Node, is_own: bool) -> bool {
        let Content::Map(entries) = &mut self.node.content else { return false };
        let position = if self.positions.is_empty() {
            entries.iter().position(|(known, _)| known == key)
        } else {
            self.positions.get(key).copied()
        };
        if let Some((old, was_own)) = position.and_then(|at| Some((entries.get_mut(at)?, self.is_own.get_mut(at)?))) {
            let repeats = is_own && *was_own;
            *was_own |= is_own;
            old.1 = node;
            return repeats;
        }
        entries.push((key.to_owned(), node));
        self.is_own.push(is_own);
        if self.positions.is_empty() && entries.len() == FEW_KEYS {
            self.positions = entries.iter().enumerate().map(|(position, (key, _))| (key.clone(), position)).collect();
        } else if !self.positions.is_empty() {
            self.positions.insert(key.to_owned(), entries.len() - 1);
        }
        false
    }

    /// Applies the merge key of YAML 1.1. go-yaml 2 sets the merged keys at the position of `<<`, so they replace
    /// earlier keys of the map. If several maps are merged, the first one takes precedence.
    fn merge(&mut self, from: Node) -> Result<(), String> {
        match from.content {
            Content::Map(entries) => self.merge_map(entries),
            Content::List(maps) => {
                for map in maps.into_iter().rev() {
                    let Content::Map(entries) = map.content else { return Err(NOT_MERGEABLE.into()) };
                    self.merge_map(entries);
                }
            }
            Content::Scalar(_) => return Err(NOT_MERGEABLE.into()),
        }
        Ok(())
    }

    fn merge_map(&mut self, entries: Vec<(String, Node)>) {
        for (key, node) in entries {
            self.set(&key, node, false);
        }
    }
}

const NOT_MERGEABLE: &str = "`<<` must be a map or a list of maps";

fn key(node: &Node) -> Result<String, String> {
    match &node.content {
        Content::Scalar(value) => key_of(value),
        Content::List(_) | Content::Map(_) => Err("a key must be a scalar".into()),
    }
}

/// Returns a scalar as the key of a map.
pub(super) fn key_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(key) => Ok(key.clone()),
        Value::Null => Err("a key must not be null".into()),
        value => Ok(value.to_string()),
    }
}

impl Node {
    fn scalar(value: Value, mark: Mark) -> Self {
        Self { mark, content: Content::Scalar(value), is_merge: false }
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 1,
            Content::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Content::Map(entries) => 1 + entries.iter().map(|(_, node)| node.size()).sum::<usize>(),
        }
    }

    /// Splits the node into its value and the places of its parts.
    fn apart(self) -> (Value, Places) {
        let mut places = Places { mark: self.mark, ..Places::default() };
        let value = match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => {
                let (values, items) = items.into_iter().map(Self::apart).unzip();
                places.items = items;
                Value::Array(values)
            }
            Content::Map(entries) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    let (value, part) = node.apart();
                    places.fields.insert(key.clone(), part);
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        };
        (value, places)
    }
}
