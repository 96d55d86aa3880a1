//! Backends of a cluster: what the webhook warns about when a policy blocks an admission webhook from its pods.

use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;

/// A policy for the pods of the webhook with this rule.
fn policy(rule: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: hook, namespace: default}}\nspec:\n  \
         podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress: [{rule}]\n"
    )
}

#[test]
fn a_policy_that_blocks_a_webhook_is_warned_about() {
    let Some(plane) = ControlPlane::start() else { return };
    let cluster = Installation::new(plane, 1, "");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hook", "namespace": "default", "labels": {"app": "hook"}},
        "spec": {"containers": [{"name": "hook", "image": "example.com/hook", "ports": [{"containerPort": 10250}]}]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "default"},
        "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 10250}]},
    });
    let hook = |service: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hook"},
            "webhooks": [{
                "name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"namespace": "default", "name": service}},
                "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}],
            }],
        })
        .to_string()
    };
    for object in [pod.to_string(), service.to_string(), hook("hook")] {
        let applied = cluster.plane.apply(&object, &[]);
        assert!(applied.ok, "{applied}");
    }

    let ask = |rule: &str| {
        let asked = cluster.plane.apply(&policy(rule), &["--dry-run=server"]);
        assert!(asked.ok, "{asked}");
        asked.stderr
    };
    let warning = " (unreachable-backend at spec.ingress";
    cluster.until("the webhook is known", |_| ask("").contains(warning));
    assert!(ask("").contains("the API server cannot reach Service default/hook"), "{}", ask(""));
    assert!(ask("{from: [{podSelector: {}}], ports: [{port: 10250}]}").contains(warning));
    assert!(!ask("{ports: [{protocol: TCP, port: 10250}]}").contains("unreachable-backend"));

    // A webhook that moves to another Service no longer counts.
    let applied = cluster.plane.apply(&hook("other"), &[]);
    assert!(applied.ok, "{applied}");
    cluster.until("the webhook is elsewhere", |_| !ask("").contains("unreachable-backend"));
}
