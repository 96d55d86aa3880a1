//! Connections: accept, TLS handshake, requests and graceful shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client_auth::Unauthorized;
use super::{Certificates, Shared};

/// Maximum duration of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Maximum idle time of an HTTP/1.1 connection. API servers keep idle connections for 90 s and cannot repeat a request
/// that meets a closing connection, so it has to be longer.
const IDLE: Duration = Duration::from_secs(180);
/// Interval of HTTP/2 keep-alive pings.
const PING: Duration = Duration::from_secs(30);
/// Time that a client without a request yet has to send its first one, once the server closes.
const GRACE: Duration = Duration::from_secs(1);
/// Polling interval for that first request.
const LOOK: Duration = Duration::from_millis(10);
/// Pause after an accept error that another attempt would meet again, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `closing` is cancelled, and serves each in its own task.
pub(super) async fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    app: Router,
    shared: Arc<Shared>,
    closing: CancellationToken,
    connections: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        // A client above the limit of connections waits in the backlog of the operating system.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let Some((Ok(place), accepted)) = closing.run_until_cancelled(next).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    acceptor: TlsAcceptor::from(certificates.config()),
                    certificates: Arc::clone(&certificates),
                    app: app.clone(),
                    closing: closing.clone(),
                    shared: Arc::clone(&shared),
                };
                connections.spawn(connection.serve(stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                shared.metrics.refused("accept");
                if !is_of_one_connection(&error) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Returns true if the error concerns only this connection, so that the next accept may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The state that one connection needs.
struct Connection {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    app: Router,
    closing: CancellationToken,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
        let _counted = self.shared.metrics.connection();
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let Some(stream) = self.secure(stream, peer).await else {
            self.shared.metrics.refused("handshake");
            return;
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let asked = Arc::new(AtomicBool::new(false));
        let clients = self.certificates.clients();
        let refused = clients.and_then(|clients| clients.check(stream.get_ref().1.peer_certificates()).err());
        let (io, service) = (TokioIo::new(stream), self.service(Arc::clone(&asked), refused));
        let ended = if is_http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .serve_connection(io, service);
            self.finish(connection, &asked, http2::Connection::graceful_shutdown).await
        } else {
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(IDLE).serve_connection(io, service);
            self.finish(connection, &asked, http1::Connection::graceful_shutdown).await
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection failed");
        }
    }

    /// Performs the TLS handshake. None if it fails or takes too long.
    async fn secure(&self, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let handshake = self.acceptor.accept(stream);
        let in_time = async {
            tokio::select! {
                () = tokio::time::sleep(HANDSHAKE) => {}
                () = self.closed_for_a_while() => {}
            }
        };
        tokio::select! {
            secured = handshake => secured
                .inspect_err(|error| tracing::debug!(%peer, %error, "TLS handshake failed"))
                .ok(),
            () = in_time => {
                tracing::debug!(%peer, "TLS handshake timed out");
                None
            }
        }
    }

    /// Returns the HTTP service of this connection: the routes, the check of the client certificate, and `Connection:
    /// close` during shutdown.
    fn service(
        &self,
        asked: Arc<AtomicBool>,
        refused: Option<Unauthorized>,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<>,
    > + use<> {
        let (app, shared) = (self.app.clone(), Arc::clone(&self.shared));
        service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let (mut app, shared) = (app.clone(), Arc::clone(&shared));
            let refused = refused.clone();
            async move {
                let version = request.version();
                let mut response = match refused {
                    None => tower::Service::call(&mut app, request).await?,
                    Some(refused) => {
                        shared.metrics.refused("client");
                        tracing::warn!(?refused, "rejected a request without an accepted client certificate");
                        refused.response()
                    }
                };
                // During shutdown every response of HTTP/1.1 asks the client to close the connection. HTTP/2 has GOAWAY
                // for that.
                if version < Version::HTTP_2 && shared.readiness.is_stopping() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(response)
            }
        })
    }

    /// Serves a connection to its end. Once the server closes, the client is told to send no more requests on it, and
    /// requests in flight are answered. A client that has just connected may still send its first request: it cannot
    /// know of the shutdown, and most clients do not repeat a request that fails on a new connection.
    async fn finish<C: Future>(&self, connection: C, asked: &AtomicBool, close: impl FnOnce(Pin<&mut C>)) -> C::Output {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.closing.cancelled() => {}
        }
        if !asked.load(Ordering::Relaxed) {
            let first = async {
                while !asked.load(Ordering::Relaxed) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = first => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        close(connection.as_mut());
        connection.await
    }

    async fn closed_for_a_while(&self) {
        self.closing.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }
}
