//! Metrics of the baseline controller. Clones share their values.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The bounds of the histogram of reconciles that wrote something: from a millisecond to a minute.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0];
/// The results of reconciling a namespace.
const RESULTS: [&str; 4] = ["unchanged", "written", "gone", "failed"];
/// The kinds of writes to the API server.
const WRITES: [&str; 6] = ["apply", "replace", "delete", "mark", "lift", "hatch"];
/// The states of namespaces.
const STATES: [&str; 5] = ["applied", "pending", "failed", "contested", "unlabelled"];
/// The changes of hatches.
const CHANGES: [&str; 2] = ["opened", "closed"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The only label with values from users. Hatches are open in few namespaces, and not for long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabel {
    /// Not `namespace`, because Prometheus sets that label to the namespace of the scraped pod.
    target_namespace: String,
}

/// A gauge that has no series before it is set. Without a controller, a value of 0 would wrongly report a missing
/// leader.
#[derive(Clone, Debug, Default)]
struct GaugeOnceSet(Arc<OnceLock<Gauge>>);

impl GaugeOnceSet {
    fn set(&self, value: i64) {
        self.0.get_or_init(Gauge::default).set(value);
    }
}

impl EncodeMetric for GaugeOnceSet {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }
}

/// Metrics of the baseline controller.
#[derive(Clone, Debug)]
pub struct BaselineMetrics {
    reconciles: Family<ResultLabel, Counter>,
    duration: Histogram,
    writes: Family<WhatLabel, Counter>,
    namespaces: Family<StateLabel, Gauge>,
    queued: Gauge,
    kept: Gauge,
    rival: Gauge,
    leader: GaugeOnceSet,
    hatches: Family<NamespaceLabel, Gauge>,
    hatch_changes: Family<WhatLabel, Counter>,
}

impl Default for BaselineMetrics {
    fn default() -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            duration: Histogram::new(BUCKETS),
            writes: Family::default(),
            namespaces: Family::default(),
            queued: Gauge::default(),
            kept: Gauge::default(),
            rival: Gauge::default(),
            leader: GaugeOnceSet::default(),
            hatches: Family::default(),
            hatch_changes: Family::default(),
        };
        // A series that begins with its first event hides that event from `increase()`.
        for result in RESULTS {
            let _ = metrics.reconciles.get_or_create(&ResultLabel { result });
        }
        for what in WRITES {
            let _ = metrics.writes.get_or_create(&WhatLabel { what });
        }
        for state in STATES {
            let _ = metrics.namespaces.get_or_create(&StateLabel { state });
        }
        for what in CHANGES {
            let _ = metrics.hatch_changes.get_or_create(&WhatLabel { what });
        }
        metrics
    }
}

impl BaselineMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("leader", "1 if this replica is the leader that applies baselines", self.leader.clone());
        let baseline = registry.sub_registry_with_prefix("baseline");
        baseline.register("reconciles", "Reconciled namespaces, by result", self.reconciles.clone());
        baseline.register_with_unit(
            "reconcile_duration",
            "Duration of the reconciles that wrote or deleted objects",
            Unit::Seconds,
            self.duration.clone(),
        );
        baseline.register("writes", "Write requests to the API server, by kind of write", self.writes.clone());
        baseline.register(
            "namespaces",
            "Namespaces that get a baseline, by state; unlabelled: created without a call of /mutate, they get none",
            self.namespaces.clone(),
        );
        baseline.register("queued", "Namespaces in the reconcile queue", self.queued.clone());
        baseline.register(
            "kept_policies",
            "Cluster-wide policies of a former policy set that are still in force",
            self.kept.clone(),
        );
        baseline.register(
            "another_controller",
            "1 if the controller of another installation is active and this one does nothing",
            self.rival.clone(),
        );
        let hatch = registry.sub_registry_with_prefix("hatch");
        hatch.register(
            "open_since_timestamp_seconds",
            "Time at which the hatch of a namespace was opened, in seconds since 1970",
            self.hatches.clone(),
        );
        hatch.register(
            "changes",
            "Opened and closed hatches; a high rate means that GitOps reverts a user",
            self.hatch_changes.clone(),
        );
    }

    /// Counts a reconciled namespace: `unchanged`, `written`, `gone` or `failed`. Observes the duration if there was
    /// something to do.
    pub fn reconciled(&self, result: &'static str, took: Option<Duration>) {
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        if let Some(took) = took {
            self.duration.observe(took.as_secs_f64());
        }
    }

    /// Counts a write to the API server: `apply`, `replace`, `delete`, `mark`, `lift` or `hatch`.
    pub fn wrote(&self, what: &'static str) {
        self.writes.get_or_create(&WhatLabel { what }).inc();
    }

    /// Sets the number of namespaces in a state: `applied`, `pending`, `failed`, `contested` or `unlabelled`.
    pub fn namespaces(&self, state: &'static str, count: usize) {
        self.namespaces.get_or_create(&StateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of namespaces in the queue.
    pub fn queued(&self, count: usize) {
        self.queued.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of cluster-wide policies that stay although their policy set is not configured any more.
    pub fn kept(&self, count: usize) {
        self.kept.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the gauge for the controller of another installation in this cluster.
    pub fn rival(&self, is_there: bool) {
        self.rival.set(i64::from(is_there));
    }

    /// Records whether this replica leads. If it does not, its metrics of the cluster are reset.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.hatches.clear();
            self.queued(0);
            self.kept(0);
            for state in STATES {
                self.namespaces(state, 0);
            }
        }
    }

    /// Records the time since which the hatch of a namespace is open, in seconds since 1970. None if it is closed.
    pub fn hatch(&self, namespace: &str, since: Option<i64>) {
        let label = NamespaceLabel { target_namespace: namespace.to_owned() };
        match since {
            Some(since) => drop(self.hatches.get_or_create(&label).set(since)),
            None => drop(self.hatches.remove(&label)),
        }
    }

    /// Counts a hatch that was `opened` or `closed`.
    pub fn hatch_changed(&self, what: &'static str) {
        self.hatch_changes.get_or_create(&WhatLabel { what }).inc();
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn a_hatch_has_a_series_as_long_as_it_is_open() {
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("portcullis_leader"), "without a controller no replica can lead");
        let baseline = metrics.baseline.clone();
        baseline.hatch("shop", Some(1_700_000_000));
        baseline.leads(true);
        baseline.namespaces("applied", 3);
        baseline.hatch_changed("opened");
        let text = metrics.text();
        for line in [
            r#"portcullis_hatch_open_since_timestamp_seconds{target_namespace="shop"} 1700000000"#,
            r#"portcullis_hatch_changes_total{what="opened"} 1"#,
            r#"portcullis_baseline_namespaces{state="applied"} 3"#,
            r#"portcullis_baseline_writes_total{what="apply"} 0"#,
            r#"portcullis_baseline_reconciles_total{result="failed"} 0"#,
            "portcullis_baseline_reconcile_duration_seconds_count 0",
            "portcullis_leader 1",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
        baseline.hatch("shop", None);
        assert!(!metrics.text().contains("target_namespace"));
        baseline.hatch("shop", Some(1));
        baseline.leads(false);
        let text = metrics.text();
        assert!(!text.contains("target_namespace") && text.contains(r#"state="applied"} 0"#), "{text}");
    }
}
