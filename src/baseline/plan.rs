//! What there is to do for a namespace: a pure function of what is due and of what is there.
//!
//! New policies come before old ones go. A policy goes only after a positive change: another profile that is known, a grant
//! that was taken back, a hatch that was closed, a file that is no more while others of its layer are. That something did
//! not match is never a reason: a namespace that loses its labels keeps what it has.

use jiff::Timestamp;

use super::catalogue::{Catalogue, Entry};
use super::policy_set::Layer;
use crate::model::Labels;
use crate::view::{HatchFault, NamespaceFacts, Owned};

/// What there is to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One thing after the other. None is begun before those ahead of it are done.
    pub steps: Vec<Step>,
    /// How far it is before any of that.
    pub standing: Standing,
    /// When there will be something to do though nothing else happens.
    pub wake: Option<Timestamp>,
    /// Since when its hatch is open, if it is. None within: nobody has written that down yet.
    pub hatch: Option<Option<Timestamp>>,
}

/// How far a namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is due no baseline.
    #[default]
    NotDue,
    /// Something is missing.
    Pending,
    /// Everything is there.
    Applied,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this entry of the catalogue.
    Apply(usize),
    /// Note that the hatch is open.
    OpenHatch {
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// Take this away.
    Delete(Owned),
    /// Take away what keeps the hatch open, and the note that it is.
    CloseHatch,
    /// Say on the namespace how far it is.
    Mark {
        /// Whether everything is there, and the label has to say so.
        applied: bool,
        /// The same in words.
        status: String,
    },
    /// Let these pods be scheduled: their names, and which of their gates is ours.
    LiftGates(Vec<(Box<str>, usize)>),
}

/// What there is to do for a namespace.
#[must_use]
pub fn plan(catalogue: &Catalogue, name: &str, facts: &NamespaceFacts, of_cluster: &[Owned], now: Timestamp) -> Plan {
    let Some(labels) = facts.labels.as_ref().filter(|_| !facts.is_terminating) else { return Plan::default() };
    let gated = gated(catalogue, facts);
    let is_open = catalogue.is_open_to(name);
    // Who has a baseline keeps it, whatever becomes of the label that says so.
    let has_baseline = || facts.owned.iter().any(|owned| owned.is_applied && *owned.layer == *Layer::Baseline.label());
    let due = catalogue.is_due(name, labels) || is_open && has_baseline();
    // Where nothing is applied, a policy of the cluster still selects the label.
    let hatch = catalogue.site.hatch(labels, &facts.annotations, now);
    let hatch = hatch.filter(|_| is_open || catalogue.has_hatch_of_cluster());
    let mut layers = if due { catalogue.layers(labels) } else { Vec::new() };
    if matches!(hatch, Some(Ok(_))) {
        layers.push(Layer::Hatch);
    }
    let wanted = |entry: &&Entry| layers.contains(&entry.layer);
    let missing_in_cluster =
        catalogue.entries().iter().filter(wanted).any(|entry| entry.of_cluster && !entry.is_among(of_cluster));

    let mut steps = Vec::new();
    for (position, entry) in catalogue.entries().iter().enumerate() {
        if layers.contains(&entry.layer) && !entry.of_cluster && !entry.is_among(&facts.owned) {
            steps.push(Step::Apply(position));
        }
    }
    let complete = steps.is_empty() && !missing_in_cluster;

    let opened = facts.annotations.get(&catalogue.site.opened_annotation());
    let mut plan = Plan { standing: standing(due, complete), ..Plan::default() };
    if let Some(Ok(hatch)) = &hatch {
        plan.wake = Some(hatch.until);
        plan.hatch = Some(opened.and_then(|opened| since(catalogue, opened, now)));
        if opened.is_none() {
            steps.push(Step::OpenHatch { reason: hatch.reason.to_owned(), until: hatch.until });
        }
    }
    // What replaces them has to be there before.
    let mut kept = Vec::new();
    for owned in facts.owned.iter().filter(|_| is_open) {
        let Some(layer) = Layer::read(&owned.layer) else { continue };
        if is_outdated(catalogue, labels, due, &layers, owned, &layer) && !missing_in_cluster {
            steps.push(Step::Delete(owned.clone()));
        } else if !layers.contains(&layer) && !kept.contains(&layer) {
            kept.push(layer);
        }
    }
    if opened.is_some() && !matches!(hatch, Some(Ok(_))) || closes(catalogue, hatch.as_ref()) {
        steps.push(Step::CloseHatch);
    }
    kept.sort();
    if is_open && !missing_in_cluster {
        steps.extend(mark(catalogue, facts, labels, due, &layers, &kept, hatch.as_ref()));
    }
    let keeps_waiting = due && missing_in_cluster;
    if !gated.is_empty() && !keeps_waiting {
        steps.push(Step::LiftGates(gated));
    }
    plan.steps = steps;
    plan
}

/// Since when a hatch is open. It cannot be longer than it may be, nor from some time on that is still to come.
fn since(catalogue: &Catalogue, opened: &str, now: Timestamp) -> Option<Timestamp> {
    let earliest = now.saturating_sub(catalogue.site.hatch_max_duration).unwrap_or(Timestamp::MIN);
    opened.parse().ok().map(|opened: Timestamp| opened.clamp(earliest, now))
}

