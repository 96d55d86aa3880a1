//! What a policy lets through: what it allows, and what it passes on to where nothing stops it.

use super::Case;
use crate::model::{Action, Direction, Policy, Rule as TrafficRule, Stage};
use crate::view::Scene;

/// What comes after a policy.
pub(super) struct Later<'a> {
    scene: Scene<'a>,
    /// The policies of later stages that are for all its pods, in the order in which they are asked. None where what it passes
    /// on is not past what isolates, so that the policies of the namespace decide.
    policies: Option<Vec<&'a Policy>>,
}

impl<'a> Later<'a> {
    pub(super) fn than(case: &Case<'a>, policy: &Policy, budget: &mut usize) -> Self {
        let scene = case.after();
        let passes = policy.sides().any(|(_, side)| side.rules.iter().any(|rule| rule.action == Action::Pass));
        if !passes || policy.stage != Stage::Policies {
            return Self { scene, policies: None };
        }
        let own = policy.place(&scene);
        let mut later = scene.policies_for(&policy.subject);
        later.retain(|other| other.place(&scene) > own && other.subject.covers(&policy.subject, &scene, budget));
        later.sort_by(|a, b| {
            let by_order = || a.order.position().cmp(&b.order.position());
            a.place(&scene).cmp(&b.place(&scene)).then_with(by_order).then_with(|| a.object.cmp(&b.object))
        });
        Self { scene, policies: Some(later) }
    }

    /// Whether a rule of the policy lets traffic of pods through.
    ///
    /// Past the stage that drops what none of its policies allows, what is passed on passes unless somebody stops it there: the
    /// profile of a namespace in Calico, which is asked last, allows everything.
    pub(super) fn lets_through(&self, direction: Direction, rule: &TrafficRule, budget: &mut usize) -> bool {
        let lets = match rule.action {
            Action::Allow => true,
            Action::Pass => self.policies.as_ref().is_some_and(|later| !self.stop(later, direction, rule, budget)),
            Action::Deny | Action::Log => false,
        };
        lets && rule.is_for_pods()
    }

    /// Whether it is proved that these stop all that a rule passes on: by a rule that denies it, or since their stage drops what
    /// it does not allow.
    fn stop(&self, later: &[&Policy], direction: Direction, rule: &TrafficRule, budget: &mut usize) -> bool {
        for stage in later.chunk_by(|a, b| a.stage == b.stage) {
            let mut rules = stage.iter().flat_map(|policy| &policy.side(direction).rules);
            let decides = |other: &&TrafficRule| {
                matches!(other.action, Action::Allow | Action::Deny) && other.covers(rule, &self.scene, budget)
            };
            if let Some(decides) = rules.find(decides) {
                return decides.action == Action::Deny;
            }
            if stage.iter().any(|policy| policy.isolates(direction, &self.scene)) {
                return true;
            }
        }
        false
    }
}

/// What becomes of what such a rule means, in words.
pub(super) fn verb(rule: &TrafficRule) -> &'static str {
    match rule.action {
        Action::Pass => "is passed on, past all that isolates,",
        Action::Allow | Action::Deny | Action::Log => "is allowed",
    }
}

/// For which of the pods of its policy a rule is, in words; nothing if for all of them.
pub(super) fn for_whom(rule: &TrafficRule) -> String {
    let mut whom = String::new();
    if let Some(only) = &rule.only {
        whom.push_str(&text!(", those with {only}"));
    }
    if rule.within.is_some() {
        whom.push_str(", those with some addresses");
    }
    whom
}
