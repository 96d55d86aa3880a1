//! Portcullis as `deploy/` installs it, on a real API server, with replicas that are processes of this machine.
//!
//! Everything is as in a cluster: the objects of `deploy/`, the rights of its service account, the certificate in its
//! Secret, a Lease. What differs is that nobody runs its pods here, so the Service is one of type ExternalName, in front of
//! the processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::command::{Done, finish};
use super::control_plane::{ControlPlane, Output};
use super::free_ports;
use super::limit::{MemoryLimit, status_bytes};
use super::process::Process;
use super::server::{get, portcullis, within};
use super::service::Service;
use super::verdict::has_finding;

/// How long anything may take that has to happen some time. Only what never happens takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The namespace of `deploy/`.
pub(crate) const NAMESPACE: &str = "portcullis-system";

/// Portcullis in a cluster.
pub(crate) struct Installation {
    // Before the control plane, so that they are stopped before that is.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) plane: ControlPlane,
    service: Service,
    /// The address through which replicas reach the API server.
    pub(crate) upstream: Service,
    dir: TempDir,
    /// The configuration of replicas that start from now on.
    pub(crate) config: PathBuf,
    /// More arguments of replicas that start from now on.
    pub(crate) arguments: Vec<String>,
    /// The memory limit of replicas that start from now on, in bytes.
    memory: Option<u64>,
}

/// One process of it.
pub(crate) struct Replica {
    process: Process,
    port: u16,
    admin_port: u16,
    log: PathBuf,
    // After the process, which has to end before its cgroup can be removed.
    limit: Option<MemoryLimit>,
}

impl Installation {
    /// Applies `deploy/` and starts replicas, with these lines added to the configuration in it.
    pub(crate) fn new(plane: ControlPlane, replicas: usize, configuration: &str) -> Self {
        Self::within(plane, replicas, configuration, None)
    }

