//! Custom resources for which an operator creates pods that no manifest describes.

use serde_json::Value;

/// Fields that mark a resource for which pods are created.
const FIELDS: [&str; 12] = [
    "chart",
    "containers",
    "image",
    "imageName",
    "instances",
    "nodePools",
    "nodeSets",
    "podMetadata",
    "podTemplate",
    "podTemplateSpec",
    "replicas",
    "serviceAccountName",
];

/// The namespace in which an operator creates pods for a custom resource, or an empty text if the resource names none.
/// None if the resource does not look like one that creates pods, or if its group belongs to Kubernetes.
#[must_use]
pub(crate) fn operator_pods(manifest: &Value) -> Option<&str> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let (group, _) = text("/apiVersion")?.split_once('/')?;
    // Groups without a dot and groups below k8s.io belong to Kubernetes.
    if !group.contains('.') || group.ends_with(".k8s.io") {
        return None;
    }
    let spec = manifest.get("spec")?;
    // Flux and Argo CD install whole applications into the namespace that they name.
    let installs = text("/spec/targetNamespace").or_else(|| text("/spec/destination/namespace"));
    let is_maker = installs.is_some() || has_field(spec, 3);
    is_maker.then(|| installs.or_else(|| text("/metadata/namespace")).unwrap_or_default())
}

/// Returns true if a value has one of the fields, in itself or in parts down to this depth.
fn has_field(value: &Value, depth: usize) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, part)| FIELDS.contains(&key.as_str()) || depth > 0 && has_field(part, depth - 1))
        }
        Value::Array(list) => list.iter().any(|part| has_field(part, depth)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_that_make_pods_are_told_from_others() {
        let made = |api_version: &str, spec: Value| {
            let manifest =
                json!({"apiVersion": api_version, "kind": "X", "metadata": {"namespace": "own"}, "spec": spec});
            operator_pods(&manifest).map(str::to_owned)
        };
        let own = Some("own".to_owned());
        assert_eq!(made("monitoring.coreos.com/v1", json!({"podMetadata": {"labels": {}}})), own);
        assert_eq!(made("postgresql.cnpg.io/v1", json!({"instances": 3})), own);
        assert_eq!(made("kafka.strimzi.io/v1beta2", json!({"kafka": {"replicas": 3}})), own);
        assert_eq!(made("helm.toolkit.fluxcd.io/v2", json!({"chart": {"spec": {"chart": "x"}}})), own);
        let into = json!({"chart": {}, "targetNamespace": "other"});
        assert_eq!(made("helm.toolkit.fluxcd.io/v2", into).as_deref(), Some("other"));
        let into = json!({"destination": {"namespace": "other"}});
        assert_eq!(made("argoproj.io/v1alpha1", into).as_deref(), Some("other"));
        assert_eq!(made("argoproj.io/v1alpha1", json!({"template": {"spec": {"containers": []}}})), own);
        assert_eq!(made("monitoring.coreos.com/v1", json!({"endpoints": [{"port": "web"}]})), None, "a ServiceMonitor");
        assert_eq!(made("cert-manager.io/v1", json!({"secretName": "tls", "issuerRef": {"name": "ca"}})), None);
        assert_eq!(made("autoscaling/v2", json!({"replicas": 1})), None);
        assert_eq!(made("gateway.networking.k8s.io/v1", json!({"replicas": 1})), None);
        assert_eq!(made("v1", json!({"replicas": 1})), None);
    }
}
