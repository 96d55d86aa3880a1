//! The proof that a change of policies has no effect on any connection.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::budget::charge;
use crate::model::{
    AddressSet, Contract, Demand, Enforcement, Entity, Extent, Namespaces, Party, Pods, Policy, Selector,
    Surroundings as _, Who, is_link_local,
};
use crate::view::{Scene, Site};

use super::alphabet::{ELSEWHERE, FURTHER};
use super::search::{Found, Judged, Limit, Spot};
use super::{PoliciesOf, Proof, Scope, ordered, sketch};

/// The entities that the other end of a connection can be, besides pods and addresses.
static ENTITIES: [Party; 7] = [
    Party::Entity(Entity::Host),
    Party::Entity(Entity::RemoteNode),
    Party::Entity(Entity::KubeApiserver),
    Party::Entity(Entity::Health),
    Party::Entity(Entity::Init),
    Party::Entity(Entity::Unmanaged),
    Party::Entity(Entity::Ingress),
];

/// Returns true if it is proved that policies decide every connection alike before and after a change: for every pod
/// that could be created in the namespace, with every other end. `None` is every namespace that may exist.
///
/// False is no proof of the opposite: facts may be unknown, rules may filter single requests, or the proof may exceed the
/// limit.
#[must_use]
pub fn is_equivalent(
    (before, after): (Scene<'_>, Scene<'_>),
    namespace: Option<&str>,
    site: &Site,
    steps: usize,
) -> bool {
    let all = everything();
    // The connections that the change opens, and those that it cuts.
    [(before, after), (after, before)].into_iter().all(|(before, scene)| {
        let limit = Limit::of(steps / 2);
        let proof = Proof { contract: &all, scene, before: Some(before), site, scope: Scope::All, limit };
        let namespaces = match namespace {
            Some(name) => Some(BTreeSet::from([name])),
            None => proof.possible_namespaces(),
        };
        namespaces.is_some_and(|names| names.into_iter().all(|name| proof.opens_nothing(name)))
    })
}

/// The contract that no pod may connect to anything. After a change it is broken by the connections that the change
/// opens.
fn everything() -> Contract {
    let pods = Pods { namespaces: Namespaces::Matching(Selector::everything()), labels: None };
    let party = Party::Pods { pods, except: Vec::new() };
    Contract {
        name: Box::default(),
        demand: Demand::MustNotReach,
        extent: Extent::Any,
        from: vec![party.clone()],
        to: vec![party],
        ports: Vec::new(),
        enforcement: Enforcement::Deny,
        reason: Box::default(),
        owner: Box::default(),
    }
}

