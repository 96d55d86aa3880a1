//! The state of each namespace: profile, baseline, escape hatch, and the coverage of its pods.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::class::Class;
use super::report::{
    BaselineState, ContractCounts, Directions, HatchState, Item, NamespaceState, Section, WorkloadState,
};
use super::scope::Scope;
use super::section::{Items, Question};
use crate::baseline::{self, PolicySet};
use crate::model::{Direction, Labels};
use crate::trace::Verdict;
use crate::view::{HatchFault, NamespaceFacts, Site, View};

/// Maximum number of names in an assumption.
const MAX_NAMED: usize = 5;

/// What the states of namespaces are read from.
pub(super) struct Places<'a> {
    pub(super) site: &'a Site,
    pub(super) policies: &'a PolicySet,
    /// The view without the policies that are due and not stored.
    pub(super) stored: &'a View,
    pub(super) now: Timestamp,
}

impl Places<'_> {
    /// The states of these namespaces, by name.
    pub(super) fn states(&self, scope: &Scope, workloads: &[WorkloadState]) -> Vec<NamespaceState> {
        let mut own: BTreeMap<&str, Vec<&WorkloadState>> = BTreeMap::new();
        for workload in workloads {
            own.entry(&workload.namespace).or_default().push(workload);
        }
        let mut names: Vec<(&str, &NamespaceFacts)> =
            self.stored.namespaces().map(|(name, facts)| (&**name, &**facts)).collect();
        names.retain(|(name, _)| scope.includes(name));
        names.sort_unstable_by_key(|(name, _)| *name);
        let state = |(name, facts)| self.state(name, facts, own.get(name).map(Vec::as_slice).unwrap_or_default());
        names.into_iter().map(state).collect()
    }

    fn state(&self, name: &str, facts: &NamespaceFacts, workloads: &[&WorkloadState]) -> NamespaceState {
        let site = self.site;
        let labels = facts.labels.as_ref();
        let access = labels.iter().flat_map(|labels| labels.iter());
        let access = access.filter(|(_, value)| *value == "true").filter_map(|(key, _)| site.access_name(key));
        let on_pod_network = || workloads.iter().filter(|workload| !workload.host_network);
        let count = |is_it: &dyn Fn(&WorkloadState) -> bool| {
            on_pod_network().filter(|workload| is_it(workload)).map(|workload| workload.pods).sum()
        };
        NamespaceState {
            name: name.to_owned(),
            is_platform: site.is_platform(name),
            profile: labels.and_then(|labels| site.profile(labels)).map(str::to_owned),
            access: access.map(str::to_owned).collect(),
            baseline: self.baseline(name, facts),
            hatch: labels.and_then(|labels| self.hatch(labels, &facts.annotations)),
            policies: facts.policies.len(),
            pods: count(&|_| true),
            isolated: Directions {
                ingress: count(&|workload| workload.isolated.ingress),
                egress: count(&|workload| workload.isolated.egress),
            },
            unselected: count(&|workload| workload.policies == 0),
            without_dns: count(&|workload| workload.dns.is_some_and(|dns| dns != Verdict::Allowed)),
            contracts: ContractCounts::default(),
        }
    }

    fn baseline(&self, name: &str, facts: &NamespaceFacts) -> BaselineState {
        let site = self.site;
        let Some(labels) = &facts.labels else { return BaselineState::Unknown };
        if site.is_left_alone(name) {
            return BaselineState::Exempt;
        }
        if let Some(Err(HatchFault::Over(_))) = site.hatch(labels, &facts.annotations, self.now) {
            return BaselineState::Expired;
        }
        let status = facts.annotations.get(&site.status_annotation());
        if status.is_some_and(|status| status.starts_with(baseline::CONTESTED)) {
            return BaselineState::Contested;
        }
        if !site.wants_baseline(labels) {
            return BaselineState::None;
        }
        let is_stored = baseline::missing(self.policies, site, self.stored, name).is_empty();
        match (labels.get(&site.baseline_label()), is_stored) {
            (Some("pending"), _) => BaselineState::Pending,
            (_, true) => BaselineState::Applied,
            // The controller writes it after the manifest is applied.
            (None, false) if !self.stored.is_whole() => BaselineState::Pending,
            (_, false) => BaselineState::Missing,
        }
    }

    fn hatch(&self, labels: &Labels, annotations: &Labels) -> Option<HatchState> {
        let fault = self.site.hatch(labels, annotations, self.now)?.err();
        let text = |key: String| annotations.get(&key).map(str::to_owned);
        Some(HatchState {
            is_open: fault.is_none(),
            reason: text(self.site.reason_annotation()),
            opened_by: text(self.site.opened_by_annotation()),
            opened: text(self.site.opened_annotation()),
            until: text(self.site.until_annotation()),
            fault: fault.map(|fault| fault.to_string()),
        })
    }
}

/// The assumptions about namespaces whose policies are not all stored.
pub(super) fn assumed(states: &[NamespaceState]) -> Vec<String> {
    let is_due = |state: &&NamespaceState| {
        matches!(state.baseline, BaselineState::Pending | BaselineState::Missing | BaselineState::Contested)
    };
    let names: Vec<&str> = states.iter().filter(is_due).map(|state| &*state.name).collect();
    let listed = |names: &[&str]| match names.len().checked_sub(MAX_NAMED) {
        Some(more @ 1..) => {
            let first: Vec<&str> = names.iter().copied().take(MAX_NAMED).collect();
            format!("{} and {more} more", first.join(", "))
        }
        _ => names.join(", "),
    };
    let mut assumed = Vec::new();
    if !names.is_empty() {
        assumed.push(format!("namespaces are evaluated with the baseline that they are due: {}", listed(&names)));
    }
    let is_unknown = |state: &&NamespaceState| state.baseline == BaselineState::Unknown && !state.name.is_empty();
    let unknown: Vec<&str> = states.iter().filter(is_unknown).map(|state| &*state.name).collect();
    if !unknown.is_empty() {
        assumed
            .push(format!("namespaces whose labels are unknown have no profile and no baseline: {}", listed(&unknown)));
    }
    assumed
}

