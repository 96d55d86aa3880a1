//! Finds the splices of one operation on one document.

use std::ops::Range;

use crate::yaml::emit::Layout;
use crate::yaml::operation::Operation;
use crate::yaml::ordered::Ordered;
use crate::yaml::spans::{Content, Entry, Node};
use crate::yaml::split::Format;

/// A replacement of a range of the text.
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Writes the splices of one operation on one document.
pub(super) struct Editor<'t> {
    pub(super) text: &'t str,
    pub(super) layout: Layout,
}

impl Editor<'_> {
    /// Returns the splices of an operation.
    pub(super) fn splices(&self, root: &Node, steps: &[String], operation: &Operation) -> Result<Vec<Splice>, String> {
        let Some((last, parents)) = steps.split_last() else {
            return Err("the patch replaces the document".to_owned());
        };
        let mut parent = root;
        for step in parents {
            untouched(parent)?;
            parent = match &parent.content {
                Content::Map { entries, .. } => &written(entries, step)?.ok_or_else(|| not_written(step))?.value,
                Content::List { items, .. } => {
                    step.parse().ok().and_then(|at: usize| items.get(at)).ok_or_else(|| not_written(step))?
                }
                Content::Scalar { .. } => return Err(not_written(step)),
            };
        }
        untouched(parent)?;
        match (&parent.content, operation) {
            (Content::Map { entries, is_flow }, Operation::Add { value, .. }) => match written(entries, last)? {
                Some(entry) => self.replace(entry, value, *is_flow),
                None => self.insert_entry((parent, entries, *is_flow), last, value),
            },
            (Content::Map { entries, is_flow }, Operation::Replace { value, .. }) => {
                let entry = written(entries, last)?.ok_or_else(|| not_written(last))?;
                self.replace(entry, value, *is_flow)
            }
            (Content::Map { entries, is_flow }, Operation::Remove { .. }) => {
                let at = entries.iter().position(|entry| entry.key == *last).ok_or_else(|| not_written(last))?;
                let parts: Vec<Range<usize>> =
                    entries.iter().map(|entry| entry.key_range.start..entry.value.range.end).collect();
                let starts: Vec<usize> = parts.iter().map(|part| part.start).collect();
                self.remove((parent, *is_flow), &parts, &starts, at)
            }
            (Content::List { items, is_flow }, Operation::Add { value, .. }) => {
                let at = if last == "-" { Some(items.len()) } else { last.parse().ok() };
                let at = at.filter(|at| *at <= items.len()).ok_or_else(|| not_written(last))?;
                self.insert_item((parent, items, *is_flow), at, value)
            }
            (Content::List { items, is_flow }, Operation::Remove { .. }) => {
                let at = last.parse().ok().filter(|at| *at < items.len()).ok_or_else(|| not_written(last))?;
                let parts: Vec<Range<usize>> = items.iter().map(|item| item.range.clone()).collect();
                let start = |item: &Node| if *is_flow { Some(item.range.start) } else { dash(self.text, item) };
                let starts: Vec<usize> = items.iter().map(|item| start(item).ok_or(DASH)).collect::<Result<_, _>>()?;
                self.remove((parent, *is_flow), &parts, &starts, at)
            }
            (Content::List { .. }, Operation::Replace { .. }) | (Content::Scalar { .. }, _) => Err(not_written(last)),
        }
    }

    /// Sets the value of an existing key.
    fn replace(&self, entry: &Entry, value: &Ordered, is_flow: bool) -> Result<Vec<Splice>, String> {
        let old = &entry.value;
        untouched(old)?;
        if matches!(old.content, Content::Scalar { is_block: true }) {
            return Err(format!("the value of `{}` is a block scalar", entry.key));
        }
        let after_colon = self.text.get(entry.key_range.end..).and_then(|rest| rest.find(':'));
        let after_colon = entry.key_range.end + after_colon.ok_or("the key has no colon")? + 1;
        let is_block =
            matches!(old.content, Content::Map { is_flow: false, .. } | Content::List { is_flow: false, .. });
        // The value of a block starts on the next line, so everything after the colon goes with it.
        let range = if is_block || old.range.is_empty() {
            after_colon..old.range.end.max(after_colon)
        } else {
            old.range.clone()
        };
        self.without_comments(&range)?;
        if is_flow || !value.has_parts() {
            let space = if range.start == after_colon { " " } else { "" };
            return Ok(vec![Splice { range, text: format!("{space}{}", self.layout.flow(value)) }]);
        }
        let lines = self.layout.entry(&entry.key, value, column(self.text, entry.key_range.start));
        let lines: String = lines.iter().skip(1).map(|line| format!("{}{line}", self.layout.newline)).collect();
        let end = self.line_end(range.end);
        // A comment after the value stays on the line of the key.
        Ok(vec![Splice { range: after_colon..range.end, text: String::new() }, Splice { range: end..end, text: lines }])
    }

    fn insert_entry(
        &self,
        (map, entries, is_flow): (&Node, &[Entry], bool),
        key: &str,
        value: &Ordered,
    ) -> Result<Vec<Splice>, String> {
        if is_flow {
            let last = entries.last().map(|entry| entry.key_range.start..entry.value.range.end);
            let text = self.flow_part(map, last.as_ref(), |spread| match spread {
                Some((indentation, step)) => self.layout.spread_entry(key, value, indentation, step),
                None => self.layout.flow_entry(key, value),
            });
            return Ok(vec![self.append_to_flow(map, last, text)]);
        }
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err(not_written(key)) };
        let lines = self.layout.entry(key, value, column(self.text, first.key_range.start));
        Ok(vec![self.lines_after(last.value.range.end.max(last.key_range.end), &lines)])
    }

    fn insert_item(
        &self,
        (list, items, is_flow): (&Node, &[Node], bool),
        at: usize,
        value: &Ordered,
    ) -> Result<Vec<Splice>, String> {
        if is_flow {
            let next = items.get(at);
            let near = next.or(items.last()).map(|node| node.range.clone());
            let text = self.flow_part(list, near.as_ref(), |spread| match spread {
                Some((indentation, step)) => self.layout.spread(value, indentation, step),
                None => self.layout.flow(value),
            });
            return match next {
                None => Ok(vec![self.append_to_flow(list, near, text)]),
                Some(next) => {
                    untouched(next)?;
                    let text = format!("{text}{}", self.separator(list, &next.range));
                    Ok(vec![Splice { range: next.range.start..next.range.start, text }])
                }
            };
        }
        let first = items.first().and_then(|first| dash(self.text, first)).ok_or(DASH)?;
        let lines = self.layout.item(value, column(self.text, first));
        if let Some(before) = at.checked_sub(1).and_then(|before| items.get(before)) {
            let end = before.range.end.max(dash(self.text, before).map_or(0, |dash| dash + 1));
            return Ok(vec![self.lines_after(end, &lines)]);
        }
        let mut start = self.line_start(first);
        if !self.text.get(start..first).is_some_and(|before| before.trim().is_empty()) {
            return Err("the list starts on the line of another list".to_owned());
        }
        // Comments above the first item stay with it.
        while let Some(previous) = start.checked_sub(1).map(|end| self.line_start(end)) {
            if !self.text.get(previous..start).is_some_and(|line| line.trim_start().starts_with('#')) {
                break;
            }
            start = previous;
        }
        let text: String = lines.iter().map(|line| format!("{line}{}", self.layout.newline)).collect();
        Ok(vec![Splice { range: start..start, text }])
    }

    /// Removes one of the parts of a list or a map. The parts start at `starts`, with their dashes.
    fn remove(
        &self,
        (parent, is_flow): (&Node, bool),
        parts: &[Range<usize>],
        starts: &[usize],
        at: usize,
    ) -> Result<Vec<Splice>, String> {
        let (Some(part), Some(start)) = (parts.get(at), starts.get(at).copied()) else { return Err(not_written("-")) };
        let (previous, next) = (at.checked_sub(1).and_then(|at| parts.get(at)), starts.get(at + 1).copied());
        let empty = if matches!(parent.content, Content::List { .. }) { "[]" } else { "{}" };
        let mut text = String::new();
        let range = match (is_flow, previous, next) {
            (_, None, None) => {
                empty.clone_into(&mut text);
                if is_flow { parent.range.clone() } else { start..part.end }
            }
            (true, Some(previous), _) => previous.end..part.end,
            (true, None, Some(next)) => start..next,
            (false, ..) => {
                let line = self.line_start(start);
                let is_first = self.text.get(line..start).is_some_and(|before| before.trim().is_empty());
                match next {
                    // The next part moves behind the dash of the item.
                    Some(next) if !is_first => start..next,
                    None if !is_first => return Err("the part is on the line of another part".to_owned()),
                    _ => line..self.next_line(part.end.max(start + 1)),
                }
            }
        };
        self.without_comments(&range)?;
        Ok(vec![Splice { range, text }])
    }

    /// Writes a part for a flow collection: on several lines for JSON with each part on its own line, otherwise on one.
    fn flow_part(
        &self,
        parent: &Node,
        near: Option<&Range<usize>>,
        write: impl Fn(Option<(&str, &str)>) -> String,
    ) -> String {
        let near = near.filter(|near| self.layout.format == Format::Json && self.is_spread(parent, near));
        let Some(near) = near else { return write(None) };
        let (outer, inner) = (self.indentation(parent.range.start), self.indentation(near.start));
        let step = inner.strip_prefix(outer).filter(|step| !step.is_empty()).unwrap_or("  ");
        write(Some((inner, step)))
    }

    fn append_to_flow(&self, parent: &Node, last: Option<Range<usize>>, text: String) -> Splice {
        match last {
            None => Splice { range: parent.range.start + 1..parent.range.start + 1, text },
            Some(last) => {
                Splice { range: last.end..last.end, text: format!("{}{text}", self.separator(parent, &last)) }
            }
        }
    }

    /// Returns the text between two parts of a flow collection.
    fn separator(&self, parent: &Node, near: &Range<usize>) -> String {
        if self.is_spread(parent, near) {
            format!(",{}{}", self.layout.newline, self.indentation(near.start))
        } else {
            ", ".to_owned()
        }
    }

    /// Returns true if a part of a flow collection is not on the line on which the collection starts.
    fn is_spread(&self, parent: &Node, near: &Range<usize>) -> bool {
        self.text.get(parent.range.start..near.start).is_some_and(|before| before.contains('\n'))
    }

    fn lines_after(&self, position: usize, lines: &[String]) -> Splice {
        let end = self.line_end(position);
        Splice { range: end..end, text: lines.iter().map(|line| format!("{}{line}", self.layout.newline)).collect() }
    }

    /// Fails if a range has a comment.
    fn without_comments(&self, range: &Range<usize>) -> Result<(), String> {
        let removed = self.text.get(range.clone()).unwrap_or_default();
        match removed.lines().find(|line| line.trim_start().starts_with('#') || line.contains(" #")) {
            Some(line) => Err(format!("the edit would delete a comment: `{}`", line.trim())),
            None => Ok(()),
        }
    }

    /// The indentation of the line with this position.
    fn indentation(&self, position: usize) -> &str {
        let line = self.text.get(self.line_start(position)..).unwrap_or_default();
        line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
    }

    fn line_start(&self, position: usize) -> usize {
        line_start(self.text, position)
    }

    /// The end of the line with this position, before its line break.
    fn line_end(&self, position: usize) -> usize {
        let rest = self.text.get(position..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        position + line.strip_suffix('\r').unwrap_or(line).len()
    }

    /// The start of the line after the one with this position, or the end of the text.
    fn next_line(&self, position: usize) -> usize {
        let rest = self.text.get(position..).unwrap_or_default();
        position + rest.find('\n').map_or(rest.len(), |at| at + 1)
    }
}

