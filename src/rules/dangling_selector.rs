//! See [`DanglingSelector`].

use std::sync::Arc;

use super::nearest::{Effort, Nearest};
use super::profiled::is_to_be_made;
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    Fact, NAME_LABEL, Namespaces, Operator, Owner, Path, Pods, Selector, Surroundings, Who, is_added_to_pods,
};
use crate::view::{ClusterDns, NamespaceFacts, Running};

rule! {
    /// A selector of pods or of namespaces matches nothing that is there.
    ///
    /// ## Why
    ///
    /// A label with a slip in it is no error to anybody. A policy whose subject matches nothing protects nothing, and a peer
    /// that matches nothing lets nobody in; both look right in a review. The nearest label that exists is proposed.
    ///
    /// ## What it looks at
    ///
    /// The pods that a policy is for, and the pods and namespaces among the peers of its rules, against the pods, the
    /// templates of pods and the namespaces that are known.
    ///
    /// - NetworkPolicy: `podSelector` of the policy, `podSelector` and `namespaceSelector` of peers.
    /// - Cilium: `endpointSelector`, `fromEndpoints`, `toEndpoints` and their denying forms. A cluster mesh is not known here:
    ///   pods of other clusters count as pods that are not there.
    /// - Calico: the `selector` of policies of a namespace. Not that of a GlobalNetworkPolicy nor those of rules: host
    ///   endpoints and sets of networks have labels too, and are not known here.
    /// - ClusterNetworkPolicy: `subject`, `namespaces` and `pods` of peers.
    ///
    /// It speaks only of what can be known:
    ///
    /// - of the pods of a namespace only where something runs there. A policy comes before its pods as a rule, so in an
    ///   empty namespace a selector that matches nothing is as it should be;
    /// - offline, of namespaces only where a label that is asked for is nearly one of a known namespace other than kube-system,
    ///   kube-public, kube-node-lease and default: any other may be in another folder;
    /// - offline, of the pods of a peer only where a label that is asked for is nearly one of a known pod. Pods that a policy
    ///   is for are reported in any case, unless a custom resource in their namespace is one from which an operator makes pods;
    /// - offline, of pods in several namespaces only where what selects the namespaces asks for labels or names, and
    ///   something runs in each of those that are known;
    /// - offline, of the profile of a namespace only where its manifest names one: the others get theirs when they are made.
    ///
    /// Nothing is said of a selector that asks for nothing, or only for what must not be there; of the pods of the cluster's
    /// DNS; offline, of namespaces of the platform; of labels of service accounts; and of labels that controllers and
    /// meshes put on pods that are made from a template. Where a label is not known, it may match. So that no decision is
    /// slow, at most 10000 pods and namespaces are looked at, and of what is beyond nothing is said.
    ///
    /// On a cluster a policy may be applied before the pods that it is for, in a namespace where other things run. The
    /// warning says then what is true at that time, and is gone the next time.
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
    /// - `subjects`: `false` does not look at the pods that policies are for. `true` by default.
    /// - `peers`: `false` does not look at peers. `true` by default.
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

/// How many pods and namespaces one decision looks at.
const MOST_LOOKS: usize = 10_000;

/// Namespaces that every cluster has, so that a manifest of one says nothing about which others there are.
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

/// What a selector misses, and the nearest label that there is.
enum Missed {
    /// There is no such namespace.
    Namespaces(Nearest),
    /// There is no such pod in the namespaces.
    Pods(Nearest, Others),
}

/// Pods in the namespaces of which no manifest tells.
enum Others {
    /// An operator makes pods there.
    May,
    /// None is known to.
    None,
}

impl Others {
    fn of(places: &[(Box<str>, &NamespaceFacts)]) -> Self {
        if places.iter().any(|(_, facts)| facts.has_operator_pods) { Self::May } else { Self::None }
    }
}

/// What is looked at in one decision.
struct Looking<'q, 'a> {
    case: &'q Case<'a>,
    looks: usize,
    effort: Effort,
}

impl<'a> Looking<'_, 'a> {
    fn check(&mut self, pods: &Pods, path: &Path, is_peer: bool, findings: &mut Findings) {
        let what = if is_peer { "the peer is" } else { "the policy is for" };
        let is_dns = |dns: &ClusterDns| is_among(pods, dns, self.case);
        if self.case.site.cluster_dns.iter().any(is_dns) {
            return;
        }
        // Of a warning only the start is read, so what is wrong comes first.
        let (thing, nearest) = match self.missed(pods) {
            None => return,
            // A few manifests tell neither which other namespaces there are, nor which pods other folders add to this one. They do
            // tell of the pods that their own policies are for.
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
        let (message, help) = match nearest.near() {
            Some(near) => (
                text!("no {thing} has {} (did you mean {}?): {what} {pods}", near.asked, near.there),
                text!("write {}, if that is what is meant", near.there),
            ),
            None => (
                text!("no {thing} that is there matches: {what} {pods}"),
                "compare it with the labels that are there, unless what it means is still to come".to_owned(),
            ),
        };
        findings.add::<DanglingSelector>(self.case, path.clone(), message, help, None);
    }

    /// What a selector misses, if it is known to.
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
        // Which other namespaces there are, a few manifests do not tell.
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

    /// Looks for namespaces that may be meant, and for pods in them.
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
            // What is not in the manifests may run in the cluster.
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

    /// Whether a pod of a namespace may have what a selector asks for, as far as it can be looked at.
    fn may_match_in(&mut self, labels: &Selector, (name, facts): (&str, &NamespaceFacts)) -> bool {
        // One that names thousands of values takes as long as many.
        let cost = 1 + labels.size() / 100;
        facts
            .distinct()
            .any(|running| self.look(cost).is_none() || may_match(self.case, labels, running, (name, facts)))
    }

    /// The label of a pod of these namespaces that is nearest to a selector.
    /// The nearest label of a pod there that the author may know of: in the namespace of the object, or where they may list
    /// pods.
    fn nearest_pod(&mut self, labels: &Selector, places: &[(Box<str>, &NamespaceFacts)]) -> Nearest {
        let own = self.case.change.object().namespace();
        let mut nearest = |is_wanted: &dyn Fn(&str) -> bool| {
            let running = places.iter().filter(|(name, _)| is_wanted(name)).flat_map(|(_, facts)| facts.running());
            Nearest::to(labels, &running.map(|running| &running.workload.labels), &mut self.effort)
        };
        let in_own = nearest(&|name| Some(name) == own);
        if in_own.near().is_some() {
            return in_own;
        }
        let anywhere = nearest(&|_| true);
        let only = if let [(name, _)] = places { Some(&**name) } else { None };
        let may_know = || self.case.occasion.author.may_list("pods", only);
        if anywhere.near().is_some() && may_know() { anywhere } else { Nearest::default() }
    }

    /// The label of a namespace that is nearest to a selector that none matches. None, if there may be others that are not
    /// known.
    fn nearest_namespace(&mut self, selector: &Selector) -> Option<Nearest> {
        let view = self.case.view;
        let is_known = |(name, facts): (&Arc<str>, &Arc<NamespaceFacts>)| {
            facts.labels.is_some() && (view.is_whole() || !WELL_KNOWN.contains(&&**name))
        };
        if !asks_for_something(selector) || !view.namespaces().any(is_known) {
            return None;
        }
        let known = view.namespaces().filter_map(|(_, facts)| facts.labels.as_ref());
        let nearest = Nearest::to(selector, &known, &mut self.effort);
        // A name that is like none of them may be that of somebody else's, of which no manifest is here.
        let is_by_name = selector.values_of(NAME_LABEL).is_some();
        let is_near = nearest.has_key(NAME_LABEL);
        let is_told = view.is_whole() || !is_by_name || is_near;
        let may_know = nearest.near().is_none() || self.case.occasion.author.may_list("namespaces", None);
        is_told.then_some(if may_know { nearest } else { Nearest::default() })
    }

    /// Whether a selector names a namespace that every cluster has, or one of the platform: by its name, or by a label with
    /// its name as the value.
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

    /// Notes that one more thing is looked at, which takes as long as so many; none if that would be too many.
    fn look(&mut self, cost: usize) -> Option<()> {
        charge(cost);
        self.looks = self.looks.checked_sub(cost)?;
        Some(())
    }
}

/// What a search came to.
enum Found<'a> {
    /// Something that is meant, or that may be.
    MayMatch,
    /// No such namespace.
    NoNamespace,
    /// No such pod in these namespaces.
    NoPod(Vec<(Box<str>, &'a NamespaceFacts)>),
}

/// Whether pods may be those of the cluster's DNS.
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

/// Whether a selector asks for something that has to be there. One that only says what must not be matches by being empty.
fn asks_for_something(selector: &Selector) -> bool {
    match selector {
        Selector::All(parts) => parts.iter().any(asks_for_something),
        Selector::Any(parts) => !parts.is_empty() && parts.iter().all(asks_for_something),
        Selector::Not(_) => false,
        Selector::Label(label) => !matches!(label.operator, Operator::NotIn(_) | Operator::Absent),
    }
}

/// Whether a label is one that a namespace in a file gets when it is made: its profile, and how far its baseline is.
fn is_still_to_come(case: &Case<'_>, namespace: &str, key: &str) -> bool {
    (key == case.site.profile_label() || key == case.site.baseline_label()) && is_to_be_made(case, namespace)
}

/// Whether a pod, or one that a template makes, may have what a selector asks for.
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
