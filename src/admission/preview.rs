//! What a change of a namespace's labels will do, told before it is done: which pods a profile does not hold, what it cuts,
//! and what goes on whatever it says; and what an open hatch does not open.
//!
//! It is told of the change as it is asked for, so a dry run shows it too. Nothing follows from it.

use jiff::Timestamp;

use super::Knowledge;
use crate::model::{
    Action, Direction, NAME_LABEL, Namespace, Namespaces, Object, Order, Peers, Pods, Policy, Port, Ports, Rule, Stage,
    Standing, Surroundings as _, Who,
};
use crate::rules::Change;
use crate::view::{Scene, Site, View};

/// How many lines it has at most.
const LINES: usize = 5;
/// At how many pods it looks at most.
const PODS: usize = 5_000;
/// At how many policies it looks at most, and at how many rules of what a namespace is due.
const POLICIES: usize = 200;
/// At how many peers of a rule it looks at most.
const PEERS: usize = 100;
/// How many pods it names.
const NAMED: usize = 2;
/// How many policies it names for one reason.
const NAMED_POLICIES: usize = 3;

/// The lines that the change deserves, the most important first: none unless a namespace that is there gets another profile,
/// or its hatch is opened.
pub(super) fn preview(knowledge: &Knowledge, view: &View, change: Change<'_>, now: Timestamp) -> Vec<String> {
    let Change::Write { new, .. } = change else { return Vec::new() };
    // Asked first: of most objects nobody has to read what was there before.
    let Some(after) = new.as_namespace() else { return Vec::new() };
    let Some((old, before)) = change.old().and_then(|old| Some((old, old.as_namespace()?))) else { return Vec::new() };
    let site = &knowledge.configuration.site;
    let mut lines = Vec::new();
    if is_open(site, new, after, now) && !is_open(site, old, before, now) {
        lines.extend(what_stays_shut(view, new));
    }
    let label = site.profile_label();
    let profiles = (before.labels.get(&label), after.labels.get(&label));
    if profiles.0 != profiles.1 {
        let due = |labels| knowledge.policies.meant_for(site, &new.id.name, labels);
        lines.extend(profiles.1.and_then(|profile| pods_that_escape(view, &new.id.name, profile)));
        lines.extend(cuts(profiles, &due(&before.labels), &due(&after.labels)));
        lines.extend(what_stays_open(site, view, new, &due(&after.labels)));
    }
    let more = lines.len().saturating_sub(LINES);
    if more > 0 {
        lines.truncate(LINES - 1);
        lines.push(format!("and {} more like these", more + 1));
    }
    lines.into_iter().map(|line| format!("preview: {line}")).collect()
}

fn is_open(site: &Site, object: &Object, namespace: &Namespace, now: Timestamp) -> bool {
    matches!(site.hatch(&namespace.labels, &object.annotations, now), Some(Ok(_)))
}

/// The pods that no policy holds.
fn pods_that_escape(view: &View, namespace: &str, profile: &str) -> Option<String> {
    let running = view.namespace(namespace)?.running();
    let pods = || running.iter().filter(|running| &*running.kind == "Pod");
    let names: Vec<&str> =
        pods().take(PODS).filter(|pod| pod.workload.host_network.is_some()).map(|pod| &*pod.name).collect();
    let at_least = if pods().nth(PODS).is_some() { "at least " } else { "" };
    let words = match names.len() {
        0 => return None,
        1 => "1 pod uses the network of its node and escapes".to_owned(),
        count => format!("{count} pods use the network of their node and escape"),
    };
    let mut listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        listed.push_str(&format!(" and {more} more"));
    }
    Some(format!("{at_least}{words} the profile {profile}: {listed}"))
}

