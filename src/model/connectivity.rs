//! Evaluates a connection against the policies of a cluster, across all dialects.
//!
//! A connection has two ends, and the policies of both must allow it: egress at the sender, ingress at the receiver.
//! [`ask`] answers for one end and one direction. The subject is one pod, or all pods that a policy applies to;
//! different pods of that set may get different decisions.
//!
//! The policies are evaluated stage by stage ([`Stage::position`](super::Stage::position)), and by order within a
//! stage. The first rule that matches the traffic decides, and `Pass` hands the traffic to the next stage. Additive
//! policies are evaluated together: first their denials, then what they allow. At the end of a stage whose policies
//! isolate the pods, undecided traffic is dropped. Otherwise the next stage is evaluated, and after the last stage the
//! traffic is allowed.
//!
//! If it is unknown whether a rule matches the traffic, the rule counts as not matching, whatever its action is, and is
//! listed in [`Answer::assumed`].

use std::borrow::Cow;

use crate::budget::charge;

use super::{
    Action, Direction, End, Endpoint, NAME_LABEL, Namespaces, Order, Owner, Pods, Policy, Ports, Precedence, Protocol,
    Rule, Selector, Side, Stage, Surroundings, Traffic,
};

/// A question about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The pods whose policies are evaluated.
    pub subject: Subject<'a>,
    /// The direction: the subject receives or sends.
    pub direction: Direction,
    /// The other end.
    pub other: End<'a>,
    /// The traffic.
    pub traffic: Traffic<'a>,
}

/// The pods whose policies are evaluated.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// One pod.
    One(Endpoint<'a>),
    /// All pods that a policy applies to.
    Each(&'a Pods),
}

/// The result for a connection.
#[derive(Clone, Debug, Default)]
pub struct Answer<'a> {
    /// The decisions. One pod gets exactly one; different pods of a set may get different ones.
    ///
    /// An allowing or open decision is listed even if no pod could get it. A denying or isolating decision is listed
    /// only if some pod may get it.
    pub decisions: Vec<Decision<'a>>,
    /// The assumptions that the result depends on.
    pub assumed: Vec<Assumption<'a>>,
}

/// A decision for some pods of the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// No policy isolates the pods, and no rule stops the traffic.
    Open,
    /// A rule allows the traffic.
    Allowed(&'a Policy, &'a Rule),
    /// A rule denies the traffic.
    Denied(&'a Policy, &'a Rule),
    /// These policies isolate the pods, and no rule allows the traffic.
    Isolated(Vec<&'a Policy>),
}

/// An unknown match, assumed to be false: the rule does not match the traffic, or the policy does not apply to the
/// pods or does not isolate them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumption<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The rule. `None` if it is unknown whether the policy applies to the pods or isolates them.
    pub rule: Option<&'a Rule>,
}

impl Decision<'_> {
    /// Returns true if the traffic is allowed.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Open | Self::Allowed(..))
    }
}

impl Answer<'_> {
    /// Returns true if the traffic is allowed for every pod of the subject.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.decisions.iter().all(Decision::passes)
    }
}

/// Maximum number of steps of all proofs for one answer. After that, a set of pods counts as not empty unless it is
/// proved empty.
const STEPS: usize = 100_000;

/// Maximum number of pod sets that are tracked from one stage to the next. Above it they are merged into the whole
/// subject.
const REGIONS: usize = 32;

/// Evaluates a connection against these policies. The caller leaves out policies that are not in force.
#[must_use]
pub fn ask<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    question: &Question<'a>,
    around: &dyn Surroundings,
) -> Answer<'a> {
    ask_within(policies, question, around, &mut { STEPS })
}

/// The same, with a step budget that several questions share. Each policy, each rule and each step of a proof costs one
/// step. If the budget is used up, the answer is meaningless.
#[must_use]
pub(crate) fn ask_within<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    question: &Question<'a>,
    around: &dyn Surroundings,
    steps: &mut usize,
) -> Answer<'a> {
    let mut own = STEPS.min(*steps);
    let before = own;
    let answer = ask_in_steps(policies, question, around, &mut own);
    *steps -= before - own;
    answer
}

