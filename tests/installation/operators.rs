//! `portcullis status`, `exempt list` and `doctor` on an installation, healthy and with faults.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::command::{Done, finish};
use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::{Installation, NAMESPACE};
use crate::support::server::portcullis;

const DOMAIN: &str = "network-policy.portcullis.dev";

fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}

/// Runs a command and parses its JSON.
fn ask(cluster: &Installation, arguments: &[&str]) -> (i32, Value) {
    let Done { code, out, err } = cluster.portcullis(&[arguments, &["--output=json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

/// Runs `doctor` and returns its exit status with its checks.
fn doctor(cluster: &Installation) -> (i32, Vec<Value>) {
    let service = format!("--webhook-service={}", cluster.webhook_service());
    let (code, answer) = ask(cluster, &["doctor", &service]);
    (code, answer["checks"].as_array().unwrap().clone())
}

fn find<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name} in {checks:?}"))
}

/// Asserts that a check found a fault with this text, and that it has a fix.
fn assert_fault(cluster: &Installation, name: &str, text: &str) {
    let (code, checks) = doctor(cluster);
    let check = find(&checks, name);
    assert_eq!((code, &check["state"]), (1, &json!("fault")), "{check}");
    assert!(check["message"].as_str().unwrap().contains(text), "{check}");
    assert!(check["fix"].is_string(), "{check}");
}

/// Sets the number of ready replicas, which no kubelet does here.
fn set_ready(plane: &ControlPlane, ready: u32) {
    let status = json!({"status": {"replicas": 2, "readyReplicas": ready, "availableReplicas": ready}}).to_string();
    let namespace = format!("--namespace={NAMESPACE}");
    let patch =
        ["patch", "deployment", "portcullis", &namespace, "--subresource=status", "--type=merge", "--patch", &status];
    accepted(&plane.kubectl(&patch));
}

#[test]
fn doctor_passes_a_healthy_installation_and_names_each_fault() {
    let Some(plane) = ControlPlane::start() else { return };
    let mut cluster = Installation::new(plane, 2, "");
    set_ready(&cluster.plane, 2);
    cluster.until("doctor finds no fault", |cluster| doctor(cluster).0 == 0);
    let (_, checks) = doctor(&cluster);
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "configuration",
            "validating-webhooks",
            "mutating-webhooks",
            "failure-policies",
            "ca-bundle",
            "namespace-selectors",
            "pause",
            "certificate",
            "service",
            "replicas",
            "lease",
            "rights",
            "policy-set",
            "probe",
        ]
    );
    assert!(find(&checks, "probe")["message"].as_str().unwrap().contains("which denied a dry run in default"));
    let service = format!("--webhook-service={}", cluster.webhook_service());
    let text = cluster.portcullis(&["doctor", &service]);
    assert_eq!(text.code, 0, "{}{}", text.out, text.err);
    assert!(
        text.out.lines().count() == names.len() && text.out.lines().all(|line| line.starts_with("ok ")),
        "{}",
        text.out
    );

    running(&cluster);
    rights(&cluster);
    // Nobody repairs what comes next.
    cluster.stop_replicas();
    webhooks(&cluster);
}

/// Faults of what runs.
fn running(cluster: &Installation) {
    let plane = &cluster.plane;
    set_ready(plane, 1);
    assert_fault(cluster, "replicas", "1 of 2 replicas are ready");
    set_ready(plane, 2);
    let namespace = format!("--namespace={NAMESPACE}");
    let annotate = ["annotate", "namespace", NAMESPACE, "portcullis.dev/webhooks-paused=INC-7"];
    accepted(&plane.kubectl(&annotate));
    assert_fault(cluster, "pause", "INC-7");
    let (_, checks) = doctor(cluster);
    let fix = find(&checks, "pause")["fix"].as_str().unwrap().to_owned();
    let fix: Vec<&str> = fix.split(' ').skip(1).collect();
    accepted(&plane.kubectl(&fix));
    assert_eq!(doctor(cluster).0, 0, "the fix fixes it");

    // A Service without an external name, and without endpoints.
    let stored = plane.stored(&["service", "portcullis", &namespace]).unwrap();
    accepted(&plane.kubectl(&["delete", "service", "portcullis", &namespace]));
    assert_fault(cluster, "service", "Service portcullis-system/portcullis does not exist");
    accepted(&plane.kubectl(&["apply", "--filename", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/service.yaml")]));
    assert_fault(cluster, "service", "has no ready endpoint");
    accepted(&plane.kubectl(&["delete", "service", "portcullis", &namespace]));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "portcullis", "namespace": NAMESPACE}, "spec": stored["spec"]});
    accepted(&plane.apply(&service.to_string(), &[]));
}

