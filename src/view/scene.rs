//! The view as it would be with one object in another state.

use super::View;
use crate::model::{Object, ObjectRef, Policy};

/// A [`View`] in which one object is replaced, without copying the view.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    view: &'a View,
    /// The object whose place in the view does not count.
    replaced: Option<&'a ObjectRef>,
    /// What stands in its place.
    policies: &'a [Policy],
}

impl<'a> Scene<'a> {
    /// The view as it is.
    #[must_use]
    pub fn of(view: &'a View) -> Self {
        Self { view, replaced: None, policies: &[] }
    }

    /// The view with this object in it, and nothing else of its name.
    #[must_use]
    pub fn with(view: &'a View, object: &'a Object) -> Self {
        Self { view, replaced: Some(&object.id), policies: object.policies() }
    }

    /// The view without this object.
    #[must_use]
    pub fn without(view: &'a View, object: &'a Object) -> Self {
        Self { view, replaced: Some(&object.id), policies: &[] }
    }

    /// The view underneath, for what the object does not change.
    #[must_use]
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// The policies that can concern pods of a namespace.
    pub fn policies(self, namespace: &str) -> impl Iterator<Item = &'a Policy> {
        let concerns = |policy: &&Policy| policy.object.namespace.as_deref().is_none_or(|own| own == namespace);
        let known = self.view.policies(namespace);
        let replaced = self.replaced;
        known
            .filter(move |policy| replaced.is_none_or(|object| !policy.object.is_same_object(object)))
            .chain(self.policies.iter().filter(concerns).collect::<Vec<_>>())
    }
}