    /// The same, with each replica within a memory limit in bytes.
    pub(crate) fn within(plane: ControlPlane, replicas: usize, configuration: &str, memory: Option<u64>) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-installation-").tempdir().unwrap();
        let (service, upstream) = (Service::new(), Service::new());
        upstream.set_backends(&[plane.port()]);
        let config = dir.path().join("portcullis.yaml");
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        fs::write(&config, format!("{head}{configuration}")).unwrap();
        let (started, arguments) = (Vec::new(), Vec::new());
        let mut installation = Self { replicas: started, plane, service, upstream, dir, config, arguments, memory };
        let applied = installation.apply_deploy();
        assert!(applied.ok, "{applied}");
        installation.write_kubeconfig();
        installation.start_replicas(replicas);
        installation.until_asked();
        installation
    }

    /// `kubectl apply -k deploy/`, but for the Service.
    fn apply_deploy(&self) -> Output {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let built = self.plane.kubectl(&["kustomize", folder.to_str().unwrap()]);
        assert!(built.ok, "{built}");
        // The namespace has to be there before what is in it can be tried.
        let namespace = self.plane.kubectl(&["create", "namespace", NAMESPACE]);
        assert!(namespace.ok || namespace.stderr.contains("AlreadyExists"), "{namespace}");
        let read = self
            .plane
            .admin()
            .run_with_input(&["apply", "--dry-run=client", "--output=json", "--filename=-"], &built.stdout);
        assert!(read.ok, "{read}");
        let mut list: Value = serde_json::from_str(&read.stdout).unwrap();
        for item in list["items"].as_array_mut().unwrap() {
            if let Some(metadata) = item["metadata"].as_object_mut() {
                metadata.remove("annotations");
            }
            if item["kind"] == "Service" {
                item["spec"] = json!({"type": "ExternalName", "externalName": "localhost"});
            }
        }
        self.plane.apply(&list.to_string(), &["--server-side"])
    }

    /// A kubeconfig with the token of the service account, and so with just its rights.
    pub(crate) fn write_kubeconfig(&self) {
        let token = self.plane.kubectl(&["create", "token", "portcullis", "--namespace", NAMESPACE, "--duration=2h"]);
        assert!(token.ok, "{token}");
        self.plane.kubeconfig_with_token(
            &self.dir.path().join("kubeconfig"),
            token.stdout.trim(),
            self.upstream.port(),
        );
    }

    /// One more replica, and waits until it is ready.
    pub(crate) fn start_replica(&mut self) {
        self.start_replicas(1);
    }

    /// More replicas, all at once, and waits until they are ready.
    fn start_replicas(&mut self, count: usize) {
        let started: Vec<Replica> = (0..count).map(|_| self.launch()).collect();
        for mut replica in started {
            let deadline = Instant::now() + PATIENCE;
            while !replica.is_ready() {
                let ended = replica.process.ended();
                assert!(ended.is_none(), "portcullis ended with {ended:?}:\n{}", replica.log());
                assert!(Instant::now() < deadline, "it is not ready: {:?}\n{}", replica.readyz(), replica.log());
                thread::sleep(Duration::from_millis(20));
            }
            self.replicas.push(replica);
        }
        self.announce();
    }

    fn launch(&self) -> Replica {
        let [port, admin_port] = free_ports();
        let log = self.dir.path().join(format!("portcullis-{port}.log"));
        let mut command: Command = portcullis();
        command
            .args(["serve", "--controller", "--tls-secret", "portcullis-system/portcullis-tls"])
            .args(["--webhook-service", &format!("{NAMESPACE}/portcullis:{}", self.service.port())])
            .args(&self.arguments)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--stop-after", "0.1", "--reload-every", "0.2"])
            .arg("--config")
            .arg(&self.config)
            .arg("--kubeconfig")
            .arg(self.dir.path().join("kubeconfig"))
            .env("POD_NAMESPACE", NAMESPACE)
            .stdin(Stdio::null());
        let limit = self.memory.and_then(MemoryLimit::new);
        let process = Process::start(&mut within(limit.as_ref(), command), &log);
        Replica { process, port, admin_port, log, limit }
    }

    /// Has the Service lead to the replicas that there are.
    pub(crate) fn announce(&self) {
        let ports: Vec<u16> = self.replicas.iter().map(|replica| replica.port).collect();
        self.service.set_backends(&ports);
    }

    /// The Service in the webhook configurations, with its port.
    pub(crate) fn webhook_service(&self) -> String {
        format!("{NAMESPACE}/portcullis:{}", self.service.port())
    }

    /// Kills the replica that leads, and says which one it was.
    pub(crate) fn kill_leader(&mut self) -> String {
        let leads = |replica: &Replica| replica.metric("portcullis_leader") == Some(1.0);
        self.until("one replica leads", |cluster| cluster.replicas.iter().filter(|one| leads(one)).count() == 1);
        let at = self.replicas.iter().position(leads).unwrap();
        let mut leader = self.replicas.remove(at);
        leader.process.kill();
        self.announce();
        leader.log()
    }

    /// Stops all replicas, as the end of their pods would.
    pub(crate) fn stop_replicas(&mut self) {
        for mut replica in self.replicas.drain(..) {
            let status = replica.process.stop().expect("it runs until it is stopped");
            assert!(status.success(), "portcullis ended with {status}:\n{}", replica.log());
        }
        self.announce();
    }

    /// Runs a command of the binary as an administrator of the cluster.
    pub(crate) fn portcullis(&self, arguments: &[&str]) -> Done {
        finish(portcullis().args(arguments).arg("--kubeconfig").arg(self.plane.kubeconfig()), "")
    }

    /// Waits until the API server asks, and with a CA that it has been given.
    pub(crate) fn until_asked(&self) {
        let bad = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: probe, namespace: default}\n\
                   spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}\n";
        self.until("being asked", |cluster| {
            has_finding(&cluster.plane.apply(bad, &["--dry-run=server"]).stderr, "any-port", "spec.ingress[0]")
        });
    }

    /// Waits until something holds.
    ///
    /// # Panics
    ///
    /// If it never does, with what the replicas logged.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl FnMut(&Self) -> bool) -> Duration {
        self.until_within(PATIENCE, what, holds)
    }

    /// The same, of what may take longer.
    #[track_caller]
    pub(crate) fn until_within(
        &self,
        patience: Duration,
        what: &str,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > patience {
                panic!("this never came: {what}\n{}", self.logs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    /// What the replicas logged at the end.
    pub(crate) fn logs(&self) -> String {
        let logs = self
            .replicas
            .iter()
            .map(|replica| format!("--- {} ---\n{}", replica.log.display(), replica.process.log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// The policies of a namespace as they are stored, by name.
    pub(crate) fn policies(&self, namespace: &str) -> Vec<Value> {
        let got = self.plane.kubectl(&["get", "networkpolicies", "--namespace", namespace, "--output=json"]);
        assert!(got.ok, "{got}");
        let list: Value = serde_json::from_str(&got.stdout).unwrap();
        let mut items = list["items"].as_array().unwrap().clone();
        items.sort_by_key(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        items
    }

    /// The names of the policies of a namespace.
    pub(crate) fn names(&self, namespace: &str) -> Vec<String> {
        let policies = self.policies(namespace);
        policies.iter().map(|policy| policy["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A namespace as it is stored.
    pub(crate) fn namespace(&self, name: &str) -> Value {
        self.plane.stored(&["namespace", name]).unwrap_or_else(|| panic!("there is no namespace {name}"))
    }

    /// Does what the namespace controller does at the end of a namespace: nobody else does it here.
    pub(crate) fn delete_namespace(&self, name: &str) {
        let deleted = self.plane.kubectl(&["delete", "namespace", name, "--wait=false"]);
        assert!(deleted.ok, "{deleted}");
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        let controller = self.plane.as_user("system:serviceaccount:kube-system:namespace-controller", &groups);
        // A controller that is at work may add one more in the last moment that it is allowed to.
        for kind in ["networkpolicies", "pods"] {
            let emptied = controller.run(&[
                "delete",
                kind,
                "--all",
                "--namespace",
                name,
                "--wait=false",
                "--grace-period=0",
                "--force",
            ]);
            assert!(emptied.ok, "{emptied}");
        }
        let mut namespace = self.namespace(name);
        namespace["spec"]["finalizers"] = json!([]);
        let path = format!("/api/v1/namespaces/{name}/finalize");
        let finalized = controller.run_with_input(&["replace", "--raw", &path, "--filename=-"], &namespace.to_string());
        assert!(finalized.ok, "{finalized}");
    }
}

impl Replica {
    pub(crate) fn admin_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin_port))
    }

    pub(crate) fn readyz(&self) -> Option<(u16, Value)> {
        let (status, body) = get(self.admin_address(), "/readyz")?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readyz().is_some_and(|(status, _)| status == 200)
    }

    /// The value of one series, by its name with its labels.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = get(self.admin_address(), "/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The port of the webhook.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The text of /metrics.
    pub(crate) fn metrics(&self) -> Option<String> {
        get(self.admin_address(), "/metrics").map(|(_, text)| text)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// True once the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Its memory limit, where the machine allows one.
    pub(crate) fn limit(&self) -> Option<&MemoryLimit> {
        self.limit.as_ref()
    }

    /// How much memory it has resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        status_bytes(self.process.id(), "VmRSS").unwrap()
    }
}
