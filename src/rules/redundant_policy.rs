//! See [`RedundantPolicy`].

use std::collections::HashSet;

use super::{Case, Findings, Rule};
use crate::model::{
    Action, BUDGET, Direction, Entity, Namespaces, Order, Path, Peers, Policy, Ports, Rule as TrafficRule, Side, Stage,
    Standing, Who,
};

rule! {
    /// All that a policy, or a rule of it, does is done without it.
    ///
    /// ## Why
    ///
    /// What changes nothing is read all the same, and believed: whoever closes the port in the policy that they found wonders
    /// why it stays open. Most often it is what is left of a policy that was split, or somebody's copy of the baseline.
    ///
    /// ## What it looks at
    ///
    /// A policy that allows something is redundant if other policies together, for the same pods, let through all that it
    /// does and isolate every direction that it isolates: without it nothing changes. One that is there to isolate is not.
    /// Where policies make up for each other, offline those whose names sort last are named, so that all that are named can go
    /// at once; on a cluster it is the one at hand.
    ///
    /// A rule is redundant if another one of the same policy and action covers it. Where the rules have an order it is an
    /// earlier one, which decides first, whatever its action.
    ///
    /// All of this is proved, or nothing is said: by labels, blocks of addresses and ports, for what can be told from the
    /// policies. A rule with conditions, one that filters requests or lookups, and a peer that is not understood are never
    /// redundant. Nor is anything proved of policies whose manifest names no namespace: who knows where they go.
    ///
    /// - NetworkPolicy, Cilium: policies and rules. A rule of Cilium's with `rules.dns` tells the agent the addresses of
    ///   names, and so is never redundant; nor is a policy that denies.
    /// - Calico, ClusterNetworkPolicy: rules only, since the order of policies decides more than what is in them.
    ///
    /// A policy without rules that allow is a matter of `explicit-default-deny`. Policies whose names are reserved for the
    /// baseline controller are not judged, and count for others, but for those of an open hatch: it will be closed.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-gateway
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: gateway
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: web-from-gateway
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: web
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: gateway
    ///       podSelector:
    ///         matchLabels:
    ///           app: proxy
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-gateway
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: web
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: gateway
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: web-metrics
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: web
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: gateway
    ///     ports:
    ///     - protocol: TCP
    ///       port: 9090
    /// ```
    ///
    /// ## Settings
    ///
    /// - `policies`: `false` does not compare policies with each other. `true` by default.
    /// - `rules`: `false` does not compare the rules of one policy. `true` by default.
    "redundant-policy", Warn,
    pub struct RedundantPolicy {
        policies: bool,
        rules: bool,
    }
}

impl Default for RedundantPolicy {
    fn default() -> Self {
        Self { policies: true, rules: true }
    }
}

/// How many rules of one side are compared with each other.
const MOST_RULES: usize = 100;

impl Rule for RedundantPolicy {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.written().is_none_or(|object| case.site.is_reserved(&object.id)) {
            return;
        }
        let mut budget = BUDGET;
        for (at, policy) in case.policies().iter().enumerate() {
            let others = if self.policies { makes_up_for(case, at, policy, &mut budget) } else { None };
            if let Some(others) = others {
                // Of a warning only the start is read, so what stays comes first.
                let verbs = if others.len() == 1 { ("allows", "isolates") } else { ("allow", "isolate") };
                let message = text!(
                    "{} {} all that the policy allows for {}, and {} them as it does: without it nothing changes",
                    named(&others),
                    verbs.0,
                    policy.subject,
                    verbs.1
                );
                let help = "remove it, or say in it what the others do not".to_owned();
                findings.add::<Self>(case, policy.subject_path.parent(), message, help, None);
            } else if self.rules {
                for (direction, side) in policy.sides() {
                    check_side(case, findings, policy, (direction, side), &mut budget);
                }
            }
        }
    }
}

