//! The outcome of a whole connection: egress at the sender and ingress at the receiver.
//!
//! [`connect`] answers for one port, [`reach`] for all ports as ranges. Both add two facts that no policy says: a pod
//! reaches itself, and the node of a pod reaches the pod.

use super::{
    Action, Answer, ContainerPort, Decision, Direction, End, Names, Policy, PortSpans, Protocol, Question, Rule,
    Subject, Surroundings, Traffic, ask,
};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The sender.
    pub from: End<'a>,
    /// The receiver.
    pub to: End<'a>,
    /// Where they are, seen from each other.
    pub relation: Relation,
}

/// Where the ends of a connection are, seen from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// On different pods or machines.
    Apart,
    /// In one pod. A pod always reaches itself (NetworkPolicy API, `NetworkPolicySpec.podSelector`).
    SamePod,
    /// The sender is the node of the receiver. Nodes always reach their own pods, because kubelet probes them
    /// (Kubernetes documentation, Network Policies, "traffic to and from the node where a Pod is running is always
    /// allowed"). Cilium and Calico do the same by default.
    OwnNode,
}

/// The outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed at both ends.
    Allowed,
    /// Blocked at one end or at both.
    Blocked,
    /// Depends on unknown facts.
    Undecided,
}

impl Outcome {
    /// The outcome of a connection from the outcomes at its two ends. A blocked end is enough to block it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Blocked, _) | (_, Self::Blocked) => Self::Blocked,
            (Self::Undecided, _) | (_, Self::Undecided) => Self::Undecided,
            (Self::Allowed, Self::Allowed) => Self::Allowed,
        }
    }
}

/// The answer for a connection.
#[derive(Clone, Debug)]
pub struct Connection<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// The answer of the sender's policies. None if the sender is not subject to policies.
    pub egress: Option<Answer<'a>>,
    /// The answer of the receiver's policies. None if the receiver is not subject to policies.
    pub ingress: Option<Answer<'a>>,
}

/// Ports of one protocol with the same answer.
#[derive(Clone, Debug)]
pub struct PortRange<'a> {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// The answer for each of them.
    pub connection: Connection<'a>,
}

/// The policies that can apply to the pods of a namespace, and the facts around them.
pub trait Policies<'a>: Surroundings {
    /// The policies in force that can apply to pods of a namespace.
    fn of_namespace(&self, namespace: &str) -> Vec<&'a Policy>;
}

/// Answers for a connection over one port.
#[must_use]
pub fn connect<'a>(ends: &Ends<'a>, traffic: Traffic<'a>, cluster: &impl Policies<'a>) -> Connection<'a> {
    if ends.relation == Relation::SamePod {
        return Connection { outcome: Outcome::Allowed, egress: None, ingress: None };
    }
    let answer = |own: End<'a>, other: End<'a>, direction| match own {
        End::Pod(pod) => {
            let question = Question { subject: Subject::One(pod), direction, other, traffic };
            Some(ask(cluster.of_namespace(pod.namespace), &question, cluster))
        }
        _ => None,
    };
    let egress = answer(ends.from, ends.to, Direction::Egress);
    let ingress = match ends.relation {
        Relation::OwnNode => None,
        _ => answer(ends.to, ends.from, Direction::Ingress),
    };
    let outcomes = [
        egress.as_ref().map(|answer| answer.outcome(Direction::Egress)),
        ingress.as_ref().map(|answer| answer.outcome(Direction::Ingress)),
    ];
    let outcome = outcomes.into_iter().flatten().fold(Outcome::Allowed, Outcome::and);
    Connection { outcome, egress, ingress }
}

/// Answers for a connection over every port of TCP, UDP and SCTP. `listed` are the ports that the receiver lists, which
/// gives the ports their names; none if they are unknown.
#[must_use]
pub fn reach<'a>(
    ends: &Ends<'a>,
    listed: Option<&'a [ContainerPort]>,
    cluster: &impl Policies<'a>,
) -> Vec<PortRange<'a>> {
    let mut spans = PortSpans::new();
    for (own, direction) in [(ends.from, Direction::Egress), (ends.to, Direction::Ingress)] {
        let End::Pod(pod) = own else { continue };
        for policy in cluster.of_namespace(pod.namespace) {
            for rule in &policy.side(direction).rules {
                spans.cut_at(&rule.ports);
            }
        }
    }
    for port in listed.unwrap_or_default() {
        spans.cut(port.number, port.number);
    }
    let mut ranges: Vec<PortRange<'a>> = Vec::new();
    for protocol in Protocol::WITH_PORTS {
        for (first, last) in spans.iter() {
            let traffic = Traffic::Port { protocol, number: first, names: names(listed, protocol, first) };
            let connection = connect(ends, traffic, cluster);
            match ranges.last_mut() {
                Some(before) if before.protocol == protocol && before.connection.is_same(&connection) => {
                    before.last = last;
                }
                _ => ranges.push(PortRange { protocol, first, last, connection }),
            }
        }
    }
    ranges
}

