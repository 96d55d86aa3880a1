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

/// What keeps some of the pods of a policy from a connection, with these policies added up. What it assumed is added to
/// `assumed`.
pub(super) fn stopped_by<'a>(
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    direction: Direction,
    (other, traffic): (End<'a>, Traffic<'a>),
    assumed: &mut Vec<Assumption<'a>>,
) -> Stop<'a> {
    let question = Question { subject: Subject::Each(&policy.subject), direction, other, traffic };
    let is_own = |by: &Policy| std::ptr::eq(by, policy);
    let answer = scene.ask(around.iter().copied(), &question);
    assumed.extend(answer.assumed.iter().filter(|one| !assumed.contains(one)).copied().collect::<Vec<_>>());
    if answer.passes() {
        return Stop::Nothing;
    }
    let blamed = answer.decisions.into_iter().find_map(|decision| match decision {
        Decision::Isolated(by) if by.iter().any(|by| is_own(by)) => Some(Stop::Isolation),
        Decision::Denied(by, rule) if is_own(by) => Some(Stop::Rule(rule)),
        _ => None,
    });
    blamed.unwrap_or(Stop::Others)
}

/// How many policies are named of which something was assumed.
const MOST_NAMED: usize = 3;

/// What was assumed, for the end of an advice: nothing if nothing was.
pub(super) fn assumptions(assumed: &[Assumption<'_>]) -> String {
    let mut named: Vec<String> = Vec::new();
    for Assumption { policy, rule } in assumed {
        let what = if rule.is_some() { "rules of " } else { "" };
        let name = format!("{what}{}", policy.object);
        if !named.contains(&name) {
            named.push(name);
        }
    }
    if named.is_empty() {
        return String::new();
    }
    let more = if named.len() > MOST_NAMED { " and others" } else { "" };
    named.truncate(MOST_NAMED);
    format!(" (left out of account, since what is known does not tell whether they apply: {}{more})", named.join(", "))
}
