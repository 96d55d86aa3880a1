//! The status annotation of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::Catalogue;
use super::super::note::truncate_note;
use super::super::policy_set::Layer;
use super::{Label, Plan, Step, plan_cluster};
use crate::model::Labels;
use crate::view::{HatchFault, NamespaceFacts, Owned};

impl Plan {
    /// Puts a write conflict in front of the status.
    pub(crate) fn report_conflict(&mut self, catalogue: &Catalogue, facts: &NamespaceFacts, conflict: &str) {
        if let Some(status) = &self.status {
            let reported = format!("{conflict}; {status}");
            self.replace_status(catalogue, facts, reported);
        }
    }

    /// Adds deletions that have to wait to the status.
    pub(crate) fn report_pending(&mut self, catalogue: &Catalogue, facts: &NamespaceFacts, pending: &[Owned]) {
        if let Some(status) = &self.status {
            let names: Vec<&str> = pending.iter().map(|owned| &*owned.object.name).collect();
            let reported = format!("{status}; will be deleted, because the file was removed: {}", names.join(", "));
            self.replace_status(catalogue, facts, reported);
        }
    }

    /// Replaces the status. The plan writes it only if the namespace has another status or label.
    fn replace_status(&mut self, catalogue: &Catalogue, facts: &NamespaceFacts, reported: String) {
        let reported = truncate_note(reported);
        self.status = Some(reported.clone());
        let annotation = catalogue.site.status_annotation();
        let is_said = facts.annotations.get(&annotation).is_some_and(|said| said == reported);
        let marks = |step: &Step| matches!(step, Step::Mark { .. });
        let is_applied =
            facts.labels.as_ref().and_then(|labels| labels.get(&catalogue.site.baseline_label())) == Some("applied");
        match self.steps.iter_mut().find(|step| marks(step)) {
            Some(Step::Mark { label, status }) if !is_said || *label == Label::Applied && !is_applied => {
                *status = reported;
            }
            Some(_) => self.steps.retain(|step| !marks(step)),
            None if !is_said => self.steps.push(Step::Mark { label: Label::AsItIs, status: reported }),
            None => {}
        }
    }
}

/// The layers of policies that were applied with another `labelDomain` and are not adopted, by that domain.
pub(super) fn earlier<'a>(
    catalogue: &Catalogue,
    layers: &[Layer],
    owned: impl Iterator<Item = &'a Owned>,
) -> BTreeMap<&'a str, BTreeSet<Layer>> {
    let mut found: BTreeMap<&str, BTreeSet<Layer>> = BTreeMap::new();
    let is_adopted = |owned: &Owned| {
        let mut wanted = catalogue.entries().iter().filter(|entry| layers.contains(&entry.layer));
        wanted.any(|entry| entry.is(&owned.object))
    };
    for owned in owned.filter(|owned| owned.is_applied && !is_adopted(owned)) {
        if let (Some(domain), Some(layer)) = (owned.domain.as_deref(), Layer::read(&owned.layer)) {
            // A hatch is closed, not kept.
            if layer != Layer::Hatch {
                found.entry(domain).or_default().insert(layer);
            }
        }
    }
    found
}

/// The cluster-wide policies of another policy set. They stay until an administrator deletes them.
#[must_use]
pub fn kept_in_cluster<'a>(catalogue: &Catalogue, owned: &'a [Owned]) -> Vec<&'a Owned> {
    let deleted = plan_cluster(catalogue, owned).steps;
    let is_deleted =
        |uid: &str| deleted.iter().any(|step| matches!(step, Step::Delete { owned, .. } if *owned.uid == *uid));
    let is_wanted = |owned: &Owned| catalogue.entries().iter().any(|entry| entry.of_cluster && entry.is(&owned.object));
    let is_kept = |owned: &&Owned| {
        owned.is_applied && Layer::read(&owned.layer).is_some() && !is_wanted(owned) && !is_deleted(&owned.uid)
    };
    owned.iter().filter(is_kept).collect()
}

