//! YAML as `kubectl` reads it: whatever the text, and the same from JSON.

use std::time::Duration;

use portcullis::baseline::PolicySet;
use portcullis::model::Path;
use portcullis::yaml::{self, Document};

use crate::cost::bounded;

/// Bytes that the values of a text may take: aliases may add a million of them.
const MAX_BYTES: usize = 512 * 1024 * 1024;
/// Processor time for them in the shipped binary.
const MAX_TIME: Duration = Duration::from_millis(500);

/// Reads the text as documents, writes each as JSON and reads it again.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = bounded(MAX_BYTES, MAX_TIME, || yaml::read(text));
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    match read {
        Ok(documents) => {
            for document in documents {
                check(&document, lines);
            }
        }
        Err(error) => assert!((1..=lines + 1).contains(&error.line), "{error} in a text of {lines} lines"),
    }
    let file = || [("baseline/x.yaml".to_owned(), text.to_owned())];
    let _ = bounded(MAX_BYTES, MAX_TIME * 2, || PolicySet::read(file()));
}

fn check(document: &Document, lines: usize) {
    for path in [Path::root(), Path::root().field("spec").field("ingress").index(1), Path::root().key("a")] {
        let line = document.line_of(&path);
        assert!((1..=lines + 1).contains(&line), "line {line} in a text of {lines} lines");
    }
    // Aliases make a text longer than it was written.
    let json = document.value.to_string();
    if json.len() > 64 * 1024 {
        return;
    }
    match yaml::read(&json).as_deref() {
        Ok([again]) => assert_eq!(again.value, document.value, "JSON is read as JSON: {json}"),
        other => panic!("JSON is not read as one document: {json}: {other:?}"),
    }
}
