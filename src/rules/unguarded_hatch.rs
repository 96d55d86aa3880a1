//! See [`UnguardedHatch`].

use jiff::Timestamp;

use super::shared::bypass::{ask_for_bypass, user};
use super::{Case, Defined, Findings, Rule};
use crate::model::{Object, Path};
use crate::view::{Hatch, HatchFault, Site};

rule! {
    /// Enforcement is disabled without a reason, without an end time, or by a user without permission.
    ///
    /// ## Why
    ///
    /// The escape hatch of a namespace allows all traffic. Without an end time it stays open when it is forgotten, and
    /// without a reason it is hard to decide whether it may be closed. If every user who may label a namespace could
    /// open it, policies would protect nothing.
    ///
    /// ## What it checks
    ///
    /// The namespace label `enforcement: disabled`, the annotations `reason` and `until`, and the user who makes the
    /// change.
    ///
    /// - The rule is evaluated only if a change opens the hatch, extends it, or changes the reason. Closing the hatch,
    ///   closing it earlier, and any other change of the namespace while it is open are always allowed.
    /// - `until` has to be a time in the future, at most `hatch.maxDuration` ahead.
    /// - Label values other than `disabled`, `enabled`, `enforced`, `on` and `true` are reported, because they have no
    ///   effect although the user may expect the hatch to be open.
    /// - Offline only the reason and the end time are checked, because a file has no author.
    /// - The controller also checks `until`, in case a label bypassed the webhook. It removes the label if the time is
    ///   past, or later than `hatch.maxDuration` allows. In the second case the hatch never opens.
    ///
    /// The annotation `opened-by` records the user that opened the hatch. Portcullis sets it from the request. A user
    /// who sets another name, or removes it while the hatch is open, is denied; the permission to `bypass` the rule
    /// does not change that.
    ///
    /// The rule also applies while a hatch is open, and objects cannot be exempted from it. Policies are not checked,
    /// so the dialects (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy) make no difference.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/enforcement: disabled
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/enforcement: disabled
    ///   annotations:
    ///     network-policy.portcullis.dev/reason: the payment provider moves tonight
    ///     network-policy.portcullis.dev/until: "2026-11-21T18:00:00Z"
    /// ```
    ///
    /// ## Settings
    ///
    /// None. `hatch.maxDuration` of the configuration limits the end time. On a cluster RBAC grants the
    /// permission: the verb `bypass` on `rules` of the group portcullis.dev, with the name of this rule.
    "unguarded-hatch", Deny, guard = true, on = [Namespaces],
    #[derive(Default)]
    pub struct UnguardedHatch {}
}

/// Values that state the default: enforcement is on.
pub(crate) const ON: [&str; 4] = ["enabled", "enforced", "on", "true"];

impl UnguardedHatch {
    /// Checks that no user writes another user's name into the annotation, or removes it while the hatch is open.
    fn check_opener(case: &Case<'_>, findings: &mut Findings) {
        let (Some(object), Some(username)) = (case.written(), case.occasion.author.username()) else { return };
        let (site, old) = (case.site, case.change.old());
        let annotation = site.opened_by_annotation();
        let (before, after) =
            (old.and_then(|old| old.annotations.get(&annotation)), object.annotations.get(&annotation));
        if before == after || username == site.baseline.username {
            return;
        }
        let expected = opener(site, old, object, username, case.occasion.now);
        // `/mutate` sets it, but its webhook may fail without blocking the request.
        if after == expected || after.is_none() && expected == Some(username) {
            return;
        }
        let message = match after {
            Some(other) => format!("annotation `opened-by` names `{other}`, but user `{username}` makes this change"),
            None => format!(
                "this change removes annotation `opened-by` (`{}`) while the hatch is open",
                before.unwrap_or_default()
            ),
        };
        let help = "leave the annotation unchanged; Portcullis sets it when the hatch opens".to_owned();
        let place = Path::root().field("metadata").field("annotations").key(&annotation);
        findings.add::<Self>(case, place, message, help, None);
    }
}

