//! Configuration, policies and context that change while the server runs: what is whole is put in force, and what is
//! broken leaves the last good state.

use std::fs;
use std::time::Duration;

use crate::support::client::Answer;
use crate::support::files::{CONFIGURATION, Files, LAST_GOOD, Mount, reloads, until_detail};
use crate::support::reviews::{any_port, backend_policy, create_as, egress, to_database, to_dns};
use crate::support::server::{Portcullis, serve, until};
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
const GOOD: &str = "portcullis_configuration_good";

/// Asks until the answer is as it should be.
async fn until_answer(server: &Portcullis, path: &str, body: &str, what: &str, is: impl Fn(&Answer) -> bool) {
    let answer = async || Some(server.client.post(path, body.to_owned()).await).filter(|answer| is(answer));
    until(what, async || answer().await.map(drop)).await;
}

#[tokio::test]
async fn a_new_configuration_is_put_in_force() {
    let files = Files::new();
    let config = files.write("portcullis.yaml", HEAD);
    let server = files.serve_with_pair(&["--config", config.to_str().unwrap()]).await;
    let denied = server.client.post("/validate", any_port("u-1")).await.response();
    assert_eq!(denied["allowed"], false, "{denied}");

    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: warn\n"));
    until_answer(&server, "/validate", &any_port("u-2"), "a warning", Answer::allowed).await;
    let warned = server.client.post("/validate", any_port("u-3")).await.response();
    assert!(warned["warnings"][0].as_str().unwrap().contains(" (any-port at spec.ingress[0]); "), "{warned}");
    until_detail(&server, CONFIGURATION, "ok").await;
    server.until_metric(&reloads(CONFIGURATION, "success"), 1.0).await;
    assert_eq!(server.metric(GOOD), 1.0);
}

#[tokio::test]
async fn a_broken_configuration_leaves_the_last_good_one_in_force() {
    let files = Files::new();
    let config = files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: warn\n"));
    let server = files.serve_with_pair(&["--config", config.to_str().unwrap()]).await;

    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-prot: deny\n"));
    let detail = until_detail(&server, CONFIGURATION, LAST_GOOD).await;
    let fault = format!("{}: line 4: rules.any-prot: unknown rule `any-prot`; did you mean", config.display());
    assert!(detail.contains(&fault), "{detail}");
    assert_eq!(server.metric(GOOD), 0.0);
    assert!(server.client.post("/validate", any_port("u-1")).await.allowed(), "what was in force is in force");
    // It is looked at once, however often it is seen.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.metric(&reloads(CONFIGURATION, "failure")), 1.0);

    fs::remove_file(&config).unwrap();
    until_detail(&server, CONFIGURATION, "No such file").await;
    assert_eq!(server.metric(GOOD), 0.0);
    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: deny\n"));
    until_detail(&server, CONFIGURATION, "ok").await;
    assert_eq!(server.metric(GOOD), 1.0);
    assert!(!server.client.post("/validate", any_port("u-2")).await.allowed(), "the mended file is in force");

    // A file that is away for a moment, and is what it was.
    fs::remove_file(&config).unwrap();
    until_detail(&server, CONFIGURATION, "No such file").await;
    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: deny\n"));
    until_detail(&server, CONFIGURATION, "ok").await;
    assert_eq!(server.metric(GOOD), 1.0);
}

#[tokio::test]
async fn each_swap_of_a_mounted_config_map_is_noticed() {
    let files = Files::new();
    let with = |mode: &str| format!("{HEAD}rules:\n  any-port: {mode}\n");
    let mut config = Mount::new(files.path("config"), &[("portcullis.yaml", &with("deny"))]);
    let mut context = Mount::new(files.path("context"), &[("known.yaml", &dns_for("another"))]);
    let (file, known) = (config.path.join("portcullis.yaml"), context.path.clone());
    let arguments = ["--config", file.to_str().unwrap(), "--context", known.to_str().unwrap()];
    let server = files.serve_with_pair(&arguments).await;

    for (mode, allowed) in [("warn", true), ("deny", false), ("off", true)] {
        config.swap(&[("portcullis.yaml", &with(mode))]);
        until_answer(&server, "/validate", &any_port("u-1"), mode, |answer| answer.allowed() == allowed).await;
    }
    for (pods, allowed) in [("backend", true), ("another", false), ("backend", true)] {
        context.swap(&[("known.yaml", &dns_for(pods))]);
        until_answer(&server, "/validate", &needs_dns("u-2"), pods, |answer| answer.allowed() == allowed).await;
    }
    // One folder is swapped, and the other is left as it is; each time that is one change.
    assert_eq!(server.metric(&reloads(CONFIGURATION, "success")), 6.0);
}

#[tokio::test]
async fn new_context_is_put_in_force() {
    let files = Files::new();
    let known = files.path("known");
    fs::create_dir(&known).unwrap();
    let server = files.serve_with_pair(&["--context", known.to_str().unwrap()]).await;
    assert!(!server.client.post("/validate", needs_dns("u-1")).await.allowed());

    files.write("known/dns.yaml", &dns_for("backend"));
    until_answer(&server, "/validate", &needs_dns("u-2"), "DNS from another policy", Answer::allowed).await;
    files.write(
        "known/more.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\nmetadata: {name: x}\n",
    );
    let detail = until_detail(&server, CONFIGURATION, "more.yaml:").await;
    assert!(detail.contains("more.yaml:5: not a Kubernetes object"), "{detail}");
    assert_eq!(server.metric(GOOD), 0.0);
    assert!(server.client.post("/validate", needs_dns("u-3")).await.allowed(), "what was known is known");
    fs::remove_file(files.path("known/more.yaml")).unwrap();
    fs::remove_file(files.path("known/dns.yaml")).unwrap();
    until_answer(&server, "/validate", &needs_dns("u-4"), "no DNS", |answer| !answer.allowed()).await;
    until_detail(&server, CONFIGURATION, "ok").await;
}

