//! The audit of a cluster or of manifests: which pods are isolated, which policies have no effect, what the rules
//! report, and which connections are possible.
//!
//! ```text
//! View ─ class ─▶ classes of pods ─┬─▶ namespaces, policies ─▶ sections ─┐
//!                                  └─▶ side ─▶ matrix ───────────────────┴─▶ Report
//! objects ─ findings (engine) ─▶ sections, findings ─────────────────────┤
//! contracts ─ proofs ─▶ sections, contracts ─────────────────────────────┘
//! ```
//!
//! It gives the verdicts of the webhook: a namespace is evaluated with the policies that it is due. Contracts are proved
//! once for the whole state and not once for each object, which would take minutes in a large cluster. Everything here
//! is pure. `portcullis audit` prints the report.

mod class;
mod contracts;
mod exemptions;
mod findings;
mod matrix;
mod namespaces;
mod network_plugin;
mod policies;
mod ports;
mod report;
mod scope;
mod section;
mod side;
mod status;

pub use findings::{Audited, Source};
pub use network_plugin::Agent;
pub use report::{
    Actions, BaselineState, ContractCounts, Directions, FoundIn, FoundPlugin, HatchState, Item, Matrix, NamespaceCell,
    NamespaceState, Outcomes, Plugin, Reach, Report, RuleFinding, Section, Summary, Unread, WorkloadCell,
    WorkloadMatrix, WorkloadState,
};
pub use scope::Scope;

use std::collections::HashSet;

use jiff::Timestamp;

use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::contract::{ContractState, Verdict};
use crate::model::{Body, Enforcement};
use crate::view::View;

use class::Class;
use contracts::Proved;
use findings::{Judged, is_in};
use namespaces::Places;
use policies::Policies;
use section::Question;

/// What an audit reads.
pub struct Input<'a> {
    /// The configuration.
    pub configuration: &'a Configuration,
    /// The baseline policies.
    pub policies: &'a PolicySet,
    /// The state with the policies that its namespaces are due, as [`complete`](crate::baseline::complete) adds them.
    pub view: &'a View,
    /// The same state without them.
    pub stored: &'a View,
    /// The objects whose findings are reported. Pods and workloads on the pod network may be left out.
    pub objects: &'a [Audited<'a>],
    /// The namespaces to report on.
    pub scope: &'a Scope,
    /// The time at which hatches and exemptions are judged.
    pub now: Timestamp,
}

/// What the report and the state of namespaces are read from.
struct Evaluated<'a> {
    /// The classes of all namespaces.
    classes: Vec<Class<'a>>,
    /// The workloads to report on, in the order of their classes.
    workloads: Vec<WorkloadState>,
    /// The namespaces to report on.
    namespaces: Vec<NamespaceState>,
    /// The objects to report on.
    objects: Vec<Audited<'a>>,
    /// Their findings.
    judged: Judged<'a>,
    /// The contracts to report on.
    contracts: Vec<Proved<'a>>,
}

impl<'a> Input<'a> {
    fn evaluate(&self) -> Evaluated<'a> {
        let Input { configuration, policies, view, stored, objects, scope, now } = *self;
        let site = &configuration.site;
        let classes = class::classes(view);
        let is_reported = |class: &&Class<'_>| scope.includes(class.namespace);
        let workloads: Vec<WorkloadState> =
            classes.iter().filter(is_reported).map(|class| namespaces::workload(class, view, site)).collect();
        let mut namespaces = Places { site, policies, stored, now }.states(scope, &workloads);
        let objects = audited(objects, &classes, scope);
        let judged = Judged::of(configuration, &view.without_contracts(), objects.iter().copied(), now);
        let mut contracts = contracts::prove(view, site);
        contracts::limit(&mut contracts, view, scope);
        contracts::count_by_namespace(&contracts, view, &mut namespaces);
        Evaluated { classes, workloads, namespaces, objects, judged, contracts }
    }
}

