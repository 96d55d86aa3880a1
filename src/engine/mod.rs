//! The engine: evaluates the rules for a change, and turns their findings into a verdict.

mod exemption;
mod ratchet;

pub(crate) use exemption::WORKLOAD_CONTROLLERS;
pub use exemption::{Exemption, exemption};

use crate::budget::{self, Exceeded, Limits};
use crate::config::{Asked, Configuration};
use crate::model::{Finding, Fix, Labels, ObjectRef, Policy, Standing};
use crate::rules::{self, Case, Change, Findings, Mode, Occasion, RULES};
use crate::view::View;

use ratchet::Before;

/// The findings for one change, each with its action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Sorted by the path in the object. Findings at the same path are in the order of [`RULES`].
    pub judgements: Vec<Judgement>,
}

/// A finding and its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The finding.
    pub finding: Finding,
    /// The action. Never [`Mode::Off`].
    pub action: Mode,
    /// The reason why the finding does not deny, although its rule is set to deny.
    pub spared: Option<Spared>,
}

/// The reason why a finding does not deny, although its rule is set to deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// The object already had the same fault before the change.
    WasThereBefore,
    /// The policy is staged: it only shows what it would do.
    Staged,
    /// The object is deleted together with its namespace.
    NamespaceGoes,
    /// The hatch of its namespace is open: enforcement is switched off.
    HatchOpen,
    /// The object is exempt from the rule.
    Exempt,
}

impl Judgement {
    /// Returns true if the finding denies the change.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.action == Mode::Deny
    }

    /// Returns true if the finding denies the change and may be spared. Findings of guards never are: they concern the
    /// change and not the object.
    fn can_be_spared(&self) -> bool {
        self.denies() && !rules::find(self.finding.rule).is_some_and(rules::Definition::is_guard)
    }
}

impl Spared {
    /// A short note for messages.
    #[must_use]
    pub fn note(self) -> &'static str {
        match self {
            Self::WasThereBefore => "existing fault",
            Self::Staged => "staged",
            Self::NamespaceGoes => "namespace is being deleted",
            Self::HatchOpen => "enforcement is disabled",
            Self::Exempt => "exempt",
        }
    }
}

impl Verdict {
    /// Returns true if the change is denied.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.with(Mode::Deny).next().is_some()
    }

    /// The judgements with this action.
    pub fn with(&self, action: Mode) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(move |judgement| judgement.action == action)
    }
}

/// Evaluates one change of one object.
///
/// Faults that a changed object already had are reported, but they do not deny the change: a user who has to change an
/// old object is not blocked by faults that others left in it. Faults in a staged policy do not deny either, because
/// staging is the way to test a policy. Guards always apply.
#[must_use]
pub fn judge(configuration: &Configuration, view: &View, change: Change<'_>, occasion: Occasion<'_>) -> Verdict {
    let case = Case { site: &configuration.site, view, change, occasion };
    if is_of_the_controller(&case) {
        return Verdict::default();
    }
    let (mut judgements, exceeded) = ask(configuration, &case);
    if let Some(exceeded) = exceeded {
        let is_deleted = matches!(change, Change::Delete { .. });
        let labels = own_labels(&case).or_else(|| view.all_labels(change.object().namespace()?));
        judgements.extend(unjudged(configuration, &change.object().id, labels, is_deleted, exceeded));
    }
    let is_staged = |policy: &Policy| policy.standing == Standing::Staged;
    let policies = case.change.object().policies();
    if policies.iter().any(is_staged) && policies.iter().all(is_staged) {
        spare(&mut judgements, Spared::Staged);
    }
    let before = Before::new(configuration, case);
    // The findings are incomplete past the limit, so they cannot be compared with the earlier ones.
    if exceeded.is_none() {
        before.spare(&mut judgements);
    }
    spare_by_namespace(&case, &mut judgements);
    exemption::apply(configuration, &case, &mut judgements, || before.found());
    Verdict { judgements }
}

/// Evaluates one change of one object within the budget of a request, for callers that answer no request.
#[must_use]
pub fn judge_within_budget(
    configuration: &Configuration,
    view: &View,
    change: Change<'_>,
    occasion: Occasion<'_>,
) -> Verdict {
    let judged = budget::run(Limits::default(), || judge(configuration, view, change, occasion));
    judged.unwrap_or_else(|exceeded| {
        let is_deleted = matches!(change, Change::Delete { .. });
        let judgement = unjudged(configuration, &change.object().id, None, is_deleted, exceeded);
        Verdict { judgements: judgement.into_iter().collect() }
    })
}

