//! The values: each file in `ci` renders objects that an API server takes, and mistakes are named in one line.

use std::fs;

use portcullis::config::Configuration;
use serde_json::{Value, json};

use super::support::command::run;
use super::support::control_plane::ControlPlane;
use super::{CHART, Helm, objects, root, value_files};

/// The kinds of other projects in the chart: group, version, plural and kind. Their CRDs accept every field here, because the
/// originals are not part of this repository.
const OTHER_KINDS: [(&str, &str, &str, &str); 5] = [
    ("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor"),
    ("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
    ("cert-manager.io", "v1", "certificates", "Certificate"),
    ("cert-manager.io", "v1", "issuers", "Issuer"),
    ("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy"),
];

/// Returns the arguments of helm for the defaults and for each file.
fn all_values() -> Vec<Vec<String>> {
    let files = value_files().into_iter().map(|file| vec![format!("--values={file}")]);
    std::iter::once(Vec::new()).chain(files).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn every_file_passes_helm_lint_and_the_rules_of_portcullis() {
    let Some(helm) = Helm::find() else { return };
    for values in all_values() {
        let lint = helm.run(&[&["lint", "--strict", CHART][..], &borrowed(&values)].concat());
        assert_eq!(lint.code, 0, "{values:?}: {}{}", lint.out, lint.err);
        let rendered = helm.template("portcullis-system", &borrowed(&values));
        let check = run(&["check", "-"], &rendered);
        assert_eq!(check.code, 0, "{values:?}: {}", check.out);
        assert!(check.out.contains("no findings in "), "{values:?}: {}", check.out);
    }
}

#[test]
fn every_file_renders_a_valid_configuration_and_arguments_of_serve() {
    let Some(helm) = Helm::find() else { return };
    let help = run(&["serve", "--help"], "").out;
    for values in all_values() {
        let objects = objects(&helm.template("guard", &borrowed(&values)));
        let configuration = objects.iter().find_map(|object| object["data"]["portcullis.yaml"].as_str()).unwrap();
        let configuration = Configuration::read(configuration).unwrap();
        assert_eq!(configuration.site.namespace, "guard", "{values:?}");
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().unwrap();
        assert_eq!(
            configuration.site.baseline.username,
            format!("system:serviceaccount:guard:{account}"),
            "{values:?}"
        );
        for argument in &pod["containers"][0]["args"].as_array().unwrap()[1..] {
            let flag = argument.as_str().unwrap().split('=').next().unwrap();
            assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag} in {help}");
        }
    }
}

#[test]
fn an_api_server_accepts_what_every_file_renders() {
    let Some(helm) = Helm::find() else { return };
    let Some(plane) = ControlPlane::start() else { return };
    let crds: Vec<Value> = OTHER_KINDS.iter().map(|kind| crd(*kind)).collect();
    let made = plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": crds}).to_string(), &[]);
    assert!(made.ok, "{made}");
    let waited = plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    assert!(waited.ok, "{waited}");
    // Pod Security warns about a workload whose pods it would reject.
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: portcullis-system, labels: \
                     {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}";
    let made = plane.apply(namespace, &[]);
    assert!(made.ok, "{made}");
    for values in all_values() {
        let rendered = helm.template("portcullis-system", &borrowed(&values));
        let accepted = plane.apply(&rendered, &["--server-side", "--dry-run=server", "--validate=strict"]);
        assert!(accepted.ok, "{values:?}: {accepted}");
        assert!(!accepted.stderr.contains("Warning"), "{values:?}: {accepted}");
        let count = accepted.stdout.lines().count();
        assert_eq!(count, objects(&rendered).len(), "{accepted}");
    }
}

fn crd((group, version, plural, kind): (&str, &str, &str, &str)) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
            "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

#[test]
fn bad_values_are_named_in_one_line() {
    let Some(helm) = Helm::find() else { return };
    for (values, expected) in [
        ("preset=strict", "- preset: preset must be one of the following: \"observe\", \"warn\", \"enforce\""),
        ("replicas=0", "- replicas: Must be greater than or equal to 1"),
        ("image.tagg=1", "- image: Additional property tagg is not allowed"),
        ("service.port=70000", "- service.port: Must be less than or equal to 65535"),
        (
            "networkPolicy.kind=calico",
            "- networkPolicy.kind: networkPolicy.kind must be one of the following: \"kubernetes\", \"cilium\", \"none\"",
        ),
        ("replica=1", "- (root): Additional property replica is not allowed"),
        (
            "certificate.source=secret",
            "webhooks.mode: manage requires certificate.source: builtin, not secret; set webhooks.mode: report",
        ),
        ("configuration.preset=warn", "configuration.preset is set by the chart; remove it and set the value preset"),
        (
            "stopAfterSeconds=60",
            "terminationGracePeriodSeconds: 45 is less than stopAfterSeconds plus 20 s for requests in flight (80)",
        ),
    ] {
        let done = helm.run(&["template", "portcullis", CHART, "--set", values]);
        assert_ne!(done.code, 0, "{values}");
        assert!(done.err.lines().any(|line| line.ends_with(expected)), "{values}: {}", done.err);
    }
}

/// The image is the only value that a user has to set; nothing in the chart names a registry.
#[test]
fn the_image_is_a_tag_or_a_digest() {
    let Some(helm) = Helm::find() else { return };
    let image = |arguments: &[&str]| {
        let objects = objects(&helm.template("portcullis-system", arguments));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let chart = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("appVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    assert_eq!(image(&[]), format!("portcullis:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(&["--set-string=image.repository=r.example/p,image.tag=7"]), "r.example/p:7");
    let digest = format!("sha256:{}", "a".repeat(64));
    let set = format!("--set=image.repository=r.example/p,image.digest={digest}");
    assert_eq!(image(&[&set]), format!("r.example/p@{digest}"));
}
