//! The cluster itself: what it serves, watches that feed the view, and what is asked of it live.
//!
//! ```text
//! API server ─ discovery ─▶ kinds ─ watch (one a kind) ─ strip ─ arrival ─▶ feed ─▶ View ─▶ admission, baseline
//!      ▲                                                                            │
//!      └──────────────────── lookup: a namespace, stored policies, an access review ◀────────────────┘ what the view does not tell
//! ```
//!
//! Of what makes pods, Deployments, StatefulSets, DaemonSets and CronJobs are watched: all others make pods, which are
//! watched anyhow, or are made by one of these. Pods that have ended are left out, since nothing reaches them.

mod arrival;
mod certificate;
mod connect;
mod discovery;
mod feed;
mod lookup;
mod status;
mod stored;
mod strip;
mod supervisor;
mod watch;
mod webhooks;

pub use arrival::{Arrival, Owning, read};
pub use certificate::{CertificateKeeper, CertificateTerms, KeepError};
pub use connect::Error;
pub use discovery::{Served, discover};
pub use feed::{Event, Feed};
pub use lookup::LiveLookup;
pub use status::{Report, WatchStatus};
pub use strip::Arriving;
pub use supervisor::{Running, run};
pub use webhooks::{PAUSE_ANNOTATION, WantedWebhooks, WebhookKeeper};

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;

/// A cluster that can be reached.
#[derive(Clone)]
pub struct Cluster {
    /// Talks to its API server.
    pub client: Client,
    /// Where its API server is.
    pub server: String,
    /// What it serves, as far as that is known by now.
    pub served: Arc<ArcSwap<Served>>,
}

/// What is said of an error of the client, in one line.
pub(crate) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        // Some say what their cause says.
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}
