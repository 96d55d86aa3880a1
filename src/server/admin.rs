//! The admin address: plain HTTP for kubelets and Prometheus, on a thread of its own.
//!
//! The thread runs its own single-threaded runtime, so probes are answered while every thread of the webhook is busy.
//! Otherwise a flood of requests would fail the liveness probe, and the kubelet would restart every replica.
//!
//! **Limits**: 64 open connections; one more closes the oldest, because a probe takes milliseconds and a client that holds
//! a connection longer is idle. 10 s until the headers of a request are complete.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Shared;
use crate::telemetry::Exposition;

/// Maximum number of open connections.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time until the headers of a request are complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, for example when the process has no file descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The thread that serves `/livez`, `/readyz` and `/metrics`. It ends when this value is dropped.
pub(super) struct Admin {
    address: SocketAddr,
    closing: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl Admin {
    /// Starts the thread on a listening socket.
    ///
    /// # Errors
    /// The operating system cannot create the thread or its event queue.
    pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let closing = CancellationToken::new();
        let (ending, ended) = oneshot::channel();
        let closed = closing.clone();
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(serve(listener, shared, closed));
            // The receiver is gone when the server was dropped without running.
            let _ = ending.send(());
        })?;
        Ok(Self { address, closing: closing.drop_guard(), ended })
    }

    /// Returns the address that the thread listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the address and waits until the thread has ended.
    pub(super) async fn stop(self) {
        let Self { closing, ended, .. } = self;
        drop(closing);
        let _ = ended.await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, closing: CancellationToken) {
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared);
    let mut connections = VecDeque::new();
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                make_room(&mut connections);
                connections.push_back(tokio::spawn(answer(stream, app.clone())).abort_handle());
            }
            Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
        }
    }
}

/// Forgets closed connections, and closes the oldest one if all places are taken.
fn make_room(connections: &mut VecDeque<AbortHandle>) {
    connections.retain(|connection| !connection.is_finished());
    if connections.len() >= MAX_CONNECTIONS
        && let Some(oldest) = connections.pop_front()
    {
        oldest.abort();
    }
}

async fn answer(stream: TcpStream, app: Router) {
    // A broken connection matters to its client alone, which reports it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let (ready, detail) = shared.readiness.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{detail}\n"))
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = Exposition::negotiate(accept);
    let headers = [(header::CONTENT_TYPE, exposition.content_type()), (header::VARY, "Accept")];
    (headers, shared.metrics.exposed(exposition))
}
