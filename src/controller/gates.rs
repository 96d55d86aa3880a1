//! Removes the scheduling gates of pods that wait for the baseline of their namespace.

use kube::api::{ApiResource, ListParams, NotUsed, Object, Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;

use super::error::{Failure, is_missing};
use super::executor::{Executor, PlanInput};
use crate::view::FIELD_MANAGER;

/// A pod, reduced to its scheduling gates.
pub type GatedPod = Object<Gates, NotUsed>;

/// The scheduling gates of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gates {
    scheduling_gates: Vec<Gate>,
}

#[derive(Clone, Debug, Deserialize)]
struct Gate {
    name: String,
}

impl Gates {
    /// The names of the gates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scheduling_gates.iter().map(|gate| &*gate.name)
    }
}

/// Returns the API for the pods of a namespace, or of the cluster.
#[must_use]
pub fn pods(client: &Client, namespace: Option<&str>) -> Api<GatedPod> {
    let resource = ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
    };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Removes a gate from a pod by its name, and keeps the other gates of the pod. A pod without this gate is not changed.
///
/// # Errors
/// Returns the error of the API server, also if the pod does not exist. Such a pod does not wait for the gate.
pub async fn lift_gate(client: &Client, namespace: &str, pod: &str, gate: &str, manager: &str) -> kube::Result<()> {
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(json!({"spec": {"schedulingGates": [{"$patch": "delete", "name": gate}]}}));
    pods(client, Some(namespace)).patch(pod, &parameters, &patch).await.map(|_| ())
}

impl Executor {
    /// Removes the gates of all pods of the namespace, including those that are not in the view.
    pub(super) async fn lift_all(&self, input: &PlanInput) -> Result<(), Failure> {
        let ours = input.catalogue.site.gate_name();
        let pods = pods(&self.cluster.client, Some(&input.name));
        // Pods that are assigned to a node do not wait.
        let unassigned = ListParams::default().fields("spec.nodeName=");
        let found = pods.list(&unassigned).await.map_err(|error| Failure::of("listing pods", error))?;
        let gated = found.into_iter().filter(|pod| pod.spec.names().any(|name| name == ours));
        let names: Vec<Box<str>> = gated.filter_map(|pod| pod.metadata.name).map(String::into_boxed_str).collect();
        self.lift(input, &names).await
    }

    /// Removes the gates of these pods. Continues after a failure, and returns the first one.
    pub(super) async fn lift(&self, input: &PlanInput, pods: &[Box<str>]) -> Result<(), Failure> {
        let gate = input.catalogue.site.gate_name();
        let mut first = None;
        for pod in pods {
            self.metrics.wrote("lift");
            match lift_gate(&self.cluster.client, &input.name, pod, &gate, FIELD_MANAGER).await {
                Ok(()) => tracing::debug!(namespace = %input.name, pod, "removed the scheduling gate"),
                // The pod is gone, and does not wait.
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    first.get_or_insert(Failure::of(format!("removing the scheduling gate of pod {pod}"), error));
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}
