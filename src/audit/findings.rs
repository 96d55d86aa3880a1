//! The findings of the rules for stored objects, as the webhook would judge them if they were created now.

use std::collections::HashMap;

use jiff::Timestamp;

use super::report::{Actions, FoundIn, Item, RuleFinding, Section};
use super::scope::Scope;
use super::section::{Items, Question};
use crate::config::Configuration;
use crate::engine::{self, Judgement, Spared};
use crate::model::{Body, Object, Path};
use crate::rules::{Change, Occasion};
use crate::view::View;

/// Maximum number of findings in a report.
const MAX_FINDINGS: usize = 10_000;

/// An object to audit.
#[derive(Clone, Copy)]
pub struct Audited<'a> {
    /// The object.
    pub object: &'a Object,
    /// Its manifest, if it is from one.
    pub source: Option<&'a dyn Source>,
}

impl Audited<'_> {
    /// Returns true if the rules evaluate an object. Of pods and workloads they evaluate those with hostNetwork.
    #[must_use]
    pub fn is_evaluated(object: &Object) -> bool {
        match &object.body {
            Body::Workload(workload) => workload.host_network.is_some(),
            _ => true,
        }
    }
}

/// A manifest.
pub trait Source {
    /// The file and line of a part of the object.
    fn place(&self, path: &Path) -> String;
}

/// The findings for all objects.
pub(super) struct Judged<'a> {
    /// In the order of the objects.
    judgements: Vec<(Audited<'a>, Judgement)>,
    objects: usize,
}

impl<'a> Judged<'a> {
    /// Evaluates the rules for these objects, each within the budget of a request.
    pub(super) fn of(
        configuration: &Configuration,
        view: &View,
        objects: impl IntoIterator<Item = Audited<'a>>,
        now: Timestamp,
    ) -> Self {
        let occasion = Occasion::anonymous(now);
        let mut judged = Self { judgements: Vec::new(), objects: 0 };
        for audited in objects {
            judged.objects += 1;
            let change = Change::Write { new: audited.object, old: None };
            let verdict = engine::judge_within_budget(configuration, view, change, occasion);
            judged.judgements.extend(verdict.judgements.into_iter().map(|judgement| (audited, judgement)));
        }
        judged
    }

    pub(super) fn actions(&self) -> Actions {
        let mut actions = Actions::default();
        self.judgements.iter().for_each(|(_, judgement)| actions.add(judgement.action));
        actions
    }

    /// The number of findings for each namespace and the objects in it.
    pub(super) fn actions_by_namespace(&self) -> HashMap<&str, Actions> {
        let mut actions: HashMap<&str, Actions> = HashMap::new();
        for (audited, judgement) in &self.judgements {
            if let Some(namespace) = audited.object.namespace() {
                actions.entry(namespace).or_default().add(judgement.action);
            }
        }
        actions
    }

    /// The findings, denials first, and the number of those that are left out.
    pub(super) fn findings(&self) -> (Vec<RuleFinding>, usize) {
        let mut order: Vec<&(Audited<'_>, Judgement)> = self.judgements.iter().collect();
        order.sort_by(|(_, a), (_, b)| {
            let key = |judgement: &Judgement| (judgement.action, judgement.finding.rule);
            key(a).cmp(&key(b)).then_with(|| a.finding.object.cmp(&b.finding.object))
        });
        let omitted = order.len().saturating_sub(MAX_FINDINGS);
        let findings =
            order.into_iter().take(MAX_FINDINGS).map(|(audited, Judgement { finding, action, spared })| RuleFinding {
                rule: finding.rule,
                action: *action,
                spared: spared.map(Spared::note),
                object: FoundIn {
                    api_version: finding.object.api_version.to_string(),
                    kind: finding.object.kind.to_string(),
                    namespace: finding.object.namespace.as_deref().map(str::to_owned),
                    name: finding.object.name.to_string(),
                },
                path: finding.path.to_string(),
                message: finding.message.clone(),
                closest: finding.closest.clone(),
                help: finding.help.clone(),
                source: audited.source.map(|source| source.place(&finding.path)),
            });
        (findings.collect(), omitted)
    }

    /// The section of the findings of one rule. It counts findings.
    pub(super) fn of_rule(&self, rule: &str, question: &Question, summary: &str) -> Section {
        let mut items = Items::default();
        for (_, Judgement { finding, .. }) in
            self.judgements.iter().filter(|(_, judgement)| judgement.finding.rule == rule)
        {
            let object = Item::of(finding.object.to_string(), finding.object.namespace.as_deref(), &*finding.message);
            items.add(object.at(&finding.path).helped(&*finding.help));
        }
        items.section(question, summary, None)
    }

    /// The section of objects that a rule would deny today.
    pub(super) fn denied(&self) -> Section {
        let question = Question { id: "denied", title: "Stored objects that a rule would deny", is_finding: true };
        let mut items = Items::default();
        let denials: Vec<&Judgement> =
            self.judgements.iter().map(|(_, judgement)| judgement).filter(|judgement| judgement.denies()).collect();
        for of_object in denials.chunk_by(|a, b| a.finding.object == b.finding.object) {
            let Some(first) = of_object.first() else { continue };
            let finding = &first.finding;
            let more = match of_object.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let message = format!("{}: {}{more}", finding.rule, finding.message);
            let item = Item::of(finding.object.to_string(), finding.object.namespace.as_deref(), message);
            items.add(item.at(&finding.path).helped(&*finding.help));
        }
        let summary = "Objects that the webhook would deny if they were created now.";
        items.section(&question, summary, Some(self.objects))
    }
}

/// Returns true if the audit reports on an object. A Namespace is in its own namespace.
pub(super) fn is_in(scope: &Scope, object: &Object) -> bool {
    scope.includes_object(object.namespace())
}
