//! What decisions are made from: clusters and configurations that differ in what they ask of a request.

use std::sync::{Arc, LazyLock};

use portcullis::admission::Knowledge;
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect;
use portcullis::model::Object;
use portcullis::rules::RULES;
use portcullis::view::{Facts, Need, View};
use serde_json::{Value, json};

use crate::crowd;

const DOMAIN: &str = "network-policy.portcullis.dev";

/// Every surroundings that a target chooses from.
static ALL: LazyLock<Vec<Knowledge>> = LazyLock::new(|| {
    let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
    let denying: String = RULES.iter().map(|rule| format!("  {}: deny\n", rule.name)).collect();
    let injecting = "rules: {dns-blocked: {settings: {inject: true}}, split-peer: deny}\nbaseline: {gate: true}\n";
    let of_calico = "policySet: calico\nlookups: {onFailure: allow}\nprofiles: {names: [isolated, standard], default: null}\n\
        platformNamespaces: [kube-*]\nrules: {dns-blocked: {settings: {scope: policy}}}\n";
    let of_cilium = "policySet: cilium\noverrides: [{namespaces: {names: [sh*]}, rules: {any-port: warn}},\n\
        {namespaces: {platform: true}, rules: {dns-blocked: off}}]\n";
    let texts = [
        head.to_owned(),
        format!("{head}overrides: []\nrules:\n{denying}"),
        format!("{head}{injecting}"),
        format!("{head}{of_calico}"),
        format!("{head}{of_cilium}"),
    ];
    let configurations = texts.iter().map(|text| Configuration::read(text).expect("a configuration"));
    let mut all: Vec<Knowledge> = configurations.map(crowd::knowledge).collect();
    // A cluster that is watched: what is not in the view is looked up.
    let mut watched = View::of_cluster();
    for (name, profile) in [("shop", "isolated"), ("kube-system", ""), ("open", "standard")] {
        let labels = json!({format!("{DOMAIN}/profile"): profile, format!("{DOMAIN}/baseline"): "pending"});
        watched.insert(object(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        ));
    }
    let policies = PolicySet::shipped(DOMAIN).expect("policies that ship");
    let configuration = Configuration::read(&format!("{head}{injecting}")).expect("a configuration");
    all.push(Knowledge { controller_runs: true, ..Knowledge::new(configuration, watched, policies) });
    all
});

/// Surroundings, chosen by a byte, with these objects in them.
pub(crate) fn choose(choice: u8, around: Vec<Object>) -> Knowledge {
    let mut knowledge = ALL[usize::from(choice) % ALL.len()].clone();
    if !around.is_empty() {
        let mut view = View::clone(&knowledge.view);
        for object in around {
            view.insert(object);
        }
        knowledge.view = Arc::new(view);
    }
    knowledge
}

/// The object in a manifest that is known to be valid.
fn object(manifest: &Value) -> Object {
    read(manifest).expect("a valid manifest")
}

/// The object in a manifest, if a dialect reads it.
pub(crate) fn read(manifest: &Value) -> Option<Object> {
    show("manifest", &manifest.to_string());
    dialect::read_value(manifest).ok()?
}

/// Answers a lookup as a cluster would in which most things exist and most users may do little. The first letter of a name
/// decides, so that a request alone says what the cluster answers.
pub(crate) fn look_up(need: Need, facts: &mut Facts) {
    match need {
        Need::Namespace(name) if name.starts_with(['a', 's']) => {
            let labels = json!({format!("{DOMAIN}/profile"): "internal"});
            let found =
                object(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
            facts.namespaces.insert(name, Ok(Some(found)));
        }
        Need::Namespace(name) if name.starts_with('b') => drop(facts.namespaces.insert(name, Ok(None))),
        Need::Stored(_) => facts.stored = Some(Ok(Vec::new())),
        Need::Bypass { rule, requester, .. } => {
            facts.bypasses.insert(rule, Ok(requester.username.starts_with('r')));
        }
        need => facts.fail(need, "the API server does not answer"),
    }
}

/// Prints an input in full if `FUZZ_SHOW` is set: what the bytes of a crash stand for.
pub(crate) fn show(what: &str, text: &str) {
    if std::env::var_os("FUZZ_SHOW").is_some() {
        eprintln!("{what}: {text}");
    }
}
