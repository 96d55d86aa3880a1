//! Plans the steps for a namespace: a pure function of the desired and the stored policies.
//!
//! Policies without a replacement are deleted first, so that no failed step keeps a hatch open or a grant in force.
//! Replaced policies are deleted after their replacement is applied.
//!
//! A policy is deleted only after a positive change: the namespace has another configured profile, its grant was
//! revoked, its hatch was closed, or the file of the policy was removed while others of its layer remain. A failed
//! match is never a reason: a namespace that loses its baseline label or its profile label keeps its policies.

mod status;

use jiff::Timestamp;

pub(crate) use self::status::by_kind;
pub use self::status::kept_in_cluster;
use self::status::{Kept, earlier, mark, status, unmark};
use super::catalogue::{Catalogue, Entry};
use super::policy_set::Layer;
use crate::model::Labels;
use crate::view::{HatchFault, NamespaceFacts, Owned};

/// The steps for a namespace or for the cluster, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order. A step that does not depend on a failed step is still carried out.
    pub steps: Vec<Step>,
    /// The state of the namespace before the steps.
    pub state: PlanState,
    /// The time at which the plan changes without another event: the end time of the hatch.
    pub wake: Option<Timestamp>,
    /// The time since which the hatch is open. `None` if it is closed, `Some(None)` if it is open and the time is not
    /// recorded. A hatch that should be closed but still has an effect counts as open.
    pub hatch: Option<Option<Timestamp>>,
    /// True if the namespace waits for a cluster-wide policy that is missing or outdated.
    pub waits_for_cluster: bool,
    /// The desired status annotation, if the namespace should have one.
    pub status: Option<String>,
}

/// The state of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanState {
    /// The namespace should have no baseline.
    #[default]
    NotDue,
    /// The namespace gets no baseline because it has neither a baseline label nor a profile label, although new
    /// namespaces get one.
    Unlabelled,
    /// At least one desired policy is missing or outdated, or waits for the endpoints of the API server.
    Pending,
    /// All desired policies are applied.
    Applied,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Applies this entry of the catalogue.
    Apply(usize),
    /// Records that the hatch is open.
    OpenHatch {
        /// The reason that the user gave.
        reason: String,
        /// The end time of the hatch.
        until: Timestamp,
    },
    /// Deletes a policy.
    Delete {
        /// The policy.
        owned: Owned,
        /// The layer that replaces the policy, which has to be applied before.
        after: Option<Layer>,
    },
    /// Closes the hatch: removes its label, and the record that it is open.
    CloseHatch,
    /// Writes the state of the namespace to its label and its status annotation.
    Mark {
        /// The change of the label.
        label: Label,
        /// The text of the annotation.
        status: String,
    },
    /// Removes the scheduling gates of these pods.
    LiftGates(Vec<Box<str>>),
}

/// The change of the label that holds the state of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The label is set to `applied`.
    Applied,
    /// The label is removed, because the namespace should have no baseline.
    Gone,
    /// The label is unchanged.
    AsItIs,
}

