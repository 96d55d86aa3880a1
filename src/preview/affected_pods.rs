//! The pods of a namespace that a profile isolates, and the pods that it does not.

use std::sync::Arc;

use super::scope::{POLICIES, concerning, isolates};
use crate::config::Configuration;
use crate::engine::{self, Judgement};
use crate::model::{Body, Direction, Endpoint, Labels, Object, ObjectRef, Policy, Workload};
use crate::rules::{Change, Occasion};
use crate::view::{NamespaceFacts, Running, Scene, View};

/// Maximum number of pods that are checked.
const PODS: usize = 5_000;
/// Maximum number of checks whether a policy selects a pod.
const LOOKS: usize = 50_000;
/// Maximum number of pod templates that are checked.
const TEMPLATES: usize = 20;
/// Maximum number of pods in a message.
const NAMED: usize = 2;

/// The pods of a namespace.
pub(super) fn pods<'a>(view: &'a View, namespace: &str) -> impl Iterator<Item = &'a Running> + Clone {
    let running = view.namespace(namespace).map(NamespaceFacts::running).unwrap_or_default();
    running.iter().filter(|running| &*running.kind == "Pod")
}

/// The first of these names, and the number of the others.
pub(super) fn named(names: &[&str]) -> String {
    let mut listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

/// Reports the hostNetwork pods, which no policy isolates.
pub(super) fn pods_that_escape(view: &View, namespace: &str, profile: &str) -> Option<String> {
    let pods = pods(view, namespace);
    let names: Vec<&str> =
        pods.clone().take(PODS).filter(|pod| pod.workload.host_network.is_some()).map(|pod| &*pod.name).collect();
    let at_least = if pods.clone().nth(PODS).is_some() { "at least " } else { "" };
    let words = match names.len() {
        0 => return None,
        1 => "1 hostNetwork pod is not isolated by".to_owned(),
        count => format!("{count} hostNetwork pods are not isolated by"),
    };
    Some(format!("{at_least}{words} profile {profile}: {}", named(&names)))
}

/// Reports the workloads whose new pods will be denied because they use hostNetwork. An exemption is not considered,
/// because the view does not contain the annotations of workloads.
pub(super) fn templates_that_stop(configuration: &Configuration, view: &View, namespace: &Object) -> Option<String> {
    let name = &*namespace.id.name;
    // The ReplicaSets of a Deployment are reported as the Deployment.
    let makes_pods = |running: &&Running| !["Pod", "ReplicaSet"].contains(&&*running.kind);
    let running = view.namespace(name).map(NamespaceFacts::running).unwrap_or_default();
    let on_the_node = running.iter().filter(makes_pods).filter(|running| running.workload.host_network.is_some());
    let on_the_node: Vec<&Running> = on_the_node.take(TEMPLATES).collect();
    if on_the_node.is_empty() {
        return None;
    }
    let mut after = view.clone();
    after.insert(namespace.clone());
    let is_denied = |running: &&Running| {
        let id = ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: Some(name.into()),
            name: running.name.clone(),
        };
        let body = Body::Workload(Workload::clone(&running.workload));
        let pod = Object { id, body, faults: Vec::new(), annotations: Labels::default() };
        let change = Change::Write { new: &pod, old: None };
        engine::judge(configuration, &after, change, Occasion::default()).judgements.iter().any(Judgement::denies)
    };
    let denied: Vec<String> =
        on_the_node.into_iter().filter(is_denied).map(|running| format!("{} {}", running.kind, running.name)).collect();
    let names: Vec<&str> = denied.iter().map(String::as_str).collect();
    (!names.is_empty())
        .then(|| format!("new hostNetwork pods of {} will be denied unless they are exempt", named(&names)))
}

/// Reports the pods that the first profile of a namespace isolates, and that no policy isolated before.
pub(super) fn pods_that_it_closes(
    view: &View,
    namespace: &Object,
    (when, profile): (&str, &str),
    due: &[&Policy],
) -> Vec<String> {
    let name = &*namespace.id.name;
    let scene = Scene::with(view, namespace);
    let closed: Vec<Direction> =
        Direction::ALL.into_iter().filter(|direction| isolates(due, *direction, &scene)).collect();
    let isolating: Vec<&Policy> = concerning(view, namespace)
        .filter(|policy| Direction::ALL.into_iter().any(|direction| policy.isolates(direction, &scene)))
        .take(POLICIES + 1)
        .collect();
    if isolating.len() > POLICIES {
        return Vec::new();
    }
    let mut looks = LOOKS;
    let mut is_cut_short = false;
    let mut open: Vec<(Direction, Vec<&str>)> = closed.iter().map(|direction| (*direction, Vec::new())).collect();
    let mut last: Option<(&Arc<Workload>, Vec<bool>)> = None;
    for (count, pod) in pods(view, name).filter(|pod| pod.workload.host_network.is_none()).enumerate() {
        let workload = &pod.workload;
        // Identical pods share their result.
        let known = last.take().filter(|(last, _)| Arc::ptr_eq(last, workload));
        let cost = if known.is_some() { 0 } else { 2 * isolating.len() };
        if count == PODS || looks < cost {
            is_cut_short = true;
            break;
        }
        looks -= cost;
        let (_, are_open) = known.unwrap_or_else(|| {
            let pod = Endpoint::of(name, workload);
            let is_open = |direction: &Direction| {
                let mut all = isolating.iter().filter(|policy| policy.isolates(*direction, &scene));
                all.all(|policy| policy.subject.mean(&pod, &scene) == Some(false))
            };
            (workload, closed.iter().map(is_open).collect())
        });
        for ((_, names), _) in open.iter_mut().zip(&are_open).filter(|(_, is_open)| **is_open) {
            names.push(&pod.name);
        }
        last = Some((workload, are_open));
    }
    let line = |direction: String, names: &[&str]| {
        let at_least = if is_cut_short { "at least " } else { "" };
        let pods = if names.len() == 1 { "pod" } else { "pods" };
        format!(
            "{when}profile {profile} isolates {at_least}{} {pods}{direction} for the first time: {}",
            names.len(),
            named(names)
        )
    };
    open.retain(|(_, names)| !names.is_empty());
    match open.as_slice() {
        [(_, names), (_, others)] if names == others => vec![line(String::new(), names)],
        _ => open.iter().map(|(direction, names)| line(format!(" for {direction}"), names)).collect(),
    }
}
