//! The peers that several rules share.
//!
//! Rules share a peer if an address is in the CIDRs of all of them, or if a pod can exist that all of their peer
//! selectors match. Addresses are exact; pods are searched as in [`combined_rules`](super::combined_rules).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use super::combined_rules::{Part, combinations, weight};
use crate::budget::charge;
use crate::model::{
    AddressSet, Entity, Layers, Number, Path, Peer, Peers, Pods, Protocol, Ranges, Rule as TrafficRule, Who, Witness,
    sweep,
};
use crate::rules::rule::Case;

/// The limits that the ports of rules for one address exceed.
pub(crate) struct Limits {
    /// The addresses that do not count.
    pub(crate) exempt: AddressSet,
    /// Maximum number of ports of all rules.
    pub(crate) ports: u128,
    /// Maximum number of ports that the rules of the policy itself add to those of the others.
    pub(crate) share: u128,
}

/// Rules for the same peer.
pub(crate) struct AtPeer<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    /// Their peers, each with the rule.
    whos: Vec<(*const TrafficRule, &'a Who)>,
}

/// Maximum number of peers that are named as one.
const MAX_NAMED: usize = 3;

impl<'a> AtPeer<'a> {
    /// The peer that these rules share: the narrowest of their peers, or several that overlap.
    pub(crate) fn peers(&self, parts: &[Part<'a>], case: &Case<'_>) -> Peers {
        let rules: HashSet<*const TrafficRule> = parts.iter().map(|part| std::ptr::from_ref(part.rule)).collect();
        let covers = |one: &Who, other: &Who| one.covers(other, case.view, &mut { usize::MAX });
        let mut narrow: Vec<&Who> = Vec::new();
        for (_, who) in self.whos.iter().filter(|(rule, _)| rules.contains(rule)) {
            if narrow.len() <= MAX_NAMED && !narrow.iter().any(|other| covers(who, other)) {
                narrow.retain(|other| !covers(other, who));
                narrow.push(*who);
            }
        }
        narrow.truncate(MAX_NAMED);
        let who = match narrow.as_slice() {
            [] => return Peers::Any,
            [only] => (*only).clone(),
            several => Who::All(several.iter().map(|who| (*who).clone()).collect()),
        };
        Peers::Only(vec![Peer::new(Path::root(), who)])
    }
}

/// Groups the rules by peers that they share. A group may exceed the limits or not, but for each peer that exceeds them
/// a group is returned.
pub(crate) fn at_same_peer<'a>(parts: &[Part<'a>], case: &'a Case<'a>, limits: &Limits) -> Vec<AtPeer<'a>> {
    let mut found = vec![at_any_peer(parts)];
    found.extend(at_same_pods(parts, case));
    let addresses = |part: &Part<'_>| {
        let mut addresses = addresses_of(&part.rule.peers);
        addresses.subtract(&limits.exempt);
        addresses
    };
    let addresses: Vec<AddressSet> = parts.iter().map(addresses).collect();
    for protocol in Protocol::WITH_PORTS {
        found.extend(at_same_address(parts, &addresses, protocol, limits));
    }
    found.extend(at_other_peers(parts, case));
    found.retain(|at| at.parts.iter().any(|part| part.is_own));
    found
}

/// The rules for any peer.
fn at_any_peer<'a>(parts: &[Part<'a>]) -> AtPeer<'a> {
    let parts: Vec<Part<'a>> = parts.iter().filter(|part| part.rule.peers.are_everything()).copied().collect();
    let mut whos: Vec<(*const TrafficRule, &'a Who)> = Vec::new();
    for rule in parts.iter().map(|part| part.rule) {
        let all = rule.peers.listed().iter().map(|peer| &peer.who).find(|who| **who == Who::Entity(Entity::All));
        whos.extend(all.map(|who| (std::ptr::from_ref(rule), who)));
    }
    AtPeer { parts, whos }
}

/// The pods that a peer matches.
enum PodPeer<'a> {
    All,
    Some(&'a Pods),
}

fn pods_of(who: &Who) -> Option<PodPeer<'_>> {
    match who {
        Who::Pods(pods) => Some(PodPeer::Some(pods)),
        Who::Entity(Entity::All | Entity::Cluster) => Some(PodPeer::All),
        _ => None,
    }
}

