//! The engine held against the oracle in one world: flow by flow, with parts of the world hidden, and for all pods of a
//! policy at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

use portcullis::dialect;
use portcullis::model::{
    self, AddressSet, Answer, ContainerPort, Decision, Direction, End, Endpoint, FaultKind, Labels, Names, Object,
    Outcome, Policy, Protocol, Question, Relation, Subject, Traffic, connect, reach,
};
use portcullis::view::{Scene, View};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::oracle::generate::Pick;
use crate::oracle::{self, Flow, Pod, World};

/// A manifest as the engine reads it. What the oracle's worlds hold is valid, so nothing may be found wrong with it.
fn read(manifest: &Value) -> Object {
    let read = dialect::read_value(manifest);
    let object = read.unwrap_or_else(|error| panic!("{error}: {manifest:#}")).expect("a kind that is known");
    // Parts that the model says in other words are no faults of the manifest.
    let faults: Vec<_> = object.faults.iter().filter(|fault| fault.kind != FaultKind::NotUnderstood).collect();
    assert!(faults.is_empty(), "{faults:#?}: {manifest:#}");
    object
}

/// A generated cluster, as the engine sees it.
pub(crate) struct Cluster<'a> {
    world: &'a World,
    view: View,
    labels: Vec<Labels>,
    hidden: Hidden,
}

/// What the engine is not told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hidden {
    pub(crate) labels_of_namespaces: bool,
    pub(crate) labels_of_pods: bool,
    pub(crate) addresses: bool,
    pub(crate) accounts: bool,
    pub(crate) ports: bool,
}

impl<'a> Cluster<'a> {
    pub(crate) fn of(world: &'a World) -> Self {
        Self::without(world, Hidden::default())
    }

    fn without(world: &'a World, hidden: Hidden) -> Self {
        let known = world.namespaces.iter().filter(|_| !hidden.labels_of_namespaces);
        let namespaces = known.map(|(name, labels)| {
            read(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
        });
        let view = View::of(namespaces.chain(world.manifests.iter().map(read)));
        let labels = world.pods.iter().map(|pod| pod.labels.clone().into_iter().collect()).collect();
        Self { world, view, labels, hidden }
    }

    fn endpoint<'b>(&'b self, pod: &'b Pod) -> Endpoint<'b> {
        let at = self.world.pods.iter().position(|other| other == pod).unwrap();
        Endpoint {
            labels: &self.labels[at],
            complete: !self.hidden.labels_of_pods,
            account: (!self.hidden.accounts).then_some(&*pod.service_account),
            addresses: if self.hidden.addresses { &[] } else { std::slice::from_ref(&pod.address) },
            ..Endpoint::unknown(&pod.namespace)
        }
    }

    fn end<'b>(&'b self, end: oracle::End<'b>, set: &'b AddressSet) -> End<'b> {
        match end {
            oracle::End::Pod(pod) => End::Pod(self.endpoint(pod)),
            oracle::End::Outside(_) => End::Addresses { set, outside: true },
        }
    }

    fn traffic<'b>(&self, flow: &Flow<'_>, ends: &'b Ends) -> Traffic<'b> {
        let protocol = match flow.protocol {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Icmp,
        };
        if protocol == Protocol::Icmp {
            Traffic::Message { protocol, kind: 8, code: 0 }
        } else {
            let names = if self.hidden.ports { Names::AtLeast(&[]) } else { Names::Exactly(&ends.names) };
            Traffic::Port { protocol, number: flow.port, names }
        }
    }

    /// The outcome of the whole connection for the port of the flow, asked alone and as a part of all ports.
    fn connection(&self, flow: &Flow<'_>) -> Result<Outcome, TestCaseError> {
        let ends = Ends::of(flow);
        let both = model::Ends {
            from: self.end(flow.from, &ends.from),
            to: self.end(flow.to, &ends.to),
            relation: Relation::Apart,
        };
        let scene = Scene::of(&self.view);
        let traffic = self.traffic(flow, &ends);
        let outcome = connect(&both, traffic, &scene).outcome;
        if let Traffic::Port { protocol, number, .. } = traffic {
            let listed = flow.to.pod().map(|pod| pod.ports.as_slice()).unwrap_or_default().iter();
            let listed: Vec<ContainerPort> = listed
                .filter(|port| port.protocol == protocol.name().unwrap())
                .map(|port| ContainerPort { name: Some(port.name.as_str().into()), protocol, number: port.number })
                .collect();
            let listed = (!self.hidden.ports).then_some(&*listed);
            let ranges = reach(&both, listed, &scene);
            let of_protocol = || ranges.iter().filter(|range| range.protocol == protocol);
            let covered: u32 = of_protocol().map(|range| u32::from(range.last - range.first) + 1).sum();
            prop_assert_eq!(covered, 65_535);
            let range = of_protocol().find(|range| (range.first..=range.last).contains(&number));
            // Several names of one port are one more than a pod lists it for.
            if ends.names.len() < 2 {
                prop_assert_eq!(range.map(|range| range.connection.outcome), Some(outcome), "{:#?}", flow);
            }
        }
        Ok(outcome)
    }

    /// What the engine says of one half of a flow, for one pod or for all that a policy concerns.
    fn half<'b>(
        &'b self,
        subject: Subject<'b>,
        policies: impl IntoIterator<Item = &'b Policy>,
        direction: Direction,
        flow: &Flow<'b>,
        ends: &'b Ends,
    ) -> Answer<'b> {
        let far = match direction {
            Direction::Ingress => flow.from,
            Direction::Egress => flow.to,
        };
        let set = match direction {
            Direction::Ingress => &ends.from,
            Direction::Egress => &ends.to,
        };
        let other = self.end(far, set);
        let traffic = self.traffic(flow, ends);
        Scene::of(&self.view).ask(policies, &Question { subject, direction, other, traffic })
    }

    /// What the engine says of one pod's half of a flow.
    fn of_pod<'b>(&'b self, pod: &'b Pod, direction: Direction, flow: &Flow<'b>, ends: &'b Ends) -> Answer<'b> {
        let policies = Scene::of(&self.view).policies(&pod.namespace);
        let answer = self.half(Subject::One(self.endpoint(pod)), policies, direction, flow, ends);
        assert_eq!(answer.decisions.len(), 1, "for one pod there is one answer: {answer:#?}");
        answer
    }

    /// Whether both halves of a flow pass, as the engine says.
    pub(crate) fn answer(&self, flow: &Flow<'_>) -> oracle::Answer {
        let ends = Ends::of(flow);
        let half = |end: oracle::End<'_>, direction| {
            end.pod().is_none_or(|pod| self.of_pod(pod, direction, flow, &ends).passes())
        };
        oracle::Answer { egress: half(flow.from, Direction::Egress), ingress: half(flow.to, Direction::Ingress) }
    }
}

