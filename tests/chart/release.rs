//! A release from its installation to its end, on a real API server.
//!
//! The test has no scheduler, no kubelet and no Job controller. It starts the process that the Deployment describes: with the
//! arguments and the ConfigMap that are stored, and with a token of its service account. It does the same for the Jobs of the
//! hooks, and reports their end in their status. The Service becomes one of type ExternalName, which leads to this machine.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::command::finish;
use super::support::control_plane::{ControlPlane, Output};
use super::support::free_ports;
use super::support::installation::PATIENCE;
use super::support::process::Process;
use super::support::server::{get, portcullis};
use super::support::service::Service;
use super::{CHART, Helm, objects};

const NAMESPACE: &str = "guard";
const RELEASE: &str = "prod";
/// All names differ from those of the kustomize base.
const VALUES: &str = "--values=deploy/chart/ci/names.yaml";
/// A policy that the rule `any-port` denies.
const BAD: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: probe, namespace: default}\n\
                   spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}\n";

/// A cluster, and the processes that its kubelets would run.
struct Cluster {
    // Before the control plane, so that it is stopped first.
    server: Option<Process>,
    plane: ControlPlane,
    helm: Helm,
    /// The address behind the Service.
    service: Service,
    dir: TempDir,
    /// The number of processes so far.
    started: usize,
}

impl Cluster {
    fn start() -> Option<Self> {
        let helm = Helm::find()?;
        let plane = ControlPlane::start()?;
        let dir = tempfile::Builder::new().prefix("portcullis-release-").tempdir().unwrap();
        Some(Self { server: None, plane, helm, service: Service::new(), dir, started: 0 })
    }

    /// Returns the arguments of a helm command about the release.
    fn arguments(&self, command: &[&str]) -> Vec<String> {
        let kubeconfig = self.plane.kubeconfig().to_str().unwrap();
        let common = ["--namespace", NAMESPACE, "--kubeconfig", kubeconfig];
        command.iter().chain(&common).map(ToString::to_string).collect()
    }

    #[track_caller]
    fn helm(&self, command: &[&str]) -> String {
        let arguments = self.arguments(command);
        let done = self.helm.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(done.code, 0, "{command:?}: {}", done.err);
        done.out
    }

    fn install(&mut self) -> String {
        let port = format!("--set=service.port={}", self.service.port());
        let notes = self.helm(&["install", RELEASE, CHART, "--create-namespace", VALUES, &port]);
        self.lead_the_service_here();
        self.restart();
        notes
    }

    fn lead_the_service_here(&self) {
        let external = r#"{"spec": {"type": "ExternalName", "externalName": "localhost"}}"#;
        let patched = self.plane.kubectl(&["patch", "service", "gate", "--namespace", NAMESPACE, "--patch", external]);
        assert!(patched.ok, "{patched}");
    }

    /// Runs `portcullis doctor`, and returns its exit status with its checks.
    fn doctor(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        doctor(&self.plane, arguments)
    }

    fn stored(&self, kind: &str, name: &str) -> Option<Value> {
        self.plane.stored(&[kind, name, "--namespace", NAMESPACE])
    }

    /// Returns the arguments of the first container of a pod template, with a kubeconfig of its account.
    fn container(&mut self, template: &Value) -> Vec<String> {
        self.started += 1;
        let dir = self.dir.path().join(self.started.to_string());
        let pod = &template["spec"];
        for (volume, mount) in Self::mounts(pod) {
            let files = self.stored("configmap", &volume).unwrap();
            fs::create_dir_all(dir.join(&mount)).unwrap();
            for (name, text) in files["data"].as_object().unwrap() {
                fs::write(dir.join(&mount).join(name), text.as_str().unwrap()).unwrap();
            }
        }
        let account = pod["serviceAccountName"].as_str().unwrap();
        let token = self.plane.kubectl(&["create", "token", account, "--namespace", NAMESPACE]);
        assert!(token.ok, "{token}");
        fs::create_dir_all(&dir).unwrap();
        let kubeconfig = dir.join("kubeconfig");
        self.plane.kubeconfig_with_token(&kubeconfig, token.stdout.trim(), self.plane.port());
        // A path in the container is a path below the folder of this process.
        let root = format!("={}/", dir.display());
        let arguments = pod["containers"][0]["args"].as_array().unwrap().iter();
        let arguments = arguments.map(|argument| argument.as_str().unwrap().replacen("=/", &root, 1));
        arguments.chain([format!("--kubeconfig={}", kubeconfig.display())]).collect()
    }

    /// Returns the ConfigMaps of a pod, with the paths of their mounts.
    fn mounts(pod: &Value) -> Vec<(String, PathBuf)> {
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let mount = |volume: &Value| {
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            let path = Path::new(mount["mountPath"].as_str().unwrap()).strip_prefix("/").unwrap().to_owned();
            (volume["configMap"]["name"].as_str().unwrap().to_owned(), path)
        };
        volumes.map(mount).collect()
    }