fn ask_in_steps<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    question: &Question<'a>,
    around: &dyn Surroundings,
    budget: &mut usize,
) -> Answer<'a> {
    let mut answer = Answer::default();
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for policy in policies {
        let side = policy.side(question.direction);
        let may_isolate = policy.may_isolate(question.direction);
        if side.rules.is_empty() && !side.isolates && !may_isolate {
            continue;
        }
        *budget = budget.saturating_sub(1);
        charge(1 + side.rules.len() / 64);
        match question.subject.share(&policy.subject, around) {
            None => {}
            Some(Share::Unknown) => answer.assumed.push(Assumption { policy, rule: None }),
            Some(Share::Known(share)) => {
                if may_isolate {
                    answer.assumed.push(Assumption { policy, rule: None });
                }
                turns.extend(Turn::of(policy, side, share, around));
            }
        }
    }
    turns.sort_by(|a, b| a.stage.cmp(&b.stage).then(a.order.cmp(&b.order)).then_with(|| a.name().cmp(b.name())));

    let mut asking = Asking { question, around, answer, left: Vec::new(), budget };
    let mut regions = vec![Region::of(question.subject)];
    for stage in turns.chunk_by(|a, b| a.stage == b.stage) {
        for region in regions {
            asking.ask_stage(stage, region);
        }
        regions = std::mem::take(&mut asking.left);
        if regions.len() > REGIONS {
            regions = vec![Region::of(question.subject)];
        }
    }
    let mut answer = asking.answer;
    assume_baseline(&mut answer, &turns, question, around);
    if regions.iter().any(|region| !region.is_empty) {
        answer.decisions.push(Decision::Open);
    }
    answer
}

/// Records, as assumptions, the Baseline rules that allow traffic which Cilium's policies isolate. According to the
/// ClusterNetworkPolicy API such rules are never evaluated. Cilium 1.20 evaluates them, since its default deny is only
/// the absence of a default allow (`resolvePolicyLocked` in `pkg/policy/repository.go`).
fn assume_baseline<'a>(
    answer: &mut Answer<'a>,
    turns: &[Turn<'a>],
    question: &Question<'a>,
    around: &dyn Surroundings,
) {
    let is_of_cilium = |policy: &&Policy| policy.object.group() == "cilium.io";
    let is_isolated = |decision: &Decision<'_>| match decision {
        Decision::Isolated(by) => by.iter().any(is_of_cilium),
        _ => false,
    };
    if !answer.decisions.iter().any(is_isolated) {
        return;
    }
    for turn in turns.iter().filter(|turn| turn.policy.stage == Stage::Baseline) {
        let mut allowing = turn.rules().filter(|rule| rule.action == Action::Allow);
        if let Some(rule) = allowing.find(|rule| rule.means(&question.other, question.traffic, around) == Some(true)) {
            answer.assumed.push(Assumption { policy: turn.policy, rule: Some(rule) });
        }
    }
}

/// Returns true if it is proved that at least one of the policies applies to each of these pods.
#[must_use]
pub(crate) fn concern_all<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    pods: &'a Pods,
    around: &dyn Surroundings,
) -> bool {
    let subject = Subject::Each(pods);
    let (mut region, mut budget) = (Region::of(subject), STEPS);
    for policy in policies {
        if let Some(Share::Known(share)) = subject.share(&policy.subject, around) {
            region.leave_out(&share, &mut budget);
        }
    }
    region.is_surely_empty(&mut budget)
}

/// A question during its evaluation, stage by stage.
struct Asking<'q, 'a> {
    question: &'q Question<'a>,
    around: &'q dyn Surroundings,
    answer: Answer<'a>,
    /// The pods that the current stage passes to the next one.
    left: Vec<Region<'a>>,
    /// Remaining steps.
    budget: &'q mut usize,
}

