//! Inputs on which the product was wrong once, each with the right answer, through the command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The result of `portcullis check`: the exit status, the findings that deny, and the errors.
fn check(path: &Path) -> (Option<i32>, Vec<String>, Vec<String>) {
    let output = crate::manifests::check_case(path).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let findings = report.get("findings").and_then(Value::as_array).unwrap();
    let text = |finding: &Value, name: &str| finding.get(name).and_then(Value::as_str).unwrap().to_owned();
    let denying = findings.iter().filter(|finding| text(finding, "action") == "deny").map(|finding| {
        let file = PathBuf::from(text(finding, "file"));
        let name = file.file_name().unwrap().to_string_lossy();
        format!("{}@{name}:{}", text(finding, "rule"), finding.get("line").and_then(Value::as_u64).unwrap())
    });
    (output.status.code(), denying.collect(), errors.lines().map(str::to_owned).collect())
}

#[test]
fn every_case_gets_the_right_answer() {
    let expected = std::fs::read_to_string(folder().join("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    for row in expected.lines().filter(|row| !row.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [case, status, findings, error] = columns.as_slice() else { panic!("{row}") };
        let (found_status, found, errors) = check(Path::new(case));
        let wanted: Vec<&str> = findings.split_whitespace().filter(|finding| *finding != "-").collect();
        let is_right_error = match errors.as_slice() {
            [] => *error == "-",
            [one] => *error != "-" && one.contains(error),
            _ => false,
        };
        if found_status != status.parse().ok() || found != wanted || !is_right_error {
            wrong.push(format!("{row}\n  got {found_status:?} {found:?} {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows = expected.lines().filter(|row| !row.starts_with('#')).count();
    let files = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(rows + 1, files, "each case has a row, beside `expected.tsv` itself");
}

#[cfg(unix)]
#[test]
fn a_dangling_link_is_one_error_and_the_rest_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let judged = self::folder().join("20-typed-list.json");
    std::fs::copy(judged, folder.path().join("list.json")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", folder.path().join("link.yaml")).unwrap();
    let (status, found, errors) = check(folder.path());
    assert_eq!((status, found.as_slice()), (Some(2), ["any-port@list.json:1".to_owned()].as_slice()));
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(error.contains("link.yaml") && error.contains("No such file"), "{error}");
}

/// Policies that nearly allow DNS, and all that `portcullis check` prints of each. `UPDATE_GOLDEN=1` writes the answers.
#[test]
fn the_near_miss_is_named() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/near_miss");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    assert!(files.len() > 20, "{files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output = command.current_dir(&folder).arg("check").arg(file.file_name().unwrap()).output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        wrong.extend(crate::golden::compare(&file.with_extension("txt"), &found).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
