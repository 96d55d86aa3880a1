//! Explains a connection: the outcome, the policies that apply at each end, and the rule that decides.

use serde::Serialize;

use super::nearest::{nearest, place};
use super::place::Place;
use super::try_it;
use crate::model::{
    Answer, Connection, Decision, Direction, End, Ends, Entity, Outcome, Policy, PortRange, Relation, Rule, Stage,
    Traffic, connect, names, reach,
};
use crate::view::Scene;

/// The outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Allowed.
    Allowed,
    /// Depends on unknown facts.
    Undecided,
    /// Blocked.
    Blocked,
}

impl Verdict {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Undecided => "undecided",
            Self::Blocked => "blocked",
        }
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allowed => Self::Allowed,
            Outcome::Blocked => Self::Blocked,
            Outcome::Undecided => Self::Undecided,
        }
    }
}

/// The explanation of a connection over some ports.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The ports, such as `TCP 8080`.
    pub ports: String,
    /// The outcome.
    pub verdict: Verdict,
    /// The sender's end. None if no policy applies to a sender of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<SideOfFlow>,
    /// The receiver's end. None if no policy applies to a receiver of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<SideOfFlow>,
    /// A fact that no policy states and that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// A command that tries the connection in the cluster, if the sender is a pod and the port is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// A command that shows dropped packets on the node of the pods, if the network plugin is known from the policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspect: Option<&'static str>,
}

/// One end of a connection.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideOfFlow {
    /// The pods at this end.
    pub pods: String,
    /// The outcome at this end.
    pub verdict: Verdict,
    /// What decides.
    pub reason: String,
    /// The policies that select the pods, in the order of their evaluation.
    pub policies: Vec<PolicyLine>,
    /// The rule that nearly allows the connection, if it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closest: Option<String>,
    /// The facts that were unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
}

/// A policy that selects the pods at one end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLine {
    /// The policy.
    pub policy: String,
    /// The tier in which it is evaluated.
    pub tier: String,
    /// True if it isolates the pods in this direction.
    pub isolates: bool,
    /// The paths of its rules that decide the connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// Explains the connection between two places: over the port of the receiver, or over every port.
#[must_use]
pub fn explain(scene: Scene<'_>, from: &Place, to: &Place) -> Vec<Flow> {
    let relation = if from.is_same_pod(to) { Relation::SamePod } else { Relation::Apart };
    let ends = Ends { from: from.end(), to: to.end(), relation };
    let flow = |ports: String, traffic: Traffic<'_>, connection: Connection<'_>| {
        let side = |own: &Place, end: End<'_>, other: End<'_>, direction, answer: Option<&Answer<'_>>| {
            answer.map(|answer| side(scene, (own, end, other), direction, traffic, answer))
        };
        Flow {
            from: from.name.clone(),
            to: to.name.clone(),
            ports,
            verdict: connection.outcome.into(),
            egress: side(from, ends.from, ends.to, Direction::Egress, connection.egress.as_ref()),
            ingress: side(to, ends.to, ends.from, Direction::Ingress, connection.ingress.as_ref()),
            note: match (relation, &ends.from) {
                (Relation::SamePod, _) => Some("a pod always reaches itself"),
                (_, End::Entity(Entity::RemoteNode)) => {
                    Some("the node of a pod always reaches it; this is about other nodes")
                }
                _ => None,
            },
            attempt: try_it::command(from, to),
            inspect: (connection.outcome != Outcome::Allowed).then(|| try_it::inspection(scene, from, to)).flatten(),
        }
    };
    if let Some((protocol, number)) = to.port {
        let traffic = Traffic::Port { protocol, number, names: names(to.listed(), protocol, number) };
        return vec![flow(format!("{protocol} {number}"), traffic, connect(&ends, traffic, &scene))];
    }
    let ranges = reach(&ends, to.listed(), &scene);
    let mut flows = Vec::new();
    for PortRange { protocol, first, last, connection } in ranges {
        let traffic = Traffic::Port { protocol, number: first, names: names(to.listed(), protocol, first) };
        flows.push(flow(protocol.ports(first, last), traffic, connection));
    }
    merge(flows)
}

