//! `portcullis test`: its outputs, its exit status, and the fault drill.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::command::run;
use crate::support::golden;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts")
}

fn manifest(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

#[test]
fn outputs_are_as_recorded() {
    let mut wrong = Vec::new();
    for (name, arguments) in [
        ("result.txt", &[][..]),
        ("result.json", &["--output", "json"]),
        ("result.xml", &["--output", "junit"]),
        ("drill.txt", &["--mutate"]),
    ] {
        let (cluster, contracts) = (manifest("cluster.yaml"), manifest("contracts.yaml"));
        let done = run(&[&["test"], arguments, &[&*cluster, &*contracts]].concat(), "");
        assert_eq!(done.code, 1, "{}{}", done.out, done.err);
        wrong.extend(golden::compare(&folder().join(name), &done.out).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A contract about namespace payments of the example.
fn contract(demand: &str) -> String {
    format!("apiVersion: portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {{name: c}}\nspec:\n  {demand}\n  # end\n")
}

fn status(demand: &str) -> (i32, String) {
    let cluster = manifest("cluster.yaml");
    let done = run(&["test", &cluster, "-"], &contract(demand));
    (done.code, format!("{}{}", done.out, done.err))
}

#[test]
fn the_exit_status_tells_the_worst_result() {
    let reach = |to: &str, port: u16| {
        format!("mustReach: {{from: [{{namespaces: [payments]}}], to: [{to}], ports: [{{port: {port}}}]}}")
    };
    // The addresses of a name are unknown, and the profile allows all but one.
    for (demand, expected) in [
        (reach("{entity: ClusterDNS}", 53), 0),
        (reach("{entity: Internet}", 22), 1),
        (reach("{domain: api.example.com}", 443), 2),
    ] {
        let (code, text) = status(&demand);
        assert_eq!(code, expected, "{demand}: {text}");
    }
    let (code, text) = status("mustReach: {from: [{namespaces: [shop]}], to: [{entity: World}]}");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("`World` is not one of Internet, Nodes, APIServer, ClusterDNS"), "{text}");
    let twice = contract(&reach("{entity: ClusterDNS}", 53)) + "---\n" + &contract(&reach("{entity: ClusterDNS}", 53));
    let done = run(&["test", &manifest("cluster.yaml"), "-"], &twice);
    assert_eq!(done.code, 2, "a contract that counts for nothing is no success: {}", done.out);
    assert!(done.out.contains("an earlier contract with the name c"), "{}", done.out);
    let done = run(&["test", &manifest("cluster.yaml")], "");
    assert_eq!(done.code, 2);
    assert!(done.err.contains("no contract found"), "{}", done.err);
}

#[test]
fn an_end_that_matches_no_namespace_is_noted() {
    let reach = |from: &str| format!("mustReach: {{from: [{from}], to: [{{entity: ClusterDNS}}]}}");
    let except = "mustNotReach: {from: [{allPodsExcept: [{namespaces: [paymets]}, {namespaceSelector: {}}]}], to: \
                  [{namespaces: [payments]}]}";
    let existing = |from: &str| format!("pods: Existing\n  {}", reach(from));
    for (demand, expected) in [
        (
            reach("{namespaces: [paymets]}"),
            Some("no namespace in the manifests matches `paymets`, so the policies there"),
        ),
        (
            existing("{namespaceSelector: {matchLabels: {team: paymets}}}"),
            Some("no namespace in the manifests matches `team=paymets`, so nothing can break the contract there"),
        ),
        (
            existing("{namespaces: [payments], podSelector: {matchLabels: {app: apo}}}"),
            Some("no existing pod matches pods with app=apo in namespace payments, so nothing"),
        ),
        // Pods that could be created are enough.
        (reach("{namespaces: [payments], podSelector: {matchLabels: {app: apo}}}"), None),
        (reach("{namespaces: [payments]}"), None),
        (existing("{namespaces: [payments], podSelector: {matchLabels: {app: api}}}"), None),
        (except.to_owned(), None),
    ] {
        let (code, text) = status(&demand);
        assert_eq!(code, 0, "{demand}: {text}");
        match expected {
            Some(note) => assert!(text.contains(&format!("  note: {note}")), "{demand}: {text}"),
            None => assert!(!text.contains("note:"), "{demand}: {text}"),
        }
    }
}

#[test]
fn two_namespaces_without_manifests_may_have_different_labels() {
    let label = |team: &str| format!("{{namespaceSelector: {{matchLabels: {{team: {team}}}}}}}");
    let contract = |to: &str| contract(&format!("mustNotReach: {{from: [{}], to: [{}]}}", label("a"), label(to)));
    let policy = "---\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a-not-b}\n\
                  spec:\n  priority: 10\n  subject: {namespaces: {matchLabels: {team: b}}}\n  ingress:\n  - {name: deny, \
                  action: Deny, from: [{namespaces: {matchLabels: {team: a}}}]}\n";
    for (to, code) in [("b", 0), ("c", 1)] {
        let done = run(&["test", "-"], &[&contract(to), policy].concat());
        assert_eq!(done.code, code, "{to}: {}{}", done.out, done.err);
    }
}

#[test]
fn a_change_without_effect_is_not_unnoticed() {
    let policy = |name: &str, ports: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress:\n  - from: [{{podSelector: {{}}}}]\n    \
             ports: [{ports}]\n"
        )
    };
    let contract = contract("mustReach: {from: [{namespaces: [shop]}], to: [{entity: ClusterDNS}]}");
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, uid: '1'}\n";
    let drill = |manifests: &str| {
        let done = run(&["test", "--mutate", "--output", "json", "-"], manifests);
        assert_eq!(done.code, 0, "{}{}", done.out, done.err);
        let report: Value = serde_json::from_str(&done.out).unwrap();
        let list = |name: &str| {
            let changes = report["mutations"][name].as_array().unwrap().iter();
            changes.map(|change| change.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        (list("withoutEffect"), list("unnoticed"))
    };
    let (wide, narrow) = (policy("wide", "{port: 80, endPort: 90}"), policy("narrow", "{port: 80}"));
    let (without_effect, unnoticed) = drill(&[&contract, namespace, &wide, &narrow].concat());
    // The wide policy does everything that the narrow one does.
    for change in ["spec.ingress[0]: remove the rule", "delete it"] {
        let change = format!("NetworkPolicy shop/narrow: {change}");
        assert!(without_effect.contains(&change) && !unnoticed.contains(&change), "{without_effect:?} {unnoticed:?}");
    }
    let change = "NetworkPolicy shop/wide: spec.ingress[0]: remove the rule".to_owned();
    assert!(unnoticed.contains(&change) && !without_effect.contains(&change), "{without_effect:?} {unnoticed:?}");
    // A cluster-wide policy may be about a namespace without manifests.
    let denial = "---\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: denial}\n\
                  spec:\n  priority: 10\n  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: other}}}\n  \
                  ingress:\n  - {name: deny, action: Deny, from: [{namespaces: {}}]}\n";
    let (without_effect, unnoticed) = drill(&[&contract, namespace, denial].concat());
    let change = "AdminNetworkPolicy denial: spec.ingress[0]: remove the rule".to_owned();
    assert!(unnoticed.contains(&change) && without_effect.is_empty(), "{without_effect:?} {unnoticed:?}");
    // One port makes the difference.
    let narrow = policy("narrow", "{port: 91}");
    let (without_effect, unnoticed) = drill(&[&contract, namespace, &wide, &narrow].concat());
    let change = "NetworkPolicy shop/narrow: spec.ingress[0]: remove the rule".to_owned();
    assert!(unnoticed.contains(&change) && !without_effect.contains(&change), "{without_effect:?} {unnoticed:?}");
    assert!(without_effect.contains(&"NetworkPolicy shop/wide: no longer isolate for ingress".to_owned()));
}

#[test]
fn a_change_that_breaks_a_contract_is_denied_by_check() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: allow-partners, namespace: \
                  payments}\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n  ingress:\n  - from: \
                  [{namespaceSelector: {matchLabels: {team: partners}}}]\n    ports: [{protocol: TCP, port: 5432}]\n";
    let (cluster, contracts) = (manifest("cluster.yaml"), manifest("contracts.yaml"));
    let context = ["--context", &cluster, "--context", &contracts];
    let done = run(&[&["check", "--output", "json"], &context[..], &["-"]].concat(), policy);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["rule"] == "broken-contract").unwrap();
    assert_eq!(done.code, 1);
    assert_eq!(
        finding["message"],
        "this breaks contract card-database: a pod without labels in namespace partners could reach a pod with app=db in \
         namespace payments on TCP 5432, because no policy isolates the source for egress, and NetworkPolicy \
         payments/allow-partners allows it"
    );
    assert_eq!(finding["path"], "spec.ingress[0]");
    assert!(finding["help"].as_str().unwrap().ends_with("(PCI DSS 1.3); owner: team-payments"), "{finding}");
}

