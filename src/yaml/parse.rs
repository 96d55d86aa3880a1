//! Parses a YAML document with the place of each part.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput};

use super::tree::Builder;
use super::{Document, Error, Mark, scalar};

/// Maximum nesting for the parser. The tree has a lower limit with a clearer message.
const MAX_NESTING: usize = 1024;

/// Maximum number of places in a document where text is replaced by spaces. Each one costs another pass.
const MAX_BLANKED_PLACES: usize = 16;

/// Reads the first document of a text, as go-yaml does. `kubectl` drops the others silently.
pub(super) fn read(text: &str) -> Result<Document, Error> {
    with_text_blanked(text.strip_prefix('\u{feff}').unwrap_or(text), attempt)
}

/// Parses a text that has tabs between the parts of a flow collection, or a comment without a space before it, as in
/// `[a]#b`. The parser rejects both, and go-yaml accepts them. They are replaced by as many spaces, so the positions in
/// the text are kept.
pub(super) fn with_text_blanked<T>(text: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, Error> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_BLANKED_PLACES {
        match parse(&text) {
            Err(Problem {
                kind: Some(ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation), line, ..
            }) => {
                text = Cow::Owned(without_tabs(&text, line));
            }
            Err(Problem { kind: Some(ErrorKind::CommentNotSeparated), at: Some(at), .. })
                if text.get(at..).is_some() =>
            {
                text = Cow::Owned(without_comment(&text, at));
            }
            Err(Problem { line, problem, .. }) => return Err(Error { line, problem }),
            Ok(parsed) => return Ok(parsed),
        }
    }
    parse(&text).map_err(|Problem { line, problem, .. }| Error { line, problem })
}

/// An error of the parser or of the tree.
#[derive(Debug)]
pub(super) struct Problem {
    line: usize,
    problem: String,
    /// The error kind of the parser. None if the error comes from the tree.
    kind: Option<ErrorKind>,
    /// The byte at which the parser stopped.
    at: Option<usize>,
}

impl Problem {
    /// An error that comes from the tree.
    pub(super) fn of_tree(line: usize, problem: String) -> Self {
        Self { line, problem, kind: None, at: None }
    }
}

/// The parser of a document.
pub(super) fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = granit_parser::options! {
        bom_inside_document_as_content: true,
        block_nesting_limit: MAX_NESTING,
        flow_nesting_limit: MAX_NESTING,
    };
    options.set_emit_comments(false);
    Parser::new_from_str_with_options(text, options)
}

fn attempt(text: &str) -> Result<Document, Problem> {
    let mut events = parser(text);
    let mut builder = Builder::default();
    let mut last = 1;
    while let Some(event) = events.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) if builder.is_complete() => {
                builder.drop_text(error.marker().line(), AFTER_THE_END.to_owned());
                break;
            }
            Err(error) => return Err(not_yaml(&error)),
        };
        let line = span.start.line();
        let mark = Mark { line, column: span.start.col() + 1 };
        last = line;
        let read = match event {
            Event::Scalar(text, style, anchor, tag) => match scalar::read(&text, style, tag.as_deref()) {
                Ok(_) if &*text == "<<" && style == ScalarStyle::Plain && tag.is_none() => {
                    builder.merge_key(mark, anchor)
                }
                Ok(value) => builder.scalar(value, mark, anchor),
                Err(problem) => Err(problem),
            },
            Event::SequenceStart(_, anchor, _) => builder.start_list(mark, anchor),
            Event::MappingStart(_, anchor, _) => builder.start_map(mark, anchor),
            Event::SequenceEnd | Event::MappingEnd => builder.end(),
            Event::Alias(anchor) => builder.alias(anchor, mark),
            Event::DocumentEnd => {
                if let Some(line) = next_content(&mut events) {
                    builder.drop_text(line, AFTER_THE_END.to_owned());
                }
                break;
            }
            _ => Ok(()),
        };
        read.map_err(|problem| Problem::of_tree(line, problem))?;
    }
    Ok(builder.document(last))
}

const AFTER_THE_END: &str = "kubectl ignores this text after the end of the document; start another one with `---`";

/// Replaces tabs by spaces in the indentation of this line, and of the following lines that are indented with tabs.
fn without_tabs(text: &str, line: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_over = false;
    for (number, part) in text.split_inclusive('\n').enumerate() {
        let content = part.trim_start_matches([' ', '\t']);
        let (indentation, _) = part.split_at(part.len() - content.len());
        is_over |= number >= line && !indentation.contains('\t') && !content.trim().is_empty();
        if number + 1 >= line && !is_over {
            out.push_str(&indentation.replace('\t', " "));
            out.push_str(content);
        } else {
            out.push_str(part);
        }
    }
    out
}

/// Replaces the comment at this byte by spaces.
fn without_comment(text: &str, at: usize) -> String {
    let (before, comment) = text.split_at(at);
    let length = comment.find('\n').unwrap_or(comment.len());
    format!("{before}{}{}", " ".repeat(length), comment.get(length..).unwrap_or_default())
}

/// The line of the text that follows the document, if any.
fn next_content<'a>(events: &mut Parser<'a, impl granit_parser::BorrowedInput<'a>>) -> Option<usize> {
    loop {
        match events.next_event()? {
            Ok((Event::StreamEnd, _)) => return None,
            Ok((Event::DocumentStart(..), span)) => return Some(span.start.line()),
            Ok(_) => {}
            Err(error) => return Some(error.marker().line()),
        }
    }
}

pub(super) fn not_yaml(error: &ScanError) -> Problem {
    let problem = format!("not YAML: {}", error.info());
    let (line, at) = (error.marker().line(), error.marker().byte_offset());
    Problem { line, problem, kind: Some(error.kind().clone()), at }
}
