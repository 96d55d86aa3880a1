//! Which policy keeps pods from something, or something from pods.

use crate::model::Direction;
use crate::model::{Action, Decision, End, Policy, Question, Rule, Side, Subject, Traffic};
use crate::view::Scene;

/// What of a policy keeps some of its pods from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop<'a> {
    /// Nothing: it passes, or something else stops it.
    Nothing,
    /// That the policy isolates them.
    Isolation,
    /// A rule of it.
    Rule(&'a Rule),
}

/// Whether a side can stop anything.
pub(super) fn stops(side: &Side) -> bool {
    side.isolates || side.rules.iter().any(|rule| rule.action == Action::Deny)
}

/// What of a policy keeps some of its pods from a connection, with these policies added up. What another policy denies
/// them is not its fault: whoever wrote that meant it.
pub(super) fn stopped_by<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    (other, traffic): (End<'a>, Traffic<'a>),
) -> Stop<'a> {
    let question = Question { subject: Subject::Each(&policy.subject), direction, other, traffic };
    let is_own = |by: &Policy| std::ptr::eq(by, policy);
    let blamed =
        scene.ask(around.iter().copied(), &question).decisions.into_iter().find_map(|decision| match decision {
            Decision::Isolated(by) if by.iter().any(|by| is_own(by)) => Some(Stop::Isolation),
            Decision::Denied(by, rule) if is_own(by) => Some(Stop::Rule(rule)),
            _ => None,
        });
    blamed.unwrap_or(Stop::Nothing)
}