/// The names of a port among those that a pod lists.
#[must_use]
pub fn names(listed: Option<&[ContainerPort]>, protocol: Protocol, number: u16) -> Names<'_> {
    let Some(listed) = listed else { return Names::AtLeast(&[]) };
    let is_it = |port: &&ContainerPort| port.protocol == protocol && port.number == number;
    listed.iter().find(is_it).map_or(Names::Exactly(&[]), |port| Names::Exactly(port.name.as_slice()))
}

impl Answer<'_> {
    /// Returns the outcome at this end. It is undecided if it could change by a rule or policy
    /// for which it is unknown whether it matches.
    #[must_use]
    pub fn outcome(&self, direction: Direction) -> Outcome {
        self.outcome_unless(direction, &|_| false)
    }

    /// The same, without policies of which it is known that none of their rules matches the traffic of the question.
    #[must_use]
    pub(crate) fn outcome_of(&self, question: &Question<'_>, around: &dyn Surroundings) -> Outcome {
        self.outcome_unless(question.direction, &|policy| !self.depends_on(policy, question, around))
    }

    /// Returns true if the answer to a question could change if a policy applies of which that is unknown.
    #[must_use]
    pub(crate) fn depends_on(&self, policy: &Policy, question: &Question<'_>, around: &dyn Surroundings) -> bool {
        let side = policy.side(question.direction);
        let may_match = |rule: &Rule| rule.means(&question.other, question.traffic, around) != Some(false);
        let may_isolate = side.isolates || policy.may_isolate(question.direction);
        // What is blocked already cannot be isolated further.
        self.passes() && may_isolate || side.rules.iter().any(may_match)
    }

    fn outcome_unless(&self, direction: Direction, is_irrelevant: &dyn Fn(&Policy) -> bool) -> Outcome {
        let passes = self.passes();
        // What a policy isolates, a rule of its stage may allow, and no rule of a later stage.
        let is_allowed_in = |policy: &Policy| {
            let by = |decision: &Decision<'_>| matches!(decision, Decision::Allowed(by, _) if by.stage == policy.stage);
            self.decisions.iter().all(by)
        };
        let could_turn = |action: Action| match action {
            Action::Pass => true,
            Action::Allow => !passes,
            Action::Deny => passes,
            Action::Log => false,
        };
        let is_doubtful = self.assumed.iter().any(|assumption| match assumption.rule {
            Some(rule) => could_turn(rule.action),
            None if is_irrelevant(assumption.policy) => false,
            None => {
                let side = assumption.policy.side(direction);
                let may_isolate = side.isolates || assumption.policy.may_isolate(direction);
                may_isolate && passes && !is_allowed_in(assumption.policy)
                    || side.rules.iter().any(|rule| could_turn(rule.action))
            }
        });
        match (is_doubtful, passes) {
            (true, _) => Outcome::Undecided,
            (false, true) => Outcome::Allowed,
            (false, false) => Outcome::Blocked,
        }
    }

    /// Returns true if both say the same for the same reasons.
    fn is_same(&self, other: &Self) -> bool {
        let same_rules = |a: &Decision<'_>, b: &Decision<'_>| match (a, b) {
            (Decision::Open, Decision::Open) => true,
            (Decision::Allowed(_, a), Decision::Allowed(_, b)) | (Decision::Denied(_, a), Decision::Denied(_, b)) => {
                std::ptr::eq(*a, *b)
            }
            (Decision::Isolated(a), Decision::Isolated(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| std::ptr::eq(*a, *b))
            }
            _ => false,
        };
        let (own, others) = (&self.decisions, &other.decisions);
        own.len() == others.len()
            && own.iter().zip(others).all(|(a, b)| same_rules(a, b))
            && self.assumed.len() == other.assumed.len()
    }
}

impl Connection<'_> {
    /// Returns true if both have the same outcome for the same reasons.
    fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Option<Answer<'_>>, b: &Option<Answer<'_>>| match (a, b) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        self.outcome == other.outcome && same(&self.egress, &other.egress) && same(&self.ingress, &other.ingress)
    }
}
