//! `deploy/` in a control plane, as it stands and with two servers that keep its certificate.

use std::fs;

use serde_json::{Value, json};

use crate::support::command::Done;
use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::Installation;

#[track_caller]
fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}

/// The CAs that the webhooks are told to trust.
fn bundles(plane: &ControlPlane) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let stored = plane.stored(&[kind, "portcullis"]).expect("it is applied");
        let webhooks = stored["webhooks"].as_array().unwrap().clone();
        found.extend(webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].as_str().map(str::to_owned)));
    }
    found
}

#[test]
fn what_is_applied_works_and_can_be_taken_out_again() {
    let Some(plane) = ControlPlane::start() else { return };
    // Two replicas, at once: one certificate, and readiness only with it.
    let mut cluster = Installation::new(plane, 2, "");
    let plane = &cluster.plane;
    let secret = plane.stored(&["secret", "portcullis-tls", "--namespace=portcullis-system"]).unwrap();
    assert_eq!(secret["type"], "Opaque");
    let ca = secret["data"]["ca.crt"].as_str().unwrap().to_owned();
    let trusted = |plane: &ControlPlane| bundles(plane).iter().all(|bundle| bundle.as_ref() == Some(&ca));
    cluster.until("every webhook trusts it", |cluster| trusted(&cluster.plane));

    let label = "network-policy.portcullis.dev/profile";
    accepted(&plane.kubectl(&["create", "namespace", "shop"]));
    assert_eq!(cluster.namespace("shop")["metadata"]["labels"][label], "standard");
    let refused = plane.kubectl(&["label", "namespace", "shop", "--overwrite", &format!("{label}=none-such")]);
    assert!(!refused.ok && refused.stderr.contains("invalid-profile"), "{refused}");
    hatches(&cluster);
    cluster.stop_replicas();

    // What is applied again leaves the bundle, whoever applies it how.
    let plane = &cluster.plane;
    accepted(&plane.kubectl(&["delete", "service", "portcullis", "--namespace=portcullis-system"]));
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    accepted(&plane.kubectl(&["apply", "--kustomize", deploy, "--server-side", "--force-conflicts"]));
    assert!(trusted(plane));
    accepted(&plane.kubectl(&["apply", "--kustomize", deploy]));
    assert!(trusted(plane));
    uninstall(&cluster);
    a_hatch_that_nobody_closes(&cluster);
}