impl<'a> Asking<'_, 'a> {
    /// Evaluates the policies of one stage for these pods.
    fn ask_stage(&mut self, stage: &[Turn<'a>], mut region: Region<'a>) {
        for turn in stage {
            let mut denied = false;
            // The pods that consecutive `Pass` rules hand to the next stage.
            let mut passed: Vec<Covered<'a>> = Vec::new();
            for rule in turn.rules() {
                if region.is_empty {
                    break;
                }
                let Some(share) = self.share_of(turn, rule) else { continue };
                match rule.action {
                    Action::Pass | Action::Log => {}
                    Action::Allow | Action::Deny => self.pass(&mut region, &mut passed),
                }
                match rule.action {
                    Action::Log => continue,
                    Action::Allow => self.answer.decisions.push(Decision::Allowed(turn.policy, rule)),
                    Action::Deny => {
                        // One denial of a policy suffices to report it.
                        if !denied && !region.within(&share).is_surely_empty(self.budget) {
                            self.answer.decisions.push(Decision::Denied(turn.policy, rule));
                            denied = true;
                        }
                    }
                    Action::Pass => {
                        let is_whole = share == Covered::Whole;
                        passed.push(share);
                        if is_whole {
                            break;
                        }
                        continue;
                    }
                }
                region.leave_out(&share, self.budget);
                // The first matching rule decides for all pods that it applies to.
                if rule.only.is_none() && rule.within.is_none() {
                    break;
                }
            }
            self.pass(&mut region, &mut passed);
            if region.is_empty {
                return;
            }
        }
        let isolating = || stage.iter().filter(|turn| turn.drops && turn.side.isolates && turn.part != Part::Denials);
        let whole: Vec<&Policy> =
            isolating().filter(|turn| turn.share == Covered::Whole).map(|turn| turn.policy).collect();
        if !whole.is_empty() {
            if !region.is_surely_empty(self.budget) {
                self.answer.decisions.push(Decision::Isolated(whole));
            }
            return;
        }
        for turn in isolating() {
            if !region.within(&turn.share).is_surely_empty(self.budget) {
                self.answer.decisions.push(Decision::Isolated(vec![turn.policy]));
            }
            region.leave_out(&turn.share, self.budget);
        }
        self.leave(region);
    }

    /// The part of the turn's pods that a rule applies to, if the rule is known to match the traffic.
    fn share_of(&mut self, turn: &Turn<'a>, rule: &'a Rule) -> Option<Covered<'a>> {
        let unknown = Assumption { policy: turn.policy, rule: Some(rule) };
        *self.budget = self.budget.saturating_sub(1);
        charge(1);
        match rule.means(&self.question.other, self.question.traffic, self.around) {
            Some(true) => {}
            Some(false) => return None,
            None => {
                self.answer.assumed.push(unknown);
                return None;
            }
        }
        match self.question.subject.share_of(&turn.share, rule, self.around) {
            Some(Share::Known(share)) => Some(share),
            Some(Share::Unknown) => {
                self.answer.assumed.push(unknown);
                None
            }
            None => None,
        }
    }

    /// Hands the pods of the collected `Pass` rules to the next stage.
    fn pass(&mut self, region: &mut Region<'a>, passed: &mut Vec<Covered<'a>>) {
        if passed.is_empty() {
            return;
        }
        let mut parts: Vec<Selector> = Vec::with_capacity(passed.len());
        for share in passed.drain(..) {
            match share {
                Covered::Whole => {
                    self.leave(std::mem::replace(region, Region::none()));
                    return;
                }
                Covered::Part(selector) => parts.push(selector.into_owned()),
            }
        }
        let share = Covered::Part(Cow::Owned(Selector::Any(parts)));
        self.leave(region.within(&share));
        region.leave_out(&share, self.budget);
    }

    /// Hands pods to the next stage, unless there are provably none.
    fn leave(&mut self, region: Region<'a>) {
        // Without a split there is only one region, and nothing to prove.
        if !region.is_empty && (self.left.is_empty() || !region.is_surely_empty(self.budget)) {
            self.left.push(region);
        }
    }
}

/// A policy at its turn in the evaluation.
struct Turn<'a> {
    policy: &'a Policy,
    side: &'a Side,
    part: Part,
    share: Covered<'a>,
    /// The position of its stage. Stages of the same position are ordered by name.
    stage: (Precedence, &'a str),
    order: Precedence,
    /// True if its stage drops undecided traffic.
    drops: bool,
}

/// The rules of a policy that are evaluated in one turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Denials,
    Rest,
}

