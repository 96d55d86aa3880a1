//! Objects that are exempt from rules, by an annotation of theirs.
//!
//! One function decides it, for the gate, for `check`, and for whatever looks at stored objects later, so that an exemption
//! that is over is over everywhere.

use jiff::Timestamp;

use super::{Judgement, Spared};
use crate::config::Configuration;
use crate::model::{Finding, Object, Path};
use crate::rules::{self, Case, Mode};
use crate::view::Site;

/// What an object says about a rule that does not hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption<'a> {
    /// Why.
    pub reason: &'a str,
    /// Until when; none where there is no end.
    pub until: Option<Timestamp>,
}

/// The exemption of an object from a rule at this time. None where the object does not name the rule.
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
    let written = |key: &str| object.annotations.get(key).map(str::trim).filter(|text| !text.is_empty());
    let Some(reason) = written(&site.reason_annotation()) else {
        return Some(Err(format!("`{}` names it without `{}`", site.exempt_annotation(), site.reason_annotation())));
    };
    let until = match written(&site.until_annotation()).map(|text| (text, text.parse::<Timestamp>())) {
        None => None,
        Some((_, Ok(until))) => Some(until),
        Some((text, Err(_))) => {
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
    let names = object.annotations.get(&site.exempt_annotation()).unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Turns denials into warnings where the object is exempt, and denies that somebody makes it so who may not.
pub(super) fn apply(configuration: &Configuration, case: &Case<'_>, judgements: &mut Vec<Judgement>) {
    let Some(object) = case.written() else { return };
    let (site, now) = (case.site, case.occasion.now);
    let mut refused: Vec<Judgement> = Vec::new();
    for definition in named(site, object).filter_map(rules::find) {
        let rule = definition.name;
        let Some(Ok(given)) = exemption(site, object, rule, now) else { continue };
        // Whoever makes it last longer gives a new one.
        let before = case.change.old().and_then(|old| exemption(site, old, rule, now)).and_then(Result::ok);
        let is_old = before
            .is_some_and(|before| before.until.is_none_or(|before| given.until.is_some_and(|given| given <= before)));
        if is_old || !configuration.modes().any(|(name, mode)| name == rule && mode == Mode::Deny) {
            continue;
        }
        let Err(why) = case.occasion.author.may_bypass(rule) else { continue };
        let path = Path::root().field("metadata").field("annotations").key(&site.exempt_annotation());
        let message = format!("the object is made exempt from {rule} by somebody who may not do that: {why}");
        let help =
            format!("ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {rule}, to set it");
        let finding = Finding { rule, object: object.id.clone(), path, message, help, fix: None };
        refused.push(Judgement { finding, action: Mode::Deny, spared: None });
    }
    for judgement in judgements.iter_mut().filter(|judgement| judgement.denies()) {
        let rule = judgement.finding.rule;
        match exemption(site, object, rule, now) {
            None => {}
            Some(Ok(_)) if refused.iter().any(|refused| refused.finding.rule == rule) => {}
            Some(Ok(_)) => {
                judgement.action = Mode::Warn;
                judgement.spared = Some(Spared::Exempt);
            }
            Some(Err(why)) => judgement.finding.help.push_str(&format!("; it is not exempt: {why}")),
        }
    }
    judgements.append(&mut refused);
    judgements.sort_by(|a, b| a.finding.path.cmp(&b.finding.path));
}
