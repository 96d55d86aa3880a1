//! The rule that nearly allows a connection, with the one thing that differs.

use crate::model::{
    Action, Direction, End, Endpoint, Fact, Namespaces, Operator, Owner, Peer, Pods, Policy, Rule, Selector,
    Surroundings, Traffic, Who,
};
use crate::view::Scene;

/// How near a rule is, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A label that it requires has another value, or nearly the key.
    Label,
    /// The peer matches, and the port does not.
    Port,
    /// The peer and the port match, and the policy selects other pods.
    Subject,
    /// The port matches, and the peer does not.
    Peer,
}

/// Returns the rule among the policies of a pod's namespace that comes nearest to allowing a connection, as text.
pub(super) fn nearest(
    scene: Scene<'_>,
    pod: &Endpoint<'_>,
    direction: Direction,
    other: &End<'_>,
    traffic: Traffic<'_>,
) -> Option<String> {
    let mut best: Option<(Rank, String)> = None;
    for policy in scene.policies(pod.namespace) {
        let selects = policy.subject.mean(pod, &scene);
        for rule in policy.side(direction).rules.iter().filter(|rule| rule.action == Action::Allow) {
            let candidate = compare(scene, (policy, rule), (pod, selects), direction, other, traffic);
            if let Some(candidate) = candidate
                && best.as_ref().is_none_or(|best| candidate.0 < best.0)
            {
                best = Some(candidate);
            }
        }
    }
    best.map(|(_, words)| words)
}

fn compare(
    scene: Scene<'_>,
    (policy, rule): (&Policy, &Rule),
    (pod, selects): (&Endpoint<'_>, Option<bool>),
    direction: Direction,
    other: &End<'_>,
    traffic: Traffic<'_>,
) -> Option<(Rank, String)> {
    let is_peer = rule.peers.mean(other, &scene) == Some(true);
    let is_port = rule.ports.mean(traffic) == Some(true);
    let at = place(policy, rule);
    let preposition = direction.preposition();
    match (selects == Some(true), is_peer, is_port) {
        (true, true, false) => {
            let only = format!("{at} allows this peer on {} only", rule.ports);
            Some((Rank::Port, only))
        }
        (false, true, true) => {
            // A rule for every peer and every port is near to everything.
            if rule.peers.listed().is_empty() {
                return None;
            }
            let difference = difference(scene, &policy.subject, pod, "the pod");
            let rank = if difference.as_ref().is_some_and(|(near, _)| *near) { Rank::Label } else { Rank::Subject };
            let words = difference.map_or_else(|| format!("it selects {}", policy.subject), |(_, words)| words);
            Some((rank, format!("{at} allows it, but {words}")))
        }
        (true, false, true) => {
            let End::Pod(peer) = other else {
                let is_address = |listed: &Peer| !matches!(listed.who, Who::Pods(_));
                let some = rule.peers.listed().iter().any(is_address);
                return some.then(|| (Rank::Peer, format!("{at} allows it {preposition} {} only", rule.peers)));
            };
            let of_peers = rule.peers.listed().iter().filter_map(|listed| match &listed.who {
                Who::Pods(pods) => difference(scene, pods, peer, "the peer"),
                _ => None,
            });
            match of_peers.min_by_key(|(is_near, _)| !is_near) {
                Some((is_near, words)) => {
                    let rank = if is_near { Rank::Label } else { Rank::Peer };
                    Some((rank, format!("{at} allows this port, but {words}")))
                }
                None => Some((Rank::Peer, format!("{at} allows it {preposition} {} only", rule.peers))),
            }
        }
        _ => None,
    }
}

/// A rule with its policy and its place.
pub(super) fn place(policy: &Policy, rule: &Rule) -> String {
    format!("{} at {}", policy.object, rule.path)
}

/// Returns the first requirement of a pod selector that a pod does not meet, as text, and whether it is one label with
/// another value.
fn difference(scene: Scene<'_>, pods: &Pods, pod: &Endpoint<'_>, name: &str) -> Option<(bool, String)> {
    let around: &dyn Surroundings = &scene;
    if pods.namespaces.mean(pod.namespace, around) == Some(false) {
        let namespace = pod.namespace;
        return Some((
            false,
            match &pods.namespaces {
                Namespaces::Own(own) => {
                    format!("it is for namespace {}, and {name} is in {namespace}", own.as_deref().unwrap_or_default())
                }
                Namespaces::Matching(selector) => {
                    let fact = |key: &str| around.namespace_label(namespace, key);
                    match unmet(selector, &fact) {
                        Some(unmet) => {
                            format!("it requires a namespace with {}; {namespace} {}", unmet.asked, unmet.found)
                        }
                        None => format!("it requires a namespace with {selector}; {name} is in {namespace}"),
                    }
                }
            },
        ));
    }
    let labels = pods.labels.as_ref()?;
    let fact = |key: &str| pod.label(Owner::Itself, key, around);
    let unmet = unmet(labels, &fact)?;
    Some((unmet.is_near, format!("it requires {}; {name} {}", unmet.asked, unmet.found)))
}

struct Unmet {
    asked: String,
    found: String,
    is_near: bool,
}

/// Returns the first label that a selector requires and that is not there, or has another value.
fn unmet<'a>(selector: &'a Selector, fact: &impl Fn(&str) -> Fact<'a>) -> Option<Unmet> {
    match selector {
        Selector::All(parts) => parts.iter().find_map(|part| unmet(part, fact)),
        Selector::Label(required) => {
            let Operator::In(values) = &required.operator else { return None };
            let key = &required.key;
            let asked = match values.as_slice() {
                [value] => format!("{key}={value}"),
                values => format!("{key} in ({})", values.iter().map(|value| &**value).collect::<Vec<_>>().join(", ")),
            };
            match fact(key) {
                Fact::Value(value) if values.iter().any(|other| **other == *value) => None,
                Fact::Value(value) => {
                    let is_near = values.iter().any(|other| other.eq_ignore_ascii_case(value) || is_slip(other, value));
                    Some(Unmet { asked, found: format!("has {key}={value}"), is_near })
                }
                Fact::Absent => Some(Unmet { asked, found: format!("has no label {key}"), is_near: false }),
                Fact::Present | Fact::Unknown => None,
            }
        }
        Selector::Any(_) | Selector::Not(_) => None,
    }
}

/// Returns true if two texts of the same length differ in at most two places, or one has one character more.
fn is_slip(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() < 4 || a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let prefix = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    prefix + suffix + 2 >= a.len().max(b.len())
}
