//! What policies let through and others in their place do not, in words.

use crate::model::{
    Direction, Entity, NAME_LABEL, Namespaces, Peers, Pods, Policy, Port, Ports, Ranges, Rule, Standing, Who,
};

/// At how many rules that allow the same it looks at most.
const RULES: usize = 200;
/// At how many peers of a rule it looks at most.
const PEERS: usize = 100;

/// Every rule of these policies that lets traffic through.
pub(super) fn allowed<'a>(
    policies: &[&'a Policy],
) -> impl Iterator<Item = (Direction, &'a Policy, &'a Rule)> + use<'a> {
    let in_force: Vec<&Policy> =
        policies.iter().copied().filter(|policy| policy.standing == Standing::InForce).collect();
    in_force.into_iter().flat_map(|policy| policy.allow_rules().map(move |(direction, rule)| (direction, policy, rule)))
}

/// Whether one of these policies isolates pods in this direction. Where none does, nothing is cut.
pub(super) fn isolates(policies: &[&Policy], direction: Direction) -> bool {
    policies.iter().any(|policy| policy.standing == Standing::InForce && policy.side(direction).isolates)
}

/// What these policies do not allow of what a rule allows.
pub(super) fn not_allowed(
    direction: Direction,
    policy: &Policy,
    rule: &Rule,
    by: &[&Policy],
) -> Option<(Peers, Ports)> {
    let among: Vec<&Rule> = allowed(by)
        .filter(|(other, allowing, _)| {
            *other == direction && allowing.subject.selector().covers(&policy.subject.selector())
        })
        .map(|(_, _, allowing)| allowing)
        .filter(|allowing| is_as_wide(allowing, rule))
        .take(RULES)
        .collect();
    let is_still_allowed = |who: Option<&Who>, port: Option<&Port>| {
        among.iter().any(|allowing| has_peer(&allowing.peers, who) && has_port(allowing, port, &rule.ports))
    };
    let ports: Vec<Option<&Port>> = match &rule.ports {
        Ports::Only(ports) => ports.iter().map(Some).collect(),
        Ports::Any | Ports::But { .. } | Ports::OfService(_) => vec![None],
    };
    let cut_ports = |who: Option<&Who>| -> Vec<Option<&Port>> {
        ports.iter().copied().filter(|port| !is_still_allowed(who, *port)).collect()
    };
    let (peers, cut): (Peers, Vec<Option<&Port>>) = match &rule.peers {
        Peers::Any => (Peers::Any, cut_ports(None)),
        Peers::Only(peers) => {
            let cut: Vec<_> = peers.iter().take(PEERS).map(|peer| (peer, cut_ports(Some(&peer.who)))).collect();
            let peers = cut.iter().filter(|(_, ports)| !ports.is_empty()).map(|(peer, _)| (*peer).clone()).collect();
            let is_cut = |port: &Option<&Port>| cut.iter().any(|(_, ports)| ports.contains(port));
            (Peers::Only(peers), ports.iter().copied().filter(is_cut).collect())
        }
    };
    if cut.is_empty() {
        return None;
    }
    let listed: Option<Vec<Port>> = cut.into_iter().map(Option::<&Port>::cloned).collect();
    Some((peers, listed.map_or_else(|| rule.ports.clone(), Ports::Only)))
}

/// Whether a rule is for as many pods, on as few conditions, as another, whatever their peers and ports are.
fn is_as_wide(rule: &Rule, other: &Rule) -> bool {
    (rule.only.is_none() || rule.only == other.only)
        && (rule.within.is_none() || rule.within == other.within)
        && (rule.conditions.is_empty() || rule.conditions == other.conditions)
        && (rule.filter.is_none() || rule.filter == other.filter)
}

/// Whether these peers are known to hold this one; all of them where it is none.
fn has_peer(peers: &Peers, who: Option<&Who>) -> bool {
    let Peers::Only(peers) = peers else { return true };
    let Some(who) = who else { return false };
    peers.iter().any(|peer| match (&peer.who, who) {
        (Who::Entity(Entity::All), _) => true,
        (Who::Pods(wide), Who::Pods(narrow)) => {
            wide.namespaces == narrow.namespaces && wide.selector().covers(&narrow.selector())
        }
        (Who::Addresses(wide), Who::Addresses(narrow)) => {
            (wide.inside || !narrow.inside) && wide.addresses().covers(&narrow.addresses())
        }
        (wide, narrow) => wide == narrow,
    })
}

/// Whether a rule is known to be for this port; for all of these where it is none.
fn has_port(rule: &Rule, port: Option<&Port>, all: &Ports) -> bool {
    match (&rule.ports, port) {
        (Ports::Any, _) => true,
        (Ports::Only(ports), Some(port)) => {
            let numbers = port.protocol.zip(port.known_numbers());
            ports.iter().any(|own| (own.protocol, &own.numbers) == (port.protocol, &port.numbers))
                || numbers.is_some_and(|(protocol, (first, last))| {
                    rule.ports.known_numbers(protocol).covers(&Ranges::between(first, last))
                })
        }
        (own, None) => own == all,
        (_, Some(_)) => false,
    }
}

/// What is left of a rule, in words.
pub(super) fn words(direction: Direction, (peers, ports): &(Peers, Ports)) -> String {
    let way = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    format!("{direction} {way} {} on {ports}", shortly(peers))
}

/// Peers in as few words as a warning has room for.
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
        (true, false) => "anywhere in IPv4 but some blocks",
        (false, true) => "anywhere in IPv6 but some blocks",
        _ => "anywhere but some blocks",
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
