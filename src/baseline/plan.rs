//! What there is to do for a namespace: a pure function of what is due and of what is there.
//!
//! What nothing replaces goes first, so that nothing that fails keeps a hatch open or a grant in force. What is replaced goes
//! after what replaces it is there. A policy goes only after a positive change: another profile that is known, a grant
//! that was taken back, a hatch that was closed, a file that is no more while others of its layer are. That something did
//! not match is never a reason: a namespace that loses its labels keeps what it has.

mod status;

use jiff::Timestamp;

pub(super) use self::status::by_kind;
pub use self::status::kept_in_cluster;
use self::status::{Kept, earlier, mark, status, unmark};
use super::catalogue::{Catalogue, Entry};
use super::policy_set::Layer;
use crate::model::Labels;
use crate::view::{HatchFault, NamespaceFacts, Owned};

/// What there is to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One thing after the other. What does not need one that failed is done all the same.
    pub steps: Vec<Step>,
    /// How far it is before any of that.
    pub standing: Standing,
    /// When there will be something to do though nothing else happens.
    pub wake: Option<Timestamp>,
    /// Since when its hatch is open, if it is, or is still open though it should not be. None within: nobody has written
    /// that down yet.
    pub hatch: Option<Option<Timestamp>>,
    /// Whether it waits for a policy of the cluster that is not there.
    pub waits_for_cluster: bool,
    /// The status annotation that the namespace should have, if it should have one.
    pub status: Option<String>,
}

/// How far a namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is due no baseline.
    #[default]
    NotDue,
    /// It is due no baseline since it lacks every label of ours, though it was made when new namespaces get them.
    Unlabelled,
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
    /// Take something away.
    Delete {
        /// What.
        owned: Owned,
        /// The layer that replaces it, and has to be there before.
        after: Option<Layer>,
    },
    /// Take away what keeps the hatch open, and the note that it is.
    CloseHatch,
    /// Say on the namespace how far it is.
    Mark {
        /// What becomes of the label for it.
        label: Label,
        /// The same in words.
        status: String,
    },
    /// Let these pods be scheduled.
    LiftGates(Vec<Box<str>>),
}

/// What becomes of the label that says how far a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// It says that everything is there.
    Applied,
    /// It goes: nothing is due that it could be about.
    Gone,
    /// It stays what it is.
    AsItIs,
}

