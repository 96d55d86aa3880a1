//! Manifests grown from few bytes: a [`Shape`] says what a part may be, the bytes choose.
//!
//! A list is a handful of different elements, each of which may stand there thousands of times with a number in its words
//! that counts up. So hostile sizes come from few bytes, and a mutation of one byte changes the size or one element.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

/// What a part of a manifest may be.
pub(crate) enum Shape {
    /// An object with any of these fields.
    Object(&'static [(&'static str, &'static Shape)]),
    /// A list of these.
    List(&'static Shape),
    /// An object with any keys and text values, such as labels.
    Map(&'static [&'static str]),
    /// One of these texts. `%` stands for the number of the element.
    Text(&'static [&'static str]),
    /// A selector in Calico's language.
    CalicoSelector,
    /// One of these numbers.
    Number(&'static [i64]),
    /// A port that counts up.
    Port,
    /// True or false.
    Flag,
    /// One of these.
    Either(&'static [&'static Shape]),
}

/// A part of a manifest before its elements are repeated.
enum Part {
    Leaf(Value),
    Port(u16),
    Object(Vec<(String, Part)>),
    List(Vec<(usize, Part)>),
    /// A map, or a term of a selector, with as many entries.
    Map(usize, String, Box<Part>),
    Terms(usize, String, &'static str),
}

/// How often an element may stand in a list, and how often it may rarely.
const REPEATS: [usize; 8] = [1, 1, 1, 1, 1, 2, 3, 8];
const LARGE_REPEATS: [usize; 8] = [20, 20, 64, 64, 130, 600, 3_000, 12_000];
/// Values of one manifest, with all repetitions: about the 3 MB that the API server takes.
const MAX_VALUES: usize = 80_000;
/// What does not belong where it is put.
const MISPLACED: [&str; 16] = [
    "null",
    "true",
    "-1",
    "1.5",
    "70000",
    "18446744073709551615",
    "1e400",
    "\"\"",
    "\"*\"",
    "\"!(((\"",
    "\"\\u0000\"",
    "[]",
    "[null]",
    "[[{}]]",
    "{}",
    "{\"matchLabels\":{\"\":\"\"}}",
];

/// A manifest of this shape.
pub(crate) struct Grown(Part);

impl Grown {
    /// Grows a part from bytes. What the bytes leave open is as small as can be.
    pub(crate) fn from(shape: &'static Shape, bytes: &mut Unstructured<'_>) -> Self {
        Self(part(shape, bytes, 0).unwrap_or(Part::Leaf(json!({}))))
    }

