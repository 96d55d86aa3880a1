//! The server: TLS, HTTP/1.1 and HTTP/2, limits, the admin address and graceful shutdown.
//!
//! ```text
//! listener ─ tls ─▶ connection ─ routes ─▶ admission
//!     │                                        │
//!  shutdown ◀── signals        readiness ◀─────┴── reloads        admin: /livez /readyz /metrics
//! ```

mod admin;
mod client_auth;
mod judges;
mod listener;
mod memory;
mod readiness;
mod record;
mod routes;
mod tls;

pub use client_auth::ClientAuth;
pub(crate) use judges::lower_priority;
pub use readiness::{Readiness, Watch, Watches};
pub use tls::Certificates;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admin::Admin;
use crate::admission::Knowledge;
use crate::telemetry::Metrics;
use crate::view::Lookup;

/// The limits of a server, and the times of its shutdown.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of a body, in bytes.
    pub body: usize,
    /// Maximum number of requests in flight.
    pub in_flight: usize,
    /// Maximum memory of the bodies of all requests in flight, in bytes. Each evaluation thread may hold another
    /// [`MAX_BYTES`](crate::budget::MAX_BYTES).
    pub memory: usize,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Time that the server keeps serving after it has become not ready, so that its clients notice.
    pub stop_after: Duration,
    /// Maximum time for the requests in flight after that.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // An API server accepts objects of up to 3 MiB and stores up to 1.5 MiB, sends the old object with the new
            // one, and escapes some characters as six. A body above the limit blocks its author, and also the user who
            // has to repair it.
            body: 32 * 1024 * 1024,
            in_flight: 256,
            memory: 96 * 1024 * 1024,
            connections: 4096,
            stop_after: Duration::from_secs(5),
            drain: Duration::from_secs(20),
        }
    }
}

/// The state that the parts of a server share.
pub struct Shared {
    /// The configuration, the policies and the view that decisions are made from. It is replaced as a whole.
    pub knowledge: ArcSwap<Knowledge>,
    /// The lookups in the cluster, for facts that the view does not have. None without a cluster.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// The readiness of the server.
    pub readiness: Readiness,
    /// The metrics of the server.
    pub metrics: Metrics,
    /// The limits of the server.
    pub limits: Limits,
}

/// A server whose sockets listen.
pub struct Server {
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    app: Router,
    listener: TcpListener,
    admin: Admin,
}

/// The urgency of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After the clients have had time to notice that the server is not ready.
    Gracefully,
    /// As soon as the requests in flight are answered.
    Soon,
}

impl Server {
    /// Listens on both addresses, and starts to serve the admin address.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn bind(
        shared: Arc<Shared>,
        certificates: Arc<Certificates>,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Self, BindError> {
        let bind = async |address: SocketAddr| {
            TcpListener::bind(address).await.map_err(|source| BindError { address, source })
        };
        let app = routes::router(&shared).map_err(|source| BindError { address: listen, source })?;
        let listener = bind(listen).await?;
        let started = Admin::start(bind(admin).await?, Arc::clone(&shared));
        let admin = started.map_err(|source| BindError { address: admin, source })?;
        Ok(Self { shared, certificates, app, listener, admin })
    }

    /// Returns the actual addresses of the webhook and of the admin server.
    ///
    /// # Errors
    /// The operating system does not report an address.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.listener.local_addr()?, self.admin.address()))
    }

    /// Serves until `stop` completes, then shuts down gracefully: the server becomes not ready, keeps serving for a
    /// while, stops accepting connections, and answers the requests in flight.
    pub async fn run(self, stop: impl Future<Output = Stop>) {
        let Self { shared, certificates, app, listener, admin } = self;
        let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
        let accept = tokio::spawn(listener::accept(
            listener,
            certificates,
            app,
            Arc::clone(&shared),
            closing.clone(),
            connections.clone(),
        ));
        shared.readiness.start();

        let stop = stop.await;
        shared.readiness.stop();
        if stop == Stop::Gracefully {
            tracing::info!(
                seconds = shared.limits.stop_after.as_secs_f64(),
                "graceful shutdown: not ready, still serving"
            );
            tokio::time::sleep(shared.limits.stop_after).await;
        }
        closing.cancel();
        // The listener ends first, so that the server does not accept a connection that it will not serve.
        let _ = accept.await;
        connections.close();
        if tokio::time::timeout(shared.limits.drain, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "closed connections with requests in flight");
        }
        admin.stop().await;
        tracing::info!("stopped");
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}
