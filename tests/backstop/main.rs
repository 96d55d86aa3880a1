//! The backstop on a real API server, beside the webhook and without it.
//!
//! `BACKSTOP_OBJECTS=10000 cargo test --test backstop` compares the backstop with the webhook on 10,000 generated objects.
//! CI takes fewer. Without a control plane the tests are skipped, which a line on standard error says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

mod cluster;
mod generate;
#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/manifests.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support_manifests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use cluster::{CONFIG, Cluster, OTHER_SETTINGS, Request, Verdict};
use portcullis::yaml;
use serde_json::{Value, json};

/// The head of the table of the corpus on the page of the backstop.
const HEADER: &str = "| manifest | denied by the webhook | backstop |";
/// The number of generated objects in CI.
const OBJECTS: usize = 1_000;
/// The policies of the backstop.
const NAMES: [&str; 11] = [
    "portcullis-any-port-calico",
    "portcullis-any-port-cilium",
    "portcullis-any-port-cluster-network-policy",
    "portcullis-any-port-kubernetes",
    "portcullis-host-network-pods",
    "portcullis-host-network-workloads",
    "portcullis-invalid-profile",
    "portcullis-isolation-downgrade",
    "portcullis-managed-policy-change-namespaces",
    "portcullis-managed-policy-change-policies",
    "portcullis-unguarded-hatch",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The manifests of the corpus, by their paths.
fn corpus() -> BTreeMap<String, Value> {
    let folder = root().join("tests/corpus");
    let mut manifests = BTreeMap::new();
    for group in ["kubernetes", "cilium", "calico", "cluster", "namespaces", "workloads"] {
        for entry in fs::read_dir(folder.join(group)).unwrap() {
            let path = entry.unwrap().path();
            let [document] = <[_; 1]>::try_from(yaml::read(&fs::read_to_string(&path).unwrap()).unwrap()).unwrap();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().trim_end_matches(".yaml").to_owned();
            manifests.insert(name, document.value);
        }
    }
    manifests
}

/// The rules that deny each manifest of the corpus, by itself or in one of its contexts.
fn denying_rules() -> BTreeMap<String, BTreeSet<String>> {
    let mut rules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in support_manifests::rows("corpus") {
        let denying = row[2].split_whitespace().filter_map(|finding| finding.strip_suffix(":deny"));
        let name = row[0].trim_end_matches(".yaml").to_owned();
        rules.entry(name).or_default().extend(denying.map(str::to_owned));
    }
    rules.retain(|_, rules| !rules.is_empty());
    rules
}

/// The table of the corpus on the page of the backstop.
fn table(by_backstop: &BTreeSet<String>) -> String {
    let mut table = format!("{HEADER}\n|---|---|---|\n");
    for (name, rules) in denying_rules() {
        let rules: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
        let backstop = if by_backstop.contains(&name) { "denied" } else { "passes" };
        writeln!(table, "| `{name}` | {} | {backstop} |", rules.join(", ")).unwrap();
    }
    table
}

/// Compares the table on the page with the one that holds. With `UPDATE_DOCS` it is written instead.
fn check_table(by_backstop: &BTreeSet<String>) {
    let file = root().join("docs/operate/backstop.md");
    let page = fs::read_to_string(&file).unwrap();
    let start = page.find(HEADER).expect("the page has the table");
    let length: usize = page[start..].lines().take_while(|line| line.starts_with('|')).map(|line| line.len() + 1).sum();
    let table = table(by_backstop);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, [&page[..start], &table, &page[start + length..]].concat()).unwrap();
        return;
    }
    assert_eq!(page[start..start + length], table, "UPDATE_DOCS=1 writes the table");
}

/// Asks for the creation of each manifest of the corpus, in a dry run by a user without permissions to bypass rules.
fn ask_for_corpus(cluster: &Cluster) -> BTreeMap<String, Verdict> {
    let corpus = corpus();
    let requests = corpus.values().map(|object| Request::create("ada", object.clone())).collect();
    corpus.into_keys().zip(cluster.ask(requests)).collect()
}

