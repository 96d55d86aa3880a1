//! Metrics of the cluster: watches, the objects in the view, and lookups.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    /// A kind that a dialect reads.
    kind: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    what: &'static str,
    result: &'static str,
}

/// Metrics of the cluster. Clones share their values. Without a cluster there are no series.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetrics {
    synced: Family<KindLabel, Gauge>,
    failures: Family<KindLabel, Counter>,
    objects: Family<KindLabel, Gauge>,
    unreadable: Family<KindLabel, Gauge>,
    last_event: Family<[(String, String); 0], Gauge>,
    lookups: Family<LookupLabels, Counter>,
}

/// A lookup in the cluster for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A namespace.
    Namespace,
    /// The permission of a user.
    Access,
    /// The policies stored in a namespace.
    Stored,
}

impl ClusterMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let watch = registry.sub_registry_with_prefix("watch");
        watch.register("synced", "1 if the watch of a kind is synced, 0 if it is syncing or lost", self.synced.clone());
        watch.register("failures", "Failures of the watch of a kind", self.failures.clone());
        let view = registry.sub_registry_with_prefix("view");
        view.register("objects", "Objects in the cache", self.objects.clone());
        view.register("unreadable", "Objects that cannot be parsed and are ignored", self.unreadable.clone());
        view.register(
            "last_event_timestamp_seconds",
            "Time of the last watch event, in seconds since 1970",
            self.last_event.clone(),
        );
        registry.register("lookups", "Lookups in the cluster during admission requests", self.lookups.clone());
    }

    /// Creates the series of lookups. A series that begins with its first event hides that event from `increase()`.
    pub fn begin(&self) {
        for what in [Lookup::Namespace, Lookup::Access, Lookup::Stored] {
            for result in [super::metrics::word(true), super::metrics::word(false)] {
                let _ = self.lookups.get_or_create(&LookupLabels { what: what.word(), result });
            }
        }
    }

    /// Records whether the watch of a kind is synced.
    pub fn watch(&self, kind: &str, is_synced: bool) {
        let label = KindLabel { kind: kind.to_owned() };
        let _ = self.failures.get_or_create(&label);
        self.synced.get_or_create(&label).set(i64::from(is_synced));
    }

    /// Counts a watch of a kind that was lost or failed to start.
    pub fn watch_failed(&self, kind: &str) {
        self.failures.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    /// Removes the gauges of a kind that is no longer watched.
    pub fn unwatch(&self, kind: &str) {
        let label = KindLabel { kind: kind.to_owned() };
        self.synced.remove(&label);
        self.objects.remove(&label);
        self.unreadable.remove(&label);
    }

    /// Sets the number of objects of a kind in the view, and of those that cannot be read.
    pub fn objects(&self, kind: &str, known: usize, unreadable: usize) {
        let label = KindLabel { kind: kind.to_owned() };
        self.objects.get_or_create(&label).set(i64::try_from(known).unwrap_or(i64::MAX));
        self.unreadable.get_or_create(&label).set(i64::try_from(unreadable).unwrap_or(i64::MAX));
    }

    /// Records the time of a watch event.
    pub fn event(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last_event.get_or_create(&[]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Counts a lookup that succeeded or failed.
    pub fn looked_up(&self, what: Lookup, answered: bool) {
        let result = super::metrics::word(answered);
        self.lookups.get_or_create(&LookupLabels { what: what.word(), result }).inc();
    }
}

impl Lookup {
    fn word(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Access => "access",
            Self::Stored => "stored",
        }
    }
}