/// Missing rights: of Portcullis, and of the user who runs the command.
fn rights(cluster: &Installation) {
    let plane = &cluster.plane;
    let stored = plane.stored(&["clusterrole", "portcullis"]).unwrap();
    let set = |rules: &Value| {
        let mut role = stored.clone();
        role["metadata"] = json!({"name": "portcullis"});
        role["rules"] = rules.clone();
        accepted(&plane.admin().run_with_input(&["replace", "--filename=-"], &role.to_string()));
    };
    let mut fewer = stored["rules"].clone();
    fewer.as_array_mut().unwrap().retain(|rule| rule["apiGroups"] != json!(["networking.k8s.io"]));
    set(&fewer);
    assert_fault(cluster, "rights", "may not get networkpolicies.networking.k8s.io");
    // Every service account is authenticated.
    let grant = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "for-all"},
        "rules": [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies", "ingresses"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "for-all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "for-all"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
    });
    for object in [grant, binding] {
        accepted(&plane.apply(&object.to_string(), &[]));
    }
    cluster.until("the rights of the group count", |cluster| find(&doctor(cluster).1, "rights")["state"] == "ok");
    accepted(&plane.kubectl(&["delete", "clusterrole,clusterrolebinding", "for-all"]));
    set(&stored["rules"]);

    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer", "namespace": "default"}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}],
    });
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list"]});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "viewer"},
        "rules": [read("", &["namespaces", "services", "configmaps"]), read("apps", &["deployments"]), read("coordination.k8s.io", &["leases"])],
    });
    for object in [account, role, binding] {
        accepted(&plane.apply(&object.to_string(), &[]));
    }
    let token = plane.kubectl(&["create", "token", "viewer", "--namespace=default"]);
    accepted(&token);
    let file = tempfile::NamedTempFile::new().unwrap();
    plane.kubeconfig_with_token(file.path(), token.stdout.trim(), plane.port());
    let arguments = ["doctor", "--output=json", "--webhook-service", &cluster.webhook_service(), "--kubeconfig"];
    let done = finish(portcullis().args(arguments).arg(file.path()), "");
    let answer: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    let checks = answer["checks"].as_array().unwrap();
    assert_eq!(done.code, 2, "{answer:#}");
    for (name, right) in [
        ("certificate", "cannot get resource \"secrets\""),
        ("ca-bundle", "cannot get resource \"secrets\""),
        ("rights", "cannot create resource \"subjectaccessreviews\""),
        ("validating-webhooks", "cannot get resource \"validatingwebhookconfigurations\""),
        ("probe", "cannot create resource \"networkpolicies\""),
    ] {
        let check = find(checks, name);
        assert_eq!(check["state"], "unknown", "{check}");
        assert!(check["message"].as_str().unwrap().contains(right), "{check}");
    }
    for name in ["replicas", "service", "policy-set"] {
        assert_eq!(find(checks, name)["state"], "ok", "the rest is answered: {answer:#}");
    }
}

