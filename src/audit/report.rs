//! The result of an audit, as data. `portcullis audit --output json` prints exactly this value.
//!
//! Every number has the list behind it. A list that is too long is cut, and `omitted` counts the rest. Objects are
//! written as in messages: `NetworkPolicy shop/allow-web`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contract::ContractState;
use crate::rules::Mode;
use crate::trace::Verdict;

/// The result of an audit.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The totals.
    pub summary: Summary,
    /// Assumptions that the answers depend on, as sentences.
    pub assumed: Vec<String>,
    /// Kinds, objects and files that could not be read. The answers hold without them.
    pub unread: Vec<Unread>,
    /// The namespaces, by name.
    pub namespaces: Vec<NamespaceState>,
    /// The workloads, by identifier. Pods that policies cannot tell apart are one workload.
    pub workloads: Vec<WorkloadState>,
    /// The questions of the audit with their answers, always in the same order.
    pub sections: Vec<Section>,
    /// The contracts: broken ones first, then undecided ones.
    pub contracts: Vec<ContractState>,
    /// What the webhook would report if every object were created now: denials first, then warnings, then audits.
    pub findings: Vec<RuleFinding>,
    /// Number of findings that are left out.
    pub omitted_findings: usize,
    /// The connections between namespaces and between workloads.
    pub matrix: Matrix,
    /// The network plugin. `null` without a cluster.
    pub plugin: Option<Plugin>,
}

/// The totals of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Number of namespaces.
    pub namespaces: usize,
    /// Number of pods that policies apply to. A pod template without known pods counts as one; a hostNetwork pod does
    /// not count.
    pub pods: usize,
    /// Number of workloads, including hostNetwork workloads.
    pub workloads: usize,
    /// Number of objects that hold policies.
    pub policies: usize,
    /// Number of pods that a policy isolates.
    pub isolated: Directions<usize>,
    /// Number of findings by action.
    pub findings: Actions,
    /// Number of contracts by result.
    pub contracts: ContractCounts,
}

/// A number of contracts for each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContractCounts {
    /// Contracts that are proved to hold.
    pub hold: usize,
    /// Contracts that a connection breaks.
    pub broken: usize,
    /// Contracts of which neither is known.
    pub undecided: usize,
}

/// A value for each direction of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Directions<T> {
    /// Traffic to pods.
    pub ingress: T,
    /// Traffic from pods.
    pub egress: T,
}

/// A number of findings for each action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Actions {
    /// Findings that the webhook would deny.
    pub deny: usize,
    /// Findings that it would report as a warning.
    pub warn: usize,
    /// Findings that it would only record.
    pub audit: usize,
}

impl Actions {
    /// Counts a finding with this action.
    pub(super) fn add(&mut self, action: Mode) {
        match action {
            Mode::Deny => self.deny += 1,
            Mode::Warn => self.warn += 1,
            Mode::Audit => self.audit += 1,
            Mode::Off => {}
        }
    }
}

/// A kind, object or file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The kind, object or file.
    pub kind: String,
    /// The reason.
    pub why: String,
}

/// The state of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceState {
    /// Its name. Empty for manifests that name no namespace.
    pub name: String,
    /// True if it is a platform namespace of the configuration.
    pub is_platform: bool,
    /// Its profile, if it has a configured one.
    pub profile: Option<String>,
    /// The names that it has access to, by its access labels.
    pub access: Vec<String>,
    /// The state of its baseline.
    pub baseline: BaselineState,
    /// Its escape hatch, if enforcement is switched off.
    pub hatch: Option<HatchState>,
    /// Number of its policies, without cluster-wide ones.
    pub policies: usize,
    /// Number of its pods that policies apply to.
    pub pods: usize,
    /// Number of its pods that a policy isolates.
    pub isolated: Directions<usize>,
    /// Number of its pods that no policy selects.
    pub unselected: usize,
    /// Number of its pods that cannot reach the cluster DNS, or for which that is undecided.
    pub without_dns: usize,
    /// Number of contracts about its pods, by result. Contracts that cover its pods only as `allPodsExcept` count if one of
    /// its pods or policies breaks them.
    pub contracts: ContractCounts,
}

/// The state of a namespace's baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BaselineState {
    /// Every policy that the namespace is due is stored.
    Applied,
    /// The controller has not applied it yet.
    Pending,
    /// A policy that the namespace is due is not stored.
    Missing,
    /// Another client keeps changing what the controller writes.
    Contested,
    /// The escape hatch is past its end, and its label is still there.
    Expired,
    /// The namespace has neither a profile nor a baseline.
    None,
    /// It is a platform namespace, or excluded by the configuration.
    Exempt,
    /// Its labels are unknown.
    Unknown,
}

/// An escape hatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HatchState {
    /// True if it is in effect.
    pub is_open: bool,
    /// The reason as written.
    pub reason: Option<String>,
    /// The user who opened it, if the controller recorded it.
    pub opened_by: Option<String>,
    /// The time at which it was opened, if the controller recorded it.
    pub opened: Option<String>,
    /// Its end as written.
    pub until: Option<String>,
    /// Why it is not in effect.
    pub fault: Option<String>,
}

/// The state of a workload: pods that policies cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadState {
    /// An end of `portcullis trace` that names it: `shop/deployment/web`.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The kind of the object that creates the pods, or `Pod`.
    pub kind: String,
    /// The name of that object.
    pub name: String,
    /// Number of its pods. A pod template without known pods counts as one, and in a cluster as none.
    pub pods: usize,
    /// The labels of its pods, without those that controllers add.
    pub labels: BTreeMap<String, String>,
    /// The ports that its containers list: `TCP 8080`.
    pub ports: Vec<String>,
    /// True for the directions that a policy isolates.
    pub isolated: Directions<bool>,
    /// Number of policies that select it.
    pub policies: usize,
    /// Number of their rules.
    pub rules: usize,
    /// True for hostNetwork pods. Policies do not apply to them.
    pub host_network: bool,
    /// Whether its pods reach the cluster DNS. `null` for hostNetwork pods.
    pub dns: Option<Verdict>,
}