#[test]
fn the_backstop_denies_only_what_the_webhook_denies_and_goes_on_without_it() {
    let Some(mut cluster) = Cluster::start() else { return };
    let count = std::env::var("BACKSTOP_OBJECTS").map_or(OBJECTS, |count| count.parse().expect("a number"));

    // Beside the webhook. The backstop only warns, so the answer shows both decisions about one request.
    cluster.apply_backstop("Warn");
    cluster.no_expression_has_type_warnings();
    let corpus = ask_for_corpus(&cluster);
    let denied_by_webhook: BTreeSet<String> =
        corpus.iter().filter(|(_, verdict)| verdict.webhook.is_some()).map(|(name, _)| name.clone()).collect();
    assert_eq!(denied_by_webhook, denying_rules().into_keys().collect());
    for (name, verdict) in &corpus {
        assert!(verdict.is_sound(), "{name}: {verdict:?}");
    }
    let stored = cluster.store_unchecked();
    let requests = generate::requests(count, &stored);
    let counts = compare(&cluster, &requests);
    for name in NAMES {
        assert!(counts.contains_key(name), "no request for {name}");
    }

    // With other settings.
    cluster.configure(OTHER_SETTINGS);
    compare(&cluster, &requests[..requests.len() / 3]);
    // Without any replica.
    cluster.stop_replicas();
    cluster.ignore_failures();
    cluster.write_configuration(CONFIG);
    cluster.delete_bindings();
    cluster.until_allowed();
    cluster.apply_backstop("Deny");
    let denied: BTreeSet<String> = ask_for_corpus(&cluster)
        .into_iter()
        .filter(|(_, verdict)| verdict.denied_by_backstop())
        .map(|(name, _)| name)
        .collect();
    check_table(&denied);
    messages_name_rule_and_help(&cluster);
    large_objects_pass(&cluster);

    // The way out.
    let start = Instant::now();
    cluster.delete_bindings();
    cluster.until_allowed();
    println!("the way out took {:.2} s", start.elapsed().as_secs_f64());
}

/// Checks that the webhook denies each request that the backstop would deny. Returns how many each policy would deny.
fn compare(cluster: &Cluster, requests: &[Request]) -> BTreeMap<String, usize> {
    let start = Instant::now();
    let verdicts = cluster.ask(requests.to_vec());
    let took = start.elapsed();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (request, verdict) in requests.iter().zip(&verdicts) {
        assert!(verdict.is_sound(), "{request:?}\n{verdict:?}");
        for name in &verdict.backstop {
            assert!(NAMES.contains(&&**name), "{name}");
            *counts.entry(name.clone()).or_default() += 1;
        }
    }
    let number = |holds: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| holds(verdict)).count();
    let (webhook, backstop) =
        (number(|verdict| verdict.webhook.is_some()), number(|verdict| !verdict.backstop.is_empty()));
    let (sent, seconds, rejected) = (requests.len(), took.as_secs_f64(), number(Verdict::is_rejected));
    println!(
        "{sent} requests in {seconds:.1} s: the webhook denied {webhook}, the backstop {backstop} of them; the API server \
         rejected {rejected}"
    );
    for (name, count) in &counts {
        println!("  {count:5} {name}");
    }
    assert!(rejected * 10 < sent, "too many requests that the API server rejects by itself");
    cluster.no_expression_failed();
    counts
}

/// The text that a user sees.
fn messages_name_rule_and_help(cluster: &Cluster) {
    let object = corpus()["kubernetes/allow-all"].clone();
    let [verdict] = <[_; 1]>::try_from(cluster.ask(vec![Request::create("ada", object)])).unwrap();
    let expected = "any-port: NetworkPolicy apps/allow-all allows a peer on every port; help: list the ports";
    assert!(verdict.message.contains(expected), "{}", verdict.message);
}

/// Objects up to the documented size are checked, and larger ones pass.
fn large_objects_pass(cluster: &Cluster) {
    for (rules, is_denied) in [(1_999, true), (2_000, false)] {
        let mut ingress = vec![json!({"ports": [{"port": 1}]}); rules];
        ingress.push(json!({}));
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "large", "namespace": "c"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress}});
        let start = Instant::now();
        let [verdict] = <[_; 1]>::try_from(cluster.ask(vec![Request::create("ada", object)])).unwrap();
        println!("a policy of {} rules: {:.2} s", rules + 1, start.elapsed().as_secs_f64());
        assert!(!verdict.is_rejected(), "{verdict:?}");
        assert_eq!(verdict.denied_by_backstop(), is_denied, "{rules} rules: {verdict:?}");
    }
}
