//! The state of namespaces with the number of their findings, for `portcullis status`.

use super::findings::Judged;
use super::namespaces::{Places, workload};
use super::report::{Actions, NamespaceState, WorkloadState};
use super::{Input, audited, class};
use crate::rules::Mode;

impl Input<'_> {
    /// The state of each namespace and the number of findings for it and the objects in it, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(NamespaceState, Actions)> {
        let Input { configuration, policies, view, stored, objects, scope, now } = *self;
        let site = &configuration.site;
        let classes = class::classes(view);
        let states: Vec<WorkloadState> = classes
            .iter()
            .filter(|class| scope.includes(class.namespace))
            .map(|class| workload(class, view, site))
            .collect();
        let namespaces = Places { site, policies, stored, now }.states(scope, &states);
        let judged = Judged::of(configuration, view, audited(objects, &classes, scope), now);
        let with_findings = |namespace: NamespaceState| {
            let actions = judged.in_namespace(&namespace.name);
            (namespace, actions)
        };
        namespaces.into_iter().map(with_findings).collect()
    }
}

impl Judged<'_> {
    /// The number of findings for a namespace and the objects in it.
    fn in_namespace(&self, name: &str) -> Actions {
        let mut actions = Actions::default();
        for (audited, judgement) in self.judgements() {
            if audited.object.namespace() == Some(name) {
                match judgement.action {
                    Mode::Deny => actions.deny += 1,
                    Mode::Warn => actions.warn += 1,
                    Mode::Audit => actions.audit += 1,
                    Mode::Off => {}
                }
            }
        }
        actions
    }
}
