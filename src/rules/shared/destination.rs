//! The pods that a rule lets traffic in to, and the ports on which they listen, as far as Services and container ports tell.

use std::collections::{HashMap, HashSet};

use crate::budget::charge;
use crate::model::{
    Direction, Endpoint, NAME_LABEL, Namespaces, Pods, Policy, Protocol, Rule as TrafficRule, Service, Who, Workload,
};
use crate::rules::rule::Case;
use crate::view::{NamespaceFacts, Running};

/// Maximum number of pods, Services and rules that one rule compares in one decision.
const MAX_LOOKS: usize = 10_000;

/// The pods at the destination of a rule that are known, in one namespace.
pub(crate) struct Destination<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) facts: &'a NamespaceFacts,
    /// The pods that the rule certainly applies to.
    pub(crate) matched: Vec<&'a Running>,
    /// The pods that the rule may apply to.
    possible: Vec<&'a Running>,
}

/// A port of a Service that forwards to another port of the pods.
#[derive(Clone, Copy)]
pub(crate) struct Forwarded<'a> {
    pub(crate) service: &'a str,
    pub(crate) target: u16,
}

/// The ports at a destination.
#[derive(Default)]
pub(crate) struct Listening<'a> {
    /// The ports of Services that forward to another one.
    forwarded: HashMap<(Protocol, u16), Forwarded<'a>>,
    /// Ports on which a pod may listen: a container lists it, or a Service forwards to it.
    open: HashSet<(Protocol, u16)>,
    /// True if for a pod neither is known.
    is_unclear: bool,
}

impl<'a> Listening<'a> {
    /// Returns where a Service forwards a port to, if it is known that no pod listens on the port itself.
    pub(crate) fn forwarded(&self, protocol: Protocol, port: u16) -> Option<Forwarded<'a>> {
        let is_open = self.is_unclear || self.open.contains(&(protocol, port));
        self.forwarded.get(&(protocol, port)).copied().filter(|_| !is_open)
    }
}

impl<'a> Destination<'a> {
    /// Returns true if the rule certainly applies to every pod that it may apply to.
    pub(crate) fn is_certain(&self) -> bool {
        self.possible.is_empty() && !self.facts.has_operator_pods
    }

    /// The Services of the namespace that select a workload.
    pub(crate) fn services_of(&self, workload: &'a Workload) -> impl Iterator<Item = (&'a str, &'a Service)> {
        let services = self.facts.services.iter().map(|(name, service)| (&**name, &**service));
        services.filter(move |(_, service)| service.selects(workload))
    }

    /// Collects the ports on which the pods listen. None if the limit of comparisons is reached.
    pub(crate) fn listening(&self, looks: &mut Looks) -> Option<Listening<'a>> {
        let mut listening = Listening::default();
        for running in self.matched.iter().chain(&self.possible) {
            let workload = &*running.workload;
            looks.take(1 + workload.ports.len() + self.facts.services.len())?;
            listening.open.extend(workload.ports.iter().map(|port| (port.protocol, port.number)));
            let mut is_clear = !workload.ports.is_empty();
            for (name, service) in self.services_of(workload) {
                looks.take(service.ports.len())?;
                for port in &service.ports {
                    let Some(target) = port.target_in(workload) else {
                        listening.is_unclear = true;
                        continue;
                    };
                    is_clear = true;
                    listening.open.insert((port.protocol, target));
                    if !service.is_headless && target != port.number {
                        let forwarded = Forwarded { service: name, target };
                        listening.forwarded.entry((port.protocol, port.number)).or_insert(forwarded);
                    }
                }
            }
            listening.is_unclear |= !is_clear;
        }
        Some(listening)
    }
}

/// The number of comparisons that are left for one rule in one decision.
pub(crate) struct Looks(usize);

impl Default for Looks {
    fn default() -> Self {
        Self(MAX_LOOKS)
    }
}

impl Looks {
    /// Takes this many. None if fewer are left; then none are left.
    pub(crate) fn take(&mut self, count: usize) -> Option<()> {
        charge(count);
        let left = self.0.checked_sub(count);
        self.0 = left.unwrap_or_default();
        left.map(drop)
    }
}

/// The pods that are the destination of a rule's traffic, with the place where they are selected and, for egress, the peer.
pub(crate) fn selected<'a>(
    policy: &'a Policy,
    direction: Direction,
    rule: &'a TrafficRule,
) -> impl Iterator<Item = (&'a Pods, Option<&'a Who>)> {
    let subject = (direction == Direction::Ingress && rule.only.is_none() && rule.within.is_none())
        .then_some((&policy.subject, None));
    let peers = if direction == Direction::Egress { rule.peers.listed() } else { &[] };
    let pods = peers.iter().filter_map(|peer| match &peer.who {
        Who::Pods(pods) => Some((pods, Some(&peer.who))),
        _ => None,
    });
    subject.into_iter().chain(pods)
}

/// Finds the pods that these match, in each namespace that is named. None if the limit of comparisons is reached.
///
/// A selector of namespaces by labels other than their name is resolved only in a cluster, where all namespaces are
/// known. Pods are skipped in namespaces whose Services the author may not list, because a message would disclose them.
pub(crate) fn destinations<'a>(case: &Case<'a>, pods: &Pods, looks: &mut Looks) -> Option<Vec<Destination<'a>>> {
    let view = case.view;
    let own = case.change.object().namespace();
    let mut found = Vec::new();
    let mut add = |namespace: &'a str, facts: &'a NamespaceFacts, looks: &mut Looks| {
        if facts.services.is_empty() && facts.running().is_empty() {
            return Some(());
        }
        let (mut matched, mut possible) = (Vec::new(), Vec::new());
        for running in facts.distinct() {
            looks.take(1 + pods.labels.as_ref().map_or(0, |labels| labels.size() / 16))?;
            let endpoint = Endpoint::of(namespace, &running.workload);
            // A hostNetwork pod is no subject of a policy and no pod peer.
            if running.workload.host_network.is_some() {
                continue;
            }
            match pods.mean(&endpoint, view) {
                Some(true) => matched.push(running),
                Some(false) => {}
                None => possible.push(running),
            }
        }
        let may_tell = || {
            Some(namespace) == own
                || ["pods", "services"].iter().all(|what| case.occasion.author.may_list(what, Some(namespace)))
        };
        if !matched.is_empty() && may_tell() {
            found.push(Destination { namespace, facts, matched, possible });
        }
        Some(())
    };
    match &pods.namespaces {
        Namespaces::Own(name) => {
            let name = name.as_deref().unwrap_or_default();
            if let Some((name, facts)) = view.named(name) {
                add(name, facts, looks)?;
            }
        }
        Namespaces::Matching(selector) => match selector.values_of(NAME_LABEL) {
            Some(names) => {
                for name in names {
                    looks.take(1)?;
                    if let Some((name, facts)) = view.named(name) {
                        add(name, facts, looks)?;
                    }
                }
            }
            None if view.is_whole() => {
                for (name, facts) in view.namespaces() {
                    looks.take(1)?;
                    if pods.namespaces.mean(name, view) == Some(true) {
                        add(name, facts, looks)?;
                    }
                }
            }
            None => {}
        },
    }
    found.sort_by_key(|destination| destination.namespace);
    Some(found)
}
