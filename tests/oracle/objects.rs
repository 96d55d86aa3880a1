//! The namespaces and pods of a world as Kubernetes objects.

use serde_json::{Value, json};

use super::{Pod, World};

impl World {
    /// The namespaces and pods. The policies are [`World::manifests`].
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.namespace_objects().chain(self.pods.iter().map(Pod::object)).collect()
    }

    /// The namespaces.
    pub(crate) fn namespace_objects(&self) -> impl Iterator<Item = Value> {
        self.namespaces.iter().map(|(name, labels)| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "uid": name}})
        })
    }
}

impl Pod {
    /// The pod.
    pub(crate) fn object(&self) -> Value {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| json!({"name": port.name, "protocol": port.protocol, "containerPort": port.number}))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels},
            "spec": {"serviceAccountName": self.service_account, "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": self.address, "podIPs": [{"ip": self.address}]},
        })
    }
}
