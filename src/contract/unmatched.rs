//! The ends of a contract that match nothing, so that the contract holds whatever the policies are.

use crate::budget::charge;
use crate::model::{Contract, Extent, NAME_LABEL, Namespaces, Party, Selector};
use crate::view::Scene;

use super::existing;

/// Describes each source and destination of a contract that matches no namespace, for example because its name is
/// misspelt, and with `pods: Existing` each one that matches no pod. `allPodsExcept` always matches.
#[must_use]
pub fn unmatched(contract: &Contract, scene: Scene<'_>) -> Vec<String> {
    let parties = contract.from.iter().chain(&contract.to);
    let mut notes: Vec<String> = parties.filter_map(|party| note(contract, party, scene)).collect();
    notes.dedup();
    notes
}

fn note(contract: &Contract, party: &Party, scene: Scene<'_>) -> Option<String> {
    let Party::Pods { pods, except } = party else { return None };
    let Namespaces::Matching(selector) = &pods.namespaces else { return None };
    if !except.is_empty() || pods.are_all() {
        return None;
    }
    let is_there = |name: &&str| {
        charge(1);
        pods.namespaces.mean(name, &scene) != Some(false)
    };
    let names: Vec<&str> = match selector.values_of(NAME_LABEL) {
        Some(names) => names.iter().map(|name| &**name).filter(|name| scene.has_namespace(name)).collect(),
        None => scene.namespaces().collect(),
    };
    let names: Vec<&str> = names.into_iter().filter(is_there).collect();
    let is_of_existing = contract.extent == Extent::Existing;
    if names.is_empty() {
        let selector = described(selector);
        return Some(match (scene.is_whole(), is_of_existing) {
            (true, _) => format!("no namespace matches {selector}, so nothing can break the contract there"),
            (false, true) => {
                format!("no namespace in the manifests matches {selector}, so nothing can break the contract there")
            }
            (false, false) => {
                format!("no namespace in the manifests matches {selector}, so the policies there are unknown")
            }
        });
    }
    let has_pods = |name: &&str| !existing(scene, party, name).is_empty();
    let is_vacuous = is_of_existing && !names.iter().any(has_pods);
    is_vacuous.then(|| format!("no existing pod matches {party}, so nothing can break the contract there"))
}

/// The names of namespaces, or the labels that they have to have.
fn described(selector: &Selector) -> String {
    match selector.values_of(NAME_LABEL) {
        Some(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(" or ")
        }
        None => format!("`{selector}`"),
    }
}
