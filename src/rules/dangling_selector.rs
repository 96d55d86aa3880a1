//! See [`DanglingSelector`].

use std::sync::Arc;

use super::shared::label_suggestion::{Effort, LabelSuggestion};
use super::shared::profiles::is_to_be_made;
use super::shared::spelling::namespace_label;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Fact, NAME_LABEL, Namespaces, Operator, Owner, Path, Pods, Selector, Surroundings, Who, is_added_to_pods,
};
use crate::view::{ClusterDns, NamespaceFacts, Running};

rule! {
    /// A pod selector or namespace selector does not match any existing pod or namespace.
    ///
    /// ## Why
    ///
    /// The API server accepts a label with a typo. A policy whose pod selector matches nothing protects nothing, and a
    /// peer that matches nothing allows nothing. Both look right in a review. The rule suggests the closest existing
    /// label.
    ///
    /// ## What it checks
    ///
    /// The pod selector of a policy, and the pod and namespace selectors of its peers. They are compared with the known
    /// pods, pod templates and namespaces.
    ///
    /// - NetworkPolicy: `podSelector` of the policy, `podSelector` and `namespaceSelector` of peers.
    /// - Cilium: `endpointSelector`, `fromEndpoints`, `toEndpoints` and their deny forms. Cluster mesh is not
    ///   supported: pods of other clusters count as missing.
    /// - Calico: the `selector` of namespaced policies. The selectors of a GlobalNetworkPolicy and of rules are not
    ///   checked, because they can also match host endpoints and network sets, which are unknown to Portcullis.
    /// - ClusterNetworkPolicy: `subject`, and `namespaces` and `pods` of peers.
    ///
    /// A selector is reported only if enough is known to decide:
    ///
    /// - A pod selector is reported only if pods or workloads are known in the selected namespaces. Policies are
    ///   usually applied before their pods, so in an empty namespace a selector without a match is expected.
    /// - Offline, a namespace selector is reported only if one of its labels is similar to a label of a known
    ///   namespace, because other namespaces may be defined in another folder. At least one namespace other than
    ///   kube-system, kube-public, kube-node-lease and default must be known.
    /// - Offline, the pod selector of a peer is reported only if one of its labels is similar to a label of a known
    ///   pod. The pod selector of the policy needs no similar label, unless the namespace has a custom resource
    ///   for which an operator may create pods.
    /// - Offline, a pod selector for several namespaces is reported only if the namespace selector requires labels or
    ///   names, and pods or workloads are known in each matching namespace.
    /// - Offline, the profile label counts only if the manifest of the namespace sets it. Other namespaces get their
    ///   profile when they are created.
    ///
    /// Not reported are:
    ///
    /// - selectors that require no label, or only the absence of labels or values;
    /// - selectors of the cluster DNS pods;
    /// - offline, selectors of platform namespaces;
    /// - labels of service accounts;
    /// - labels that controllers and service meshes add to pods created from a template.
    ///
    /// An unknown label may match.
    ///
    /// **Limits.** At most 10,000 pods and namespaces are compared in one decision. Beyond that no selector is
    /// reported.
    ///
    /// On a cluster a policy may be applied before its pods, in a namespace where other pods run. The warning is then
    /// true at that time, and disappears with the next change of the policy after the pods exist.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: backend
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: backend
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: backend
    ///     spec:
    ///       containers:
    ///       - name: backend
    ///         image: backend:1
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: backend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backedn
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: backend
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: backend
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: backend
    ///     spec:
    ///       containers:
    ///       - name: backend
    ///         image: backend:1
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: backend
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: backend
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Settings
    ///
    /// - `subjects`: `false` skips the pod selectors of policies. `true` by default.
    /// - `peers`: `false` skips the selectors of peers. `true` by default.
    "dangling-selector", Warn,
    pub struct DanglingSelector {
        subjects: bool,
        peers: bool,
    }
}

impl Default for DanglingSelector {
    fn default() -> Self {
        Self { subjects: true, peers: true }
    }
}

/// Maximum number of pods and namespaces that one decision compares.
const MOST_LOOKS: usize = 10_000;

/// Namespaces that every cluster has. A manifest of one of them does not show which other namespaces exist.
const WELL_KNOWN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