/// Rules whose peers can match the same pod.
fn at_same_pods<'a>(parts: &[Part<'a>], case: &'a Case<'a>) -> Vec<AtPeer<'a>> {
    let mut places: HashMap<&Pods, usize> = HashMap::new();
    // The rules for each kind of pods, by their positions.
    let mut kinds: Vec<(&'a Who, &'a Pods, Vec<usize>)> = Vec::new();
    let mut for_all: Vec<usize> = Vec::new();
    let mut whos_of_all: Vec<(*const TrafficRule, &'a Who)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let rule: &'a TrafficRule = part.rule;
        charge(1 + rule.peers.listed().len());
        if rule.peers == Peers::Any {
            for_all.push(at);
        }
        for peer in rule.peers.listed() {
            match pods_of(&peer.who) {
                Some(PodPeer::All) => {
                    for_all.push(at);
                    whos_of_all.push((rule, &peer.who));
                }
                Some(PodPeer::Some(pods)) => {
                    let place = *places.entry(pods).or_insert(kinds.len());
                    match kinds.get_mut(place) {
                        Some((.., rules)) => rules.push(at),
                        None => kinds.push((&peer.who, pods, vec![at])),
                    }
                }
                None => {}
            }
        }
    }
    let of = |places: &[usize]| -> Vec<Part<'a>> { places.iter().filter_map(|at| parts.get(*at)).copied().collect() };
    let weights: Vec<u128> = kinds.iter().map(|(.., rules)| weight(&of(rules))).collect();
    let is_own = |places: &[usize]| of(places).iter().any(|part| part.is_own);
    let all_are_seeds = is_own(&for_all);
    let seeds = (0..kinds.len()).filter(|at| all_are_seeds || kinds.get(*at).is_some_and(|(.., rules)| is_own(rules)));
    let join = |pods: &mut Witness<'a>, at: usize| kinds.get(at).is_some_and(|(_, other, _)| pods.add(other, None));
    let mut combined = combinations(&weights, seeds, || Witness::new(case.view), join);
    if kinds.is_empty() {
        combined.push(Vec::new());
    }
    let group = |members: Vec<usize>| {
        let members = || members.iter().filter_map(|at| kinds.get(*at));
        let mut places: Vec<usize> = members().flat_map(|(.., rules)| rules).chain(&for_all).copied().collect();
        places.sort_unstable();
        places.dedup();
        charge(places.len());
        let mut whos = whos_of_all.clone();
        for (who, _, rules) in members() {
            whos.extend(of(rules).iter().map(|part| (std::ptr::from_ref(part.rule), *who)));
        }
        AtPeer { parts: of(&places), whos }
    };
    combined.into_iter().map(group).collect()
}

/// The addresses outside of the cluster that these peers are known to match.
fn addresses_of(peers: &Peers) -> AddressSet {
    match peers {
        Peers::Any => AddressSet::everything(),
        Peers::Only(peers) => AddressSet::union(peers.iter().map(|peer| addresses_of_peer(&peer.who))),
    }
}

fn addresses_of_peer(who: &Who) -> AddressSet {
    match who {
        Who::Addresses(block) => block.addresses(),
        Who::All(parts) => {
            let mut parts = parts.iter().map(addresses_of_peer);
            let first = parts.next().unwrap_or_default();
            parts.fold(first, |all, part| all.intersection(&part))
        }
        Who::Entity(Entity::WorldV4) => AddressSet::everything().of_v4(),
        Who::Entity(Entity::WorldV6) => AddressSet::everything().of_v6(),
        who if who.is_anywhere() => AddressSet::everything(),
        _ => AddressSet::default(),
    }
}

