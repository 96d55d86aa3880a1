//! The search for a connection that breaks a contract, between one source and one destination.
//!
//! A pod that could exist is a sketch: labels that it has, labels that it does not have, and all others still open. The
//! policies are evaluated on the sketches. What they decide whatever the open labels are, they decide for every pod that
//! fits. Otherwise the answer names a label that matters, and the search continues once for each class of its values.
//! So the search ends with a connection of two concrete pods, or with the proof that there is none.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::budget::{self, charge};
use crate::model::{
    AddressSet, ContainerPort, Decision, Demand, Direction, End, Endpoint, Entity, Fact, Labels, NAME_LABEL, Names,
    NetworkSet, Outcome, Owner, Party, Pods, Policy, PortSpan, Protocol, Question, Subject, Surroundings, Tier,
    Traffic, ask,
};
use crate::view::{ClusterDns, Scene, Site};

use super::Doubt;
use super::alphabet::{Alphabet, Samples};
use super::counterexample::{Cause, Counterexample, Effect, Witness};
use super::open_label::{Facts, Label};

/// One end of the connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot<'a> {
    /// Every pod of a party that could exist in a namespace. The namespace [`super::alphabet::ELSEWHERE`] stands for all namespaces that
    /// no selector names. The address is unknown, unless it is given. `is_open` is true if the labels of the namespace are
    /// any labels.
    Sketch { namespace: &'a str, is_open: bool, pods: &'a Pods, except: &'a [Pods], address: Option<IpAddr> },
    /// A pod that exists, or the pods of a workload.
    Pod { endpoint: Endpoint<'a>, kind: &'a str, name: &'a str, ports: &'a [ContainerPort] },
    /// An address that is not that of a pod.
    Address { address: IpAddr, outside: bool, text: &'a str },
    /// Something else.
    Other(&'a Party),
}

impl<'a> Spot<'a> {
    /// The namespace, if its labels are open.
    fn open_namespace(self) -> Option<&'a str> {
        match self {
            Self::Sketch { namespace, is_open: true, .. } => Some(namespace),
            _ => None,
        }
    }
}

/// The ends whose policies are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Both,
    /// Only those of this end, as an index of [`Search::spots`]. The other end counts as open.
    Only(usize),
}

/// The pod of a sketch, as far as it is decided.
#[derive(Clone, Debug, Default)]
struct Sketch {
    own: Decided,
    account: Option<Box<str>>,
    /// The labels of its namespace, if they are open.
    namespace: Decided,
}

/// The labels of an object, as far as they are decided.
#[derive(Clone, Debug, Default)]
struct Decided {
    labels: Labels,
    absent: Vec<Box<str>>,
}

/// The facts around a connection, with those about the namespaces of its ends whose labels are open.
struct Around<'n, 'a> {
    scene: Scene<'a>,
    open: [Option<(&'n str, &'n Decided)>; 2],
}

impl Surroundings for Around<'_, '_> {
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.scene.namespace_labels(namespace)
    }

    fn namespace_label<'l>(&'l self, namespace: &'l str, key: &str) -> Fact<'l> {
        match self.open.into_iter().flatten().find(|(open, _)| *open == namespace) {
            Some((_, decided)) if key != NAME_LABEL => match decided.labels.get(key) {
                Some(value) => Fact::Value(value),
                None if decided.absent.iter().any(|absent| **absent == *key) => Fact::Absent,
                None => Fact::Unknown,
            },
            _ => self.scene.namespace_label(namespace, key),
        }
    }

    fn tier(&self, name: &str) -> Option<&Tier> {
        self.scene.tier(name)
    }

    fn network_sets(&self) -> &[NetworkSet] {
        self.scene.network_sets()
    }
}

/// A port to try.
#[derive(Clone, Debug)]
struct Try {
    protocol: Protocol,
    /// The number. `None`: the port of each endpoint of the cluster DNS.
    number: Option<u16>,
    /// The name of the port, if the pod names it.
    names: Vec<Box<str>>,
}

impl Try {
    /// The traffic. None for the ports of the cluster DNS.
    fn traffic(&self) -> Option<Traffic<'_>> {
        let names = Names::Exactly(&self.names);
        self.number.map(|number| Traffic::Port { protocol: self.protocol, number, names })
    }
}

