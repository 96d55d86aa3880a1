//! Proposals: contracts that hold and look intended, for a person to review.
//!
//! ```text
//! View ─ groups ─▶ groups of pods ─┬─ isolation, internet ─▶ mustNotReach ─┐
//!                                  └─ flows ──────────────▶ mustReach ─────┴─▶ candidates ─ contract (proof) ─▶ proposals
//! ```
//!
//! Candidates are read from the rules of policies, which is cheap and may be wrong. The proof decides: a contract that is
//! broken or undecided is not proposed.

mod candidate;
mod flows;
mod groups;
mod implication;
mod internet;
mod isolation;
mod names;
mod owners;
mod sources;

pub use candidate::Kind;

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::{self, Limits};
use crate::contract::{self, Scope, Status};
use crate::dialect::{self, Dialect as _, Manifest, Origin, contract::Contracts};
use crate::model::{Body, Contract, Enforcement, Extent};
use crate::view::{Scene, Site, View};

use candidate::{Candidate, Form};
use groups::Place;
use implication::implies;

/// A contract that holds.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The kind.
    pub kind: Kind,
    /// The namespace that the contract is about.
    pub namespace: String,
    /// The contract.
    pub contract: Contract,
    /// Its manifest, as JSON.
    pub manifest: String,
    /// The reason for the proposal.
    pub why: String,
}

/// The proposals for a state.
#[derive(Clone, Debug, Default)]
pub struct Proposals {
    /// The proposals, by kind and then by their value.
    pub proposals: Vec<Proposal>,
    /// The number of further proposals, which the limit leaves out.
    pub omitted: usize,
    /// The number of proposals that contracts of the state already imply.
    pub known: usize,
}

/// The proposals to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The namespaces of the pods that the contracts are about. Empty: all but platform namespaces.
    pub namespaces: &'a BTreeSet<&'a str>,
    /// Maximum number of proposals.
    pub limit: usize,
}

/// The reason that a person replaces.
const REASON: &str = "TODO: say why this must hold, or delete this contract.";

/// Maximum number of steps of one proof, about a second. Proofs of proposals are many.
const STEPS: usize = 10_000_000;

/// Proposes contracts. The view includes the policies that its namespaces are due. `progress` is called with the number of
/// candidates that are decided, and the number of all.
#[must_use]
pub fn propose(view: &View, site: &Site, request: Request<'_>, mut progress: impl FnMut(usize, usize)) -> Proposals {
    let candidates = candidates(view, site, request.namespaces);
    let all = candidates.len();
    let mut result = Proposals::default();
    let mut proved: Vec<Proposal> = Vec::new();
    for (number, candidate) in candidates.into_iter().enumerate() {
        progress(number, all);
        if let Some(proposal) = prove(candidate, view, site) {
            proved.push(proposal);
        }
    }
    let mut proved = without_implied(proved, view);
    proved.retain(|proposal| {
        let is_known = view.contracts().any(|contract| implies(contract, &proposal.contract, view));
        result.known += usize::from(is_known);
        !is_known
    });
    let (kept, omitted) = limited(proved, request.limit);
    result.omitted = omitted;
    result.proposals = kept;
    give_names(&mut result.proposals, view);
    result
}

/// The candidates, by kind and then by their value.
fn candidates(view: &View, site: &Site, namespaces: &BTreeSet<&str>) -> Vec<Candidate> {
    let mut names: Vec<&str> = view.namespaces().map(|(name, _)| &**name).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.retain(|name| if namespaces.is_empty() { !site.is_left_alone(name) } else { namespaces.contains(name) });
    let callers = flows::Callers::of(view);
    let mut candidates = Vec::new();
    for name in names {
        let Some(place) = Place::of(view, name) else { continue };
        isolation::add(&place, &mut candidates);
        internet::add(&place, &callers, &mut candidates);
        flows::add(&place, &callers, &mut candidates);
    }
    candidates.sort_by(|a, b| (a.kind, a.rank, &a.name).cmp(&(b.kind, b.rank, &b.name)));
    candidates
}

