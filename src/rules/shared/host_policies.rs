//! Policies for hosts.

use crate::budget::charge;
use crate::model::{BUDGET, Endpoint, Fact, Labels, Namespaces, Operator, Owner, Policy, Selector};
use crate::rules::rule::Case;

/// Maximum number of pods that one policy is compared with.
const MOST_LOOKS: usize = 10_000;

/// Labels that mark hosts and not pods: the node roles of Kubernetes, which Calico copies to host endpoints; the label
/// of host endpoints that Calico creates; and the labels that its documentation uses for other host endpoints.
const MARKS: [&str; 6] = [
    "host-endpoint",
    "kubernetes-host",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/worker",
    "projectcalico.org/created-by",
];

/// Returns true if a policy is for hosts and not for pods:
///
/// - it cannot select any pod; or
/// - its dialect can also select hosts, and it selects a known host endpoint and no known pod; or
/// - it requires a label that marks hosts, and no known pod can match.
pub(crate) fn is_for_hosts(case: &Case<'_>, policy: &Policy) -> bool {
    let subject = &policy.subject;
    let Namespaces::Matching(namespaces) = &subject.namespaces else { return false };
    if !policy.selects_others {
        return false;
    }
    if subject.excludes(subject, case.view, &mut { BUDGET }) {
        return true;
    }
    let Some(labels) = &subject.labels else { return false };
    // A host endpoint has no namespace and no service account.
    let is_host = |host: &Labels| {
        charge(1);
        let known = |owner, key: &str| if owner == Owner::Itself { Fact::of(host, key) } else { Fact::Absent };
        labels.decided(&known) == Some(true)
    };
    // A selector without requirements always selects pods too.
    let asks = labels.decided(&|_, _| Fact::Absent) != Some(true);
    if asks
        && namespaces.is_empty()
        && case.view.host_endpoints().iter().any(is_host)
        && !means_a_pod(case, policy, Some(true))
    {
        return true;
    }
    let asks_for = |mark: &&str| Selector::label(mark, Operator::Exists).covers(labels);
    // A policy for certain namespaces does not select hosts.
    let is_marked = namespaces.is_empty() && MARKS.iter().any(asks_for);
    is_marked && !means_a_pod(case, policy, None)
}

/// Returns true if a policy selects a known pod or pod template. If `wanted` is none, an undecidable match counts too.
fn means_a_pod(case: &Case<'_>, policy: &Policy, wanted: Option<bool>) -> bool {
    let mut looks = MOST_LOOKS;
    case.view.namespaces().any(|(namespace, facts)| {
        facts.distinct().any(|running| {
            let Some(left) = looks.checked_sub(1) else { return true };
            looks = left;
            let meant = policy.subject.mean(&Endpoint::of(namespace, &running.workload), case.view);
            meant == Some(true) || meant == wanted
        })
    })
}
