//! A client of the webhooks, over TLS.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Method, Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::server::Server;

/// How long an answer may take before the test fails instead of waiting on.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// One connection. All requests go over it.
pub(crate) struct Client {
    // Before the runtime, in which its connection lives.
    sender: Sender,
    authority: String,
    runtime: Runtime,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// A connection to the server, whose certificate is checked.
    pub(crate) fn connect(server: &Server, protocol: Protocol) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        Self::connect_as(address, server.ca(), "localhost", protocol)
    }

    /// A connection to whoever is at the address, who has to have a certificate of this authority for this name.
    pub(crate) fn connect_as(address: SocketAddr, ca: &Path, name: &str, protocol: Protocol) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = format!("{name}:{}", address.port());
        let sender = runtime
            .block_on(within(open(address, ca, name, protocol)))
            .unwrap_or_else(|error| panic!("no {protocol:?} connection to {authority} at {address}: {error}"));
        Self { sender, authority, runtime }
    }

    /// Sends a body and waits for the answer.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, Body::whole(body)).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Sends a body of any kind.
    pub(crate) fn send(&mut self, method: Method, path: &str, body: Body) -> Result<Answer, String> {
        let request = self.request(method, path, body);
        let sender = &mut self.sender;
        self.runtime.block_on(within(exchange(sender, request)))
    }

    /// Sends all bodies and waits for the answers, which come in the same order: at once over HTTP/2, one after the
    /// other over HTTP/1.1.
    pub(crate) fn post_all(&mut self, path: &str, bodies: Vec<Vec<u8>>) -> Vec<Answer> {
        let Sender::Http2(sender) = &self.sender else {
            return bodies.into_iter().map(|body| self.post(path, body)).collect();
        };
        let tasks: Vec<_> = bodies
            .into_iter()
            .map(|body| {
                let request = self.request(Method::POST, path, Body::whole(body));
                let mut sender = Sender::Http2(sender.clone());
                self.runtime.spawn(async move { within(exchange(&mut sender, request)).await })
            })
            .collect();
        tasks.into_iter().map(|task| self.runtime.block_on(task).unwrap().unwrap()).collect()
    }

    /// Sends the start of a body, waits, and goes away without a word.
    pub(crate) fn abandon(self, path: &str, start: impl Into<Bytes>, after: Duration) {
        let request = self.request(Method::POST, path, Body::stalled(start));
        let Self { mut sender, runtime, .. } = self;
        let gave_up = runtime.block_on(async { tokio::time::timeout(after, exchange(&mut sender, request)).await });
        assert!(gave_up.is_err(), "half a body was answered: {gave_up:?}");
        runtime.shutdown_background();
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let request = Request::builder().method(method).header(header::CONTENT_TYPE, "application/json");
        let request = match &self.sender {
            Sender::Http1(_) => request.uri(path).header(header::HOST, &self.authority),
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        request.body(body).unwrap()
    }
}

async fn open(address: SocketAddr, ca: &Path, name: &str, protocol: Protocol) -> Result<Sender, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(text)? {
        roots.add(certificate.map_err(text)?).map_err(text)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    let name = ServerName::try_from(name.to_owned()).map_err(text)?;
    let stream = TcpStream::connect(address).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(text)?;
    if stream.get_ref().1.alpn_protocol() != Some(protocol.alpn()) {
        return Err(format!("{protocol:?} is not spoken"));
    }
    let io = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1::handshake(io).await.map_err(text)?;
            // What goes wrong with it shows in the answers.
            tokio::spawn(connection);
            Sender::Http1(sender)
        }
        Protocol::Http2 => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        }
    })
}

async fn exchange(sender: &mut Sender, request: Request<Body>) -> Result<Answer, String> {
    let response = match sender {
        Sender::Http1(sender) => {
            sender.ready().await.map_err(text)?;
            sender.send_request(request).await
        }
        Sender::Http2(sender) => {
            sender.ready().await.map_err(text)?;
            sender.send_request(request).await
        }
    };
    let (head, body) = response.map_err(text)?.into_parts();
    let body = body.collect().await.map_err(text)?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("nothing after {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(late)
}

/// An error with its causes: those of hyper say little alone.
fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}\n{:?}\n{}", self.status, self.headers, self.text())
    }
}

/// A body that may never be whole.
pub(crate) struct Body {
    start: Option<Bytes>,
    announced: usize,
    rest: Rest,
}

/// What comes after the start of a body.
enum Rest {
    Nothing,
    Silence,
    Failure,
}

impl Body {
    /// All of it.
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        let start = body.into();
        Self { announced: start.len(), start: Some(start), rest: Rest::Nothing }
    }

    /// More is announced, and never comes.
    pub(crate) fn stalled(start: impl Into<Bytes>) -> Self {
        let start = start.into();
        Self { announced: start.len() + 1, start: Some(start), rest: Rest::Silence }
    }

    /// More is announced, and the client breaks off.
    pub(crate) fn broken(start: impl Into<Bytes>) -> Self {
        Self { rest: Rest::Failure, ..Self::stalled(start) }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        match self.rest {
            Rest::Nothing => Poll::Ready(None),
            Rest::Silence => Poll::Pending,
            Rest::Failure => Poll::Ready(Some(Err(io::Error::other("the client breaks off")))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced as u64)
    }
}
