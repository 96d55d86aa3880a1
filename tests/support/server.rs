//! The built binary, serving.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::free_ports;
use super::limit::MemoryLimit;
use super::pki::{Authority, Identity};
use super::process::{Process, tail};

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(15);
/// How long anything may take that has to happen some time. Only what never happens takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// `portcullis serve --standalone` with a certificate of its own. It can be stopped and started again, with the same
/// address and certificate, so that whoever has its address finds it again.
pub(crate) struct Server {
    // Before the directory, so that it is stopped before that is removed.
    process: Option<Process>,
    port: u16,
    admin_port: u16,
    authority: Authority,
    identity: Identity,
    context: Vec<PathBuf>,
    config: Option<PathBuf>,
    /// More arguments from its next start on.
    pub(crate) arguments: Vec<String>,
    dir: TempDir,
}

impl Server {
    /// A server that does not run yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-server-").tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("pki"));
        let identity = authority.server("portcullis", &["localhost", "127.0.0.1", "portcullis.portcullis-system.svc"]);
        let [port, admin_port] = free_ports();
        let (context, config, arguments) = (Vec::new(), None, Vec::new());
        Self { process: None, port, admin_port, authority, identity, context, config, arguments, dir }
    }

    /// Lets it know these manifests from its next start on.
    pub(crate) fn add_context(&mut self, manifests: &str) {
        let file = self.dir.path().join(format!("context-{}.yaml", self.context.len()));
        fs::write(&file, manifests).unwrap();
        self.context.push(file);
    }

    /// Gives it this configuration from its next start on, or the one that ships.
    pub(crate) fn set_config(&mut self, config: Option<&str>) {
        self.config = config.map(|config| {
            let file = self.dir.path().join("portcullis.yaml");
            fs::write(&file, config).unwrap();
            file
        });
    }

    /// Starts it, unless it runs.
    ///
    /// # Panics
    ///
    /// If it is not ready in time, with what it logged.
    pub(crate) fn start(&mut self) {
        if self.process.as_mut().is_some_and(|process| process.ended().is_none()) {
            return;
        }
        let address = self.admin_address();
        let mut command = serve([self.port, self.admin_port]);
        command
            // Nobody but the test has to hear that it is going to stop.
            .args(["--stop-after", "0.1"])
            .arg("--tls-cert")
            .arg(&self.identity.certificate)
            .arg("--tls-key")
            .arg(&self.identity.key)
            .args(&self.arguments);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        for context in &self.context {
            command.arg("--context").arg(context);
        }
        let process = self.process.insert(Process::start(&mut command, &self.dir.path().join("portcullis.log")));
        let deadline = Instant::now() + START;
        while get(address, "/readyz").map(|(status, _)| status) != Some(200) {
            let ended = process.ended();
            let log = process.log_tail();
            assert!(ended.is_none(), "portcullis ended with {ended:?}:\n{log}");
            assert!(Instant::now() < deadline, "portcullis is not ready after {} s:\n{log}", START.as_secs());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it, and says how it ended if it ran.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        self.process.take().and_then(|mut process| process.stop())
    }

    /// The port of the webhooks.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address by which an API server reaches it without a Service.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Where probes and metrics are.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin_port))
    }

    /// The certificate of the authority that signed its own.
    pub(crate) fn ca(&self) -> &Path {
        &self.authority.certificate
    }

    /// The end of what it logged.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.dir.path().join("portcullis.log"))
    }

    /// What `portcullis webhooks` prints for this server, reached the way that the arguments say.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub(crate) fn webhooks(&self, way: &[&str]) -> String {
        let mut command = portcullis();
        command.arg("webhooks").args(way).arg("--ca").arg(self.ca());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} failed with {}:\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// `portcullis serve --standalone` on ports of its own choice, for tests that are asynchronous. It is killed when this is
/// dropped.
pub(crate) struct Portcullis {
    process: Process,
    log: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    /// How to reach it.
    pub(crate) client: Client,
    // Last, so that it is removed when the process is gone.
    _dir: Option<TempDir>,
}