/// Faults of the webhook configurations, the certificate and the Lease, while no replica runs.
fn webhooks(cluster: &Installation) {
    let plane = &cluster.plane;
    assert_fault(cluster, "probe", "cannot reach Portcullis: failed calling webhook");
    let kind = "validatingwebhookconfiguration";
    let stored = plane.stored(&[kind, "portcullis"]).unwrap();
    let replace = |change: &dyn Fn(&mut Value)| {
        let mut changed = stored.clone();
        changed["metadata"] = json!({"name": "portcullis"});
        change(&mut changed["webhooks"]);
        accepted(&plane.admin().run_with_input(&["replace", "--filename=-"], &changed.to_string()));
    };
    replace(&|webhooks| webhooks[0]["failurePolicy"] = json!("Ignore"));
    assert_fault(
        cluster,
        "failure-policies",
        "webhook policies.portcullis.dev has failurePolicy Ignore, expected Fail",
    );
    assert_fault(cluster, "validating-webhooks", "failurePolicy is \"Ignore\", expected \"Fail\"");
    let fix = find(&doctor(cluster).1, "failure-policies")["fix"].as_str().unwrap().to_owned();
    run_fix(cluster, &fix);
    let (_, checks) = doctor(cluster);
    for fixed in ["failure-policies", "validating-webhooks"] {
        assert_eq!(find(&checks, fixed)["state"], "ok", "{fix}: {checks:?}");
    }
    let other = portcullis_ca();
    replace(&|webhooks| webhooks[0]["clientConfig"]["caBundle"] = json!(other));
    assert_fault(cluster, "ca-bundle", "the caBundle of webhook policies.portcullis.dev does not trust");
    replace(&|webhooks| webhooks[0]["clientConfig"]["caBundle"] = Value::Null);
    assert_fault(cluster, "ca-bundle", "webhook policies.portcullis.dev has no caBundle");
    replace(&|webhooks| {
        webhooks[0]["namespaceSelector"]["matchExpressions"][0]["values"]
            .as_array_mut()
            .unwrap()
            .push(json!("default"));
    });
    assert_fault(cluster, "namespace-selectors", "policies.portcullis.dev excludes namespaces: default");
    replace(&|webhooks| drop(webhooks.as_array_mut().unwrap().remove(0)));
    assert_fault(cluster, "validating-webhooks", "webhook policies.portcullis.dev is missing");
    assert_fault(cluster, "probe", "did not answer a dry run in default, although `any-port` is set to deny");
    accepted(&plane.kubectl(&["delete", kind, "portcullis"]));
    assert_fault(cluster, "validating-webhooks", "ValidatingWebhookConfiguration portcullis does not exist");

    let namespace = format!("--namespace={NAMESPACE}");
    let patch = json!({"spec": {"holderIdentity": "gone", "renewTime": "2026-01-01T00:00:00.000000Z"}}).to_string();
    accepted(&plane.kubectl(&["patch", "lease", "portcullis", &namespace, "--type=merge", "--patch", &patch]));
    assert_fault(cluster, "lease", "the Lease has expired: gone renewed it ");
    accepted(&plane.kubectl(&["delete", "secret", "portcullis-tls", &namespace]));
    assert_fault(cluster, "certificate", "Secret portcullis-system/portcullis-tls does not exist");
}

