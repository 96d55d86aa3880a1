//! The built binary on ports of its own choice, and clients over TLS that can stop in the middle of a request.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Method, Request, Response, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use super::client::Protocol;
use super::pki::Authority;
use super::server::get;

/// How long anything may take that has to happen some time. Only what never happens takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

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

// The server.

/// `portcullis serve --standalone`, which is killed when this is dropped.
pub(crate) struct Portcullis {
    child: Child,
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
        let dir = tempfile::Builder::new().prefix("portcullis-wire-").tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let identity = authority.server("portcullis", &["localhost"]);
        let ca = fs::read_to_string(&authority.certificate).unwrap();
        let mut server = Self::launch(dir.path(), (&identity.certificate, &identity.key), &ca, arguments).await;
        server._dir = Some(dir);
        server.until_ready().await;
        server
    }

    /// Starts it with these files of a certificate, and waits until it listens.
    pub(crate) async fn launch(dir: &Path, pair: (&Path, &Path), ca: &str, arguments: &[&str]) -> Self {
        let log = dir.join("portcullis.log");
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--tls-cert")
            .arg(pair.0)
            .arg("--tls-key")
            .arg(pair.1)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (address, admin) = until("the line that says where it listens", async || {
            let text = fs::read_to_string(&log).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "portcullis ended with {ended:?}:\n{text}");
            let line = text.lines().find(|line| line.contains(r#""message":"serving""#) && line.ends_with('}'))?;
            let line: Value = serde_json::from_str(line).unwrap();
            let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
            Some((address("address"), address("admin")))
        })
        .await;
        let client = Client::new(address, ca);
        Self { child, log, address, admin, client, _dir: None }
    }

    pub(crate) async fn until_ready(&self) {
        until("/readyz says 200", async || (self.readyz()?.0 == 200).then_some(())).await;
    }

    /// The address of the webhook.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &id]).status().unwrap();
        assert!(sent.success(), "no {signal} could be sent");
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        until("the end of the process", async || self.child.try_wait().unwrap()).await
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `portcullis serve --standalone`, with nothing of whoever runs the test.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    for variable in ["CONFIG", "POLICIES", "LISTEN", "ADMIN_LISTEN", "TLS_CERT", "TLS_KEY", "LOG"] {
        command.env_remove(format!("PORTCULLIS_{variable}"));
    }
    command.args(["serve", "--standalone"]).stdin(Stdio::null());
    command
}

// Clients.

/// Opens connections to a server whose certificate it checks.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
}

impl Client {
    fn new(address: SocketAddr, ca: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        Self { address, roots: Arc::new(roots) }
    }

    /// Opens a connection up to the point where requests can be sent.
    pub(crate) async fn tls(&self, protocol: Protocol) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = match protocol {
            // As an API server does that calls a Service.
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Opens a connection.
    pub(crate) async fn try_connect(&self, protocol: Protocol) -> io::Result<Connection> {
        let io = TokioIo::new(self.tls(protocol).await?);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Connection::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Connection::Http2(sender)
            }
        })
    }

    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Connection {
        self.try_connect(protocol).await.expect("a connection")
    }

    /// Sends a body on a connection of its own.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Sent>) -> Answer {
        self.connect(Protocol::Http1).await.post(path, body).await.expect("an answer")
    }

    /// The serial number of the certificate that a new connection is shown.
    pub(crate) async fn serial(&self) -> Option<Vec<u8>> {
        let stream = self.tls(Protocol::Http1).await.ok()?;
        let certificate = stream.get_ref().1.peer_certificates()?.first()?.clone();
        Some(serial(&certificate))
    }
}

/// The serial number of a certificate.
pub(crate) fn serial(certificate: &[u8]) -> Vec<u8> {
    x509_parser::parse_x509_certificate(certificate).unwrap().1.raw_serial().to_vec()
}

/// A connection on which requests can be sent.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The request was not sent, or the server has said that it did not look at it: it can be sent elsewhere.
    NotTaken(String),
    /// Nobody knows what has become of it.
    Lost(String),
}

impl Connection {
    /// Sends a body.
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Sent>) -> Result<Answer, Fault> {
        self.request(Method::POST, path, body.into()).await
    }

    pub(crate) async fn request(&mut self, method: Method, path: &str, body: Sent) -> Result<Answer, Fault> {
        let request = Request::builder().method(method).header(header::CONTENT_TYPE, "application/json");
        let response = match self {
            Self::Http1(sender) => {
                let request = request.uri(path).header(header::HOST, "localhost").body(body).unwrap();
                sender.ready().await.map_err(|error| Fault::NotTaken(told(&error)))?;
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                let request = request.uri(format!("https://localhost{path}")).body(body).unwrap();
                sender.ready().await.map_err(|error| Fault::NotTaken(told(&error)))?;
                sender.try_send_request(request).await
            }
        };
        match response {
            Ok(response) => Answer::read(response).await.map_err(|error| Fault::Lost(told(&error))),
            Err(error) => Err(Fault::of(error)),
        }
    }
}