    /// Replaces the server by one that the stored Deployment describes, and waits until it is ready.
    fn restart(&mut self) {
        self.server = None;
        let deployment = self.stored("deployment", "gate").unwrap();
        let mut arguments = self.container(&deployment["spec"]["template"]);
        // Only the test has to notice the end.
        arguments.retain(|argument| !argument.starts_with("--stop-after="));
        let [port, admin_port] = free_ports();
        let mut command = portcullis();
        command
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--stop-after", "0.1"])
            .env("POD_NAMESPACE", NAMESPACE);
        let process = self.server.insert(Process::start(&mut command, &self.dir.path().join("log")));
        let deadline = Instant::now() + PATIENCE;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        while get(admin, "/readyz").is_none_or(|(status, _)| status != 200) {
            let ended = process.ended();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", process.log_tail());
            thread::sleep(Duration::from_millis(50));
        }
        self.service.set_backends(&[port]);
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let log = || self.server.as_ref().map(Process::log_tail).unwrap_or_default();
            assert!(Instant::now() < deadline, "this never came: {what}\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn apply_bad(&self) -> Output {
        self.plane.apply(BAD, &["--dry-run=server"])
    }

    fn webhooks(&self) -> Option<Value> {
        self.plane.stored(&["validatingwebhookconfiguration", "gate-webhooks"])
    }

    /// Runs `helm uninstall`, and the Jobs of its hooks. Returns their names and outputs.
    fn uninstall(&mut self) -> Vec<(String, String)> {
        let arguments = self.arguments(&["uninstall", RELEASE, "--timeout=60s"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = self.dir.path().join("uninstall.log");
        let mut uninstall = Process::start(&mut self.helm.command(&arguments), &log);
        let mut jobs = Vec::new();
        let status = loop {
            if let Some(status) = uninstall.ended() {
                break status;
            }
            let list = self.plane.stored(&["jobs", "--namespace", NAMESPACE]).unwrap_or_default();
            for job in
                list["items"].as_array().into_iter().flatten().filter(|job| job["status"].get("conditions").is_none())
            {
                jobs.push(self.run_job(job));
            }
            // The kubelets end the pods of a deleted Deployment.
            if self.stored("deployment", "gate").is_none() {
                self.server = None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
        self.server = None;
        jobs
    }

    /// Runs the container of a Job, and reports its end.
    fn run_job(&mut self, job: &Value) -> (String, String) {
        let name = job["metadata"]["name"].as_str().unwrap();
        let arguments = self.container(&job["spec"]["template"]);
        let output = portcullis().args(arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now});
        let status = json!({"status": {
            "startTime": now, "completionTime": now, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        }});
        let patch = ["patch", "job", name, "--namespace", NAMESPACE, "--subresource=status", "--type=merge", "--patch"];
        let patched = self.plane.kubectl(&[&patch[..], &[&status.to_string()]].concat());
        assert!(patched.ok, "{patched}");
        (name.to_owned(), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_removed_without_a_trace_that_blocks() {
    let Some(mut cluster) = Cluster::start() else { return };
    let notes = cluster.install();
    assert!(notes.contains("deployment/gate"), "{notes}");

    // Under names of its own it writes its webhooks, and the API server trusts its certificate.
    cluster.until("a denial", || cluster.apply_bad().stderr.contains("any-port"));
    let webhooks = cluster.webhooks().unwrap();
    let client = &webhooks["webhooks"][0]["clientConfig"]["service"];
    assert_eq!((&client["namespace"], &client["name"]), (&json!(NAMESPACE), &json!("gate")));
    // The configuration knows the account, so the rules do not deny what the controller writes.
    let made = cluster.plane.kubectl(&["create", "namespace", "shop"]);
    assert!(made.ok, "{made}");
    cluster.until("a baseline", || {
        cluster.plane.stored(&["networkpolicy", "portcullis-baseline-default-deny", "--namespace", "shop"]).is_some()
    });

    doctor_follows_the_release(&mut cluster);
    the_notes_name_the_webhook_configurations(&cluster);

    let port = format!("--set=service.port={}", cluster.service.port());
    cluster.helm(&["upgrade", RELEASE, CHART, VALUES, &port, "--set=preset=warn,replicas=3"]);
    assert_eq!(cluster.stored("deployment", "gate").unwrap()["spec"]["replicas"], 3);
    cluster.restart();
    cluster.until("a warning in place of a denial", || {
        let applied = cluster.apply_bad();
        applied.ok && applied.stderr.contains("any-port")
    });
    cluster.until("an outage blocks no policy", || {
        cluster.webhooks().is_some_and(|webhooks| webhooks["webhooks"][0]["failurePolicy"] == "Ignore")
    });

    cluster.helm(&["rollback", RELEASE, "1"]);
    assert_eq!(cluster.stored("deployment", "gate").unwrap()["spec"]["replicas"], 2);
    cluster.restart();
    cluster.until("denials again", || {
        let applied = cluster.apply_bad();
        !applied.ok && applied.stderr.contains("any-port")
    });

    let jobs = cluster.uninstall();
    let names: Vec<&str> = jobs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gate-uninstall-pre-delete", "gate-uninstall-post-delete"]);
    assert!(jobs[0].1.contains("ValidatingWebhookConfiguration gate-webhooks: deleted"), "{}", jobs[0].1);
    assert!(jobs[1].1.contains("removed annotation portcullis.dev/webhooks-paused"), "{}", jobs[1].1);
    nothing_blocks(&cluster);

    // The end left nothing that keeps a later release from its work.
    cluster.install();
    cluster.until("a denial of the second release", || cluster.apply_bad().stderr.contains("any-port"));
}

fn doctor(plane: &ControlPlane, arguments: &[&str]) -> (i32, Vec<Value>) {
    let mut command = portcullis();
    command.args(["doctor", "--output=json", "--kubeconfig"]).arg(plane.kubeconfig()).args(arguments);
    let done = finish(&mut command, "");
    let answer: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    (done.code, answer["checks"].as_array().unwrap().clone())
}

fn find<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name} in {checks:?}"))
}

/// The names of the release are in no argument of `doctor`: it reads them from the Deployment.
fn doctor_follows_the_release(cluster: &mut Cluster) {
    // No kubelet reports the replicas.
    let status = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}}).to_string();
    let patch =
        ["patch", "deployment", "gate", "--namespace", NAMESPACE, "--subresource=status", "--type=merge", "--patch"];
    let patched = cluster.plane.kubectl(&[&patch[..], &[&status]].concat());
    assert!(patched.ok, "{patched}");
    cluster.until("doctor finds no fault", || cluster.doctor(&["--namespace", NAMESPACE]).0 == 0);
    let (_, checks) = cluster.doctor(&["--namespace", NAMESPACE]);
    for (check, part) in [
        ("configuration", "ConfigMap guard/gate-configuration is valid"),
        ("validating-webhooks", "ValidatingWebhookConfiguration gate-webhooks has "),
        ("certificate", "covers gate.guard.svc"),
        ("service", "Service guard/gate "),
        ("rights", "system:serviceaccount:guard:gatekeeper has the "),
    ] {
        assert!(find(&checks, check)["message"].as_str().unwrap().contains(part), "{:?}", find(&checks, check));
    }

    // The namespace is the one of the configuration, and commands have the arguments that were given.
    let file = cluster.dir.path().join("my config.yaml");
    let stored = cluster.stored("configmap", "gate-configuration").unwrap();
    fs::write(&file, stored["data"]["portcullis.yaml"].as_str().unwrap()).unwrap();
    let config = format!("--config={}", file.display());
    assert_eq!(cluster.doctor(&[&config]).0, 0);
    let (code, checks) = cluster.doctor(&[&config, "--webhook-name=other"]);
    let check = find(&checks, "validating-webhooks");
    assert_eq!((code, &check["state"]), (1, &json!("fault")), "{check}");
    let connection = format!("--kubeconfig {}", cluster.plane.kubeconfig().display());
    let expected = format!(
        "portcullis webhooks --config '{}' --webhook-name other --service guard/gate --port {} | \
         kubectl {connection} apply --server-side --force-conflicts -f -",
        file.display(),
        cluster.service.port()
    );
    assert_eq!(check["fix"], expected);

    // Helm restores what is missing in its release.
    let deleted = cluster.plane.kubectl(&["delete", "service", "gate", "--namespace", NAMESPACE]);
    assert!(deleted.ok, "{deleted}");
    let (_, checks) = cluster.doctor(&["--namespace", NAMESPACE]);
    let check = find(&checks, "service");
    assert_eq!(check["message"], "Service guard/gate does not exist");
    let expected = format!("helm {connection} upgrade prod deploy/chart --namespace guard --reuse-values");
    assert_eq!(check["fix"], expected);
    cluster.helm(&["upgrade", RELEASE, CHART, "--reuse-values"]);
    cluster.lead_the_service_here();
    cluster.until("doctor finds no fault", || cluster.doctor(&["--namespace", NAMESPACE]).0 == 0);
}

/// The command that the notes print writes the configurations that the server compares.
fn the_notes_name_the_webhook_configurations(cluster: &Cluster) {
    let upgrade = ["upgrade", RELEASE, CHART, VALUES, "--set=webhooks.mode=report", "--dry-run=client"];
    let notes = cluster.helm(&upgrade);
    let line = notes.lines().find(|line| line.trim_start().starts_with("portcullis webhooks ")).unwrap();
    let file = cluster.dir.path().join("my config.yaml");
    let arguments = line.split('|').next().unwrap().split_whitespace().skip(1);
    let arguments = arguments.map(|argument| match argument {
        "portcullis.yaml" => file.to_str().unwrap(),
        argument => argument,
    });
    let done = finish(portcullis().args(arguments), "");
    let list: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    for item in list["items"].as_array().unwrap() {
        assert_eq!(item["metadata"]["name"], "gate-webhooks");
        assert_eq!(item["webhooks"][0]["clientConfig"]["service"]["name"], "gate");
    }
}

/// With a certificate of cert-manager the release has fewer rights, and `doctor` expects no others.
#[test]
fn doctor_expects_the_rights_that_the_values_need() {
    let Some(helm) = Helm::find() else { return };
    let Some(plane) = ControlPlane::start() else { return };
    let created = plane.kubectl(&["create", "namespace", NAMESPACE]);
    assert!(created.ok, "{created}");
    let (code, checks) = doctor(&plane, &["--namespace", NAMESPACE]);
    assert_eq!((code, &find(&checks, "configuration")["state"]), (1, &json!("unknown")), "{checks:?}");
    // A command must not replace unknown webhook configurations by the built-in ones.
    let fix = find(&checks, "validating-webhooks")["fix"].as_str().unwrap();
    assert!(fix.starts_with("portcullis webhooks --config portcullis.yaml --service guard/portcullis "), "{fix}");
    let connection = format!("--kubeconfig {}", plane.kubeconfig().display());
    let expected = format!("kubectl {connection} apply --server-side -k deploy/");
    assert_eq!(find(&checks, "replicas")["fix"], expected);
    for mode in ["report", "off"] {
        let values = ["--values=deploy/chart/ci/cert-manager.yaml", "--set-string", &format!("webhooks.mode={mode}")];
        let mut rendered = objects(&helm.template_release(RELEASE, NAMESPACE, &values));
        rendered.retain(|object| object["apiVersion"] != "cert-manager.io/v1");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": rendered}).to_string();
        let applied = plane.apply(&list, &["--server-side", "--force-conflicts"]);
        assert!(applied.ok, "{applied}");
        let checks = || doctor(&plane, &["--namespace", NAMESPACE]).1;
        let deadline = Instant::now() + PATIENCE;
        // The API server reads roles from a cache.
        while find(&checks(), "rights")["state"] != "ok" {
            assert!(Instant::now() < deadline, "{mode}: {}", find(&checks(), "rights"));
            thread::sleep(Duration::from_millis(100));
        }
        let checks = checks();
        assert_eq!(find(&checks, "certificate")["message"], "Secret guard/prod-portcullis-tls does not exist");
        let fix = find(&checks, "validating-webhooks")["fix"].as_str().unwrap();
        let expected = format!(
            "kubectl {connection} get configmap prod-portcullis-configuration --namespace guard --output \
             'go-template={{{{index .data \"portcullis.yaml\"}}}}' | portcullis webhooks --config /dev/stdin \
             --webhook-name prod-portcullis --service guard/prod-portcullis --port 443 --ca ca.pem | \
             kubectl {connection} apply --server-side --force-conflicts -f -"
        );
        assert_eq!(fix, expected);
    }
}

/// No object of the release is left, except for the ones that Portcullis itself wrote into its namespace.
fn nothing_blocks(cluster: &Cluster) {
    let plane = &cluster.plane;
    let applied = cluster.apply_bad();
    assert!(applied.ok && applied.stderr.is_empty(), "{applied}");
    let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations,clusterroles,clusterrolebindings";
    let left = plane.kubectl(&["get", kinds, "--output=name"]);
    let ours: Vec<&str> =
        left.stdout.lines().filter(|name| name.contains("gate") && !name.contains("aggregate")).collect();
    assert!(left.ok && ours.is_empty(), "{ours:?}");
    let kinds = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,\
                 resourcequotas,leases,jobs";
    let left = plane.kubectl(&["get", kinds, "--output=name", "--namespace", NAMESPACE]);
    let left: Vec<&str> = left.stdout.lines().collect();
    assert_eq!(left, ["secret/gate-serving", "lease.coordination.k8s.io/portcullis"]);
    let in_default = plane.kubectl(&["get", "roles,rolebindings", "--output=name", "--namespace=default"]);
    assert_eq!(in_default.stdout, "", "{in_default}");
    let namespace = plane.stored(&["namespace", NAMESPACE]).unwrap();
    assert_eq!(namespace["metadata"]["annotations"].get("portcullis.dev/webhooks-paused"), None);
}
