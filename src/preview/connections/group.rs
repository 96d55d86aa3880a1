//! The pods whose connections are compared: the subjects of a policy, and their counterparts.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::budget::charge;
use crate::model::{Endpoint, NAME_LABEL, Namespaces, Pods, Policy, Surroundings, Who};
use crate::view::{NamespaceFacts, Running, Scene, View};

/// Maximum number of groups of subjects, and of groups of counterparts.
const MAX_GROUPS: usize = 16;
/// Labels and ports of a workload that are compared in one step.
pub(super) const PARTS_PER_STEP: usize = 16;

/// Pods of one namespace that are alike to every policy.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The first of them.
    pub first: &'a Running,
    /// The number of them.
    pub size: usize,
    /// True if the old or the new policy may select them.
    pub is_subject: bool,
}

impl<'a> Group<'a> {
    /// The pods as an end of a connection. Their addresses are used only if there is one pod.
    pub(super) fn endpoint(&self) -> Endpoint<'a> {
        let addresses = match (&self.first.address, self.size) {
            (Some(address), 1) => std::slice::from_ref(address),
            _ => &[],
        };
        Endpoint { addresses, ..Endpoint::of(self.namespace, &self.first.workload) }
    }

    /// Returns true if both are the same group.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.first, other.first)
    }

    /// Returns true if no policy can tell the pods of both groups apart.
    fn is_alike(&self, other: &Self) -> bool {
        let (own, others) = (&self.first.workload, &other.first.workload);
        let is_equal = || {
            // Users choose the number of labels and ports, and those may be equal up to the last one.
            charge(1 + (own.labels.len() + own.ports.len()) / PARTS_PER_STEP);
            own == others
        };
        self.namespace == other.namespace
            && self.first.kind == other.first.kind
            && (Arc::ptr_eq(own, others) || is_equal())
    }
}

/// The groups to compare.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// The groups that the policy selects.
    pub(super) subjects: Vec<Group<'a>>,
    /// Groups in the namespaces of the subjects, and groups that a peer of the policy matches.
    pub(super) others: Vec<Group<'a>>,
    /// True if groups were left out because of the maximum.
    pub(super) is_partial: bool,
}

impl<'a> Groups<'a> {
    /// Collects the groups that a change of a policy may concern. `sides` are the old and the new policies, each with the
    /// cluster around them.
    pub(super) fn of(view: &'a View, sides: [(&[&Policy], Scene<'a>); 2]) -> Self {
        let policies = || sides.into_iter().flat_map(|(policies, scene)| policies.iter().map(move |one| (*one, scene)));
        let is_subject = |group: &Group<'a>| {
            let mut policies = policies().inspect(|_| charge(1));
            policies.any(|(policy, scene)| may_select(&policy.subject, group, scene))
        };
        let mut groups = Self::default();
        let mut neighbours = Vec::new();
        let homes: BTreeSet<&str> =
            policies().flat_map(|(policy, scene)| namespaces(view, scene, &policy.subject.namespaces)).collect();
        for (namespace, facts) in homes.iter().filter_map(|home| view.named(home)) {
            for group in alike(view, namespace, facts) {
                let is_subject = is_subject(&group);
                let list = if is_subject { &mut groups.subjects } else { &mut neighbours };
                groups.is_partial |= !add(list, Group { is_subject, ..group });
            }
        }
        for (pods, scene) in policies().flat_map(|(policy, scene)| peers(policy).map(move |pods| (pods, scene))) {
            for (namespace, facts) in
                namespaces(view, scene, &pods.namespaces).into_iter().filter_map(|name| view.named(name))
            {
                for group in alike(view, namespace, facts).filter(|group| may_select(pods, group, scene)) {
                    // Subjects are compared with each other. One that was left out must not count as unaffected.
                    if !is_subject(&group) {
                        groups.is_partial |= !add(&mut groups.others, group);
                    }
                }
            }
        }
        for group in neighbours {
            groups.is_partial |= !add(&mut groups.others, group);
        }
        groups
    }
}

/// Adds a group to a list, or its pods to a group of the list that is alike. Returns false if the list is full.
fn add<'a>(groups: &mut Vec<Group<'a>>, group: Group<'a>) -> bool {
    charge(1);
    let is_full = groups.len() == MAX_GROUPS;
    match groups.iter_mut().find(|known| known.is_alike(&group)) {
        // A peer of another rule matches the same group.
        Some(known) if known.is_same(&group) => {}
        Some(known) => known.size += group.size,
        None if is_full => return false,
        None => groups.push(group),
    }
    true
}

/// The pods of a namespace that are not hostNetwork pods. The workloads of a cluster are left out, because their pods are
/// known.
fn alike<'a>(view: &View, namespace: &'a str, facts: &'a NamespaceFacts) -> impl Iterator<Item = Group<'a>> {
    let is_whole = view.is_whole();
    facts.alike().inspect(|_| charge(1)).filter_map(move |alike| {
        let first = alike.first()?;
        let is_on_pod_network = first.workload.host_network.is_none();
        let is_pod = &*first.kind == "Pod" || !is_whole;
        let group = Group { namespace, first, size: alike.len(), is_subject: false };
        (is_on_pod_network && is_pod).then_some(group)
    })
}

fn may_select(pods: &Pods, group: &Group<'_>, around: Scene<'_>) -> bool {
    charge(1);
    pods.mean(&group.endpoint(), &around) != Some(false)
}

/// The known namespaces that these may include, by name.
fn namespaces<'a>(view: &'a View, around: Scene<'_>, wanted: &Namespaces) -> BTreeSet<&'a str> {
    let selector = match wanted {
        Namespaces::Own(own) => {
            let own = own.as_deref().unwrap_or_default();
            return view.named(own).map(|(name, _)| name).into_iter().collect();
        }
        Namespaces::Matching(selector) => selector,
    };
    let around: &dyn Surroundings = &around;
    let matches = |name: &&str| {
        charge(1);
        around.means_namespace(selector, name) != Some(false)
    };
    match selector.values_of(NAME_LABEL) {
        Some(names) => names.iter().filter_map(|name| Some(view.named(name)?.0)).filter(matches).collect(),
        None => view.namespaces().map(|(name, _)| &**name).filter(matches).collect(),
    }
}

/// The pods that the rules of a policy name as peers in other namespaces.
fn peers(policy: &Policy) -> impl Iterator<Item = &Pods> {
    fn pods(who: &Who) -> Vec<&Pods> {
        match who {
            Who::Pods(pods) => vec![pods],
            Who::All(parts) => parts.iter().flat_map(pods).collect(),
            _ => Vec::new(),
        }
    }
    let rules = policy.sides().flat_map(|(_, side)| &side.rules);
    let peers = rules.flat_map(|rule| rule.peers.listed()).inspect(|_| charge(1));
    peers.flat_map(|peer| pods(&peer.who)).filter(|pods| matches!(pods.namespaces, Namespaces::Matching(_)))
}
