//! The patch for a stored object after a denied update.

use serde_json::{Map, Value};

use super::{Manifest, Patch};
use crate::budget;
use crate::model::Path;

/// Maximum length of a spec, and of the annotations of an object, in bytes. Longer ones are not compared.
const MAX_COMPARED: usize = 16 * 1024;
/// The annotation that `kubectl apply` writes. It changes with every change of the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The patch that makes a denied update together with its fix.
///
/// The fix alone does not apply to the stored object, because the update was not stored. None if the update changes more
/// than the spec, or if the object is too large.
#[must_use]
pub(crate) fn with_update(old: &Manifest<'_>, new: &Manifest<'_>, fix: &Patch) -> Option<Patch> {
    let has_other_parts =
        |manifest: &Manifest<'_>| manifest.written.specs.is_some() || manifest.written.template.is_some();
    if has_other_parts(old) || has_other_parts(new) || !has_same_metadata(old, new)? {
        return None;
    }
    let (before, after) = (spec(old)?, Map::from_iter([("spec".to_owned(), Value::Object(spec(new)?))]));
    let fixed = fix.applied_to(&Value::Object(after))?;
    let after = fixed.get("spec")?.as_object()?;
    let mut patch = Patch::default();
    let path = |field: &str| Path::root().field("spec").unknown_field(field);
    for (field, value) in after.iter().filter(|(field, value)| before.get(*field) != Some(value)) {
        patch.add(&path(field), value);
    }
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        patch.remove(&path(field));
    }
    Some(patch)
}

fn spec(manifest: &Manifest<'_>) -> Option<Map<String, Value>> {
    let text = manifest.written.spec?.get();
    parse(text)
}

/// Returns true if the labels and annotations are the same, apart from the annotation of `kubectl apply`.
fn has_same_metadata(old: &Manifest<'_>, new: &Manifest<'_>) -> Option<bool> {
    let labels =
        |manifest: &Manifest<'_>| manifest.metadata().labels.map_or_else(|| Some(Map::new()), |text| parse(text.get()));
    let annotations = |manifest: &Manifest<'_>| {
        let mut annotations =
            manifest.metadata().annotations.map_or_else(|| Some(Map::new()), |text| parse(text.get()))?;
        annotations.remove(LAST_APPLIED);
        Some(annotations)
    };
    Some(labels(old)? == labels(new)? && annotations(old)? == annotations(new)?)
}

/// Parses an object. Null is an empty object. None if it is too long.
fn parse(text: &str) -> Option<Map<String, Value>> {
    if text.len() > MAX_COMPARED {
        return None;
    }
    budget::charge_json(text);
    serde_json::from_str::<Option<Map<String, Value>>>(text).ok().map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::Origin;

    /// The patch for these objects, where the fix appends an egress rule.
    fn patch(old: &Value, new: &Value) -> Option<Value> {
        let (old, new) = (old.to_string(), new.to_string());
        let read = |json| Manifest::read("networking.k8s.io/v1", "NetworkPolicy", json, Origin::Author).unwrap();
        let mut fix = Patch::default();
        fix.push_item(&Path::root().field("spec").field("egress"), &json!({"fixed": true}));
        Some(serde_json::to_value(with_update(&read(&old), &read(&new), &fix)?).unwrap())
    }

    #[test]
    fn the_fields_of_the_spec_that_the_update_changes_are_set_with_the_fix() {
        let old =
            json!({"metadata": {"annotations": {LAST_APPLIED: "a"}}, "spec": {"a/b": 1, "gone": 2, "egress": [1]}});
        let new =
            json!({"metadata": {"annotations": {LAST_APPLIED: "b"}}, "spec": {"a/b": 1, "egress": [2], "made": 3}});
        let patch = patch(&old, &new).unwrap();
        assert_eq!(
            patch,
            json!([
                {"op": "add", "path": "/spec/egress", "value": [2, {"fixed": true}]},
                {"op": "add", "path": "/spec/made", "value": 3},
                {"op": "remove", "path": "/spec/gone"},
            ])
        );
        let mut stored = old;
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut stored, &patch).unwrap();
        assert_eq!(stored["spec"], json!({"a/b": 1, "egress": [2, {"fixed": true}], "made": 3}));
    }

    #[test]
    fn an_update_of_more_than_the_spec_has_no_patch() {
        let object = |metadata: Value| json!({"metadata": metadata, "spec": {"egress": []}});
        let plain = object(json!({"labels": null}));
        assert!(patch(&plain, &object(json!({"annotations": {}}))).is_some());
        assert!(patch(&plain, &object(json!({"labels": {"a": "b"}}))).is_none());
        assert!(patch(&plain, &object(json!({"annotations": {"a": "b"}}))).is_none());
        assert!(patch(&plain, &json!({"spec": {"egress": []}, "specs": []})).is_none());
        assert!(patch(&plain, &json!({"spec": {"egress": ["x".repeat(MAX_COMPARED)]}})).is_none(), "too long");
        assert!(patch(&plain, &json!({"spec": {}})).is_none(), "the fix does not apply");
    }
}
