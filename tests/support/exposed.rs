//! The metrics that the server exposes, with at least one series of each.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use portcullis::telemetry::{Counted, Exposition, Lookup, Metrics};

/// One series of a metric, as a line of the text format without its value.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// Labels and their values in quotes.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
}

/// Returns the text format of metrics of which each family has a series.
pub(crate) fn text() -> String {
    let metrics = Metrics::default();
    for decision in ["allowed", "warned", "denied", "patched"] {
        let counted = Counted { endpoint: "validate", operation: "create", kind: "Pod", decision };
        metrics.answered(counted, Duration::ZERO);
    }
    for action in ["deny", "warn", "audit"] {
        metrics.found("any-port", action);
    }
    metrics.certificate_expires(SystemTime::now());
    metrics.cluster.begin();
    metrics.cluster.watch("Pod", true);
    metrics.cluster.objects("Pod", 1, 0);
    metrics.cluster.event(SystemTime::now());
    metrics.cluster.looked_up(Lookup::Access, true);
    metrics.baseline.leads(true);
    metrics.baseline.hatch("shop", Some(1));
    metrics.contracts.states([("dns", "holds"), ("payments", "broken"), ("search", "undecided")]);
    metrics.webhooks.begin();
    // In OpenMetrics the name of a counter lacks `_total` in its metadata.
    metrics.exposed(Exposition::Prometheus)
}

/// Returns the series of the text format.
pub(crate) fn series(text: &str) -> impl Iterator<Item = Series<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // The values of this text contain neither commas nor braces.
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        Series { name, labels: labels.collect() }
    })
}

/// Returns the labels of each metric.
pub(crate) fn labels(text: &str) -> BTreeMap<&str, Vec<&str>> {
    series(text).map(|series| (series.name, series.labels.iter().map(|(label, _)| *label).collect())).collect()
}
