//! The traffic that a policy allows or passes on, if no later stage stops it.

use crate::model::{Action, Direction, Policy, Rule as TrafficRule, Stage};
use crate::rules::rule::Case;
use crate::view::Scene;

/// The policies that are evaluated after a policy.
pub(crate) struct LaterStages<'a> {
    scene: Scene<'a>,
    /// The policies of later stages that select all of its pods, in order of evaluation. None if the policy has no Pass
    /// rules, or if the namespaced policies still decide about passed traffic.
    policies: Option<Vec<&'a Policy>>,
}

impl<'a> LaterStages<'a> {
    pub(crate) fn after(case: &Case<'a>, policy: &Policy, budget: &mut usize) -> Self {
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

    /// Returns true if a rule of the policy allows traffic of pods, by itself or by passing it on.
    ///
    /// After the stage of the namespaced policies, passed traffic is allowed unless a later policy stops it: Calico
    /// evaluates the profile of the namespace last, and that allows everything.
    pub(crate) fn lets_through(&self, direction: Direction, rule: &TrafficRule, budget: &mut usize) -> bool {
        let lets = match rule.action {
            Action::Allow => true,
            Action::Pass => self.policies.as_ref().is_some_and(|later| !self.stop(later, direction, rule, budget)),
            Action::Deny | Action::Log => false,
        };
        lets && rule.is_for_pods()
    }

    /// Returns true if it is proved that these policies stop all traffic that a rule passes on: by a deny rule, or
    /// because their stage drops traffic that it does not allow.
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

/// The verb for such a rule, for messages.
pub(crate) fn verb(rule: &TrafficRule) -> &'static str {
    match rule.action {
        Action::Pass => "is passed on, past every isolating policy,",
        Action::Allow | Action::Deny | Action::Log => "is allowed",
    }
}

/// The pods of the subject that a rule applies to, as " with …". Empty if it applies to all of them.
pub(crate) fn for_whom(rule: &TrafficRule) -> String {
    match (&rule.only, &rule.within) {
        (None, None) => String::new(),
        (Some(only), None) => text!(" with {only}"),
        (None, Some(_)) => " with certain addresses".to_owned(),
        (Some(only), Some(_)) => text!(" with {only} and certain addresses"),
    }
}
