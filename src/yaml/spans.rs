//! The parts of a document with their positions in its text.

use std::ops::Range;

use granit_parser::{Event, ScalarStyle, StructureStyle};

use super::parse::{Problem, not_yaml, parser, with_text_blanked};
use super::tree::{MAX_DEPTH, key_of};
use super::{Error, scalar};

/// A part of a document. Positions are bytes in the text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// From the first to the last character of the value, without an anchor, a tag and comments. Empty if the value is
    /// not written.
    pub(super) range: Range<usize>,
    /// The anchor, the tag or the alias of the part.
    pub(super) property: Option<&'static str>,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A scalar or an alias.
    Scalar {
        is_block: bool,
    },
    List {
        is_flow: bool,
        items: Vec<Node>,
    },
    Map {
        is_flow: bool,
        entries: Vec<Entry>,
    },
}

/// A key of a map with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_range: Range<usize>,
    pub(super) value: Node,
}

/// A list or a map whose end has not been reached.
struct Open {
    node: Node,
    /// The key whose value comes next.
    key: Option<(String, Range<usize>)>,
}

/// Parses a document.
pub(super) fn read(text: &str) -> Result<Node, Error> {
    let without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut root = with_text_blanked(without_mark, attempt)?;
    shift(&mut root, text.len() - without_mark.len());
    Ok(root)
}

fn attempt(text: &str) -> Result<Node, Problem> {
    let mut open: Vec<Open> = Vec::new();
    let mut events = parser(text);
    while let Some(event) = events.next_event() {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        let line = span.start.line();
        let problem = |problem: String| Problem::of_tree(line, problem);
        let range = span.byte_range().ok_or_else(|| problem("the parser reports no position".to_owned()))?;
        let property = |anchor: usize, is_tagged: bool| match (anchor, is_tagged) {
            (0, false) => None,
            (0, true) => Some("a tag"),
            _ => Some("an anchor"),
        };
        let finished = match event {
            Event::Scalar(value, style, anchor, tag) => {
                let awaits_key = |open: &Open| open.key.is_none() && matches!(open.node.content, Content::Map { .. });
                if let Some(open) = open.last_mut().filter(|open| awaits_key(open)) {
                    let key = scalar::read(&value, style, tag.as_deref()).and_then(|key| key_of(&key));
                    open.key = Some((key.map_err(problem)?, range));
                    continue;
                }
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let range = if is_block { trimmed(text, range) } else { range };
                Node { range, property: property(anchor, tag.is_some()), content: Content::Scalar { is_block } }
            }
            Event::Alias(_) => Node { range, property: Some("an alias"), content: Content::Scalar { is_block: false } },
            Event::SequenceStart(style, anchor, tag) => {
                let content = Content::List { is_flow: style == StructureStyle::Flow, items: Vec::new() };
                let node = Node { range, property: property(anchor, tag.is_some()), content };
                open.push(Open { node, key: None });
                continue;
            }
            Event::MappingStart(style, anchor, tag) => {
                let content = Content::Map { is_flow: style == StructureStyle::Flow, entries: Vec::new() };
                let node = Node { range, property: property(anchor, tag.is_some()), content };
                open.push(Open { node, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(ended) => closed(ended.node, range.end),
                None => continue,
            },
            _ => continue,
        };
        if open.len() > MAX_DEPTH {
            return Err(problem(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let Some(parent) = open.last_mut() else { return Ok(finished) };
        match (&mut parent.node.content, parent.key.take()) {
            (Content::List { items, .. }, _) => items.push(finished),
            (Content::Map { entries, .. }, Some((key, key_range))) => {
                entries.push(Entry { key, key_range, value: finished });
            }
            _ => return Err(problem("a key must be a scalar".to_owned())),
        }
    }
    Err(Problem::of_tree(1, "the document is empty".to_owned()))
}

/// Sets the end of a list or a map. The parser reports the end of a block where the next part starts.
fn closed(mut node: Node, end: usize) -> Node {
    node.range.end = match &node.content {
        Content::List { is_flow: false, items } => items.last().map_or(end, |item| item.range.end),
        Content::Map { is_flow: false, entries } => entries.last().map_or(end, |entry| entry.value.range.end),
        _ => end,
    };
    node
}

/// Returns a range without the white space at its end.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let length = text.get(range.clone()).map_or(0, |text| text.trim_end().len());
    range.start..range.start + length
}

fn shift(node: &mut Node, by: usize) {
    let moved = |range: &Range<usize>| range.start + by..range.end + by;
    node.range = moved(&node.range);
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::List { items, .. } => items.iter_mut().for_each(|item| shift(item, by)),
        Content::Map { entries, .. } => {
            for entry in entries {
                entry.key_range = moved(&entry.key_range);
                shift(&mut entry.value, by);
            }
        }
    }
}
