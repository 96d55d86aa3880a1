//! The connections that a change opens or closes: two views compared, pod by pod.
//!
//! Only pods that the change can concern are compared: those that a changed policy selects in either view, and those that
//! are changed themselves. If labels of a namespace or a tier change, all pods are compared. Pods that are in one of the
//! views only have nothing to be compared with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::alike::Alike;
use crate::model::{
    AddressSet, Direction, End, Ends, Entity, Outcome, Policy, PortRange, Protocol, Question, Ranges, Relation,
    Subject, reach,
};
use crate::view::{NamespaceFacts, Scene, Site, View};

/// Maximum number of pairs of pods that are compared.
const MAX_PAIRS: usize = 200_000;

/// What a change does to connections.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The connections that change, in the order of their ends.
    pub connections: Vec<Change>,
    /// Pods that could resolve names in the cluster DNS before and cannot any more.
    pub lose_dns: Vec<String>,
    /// Pods that could not resolve names before and can now.
    pub gain_dns: Vec<String>,
    /// Number of compared source-destination pairs.
    pub compared: usize,
    /// True if there were more pairs than are compared.
    pub is_partial: bool,
}

/// A connection whose ports change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The ports that were allowed before and are not any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<String>,
    /// The ports that were not allowed before and are now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<String>,
}

impl Difference {
    /// Returns true if nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.lose_dns.is_empty() && self.gain_dns.is_empty()
    }
}

/// Pods of one workload in both views.
struct Both<'a> {
    before: Alike<'a>,
    after: Alike<'a>,
    is_concerned: bool,
}

/// One end of the compared connections.
enum Side<'a, 'b> {
    Pods(&'b Both<'a>),
    Internet(&'b AddressSet),
    Node,
}

/// Compares the connections of two views.
#[must_use]
pub fn compare(before: &View, after: &View, site: &Site) -> Difference {
    let pods = pods(before, after);
    let everywhere = AddressSet::internet();
    let mut difference = Difference::default();
    let others = || [Side::Internet(&everywhere), Side::Node].into_iter();
    let mut sides: Vec<Side<'_, '_>> = pods.iter().map(Side::Pods).collect();
    sides.extend(others());
    'pairs: for from in &sides {
        for to in &sides {
            if !from.is_concerned() && !to.is_concerned() {
                continue;
            }
            if difference.compared >= MAX_PAIRS {
                difference.is_partial = true;
                break 'pairs;
            }
            difference.compared += 1;
            let (old, new) = (outcomes(before, from, to, true), outcomes(after, from, to, false));
            let closed = ports(&old, &new);
            let opened = ports(&new, &old);
            if !closed.is_empty() || !opened.is_empty() {
                difference.connections.push(Change { from: from.name(), to: to.name(), closed, opened });
            }
        }
    }
    for pod in pods.iter().filter(|pod| pod.is_concerned) {
        match (resolves(before, site, &pod.before), resolves(after, site, &pod.after)) {
            (true, false) => difference.lose_dns.push(pod.after.name()),
            (false, true) => difference.gain_dns.push(pod.after.name()),
            _ => {}
        }
    }
    difference
}

/// The pods on the pod network that are in both views, in the order of their names.
fn pods<'a>(before: &'a View, after: &'a View) -> Vec<Both<'a>> {
    let is_everything = labels_differ(before, after);
    let cluster_wide = changed(before.cluster_wide_policies(), after.cluster_wide_policies());
    let mut pods = Vec::new();
    let mut names: Vec<&str> = after.namespaces().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    for namespace in names {
        let (Some(old), Some(new)) = (before.namespace(namespace), after.named(namespace)) else { continue };
        let (namespace, new) = new;
        let mut policies = changed(before.own_policies(namespace), after.own_policies(namespace));
        policies.extend(&cluster_wide);
        let known: BTreeMap<_, _> = Alike::on_pod_network(namespace, old).map(|alike| (alike.id, alike)).collect();
        for is in Alike::on_pod_network(namespace, new) {
            let Some(was) = known.get(&is.id).copied() else { continue };
            let selects = |(policy, is_later): &(&Policy, bool)| {
                let (view, alike) = if *is_later { (after, is) } else { (before, was) };
                policy.subject.mean(&alike.endpoint(), view) != Some(false)
            };
            let is_concerned = is_everything || was.workload != is.workload || policies.iter().any(selects);
            pods.push(Both { before: was, after: is, is_concerned });
        }
    }
    pods
}