/// The rules for an address at which they exceed the limits.
fn at_same_address<'a>(
    parts: &[Part<'a>],
    addresses: &[AddressSet],
    protocol: Protocol,
    limits: &Limits,
) -> Option<AtPeer<'a>> {
    // Rules with the same ports are one group. Most policies have few different port lists.
    let mut places: HashMap<(Ranges<u16>, bool), usize> = HashMap::new();
    let mut sets: Vec<Vec<AddressSet>> = Vec::new();
    for (part, set) in parts.iter().zip(addresses) {
        if *set == AddressSet::default() {
            continue;
        }
        let at = *places.entry((part.ports(protocol), part.is_own)).or_insert(sets.len());
        match sets.get_mut(at) {
            Some(alike) => alike.push(set.clone()),
            None => sets.push(vec![set.clone()]),
        }
    }
    let mut keys: Vec<((Ranges<u16>, bool), usize)> = places.into_iter().collect();
    keys.sort_by_key(|(_, at)| *at);
    let groups: Vec<(Ranges<u16>, bool, AddressSet)> = keys
        .into_iter()
        .zip(sets)
        .map(|(((ports, is_own), _), sets)| (ports, is_own, AddressSet::union(sets)))
        .collect();
    let v4: Vec<_> = groups.iter().map(|(ports, is_own, set)| (ports, *is_own, set.v4())).collect();
    let v6: Vec<_> = groups.iter().map(|(ports, is_own, set)| (ports, *is_own, set.v6())).collect();
    let v4 = excessive(&v4, limits).map(Ipv4Addr::from);
    let address = v4.map(IpAddr::from).or_else(|| excessive(&v6, limits).map(Ipv6Addr::from).map(IpAddr::from))?;
    let is_here = |set: &AddressSet| set.contains(address);
    let parts: Vec<Part<'a>> =
        parts.iter().zip(addresses).filter(|(_, set)| is_here(set)).map(|(part, _)| *part).collect();
    let mut whos: Vec<(*const TrafficRule, &'a Who)> = Vec::new();
    for rule in parts.iter().map(|part| part.rule) {
        let peers = rule.peers.listed().iter().map(|peer| &peer.who);
        whos.extend(peers.filter(|who| is_here(&addresses_of_peer(who))).map(|who| (std::ptr::from_ref(rule), who)));
    }
    Some(AtPeer { parts, whos })
}

/// The first address at which the ports of these groups exceed the limits.
fn excessive<T: Number>(groups: &[(&Ranges<u16>, bool, &Ranges<T>)], limits: &Limits) -> Option<T> {
    // Port 0 receives no traffic.
    let count = |first: u16, last: u16| [u128::from(last) + 1 - u128::from(first.max(1)).min(u128::from(last) + 1)];
    let mut all: Layers<u16, 1> = Layers::new(groups.iter().map(|(ports, ..)| *ports), count);
    let mut others = all.clone();
    let sets: Vec<&Ranges<T>> = groups.iter().map(|(.., set)| *set).collect();
    let mut found = None;
    sweep(&sets, |address, changes| {
        for (_, begins, at) in changes {
            let Some((ports, is_own, _)) = groups.get(*at) else { continue };
            all.change(ports, *begins);
            if !is_own {
                others.change(ports, *begins);
            }
        }
        let ([open], [of_others]) = (all.covered(), others.covered());
        if open > limits.ports && open - of_others > limits.share {
            found = Some(address);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    found
}

/// Groups the rules by the other peers: for each peer, the rules that allow all of it.
fn at_other_peers<'a>(parts: &[Part<'a>], case: &Case<'_>) -> Vec<AtPeer<'a>> {
    let mut places: HashMap<&'a Who, usize> = HashMap::new();
    let mut kinds: Vec<(&'a Who, HashSet<*const TrafficRule>)> = Vec::new();
    for part in parts {
        let rule: &'a TrafficRule = part.rule;
        let whos = rule.peers.listed().iter().map(|peer| &peer.who);
        for who in whos.filter(|who| !matches!(who, Who::Addresses(_)) && pods_of(who).is_none()) {
            charge(1);
            let place = *places.entry(who).or_insert(kinds.len());
            if kinds.len() == place {
                kinds.push((who, HashSet::new()));
            }
            if let Some((_, alike)) = kinds.get_mut(place) {
                alike.insert(part.rule);
            }
        }
    }
    let all = |(who, alike): (&'a Who, HashSet<*const TrafficRule>)| {
        let allows = |part: &&Part<'a>| {
            charge(1);
            alike.contains(&std::ptr::from_ref(part.rule)) || part.rule.peers.cover(who, case.view, &mut { usize::MAX })
        };
        let parts: Vec<Part<'a>> = parts.iter().filter(allows).copied().collect();
        let whos = parts.iter().map(|part| (std::ptr::from_ref(part.rule), who)).collect();
        AtPeer { parts, whos }
    };
    kinds.into_iter().map(all).collect()
}
