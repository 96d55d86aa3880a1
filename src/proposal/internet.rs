//! Pods without connections from or to the internet.

use crate::model::{AddressSet, Caller, Demand, Direction, Extent, Labels, Party};

use super::candidate::{Candidate, Form, Kind};
use super::flows::Callers;
use super::groups::{Group, Place};
use super::names::name;
use super::owners::owner;

/// Adds the candidates for a namespace.
pub(super) fn add(place: &Place<'_>, callers: &Callers<'_>, candidates: &mut Vec<Candidate>) {
    let is_isolated = |direction| place.isolates(&place.members, direction);
    if is_isolated(Direction::Ingress) && !is_exposed(place) {
        candidates.push(ingress(place, callers));
    }
    if is_isolated(Direction::Egress) {
        candidates.push(egress(place, None));
    }
    candidates.extend(place.isolated_groups(Direction::Egress).iter().map(|group| egress(place, Some(group))));
}

fn internet() -> Party {
    Party::Addresses { set: AddressSet::internet(), outside: true, text: "the internet".into() }
}

/// Returns true if clients outside of the cluster are meant to reach pods of the namespace.
fn is_exposed(place: &Place<'_>) -> bool {
    place.facts.services.iter().any(|(_, service)| service.is_exposed)
        || place.facts.backends.iter().any(|backend| backend.caller == Caller::Proxy)
}

fn ingress(place: &Place<'_>, callers: &Callers<'_>) -> Candidate {
    let controllers = callers.ingress_controllers_outside(place.name);
    let form = |from| Form { extent: Extent::Any, from, to: vec![place.party(&Labels::default())], ports: Vec::new() };
    let direct = form(vec![internet()]);
    let mut forms = Vec::new();
    if !controllers.is_empty() {
        let all = [vec![internet()], controllers].concat();
        forms.push(form(all));
    }
    forms.push(direct);
    let through = if forms.len() > 1 { ", directly or through an ingress controller" } else { "" };
    Candidate {
        kind: Kind::NoInternetIngress,
        rank: 0,
        namespace: place.name.to_owned(),
        name: name(&[place.name, "no-internet-ingress"]),
        why: format!(
            "pods in namespace {} are isolated for ingress and the internet does not reach them{through}",
            place.name
        ),
        owner: owner(place.facts, &[]),
        demand: Demand::MustNotReach,
        forms,
    }
}

fn egress(place: &Place<'_>, group: Option<&Group<'_>>) -> Candidate {
    let everything = Labels::default();
    let labels = group.map_or(&everything, |group| &group.labels);
    let slug = group.map(Group::slug).unwrap_or_default();
    let pods = match group {
        Some(group) => format!("pods with {} in namespace {}", group.labels, place.name),
        None => format!("pods in namespace {}", place.name),
    };
    let members = group.map(|group| group.members.as_slice()).unwrap_or_default();
    let form = Form { extent: Extent::Any, from: vec![place.party(labels)], to: vec![internet()], ports: Vec::new() };
    Candidate {
        kind: Kind::NoInternetEgress,
        rank: usize::from(group.is_some()),
        namespace: place.name.to_owned(),
        name: name(&[place.name, &slug, "no-internet-egress"]),
        why: format!("{pods} are isolated for egress and do not reach the internet"),
        owner: owner(place.facts, members),
        demand: Demand::MustNotReach,
        forms: form.for_both_extents(),
    }
}