/// `kubectl apply -k deploy/` where nothing is there yet.
#[test]
fn it_is_installed_by_one_command() {
    let Some(plane) = ControlPlane::start() else { return };
    let applied = plane.kubectl(&["apply", "--kustomize", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy")]);
    accepted(&applied);
    assert!(!applied.stderr.contains("Warning"), "{applied}");
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        assert_eq!(plane.stored(&[kind, "portcullis"]), None, "the server writes them");
    }
    // It may watch the endpoints of the API server, and no others.
    let account = plane.as_user("system:serviceaccount:portcullis-system:portcullis", &[]);
    for (verb, namespace, may) in [
        ("list", "default", true),
        ("watch", "default", true),
        ("update", "default", false),
        ("list", "kube-public", false),
    ] {
        let arguments = ["auth", "can-i", verb, "endpointslices.discovery.k8s.io", "--namespace", namespace];
        assert_eq!(account.run(&arguments).ok, may, "{verb} in {namespace}");
    }
}

fn hatches(cluster: &Installation) {
    let plane = &cluster.plane;
    let Done { code, err: error, .. } = cluster.portcullis(&["hatch", "open", "none-such", "--reason=INC-1"]);
    assert_eq!((code, error.contains("namespace none-such not found")), (2, true), "{error}");
    assert_eq!(plane.stored(&["namespace", "none-such"]), None, "it is not made by that");

    accepted(&plane.kubectl(&["label", "namespace", "shop", "kustomize.toolkit.fluxcd.io/name=apps"]));
    let Done { code, out, err: error } = cluster.portcullis(&["hatch", "open", "shop", "--reason=INC-1", "--dry-run"]);
    assert_eq!((code, out.contains("can be opened until")), (0, true), "{out}{error}");
    assert!(cluster.portcullis(&["hatch", "list"]).out.contains("No hatch is open."));
    let Done { code, out, err: error } = cluster.portcullis(&["hatch", "open", "shop", "--reason=INC-1", "--for=30m"]);
    assert_eq!((code, out.contains("The hatch of shop is open until ")), (0, true), "{out}{error}");
    assert!(error.contains("Flux applies this namespace from Git"), "{error}");
    let Done { out, .. } = cluster.portcullis(&["hatch", "list", "--output=json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    let hatch = &listed["hatches"][0];
    assert_eq!(
        (&hatch["namespace"], &hatch["reason"], &hatch["inEffect"]),
        (&json!("shop"), &json!("INC-1"), &json!(true))
    );
    let stored = plane.kubectl(&["get", "namespace", "shop", "--output=json", "--show-managed-fields"]);
    assert!(stored.stdout.contains("portcullis-hatch"), "{stored}");

    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.yaml");
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nlabelDomain: np.example.com\n";
    fs::write(&other, text).unwrap();
    let other = format!("--config={}", other.display());
    let Done { code, out, err: error } =
        cluster.portcullis(&["hatch", "open", "kube-public", "--reason=INC-1", &other]);
    assert_eq!((code, out.as_str()), (2, ""), "no controller watches that label: {error}");
    assert!(error.contains("no controller applied the hatch policy") && error.contains("np.example.com"), "{error}");

    let Done { code, out, err: error } = cluster.portcullis(&["hatch", "close", "shop"]);
    assert_eq!((code, out.as_str()), (0, "The hatch of shop is closed.\n"), "{error}");
    let metadata = plane.stored(&["namespace", "shop"]).unwrap()["metadata"].to_string();
    for key in ["enforcement", "reason", "until"] {
        assert!(!metadata.contains(&format!("network-policy.portcullis.dev/{key}")), "{metadata}");
    }
    assert!(metadata.contains("network-policy.portcullis.dev/profile"), "only what opened it goes: {metadata}");
    assert_eq!(plane.stored(&["networkpolicy", "portcullis-hatch-allow-all", "--namespace=shop"]), None);
    assert!(cluster.portcullis(&["hatch", "close", "shop"]).out.contains("is already closed"));
    assert!(cluster.portcullis(&["hatch", "open", "shop", "--reason=INC-2"]).code == 0, "for what comes next");
}

/// Where nobody takes the policies of a hatch away it is not closed, and is not said to be.
fn a_hatch_that_nobody_closes(cluster: &Installation) {
    let plane = &cluster.plane;
    for _ in 0..2 {
        let Done { code, out, err: error } = cluster.portcullis(&["hatch", "close", "shop"]);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert!(error.contains("half closed: the label of namespace shop is removed, but no controller"), "{error}");
    }
    let Done { out, .. } = cluster.portcullis(&["hatch", "list"]);
    assert!(out.contains("shop") && out.contains("is not deleted yet"), "{out}");
    let Done { code, err: error, .. } = cluster.portcullis(&["hatch", "open", "kube-public", "--reason=INC-3"]);
    assert!(code == 2 && error.contains("half open") && error.contains("hatch close kube-public"), "{error}");
    accepted(&plane.kubectl(&["delete", "namespace", "shop", "--wait=false"]));
    let Done { code, err: error, .. } = cluster.portcullis(&["hatch", "open", "shop", "--reason=INC-4"]);
    assert!(code == 2 && error.contains("namespace shop is being deleted"), "{error}");
}

fn uninstall(cluster: &Installation) {
    let plane = &cluster.plane;
    let gates = json!([{"name": "network-policy.portcullis.dev/baseline"}, {"name": "example.com/other"}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waiting", "namespace": "shop"},
        "spec": {"schedulingGates": gates, "containers": [{"name": "a", "image": "a"}]},
    });
    accepted(&plane.apply(&pod.to_string(), &[]));
    let Done { code, err: error, .. } = cluster.portcullis(&["uninstall"]);
    assert_eq!((code, error.contains("confirm with --yes")), (2, true), "{error}");
    assert_eq!(bundles(plane).len(), 8, "nothing was changed");

    let Done { code, out, err: error } = cluster.portcullis(&["uninstall", "--yes"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("ValidatingWebhookConfiguration portcullis: deleted"), "{out}");
    let namespace = plane.stored(&["namespace", "portcullis-system"]).unwrap();
    assert_eq!(namespace["metadata"]["annotations"]["portcullis.dev/webhooks-paused"], "portcullis uninstall");
    assert!(out.contains("removed from 1 pods"), "{out}");
    assert_eq!(plane.stored(&["validatingwebhookconfiguration", "portcullis"]), None);
    let pod = plane.stored(&["pod", "waiting", "--namespace=shop"]).unwrap();
    assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "example.com/other"}]));
    let Done { code, out, .. } = cluster.portcullis(&["uninstall", "--yes"]);
    assert_eq!((code, out.contains("portcullis: not found")), (0, true), "{out}");
}
