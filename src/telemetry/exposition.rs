//! The two text formats of metrics, and the choice between them.
//!
//! The registry encodes OpenMetrics 1.0. Scrapers that do not accept it get the Prometheus text format 0.0.4, in which
//! the metadata of a counter carries the name of its samples (`_total`), an info metric is a gauge, and `# UNIT` and `#
//! EOF` do not exist.

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// Chooses the format by the values of the header `Accept`. OpenMetrics has to be named: `*/*` selects
    /// the older format.
    #[must_use]
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut open_metrics, mut prometheus) = (0.0, 0.0);
        for range in accept.into_iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    // A quality that is not a number counts as 0.
                    "q" => quality = value.trim().parse::<f64>().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let best = match (media.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => &mut open_metrics,
                ("text/plain", None | Some("0.0.4")) => &mut prometheus,
                _ => continue,
            };
            if quality > *best {
                *best = quality;
            }
        }
        if open_metrics > 0.0 && open_metrics >= prometheus { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Converts OpenMetrics text, as the registry encodes it, to the Prometheus text format.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(metadata) = line.strip_prefix("# ") else {
            push(&mut text, line);
            continue;
        };
        match metadata.split_once(' ') {
            // The type decides the name in the line before it.
            Some(("HELP", help)) => {
                let suffix = lines.peek().and_then(|next| next.strip_prefix("# TYPE ")).map_or("", suffix);
                let (name, help) = help.split_once(' ').unwrap_or((help, ""));
                push(&mut text, &format!("# HELP {name}{suffix} {help}"));
            }
            Some(("TYPE", declaration)) => {
                let (name, kind) = declaration.split_once(' ').unwrap_or((declaration, "unknown"));
                let kind_of_text = match kind {
                    "info" => "gauge",
                    "unknown" => "untyped",
                    kind => kind,
                };
                push(&mut text, &format!("# TYPE {name}{} {kind_of_text}", suffix(declaration)));
            }
            // `UNIT` and `EOF`.
            _ => {}
        }
    }
    text
}

/// Returns the suffix that the samples of a metric have and its OpenMetrics metadata lacks.
fn suffix(declaration: &str) -> &'static str {
    match declaration.rsplit_once(' ') {
        Some((_, "counter")) => "_total",
        Some((_, "info")) => "_info",
        _ => "",
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::telemetry::{Counted, Metrics};

    /// Checks a text as `promtool check metrics` parses it, and returns its samples by family.
    fn families(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
        let mut families: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
        let (mut helped, mut current): (BTreeSet<String>, String) = (BTreeSet::new(), String::new());
        assert!(text.ends_with('\n'), "the last line ends");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(declaration) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declaration.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "help comes first: {line}");
                assert!(families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "twice: {line}");
                name.clone_into(&mut current);
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let name = line.split(['{', ' ']).next().unwrap();
                let (kind, samples) = families.get_mut(&current).unwrap();
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let rest = name.strip_prefix(&*current).unwrap_or_else(|| panic!("{line} is not of {current}"));
                assert!(suffixes.contains(&rest), "{line} is not of {current}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
                samples.push(line.to_owned());
            }
        }
        families
    }

    #[test]
    fn the_prometheus_text_has_the_same_samples_under_metadata_of_their_names() {
        let metrics = Metrics::default();
        let counted = Counted { endpoint: "validate", operation: "create", kind: "Pod", decision: "denied" };
        metrics.answered(counted, Duration::from_micros(30));
        metrics.cluster.begin();
        metrics.cluster.watch("NetworkPolicy # EOF", true);
        metrics.cluster.event(SystemTime::now());
        metrics.baseline.leads(true);
        metrics.webhooks.begin();
        let open_metrics = metrics.text();
        let text = prometheus(&open_metrics);
        let families = families(&text);
        let of = |name: &str| families.get(name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        assert_eq!(of("portcullis_admission_requests_total").0, "counter");
        assert_eq!(of("portcullis_build_info").0, "gauge");
        assert_eq!(of("portcullis_admission_duration_seconds").0, "histogram");
        assert_eq!(of("portcullis_webhooks_drift_seconds").1.len(), 2);
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(&text), samples(&open_metrics));
        assert!(open_metrics.ends_with("# EOF\n") && open_metrics.contains("# UNIT "), "the source has both");
    }

    #[test]
    fn every_kind_of_metadata_is_converted() {
        let open_metrics = "# HELP a Some requests.\n# TYPE a counter\na_total 1\n\
                            # HELP b Version.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                            # HELP c_seconds Time.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
                            c_seconds_sum 1.0\nc_seconds_count 1\nc_seconds_bucket{le=\"+Inf\"} 1\n\
                            # HELP d Things.\n# TYPE d unknown\nd 1\n# EOF\n";
        assert_eq!(
            prometheus(open_metrics),
            "# HELP a_total Some requests.\n# TYPE a_total counter\na_total 1\n\
             # HELP b_info Version.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
             c_seconds_sum 1.0\nc_seconds_count 1\nc_seconds_bucket{le=\"+Inf\"} 1\n\
             # HELP d Things.\n# TYPE d untyped\nd 1\n"
        );
    }

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        let of = |accept: &[&str]| Exposition::negotiate(accept.iter().copied());
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let text_first = "text/plain;version=0.0.4;q=0.6, application/openmetrics-text;version=1.0.0;q=0.5";
        for (accept, expected) in [
            (&[][..], Exposition::Prometheus),
            (&["*/*"], Exposition::Prometheus),
            (&["text/plain"], Exposition::Prometheus),
            (&["application/json"], Exposition::Prometheus),
            (&[text_first], Exposition::Prometheus),
            (&["application/openmetrics-text;version=0.0.1"], Exposition::Prometheus),
            (&["application/openmetrics-text;q=0"], Exposition::Prometheus),
            (&["application/openmetrics-text;q=x, text/plain;q=0.1"], Exposition::Prometheus),
            (&["application/openmetrics-text"], Exposition::OpenMetrics),
            (&["APPLICATION/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.2"], Exposition::OpenMetrics),
            (&["text/html", "application/openmetrics-text; version=1.0.0"], Exposition::OpenMetrics),
            (&[prometheus_2], Exposition::OpenMetrics),
        ] {
            assert_eq!(of(accept), expected, "{accept:?}");
        }
    }
}
