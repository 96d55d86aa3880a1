//! The maps of strings in a manifest: labels and annotations.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::model::Labels;

/// The endings of the annotation keys that Portcullis reads, under any domain.
pub(super) const ANNOTATIONS: [&str; 10] = [
    "/exempt",
    "/reason",
    "/until",
    "/scrape",
    "/port",
    "/opened",
    "/opened-by",
    "/baseline-status",
    "/owner",
    "/team",
];

/// Returns true if Portcullis reads this annotation.
pub(super) fn means_something(annotation: &str) -> bool {
    ANNOTATIONS.iter().any(|name| annotation.ends_with(name))
}

/// A map of strings. A null value is read as an empty string, as in Go.
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
