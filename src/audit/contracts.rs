//! The contracts: which hold, which are broken, and which could not be decided.

use super::report::{ContractCounts, Item, NamespaceState, Section};
use super::scope::Scope;
use super::section::{Items, Question};
use crate::contract::{self, ContractState, Doubt, Status, Verdict, Witness};
use crate::model::{Contract, Party};
use crate::view::{Scene, Site, View};

/// Maximum number of steps of the proofs.
#[derive(Clone, Copy)]
struct Limit {
    one: usize,
    all: usize,
}

const LIMIT: Limit = Limit { one: 10_000_000, all: 30_000_000 };

/// A contract with its state.
pub(super) struct Proved<'a> {
    contract: &'a Contract,
    status: Status,
    state: ContractState,
}

/// Proves the contracts: broken ones come first, then undecided ones.
pub(super) fn prove<'a>(view: &'a View, site: &'a Site) -> Vec<Proved<'a>> {
    prove_within(LIMIT, view, site)
}

fn prove_within<'a>(limit: Limit, view: &'a View, site: &'a Site) -> Vec<Proved<'a>> {
    let scene = Scene::of(view);
    let mut left = limit.all;
    let proved = view.contracts().map(|contract| {
        let steps = limit.one.min(left);
        let (status, spent) = contract::verify_alone(contract, scene, site, contract::Scope::All, steps);
        left = left.saturating_sub(spent);
        let mut state = ContractState::of(contract, scene, &status);
        if status == Status::Undecided(Doubt::TooComplex) && steps < limit.one {
            state.detail =
                Some("the audit exceeded its limit for all contracts before this one was decided".to_owned());
        }
        Proved { contract, status, state }
    });
    let mut proved: Vec<Proved<'_>> = proved.collect();
    proved.sort_by(|a, b| (a.state.result, &a.state.name).cmp(&(b.state.result, &b.state.name)));
    proved
}

impl Proved<'_> {
    /// Returns true if the contract is about pods of a namespace, or is broken by a connection or a policy of it. Pods
    /// that it covers only as `allPodsExcept` do not count.
    fn concerns(&self, view: &View, namespace: &str) -> bool {
        let selects = |party: &Party| match party {
            Party::Pods { pods, except } => except.is_empty() && pods.namespaces.mean(namespace, view) != Some(false),
            _ => false,
        };
        let breaks = || match &self.status {
            Status::Broken(found) => {
                let is_there = |witness: &Witness| match witness {
                    Witness::Pod { namespace: of, .. } | Witness::Existing { namespace: of, .. } => **of == *namespace,
                    Witness::Other(_) => false,
                };
                let policies = found.causes.iter().filter_map(|cause| cause.policy.as_ref());
                [&found.from, &found.to].into_iter().any(is_there)
                    || policies.filter_map(|policy| policy.namespace.as_deref()).any(|of| of == namespace)
            }
            Status::Holds | Status::Undecided(_) => false,
        };
        self.contract.from.iter().chain(&self.contract.to).any(selects) || breaks()
    }
}

/// Removes the contracts that concern no namespace of the report.
pub(super) fn limit(proved: &mut Vec<Proved<'_>>, view: &View, scope: &Scope) {
    if !scope.is_whole() {
        proved.retain(|proved| scope.names().any(|name| proved.concerns(view, name)));
    }
}

/// Counts the contracts that concern each namespace.
pub(super) fn count_by_namespace(proved: &[Proved<'_>], view: &View, namespaces: &mut [NamespaceState]) {
    for namespace in namespaces {
        let concerning = proved.iter().filter(|proved| proved.concerns(view, &namespace.name));
        namespace.contracts = count(concerning);
    }
}

/// Counts contracts by result.
pub(super) fn count<'p>(proved: impl IntoIterator<Item = &'p Proved<'p>>) -> ContractCounts {
    let mut counts = ContractCounts::default();
    for proved in proved {
        match proved.state.result {
            Verdict::Holds => counts.hold += 1,
            Verdict::Broken => counts.broken += 1,
            Verdict::Undecided => counts.undecided += 1,
        }
    }
    counts
}

/// The sections on contracts that are broken, and on those that are undecided.
pub(super) fn sections(proved: &[Proved<'_>]) -> [Section; 2] {
    let (mut broken, mut undecided) = (Items::default(), Items::default());
    for Proved { status, state, .. } in proved {
        let detail = state.detail.as_deref().unwrap_or_default();
        let item = |message: &str| Item::of(format!("Contract {}", state.name), None, message);
        match status {
            Status::Holds => {}
            Status::Broken(_) => {
                let message = format!("{detail}, because {}", state.because.join(", and "));
                broken.add(item(&message).helped("change the policies so that the contract holds"));
            }
            Status::Undecided(Doubt::TooComplex) => {
                undecided.add(item(detail).helped("run `portcullis test`, which has a higher limit"));
            }
            Status::Undecided(Doubt::Facts(_)) => undecided.add(item(detail)),
        }
    }
    let question = |id, title| Question { id, title, is_finding: true };
    let all = Some(proved.len());
    [
        broken.section(
            &question("broken-contracts", "Broken contracts"),
            "Contracts that a possible connection breaks.",
            all,
        ),
        undecided.section(
            &question("undecided-contracts", "Undecided contracts"),
            "Contracts that depend on unknown facts, or whose proof exceeds the limit.",
            all,
        ),
    ]
}

/// The states for the report.
pub(super) fn states(proved: Vec<Proved<'_>>) -> Vec<ContractState> {
    proved.into_iter().map(|proved| proved.state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use crate::model::{AddressSet, Demand, Enforcement, Extent, NAME_LABEL, Namespaces, Operator, Pods, Selector};

    /// A contract that all pods of a namespace must reach the internet.
    fn contract(name: &str) -> Contract {
        let namespaces = Namespaces::Matching(Selector::label(NAME_LABEL, Operator::In(vec!["shop".into()])));
        Contract {
            name: name.into(),
            demand: Demand::MustReach,
            extent: Extent::Any,
            from: vec![Party::Pods { pods: Pods { namespaces, labels: None }, except: Vec::new() }],
            to: vec![Party::Addresses { set: AddressSet::internet(), outside: true, text: "the internet".into() }],
            ports: Vec::new(),
            enforcement: Enforcement::Deny,
            reason: Box::default(),
            owner: Box::default(),
        }
    }

    #[test]
    fn the_limit_for_all_contracts_names_those_that_are_left() {
        let mut view = View::default();
        for name in ["a", "b", "c"] {
            view.insert_contract(std::sync::Arc::new(contract(name)));
        }
        let site = Configuration::shipped().unwrap().site;
        let spent = contract::verify_alone(&contract("a"), Scene::of(&view), &site, contract::Scope::All, 1_000).1;
        let results = |all| {
            let proved = prove_within(Limit { one: 1_000, all }, &view, &site);
            let each = proved.iter().map(|proved| {
                let detail = proved.state.detail.as_deref().unwrap_or_default();
                assert_eq!(detail.contains("its limit for all contracts"), proved.state.result == Verdict::Undecided);
                (proved.state.name.clone(), proved.state.result)
            });
            each.collect::<Vec<_>>()
        };
        let state = |name: &str, result| (name.to_owned(), result);
        assert_eq!(
            results(2 * spent),
            [state("c", Verdict::Undecided), state("a", Verdict::Holds), state("b", Verdict::Holds)]
        );
        assert!(results(1_000).iter().all(|(_, result)| *result == Verdict::Holds), "{spent} steps each");
    }
}
