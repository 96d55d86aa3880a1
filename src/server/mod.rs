//! The server: TLS, HTTP/1.1 and HTTP/2, limits, the admin address, and an end that loses nothing.
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

/// What a server may use, and how it ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How large a body may be.
    pub body: usize,
    /// How many requests may be under way at once.
    pub in_flight: usize,
    /// Bytes that the bodies of those may have together. Each thread that judges may hold
    /// [`MAX_BYTES`](crate::budget::MAX_BYTES) besides.
    pub memory: usize,
    /// How many connections may be open at once.
    pub connections: usize,
    /// How long the server goes on after it was asked to stop and has said that it is not ready: until everybody who
    /// sends requests has heard of it.
    pub stop_after: Duration,
    /// How long requests that are under way may take then.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // An API server takes objects of up to 3 MiB and stores up to 1.5, sends the old one with the new one, and writes
            // some characters as six. What does not fit stops its author, and whoever has to put it right.
            body: 32 * 1024 * 1024,
            in_flight: 256,
            memory: 96 * 1024 * 1024,
            connections: 4096,
            stop_after: Duration::from_secs(5),
            drain: Duration::from_secs(20),
        }
    }
}

/// What the parts of a server share.
pub struct Shared {
    /// What decisions are made from. It is replaced whole.
    pub knowledge: ArcSwap<Knowledge>,
    /// Who asks the cluster what the view does not tell; none where there is no cluster.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// Whether requests should come here.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Metrics,
    /// What the server may use.
    pub limits: Limits,
}

/// A server that listens already.
pub struct Server {
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    app: Router,
    listener: TcpListener,
    admin: Admin,
}

/// How urgently the server has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After everybody who sends requests has heard of it.
    Gracefully,
    /// As soon as the requests that are under way are answered.
    Soon,
}

impl Server {
    /// Listens on both addresses, and serves the admin address from now on.
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

    /// The address of the webhook, and the admin address, as they are.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.listener.local_addr()?, self.admin.address()))
    }

    /// Serves until `stop` says so, then ends in order: not ready, serving on, no new connections, the last answers.
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
            tracing::info!(seconds = shared.limits.stop_after.as_secs_f64(), "stopping: not ready, serving on");
            tokio::time::sleep(shared.limits.stop_after).await;
        }
        closing.cancel();
        // The listener goes first, so that no connection is taken that nobody will serve.
        let _ = accept.await;
        connections.close();
        if tokio::time::timeout(shared.limits.drain, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were still under way at the end");
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
    /// Why not.
    #[source]
    pub source: std::io::Error,
}
