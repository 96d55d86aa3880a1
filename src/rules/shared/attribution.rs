//! Attribution: the policy or rule that blocks a connection.

use crate::model::{Action, Assumption, Decision, Direction, End, Policy, Question, Rule, Side, Subject, Traffic};
use crate::view::Scene;

/// The cause that blocks a connection of some of the pods that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocker<'a> {
    /// The connection passes.
    Nothing,
    /// Other policies block it. That is the decision of their authors, so this policy is not reported.
    Others,
    /// The policy isolates the pods.
    Isolation,
    /// A rule of the policy denies it.
    Rule(&'a Rule),
}

impl Blocker<'_> {
    /// Returns true if the policy itself blocks the connection.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Isolation | Self::Rule(_))
    }
}

/// Returns true if this side of a policy isolates or denies.
pub(crate) fn can_stop(side: &Side) -> bool {
    side.isolates || side.rules.iter().any(|rule| rule.action == Action::Deny)
}

/// Finds the cause that blocks a connection of some of the pods that a policy selects, with these policies added up.
/// Also returns the rules that were ignored because it is unknown whether they apply.
pub(crate) fn stopped_by<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    (other, traffic): (End<'a>, Traffic<'a>),
) -> (Blocker<'a>, Vec<Assumption<'a>>) {
    let question = Question { subject: Subject::Each(&policy.subject), direction, other, traffic };
    let is_own = |by: &Policy| std::ptr::eq(by, policy);
    let answer = scene.ask(around.iter().copied(), &question);
    if answer.passes() {
        return (Blocker::Nothing, answer.assumed);
    }
    let blamed = answer.decisions.into_iter().find_map(|decision| match decision {
        Decision::Isolated(by) if by.iter().any(|by| is_own(by)) => Some(Blocker::Isolation),
        Decision::Denied(by, rule) if is_own(by) => Some(Blocker::Rule(rule)),
        _ => None,
    });
    // An ignored rule that denies, too, would not let the connection pass.
    let mut assumed = answer.assumed;
    assumed.retain(|one| may_open(one, direction));
    (blamed.unwrap_or(Blocker::Others), assumed)
}

/// Returns true if a rule or policy, of which it is unknown whether it applies, could let a connection pass.
fn may_open(assumed: &Assumption<'_>, direction: Direction) -> bool {
    let opens = |rule: &Rule| matches!(rule.action, Action::Allow | Action::Pass);
    assumed.rule.map_or_else(|| assumed.policy.side(direction).rules.iter().any(opens), opens)
}

/// Finds the part of a policy that blocks some of its pods from all of these connections, and the assumptions of that
/// answer. None if one of the connections passes, or if only other policies block them.
pub(crate) fn stopped_everywhere<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    ways: impl IntoIterator<Item = (End<'a>, Traffic<'a>)>,
) -> Option<(Blocker<'a>, Vec<Assumption<'a>>)> {
    let mut own: Option<(Blocker<'a>, Vec<Assumption<'a>>)> = None;
    for way in ways {
        match stopped_by(scene, around, policy, direction, way) {
            (Blocker::Nothing, _) => return None,
            stopped if stopped.0.is_own() => own = own.or(Some(stopped)),
            _ => {}
        }
    }
    own
}

/// Finds the decision that blocks a connection of one pod. None if it passes, or if it is unknown whether a rule lets it pass.
pub(crate) fn surely_stopped<'a>(
    scene: Scene<'a>,
    policies: impl IntoIterator<Item = &'a Policy>,
    question: &Question<'a>,
) -> Option<Decision<'a>> {
    let answer = scene.ask(policies, question);
    let may_pass = answer.assumed.iter().any(|assumed| may_open(assumed, question.direction));
    let stops = |decision: &Decision<'_>| !decision.passes();
    answer.decisions.into_iter().find(stops).filter(|_| !may_pass)
}

/// Maximum number of policies that are named as ignored.
const MOST_NAMED: usize = 3;

/// The ignored policies, as a suffix for a help text. Empty if there are none.
pub(crate) fn assumptions(assumed: &[Assumption<'_>]) -> String {
    // One policy may have thousands of ignored rules, so each policy is named once.
    let mut policies: Vec<&Policy> = Vec::new();
    for Assumption { policy, .. } in assumed {
        if policies.len() <= MOST_NAMED && !policies.iter().any(|named| std::ptr::eq(*named, *policy)) {
            policies.push(policy);
        }
    }
    if policies.is_empty() {
        return String::new();
    }
    let more = if policies.len() > MOST_NAMED { " and others" } else { "" };
    let named: Vec<String> = policies.iter().take(MOST_NAMED).map(|policy| policy.object.to_string()).collect();
    text!(" (ignored, because it is unknown whether they apply: {}{more})", named.join(", "))
}
