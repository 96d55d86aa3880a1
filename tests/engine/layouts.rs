//! Layouts of YAML, each with what `kubectl` reads in it.
//!
//! `layouts/recorded.jsonl` has one pair a line: the text, the documents that `kubectl` makes of it up to the first error, and
//! whether it ends in an error. `layouts/record.go` recorded the answers with the packages that `kubectl` is built from.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "../layouts/generate.rs"]
mod generate;

use portcullis::yaml;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Recorded {
    text: String,
    documents: Vec<Value>,
    #[serde(default)]
    error: bool,
}

/// The documents up to the first error, and whether there is one.
fn read(text: &str) -> (Vec<Value>, bool) {
    let mut documents = Vec::new();
    for document in yaml::read_each(text) {
        match document {
            Ok(document) => documents.push(document.value),
            Err(_) => return (documents, true),
        }
    }
    (documents, false)
}

fn recorded() -> Vec<Recorded> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/layouts/recorded.jsonl");
    let lines = std::fs::read_to_string(std::env::var("LAYOUTS").as_deref().unwrap_or(path)).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether both are the same. Go prints large floats without an exponent, and then they read as integers.
fn same(ours: &[Value], theirs: &[Value]) -> bool {
    fn equal(ours: &Value, theirs: &Value) -> bool {
        match (ours, theirs) {
            (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && !a.is_i64(),
            (Value::Array(a), Value::Array(b)) => same(a, b),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
            }
            // The line separator is a break of YAML 1.1: go-yaml keeps it in a scalar, and here it is folded to a space.
            (Value::String(a), Value::String(b)) => *a == b.replace('\u{2028}', " "),
            (a, b) => a == b,
        }
    }
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| equal(a, b))
}

/// Layouts that nobody writes and that are not read in the same way: `a:` or `-` before `,` and `?a` in a flow collection,
/// which go-yaml takes for text and for a key, and text behind a document that is one quoted or
/// block scalar or one flow collection.
fn is_known_to_differ(text: &str) -> bool {
    let pairs = || text.chars().zip(text.chars().skip(1));
    let is_flow =
        |text: &str| text.trim_start().trim_start_matches('\u{feff}').starts_with(['[', '{', '"', '\'', '|', '>']);
    pairs().any(|(a, b)| matches!(a, ':' | '-') && matches!(b, ',' | '[' | ']' | '{' | '}'))
        || text.contains('?')
        || text.split("\n---").any(is_flow)
}

#[test]
fn layouts_are_read_as_kubectl_reads_them() {
    let (mut agree, mut rejected_there, mut passed_over, mut wrong) = (0, 0, 0, Vec::new());
    for Recorded { text, documents, error } in recorded() {
        let (found, has_error) = read(&text);
        let found: Vec<Value> = found.into_iter().filter(|value| !value.is_null()).collect();
        if has_error == error && (error || same(&found, &documents)) {
            agree += 1;
        } else if error {
            // Nothing reaches a cluster from a text that kubectl rejects, so reading it does no harm.
            rejected_there += 1;
        } else if is_known_to_differ(&text) {
            passed_over += 1;
        } else {
            let errors = yaml::read_each(&text).into_iter().filter_map(Result::err);
            let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
            wrong.push(format!("{text:?}\n  kubectl {documents:?}\n  here    {found:?} {errors:?}"));
        }
    }
    println!(
        "{agree} agree, {} differ; {rejected_there} rejected by kubectl only, {passed_over} passed over",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(agree > 2000 && rejected_there < agree / 20 && passed_over < agree / 100, "the pairs say something");
}

/// Writes the generated texts, one JSON string a line, for `layouts/record.go`.
#[test]
#[ignore = "records nothing by itself"]
fn print_the_texts() {
    let count: u64 = std::env::var("COUNT").map_or(1500, |count| count.parse().unwrap());
    let texts: String = (0..count).map(|number| format!("{}\n", Value::from(generate::text(number)))).collect();
    std::fs::write(std::env::var("TEXTS").unwrap(), texts).unwrap();
}
