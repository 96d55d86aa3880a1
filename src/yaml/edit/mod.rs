//! Applies a JSON patch to the text of a document and keeps everything else as written: comments, order, layout.
//!
//! Each operation becomes at most two splices of the text, at the positions that the parser reports. The result is
//! parsed again and compared with the expected value, so a layout that this module misreads is an error and never a
//! wrong text. Anchors, aliases and tags, and comments that would be lost, are errors too.

mod editor;

use serde_json::Value;

use self::editor::{Editor, column, dash};
use super::emit::Layout;
use super::operation::Operation;
use super::spans::{self, Content, Node};
use super::split::{self, Format};
use super::{Document, Error, read_each};

/// The reason why a text was not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EditError(String);

impl From<String> for EditError {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// Applies operations to one document of a text, or to one item of a list, and returns the whole text. `document` is
/// the position of the document as [`read_each`] counts, `item` the position in its list, and `expected` the value
/// that the result has to have.
///
/// # Errors
/// The text has a part that cannot be edited without loss, or the result does not have the expected value.
pub fn edit(
    text: &str,
    document: usize,
    item: Option<usize>,
    operations: &[Operation],
    expected: &Value,
) -> Result<String, EditError> {
    let mut edited = text.to_owned();
    for operation in reordered(operations) {
        edited = step(&edited, document, item, operation)?;
    }
    verify(text, &edited, (document, item), expected)?;
    Ok(edited)
}

/// Puts the removal of a field after the addition of another field of the same object, so that the object is never
/// empty in between. The result is the same.
fn reordered(operations: &[Operation]) -> Vec<&Operation> {
    let mut ordered: Vec<&Operation> = operations.iter().collect();
    for at in 1..ordered.len() {
        let Some([first, second]) = ordered.get_mut(at - 1..=at) else { continue };
        let (removed, added) = (first.steps(), second.steps());
        let is_field =
            |steps: &[String]| steps.last().is_some_and(|last| last != "-" && last.parse::<usize>().is_err());
        let are_siblings = removed.split_last().zip(added.split_last()).is_some_and(|(a, b)| a.1 == b.1 && a.0 != b.0);
        if matches!(first, Operation::Remove { .. })
            && matches!(second, Operation::Add { .. })
            && are_siblings
            && is_field(&removed)
            && is_field(&added)
        {
            std::mem::swap(first, second);
        }
    }
    ordered
}

/// Compares the edited text with the original one: one document has changed, to the expected value.
fn verify(
    before: &str,
    after: &str,
    (document, item): (usize, Option<usize>),
    expected: &Value,
) -> Result<(), EditError> {
    type Read = Result<Document, Error>;
    let wrong = || EditError("the edited text does not have the expected value; edit it by hand".to_owned());
    let (before, after) = (read_each(before), read_each(after));
    let value = |read: &Read| read.as_ref().ok().map(|document| document.value.clone());
    let dropped = |read: &Read| read.as_ref().map_or(0, |document| document.dropped.len());
    let is_same = |a: &Read, b: &Read| value(a) == value(b) && dropped(a) == dropped(b);
    if before.len() != after.len() {
        return Err(wrong());
    }
    for (position, (before, after)) in before.into_iter().zip(after).enumerate() {
        if position != document {
            if !is_same(&before, &after) {
                return Err(wrong());
            }
            continue;
        }
        let (Ok(before), Ok(after)) = (before, after) else { return Err(wrong()) };
        if before.dropped.len() != after.dropped.len() {
            return Err(wrong());
        }
        let (before, after) = (before.items(), after.items());
        let wanted = before
            .iter()
            .enumerate()
            .map(|(position, document)| if position == item.unwrap_or_default() { expected } else { &document.value });
        if !wanted.eq(after.iter().map(|document| &document.value)) {
            return Err(wrong());
        }
    }
    Ok(())
}

/// Applies one operation.
fn step(text: &str, document: usize, item: Option<usize>, operation: &Operation) -> Result<String, EditError> {
    let part = match split::parts(text).into_iter().nth(document) {
        Some(Ok(part)) => part,
        Some(Err(error)) => return Err(EditError(error.to_string())),
        None => return Err(EditError(format!("the text has no document {}", document + 1))),
    };
    let source = text.get(part.range.clone()).unwrap_or_default();
    let root = spans::read(source).map_err(|error| EditError(error.problem))?;
    let editor = Editor { text: source, layout: layout(source, &root, part.format) };
    let mut steps: Vec<String> = item.into_iter().flat_map(|item| ["items".to_owned(), item.to_string()]).collect();
    steps.extend(operation.steps());
    let mut splices = editor.splices(&root, &steps, operation)?;
    splices.sort_by_key(|splice| std::cmp::Reverse(splice.range.start));
    let mut edited = text.to_owned();
    for splice in splices {
        let range = splice.range.start + part.range.start..splice.range.end + part.range.start;
        edited.replace_range(range, &splice.text);
    }
    Ok(edited)
}

/// Returns the layout of a document: its line breaks, and the indentation of its first map and its first list.
fn layout(text: &str, root: &Node, format: Format) -> Layout {
    let (mut map_step, mut list_step) = (None, None);
    let mut nodes = vec![root];
    while let Some(node) = nodes.pop() {
        match &node.content {
            Content::Scalar { .. } => {}
            Content::List { items, .. } => nodes.extend(items.iter().rev()),
            Content::Map { entries, .. } => {
                for entry in entries.iter().rev() {
                    let key = column(text, entry.key_range.start);
                    match &entry.value.content {
                        Content::Map { is_flow: false, entries } => {
                            let inner = entries.first().map(|first| column(text, first.key_range.start));
                            map_step =
                                inner.and_then(|inner| inner.checked_sub(key)).filter(|step| *step > 0).or(map_step);
                        }
                        Content::List { is_flow: false, items } => {
                            let dash = items.first().and_then(|first| dash(text, first));
                            let inner = dash.map(|dash| column(text, dash));
                            list_step = inner.and_then(|inner| inner.checked_sub(key)).or(list_step);
                        }
                        _ => {}
                    }
                    nodes.push(&entry.value);
                }
            }
        }
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    Layout { format, newline, map_step: map_step.unwrap_or(2), list_step: list_step.unwrap_or(0) }
}
