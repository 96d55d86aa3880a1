//! The states of all contracts of a cluster. A contract is verified again when its inputs have changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Counterexample, Doubt, Scope, Status, verify};
use crate::budget::{self, Limits};
use crate::model::{Contract, Extent, ObjectRef};
use crate::view::{Scene, Site, View};

/// Maximum number of steps for one contract.
const CONTRACT_STEPS: usize = 20_000_000;
/// Number of steps after which an update ends. The other contracts wait for the next one.
const UPDATE_STEPS: usize = 50_000_000;
/// Maximum number of changed objects that are kept to explain a broken contract.
const MAX_CHANGES: usize = 1000;

/// The states of all contracts, and the inputs from which they follow.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The view of the last update.
    view: Option<Arc<View>>,
    /// The number of the last change of policies, tiers, namespaces or settings.
    policies: u64,
    /// The number of the last change of namespaces with their pods. Only contracts about existing pods depend on it.
    pods: u64,
    /// The changed objects, with the numbers of their changes.
    changes: VecDeque<(u64, ObjectRef)>,
    /// All changes after this number are in `changes`.
    changes_after: u64,
    entries: BTreeMap<Key, Entry>,
}

/// A name, and whether the contract is an object of the cluster. A contract from a file may have the same name.
type Key = (Box<str>, bool);

#[derive(Debug)]
struct Entry {
    contract: Arc<Contract>,
    /// None until the contract is verified.
    status: Option<Status>,
    /// The numbers of the changes that the status includes.
    policies: u64,
    pods: u64,
    broken_by: Option<ObjectRef>,
}

/// A contract with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Box<str>,
    /// True if the contract is an object of the cluster, false if it was read from a file.
    pub is_object: bool,
    /// The state.
    pub state: State,
    /// The object whose change broke the contract, if it is known.
    pub broken_by: Option<ObjectRef>,
}

/// The state of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The contract was verified, with this result.
    Verified(Arc<Contract>, Status),
    /// The contract cannot be read, for this reason.
    Invalid(Box<str>),
}

impl State {
    /// The name of the state.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Verified(_, Status::Holds) => "Holds",
            Self::Verified(_, Status::Broken(_)) => "Broken",
            Self::Verified(_, Status::Undecided(_)) => "Undecided",
            Self::Invalid(_) => "Invalid",
        }
    }
}

impl Ledger {
    /// Takes in a view, and verifies the contracts whose inputs have changed, those first that have waited longest.
    /// `has_new_site` is true if the site differs from that of the last update. Returns true if contracts still wait.
    pub fn update(&mut self, view: &Arc<View>, site: &Site, has_new_site: bool) -> bool {
        self.observe(view, has_new_site);
        let mut stale: Vec<(u64, Key)> = self
            .entries
            .iter()
            .filter(|(_, entry)| self.is_stale(entry))
            .map(|(key, entry)| (entry.age(), key.clone()))
            .collect();
        stale.sort_unstable();
        let mut left = UPDATE_STEPS;
        let mut stale = stale.into_iter();
        for (_, key) in stale.by_ref() {
            left = left.saturating_sub(self.verify(&key, view, site));
            if left == 0 {
                break;
            }
        }
        let waits = stale.next().is_some();
        if !waits {
            self.forget_changes();
        }
        waits
    }

