//! What the policies of a cluster, added up over all dialects, make of a connection.
//!
//! A connection has two ends, and the policies of both have to let it through: those of the sender for egress, those of the
//! receiver for ingress. [`ask`] answers for one end and one direction. The subject is one pod, or all the pods that a
//! policy concerns; of these different ones may get different answers.
//!
//! The policies are asked stage by stage ([`Stage::position`](super::Stage::position)) and within a stage by their order;
//! the first rule that means the traffic decides, and `Pass` leaves it to the next stage. Policies that add up are asked
//! together: what one of them denies is denied, then what one of them allows is allowed. At the end of a stage whose
//! policies isolate the pods, what none of them decided is dropped; elsewhere the next stage is asked, and after the last
//! one the traffic may pass.
//!
//! A rule of which it is not known whether it means the traffic counts as one that does not, whatever its action is, and
//! is named in [`Answer::assumed`].

use std::borrow::Cow;

use crate::budget::charge;

use super::{
    Action, Direction, End, Endpoint, NAME_LABEL, Namespaces, Order, Owner, Pods, Policy, Ports, Precedence, Protocol,
    Rule, Selector, Side, Stage, Surroundings, Traffic,
};

/// What is asked about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose policies are asked.
    pub subject: Subject<'a>,
    /// Whether the subject sends or receives.
    pub direction: Direction,
    /// The other end.
    pub other: End<'a>,
    /// What is sent.
    pub traffic: Traffic<'a>,
}

/// Whose policies are asked.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// One pod.
    One(Endpoint<'a>),
    /// All pods that a policy concerns.
    Each(&'a Pods),
}

/// What becomes of the connection.
#[derive(Clone, Debug, Default)]
pub struct Answer<'a> {
    /// For one pod there is one. Of several pods some get this and others that; what the policies allow or leave open is
    /// here even if no pod could get it, what they stop only if some pod may.
    pub decisions: Vec<Decision<'a>>,
    /// What was assumed.
    pub assumed: Vec<Assumption<'a>>,
}

/// What decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// No policy isolates the pods, and none stops the traffic.
    Open,
    /// A rule lets it through.
    Allowed(&'a Policy, &'a Rule),
    /// A rule stops it.
    Denied(&'a Policy, &'a Rule),
    /// These isolate the pods, and nothing lets it through.
    Isolated(Vec<&'a Policy>),
}

/// Something that is not known, and what was made of it: that it does not mean the traffic, or the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumption<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its rule; none where it is not known whether the policy concerns the pods.
    pub rule: Option<&'a Rule>,
}

impl Decision<'_> {
    /// Whether the traffic may pass.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Open | Self::Allowed(..))
    }
}

impl Answer<'_> {
    /// Whether the traffic may pass, for every pod that was asked about.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.decisions.iter().all(Decision::passes)
    }
}

/// How many steps all the proofs of one answer may take together. Past it, pods of which it is not proved that there are none
/// count as pods that there are.
const STEPS: usize = 100_000;

/// How many kinds of pods are told apart on their way from one stage to the next. Past it they are taken for all of the subject.
const REGIONS: usize = 32;

/// What these policies make of a connection. Those that are not in force are to be left out.
#[must_use]
pub fn ask<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    question: &Question<'a>,
    around: &dyn Surroundings,
) -> Answer<'a> {
    ask_within(policies, question, around, &mut { STEPS })
}