/// Which other policies do all that a policy does, if that is proved and they stay: no more of them than it takes.
fn makes_up_for<'a>(case: &Case<'a>, at: usize, policy: &'a Policy, budget: &mut usize) -> Option<Vec<&'a Policy>> {
    let mut others = made_up_for(case, policy, budget)?;
    loop {
        // Those that stay whatever is said of this one go before those of which that has to be found out.
        others.sort_by(|a, b| {
            (is_judged_later(case, at, policy, a), &a.object).cmp(&(is_judged_later(case, at, policy, b), &b.object))
        });
        let mut needed = others.clone();
        for other in others.iter().rev() {
            let without: Vec<&Policy> =
                needed.iter().copied().filter(|needed| !std::ptr::eq(*needed, *other)).collect();
            if do_all(case, policy, &without, budget) {
                needed = without;
            }
        }
        // What may be called redundant itself must not be what makes this one redundant: whoever removes both is left with
        // neither. What comes earlier may: it is made up for by what is left. Each is proved as if it were the only one.
        let goes = |other: &&Policy| {
            is_judged_later(case, at, policy, other)
                && !case.site.is_reserved(&other.object)
                && made_up_for(case, other, &mut { BUDGET }).is_some()
        };
        let Some(gone) = needed.iter().copied().find(goes) else {
            needed.sort_by(|a, b| a.object.cmp(&b.object));
            return Some(needed);
        };
        others.retain(|other| !std::ptr::eq(*other, gone));
        if !do_all(case, policy, &others, budget) {
            return None;
        }
    }
}

/// Whether another policy is one of those that come after a policy where several could be called redundant: those that come
/// later in the same object, and in files those of objects that come later by their names. On a cluster only the one at hand
/// is judged.
fn is_judged_later(case: &Case<'_>, at: usize, policy: &Policy, other: &Policy) -> bool {
    match case.policies().iter().position(|own| std::ptr::eq(own, other)) {
        Some(place) => place > at,
        None => !case.view.is_whole() && other.object > policy.object,
    }
}

/// All that may do what a policy does, if it is proved that together they do.
fn made_up_for<'a>(case: &Case<'a>, policy: &'a Policy, budget: &mut usize) -> Option<Vec<&'a Policy>> {
    let only_allows = policy.sides().all(|(_, side)| side.rules.iter().all(|rule| rule.action == Action::Allow));
    let is_something =
        |rule: &TrafficRule| rule.peers != Peers::Only(Vec::new()) && rule.ports != Ports::Only(Vec::new());
    let allows = policy.allow_rules().any(|(_, rule)| is_something(rule));
    let is_somewhere = policy.subject.namespaces != Namespaces::Own(None);
    if !adds_up(policy) || !only_allows || !allows || !is_somewhere {
        return None;
    }
    let mut others = case.after().policies_for(&policy.subject);
    // What has an order and stands at the same place is asked between two policies that add up, by their names.
    let is_between = |other: &&Policy| {
        other.stage == Stage::Policies
            && other.order != Order::Additive
            && other.order.position() == Order::Additive.position()
    };
    if others.iter().any(is_between) {
        return None;
    }
    others.retain(|other| {
        adds_up(other)
            && !std::ptr::eq(*other, policy)
            && policy.subject.have(&other.subject, case.view) != Some(false)
            && !is_of_a_hatch(case, other)
    });
    do_all(case, policy, &others, budget).then_some(others)
}

/// Whether a policy is there for an open hatch, and so will be gone again: the controller put it there for one, or it has a
/// name that is the controller's and allows everything, which no baseline does.
fn is_of_a_hatch(case: &Case<'_>, policy: &Policy) -> bool {
    let owned = match &policy.object.namespace {
        Some(namespace) => case.view.namespace(namespace).map(|facts| facts.owned.as_slice()).unwrap_or_default(),
        None => case.view.owned_of_cluster(),
    };
    let is_everything = |peers: &Peers| match peers {
        Peers::Any => true,
        Peers::Only(peers) => peers.iter().any(|peer| peer.who == Who::Entity(Entity::All)),
    };
    owned.iter().any(|owned| &*owned.layer == "hatch" && owned.object.is_same_object(&policy.object))
        || case.site.is_reserved(&policy.object)
            && policy.allow_rules().any(|(_, rule)| rule.ports == Ports::Any && is_everything(&rule.peers))
}