impl Rule for DanglingSelector {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.written().is_none_or(|object| case.site.is_reserved(&object.id)) {
            return;
        }
        let mut looking = Looking { case, looks: MOST_LOOKS, effort: Effort::default() };
        for policy in case.policies() {
            let is_for_hosts = policy.selects_others && matches!(policy.subject.namespaces, Namespaces::Matching(_));
            if self.subjects && !is_for_hosts {
                looking.check(&policy.subject, &policy.subject_path, false, findings);
            }
            if !self.peers || policy.selects_others {
                continue;
            }
            for peer in policy.sides().flat_map(|(_, side)| &side.rules).flat_map(|rule| rule.peers.listed()) {
                if let Who::Pods(pods) = &peer.who {
                    looking.check(pods, &peer.path, true, findings);
                }
            }
        }
    }
}

/// The objects that a selector does not match, with the closest existing label.
enum Missed {
    /// No namespace matches.
    Namespaces(LabelSuggestion),
    /// No pod in the selected namespaces matches.
    Pods(LabelSuggestion, Others),
}

/// Possible pods in the selected namespaces that no manifest defines.
enum Others {
    /// An operator may create pods there.
    May,
    /// No operator is known to create pods there.
    None,
}

impl Others {
    fn of(places: &[(Box<str>, &NamespaceFacts)]) -> Self {
        if places.iter().any(|(_, facts)| facts.has_operator_pods) { Self::May } else { Self::None }
    }
}

/// The state of one decision.
struct Looking<'q, 'a> {
    case: &'q Case<'a>,
    looks: usize,
    effort: Effort,
}

