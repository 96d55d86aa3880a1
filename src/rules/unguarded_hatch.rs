//! See [`UnguardedHatch`].

use jiff::Timestamp;

use super::{Case, Defined, Findings, Rule};
use crate::model::{Object, Path};
use crate::view::{Hatch, HatchFault, Site};

rule! {
    /// Enforcement is switched off without a reason, without an end, or by somebody who may not.
    ///
    /// ## Why
    ///
    /// The escape hatch lets everything through. Without an end it stays open when nobody remembers it, without a reason
    /// nobody dares to close it, and if whoever may label a namespace could open it, it would not be a gate at all.
    ///
    /// ## What it looks at
    ///
    /// The label `enforcement: disabled` of namespaces, the annotations `reason` and `until`, and who makes the change. It is
    /// asked only when a change opens the hatch, keeps it open for longer, or gives another reason: closing it, or closing it
    /// earlier, is always fine, and so is any other change of the namespace while it is open. What counts as an end is a time
    /// in the future, at most `hatch.maxDuration` ahead. Any other value of the label but `enabled`, `enforced`, `on` and
    /// `true` is a finding too, since it does nothing: somebody believes that the hatch is open. A file has no author yet, so
    /// offline only reason and end count. A hatch that nobody was asked about and whose end is later than that never opens: the
    /// controller closes it, as it does when the time is over.
    ///
    /// The annotation `opened-by` records the user that opened the hatch. Portcullis writes it from the request. A user who
    /// writes another name, or removes it while the hatch is open, is denied; the right to `bypass` does not change that.
    ///
    /// It holds while a hatch is open, and no object can be exempt from it. It looks at no policies, so the dialects
    /// (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy) make no difference.
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
    /// None. How far ahead the end may be is `hatch.maxDuration` of the configuration. In a cluster who may is what RBAC
    /// says: the verb `bypass` on `rules` of the group portcullis.dev, by the name of this rule.
    "unguarded-hatch", Deny, guard = true, on = [Namespaces],
    #[derive(Default)]
    pub struct UnguardedHatch {}
}

/// Values that say what holds anyway.
const ON: [&str; 4] = ["enabled", "enforced", "on", "true"];

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
        // /mutate writes it, and is not required to answer.
        if after == expected || after.is_none() && expected == Some(username) {
            return;
        }
        let message = match after {
            Some(other) => format!("annotation `opened-by` names `{other}`, but this change is made by `{username}`"),
            None => format!(
                "annotation `opened-by` is removed while the hatch is open (it names `{}`)",
                before.unwrap_or_default()
            ),
        };
        let help = "leave the annotation to Portcullis, which writes it when a hatch is opened".to_owned();
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
                let message = text!("`enforcement: {value}` does nothing, so enforcement stays on");
                let help = "did you mean \"disabled\"? Or remove the label".to_owned();
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
            let message = text!("enforcement is switched off {fault}, so it stays on");
            let help = text!(
                "set the annotations `{}` and `{}`, a time at most {:#} ahead",
                site.reason_annotation(),
                site.until_annotation(),
                site.hatch_max_duration
            );
            findings.add::<Self>(case, path, message, help, None);
        }
        if let Err(why) = case.occasion.author.may_bypass(Self::NAME) {
            let message = text!("enforcement is switched off by somebody who may not do that: {why}");
            let help = text!(
                "ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {}, to do it",
                Self::NAME
            );
            findings.add::<Self>(case, place, message, help, None);
        }
    }
}

/// The user that a namespace should name as the one that opened its hatch, if this user makes this change. The last user
/// that opened it further counts.
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

/// What a namespace says about its hatch.
fn said<'a>(case: &Case<'_>, object: &'a Object) -> Option<Result<Hatch<'a>, HatchFault<'a>>> {
    case.site.hatch(&object.as_namespace()?.labels, &object.annotations, case.occasion.now)
}

/// Whether both namespaces say the same about the hatch, word for word.
fn is_unchanged(site: &Site, old: &Object, new: &Object) -> bool {
    let label = site.enforcement_label();
    let says = |object: &Object| object.as_namespace()?.labels.get(&label).map(str::to_owned);
    says(old) == says(new)
        && [site.reason_annotation(), site.until_annotation()]
            .iter()
            .all(|key| old.annotations.get(key) == new.annotations.get(key))
}

/// Whether a hatch that was open is open for the same reason and for no longer.
fn is_narrower(old: Option<Result<Hatch<'_>, HatchFault<'_>>>, new: &Result<Hatch<'_>, HatchFault<'_>>) -> bool {
    match (old, new) {
        (Some(Ok(old)), Ok(new)) => old.reason == new.reason && new.until <= old.until,
        _ => false,
    }
}
