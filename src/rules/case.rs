//! What a rule is asked about.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::budget;
use crate::model::{
    Body, Direction, FaultKind, Finding, Fix, Namespace, Object, Path, Policy, Rule as TrafficRule, Workload,
};
use crate::view::{Scene, Site, View};

use super::{Defined, Occasion};

/// One change of one object, and all that is known around it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the people who run the cluster said about it.
    pub site: &'a Site,
    /// What is known of the cluster. It may hold the object in any state, or not at all.
    pub view: &'a View,
    /// What happens to the object.
    pub change: Change<'a>,
    /// Who does it, and when.
    pub occasion: Occasion<'a>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is made, or changed.
    Write {
        /// As it will be.
        new: &'a Object,
        /// As it was, if it was there.
        old: Option<&'a dyn Old>,
    },
    /// It is deleted.
    Delete {
        /// As it was.
        old: &'a Object,
    },
}

/// An object as it was. Few decisions need it, so it can be read when the first one asks.
pub trait Old {
    /// The object; none if what was there cannot be read.
    fn object(&self) -> Option<&Object>;
}

impl Old for Object {
    fn object(&self) -> Option<&Object> {
        Some(self)
    }
}

impl std::fmt::Debug for dyn Old + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Old")
    }
}

impl<'a> Change<'a> {
    /// The object, in its latest state.
    #[must_use]
    pub fn object(self) -> &'a Object {
        match self {
            Self::Write { new, .. } => new,
            Self::Delete { old } => old,
        }
    }

    /// The object as it was, if it was there.
    #[must_use]
    pub fn old(self) -> Option<&'a Object> {
        match self {
            Self::Write { old, .. } => old.and_then(Old::object),
            Self::Delete { old } => Some(old),
        }
    }
}

impl<'a> Case<'a> {
    /// The object as it will be; none if it is deleted.
    #[must_use]
    pub fn written(&self) -> Option<&'a Object> {
        match self.change {
            Change::Write { new, .. } => Some(new),
            Change::Delete { .. } => None,
        }
    }

    /// Of how many other policies one change is said to take something from their pods.
    pub(super) const MOST_OTHERS: usize = 20;

    /// Whether the object was not there before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.change, Change::Write { old: None, .. })
    }

    /// Whether Calico's API server stores what somebody wrote to it.
    #[must_use]
    pub fn is_passed_on(&self) -> bool {
        let version = &self.change.object().id.api_version;
        self.occasion.author.username().is_some_and(|username| self.site.is_passed_on(version, username))
    }

    /// What is done to the object, for messages about what that takes from others.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self.change {
            Change::Write { old: None, .. } => "making",
            Change::Write { .. } => "changing",
            Change::Delete { .. } => "deleting",
        }
    }

    /// The policies of other objects whose pods the object may concern too, as they will be, in the order of their names. An
    /// object of the cluster may concern pods anywhere.
    pub(super) fn others(&self, are_wanted: impl Fn(&Policy) -> bool) -> Vec<&'a Policy> {
        let object = self.change.object();
        let is_other = |policy: &&Policy| !policy.object.is_same_object(&object.id) && are_wanted(policy);
        let mut others: Vec<&Policy> = match object.namespace() {
            Some(namespace) => self.after().policies(namespace).filter(is_other).collect(),
            None => self.after().all_policies().filter(is_other).collect(),
        };
        others.sort_by(|a, b| a.object.cmp(&b.object));
        others
    }

    /// The policies that the object will hold.
    #[must_use]
    pub fn policies(&self) -> &'a [Policy] {
        self.written().map(Object::policies).unwrap_or_default()
    }

    /// Every rule of those policies that lets traffic through, with its direction.
    pub fn allow_rules(&self) -> impl Iterator<Item = (Direction, &'a TrafficRule)> {
        self.policies().iter().flat_map(Policy::allow_rules)
    }

    /// The namespace that the object will be, if it is one.
    #[must_use]
    pub fn namespace(&self) -> Option<(&'a str, &'a Namespace)> {
        let object = self.written()?;
        match &object.body {
            Body::Namespace(namespace) => Some((&object.id.name, namespace)),
            Body::Policies(_) | Body::Tier(_) | Body::Workload(_) | Body::Service(_) => None,
        }
    }

    /// The workload that the object will be, if it is one.
    #[must_use]
    pub fn workload(&self) -> Option<&'a Workload> {
        match &self.written()?.body {
            Body::Workload(workload) => Some(workload),
            Body::Namespace(_) | Body::Policies(_) | Body::Tier(_) | Body::Service(_) => None,
        }
    }

    /// The cluster as it will be, as if what is written were in force even if it will not be: what a policy would do is said
    /// of it in any case.
    #[must_use]
    pub fn supposing(&self) -> Scene<'a> {
        match self.change {
            Change::Write { new, .. } => Scene::supposing(self.view, new),
            Change::Delete { old } => Scene::without(self.view, old),
        }
    }

    /// The cluster as it will be.
    #[must_use]
    pub fn after(&self) -> Scene<'a> {
        match self.change {
            Change::Write { new, .. } => Scene::with(self.view, new),
            Change::Delete { old } => Scene::without(self.view, old),
        }
    }

    /// The cluster as it was.
    #[must_use]
    pub fn before(&self) -> Scene<'a> {
        match self.change.old() {
            Some(old) => Scene::with(self.view, old),
            None => Scene::without(self.view, self.change.object()),
        }
    }
}