#[tokio::test]
async fn new_policies_are_put_in_force() {
    let files = Files::new();
    let alone = "profiles: {names: [standard], default: null}\naccess: []\n";
    let config = files.write("portcullis.yaml", &format!("{HEAD}{alone}"));
    let manifest = backend_policy("portcullis-p", &json!({"policyTypes": ["Ingress"]}));
    let without_namespace = |mut manifest: Value| {
        manifest["metadata"].as_object_mut().unwrap().remove("namespace");
        manifest.to_string()
    };
    files.write("policies/profiles/standard/p.json", &without_namespace(manifest.clone()));
    let folder = files.path("policies");
    let arguments = ["--config", config.to_str().unwrap(), "--policies", folder.to_str().unwrap()];
    let server = files.serve_with_pair(&arguments).await;
    // A namespace is due no policies as yet, so it gets no label that says that they are pending.
    let namespace =
        create_as("u-1", "alice", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let is_patched = |answer: &Answer| answer.response()["patch"].is_string();
    assert!(!is_patched(&server.client.post("/mutate", namespace.clone()).await));

    let other = backend_policy("portcullis-q", &json!({"policyTypes": ["Ingress"]}));
    files.write("policies/baseline/p.json", &without_namespace(other));
    until_answer(&server, "/mutate", &namespace, "a label for the baseline", is_patched).await;
    files.write("policies/baseline/q.json", &manifest.to_string());
    let detail = until_detail(&server, CONFIGURATION, "q.json").await;
    assert!(detail.contains("baseline/q.json: line 1: metadata.namespace: must not be set"), "{detail}");
    assert!(is_patched(&server.client.post("/mutate", namespace.clone()).await), "what was in force is in force");
    fs::remove_dir_all(files.path("policies/baseline")).unwrap();
    until_answer(&server, "/mutate", &namespace, "no label", |answer| !is_patched(answer)).await;
    until_detail(&server, CONFIGURATION, "ok").await;

    // Configuration and policies have to fit each other, whichever comes first.
    let more = alone.replace("[standard]", "[standard, open]");
    files.write("portcullis.yaml", &format!("{HEAD}{more}"));
    let detail = until_detail(&server, CONFIGURATION, "the configuration lists `open`").await;
    assert!(detail.contains("profiles/open"), "{detail}");
    let labels = json!({"network-policy.portcullis.dev/profile": "open"});
    let asks = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let asks = create_as("u-2", "alice", &asks);
    assert!(!server.client.post("/validate", asks.clone()).await.allowed());
    files.write("policies/profiles/open/p.json", &without_namespace(manifest));
    until_answer(&server, "/validate", &asks, "the profile", Answer::allowed).await;
    until_detail(&server, CONFIGURATION, "ok").await;
}

/// A policy that lets these pods ask the cluster's DNS.
fn dns_for(pods: &str) -> String {
    let mut dns = backend_policy("dns", &egress(&[to_dns()]));
    dns["spec"]["podSelector"]["matchLabels"]["app"] = json!(pods);
    dns.to_string()
}

/// The review of a policy that isolates the backend for egress and does not let it ask DNS.
fn needs_dns(uid: &str) -> String {
    create_as(uid, "alice", &backend_policy("to-database", &egress(&[to_database()])))
}

// At the start there is no last good state.

/// Starts a server that cannot start: how it ends, and what it says.
fn fails(files: &Files, arguments: &[&str]) -> (Option<i32>, String) {
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let output =
        serve([0, 0]).arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_bad_file_at_the_start_is_an_error_that_says_what_to_write() {
    let files = Files::new();
    let leaf = files.authority.days(1);
    files.write_pair(&leaf);
    for (text, fault) in [
        ("labelDomian: x.y\n", "line 3: labelDomian: unknown field; did you mean `labelDomain`?"),
        ("rules:\n  any-prot: warn\n", "line 4: rules.any-prot: unknown rule `any-prot`; did you mean `any-port`?"),
        (
            "rules:\n  any-port:\n    settings: {sameNamespaces: true}\n",
            "line 5: rules.any-port.settings.sameNamespaces: unknown field; did you mean `sameNamespace`?",
        ),
        ("rules: {any-port: [\n", "line "),
    ] {
        let config = files.write("portcullis.yaml", &format!("{HEAD}{text}"));
        let (code, said) = fails(&files, &["--config", config.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("error: configuration {}: {fault}", config.display())), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    let context = files.write("known.yaml", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: [\n");
    let (code, said) = fails(&files, &["--context", context.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains(&format!("{}:4: not YAML: ", context.display())), "{said}");
    for (flag, name) in [("--config", "none.yaml"), ("--context", "none.yaml"), ("--policies", "none")] {
        let (code, said) = fails(&files, &[flag, files.path(name).to_str().unwrap()]);
        assert!(code == Some(2) && said.contains(files.path(name).to_str().unwrap()), "{said}");
    }

    files.write("tls.key", &files.authority.days(1).key);
    let (code, said) = fails(&files, &[]);
    assert!(code == Some(2) && said.contains("tls.key: certificate and key do not fit together"), "{said}");
}