impl<'a> Turn<'a> {
    /// The turns of a policy. An additive policy evaluates its denials before any additive policy allows.
    fn of(
        policy: &'a Policy,
        side: &'a Side,
        share: Covered<'a>,
        around: &dyn Surroundings,
    ) -> impl Iterator<Item = Self> {
        let tier = policy.tier(around);
        let stage = (policy.stage.position(tier), policy.stage.name());
        let drops = policy.stage.drops(tier);
        let is_additive = policy.order == Order::Additive;
        let denies = is_additive && side.rules.iter().any(|rule| rule.action == Action::Deny);
        let order = policy.order.position();
        let first = denies.then(|| Self {
            policy,
            side,
            part: Part::Denials,
            share: share.clone(),
            stage,
            order: Precedence(f64::NEG_INFINITY),
            drops,
        });
        let part = if is_additive { Part::Rest } else { Part::All };
        first.into_iter().chain([Self { policy, side, part, share, stage, order, drops }])
    }

    fn rules(&self) -> impl Iterator<Item = &'a Rule> {
        let part = self.part;
        self.side.rules.iter().filter(move |rule| match part {
            Part::All => true,
            Part::Denials => rule.action == Action::Deny,
            Part::Rest => rule.action != Action::Deny,
        })
    }

    /// The sort key of policies with the same order: Calico sorts them by `name/namespace/kind`.
    fn name(&self) -> impl Iterator<Item = u8> {
        let object = &self.policy.object;
        let namespace = object.namespace.as_deref().unwrap_or_default();
        object.bare_name().bytes().chain([b'/']).chain(namespace.bytes()).chain([b'/']).chain(object.kind.bytes())
    }
}

/// The part of the subject that a policy applies to.
enum Share<'a> {
    Known(Covered<'a>),
    /// It is unknown whether the policy applies to any part.
    Unknown,
}

/// The part of the subject that a policy is known to apply to.
#[derive(Clone, PartialEq, Eq)]
enum Covered<'a> {
    /// The whole subject.
    Whole,
    /// The pods that this selector matches: none, some or all.
    Part(Cow<'a, Selector>),
}

impl<'a> Subject<'a> {
    /// The part of the subject that is among these pods. `None` if there is provably none.
    fn share(&self, pods: &'a Pods, around: &dyn Surroundings) -> Option<Share<'a>> {
        let own = match self {
            Self::One(endpoint) => {
                return match pods.mean(endpoint, around) {
                    Some(true) => Some(Share::Known(Covered::Whole)),
                    Some(false) => None,
                    None => Some(Share::Unknown),
                };
            }
            Self::Each(own) => own,
        };
        // Labels of pods are compared first, because that needs no proof.
        let labels = match own.have(pods, around) {
            Some(false) => return None,
            Some(true) => None,
            None => pods.labels.as_ref().filter(|labels| own.labels.as_ref() != Some(labels)),
        };
        let lifted = |namespaces: Selector| {
            let mut parts = vec![namespaces];
            parts.extend(labels.map(Selector::copied));
            Covered::Part(Cow::Owned(Selector::all(parts)))
        };
        match (&own.namespaces, &pods.namespaces) {
            (Namespaces::Own(own), _) => match pods.namespaces.mean(own.as_deref().unwrap_or_default(), around) {
                Some(true) => {
                    Some(Share::Known(labels.map_or(Covered::Whole, |labels| Covered::Part(Cow::Borrowed(labels)))))
                }
                Some(false) => None,
                None => Some(Share::Unknown),
            },
            (Namespaces::Matching(_), Namespaces::Own(name)) => {
                let name = name.as_deref()?;
                Some(Share::Known(lifted(Selector::equals(NAME_LABEL, name).on(Owner::Namespace))))
            }
            (Namespaces::Matching(own), Namespaces::Matching(namespaces)) => {
                Some(Share::Known(if namespaces.is_empty() || namespaces == own {
                    labels.map_or(Covered::Whole, |labels| Covered::Part(Cow::Borrowed(labels)))
                } else {
                    lifted(namespaces.on(Owner::Namespace))
                }))
            }
        }
    }

    /// The part of a share that a rule applies to.
    fn share_of(&self, share: &Covered<'a>, rule: &'a Rule, around: &dyn Surroundings) -> Option<Share<'a>> {
        let at = match (&rule.within, self) {
            (None, _) => Some(true),
            (Some(within), Self::One(endpoint)) if !endpoint.addresses.is_empty() => {
                let held = endpoint.addresses.iter().filter(|address| within.contains(**address)).count();
                match held {
                    0 => Some(false),
                    all if all == endpoint.addresses.len() => Some(true),
                    _ => None,
                }
            }
            // The addresses of the pods are not known.
            (Some(_), _) => None,
        };
        match at {
            Some(true) => {}
            Some(false) => return None,
            None => return Some(Share::Unknown),
        }
        let Some(only) = &rule.only else { return Some(Share::Known(share.clone())) };
        let decided = only.decided(&|owner, key| match self {
            Self::One(endpoint) => endpoint.label(owner, key, around),
            Self::Each(pods) => pods.label(owner, key, around),
        });
        match (decided, self) {
            (Some(true), _) => Some(Share::Known(share.clone())),
            (Some(false), _) => None,
            (None, Self::One(_)) => Some(Share::Unknown),
            (None, Self::Each(_)) => Some(Share::Known(Covered::Part(match share {
                Covered::Whole => Cow::Borrowed(only),
                Covered::Part(part) => Cow::Owned(Selector::All(vec![part.clone().into_owned(), only.clone()])),
            }))),
        }
    }
}

