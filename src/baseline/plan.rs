//! What there is to do for a namespace: a pure function of what is due and of what is there.
//!
//! What nothing replaces goes first, so that nothing that fails keeps a hatch open or a grant in force. What is replaced goes
//! after what replaces it is there. A policy goes only after a positive change: another profile that is known, a grant
//! that was taken back, a hatch that was closed, a file that is no more while others of its layer are. That something did
//! not match is never a reason: a namespace that loses its labels keeps what it has.

use jiff::Timestamp;

use super::catalogue::{Catalogue, Entry};
use super::events::cut;
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

impl Plan {
    /// Puts a write conflict in front of the status. The namespace is marked only if it does not say so yet.
    pub(super) fn report_conflict(&mut self, catalogue: &Catalogue, facts: &NamespaceFacts, conflict: &str) {
        let Some(status) = &self.status else { return };
        let reported = cut(format!("{conflict}; {status}"));
        let annotation = catalogue.site.status_annotation();
        let is_said = facts.annotations.get(&annotation).is_some_and(|said| said == reported);
        let marks = |step: &Step| matches!(step, Step::Mark { .. });
        let is_applied =
            facts.labels.as_ref().and_then(|labels| labels.get(&catalogue.site.baseline_label())) == Some("applied");
        match self.steps.iter_mut().find(|step| marks(step)) {
            Some(Step::Mark { label, status }) if !is_said || *label == Label::Applied && !is_applied => {
                *status = reported
            }
            Some(_) => self.steps.retain(|step| !marks(step)),
            None if !is_said => self.steps.push(Step::Mark { label: Label::AsItIs, status: reported }),
            None => {}
        }
    }
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
        let in_cluster = by_kind(&kept_in_cluster(catalogue, of_cluster));
        plan.status = status(catalogue, labels, due, &layers, &kept, &in_cluster, hatch.as_ref());
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

/// The number of these policies by kind, in words: `14 CiliumClusterwideNetworkPolicy`.
pub(super) fn by_kind(owned: &[&Owned]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for owned in owned {
        match kinds.iter_mut().find(|(kind, _)| *kind == &*owned.object.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&owned.object.kind, 1)),
        }
    }
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
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

/// The status of a namespace in words, if it has one.
fn status(
    catalogue: &Catalogue,
    labels: &Labels,
    due: bool,
    layers: &[Layer],
    kept: &[Layer],
    kept_in_cluster: &str,
    hatch: Option<&Result<crate::view::Hatch<'_>, HatchFault<'_>>>,
) -> Option<String> {
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
    if due && !kept_in_cluster.is_empty() {
        parts.push(format!("kept cluster-wide: {kept_in_cluster}"));
    }
    if due && let Some(profile) = labels.get(&site.profile_label()).filter(|_| catalogue.profile(labels).is_none()) {
        parts.push(format!("there is no profile {profile}"));
    }
    match hatch {
        Some(Ok(_)) if !catalogue.has(&Layer::Hatch) => {
            parts.push("the hatch has no policies, and opens nothing".into());
        }
        Some(Ok(hatch)) => parts.push(format!("hatch open until {}", hatch.until)),
        // It is closed next.
        Some(Err(HatchFault::Over(_) | HatchFault::TooLate { .. })) | None => {}
        Some(Err(fault)) => parts.push(format!("hatch not open: {fault}")),
    }
    Some(cut(parts.join("; ")))
}

/// The step that writes the status, unless the namespace has it already.
fn mark(catalogue: &Catalogue, facts: &NamespaceFacts, labels: &Labels, due: bool, status: &str) -> Option<Step> {
    let site = &catalogue.site;
    let is_said = facts.annotations.get(&site.status_annotation()) == Some(status)
        && (!due || labels.get(&site.baseline_label()) == Some("applied"));
    let label = if due { Label::Applied } else { Label::AsItIs };
    (!is_said).then(|| Step::Mark { label, status: status.to_owned() })
}

/// What has to be said on a namespace that still says that a baseline is due or there, and is due none: nobody else may take
/// that back, and pods would go on waiting for it.
fn unmark(catalogue: &Catalogue, facts: &NamespaceFacts, labels: &Labels, is_open: bool) -> Option<Step> {
    let (label, status) = match labels.get(&catalogue.site.baseline_label())? {
        "pending" | "applied" if is_open => {
            (Label::Gone, "not applied: no policy of the cluster selects this namespace")
        }
        "pending" => (Label::Gone, "not applied: the namespace is of the platform, or excluded"),
        // What is there stays, and is not put right any more.
        "applied" => (Label::AsItIs, "not looked after: the namespace is of the platform, or excluded"),
        _ => return None,
    };
    let is_said = label == Label::AsItIs
        && facts.annotations.get(&catalogue.site.status_annotation()).is_some_and(|said| said == status);
    (!is_said).then(|| Step::Mark { label, status: status.to_owned() })
}

/// The pods that wait for us.
fn gated(catalogue: &Catalogue, facts: &NamespaceFacts) -> Vec<Box<str>> {
    let ours = catalogue.site.gate_name();
    let pods = facts.running().iter().filter(|running| &*running.kind == "Pod" && !running.workload.is_assigned);
    pods.filter(|pod| pod.workload.gates.iter().any(|gate| **gate == *ours)).map(|pod| pod.name.clone()).collect()
}
