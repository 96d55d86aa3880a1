//! The sections on policies: without effect, in conflict, or wider than needed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::class::Class;
use super::report::{Item, Section};
use super::scope::Scope;
use super::section::{Items, Question};
use crate::model::{
    Action, BUDGET, Direction, Namespaces, ObjectRef, Order, Peers, Pods, Policy, Ports, Precedence, Rule, Stage,
    Standing, Who,
};
use crate::view::{Site, View};

/// Maximum number of pairs of rules that are compared for a conflict.
const MAX_PAIRS: usize = 100_000;
/// Maximum number of names in a message.
const MAX_NAMED: usize = 5;

/// The policies of a view that an audit reports on.
pub(super) struct Policies<'a> {
    pub(super) view: &'a View,
    /// The view without the policies that are due and not stored.
    pub(super) stored: &'a View,
    pub(super) site: &'a Site,
    pub(super) scope: &'a Scope,
}

/// The search for allow rules that a denial undoes.
#[derive(Default)]
struct Shadows {
    /// The pairs of a denial and an allow rule that were compared.
    seen: HashSet<(*const Rule, *const Rule)>,
    /// What was found, by the policy, the path of its rule and the denial.
    found: BTreeMap<(String, String, String), Item>,
    /// True if there were more pairs than are compared.
    is_partial: bool,
}

