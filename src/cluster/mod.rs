//! The cluster: discovery, the watches that feed the view, and live lookups.
//!
//! ```text
//! API server ─ discovery ─▶ kinds ─ watch (one a kind) ─ strip ─ decode ─▶ feed ─▶ View ─▶ admission, baseline
//!      ▲                                                                            │
//!      └───────── lookup: a namespace, stored policies, an access review ◀──────────┘ facts the view lacks
//! ```
//!
//! The endpoints of the API server have a watch of their own (`api_server`), on which readiness does not depend.
//!
//! Of the workloads other than pods, only Deployments, StatefulSets, DaemonSets and CronJobs are watched. All others
//! create pods, which are watched anyway, or are created by one of these. Pods that have ended are left out, because no
//! traffic reaches them.

mod api_server;
mod certificate;
mod connect;
mod decode;
mod discovery;
mod feed;
mod lookup;
mod managed_fields;
mod snapshot;
mod status;
mod stored;
mod strip;
mod supervisor;
mod watch;
mod webhooks;

pub use certificate::{CertificateKeeper, CertificateTerms, KeepError};
pub use connect::Error;
pub use decode::{Decoded, Owning, read};
pub use discovery::{Served, discover};
pub use feed::{Event, Feed};
pub(crate) use lookup::{LiveLookup, is_granted};
pub use managed_fields::{Owned, owners, written};
pub use snapshot::Snapshot;
pub use status::{Report, WatchStatus};
pub use strip::Arriving;
pub use supervisor::{Running, run};
pub use webhooks::{PAUSE_ANNOTATION, WantedWebhooks, WebhookKeeper, difference as webhook_difference};

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;

/// A connection to a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The client for the API server.
    pub client: Client,
    /// The address of the API server.
    pub server: String,
    /// The kinds that the cluster serves, as far as they are known.
    pub served: Arc<ArcSwap<Served>>,
}

/// Formats an error of the client in one line, with its causes.
pub(crate) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors already contain the text of their cause.
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}
