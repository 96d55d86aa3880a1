//! Contracts: proofs that connections are possible or impossible, whatever pods are created.
//!
//! [`verify`] answers for one contract. It says [`Status::Holds`] only if that is proved: for every pod that the contract
//! covers, in every namespace that it covers. Otherwise it returns a connection of two concrete pods, which has been
//! evaluated again like any other connection, or the reason why it cannot decide.

mod alphabet;
mod counterexample;
mod equivalence;
mod ledger;
mod mutation;
mod open_label;
mod search;
mod state;
mod unmatched;

pub use counterexample::{Cause, Counterexample, Effect, Witness};
pub use equivalence::is_equivalent;
pub use ledger::{Ledger, Record, State};
pub use mutation::{Mutation, mutations};
pub use state::{ContractState, Verdict};
pub use unmatched::unmatched;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::budget::{self, Limits, charge};
use crate::model::{
    AddressSet, Block, Contract, Demand, Endpoint, Extent, NAME_LABEL, Namespaces, Party, Pods, Policy, Surroundings,
};
use crate::view::{Scene, Site};

use alphabet::{Alphabet, ELSEWHERE, FURTHER};
use search::{Found, Judged, Limit, Search, Spot, World};

/// The state of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is proved that the contract holds.
    Holds,
    /// This connection breaks it.
    Broken(Box<Counterexample>),
    /// It is unknown whether it holds.
    Undecided(Doubt),
}

/// The reason why it is unknown whether a contract holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The proof exceeds the limit for one contract.
    TooComplex,
    /// A fact is unknown, described as text.
    Facts(String),
}

/// The connections to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All of them.
    All,
    /// Connections from and to pods of this namespace. After a change of its labels, no others can differ.
    Namespace(&'a str),
    /// The same, after a change of policies of the namespace: connections that no policy of this namespace blocks are not
    /// blocked because of the change.
    PoliciesOf(&'a str),
    /// Connections from pods of this new namespace to pods of others. Its own policies follow.
    NewNamespace(&'a str),
}

impl<'a> Scope<'a> {
    fn namespace(self) -> Option<&'a str> {
        match self {
            Self::All => None,
            Self::Namespace(name) | Self::PoliciesOf(name) | Self::NewNamespace(name) => Some(name),
        }
    }
}

/// Maximum number of steps of one proof in an admission request.
pub const REQUEST_STEPS: usize = 300_000;

/// Decides whether a contract holds. `steps` limits the proof; the steps are those of [`crate::budget`], so outside of
/// [`crate::budget::run`] there is no limit.
#[must_use]
pub fn verify<'a>(contract: &'a Contract, scene: Scene<'a>, site: &'a Site, scope: Scope<'a>, steps: usize) -> Status {
    prove(&Proof { contract, scene, before: None, site, scope, limit: Limit::of(steps) })
}

/// Decides whether a contract holds, within limits of its own. Also returns the number of steps that the proof took, at
/// most twice as many as `steps`.
#[must_use]
pub fn verify_alone<'a>(
    contract: &'a Contract,
    scene: Scene<'a>,
    site: &'a Site,
    scope: Scope<'a>,
    steps: usize,
) -> (Status, usize) {
    let limits = Limits { steps: steps.saturating_mul(2), bytes: usize::MAX, ..Limits::default() };
    let most = limits.steps;
    let verified = budget::run(limits, || (verify(contract, scene, site, scope, steps), budget::spent().steps));
    verified.unwrap_or((Status::Undecided(Doubt::TooComplex), most))
}

/// Decides whether a change breaks a contract: whether a connection breaks it after the change that did not break it
/// before.
#[must_use]
pub fn verify_change<'a>(
    contract: &'a Contract,
    (before, after): (Scene<'a>, Scene<'a>),
    site: &'a Site,
    scope: Scope<'a>,
    steps: usize,
) -> Status {
    prove(&Proof { contract, scene: after, before: Some(before), site, scope, limit: Limit::of(steps) })
}

fn prove(proof: &Proof<'_>) -> Status {
    let contract = proof.contract;
    let mut doubt = None;
    for from in &contract.from {
        for to in &contract.to {
            match proof.connections(from, to) {
                Found::Nothing => {}
                Found::Broken(counterexample) => return Status::Broken(counterexample),
                Found::Unclear(why) => doubt = doubt.or(Some(why)),
            }
        }
    }
    doubt.map_or(Status::Holds, Status::Undecided)
}

