//! The traffic that a change of the profile cuts off, and the traffic that other policies still allow.

use super::scope::{NAMED_POLICIES, POLICIES, concerning};
use crate::model::{
    Action, Allowance, Direction, NAME_LABEL, Namespaces, Object, Peers, Pods, Policy, Rule, Stage, Standing, Who,
    uncovered,
};
use crate::view::{Scene, Site, View};

/// The traffic that the old profile allows, and that neither the new profile nor another policy of the namespace
/// allows. None if the comparison exceeds its limit.
pub(super) fn cuts(
    site: &Site,
    view: &View,
    namespace: &Object,
    (when, before, profile): (&str, &str, &str),
    old: &[&Policy],
    new: &[&Policy],
) -> Option<Vec<String>> {
    let name = &*namespace.id.name;
    // Policies that both profiles have keep their effect.
    let old = within(name, old.iter().copied().filter(|policy| !new.contains(policy)));
    let after = within(name, new.iter().copied().chain(others(site, view, namespace)));
    let cut = uncovered(&all(&old), &all(&after), &Scene::with(view, namespace))?;
    let mut lines: Vec<String> = Vec::new();
    for cut in &cut {
        let line = format!("{when}profile {profile} cuts {}, which {before} allows", words(cut));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Some(lines)
}

/// Policies of other authors that allow ingress from anywhere or egress to anywhere, which the profile does not allow.
/// None if the comparison exceeds its limit.
pub(super) fn what_stays_open(site: &Site, view: &View, namespace: &Object, due: &[&Policy]) -> Option<Vec<String>> {
    let is_open = |rule: &Rule| match &rule.peers {
        Peers::Any => true,
        Peers::Only(peers) => peers.iter().any(|peer| peer.who.is_anywhere()),
    };
    let name = &*namespace.id.name;
    let mut others = within(name, others(site, view, namespace));
    for side in others.iter_mut().flat_map(|policy| [&mut policy.ingress, &mut policy.egress]) {
        side.rules.retain(is_open);
    }
    let due = within(name, due.iter().copied());
    let left = uncovered(&all(&others), &all(&due), &Scene::with(view, namespace))?;
    let first = |policy: &Policy| left.iter().find(|left| std::ptr::eq(left.policy, policy));
    let stays_open = |policy: &Policy| Some(format!("{} still allows {}", policy.object, words(first(policy)?)));
    Some(others.iter().filter_map(stays_open).take(NAMED_POLICIES).collect())
}

/// The policies for the namespace that the controller did not write.
fn others<'a>(site: &'a Site, view: &'a View, namespace: &'a Object) -> impl Iterator<Item = &'a Policy> {
    concerning(view, namespace).filter(|policy| !site.is_reserved(&policy.object)).take(POLICIES)
}

/// The additive part of the enforced policies for a namespace, converted to policies of that namespace. Deny rules and
/// other stages are left out, because they apply under every profile.
fn within<'a>(namespace: &str, policies: impl Iterator<Item = &'a Policy>) -> Vec<Policy> {
    let adding_up = policies.filter(|policy| policy.standing == Standing::InForce && policy.stage == Stage::Policies);
    let narrowed = adding_up.cloned().map(|mut policy| {
        policy.subject.namespaces = Namespaces::Own(Some(namespace.into()));
        for side in [&mut policy.ingress, &mut policy.egress] {
            side.rules.retain(|rule| rule.action == Action::Allow);
        }
        policy
    });
    narrowed.collect()
}

fn all(policies: &[Policy]) -> Vec<&Policy> {
    policies.iter().collect()
}

/// Describes the remaining part of a rule.
fn words(left: &Allowance<'_>) -> String {
    let way = match left.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    format!("{} {way} {} on {}", left.direction, shortly(&left.peers), left.ports)
}

/// Describes peers briefly enough for a warning.
fn shortly(peers: &Peers) -> String {
    if peers.listed().is_empty() || peers.listed().iter().any(|peer| peer.who.is_anywhere()) {
        return if *peers == Peers::Only(Vec::new()) { peers.to_string() } else { Peers::Any.to_string() };
    }
    let mut texts: Vec<String> = Vec::new();
    let is_everywhere = |is_v4: bool| {
        let mut blocks = peers
            .listed()
            .iter()
            .filter_map(|peer| if let Who::Addresses(block) = &peer.who { Some(block) } else { None });
        blocks.any(|block| block.net.prefix_len() == 0 && block.net.addr().is_ipv4() == is_v4)
    };
    let anywhere = match (is_everywhere(true), is_everywhere(false)) {
        (true, false) => "anywhere in IPv4 except some CIDRs",
        (false, true) => "anywhere in IPv6 except some CIDRs",
        _ => "anywhere except some CIDRs",
    };
    for peer in peers.listed() {
        let text = match &peer.who {
            Who::Addresses(block) if block.net.prefix_len() == 0 => anywhere.to_owned(),
            Who::Pods(Pods { namespaces: Namespaces::Matching(selector), .. }) => {
                match selector.values_of(NAME_LABEL) {
                    Some([name]) => format!("pods in {name}"),
                    _ => peer.who.to_string(),
                }
            }
            who => who.to_string(),
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(1);
    texts.truncate(1);
    let first = texts.concat();
    if more > 0 { format!("{first} and {more} more") } else { first }
}
