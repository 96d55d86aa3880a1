//! Every manifest of the corpus gets just the findings that `expected.tsv` says, through the command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_manifest_gets_the_findings_that_it_must_get() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let expected = std::fs::read_to_string(corpus.join("expected.tsv")).unwrap();
    let (mut judged, mut wrong) = (0, Vec::new());
    for row in expected.lines().filter(|row| !row.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [manifest, context, findings] = columns[..] else { panic!("{row}") };
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(&corpus).args(["check", "--output", "json", "--config", "portcullis.yaml"]);
        for context in context.split_whitespace() {
            command.args(["--context", context]);
        }
        let output = command.arg(manifest).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{manifest}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        let mut found: Vec<String> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| format!("{}:{}", finding["rule"].as_str().unwrap(), finding["action"].as_str().unwrap()))
            .collect();
        found.sort();
        let mut wanted: Vec<&str> = findings.split_whitespace().filter(|finding| *finding != "-").collect();
        wanted.sort_unstable();
        let status = i32::from(wanted.iter().any(|finding| finding.ends_with(":deny")));
        if found != wanted || output.status.code() != Some(status) {
            wrong.push(format!(
                "{manifest} [{context}]: wanted {wanted:?} and {status}, got {found:?} and {:?}",
                output.status
            ));
        }
        judged += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(judged, 58, "rows were lost");
}
