//! `deploy/`: what is in it, and what becomes of it in a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod backends;
mod cluster;
mod dashboard;
mod dns;
mod first_apply;
mod gitops;
mod operators;
mod services;
mod trace;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use portcullis::yaml;
use serde_json::{Value, json};
use support::command::run;

/// What `kubectl kustomize` makes of a folder of this repository. None where there is no `kubectl`, which is said in a line
/// that the test harness does not swallow.
fn rendered(folder: &str) -> Option<String> {
    let kubectl = ["kubectl", "/usr/local/kubebuilder/bin/kubectl"];
    for program in kubectl {
        match Command::new(program).args(["kustomize", folder]).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                return Some(String::from_utf8(output.stdout).unwrap());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{program}: {error}"),
        }
    }
    skipped("there is no kubectl");
    None
}

fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

fn objects(text: &str) -> Vec<Value> {
    yaml::read(text).unwrap().into_iter().map(|document| document.value).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[test]
fn it_passes_its_own_rules() {
    let done = run(&["check", "deploy/"], "");
    assert_eq!(done.code, 0, "{}", done.out);
    assert!(done.out.contains("no findings in "), "{}", done.out);
    let Some(rendered) = rendered("deploy") else { return };
    let done = run(&["check", "-"], &rendered);
    assert_eq!(done.code, 0, "{}", done.out);
    assert!(done.out.contains("no findings in "), "{}", done.out);
}

#[test]
fn two_replicas_run_with_no_more_than_they_need() {
    let Some(text) = rendered("deploy") else { return };
    let objects = objects(&text);
    let deployment = &find(&objects, "Deployment", "portcullis")["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["rollingUpdate"]["maxUnavailable"]),
        (&json!(2), &json!(0))
    );
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!((&pod["serviceAccountName"], &pod["hostNetwork"]), (&json!("portcullis"), &Value::Null));
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "admin"}), "{probe}");
    }
    // Neither more than one of them at once, nor none at all if there is but one.
    let budget = &find(&objects, "PodDisruptionBudget", "portcullis")["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["minAvailable"]), (&json!(1), &Value::Null));
    let namespace = find(&objects, "Namespace", "portcullis-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    // The name of the ConfigMap carries a hash, and the volume follows it.
    let config = pod["volumes"][0]["configMap"]["name"].as_str().unwrap();
    assert!(config.starts_with("portcullis-configuration-"), "{config}");
    let config = find(&objects, "ConfigMap", config)["data"]["portcullis.yaml"].as_str().unwrap();
    portcullis::config::Configuration::read(config).unwrap();
}

#[test]
fn the_deployment_starts_the_server_with_arguments_that_it_has_and_time_to_end() {
    let Some(text) = rendered("deploy") else { return };
    let objects = objects(&text);
    let pod = &find(&objects, "Deployment", "portcullis")["spec"]["template"]["spec"];
    let arguments: Vec<&str> =
        pod["containers"][0]["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    let help = run(&["serve", "--help"], "").out;
    assert_eq!(arguments[0], "serve");
    for argument in &arguments[1..] {
        let flag = argument.split('=').next().unwrap();
        assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag} in {help}");
    }
    let stop_after: u64 =
        arguments.iter().find_map(|argument| argument.strip_prefix("--stop-after=")).unwrap().parse().unwrap();
    // It drains for 20 seconds.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > stop_after + 20);
}

/// Small kinds may fail; pods never stop a cluster, and nothing of the control plane is asked about.
#[test]
fn webhooks_fail_only_where_an_outage_can_be_borne() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/webhooks.yaml");
    let objects = objects(&std::fs::read_to_string(file).unwrap());
    let policies = |kind: &str| -> Vec<(String, String)> {
        let webhooks = find(&objects, kind, "portcullis")["webhooks"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        webhooks.iter().map(|webhook| (text(&webhook["name"]), text(&webhook["failurePolicy"]))).collect()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, policy)| (format!("{name}.portcullis.dev"), (*policy).to_owned())).collect()
    };
    assert_eq!(
        policies("ValidatingWebhookConfiguration"),
        owned(&[
            ("policies", "Fail"),
            ("namespaces", "Fail"),
            ("namespace-labels", "Ignore"),
            ("pods", "Fail"),
            ("pending-pods", "Ignore"),
            ("workloads", "Fail"),
            ("services", "Ignore"),
        ])
    );
    assert_eq!(
        policies("MutatingWebhookConfiguration"),
        owned(&[("namespaces", "Ignore"), ("pending-pods", "Ignore"), ("policies", "Ignore")])
    );
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        for webhook in find(&objects, kind, "portcullis")["webhooks"].as_array().unwrap() {
            let name = &webhook["name"];
            let is_for_namespaces = name == "namespaces.portcullis.dev" || name == "namespace-labels.portcullis.dev";
            let mut spared = vec!["kube-system", "portcullis-system"];
            if name == "pods.portcullis.dev" || name == "workloads.portcullis.dev" {
                // There host-network only warns.
                spared.extend(["kube-public", "kube-node-lease"]);
            }
            let spares = webhook["namespaceSelector"]["matchExpressions"][0]["values"] == json!(spared);
            assert!(is_for_namespaces || spares, "{webhook}");
            // What is applied again would reset it.
            assert_eq!(webhook["clientConfig"].get("caBundle"), None, "{name}");
            if kind.starts_with("Validating") && (name == "pods.portcullis.dev" || name == "workloads.portcullis.dev") {
                assert!(webhook["matchConditions"].to_string().contains("hostNetwork"), "{webhook}");
            }
        }
    }
}