struct Proof<'a> {
    contract: &'a Contract,
    scene: Scene<'a>,
    /// The state before the change. Then only connections count that break the contract because of the change.
    before: Option<Scene<'a>>,
    site: &'a Site,
    scope: Scope<'a>,
    limit: Limit,
}

/// The policies of a namespace after the change, and before it.
#[derive(Default)]
struct PoliciesOf<'a> {
    after: Vec<&'a Policy>,
    before: Vec<&'a Policy>,
}

/// Collects the results of several searches. A broken contract ends them.
#[derive(Default)]
struct Results {
    doubt: Option<Doubt>,
}

impl Results {
    /// Adds a result, and returns it if it ends the proof.
    fn add(&mut self, found: Found) -> Option<Found> {
        match found {
            Found::Nothing => None,
            Found::Broken(_) => Some(found),
            // Further searches would only exceed the limit again.
            Found::Unclear(Doubt::TooComplex) => Some(found),
            Found::Unclear(doubt) => {
                self.doubt.get_or_insert(doubt);
                None
            }
        }
    }

    fn end(self) -> Found {
        self.doubt.map_or(Found::Nothing, Found::Unclear)
    }
}

impl<'a> Proof<'a> {
    /// Searches the connections between two parties.
    fn connections(&self, from: &'a Party, to: &'a Party) -> Found {
        let parties = [from, to];
        let is_between_pods = matches!(parties, [Party::Pods { .. }, Party::Pods { .. }]);
        if matches!(self.scope, Scope::NewNamespace(_))
            && (!is_between_pods || self.contract.demand == Demand::MustReach)
        {
            // Only the policies of other namespaces count for a new one.
            return Found::Nothing;
        }
        let mut results = Results::default();
        if let [Party::Pods { .. }, Party::Pods { .. }] = parties {
            let anchors = match self.scope.namespace() {
                Some(name) => [(0, from), (1, to)]
                    .into_iter()
                    .filter(|(anchor, _)| *anchor == 0 || !matches!(self.scope, Scope::NewNamespace(_)))
                    .filter(|(_, party)| self.may_be_in(party, name))
                    .map(|(anchor, _)| (anchor, name))
                    .collect(),
                None => {
                    let [sources, destinations] = [self.namespaces(from), self.namespaces(to)];
                    // The fewer namespaces the better: each one is compared with all others at once.
                    let (anchor, names) =
                        if destinations.len() <= sources.len() { (1, destinations) } else { (0, sources) };
                    names.into_iter().map(|name| (anchor, name)).collect::<Vec<_>>()
                }
            };
            for (anchor, name) in anchors {
                if let Some(found) = results.add(self.around(anchor, name, parties)) {
                    return found;
                }
            }
            return results.end();
        }
        let anchor = usize::from(!matches!(from, Party::Pods { .. }));
        let [party, other] = ordered(anchor, from, to);
        let names = match self.scope.namespace() {
            Some(name) if self.may_be_in(party, name) => vec![name],
            Some(_) => Vec::new(),
            None => self.namespaces(party),
        };
        for name in names {
            let (policies, none) = (self.policies(name), PoliciesOf::default());
            let alphabet = self.alphabet([&policies, &none]);
            let spots = ordered(anchor, self.spots(party, name), self.places(other, &alphabet));
            let lists = ordered(anchor, &policies, &none);
            if let Some(found) = results.add(self.search_all(spots, lists, (Judged::Both, self.before), &alphabet)) {
                return found;
            }
        }
        results.end()
    }

