//! Policies for hosts.

use super::Case;
use crate::budget::charge;
use crate::model::{BUDGET, Endpoint, Fact, Labels, Namespaces, Operator, Owner, Policy, Selector};

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

/// Whether a policy is not for pods: it can select none; or its dialect has it for hosts too, and it selects a known host
/// endpoint and no known pod; or it asks for a label that marks hosts, and no pod of the cluster has what it asks for. A few
/// manifests do not tell which pods there are.
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
    // A host endpoint is in no namespace and has no service account.
    let is_host = |host: &Labels| {
        charge(1);
        let known = |owner, key: &str| if owner == Owner::Itself { Fact::of(host, key) } else { Fact::Absent };
        labels.decided(&known) == Some(true)
    };
    // A selector that asks for nothing is for pods in any case.
    let asks = labels.decided(&|_, _| Fact::Absent) != Some(true);
    if asks
        && namespaces.is_empty()
        && case.view.host_endpoints().iter().any(is_host)
        && !means_a_pod(case, policy, Some(true))
    {
        return true;
    }
    let asks_for = |mark: &&str| Selector::label(mark, Operator::Exists).covers(labels);
    // What is in a namespace is no host.
    let is_marked = namespaces.is_empty() && MARKS.iter().any(asks_for);
    is_marked && case.view.is_whole() && !means_a_pod(case, policy, None)
}

/// Returns true if a policy is for a known pod, or one of a template, or if that is not known and unknown counts.
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