/// Whether a policy is one of those of which it does not matter which is asked first.
fn adds_up(policy: &Policy) -> bool {
    (policy.standing, &policy.stage, policy.order) == (Standing::InForce, &Stage::Policies, Order::Additive)
}

/// Whether it is proved that these policies isolate where another one does, and let through what it does.
fn do_all(case: &Case<'_>, policy: &Policy, others: &[&Policy], budget: &mut usize) -> bool {
    policy.sides().all(|(direction, side)| {
        let isolating = others.iter().filter(|other| other.side(direction).isolates).map(|other| &other.subject);
        policy.allows_no_more_than(direction, others, case.view, budget)
            && (!side.isolates || policy.subject.are_covered(isolating, case.view, budget))
    })
}

/// Names of policies, and how many more there are.
fn named(policies: &[&Policy]) -> String {
    const MOST: usize = 3;
    let names: Vec<String> = policies.iter().take(MOST).map(|policy| policy.object.to_string()).collect();
    match policies.len().saturating_sub(MOST) {
        0 => names.join(" and "),
        more => text!("{} and {more} more", names.join(", ")),
    }
}

/// Rules of one side that others of it make up for.
fn check_side(
    case: &Case<'_>,
    findings: &mut Findings,
    policy: &Policy,
    (direction, side): (Direction, &Side),
    budget: &mut usize,
) {
    let has_order = policy.order != Order::Additive;
    let covers = |by: usize, rule: usize, budget: &mut usize| -> bool {
        let (Some(one), Some(other)) = (side.rules.get(by), side.rules.get(rule)) else { return false };
        let may = if has_order { by < rule && one.action != Action::Log } else { one.action == other.action };
        may && one.path != other.path && one.covers(other, case.view, budget)
    };
    let count = side.rules.len().min(MOST_RULES);
    // What is written as one rule may stand for several.
    let mut redundant: Vec<(usize, usize)> = Vec::new();
    let mut needed: HashSet<&Path> = HashSet::new();
    for (at, rule) in side.rules.iter().enumerate() {
        // Of two that say the same the later one is named.
        let made_up = (0..count)
            .filter(|_| at < count)
            .find(|by| covers(*by, at, budget) && (*by < at || !covers(at, *by, budget)));
        match made_up {
            Some(by) => redundant.push((at, by)),
            None => {
                needed.insert(&rule.path);
            }
        }
    }
    let mut reported: Option<&Path> = None;
    for (rule, by) in redundant {
        let (Some(rule), Some(by)) = (side.rules.get(rule), side.rules.get(by)) else { continue };
        if needed.contains(&rule.path) || reported == Some(&rule.path) {
            continue;
        }
        reported = Some(&rule.path);
        let preposition = if direction == Direction::Ingress { "from" } else { "to" };
        let message = if has_order {
            text!(
                "an earlier rule, for {} on {}, decides all of this one, which is never asked: {direction} {preposition} {} \
                 on {}",
                by.peers,
                by.ports,
                rule.peers,
                rule.ports
            )
        } else {
            text!(
                "another rule, for {} on {}, means all of this one, which adds nothing: {direction} {preposition} {} on {}",
                by.peers,
                by.ports,
                rule.peers,
                rule.ports
            )
        };
        let help = if has_order && rule.action != by.action {
            "put it before the other one, or remove it"
        } else {
            "remove it"
        };
        findings.add::<RedundantPolicy>(case, rule.path.clone(), message, help.into(), None);
    }
}
