//! Pods that settings name: the pods of Prometheus and of the mesh.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{End, Endpoint, Labels};

/// Pods that are named in a setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WrittenPods")]
pub(super) struct WellKnown {
    /// The namespace of the pods.
    pub(super) namespace: String,
    /// The known labels of the pods.
    pub(super) labels: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenPods {
    namespace: String,
    pod_labels: BTreeMap<String, String>,
}

impl From<WrittenPods> for WellKnown {
    fn from(written: WrittenPods) -> Self {
        Self { namespace: written.namespace, labels: written.pod_labels.into_iter().collect() }
    }
}

impl WellKnown {
    /// Pods with this label in a namespace.
    pub(super) fn of(namespace: &str, (key, value): (&str, &str)) -> Self {
        Self { namespace: namespace.to_owned(), labels: [(key, value)].into_iter().collect() }
    }

    /// The pods as the other end of a connection.
    pub(super) fn end(&self) -> End<'_> {
        End::Pod(Endpoint {
            namespace: &self.namespace,
            labels: &self.labels,
            complete: false,
            is_template: false,
            account: None,
            addresses: &[],
            services: &[],
        })
    }
}

impl std::fmt::Display for WellKnown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pods with {} in namespace {}", self.labels, self.namespace)
    }
}

impl WellKnown {
    /// The Prometheus pods, with the labels that the Prometheus Operator sets.
    pub(super) fn prometheus() -> Self {
        Self::of("monitoring", ("app.kubernetes.io/name", "prometheus"))
    }
}
