//! Finds the field manager that keeps reverting writes of the controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::executor::{Executor, PlanInput};
use super::write_conflicts::Write;
use crate::baseline::{CONTESTED, truncate_note};
use crate::model::ObjectRef;
use crate::view::{FIELD_MANAGER, Site};

/// Maximum number of objects that a report names.
const MAX_OBJECTS: usize = 3;

/// The change with which another client reverted a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revert<'a> {
    Deleted,
    Changed(Option<&'a str>),
}

impl Executor {
    /// Describes the conflict over these writes: each object and the field manager that changes it.
    pub(super) async fn describe_conflict(&self, site: &Site, input: Option<&PlanInput>, writes: &[&Write]) -> String {
        let mut parts = Vec::new();
        for write in writes.iter().take(MAX_OBJECTS) {
            let part = match (write, input) {
                (Write::Applied(object, _), _) => self.describe_policy(object, site).await,
                (_, Some(input)) => self.describe_namespace(input, site).await,
                (_, None) => continue,
            };
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        if writes.len() > MAX_OBJECTS {
            parts.push(format!("{} more objects", writes.len() - MAX_OBJECTS));
        }
        truncate_note(format!("{CONTESTED}{}", parts.join(", ")))
    }

    async fn describe_policy(&self, object: &ObjectRef, site: &Site) -> String {
        let found = match self.api(object, object.namespace.as_deref()) {
            Ok(api) => api.get_metadata_opt(&object.name).await.ok(),
            Err(_) => None,
        };
        match found {
            None => describe(object, Revert::Changed(None)),
            Some(None) => describe(object, Revert::Deleted),
            Some(Some(live)) => {
                let entries = live.metadata.managed_fields.unwrap_or_default();
                describe(object, Revert::Changed(other_manager(&entries, site)))
            }
        }
    }

    async fn describe_namespace(&self, input: &PlanInput, site: &Site) -> String {
        let id = ObjectRef {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            namespace: None,
            name: (&*input.name).into(),
        };
        let live = self.live(input).await.ok();
        let entries = live.and_then(|live| live.managed_fields).unwrap_or_default();
        describe(&id, Revert::Changed(other_manager(&entries, site)))
    }
}

fn describe(object: &ObjectRef, revert: Revert<'_>) -> String {
    match revert {
        Revert::Deleted => format!("{object} is deleted each time (the audit log names the user)"),
        Revert::Changed(Some(manager)) => format!("{object} is changed by field manager {manager}"),
        Revert::Changed(None) => format!("{object} is changed by an unknown field manager"),
    }
}

/// Returns the last field manager, other than the controller's, that wrote the spec or a label or annotation of
/// Portcullis. `None` if only the controller's field manager wrote them, which is then used by a second controller.
fn other_manager<'a>(entries: &'a [ManagedFieldsEntry], site: &Site) -> Option<&'a str> {
    let domains = [format!("f:{}/", site.label_domain), format!("f:access.{}/", site.label_domain)];
    let is_ours = |key: &String| domains.iter().any(|domain| key.starts_with(&**domain));
    let writes_ours = |fields: &Value| {
        let keys = |part: &str| fields.pointer(&format!("/f:metadata/{part}")).and_then(Value::as_object);
        let parts = [keys("f:labels"), keys("f:annotations")];
        ["f:spec", "f:specs"].iter().any(|part| fields.get(part).is_some())
            || parts.into_iter().flatten().flat_map(|keys| keys.keys()).any(is_ours)
    };
    let others = entries.iter().filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    let wrote = others.filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| writes_ours(&fields.0)));
    wrote.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use serde_json::json;

    #[test]
    fn the_last_other_writer_is_named() {
        let site = Configuration::shipped().unwrap().site;
        let entry = |manager: &str, second: u32, fields: Value| -> ManagedFieldsEntry {
            let time = format!("2026-11-28T12:00:{second:02}Z");
            serde_json::from_value(json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields}))
                .unwrap()
        };
        let label = json!({"f:metadata": {"f:labels": {format!("f:{}/enforcement", site.label_domain): {}}}});
        let entries = [
            entry("kubectl-edit", 1, json!({"f:spec": {"f:ingress": {}}})),
            entry("flux", 2, label),
            entry(FIELD_MANAGER, 3, json!({"f:spec": {}})),
            entry("labeller", 4, json!({"f:metadata": {"f:labels": {"f:team": {}}}})),
        ];
        assert_eq!(other_manager(&entries, &site), Some("flux"));
        assert_eq!(other_manager(&entries[..1], &site), Some("kubectl-edit"));
        assert_eq!(other_manager(&entries[2..], &site), None);
    }

    #[test]
    fn a_report_names_object_and_manager() {
        let id = ObjectRef {
            api_version: "networking.k8s.io/v1".into(),
            kind: "NetworkPolicy".into(),
            namespace: Some("shop".into()),
            name: "portcullis-x".into(),
        };
        let text = describe(&id, Revert::Changed(Some("kubectl-edit")));
        assert_eq!(text, "NetworkPolicy shop/portcullis-x is changed by field manager kubectl-edit");
        assert!(describe(&id, Revert::Deleted).contains("is deleted each time"));
    }
}