/// A state of the search.
#[derive(Clone, Debug)]
struct Node {
    pods: [Sketch; 2],
    /// The ports that are not ruled out, as indices.
    tries: Vec<usize>,
}

impl Node {
    /// The labels of a pod, or of its namespace.
    fn decided(&mut self, at: usize, owner: Owner) -> Option<&mut Decided> {
        let pod = self.pods.get_mut(at)?;
        Some(if owner == Owner::Namespace { &mut pod.namespace } else { &mut pod.own })
    }
}

/// A state of the cluster, with the policies of both ends.
pub(super) struct World<'s, 'a> {
    pub(super) scene: Scene<'a>,
    pub(super) policies: [&'s [&'a Policy]; 2],
}

/// Maximum number of port names that are tried. Real policies have a handful.
const MAX_NAMES: usize = 16;

/// The search between two ends: the source, then the destination.
pub(super) struct Search<'s, 'a> {
    pub(super) after: World<'s, 'a>,
    /// The state before the change. Then only connections count that break the contract because of the change.
    pub(super) before: Option<World<'s, 'a>>,
    pub(super) site: &'a Site,
    pub(super) demand: Demand,
    pub(super) spots: [Spot<'a>; 2],
    pub(super) judged: Judged,
    pub(super) alphabet: &'s Alphabet<'a>,
    pub(super) spans: &'a [PortSpan],
    pub(super) limit: &'s Limit,
    /// The addresses of the spots that are addresses.
    sets: [AddressSet; 2],
    samples: HashMap<(Owner, Box<str>), Samples>,
    tries: Vec<Try>,
    doubt: Option<Doubt>,
}

/// The steps that a proof may take, counted by the budget of the request.
#[derive(Debug)]
pub(super) struct Limit {
    started: usize,
    steps: usize,
}

impl Limit {
    pub(super) fn of(steps: usize) -> Self {
        Self { started: budget::spent().steps, steps }
    }

