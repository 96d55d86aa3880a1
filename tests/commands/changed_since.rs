//! `portcullis check --changed-since`: the manifests that it judges, in a Git repository.

use std::path::Path;

use crate::support::command::{Done, finish, git};
use crate::support::server::portcullis;
use serde_json::Value;

/// A policy that isolates egress of all pods of a namespace. Without another policy they lack DNS.
fn isolating(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Egress]}}\n"
    )
}

/// A policy that allows DNS for all pods of a namespace.
fn dns(namespace: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: dns, namespace: {namespace}}}\n\
         spec:\n  podSelector: {{}}\n  policyTypes: [Egress]\n  egress:\n  - to:\n    - namespaceSelector:\n        \
         matchLabels: {{kubernetes.io/metadata.name: kube-system}}\n    ports: [{{port: 53, protocol: UDP}}, {{port: 53, protocol: TCP}}]\n"
    )
}

/// A repository with a commit on `main`. On it `old` and `later` lack DNS, and `dns` allows it in namespace c.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    std::fs::create_dir(folder.path().join("deep er")).unwrap();
    write(folder.path(), ".gitignore", "ignored.yaml\n");
    write(folder.path(), "old.yaml", &isolating("old", "a"));
    write(folder.path(), "deep er/läter.yaml", &isolating("later", "b"));
    write(folder.path(), "dns.yaml", &dns("c"));
    commit(folder.path());
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn commit(folder: &Path) {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", "a change"]);
}

fn check(folder: &Path, revision: &str, paths: &[&str]) -> Done {
    let arguments = [&["check", "--output", "json", "--changed-since", revision], paths].concat();
    finish(portcullis().args(arguments).current_dir(folder), "")
}

/// The names of the denied objects, and the counts of judged and unchanged objects.
fn judged(folder: &Path, revision: &str, paths: &[&str]) -> (Vec<String>, u64, u64) {
    let done = check(folder, revision, paths);
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    let denied = report["findings"].as_array().unwrap().iter().filter(|finding| finding["action"] == "deny");
    let names = denied.map(|finding| finding["resource"]["name"].as_str().unwrap().to_owned());
    let count = |name: &str| report["summary"][name].as_u64().unwrap();
    (names.collect(), count("resources"), count("unchanged"))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_changed_files_are_judged_and_the_others_count() {
    let repository = repository();
    let folder = repository.path();
    assert_eq!(judged(folder, "HEAD", &["."]), (vec![], 0, 3));
    assert_eq!(check(folder, "HEAD", &["."]).code, 0);
    // With the DNS of an unchanged file the pods of c are fine; those of b have none.
    write(folder, "new.yaml", &isolating("new", "c"));
    write(folder, "deep er/läter.yaml", &format!("{}# changed\n", isolating("later", "b")));
    assert_eq!(judged(folder, "HEAD", &["."]), (names(&["later"]), 2, 2));
    assert_eq!(check(folder, "main", &["."]).code, 1);
    assert_eq!(judged(folder, "HEAD", &["new.yaml"]), (names(&["new"]), 1, 0));
    // From another folder, by an absolute path, and staged.
    git(folder, &["add", "--all"]);
    let inner = folder.join("deep er");
    assert_eq!(judged(&inner, "HEAD", &[folder.to_str().unwrap()]), (names(&["later"]), 2, 2));
    assert_eq!(judged(&inner, "HEAD", &["läter.yaml", "../old.yaml"]), (names(&["later"]), 1, 1));
    // Git does not know whether an ignored file changed.
    write(folder, "ignored.yaml", &isolating("ignored", "d"));
    assert_eq!(judged(folder, "HEAD", &["ignored.yaml", "old.yaml"]), (names(&["ignored"]), 1, 1));
}

#[test]
fn a_branch_is_compared_with_the_commit_where_it_began() {
    let repository = repository();
    let folder = repository.path();
    git(folder, &["switch", "--quiet", "--create", "topic"]);
    write(folder, "new.yaml", &isolating("new", "d"));
    commit(folder);
    git(folder, &["switch", "--quiet", "main"]);
    write(folder, "old.yaml", &format!("{}# changed on main\n", isolating("old", "a")));
    commit(folder);
    git(folder, &["switch", "--quiet", "topic"]);
    assert_eq!(judged(folder, "main", &["."]), (names(&["new"]), 1, 3));
}

#[cfg(unix)]
#[test]
fn a_link_changes_with_its_file() {
    let repository = repository();
    let folder = repository.path();
    std::os::unix::fs::symlink("old.yaml", folder.join("link.yaml")).unwrap();
    commit(folder);
    assert_eq!(judged(folder, "HEAD", &["link.yaml"]), (vec![], 0, 1));
    write(folder, "old.yaml", &isolating("other", "a"));
    assert_eq!(judged(folder, "HEAD", &["link.yaml"]), (names(&["other"]), 1, 0));
}

#[test]
fn broken_input_is_an_error_although_it_has_not_changed() {
    let repository = repository();
    let folder = repository.path();
    write(folder, "broken.yaml", "apiVersion: v1\nkind: [\n");
    commit(folder);
    let done = check(folder, "HEAD", &["."]);
    assert_eq!(done.code, 2);
    assert!(done.err.starts_with("error: ./broken.yaml:2: not YAML"), "{}", done.err);
}

#[test]
fn what_git_cannot_answer_is_said_in_plain_words() {
    let repository = repository();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "a.yaml", &isolating("a", "a"));
    let no_commit = tempfile::tempdir().unwrap();
    git(no_commit.path(), &["init", "--quiet"]);
    write(no_commit.path(), "a.yaml", &isolating("a", "a"));
    let unrelated = self::repository();
    git(unrelated.path(), &["switch", "--quiet", "--orphan", "other"]);
    write(unrelated.path(), "a.yaml", &isolating("a", "a"));
    commit(unrelated.path());
    for (folder, revision, path, expected) in [
        (repository.path(), "no-such-branch", ".", "`no-such-branch` is not a revision of /"),
        (repository.path(), "--output=pwned", ".", "`--output=pwned` is not a revision of /"),
        (repository.path(), "", ".", "`` is not a revision of /"),
        (repository.path(), "HEAD", "-", "--changed-since needs files; standard input has no revision"),
        (outside.path(), "HEAD", "a.yaml", "--changed-since needs files in a Git repository; a.yaml is in none"),
        (no_commit.path(), "HEAD", "a.yaml", "`HEAD` is not a revision of /"),
        (unrelated.path(), "main", "a.yaml", "`main` has no common commit with HEAD in /"),
    ] {
        let done = finish(
            portcullis().arg("check").arg(format!("--changed-since={revision}")).arg(path).current_dir(folder),
            "",
        );
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{revision} {path}");
        assert!(done.err.starts_with("error: ") && done.err.contains(expected), "{revision} {path}: {}", done.err);
    }
    assert!(!repository.path().join("pwned").exists());
    let without_git = portcullis()
        .args(["check", "--changed-since", "HEAD", "."])
        .env("PATH", outside.path())
        .current_dir(repository.path())
        .output()
        .unwrap();
    assert_eq!(without_git.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(without_git.stderr).unwrap(),
        "error: --changed-since needs `git`, which is not installed\n"
    );
}
