//! The findings of the rules for stored objects, as the webhook would judge them if they were created now.

use jiff::Timestamp;

use super::report::{Actions, FoundIn, Item, RuleFinding, Section};
use super::scope::Scope;
use super::section::{Items, Question};
use crate::budget::{self, Limits};
use crate::config::Configuration;
use crate::engine::{self, Judgement, Spared, Verdict};
use crate::model::{Body, Object, Path};
use crate::rules::{Change, Mode, Occasion};
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
            let object = audited.object;
            let change = Change::Write { new: object, old: None };
            let verdict = budget::run(Limits::default(), || engine::judge(configuration, view, change, occasion));
            let verdict = verdict.unwrap_or_else(|exceeded| Verdict {
                judgements: engine::unjudged(configuration, &object.id, None, false, exceeded).into_iter().collect(),
            });
            judged.judgements.extend(verdict.judgements.into_iter().map(|judgement| (audited, judgement)));
        }
        judged
    }

    /// The objects with their judgements, in the order of the objects.
    pub(super) fn judgements(&self) -> &[(Audited<'a>, Judgement)] {
        &self.judgements
    }

    pub(super) fn actions(&self) -> Actions {
        let count = |action| self.judgements.iter().filter(|(_, judgement)| judgement.action == action).count();
        Actions { deny: count(Mode::Deny), warn: count(Mode::Warn), audit: count(Mode::Audit) }
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