/// Formats the number of these policies by kind: `14 CiliumClusterwideNetworkPolicy`.
pub(crate) fn by_kind(owned: &[&Owned]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for owned in owned {
        match kinds.iter_mut().find(|(kind, _)| *kind == &*owned.object.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&owned.object.kind, 1)),
        }
    }
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Policies that stay although the namespace should no longer have them.
pub(super) struct Kept<'a> {
    /// The layers of the namespaced policies.
    pub(super) layers: Vec<Layer>,
    /// The layers among them that were applied with another `labelDomain`, by that domain.
    pub(super) earlier: BTreeMap<&'a str, BTreeSet<Layer>>,
    /// The number of cluster-wide policies by kind, as text.
    pub(super) in_cluster: String,
}

/// Returns the text of the status annotation, if the namespace should have one.
pub(super) fn status(
    catalogue: &Catalogue,
    labels: &Labels,
    due: bool,
    layers: &[Layer],
    kept: &Kept<'_>,
    hatch: Option<&Result<crate::view::Hatch<'_>, HatchFault<'_>>>,
) -> Option<String> {
    let site = &catalogue.site;
    let list =
        |layers: &mut dyn Iterator<Item = &Layer>| layers.map(ToString::to_string).collect::<Vec<String>>().join(", ");
    let mut parts = Vec::new();
    if due {
        let is_applied = |layer: &&Layer| **layer != Layer::Hatch && catalogue.has(layer) && !catalogue.waits(layer);
        parts.push(format!("applied: {}", list(&mut layers.iter().filter(is_applied))));
    }
    if !kept.layers.is_empty() {
        parts.push(format!("kept: {}", list(&mut kept.layers.iter())));
    }
    if parts.is_empty() {
        return None;
    }
    let waiting: Vec<&Layer> = layers.iter().filter(|layer| catalogue.waits(layer)).collect();
    if !waiting.is_empty() {
        let waiting = list(&mut waiting.into_iter());
        parts.push(format!("waiting until the endpoints of the API server are known: {waiting}"));
    }
    for (domain, layers) in &kept.earlier {
        parts.push(format!("found with labelDomain {domain}: {}", list(&mut layers.iter())));
    }
    if due && !kept.in_cluster.is_empty() {
        parts.push(format!("kept cluster-wide: {}", kept.in_cluster));
    }
    if due && let Some(profile) = labels.get(&site.profile_label()).filter(|_| catalogue.profile(labels).is_none()) {
        parts.push(format!("unknown profile {profile}"));
    }
    match hatch {
        Some(Ok(_)) if !catalogue.has(&Layer::Hatch) => {
            parts.push("hatch without effect: no hatch policy is configured".into());
        }
        Some(Ok(hatch)) => parts.push(format!("hatch open until {}", hatch.until)),
        // The plan closes this hatch.
        Some(Err(HatchFault::Over(_) | HatchFault::TooLate { .. })) | None => {}
        Some(Err(fault)) => parts.push(format!("hatch not open: {fault}")),
    }
    Some(truncate_note(parts.join("; ")))
}

/// Returns the step that writes the status, unless the namespace has it already.
pub(super) fn mark(
    catalogue: &Catalogue,
    facts: &NamespaceFacts,
    labels: &Labels,
    due: bool,
    status: &str,
) -> Option<Step> {
    let site = &catalogue.site;
    let is_said = facts.annotations.get(&site.status_annotation()) == Some(status)
        && (!due || labels.get(&site.baseline_label()) == Some("applied"));
    let label = if due { Label::Applied } else { Label::AsItIs };
    (!is_said).then(|| Step::Mark { label, status: status.to_owned() })
}

/// Returns the step that corrects the label of a namespace that should have no baseline, but is labelled `pending` or
/// `applied`. Only the controller may change this label, and pods would keep waiting for the baseline.
pub(super) fn unmark(catalogue: &Catalogue, facts: &NamespaceFacts, labels: &Labels, is_open: bool) -> Option<Step> {
    let (label, status) = match labels.get(&catalogue.site.baseline_label())? {
        "pending" | "applied" if is_open => (Label::Gone, "not applied: no cluster-wide policy selects this namespace"),
        "pending" => (Label::Gone, "not applied: platform or excluded namespace"),
        // Existing policies stay, but are not reconciled any more.
        "applied" => (Label::AsItIs, "not reconciled: platform or excluded namespace"),
        _ => return None,
    };
    let is_said = label == Label::AsItIs
        && facts.annotations.get(&catalogue.site.status_annotation()).is_some_and(|said| said == status);
    (!is_said).then(|| Step::Mark { label, status: status.to_owned() })
}
