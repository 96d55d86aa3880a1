//! `kubectl apply` of namespaces together with their policies, which rely on a baseline that is not stored yet.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::{Installation, NAMESPACE};

/// Number of namespaces of one `kubectl apply`.
const NAMESPACES: usize = 100;

/// Namespaces, each followed by a policy that allows its pods a database and nothing else: DNS is a matter of the baseline.
fn manifests(prefix: &str) -> String {
    let mut manifests = String::new();
    for number in 0..NAMESPACES {
        let label = ["", ", labels: {network-policy.portcullis.dev/profile: isolated}"][number % 2];
        writeln!(
            manifests,
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {prefix}-{number}{label}}}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: api, namespace: {prefix}-{number}}}\n\
             spec:\n  podSelector: {{matchLabels: {{app: api}}}}\n  policyTypes: [Egress]\n  egress:\n  \
             - to: [{{podSelector: {{matchLabels: {{app: db}}}}}}]\n    ports: [{{protocol: TCP, port: 5432}}]\n---"
        )
        .unwrap();
    }
    manifests
}

/// Applies the namespaces and their policies, and counts the namespaces that have a complete baseline right after that.
fn apply(cluster: &Installation, prefix: &str) -> usize {
    let applied: Output = cluster.plane.apply(&manifests(prefix), &[]);
    assert!(applied.ok, "{applied}");
    assert!(!applied.stderr.contains("Warning"), "{applied}");
    assert_eq!(applied.stdout.matches("networkpolicy").count(), NAMESPACES, "{applied}");
    let label = "network-policy.portcullis.dev/baseline=applied";
    let listed = cluster.plane.kubectl(&["get", "namespaces", "--selector", label, "--output=name"]);
    listed.stdout.lines().filter(|line| line.starts_with(&format!("namespace/{prefix}-"))).count()
}

/// Delays each write of the controller by a second.
fn slow_down(plane: &ControlPlane) {
    let label = json!({"key": "network-policy.portcullis.dev/layer", "operator": "Exists"});
    plane.install_silent_webhook(&json!({
        "objectSelector": {"matchExpressions": [label]}, "failurePolicy": "Ignore", "timeoutSeconds": 1,
    }));
}

#[test]
fn due_policies_count_with_a_leader_with_a_slow_one_and_with_none() {
    let Some(plane) = ControlPlane::start() else { return };
    let mut cluster = Installation::new(plane, 2, "");
    let with_a_leader = apply(&cluster, "fast");
    cluster.until("baselines are complete", |cluster| {
        let label = "network-policy.portcullis.dev/baseline=pending";
        cluster.plane.kubectl(&["get", "namespaces", "--selector", label, "--output=name"]).stdout.is_empty()
    });

    slow_down(&cluster.plane);
    let with_a_slow_one = apply(&cluster, "slow");
    assert!(with_a_slow_one < NAMESPACES, "the leader is slow");

    cluster.stop_replicas();
    let now = jiff::Timestamp::now();
    let held =
        json!({"spec": {"holderIdentity": "nobody", "leaseDurationSeconds": 3600, "renewTime": format!("{now:.6}")}});
    let held = held.to_string();
    let lease = ["patch", "lease", "portcullis", "--namespace", NAMESPACE, "--type=merge", "--patch", &held];
    let patched = cluster.plane.kubectl(&lease);
    assert!(patched.ok, "{patched}");
    cluster.start_replica();
    assert_eq!(apply(&cluster, "none"), 0, "none leads");
    println!(
        "complete baselines after {NAMESPACES} namespaces: {with_a_leader} with a leader, {with_a_slow_one} with a slow one"
    );
}