/// What of a flow the engine wants to borrow.
struct Ends {
    from: AddressSet,
    to: AddressSet,
    /// The names that the destination gives to the port.
    names: Vec<Box<str>>,
}

impl Ends {
    fn of(flow: &Flow<'_>) -> Self {
        let set = |end: oracle::End<'_>| AddressSet::from(end.address());
        let ports = flow.to.pod().map(|pod| pod.ports.as_slice()).unwrap_or_default();
        let named = ports.iter().filter(|port| port.protocol == flow.protocol && port.number == flow.port);
        Self { from: set(flow.from), to: set(flow.to), names: named.map(|port| port.name.as_str().into()).collect() }
    }
}

pub(crate) fn agrees(world: &World, picks: &[Pick]) -> Result<(), TestCaseError> {
    let cluster = Cluster::of(world);
    for pick in picks {
        let flow = pick.flow(world);
        let truth = oracle::answer(world, &flow);
        prop_assert_eq!(cluster.answer(&flow), truth, "{:#?}", flow);
        let expected = if truth.egress && truth.ingress { Outcome::Allowed } else { Outcome::Blocked };
        // What a rule says of layer 7 or of a DNS name is unknown before there is traffic.
        let outcome = cluster.connection(&flow)?;
        prop_assert!(outcome == expected || outcome == Outcome::Undecided, "{outcome:?}: {flow:#?}");
    }
    Ok(())
}

/// Whatever is not known: an answer for which nothing had to be assumed is the true one.
pub(crate) fn unknown_is_not_no(world: &World, picks: &[Pick], hidden: Hidden) -> Result<(), TestCaseError> {
    let cluster = Cluster::without(world, hidden);
    for pick in picks {
        let flow = pick.flow(world);
        let ends = Ends::of(&flow);
        let truth = oracle::answer(world, &flow);
        for (end, direction, truth) in
            [(flow.from, Direction::Egress, truth.egress), (flow.to, Direction::Ingress, truth.ingress)]
        {
            let Some(pod) = end.pod() else { continue };
            let answer = cluster.of_pod(pod, direction, &flow, &ends);
            if answer.assumed.is_empty() {
                prop_assert_eq!(answer.passes(), truth, "{:#?} without {:?}", flow, hidden);
            }
        }
        let expected = if truth.egress && truth.ingress { Outcome::Allowed } else { Outcome::Blocked };
        let outcome = cluster.connection(&flow)?;
        prop_assert!(outcome == expected || outcome == Outcome::Undecided, "{outcome:?}: {flow:#?} without {hidden:?}");
    }
    Ok(())
}

/// What is said of all pods that a policy concerns holds for each of them: if one of them is stopped, so much was said.
pub(crate) fn holds_for_each(world: &World, picks: &[Pick]) -> Result<(), TestCaseError> {
    let cluster = Cluster::of(world);
    let scene = Scene::of(&cluster.view);
    for pick in picks {
        let flow = pick.flow(world);
        let ends = Ends::of(&flow);
        for (end, direction) in [(flow.from, Direction::Egress), (flow.to, Direction::Ingress)] {
            let Some(pod) = end.pod() else { continue };
            let one = cluster.of_pod(pod, direction, &flow, &ends);
            for policy in scene.policies(&pod.namespace) {
                if policy.subject.mean(&cluster.endpoint(pod), &cluster.view) != Some(true) {
                    continue;
                }
                let around = scene.policies_for(&policy.subject);
                let all = cluster.half(Subject::Each(&policy.subject), around.clone(), direction, &flow, &ends);
                let decision = &one.decisions[0];
                // About pods of many namespaces those of single namespaces are not asked.
                let is_asked = |one: &Policy| around.iter().any(|policy| std::ptr::eq(*policy, one));
                let all_asked = scene.policies(&pod.namespace).all(is_asked);
                // Where something had to be assumed of the pods, a single one may be another matter. And what was said may
                // blame another of several policies that stop the same traffic.
                if all_asked && all.assumed.is_empty() && !decision.passes() {
                    prop_assert!(!all.passes(), "{pod:#?} is stopped by {decision:#?}, but {all:#?}");
                }
                // And the other way round: somebody is let through if this one is.
                if all_asked && all.assumed.is_empty() && decision.passes() {
                    let some = all.decisions.iter().any(Decision::passes);
                    prop_assert!(some, "{pod:#?} passes by {decision:#?}, but {all:#?}");
                }
            }
        }
    }
    Ok(())
}
