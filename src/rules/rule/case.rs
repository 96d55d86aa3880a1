//! The input of a rule.

use crate::model::{Body, Direction, Namespace, Object, Policy, Rule as TrafficRule, Workload};
use crate::view::{Scene, Site, View};

use super::author::Occasion;

/// One change of one object, with the known state of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The configuration.
    pub site: &'a Site,
    /// The known state of the cluster. It may hold the object in its old state, in its new state, or not at all.
    pub view: &'a View,
    /// The change of the object.
    pub change: Change<'a>,
    /// The user who makes the change, and the time.
    pub occasion: Occasion<'a>,
}

/// A change of an object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The object is created or updated.
    Write {
        /// The new object.
        new: &'a Object,
        /// The old object, on an update.
        old: Option<&'a dyn Old>,
    },
    /// The object is deleted.
    Delete {
        /// The object before its deletion.
        old: &'a Object,
    },
}

/// The old state of an object. Few decisions need it, so it may be parsed on first use.
pub trait Old {
    /// The object, or none if the old state cannot be parsed.
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
    /// The new object, or on deletion the old one.
    #[must_use]
    pub fn object(self) -> &'a Object {
        match self {
            Self::Write { new, .. } => new,
            Self::Delete { old } => old,
        }
    }

    /// The old object; none on creation.
    #[must_use]
    pub fn old(self) -> Option<&'a Object> {
        match self {
            Self::Write { old, .. } => old.and_then(Old::object),
            Self::Delete { old } => Some(old),
        }
    }
}

impl<'a> Case<'a> {
    /// The new object; none on deletion.
    #[must_use]
    pub fn written(&self) -> Option<&'a Object> {
        match self.change {
            Change::Write { new, .. } => Some(new),
            Change::Delete { .. } => None,
        }
    }

    /// Maximum number of other affected policies that are reported for one change.
    pub(crate) const MOST_OTHERS: usize = 20;

    /// Returns true if the object is created.
    #[must_use]
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.change, Change::Write { old: None, .. })
    }

    /// Returns true if the request comes from Calico's API server, which stores an object that a user sent to it.
    #[must_use]
    pub(crate) fn is_passed_on(&self) -> bool {
        let version = &self.change.object().id.api_version;
        self.occasion.author.username().is_some_and(|username| self.site.is_passed_on(version, username))
    }

    /// Returns true if the name of the object is reserved for the baseline controller, which writes the same policies into
    /// all namespaces.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.site.is_reserved(&self.change.object().id)
    }

    /// The verb for the change, for messages about its effect on other policies.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self.change {
            Change::Write { old: None, .. } => "creating",
            Change::Write { .. } => "changing",
            Change::Delete { .. } => "deleting",
        }
    }

    /// The policies of other objects that may apply to the same pods, in their new state, ordered by name. A
    /// cluster-scoped object may apply to pods of any namespace.
    pub(crate) fn others(&self, are_wanted: impl Fn(&Policy) -> bool) -> Vec<&'a Policy> {
        let object = self.change.object();
        let is_other = |policy: &&Policy| !policy.object.is_same_object(&object.id) && are_wanted(policy);
        let mut others: Vec<&Policy> = match object.namespace() {
            Some(namespace) => self.after().policies(namespace).filter(is_other).collect(),
            None => self.after().all_policies().filter(is_other).collect(),
        };
        others.sort_by(|a, b| a.object.cmp(&b.object));
        others
    }

    /// The policies of the new object.
    #[must_use]
    pub fn policies(&self) -> &'a [Policy] {
        self.written().map(Object::policies).unwrap_or_default()
    }

    /// Every allow rule of the new policies, with its direction.
    pub(crate) fn allow_rules(&self) -> impl Iterator<Item = (Direction, &'a TrafficRule)> {
        self.policies().iter().flat_map(Policy::allow_rules)
    }

    /// The new namespace with its name, if the object is a namespace.
    #[must_use]
    pub fn namespace(&self) -> Option<(&'a str, &'a Namespace)> {
        let object = self.written()?;
        Some((&object.id.name, object.as_namespace()?))
    }

    /// The new workload, if the object is a workload.
    #[must_use]
    pub fn workload(&self) -> Option<&'a Workload> {
        match &self.written()?.body {
            Body::Workload(workload) => Some(workload),
            Body::Namespace(_)
            | Body::Policies(_)
            | Body::Tier(_)
            | Body::Service(_)
            | Body::Backends(_)
            | Body::Contract(_) => None,
        }
    }

    /// The cluster after the change, with the new policy treated as enforced even if it is not (for example a staged
    /// policy). Findings describe the effect that a policy would have.
    #[must_use]
    pub(crate) fn supposing(&self) -> Scene<'a> {
        match self.change {
            Change::Write { new, .. } => Scene::supposing(self.view, new),
            Change::Delete { old } => Scene::without(self.view, old),
        }
    }

    /// The cluster after the change.
    #[must_use]
    pub fn after(&self) -> Scene<'a> {
        match self.change {
            Change::Write { new, .. } => Scene::with(self.view, new),
            Change::Delete { old } => Scene::without(self.view, old),
        }
    }

    /// The cluster before the change.
    #[must_use]
    pub fn before(&self) -> Scene<'a> {
        match self.change.old() {
            Some(old) => Scene::with(self.view, old),
            None => Scene::without(self.view, self.change.object()),
        }
    }
}
