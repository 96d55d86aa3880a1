//! `deploy/` in a control plane, with two servers that keep its certificate by the rights of its service account.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Output};
use crate::support::free_ports;
use crate::support::process::Process;
use crate::support::server::get;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Service that leads to this machine. The API server resolves it by itself, without a network of a cluster.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: portcullis, namespace: portcullis-system}
spec: {type: ExternalName, externalName: localhost}
";

#[track_caller]
fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}

/// Waits until something is there.
#[track_caller]
fn until<T>(what: &str, logs: &[&Process], find: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        let logs: Vec<String> = logs.iter().map(|process| process.log_tail()).collect();
        assert!(Instant::now() < deadline, "no {what}\n{}", logs.join("\n---\n"));
        thread::sleep(Duration::from_millis(100));
    }
}

/// A kubeconfig of the service account that is installed.
fn kubeconfig(plane: &ControlPlane, file: &Path) {
    let shown = plane.kubectl(&["config", "view", "--raw", "--output=json"]);
    accepted(&shown);
    let token = plane.kubectl(&["create", "token", "portcullis", "--namespace=portcullis-system"]);
    accepted(&token);
    let mut config: Value = serde_json::from_str(&shown.stdout).unwrap();
    config["users"][0]["user"] = json!({"token": token.stdout.trim()});
    fs::write(file, config.to_string()).unwrap();
}

fn serve(dir: &Path, number: usize) -> (Process, u16, SocketAddr) {
    let [port, admin] = free_ports();
    let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(["serve", "--controller", "--tls-secret=portcullis-system/portcullis-tls", "--stop-after=0.1"])
        .args(["--listen", &address(port).to_string(), "--admin-listen", &address(admin).to_string()])
        .env("KUBECONFIG", dir.join("kubeconfig"))
        .env("POD_NAMESPACE", "portcullis-system")
        .env_remove("RUST_LOG");
    (Process::start(&mut command, &dir.join(format!("log-{number}"))), port, address(admin))
}

fn bundles(plane: &ControlPlane) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let stored = plane.stored(&[kind, "portcullis"]).expect("it is applied");
        let webhooks = stored["webhooks"].as_array().unwrap().clone();
        found.extend(webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].as_str().map(str::to_owned)));
    }
    found
}

fn portcullis(plane: &ControlPlane, dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let admin = dir.join("admin");
    fs::write(&admin, plane.kubectl(&["config", "view", "--raw", "--output=json"]).stdout).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).env("KUBECONFIG", &admin).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_applied_works_and_can_be_taken_out_again() {
    let Some(plane) = ControlPlane::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    accepted(&plane.kubectl(&["apply", "--kustomize", deploy]));
    assert!(bundles(&plane).iter().all(Option::is_none));

    // Two replicas, at once: one certificate, and readiness only with it.
    kubeconfig(&plane, &dir.path().join("kubeconfig"));
    let (one, port, admin) = serve(dir.path(), 1);
    let (two, _, other) = serve(dir.path(), 2);
    let logs = [&one, &two];
    for address in [admin, other] {
        until("readiness", &logs, || get(address, "/readyz").filter(|(status, _)| *status == 200));
    }
    let secret = plane.stored(&["secret", "portcullis-tls", "--namespace=portcullis-system"]).unwrap();
    assert_eq!(secret["type"], "Opaque");
    let ca = secret["data"]["ca.crt"].as_str().unwrap().to_owned();
    let trusted = || bundles(&plane).iter().all(|bundle| bundle.as_ref() == Some(&ca));
    until("caBundle", &logs, || trusted().then_some(()));

    // What is applied again leaves it, whoever applies it how.
    accepted(&plane.kubectl(&["apply", "--kustomize", deploy]));
    assert!(trusted());
    accepted(&plane.kubectl(&["apply", "--kustomize", deploy, "--server-side", "--force-conflicts"]));
    assert!(trusted());

    // The API server takes the certificate.
    accepted(&plane.kubectl(&["delete", "service", "portcullis", "--namespace=portcullis-system"]));
    accepted(&plane.apply(SERVICE, &[]));
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let mut stored = plane.stored(&[kind, "portcullis"]).unwrap();
        for webhook in stored["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["service"]["port"] = json!(port);
        }
        accepted(&plane.admin().run_with_input(&["replace", "--filename=-"], &stored.to_string()));
    }
    let label = "network-policy.portcullis.dev/profile";
    until("labels", &logs, || {
        let made = plane.kubectl(&["create", "namespace", "probe", "--dry-run=server", "--output=yaml"]);
        made.stdout.contains(label).then_some(())
    });
    accepted(&plane.kubectl(&["create", "namespace", "shop"]));
    let refused = plane.kubectl(&["label", "namespace", "shop", "--overwrite", &format!("{label}=none-such")]);
    assert!(!refused.ok && refused.stderr.contains("invalid-profile"), "{refused}");

    hatches(&plane, dir.path());
    drop((one, two));
    uninstall(&plane, dir.path());
}