/// A set of pods of the subject that are still undecided.
#[derive(Clone)]
struct Region<'a> {
    /// The selectors that the pods must match (true) or must not match (false).
    demands: Vec<(Cow<'a, Selector>, bool)>,
    /// True if the set is known to be empty without a proof.
    is_empty: bool,
}

impl<'a> Region<'a> {
    fn of(subject: Subject<'a>) -> Self {
        let mut demands = Vec::new();
        if let Subject::Each(pods) = subject {
            demands.extend(pods.labels.as_ref().map(|labels| (Cow::Borrowed(labels), true)));
            if let Namespaces::Matching(namespaces) = &pods.namespaces {
                demands.push((Cow::Owned(namespaces.on(Owner::Namespace)), true));
            }
        }
        Self { demands, is_empty: false }
    }

    /// The empty set.
    fn none() -> Self {
        Self { demands: Vec::new(), is_empty: true }
    }

    /// The subset that is in the share.
    fn within(&self, share: &Covered<'a>) -> Self {
        let mut within = self.clone();
        if let Covered::Part(selector) = share {
            within.demands.push((selector.clone(), true));
        }
        within
    }

    /// Removes the pods that are in the share.
    fn leave_out(&mut self, share: &Covered<'a>, budget: &mut usize) {
        match share {
            Covered::Whole => self.is_empty = true,
            Covered::Part(selector) => {
                // A selector that excludes the subject would only lengthen the proof.
                let subject = self.demands.first().filter(|(_, holds)| *holds);
                let mut excludes =
                    |subject: &Selector| Selector::contradictory(&[(subject, true), (selector.as_ref(), true)], budget);
                if !subject.is_some_and(|(subject, _)| excludes(subject)) {
                    self.demands.push((selector.clone(), false));
                }
            }
        }
    }

    /// Returns true if it is proved that the set is empty.
    fn is_surely_empty(&self, budget: &mut usize) -> bool {
        let demands: Vec<(&Selector, bool)> =
            self.demands.iter().map(|(selector, holds)| (selector.as_ref(), *holds)).collect();
        self.is_empty || Selector::contradictory(&demands, budget)
    }
}

impl Rule {
    /// Returns true if the rule matches this traffic with this end. `None` if that is unknown.
    #[must_use]
    pub fn means(&self, other: &End<'_>, traffic: Traffic<'_>, around: &dyn Surroundings) -> Option<bool> {
        let traffic = match (traffic, self.action) {
            // A rule stops an arbitrary port only if it stops all ports.
            (Traffic::SomePort, Action::Deny | Action::Pass) => {
                Some(Protocol::WITH_PORTS.iter().all(|protocol| self.ports.known_numbers(*protocol).is_all()))
            }
            (traffic, _) => self.ports.mean(traffic),
        };
        let conditions = if self.conditions.is_empty() { Some(true) } else { None };
        if traffic == Some(false) {
            return traffic;
        }
        let peers = self.peers.mean(other, around);
        // If the Service is known to lead to this end, its ports match.
        let traffic = match (&self.ports, peers) {
            (Ports::OfService(_), Some(true)) => Some(true),
            _ => traffic,
        };
        super::ternary::all_of([traffic, peers, conditions])
    }
}
