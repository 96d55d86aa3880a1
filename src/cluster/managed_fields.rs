//! The field managers that own a label or an annotation, from `managedFields`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;

/// The part of the metadata that a field manager may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned<'a> {
    /// The label with this key.
    Label(&'a str),
    /// The annotation with this key.
    Annotation(&'a str),
}

/// Returns the entries of the field managers that own a label or an annotation of an object.
pub fn owners<'a>(object: &'a impl ResourceExt, owned: Owned<'a>) -> impl Iterator<Item = &'a ManagedFieldsEntry> {
    let (map, key) = match owned {
        Owned::Label(key) => ("/f:metadata/f:labels", key),
        Owned::Annotation(key) => ("/f:metadata/f:annotations", key),
    };
    let field = format!("f:{key}");
    object.managed_fields().iter().filter(move |entry| {
        let map = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer(map));
        map.is_some_and(|map| map.get(&field).is_some())
    })
}

/// Returns the earliest last write of the field managers that own a label or an annotation.
pub fn written(object: &impl ResourceExt, owned: Owned<'_>) -> Option<Timestamp> {
    owners(object, owned).filter_map(|entry| entry.time.as_ref()).map(|time| time.0).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::json;

    #[test]
    fn an_owner_is_found_by_the_exact_key_in_its_own_map() {
        let entry = |manager: &str, time: &str, map: &str, key: &str| json!({"manager": manager, "time": time, "fieldsV1": {"f:metadata": {map: {format!("f:{key}"): {}}}}});
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"managedFields": [
            entry("late", "2026-11-21T12:00:00Z", "f:labels", "example.com/a"),
            entry("early", "2026-11-21T11:00:00Z", "f:labels", "example.com/a"),
            entry("longer", "2026-11-21T10:00:00Z", "f:labels", "example.com/ab"),
            entry("annotator", "2026-11-21T09:00:00Z", "f:annotations", "example.com/a"),
        ]}}))
        .unwrap();
        let managers =
            |owned| -> Vec<String> { owners(&namespace, owned).filter_map(|entry| entry.manager.clone()).collect() };
        assert_eq!(managers(Owned::Label("example.com/a")), ["late", "early"]);
        assert_eq!(managers(Owned::Annotation("example.com/a")), ["annotator"]);
        assert_eq!(written(&namespace, Owned::Label("example.com/a")), "2026-11-21T11:00:00Z".parse().ok());
        assert_eq!(written(&namespace, Owned::Annotation("example.com/ab")), None);
    }
}