fn hatches(plane: &ControlPlane, dir: &Path) {
    let (code, _, error) = portcullis(plane, dir, &["hatch", "open", "none-such", "--reason=INC-1"]);
    assert_eq!((code, error.contains("there is no namespace none-such")), (2, true), "{error}");
    assert_eq!(plane.stored(&["namespace", "none-such"]), None, "it is not made by that");

    accepted(&plane.kubectl(&["label", "namespace", "shop", "kustomize.toolkit.fluxcd.io/name=apps"]));
    let (code, out, error) = portcullis(plane, dir, &["hatch", "open", "shop", "--reason=INC-1", "--dry-run"]);
    assert_eq!((code, out.contains("could be opened until")), (0, true), "{out}{error}");
    assert!(portcullis(plane, dir, &["hatch", "list"]).1.contains("No hatch is open."));
    let (code, out, error) = portcullis(plane, dir, &["hatch", "open", "shop", "--reason=INC-1", "--for=30m"]);
    assert_eq!((code, out.contains("The hatch of shop is open until ")), (0, true), "{out}{error}");
    assert!(error.contains("Flux applies this namespace from Git"), "{error}");
    let (_, out, _) = portcullis(plane, dir, &["hatch", "list", "--output=json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    let hatch = &listed["hatches"][0];
    assert_eq!(
        (&hatch["namespace"], &hatch["reason"], &hatch["inEffect"]),
        (&json!("shop"), &json!("INC-1"), &json!(true))
    );
    let stored = plane.kubectl(&["get", "namespace", "shop", "--output=json", "--show-managed-fields"]);
    assert!(stored.stdout.contains("portcullis-hatch"), "{stored}");

    let other = dir.join("other.yaml");
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nlabelDomain: np.example.com\n";
    fs::write(&other, text).unwrap();
    let other = format!("--config={}", other.display());
    let (code, out, error) = portcullis(plane, dir, &["hatch", "open", "kube-public", "--reason=INC-1", &other]);
    assert_eq!((code, out.as_str()), (2, ""), "nobody looks at that label: {error}");
    assert!(error.contains("nobody has taken that up") && error.contains("np.example.com"), "{error}");

    let (code, out, error) = portcullis(plane, dir, &["hatch", "close", "shop"]);
    assert_eq!((code, out.as_str()), (0, "The hatch of shop is closed.\n"), "{error}");
    let metadata = plane.stored(&["namespace", "shop"]).unwrap()["metadata"].to_string();
    for key in ["enforcement", "reason", "until"] {
        assert!(!metadata.contains(&format!("network-policy.portcullis.dev/{key}")), "{metadata}");
    }
    assert!(metadata.contains("network-policy.portcullis.dev/profile"), "only what opened it goes: {metadata}");
}

fn uninstall(plane: &ControlPlane, dir: &Path) {
    let gates = json!([{"name": "network-policy.portcullis.dev/baseline"}, {"name": "example.com/other"}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waiting", "namespace": "shop"},
        "spec": {"schedulingGates": gates, "containers": [{"name": "a", "image": "a"}]},
    });
    accepted(&plane.apply(&pod.to_string(), &[]));
    let (code, _, error) = portcullis(plane, dir, &["uninstall"]);
    assert_eq!((code, error.contains("give --yes")), (2, true), "{error}");
    assert_eq!(bundles(plane).len(), 8, "nothing was changed");

    let (code, out, error) = portcullis(plane, dir, &["uninstall", "--yes"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("ValidatingWebhookConfiguration portcullis: deleted"), "{out}");
    assert!(out.contains("lifted from 1 pods"), "{out}");
    assert_eq!(plane.stored(&["validatingwebhookconfiguration", "portcullis"]), None);
    let pod = plane.stored(&["pod", "waiting", "--namespace=shop"]).unwrap();
    assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "example.com/other"}]));
    let (code, out, _) = portcullis(plane, dir, &["uninstall", "--yes"]);
    assert_eq!((code, out.contains("portcullis: is not there")), (0, true), "{out}");
}
