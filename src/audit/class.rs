//! Classes: pods that no policy can tell apart. Every question is asked once per class.
//!
//! Two pods are in one class if they are in one namespace and have the same labels, ports, service account and network,
//! and if every address block of a policy treats their addresses alike. Labels that controllers add to pods count only
//! if a selector names them. A pod template is a class of its own only if no pods of it are known.

use std::collections::{BTreeSet, HashMap};

use crate::model::{
    AddressSet, Answer, Block, ContainerPort, Direction, End, Endpoint, Outcome, Policy, Protocol, Question, Selector,
    Subject, Surroundings, Who, Workload, is_added_to_pods,
};
use crate::trace::{Place, PlaceKind, Verdict};
use crate::view::{NamespaceFacts, Running, Scene, Site, View};

/// Pods that no policy can tell apart.
#[derive(Debug)]
pub(super) struct Class<'a> {
    pub(super) namespace: &'a str,
    /// The first pod, or the pod template if no pod is known. It stands for all of them.
    pub(super) running: &'a Running,
    /// The object that creates the pods, as far as its pod template shows it.
    pub(super) owner: &'a Running,
    /// Number of pods. A template without known pods counts as one, and in a cluster as none.
    pub(super) pods: usize,
    /// The policies in force that select the pods, or for which that is unknown.
    pub(super) policies: Vec<Selecting<'a>>,
}

/// A policy that selects pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selecting<'a> {
    pub(super) policy: &'a Policy,
    /// False if it is unknown whether the policy selects the pods.
    pub(super) is_sure: bool,
}

impl<'a> Class<'a> {
    pub(super) fn workload(&self) -> &'a Workload {
        &self.running.workload
    }

    /// Returns true if policies apply to the pods: they are not hostNetwork pods.
    pub(super) fn is_on_pod_network(&self) -> bool {
        self.workload().host_network.is_none()
    }

    /// The end of `portcullis trace` that names the class.
    pub(super) fn id(&self) -> String {
        let kind = self.running.kind.to_ascii_lowercase();
        match self.namespace {
            "" => format!("{kind}/{}", self.running.name),
            namespace => format!("{namespace}/{kind}/{}", self.running.name),
        }
    }

    /// The class in messages.
    pub(super) fn object(&self) -> String {
        name(self.namespace, self.owner)
    }

    pub(super) fn endpoint(&self) -> Endpoint<'a> {
        Endpoint { addresses: self.running.address.as_slice(), ..Endpoint::of(self.namespace, self.workload()) }
    }

    /// The class as an end of a trace, with the same answers.
    pub(super) fn place(&self) -> Place {
        let kind = PlaceKind::Pods {
            namespace: self.namespace.to_owned(),
            object: Some((self.running.kind.to_string(), self.running.name.to_string())),
            workload: Box::new(self.workload().clone()),
            addresses: self.running.address.into_iter().collect(),
        };
        Place { name: name(self.namespace, self.running), kind, port: None }
    }

    /// Returns true if a policy is known to isolate the pods.
    pub(super) fn is_isolated(&self, direction: Direction, view: &View) -> bool {
        self.policies.iter().any(|one| one.is_sure && one.policy.isolates(direction, view))
    }

    /// Returns true if the class is a single pod, which always reaches itself.
    pub(super) fn is_one_pod(&self) -> bool {
        self.pods == 1 && &*self.running.kind == "Pod"
    }

    /// Evaluates the policies of the pods for one direction.
    pub(super) fn ask(&self, view: &'a View, question: &Question<'a>) -> Answer<'a> {
        Scene::of(view).ask(self.policies.iter().map(|one| one.policy), question)
    }

    /// Whether the pods may send lookups to one entry of `clusterDNS`.
    pub(super) fn dns(&self, view: &'a View, site: &'a Site) -> Verdict {
        let outcomes = site.cluster_dns.iter().map(|dns| {
            let (other, traffic) = dns.way(Protocol::Udp);
            let subject = Subject::One(self.endpoint());
            let question = Question { subject, direction: Direction::Egress, other, traffic };
            Verdict::from(self.ask(view, &question).outcome(Direction::Egress))
        });
        outcomes.min().unwrap_or_else(|| Outcome::Undecided.into())
    }

    pub(super) fn ports(&self) -> Vec<String> {
        let words = |port: &ContainerPort| format!("{} {}", port.protocol, port.number);
        self.workload().ports.iter().map(words).collect()
    }
}

