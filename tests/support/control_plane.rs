//! etcd and a kube-apiserver, for tests of what an API server makes of Portcullis.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::free_ports;
use super::pki::{self, Authority};
use super::process::Process;

/// Where the binaries are by the convention of envtest, unless `KUBEBUILDER_ASSETS` says otherwise.
const ASSETS: &str = "/usr/local/kubebuilder/bin";

/// How long an API server may take to be ready.
const START: Duration = Duration::from_secs(90);

/// A control plane without controllers and nodes: what is stored stays as it was stored.
pub(crate) struct ControlPlane {
    admin: Kubectl,
    // In the order in which they are dropped: the directory last.
    api_server: Process,
    etcd: Process,
    binaries: Binaries,
    /// More arguments of the API server.
    arguments: Vec<String>,
    authority: Authority,
    etcd_port: u16,
    port: u16,
    dir: TempDir,
}

/// `kubectl`, as somebody.
#[derive(Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    identity: Vec<String>,
}

/// What `kubectl` answered.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What the control plane is made of.
#[derive(Clone)]
struct Binaries {
    etcd: PathBuf,
    api_server: PathBuf,
    kubectl: PathBuf,
}

impl ControlPlane {
    /// Starts it, where the binaries are there.
    ///
    /// Where they are not, that is said in one line which the test harness does not swallow, since a test that passes
    /// because it did nothing must not look like the others.
    ///
    /// # Panics
    ///
    /// If it is not ready in time, with what it logged.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts it with more arguments for the API server.
    pub(crate) fn start_with(arguments: &[String]) -> Option<Self> {
        let binaries = match Binaries::find() {
            Ok(binaries) => binaries,
            Err(missing) => {
                // Not `eprintln!`, which the harness captures.
                let _ = writeln!(io::stderr(), "SKIPPED, without a control plane: {missing}");
                return None;
            }
        };
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::attempt(&binaries, arguments) {
                Ok(control_plane) => return Some(control_plane),
                // Somebody else took one of the ports after they were found free.
                Err(why) if attempts > 0 && why.contains("address already in use") => {}
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// Runs `kubectl` as an administrator.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Output {
        self.admin.run(arguments)
    }

    /// Applies a manifest as an administrator.
    pub(crate) fn apply(&self, manifest: &str, arguments: &[&str]) -> Output {
        self.admin.apply(manifest, arguments)
    }

    /// Makes an object as an administrator.
    pub(crate) fn run_create(&self, manifest: &str) -> Output {
        self.admin.run_with_input(&["create", "--filename=-"], manifest)
    }

    /// An object as it is stored, if it is.
    pub(crate) fn stored(&self, arguments: &[&str]) -> Option<Value> {
        self.admin.stored(arguments)
    }

    /// Installs the webhook `silent` for new NetworkPolicies, which never answers, with these fields besides. Returns how often it
    /// was called.
    pub(crate) fn install_silent_webhook(&self, fields: &Value) -> Arc<AtomicUsize> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut webhook = json!({
            "name": "silent.example.com",
            "clientConfig": {"url": format!("https://{}/", listener.local_addr().unwrap())},
            "rules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["networkpolicies"],
            }],
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        });
        webhook.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "silent"}, "webhooks": [webhook],
        });
        let calls: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&calls);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                held.push(stream);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let applied = self.apply(&configuration.to_string(), &[]);
        assert!(applied.ok, "{applied}");
        calls
    }

    /// `kubectl` as an administrator.
    pub(crate) fn admin(&self) -> &Kubectl {
        &self.admin
    }

    /// The file with which an administrator talks to it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.admin.kubeconfig
    }

    /// The path of `kubectl`.
    pub(crate) fn kubectl_path(&self) -> &Path {
        &self.binaries.kubectl
    }

    /// `kubectl` as somebody else, who may what RBAC grants them.
    pub(crate) fn as_user(&self, user: &str, groups: &[&str]) -> Kubectl {
        let mut identity = vec![format!("--as={user}")];
        identity.extend(groups.iter().map(|group| format!("--as-group={group}")));
        Kubectl { identity, ..self.admin.clone() }
    }

    /// A client of the API server for a user in a group, with a certificate that names both.
    pub(crate) fn client(&self, user: &str, group: &str) -> Client {
        let ca = fs::read_to_string(&self.authority.certificate).unwrap();
        let identity = self.authority.client(user, group);
        Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), &ca, "localhost").with_identity(&identity)
    }

    /// The port of etcd, which keeps every version of every object for some minutes.
    pub(crate) fn etcd_port(&self) -> u16 {
        self.etcd_port
    }

    /// The port of the API server.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the API server, as a machine that loses its power would.
    pub(crate) fn stop_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts the API server again, with what it had stored.
    pub(crate) fn start_api_server(&mut self) {
        let Self { binaries, dir, authority, etcd_port, port, arguments, .. } = self;
        self.api_server = start_api_server(&binaries.api_server, dir.path(), authority, [*etcd_port, *port], arguments);
        self.wait_until_ready().unwrap();
    }

    /// A kubeconfig with a token, for the API server at this port of loopback.
    pub(crate) fn kubeconfig_with_token(&self, file: &Path, token: &str, port: u16) {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.authority.certificate,
            }}],
            "users": [{"name": "account", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "account"}}],
            "current-context": "test",
        });
        fs::write(file, config.to_string()).unwrap();
    }

    fn attempt(binaries: &Binaries, arguments: &[String]) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("portcullis-control-plane-").tempdir().unwrap();
        let [etcd_port, peer_port, port] = free_ports();
        let etcd = start_etcd(&binaries.etcd, dir.path(), etcd_port, peer_port);

        let authority = Authority::new(&dir.path().join("pki"));
        let api_server = start_api_server(&binaries.api_server, dir.path(), &authority, [etcd_port, port], arguments);
        let kubeconfig = dir.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, &authority, port);
        let admin = Kubectl {
            program: binaries.kubectl.clone(),
            kubeconfig,
            home: dir.path().join("home"),
            identity: Vec::new(),
        };

        let binaries = binaries.clone();
        let arguments = arguments.to_vec();
        let mut control_plane = Self { admin, api_server, etcd, binaries, arguments, authority, etcd_port, port, dir };
        control_plane.wait_until_ready().map_err(|why| {
            let (api_server, etcd) = (control_plane.api_server.log_tail(), control_plane.etcd.log_tail());
            format!("{why}\n--- kube-apiserver ---\n{api_server}\n--- etcd ---\n{etcd}")
        })?;
        Ok(control_plane)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.etcd.ended() {
                return Err(format!("etcd ended with {status}"));
            }
            if let Some(status) = self.api_server.ended() {
                return Err(format!("kube-apiserver ended with {status}"));
            }
            let readyz = self.kubectl(&["get", "--raw", "/readyz"]);
            if readyz.ok {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("kube-apiserver is not ready after {} s: {readyz}", START.as_secs()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Kubectl {
    /// Runs it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "")
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str, arguments: &[&str]) -> Output {
        self.run_with_input(&[&["apply", "--filename=-"], arguments].concat(), manifest)
    }

    /// Runs it with something on its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.program)
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg("--request-timeout=30s")
            .args(&self.identity)
            .args(arguments)
            // Neither the preferences nor the caches of whoever runs the test.
            .env("HOME", &self.home)
            .env("KUBERC", "off")
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.program.display()));
        // It may end without reading what is of no use to it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Output {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// An object as it is stored, if it is; the arguments name it.
    ///
    /// # Panics
    ///
    /// If that cannot be told.
    pub(crate) fn stored(&self, arguments: &[&str]) -> Option<Value> {
        let output = self.run(&[&["get", "--output=json", "--ignore-not-found"], arguments].concat());
        assert!(output.ok, "{output}");
        (!output.stdout.trim().is_empty()).then(|| serde_json::from_str(&output.stdout).unwrap())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, stdout, stderr } = self;
        write!(f, "kubectl {}\n{stdout}{stderr}", if *ok { "succeeded" } else { "failed" })
    }
}