/// Plans the steps for a namespace.
#[must_use]
pub fn plan(catalogue: &Catalogue, name: &str, facts: &NamespaceFacts, of_cluster: &[Owned], now: Timestamp) -> Plan {
    let Some(labels) = facts.labels.as_ref().filter(|_| !facts.is_terminating) else { return Plan::default() };
    let is_open = catalogue.is_open_to(name);
    // A namespace that has a baseline keeps it, whatever becomes of its baseline label.
    let has_baseline = facts.owned.iter().any(|owned| owned.is_applied && *owned.layer == *Layer::Baseline.label());
    let meant = catalogue.is_due(name, labels) || is_open && has_baseline;
    let due = meant && catalogue.reaches(&catalogue.layers(labels), labels);
    // The hatch counts even if no policy is applied, because it also turns off the denials of the rules.
    let hatch = catalogue.site.hatch(labels, &facts.annotations, now);
    let mut layers = if due { catalogue.layers(labels) } else { Vec::new() };
    if is_open && matches!(hatch, Some(Ok(_))) {
        layers.push(Layer::Hatch);
    }
    let is_missing = |entry: &Entry| entry.of_cluster && entry.is_for(labels) && !entry.is_among(of_cluster);
    let missing_in_cluster = catalogue.entries().iter().any(|entry| layers.contains(&entry.layer) && is_missing(entry));
    // A replacement has to be applied before the policy that it replaces is deleted.
    let is_held =
        |entry: &Entry| entry.waits && !facts.owned.iter().any(|owned| owned.is_applied && entry.is(&owned.object));
    let is_lacking = |layer: &Layer| {
        let mut of_layer = catalogue.entries().iter().filter(|entry| entry.layer == *layer);
        of_layer.any(|entry| is_missing(entry) || is_held(entry))
    };

    let (mut replaced, mut kept) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    let gated = gated(catalogue, facts);
    let pods_wait = due && catalogue.site.baseline.gate;
    if !gated.is_empty() && !pods_wait {
        steps.push(Step::LiftGates(gated.clone()));
    }
    for owned in &facts.owned {
        let Some(layer) = Layer::read(&owned.layer) else { continue };
        // A hatch is closed in every namespace. Other policies in platform or excluded namespaces are left alone.
        if !is_open && layer != Layer::Hatch {
            continue;
        }
        match outdated(catalogue, labels, due, &layers, owned, &layer) {
            Some(None) => steps.push(Step::Delete { owned: owned.clone(), after: None }),
            Some(Some(after)) if !is_lacking(&after) => {
                replaced.push(Step::Delete { owned: owned.clone(), after: Some(after) });
            }
            _ if !kept.contains(&layer) && is_kept(catalogue, &layers, owned, &layer) => kept.push(layer),
            _ => {}
        }
    }
    let opened = facts.annotations.get(&catalogue.site.opened_annotation());
    if opened.is_some() && !matches!(hatch, Some(Ok(_))) || closes(catalogue, hatch.as_ref()) {
        steps.push(Step::CloseHatch);
    }
    let removals = steps.len();
    for (position, entry) in catalogue.entries().iter().enumerate() {
        // A policy that waits is not applied. It would allow nothing, and replace the last known addresses.
        if layers.contains(&entry.layer) && !entry.of_cluster && !entry.waits && !entry.is_among(&facts.owned) {
            steps.push(Step::Apply(position));
        }
    }
    let waits = layers.iter().any(|layer| catalogue.waits(layer));
    let complete = steps.len() == removals && !missing_in_cluster && !waits;
    let state = match state(due, complete) {
        PlanState::NotDue if !meant && catalogue.was_missed(name, labels, facts) => PlanState::Unlabelled,
        state => state,
    };

    // A recorded time in the future counts as now.
    let since = opened.and_then(|opened| opened.parse().ok()).map(|opened: Timestamp| opened.min(now));
    let mut plan = Plan { state, waits_for_cluster: due && missing_in_cluster, ..Plan::default() };
    if let Some(Ok(hatch)) = &hatch {
        plan.wake = Some(hatch.until);
        plan.hatch = Some(since);
        if opened.is_none() {
            steps.push(Step::OpenHatch { reason: hatch.reason.to_owned(), until: hatch.until });
        }
    } else if is_still_open(catalogue, facts, hatch.as_ref()) {
        plan.hatch = Some(since);
    }
    steps.append(&mut replaced);
    kept.sort();
    if is_open && !missing_in_cluster && (due || !meant) {
        let is_deleted = |owned: &&Owned| {
            let mut deleted = steps.iter();
            deleted.any(|step| matches!(step, Step::Delete { owned: other, .. } if other.uid == owned.uid))
        };
        let earlier = earlier(catalogue, &layers, facts.owned.iter().filter(|owned| !is_deleted(owned)));
        let kept = Kept { layers: kept, earlier, in_cluster: by_kind(&kept_in_cluster(catalogue, of_cluster)) };
        plan.status = status(catalogue, labels, due, &layers, &kept, hatch.as_ref());
        steps.extend(plan.status.as_deref().and_then(|status| mark(catalogue, facts, labels, due, status)));
    } else if !due {
        steps.extend(unmark(catalogue, facts, labels, is_open));
    }
    if !gated.is_empty() && pods_wait && !missing_in_cluster {
        steps.push(Step::LiftGates(gated));
    }
    plan.steps = steps;
    plan
}

/// Returns true if a hatch that should be closed still has an effect.
fn is_still_open<T>(catalogue: &Catalogue, facts: &NamespaceFacts, hatch: Option<&Result<T, HatchFault<'_>>>) -> bool {
    facts.owned.iter().any(|owned| owned.is_applied && *owned.layer == *Layer::Hatch.label())
        || hatch.is_some() && catalogue.has_hatch_of_cluster()
}

/// Returns true if a policy stays although the namespace should no longer have it.
fn is_kept(catalogue: &Catalogue, layers: &[Layer], owned: &Owned, layer: &Layer) -> bool {
    let is_wanted = || {
        let mut wanted = catalogue.entries().iter().filter(|entry| !entry.of_cluster && layers.contains(&entry.layer));
        wanted.any(|entry| entry.is(&owned.object))
    };
    !layers.contains(layer) || owned.is_applied && !is_wanted()
}

