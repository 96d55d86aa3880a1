//! The client certificate of a kube-apiserver, as docs/client-certificates.md sets it up.

use std::fs;

use serde_json::json;

use crate::cluster::{Cluster, POLICIES, denied};
use crate::manifests::*;
use crate::support::control_plane::ControlPlane;
use crate::support::pki::Authority;
use crate::support::server::{Server, get};

#[test]
fn an_api_server_with_the_client_certificate_is_answered() {
    let dir = tempfile::Builder::new().prefix("portcullis-clients-").tempdir().unwrap();
    let authority = Authority::new(&dir.path().join("clients"));
    let identity = authority.client("kube-apiserver", "none");
    let mut server = Server::new();
    // The name of the user is the host of the webhook, with its port unless that is 443.
    let user = server.url().trim_start_matches("https://").to_owned();
    let certificate = json!({"client-certificate": identity.certificate, "client-key": identity.key});
    let kubeconfig = dir.path().join("kubeconfig.yaml");
    let users = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": user, "user": certificate}]});
    fs::write(&kubeconfig, users.to_string()).unwrap();
    let plugin = |name: &str| {
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": kubeconfig,
        });
        json!({"name": name, "configuration": configuration})
    };
    let plugins = [plugin("ValidatingAdmissionWebhook"), plugin("MutatingAdmissionWebhook")];
    let admission = dir.path().join("admission.yaml");
    let written = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins,
    });
    fs::write(&admission, written.to_string()).unwrap();

    let flag = format!("--admission-control-config-file={}", admission.display());
    let Some(plane) = ControlPlane::start_with(&[flag]) else { return };
    let require =
        |name: &str| vec![format!("--client-ca={}", authority.certificate.display()), format!("--client-name={name}")];
    server.arguments = require("kube-apiserver");
    server.start();
    let mut cluster = Cluster { plane, server };
    let url = cluster.server.url();
    // Waits until both endpoints are asked, and answer.
    cluster.install(&["--url", &url]);
    let bad = policy("web", "default", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    denied(&cluster.plane.apply(&bad, &[]), POLICIES, "any-port", "spec.ingress[0]");
    let (_, metrics) = get(cluster.server.admin_address(), "/metrics").unwrap();
    assert!(metrics.contains("portcullis_admission_refused_total{reason=\"client\"} 0"), "{metrics}");

    // The same certificate under a requirement that it does not meet: the failure policy decides.
    cluster.server.arguments = require("another-name");
    cluster.restart(None);
    let rejected = cluster.plane.apply(&bad, &[]);
    let failure = format!("failed calling webhook \"{POLICIES}\"");
    assert!(!rejected.ok && rejected.stderr.contains(&failure), "{rejected}");
    eprintln!("         with another name, kubectl says: {}", rejected.stderr.trim());
}
