//! The built binary, serving.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::free_ports;
use super::pki::{Authority, Identity};
use super::process::{Process, tail};

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(15);

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
    dir: TempDir,
}

impl Server {
    /// A server that does not run yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-server-").tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("pki"));
        let identity = authority.server("portcullis", &["localhost", "127.0.0.1", "portcullis.portcullis-system.svc"]);
        let [port, admin_port] = free_ports();
        Self { process: None, port, admin_port, authority, identity, context: Vec::new(), config: None, dir }
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
        let mut command = portcullis();
        command
            // Nobody but the test has to hear that it is going to stop.
            .args(["serve", "--standalone", "--stop-after", "0.1"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--admin-listen", &address.to_string()])
            .arg("--tls-cert")
            .arg(&self.identity.certificate)
            .arg("--tls-key")
            .arg(&self.identity.key);
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

/// Asks for a page by HTTP/1.0: its status and its body, unless nobody answers.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some((status, body.to_owned()))
}

fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    // Nothing of whoever runs the test.
    command.env_remove("KUBECONFIG").env_remove("RUST_LOG");
    command
}
