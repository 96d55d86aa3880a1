//! `portcullis trace --cluster`: with read rights, and with a part of them.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;

/// Runs a trace with a kubeconfig.
fn trace(kubeconfig: &std::path::Path, arguments: &[&str]) -> (i32, Value) {
    let done = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["trace", "--cluster", "--output", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let answer = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr));
    });
    (done.status.code().unwrap(), answer)
}

#[test]
fn a_cluster_is_traced_with_read_rights_and_a_repair_is_what_it_says() {
    let Some(plane) = ControlPlane::start() else { return };
    let pod = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "example.com/c", "ports": [{"containerPort": 8080}]}]},
        })
    };
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "default"},
        "spec": {"selector": {"app": "api"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list"]},
        ],
    });
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    });
    for object in [pod("web"), pod("api"), deny, service, role, account, binding] {
        let applied = plane.apply(&object.to_string(), &[]);
        assert!(applied.ok, "{applied}");
    }
    let flow = ["--from", "default/web", "--to", "default/service/api:80"];
    let (code, answer) = trace(plane.kubeconfig(), &flow);
    assert_eq!((code, &answer["verdict"]), (1, &json!("blocked")), "{answer:#}");
    assert_eq!(answer["missing"], Value::Null, "{answer:#}");

    let token = plane.kubectl(&["create", "token", "reader", "--namespace=default"]);
    assert!(token.ok, "{token}");
    let file = tempfile::NamedTempFile::new().unwrap();
    plane.kubeconfig_with_token(file.path(), token.stdout.trim(), plane.port());
    let (code, answer) = trace(file.path(), &flow);
    assert_eq!((code, &answer["verdict"]), (1, &json!("blocked")), "{answer:#}");
    let missing = answer["missing"].to_string();
    assert!(
        missing.contains("deployments") && missing.contains("forbidden") && !missing.contains("networkpolicies"),
        "{missing}"
    );

    // The repair is tried in a server dry run, then made.
    let repair = &answer["repairs"][0];
    for manifest in repair["manifests"].as_array().unwrap() {
        let dry = plane.apply(&manifest.to_string(), &["--dry-run=server"]);
        assert!(dry.ok, "{dry}");
        let applied = plane.apply(&manifest.to_string(), &[]);
        assert!(applied.ok, "{applied}");
    }
    let (code, answer) = trace(plane.kubeconfig(), &flow);
    assert_eq!((code, &answer["verdict"]), (0, &json!("allowed")), "{answer:#}");
    // A manifest counts as if it were applied.
    let closing = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]},
    });
    std::fs::write(closing.path(), policy.to_string()).unwrap();
    let (code, answer) = trace(plane.kubeconfig(), &[&flow[..], &[closing.path().to_str().unwrap()]].concat());
    assert_eq!((code, &answer["flows"][0]["egress"]["verdict"]), (1, &json!("blocked")), "{answer:#}");
}
