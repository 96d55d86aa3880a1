//! Policies for hosts.

use super::Case;
use crate::model::{BUDGET, Endpoint, Namespaces, Operator, Policy, Selector};

/// How many pods one policy is held against.
const MOST_LOOKS: usize = 10_000;

/// Labels that mark hosts and not pods: those that Kubernetes gives to nodes by what they are for, which Calico gives to their
/// host endpoints too; that of the host endpoints that Calico makes itself; and those that its documentation gives to others.
const MARKS: [&str; 6] = [
    "host-endpoint",
    "kubernetes-host",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/worker",
    "projectcalico.org/created-by",
];

/// Whether a policy is not for pods: it can select none; or its dialect has it for hosts too, it asks for a label that marks
/// them, and no pod of the cluster has what it asks for. A few manifests do not tell which pods there are.
pub(super) fn is_for_hosts(case: &Case<'_>, policy: &Policy) -> bool {
    let subject = &policy.subject;
    let Namespaces::Matching(namespaces) = &subject.namespaces else { return false };
    if !policy.selects_others {
        return false;
    }
    if subject.excludes(subject, case.view, &mut { BUDGET }) {
        return true;
    }
    let Some(labels) = &subject.labels else { return false };
    let asks_for = |mark: &&str| Selector::label(mark, Operator::Exists).covers(labels);
    // What is in a namespace is no host.
    let is_marked = namespaces.is_empty() && MARKS.iter().any(asks_for);
    is_marked && case.view.is_whole() && !may_mean_a_pod(case, policy)
}

/// Whether a policy may be for a pod that is there, or for those of a template.
fn may_mean_a_pod(case: &Case<'_>, policy: &Policy) -> bool {
    let mut looks = MOST_LOOKS;
    case.view.namespaces().any(|(namespace, facts)| {
        facts.distinct().any(|running| {
            let Some(left) = looks.checked_sub(1) else { return true };
            looks = left;
            policy.subject.mean(&Endpoint::of(namespace, &running.workload), case.view) != Some(false)
        })
    })
}
