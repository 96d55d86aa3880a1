//! Settings that fit a cluster, each with its reason.
//!
//! A recommendation exists only for a setting whose default does not fit: an unremarkable cluster gets none.

mod dns;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::Labels;
use crate::view::{NamespaceFacts, Site, View};

/// A setting that fits the cluster better than the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// The field of the configuration.
    pub field: &'static str,
    /// The value of the field, or the part of it that is merged over the current one.
    pub value: Value,
    /// The reasons, one sentence each.
    pub reasons: Vec<String>,
}

/// The namespace of Prometheus in the default settings.
const PROMETHEUS_NAMESPACE: &str = "monitoring";
/// The label of Prometheus pods in the default settings, which its operator and its charts set.
const PROMETHEUS_LABEL: (&str, &str) = ("app.kubernetes.io/name", "prometheus");

/// The reason of a setting that the shipped baseline policies repeat.
const POLICIES: &str = "The policies of --policies must allow the same pods and ports: see docs/install.md.";

/// Names of namespaces that operators and platforms use for their own components. A name may end with `*`.
///
/// Sources: the default namespaces of their manifests and charts.
const PLATFORM: &[(&str, &str)] = &[
    ("calico-*", "Calico"),
    ("tigera-operator", "Calico"),
    ("cilium*", "Cilium"),
    ("kube-flannel", "Flannel"),
    ("openshift", "OpenShift"),
    ("openshift-*", "OpenShift"),
    ("cattle-*", "Rancher"),
    ("gke-*", "GKE"),
    ("gmp-*", "GKE"),
    ("istio-system", "Istio"),
    ("istio-cni", "Istio"),
    ("linkerd*", "Linkerd"),
    ("metallb-system", "MetalLB"),
    ("longhorn-system", "Longhorn"),
    ("rook-ceph*", "Rook"),
];

/// Returns the settings that fit the cluster and differ from these.
#[must_use]
pub fn recommend(view: &View, site: &Site) -> Vec<Recommendation> {
    [dns::recommend(view, site), platform_namespaces(view, site), prometheus(view)].into_iter().flatten().collect()
}

/// Namespaces of platform components: they need what rules forbid elsewhere, and a baseline would cut them off.
fn platform_namespaces(view: &View, site: &Site) -> Option<Recommendation> {
    let mut names: Vec<String> = site.platform_namespaces.iter().map(ToString::to_string).collect();
    let mut reasons = Vec::new();
    let known: BTreeMap<&str, &NamespaceFacts> = view.namespaces().map(|(name, facts)| (&**name, &**facts)).collect();
    for (name, facts) in known.into_iter().filter(|(name, _)| !name.is_empty() && !site.is_left_alone(name)) {
        let owner = PLATFORM.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, owner)| *owner);
        let on_host = facts.distinct().find(|running| running.workload.host_network.is_some());
        reasons.push(match (owner, on_host) {
            (Some(owner), _) => format!("{name} belongs to {owner}."),
            (None, Some(running)) => format!("{name} runs hostNetwork pods: {} {}.", running.kind, running.name),
            (None, None) => continue,
        });
        names.push(name.to_owned());
    }
    (!reasons.is_empty()).then(|| Recommendation { field: "platformNamespaces", value: json!(names), reasons })
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// The namespace of Prometheus, if it runs elsewhere than by default.
fn prometheus(view: &View) -> Option<Recommendation> {
    let (key, value) = PROMETHEUS_LABEL;
    let runs = |facts: &NamespaceFacts| facts.distinct().any(|one| one.workload.labels.get(key) == Some(value));
    if view.namespace(PROMETHEUS_NAMESPACE).is_some_and(runs) {
        return None;
    }
    let mut found: Vec<&str> = view.namespaces().filter(|(_, facts)| runs(facts)).map(|(name, _)| &**name).collect();
    found.sort_unstable();
    let namespace = *found.first()?;
    let settings = json!({"settings": {"prometheus": {"namespace": namespace, "podLabels": {key: value}}}});
    Some(Recommendation {
        field: "rules",
        value: json!({"monitoring-blocked": settings, "platform-flow-missing": settings}),
        reasons: vec![format!("Prometheus runs in namespace {namespace}."), POLICIES.to_owned()],
    })
}

/// Labels as JSON.
fn json_of(labels: &Labels) -> Value {
    labels.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect::<serde_json::Map<_, _>>().into()
}