    /// The value with its repetitions. An element that stands more than once stands `fewer` times less.
    pub(crate) fn value(&self, fewer: usize) -> Value {
        expand(&self.0, 0, fewer, &mut MAX_VALUES.clone())
    }
}

fn part(shape: &'static Shape, bytes: &mut Unstructured<'_>, depth: usize) -> Result<Part> {
    // Rarely, something that does not belong here.
    if depth > 0 && bytes.ratio(1, 64)? {
        let misplaced = serde_json::from_str(bytes.choose(&MISPLACED)?);
        return Ok(Part::Leaf(misplaced.unwrap_or(Value::Null)));
    }
    Ok(match shape {
        Shape::Object(fields) => {
            let mut chosen = Vec::new();
            for (name, field) in *fields {
                if bytes.is_empty() {
                    break;
                }
                if bytes.ratio(3, 7)? {
                    chosen.push(((*name).to_owned(), part(field, bytes, depth + 1)?));
                }
            }
            if bytes.ratio(1, 40)? {
                chosen.push(("unknown".to_owned(), Part::Leaf(json!(1))));
            }
            Part::Object(chosen)
        }
        Shape::List(item) => {
            let mut items = Vec::new();
            for _ in 0..bytes.int_in_range(0..=3)? {
                if bytes.is_empty() {
                    break;
                }
                let times = repeats(bytes)?;
                items.push((times, part(item, bytes, depth + 1)?));
            }
            Part::List(items)
        }
        Shape::Map(words) => {
            let times = repeats(bytes)?;
            let key = (*bytes.choose(words)?).to_owned();
            Part::Map(times, key, Box::new(part(&Shape::Text(VALUES), bytes, depth + 1)?))
        }
        Shape::Text(words) => {
            let word = *bytes.choose(words)?;
            let times = if bytes.ratio(1, 200)? { repeats(bytes)? } else { 1 };
            Part::Leaf(word.repeat(times).into())
        }
        Shape::CalicoSelector => {
            let term = (*bytes.choose(TERMS)?).to_owned();
            let joint = *bytes.choose(&[" && ", " || ", " && !", " || (", ") && "])?;
            Part::Terms(repeats(bytes)?, term, joint)
        }
        Shape::Number(numbers) => Part::Leaf((*bytes.choose(numbers)?).into()),
        Shape::Port => Part::Port(bytes.arbitrary()?),
        Shape::Flag => Part::Leaf(bytes.arbitrary::<bool>()?.into()),
        Shape::Either(shapes) => return part(bytes.choose(shapes)?, bytes, depth),
    })
}

fn repeats(bytes: &mut Unstructured<'_>) -> Result<usize> {
    let repeats = if bytes.ratio(1, 48)? { LARGE_REPEATS } else { REPEATS };
    Ok(*bytes.choose(&repeats)?)
}

/// The value of a part that stands at this place of the lists around it.
fn expand(part: &Part, number: usize, fewer: usize, left: &mut usize) -> Value {
    *left = left.saturating_sub(1);
    let times = |times: usize| if times > 1 { times.saturating_sub(fewer).max(1) } else { times };
    match part {
        Part::Leaf(Value::String(text)) => numbered(text, number).into(),
        Part::Leaf(value) => value.clone(),
        Part::Port(first) => (usize::from(*first).wrapping_add(number) % 65_537).into(),
        Part::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), expand(field, number, fewer, left))).collect()
        }
        Part::List(items) => {
            let mut list = Vec::new();
            for (count, item) in items {
                for at in 0..times(*count) {
                    if *left == 0 {
                        return list.into();
                    }
                    list.push(expand(item, number + at, fewer, left));
                }
            }
            list.into()
        }
        Part::Map(count, key, value) => {
            let count = times(*count).min(*left);
            *left -= count;
            let key = if count > 1 && !key.contains('%') { format!("{key}%") } else { key.clone() };
            let each = (0..count).map(|at| (numbered(&key, number + at), expand(value, number + at, fewer, &mut 1)));
            each.collect::<Map<_, _>>().into()
        }
        Part::Terms(count, term, joint) => {
            let count = times(*count).min(*left);
            *left -= count;
            let terms: Vec<String> = (0..count).map(|at| numbered(term, number + at)).collect();
            terms.join(joint).into()
        }
    }
}

/// The text with a number in place of each `%`. Addresses stay addresses.
fn numbered(text: &str, number: usize) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    if text.contains("%.%.%") {
        let address = format!("{}.{}.{}", number / 65_536 % 256, number / 256 % 256, number % 256);
        return text.replace("%.%.%", &address);
    }
    text.replace('%', &number.to_string())
}

/// Values of labels.
pub(crate) const VALUES: &[&str] = &[
    "a",
    "a%",
    "isolated",
    "standard",
    "shop",
    "kube-dns",
    "kube-system",
    "",
    "disabled",
    "applied",
    "2026-01-01T00:00:00Z",
    "x_%",
];

/// Terms of Calico's selectors.
const TERMS: &[&str] = &[
    "all()",
    "global()",
    "app == 'a'",
    "app == 'a%'",
    "app != 'a'",
    "has(k%)",
    "!has(k%)",
    "k% == 'v'",
    "app in {'a', 'b%'}",
    "app not in {'a', 'b%'}",
    "app contains 'a'",
    "app starts with 'a%'",
    "app ends with \"b\"",
    "(app == 'a%')",
    "!(app == 'a')",
    "projectcalico.org/namespace == 'shop'",
    "pcns.team == 'a%'",
    "projectcalico.org/name == 'kube-system'",
    "k8s-app == 'kube-dns'",
    "",
    "((",
    "!!!!!!app == 'a'",
    "app == 'a' && (k% == 'b' || has(c))",
];
