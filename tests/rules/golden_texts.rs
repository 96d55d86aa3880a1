//! The exact text of every finding of the corpus and of the cases. `UPDATE_GOLDEN=1` rewrites `tests/texts`, here as in
//! `tests/rules/examples.rs` and `tests/rules/across_dialects.rs`, whose inputs have golden texts too.

use std::path::Path;
use std::process::Command;

use crate::texts::{Text, Texts};
use portcullis::rules::RULES;
use serde_json::Value;

/// Records all findings of a command.
fn record(texts: &Texts, input: &str, mut command: Command) {
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{input}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    for finding in report["findings"].as_array().unwrap() {
        let field = |name: &str| finding[name].as_str();
        let text = Text {
            rule: field("rule").unwrap(),
            action: field("action").unwrap(),
            path: field("path").unwrap(),
            message: field("message").unwrap(),
            closest: field("closest"),
            help: field("help").unwrap(),
        };
        texts.add(input, &text);
    }
}

#[test]
fn findings_of_the_corpus_keep_their_texts() {
    let texts = Texts::of("tests/rules/golden_texts.rs", "corpus");
    for row in crate::manifests::rows("corpus") {
        let [manifest, context, _] = row.as_slice() else { panic!("{row:?}") };
        let input = if context.is_empty() { manifest.clone() } else { format!("{manifest}, with {context}") };
        record(&texts, &input, crate::manifests::check_corpus(manifest, context));
    }
    texts.compare();
}

#[test]
fn findings_of_the_cases_keep_their_texts() {
    let texts = Texts::of("tests/rules/golden_texts.rs", "cases");
    for row in crate::manifests::rows("cases") {
        record(&texts, &row[0], crate::manifests::check_case(Path::new(&row[0])));
    }
    texts.compare();
}

#[test]
fn every_rule_has_golden_texts() {
    let stored = crate::texts::stored();
    for rule in RULES {
        assert!(stored.contains(rule.name), "{} has no file in {}", rule.name, crate::texts::folder().display());
    }
}

/// A section of a test that was removed or renamed would stay forever.
#[test]
fn every_section_belongs_to_a_test() {
    for rule in crate::texts::stored() {
        for source in crate::texts::read(&rule).into_keys() {
            let (file, name) = source.split_once(": ").unwrap_or_else(|| panic!("{rule}: {source}"));
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{rule}: {source}: {error}"));
            let is_recorded = text.contains(&format!("\"{name}\""));
            if !is_recorded && crate::golden::is_update() {
                crate::texts::remove(&rule, &source);
            } else {
                assert!(is_recorded, "{rule}: no test records {source}");
            }
        }
    }
}