    pub(super) fn is_used_up(&self) -> bool {
        budget::spent().steps.saturating_sub(self.started) > self.steps
    }
}

/// The result of a search.
#[derive(Debug)]
pub(super) enum Found {
    /// There is no such connection.
    Nothing,
    /// This connection breaks the contract.
    Broken(Box<Counterexample>),
    /// It is unknown whether there is one.
    Unclear(Doubt),
}

const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl<'s, 'a> Search<'s, 'a> {
    pub(super) fn new(
        (after, before): (World<'s, 'a>, Option<World<'s, 'a>>),
        site: &'a Site,
        (demand, spans): (Demand, &'a [PortSpan]),
        spots: [Spot<'a>; 2],
        judged: Judged,
        alphabet: &'s Alphabet<'a>,
        limit: &'s Limit,
    ) -> Self {
        let (samples, tries, doubt) = (HashMap::new(), Vec::new(), None);
        let sets = spots.map(|spot| match spot {
            Spot::Address { address, .. } => address.into(),
            _ => AddressSet::default(),
        });
        Self { after, before, site, demand, spots, judged, alphabet, spans, limit, sets, samples, tries, doubt }
    }

    pub(super) fn run(mut self) -> Found {
        self.tries = self.all_tries();
        if self.alphabet.port_names.len() > MAX_NAMES {
            self.doubt = Some(Doubt::TooComplex);
        }
        let tries = (0..self.tries.len()).collect();
        let found = self.explore(Node { pods: Default::default(), tries });
        match (found, self.doubt) {
            (Some(counterexample), _) => Found::Broken(Box::new(counterexample)),
            (None, Some(doubt)) => Found::Unclear(doubt),
            (None, None) => Found::Nothing,
        }
    }

    /// The ports to try, one of each class.
    fn all_tries(&self) -> Vec<Try> {
        if self.is_to_dns() && self.spans.is_empty() {
            let each = |protocol| Try { protocol, number: None, names: Vec::new() };
            return vec![each(Protocol::Udp), each(Protocol::Tcp)];
        }
        let every = Protocol::WITH_PORTS.map(|protocol| PortSpan { protocol, first: 1, last: u16::MAX });
        let spans = if self.spans.is_empty() { &every } else { self.spans };
        let mut tries = Vec::new();
        let mut classes = HashSet::new();
        for span in spans {
            let listed = match self.spot(1) {
                Spot::Pod { ports, .. } => ports,
                Spot::Sketch { .. } | Spot::Address { .. } | Spot::Other(_) => &[],
            };
            let named = |port: &&ContainerPort| port.protocol == span.protocol;
            let mut numbers: Vec<u16> = self.alphabet.starts.range(span.first..=span.last).copied().collect();
            let own = listed.iter().filter(named).map(|port| port.number);
            numbers.extend(own.filter(|number| (span.first..=span.last).contains(number)));
            numbers.push(span.first);
            numbers.sort_unstable();
            numbers.dedup();
            // Without a name first, since most ports have none.
            let mut names: Vec<Vec<Box<str>>> = vec![Vec::new()];
            if matches!(self.spot(1), Spot::Sketch { .. }) {
                // Two containers may give two names to one port: one that an egress rule asks for, one of an ingress rule.
                let all = self.alphabet.port_names.iter().take(MAX_NAMES);
                names.extend(all.clone().map(|name| vec![(*name).into()]));
                let pairs = all
                    .clone()
                    .enumerate()
                    .flat_map(|(at, name)| all.clone().skip(at + 1).map(move |other| (name, other)));
                names.extend(pairs.map(|(name, other)| vec![(*name).into(), (*other).into()]));
            }
            for name in names {
                for number in &numbers {
                    let own = listed.iter().filter(named).filter(|port| port.number == *number);
                    let names = name.iter().cloned().chain(own.filter_map(|port| port.name.clone())).collect();
                    let tried = Try { protocol: span.protocol, number: Some(*number), names };
                    if let Some(traffic) = tried.traffic()
                        && classes.insert((span.protocol, self.alphabet.class_of_port(traffic)))
                    {
                        tries.push(tried);
                    }
                }
            }
        }
        tries
    }

    /// Searches below a state.
    fn explore(&mut self, mut node: Node) -> Option<Counterexample> {
        if self.limit.is_used_up() {
            self.doubt = Some(Doubt::TooComplex);
            return None;
        }
        charge(4);
        let mut found = None;
        let mut open: Option<Label> = None;
        let mut doubt = None;
        let tries = std::mem::take(&mut node.tries);
        for number in tries {
            let Some(tried) = self.tries.get(number) else { continue };
            match self.breaks(&node, tried) {
                Ok(false) => continue,
                Ok(true) => found = found.or(Some(number)),
                Err((Some(label), _)) => open = open.or(Some(label)),
                Err((None, why)) => {
                    // Nothing that a pod could have decides this port.
                    doubt = doubt.or(Some(why));
                    continue;
                }
            }
            node.tries.push(number);
        }
        if node.tries.is_empty() && doubt.is_none() {
            return None;
        }
        for at in 0..2 {
            match self.belongs(&node, at) {
                Some(true) => {}
                Some(false) => return None,
                None => {
                    let label = self.open_label_of_party(&node, at);
                    if let (Some(_), Some(why)) = (&label, &doubt) {
                        // Whether such a pod belongs to the party is decided below this state.
                        self.doubt.get_or_insert_with(|| why.clone());
                    }
                    return self.branch(&node, label, Doubt::Facts("the labels of a namespace are unknown".to_owned()));
                }
            }
        }
        if let Some(number) = found {
            return self.check_again(&node, number);
        }
        if let Some(why) = doubt {
            self.doubt.get_or_insert(why);
        }
        let label = open?;
        self.branch(&node, Some(label), Doubt::TooComplex)
    }

    /// Returns true if a connection breaks the contract, and did not break it before the change, if there is one. If that
    /// is undecided, returns a label that matters, or the reason why none does.
    fn breaks(&self, node: &Node, tried: &Try) -> Result<bool, (Option<Label>, Doubt)> {
        let target = match self.demand {
            Demand::MustNotReach => Outcome::Allowed,
            Demand::MustReach => Outcome::Blocked,
        };
        let [from, to] = &node.pods;
        let (outcome, open) = self.evaluate([from, to], tried, &self.after, false);
        if outcome == Outcome::Undecided {
            return Err(open.unwrap_or((None, Doubt::Facts(String::new()))));
        }
        if outcome != target {
            return Ok(false);
        }
        let Some(before) = &self.before else { return Ok(true) };
        match self.evaluate([from, to], tried, before, false) {
            (Outcome::Undecided, Some((Some(label), doubt))) => Err((Some(label), doubt)),
            (outcome, _) => Ok(outcome != target),
        }
    }

    /// Searches once for each class of values of a label.
    fn branch(&mut self, node: &Node, label: Option<Label>, doubt: Doubt) -> Option<Counterexample> {
        let Some(Label { at, owner, key }) = label else {
            self.doubt.get_or_insert(doubt);
            return None;
        };
        let samples = self.samples.entry((owner, key.clone())).or_insert_with(|| self.alphabet.samples(owner, &key));
        let is_open = samples.is_open;
        let values = samples.values.clone();
        charge(values.len());
        if owner != Owner::Account {
            let mut without = node.clone();
            if let Some(decided) = without.decided(at, owner) {
                decided.absent.push(key.clone());
            }
            if let Some(found) = self.explore(without) {
                return Some(found);
            }
        }
        for value in values {
            let mut with = node.clone();
            if owner == Owner::Account {
                if let Some(pod) = with.pods.get_mut(at) {
                    pod.account = Some(value);
                }
            } else if let Some(decided) = with.decided(at, owner) {
                decided.labels = decided.labels.with(&key, &value);
            }
            if let Some(found) = self.explore(with) {
                return Some(found);
            }
        }
        if is_open {
            self.doubt.get_or_insert(Doubt::Facts(format!("selectors compare parts of the values of label {key}")));
        }
        None
    }

    fn spot(&self, at: usize) -> Spot<'a> {
        let [from, to] = self.spots;
        if at == 0 { from } else { to }
    }

    fn is_to_dns(&self) -> bool {
        matches!(self.spots, [_, Spot::Other(Party::ClusterDns)])
    }

    fn around<'n>(&self, world: &World<'_, 'a>, [from, to]: [&'n Sketch; 2]) -> Around<'n, 'a>
    where
        'a: 'n,
    {
        let [source, destination] = self.spots.map(Spot::open_namespace);
        let open = [source.map(|name| (name, &from.namespace)), destination.map(|name| (name, &to.namespace))];
        Around { scene: world.scene, open }
    }

