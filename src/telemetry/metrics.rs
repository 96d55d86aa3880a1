//! Metrics, in seconds and totals. Users cannot multiply the values of a label.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::exposition::{Exposition, prometheus};
use super::{BaselineMetrics, ClusterMetrics, ContractMetrics, WebhookMetrics};

/// The bounds of the histogram of decisions: from ten microseconds to ten seconds.
const BUCKETS: [f64; 13] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0];

/// The reasons for which requests and connections are rejected.
const REFUSALS: [&str; 12] = [
    "accept",
    "broken",
    "cancelled",
    "client",
    "deadline",
    "handshake",
    "lookup",
    "not-a-review",
    "overload",
    "panic",
    "share",
    "too-large",
];

/// The labels of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Counted {
    /// `validate` or `mutate`.
    pub endpoint: &'static str,
    /// The operation, in lower case.
    pub operation: &'static str,
    /// The kind if a dialect reads it, otherwise `other`.
    pub kind: &'static str,
    /// `allowed`, `warned`, `denied` or `patched`.
    pub decision: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    rule: &'static str,
    action: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

/// Every metric of the server.
#[derive(Debug)]
pub struct Metrics {
    /// Metrics of the baseline controller.
    pub baseline: BaselineMetrics,
    /// Metrics of the watches, the view and the lookups.
    pub cluster: ClusterMetrics,
    /// Metrics of contracts.
    pub contracts: ContractMetrics,
    /// Metrics of the webhook configurations.
    pub webhooks: WebhookMetrics,
    registry: Registry,
    requests: Family<Counted, Counter>,
    durations: Family<EndpointLabel, Histogram, fn() -> Histogram>,
    findings: Family<FindingLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    in_flight: Gauge,
    connections: Gauge,
    configuration_reloads: Family<ResultLabel, Counter>,
    configuration_good: Gauge,
    certificate_reloads: Family<ResultLabel, Counter>,
    certificate_expiry: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        registry.register("build", "Version of this server", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let metrics = Self {
            baseline: BaselineMetrics::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            findings: Family::default(),
            refused: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            configuration_reloads: Family::default(),
            configuration_good: Gauge::default(),
            certificate_reloads: Family::default(),
            certificate_expiry: Gauge::default(),
            cluster: ClusterMetrics::default(),
            contracts: ContractMetrics::default(),
            webhooks: WebhookMetrics::default(),
            registry: Registry::default(),
        };
        metrics.configuration_good.set(1);
        let admission = registry.sub_registry_with_prefix("admission");
        admission.register("requests", "Answered admission reviews", metrics.requests.clone());
        admission.register_with_unit(
            "duration",
            "Time from the complete request body to the response",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        admission.register("findings", "Findings, by rule and action", metrics.findings.clone());
        admission.register("refused", "Requests that got an HTTP error instead of a review", metrics.refused.clone());
        admission.register("in_flight", "Requests in flight", metrics.in_flight.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        let configuration = registry.sub_registry_with_prefix("configuration");
        configuration.register(
            "reloads",
            "Reloads of changed configuration, policies or context, by result",
            metrics.configuration_reloads.clone(),
        );
        configuration.register(
            "good",
            "1 if the files are in force, 0 if they are invalid and the last good state is in force",
            metrics.configuration_good.clone(),
        );
        let certificate = registry.sub_registry_with_prefix("certificate");
        certificate.register(
            "reloads",
            "Reloads of a changed certificate, by result",
            metrics.certificate_reloads.clone(),
        );
        certificate.register(
            "expiry_timestamp_seconds",
            "Expiry time of the serving certificate, in seconds since 1970",
            metrics.certificate_expiry.clone(),
        );
        metrics.cluster.register(&mut registry);
        metrics.baseline.register(&mut registry);
        metrics.contracts.register(&mut registry);
        metrics.webhooks.register(&mut registry);
        // A series that begins with its first event hides that event from `increase()`.
        for result in [word(true), word(false)] {
            let _ = metrics.configuration_reloads.get_or_create(&ResultLabel { result });
            let _ = metrics.certificate_reloads.get_or_create(&ResultLabel { result });
        }
        for reason in REFUSALS {
            let _ = metrics.refused.get_or_create(&ReasonLabel { reason });
        }
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts a review that was answered, and observes the time that it took.
    pub fn answered(&self, counted: Counted, took: Duration) {
        self.requests.get_or_create(&counted).inc();
        self.durations.get_or_create(&EndpointLabel { endpoint: counted.endpoint }).observe(took.as_secs_f64());
    }

    /// Counts a finding of a rule.
    pub fn found(&self, rule: &'static str, action: &'static str) {
        self.findings.get_or_create(&FindingLabels { rule, action }).inc();
    }

    /// Counts a connection that failed, or a request that was not answered with a review.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a request in flight until the returned value is dropped.
    #[must_use]
    pub fn request(&self) -> impl Drop + use<> {
        Held::new(&self.in_flight)
    }

    /// Counts an open connection until the returned value is dropped.
    #[must_use]
    pub fn connection(&self) -> impl Drop + use<> {
        Held::new(&self.connections)
    }

    /// Counts a reload of the configuration, and records whether the files are in force.
    pub fn configuration_reloaded(&self, good: bool) {
        self.configuration_reloads.get_or_create(&ResultLabel { result: word(good) }).inc();
        self.configuration_good.set(i64::from(good));
    }

    /// Counts a reload of the certificate.
    pub fn certificate_reloaded(&self, good: bool) {
        self.certificate_reloads.get_or_create(&ResultLabel { result: word(good) }).inc();
    }

    /// Records the expiry of the certificate in use.
    pub fn certificate_expires(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.certificate_expiry.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Returns all metrics in a text format.
    #[must_use]
    pub fn exposed(&self, exposition: Exposition) -> String {
        match exposition {
            Exposition::Prometheus => prometheus(&self.text()),
            Exposition::OpenMetrics => self.text(),
        }
    }

    /// Returns all metrics in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

pub(super) fn word(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}

/// Increments a gauge until it is dropped.
struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_seconds_and_totals() {
        let metrics = Metrics::default();
        let counted = Counted { endpoint: "validate", operation: "create", kind: "Pod", decision: "denied" };
        metrics.answered(counted, Duration::from_micros(30));
        metrics.found("any-port", "deny");
        let held = metrics.request();
        let text = metrics.text();
        for line in [
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="Pod",decision="denied"} 1"#,
            r#"portcullis_admission_findings_total{rule="any-port",action="deny"} 1"#,
            r#"portcullis_admission_duration_seconds_count{endpoint="validate"} 1"#,
            "portcullis_admission_in_flight 1",
            "portcullis_configuration_good 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        drop(held);
        assert!(metrics.text().contains("portcullis_admission_in_flight 0"));
    }
}
