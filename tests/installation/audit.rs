//! `portcullis audit --cluster`: with read rights, and with a part of them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;

/// Audits with a kubeconfig.
fn audit(kubeconfig: &Path, arguments: &[&str]) -> (i32, Value) {
    let done = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["audit", "--cluster", "--output", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr));
    });
    (done.status.code().unwrap(), report)
}

/// The section of a report with this name.
fn section<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["sections"].as_array().unwrap().iter().find(|section| section["id"] == id).unwrap()
}

#[test]
fn a_cluster_is_audited_with_read_rights_and_without_some() {
    let Some(plane) = ControlPlane::start() else { return };
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"network-policy.portcullis.dev/profile": "isolated"}},
    });
    let pod = |name: &str, app: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
            "spec": {"containers": [{"name": "c", "image": "example.com/c", "ports": [{"containerPort": 8080}]}]},
        })
    };
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{}]},
    });
    let daemon_set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": {"k8s-app": "cilium"}}, "template": {
            "metadata": {"labels": {"k8s-app": "cilium"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "cilium-agent", "image": "quay.io/cilium/cilium:v1.18.3"}]},
        }},
    });
    let settings = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"policy-audit-mode": "true"},
    });
    let list = json!(["list"]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "auditor"},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": list},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": list},
        ],
    });
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "auditor", "namespace": "default"}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "auditor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "auditor"},
        "subjects": [{"kind": "ServiceAccount", "name": "auditor", "namespace": "default"}],
    });
    let pods = [pod("web-1", "web"), pod("web-2", "web"), pod("api-1", "api")];
    for object in pods.iter().chain([&policy, &daemon_set, &settings, &role, &account, &binding]).fold(
        vec![&namespace],
        |mut all, object| {
            all.push(object);
            all
        },
    ) {
        let applied = plane.apply(&object.to_string(), &[]);
        assert!(applied.ok, "{applied}");
    }

    let (code, report) = audit(plane.kubeconfig(), &[]);
    assert_eq!((code, &report["unread"]), (1, &json!([])), "{report:#}");
    let workloads = report["workloads"].as_array().unwrap().iter().filter(|one| one["namespace"] == "shop");
    let workloads: Vec<(&str, u64)> =
        workloads.map(|one| (one["id"].as_str().unwrap(), one["pods"].as_u64().unwrap())).collect();
    assert_eq!(workloads, [("shop/pod/api-1", 1), ("shop/pod/web-1", 2)]);
    let shop = report["namespaces"].as_array().unwrap().iter().find(|one| one["name"] == "shop").unwrap();
    assert_eq!((&shop["baseline"], &shop["profile"]), (&json!("missing"), &json!("isolated")));
    assert_eq!(section(&report, "from-anywhere")["items"][0]["object"], "NetworkPolicy shop/open");
    assert!(section(&report, "denied")["count"].as_u64().unwrap() > 0);
    let plugin = &report["plugin"];
    assert_eq!(
        (&plugin["found"][0]["name"], &plugin["found"][0]["version"], &plugin["enforces"]),
        (&json!("Cilium"), &json!("v1.18.3"), &json!(false)),
        "{plugin:#}"
    );

    let token = plane.kubectl(&["create", "token", "auditor", "--namespace=default"]);
    assert!(token.ok, "{token}");
    let file = tempfile::NamedTempFile::new().unwrap();
    plane.kubeconfig_with_token(file.path(), token.stdout.trim(), plane.port());
    let (code, limited) = audit(file.path(), &["--namespace", "shop"]);
    assert_eq!(code, 1);
    let unread = limited["unread"].to_string();
    assert!(
        unread.contains("deployments") && unread.contains("forbidden") && !unread.contains("networkpolicies"),
        "{unread}"
    );
    let unanswered = section(&limited, "plugin")["unanswered"].to_string();
    assert!(unanswered.contains("daemonsets") && unanswered.contains("forbidden"), "{unanswered}");
    // Everything that could be read is answered alike.
    let cells = |report: &Value| -> Vec<Value> {
        let cells = report["matrix"]["workloads"]["cells"].as_array().unwrap().iter();
        let is_of_shop = |end: &Value| end.as_str().unwrap().starts_with("shop/");
        cells.filter(|cell| is_of_shop(&cell["from"]) && is_of_shop(&cell["to"])).cloned().collect()
    };
    assert_eq!(cells(&limited), cells(&report));
    assert_eq!(cells(&limited).len(), 3, "{limited:#}");

    // A manifest counts as if it were applied.
    let manifest = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let closed = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
    });
    std::fs::write(manifest.path(), closed.to_string()).unwrap();
    let (_, changed) = audit(plane.kubeconfig(), &["--namespace", "shop", manifest.path().to_str().unwrap()]);
    assert_eq!(section(&changed, "from-anywhere")["count"], 0, "{changed:#}");
}