const DASH: &str = "the dash of an item was not found";

fn not_written(step: &str) -> String {
    format!("`{step}` is not written in this document")
}

/// Finds a key of a map. Fails if the map has it twice.
fn written<'n>(entries: &'n [Entry], key: &str) -> Result<Option<&'n Entry>, String> {
    let mut found = entries.iter().filter(|entry| entry.key == key);
    match (found.next(), found.next()) {
        (entry, None) => Ok(entry),
        (_, Some(_)) => Err(format!("the key `{key}` is written twice")),
    }
}

/// Fails if a part has an anchor or a tag, or is an alias.
fn untouched(node: &Node) -> Result<(), String> {
    match node.property {
        None => Ok(()),
        Some(property) => Err(format!("a part to edit has {property}")),
    }
}

fn line_start(text: &str, position: usize) -> usize {
    text.get(..position).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// The column of a position, from 0, in characters.
pub(super) fn column(text: &str, position: usize) -> usize {
    let line = text.get(line_start(text, position)..position).unwrap_or_default();
    line.trim_start_matches('\u{feff}').chars().count()
}

/// Finds the dash before an item of a block list.
pub(super) fn dash(text: &str, item: &Node) -> Option<usize> {
    let mut end = item.range.start;
    // The first key of an indentless list item is where its map starts, so the dash is before it in the text.
    loop {
        let start = line_start(text, end);
        let line = text.get(start..end)?;
        let is_comment = line.trim_start().starts_with('#');
        let code = if is_comment { "" } else { line.split(" #").next().unwrap_or(line) };
        let code = code.trim_end();
        if code.ends_with('-') {
            return Some(start + code.len() - 1);
        }
        if !code.trim().is_empty() {
            return None;
        }
        end = start.checked_sub(1)?;
    }
}
