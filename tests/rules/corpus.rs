//! Every manifest of the corpus gets just the findings that `expected.tsv` says, through the command line.

use serde_json::Value;

#[test]
fn every_manifest_gets_the_findings_that_it_must_get() {
    let (mut judged, mut wrong) = (0, Vec::new());
    for row in crate::manifests::rows("corpus") {
        let [manifest, context, findings] = row.as_slice() else { panic!("{row:?}") };
        let output = crate::manifests::check_corpus(manifest, context).output().unwrap();
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