/// Plans the steps for the cluster: its cluster-wide policies, each of which selects namespaces.
#[must_use]
pub fn plan_cluster(catalogue: &Catalogue, owned: &[Owned]) -> Plan {
    let entries = || catalogue.entries().iter().enumerate().filter(|(_, entry)| entry.of_cluster);
    let missing = entries().filter(|(_, entry)| !entry.is_among(owned)).map(|(position, _)| Step::Apply(position));
    let (mut steps, mut replaced) = (Vec::new(), Vec::new());
    for owned in owned.iter().filter(|owned| owned.is_applied) {
        let Some(layer) = Layer::read(&owned.layer) else { continue };
        if entries().any(|(_, entry)| entry.is(&owned.object)) {
            continue;
        }
        if entries().any(|(_, entry)| entry.layer == layer && entry.is_same_kind(&owned.object)) {
            replaced.push(Step::Delete { owned: owned.clone(), after: Some(layer) });
        } else if layer == Layer::Hatch && !catalogue.has_hatch_of_cluster() {
            // Another policy set is configured, and the controller would not remove the label that this policy selects.
            steps.push(Step::Delete { owned: owned.clone(), after: None });
        }
    }
    steps.extend(missing);
    steps.append(&mut replaced);
    Plan { state: state(entries().next().is_some(), steps.is_empty()), steps, ..Plan::default() }
}

fn state(due: bool, complete: bool) -> PlanState {
    match (due, complete) {
        (false, _) => PlanState::NotDue,
        (true, false) => PlanState::Pending,
        (true, true) => PlanState::Applied,
    }
}

/// Returns `Some` if the reason for a policy no longer holds, with the layer that replaces the policy, if one does.
fn outdated(
    catalogue: &Catalogue,
    labels: &Labels,
    due: bool,
    layers: &[Layer],
    owned: &Owned,
    layer: &Layer,
) -> Option<Option<Layer>> {
    let wanted = |entry: &&Entry| !entry.of_cluster && layers.contains(&entry.layer);
    if !owned.is_applied || catalogue.entries().iter().filter(wanted).any(|entry| entry.is(&owned.object)) {
        return None;
    }
    // Its file was removed, and other files of its layer remain in the same dialect. A policy in another dialect
    // belongs to another policy set, and stays.
    let same = |entry: &Entry| !entry.of_cluster && entry.layer == *layer && entry.is_same_kind(&owned.object);
    let is_dropped = layers.contains(layer) && catalogue.entries().iter().any(same);
    let dropped = is_dropped.then(|| Some(layer.clone()));
    match layer {
        Layer::Hatch if layers.contains(layer) => dropped,
        Layer::Hatch => Some(None),
        // A namespace that should no longer have a baseline keeps its policies.
        _ if !due => None,
        Layer::Baseline => dropped,
        Layer::Profile(_) => match catalogue.profile(labels) {
            // The policies of the new profile may be namespaced or cluster-wide.
            Some(other) if other != *layer => catalogue.has(&other).then_some(Some(other)),
            Some(_) => dropped,
            None => None,
        },
        // Another domain has other access labels, which users have not replaced yet.
        Layer::Access(name)
            if owned.domain.is_some() && labels.get(&catalogue.site.access_label(name)) != Some("true") =>
        {
            None
        }
        Layer::Access(name) if labels.get(&catalogue.site.access_label(name)) != Some("true") => Some(None),
        Layer::Access(_) => dropped,
    }
}

/// Returns true if the controller has to close a hatch.
fn closes<T>(catalogue: &Catalogue, hatch: Option<&Result<T, HatchFault<'_>>>) -> bool {
    match hatch {
        // A hatch with an end that is too late would open by itself once enough time has passed, long after the
        // request.
        Some(Err(HatchFault::Over(_) | HatchFault::TooLate { .. })) => true,
        // A cluster-wide policy selects the label and does not check for a reason.
        Some(Err(_)) => catalogue.has_hatch_of_cluster(),
        Some(Ok(_)) | None => false,
    }
}

/// Returns the pods that wait for the controller to remove their gate.
fn gated(catalogue: &Catalogue, facts: &NamespaceFacts) -> Vec<Box<str>> {
    let ours = catalogue.site.gate_name();
    let pods = facts.running().iter().filter(|running| &*running.kind == "Pod" && !running.workload.is_assigned);
    pods.filter(|pod| pod.workload.gates.iter().any(|gate| **gate == *ours)).map(|pod| pod.name.clone()).collect()
}
