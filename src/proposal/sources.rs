//! The pods that the rules of policies allow to connect.

use crate::model::{
    Action, BUDGET, ContainerPort, Entity, Labels, Names, Namespaces, Peers, Pods, Protocol, Selector, Traffic, Who,
};
use crate::view::{Running, View};

use super::groups::{Place, pods};

/// A port of pods.
pub(super) type Port = (Protocol, u16);

/// Whether a rule for a port name applies to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedPorts {
    /// If the pods list the port with this name.
    AsListed,
    /// Always, because a pod may give the name to any port.
    Anywhere,
}

/// The pods that rules allow to connect to pods of a namespace. None if rules allow all pods, or peers that are not
/// understood.
pub(super) fn sources(
    place: &Place<'_>,
    members: &[&Running],
    port: Option<Port>,
    named_ports: NamedPorts,
) -> Option<Vec<Pods>> {
    let mut sources: Vec<Pods> = Vec::new();
    for member in members {
        let names = port.map(|port| listed_names(member, port)).unwrap_or_default();
        let names = match named_ports {
            NamedPorts::AsListed => Names::Exactly(&names),
            NamedPorts::Anywhere => Names::AtLeast(&names),
        };
        for policy in place.selecting(member) {
            for rule in policy.ingress.rules.iter().filter(|rule| rule.action == Action::Allow) {
                let traffic = port.map(|(protocol, number)| Traffic::Port { protocol, number, names });
                if traffic.is_some_and(|traffic| rule.ports.mean(traffic) == Some(false)) {
                    continue;
                }
                let Peers::Only(peers) = &rule.peers else { return None };
                for peer in peers {
                    add(place, &peer.who, &mut sources)?;
                }
            }
        }
    }
    sources.sort_by_cached_key(ToString::to_string);
    sources.dedup();
    Some(without_covered(&sources, place.view))
}

/// Adds the pods of a peer. None if they are all pods, or are not understood. The proof decides about everything else.
fn add(place: &Place<'_>, who: &Who, sources: &mut Vec<Pods>) -> Option<()> {
    match who {
        Who::Pods(peer) if peer.are_all() => None,
        Who::Pods(peer) => {
            let namespaces = match &peer.namespaces {
                Namespaces::Own(name) => {
                    let own = name.as_deref().unwrap_or(place.name);
                    pods(own, &Labels::default()).namespaces
                }
                matching @ Namespaces::Matching(_) => matching.clone(),
            };
            let labels = peer.labels.clone().filter(|labels| !Selector::is_empty(labels));
            sources.push(Pods { namespaces, labels });
            Some(())
        }
        Who::All(parts) => {
            let part = parts.iter().find(|part| matches!(part, Who::Pods(_)))?;
            add(place, part, sources)
        }
        Who::Entity(Entity::All | Entity::Cluster) | Who::Not(_) | Who::Unclear(_) | Who::Service(_) => None,
        Who::Entity(_) | Who::Addresses(_) | Who::Nodes(_) | Who::Domain(_) => Some(()),
    }
}

/// Leaves out pods that other entries cover.
fn without_covered(sources: &[Pods], view: &View) -> Vec<Pods> {
    let mut kept: Vec<Pods> = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let later = sources.get(at + 1..).unwrap_or_default();
        if !kept.iter().chain(later).any(|other| other.covers(source, view, &mut { BUDGET })) {
            kept.push(source.clone());
        }
    }
    kept
}

/// The ports of pods that rules allow: those that the pods list, and those of policies that select the pods by labels. A
/// policy for all pods of a namespace does not show that these pods listen on its ports.
pub(super) fn ports(place: &Place<'_>, members: &[&Running]) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for member in members {
        for policy in place.selecting(member) {
            for rule in policy.ingress.rules.iter().filter(|rule| rule.action == Action::Allow) {
                rule.ports.for_each(&mut |port| {
                    if let (Some((first, last)), Some(protocol)) = (port.known_numbers(), port.protocol)
                        && !policy.subject.all_pods()
                        && first == last
                        && protocol.has_ports()
                    {
                        ports.push((protocol, first));
                    }
                });
                for port in &member.workload.ports {
                    let names: Vec<Box<str>> = listed_names(member, (port.protocol, port.number));
                    let names = Names::Exactly(&names);
                    let traffic = Traffic::Port { protocol: port.protocol, number: port.number, names };
                    if rule.ports.mean(traffic) == Some(true) {
                        ports.push((port.protocol, port.number));
                    }
                }
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The names that pods give to a port.
fn listed_names(member: &Running, (protocol, number): Port) -> Vec<Box<str>> {
    let is_it = |port: &&ContainerPort| (port.protocol, port.number) == (protocol, number);
    member.workload.ports.iter().filter(is_it).filter_map(|port| port.name.clone()).collect()
}
