//! The effect of other namespace labels on pods: cluster-scoped policies also select pods by them.

use std::sync::Arc;

use super::affected_pods::{named, pods};
use super::scope::labels;
use crate::model::{
    Decision, Direction, Endpoint, Labels, Object, Policy, Protocol, Question, Selector, Subject, Workload, ask_within,
};
use crate::view::{ClusterDns, Running, Scene, Site, View};

/// Maximum number of steps. A step is the evaluation of one policy or rule.
const STEPS: usize = 200_000;

/// Reports the pods that can query the cluster DNS with the old labels of the namespace, and not with the new ones.
pub(super) fn pods_that_lose_dns(site: &Site, view: &View, old: &Object, new: &Object) -> Option<String> {
    // Namespaced policies do not depend on the labels of the namespace.
    if labels(old) == labels(new) || view.cluster_wide_policies().next().is_none() {
        return None;
    }
    let namespace = &*new.id.name;
    let before = Ways::new(site, namespace, Scene::with(view, old));
    let after = Ways::new(site, namespace, Scene::with(view, new));
    let (mut steps, mut names, mut stopping) = (STEPS, Vec::new(), None);
    let mut last: Option<(&Arc<Workload>, bool)> = None;
    let asks =
        |pod: &&Running| pod.workload.host_network.is_none() && !is_server(site, namespace, &pod.workload.labels);
    for pod in pods(view, namespace).filter(asks) {
        let workload = &pod.workload;
        // Identical pods share their result.
        let loses = match last {
            Some((known, loses)) if Arc::ptr_eq(known, workload) => loses,
            _ => {
                let pod = Endpoint::of(namespace, workload);
                let stopped = after.stop(pod, &mut steps);
                let loses = stopped.is_some() && before.stop(pod, &mut steps).is_none();
                if steps == 0 {
                    break;
                }
                stopping = stopping.or(stopped.filter(|_| loses));
                loses
            }
        };
        if loses {
            names.push(&*pod.name);
        }
        last = Some((workload, loses));
    }
    let at_least = if steps == 0 { "at least " } else { "" };
    let pods = if names.len() == 1 { "pod loses" } else { "pods lose" };
    Some(format!("{at_least}{} {pods} DNS by these labels: {}; {}", names.len(), named(&names), stopping?))
}

/// Returns true if a pod is a DNS pod of the cluster. Such a pod does not query itself.
pub(super) fn is_server(site: &Site, namespace: &str, labels: &Labels) -> bool {
    let mut servers = site.cluster_dns.iter().filter_map(ClusterDns::pods);
    servers.any(|(place, of)| place == namespace && Selector::of(of).matches(labels))
}

/// The paths from the pods of a namespace to the cluster DNS, with given labels of the namespace.
struct Ways<'a> {
    site: &'a Site,
    scene: Scene<'a>,
    policies: Vec<&'a Policy>,
}

impl<'a> Ways<'a> {
    fn new(site: &'a Site, namespace: &str, scene: Scene<'a>) -> Self {
        Self { site, scene, policies: scene.policies(namespace).collect() }
    }

    /// The cause that blocks a pod from the cluster DNS; none if one path is open.
    fn stop(&self, pod: Endpoint<'a>, steps: &mut usize) -> Option<String> {
        let mut stop = None;
        for dns in &self.site.cluster_dns {
            let (other, traffic) = dns.way(Protocol::Udp);
            let question = Question { subject: Subject::One(pod), direction: Direction::Egress, other, traffic };
            let answer = ask_within(self.policies.iter().copied(), &question, &self.scene, steps);
            stop = Some(answer.decisions.iter().find_map(|decision| match decision {
                Decision::Open | Decision::Allowed(..) => None,
                Decision::Denied(by, _) => Some(format!("denied by {}", by.object)),
                Decision::Isolated(by) => Some(format!("isolated by {}", by.first()?.object)),
            })?);
        }
        stop
    }
}
