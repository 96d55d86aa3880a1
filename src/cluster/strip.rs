//! Strips objects as they arrive, before they are parsed. Of the status only the address of a pod is kept, and
//! `managedFields` are dropped.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::view::FIELD_MANAGER;

/// An object that has arrived. It is stripped during deserialization, so that a page of a list takes little memory.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// The name, namespace, UID and resource version.
    meta: ObjectMeta,
    /// The stripped object.
    json: String,
    /// True if the baseline controller applied the object.
    is_applied: bool,
}

/// The annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An entry of `managedFields`, without the fields that it lists.
#[derive(Debug, Deserialize)]
struct Manager {
    #[serde(default)]
    manager: Option<String>,
    #[serde(default)]
    operation: Option<String>,
}

/// The part of a status that is kept.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(rename = "podIP", default)]
    pod_ip: Option<Value>,
}

/// The parts of an object that are kept.
#[derive(Debug, Default, Serialize)]
struct Stripped {
    metadata: Metadata,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
struct Metadata {
    fields: Map<String, Value>,
    #[serde(skip)]
    is_applied: bool,
}

impl Arriving {
    /// Returns the stripped object as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns true if the baseline controller applied the object.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.is_applied
    }
}

impl<'de> Deserialize<'de> for Arriving {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut stripped = deserializer.deserialize_map(Object)?;
        let is_applied = stripped.metadata.is_applied;
        let fields = &mut stripped.metadata.fields;
        if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let json = serde_json::to_string(&stripped).map_err(serde::de::Error::custom)?;
        Ok(Self { meta, json, is_applied })
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Stripped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of a cluster")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stripped, A::Error> {
        let mut stripped = Stripped::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "metadata" => stripped.metadata = map.next_value()?,
                "status" => {
                    let Status { pod_ip } = map.next_value::<Option<Status>>()?.unwrap_or_default();
                    if let Some(address) = pod_ip {
                        stripped.rest.insert(key.into_owned(), json!({ "podIP": address }));
                    }
                }
                _ => drop(stripped.rest.insert(key.into_owned(), map.next_value()?)),
            }
        }
        Ok(stripped)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut metadata = Metadata::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    if key == "managedFields" {
                        let managers: Option<Vec<Manager>> = map.next_value()?;
                        metadata.is_applied = managers.iter().flatten().any(|entry| {
                            entry.manager.as_deref() == Some(FIELD_MANAGER)
                                && entry.operation.as_deref() == Some("Apply")
                        });
                    } else {
                        metadata.fields.insert(key.into_owned(), map.next_value()?);
                    }
                }
                Ok(metadata)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Resource for Arriving {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.kind).into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.group).into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.version).into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.api_version).into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.plural).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(object: &Value) -> Arriving {
        let text = serde_json::from_str(&object.to_string()).unwrap();
        let value: Arriving = serde_json::from_value(object.clone()).unwrap();
        let text: Arriving = text;
        assert_eq!(text.json, value.json);
        value
    }

    #[test]
    fn what_means_nothing_here_does_not_get_in() {
        let arrived = arriving(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {"app": "a"},
                "annotations": {LAST_APPLIED: "{}", "prometheus.io/scrape": "true"},
                "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}],
            },
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        }));
        let left: Value = serde_json::from_str(arrived.json()).unwrap();
        assert_eq!(
            left,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {"app": "a"},
                    "annotations": {"prometheus.io/scrape": "true"},
                },
                "spec": {"nodeName": "n"},
                "status": {"podIP": "10.0.0.1"},
            })
        );
        for status in [json!(null), json!({"phase": "Pending"}), json!({"conditions": []})] {
            assert!(!arriving(&json!({"metadata": {}, "status": status})).json().contains("status"), "{status}");
        }
        assert_eq!(arrived.meta().name.as_deref(), Some("a"));
        assert_eq!(arrived.meta().resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn only_what_the_controller_applied_is_applied_by_it() {
        let applied = |manager: &str, operation: &str| {
            let entry = json!({"manager": manager, "operation": operation, "fieldsV1": {}});
            arriving(&json!({"metadata": {"managedFields": [{"manager": "x"}, entry]}})).is_applied()
        };
        assert!(applied(FIELD_MANAGER, "Apply"));
        assert!(!applied(FIELD_MANAGER, "Update"));
        assert!(!applied("kubectl", "Apply"));
        assert!(!arriving(&json!({"metadata": {"managedFields": null}})).is_applied());
    }
}