impl Binaries {
    fn find() -> Result<Self, String> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map_or_else(|| ASSETS.into(), PathBuf::from);
        let here = |name: &str| Some(assets.join(name)).filter(|path| path.is_file());
        let need = |name: &str| {
            here(name).ok_or_else(|| {
                format!("no {name} in {} (KUBEBUILDER_ASSETS may name another folder)", assets.display())
            })
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let kubectl = || env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|path| path.is_file());
        Ok(Self {
            etcd: need("etcd")?,
            api_server: need("kube-apiserver")?,
            kubectl: here("kubectl").or_else(kubectl).ok_or("no kubectl beside them or on the PATH")?,
        })
    }
}

fn start_etcd(program: &Path, dir: &Path, port: u16, peer_port: u16) -> Process {
    let (url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new(program);
    command
        .arg("--data-dir")
        .arg(dir.join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")]);
    Process::start(&mut command, &dir.join("etcd.log"))
}

fn start_api_server(
    program: &Path,
    dir: &Path,
    authority: &Authority,
    [etcd_port, port]: [u16; 2],
    arguments: &[String],
) -> Process {
    let hosts = ["localhost", "kubernetes", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
    let identity = authority.server("kube-apiserver", &hosts);
    let (public, private) = pki::key_pair(&dir.join("pki"), "service-account");
    let file = |flag: &str, path: &Path| format!("{flag}={}", path.display());
    let mut command = Command::new(program);
    command
        .arg(file("--tls-cert-file", &identity.certificate))
        .arg(file("--tls-private-key-file", &identity.key))
        .arg(file("--client-ca-file", &authority.certificate))
        .arg(file("--service-account-key-file", &public))
        .arg(file("--service-account-signing-key-file", &private))
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg(format!("--secure-port={port}"))
        .args([
            "--bind-address=127.0.0.1",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            // Nobody makes the service accounts that it would ask for: that is the work of a controller.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ])
        .args(arguments)
        // It would ask a proxy for the webhooks.
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy");
    Process::start(&mut command, &dir.join("kube-apiserver.log"))
}

fn write_kubeconfig(file: &Path, authority: &Authority, port: u16) {
    let admin = authority.client("admin", "system:masters");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": authority.certificate,
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate": admin.certificate,
            "client-key": admin.key,
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    });
    fs::write(file, config.to_string()).unwrap();
}