/// What the old profile allows and the new one does not.
fn cuts((before, after): (Option<&str>, Option<&str>), old: &[&Policy], new: &[&Policy]) -> Vec<String> {
    // Where it had no profile, nobody knows what it had instead.
    let Some(before) = before else { return Vec::new() };
    let profile = after.map_or_else(|| "having no profile".to_owned(), |after| format!("profile {after}"));
    let mut lines: Vec<String> = Vec::new();
    for (direction, policy, rule) in allowed(old).take(POLICIES).filter(|(direction, ..)| isolates(new, *direction)) {
        let Some(cut) = not_allowed(direction, policy, rule, new) else { continue };
        let line = format!("{profile} cuts {}, which {before} allows", words(direction, &cut));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Policies that somebody else wrote and that let anybody in, or out to anywhere, where the profile does not.
fn what_stays_open(site: &Site, view: &View, namespace: &Object, due: &[&Policy]) -> Vec<String> {
    let is_open = |rule: &Rule| match &rule.peers {
        Peers::Any => true,
        Peers::Only(peers) => peers.iter().any(|peer| peer.who.is_anywhere()),
    };
    let others = concerning(view, namespace).filter(|policy| !site.is_reserved(&policy.object.name)).take(POLICIES);
    let stays_open = |policy: &Policy| {
        let mut open = allowed(&[policy]).filter(|(direction, _, rule)| isolates(due, *direction) && is_open(rule));
        let (direction, left) =
            open.find_map(|(direction, _, rule)| Some((direction, not_allowed(direction, policy, rule, due)?)))?;
        Some(format!("{} goes on allowing {}", policy.object, words(direction, &left)))
    };
    others.filter_map(stays_open).take(NAMED_POLICIES).collect()
}

/// Policies that come before one that allows everything beside the others, which is what an open hatch is.
fn what_stays_shut(view: &View, namespace: &Object) -> Vec<String> {
    let scene = Scene::with(view, namespace);
    let denies =
        |policy: &Policy| policy.sides().any(|(_, side)| side.rules.iter().any(|rule| rule.action == Action::Deny));
    let beats = |policy: &&Policy| match &policy.stage {
        Stage::Admin => denies(policy),
        stage @ Stage::Tier(name) => {
            let tier = scene.tier(name);
            let is_earlier = stage.position(tier) < Stage::Policies.position(None);
            is_earlier && (denies(policy) || stage.drops(tier) && policy.sides().any(|(_, side)| side.isolates))
        }
        // Cilium's denials. Those of an order come before it or after it, which nobody knows here.
        Stage::Policies => policy.order == Order::Additive && denies(policy),
        Stage::Baseline => false,
    };
    let mut all: Vec<String> =
        concerning(view, namespace).take(POLICIES).filter(beats).map(|policy| policy.object.to_string()).collect();
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(NAMED_POLICIES);
    let mut lines: Vec<String> = all
        .into_iter()
        .take(NAMED_POLICIES)
        .map(|name| format!("{name} still denies what it did, hatch or not"))
        .collect();
    if more > 0 {
        lines.push(format!("and so do {more} more policies"));
    }
    lines
}

/// The policies in force that are known to be for pods of the namespace.
fn concerning<'a>(view: &'a View, namespace: &'a Object) -> impl Iterator<Item = &'a Policy> {
    let scene = Scene::with(view, namespace);
    let name = &*namespace.id.name;
    scene.policies(name).filter(move |policy| policy.subject.namespaces.mean(name, &scene) == Some(true))
}

/// Every rule of these policies that lets traffic through.
fn allowed<'a>(policies: &[&'a Policy]) -> impl Iterator<Item = (Direction, &'a Policy, &'a Rule)> + use<'a> {
    let in_force: Vec<&Policy> =
        policies.iter().copied().filter(|policy| policy.standing == Standing::InForce).collect();
    in_force.into_iter().flat_map(|policy| policy.allow_rules().map(move |(direction, rule)| (direction, policy, rule)))
}

/// Whether one of these policies isolates pods in this direction. Where none does, nothing is cut.
fn isolates(policies: &[&Policy], direction: Direction) -> bool {
    policies.iter().any(|policy| policy.standing == Standing::InForce && policy.side(direction).isolates)
}

/// What these policies do not allow of what a rule allows.
fn not_allowed(direction: Direction, policy: &Policy, rule: &Rule, by: &[&Policy]) -> Option<(Peers, Ports)> {
    let among: Vec<&Rule> = allowed(by)
        .filter(|(other, allowing, _)| {
            *other == direction && allowing.subject.selector().covers(&policy.subject.selector())
        })
        .map(|(_, _, allowing)| allowing)
        .filter(|allowing| is_as_wide(allowing, rule))
        .take(POLICIES)
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
            ports.iter().any(|own| (own.protocol, &own.numbers) == (port.protocol, &port.numbers))
        }
        (own, None) => own == all,
        (_, Some(_)) => false,
    }
}

