//! Opens and closes hatches: records them on the namespace, and reports them.
//!
//! An annotation of the namespace records that a hatch is open, and since when. It outlives this process, and ensures
//! that each opening and closing is reported once.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::error::Failure;
use super::executor::{Executor, PlanInput};
use crate::model::Labels;
use crate::view::HatchFault;

impl Executor {
    /// Records that a hatch is open, and since when.
    pub(super) async fn open_hatch(&self, input: &PlanInput, reason: &str, until: Timestamp) -> Result<(), Failure> {
        let site = &input.catalogue.site;
        let live = self.live(input).await?;
        let opened = site.opened_annotation();
        // The view may lag behind our own writes.
        if live.annotations.iter().flatten().any(|(key, _)| *key == opened) {
            return Ok(());
        }
        let now = Timestamp::now();
        let second = now.round(jiff::Unit::Second).unwrap_or(now);
        let metadata = json!({
            "resourceVersion": live.resource_version,
            "annotations": {opened: second.to_string()},
        });
        self.metrics.wrote("hatch");
        self.patch_namespace(input, metadata, "recording the open hatch").await?;
        self.metrics.hatch_changed("opened");
        let opened_by = live.annotations.as_ref().and_then(|annotations| annotations.get(&site.opened_by_annotation()));
        let opened_by = opened_by.map_or("unknown", String::as_str);
        tracing::warn!(namespace = %input.name, reason, %until, opened_by, "hatch opened");
        let note = format!("Enforcement is switched off until {until} by {opened_by}: {reason}");
        self.announcer.say(&input.name, &input.facts.uid, true, "HatchOpened", note).await;
        Ok(())
    }

    /// Closes a hatch that has ended, and removes the record of a closed one.
    pub(super) async fn close_hatch(&self, input: &PlanInput) -> Result<(), Failure> {
        let site = &input.catalogue.site;
        let live = self.live(input).await?;
        let labels: Labels = live.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let annotations = live.annotations.unwrap_or_default();
        let known: Labels = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        // A user may have opened it again since the plan was computed.
        let is_label_there = labels.get(&site.enforcement_label()) == Some("disabled");
        let why = match site.hatch(&labels, &known, Timestamp::now()) {
            Some(Ok(_)) => return Ok(()),
            Some(Err(HatchFault::Over(until))) => format!("it expired at {until}"),
            Some(Err(fault)) => fault.to_string(),
            None if is_label_there => "the namespace is now a platform or excluded namespace".to_owned(),
            None => "its label was removed".to_owned(),
        };
        let stale =
            [site.opened_annotation(), site.opened_by_annotation(), site.reason_annotation(), site.until_annotation()];
        // A reason without the hatch label is for a future hatch. A reason next to an exemption may be that of the
        // exemption.
        let are_of_the_hatch = is_label_there && !annotations.contains_key(&site.exempt_annotation());
        let stale = stale.iter().take(if are_of_the_hatch { 4 } else { 2 });
        let gone: Map<String, Value> =
            stale.filter(|key| annotations.contains_key(*key)).map(|key| (key.clone(), Value::Null)).collect();
        if gone.is_empty() && !is_label_there {
            return Ok(());
        }
        let was_noted = gone.contains_key(&site.opened_annotation());
        let mut metadata = json!({"resourceVersion": live.resource_version, "annotations": gone});
        if is_label_there && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("labels".into(), json!({site.enforcement_label(): null}));
        }
        self.metrics.wrote("hatch");
        self.patch_namespace(input, metadata, "closing the hatch").await?;
        if was_noted {
            self.metrics.hatch_changed("closed");
        }
        let opened_by = annotations.get(&site.opened_by_annotation()).map_or("unknown", String::as_str);
        tracing::warn!(namespace = %input.name, why, opened_by, "hatch closed");
        let note = format!("Enforcement is switched on again: {why}");
        self.announcer.say(&input.name, &input.facts.uid, false, "HatchClosed", note).await;
        Ok(())
    }
}
