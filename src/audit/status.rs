//! The state of namespaces with the number of their findings, for `portcullis status`.

use super::report::{Actions, NamespaceState};
use super::{Evaluated, Input};

impl Input<'_> {
    /// The state of each namespace and the number of findings for it and the objects in it, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(NamespaceState, Actions)> {
        let Evaluated { namespaces, judged, .. } = self.evaluate();
        let actions = judged.actions_by_namespace();
        let with_actions = |namespace: NamespaceState| {
            let actions = actions.get(&*namespace.name).copied().unwrap_or_default();
            (namespace, actions)
        };
        namespaces.into_iter().map(with_actions).collect()
    }
}
