//! `portcullis hatch list`: the namespaces where enforcement is switched off.

use std::io::Write as _;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::now;
use crate::cli::output::{Output, print_json};
use crate::cli::{BOLD, OK, YELLOW};
use crate::cluster::{Owned, words, written};
use crate::model::Labels;
use crate::view::Site;

pub(super) async fn list(site: &Site, namespaces: &Api<Namespace>, output: Output) -> Result<u8> {
    let found = namespaces.list(&ListParams::default()).await;
    let found = found.map_err(|error| anyhow!("failed to list namespaces: {}", words(&error)))?;
    let now = now()?;
    let hatches: Vec<Value> = found.items.iter().filter_map(|namespace| row(site, namespace, now)).collect();
    if output == Output::Json {
        print_json(&json!({ "hatches": hatches }))?;
        return Ok(OK);
    }
    let mut out = anstream::stdout().lock();
    if hatches.is_empty() {
        writeln!(out, "No hatch is open.")?;
    }
    for hatch in &hatches {
        let text = |field: &str| hatch.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
        writeln!(
            out,
            "{BOLD}{}{BOLD:#}  since {}, until {}, opened by {}: {}",
            text("namespace"),
            text("since"),
            text("until"),
            text("openedBy"),
            text("reason")
        )?;
        if let Some(fault) = hatch.get("fault").and_then(Value::as_str) {
            writeln!(out, "  {YELLOW}not in effect{YELLOW:#}: {fault}")?;
        }
    }
    Ok(OK)
}

/// Returns the hatch of a namespace, and the reason if it is not in effect. None if the namespace has no hatch.
fn row(site: &Site, namespace: &Namespace, now: Timestamp) -> Option<Value> {
    let labels: Labels = namespace.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let annotations: Labels =
        namespace.annotations().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let fault = match site.hatch(&labels, &annotations, now) {
        Some(hatch) => hatch.err().map(|fault| fault.to_string()),
        // The controller removes its annotation together with its policies.
        None if annotations.get(&site.opened_annotation()).is_some() => {
            Some("the label is removed, but the hatch policy is not deleted yet".to_owned())
        }
        None => return None,
    };
    Some(json!({
        "namespace": namespace.name_any(),
        "since": since(site, namespace, now).map(|since| since.to_string()),
        "until": annotations.get(&site.until_annotation()),
        "openedBy": annotations.get(&site.opened_by_annotation()),
        "reason": annotations.get(&site.reason_annotation()),
        "inEffect": fault.is_none(),
        "fault": fault,
    }))
}

/// Returns the time at which the hatch was opened, as the controller recorded it. Until the controller has recorded it,
/// and without a controller, this is the time at which the label was written.
fn since(site: &Site, namespace: &Namespace, now: Timestamp) -> Option<Timestamp> {
    let noted = namespace.annotations().get(&site.opened_annotation()).and_then(|noted| noted.parse().ok());
    noted
        .map(|noted: Timestamp| noted.min(now))
        // Extending a hatch writes the label again.
        .or_else(|| written(namespace, Owned::Label(&site.enforcement_label())))
}

#[cfg(test)]
mod tests {
    use super::super::FIELD_MANAGER;
    use super::super::tests::{DOMAIN, namespace, site};
    use super::*;

    #[test]
    fn a_listed_hatch_says_since_when_and_whether_it_is_in_effect() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let fields = json!([
            {"manager": "kubectl", "time": "2026-11-20T00:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
            {"manager": FIELD_MANAGER, "time": "2026-11-21T11:30:00Z",
             "fieldsV1": {"f:metadata": {"f:labels": {format!("f:{DOMAIN}/enforcement"): {}}}}},
        ]);
        let hatch = |until: Option<&str>| {
            let annotations = json!({
                format!("{DOMAIN}/reason"): "INC-1", format!("{DOMAIN}/until"): until, format!("{DOMAIN}/opened-by"): "ada",
            });
            let mut metadata = json!({
                "name": "shop", "labels": {format!("{DOMAIN}/enforcement"): "disabled"}, "managedFields": fields,
                "annotations": annotations,
            });
            if until.is_none() {
                metadata["annotations"] = json!({});
            }
            row(&site(), &namespace(&metadata), now).unwrap()
        };
        let open = hatch(Some("2026-11-21T13:00:00Z"));
        assert_eq!(open["since"], "2026-11-21T11:30:00Z");
        assert_eq!(open["openedBy"], "ada");
        assert_eq!((&open["inEffect"], &open["fault"]), (&json!(true), &Value::Null));
        let over = hatch(Some("2026-11-21T11:00:00Z"));
        assert_eq!(
            (&over["inEffect"], &over["fault"]),
            (&json!(false), &json!("the end time 2026-11-21T11:00:00Z is past"))
        );
        assert_eq!(hatch(None)["fault"], "no reason is given");
    }

    /// Each write of its field manager changes the time of the label.
    #[test]
    fn a_hatch_that_is_prolonged_is_open_since_it_was_opened() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let since = |noted: Option<&str>| {
            let mut annotations =
                json!({format!("{DOMAIN}/reason"): "INC-1", format!("{DOMAIN}/until"): "2026-11-21T13:00:00Z"});
            if let Some(noted) = noted {
                annotations[format!("{DOMAIN}/opened")] = json!(noted);
            }
            let row = row(
                &site(),
                &namespace(&json!({
                    "name": "shop", "labels": {format!("{DOMAIN}/enforcement"): "disabled"}, "annotations": annotations,
                    "managedFields": [{"manager": FIELD_MANAGER, "time": "2026-11-21T11:59:00Z",
                        "fieldsV1": {"f:metadata": {"f:labels": {format!("f:{DOMAIN}/enforcement"): {}}}}}],
                })),
                now,
            )
            .unwrap();
            row["since"].as_str().unwrap().to_owned()
        };
        assert_eq!(since(Some("2026-11-21T10:00:00Z")), "2026-11-21T10:00:00Z");
        assert_eq!(
            since(Some("2026-11-22T10:00:00Z")),
            "2026-11-21T12:00:00Z",
            "not from some time on that is to come"
        );
        for unknown in [None, Some("yesterday")] {
            assert_eq!(since(unknown), "2026-11-21T11:59:00Z");
        }
    }
}
