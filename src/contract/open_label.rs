//! The labels on which an undecided connection depends.

use crate::budget::charge;
use crate::model::{
    Action, Answer, End, Fact, NAME_LABEL, Namespaces, Owner, Peers, Pods, Question, Selector, Surroundings, Who,
};

use super::Doubt;

/// A label of one of the two pods.
pub(super) struct Label {
    pub(super) at: usize,
    pub(super) owner: Owner,
    pub(super) key: Box<str>,
}

/// Finds an unknown label that decides whether a selector matches, among those that may be chosen.
fn open_in<'n>(
    selector: &'n Selector,
    known: &dyn Fn(Owner, &str) -> Fact<'n>,
    can_choose: &dyn Fn(Owner, &str) -> bool,
) -> Option<(Owner, &'n str)> {
    charge(1);
    match selector {
        Selector::All(parts) | Selector::Any(parts) => {
            let mut open = parts.iter().filter(|part| part.decided(known).is_none());
            open.find_map(|part| open_in(part, known, can_choose))
        }
        Selector::Not(part) => open_in(part, known, can_choose),
        Selector::Label(label) => {
            let is_open = known(label.owner, &label.key) == Fact::Unknown && can_choose(label.owner, &label.key);
            is_open.then_some((label.owner, &*label.key))
        }
    }
}

/// The facts that say which labels are open.
pub(super) struct Facts<'n> {
    pub(super) around: &'n dyn Surroundings,
    /// For each end, true if it is a pod that could exist.
    pub(super) are_open: [bool; 2],
    /// For each end, its namespace if the labels of the namespace are open.
    pub(super) open_namespaces: [Option<&'n str>; 2],
}

impl Facts<'_> {
    /// A label that decides an undecided answer, or the reason why no label does.
    pub(super) fn in_answer(
        &self,
        at: usize,
        [from, to]: [End<'_>; 2],
        question: &Question<'_>,
        answer: &Answer<'_>,
    ) -> (Option<Label>, Doubt) {
        let (own, other) = if at == 0 { (from, to) } else { (to, from) };
        let passes = answer.passes();
        let mut doubt = None;
        for assumption in &answer.assumed {
            charge(1);
            let policy = assumption.policy;
            let Some(rule) = assumption.rule else {
                if !answer.depends_on(policy, question, self.around) {
                    continue;
                }
                if let Some(label) = self.in_pods(&policy.subject, at, &own) {
                    return (Some(label), Doubt::TooComplex);
                }
                doubt.get_or_insert_with(|| format!("it is unknown whether {} applies", policy.object));
                continue;
            };
            let matters = match rule.action {
                Action::Pass => true,
                Action::Allow => !passes,
                Action::Deny => passes,
                Action::Log => false,
            };
            if !matters {
                continue;
            }
            let only = rule.only.as_ref().and_then(|only| self.in_selector(only, at, &own));
            if let Some(label) = only.or_else(|| self.in_peers(&rule.peers, 1 - at, &other)) {
                return (Some(label), Doubt::TooComplex);
            }
            doubt.get_or_insert_with(|| format!("it is unknown whether {} of {} matches", rule.path, policy.object));
        }
        (None, Doubt::Facts(doubt.unwrap_or_default()))
    }

    fn in_peers(&self, peers: &Peers, at: usize, end: &End<'_>) -> Option<Label> {
        let mut open = peers.listed().iter().filter(|peer| peer.means(end, self.around).is_none());
        open.find_map(|peer| self.in_who(&peer.who, at, end))
    }

    fn in_who(&self, who: &Who, at: usize, end: &End<'_>) -> Option<Label> {
        charge(1);
        if who.means(end, self.around).is_some() {
            return None;
        }
        match who {
            Who::Pods(pods) => self.in_pods(pods, at, end),
            Who::All(parts) => parts.iter().find_map(|part| self.in_who(part, at, end)),
            Who::Not(part) => self.in_who(part, at, end),
            _ => None,
        }
    }

    /// A label that decides whether a pod is among these.
    pub(super) fn in_pods(&self, pods: &Pods, at: usize, end: &End<'_>) -> Option<Label> {
        let End::Pod(endpoint) = end else { return None };
        match (pods.namespaces.mean(endpoint.namespace, self.around), &pods.namespaces) {
            (Some(false), _) => return None,
            (None, Namespaces::Matching(selector)) if self.is_open(endpoint.namespace) => {
                let known = |_, key: &str| self.around.namespace_label(endpoint.namespace, key);
                if let Some((_, key)) = open_in(selector, &known, &|_, _| true) {
                    return Some(Label { at, owner: Owner::Namespace, key: key.into() });
                }
            }
            _ => {}
        }
        self.in_selector(pods.labels.as_ref()?, at, end)
    }

    fn is_open(&self, namespace: &str) -> bool {
        self.open_namespaces.contains(&Some(namespace))
    }

    fn in_selector(&self, selector: &Selector, at: usize, end: &End<'_>) -> Option<Label> {
        let End::Pod(endpoint) = end else { return None };
        let [source, destination] = self.are_open;
        if !(if at == 0 { source } else { destination }) {
            return None;
        }
        let known = |owner, key: &str| endpoint.label(owner, key, self.around);
        let can_choose = |owner, key: &str| match owner {
            Owner::Itself => true,
            // The name of the service account. Its labels belong to another object.
            Owner::Account => key == NAME_LABEL,
            Owner::Namespace => self.is_open(endpoint.namespace),
        };
        let (owner, key) = open_in(selector, &known, &can_choose)?;
        Some(Label { at, owner, key: key.into() })
    }
}
