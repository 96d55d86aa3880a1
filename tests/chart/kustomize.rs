//! The chart and the kustomize base install the same objects.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;

use portcullis::yaml;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Helm, objects, root, skipped};

/// The labels that only helm sets.
const RELEASE_LABELS: [&str; 4] =
    ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"];

/// An overlay that moves the base to the namespace `guard`. README.md shows the same one.
const OVERLAY: &str = "\
resources: [DEPLOY]
namespace: guard
configMapGenerator:
- {name: portcullis-configuration, namespace: portcullis-system, behavior: replace, files: [portcullis.yaml]}
transformers:
- |-
  apiVersion: builtin
  kind: PatchTransformer
  metadata: {name: role-in-default}
  target: {name: portcullis-api-server-endpoints}
  patch: '[{\"op\": \"replace\", \"path\": \"/metadata/namespace\", \"value\": \"default\"}]'
- |-
  apiVersion: builtin
  kind: PatchTransformer
  metadata: {name: account-in-guard}
  target: {kind: RoleBinding, name: portcullis-api-server-endpoints}
  patch: '[{\"op\": \"replace\", \"path\": \"/subjects/0/namespace\", \"value\": \"guard\"}]'
";

/// Returns the output of `kubectl kustomize`. None without kubectl.
fn kustomize(folder: &str) -> Option<String> {
    for program in ["kubectl", "/usr/local/kubebuilder/bin/kubectl"] {
        match Command::new(program).args(["kustomize", folder]).current_dir(root()).output() {
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

/// Returns the objects by kind, namespace and name, without the differences between both ways to install:
///
/// - the chart does not create the namespace: `helm install --create-namespace` does;
/// - the objects of the uninstall hook are only in the chart;
/// - helm has labels for its releases;
/// - the name of the ConfigMap has a hash in kustomize; in the chart the pods have an annotation with one instead.
fn comparable(text: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects(text) {
        let is_hook = object["metadata"]["annotations"].get("helm.sh/hook").is_some();
        if object["kind"] == "Namespace" || is_hook {
            continue;
        }
        for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = object.pointer_mut(place).and_then(Value::as_object_mut) {
                labels.retain(|label, _| !RELEASE_LABELS.contains(&label.as_str()));
            }
        }
        match object["kind"].as_str().unwrap() {
            "ConfigMap" if object["data"].get("portcullis.yaml").is_some() => {
                object["metadata"] =
                    json!({"name": "portcullis-configuration", "namespace": object["metadata"]["namespace"]});
                let text = object["data"]["portcullis.yaml"].as_str().unwrap();
                object["data"]["portcullis.yaml"] = yaml::read(text).unwrap().remove(0).value;
            }
            // The indentation of the template trims the end of the file.
            "ConfigMap" => {
                let text = object["data"]["portcullis.json"].as_str().unwrap();
                object["data"]["portcullis.json"] = serde_json::from_str(text).unwrap();
            }
            "Deployment" => {
                let template = &mut object["spec"]["template"];
                template["metadata"].as_object_mut().unwrap().remove("annotations");
                let map = &mut template["spec"]["volumes"][0]["configMap"];
                assert!(map["name"].as_str().unwrap().starts_with("portcullis-configuration"), "{map}");
                map["name"] = json!("portcullis-configuration");
            }
            _ => {}
        }
        let metadata = &object["metadata"];
        let key = format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"]);
        assert!(all.insert(key.clone(), object).is_none(), "{key} twice");
    }
    all
}

#[track_caller]
fn assert_same(chart: &str, kustomization: &str) {
    let (chart, kustomization) = (comparable(chart), comparable(kustomization));
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&chart), names(&kustomization));
    for (name, object) in &chart {
        assert_eq!(object, &kustomization[name], "{name}");
    }
}

#[test]
fn default_values_render_the_objects_of_the_kustomize_base() {
    let Some(helm) = Helm::find() else { return };
    let Some(base) = kustomize("deploy") else { return };
    assert_same(&helm.template("portcullis-system", &[]), &base);
}

/// A folder with this kustomization. `DEPLOY` stands for the path of `deploy/`, because kustomize takes only relative paths.
fn overlay(kustomization: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix("overlay-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let up = "../".repeat(dir.path().components().count() - 1);
    let deploy = format!("{up}{}", root().join("deploy").strip_prefix("/").unwrap().display());
    fs::write(dir.path().join("kustomization.yaml"), kustomization.replace("DEPLOY", &deploy)).unwrap();
    dir
}

#[test]
fn the_dashboard_is_the_same_in_both() {
    let Some(helm) = Helm::find() else { return };
    let dir = overlay("resources: [DEPLOY]\ncomponents: [DEPLOY/dashboard]\n");
    let Some(with_component) = kustomize(dir.path().to_str().unwrap()) else { return };
    assert_same(&helm.template("portcullis-system", &["--set=dashboard.enabled=true"]), &with_component);
}

#[test]
fn the_dashboard_reads_the_deployment_of_the_release() {
    let Some(helm) = Helm::find() else { return };
    let text = helm.template("guard", &["--set=dashboard.enabled=true,fullnameOverride=gate"]);
    let objects = objects(&text);
    let map = objects.iter().find(|object| object["metadata"]["name"] == "gate-dashboard").unwrap();
    let dashboard = map["data"]["portcullis.json"].as_str().unwrap();
    let expected = fs::read_to_string(root().join("deploy/dashboard/portcullis.json")).unwrap();
    let (ours, theirs) = (r#"deployment=\"gate\""#, r#"deployment=\"portcullis\""#);
    assert!(dashboard.contains(ours), "{dashboard}");
    assert_eq!(dashboard.replace(ours, theirs), expected.trim_end());
}

#[test]
fn another_namespace_is_the_same_in_both() {
    let Some(helm) = Helm::find() else { return };
    let dir = overlay(OVERLAY);
    let configuration = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n\
                         installation: {namespace: guard, serviceAccount: portcullis}\n";
    fs::write(dir.path().join("portcullis.yaml"), configuration).unwrap();
    let Some(moved) = kustomize(dir.path().to_str().unwrap()) else { return };
    assert!(!moved.contains("portcullis-system"), "{moved}");
    let rendered = helm.template("guard", &[]);
    assert!(!rendered.contains("portcullis-system"), "{rendered}");
    assert_same(&rendered, &moved);
}

#[test]
fn the_readme_shows_the_overlay_for_another_namespace() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let without_indentation: Vec<&str> = readme.lines().map(str::trim_start).collect();
    for line in OVERLAY.replace("DEPLOY", "../deploy").lines() {
        assert!(without_indentation.contains(&line.trim_start()), "{line}");
    }
}