/// Runs the command that `doctor` prints, in a shell with `kubectl` and `portcullis`.
fn run_fix(cluster: &Installation, fix: &str) {
    let folder = |program: &Path| program.parent().unwrap().to_str().unwrap().to_owned();
    let portcullis = folder(Path::new(env!("CARGO_BIN_EXE_portcullis")));
    let path = format!("{portcullis}:{}:{}", folder(cluster.plane.kubectl_path()), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", fix]).env("PATH", path).env("KUBECONFIG", cluster.plane.kubeconfig());
    let done = finish(&mut shell, "");
    assert_eq!(done.code, 0, "{fix}: {}", done.err);
}

/// A CA that signed nothing, in base64.
fn portcullis_ca() -> String {
    use base64::Engine as _;
    let ca = portcullis::pki::new_ca("another CA").unwrap();
    base64::engine::general_purpose::STANDARD.encode(ca.certificate)
}

#[test]
fn status_and_exemptions_of_an_installation() {
    let Some(plane) = ControlPlane::start() else { return };
    let cluster = Installation::new(plane, 1, "");
    let plane = &cluster.plane;
    accepted(&plane.kubectl(&["create", "namespace", "shop"]));
    accepted(&plane.kubectl(&["label", "namespace", "shop", &format!("access.{DOMAIN}/postgres=true")]));
    cluster.until("the baseline is applied", |cluster| {
        cluster.namespace("shop")["metadata"]["labels"][format!("{DOMAIN}/baseline")] == "applied"
    });
    for name in ["web", "api"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "example.com/c"}]},
        });
        accepted(&plane.apply(&pod.to_string(), &[]));
    }
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "scanner", "namespace": "shop", "annotations": {
            format!("{DOMAIN}/exempt"): "any-port", format!("{DOMAIN}/reason"): "INC-3", format!("{DOMAIN}/until"): "2999-01-01T00:00:00Z",
        }},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "scanner"}}}]}]},
    });
    accepted(&plane.apply(&policy.to_string(), &["--server-side", "--field-manager=ada"]));
    let hatch = cluster.portcullis(&["hatch", "open", "shop", "--reason=INC-1", "--for=30m"]);
    assert_eq!(hatch.code, 0, "{}", hatch.err);

    let (code, answer) = ask(&cluster, &["status", "-n", "shop"]);
    let shop = &answer["namespaces"][0];
    assert_eq!((code, &answer["missing"]), (0, &json!([])), "{answer:#}");
    assert_eq!(
        (&shop["name"], &shop["profile"], &shop["baseline"]),
        (&json!("shop"), &json!("standard"), &json!("applied"))
    );
    assert_eq!((&shop["access"], &shop["pods"]), (&json!(["postgres"]), &json!(2)), "{shop}");
    assert_eq!(shop["isolated"], json!({"ingress": 2, "egress": 2}), "{shop}");
    assert_eq!((&shop["hatch"]["isOpen"], &shop["hatch"]["reason"]), (&json!(true), &json!("INC-1")), "{shop}");
    assert_eq!((&shop["findings"]["deny"], shop["findings"]["warn"].as_u64() > Some(0)), (&json!(0), true), "{shop}");
    let text = cluster.portcullis(&["status"]);
    assert!(text.out.starts_with("NAMESPACE "), "{}", text.out);
    assert!(
        text.out
            .lines()
            .any(|line| line.starts_with("shop ") && line.contains(" postgres ") && line.contains(" applied ")),
        "{}",
        text.out
    );
    assert!(
        text.out.lines().any(|line| line.starts_with("kube-system ") && line.contains(" platform ")),
        "{}",
        text.out
    );
    let unknown = cluster.portcullis(&["status", "-n", "none-such"]);
    assert_eq!((unknown.code, unknown.err.contains("namespace none-such not found")), (2, true), "{}", unknown.err);

    let (code, answer) = ask(&cluster, &["exempt", "list"]);
    let rows = answer["exemptions"].as_array().unwrap();
    assert_eq!((code, rows.len()), (0, 1), "{answer:#}");
    let row = &rows[0];
    assert_eq!(
        (&row["namespace"], &row["name"], &row["rule"], &row["reason"], &row["setBy"], &row["isValid"]),
        (&json!("shop"), &json!("scanner"), &json!("any-port"), &json!("INC-3"), &json!("ada"), &json!(true))
    );
    assert_eq!(row["until"], "2999-01-01T00:00:00Z");
    let text = cluster.portcullis(&["exempt", "list", "-n", "shop"]).out;
    assert!(text.starts_with("NetworkPolicy shop/scanner  any-port since 20"), "{text}");
    assert!(text.ends_with(", until 2999-01-01T00:00:00Z, set by ada: INC-3\n"), "{text}");
    assert_eq!(cluster.portcullis(&["exempt", "list", "-n", "default"]).out, "No object is exempt from a rule.\n");
    partial(&cluster);
}

/// With a part of the read rights, the rest is answered.
fn partial(cluster: &Installation) {
    let plane = &cluster.plane;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "get"]},
        ],
    });
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    });
    for object in [role, account, binding] {
        accepted(&plane.apply(&object.to_string(), &[]));
    }
    let token = plane.kubectl(&["create", "token", "reader", "--namespace=default"]);
    accepted(&token);
    let file = tempfile::NamedTempFile::new().unwrap();
    plane.kubeconfig_with_token(file.path(), token.stdout.trim(), plane.port());
    assert!(fs::read_to_string(file.path()).unwrap().contains("token"));
    for command in [&["status"][..], &["exempt", "list"]] {
        let done = finish(portcullis().args(command).arg("--kubeconfig").arg(file.path()), "");
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.contains("not read: pods: pods is forbidden"), "{}", done.out);
        assert!(done.out.contains("shop"), "{}", done.out);
    }
}
