//! The output formats of `portcullis check`: their golden files, their schemas, and that no format loses a finding.
//! `UPDATE_GOLDEN=1` rewrites the golden files in `tests/reports`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::command::{Done, finish};
use crate::support::server::portcullis;
use crate::support::{golden, schema, xml};
use serde_json::Value;

/// The formats, with the extensions of their golden files.
const FORMATS: &[(&str, &str)] = &[
    ("text", "txt"),
    ("json", "json"),
    ("sarif", "sarif"),
    ("junit", "xml"),
    ("github", "github.txt"),
    ("gitlab", "gitlab.json"),
    ("markdown", "md"),
];

/// The limit of GitHub for a comment.
const MAX_COMMENT: usize = 65_536;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn check(folder: &Path, format: &str, path: &str) -> Done {
    finish(portcullis().args(["check", "--output", format, path]).current_dir(folder), "")
}

fn check_json(folder: &Path, format: &str, path: &str) -> Value {
    let done = check(folder, format, path);
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err))
}

fn schema_of(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join("tests/schemas").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer} in {value:#}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value:#}"))
}

#[test]
fn reports_are_as_recorded() {
    let folder = root().join("tests/reports");
    let mut wrong = Vec::new();
    let mut errors = BTreeSet::new();
    for (format, extension) in FORMATS {
        let done = check(&folder, format, "manifests");
        assert_eq!(done.code, 2, "{format}");
        errors.insert(done.err);
        // The pages of the rules have golden files of their own, in docs/rules.
        let without_page = |line: &str| match line.split_once("\"markdown\": ") {
            Some((indent, _)) => format!("{indent}\"markdown\": \"\"\n"),
            None => line.to_owned(),
        };
        let out: String = done.out.split_inclusive('\n').map(without_page).collect();
        wrong.extend(golden::compare(&folder.join(format!("report.{extension}")), &out).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(errors.len(), 1, "every format has the same errors: {errors:#?}");
    assert_eq!(errors.first().unwrap().matches("error: manifests/broken.yaml:").count(), 2);
}

#[test]
fn sarif_is_valid_and_complete() {
    let folder = root().join("tests/reports");
    let (log, report) = (check_json(&folder, "sarif", "manifests"), check_json(&folder, "json", "manifests"));
    assert_eq!(schema::violations(&schema_of("sarif-2.1.0.json"), &log), Vec::<String>::new());
    if let Some(published) = std::env::var_os("SARIF_SCHEMA") {
        let published: Value = serde_json::from_slice(&std::fs::read(published).unwrap()).unwrap();
        assert_eq!(schema::violations(&published, &log), Vec::<String>::new());
    }
    let (results, rules) = (list(&log, "/runs/0/results"), list(&log, "/runs/0/tool/driver/rules"));
    let findings = list(&report, "/findings");
    assert_eq!(results.len(), findings.len());
    for (result, finding) in results.iter().zip(findings) {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!((text(rule, "/id"), text(result, "/ruleId")), (text(finding, "/rule"), text(finding, "/rule")));
        assert_ne!(text(rule, "/shortDescription/text"), text(rule, "/id"));
        assert!(text(result, "/message/text").starts_with(text(finding, "/message")), "{result:#}");
        let level = match text(finding, "/action") {
            "deny" => "error",
            "warn" => "warning",
            _ => "note",
        };
        assert_eq!(result["level"], level);
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["region"]["startLine"], finding["line"]);
        let file = text(location, "/artifactLocation/uri").replace("%20", " ");
        assert_eq!(file, text(finding, "/file"));
        assert!(folder.join(file).is_file());
    }
    let suppressed: Vec<&Value> = results.iter().filter(|result| result.get("suppressions").is_some()).collect();
    let [exempt] = suppressed.as_slice() else { panic!("{suppressed:#?}") };
    assert_eq!(text(exempt, "/suppressions/0/justification"), "exempt");
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let notifications = list(invocation, "/toolExecutionNotifications");
    for (notification, error) in notifications.iter().zip(list(&report, "/errors")) {
        assert_eq!((&notification["level"], &notification["message"]["text"]), (&"error".into(), &error["message"]));
        assert_eq!(notification["locations"][0]["physicalLocation"]["region"]["startLine"], error["line"]);
    }
    let log = check_json(&folder, "sarif", "manifests/shop.yaml");
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn gitlab_is_valid_and_complete() {
    let folder = root().join("tests/reports");
    let (issues, report) = (check_json(&folder, "gitlab", "manifests"), check_json(&folder, "json", "manifests"));
    assert_eq!(schema::violations(&schema_of("gitlab-code-quality.json"), &issues), Vec::<String>::new());
    let issues = issues.as_array().unwrap();
    let expected = list(&report, "/errors").iter().chain(list(&report, "/findings"));
    for (issue, expected) in issues.iter().zip(expected.clone()) {
        assert!(text(issue, "/description").starts_with(text(expected, "/message")), "{issue:#}");
        let place = (&issue["location"]["path"], &issue["location"]["lines"]["begin"]);
        assert_eq!(place, (&expected["file"], &expected["line"]));
    }
    assert_eq!(issues.len(), expected.count());
    let fingerprints: BTreeSet<&str> = issues.iter().map(|issue| text(issue, "/fingerprint")).collect();
    assert_eq!(fingerprints.len(), issues.len(), "GitLab drops an issue whose fingerprint it has seen");
}

/// The counts of a suite, or of all suites.
fn counts(element: &xml::Element) -> [usize; 3] {
    ["tests", "failures", "errors"].map(|name| element.attributes[name].parse().unwrap())
}

#[test]
fn junit_is_well_formed_and_complete() {
    let folder = root().join("tests/reports");
    let document = xml::read(&check(&folder, "junit", "manifests").out);
    let report = check_json(&folder, "json", "manifests");
    assert_eq!(document.name, "testsuites");
    let mut total = [0; 3];
    let mut texts = String::new();
    for suite in &document.children {
        assert_eq!(suite.name, "testsuite");
        assert!(folder.join(&suite.attributes["name"]).is_file());
        let cases: Vec<&xml::Element> = suite.named("testcase").collect();
        let names: BTreeSet<&String> = cases.iter().map(|case| &case.attributes["name"]).collect();
        assert_eq!((names.len(), cases.len()), (cases.len(), suite.children.len()), "{names:?}");
        let with = |child: &str| cases.iter().filter(|case| case.named(child).next().is_some()).count();
        let found = [cases.len(), with("failure"), with("error")];
        assert_eq!(counts(suite), found);
        total = [0, 1, 2].map(|at| total[at] + found[at]);
        for case in cases {
            assert_eq!(case.attributes["classname"], suite.attributes["name"]);
            for child in &case.children {
                assert!(["failure", "error", "system-out"].contains(&&*child.name), "{}", child.name);
                texts.push_str(&child.text);
            }
            assert!(case.named("failure").count() <= 1);
        }
    }
    assert_eq!(counts(&document), total);
    let (errors, findings) = (list(&report, "/errors"), list(&report, "/findings"));
    let resources = usize::try_from(report["summary"]["resources"].as_u64().unwrap()).unwrap();
    assert_eq!((total[0], total[2]), (resources + errors.len(), errors.len()));
    let denied = findings.iter().filter(|finding| finding["action"] == "deny");
    assert_eq!(total[1], denied.map(|finding| finding["resource"].to_string()).collect::<BTreeSet<_>>().len());
    for message in errors.iter().chain(findings).map(|one| text(one, "/message")) {
        assert!(texts.contains(message), "{message}");
    }
}

#[test]
fn github_gets_one_command_for_each_finding() {
    let folder = root().join("tests/reports");
    let out = check(&folder, "github", "manifests").out;
    let report = check_json(&folder, "json", "manifests");
    let count = |level: &str| out.lines().filter(|line| line.starts_with(&format!("::{level} file="))).count() as u64;
    let summary = |name: &str| report["summary"][name].as_u64().unwrap();
    assert_eq!(count("error"), summary("deny") + summary("errors"));
    assert_eq!(count("warning"), summary("warn"));
    let rest: Vec<&str> = out.lines().filter(|line| !line.starts_with("::")).collect();
    assert_eq!(rest, ["2 denials, 5 warnings, 2 errors in 8 objects"]);
}

/// The fingerprints of a SARIF log, by rule.
fn fingerprints(log: &Value) -> BTreeSet<(String, String)> {
    let fingerprint = |result: &Value| {
        let fingerprints = &result["partialFingerprints"];
        assert_eq!(fingerprints["portcullis/v1"], fingerprints["primaryLocationLineHash"]);
        (text(result, "/ruleId").to_owned(), text(fingerprints, "/primaryLocationLineHash").to_owned())
    };
    list(log, "/runs/0/results").iter().map(fingerprint).collect()
}

#[test]
fn fingerprints_stay_when_lines_move() {
    let original = root().join("tests/reports/manifests");
    let moved = tempfile::tempdir().unwrap();
    let manifests = moved.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    for entry in std::fs::read_dir(&original).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // A rule in front of the others moves their positions too.
        let text = text.replace("  ingress:\n  - from:", "  ingress:\n  - {from: [{podSelector: {matchLabels: {a: b}}}], ports: [{port: 1, protocol: TCP}]}\n  - from:");
        std::fs::write(manifests.join(path.file_name().unwrap()), format!("# one\n# two\n{text}")).unwrap();
    }
    let before = fingerprints(&check_json(&root().join("tests/reports"), "sarif", "manifests"));
    let log = check_json(moved.path(), "sarif", "manifests");
    assert_eq!(fingerprints(&log), before);
    assert_eq!(list(&log, "/runs/0/results").len(), before.len(), "each only once");
    // An absolute name of a file below the working directory is the same file.
    let absolute = check_json(moved.path(), "sarif", manifests.to_str().unwrap());
    assert_eq!(fingerprints(&absolute), before);
}

#[test]
fn a_long_comment_is_cut_and_counts_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let rule =
        |number: usize| format!("{{from: [{{podSelector: {{matchLabels: {{app: {}-{number}}}}}}}]}}", "a".repeat(50));
    let rules = (0..40).map(rule).collect::<Vec<_>>().join(", ");
    let policy = |number: usize| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: n{number}}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}\n---\n"
        )
    };
    std::fs::write(folder.path().join("many.yaml"), (0..8).map(policy).collect::<String>()).unwrap();
    let done = check(folder.path(), "markdown", "many.yaml");
    let report = check_json(folder.path(), "json", "many.yaml");
    assert!(done.out.encode_utf16().count() <= MAX_COMMENT, "{}", done.out.len());
    let (_, last) = done.out.trim_end().rsplit_once('\n').unwrap();
    let left_out: usize =
        last.strip_suffix(" more rows left out: a comment has at most 65,536 characters.").unwrap().parse().unwrap();
    let shown = done.out.lines().filter(|line| line.starts_with("| <code>many.yaml:")).count();
    let assumed = done.out.lines().filter(|line| line.starts_with("- ")).count();
    assert!(shown > 100, "{shown}");
    assert_eq!(shown + assumed + left_out, list(&report, "/findings").len() + 1);
}