/// Joins flows that differ in their ports only.
fn merge(flows: Vec<Flow>) -> Vec<Flow> {
    let mut merged: Vec<Flow> = Vec::new();
    for flow in flows {
        let reasons = |flow: &Flow| {
            let of = |side: &Option<SideOfFlow>| side.as_ref().map(|side| (side.verdict, side.reason.clone()));
            (flow.verdict, of(&flow.egress), of(&flow.ingress))
        };
        match merged.iter_mut().find(|other| reasons(other) == reasons(&flow)) {
            Some(other) => {
                other.ports.push_str(", ");
                other.ports.push_str(&flow.ports);
            }
            None => merged.push(flow),
        }
    }
    merged
}

fn side(
    scene: Scene<'_>,
    (own, end, other): (&Place, End<'_>, End<'_>),
    direction: Direction,
    traffic: Traffic<'_>,
    answer: &Answer<'_>,
) -> SideOfFlow {
    let End::Pod(pod) = end else {
        return SideOfFlow {
            pods: own.name.clone(),
            verdict: Verdict::Allowed,
            reason: "no policy applies".to_owned(),
            policies: Vec::new(),
            closest: None,
            assumed: Vec::new(),
        };
    };
    let mut policies: Vec<&Policy> = scene.policies(pod.namespace).collect();
    policies.retain(|policy| {
        let side = policy.side(direction);
        (side.isolates || !side.rules.is_empty()) && policy.subject.mean(&pod, &scene) == Some(true)
    });
    policies.sort_by(|a, b| {
        let by_order = || a.order.position().cmp(&b.order.position());
        a.place(&scene).cmp(&b.place(&scene)).then_with(by_order).then_with(|| a.object.cmp(&b.object))
    });
    let verdict: Verdict = answer.outcome(direction).into();
    let reason =
        answer.decisions.first().map_or_else(|| "no policy applies".to_owned(), |decision| reason(decision, direction));
    let deciding = |policy: &Policy| -> Vec<String> {
        answer
            .decisions
            .iter()
            .filter_map(|decision| match decision {
                Decision::Allowed(by, rule) | Decision::Denied(by, rule) if std::ptr::eq(*by, policy) => {
                    Some(rule.path.to_string())
                }
                _ => None,
            })
            .collect()
    };
    let lines = policies.iter().map(|policy| PolicyLine {
        policy: policy.object.to_string(),
        tier: tier(policy),
        isolates: policy.isolates(direction, &scene),
        rules: deciding(policy),
    });
    let assumed = answer.assumed.iter().map(|assumption| match assumption.rule {
        Some(rule) => format!("{} may match: {}", place(assumption.policy, rule), about(rule, direction)),
        None => format!("{} may select the pods: {}", assumption.policy.object, assumption.policy.subject),
    });
    let closest = (verdict != Verdict::Allowed).then(|| nearest(scene, &pod, direction, &other, traffic)).flatten();
    SideOfFlow {
        pods: own.name.clone(),
        verdict,
        reason,
        policies: lines.collect(),
        closest,
        assumed: assumed.collect(),
    }
}

fn tier(policy: &Policy) -> String {
    match &policy.stage {
        Stage::Admin => "Admin".to_owned(),
        Stage::Tier(name) => name.to_string(),
        Stage::Policies => "default".to_owned(),
        Stage::Baseline => "Baseline".to_owned(),
    }
}

/// A rule as text.
fn about(rule: &Rule, direction: Direction) -> String {
    let preposition = direction.preposition();
    format!("{preposition} {} on {}", rule.peers, rule.ports)
}

fn reason(decision: &Decision<'_>, direction: Direction) -> String {
    match decision {
        Decision::Open => format!("no policy isolates {direction}"),
        Decision::Allowed(policy, rule) => format!("{} allows {}", place(policy, rule), about(rule, direction)),
        Decision::Denied(policy, rule) => format!("{} denies {}", place(policy, rule), about(rule, direction)),
        Decision::Isolated(by) => {
            let mut names: Vec<String> = by.iter().take(MAX_NAMED).map(|policy| policy.object.to_string()).collect();
            if let Some(more @ 1..) = by.len().checked_sub(MAX_NAMED) {
                names.push(format!("{more} more"));
            }
            let verb = if by.len() == 1 { "isolates" } else { "isolate" };
            format!("{} {verb} {direction}, and no rule allows it", listed(&names))
        }
    }
}

/// Joins names with commas and an "and".
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Maximum number of isolating policies that a reason names.
const MAX_NAMED: usize = 4;
