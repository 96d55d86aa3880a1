//! JSON patches (RFC 6902) for a manifest as written.
//!
//! A patch is built from the text of the manifest. Only the parts that a fix needs are parsed, so that a denial with a
//! fix costs little more than one without.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::Manifest;
use crate::budget;
use crate::json::Key;
use crate::model::{Direction, Path, Step};

/// A JSON patch: operations in order.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Patch(Vec<Operation>);

#[derive(Clone, Debug, serde::Serialize)]
struct Operation {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

impl Patch {
    /// Sets a field of an object, or inserts a value before an item of an array.
    pub fn add(&mut self, path: &Path, value: &(impl Serialize + ?Sized)) {
        self.push("add", path.pointer(), value);
    }

    /// Appends a value to an existing list.
    pub(super) fn push_item(&mut self, list: &Path, value: &impl Serialize) {
        self.push("add", format!("{}/-", list.pointer()), value);
    }

    /// Appends a value to a list. Creates the list and its parent if they are missing. None if the existing value is
    /// not a list.
    pub(super) fn append(&mut self, manifest: &Manifest<'_>, list: &Path, value: &impl Serialize) -> Option<()> {
        let found = find(manifest, list);
        match found.map(RawValue::get) {
            Some(text) if text.starts_with('[') => self.push_item(list, value),
            Some("null") | None => {
                let parent = list.parent();
                if find(manifest, &parent).is_none_or(|parent| parent.get() == "null") {
                    self.push("add", parent.pointer(), &serde_json::Map::new());
                }
                self.push("add", list.pointer(), &[value]);
            }
            Some(_) => return None,
        }
        Some(())
    }

    /// Sets a list of directions, with their names in manifests.
    pub(super) fn add_types(&mut self, path: &Path, directions: &[Direction]) {
        let name = |direction: &Direction| if *direction == Direction::Ingress { "Ingress" } else { "Egress" };
        self.add(path, &directions.iter().map(name).collect::<Vec<_>>());
    }

    /// Removes the value at a path.
    pub fn remove(&mut self, path: &Path) {
        self.0.push(Operation { op: "remove", path: path.pointer(), value: None });
    }

    /// Returns true if the patch has no operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the operations of another patch.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Applies the patch to a manifest. None if it does not apply.
    #[must_use]
    pub fn applied_to(&self, manifest: &Value) -> Option<Value> {
        let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(self).ok()?).ok()?;
        let mut manifest = manifest.clone();
        json_patch::patch(&mut manifest, &patch).ok()?;
        Some(manifest)
    }

    fn push(&mut self, op: &'static str, path: String, value: &(impl Serialize + ?Sized)) {
        // Serialization cannot fail for these values: their map keys are strings.
        if let Ok(value) = to_raw_value(value) {
            self.0.push(Operation { op, path, value: Some(value) });
        }
    }
}

/// The text of a part of the manifest's spec, or of one of its specs.
pub(super) fn find<'a>(manifest: &Manifest<'a>, path: &Path) -> Option<&'a RawValue> {
    let (first, rest) = path.steps().split_first()?;
    let written = match first {
        Step::Field(name) if name == "spec" => manifest.written.spec?,
        Step::Field(name) if name == "specs" => manifest.written.specs?,
        _ => return None,
    };
    rest.iter().try_fold(written, |part, step| {
        budget::charge(part.get().len() / 64);
        Pick { step, of: PhantomData }.deserialize(&mut serde_json::Deserializer::from_str(part.get())).ok()?
    })
}

/// Picks one part of an object or array, and skips the others.
struct Pick<'s, 'a> {
    step: &'s Step,
    of: PhantomData<&'a ()>,
}

impl<'a> DeserializeSeed<'a> for Pick<'_, 'a> {
    type Value = Option<&'a RawValue>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Pick<'_, 'a> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let wanted = match self.step {
            Step::Field(name) => name,
            Step::Key(key) => &**key,
            Step::Index(_) => return Err(A::Error::custom("no array")),
        };
        let mut found = None;
        while let Some(Key(key)) = map.next_key()? {
            if key == wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Step::Index(wanted) = self.step else { return Err(A::Error::custom("no object")) };
        let mut found = None;
        let mut position = 0;
        while let Some(item) = items.next_element::<&'a RawValue>()? {
            if position == *wanted {
                found = Some(item);
            }
            position += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;

    #[test]
    fn parts_are_found_as_they_are_written() {
        let json = r#"{"spec": {"egress": [{"a": 1}, {"b/c":  "é" }]}, "x": null}"#;
        let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", json, Origin::Author).unwrap();
        let egress = Path::root().field("spec").field("egress");
        let text = |path: &Path| find(&manifest, path).map(RawValue::get);
        assert_eq!(text(&egress.index(1)), Some(r#"{"b/c":  "é" }"#));
        assert_eq!(text(&egress.index(1).key("b/c")), Some(r#""é""#));
        assert_eq!(text(&Path::root().field("x")), None, "what has no meaning here is not kept");
        assert_eq!(text(&egress.index(2)), None);
        assert_eq!(text(&egress.field("a")), None);
    }
}