impl<'a> Looking<'_, 'a> {
    fn check(&mut self, pods: &Pods, path: &Path, is_peer: bool, findings: &mut Findings) {
        let what = if is_peer { "the peer" } else { "the policy" };
        let is_dns = |dns: &ClusterDns| is_among(pods, dns, self.case);
        if self.case.site.cluster_dns.iter().any(is_dns) {
            return;
        }
        // Warnings are cut after their start, so the problem comes first.
        let (thing, nearest) = match self.missed(pods) {
            None => return,
            // A few manifests show neither all namespaces nor the pods that other folders add to this namespace. They
            // do show the pods for which their own policies are written.
            Some(Missed::Namespaces(nearest)) if nearest.near().is_none() && !self.case.view.is_whole() => return,
            Some(Missed::Pods(nearest, others))
                if nearest.near().is_none()
                    && (matches!(others, Others::May) || is_peer && !self.case.view.is_whole()) =>
            {
                return;
            }
            Some(Missed::Namespaces(nearest)) => ("namespace", nearest),
            Some(Missed::Pods(nearest, _)) => ("pod", nearest),
        };
        let spelled = |label: &str| match thing {
            "namespace" => namespace_label(&self.case.change.object().id, label),
            _ => label.to_owned(),
        };
        let (message, help) = match nearest.near().map(|near| (spelled(&near.asked), spelled(&near.there))) {
            Some((asked, there)) => (
                text!("no {thing} has {asked} (did you mean {there}?); {what} selects {pods}"),
                text!("change {asked} to {there}"),
            ),
            None => (
                text!("{what} selects {pods}, but no such {thing} exists"),
                text!("correct the selector, or ignore this if the {thing} is created later"),
            ),
        };
        findings.add::<DanglingSelector>(self.case, path.clone(), message, help, None);
    }

    /// The mismatch of a selector; none if the selector matches or may match.
    fn missed(&mut self, pods: &Pods) -> Option<Missed> {
        let view = self.case.view;
        let labels = pods.labels.as_ref().filter(|labels| asks_for_something(labels));
        let selector = match &pods.namespaces {
            Namespaces::Own(name) => {
                let name = name.as_deref().unwrap_or_default();
                let known = view.namespace(name).map(|facts| (name, facts));
                return match self.search(known.into_iter(), |_| true, Some(labels?)) {
                    Found::NoPod(places) => Some(Missed::Pods(self.nearest_pod(labels?, &places), Others::of(&places))),
                    Found::MayMatch | Found::NoNamespace => None,
                };
            }
            Namespaces::Matching(selector) => selector,
        };
        // A few manifests do not show which other namespaces exist.
        if !view.is_whole() && (!asks_for_something(selector) || self.names_the_platform(selector)) {
            return None;
        }
        let around: &dyn Surroundings = view;
        let may_be = |name: &str| {
            let known = |_, key: &str| match around.namespace_label(name, key) {
                Fact::Absent if is_still_to_come(self.case, name, key) => Fact::Unknown,
                fact => fact,
            };
            selector.decided(&known) != Some(false)
        };
        let names = selector.values_of(NAME_LABEL);
        let found = match names {
            Some(names) => {
                let known: Vec<_> = names.iter().filter_map(|name| Some((&**name, view.namespace(name)?))).collect();
                let is_complete =
                    view.is_whole() || known.len() == names.len() || !known.iter().any(|(name, _)| may_be(name));
                if is_complete { self.search(known.into_iter(), may_be, labels) } else { Found::MayMatch }
            }
            None => self.search(view.namespaces().map(|(name, facts)| (&**name, &**facts)), may_be, labels),
        };
        match found {
            Found::MayMatch => None,
            Found::NoPod(places) => {
                labels.map(|labels| Missed::Pods(self.nearest_pod(labels, &places), Others::of(&places)))
            }
            Found::NoNamespace => self.nearest_namespace(selector).map(Missed::Namespaces),
        }
    }

    /// Searches the namespaces that the selector may match, and the pods in them.
    fn search<'n>(
        &mut self,
        all: impl Iterator<Item = (&'n str, &'a NamespaceFacts)>,
        may_be: impl Fn(&str) -> bool,
        labels: Option<&Selector>,
    ) -> Found<'a> {
        let mut places = Vec::new();
        for (name, facts) in all {
            if self.look(1).is_none() {
                return Found::MayMatch;
            }
            if !may_be(name) {
                continue;
            }
            let Some(labels) = labels else { return Found::MayMatch };
            // Pods that the manifests do not define may run in the cluster.
            let is_empty_here = facts.running().is_empty() && !self.case.view.is_whole();
            if is_empty_here || self.may_match_in(labels, (name, facts)) {
                return Found::MayMatch;
            }
            places.push((Box::from(name), facts));
        }
        match places.iter().any(|(_, facts)| !facts.running().is_empty()) {
            true => Found::NoPod(places),
            false if places.is_empty() => Found::NoNamespace,
            false => Found::MayMatch,
        }
    }

    /// Returns true if a pod of the namespace may match the selector, or if the limit of comparisons is reached.
    fn may_match_in(&mut self, labels: &Selector, (name, facts): (&str, &NamespaceFacts)) -> bool {
        // A selector with thousands of values costs as much as many selectors.
        let cost = 1 + labels.size() / 100;
        facts
            .distinct()
            .any(|running| self.look(cost).is_none() || may_match(self.case, labels, running, (name, facts)))
    }

    /// The pod label in these namespaces that is closest to the selector. To avoid disclosing labels, only pods in the
    /// namespace of the object count, unless the author may list pods.
    fn nearest_pod(&mut self, labels: &Selector, places: &[(Box<str>, &NamespaceFacts)]) -> LabelSuggestion {
        let own = self.case.change.object().namespace();
        let mut nearest = |is_wanted: &dyn Fn(&str) -> bool| {
            let running = places.iter().filter(|(name, _)| is_wanted(name)).flat_map(|(_, facts)| facts.running());
            LabelSuggestion::for_selector(labels, &running.map(|running| &running.workload.labels), &mut self.effort)
        };
        let in_own = nearest(&|name| Some(name) == own);
        if in_own.near().is_some() {
            return in_own;
        }
        let anywhere = nearest(&|_| true);
        let only = if let [(name, _)] = places { Some(&**name) } else { None };
        let may_know = || self.case.occasion.author.may_list("pods", only);
        if anywhere.near().is_some() && may_know() { anywhere } else { LabelSuggestion::default() }
    }

    /// The namespace label that is closest to a selector without a match. None if namespaces that are not known may
    /// match.
    fn nearest_namespace(&mut self, selector: &Selector) -> Option<LabelSuggestion> {
        let view = self.case.view;
        let is_known = |(name, facts): (&Arc<str>, &Arc<NamespaceFacts>)| {
            facts.labels.is_some() && (view.is_whole() || !WELL_KNOWN.contains(&&**name))
        };
        if !asks_for_something(selector) || !view.namespaces().any(is_known) {
            return None;
        }
        let known = view.namespaces().filter_map(|(_, facts)| facts.labels.as_ref());
        let nearest = LabelSuggestion::for_selector(selector, &known, &mut self.effort);
        // A namespace name that is close to no known name may belong to another team, whose manifests are not part of
        // this set.
        let is_by_name = selector.values_of(NAME_LABEL).is_some();
        let is_near = nearest.has_key(NAME_LABEL);
        let is_told = view.is_whole() || !is_by_name || is_near;
        let may_know = nearest.near().is_none() || self.case.occasion.author.may_list("namespaces", None);
        is_told.then_some(if may_know { nearest } else { LabelSuggestion::default() })
    }

    /// Returns true if a selector requires a namespace that every cluster has, or a platform namespace: by its name, or
    /// by any label with its name as the value.
    fn names_the_platform(&self, selector: &Selector) -> bool {
        let site = self.case.site;
        let serves_dns = |name: &str| site.cluster_dns.iter().filter_map(ClusterDns::pods).any(|(dns, _)| dns == name);
        let is_platform = |name: &str| WELL_KNOWN.contains(&name) || site.is_platform(name) || serves_dns(name);
        match selector {
            Selector::All(parts) | Selector::Any(parts) => parts.iter().any(|part| self.names_the_platform(part)),
            Selector::Not(_) => false,
            Selector::Label(label) => match &label.operator {
                Operator::In(values) => values.iter().any(|value| is_platform(value)),
                _ => false,
            },
        }
    }

    /// Charges the cost of one comparison. None if the limit is reached.
    fn look(&mut self, cost: usize) -> Option<()> {
        charge(cost);
        self.looks = self.looks.checked_sub(cost)?;
        Some(())
    }
}