impl Fault {
    fn of(mut error: TrySendError<Request<Sent>>) -> Self {
        let unsent = error.take_message().is_some();
        let text = told(error.error());
        // With the GOAWAY of an orderly end comes the number of the last request that was looked at. Those behind it
        // fail with this text, and every client may send them again.
        if unsent || text.contains("not a result of an error") { Self::NotTaken(text) } else { Self::Lost(text) }
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The headers of interest.
    pub(crate) connection: Option<String>,
    pub(crate) allow: Option<String>,
    pub(crate) version: Version,
    pub(crate) text: String,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let bytes = body.collect().await?.to_bytes();
        Ok(Self {
            status: head.status.as_u16(),
            connection: header(header::CONNECTION),
            allow: header(header::ALLOW),
            version: head.version,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        })
    }

    /// Whether the client is told not to use the connection again.
    pub(crate) fn closes(&self) -> bool {
        self.connection.as_deref() == Some("close")
    }

    /// The response of the review that this is.
    pub(crate) fn response(&self) -> Value {
        assert_eq!(self.status, 200, "{self}");
        let review: Value = serde_json::from_str(&self.text).unwrap();
        review["response"].clone()
    }

    /// Whether the review is allowed.
    pub(crate) fn allowed(&self) -> bool {
        self.response()["allowed"].as_bool().unwrap()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.version, self.status, self.text)
    }
}

/// A body that is being sent: its parts as they come.
pub(crate) struct Sent {
    parts: UnboundedReceiver<Bytes>,
    /// How much is to come, if the receiver is told.
    left: Option<u64>,
}

impl Sent {
    /// A body whose parts are still to be given. With a length it has `Content-Length`, and is chunked without.
    pub(crate) fn open(length: Option<usize>) -> (UnboundedSender<Bytes>, Self) {
        let (sender, parts) = unbounded_channel();
        (sender, Self { parts, left: length.map(|length| length as u64) })
    }

    /// A whole body, without saying how long it is.
    pub(crate) fn chunked(text: impl Into<Bytes>) -> Self {
        let (sender, body) = Self::open(None);
        let mut rest: Bytes = text.into();
        while !rest.is_empty() {
            sender.send(rest.split_to(rest.len().min(64 * 1024))).unwrap();
        }
        body
    }
}

impl<T: Into<Bytes>> From<T> for Sent {
    fn from(text: T) -> Self {
        let text = text.into();
        let length = text.len() as u64;
        Self { left: Some(length), ..Self::chunked(text) }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.parts.poll_recv(context).map(|part| {
            let part = part?;
            self.left = self.left.map(|left| left - part.len() as u64);
            Some(Ok(Frame::data(part)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

// Reviews.

/// The review of a new object.
pub(crate) fn review(uid: &str, user: &str, object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = json!({"group": group, "version": version, "kind": object["kind"]});
    let metadata = &object["metadata"];
    let mut request = json!({
        "uid": uid, "kind": kind, "operation": "CREATE", "name": metadata["name"],
        "userInfo": {"username": user}, "object": object,
    });
    if let Some(namespace) = metadata["namespace"].as_str() {
        request["namespace"] = json!(namespace);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

/// A policy for the pods of the backend.
pub(crate) fn policy(name: &str, rules: &Value) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": "backend"}}});
    for (field, value) in rules.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    })
}

/// The review of a policy in which nothing is wrong.
pub(crate) fn good(uid: &str) -> String {
    let from = json!([{"podSelector": {"matchLabels": {"app": "frontend"}}}]);
    let ingress = json!([{"from": from, "ports": [{"protocol": "TCP", "port": 8080}]}]);
    review(uid, "alice", &policy("good", &json!({"policyTypes": ["Ingress"], "ingress": ingress})))
}

/// The review of a policy that `any-port` fires on, and nothing else.
pub(crate) fn any_port(uid: &str) -> String {
    let from = json!([{"podSelector": {"matchLabels": {"app": "frontend"}}}]);
    review(uid, "mallory", &policy("any", &json!({"policyTypes": ["Ingress"], "ingress": [{"from": from}]})))
}