/// Returns the first form of a candidate that holds. The proof is about the contract as its manifest reads.
fn prove(candidate: Candidate, view: &View, site: &Site) -> Option<Proposal> {
    let Candidate { kind, namespace, name, why, owner, demand, forms, .. } = candidate;
    for form in forms {
        let Form { extent, from, to, ports } = form;
        let contract = Contract {
            name: name.clone().into(),
            demand,
            extent,
            from,
            to,
            ports,
            enforcement: Enforcement::Deny,
            reason: REASON.into(),
            owner: owner.clone().into(),
        };
        let Some((contract, manifest)) = dialect::contract::write(&contract).and_then(read) else { continue };
        let limits = Limits { steps: 2 * STEPS, bytes: usize::MAX, ..Limits::default() };
        let verified = budget::run(limits, || contract::verify(&contract, Scene::of(view), site, Scope::All, STEPS));
        if verified == Ok(Status::Holds) {
            let doubt = if extent == Extent::Any { "" } else { "; not proved for pods with other labels" };
            return Some(Proposal { kind, namespace, contract, manifest, why: format!("{why}{doubt}") });
        }
    }
    None
}

/// Reads the manifest of a contract. None if it is not valid, for example because of the name of a namespace.
fn read(manifest: String) -> Option<(Contract, String)> {
    let written = Manifest::read("portcullis.dev/v1alpha1", "Contract", &manifest, Origin::Author).ok()?;
    match Contracts.read(&written).ok()?.body {
        Body::Contract(contract) => Some((contract, manifest)),
        _ => None,
    }
}

/// Leaves out proposals that other proposals imply, which are then about the same namespace. Of two that imply each other,
/// the first one stays.
fn without_implied(proposals: Vec<Proposal>, view: &View) -> Vec<Proposal> {
    let mut by_namespace: BTreeMap<&str, Vec<(usize, &Contract)>> = BTreeMap::new();
    for (at, proposal) in proposals.iter().enumerate() {
        by_namespace.entry(&proposal.namespace).or_default().push((at, &proposal.contract));
    }
    let is_implied = |(at, proposal): (usize, &Proposal)| {
        by_namespace.get(&*proposal.namespace).into_iter().flatten().any(|(other_at, other)| {
            *other_at != at
                && implies(other, &proposal.contract, view)
                && (*other_at < at || !implies(&proposal.contract, other, view))
        })
    };
    let implied: Vec<bool> = proposals.iter().enumerate().map(is_implied).collect();
    let kept = proposals.into_iter().zip(implied).filter(|(_, is_implied)| !is_implied);
    kept.map(|(proposal, _)| proposal).collect()
}

/// Keeps a number of proposals, from each kind in turn. Returns the number of the others, too.
fn limited(proposals: Vec<Proposal>, limit: usize) -> (Vec<Proposal>, usize) {
    let omitted = proposals.len().saturating_sub(limit);
    let mut taken: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut order: Vec<(usize, Kind, usize)> = Vec::new();
    for (at, proposal) in proposals.iter().enumerate() {
        let turn = taken.entry(proposal.kind).or_default();
        order.push((*turn, proposal.kind, at));
        *turn += 1;
    }
    order.sort_unstable();
    let kept: BTreeSet<usize> = order.into_iter().take(limit).map(|(_, _, at)| at).collect();
    let proposals = proposals.into_iter().enumerate().filter(|(at, _)| kept.contains(at));
    (proposals.map(|(_, proposal)| proposal).collect(), omitted)
}

/// Changes names that other contracts already have.
fn give_names(proposals: &mut [Proposal], view: &View) {
    let mut used: BTreeSet<Box<str>> = view.contracts().map(|contract| contract.name.clone()).collect();
    for proposal in proposals {
        let contract = &mut proposal.contract;
        if used.contains(&contract.name) {
            contract.name = names::distinguished(&contract.name, &contract.to_string()).into();
            if let Some(manifest) = dialect::contract::write(contract) {
                proposal.manifest = manifest;
            }
        }
        used.insert(contract.name.clone());
    }
}