    /// The end as the policies see it. A pod of a sketch is complete if all labels but those of the sketch are absent.
    fn end<'n>(&'n self, at: usize, sketch: &'n Sketch, is_complete: bool) -> End<'n> {
        let [from, to] = &self.spots;
        match if at == 0 { from } else { to } {
            Spot::Sketch { namespace, address, .. } => End::Pod(Endpoint {
                labels: &sketch.own.labels,
                complete: is_complete,
                absent: &sketch.own.absent,
                account: sketch.account.as_deref(),
                addresses: address.as_slice(),
                ..Endpoint::unknown(namespace)
            }),
            Spot::Pod { endpoint, .. } => End::Pod(*endpoint),
            Spot::Address { outside, .. } => {
                let [from, to] = &self.sets;
                End::Addresses { set: if at == 0 { from } else { to }, outside: *outside }
            }
            Spot::Other(party) => party_end(party),
        }
    }

    /// Evaluates a connection, as far as the sketches decide it. If it is undecided, also returns a label that matters, or
    /// the reason why none does.
    fn evaluate(
        &self,
        pods: [&Sketch; 2],
        tried: &Try,
        world: &World<'_, 'a>,
        is_complete: bool,
    ) -> (Outcome, Option<(Option<Label>, Doubt)>) {
        let around = self.around(world, pods);
        let [from, to] = pods;
        let ends = [self.end(0, from, is_complete), self.end(1, to, is_complete)];
        let mut outcome = Outcome::Blocked;
        let mut open = None;
        // One endpoint of the cluster DNS is enough.
        for (ends, traffic) in self.ways(ends, tried) {
            match self.evaluate_way(ends, traffic, world, &around) {
                (Outcome::Allowed, _) => return (Outcome::Allowed, None),
                (Outcome::Undecided, why) => {
                    outcome = Outcome::Undecided;
                    open = open.or(why);
                }
                (Outcome::Blocked, _) => {}
            }
        }
        (outcome, open)
    }