/// The same for one of many questions, which together take no more than these steps: one for each policy and each rule that
/// is looked at, and those of the proofs. Where none is left, the answer is worth nothing.
#[must_use]
pub fn ask_within<'a>(
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
        if side.rules.is_empty() && !side.isolates {
            continue;
        }
        *budget = budget.saturating_sub(1);
        charge(1 + side.rules.len() / 64);
        match question.subject.share(&policy.subject, around) {
            None => {}
            Some(Share::Unknown) => answer.assumed.push(Assumption { policy, rule: None }),
            Some(Share::Known(share)) => turns.extend(Turn::of(policy, side, share, around)),
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

/// Notes the rules of the Baseline stage that allow what policies of Cilium isolate. By the text of ClusterNetworkPolicy they are
/// never evaluated then; Cilium 1.20 evaluates them, since its default deny is only the absence of a default allow
/// (`resolvePolicyLocked` in `pkg/policy/repository.go`).
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

/// Whether it is sure that each of these pods is concerned by one of the policies.
#[must_use]
pub fn concern_all<'a>(
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

/// A question on its way through the stages.
struct Asking<'q, 'a> {
    question: &'q Question<'a>,
    around: &'q dyn Surroundings,
    answer: Answer<'a>,
    /// The pods that the stage at hand leaves to the next one.
    left: Vec<Region<'a>>,
    /// How many steps are left.
    budget: &'q mut usize,
}

impl<'a> Asking<'_, 'a> {
    /// Asks the policies of one stage about these pods.
    fn ask_stage(&mut self, stage: &[Turn<'a>], mut region: Region<'a>) {
        for turn in stage {
            let mut denied = false;
            // Those for whom rules one after the other say `Pass`.
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
                        // One of its denials is enough to know that it denies.
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
                // The first rule that fits decides, for all whom it is for.
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

    /// The part of the turn's pods that a rule is for, if it is known to mean the traffic.
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

    /// Leaves the pods for whom rules said `Pass` to the next stage.
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

    /// Leaves pods to the next stage, if there may be any.
    fn leave(&mut self, region: Region<'a>) {
        // Where nobody was told apart there is nothing to prove.
        if !region.is_empty && (self.left.is_empty() || !region.is_surely_empty(self.budget)) {
            self.left.push(region);
        }
    }
}

/// A policy when it is asked.
struct Turn<'a> {
    policy: &'a Policy,
    side: &'a Side,
    part: Part,
    share: Covered<'a>,
    /// Where its stage stands; two of the same order are told apart by their names.
    stage: (Precedence, &'a str),
    order: Precedence,
    /// Whether what its stage does not decide is dropped.
    drops: bool,
}

/// Which of a policy's rules are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Denials,
    Rest,
}

impl<'a> Turn<'a> {
    /// A policy that adds up with others denies before any of them allows.
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

    /// What tells apart policies of the same order: Calico sorts them by `name/namespace/kind`.
    fn name(&self) -> impl Iterator<Item = u8> {
        let object = &self.policy.object;
        let namespace = object.namespace.as_deref().unwrap_or_default();
        object.bare_name().bytes().chain([b'/']).chain(namespace.bytes()).chain([b'/']).chain(object.kind.bytes())
    }
}

/// The part of the subject that a policy concerns.
enum Share<'a> {
    Known(Covered<'a>),
    /// Whether it is any part, nobody knows.
    Unknown,
}

/// The part of the subject that a policy is known to concern.
#[derive(Clone, PartialEq, Eq)]
enum Covered<'a> {
    /// All of it.
    Whole,
    /// What this selects, which may be nothing and may be all.
    Part(Cow<'a, Selector>),
}

impl<'a> Subject<'a> {
    /// The part of it that is among these pods; none if there is surely none.
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
        // Labels of pods first: what needs no proof.
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

    /// The part of a share that a rule is for.
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
            // Which addresses pods get is not known.
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

/// Pods of the subject about which nothing is decided yet.
#[derive(Clone)]
struct Region<'a> {
    /// What selects them: those that meet all of these.
    demands: Vec<(Cow<'a, Selector>, bool)>,
    /// Whether there are surely none, without a proof.
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

    /// No pods.
    fn none() -> Self {
        Self { demands: Vec::new(), is_empty: true }
    }

    /// Those of them that are a part of the share.
    fn within(&self, share: &Covered<'a>) -> Self {
        let mut within = self.clone();
        if let Covered::Part(selector) = share {
            within.demands.push((selector.clone(), true));
        }
        within
    }

    /// Takes those away that are a part of the share.
    fn leave_out(&mut self, share: &Covered<'a>, budget: &mut usize) {
        match share {
            Covered::Whole => self.is_empty = true,
            Covered::Part(selector) => {
                // One that means none of these pods would only lengthen the proof.
                let subject = self.demands.first().filter(|(_, holds)| *holds);
                let mut excludes =
                    |subject: &Selector| Selector::contradictory(&[(subject, true), (selector.as_ref(), true)], budget);
                if !subject.is_some_and(|(subject, _)| excludes(subject)) {
                    self.demands.push((selector.clone(), false));
                }
            }
        }
    }

    /// Whether it is proved that there are none.
    fn is_surely_empty(&self, budget: &mut usize) -> bool {
        let demands: Vec<(&Selector, bool)> =
            self.demands.iter().map(|(selector, holds)| (selector.as_ref(), *holds)).collect();
        self.is_empty || Selector::contradictory(&demands, budget)
    }
}

impl Rule {
    /// Whether the rule means this traffic with this end, if that is known.
    #[must_use]
    pub fn means(&self, other: &End<'_>, traffic: Traffic<'_>, around: &dyn Surroundings) -> Option<bool> {
        let traffic = match (traffic, self.action) {
            // To stop whichever port somebody wants, a rule has to stop all of them.
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
        // Where a Service is known to lead there, it is by its ports.
        let traffic = match (&self.ports, peers) {
            (Ports::OfService(_), Some(true)) => Some(true),
            _ => traffic,
        };
        super::ternary::all_of([traffic, peers, conditions])
    }
}