impl<'a> Policies<'a> {
    /// The policies in force, by object, without those of the baseline controller.
    fn all(&self) -> Vec<&'a Policy> {
        let all = self.view.all_own_policies().chain(self.view.cluster_wide_policies());
        let mut all: Vec<&Policy> = all
            .filter(|policy| {
                policy.standing == Standing::InForce
                    && !self.site.is_reserved(&policy.object)
                    && self.scope.includes_object(policy.object.namespace.as_deref())
            })
            .collect();
        all.sort_by(|a, b| order(&a.object).cmp(&order(&b.object)));
        all
    }

    /// The number of stored objects that hold policies.
    pub(super) fn objects(&self) -> usize {
        let all = self.stored.all_own_policies().chain(self.stored.cluster_wide_policies());
        let objects: HashSet<&ObjectRef> = all
            .map(|policy| &policy.object)
            .filter(|object| self.scope.includes_object(object.namespace.as_deref()))
            .collect();
        objects.len()
    }

    /// The section on policies that select no known pod.
    pub(super) fn without_pods(&self, classes: &[Class<'_>]) -> Section {
        let question = Question { id: "selects-nothing", title: "Policies that select no pod", is_finding: true };
        let selecting: HashSet<*const Policy> =
            classes.iter().flat_map(|class| &class.policies).map(|one| std::ptr::from_ref(one.policy)).collect();
        let has_pods = |namespace: &str| {
            self.view.namespace(namespace).is_some_and(|facts| !facts.running().is_empty() && !facts.has_operator_pods)
        };
        let all = self.all();
        let mut items = Items::default();
        for policy in &all {
            // Manifests do not show every pod of a cluster.
            let is_known = match &policy.subject.namespaces {
                Namespaces::Own(name) => has_pods(name.as_deref().unwrap_or_default()),
                Namespaces::Matching(_) => self.view.is_whole() && !policy.selects_others,
            };
            if is_known && !policy.subject.all_pods() && !selecting.contains(&std::ptr::from_ref(*policy)) {
                let message = format!("selects no pod on the pod network: {}", policy.subject);
                items.add(
                    item(policy, message).at(&policy.subject_path).helped("correct the selector, or delete the policy"),
                );
            }
        }
        items.section(&question, "Policies whose pod selector matches no known pod.", Some(all.len()))
    }

    /// The section on policies with the same selector.
    pub(super) fn mergeable(&self) -> Section {
        let question = Question { id: "mergeable", title: "Policies that could be one", is_finding: false };
        let mut groups: HashMap<(&str, Option<&str>, &Pods), Vec<&Policy>> = HashMap::new();
        for policy in self.all() {
            if (&policy.stage, policy.order) == (&Stage::Policies, Order::Additive) {
                let object = &policy.object;
                groups.entry((&object.kind, object.namespace.as_deref(), &policy.subject)).or_default().push(policy);
            }
        }
        let mut groups: Vec<Vec<&Policy>> = groups.into_values().collect();
        groups.sort_by(|a, b| {
            a.first().map(|policy| order(&policy.object)).cmp(&b.first().map(|policy| order(&policy.object)))
        });
        let mut items = Items::default();
        for group in groups {
            let mut objects: Vec<&ObjectRef> = group.iter().map(|policy| &policy.object).collect();
            objects.dedup();
            let ([first, others @ ..], Some(policy)) = (objects.as_slice(), group.first()) else { continue };
            if others.is_empty() {
                continue;
            }
            let mut names: Vec<String> = others.iter().take(MAX_NAMED).map(|other| other.name.to_string()).collect();
            if let Some(more @ 1..) = others.len().checked_sub(MAX_NAMED) {
                names.push(format!("{more} more"));
            }
            let message = format!("selects the same pods as {}: {}", names.join(", "), policy.subject);
            let item = Item::of(first.to_string(), first.namespace.as_deref(), message);
            items.add(item.helped("write one policy with the rules of all of them").counting(objects.len()));
        }
        items.section(&question, "Policies of one kind and namespace with the same pod selector.", Some(self.objects()))
    }

    /// The sections on wide rules.
    pub(super) fn wide(&self) -> Vec<Section> {
        let (mut from, mut to, mut ports) = (Items::default(), Items::default(), Items::default());
        let mut rules = 0;
        for policy in self.all() {
            for (direction, rule) in policy.allow_rules() {
                rules += 1;
                if is_anywhere(&rule.peers) {
                    let items = if direction == Direction::Ingress { &mut from } else { &mut to };
                    items.add(
                        item(
                            policy,
                            format!("allows {direction} {} {} on {}", direction.preposition(), rule.peers, rule.ports),
                        )
                        .at(&rule.path),
                    );
                } else if rule.ports == Ports::Any && rule.peers != Peers::Only(Vec::new()) {
                    ports.add(
                        item(
                            policy,
                            format!("allows {direction} {} {} on every port", direction.preposition(), rule.peers),
                        )
                        .at(&rule.path),
                    );
                }
            }
        }
        let question = |id, title, is_finding| Question { id, title, is_finding };
        vec![
            from.section(
                &question("from-anywhere", "Rules that allow ingress from anywhere", true),
                "Allow rules without a sender, for every address, or for every pod of every namespace.",
                Some(rules),
            ),
            to.section(
                &question("to-anywhere", "Rules that allow egress to anywhere", true),
                "Allow rules without a receiver, for every address, or for every pod of every namespace.",
                Some(rules),
            ),
            ports.section(
                &question("every-port", "Rules that allow every port of some peers", false),
                "Allow rules with peers and without ports.",
                Some(rules),
            ),
        ]
    }

    /// The section on allow rules that an earlier rule undoes, and on rules of the same priority; and the reason why some
    /// may be missing in it.
    pub(super) fn shadowed(&self, classes: &[Class<'a>]) -> (Section, Option<String>) {
        let question = Question { id: "shadowed", title: "Allow rules that a denial undoes", is_finding: true };
        let mut shadows = Shadows::default();
        let stops = |policy: &Policy| policy.sides().any(|(_, side)| side.rules.iter().any(is_stop));
        for class in classes {
            let policies: Vec<&Policy> =
                class.policies.iter().filter(|one| one.is_sure).map(|one| one.policy).collect();
            for stopper in policies.iter().filter(|policy| stops(policy)) {
                for other in policies.iter().filter(|other| !std::ptr::eq(**other, *stopper)) {
                    for direction in Direction::ALL {
                        self.compare((stopper, other), direction, &mut shadows);
                    }
                }
            }
        }
        let mut items = Items::default();
        shadows.found.into_values().for_each(|item| items.add(item));
        let limit = shadows.is_partial.then(|| {
            format!("only {MAX_PAIRS} pairs of a denial and an allow rule were compared; `shadowed` may lack findings")
        });
        let summary = "Allow rules that match no traffic because a denial is evaluated first, or whose order \
                       against a denial depends on names alone.";
        (items.section(&question, summary, None), limit)
    }

    fn compare(&self, (stopper, other): (&'a Policy, &'a Policy), direction: Direction, shadows: &mut Shadows) {
        if self.site.is_reserved(&other.object) || !self.scope.includes_object(other.object.namespace.as_deref()) {
            return;
        }
        let (first, second) = (self.turn(stopper, true), self.turn(other, false));
        if first > second {
            return;
        }
        let denials = stopper.side(direction).rules.iter().filter(|rule| rule.action == Action::Deny);
        for denial in denials {
            for allow in other.side(direction).rules.iter().filter(|rule| rule.action == Action::Allow) {
                let pair = (std::ptr::from_ref(denial), std::ptr::from_ref(allow));
                if shadows.seen.contains(&pair) {
                    continue;
                }
                if shadows.seen.len() >= MAX_PAIRS {
                    shadows.is_partial = true;
                    return;
                }
                shadows.seen.insert(pair);
                let budget = &mut { BUDGET };
                let is_whole = denial.covers(allow, self.view, budget)
                    && stopper.subject.covers(&other.subject, self.view, budget);
                let (by, end) = (format!("{} at {}", stopper.object, denial.path), direction.preposition());
                let message = if first == second {
                    if !is_whole && !allow.covers(denial, self.view, budget) {
                        continue;
                    }
                    format!(
                        "{by} denies {direction} {end} {} with the same order; names decide which rule wins",
                        denial.peers
                    )
                } else if is_whole {
                    format!("{by} denies {direction} {end} {} on {} first", denial.peers, denial.ports)
                } else {
                    continue;
                };
                let item =
                    item(other, message).at(&allow.path).helped("remove the rule, or change the order or the denial");
                shadows.found.insert((other.object.to_string(), allow.path.to_string(), by), item);
            }
        }
    }

    /// The position of a policy in the evaluation. An additive policy denies before any additive policy allows.
    fn turn(&self, policy: &'a Policy, is_denial: bool) -> ((Precedence, &'a str), Precedence) {
        let order = match policy.order {
            Order::Additive if is_denial => Precedence(f64::NEG_INFINITY),
            order => order.position(),
        };
        (policy.place(self.view), order)
    }
}