/// A question of the audit with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// Its name. It is stable across releases.
    pub id: &'static str,
    /// The heading.
    pub title: &'static str,
    /// What the count counts, and what it is measured by.
    pub summary: String,
    /// True if its items make the exit status 1. Other sections are for information.
    pub is_finding: bool,
    /// The number that answers the question.
    pub count: usize,
    /// The number that it is a part of, if it is a part.
    pub of: Option<usize>,
    /// The objects behind the number.
    pub items: Vec<Item>,
    /// Number of items that are left out.
    pub omitted: usize,
    /// Why the question could not be answered. The count is then 0.
    pub unanswered: Option<String>,
}

/// An object behind the number of a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The object: `NetworkPolicy shop/allow-web`, `Deployment shop/web`, `Namespace shop`.
    pub object: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// The path in the object, if the item is about a part of it.
    pub path: Option<String>,
    /// The fact.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Number of objects of `count` that the item stands for: the pods of a workload, for example.
    pub counted: usize,
}

/// A finding of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleFinding {
    /// The rule.
    pub rule: &'static str,
    /// The action that the webhook would take: `deny`, `warn` or `audit`.
    pub action: Mode,
    /// Why it does not deny although its rule does: `exempt`, `enforcement is disabled`.
    pub spared: Option<&'static str>,
    /// The object.
    pub object: FoundIn,
    /// The path in the object. Empty for the object itself.
    pub path: String,
    /// The problem.
    pub message: String,
    /// The rule that nearly prevents it.
    pub closest: Option<String>,
    /// What to do.
    pub help: String,
    /// File and line, if the object is from a manifest.
    pub source: Option<String>,
}

/// The object of a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundIn {
    /// Group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The connections between namespaces and between workloads. hostNetwork workloads are left out, because policies see
/// them as their node.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matrix {
    /// The namespaces that have pods, by name. Cells refer to them by position.
    pub namespaces: Vec<String>,
    /// The outcome of every pair of namespaces that is not in `cells`, if none is omitted.
    pub otherwise: Reach,
    /// The pairs of namespaces with another outcome, by sender and receiver.
    pub cells: Vec<NamespaceCell>,
    /// Number of cells that are left out.
    pub omitted: usize,
    /// Number of pairs of namespaces by outcome, all pairs counted.
    pub outcomes: Outcomes,
    /// The connections between workloads.
    pub workloads: WorkloadMatrix,
}

/// The outcome for all pairs of workloads of two namespaces, over every port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Every pair of workloads connects on every port of TCP, UDP and SCTP.
    All,
    /// Some pair of workloads connects on some port.
    Some,
    /// No pair of workloads connects.
    #[default]
    None,
    /// No connection is known to be allowed, and some depend on unknown facts.
    Undecided,
}

/// Number of pairs by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// [`Reach::All`].
    pub all: usize,
    /// [`Reach::Some`].
    pub some: usize,
    /// [`Reach::None`].
    pub none: usize,
    /// [`Reach::Undecided`].
    pub undecided: usize,
}

/// A pair of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCell {
    /// The position of the sender's namespace.
    pub from: usize,
    /// The position of the receiver's namespace.
    pub to: usize,
    /// The outcome.
    pub outcome: Reach,
    /// The ports that some pair of workloads connects on: `TCP 80, TCP 443`. Empty if there are none.
    pub ports: String,
}

/// The connections between workloads.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadMatrix {
    /// Pairs of workloads: first those of one namespace, then those between namespaces.
    pub cells: Vec<WorkloadCell>,
    /// Number of pairs that are left out.
    pub omitted: usize,
}

/// A pair of workloads. It says what `portcullis trace --from FROM --to TO` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCell {
    /// The identifier of the sender.
    pub from: String,
    /// The identifier of the receiver.
    pub to: String,
    /// Allowed if any port is allowed; otherwise undecided if any port is; otherwise blocked.
    pub outcome: Verdict,
    /// The allowed ports: `TCP 80, UDP 53`, `every TCP port`. Empty if there are none.
    pub ports: String,
    /// The policies that decide, each with the path of its rule if a rule decides:
    /// `NetworkPolicy shop/allow-web at spec.ingress[0]`. Empty if the cell is not explained.
    pub policies: Vec<String>,
    /// The reasons in lines: `TCP 443: blocked`, then `egress: ` and `ingress: ` with the reason at that end. `null` in
    /// cells that are not explained.
    pub explanation: Option<String>,
}

/// The network plugin of a cluster, as far as its objects show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// The plugins that were found. Two of them may conflict.
    pub found: Vec<FoundPlugin>,
    /// Whether the cluster enforces NetworkPolicy. `null` if that is unknown.
    pub enforces: Option<bool>,
    /// The facts in sentences.
    pub notes: Vec<String>,
    /// What could not be read.
    pub unread: Vec<String>,
}

/// A network plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundPlugin {
    /// Its name: `Calico`, `Cilium`.
    pub name: String,
    /// The object that shows it: `DaemonSet kube-system/calico-node`.
    pub object: String,
    /// The tag of its image.
    pub version: Option<String>,
    /// Number of agents that are to run.
    pub desired: usize,
    /// Number of agents that are ready.
    pub ready: usize,
    /// Whether it enforces NetworkPolicy. `null` if that is unknown.
    pub enforces: Option<bool>,
    /// Why it does not, or is not known to.
    pub note: Option<String>,
}