/// What there is to do for a namespace.
#[must_use]
pub fn plan(catalogue: &Catalogue, name: &str, facts: &NamespaceFacts, of_cluster: &[Owned], now: Timestamp) -> Plan {
    let Some(labels) = facts.labels.as_ref().filter(|_| !facts.is_terminating) else { return Plan::default() };
    let is_open = catalogue.is_open_to(name);
    // Who has a baseline keeps it, whatever becomes of the label that says so.
    let has_baseline = facts.owned.iter().any(|owned| owned.is_applied && *owned.layer == *Layer::Baseline.label());
    let meant = catalogue.is_due(name, labels) || is_open && has_baseline;
    let due = meant && catalogue.reaches(&catalogue.layers(labels), labels);
    // Where nothing is applied, it still has the rules refuse nothing.
    let hatch = catalogue.site.hatch(labels, &facts.annotations, now);
    let mut layers = if due { catalogue.layers(labels) } else { Vec::new() };
    if is_open && matches!(hatch, Some(Ok(_))) {
        layers.push(Layer::Hatch);
    }
    let is_missing = |entry: &Entry| entry.of_cluster && entry.is_for(labels) && !entry.is_among(of_cluster);
    let missing_in_cluster = catalogue.entries().iter().any(|entry| layers.contains(&entry.layer) && is_missing(entry));
    // What replaces another has to be there before.
    let is_lacking = |layer: &Layer| catalogue.entries().iter().any(|entry| entry.layer == *layer && is_missing(entry));

    let (mut replaced, mut kept) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    let gated = gated(catalogue, facts);
    let pods_wait = due && catalogue.site.baseline.gate;
    if !gated.is_empty() && !pods_wait {
        steps.push(Step::LiftGates(gated.clone()));
    }
    for owned in &facts.owned {
        let Some(layer) = Layer::read(&owned.layer) else { continue };
        // A hatch is closed wherever it is; of everything else nothing is ours to take there.
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
        if layers.contains(&entry.layer) && !entry.of_cluster && !entry.is_among(&facts.owned) {
            steps.push(Step::Apply(position));
        }
    }
    let complete = steps.len() == removals && !missing_in_cluster;
    let standing = match standing(due, complete) {
        Standing::NotDue if !meant && catalogue.was_missed(name, labels, facts) => Standing::Unlabelled,
        standing => standing,
    };

    // Not from some time on that is still to come.
    let since = opened.and_then(|opened| opened.parse().ok()).map(|opened: Timestamp| opened.min(now));
    let mut plan = Plan { standing, waits_for_cluster: due && missing_in_cluster, ..Plan::default() };
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

/// Whether a hatch that should be closed still has an effect.
fn is_still_open<T>(catalogue: &Catalogue, facts: &NamespaceFacts, hatch: Option<&Result<T, HatchFault<'_>>>) -> bool {
    facts.owned.iter().any(|owned| owned.is_applied && *owned.layer == *Layer::Hatch.label())
        || hatch.is_some() && catalogue.has_hatch_of_cluster()
}

/// Whether a policy stays that is not part of what is due.
fn is_kept(catalogue: &Catalogue, layers: &[Layer], owned: &Owned, layer: &Layer) -> bool {
    let is_wanted = || {
        let mut wanted = catalogue.entries().iter().filter(|entry| !entry.of_cluster && layers.contains(&entry.layer));
        wanted.any(|entry| entry.is(&owned.object))
    };
    !layers.contains(layer) || owned.is_applied && !is_wanted()
}

/// What there is to do for the cluster: policies that are there once, for all namespaces that they select.
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
            // Another set is configured, and the controller would not remove the label that this policy selects.
            steps.push(Step::Delete { owned: owned.clone(), after: None });
        }
    }
    steps.extend(missing);
    steps.append(&mut replaced);
    Plan { standing: standing(entries().next().is_some(), steps.is_empty()), steps, ..Plan::default() }
}

fn standing(due: bool, complete: bool) -> Standing {
    match (due, complete) {
        (false, _) => Standing::NotDue,
        (true, false) => Standing::Pending,
        (true, true) => Standing::Applied,
    }
}

/// Whether a policy is there for something that has been changed since; and the layer that replaces it, if one does.
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
    // Its file was removed and other files of its layer are there, in the same dialect: another one is another policy set,
    // and its policies stay.
    let same = |entry: &Entry| !entry.of_cluster && entry.layer == *layer && entry.is_same_kind(&owned.object);
    let is_dropped = layers.contains(layer) && catalogue.entries().iter().any(same);
    let dropped = is_dropped.then(|| Some(layer.clone()));
    match layer {
        Layer::Hatch if layers.contains(layer) => dropped,
        Layer::Hatch => Some(None),
        // A namespace that stops being due keeps what it has.
        _ if !due => None,
        Layer::Baseline => dropped,
        Layer::Profile(_) => match catalogue.profile(labels) {
            // Wherever its policies are: in the namespace, or of the cluster.
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

/// Whether a hatch has to be closed by us.
fn closes<T>(catalogue: &Catalogue, hatch: Option<&Result<T, HatchFault<'_>>>) -> bool {
    match hatch {
        // One that is too late yet would open by itself, when time has passed and nobody thinks of it any more.
        Some(Err(HatchFault::Over(_) | HatchFault::TooLate { .. })) => true,
        // A policy of the cluster selects the label, and does not ask for reasons.
        Some(Err(_)) => catalogue.has_hatch_of_cluster(),
        Some(Ok(_)) | None => false,
    }
}

/// The pods that wait for us.
fn gated(catalogue: &Catalogue, facts: &NamespaceFacts) -> Vec<Box<str>> {
    let ours = catalogue.site.gate_name();
    let pods = facts.running().iter().filter(|running| &*running.kind == "Pod" && !running.workload.is_assigned);
    pods.filter(|pod| pod.workload.gates.iter().any(|gate| **gate == *ours)).map(|pod| pod.name.clone()).collect()
}