fn name(namespace: &str, running: &Running) -> String {
    match namespace {
        "" => format!("{} {}", running.kind, running.name),
        namespace => format!("{} {namespace}/{}", running.kind, running.name),
    }
}

/// What policies can see of the pods of a template, beyond their namespace.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Template<'a> {
    labels: Vec<(&'a str, &'a str)>,
    ports: &'a [ContainerPort],
    account: &'a str,
    is_on_host: bool,
}

/// The classes of a view, by namespace and then by the kind and name of their owners.
pub(super) fn classes(view: &View) -> Vec<Class<'_>> {
    let mut seen = Seen::of(view);
    let mut namespaces: Vec<(&str, &NamespaceFacts)> =
        view.namespaces().map(|(name, facts)| (&**name, &**facts)).collect();
    namespaces.sort_unstable_by_key(|(name, _)| *name);
    let mut classes = Vec::new();
    for (namespace, facts) in namespaces {
        let policies: Vec<&Policy> = Scene::of(view).policies(namespace).collect();
        let mut own = of_namespace(&mut seen, view, namespace, facts);
        for class in own.iter_mut().filter(|class| class.is_on_pod_network()) {
            class.policies = selecting(view, &class.endpoint(), &policies);
        }
        classes.append(&mut own);
    }
    classes
}

fn of_namespace<'a>(seen: &mut Seen<'a>, view: &View, namespace: &'a str, facts: &'a NamespaceFacts) -> Vec<Class<'a>> {
    let mut owners: HashMap<Template<'_>, (&Running, bool)> = HashMap::new();
    for running in facts.running().iter().filter(|running| !is_pod(running)) {
        let owner = owners.entry(seen.template(running, false)).or_insert((running, false));
        if rank(&running.kind) < rank(&owner.0.kind) {
            owner.0 = running;
        }
    }
    let mut classes: Vec<Class<'a>> = Vec::new();
    let mut known: HashMap<(Template<'_>, usize), usize> = HashMap::new();
    for running in facts.running().iter().filter(|running| is_pod(running)) {
        let key = (seen.template(running, true), seen.blocks_of(view, namespace, running));
        let at = *known.entry(key).or_insert_with(|| {
            let owner = owners.get_mut(&seen.template(running, false)).map(|(owner, has_pods)| {
                *has_pods = true;
                *owner
            });
            let owner = owner.unwrap_or(running);
            classes.push(Class { namespace, running, owner, pods: 0, policies: Vec::new() });
            classes.len() - 1
        });
        if let Some(class) = classes.get_mut(at) {
            class.pods += 1;
        }
    }
    let pods = usize::from(!view.is_whole());
    let without_pods = owners.into_values().filter(|(_, has_pods)| !has_pods);
    classes.extend(without_pods.map(|(owner, _)| Class {
        namespace,
        running: owner,
        owner,
        pods,
        policies: Vec::new(),
    }));
    let order = |class: &Class<'a>| (&class.owner.kind, &class.owner.name, &class.running.name);
    classes.sort_by(|a, b| order(a).cmp(&order(b)));
    classes
}

fn is_pod(running: &Running) -> bool {
    &*running.kind == "Pod"
}

/// The position of a kind among the owners of pods: a ReplicaSet comes after the Deployment that creates it.
fn rank(kind: &str) -> usize {
    match kind {
        "ReplicaSet" | "Job" => 1,
        _ => 0,
    }
}