/// The state of a workload.
pub(super) fn workload<'a>(class: &Class<'a>, view: &'a View, site: &'a Site) -> WorkloadState {
    let isolated = |direction| class.is_on_pod_network() && class.is_isolated(direction, view);
    let rules = class.policies.iter().map(|one| one.policy.ingress.rules.len() + one.policy.egress.rules.len()).sum();
    let labels = class.workload().labels.iter().filter(|(key, _)| !crate::model::is_added_to_pods(key));
    WorkloadState {
        id: class.id(),
        namespace: class.namespace.to_owned(),
        kind: class.owner.kind.to_string(),
        name: class.owner.name.to_string(),
        pods: class.pods,
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ports: class.ports(),
        isolated: Directions { ingress: isolated(Direction::Ingress), egress: isolated(Direction::Egress) },
        policies: class.policies.len(),
        rules,
        host_network: !class.is_on_pod_network(),
        dns: class.is_on_pod_network().then(|| class.dns(view, site)),
    }
}

/// The sections on the coverage of pods.
pub(super) fn coverage<'c>(
    site: &Site,
    classes: impl Iterator<Item = &'c Class<'c>>,
    workloads: &[WorkloadState],
) -> Vec<Section> {
    let mut open = Items::default();
    let mut unselected = Items::default();
    let mut without_dns = Items::default();
    let (mut pods, mut tenant_pods) = (0, 0);
    for (class, state) in classes.zip(workloads).filter(|(_, state)| !state.host_network && state.pods > 0) {
        let item = |message: String| Item::of(class.object(), Some(class.namespace), message).counting(state.pods);
        pods += state.pods;
        match state.dns {
            Some(Verdict::Blocked) => without_dns.add(
                item("UDP to the cluster DNS is blocked".to_owned()).helped("allow UDP and TCP to the cluster DNS"),
            ),
            Some(Verdict::Undecided) => {
                without_dns.add(item("lookups in the cluster DNS depend on unknown facts".to_owned()));
            }
            _ => {}
        }
        if site.is_left_alone(class.namespace) {
            continue;
        }
        tenant_pods += state.pods;
        if state.policies == 0 {
            unselected.add(item("no policy selects these pods".to_owned()));
        }
        let missing = match (state.isolated.ingress, state.isolated.egress) {
            (true, true) => continue,
            (false, true) => "ingress is not isolated",
            (true, false) => "egress is not isolated",
            (false, false) => "neither ingress nor egress is isolated",
        };
        open.add(item(missing.to_owned()));
    }
    vec![
        open.section(
            &Question { id: "default-deny", title: "Pods without default deny", is_finding: true },
            "Pods outside of platform and excluded namespaces that no policy isolates in one or both directions.",
            Some(tenant_pods),
        ),
        unselected.section(
            &Question { id: "unselected", title: "Pods that no policy selects", is_finding: true },
            "Pods outside of platform and excluded namespaces to which no policy applies.",
            Some(tenant_pods),
        ),
        without_dns.section(
            &Question { id: "without-dns", title: "Pods without DNS", is_finding: true },
            "Pods whose policies block the cluster DNS, or for which that is undecided.",
            Some(pods),
        ),
    ]
}

/// The section on baselines that are not in effect.
pub(super) fn baselines(states: &[NamespaceState]) -> Section {
    let question = Question { id: "baseline", title: "Namespaces whose baseline is not in effect", is_finding: true };
    let mut items = Items::default();
    let mut due = 0;
    for state in states {
        let message = match state.baseline {
            BaselineState::Exempt | BaselineState::None | BaselineState::Unknown => continue,
            BaselineState::Applied => None,
            BaselineState::Pending => Some("the baseline is pending: the controller has not applied it yet"),
            BaselineState::Missing => Some("a policy of the baseline is missing"),
            BaselineState::Contested => Some("another client keeps changing the policies of the baseline"),
            BaselineState::Expired => Some("the escape hatch is past its end, and its label is still there"),
        };
        due += 1;
        if let Some(message) = message {
            items.add(Item::of(format!("Namespace {}", state.name), Some(&state.name), message));
        }
    }
    items.section(&question, "Namespaces that are due a baseline and do not have all of it.", Some(due))
}

/// The section on open hatches.
pub(super) fn hatches(states: &[NamespaceState]) -> Section {
    let question = Question { id: "hatches", title: "Escape hatches", is_finding: true };
    let mut items = Items::default();
    for (state, hatch) in states.iter().filter_map(|state| Some((state, state.hatch.as_ref()?))) {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let message = format!(
            "enforcement is switched off since {} until {} by {}: {}{}",
            or_unknown(&hatch.opened),
            or_unknown(&hatch.until),
            or_unknown(&hatch.opened_by),
            hatch.reason.as_deref().unwrap_or("no reason given"),
            hatch.fault.as_ref().map(|fault| format!("; not in effect: {fault}")).unwrap_or_default(),
        );
        items.add(Item::of(format!("Namespace {}", state.name), Some(&state.name), message));
    }
    items.section(&question, "Namespaces with enforcement switched off.", Some(states.len()))
}

impl BaselineState {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Missing => "missing",
            Self::Contested => "contested",
            Self::Expired => "expired",
            Self::None => "none",
            Self::Exempt => "exempt",
            Self::Unknown => "unknown",
        }
    }
}
