//! Clients of the webhooks, over TLS, that can stop in the middle of a request.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{HeaderMap, Method, Request, Response, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::Identity;
use super::server::Server;

/// What is spoken over TLS. An API server speaks the one to a Service and the other to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Opens connections to a server whose certificate it checks.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    name: String,
    roots: Arc<RootCertStore>,
    /// The files of the certificate and of the key that it shows.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Client {
    /// Whoever is at the address has to have a certificate of one of these authorities for this name.
    pub(crate) fn new(address: SocketAddr, ca: &str, name: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self { address, name: name.to_owned(), roots: Arc::new(roots), identity: None }
    }

    /// The same client with a certificate to show.
    pub(crate) fn with_identity(&self, identity: &Identity) -> Self {
        let identity = Some((identity.certificate.clone(), identity.key.clone()));
        Self { identity, ..self.clone() }
    }

    /// Opens a connection up to the point where requests can be sent.
    ///
    /// # Panics
    ///
    /// If the server does not speak the protocol.
    pub(crate) async fn tls(&self, protocol: Protocol) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Anew for each connection, so that none resumes the session of another.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.alpn()), "{protocol:?} is not spoken");
        Ok(stream)
    }

    /// Opens a connection.
    pub(crate) async fn try_connect(&self, protocol: Protocol) -> io::Result<Connection> {
        let io = TokioIo::new(self.tls(protocol).await?);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                // What goes wrong with it shows in the answers.
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, authority: format!("{}:{}", self.name, self.address.port()) })
    }

    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Connection {
        let Self { address, name, .. } = self;
        let connection = self.try_connect(protocol).await;
        connection.unwrap_or_else(|error| panic!("no {protocol:?} connection to {name} at {address}: {error}"))
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
pub(crate) struct Connection {
    sender: Sender,
    authority: String,
}

enum Sender {
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
    /// The same connection, for another request at the same time, which only HTTP/2 allows.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(Self { sender: Sender::Http2(sender.clone()), authority: self.authority.clone() })
    }

    /// Whether no more requests can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a body.
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Sent>) -> Result<Answer, Fault> {
        self.request(Method::POST, path, body).await
    }

    pub(crate) async fn request(&mut self, method: Method, path: &str, body: impl Into<Sent>) -> Result<Answer, Fault> {
        let (authority, body) = (&self.authority, body.into());
        let request = Request::builder().method(method).header(header::CONTENT_TYPE, "application/json");
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request.uri(path).header(header::HOST, authority).body(body).unwrap();
                sender.ready().await.map_err(|error| Fault::NotTaken(told(&error)))?;
                sender.try_send_request(request).await
            }
            Sender::Http2(sender) => {
                let request = request.uri(format!("https://{authority}{path}")).body(body).unwrap();
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

/// An error with its causes: those of hyper say little alone.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: Version,
    headers: HeaderMap,
    /// The body.
    pub(crate) text: String,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Ok(Self { status: head.status.as_u16(), version: head.version, headers: head.headers, text })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The values of a header that may be there several times. Warnings can contain characters beyond ASCII.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// Whether the client is told not to use the connection again.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
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
        write!(f, "{:?} {}\n{:?}\n{}", self.version, self.status, self.headers, self.text)
    }
}

/// A body that is being sent: its parts as they come.
pub(crate) struct Sent {
    parts: UnboundedReceiver<Bytes>,
    /// How much is to come, if the receiver is told.
    left: Option<u64>,
}

impl Sent {
    /// A body whose parts are still to be given. With a length it has `Content-Length`, and is chunked without. If no
    /// more can come before it is as long as that, the client breaks off.
    pub(crate) fn open(length: Option<usize>) -> (UnboundedSender<Bytes>, Self) {
        let (sender, parts) = unbounded_channel();
        (sender, Self { parts, left: length.map(|length| length as u64) })
    }

    /// A body of which all that is announced but this start is still to be given.
    pub(crate) fn half(start: &str) -> (UnboundedSender<Bytes>, Self) {
        let (sender, body) = Self::open(Some(start.len() + 1));
        sender.send(start.to_owned().into()).unwrap();
        (sender, body)
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
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.parts.poll_recv(context)) {
            Some(part) => {
                self.left = self.left.map(|left| left - part.len() as u64);
                Some(Ok(Frame::data(part)))
            }
            None if self.left.unwrap_or(0) > 0 => Some(Err(io::Error::other("the client breaks off"))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection for tests that do one thing after the other.
pub(crate) struct Blocking {
    // Before the runtime, in which it lives.
    connection: Connection,
    runtime: Runtime,
}

impl Blocking {
    /// A connection to the server, whose certificate is checked.
    pub(crate) fn connect(server: &Server, protocol: Protocol) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        Self::connect_as(address, server.ca(), "localhost", protocol)
    }

    /// A connection to whoever is at the address, who has to have a certificate of this authority for this name.
    pub(crate) fn connect_as(address: SocketAddr, ca: &Path, name: &str, protocol: Protocol) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = Client::new(address, &fs::read_to_string(ca).unwrap(), name);
        Self { connection: wait(&runtime, client.connect(protocol)), runtime }
    }

    /// Sends a body and waits for the answer.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn post(&mut self, path: &str, body: impl Into<Sent>) -> Answer {
        self.request(Method::POST, path, body).unwrap_or_else(|fault| panic!("POST {path}: {fault:?}"))
    }

    pub(crate) fn request(&mut self, method: Method, path: &str, body: impl Into<Sent>) -> Result<Answer, Fault> {
        wait(&self.runtime, self.connection.request(method, path, body))
    }

    /// Sends all bodies and waits for the answers, which come in the same order: at once over HTTP/2, one after the
    /// other over HTTP/1.1.
    pub(crate) fn post_all(&mut self, path: &'static str, bodies: Vec<Vec<u8>>) -> Vec<Answer> {
        let Some(shared) = self.connection.share() else {
            return bodies.into_iter().map(|body| self.post(path, body)).collect();
        };
        let send = |body| {
            let mut connection = shared.share().unwrap();
            self.runtime.spawn(async move { connection.post(path, body).await })
        };
        let tasks: Vec<_> = bodies.into_iter().map(send).collect();
        tasks.into_iter().map(|task| wait(&self.runtime, task).unwrap().unwrap()).collect()
    }

    /// Sends the start of a body, waits, and goes away without a word.
    pub(crate) fn abandon(mut self, path: &str, start: &str, after: Duration) {
        let (_rest, body) = Sent::half(start);
        let post = self.connection.post(path, body);
        let gave_up = self.runtime.block_on(async { tokio::time::timeout(after, post).await });
        assert!(gave_up.is_err(), "half a body was answered: {gave_up:?}");
        // Waits until the connection is gone, for which the body must not end before.
        drop(self.runtime);
    }
}

/// Fails the test instead of waiting for long.
fn wait<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.expect("an end within 60 s") })
}