/// Maximum number of findings of one rule in one object that are kept. All of them are counted.
pub(super) const MAX_FINDINGS: usize = 1000;

/// The findings of one rule, in the order in which it found them.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    left_out: usize,
    /// Of the messages that are left out, by which the ratchet knows them again.
    digest: DefaultHasher,
}

impl Findings {
    /// Adds a finding of rule `R` about the object of the case.
    pub(super) fn add<R: Defined>(
        &mut self,
        case: &Case<'_>,
        path: Path,
        message: String,
        help: String,
        fix: Option<Fix>,
    ) {
        self.add_with_closest::<R>(case, path, message, None, help, fix);
    }

    /// Adds a finding with its near miss.
    pub(super) fn add_with_closest<R: Defined>(
        &mut self,
        case: &Case<'_>,
        path: Path,
        message: String,
        closest: Option<String>,
        help: String,
        fix: Option<Fix>,
    ) {
        if self.kept.len() >= MAX_FINDINGS {
            self.left_out += 1;
            message.hash(&mut self.digest);
            return;
        }
        let closest_len = closest.as_ref().map_or(0, String::len);
        budget::hold(size_of::<Finding>() + message.len() + closest_len + help.len());
        let object = case.change.object().id.clone();
        self.kept.push(Finding { rule: R::NAME, object, path, message, closest, help, fix });
    }

    /// Adds what its own dialect has to say against the object, as findings of rule `R`.
    pub(super) fn add_faults<R: Defined>(&mut self, case: &Case<'_>, kinds: &[FaultKind]) {
        let faults = case.written().map(|object| object.faults.as_slice()).unwrap_or_default();
        for fault in faults.iter().filter(|fault| kinds.contains(&fault.kind)) {
            budget::charge(1);
            self.add::<R>(case, fault.path.clone(), fault.problem.clone(), fault.help.clone(), None);
        }
    }

    /// The findings. One more stands for those that are left out.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        let Self { mut kept, left_out, digest } = self;
        if left_out > 0
            && let Some(last) = kept.last().cloned()
        {
            let message = text!("{left_out} more findings of this rule in this object ({:016x})", digest.finish());
            // At the place of the last one, so that it is reported after those that are told apart.
            kept.push(Finding { message, closest: None, help: "split the object".to_owned(), fix: None, ..last });
        }
        kept
    }
}
