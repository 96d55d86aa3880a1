//! Configuration files, and decisions by those that are valid.

use std::time::Duration;

use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::view::NamePattern;
use serde_json::json;

use crate::answers::{Endpoint, ask};
use crate::cost::bounded;
use crate::crowd;

const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
/// As in the target `yaml`.
const MAX_BYTES: usize = 512 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_millis(500);

/// Reads the text, or the text after the first two lines that every configuration has.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in [text.to_owned(), format!("{HEAD}{text}")] {
        match bounded(MAX_BYTES, MAX_TIME, || Configuration::read(&text)) {
            Ok(configuration) => decide(configuration),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Whatever configuration is valid, decisions can be made by it.
fn decide(configuration: Configuration) {
    assert!(PolicySet::shipped(&configuration.site.label_domain).is_ok(), "policies that ship fit every label domain");
    let _ = (configuration.modes().count(), configuration.repairs());
    for kind in [portcullis::rules::ChangeKind::Policies, portcullis::rules::ChangeKind::Namespaces] {
        let pattern: NamePattern = serde_json::from_value(json!("sh*")).expect("a pattern");
        let _ = configuration.may_deny(kind, &pattern);
    }
    let domain = configuration.site.label_domain.clone();
    let knowledge = crowd::knowledge(configuration);
    let policy = json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}], "egress": [{"to": [{"podSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
    let namespace = json!({"metadata": {"name": "shop", "labels": {format!("{domain}/profile"): "standard", format!("{domain}/enforcement"): "disabled"}}});
    let pod = json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": {"hostNetwork": true, "containers": []}});
    let requests = [("networking.k8s.io", "NetworkPolicy", policy), ("", "Namespace", namespace), ("", "Pod", pod)];
    for (group, kind, object) in requests {
        let request = json!({"uid": "1", "kind": {"group": group, "version": "v1", "kind": kind}, "name": object["metadata"]["name"],
            "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "mallory"}, "object": object});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        for endpoint in [Endpoint::Mutate, Endpoint::Validate] {
            ask(&knowledge, endpoint, review.to_string().as_bytes());
        }
    }
}