    /// Searches the connections between a namespace and all others. `anchor` is 0 if its pods are the sources, and 1 if
    /// they are the destinations.
    fn around(&self, anchor: usize, own: &'a str, [from, to]: [&'a Party; 2]) -> Found {
        let (policies, none) = (self.policies(own), PoliciesOf::default());
        let alphabet = self.alphabet([&policies, &none]);
        let lists = ordered(anchor, &policies, &none);
        let [party, other] = ordered(anchor, from, to);
        // Evaluates only the policies of the anchor. Without a connection there, there is none at all.
        let half = |namespace: &'a str| {
            let place = if own == ELSEWHERE && namespace == ELSEWHERE { FURTHER } else { namespace };
            let spots = ordered(anchor, vec![sketch(party, own)], vec![sketch(other, place)]);
            // The half of a connection was possible before if the whole was.
            self.search_all(spots, lists, (Judged::Only(anchor), None), &alphabet)
        };
        // One proof for all namespaces that no selector names, so that their number does not matter.
        let named = alphabet.named_namespaces();
        let is_done = self.one_end_decides() && named.is_some() && matches!(half(ELSEWHERE), Found::Nothing);
        let mut others: BTreeSet<&str> = named.iter().flatten().copied().filter(|name| self.exists(name)).collect();
        if !is_done {
            others.extend(self.scene.namespaces());
            // Without the whole cluster there may be namespaces without any manifest here.
            others.extend((!self.scene.is_whole() && named.is_some()).then_some(ELSEWHERE));
        }
        others.retain(|name| {
            let is_new = matches!(self.scope, Scope::NewNamespace(new) if new == *name);
            !is_new && (*name == ELSEWHERE || self.may_be_in(other, name))
        });
        // The policies of the anchor cannot tell the namespaces of one group apart.
        let classes = alphabet.namespaces();
        let around: &dyn Surroundings = &self.scene;
        let mut groups: BTreeMap<_, Vec<&'a str>> = BTreeMap::new();
        for name in others {
            charge(1);
            let class = classes.class(|key| around.namespace_label(name, key));
            // The pods of the anchor's own namespace are subject to its policies at both ends.
            groups.entry((name == own, class)).or_default().push(name);
        }
        let mut results = Results::default();
        for group in groups.values() {
            let Some(first) = group.first() else { continue };
            match half(first) {
                Found::Nothing if self.one_end_decides() => continue,
                found @ Found::Unclear(Doubt::TooComplex) => return found,
                _ => {}
            }
            for name in group {
                let theirs = self.policies(name);
                let alphabet = self.alphabet([&policies, &theirs]);
                let place = if own == ELSEWHERE && *name == ELSEWHERE { FURTHER } else { name };
                let spots = ordered(anchor, self.spots(party, own), self.spots(other, place));
                let lists = ordered(anchor, &policies, &theirs);
                if let Some(found) = results.add(self.search_all(spots, lists, (Judged::Both, self.before), &alphabet))
                {
                    return found;
                }
            }
        }
        results.end()
    }

    /// Returns true if the contract holds as soon as the policies of the anchor break it for no pod. One end is enough
    /// to block a connection. To allow one, both ends have to, but the other ends may be known to do so.
    fn one_end_decides(&self) -> bool {
        self.contract.demand == Demand::MustNotReach || matches!(self.scope, Scope::PoliciesOf(_))
    }

    /// Searches the connections from each of the sources to each of the destinations. With the state before the change,
    /// only connections count that the change affects.
    fn search_all(
        &self,
        [sources, destinations]: [Vec<Spot<'a>>; 2],
        [of_sources, of_destinations]: [&PoliciesOf<'a>; 2],
        (judged, before): (Judged, Option<Scene<'a>>),
        alphabet: &Alphabet<'a>,
    ) -> Found {
        let mut results = Results::default();
        let (demand, spans) = (self.contract.demand, self.contract.ports.as_slice());
        for from in &sources {
            for to in &destinations {
                charge(1);
                if is_one_pod(from, to) {
                    continue;
                }
                let spots = [*from, *to];
                let after = World { scene: self.scene, policies: [&of_sources.after, &of_destinations.after] };
                let before =
                    before.map(|scene| World { scene, policies: [&of_sources.before, &of_destinations.before] });
                let worlds = (after, before);
                let search = Search::new(worlds, self.site, (demand, spans), spots, judged, alphabet, &self.limit);
                if let Some(found) = results.add(search.run()) {
                    return found;
                }
            }
        }
        results.end()
    }

    /// The ends of a party that is not pods. Of addresses, one of each part that policies tell apart.
    fn places(&self, party: &'a Party, alphabet: &Alphabet<'a>) -> Vec<Spot<'a>> {
        match party {
            Party::Addresses { set, outside, text } => {
                let samples = set.samples(&self.blocks(alphabet));
                samples.into_iter().map(|address| Spot::Address { address, outside: *outside, text }).collect()
            }
            _ => vec![Spot::Other(party)],
        }
    }

    /// The sets of addresses that policies tell apart.
    fn blocks(&self, alphabet: &Alphabet<'a>) -> Vec<AddressSet> {
        let around: &dyn Surroundings = &self.scene;
        let named = around.network_sets().iter().flat_map(|set| &set.blocks).map(Block::addresses);
        alphabet.blocks().chain(named).collect()
    }

    fn policies(&self, namespace: &str) -> PoliciesOf<'a> {
        let before = self.before.map(|scene| scene.policies(namespace).collect());
        PoliciesOf { after: self.scene.policies(namespace).collect(), before: before.unwrap_or_default() }
    }

    /// Returns true if a namespace exists, or may exist.
    fn exists(&self, namespace: &str) -> bool {
        self.scene.has_namespace(namespace) || !self.scene.is_whole()
    }

    /// What the policies of both ends and the contract distinguish.
    fn alphabet(&self, policies: [&PoliciesOf<'a>; 2]) -> Alphabet<'a> {
        let mut alphabet = Alphabet::default();
        for policy in policies.into_iter().flat_map(|both| both.after.iter().chain(&both.before)) {
            alphabet.add_policy(policy);
        }
        for party in self.contract.from.iter().chain(&self.contract.to) {
            if let Party::Pods { pods, except } = party {
                std::iter::once(pods).chain(except).for_each(|pods| alphabet.add_pods(pods));
            }
        }
        for span in &self.contract.ports {
            alphabet.add_range(span.first, span.last);
        }
        alphabet
    }

    /// The namespaces that may have pods of a party. From files, a namespace may also exist without any manifest in it.
    fn namespaces(&self, party: &'a Party) -> Vec<&'a str> {
        let Party::Pods { pods: Pods { namespaces: Namespaces::Matching(selector), .. }, .. } = party else {
            return Vec::new();
        };
        let listed = selector.values_of(NAME_LABEL);
        let mut names: Vec<&str> = match listed {
            Some(listed) => {
                let listed = listed.iter().map(|name| &**name);
                listed.filter(|name| self.exists(name)).collect()
            }
            // Without the whole cluster there may be namespaces without any manifest here.
            None => self.scene.namespaces().chain((!self.scene.is_whole()).then_some(ELSEWHERE)).collect(),
        };
        names.retain(|name| *name == ELSEWHERE || self.may_be_in(party, name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns true if a party may have pods in a namespace.
    fn may_be_in(&self, party: &Party, namespace: &str) -> bool {
        charge(1);
        let Party::Pods { pods, except } = party else { return false };
        let is_whole = |pods: &Pods| pods.all_pods() && pods.namespaces.mean(namespace, &self.scene) == Some(true);
        pods.namespaces.mean(namespace, &self.scene) != Some(false) && !except.iter().any(is_whole)
    }

    /// The pods of a party in a namespace.
    fn spots(&self, party: &'a Party, namespace: &'a str) -> Vec<Spot<'a>> {
        if self.contract.extent == Extent::Any {
            return vec![sketch(party, namespace)];
        }
        existing(self.scene, party, namespace)
    }
}

/// The pods of a party that exist in a namespace, and the pods of the workloads there.
fn existing<'a>(scene: Scene<'a>, party: &'a Party, namespace: &'a str) -> Vec<Spot<'a>> {
    let Party::Pods { pods, except } = party else { return vec![Spot::Other(party)] };
    let Some(facts) = scene.namespace(namespace) else { return Vec::new() };
    let mut spots = Vec::new();
    for running in facts.running().iter().filter(|running| running.workload.host_network.is_none()) {
        charge(1);
        let workload = &running.workload;
        let endpoint = Endpoint { addresses: running.address.as_slice(), ..Endpoint::of(namespace, workload) };
        let is_excluded = except.iter().any(|pods| pods.mean(&endpoint, &scene) == Some(true));
        // A label that controllers add is unknown. Such a pod counts.
        if pods.mean(&endpoint, &scene) != Some(false) && !is_excluded {
            spots.push(Spot::Pod { endpoint, kind: &running.kind, name: &running.name, ports: &workload.ports });
        }
    }
    spots
}

/// The pods of a party that could exist in a namespace.
fn sketch<'a>(party: &'a Party, namespace: &'a str) -> Spot<'a> {
    match party {
        Party::Pods { pods, except } => {
            Spot::Sketch { namespace, is_open: matches!(namespace, ELSEWHERE | FURTHER), pods, except, address: None }
        }
        _ => Spot::Other(party),
    }
}

/// Returns true if both are the same single pod. A pod always reaches itself (NetworkPolicy API,
/// `NetworkPolicySpec.podSelector`).
fn is_one_pod(from: &Spot<'_>, to: &Spot<'_>) -> bool {
    match (from, to) {
        (Spot::Pod { endpoint: a, kind: "Pod", name, .. }, Spot::Pod { endpoint: b, kind: "Pod", name: other, .. }) => {
            a.namespace == b.namespace && name == other
        }
        _ => false,
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooComplex => f.write_str("the proof exceeds the limit for one contract"),
            Self::Facts(text) => f.write_str(text),
        }
    }
}

/// The source and the destination, of the anchor's end and the other one.
fn ordered<T>(anchor: usize, own: T, other: T) -> [T; 2] {
    if anchor == 0 { [own, other] } else { [other, own] }
}