/// The result of a search.
enum Found<'a> {
    /// A match, or a possible match.
    MayMatch,
    /// No namespace matches.
    NoNamespace,
    /// No pod in these namespaces matches.
    NoPod(Vec<(Box<str>, &'a NamespaceFacts)>),
}

/// Returns true if the selected pods may include the cluster DNS pods.
fn is_among(pods: &Pods, dns: &ClusterDns, case: &Case<'_>) -> bool {
    let Some((namespace, labels)) = dns.pods() else { return false };
    let known = |owner, key: &str| match owner {
        Owner::Itself => labels.get(key).map_or(Fact::Unknown, Fact::Value),
        Owner::Namespace | Owner::Account => Fact::Unknown,
    };
    let is_there = match &pods.namespaces {
        Namespaces::Own(_) => pods.namespaces.mean(namespace, case.view) == Some(true),
        Namespaces::Matching(_) => pods.namespaces.mean(namespace, case.view) != Some(false),
    };
    let is_named = pods.labels.as_ref().filter(|labels| !labels.is_empty());
    is_there && is_named.is_some_and(|selector| selector.decided(&known) == Some(true))
}

/// Returns true if a selector requires that a label exists. A selector that only excludes labels also matches objects
/// without labels.
fn asks_for_something(selector: &Selector) -> bool {
    match selector {
        Selector::All(parts) => parts.iter().any(asks_for_something),
        Selector::Any(parts) => !parts.is_empty() && parts.iter().all(asks_for_something),
        Selector::Not(_) => false,
        Selector::Label(label) => !matches!(label.operator, Operator::NotIn(_) | Operator::Absent),
    }
}

/// Returns true if Portcullis sets this label when the namespace is created: the profile, or the state of the baseline.
fn is_still_to_come(case: &Case<'_>, namespace: &str, key: &str) -> bool {
    (key == case.site.profile_label() || key == case.site.baseline_label()) && is_to_be_made(case, namespace)
}

/// Returns true if a pod, or a pod created from a template, may match a selector.
fn may_match(case: &Case<'_>, selector: &Selector, running: &Running, (name, facts): (&str, &NamespaceFacts)) -> bool {
    let of_namespace = |key: &str| match facts.labels.as_ref().map(|labels| Fact::of(labels, key)) {
        Some(Fact::Absent) if is_still_to_come(case, name, key) => Fact::Unknown,
        fact => fact.unwrap_or(Fact::Unknown),
    };
    let is_pod = &*running.kind == "Pod";
    let known = |owner, key: &str| match owner {
        Owner::Itself => match running.workload.labels.get(key) {
            Some(value) => Fact::Value(value),
            None if !is_pod && is_added_to_pods(key) => Fact::Unknown,
            None => Fact::Absent,
        },
        Owner::Namespace => of_namespace(key),
        Owner::Account => Fact::Unknown,
    };
    selector.decided(&known) != Some(false)
}