impl<'a> Proof<'a> {
    /// The namespaces that exist, those that cluster-wide policies name, and [`ELSEWHERE`]. `None` if selectors compare
    /// parts of names.
    fn possible_namespaces(&self) -> Option<BTreeSet<&'a str>> {
        let alphabet = self.alphabet([&self.policies(ELSEWHERE), &PoliciesOf::default()]);
        let named = alphabet.named_namespaces()?.into_iter().filter(|name| self.exists(name));
        Some(self.scene.namespaces().chain(named).chain([ELSEWHERE]).collect())
    }

    /// Returns true if it is proved that the policies of a namespace allow no connection that they did not allow before.
    fn opens_nothing(&self, namespace: &'a str) -> bool {
        let mut policies = self.policies(namespace);
        let applies = |policy: &&Policy| {
            charge(1);
            policy.subject.namespaces.mean(namespace, &self.scene) != Some(false)
        };
        policies.after.retain(applies);
        policies.before.retain(applies);
        if policies.after == policies.before {
            return true;
        }
        if policies.after.iter().chain(&policies.before).any(|policy| filters_requests(policy)) {
            return false;
        }
        let none = PoliciesOf::default();
        let alphabet = self.alphabet([&policies, &none]);
        let (Some(party), Some(named)) = (self.contract.from.first(), alphabet.named_namespaces()) else {
            return false;
        };
        // One proof for all namespaces that no selector names.
        let ends = if namespace == ELSEWHERE { vec![FURTHER] } else { vec![namespace, ELSEWHERE] };
        let others = named.into_iter().filter(|name| self.exists(name) && *name != namespace).chain(ends);
        let blocks = self.blocks(&alphabet);
        let mut spots: Vec<Spot<'a>> = others.flat_map(|name| self.pods(party, (namespace, name), &blocks)).collect();
        spots.extend(addresses(&blocks));
        if policies.after.iter().chain(&policies.before).any(|policy| tells_entities_apart(policy)) {
            spots.extend(ENTITIES.iter().map(Spot::Other));
        }
        (0..2).all(|anchor| {
            let spots = ordered(anchor, vec![sketch(party, namespace)], spots.clone());
            let lists = ordered(anchor, &policies, &none);
            let found = self.search_all(spots, lists, (Judged::Only(anchor), self.before), &alphabet);
            matches!(found, Found::Nothing)
        })
    }

    /// The pods of a party that could exist in a namespace, with one address of each class that policies tell apart.
    /// Another namespace may have any labels if its labels are unknown.
    fn pods(&self, party: &'a Party, (own, namespace): (&str, &'a str), blocks: &[AddressSet]) -> Vec<Spot<'a>> {
        let Party::Pods { pods, except } = party else { return Vec::new() };
        let is_open = namespace != own && self.scene.namespace_labels(namespace).is_none();
        let spot = |address| Spot::Sketch { namespace, is_open, pods, except, address };
        if blocks.is_empty() {
            return vec![spot(None)];
        }
        let mut all = AddressSet::every_v4_of_pods();
        all.extend(&AddressSet::every_v6_of_pods());
        classes(&all, blocks).into_iter().map(|address| spot(Some(address))).collect()
    }
}

/// The addresses that no pod has, one of each class. An address outside of the internet may be that of a node.
fn addresses<'a>(blocks: &[AddressSet]) -> Vec<Spot<'a>> {
    let internet = AddressSet::internet();
    let sets: Vec<AddressSet> = blocks.iter().chain([&internet]).cloned().collect();
    let all: AddressSet = [Ipv4Net::default().into(), Ipv6Net::default().into()].into_iter().collect();
    let spot = |address| Spot::Address { address, outside: internet.contains(address), text: "" };
    classes(&all, &sets).into_iter().map(spot).collect()
}

/// One address of each class: addresses of one family that are in the same sets.
fn classes(all: &AddressSet, sets: &[AddressSet]) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    let mut samples = all.samples(sets);
    samples.retain(|address| {
        charge(sets.len());
        let class: Vec<bool> = sets.iter().map(|set| set.contains(*address)).collect();
        seen.insert((address.is_ipv4(), is_link_local((*address).into()), class))
    });
    samples
}

/// Returns true if a rule filters single requests of the connections that it allows.
fn filters_requests(policy: &Policy) -> bool {
    policy.sides().flat_map(|(_, side)| &side.rules).any(|rule| rule.filter.is_some() || rule.proxy.is_some())
}

/// Returns true if a policy tells entities from other ends with the same addresses.
fn tells_entities_apart(policy: &Policy) -> bool {
    fn tells(who: &Who) -> bool {
        match who {
            Who::Entity(_) | Who::Nodes(_) => true,
            Who::Addresses(block) => !block.inside,
            Who::All(parts) => parts.iter().any(tells),
            Who::Not(part) => tells(part),
            Who::Pods(_) | Who::Domain(_) | Who::Service(_) | Who::Unclear(_) => false,
        }
    }
    let rules = policy.sides().flat_map(|(_, side)| &side.rules);
    rules.flat_map(|rule| rule.peers.listed()).any(|peer| tells(&peer.who))
}
