//! Writes a value as YAML or JSON in a random layout.

use serde_json::Value;

/// Choices of a layout, used in turns.
pub(crate) struct Layout {
    choices: Vec<u8>,
    at: usize,
    comments: usize,
    /// True if comments may be written.
    pub(crate) has_comments: bool,
    newline: &'static str,
}

impl Layout {
    pub(crate) fn new(choices: Vec<u8>) -> Self {
        let mut layout = Self { choices, at: 0, comments: 0, has_comments: false, newline: "\n" };
        layout.has_comments = layout.pick(2) == 0;
        layout.newline = ["\n", "\n", "\r\n"][layout.pick(3)];
        layout
    }

    fn pick(&mut self, below: usize) -> usize {
        self.at += 1;
        usize::from(self.choices[self.at % self.choices.len()].wrapping_add((self.at / self.choices.len()) as u8))
            % below
    }

    /// A file with the value as one of its documents: the text, the position of the document and of the item.
    pub(crate) fn file(&mut self, value: &Value) -> (String, usize, Option<usize>) {
        if self.pick(5) == 0 {
            self.has_comments = false;
            return (self.json(value), 0, None);
        }
        let (value, item) = match self.pick(4) {
            0 => {
                let other = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
                (serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [other, value]}), Some(1))
            }
            _ => (value.clone(), None),
        };
        let newline = self.newline;
        let mut text = String::new();
        let number = self.pick(2);
        if number == 1 {
            text.push_str(&format!("a: 1{newline}---{newline}"));
        }
        text.push_str(&self.comment_line(0));
        text.push_str(&self.block(&value, 0));
        match self.pick(3) {
            0 => text.truncate(text.trim_end().len()),
            1 => text.push_str(&format!("---{newline}b: 2{newline}")),
            _ => {}
        }
        (text, number, item)
    }

    fn json(&mut self, value: &Value) -> String {
        let indent: &[u8] = [&b"  "[..], b"    ", b"\t", b""][self.pick(4)];
        if indent.is_empty() {
            return value.to_string();
        }
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
        serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut out, formatter)).unwrap();
        String::from_utf8(out).unwrap().replace('\n', self.newline)
    }

    fn comment(&mut self) -> String {
        if self.has_comments && self.pick(5) == 0 {
            self.comments += 1;
            return format!(" # comment-{}.", self.comments);
        }
        String::new()
    }

    fn comment_line(&mut self, column: usize) -> String {
        match self.comment() {
            comment if comment.is_empty() => comment,
            comment => format!("{}{}{}", " ".repeat(column), comment.trim_start(), self.newline),
        }
    }

    /// Writes a value as whole lines.
    fn block(&mut self, value: &Value, column: usize) -> String {
        let mut text = String::new();
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    text.push_str(&self.comment_line(column));
                    let head = format!("{}{}:", " ".repeat(column), self.string(key));
                    let step = match value {
                        Value::Array(_) => [0, 2, 3][self.pick(3)],
                        _ => [2, 2, 4][self.pick(3)],
                    };
                    text.push_str(&self.part(&head, value, column, column + step));
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    text.push_str(&self.comment_line(column));
                    let dash = format!("{}-", " ".repeat(column));
                    let is_block = matches!(item, Value::Object(fields) if !fields.is_empty());
                    if is_block && self.pick(3) > 0 {
                        // The first key is on the line of the dash.
                        let had = std::mem::replace(&mut self.has_comments, false);
                        let inner = self.block(item, column + 2);
                        self.has_comments = had;
                        text.push_str(&format!("{dash} {}", inner.trim_start()));
                    } else {
                        text.push_str(&self.part(&dash, item, column, column + 2));
                    }
                }
            }
            value => text.push_str(&format!("{}{}{}", " ".repeat(column), self.flow(value, None), self.newline)),
        }
        text
    }

    /// Writes a key or a dash with a value after it.
    fn part(&mut self, head: &str, value: &Value, column: usize, inner: usize) -> String {
        let is_block = match value {
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        let (comment, newline) = (self.comment(), self.newline);
        if is_block && self.pick(4) > 0 {
            format!("{head}{comment}{newline}{}", self.block(value, inner))
        } else if value.is_null() && self.pick(2) == 0 {
            format!("{head}{comment}{newline}")
        } else {
            let spread = (self.pick(3) == 0).then_some(column + 2);
            format!("{head} {}{comment}{newline}", self.flow(value, spread))
        }
    }

    /// Writes a value in flow style, on several lines if a column is given.
    fn flow(&mut self, value: &Value, spread: Option<usize>) -> String {
        let inner = spread.map(|column| column + 2);
        let (open, close, parts): (_, _, Vec<String>) = match value {
            Value::Object(fields) => {
                let part =
                    |(key, value): (&String, &Value)| format!("{}: {}", self.string(key), self.flow(value, inner));
                ('{', '}', fields.iter().map(part).collect())
            }
            Value::Array(items) => ('[', ']', items.iter().map(|item| self.flow(item, inner)).collect()),
            Value::String(text) => return self.string(text),
            other => return other.to_string(),
        };
        match spread {
            Some(column) if !parts.is_empty() => {
                let newline = format!("{}{}", self.newline, " ".repeat(column));
                let trailing = if self.pick(3) == 0 { "," } else { "" };
                format!("{open}{newline}{}{trailing}{newline}{close}", parts.join(&format!(",{newline}")))
            }
            _ => format!("{open}{}{close}", parts.join(", ")),
        }
    }

    fn string(&mut self, text: &str) -> String {
        let is_word =
            text.len() > 3 && text.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !text.starts_with('-');
        let is_reserved = ["true", "false", "null"].contains(&text);
        match self.pick(4) {
            0 if text.is_ascii() && !text.contains(['\'', '\n', '\\']) => format!("'{text}'"),
            1 | 2 if is_word && !is_reserved => text.to_owned(),
            _ => Value::from(text).to_string(),
        }
    }
}
