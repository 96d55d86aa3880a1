//! Objects that are exempt from rules, by an annotation of theirs.
//!
//! One function decides it, for the gate, for `check`, and for whatever looks at stored objects later, so that an exemption
//! that is over is over everywhere.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Judgement, Spared};
use crate::budget;
use crate::config::Configuration;
use crate::model::{Finding, Object, Path};
use crate::rules::{self, Case, Mode};
use crate::view::{Site, parse_rfc3339};

/// What an object says about a rule that does not hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption<'a> {
    /// Why.
    pub reason: &'a str,
    /// Until when; none where there is no end.
    pub until: Option<Timestamp>,
}

/// The exemption of an object from a rule at this time, whoever gave it. None where the object does not name the rule.
///
/// # Errors
/// It names the rule and is no exemption: why not.
pub fn exemption<'a>(
    site: &Site,
    object: &'a Object,
    rule: &str,
    now: Timestamp,
) -> Option<Result<Exemption<'a>, String>> {
    if !named(site, object).any(|name| name == rule) {
        return None;
    }
    // Whoever may do what a guard forbids needs no exemption, and nobody can hand that on to those who change the object later.
    if rules::find(rule).is_some_and(rules::Definition::is_guard) {
        return Some(Err("nothing can be exempt from this rule".to_owned()));
    }
    let written = |key: &str| object.annotations.get(key).map(str::trim).filter(|text| !text.is_empty());
    let Some(reason) = written(&site.reason_annotation()) else {
        return Some(Err(format!("`{}` names it without `{}`", site.exempt_annotation(), site.reason_annotation())));
    };
    let until = match written(&site.until_annotation()).map(|text| (text, parse_rfc3339(text))) {
        None => None,
        Some((_, Some(until))) => Some(until),
        Some((text, None)) => {
            return Some(Err(format!(
                "`{}` is {text:?}, which is no time as RFC 3339 writes it",
                site.until_annotation()
            )));
        }
    };
    Some(match until {
        Some(until) if until <= now => Err(format!("the exemption was until {until}")),
        _ => Ok(Exemption { reason, until }),
    })
}

/// The names in the annotation of an object with the rules that do not hold for it.
fn named<'a>(site: &Site, object: &'a Object) -> impl Iterator<Item = &'a str> {
    // Most have none that means anything.
    let annotations = Some(&object.annotations).filter(|annotations| !annotations.is_empty());
    let names = annotations.and_then(|annotations| annotations.get(&site.exempt_annotation())).unwrap_or_default();
    names.split(',').inspect(|_| budget::charge(1)).map(str::trim).filter(|name| !name.is_empty())
}

/// Turns denials into warnings where the object is exempt, and denies that somebody makes it so who may not. What such an
/// exemption was to spare is denied too, as it would be without it.
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
        // One that spared nothing yet was given by whoever liked.
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
        let message = format!("the object is made exempt from {rule} by somebody who may not do that: {why}");
        let help =
            format!("ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {rule}, to set it");
        let finding = Finding { rule, object: object.id.clone(), path, message, closest: None, help, fix: None };
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
            // Somebody meant one of the rules by it, and maybe this one.
            None => match names.iter().find(|name| rules::find(name).is_none()) {
                Some(name) => format!("`{}` names {name:?}, which is no rule", site.exempt_annotation()),
                None => continue,
            },
        };
        judgement.finding.help.push_str(&format!("; it is not exempt: {why}"));
    }
    judgements.append(&mut refused);
    judgements.sort_by(|a, b| a.finding.path.cmp(&b.finding.path));
}

/// Whether the object is made from another one, and its annotations with it. Whoever gave them to that one was asked then.
fn is_copied(case: &Case<'_>) -> bool {
    let by = |name: &str| WORKLOAD_CONTROLLERS.contains(&name);
    case.workload().is_some() && case.is_new() && case.occasion.author.username().is_some_and(by)
}

/// Those who make pods, and what makes pods, from a template that somebody was allowed to write.
const WORKLOAD_CONTROLLERS: [&str; 8] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// Whether the object had an exemption from a rule that is still one, and lasted as long. Whoever makes it last longer gives
/// a new one.
fn is_old(case: &Case<'_>, rule: &str, given: Exemption<'_>) -> bool {
    let before = case.change.old().and_then(|old| exemption(case.site, old, rule, case.occasion.now));
    let Some(Ok(before)) = before else { return false };
    before.until.is_none_or(|before| given.until.is_some_and(|given| given <= before))
}
