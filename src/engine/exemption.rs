//! Exemptions: objects that an annotation exempts from rules.
//!
//! Admission, `check` and later scans of stored objects all call [`exemption`], so an expired exemption is expired
//! everywhere.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Judgement, Spared};
use crate::budget;
use crate::config::Configuration;
use crate::model::{Finding, Object, Path};
use crate::rules::{self, Case, Mode};
use crate::view::{Site, parse_rfc3339};

/// The exemption of an object from one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption<'a> {
    /// The reason.
    pub reason: &'a str,
    /// The expiry time. `None` if the exemption does not expire.
    pub until: Option<Timestamp>,
}

/// The exemption of an object from a rule at this time, no matter which user set it. `None` if the object does not name
/// the rule.
///
/// # Errors
/// Returns the reason if the object names the rule but the exemption is not valid.
pub fn exemption<'a>(
    site: &Site,
    object: &'a Object,
    rule: &str,
    now: Timestamp,
) -> Option<Result<Exemption<'a>, String>> {
    if !named(site, object).any(|name| name == rule) {
        return None;
    }
    // A user who may bypass a guard needs no exemption, and cannot grant one to users who change the object later.
    if rules::find(rule).is_some_and(rules::Definition::is_guard) {
        return Some(Err("this rule does not allow exemptions".to_owned()));
    }
    let written = |key: &str| object.annotations.get(key).map(str::trim).filter(|text| !text.is_empty());
    let Some(reason) = written(&site.reason_annotation()) else {
        return Some(Err(format!(
            "annotation `{}` requires annotation `{}`",
            site.exempt_annotation(),
            site.reason_annotation()
        )));
    };
    let until = match written(&site.until_annotation()).map(|text| (text, parse_rfc3339(text))) {
        None => None,
        Some((_, Some(until))) => Some(until),
        Some((text, None)) => {
            return Some(Err(format!(
                "annotation `{}` is {text:?}, an invalid time (expected RFC 3339)",
                site.until_annotation()
            )));
        }
    };
    Some(match until {
        Some(until) if until <= now => Err(format!("it expired at {until}")),
        _ => Ok(Exemption { reason, until }),
    })
}

/// The rule names in the exemption annotation of an object.
fn named<'a>(site: &Site, object: &'a Object) -> impl Iterator<Item = &'a str> {
    // Fast path: most objects have no annotation that Portcullis reads.
    let annotations = Some(&object.annotations).filter(|annotations| !annotations.is_empty());
    let names = annotations.and_then(|annotations| annotations.get(&site.exempt_annotation())).unwrap_or_default();
    names.split(',').inspect(|_| budget::charge(1)).map(str::trim).filter(|name| !name.is_empty())
}

/// Turns denials into warnings if the object is exempt. Denies the change if its author sets an exemption without
/// permission. Findings that such an exemption would have spared stay denied.
pub(super) fn apply<'b>(
    configuration: &Configuration,
    case: &Case<'_>,
    judgements: &mut Vec<Judgement>,
    before: impl Fn() -> &'b [Judgement],
) {
    let Some(object) = case.written() else { return };
    let names: BTreeSet<&str> = named(case.site, object).collect();
    if names.is_empty() {
        return;
    }
    let (site, now) = (case.site, case.occasion.now);
    let mut refused: Vec<Judgement> = Vec::new();
    for definition in names.iter().filter_map(|name| rules::find(name)) {
        let rule = definition.name;
        let Some(Ok(given)) = exemption(site, object, rule, now) else { continue };
        let denies = || judgements.iter().any(|judgement| judgement.denies() && judgement.finding.rule == rule);
        // An exemption that has spared nothing so far may have been set without permission.
        let is_in_use = || !denies() || before().iter().any(|judgement| judgement.finding.rule == rule);
        let is_old = is_old(case, rule, given) && is_in_use();
        if is_old
            || is_copied(case)
            || case.is_passed_on()
            || !configuration.modes().any(|(name, mode)| name == rule && mode == Mode::Deny)
        {
            continue;
        }
        let Err(why) = case.occasion.author.may_bypass(rule) else { continue };
        let path = Path::root().field("metadata").field("annotations").key(&site.exempt_annotation());
        let user = case.occasion.author.username().unwrap_or_default();
        let message = format!("user {user} may not exempt the object from {rule}: {why}");
        let help = rules::ask_for_bypass(rule);
        let finding = Finding {
            rule,
            object: object.id.clone(),
            path,
            message,
            closest: None,
            help,
            fix: None,
            is_advice: false,
        };
        refused.push(Judgement { finding, action: Mode::Deny, spared: None });
    }
    for judgement in judgements.iter_mut().filter(|judgement| judgement.denies()) {
        let rule = judgement.finding.rule;
        let is_refused = refused.iter().any(|refused| refused.finding.rule == rule);
        let why = match exemption(site, object, rule, now) {
            Some(Ok(_)) if is_refused => continue,
            Some(Ok(_)) => {
                judgement.action = Mode::Warn;
                judgement.spared = Some(Spared::Exempt);
                continue;
            }
            Some(Err(why)) => why,
            // The unknown name may be a misspelling of this rule.
            None => match names.iter().find(|name| rules::find(name).is_none()) {
                Some(name) => format!("annotation `{}` names the unknown rule {name:?}", site.exempt_annotation()),
                None => continue,
            },
        };
        judgement.finding.help.push_str(&format!("; the exemption is not valid: {why}"));
    }
    judgements.append(&mut refused);
    judgements.sort_by(|a, b| a.finding.path.cmp(&b.finding.path));
}

/// Returns true if a controller creates the object from another object and copies its annotations. The permission to
/// exempt was checked on that object.
fn is_copied(case: &Case<'_>) -> bool {
    let by = |name: &str| WORKLOAD_CONTROLLERS.contains(&name);
    case.workload().is_some() && case.is_new() && case.occasion.author.username().is_some_and(by)
}

/// Controllers that create pods and workloads from a template. The user who wrote the template was checked.
pub(crate) const WORKLOAD_CONTROLLERS: [&str; 8] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// Returns true if the old object already had a valid exemption from the rule that expires no earlier than the new one.
/// An exemption with a later expiry is a new one.
fn is_old(case: &Case<'_>, rule: &str, given: Exemption<'_>) -> bool {
    let before = case.change.old().and_then(|old| exemption(case.site, old, rule, case.occasion.now));
    let Some(Ok(before)) = before else { return false };
    before.until.is_none_or(|before| given.until.is_some_and(|given| given <= before))
}