/// The answer of `review` to the creation of a namespace with this label.
fn creation(label: &str) -> String {
    let review = serde_json::json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Namespace"}, "name": "late", "namespace": "late",
        "operation": "CREATE", "userInfo": {"username": "jane"},
        "object": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late", "labels": {
            "team": label}}}}});
    let contract = "apiVersion: portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {name: c}\nspec:\n  mustNotReach:\n    \
                    from: [{allPodsExcept: [{namespaces: [shop]}]}]\n    to: [{namespaces: [payments], podSelector: \
                    {matchLabels: {app: api}}}]\n    ports: [{port: 8443}]\n---\napiVersion: \
                    portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {name: d}\nspec:\n  mustReach:\n    from: \
                    [{namespaceSelector: {}}]\n    to: [{namespaces: [payments]}]\n    ports: [{port: 1}]\n";
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), contract).unwrap();
    let (cluster, contract) = (manifest("cluster.yaml"), file.path().to_str().unwrap().to_owned());
    let done = run(&["review", "--context", &cluster, "--context", &contract], &review.to_string());
    done.out + &done.err
}

#[test]
fn a_new_namespace_may_not_match_a_rule_that_was_meant_for_others() {
    // Namespaces of team shop may connect to the API, and the contract allows only namespace shop.
    let denied = creation("shop");
    assert!(denied.contains("broken-contract") && denied.contains("in namespace late could reach"), "{denied}");
    // Policies of a new namespace follow it.
    let allowed = creation("other");
    assert!(!allowed.contains("broken-contract"), "{allowed}");
}
