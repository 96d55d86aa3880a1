//! The view as it would be after a change of one object.

use super::{NamespaceFacts, View, is_cluster_wide};
use crate::budget::charge;
use crate::model::{
    Answer, Body, Labels, NAME_LABEL, Namespaces, NetworkSet, Object, ObjectRef, Pods, Policies, Policy, Question,
    Standing, Surroundings, Tier, ask,
};

/// A [`View`] in which one object is replaced, without copying the view.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    view: &'a View,
    /// The object whose state in the view is ignored.
    replaced: Option<&'a ObjectRef>,
    /// The object that replaces it.
    object: Option<&'a Object>,
    /// True if its policies count even if they are not in force.
    supposed: bool,
}

impl<'a> Scene<'a> {
    /// The view as it is.
    #[must_use]
    pub fn of(view: &'a View) -> Self {
        Self { view, replaced: None, object: None, supposed: false }
    }

    /// The view with this object instead of any object of the same name.
    #[must_use]
    pub fn with(view: &'a View, object: &'a Object) -> Self {
        Self { view, replaced: Some(&object.id), object: Some(object), supposed: false }
    }

    /// The same, with the policies of the object in force even if they are staged, or rejected by their agent. It shows
    /// what they would do.
    #[must_use]
    pub(crate) fn supposing(view: &'a View, object: &'a Object) -> Self {
        Self { supposed: true, ..Self::with(view, object) }
    }

    /// The view without this object.
    #[must_use]
    pub fn without(view: &'a View, object: &'a Object) -> Self {
        Self { view, replaced: Some(&object.id), object: None, supposed: false }
    }

    /// The policies in force that can apply to pods of a namespace.
    pub fn policies(self, namespace: &str) -> impl Iterator<Item = &'a Policy> {
        let own = self.view.own_policies(namespace).chain(self.view.cluster_wide_policies());
        self.in_force(own).chain(self.written().filter(|policy| can_concern(policy, namespace)).collect::<Vec<_>>())
    }

    /// The policies in force that can apply to these pods. For pods of many namespaces they are the cluster-wide
    /// policies, and those of the namespaces that the selector names: a policy of any other namespace cannot apply to
    /// all of them.
    pub fn policies_for(self, pods: &Pods) -> Vec<&'a Policy> {
        let names: &[Box<str>] = match &pods.namespaces {
            Namespaces::Own(name) => return self.policies(name.as_deref().unwrap_or_default()).collect(),
            Namespaces::Matching(selector) => selector.values_of(NAME_LABEL).unwrap_or_default(),
        };
        let own = names.iter().flat_map(|name| self.view.own_policies(name)).chain(self.view.cluster_wide_policies());
        let concerns = |policy: &&Policy| is_cluster_wide(policy) || names.iter().any(|name| can_concern(policy, name));
        self.in_force(own).chain(self.written().filter(concerns)).collect()
    }

    /// The names of all known namespaces, in no particular order.
    pub fn namespaces(self) -> impl Iterator<Item = &'a str> {
        let written = self.object.and_then(|object| object.as_namespace().map(|_| &*object.id.name));
        let is_new = |name: &&str| self.view.namespace(name).is_none();
        self.view.namespaces().map(|(name, _)| &**name).chain(written.filter(is_new))
    }

    /// Returns true if the view holds the whole cluster.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.view.is_whole()
    }

    /// Returns true if a namespace is known.
    #[must_use]
    pub(crate) fn has_namespace(self, name: &str) -> bool {
        let is_written = |object: &Object| object.as_namespace().is_some() && *object.id.name == *name;
        self.view.namespace(name).is_some() || self.object.is_some_and(is_written)
    }

    /// The facts about a namespace, if there are any.
    #[must_use]
    pub fn namespace(self, name: &str) -> Option<&'a NamespaceFacts> {
        self.view.namespace(name)
    }

    /// Every policy that is in force.
    pub(crate) fn all_policies(self) -> impl Iterator<Item = &'a Policy> {
        self.in_force(self.view.all_own_policies().chain(self.view.cluster_wide_policies())).chain(self.written())
    }

    /// Evaluates policies for a connection.
    #[must_use]
    pub fn ask(self, policies: impl IntoIterator<Item = &'a Policy>, question: &Question<'a>) -> Answer<'a> {
        ask(policies, question, &self)
    }

    /// The policies that are in force and do not belong to the replaced object.
    fn in_force(self, policies: impl Iterator<Item = &'a Policy>) -> impl Iterator<Item = &'a Policy> {
        policies.filter(move |policy| {
            charge(1);
            policy.standing == Standing::InForce
                && self.replaced.is_none_or(|object| !policy.object.is_same_object(object))
        })
    }

    /// The policies of the new object.
    fn written(self) -> impl Iterator<Item = &'a Policy> {
        let policies = self.object.map(Object::policies).unwrap_or_default().iter();
        policies.inspect(|_| charge(1)).filter(move |policy| self.supposed || policy.standing == Standing::InForce)
    }
}

/// The kind of Calico's tiers.
const TIER: &str = "Tier";

/// Returns true if a policy can apply to pods of a namespace. A namespaced policy applies only to its own namespace,
/// which a manifest may leave out.
fn can_concern(policy: &Policy, namespace: &str) -> bool {
    is_cluster_wide(policy) || policy.object.namespace.as_deref().is_none_or(|own| own == namespace)
}

impl<'a> Policies<'a> for Scene<'a> {
    fn of_namespace(&self, namespace: &str) -> Vec<&'a Policy> {
        self.policies(namespace).collect()
    }
}

impl Surroundings for Scene<'_> {
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        match self.object.map(|object| (&object.body, &*object.id.name)) {
            Some((Body::Namespace(written), name)) if name == namespace => Some(&written.labels),
            _ => self.view.namespace_labels(namespace),
        }
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        match self.object.map(|object| (&object.body, &*object.id.name)) {
            Some((Body::Tier(tier), written)) if written == name => Some(tier),
            None if self.replaced.is_some_and(|tier| &*tier.kind == TIER && &*tier.name == name) => None,
            _ => self.view.tier(name),
        }
    }

    fn network_sets(&self) -> &[NetworkSet] {
        self.view.network_sets()
    }
}
