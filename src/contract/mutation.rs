//! Small changes of policies, for the question which of them a contract or a rule would notice.

use crate::model::{Direction, Peers, Policy, Ports, Selector};

/// A small change of the policies of one object.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The change in words.
    pub change: String,
    /// The policies of the object after the change. `None`: the object is deleted.
    pub policies: Option<Vec<Policy>>,
}

/// The changes of an object with these policies. Each one opens or cuts connections, unless another policy decides them
/// anyway.
#[must_use]
pub fn mutations(policies: &[Policy]) -> Vec<Mutation> {
    let mut all = vec![Mutation { change: "delete it".to_owned(), policies: None }];
    for (at, policy) in policies.iter().enumerate() {
        let mut add = |change: String, edit: &dyn Fn(&mut Policy)| {
            let mut changed = policies.to_vec();
            if let Some(policy) = changed.get_mut(at) {
                edit(policy);
                all.push(Mutation { change, policies: Some(changed) });
            }
        };
        if !policy.subject.all_pods() {
            add(format!("{}: select every pod", policy.subject_path), &|policy| policy.subject.labels = None);
        }
        if let Some(Selector::All(parts)) = &policy.subject.labels
            && parts.len() > 1
        {
            for (position, part) in parts.iter().enumerate() {
                add(format!("{}: drop `{part}`", policy.subject_path), &|policy| {
                    if let Some(Selector::All(parts)) = &mut policy.subject.labels {
                        parts.remove(position);
                    }
                });
            }
        }
        for direction in Direction::ALL {
            let side = policy.side(direction);
            if side.isolates {
                add(format!("no longer isolate for {direction}"), &|policy| {
                    side_mut(policy, direction).isolates = false;
                });
            }
            for (position, rule) in side.rules.iter().enumerate() {
                add(format!("{}: remove the rule", rule.path), &|policy| {
                    side_mut(policy, direction).rules.remove(position);
                });
                if rule.peers != Peers::Any {
                    add(format!("{}: match every peer", rule.path), &|policy| {
                        if let Some(rule) = side_mut(policy, direction).rules.get_mut(position) {
                            rule.peers = Peers::Any;
                        }
                    });
                }
                if rule.ports != Ports::Any {
                    add(format!("{}: match every port", rule.path), &|policy| {
                        if let Some(rule) = side_mut(policy, direction).rules.get_mut(position) {
                            rule.ports = Ports::Any;
                        }
                    });
                }
            }
        }
    }
    all
}

fn side_mut(policy: &mut Policy, direction: Direction) -> &mut crate::model::Side {
    match direction {
        Direction::Ingress => &mut policy.ingress,
        Direction::Egress => &mut policy.egress,
    }
}