fn selecting<'a>(view: &View, pod: &Endpoint<'_>, policies: &[&'a Policy]) -> Vec<Selecting<'a>> {
    let selects = |policy: &&'a Policy| {
        let is_sure = match policy.subject.mean(pod, view) {
            Some(false) => return None,
            sure => sure.is_some(),
        };
        Some(Selecting { policy, is_sure })
    };
    policies.iter().filter_map(selects).collect()
}

/// The parts of pods that the policies of a view look at.
struct Seen<'a> {
    /// The labels that controllers add to pods and that selectors name.
    added: BTreeSet<&'a str>,
    /// The peers that are decided by the address of a pod.
    blocks: Vec<&'a Who>,
    /// The other sets of addresses that decide: of a rule's own pods, and of network sets.
    sets: Vec<AddressSet>,
    /// Each list of answers of these, by its number.
    answers: HashMap<Vec<Option<bool>>, usize>,
}

impl<'a> Seen<'a> {
    fn of(view: &'a View) -> Self {
        let mut seen =
            Self { added: BTreeSet::new(), blocks: Vec::new(), sets: Vec::new(), answers: HashMap::default() };
        for policy in view.all_own_policies().chain(view.cluster_wide_policies()) {
            policy.subject.labels.iter().for_each(|labels| seen.labels(labels));
            for rule in policy.sides().flat_map(|(_, side)| &side.rules) {
                rule.only.iter().for_each(|labels| seen.labels(labels));
                seen.sets.extend(rule.within.clone());
                rule.peers.listed().iter().for_each(|peer| seen.peer(&peer.who));
            }
        }
        let blocks = view.network_sets().iter().flat_map(|set| &set.blocks);
        seen.sets.extend(blocks.filter(|block| block.inside).map(Block::addresses));
        seen.blocks.sort_by_cached_key(ToString::to_string);
        seen.blocks.dedup();
        seen.sets.sort_by_cached_key(|set| format!("{set:?}"));
        seen.sets.dedup();
        seen
    }

    fn peer(&mut self, who: &'a Who) {
        match who {
            Who::Pods(pods) => pods.labels.iter().for_each(|labels| self.labels(labels)),
            Who::Addresses(block) if block.inside => self.blocks.push(who),
            Who::All(parts) => parts.iter().for_each(|part| self.peer(part)),
            Who::Not(part) => self.peer(part),
            _ => {}
        }
    }

    fn labels(&mut self, selector: &'a Selector) {
        match selector {
            Selector::All(parts) | Selector::Any(parts) => parts.iter().for_each(|part| self.labels(part)),
            Selector::Not(part) => self.labels(part),
            Selector::Label(label) => {
                if is_added_to_pods(&label.key) {
                    self.added.insert(&label.key);
                }
            }
        }
    }

    /// What policies can see of a pod. Labels that controllers add count if `with_added` is true and a selector names
    /// them.
    fn template<'k>(&self, running: &'k Running, with_added: bool) -> Template<'k> {
        let workload = &*running.workload;
        let is_seen = |key: &str| !is_added_to_pods(key) || with_added && self.added.contains(key);
        Template {
            labels: workload.labels.iter().filter(|(key, _)| is_seen(key)).collect(),
            ports: &workload.ports,
            account: &workload.service_account,
            is_on_host: workload.host_network.is_some(),
        }
    }

    /// The number of the list of answers that the address of a pod gets.
    fn blocks_of(&mut self, view: &View, namespace: &str, running: &Running) -> usize {
        if running.workload.host_network.is_some() {
            return 0;
        }
        let pod = Endpoint { addresses: running.address.as_slice(), ..Endpoint::of(namespace, &running.workload) };
        let blocks = self.blocks.iter().map(|who| who.means(&End::Pod(pod), view));
        let sets = self.sets.iter().map(|set| running.address.map(|address| set.contains(address)));
        let answers: Vec<Option<bool>> = blocks.chain(sets).collect();
        let next = self.answers.len();
        *self.answers.entry(answers).or_insert(next)
    }
}
