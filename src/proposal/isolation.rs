//! Pods and namespaces that few others reach.

use crate::model::{BUDGET, Demand, Direction, Extent, Labels, Namespaces, Party, Pods, PortSpan, Selector};

use super::candidate::{Candidate, Form, Kind};
use super::groups::{Group, Place, pods};
use super::names::name;
use super::owners::owner;
use super::sources::{NamedPorts, Port, ports, sources};

/// Maximum number of sources of a contract. More of them do not look intended.
const MAX_SOURCES: usize = 4;

/// Maximum number of sources with those that rules allow by the name of a port.
const MAX_WITH_NAMED_PORTS: usize = 8;

/// Maximum number of ports of a group for which sources are compared.
const MAX_PORTS: usize = 16;

/// Adds the candidates for a namespace and its pods.
pub(super) fn add(place: &Place<'_>, candidates: &mut Vec<Candidate>) {
    if place.isolates(&place.members, Direction::Ingress) {
        candidates.extend(of_namespace(place));
    }
    for group in place.isolated_groups(Direction::Ingress) {
        of_group(place, &group, candidates);
    }
}

/// Every pod except these.
fn all_except(except: Vec<Pods>) -> Party {
    Party::Pods { pods: Pods { namespaces: Namespaces::Matching(Selector::everything()), labels: None }, except }
}

/// Describes pods.
fn listed(pods: &[Pods]) -> String {
    let name = |pods: &Pods| Party::Pods { pods: pods.clone(), except: Vec::new() }.to_string();
    if pods.is_empty() { "none".to_owned() } else { pods.iter().map(name).collect::<Vec<_>>().join(", ") }
}

fn of_namespace(place: &Place<'_>) -> Option<Candidate> {
    let own = pods(place.name, &Labels::default());
    let found = sources(place, &place.members, None, NamedPorts::Anywhere)?;
    let foreign: Vec<Pods> = found.into_iter().filter(|source| !is_in(place, source)).collect();
    if foreign.len() >= MAX_SOURCES {
        return None;
    }
    let why = format!(
        "pods in namespace {} are isolated for ingress; allowed from other namespaces: {}",
        place.name,
        listed(&foreign)
    );
    let rank = foreign.len();
    let from = vec![all_except([vec![own], foreign].concat())];
    let form = Form { extent: Extent::Any, from, to: vec![place.party(&Labels::default())], ports: Vec::new() };
    Some(Candidate {
        kind: Kind::IsolatedNamespace,
        rank,
        namespace: place.name.to_owned(),
        name: name(&[place.name, "sources"]),
        why,
        owner: owner(place.facts, &[]),
        demand: Demand::MustNotReach,
        forms: form.for_both_extents(),
    })
}

/// Returns true if pods are only those of the namespace.
fn is_in(place: &Place<'_>, source: &Pods) -> bool {
    let own = pods(place.name, &Labels::default());
    own.covers(source, place.view, &mut { BUDGET })
}

/// Adds a candidate for each list of sources: the ports with the same sources are in one contract.
fn of_group(place: &Place<'_>, group: &Group<'_>, candidates: &mut Vec<Candidate>) {
    let ports = ports(place, &group.members);
    let mut by_sources: Vec<(Vec<Pods>, Vec<Port>)> = Vec::new();
    if ports.is_empty() {
        by_sources.extend(sources(place, &group.members, None, NamedPorts::AsListed).map(|found| (found, Vec::new())));
    }
    for port in ports.into_iter().take(MAX_PORTS) {
        let Some(found) = sources(place, &group.members, Some(port), NamedPorts::AsListed) else { continue };
        match by_sources.iter_mut().find(|(sources, _)| *sources == found) {
            Some((_, ports)) => ports.push(port),
            None => by_sources.push((found, vec![port])),
        }
    }
    by_sources.retain(|(sources, _)| sources.len() <= MAX_SOURCES);
    candidates.extend(by_sources.iter().map(|(sources, ports)| of_ports(place, group, sources, ports)));
}

fn of_ports(place: &Place<'_>, group: &Group<'_>, exact: &[Pods], ports: &[Port]) -> Candidate {
    let mut lists = vec![exact.to_vec()];
    // A pod may give a name that a rule allows to any of its ports.
    let wider: Vec<Pods> = ports
        .iter()
        .filter_map(|port| sources(place, &group.members, Some(*port), NamedPorts::Anywhere))
        .max_by_key(Vec::len)
        .unwrap_or_default();
    if wider.len() <= MAX_WITH_NAMED_PORTS && wider.len() > exact.len() {
        lists.push(wider);
    }
    let spans: Vec<PortSpan> = ports
        .iter()
        .map(|(protocol, number)| PortSpan { protocol: *protocol, first: *number, last: *number })
        .collect();
    let form = |extent, labels: &Labels, except: &[Pods]| Form {
        extent,
        from: vec![all_except(except.to_vec())],
        to: vec![place.party(labels)],
        ports: spans.clone(),
    };
    let all_labels = group.all_labels();
    let mut forms: Vec<Form> = Vec::new();
    for labels in [Some(&group.labels), all_labels.as_ref()].into_iter().flatten() {
        forms.extend(lists.iter().map(|except| form(Extent::Any, labels, except)));
    }
    forms.push(form(Extent::Existing, &group.labels, exact));
    let pods = format!("pods with {} in namespace {}", group.labels, place.name);
    let why = format!("{pods} are isolated for ingress; allowed: {}", listed(exact));
    let of_ports: Vec<String> = ports.iter().map(|(protocol, number)| format!("{protocol}-{number}")).collect();
    Candidate {
        kind: Kind::FewSources,
        // Pods that no other pods reach come last, since they may just be unused.
        rank: if exact.is_empty() { MAX_SOURCES + 1 } else { exact.len() },
        namespace: place.name.to_owned(),
        name: name(&[place.name, &group.slug(), "sources", &of_ports.join("-")]),
        why,
        owner: owner(place.facts, &group.members),
        demand: Demand::MustNotReach,
        forms,
    }
}
