//! From findings to a verdict: which rules are asked, and what follows from what they find.

mod exemption;
mod ratchet;

pub use exemption::{Exemption, exemption};

use crate::budget::{self, Exceeded};
use crate::config::{Asked, Configuration};
use crate::model::{Body, Finding, Fix, Labels, Object, ObjectRef, Policy, Standing};
use crate::rules::{self, Case, Change, Findings, Mode, Occasion, RULES};
use crate::view::View;

use ratchet::Before;

/// What was found, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In the order of their places in the object, and there in the order of the list of rules.
    pub judgements: Vec<Judgement>,
}

/// A finding, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What was found.
    pub finding: Finding,
    /// What follows. Never [`Mode::Off`].
    pub action: Mode,
    /// Why it does not deny, where it otherwise would.
    pub spared: Option<Spared>,
}

/// Why a finding does not deny, where it otherwise would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// The object had the same fault before.
    WasThereBefore,
    /// The policy is staged: it shows what it would do, and does nothing.
    Staged,
    /// It is deleted, and its namespace too.
    NamespaceGoes,
    /// Enforcement is switched off in its namespace.
    HatchOpen,
    /// The object is exempt from the rule.
    Exempt,
}

impl Judgement {
    /// Whether the change is to be refused for it.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.action == Mode::Deny
    }

    /// Whether it denies, and there can be a reason why it should not. What a guard finds is wrong with the change, and not
    /// with the object.
    fn can_be_spared(&self) -> bool {
        self.denies() && !rules::find(self.finding.rule).is_some_and(rules::Definition::is_guard)
    }
}

impl Spared {
    /// It in few words.
    #[must_use]
    pub fn note(self) -> &'static str {
        match self {
            Self::WasThereBefore => "was there before",
            Self::Staged => "staged, so not denied",
            Self::NamespaceGoes => "its namespace goes too",
            Self::HatchOpen => "enforcement is off here",
            Self::Exempt => "exempt",
        }
    }
}

impl Verdict {
    /// Whether the change is to be refused.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.with(Mode::Deny).next().is_some()
    }

    /// The judgements from which this follows.
    pub fn with(&self, action: Mode) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(move |judgement| judgement.action == action)
    }
}

/// Judges one change of one object.
///
/// On a change of an object that was there, what it was already guilty of is shown and does not deny: whoever has to
/// change an old object is not held up by what others left in it. Nor does what a staged policy would do: staging it is how
/// one finds out. Nothing of that holds for guards.
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
    // What was found up to the limit is not compared with what would have been found before.
    if exceeded.is_none() {
        before.spare(&mut judgements);
    }
    spare_by_namespace(&case, &mut judgements);
    exemption::apply(configuration, &case, &mut judgements, || before.found());
    Verdict { judgements }
}

/// Whether it is the baseline controller that writes one of its policies, itself or through Calico's API server. What is in the
/// folder of policies is the decision of those who run the cluster, and the policy of the hatch allows everything on purpose.
fn is_of_the_controller(case: &Case<'_>) -> bool {
    let (object, site) = (case.change.object(), case.site);
    let is_its_user = || case.occasion.author.username() == Some(&*site.baseline.username);
    !object.policies().is_empty() && site.is_reserved(&object.id) && (is_its_user() || case.is_passed_on())
}

/// Has what can be spared not deny, for this reason.
fn spare(judgements: &mut [Judgement], reason: Spared) {
    for judgement in judgements.iter_mut().filter(|judgement| judgement.can_be_spared()) {
        judgement.action = Mode::Warn;
        judgement.spared = Some(reason);
    }
}

/// What a namespace does not have refused: with an open hatch anything about the objects in it, but not about itself; and
/// while it is being deleted no deletion, in whatever order.
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

/// What can be put right mechanically before an object is stored, by the rules that are set to do so.
#[must_use]
pub fn repairs(configuration: &Configuration, view: &View, change: Change<'_>, occasion: Occasion<'_>) -> Vec<Fix> {
    let case = Case { site: &configuration.site, view, change, occasion };
    let mut findings = Findings::default();
    for asked in asked(configuration, &case).filter(|asked| asked.rule.repairs() && asked.mode <= Mode::Warn) {
        asked.rule.check(&case, &mut findings);
    }
    findings.into_vec().into_iter().filter_map(|finding| finding.fix).collect()
}

/// The judgement of an object that could not be judged within the budget of its request. None where the rule is off.
///
/// The deletion of such an object is not denied: it has to be possible to remove it.
#[must_use]
pub fn unjudged(
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

/// What the rules find, guards first, and the limit that ended it, if one did.
fn ask(configuration: &Configuration, case: &Case<'_>) -> (Vec<Judgement>, Option<Exceeded>) {
    let mut judgements = Vec::new();
    let (guards, others): (Vec<_>, Vec<_>) = asked(configuration, case).partition(|asked| asked.definition.is_guard());
    let mut exceeded = None;
    for asked in guards.into_iter().chain(others) {
        let mut findings = Findings::default();
        exceeded = budget::attempt(|| asked.rule.check(case, &mut findings)).err();
        judgements.extend(findings.into_vec().into_iter().map(|finding| Judgement {
            finding,
            action: asked.mode,
            spared: None,
        }));
        if exceeded.is_some() {
            break;
        }
    }
    // What stands at one place is in the order of the list of rules.
    let position = |judgement: &Judgement| RULES.iter().position(|rule| rule.name == judgement.finding.rule);
    judgements.sort_by_cached_key(|judgement| (judgement.finding.path.clone(), position(judgement)));
    (judgements, exceeded)
}

/// The rules to ask in the namespace of the case.
fn asked<'a>(configuration: &'a Configuration, case: &Case<'_>) -> impl Iterator<Item = Asked<'a>> {
    let object = case.change.object();
    let namespace = object.namespace();
    let known = own_labels(case).or_else(|| case.view.all_labels(namespace?));
    configuration.asked(namespace, known)
}

/// The labels of the object, if it is a namespace. Those that a change is only about to set do not choose the rules for it.
fn own_labels<'a>(case: &Case<'a>) -> Option<&'a Labels> {
    let object = case.change.object();
    match &object.body {
        Body::Namespace(_) => labels(case.change.old().unwrap_or(object)),
        Body::Policies(_) | Body::Tier(_) | Body::Workload(_) | Body::Service(_) => None,
    }
}

fn labels(object: &Object) -> Option<&Labels> {
    match &object.body {
        Body::Namespace(namespace) => Some(&namespace.labels),
        Body::Policies(_) | Body::Tier(_) | Body::Workload(_) | Body::Service(_) => None,
    }
}
