//! `portcullis rules promote`.

use serde_json::{Value, json};

use crate::support::command::{Done, run};

const CONFIG: &str = "docs/examples/first-week/observe.yaml";

/// A Namespace and a policy in it that allows this port, or every port.
fn namespace(name: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: web, namespace: {name}}}\nspec:\n  podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress:\n  \
         - from: [{{podSelector: {{}}}}]\n    ports: {ports}\n---\n"
    )
}

/// Namespaces `open` and `ready`, and a platform namespace.
fn manifests() -> String {
    let all = [("open", "[]"), ("ready", "[{port: 8080}]"), ("kube-system", "[]")];
    all.iter().map(|(name, ports)| namespace(name, ports)).collect()
}

fn promote(arguments: &[&str]) -> Done {
    run(&[&["rules", "promote", "any-port", "--config", CONFIG], arguments, &["-"]].concat(), &manifests())
}

fn last_override(done: &Done) -> Value {
    let printed = portcullis::yaml::read(&done.out).unwrap().remove(0).value;
    printed["overrides"].as_array().unwrap().last().unwrap().clone()
}

#[test]
fn the_default_wave_has_the_namespaces_without_a_denial() {
    let done = promote(&[]);
    assert_eq!(done.code, 0, "{}", done.err);
    let expected = json!({"namespaces": {"names": ["ready"]}, "rules": {"any-port": "deny"}});
    assert_eq!(last_override(&done), expected);
    assert!(
        done.err.contains("ready (in the overrides): any-port: 0 of 2 stored objects would be denied\n"),
        "{}",
        done.err
    );
    let left_out = "open (left out): any-port: 1 of 2 stored objects would be denied\n  NetworkPolicy open/web\n";
    assert!(done.err.contains(left_out), "{}", done.err);
    assert!(!done.err.contains("kube-system"), "platform namespaces are not promoted by default: {}", done.err);
}

#[test]
fn the_printed_overrides_deny_what_was_announced() {
    let done = promote(&["--namespaces", "open,ready"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("portcullis.yaml");
    std::fs::write(&config, format!("{}\n{}", std::fs::read_to_string(CONFIG).unwrap(), done.out)).unwrap();
    let config = config.to_str().unwrap();
    let report = run(&["check", "--output", "json", "--config", config, "-"], &manifests());
    let report: Value = serde_json::from_str(&report.out).unwrap();
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == "any-port");
    let denied: Vec<&Value> = findings.filter(|finding| finding["action"] == "deny").collect();
    assert_eq!(denied.len(), 1, "{report:#}");
    assert_eq!(denied[0]["resource"]["namespace"], "open", "{report:#}");
    // With these overrides in force the next wave has no candidates.
    let next = run(&["rules", "promote", "any-port", "--config", config, "-"], &manifests());
    assert_eq!((next.code, next.out.as_str()), (1, ""), "{}", next.err);
    assert!(next.err.contains("any-port is at least as strict as `deny` in every namespace already"), "{}", next.err);
}

#[test]
fn wrong_arguments_are_named() {
    let done = promote(&["--namespaces", "shop"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("namespace `shop` is unknown"), "{}", done.err);
    let done = run(&["rules", "promote", "any-prt", "-"], "");
    assert_eq!(done.code, 2);
    assert!(done.err.contains("unknown rule `any-prt`; did you mean `any-port`?"), "{}", done.err);
    let done = run(&["rules", "promote", "any-port"], "");
    assert!(done.err.contains("nothing to read"), "{}", done.err);
}