impl Report {
    /// Audits a state. What could not be read and the network plugin are left to the caller.
    #[must_use]
    pub fn of(input: &Input<'_>) -> Self {
        let Input { configuration, view, stored, scope, now, .. } = *input;
        let site = &configuration.site;
        let Evaluated { classes, workloads, namespaces, objects, judged, contracts } = input.evaluate();
        let reported = || classes.iter().filter(|class| scope.includes(class.namespace));

        let matrix = matrix::matrix(view, &classes, scope);
        let own = Policies { view, stored, site, scope };
        let mut sections = namespaces::coverage(site, reported(), &workloads);
        sections.push(namespaces::baselines(&namespaces));
        sections.push(judged.of_rule(
            "host-network",
            &Question { id: "host-network", title: "hostNetwork pods in isolated namespaces", is_finding: true },
            "Pods and workloads that bypass the isolation of their namespace.",
        ));
        sections.push(judged.denied());
        sections.extend(contracts::sections(&contracts));
        sections.push(own.without_pods(&classes));
        sections.push(judged.of_rule(
            "redundant-policy",
            &Question { id: "redundant", title: "Redundant policies and rules", is_finding: true },
            "Policies and rules that do nothing that others do not already do.",
        ));
        let (shadowed, limit) = own.shadowed(&classes);
        sections.push(shadowed);
        sections.push(own.mergeable());
        sections.extend(own.wide());
        sections.push(judged.of_rule(
            "platform-flow-missing",
            &Question { id: "platform-flows", title: "Platform namespaces without a required flow", is_finding: true },
            "Flows that platform namespaces need and a policy blocks.",
        ));
        sections.push(namespaces::hatches(&namespaces));
        sections.push(exemptions::exemptions(site, objects.iter().copied(), now));
        sections.push(policies::identities(view, scope));
        sections.push(policies::sizes(reported()));
        let (findings, omitted_findings) = judged.findings();
        let sum = |of: &dyn Fn(&NamespaceState) -> usize| namespaces.iter().map(of).sum();
        let summary = Summary {
            namespaces: namespaces.len(),
            pods: sum(&|namespace| namespace.pods),
            workloads: workloads.len(),
            policies: own.objects(),
            isolated: Directions {
                ingress: sum(&|namespace| namespace.isolated.ingress),
                egress: sum(&|namespace| namespace.isolated.egress),
            },
            findings: judged.actions(),
            contracts: contracts::count(&contracts),
        };
        let mut assumed = namespaces::assumed(&namespaces);
        assumed.extend(limit);
        let unread = Vec::new();
        Self {
            summary,
            assumed,
            unread,
            namespaces,
            workloads,
            sections,
            contracts: contracts::states(contracts),
            findings,
            omitted_findings,
            matrix,
            plugin: None,
        }
    }

    /// Returns true if the webhook would deny an object, or a contract is broken that denies changes.
    #[must_use]
    pub fn has_denials(&self) -> bool {
        let is_broken = |contract: &ContractState| {
            contract.result == Verdict::Broken && contract.enforcement == Enforcement::Deny.name()
        };
        self.summary.findings.deny > 0 || self.contracts.iter().any(is_broken)
    }

    /// Returns true if a section reports a problem, or a rule a finding.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        !self.findings.is_empty() || self.sections.iter().any(|section| section.is_finding && section.count > 0)
    }
}

/// The objects to evaluate. The pods of a workload are evaluated once, by its template.
fn audited<'a>(objects: &[Audited<'a>], classes: &[Class<'_>], scope: &Scope) -> Vec<Audited<'a>> {
    let owners: HashSet<(&str, &str, &str)> =
        classes.iter().map(|class| (class.namespace, &*class.owner.kind, &*class.owner.name)).collect();
    let is_wanted = |audited: &Audited<'a>| {
        let id = &audited.object.id;
        let is_owner = || owners.contains(&(id.namespace.as_deref().unwrap_or_default(), &*id.kind, &*id.name));
        is_in(scope, audited.object) && (!matches!(audited.object.body, Body::Workload(_)) || is_owner())
    };
    objects.iter().copied().filter(is_wanted).collect()
}
