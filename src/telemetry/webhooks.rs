//! Metrics of the webhook configurations. Clones share their values.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The values of the label `configuration`.
const CONFIGURATIONS: [&str; 2] = ["validating", "mutating"];
/// The values of the label `state`.
const STATES: [&str; 4] = ["ok", "missing", "different", "unknown"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigurationLabel {
    configuration: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    configuration: &'static str,
    state: &'static str,
}

/// Metrics of the webhook configurations. A server that does not compare them has only the series of the pause, at 0.
#[derive(Clone, Debug, Default)]
pub struct WebhookMetrics {
    state: Family<StateLabels, Gauge>,
    drift: Family<ConfigurationLabel, Gauge>,
    paused: Gauge,
    writes: Family<ConfigurationLabel, Counter>,
}

impl WebhookMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let webhooks = registry.sub_registry_with_prefix("webhooks");
        webhooks.register(
            "state",
            "1 for the state of a webhook configuration in the cluster, 0 for the other states",
            self.state.clone(),
        );
        webhooks.register_with_unit(
            "drift",
            "Time since a webhook configuration differs from the configuration in force, 0 without a difference",
            Unit::Seconds,
            self.drift.clone(),
        );
        webhooks.register_with_unit(
            "paused",
            "Time since the annotation portcullis.dev/webhooks-paused was set, 0 without the annotation",
            Unit::Seconds,
            self.paused.clone(),
        );
        webhooks.register("writes", "Writes of a webhook configuration by this replica", self.writes.clone());
    }

    /// Creates the series: one that begins with its first event hides that event from `increase()`.
    pub fn begin(&self) {
        for configuration in CONFIGURATIONS {
            self.state(configuration, "unknown");
            self.drift(configuration, Duration::ZERO);
            let _ = self.writes.get_or_create(&ConfigurationLabel { configuration });
        }
        self.paused(Duration::ZERO);
    }

    /// Sets the state of a configuration: `ok`, `missing`, `different` or `unknown`.
    pub fn state(&self, configuration: &'static str, current: &'static str) {
        for state in STATES {
            self.state.get_or_create(&StateLabels { configuration, state }).set(i64::from(state == current));
        }
    }

    /// Sets the time for which a configuration has differed.
    pub fn drift(&self, configuration: &'static str, age: Duration) {
        self.drift.get_or_create(&ConfigurationLabel { configuration }).set(whole_seconds(age));
    }

    /// Sets the time for which writes have been paused.
    pub fn paused(&self, age: Duration) {
        self.paused.set(whole_seconds(age));
    }

    /// Counts a write of a configuration.
    pub fn wrote(&self, configuration: &'static str) {
        self.writes.get_or_create(&ConfigurationLabel { configuration }).inc();
    }
}

/// Rounds up to whole seconds, so that half a second is not 0.
fn whole_seconds(age: Duration) -> i64 {
    i64::try_from(age.as_secs() + u64::from(age.subsec_nanos() > 0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn one_state_holds_at_a_time_and_an_age_is_no_zero() {
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("portcullis_webhooks_state{"), "a server that does not compare has no series");
        let webhooks = metrics.webhooks.clone();
        webhooks.begin();
        webhooks.state("validating", "missing");
        webhooks.drift("validating", Duration::from_millis(1));
        webhooks.paused(Duration::from_secs(90));
        webhooks.wrote("mutating");
        let text = metrics.text();
        for line in [
            r#"portcullis_webhooks_state{configuration="validating",state="missing"} 1"#,
            r#"portcullis_webhooks_state{configuration="validating",state="unknown"} 0"#,
            r#"portcullis_webhooks_state{configuration="mutating",state="unknown"} 1"#,
            r#"portcullis_webhooks_drift_seconds{configuration="validating"} 1"#,
            r#"portcullis_webhooks_drift_seconds{configuration="mutating"} 0"#,
            "portcullis_webhooks_paused_seconds 90",
            r#"portcullis_webhooks_writes_total{configuration="mutating"} 1"#,
            r#"portcullis_webhooks_writes_total{configuration="validating"} 0"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
    }
}
