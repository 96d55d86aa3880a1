//! Connections: accepted, secured, served, and ended.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Certificates, Shared, routes};

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may wait for its next request. API servers keep theirs for 90 seconds and cannot
/// repeat a request that meets a connection just being closed, so it has to be longer.
const IDLE: Duration = Duration::from_secs(180);
/// How often an HTTP/2 connection is asked whether anybody is there.
const PING: Duration = Duration::from_secs(30);
/// How long to wait after an error that another attempt would meet at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `closing`, and serves each in a task of its own.
pub(super) async fn accept(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    shared: Arc<Shared>,
    closing: CancellationToken,
    connections: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let app = routes::router(&shared);
    loop {
        // A client that finds no place waits in the queue of the system.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let Some((Ok(place), accepted)) = closing.run_until_cancelled(next).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    acceptor: TlsAcceptor::from(certificates.config()),
                    app: app.clone(),
                    closing: closing.clone(),
                    shared: Arc::clone(&shared),
                };
                connections.spawn(connection.serve(stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shared.metrics.refused("accept");
                if !is_of_one_connection(&error) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether the error is about the connection that was to be accepted, and says nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// All that one connection needs.
struct Connection {
    acceptor: TlsAcceptor,
    app: Router,
    closing: CancellationToken,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
        let _counted = self.shared.metrics.connection();
        // Answers are small and whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS");
                self.shared.metrics.refused("handshake");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "no TLS in time");
                self.shared.metrics.refused("handshake");
                return;
            }
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(self.app));
        let ended = if is_http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .serve_connection(io, service);
            finish(connection, &self.closing, http2::Connection::graceful_shutdown).await
        } else {
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(IDLE).serve_connection(io, service);
            finish(connection, &self.closing, http1::Connection::graceful_shutdown).await
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "the connection broke");
        }
    }
}

/// Serves a connection to its end. Once the server closes, the client is told to open no more requests on it (GOAWAY, or
/// `Connection: close`), and those that are under way are answered.
async fn finish<C: Future>(
    connection: C,
    closing: &CancellationToken,
    close: impl FnOnce(std::pin::Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = closing.cancelled() => close(connection.as_mut()),
    }
    connection.await
}