    /// The contracts that have a state.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let verified = self.entries.iter().filter_map(|((name, is_object), entry)| {
            let state = State::Verified(Arc::clone(&entry.contract), entry.status.clone()?);
            Some(Record { name: name.clone(), is_object: *is_object, state, broken_by: entry.broken_by.clone() })
        });
        let invalid = self.view.iter().flat_map(|view| view.unreadable_contracts()).map(|(name, why)| Record {
            name: name.into(),
            is_object: true,
            state: State::Invalid(why.into()),
            broken_by: None,
        });
        verified.chain(invalid).collect()
    }

    /// Records the differences from the last view.
    fn observe(&mut self, view: &Arc<View>, has_new_site: bool) {
        match &self.view {
            Some(last) if Arc::ptr_eq(last, view) => {}
            Some(last) => {
                let (changed, has_new_pods) = (view.changed_objects(last), !view.shares_namespaces(last));
                self.pods += u64::from(has_new_pods);
                if !changed.is_empty() {
                    self.policies += 1;
                    self.record_changes(changed);
                }
            }
            None => self.policies += 1,
        }
        if has_new_site {
            self.policies += 1;
            // Changed settings may break a contract too.
            self.changes.clear();
            self.changes_after = self.policies;
        }
        let stored = view.stored_contracts().map(|contract| (contract, true));
        let given = view.given_contracts().iter().map(|contract| (contract, false));
        let all: BTreeMap<Key, &Arc<Contract>> =
            stored.chain(given).map(|(contract, is_object)| ((contract.name.clone(), is_object), contract)).collect();
        self.entries.retain(|key, entry| all.get(key).is_some_and(|contract| **contract == entry.contract));
        for (key, contract) in all {
            self.entries.entry(key).or_insert_with(|| Entry {
                contract: Arc::clone(contract),
                status: None,
                policies: 0,
                pods: 0,
                broken_by: None,
            });
        }
        self.view = Some(Arc::clone(view));
    }

    fn record_changes(&mut self, changed: Vec<ObjectRef>) {
        let number = self.policies;
        self.changes.extend(changed.into_iter().map(|object| (number, object)));
        while self.changes.len() > MAX_CHANGES {
            if let Some((number, _)) = self.changes.pop_front() {
                self.changes_after = number;
            }
        }
    }

    /// Drops the changes that every entry includes.
    fn forget_changes(&mut self) {
        self.changes.clear();
        self.changes_after = self.policies;
    }

    fn is_stale(&self, entry: &Entry) -> bool {
        let depends_on_pods = entry.contract.extent == Extent::Existing;
        entry.status.is_none() || entry.policies < self.policies || depends_on_pods && entry.pods < self.pods
    }

    /// Verifies a contract. Returns the number of steps.
    fn verify(&mut self, key: &Key, view: &View, site: &Site) -> usize {
        let Some(entry) = self.entries.get_mut(key) else { return 0 };
        let (status, steps) = prove(&entry.contract, view, site);
        let was_broken = matches!(entry.status, Some(Status::Broken(_)));
        match &status {
            Status::Broken(_) if was_broken => {}
            Status::Broken(found) if entry.status.is_some() && self.changes_after <= entry.policies => {
                let since: BTreeSet<&ObjectRef> = self
                    .changes
                    .iter()
                    .filter(|(number, _)| *number > entry.policies)
                    .map(|(_, object)| object)
                    .collect();
                entry.broken_by = culprit(found, &since).cloned();
            }
            _ => entry.broken_by = None,
        }
        (entry.status, entry.policies, entry.pods) = (Some(status), self.policies, self.pods);
        steps
    }
}

impl Entry {
    /// The older the status, the smaller.
    fn age(&self) -> u64 {
        self.policies.saturating_add(self.pods)
    }
}

/// The changed object that broke a contract: the one that decides the connection, or the only one.
fn culprit<'a>(found: &Counterexample, changed: &BTreeSet<&'a ObjectRef>) -> Option<&'a ObjectRef> {
    let decides = |object: &ObjectRef| {
        let mut policies = found.causes.iter().filter_map(|cause| cause.policy.as_ref());
        policies.any(|policy| policy.is_same_object(object))
    };
    let mut deciding = changed.iter().filter(|object| decides(object));
    match (deciding.next(), deciding.next()) {
        (Some(object), None) => Some(object),
        _ if changed.len() == 1 => changed.first().copied(),
        _ => None,
    }
}

/// Verifies a contract within the limit for one. Returns the number of steps.
fn prove(contract: &Contract, view: &View, site: &Site) -> (Status, usize) {
    let limits = Limits { steps: 2 * CONTRACT_STEPS, ..Limits::default() };
    let work = || {
        let status = verify(contract, Scene::of(view), site, Scope::All, CONTRACT_STEPS);
        (status, budget::spent().steps)
    };
    // A bug in one proof must not end the server.
    match catch_unwind(AssertUnwindSafe(|| budget::run(limits, work))) {
        Ok(Ok(proved)) => proved,
        Ok(Err(_)) => (Status::Undecided(Doubt::TooComplex), 2 * CONTRACT_STEPS),
        Err(_) => {
            let why = "the proof panicked; this is a bug in Portcullis".to_owned();
            (Status::Undecided(Doubt::Facts(why)), CONTRACT_STEPS)
        }
    }
}
