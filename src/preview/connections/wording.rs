//! The lines about the connections that change.
//!
//! A line names pods of another namespace, and says what the policies there allow. Only users who may list both get it.

use std::collections::BTreeMap;

use super::effect::{Effect, Flow};
use super::group::Group;
use crate::model::{Labels, is_added_to_pods};
use crate::rules::Author;

/// Maximum number of lines.
const MAX_LINES: usize = 3;
/// Maximum number of senders in a line.
const MAX_SENDERS: usize = 3;
/// Maximum number of port ranges in a line.
const MAX_RANGES: usize = 4;
/// Maximum number of other namespaces whose pods are named.
const MAX_NAMESPACES: usize = 4;
/// The resources that a line tells of.
const RESOURCES: [&str; 2] = ["pods", "networkpolicies.networking.k8s.io"];

/// Labels by which users know an application, and labels of a part of it.
const NAMES: [&str; 4] = ["app", "app.kubernetes.io/name", "k8s-app", "name"];
const PARTS: [&str; 4] = ["app.kubernetes.io/component", "component", "role", "tier"];

/// The lines for users, the connections of most pods first. `own` is the namespace of the policy.
pub(super) fn lines(effect: &Effect<'_>, own: Option<&str>, author: &dyn Author) -> Vec<String> {
    let mut readable = Readable { own, author, known: BTreeMap::new() };
    let mut changes = |verb, flows: &[Flow<'_>]| merged(verb, flows.iter().filter(|flow| readable.has(flow)), own);
    let mut cut = changes("cuts", &effect.cut).into_iter();
    let mut opened = changes("opens", &effect.opened).into_iter();
    // Both kinds are shown, however many there are of one.
    let mut lines: Vec<Line> = Vec::new();
    while cut.len() + opened.len() > 0 {
        lines.extend(cut.next().into_iter().chain(opened.next()));
    }
    let is_cut_short = lines.len() > MAX_LINES || effect.is_partial && !lines.is_empty();
    let shown = if is_cut_short { MAX_LINES - 1 } else { MAX_LINES };
    let more: usize = lines.iter().skip(shown).map(|line| line.flows).sum();
    let note = match (effect.is_partial, more) {
        (_, _) if !is_cut_short => None,
        (false, more) => Some(format!("{more} more connections change")),
        (true, 0) => Some("more connections may change; there are too many pods or rules to compare all".to_owned()),
        (true, _) => Some("more connections change".to_owned()),
    };
    let lines = lines.into_iter().take(shown).map(|line| line.text);
    lines.chain(note).collect()
}

/// The namespaces whose pods may be named.
struct Readable<'a> {
    own: Option<&'a str>,
    author: &'a dyn Author,
    known: BTreeMap<Option<String>, bool>,
}

impl Readable<'_> {
    /// Returns true if the user may read the pods and policies at both ends. A cluster-scoped policy needs the right to
    /// list those of all namespaces.
    fn has(&mut self, flow: &Flow<'_>) -> bool {
        [flow.from, flow.to].into_iter().flatten().all(|group| {
            let Some(own) = self.own else { return self.may_list(None) };
            own == group.namespace || self.may_list(Some(group.namespace))
        })
    }

    fn may_list(&mut self, namespace: Option<&str>) -> bool {
        let key = namespace.map(str::to_owned);
        if self.known.len() >= MAX_NAMESPACES && !self.known.contains_key(&key) {
            return false;
        }
        let author = self.author;
        // Both are asked before the first answer, so that the server looks them up at once.
        let may_list = || RESOURCES.map(|resource| author.may_list(resource, namespace)) == [true; 2];
        *self.known.entry(key).or_insert_with(may_list)
    }
}

/// A line, and what it counts.
struct Line {
    text: String,
    pods: usize,
    flows: usize,
}

/// Flows to the same receivers on the same ports.
#[derive(Default)]
struct Merged<'a> {
    senders: BTreeMap<String, Vec<Group<'a>>>,
    receivers: Vec<Group<'a>>,
    flows: usize,
}

