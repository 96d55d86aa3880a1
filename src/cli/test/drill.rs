//! The fault drill: which small changes of the policies would a contract or a rule notice?

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::verify;
use crate::budget::{self, Limits};
use crate::cli::progress::Progress;
use crate::config::Configuration;
use crate::contract::{self, Mutation, Scope, Status};
use crate::engine;
use crate::model::{Body, Contract, Labels, Namespaces, Object, ObjectRef, Policy};
use crate::rules::{Change, Mode, Occasion};
use crate::view::{Scene, Site, View};

/// The result of a fault drill.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Drill {
    /// The number of changes that were tried.
    pub(super) changes: usize,
    /// The number of changes that break each contract.
    pub(super) by_contract: BTreeMap<String, usize>,
    /// The number of changes that each rule denies or warns about.
    pub(super) by_rule: BTreeMap<String, usize>,
    /// The changes that nothing notices.
    pub(super) unnoticed: Vec<String>,
    /// The changes that nothing can notice, because other policies decide every connection as before.
    pub(super) without_effect: Vec<String>,
}

impl Drill {
    /// The number of changes that a contract or a rule notices.
    pub(super) fn noticed(&self) -> usize {
        self.changes - self.unnoticed.len() - self.without_effect.len()
    }
}

/// The rule for contracts. Its findings count as those of the contract.
const CONTRACTS: &str = "broken-contract";

pub(super) fn run(configuration: &Configuration, view: &View, contracts: &[&Contract]) -> Drill {
    let site = &configuration.site;
    let holding: Vec<&Contract> = contracts
        .iter()
        .copied()
        .filter(|contract| verify(contract, view, site, Scope::All) == Status::Holds)
        .collect();
    let mut objects: BTreeMap<&ObjectRef, Vec<Policy>> = BTreeMap::new();
    for policy in view.all_own_policies().chain(view.cluster_wide_policies()) {
        // The controller replaces changes of its own policies.
        if !site.is_reserved(&policy.object) {
            objects.entry(&policy.object).or_default().push(policy.clone());
        }
    }
    let mut drill = Drill::default();
    let mut progress = Progress::start();
    let all = objects.len();
    for (number, (id, policies)) in objects.into_iter().enumerate() {
        progress.update("changing", number, all, "policies");
        let object = |policies| Object {
            id: id.clone(),
            body: Body::Policies(policies),
            faults: Vec::new(),
            annotations: Labels::default(),
        };
        let is_own = |policy: &Policy| matches!(policy.subject.namespaces, Namespaces::Own(Some(_)));
        let scope = match &id.namespace {
            Some(namespace) if policies.iter().all(is_own) => Scope::PoliciesOf(namespace),
            _ => Scope::All,
        };
        let old = object(policies);
        for Mutation { change, policies } in contract::mutations(old.policies()) {
            let mut changed = view.clone();
            let new = policies.map(object);
            match &new {
                Some(new) => changed.insert(new.clone()),
                None => changed.remove(id),
            }
            let mut is_noticed = false;
            for contract in &holding {
                if verify(contract, &changed, site, scope) != Status::Holds {
                    *drill.by_contract.entry(format!("contract {}", contract.name)).or_default() += 1;
                    is_noticed = true;
                }
            }
            let change_of_object = match &new {
                Some(new) => Change::Write { new, old: Some(&old) },
                None => Change::Delete { old: &old },
            };
            for rule in rules(configuration, view, change_of_object) {
                *drill.by_rule.entry(format!("rule {rule}")).or_default() += 1;
                is_noticed = true;
            }
            drill.changes += 1;
            if !is_noticed {
                let has_effect = !has_no_effect(view, &changed, scope, site);
                let list = if has_effect { &mut drill.unnoticed } else { &mut drill.without_effect };
                list.push(format!("{id}: {change}"));
            }
        }
    }
    drill
}

/// Maximum number of steps of the proof that a change has no effect, less than a second.
const STEPS: usize = 4_000_000;

/// Returns true if it is proved that the policies decide every connection as before.
fn has_no_effect(before: &View, after: &View, scope: Scope<'_>, site: &Site) -> bool {
    let namespace = match scope {
        Scope::PoliciesOf(namespace) => Some(namespace),
        _ => None,
    };
    let scenes = (Scene::of(before), Scene::of(after));
    let limits = Limits { steps: 2 * STEPS, bytes: usize::MAX, ..Limits::default() };
    budget::run(limits, || contract::is_equivalent(scenes, namespace, site, STEPS)).unwrap_or(false)
}

/// The rules that report a change, apart from faults that the object had before.
fn rules(configuration: &Configuration, view: &View, change: Change<'_>) -> Vec<&'static str> {
    let occasion = Occasion::anonymous(Timestamp::now());
    let judged = budget::run(Limits::default(), || engine::judge(configuration, view, change, occasion));
    let judgements = judged.map(|verdict| verdict.judgements).unwrap_or_default();
    let is_new = |judgement: &&engine::Judgement| {
        judgement.spared.is_none() && judgement.action <= Mode::Warn && judgement.finding.rule != CONTRACTS
    };
    let mut rules: Vec<_> = judgements.iter().filter(is_new).map(|judgement| judgement.finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}
