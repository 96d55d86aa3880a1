//! A control plane with a Portcullis that it asks, and what is said of its answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::manifests::{FROM_BATCH_ON_ANY_PORT, PROFILE, ingress, policy};
use crate::support::control_plane::{ControlPlane, Kubectl, Output};
use crate::support::server::Server;
use crate::support::verdict::has_finding;

/// How long an API server may take to notice a webhook configuration.
const NOTICE: Duration = Duration::from_secs(20);

/// A control plane, and a server that it asks.
pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    pub(crate) server: Server,
}

pub(crate) type Scenario = (&'static str, fn(&mut Cluster));

impl Cluster {
    /// Runs scenarios in order, each with the server up, and names those that failed.
    pub(crate) fn run(&mut self, scenarios: &[Scenario]) -> Vec<&'static str> {
        let mut failed = Vec::new();
        for (name, scenario) in scenarios {
            let start = Instant::now();
            let run = AssertUnwindSafe(|| {
                self.server.start();
                scenario(self);
            });
            if catch_unwind(run).is_err() {
                failed.push(*name);
            }
            let outcome = if failed.last() == Some(name) { "FAILED" } else { "ok" };
            eprintln!("{outcome:6} {:5.1} s  {name}", start.elapsed().as_secs_f64());
        }
        failed
    }

    /// Starts the server anew, with another configuration.
    pub(crate) fn restart(&mut self, config: Option<&str>) {
        self.server.stop();
        self.server.set_config(config);
        self.server.start();
    }

    /// Stops the server as a node that shuts down would.
    pub(crate) fn stop(&mut self) {
        let status = self.server.stop().expect("the server runs until it is stopped");
        assert!(status.success(), "portcullis ended with {status}:\n{}", self.server.log_tail());
    }

    /// Has the API server ask the server, and waits until it does.
    pub(crate) fn install(&self, way: &[&str]) {
        // A server that is built for tests is ten times slower than what ships, on a machine that does other work too.
        let configurations = self.server.webhooks(way);
        let configurations = ["2", "5"].iter().fold(configurations, |text, seconds| {
            text.replace(&format!(r#""timeoutSeconds": {seconds}"#), r#""timeoutSeconds": 30"#)
        });
        let applied = self.plane.apply(&configurations, &[]);
        accepted(&applied);
        for kind in ["validating", "mutating"] {
            let line = format!("{kind}webhookconfiguration.admissionregistration.k8s.io/portcullis");
            assert!(applied.stdout.contains(&line), "{applied}");
        }
        self.wait_for("being asked", |answers| answers.iter().all(|asked| *asked));
    }

    /// Takes the webhook configurations away, as it is written in `deploy/webhooks.yaml`.
    pub(crate) fn uninstall(&self) {
        let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
        accepted(&self.plane.kubectl(&["delete", kinds, "portcullis"]));
        self.wait_for("not being asked", |answers| answers.iter().all(|asked| !asked));
    }

    /// Waits until the API server asks both endpoints, or neither, as dry runs show.
    pub(crate) fn wait_for(&self, what: &str, holds: fn(&[bool]) -> bool) {
        let deadline = Instant::now() + NOTICE;
        loop {
            let bad = policy("probe", "default", &ingress(&[FROM_BATCH_ON_ANY_PORT]));
            let validated = self.plane.apply(&bad, &["--dry-run=server"]);
            let mutated = self.plane.kubectl(&["create", "namespace", "probe", "--dry-run=server", "--output=yaml"]);
            if holds(&[validated.stderr.contains("any-port"), mutated.stdout.contains(PROFILE)]) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no sign of {what} after {} s: {validated}{mutated}\n--- portcullis ---\n{}",
                NOTICE.as_secs(),
                self.server.log_tail()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes a namespace.
    pub(crate) fn namespace(&self, name: &str) {
        accepted(&self.plane.kubectl(&["create", "namespace", name]));
    }

    /// Lets go of a namespace that is being deleted.
    pub(crate) fn finalize(&self, name: &str) {
        let mut namespace = self.plane.stored(&["namespace", name]).expect("its finalizer holds it");
        assert_eq!(namespace["status"]["phase"], "Terminating");
        namespace["spec"]["finalizers"] = json!([]);
        let path = format!("/api/v1/namespaces/{name}/finalize");
        let replace = ["replace", "--raw", &path, "--filename=-"];
        accepted(&self.namespace_controller().run_with_input(&replace, &namespace.to_string()));
        assert_eq!(self.plane.stored(&["namespace", name]), None);
    }

    /// Who empties namespaces that are being deleted. Nobody does it here but the test, with just its rights.
    pub(crate) fn namespace_controller(&self) -> Kubectl {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        self.plane.as_user("system:serviceaccount:kube-system:namespace-controller", &groups)
    }

    /// A policy as it is stored.
    pub(crate) fn policy(&self, name: &str, namespace: &str) -> Option<Value> {
        self.plane.stored(&["networkpolicy", name, "--namespace", namespace])
    }

    /// The labels of a namespace as they are stored.
    pub(crate) fn labels(&self, namespace: &str) -> Value {
        let stored = self.plane.stored(&["namespace", namespace]).expect("the namespace is stored");
        stored["metadata"]["labels"].clone()
    }
}

pub(crate) const POLICIES: &str = "policies.portcullis.dev";
pub(crate) const NAMESPACES: &str = "namespaces.portcullis.dev";
pub(crate) const PODS: &str = "pods.portcullis.dev";
pub(crate) const WORKLOADS: &str = "workloads.portcullis.dev";

#[track_caller]
pub(crate) fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}

/// Accepted, with a warning that names this rule and this place.
#[track_caller]
pub(crate) fn warned(output: &Output, rule: &str, place: &str) {
    accepted(output);
    let mut warnings = output.stderr.lines().filter_map(|line| line.strip_prefix("Warning: "));
    // Longer ones are cut by the API server.
    let says = |line: &str| names(line, rule) && names(line, place) && line.chars().count() <= 256;
    assert!(warnings.any(says), "no warning of {rule} at {place}: {output}");
}

/// Denied by this webhook, with a finding of this rule at this place.
#[track_caller]
pub(crate) fn denied(output: &Output, webhook: &str, rule: &str, place: &str) {
    let denial = format!("admission webhook \"{webhook}\" denied the request");
    assert!(!output.ok && output.stderr.contains(&denial), "not denied by {webhook}: {output}");
    assert!(has_finding(&output.stderr, rule, place), "no denial by {rule} at {place}: {output}");
}

/// Refused by the API server, since nobody answered where it had to ask this webhook.
#[track_caller]
pub(crate) fn not_reached(output: &Output, webhook: &str) {
    let failure = format!("failed calling webhook \"{webhook}\"");
    assert!(!output.ok && output.stderr.contains(&failure), "not refused for want of {webhook}: {output}");
    assert!(output.stderr.contains("connection refused"), "{output}");
}

/// Whether a line names a rule or a place, and not just one whose name starts or ends like it.
pub(crate) fn names(line: &str, what: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
    line.match_indices(what).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + what.len()..]);
        let longer = after.starts_with('[') || after.strip_prefix('.').is_some_and(|rest| rest.starts_with(inside));
        !before.ends_with(|c| inside(c) || matches!(c, '.' | ']')) && !after.starts_with(inside) && !longer
    })
}

/// Whether this egress rule allows the cluster's DNS over UDP and TCP, and nothing else.
#[track_caller]
pub(crate) fn allows_dns(rule: &Value) {
    let expected = json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    assert_eq!(*rule, expected);
}