/// The policies that only one of the views has, each with whether that is the later one.
fn changed<'a>(
    before: impl Iterator<Item = &'a Policy>,
    after: impl Iterator<Item = &'a Policy>,
) -> Vec<(&'a Policy, bool)> {
    let (before, after): (Vec<&Policy>, Vec<&Policy>) = (before.collect(), after.collect());
    let by_name = |policies: &[&'a Policy]| {
        let mut known: BTreeMap<String, Vec<&'a Policy>> = BTreeMap::new();
        for policy in policies {
            known.entry(policy.object.to_string()).or_default().push(policy);
        }
        known
    };
    let (old, new) = (by_name(&before), by_name(&after));
    let only = |policies: &[&'a Policy], other: &BTreeMap<String, Vec<&'a Policy>>, is_later: bool| {
        let is_there = |policy: &Policy| other.get(&policy.object.to_string()).is_some_and(|all| all.contains(&policy));
        policies.iter().filter(|policy| !is_there(policy)).map(|policy| (*policy, is_later)).collect::<Vec<_>>()
    };
    let mut changed = only(&before, &new, false);
    changed.extend(only(&after, &old, true));
    changed
}

/// Returns true if labels of a namespace differ, or a tier.
fn labels_differ(before: &View, after: &View) -> bool {
    let differ = |(name, facts): (&std::sync::Arc<str>, &std::sync::Arc<NamespaceFacts>)| {
        before.namespace(name).is_some_and(|old| old.labels != facts.labels)
    };
    after.namespaces().any(differ) || !before.has_same_tiers(after)
}

impl<'a> Side<'a, '_> {
    fn is_concerned(&self) -> bool {
        matches!(self, Self::Pods(pods) if pods.is_concerned)
    }

    fn name(&self) -> String {
        match self {
            Self::Pods(pods) => pods.after.name(),
            Self::Internet(_) => "the internet".to_owned(),
            Self::Node => "another node".to_owned(),
        }
    }

    fn alike(&self, is_before: bool) -> Option<Alike<'a>> {
        match self {
            Self::Pods(pods) => Some(if is_before { pods.before } else { pods.after }),
            Self::Internet(_) | Self::Node => None,
        }
    }
}

/// The ports of a protocol by outcome. Ports that depend on unknown facts are in neither set.
struct Outcomes {
    protocol: Protocol,
    allowed: Ranges<u16>,
    blocked: Ranges<u16>,
}

fn outcomes(view: &View, from: &Side<'_, '_>, to: &Side<'_, '_>, is_before: bool) -> Vec<Outcomes> {
    let (sender, receiver) = (from.alike(is_before), to.alike(is_before));
    let relation = match (from, to) {
        // Replicas are compared only if there are several in both views.
        (Side::Pods(from), Side::Pods(to))
            if std::ptr::eq(*from, *to) && (from.before.is_one_pod || from.after.is_one_pod) =>
        {
            Relation::SamePod
        }
        _ => Relation::Apart,
    };
    let both = Ends { from: end(from, sender), to: end(to, receiver), relation };
    let listed = receiver.map(|alike| &*alike.workload.ports);
    let ranges = reach(&both, listed, &Scene::of(view));
    let of = |protocol| {
        let with = |outcome| {
            let is_it = |range: &&PortRange<'_>| range.protocol == protocol && range.connection.outcome == outcome;
            ranges.iter().filter(is_it).map(|range| (range.first, range.last)).collect()
        };
        Outcomes { protocol, allowed: with(Outcome::Allowed), blocked: with(Outcome::Blocked) }
    };
    Protocol::WITH_PORTS.into_iter().map(of).collect()
}

fn end<'a>(side: &Side<'a, 'a>, alike: Option<Alike<'a>>) -> End<'a> {
    match (side, alike) {
        (_, Some(alike)) => End::Pod(alike.endpoint()),
        (Side::Internet(set), None) => End::Addresses { set, outside: true },
        (_, None) => End::Entity(Entity::RemoteNode),
    }
}

/// The ports that are allowed in the first and blocked in the second, as text.
fn ports(these: &[Outcomes], those: &[Outcomes]) -> Vec<String> {
    let mut words = Vec::new();
    for (these, those) in these.iter().zip(those) {
        let protocol = these.protocol;
        for (first, last) in these.allowed.intersection(&those.blocked).as_slice() {
            words.push(protocol.ports(*first, *last));
        }
    }
    words
}

/// Returns true if pods may send UDP to the cluster DNS.
fn resolves(view: &View, site: &Site, pods: &Alike<'_>) -> bool {
    let scene = Scene::of(view);
    let subject = Subject::One(pods.endpoint());
    site.cluster_dns.iter().any(|dns| {
        let (other, traffic) = dns.way(Protocol::Udp);
        let question = Question { subject, direction: Direction::Egress, other, traffic };
        scene.ask(scene.policies(pods.namespace), &question).passes()
    })
}
