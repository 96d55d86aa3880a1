//! Host endpoints: their labels, by which a policy selects the interfaces of nodes.

use serde_json::Value;

use crate::model::Labels;

/// The labels of a HostEndpoint manifest. None for other manifests.
#[must_use]
pub(crate) fn host_endpoint(manifest: &Value) -> Option<Labels> {
    let text = |field: &str| manifest.get(field).and_then(Value::as_str);
    let (group, _) = text("apiVersion")?.split_once('/')?;
    if text("kind") != Some("HostEndpoint") || !matches!(group, "projectcalico.org" | "crd.projectcalico.org") {
        return None;
    }
    let labels = manifest.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    Some(labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect())
}
