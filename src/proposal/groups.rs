//! Groups of pods that a contract can name: by the labels of their workloads.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Direction, Endpoint, Labels, NAME_LABEL, Namespaces, Operator, Owner, Party, Pods, Policy, Requirement, Selector,
    is_added_to_pods,
};
use crate::view::{NamespaceFacts, Running, Scene, View};

use super::owners::names_owner;

/// A namespace with pods on the pod network.
pub(super) struct Place<'a> {
    pub(super) view: &'a View,
    pub(super) name: &'a str,
    pub(super) facts: &'a NamespaceFacts,
    /// The policies that can apply to its pods.
    pub(super) policies: Vec<&'a Policy>,
    /// One pod or workload of each kind and template.
    pub(super) members: Vec<&'a Running>,
}

/// Pods of a namespace that share labels.
pub(super) struct Group<'a> {
    pub(super) labels: Labels,
    /// True if policies select pods by these labels.
    pub(super) is_selected: bool,
    pub(super) members: Vec<&'a Running>,
}

/// The labels that name a workload, and true if policies select it by them.
type Identity<'a> = (Vec<(&'a str, &'a str)>, bool);

/// Labels that change while the workload stays the same, besides those that controllers add.
const CHANGING: [&str; 8] = [
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "chart",
    "helm.sh/chart",
    "heritage",
    "release-version",
    "track",
    "version",
];

/// Labels that together name a workload. The first list of which a workload has its first label is used.
const IDENTITIES: [&[&str]; 4] = [
    &["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"],
    &["app", "component", "tier", "role"],
    &["k8s-app"],
    &["name"],
];

impl<'a> Place<'a> {
    /// Returns None if the namespace has no known pods on the pod network, or is being deleted.
    pub(super) fn of(view: &'a View, name: &'a str) -> Option<Self> {
        let facts = view.namespace(name)?;
        let members: Vec<&Running> =
            facts.distinct().filter(|running| running.workload.host_network.is_none()).collect();
        let policies = Scene::of(view).policies(name).collect();
        (!members.is_empty() && !facts.is_terminating).then_some(Self { view, name, facts, policies, members })
    }

    /// The policies that select these pods, or for which that is unknown.
    pub(super) fn selecting(&self, member: &Running) -> Vec<&'a Policy> {
        let endpoint = Endpoint::of(self.name, &member.workload);
        let selects = |policy: &&Policy| policy.subject.mean(&endpoint, self.view) != Some(false);
        self.policies.iter().copied().filter(selects).collect()
    }

    /// Returns true if policies are known to isolate each of these pods.
    pub(super) fn isolates(&self, members: &[&Running], direction: Direction) -> bool {
        members.iter().all(|member| {
            let endpoint = Endpoint::of(self.name, &member.workload);
            self.policies.iter().any(|policy| {
                policy.isolates(direction, self.view) && policy.subject.mean(&endpoint, self.view) == Some(true)
            })
        })
    }

    /// The groups of pods that policies of one direction distinguish.
    pub(super) fn groups(&self, direction: Direction) -> Vec<Group<'a>> {
        let mut groups: BTreeMap<Identity<'_>, Vec<&'a Running>> = BTreeMap::new();
        for member in &self.members {
            let (labels, is_selected) = self.labels(member, direction);
            if !labels.is_empty() {
                groups.entry((labels, is_selected)).or_default().push(member);
            }
        }
        let group = |((labels, is_selected), members): (Identity<'_>, _)| Group {
            labels: labels.into_iter().collect(),
            is_selected,
            members,
        };
        groups.into_iter().map(group).collect()
    }

    /// The groups of pods that policies of one direction select by labels and are known to isolate.
    pub(super) fn isolated_groups(&self, direction: Direction) -> Vec<Group<'a>> {
        let mut groups = self.groups(direction);
        groups.retain(|group| group.is_selected && self.isolates(&group.members, direction));
        groups
    }

    /// The labels that name a workload: those that policies select it by, with true, or else those that usually name one.
    fn labels(&self, member: &'a Running, direction: Direction) -> Identity<'a> {
        let mut keys = BTreeSet::new();
        for policy in self.selecting(member).iter().filter(|policy| policy.concerns(direction)) {
            policy.subject.labels.iter().for_each(|labels| add_keys(labels, &mut keys));
        }
        let labels = &member.workload.labels;
        let by_policies: Vec<_> =
            labels.iter().filter(|(key, _)| keys.contains(key) && !is_added_to_pods(key)).collect();
        if !by_policies.is_empty() {
            return (by_policies, true);
        }
        let stable = stable(labels);
        for identity in IDENTITIES {
            let own: Vec<_> = stable.iter().copied().filter(|(key, _)| identity.contains(key)).collect();
            if own.iter().any(|(key, _)| identity.first() == Some(key)) {
                return (own, false);
            }
        }
        (stable, false)
    }

    /// The pods of the namespace with these labels.
    pub(super) fn party(&self, labels: &Labels) -> Party {
        Party::Pods { pods: pods(self.name, labels), except: Vec::new() }
    }
}

impl Group<'_> {
    /// All labels that the pods have in common and that do not change, if these are more than those of the group.
    pub(super) fn all_labels(&self) -> Option<Labels> {
        let mut common: Vec<(&str, &str)> = self.members.first().map(|first| stable(&first.workload.labels))?;
        common.retain(|(key, value)| self.members.iter().all(|member| member.workload.labels.get(key) == Some(value)));
        (common.len() > self.labels.len()).then(|| common.into_iter().collect())
    }

    /// The group as a part of a name: the values of its labels.
    pub(super) fn slug(&self) -> String {
        self.labels.iter().map(|(_, value)| value).filter(|value| !value.is_empty()).collect::<Vec<_>>().join("-")
    }
}

/// The labels of a pod that name its workload, and not its version, owner or replica.
fn stable(labels: &Labels) -> Vec<(&str, &str)> {
    let is_stable = |key: &str| !is_added_to_pods(key) && !CHANGING.contains(&key) && !names_owner(key);
    labels.iter().filter(|(key, _)| is_stable(key)).collect()
}

fn add_keys<'s>(selector: &'s Selector, keys: &mut BTreeSet<&'s str>) {
    match selector {
        Selector::All(parts) | Selector::Any(parts) => parts.iter().for_each(|part| add_keys(part, keys)),
        Selector::Not(part) => add_keys(part, keys),
        Selector::Label(Requirement { owner: Owner::Itself, key, .. }) => drop(keys.insert(key)),
        Selector::Label(_) => {}
    }
}

/// The pods of a namespace with these labels.
pub(super) fn pods(namespace: &str, labels: &Labels) -> Pods {
    Pods {
        namespaces: Namespaces::Matching(Selector::label(NAME_LABEL, Operator::In(vec![namespace.into()]))),
        labels: (!labels.is_empty()).then(|| Selector::of(labels)),
    }
}