/// Returns true if the baseline controller writes one of its own policies, directly or through Calico's API server.
/// Such writes are not evaluated: the cluster administrators decide on the policy set, and the hatch policy allows
/// everything on purpose.
fn is_of_the_controller(case: &Case<'_>) -> bool {
    let (object, site) = (case.change.object(), case.site);
    let is_its_user = || case.occasion.author.username() == Some(&*site.baseline.username);
    !object.policies().is_empty() && site.is_reserved(&object.id) && (is_its_user() || case.is_passed_on())
}

/// Turns every denial that can be spared into a warning, for this reason.
fn spare(judgements: &mut [Judgement], reason: Spared) {
    for judgement in judgements.iter_mut().filter(|judgement| judgement.can_be_spared()) {
        judgement.action = Mode::Warn;
        judgement.spared = Some(reason);
    }
}

/// Spares denials because of the state of the namespace. An open hatch spares all objects in the namespace, but not the
/// Namespace itself. While the namespace is being deleted, every deletion in it is spared, in any order.
fn spare_by_namespace(case: &Case<'_>, judgements: &mut [Judgement]) {
    if !judgements.iter().any(Judgement::denies) {
        return;
    }
    let object = case.change.object();
    let Some(facts) = object.id.namespace.as_deref().and_then(|name| case.view.namespace(name)) else { return };
    if facts.is_terminating && matches!(case.change, Change::Delete { .. }) {
        spare(judgements, Spared::NamespaceGoes);
    }
    let Some(labels) = &facts.labels else { return };
    if let Some(Ok(_)) = case.site.hatch(labels, &facts.annotations, case.occasion.now) {
        spare(judgements, Spared::HatchOpen);
    }
}

/// The fixes that can be applied to an object before it is stored, from the rules that are set to repair.
#[must_use]
pub fn repairs(configuration: &Configuration, view: &View, change: Change<'_>, occasion: Occasion<'_>) -> Vec<Fix> {
    let case = Case { site: &configuration.site, view, change, occasion };
    let mut findings = Findings::default();
    for asked in asked(configuration, &case).filter(|asked| asked.rule.repairs() && asked.mode <= Mode::Warn) {
        asked.rule.check(&case, &mut findings);
    }
    findings.into_vec().into_iter().filter_map(|finding| finding.fix).collect()
}

/// The judgement of an object whose evaluation exceeded the budget of its request. `None` if the rule is off.
///
/// The deletion of such an object is never denied, so that a user can remove it.
#[must_use]
pub(crate) fn unjudged(
    configuration: &Configuration,
    object: &ObjectRef,
    labels: Option<&Labels>,
    is_deleted: bool,
    exceeded: Exceeded,
) -> Option<Judgement> {
    let finding = rules::too_complex(object.clone(), exceeded);
    let mut asked = configuration.asked(object.namespace.as_deref(), labels);
    let asked = asked.find(|asked| asked.definition.name == finding.rule)?;
    let action = if is_deleted { asked.mode.max(Mode::Warn) } else { asked.mode };
    Some(Judgement { finding, action, spared: None })
}

/// Evaluates the rules, guards first. Returns their findings, and the limit that stopped the evaluation, if one was
/// exceeded.
fn ask(configuration: &Configuration, case: &Case<'_>) -> (Vec<Judgement>, Option<Exceeded>) {
    let mut judgements = Vec::new();
    let (guards, others): (Vec<_>, Vec<_>) = asked(configuration, case).partition(|asked| asked.definition.is_guard());
    let mut exceeded = None;
    for asked in guards.into_iter().chain(others) {
        let mut findings = Findings::default();
        exceeded = budget::attempt(|| asked.rule.check(case, &mut findings)).err();
        judgements.extend(findings.into_vec().into_iter().map(|finding| Judgement {
            action: if finding.is_advice { asked.mode.max(Mode::Warn) } else { asked.mode },
            finding,
            spared: None,
        }));
        if exceeded.is_some() {
            break;
        }
    }
    // Findings at the same path are in the order of [`RULES`].
    let position = |judgement: &Judgement| RULES.iter().position(|rule| rule.name == judgement.finding.rule);
    judgements.sort_by_cached_key(|judgement| (judgement.finding.path.clone(), position(judgement)));
    (judgements, exceeded)
}

/// The rules that are enabled in the namespace of the case, with their modes.
fn asked<'a>(configuration: &'a Configuration, case: &Case<'_>) -> impl Iterator<Item = Asked<'a>> {
    let object = case.change.object();
    let namespace = object.namespace();
    let known = own_labels(case).or_else(|| case.view.all_labels(namespace?));
    configuration.asked(namespace, known)
}

/// The labels of the object, if it is a namespace. On an update they are the old labels: labels that the change sets do
/// not choose its rules.
fn own_labels<'a>(case: &Case<'a>) -> Option<&'a Labels> {
    let object = case.change.object();
    object.as_namespace()?;
    case.change.old().unwrap_or(object).as_namespace().map(|namespace| &namespace.labels)
}