/// A name that an author chose to break a format.
const HOSTILE: &str =
    "x\\n::add-mask::a\\r\\n##[set-output name=a]b ]]></failure><b> `c` | @all %0A \\u001b[31m \\uffff";

#[test]
fn hostile_names_break_no_format() {
    let folder = tempfile::tempdir().unwrap();
    let policy = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: \"{HOSTILE}\", namespace: \"{HOSTILE}\"}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{matchLabels: {{\"{HOSTILE}\": a}}}}}}]}}]}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: [\"{HOSTILE}\"]}}\n\
         ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: b, namespace: b}}\n\
         spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: \"${{A}}{HOSTILE}\"}}]}}]}}\n"
    );
    std::fs::write(folder.path().join("a\n::add-mask::b.yaml"), policy).unwrap();
    let report = check_json(folder.path(), "json", ".");
    assert!(!list(&report, "/findings").is_empty() && !list(&report, "/errors").is_empty(), "{report:#}");

    let github = check(folder.path(), "github", ".");
    let is_command = |line: &str| ["::error ", "::warning ", "::notice "].iter().any(|start| line.starts_with(start));
    let (tally, commands) = github.out.trim_end().rsplit_once('\n').map(|(rest, last)| (last, rest)).unwrap();
    assert!(commands.split(['\n', '\r']).all(is_command), "{commands}");
    assert!(tally.contains(" in ") && !tally.contains("::"), "{tally}");
    for line in github.err.split(['\n', '\r']) {
        assert!(line.is_empty() || line.starts_with("error: ") && !line.contains("##["), "{}", github.err);
    }

    xml::read(&check(folder.path(), "junit", ".").out);
    let log = check_json(folder.path(), "sarif", ".");
    assert_eq!(schema::violations(&schema_of("sarif-2.1.0.json"), &log), Vec::<String>::new());
    let issues = check_json(folder.path(), "gitlab", ".");
    assert_eq!(schema::violations(&schema_of("gitlab-code-quality.json"), &issues), Vec::<String>::new());

    let comment = check(folder.path(), "markdown", ".").out;
    for line in comment.lines().filter(|line| line.starts_with('|')) {
        assert!(line.ends_with('|') && matches!(line.matches('|').count(), 3 | 4 | 6), "{line}");
        assert!(!line.contains("<b>") && !line.contains("@all"), "{line}");
    }
}

#[test]
fn the_exit_status_does_not_depend_on_the_format() {
    let folder = root().join("tests/corpus/kubernetes");
    for (format, _) in FORMATS {
        assert_eq!(check(&folder, format, "allow-dns-egress.yaml").code, 0, "{format}");
        assert_eq!(check(&folder, format, "default-deny-egress.yaml").code, 1, "{format}");
        let done = check(&folder, format, "no-such-file.yaml");
        assert_eq!(done.code, 2, "{format}");
        assert!(done.err.starts_with("error: no-such-file.yaml: "), "{}", done.err);
        let is_said = *format == "text" || done.out.contains("No such file");
        assert!(is_said, "{format}: {}", done.out);
    }
}
