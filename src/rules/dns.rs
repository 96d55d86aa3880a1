//! The cluster DNS as rules see it: the pods that are known to serve it, or what the configuration says of them.

use std::sync::LazyLock;

use super::Case;
use super::blame::{Stop, stopped_by};
use super::near_miss::{NearMiss, Target, near_miss};
use crate::model::{
    Assumption, Decision, Direction, End, Endpoint, Labels, Policy, Protocol, Question, Selector, Subject, ask,
};
use crate::view::{ClusterDns, NamespaceFacts, Running, Scene, View};

/// Maximum number of DNS pods that are told apart in one decision.
const MAX_SERVERS: usize = 8;

/// The ends that one way to the cluster DNS leads to. The Service spreads lookups over all of its pods, so each has to be
/// reachable.
///
/// Pods that are known replace what the configuration says of them: all of their labels count. Of pods and of templates that
/// make them, the pods count.
pub(super) fn servers<'a>(view: &'a View, dns: &'a ClusterDns) -> Vec<End<'a>> {
    let configured = dns.end();
    let (Some((namespace, labels)), End::Pod(named)) = (dns.pods(), configured) else { return vec![configured] };
    let selector = Selector::of(labels);
    let is_server = |running: &&Running| {
        crate::budget::charge(1);
        running.workload.host_network.is_none() && selector.matches(&running.workload.labels)
    };
    let known = || view.namespace(namespace).into_iter().flat_map(NamespaceFacts::distinct).filter(is_server);
    let has_pods = known().any(|running| &*running.kind == "Pod");
    let known = known().filter(|running| !has_pods || &*running.kind == "Pod").take(MAX_SERVERS);
    let ends: Vec<End<'a>> = known
        .map(|running| End::Pod(Endpoint { services: named.services, ..Endpoint::of(namespace, &running.workload) }))
        .collect();
    if ends.is_empty() { vec![configured] } else { ends }
}

/// What keeps some of the pods of a policy from one way to the cluster DNS, and what was assumed.
pub(super) fn stopped<'a>(
    view: &'a View,
    scene: Scene<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
    dns: &'a ClusterDns,
    protocol: Protocol,
) -> (Stop<'a>, Vec<Assumption<'a>>) {
    let mut assumed = Vec::new();
    for end in servers(view, dns) {
        let stopped = stopped_by(scene, around, policy, Direction::Egress, (end, dns.traffic(protocol)));
        if stopped.0 != Stop::Nothing {
            return stopped;
        }
        assumed = stopped.1;
    }
    (Stop::Nothing, assumed)
}

/// What of a policy keeps some of its pods from every way to the cluster DNS, and what was assumed. None if one of them is
/// open, or if nothing of the policy stops any.
pub(super) fn stopped_everywhere<'a>(
    case: &Case<'a>,
    around: &[&'a Policy],
    policy: &'a Policy,
) -> Option<(Stop<'a>, Vec<Assumption<'a>>)> {
    let mut own = None;
    for dns in &case.site.cluster_dns {
        match stopped(case.view, case.supposing(), around, policy, dns, Protocol::Udp) {
            (Stop::Nothing, _) => return None,
            stopped if stopped.0.is_own() => own = own.or(Some(stopped)),
            _ => {}
        }
    }
    own
}

/// What of a policy keeps pods of other namespaces from pods of the cluster DNS that it selects, with the way that they serve.
pub(super) fn server_stopped<'a>(
    case: &Case<'a>,
    policy: &'a Policy,
    protocol: Protocol,
) -> Option<(&'a ClusterDns, Stop<'a>)> {
    static NOTHING: LazyLock<Labels> = LazyLock::new(Labels::default);
    let anybody = End::Pod(Endpoint {
        // A name that no namespace has, so that only what is said of all namespaces, or of all but some, means it.
        namespace: "*",
        labels: &NOTHING,
        complete: true,
        is_template: false,
        account: None,
        addresses: &[],
        services: &[],
    });
    let stop = |dns: &'a ClusterDns, server: Endpoint<'a>| {
        if policy.subject.mean(&server, case.view) != Some(true) {
            return None;
        }
        let (subject, direction) = (Subject::One(server), Direction::Ingress);
        let question = Question { subject, direction, other: anybody, traffic: dns.traffic(protocol) };
        let scene = case.after();
        let decisions = ask(scene.policies(server.namespace), &question, &scene).decisions;
        decisions.into_iter().find_map(|decision| match decision {
            Decision::Isolated(by) if by.iter().any(|by| std::ptr::eq(*by, policy)) => Some(Stop::Isolation),
            Decision::Denied(by, rule) if std::ptr::eq(by, policy) => Some(Stop::Rule(rule)),
            _ => None,
        })
    };
    case.site.cluster_dns.iter().find_map(|dns| {
        servers(case.view, dns).into_iter().find_map(|server| match server {
            End::Pod(server) => stop(dns, server).map(|stop| (dns, stop)),
            End::Addresses { .. } | End::Entity(_) => None,
        })
    })
}

/// The rule that came nearest to allowing DNS for the pods of a policy.
pub(super) fn nearest<'a>(case: &Case<'a>, around: &[&'a Policy], policy: &Policy) -> Option<NearMiss<'a>> {
    let nothing = Labels::default();
    let near = |dns: &'a ClusterDns| {
        let (namespace, labels) = dns.pods().unwrap_or(("kube-system", &nothing));
        let target = Target {
            name: "the DNS pods",
            port_of: "the DNS pods",
            word: "dns",
            namespace,
            labels,
            place: match dns.pods() {
                Some(_) => format!("{labels} in namespace {namespace}"),
                None => dns.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
            },
            end: *servers(case.view, dns).first()?,
            protocol: Protocol::Udp,
            number: dns.port(),
            traffic: dns.traffic(Protocol::Udp),
        };
        near_miss(case, around, &policy.subject, Direction::Egress, &target)
    };
    case.site.cluster_dns.iter().filter_map(near).min_by_key(NearMiss::rank)
}