    /// The ends and the traffic of a connection: one for each endpoint of the cluster DNS, otherwise one.
    fn ways<'n>(&'n self, ends: [End<'n>; 2], tried: &'n Try) -> Vec<([End<'n>; 2], Traffic<'n>)> {
        let names = Names::Exactly(&tried.names);
        let port = |number, names| Traffic::Port { protocol: tried.protocol, number, names };
        if !self.is_to_dns() {
            return tried.number.map(|number| (ends, port(number, names))).into_iter().collect();
        }
        let [from, _] = ends;
        let way = |dns: &'n ClusterDns| {
            let number = tried.number.unwrap_or_else(|| dns.port());
            // The configuration names only the port of DNS itself.
            let traffic = if number == dns.port() { dns.traffic(tried.protocol) } else { port(number, names) };
            ([from, dns.end()], traffic)
        };
        self.site.cluster_dns.iter().map(way).collect()
    }

    fn evaluate_way(
        &self,
        ends: [End<'_>; 2],
        traffic: Traffic<'_>,
        world: &World<'_, 'a>,
        around: &dyn Surroundings,
    ) -> (Outcome, Option<(Option<Label>, Doubt)>) {
        let mut outcome = Outcome::Allowed;
        let mut open: Option<(Option<Label>, Doubt)> = None;
        for at in 0..2 {
            let Some((question, policies)) = self.question(at, ends, traffic, world) else { continue };
            let answer = ask(policies.iter().copied(), &question, around);
            let here = answer.outcome_of(&question, around);
            if here == Outcome::Blocked {
                return (Outcome::Blocked, None);
            }
            if here == Outcome::Undecided && open.as_ref().is_none_or(|(label, _)| label.is_none()) {
                let facts = self.facts(around);
                open = Some(facts.in_answer(at, ends, &question, &answer));
            }
            outcome = outcome.and(here);
        }
        (outcome, open)
    }

    fn facts<'n>(&self, around: &'n dyn Surroundings) -> Facts<'n>
    where
        'a: 'n,
    {
        let are_open = self.spots.map(|spot| matches!(spot, Spot::Sketch { .. }));
        Facts { around, are_open, open_namespaces: self.spots.map(Spot::open_namespace) }
    }

