//! The metadata that every object has.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Manifest, Origin};
use crate::model::{Labels, ObjectRef};

/// `metadata`, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: Option<Box<str>>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) labels: Option<LabelMap>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
}

impl Meta {
    /// The object that a manifest with this metadata is about. A request knows the namespace, a file may not.
    pub(super) fn id(&self, manifest: &Manifest<'_>) -> ObjectRef {
        let namespace = match manifest.origin {
            Origin::Author => None,
            Origin::Server { namespace } => namespace.map(Box::from),
        };
        ObjectRef {
            api_version: manifest.api_version.into(),
            kind: manifest.kind.into(),
            namespace: self.namespace.clone().filter(|namespace| !namespace.is_empty()).or(namespace),
            name: self.name.clone().unwrap_or_default(),
        }
    }

    pub(super) fn deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(super) fn labels(self) -> Labels {
        self.labels.map(|LabelMap(labels)| labels).unwrap_or_default()
    }
}

/// A map of strings. A null value counts as the empty text, as in Go.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelMap(pub(super) Labels);

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = LabelMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelMap, A::Error> {
                let mut labels: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some((key, value)) = map.next_entry::<Box<str>, Option<Box<str>>>()? {
                    labels.push((key, value.unwrap_or_default()));
                }
                Ok(LabelMap(labels.into_iter().collect()))
            }
        }
        deserializer.deserialize_map(Map)
    }
}