impl Rule for UnguardedHatch {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.namespace().is_some() {
            Self::check_opener(case, findings);
        }
        let (Some(object), Some((_, namespace))) = (case.written(), case.namespace()) else { return };
        let (site, old) = (case.site, case.change.old());
        let label = site.enforcement_label();
        let Some(value) = namespace.labels.get(&label) else { return };
        let place = namespace.labels_path.key(&label);
        let before = old.and_then(Object::as_namespace).and_then(|old| old.labels.get(&label));
        let now = match said(case, object) {
            Some(now) => now,
            None if ON.contains(&value) || before == Some(value) => return,
            None => {
                let message = text!("`enforcement={value}` has no effect; enforcement stays on");
                let help = "set the label to `disabled`, or remove it".to_owned();
                return findings.add::<Self>(case, place, message, help, None);
            }
        };
        if let Some(old) = old
            && (is_unchanged(site, old, object) || is_narrower(said(case, old), &now))
        {
            return;
        }
        if let Err(fault) = now {
            let path = match fault {
                HatchFault::NoReason | HatchFault::NoEnd => place.clone(),
                HatchFault::BadEnd(_) | HatchFault::Over(_) | HatchFault::TooLate { .. } => {
                    Path::root().field("metadata").field("annotations").key(&site.until_annotation())
                }
            };
            let message = text!("`enforcement=disabled` has no effect: {fault}");
            let help = text!(
                "set annotation `{}`, and annotation `{}` to a time at most {:#} ahead",
                site.reason_annotation(),
                site.until_annotation(),
                site.hatch_max_duration
            );
            findings.add::<Self>(case, path, message, help, None);
        }
        if let Err(why) = case.occasion.author.may_bypass(Self::NAME) {
            let message = text!("{} may not disable enforcement: {why}", user(case));
            findings.add::<Self>(case, place, message, ask_for_bypass(Self::NAME), None);
        }
    }
}

/// The user that a namespace should name as the opener of its hatch, if this user makes this change. It is the last
/// user that opened or extended it.
#[must_use]
pub fn opener<'a>(
    site: &Site,
    old: Option<&'a Object>,
    new: &Object,
    username: &'a str,
    now: Timestamp,
) -> Option<&'a str> {
    let hatch = |object: &'a Object| site.hatch(&object.as_namespace()?.labels, &object.annotations, now);
    let now_open = site.hatch(&new.as_namespace()?.labels, &new.annotations, now)?;
    match old {
        Some(old) if is_unchanged(site, old, new) || is_narrower(hatch(old), &now_open) => {
            old.annotations.get(&site.opened_by_annotation())
        }
        _ => Some(username),
    }
}

/// The state of the hatch, from the label and annotations of a namespace.
fn said<'a>(case: &Case<'_>, object: &'a Object) -> Option<Result<Hatch<'a>, HatchFault<'a>>> {
    case.site.hatch(&object.as_namespace()?.labels, &object.annotations, case.occasion.now)
}

/// Returns true if both namespaces have the same label and annotations of the hatch.
fn is_unchanged(site: &Site, old: &Object, new: &Object) -> bool {
    let label = site.enforcement_label();
    let says = |object: &Object| object.as_namespace()?.labels.get(&label).map(str::to_owned);
    says(old) == says(new)
        && [site.reason_annotation(), site.until_annotation()]
            .iter()
            .all(|key| old.annotations.get(key) == new.annotations.get(key))
}

/// Returns true if an open hatch keeps its reason and does not end later.
fn is_narrower(old: Option<Result<Hatch<'_>, HatchFault<'_>>>, new: &Result<Hatch<'_>, HatchFault<'_>>) -> bool {
    match (old, new) {
        (Some(Ok(old)), Ok(new)) => old.reason == new.reason && new.until <= old.until,
        _ => false,
    }
}