    /// The question to the policies of one end, and these policies. None if they are not evaluated.
    fn question<'n>(
        &self,
        at: usize,
        [from, to]: [End<'n>; 2],
        traffic: Traffic<'n>,
        world: &World<'n, 'a>,
    ) -> Option<(Question<'n>, &'n [&'a Policy])> {
        let (own, other) = if at == 0 { (from, to) } else { (to, from) };
        let End::Pod(pod) = own else { return None };
        // The configuration names the endpoints of the cluster DNS, and the labels of its pods may be incomplete.
        let is_dns = matches!(self.spot(at), Spot::Other(_));
        if is_dns || matches!(self.judged, Judged::Only(only) if only != at) {
            return None;
        }
        let policies = *world.policies.get(at)?;
        charge(policies.len());
        let direction = *DIRECTIONS.get(at)?;
        Some((Question { subject: Subject::One(pod), direction, other, traffic }, policies))
    }

    /// Returns true if a pod belongs to its party. `None` if that depends on open labels.
    fn belongs(&self, node: &Node, at: usize) -> Option<bool> {
        let Some((pods, except)) = self.party(at) else { return Some(true) };
        let End::Pod(endpoint) = self.end(at, node.pods.get(at)?, false) else { return Some(true) };
        let [source, destination] = &node.pods;
        let around = self.around(&self.after, [source, destination]);
        let mut belongs = pods.mean(&endpoint, &around);
        for except in except {
            if belongs == Some(false) {
                break;
            }
            belongs = match except.mean(&endpoint, &around) {
                Some(true) => Some(false),
                Some(false) => belongs,
                None => None,
            };
        }
        belongs
    }

    fn party(&self, at: usize) -> Option<(&'a Pods, &'a [Pods])> {
        match self.spot(at) {
            Spot::Sketch { pods, except, .. } => Some((pods, except)),
            Spot::Pod { .. } | Spot::Address { .. } | Spot::Other(_) => None,
        }
    }

    /// A label that decides whether a pod belongs to its party.
    fn open_label_of_party(&self, node: &Node, at: usize) -> Option<Label> {
        let (pods, except) = self.party(at)?;
        let [source, destination] = &node.pods;
        let around = self.around(&self.after, [source, destination]);
        let end = self.end(at, node.pods.get(at)?, false);
        let End::Pod(endpoint) = end else { return None };
        let mut undecided = std::iter::once(pods).chain(except).filter(|pods| pods.mean(&endpoint, &around).is_none());
        let facts = self.facts(&around);
        undecided.find_map(|pods| facts.in_pods(pods, at, &end))
    }

    /// The connection of two concrete pods, checked again as an ordinary connection.
    fn check_again(&mut self, node: &Node, number: usize) -> Option<Counterexample> {
        let traffic = self.tries.get(number)?;
        let [from, to] = &node.pods;
        let (outcome, _) = self.evaluate([from, to], traffic, &self.after, true);
        let is_broken = match self.demand {
            Demand::MustNotReach => outcome == Outcome::Allowed,
            Demand::MustReach => outcome == Outcome::Blocked,
        };
        if !is_broken {
            self.doubt.get_or_insert(Doubt::Facts("a connection was decided differently the second time".to_owned()));
            return None;
        }
        Some(self.counterexample([from, to], traffic))
    }

    /// Describes a connection of two pods whose labels are decided.
    fn counterexample(&self, pods: [&Sketch; 2], traffic: &Try) -> Counterexample {
        let [from, to] = pods;
        Counterexample {
            from: self.witness(0, from),
            to: self.witness(1, to),
            protocol: traffic.protocol,
            port: traffic.number.unwrap_or_else(|| self.site.cluster_dns.first().map_or(53, ClusterDns::port)),
            port_names: traffic.names.clone(),
            causes: self.causes(pods, traffic),
        }
    }

    fn witness(&self, at: usize, sketch: &Sketch) -> Witness {
        match self.spot(at) {
            Spot::Sketch { namespace, .. } => Witness::Pod {
                namespace: namespace.into(),
                labels: sketch.own.labels.clone(),
                service_account: sketch.account.clone(),
                namespace_labels: sketch.namespace.labels.clone(),
            },
            Spot::Pod { endpoint, kind, name, .. } => {
                Witness::Existing { namespace: endpoint.namespace.into(), kind: kind.into(), name: name.into() }
            }
            Spot::Address { address, text, .. } => Witness::Other(format!("{address} ({text})")),
            Spot::Other(party) => Witness::Other(party.to_string()),
        }
    }

    fn causes(&self, pods: [&Sketch; 2], tried: &Try) -> Vec<Cause> {
        let around = self.around(&self.after, pods);
        let [from, to] = pods;
        let ends = [self.end(0, from, true), self.end(1, to, true)];
        let Some((ends, traffic)) = self.ways(ends, tried).into_iter().next() else { return Vec::new() };
        let mut causes = Vec::new();
        for (at, direction) in DIRECTIONS.into_iter().enumerate() {
            let Some((question, policies)) = self.question(at, ends, traffic, &self.after) else { continue };
            let answer = ask(policies.iter().copied(), &question, &around);
            let Some(decision) = answer.decisions.first() else { continue };
            // Both ends have to allow a connection; one is enough to block it.
            if decision.passes() == (self.demand == Demand::MustReach) {
                continue;
            }
            let (effect, policy, path) = match decision {
                Decision::Allowed(policy, rule) => (Effect::Allows, Some(*policy), Some(rule.path.clone())),
                Decision::Denied(policy, rule) => (Effect::Denies, Some(*policy), Some(rule.path.clone())),
                Decision::Isolated(by) => (Effect::Isolates, by.first().copied(), None),
                Decision::Open => (Effect::LeavesOpen, None, None),
            };
            causes.push(Cause { direction, effect, policy: policy.map(|policy| policy.object.clone()), path });
        }
        causes
    }
}

/// An end that is not a pod.
fn party_end(party: &Party) -> End<'_> {
    match party {
        Party::Domain(name) => End::Domain(name),
        Party::Entity(entity) => End::Entity(*entity),
        // The callers evaluate endpoints, pods and addresses one by one.
        Party::ClusterDns | Party::Pods { .. } | Party::Addresses { .. } => End::Entity(Entity::None),
    }
}
