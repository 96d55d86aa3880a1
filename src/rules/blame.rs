//! Which policy keeps pods from something, or something from pods.

use crate::model::{Action, Assumption, Decision, Direction, End, Policy, Question, Rule, Side, Subject, Traffic};
use crate::view::Scene;

/// What keeps some of the pods of a policy from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop<'a> {
    /// Nothing does.
    Nothing,
    /// Other policies. Whoever wrote them meant it: it is not the fault of this one.
    Others,
    /// That the policy isolates them.
    Isolation,
    /// A rule of the policy.
    Rule(&'a Rule),
}

impl Stop<'_> {
    /// Whether it is something of the policy itself.
    pub(super) fn is_own(self) -> bool {
        matches!(self, Self::Isolation | Self::Rule(_))
    }
}

/// Whether a side can stop anything.
pub(super) fn can_stop(side: &Side) -> bool {
    side.isolates || side.rules.iter().any(|rule| rule.action == Action::Deny)
}

/// What keeps some of the pods of a policy from a connection, with these policies added up, and what was assumed.
pub(super) fn stopped_by<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    (other, traffic): (End<'a>, Traffic<'a>),
) -> (Stop<'a>, Vec<Assumption<'a>>) {
    let question = Question { subject: Subject::Each(&policy.subject), direction, other, traffic };
    let is_own = |by: &Policy| std::ptr::eq(by, policy);
    let answer = scene.ask(around.iter().copied(), &question);
    if answer.passes() {
        return (Stop::Nothing, answer.assumed);
    }
    let blamed = answer.decisions.into_iter().find_map(|decision| match decision {
        Decision::Isolated(by) if by.iter().any(|by| is_own(by)) => Some(Stop::Isolation),
        Decision::Denied(by, rule) if is_own(by) => Some(Stop::Rule(rule)),
        _ => None,
    });
    (blamed.unwrap_or(Stop::Others), answer.assumed)
}

/// What of a policy keeps some of its pods from all of these connections, and what was assumed. None if one of them passes,
/// or if nothing of the policy stops any.
pub(super) fn stopped_everywhere<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    ways: impl IntoIterator<Item = (End<'a>, Traffic<'a>)>,
) -> Option<(Stop<'a>, Vec<Assumption<'a>>)> {
    let mut own: Option<(Stop<'a>, Vec<Assumption<'a>>)> = None;
    for way in ways {
        match stopped_by(scene, around, policy, direction, way) {
            (Stop::Nothing, _) => return None,
            stopped if stopped.0.is_own() => own = own.or(Some(stopped)),
            _ => {}
        }
    }
    own
}

/// How many policies are named of which something was assumed.
const MOST_NAMED: usize = 3;

/// What was assumed, for the end of an advice: nothing if nothing was.
pub(super) fn assumptions(assumed: &[Assumption<'_>]) -> String {
    // One policy may have thousands of such rules.
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
