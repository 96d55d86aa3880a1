//! Services of a cluster: what the webhook warns about when a policy or a Service names the wrong port.

use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;

/// A policy that admits all pods of the namespace to a port.
fn policy(port: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: api, namespace: default}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: api}}}}\n  policyTypes: [Ingress]\n  ingress:\n  - from: [{{podSelector: {{}}}}]\n    \
         ports: [{{protocol: TCP, port: {port}}}]\n"
    )
}

fn service(target: u16) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "default"},
        "spec": {"selector": {"app": "api"}, "ports": [{"name": "http", "port": 80, "targetPort": target}]},
    })
    .to_string()
}

#[test]
fn a_policy_and_a_service_that_do_not_fit_are_warned_about() {
    let Some(plane) = ControlPlane::start() else { return };
    let cluster = Installation::new(plane, 1, "");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "default", "labels": {"app": "api"}},
        "spec": {"containers": [{"name": "api", "image": "example.com/api", "ports": [
            {"name": "web", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]}]},
    });
    for object in [pod.to_string(), service(8080)] {
        let applied = cluster.plane.apply(&object, &[]);
        assert!(applied.ok, "{applied}");
    }

    let ask = |port: &str| cluster.plane.apply(&policy(port), &["--dry-run=server"]);
    cluster.until("the port of the Service is known", |_| {
        let asked = ask("80");
        assert!(asked.ok, "{asked}");
        asked.stderr.contains(" (service-port at spec.ingress[0].ports[0]); ")
    });
    let named = ask("http");
    assert!(named.ok && named.stderr.contains(" (unknown-port-name at spec.ingress[0].ports[0]); "), "{named}");
    for right in ["8080", "web"] {
        let asked = ask(right);
        assert!(asked.ok && !asked.stderr.contains("-port"), "{asked}");
    }

    // The Service moves away from the policy. Its change is never denied.
    let applied = cluster.plane.apply(&policy("8080"), &[]);
    assert!(applied.ok, "{applied}");
    cluster.until("the policy is known", |cluster| {
        let moved = cluster.plane.apply(&service(9090), &["--dry-run=server"]);
        assert!(moved.ok, "{moved}");
        moved.stderr.contains(" (service-port at spec.ports[0].targetPort); ")
    });
    let unmoved = cluster.plane.apply(&service(8080), &["--dry-run=server"]);
    assert!(unmoved.ok && !unmoved.stderr.contains("Warning"), "{unmoved}");
}