/// What there is to do for the cluster: policies that are there once, for all namespaces that they select.
#[must_use]
pub fn plan_cluster(catalogue: &Catalogue, owned: &[Owned]) -> Plan {
    let entries = || catalogue.entries().iter().enumerate().filter(|(_, entry)| entry.of_cluster);
    let missing = entries().filter(|(_, entry)| !entry.is_among(owned)).map(|(position, _)| Step::Apply(position));
    let outdated = owned.iter().filter(|owned| {
        let layer = Layer::read(&owned.layer);
        owned.is_applied
            && entries().any(|(_, entry)| Some(&entry.layer) == layer.as_ref())
            && !entries().any(|(_, entry)| entry.is(&owned.object))
    });
    let steps: Vec<Step> = missing.chain(outdated.cloned().map(Step::Delete)).collect();
    Plan { standing: standing(entries().next().is_some(), steps.is_empty()), steps, ..Plan::default() }
}

fn standing(due: bool, complete: bool) -> Standing {
    match (due, complete) {
        (false, _) => Standing::NotDue,
        (true, false) => Standing::Pending,
        (true, true) => Standing::Applied,
    }
}

/// Whether a policy is there for something that has been changed since.
fn is_outdated(
    catalogue: &Catalogue,
    labels: &Labels,
    due: bool,
    layers: &[Layer],
    owned: &Owned,
    layer: &Layer,
) -> bool {
    let wanted = |entry: &&Entry| !entry.of_cluster && layers.contains(&entry.layer);
    if !owned.is_applied || catalogue.entries().iter().filter(wanted).any(|entry| entry.is(&owned.object)) {
        return false;
    }
    // Its file is no more, and others of its layer are: somebody took it out of the folder.
    let dropped = layers.contains(layer) && catalogue.has_local(layer);
    match layer {
        Layer::Hatch => dropped || !layers.contains(layer),
        // A namespace that stops being due keeps what it has.
        _ if !due => false,
        Layer::Baseline => dropped,
        Layer::Profile(_) => match catalogue.profile(labels) {
            Some(other) if other != *layer => catalogue.has_local(&other),
            Some(_) => dropped,
            None => false,
        },
        Layer::Access(name) => dropped || labels.get(&catalogue.site.access_label(name)) != Some("true"),
    }
}

/// Whether a hatch has to be closed by us.
fn closes<T>(catalogue: &Catalogue, hatch: Option<&Result<T, HatchFault<'_>>>) -> bool {
    match hatch {
        Some(Err(HatchFault::Over(_))) => true,
        // A policy of the cluster selects the label, and does not ask for reasons.
        Some(Err(_)) => catalogue.has_hatch_of_cluster(),
        Some(Ok(_)) | None => false,
    }
}

/// What has to be said on the namespace, if it is not said there.
fn mark(
    catalogue: &Catalogue,
    facts: &NamespaceFacts,
    labels: &Labels,
    due: bool,
    layers: &[Layer],
    kept: &[Layer],
    hatch: Option<&Result<crate::view::Hatch<'_>, HatchFault<'_>>>,
) -> Option<Step> {
    let site = &catalogue.site;
    let list =
        |layers: &mut dyn Iterator<Item = &Layer>| layers.map(ToString::to_string).collect::<Vec<String>>().join(", ");
    let mut parts = Vec::new();
    if due {
        let mut applied = layers.iter().filter(|layer| **layer != Layer::Hatch && catalogue.has(layer));
        parts.push(format!("applied: {}", list(&mut applied)));
    }
    if !kept.is_empty() {
        parts.push(format!("kept: {}", list(&mut kept.iter())));
    }
    if parts.is_empty() {
        return None;
    }
    if due && let Some(profile) = labels.get(&site.profile_label()).filter(|_| catalogue.profile(labels).is_none()) {
        parts.push(format!("there is no profile {profile}"));
    }
    match hatch {
        Some(Ok(_)) if !catalogue.has(&Layer::Hatch) => {
            parts.push("the hatch has no policies, and opens nothing".into());
        }
        Some(Ok(hatch)) => parts.push(format!("hatch open until {}", hatch.until)),
        Some(Err(HatchFault::Over(_))) | None => {}
        // In its own words it says what time it is, which changes without end.
        Some(Err(HatchFault::TooLate { until, .. })) => {
            parts.push(format!("hatch not open: until {until}, which is later than is allowed"));
        }
        Some(Err(fault)) => parts.push(format!("hatch not open: {fault}")),
    }
    let status = parts.join("; ");
    let is_said = facts.annotations.get(&site.status_annotation()) == Some(&status)
        && (!due || labels.get(&site.baseline_label()) == Some("applied"));
    (!is_said).then_some(Step::Mark { applied: due, status })
}

/// The pods that wait for us.
fn gated(catalogue: &Catalogue, facts: &NamespaceFacts) -> Vec<(Box<str>, usize)> {
    let ours = catalogue.site.gate_name();
    let pods = facts.running().iter().filter(|running| &*running.kind == "Pod" && !running.workload.is_assigned);
    pods.filter_map(|pod| Some((pod.name.clone(), pod.workload.gates.iter().position(|gate| **gate == *ours)?)))
        .collect()
}
