//! Writes a selector of the model in Calico's selector language.

use std::fmt::Write;

use crate::model::{NAME_LABEL, Operator, Owner, Requirement, Selector};

/// Writes a selector of the object's own labels. Returns None if the language cannot express it: for example, a string
/// cannot contain both kinds of quotes.
pub(in crate::dialect::calico) fn write(selector: &Selector) -> Option<String> {
    let mut text = String::new();
    write_to(&mut text, selector, false)?;
    Some(text)
}

fn write_to(text: &mut String, selector: &Selector, inner: bool) -> Option<()> {
    match selector {
        Selector::All(parts) if parts.is_empty() => text.push_str("all()"),
        Selector::Any(parts) if parts.is_empty() => text.push_str("!all()"),
        Selector::All(parts) => join(text, parts, " && ", inner)?,
        Selector::Any(parts) => join(text, parts, " || ", inner)?,
        Selector::Not(part) => {
            text.push_str("!(");
            write_to(text, part, false)?;
            text.push(')');
        }
        Selector::Label(label) => write_label(text, label)?,
    }
    Some(())
}

fn join(text: &mut String, parts: &[Selector], between: &str, inner: bool) -> Option<()> {
    if inner {
        text.push('(');
    }
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            text.push_str(between);
        }
        write_to(text, part, true)?;
    }
    if inner {
        text.push(')');
    }
    Some(())
}

fn write_label(text: &mut String, label: &Requirement) -> Option<()> {
    let Requirement { owner: Owner::Itself, key, operator } = label else { return None };
    // The key that Calico itself gives to the label.
    let key = if **key == *NAME_LABEL { "projectcalico.org/name" } else { key };
    match operator {
        Operator::In(values) => match values.as_slice() {
            [value] => write!(text, "{key} == {}", quoted(value)?).ok()?,
            values => write!(text, "{key} in {}", set(values)?).ok()?,
        },
        Operator::NotIn(values) => match values.as_slice() {
            [value] => write!(text, "{key} != {}", quoted(value)?).ok()?,
            values => write!(text, "{key} not in {}", set(values)?).ok()?,
        },
        Operator::Exists => write!(text, "has({key})").ok()?,
        Operator::Absent => write!(text, "!has({key})").ok()?,
        Operator::Contains(part) => write!(text, "{key} contains {}", quoted(part)?).ok()?,
        Operator::StartsWith(part) => write!(text, "{key} starts with {}", quoted(part)?).ok()?,
        Operator::EndsWith(part) => write!(text, "{key} ends with {}", quoted(part)?).ok()?,
    }
    Some(())
}

fn set(values: &[Box<str>]) -> Option<String> {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect::<Option<_>>()?;
    Some(format!("{{{}}}", values.join(", ")))
}

fn quoted(value: &str) -> Option<String> {
    match (value.contains('\''), value.contains('"')) {
        (false, _) => Some(format!("'{value}'")),
        (true, false) => Some(format!("\"{value}\"")),
        (true, true) => None,
    }
}
