//! The cluster itself: what it serves, watches that feed the view, and what is asked of it live.
//!
//! ```text
//! API server ─ discovery ─▶ kinds ─ feed (one watch a kind) ─▶ View ─▶ admission, baseline
//!      ▲                                                        │
//!      └────────────── lookup: a namespace, an access review ◀──┘ what the view does not tell
//! ```

mod discovery;

pub use discovery::Served;

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;

/// A cluster that can be reached.
#[derive(Clone)]
pub struct Cluster {
    /// Talks to its API server.
    pub client: Client,
    /// What it serves, as far as that is known by now.
    pub served: Arc<ArcSwap<Served>>,
}
