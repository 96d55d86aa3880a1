//! A strict reader of the XML that reports have: elements, attributes in double quotes, text and references.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
}

impl Element {
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Reads a document. Panics with the rest of it where it is not well-formed.
pub(crate) fn read(document: &str) -> Element {
    let is_allowed = |letter: char| matches!(letter, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(document.chars().all(is_allowed), "a character that XML does not allow");
    let rest = document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
    let (element, rest) = element(rest);
    assert_eq!(rest.trim(), "", "more than one root");
    element
}

fn element(text: &str) -> (Element, &str) {
    let rest = text.strip_prefix('<').unwrap_or_else(|| panic!("no element: {text}"));
    let (name, mut rest) = name(rest);
    let mut element = Element { name, ..Element::default() };
    loop {
        let inner = rest.trim_start();
        if let Some(rest) = inner.strip_prefix("/>") {
            return (element, rest);
        }
        if let Some(after) = inner.strip_prefix('>') {
            rest = after;
            break;
        }
        assert!(inner.len() < rest.len(), "no space before an attribute: {rest}");
        let (attribute, after) = self::name(inner);
        let (value, after) = after.strip_prefix("=\"").unwrap().split_once('"').unwrap();
        assert!(!value.contains('\n'), "a line break in an attribute is read as a space");
        assert!(element.attributes.insert(attribute, unescaped(value)).is_none(), "an attribute twice: {inner}");
        rest = after;
    }
    loop {
        let (before, after) = rest.split_at(rest.find('<').unwrap());
        element.text.push_str(&unescaped(before));
        if let Some(after) = after.strip_prefix("</") {
            let after = after.strip_prefix(&*element.name).unwrap_or_else(|| panic!("{} is not closed", element.name));
            return (element, after.strip_prefix('>').unwrap());
        }
        let (child, after) = self::element(after);
        element.children.push(child);
        rest = after;
    }
}

fn name(text: &str) -> (String, &str) {
    let end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-')).unwrap();
    assert!(end > 0, "no name: {text}");
    (text[..end].to_owned(), &text[end..])
}

fn unescaped(text: &str) -> String {
    assert!(!text.contains(['<', '>']), "{text}");
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (reference, rest) = part.split_once(';').unwrap_or_else(|| panic!("an open reference: {part}"));
        out.push(match reference {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => char::from_u32(number.strip_prefix('#').unwrap().parse().unwrap()).unwrap(),
        });
        out.push_str(rest);
    }
    out
}