/// The section on workloads with the most rules.
pub(super) fn sizes<'c>(classes: impl IntoIterator<Item = &'c Class<'c>>) -> Section {
    let question = Question { id: "policy-size", title: "Policies and rules for each pod", is_finding: false };
    let mut sizes: Vec<(usize, usize, &Class<'_>)> = classes
        .into_iter()
        .filter(|class| !class.policies.is_empty())
        .map(|class| {
            let rules = class.policies.iter().map(|one| one.policy.ingress.rules.len() + one.policy.egress.rules.len());
            (rules.sum(), class.policies.len(), class)
        })
        .collect();
    sizes.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then_with(|| a.2.object().cmp(&b.2.object())));
    let most = sizes.first().map_or(0, |(rules, ..)| *rules);
    let mut items = Items::default();
    for (rules, policies, class) in sizes.iter().take(MAX_SIZES) {
        let message = format!("policies that select each of these pods: {policies}; rules in them: {rules}");
        items.add(Item::of(class.object(), Some(class.namespace), message));
    }
    let mut section = items.section(&question, "The largest number of rules that apply to one pod.", None);
    section.count = most;
    section
}

/// Number of workloads whose sizes are listed.
const MAX_SIZES: usize = 10;

fn item(policy: &Policy, message: impl Into<String>) -> Item {
    Item::of(policy.object.to_string(), policy.object.namespace.as_deref(), message)
}

fn order(object: &ObjectRef) -> (Option<&str>, &str, &str) {
    (object.namespace.as_deref(), &object.kind, &object.name)
}

fn is_stop(rule: &Rule) -> bool {
    rule.action == Action::Deny
}

fn is_anywhere(peers: &Peers) -> bool {
    let is_wide = |who: &Who| who.is_anywhere() || matches!(who, Who::Pods(pods) if pods.are_all());
    match peers {
        Peers::Any => true,
        Peers::Only(peers) => peers.iter().any(|peer| is_wide(&peer.who)),
    }
}

/// The labels of a kind of which each pod has a value of its own, by namespace.
pub(super) fn identities(view: &View, scope: &Scope) -> Section {
    let question = Question { id: "identities", title: "Labels that multiply Cilium identities", is_finding: false };
    let mut items = Items::default();
    let mut names: BTreeSet<&str> = view.namespaces().map(|(name, _)| &**name).collect();
    names.retain(|name| scope.includes(name));
    for namespace in names {
        let Some(facts) = view.namespace(namespace) else { continue };
        let mut values: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
        for running in facts.running().iter().filter(|running| &*running.kind == "Pod") {
            for (key, value) in running.workload.labels.iter().filter(|(key, _)| !is_left_out_by_cilium(key)) {
                let (pods, distinct) = values.entry(key).or_default();
                *pods += 1;
                distinct.insert(value);
            }
        }
        for (key, (pods, distinct)) in values {
            if distinct.len() >= MIN_VALUES && distinct.len() * 10 >= pods * 9 {
                let example = distinct.first().copied().unwrap_or_default();
                let message =
                    format!("label {key} has {} values on {pods} pods, for example {example}", distinct.len());
                let help = "exclude the label from Cilium's identities, or move it to an annotation";
                let item = Item::of(format!("Namespace {namespace}"), Some(namespace), message);
                items.add(item.helped(help).counting(distinct.len()));
            }
        }
    }
    let summary = "Values of labels that differ on nearly every pod. Cilium makes an identity for each set of labels.";
    items.section(&question, summary, None)
}

/// Number of values from which a label is reported.
const MIN_VALUES: usize = 10;

/// Returns true for labels that Cilium leaves out of identities by default (Cilium documentation, "Limiting
/// Identity-Relevant Labels").
fn is_left_out_by_cilium(key: &str) -> bool {
    const PARTS: [&str; 3] = ["io.kubernetes", "kubernetes.io", "k8s.io"];
    const KEYS: [&str; 8] = [
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/controller-uid",
        "pod-template-generation",
        "pod-template-hash",
        "controller-revision-hash",
        "controller-uid",
    ];
    PARTS.iter().any(|part| key.starts_with(part)) || key.contains("beta.kubernetes.io") || KEYS.contains(&key)
}