#[test]
fn its_roles_hold_no_star_and_no_secret_but_its_own() {
    let Some(text) = rendered("deploy") else { return };
    let objects = objects(&text);
    for role in objects.iter().filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap())) {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            let verbs: Vec<&str> =
                rule["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap()).collect();
            let about = |resource: &str| rule["resources"].as_array().unwrap().contains(&json!(resource));
            if about("secrets") {
                assert_eq!(role["kind"], "Role", "{rule}");
                assert!(verbs == ["create"] || rule["resourceNames"] == json!(["portcullis-tls"]), "{rule}");
            }
            // It reads all of them, and writes its own two.
            if about("validatingwebhookconfigurations") && verbs != ["list", "watch"] {
                // kustomize writes the name of a generated ConfigMap here if it is the same.
                assert_eq!(rule["resourceNames"], json!(["portcullis"]), "{rule}");
                assert_eq!(verbs, ["get", "create", "patch"], "{rule}");
            }
        }
    }
    let bound = objects.iter().filter(|object| object["roleRef"]["name"] == "portcullis-bypass").count();
    assert_eq!(bound, 0, "nobody may bypass a rule as shipped");
}

#[test]
fn a_component_for_each_other_set_of_policies_lets_the_controller_write_them() {
    let overlay = tempfile::Builder::new().prefix("overlay-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let up = "../".repeat(overlay.path().components().count() - 1);
    let deploy = format!("{}{}", up, base.strip_prefix("/").unwrap().display());
    for (set, resources) in [
        ("cilium", json!(["ciliumclusterwidenetworkpolicies"])),
        ("calico", json!(["globalnetworkpolicies", "tier.globalnetworkpolicies"])),
    ] {
        let text = format!("resources: [{deploy}]\ncomponents: [{deploy}/components/{set}]\n");
        std::fs::write(overlay.path().join("kustomization.yaml"), text).unwrap();
        let Some(text) = rendered(overlay.path().to_str().unwrap()) else { return };
        let objects = objects(&text);
        let rule = &find(&objects, "ClusterRole", &format!("portcullis-{set}"))["rules"][0];
        assert_eq!(rule["resources"], resources);
        let binding = find(&objects, "ClusterRoleBinding", &format!("portcullis-{set}"));
        assert_eq!(binding["subjects"][0]["name"], "portcullis");
    }
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let test = Command::new("promtool")
        .args(["test", "rules", "deploy/alerts/portcullis.rules.test"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match test {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => skipped("there is no promtool"),
        Err(error) => panic!("promtool: {error}"),
    }
}