fn words(direction: Direction, (peers, ports): &(Peers, Ports)) -> String {
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
    for peer in peers.listed() {
        let text = match &peer.who {
            Who::Addresses(block) if block.net.prefix_len() == 0 => "anywhere but some blocks".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::config::Configuration;
    use crate::model::{Body, Labels, ObjectRef, Path, Workload};

    const DOMAIN: &str = "network-policy.portcullis.dev";

    fn namespace(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Object {
        let labels: Labels =
            labels.iter().map(|(key, value)| (format!("{DOMAIN}/{key}"), (*value).to_owned())).fold(
                [("kubernetes.io/metadata.name", "shop")].into_iter().collect(),
                |labels: Labels, (key, value)| labels.with(&key, &value),
            );
        let annotations =
            annotations.iter().fold(Labels::default(), |all, (key, value)| all.with(&format!("{DOMAIN}/{key}"), value));
        Object {
            id: ObjectRef { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: "shop".into() },
            body: Body::Namespace(Namespace { labels, labels_path: Path::root(), uid: "".into(), terminating: false }),
            faults: Vec::new(),
            annotations,
        }
    }

    fn told(view: &View, old: &Object, new: &Object) -> Vec<String> {
        let configuration = Configuration::shipped().unwrap();
        let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
        let knowledge = Knowledge::new(configuration, View::default(), policies);
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        preview(&knowledge, view, Change::Write { new, old: Some(old) }, now)
    }

    #[test]
    fn ten_thousand_pods_are_not_all_looked_at() {
        let mut view = View::default();
        let on_the_node = Workload { host_network: Some(Path::root()), ..Workload::default() };
        let on_the_node = std::sync::Arc::new(on_the_node);
        for number in 0..10_000 {
            let name = format!("agent-{number:05}").into();
            let id = ObjectRef { api_version: "v1".into(), kind: "Pod".into(), namespace: Some("shop".into()), name };
            view.insert_workload(&id, on_the_node.clone());
        }
        let lines =
            told(&view, &namespace(&[("profile", "standard")], &[]), &namespace(&[("profile", "isolated")], &[]));
        assert_eq!(
            lines[0],
            "preview: at least 5000 pods use the network of their node and escape the profile isolated: agent-00000, \
             agent-00001 and 4998 more"
        );
        assert!(lines.len() <= LINES, "{lines:#?}");
    }

    #[test]
    fn what_a_profile_cuts_is_what_the_other_one_allows_besides() {
        let profile = |name| namespace(&[("profile", name)], &[]);
        let cuts = |from, to| told(&View::default(), &profile(from), &profile(to));
        assert_eq!(cuts("isolated", "standard"), Vec::<String>::new(), "nothing is taken away");
        assert_eq!(cuts("internal", "internal-egress"), Vec::<String>::new());
        assert_eq!(
            cuts("internal-egress", "internal"),
            [
                "preview: profile internal cuts egress to anywhere but some blocks on TCP 443, which internal-egress allows"
            ]
        );
        assert_eq!(
            cuts("standard", "isolated"),
            [
                "preview: profile isolated cuts ingress from pods in istio-gateway on TCP 8080, TCP 8443, TCP \"http\", \
                 which standard allows",
                "preview: profile isolated cuts egress to anywhere but some blocks on TCP 443, which standard allows",
            ]
        );
        let none = namespace(&[], &[]);
        let lines = told(&View::default(), &profile("internal"), &none);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("preview: having no profile cuts ingress from "), "{lines:#?}");
        assert_eq!(told(&View::default(), &none, &profile("isolated")), Vec::<String>::new());
    }

    #[test]
    fn other_labels_and_hatches_without_effect_are_not_previewed() {
        let plain = namespace(&[("profile", "standard")], &[]);
        let other = namespace(&[("profile", "standard"), ("team", "web")], &[]);
        assert_eq!(told(&View::default(), &plain, &other), Vec::<String>::new());
        let unguarded = namespace(&[("profile", "standard"), ("enforcement", "disabled")], &[]);
        assert_eq!(told(&View::default(), &plain, &unguarded), Vec::<String>::new());
    }
}