/// The changes in words, those of most pods first. Flows to the same receivers on the same ports become one line.
fn merged<'a>(verb: &str, flows: impl Iterator<Item = &'a Flow<'a>>, own: Option<&str>) -> Vec<Line> {
    let mut merged: BTreeMap<(String, String), Merged<'a>> = BTreeMap::new();
    for flow in flows {
        let namespace = |group: Option<Group<'a>>| group.map(|group| group.namespace).filter(|name| Some(*name) != own);
        let (from, to) = (namespace(flow.from), namespace(flow.to));
        let same = merged.entry((ports(flow), end(flow.to, to))).or_default();
        same.flows += 1;
        let senders = same.senders.entry(end(flow.from, from.filter(|from| Some(*from) != to))).or_default();
        for (groups, group) in [(senders, flow.from), (&mut same.receivers, flow.to)] {
            groups.extend(group.filter(|group| !groups.iter().any(|known| known.is_same(group))));
        }
    }
    let line = |((ports, to), merged): ((String, String), Merged<'a>)| {
        let receivers = pods(&merged.receivers);
        // The pods of one end suffice.
        let senders: Vec<(String, usize)> = match receivers {
            0 => merged.senders.into_iter().map(|(from, groups)| (from, pods(&groups))).collect(),
            _ => merged.senders.into_keys().map(|from| (from, 0)).collect(),
        };
        let most = senders.iter().map(|(_, pods)| *pods).max().unwrap_or_default();
        let senders: Vec<String> = senders.into_iter().map(|(from, pods)| counted(from, pods)).collect();
        let text = format!("{verb} {ports} from {} to {}", listed(&senders), counted(to, receivers));
        Line { text, pods: receivers.max(most), flows: merged.flows }
    };
    let mut lines: Vec<Line> = merged.into_iter().map(line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.pods));
    lines
}

/// The first of these names, and the number of the others.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_SENDERS);
    let shown = names.get(..names.len() - more).unwrap_or_default();
    match (more, shown.split_last()) {
        (0, Some((last, []))) => last.clone(),
        (0, Some((last, others))) => format!("{} and {last}", others.join(", ")),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The number of pods that the policy selects. Workloads in manifests have an unknown number of pods.
fn pods(groups: &[Group<'_>]) -> usize {
    let pods = groups.iter().filter(|group| group.is_subject && &*group.first.kind == "Pod");
    pods.map(|group| group.size).sum()
}

fn counted(end: String, pods: usize) -> String {
    match pods {
        0 => end,
        1 => format!("{end} (1 pod)"),
        pods => format!("{end} ({pods} pods)"),
    }
}

/// One end of a connection, with its namespace if that is given.
fn end(group: Option<Group<'_>>, namespace: Option<&str>) -> String {
    let Some(group) = group else { return "the internet".to_owned() };
    let name =
        name(&group.first.workload.labels).unwrap_or_else(|| format!("{} {}", group.first.kind, group.first.name));
    match namespace {
        Some(namespace) => format!("{name} in namespace {namespace}"),
        None => name,
    }
}

/// The labels by which users know the pods.
fn name(labels: &Labels) -> Option<String> {
    let find = |keys: [&str; 4]| {
        let mut labels = keys.into_iter().filter_map(|key| Some((key.to_owned(), labels.get(key)?)));
        labels.next().map(|(key, value)| format!("{key}={value}"))
    };
    let first = || labels.iter().find(|(key, _)| !is_added_to_pods(key)).map(|(key, value)| format!("{key}={value}"));
    let named: Vec<String> = [find(NAMES), find(PARTS)].into_iter().flatten().collect();
    if named.is_empty() { first() } else { Some(named.join(",")) }
}

/// The ports of a connection in words.
fn ports(flow: &Flow<'_>) -> String {
    let ranges = flow
        .ports
        .iter()
        .flat_map(|(protocol, ranges)| ranges.as_slice().iter().map(|(first, last)| protocol.ports(*first, *last)));
    let ranges: Vec<String> = ranges.collect();
    let is_every = ranges.len() == 3 && ranges.iter().all(|range| range.starts_with("every "));
    if is_every {
        return "every port".to_owned();
    }
    let more = ranges.len().saturating_sub(MAX_RANGES);
    let shown: Vec<String> = ranges.into_iter().take(MAX_RANGES).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more port ranges") } else { shown }
}