impl Portcullis {
    /// Starts it with a certificate of its own and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_within(None, arguments).await
    }

    /// The same, within a memory limit if there is one.
    pub(crate) async fn start_within(limit: Option<&MemoryLimit>, arguments: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-wire-").tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let identity = authority.server("portcullis", &["localhost"]);
        let ca = fs::read_to_string(&authority.certificate).unwrap();
        let pair: (&Path, &Path) = (&identity.certificate, &identity.key);
        let mut server = Self::launch_as(within(limit, serve([0, 0])), dir.path(), pair, &ca, arguments).await;
        server._dir = Some(dir);
        server.until_ready().await;
        server
    }

    /// Starts it with a certificate of its own, to watch the cluster of this kubeconfig, and waits until it listens.
    pub(crate) async fn watching(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-live-").tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let identity = authority.server("portcullis", &["localhost"]);
        let ca = fs::read_to_string(&authority.certificate).unwrap();
        let mut command = portcullis();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--kubeconfig"]);
        command.arg(kubeconfig).stdin(Stdio::null());
        let pair: (&Path, &Path) = (&identity.certificate, &identity.key);
        let mut server = Self::launch_as(command, dir.path(), pair, &ca, arguments).await;
        server._dir = Some(dir);
        server
    }

    /// Starts it with these files of a certificate, and waits until it listens.
    pub(crate) async fn launch(dir: &Path, pair: (&Path, &Path), ca: &str, arguments: &[&str]) -> Self {
        Self::launch_as(serve([0, 0]), dir, pair, ca, arguments).await
    }

    async fn launch_as(mut command: Command, dir: &Path, pair: (&Path, &Path), ca: &str, arguments: &[&str]) -> Self {
        let log = dir.join("portcullis.log");
        command.arg("--tls-cert").arg(pair.0).arg("--tls-key").arg(pair.1).args(arguments);
        let mut process = Process::start(&mut command, &log);
        let (address, admin) = until("the line that says where it listens", async || {
            let text = fs::read_to_string(&log).unwrap();
            let ended = process.ended();
            assert!(ended.is_none(), "portcullis ended with {ended:?}:\n{text}");
            let line = text.lines().find(|line| line.contains(r#""message":"serving""#) && line.ends_with('}'))?;
            let line: Value = serde_json::from_str(line).unwrap();
            let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
            Some((address("address"), address("admin")))
        })
        .await;
        let client = Client::new(address, ca, "localhost");
        let server = Self { process, log, address, admin, client, _dir: None };
        // The line comes before the state: whoever asks for the state of a server that runs is not to hear that it starts.
        until("/readyz says that it has started", async || (server.readyz()?.1["state"] != "starting").then_some(()))
            .await;
        server
    }

    pub(crate) async fn until_ready(&self) {
        until("/readyz says 200", async || (self.readyz()?.0 == 200).then_some(())).await;
    }

    /// The address of the webhook.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of probes and metrics.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What the admin address answers.
    pub(crate) fn admin(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin, path)
    }

    /// What /readyz answers.
    pub(crate) fn readyz(&self) -> Option<(u16, Value)> {
        let (status, text) = self.admin("/readyz")?;
        Some((status, serde_json::from_str(&text).ok()?))
    }

    /// The text of /metrics.
    pub(crate) fn metrics(&self) -> String {
        let (status, text) = self.admin("/metrics").expect("/metrics is answered");
        assert_eq!(status, 200);
        text
    }

    /// The value of one series, by its name with its labels; 0 where it has not been counted yet.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has a value.
    pub(crate) async fn until_metric(&self, series: &str, value: f64) {
        until(&format!("{series} {value}"), async || (self.metric(series) == value).then_some(())).await;
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// True as long as the process runs.
    pub(crate) fn has_not_ended(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(self.process.signal(signal), "no {signal} could be sent");
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        until("the end of the process", async || self.process.ended()).await
    }

    /// A file that lies beside its log: those of its certificate, where it has one of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.log.with_file_name(name)
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// All lines that it has logged.
    ///
    /// # Panics
    ///
    /// If one is no JSON object.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let lines: Vec<Value> = self.log().lines().map(parse).collect();
        assert!(lines.iter().all(Value::is_object));
        lines
    }
}

impl Drop for Portcullis {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Asks again and again until there is something.
///
/// # Panics
///
/// If there is nothing for too long.
pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "this never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for a page by HTTP/1.0: its status and its body, unless nobody answers.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let (status, _, body) = get_with(address, path, "")?;
    Some((status, body))
}

/// Asks with more headers, each with its line end: the status, the head in lower case, and the body.
pub(crate) fn get_with(address: SocketAddr, path: &str, headers: &str) -> Option<(u16, String, String)> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

/// `portcullis serve --standalone` on these ports of loopback, the first for the webhooks.
pub(crate) fn serve(ports: [u16; 2]) -> Command {
    let [listen, admin] = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut command = portcullis();
    command.args(["serve", "--standalone", "--listen", &listen, "--admin-listen", &admin]).stdin(Stdio::null());
    command
}

/// The same command within a memory limit. Arguments can still be added.
pub(crate) fn within(limit: Option<&MemoryLimit>, command: Command) -> Command {
    let Some(limit) = limit else { return command };
    let mut limited = limit.command();
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The binary, with nothing of whoever runs the test.
pub(crate) fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    for variable in [
        "CONFIG",
        "POLICIES",
        "LISTEN",
        "ADMIN_LISTEN",
        "TLS_CERT",
        "TLS_KEY",
        "LOG",
        "KUBECONFIG",
        "WEBHOOKS",
        "CLIENT_CA",
        "CLIENT_NAME",
    ] {
        command.env_remove(format!("PORTCULLIS_{variable}"));
    }
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").env_remove("RUST_LOG");
    command
}
