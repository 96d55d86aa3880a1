//! See [`RedundantPolicy`].

use std::collections::HashSet;

use super::{Case, Findings, Rule};
use crate::model::{
    Action, BUDGET, Direction, Entity, Namespaces, Order, Path, Peers, Policy, Ports, Rule as TrafficRule, Side, Stage,
    Standing, Who,
};

rule! {
    /// A policy, or a rule of it, does nothing that other policies or rules do not already do.
    ///
    /// ## Why
    ///
    /// A redundant policy misleads its readers: a user who closes a port in the policy that they found does not see why
    /// the port stays open. Most redundant policies are leftovers of a policy that was split, or copies of the
    /// baseline.
    ///
    /// ## What it checks
    ///
    /// A policy with allow rules is redundant if other policies together, for the same pods, allow everything that it
    /// allows and isolate every direction that it isolates. A policy without allow rules is not redundant. If several
    /// policies are redundant because of each other, the rule reports only as many as can be deleted together: offline
    /// those whose names sort last, on a cluster the policy under review.
    ///
    /// A rule is redundant if another rule of the same policy with the same action covers it. In ordered policies it is
    /// redundant if an earlier rule with any action covers it, because the earlier rule decides first.
    ///
    /// A finding is always proved, from labels, CIDRs and ports. Rules with conditions, rules that filter
    /// requests or DNS lookups, and peers that Portcullis does not understand are never redundant. Policies whose
    /// manifest has no namespace are not compared, because it is unknown where they will be applied.
    ///
    /// - NetworkPolicy, Cilium: policies and rules. A Cilium rule with `rules.dns` tells the agent the addresses of
    ///   names, so it is never redundant. A policy with deny rules is not redundant either.
    /// - Calico, ClusterNetworkPolicy: rules only, because the effect of a policy also depends on its order.
    ///
    /// A policy without allow rules is checked by `explicit-default-deny`. Policies with a name reserved for the
    /// baseline controller are not checked, but count when other policies are checked. The policies of an open escape
    /// hatch do not count, because they will be deleted.
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
    /// - `policies`: `false` skips the comparison of policies. `true` by default.
    /// - `rules`: `false` skips the comparison of rules within a policy. `true` by default.
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

/// Maximum number of rules of one side that are compared with each other.
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
                // Warnings are cut after their start, so the remaining policies come first.
                let verbs = if others.len() == 1 { "allows and isolates" } else { "allow and isolate" };
                let message = text!(
                    "redundant: {} already {verbs} everything that this policy does for {}",
                    named(&others),
                    policy.subject
                );
                let help = "delete the policy".to_owned();
                findings.add::<Self>(case, policy.subject_path.parent(), message, help, None);
            } else if self.rules {
                for (direction, side) in policy.sides() {
                    check_side(case, findings, policy, (direction, side), &mut budget);
                }
            }
        }
    }
}

/// Finds the smallest list of other policies that do everything that a policy does, if that is proved and these
/// policies stay.
fn makes_up_for<'a>(case: &Case<'a>, at: usize, policy: &'a Policy, budget: &mut usize) -> Option<Vec<&'a Policy>> {
    let mut others = made_up_for(case, policy, budget)?;
    loop {
        // Policies that stay in any case come before policies that may be redundant themselves.
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
        // A policy that may be reported as redundant itself must not justify this finding: a user who deletes both
        // would lose the traffic. An earlier policy may, because it is then covered by the remaining ones. Each proof
        // gets the full budget.
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

/// Returns true if the other policy comes after this one in the order in which redundant policies are reported: later
/// in the same object, or offline in an object with a later name. On a cluster only the object under review is
/// reported.
fn is_judged_later(case: &Case<'_>, at: usize, policy: &Policy, other: &Policy) -> bool {
    match case.policies().iter().position(|own| std::ptr::eq(own, other)) {
        Some(place) => place > at,
        None => !case.view.is_whole() && other.object > policy.object,
    }
}

/// All policies that may contribute, if it is proved that together they do everything that a policy does.
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
    // An ordered policy at the same position is evaluated between two additive policies, in order of their names.
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

/// Returns true if a policy exists only while an escape hatch is open: the controller created it for the hatch, or it
/// has a reserved name and allows everything, which no baseline does.
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

/// Returns true if a policy is additive, so that the order of evaluation does not matter.
fn adds_up(policy: &Policy) -> bool {
    (policy.standing, &policy.stage, policy.order) == (Standing::InForce, &Stage::Policies, Order::Additive)
}

/// Returns true if it is proved that these policies isolate every direction that a policy isolates, and allow
/// everything that it allows.
fn do_all(case: &Case<'_>, policy: &Policy, others: &[&Policy], budget: &mut usize) -> bool {
    policy.sides().all(|(direction, side)| {
        let isolating = others.iter().filter(|other| other.side(direction).isolates).map(|other| &other.subject);
        policy.allows_no_more_than(direction, others, case.view, budget)
            && (!side.isolates || policy.subject.are_covered(isolating, case.view, budget))
    })
}

/// The names of the first policies, and the number of the others.
fn named(policies: &[&Policy]) -> String {
    const MOST: usize = 3;
    let names: Vec<String> = policies.iter().take(MOST).map(|policy| policy.object.to_string()).collect();
    match policies.len().saturating_sub(MOST) {
        0 => names.join(" and "),
        more => text!("{} and {more} more", names.join(", ")),
    }
}

/// Reports rules of one side that other rules of the side cover.
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
    // One rule as written may be several rules in the model.
    let mut redundant: Vec<(usize, usize)> = Vec::new();
    let mut needed: HashSet<&Path> = HashSet::new();
    for (at, rule) in side.rules.iter().enumerate() {
        // Of two equal rules the later one is reported.
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
        let preposition = direction.preposition();
        let message = if has_order {
            text!(
                "unreachable rule: the earlier rule for {} on {} already decides {direction} {preposition} {} on {}",
                by.peers,
                by.ports,
                rule.peers,
                rule.ports
            )
        } else {
            text!(
                "redundant rule: the rule for {} on {} already covers {direction} {preposition} {} on {}",
                by.peers,
                by.ports,
                rule.peers,
                rule.ports
            )
        };
        let help = if has_order && rule.action != by.action {
            "move this rule before the other one, or remove it"
        } else {
            "remove this rule"
        };
        findings.add::<RedundantPolicy>(case, rule.path.clone(), message, help.into(), None);
    }
}
