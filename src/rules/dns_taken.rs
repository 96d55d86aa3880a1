//! What a change of one policy, or of a tier, takes from the pods of others: their last way to the cluster's DNS. See
//! [`DnsBlocked`].

use std::collections::HashMap;

use super::dns::{Server, servers, stopped};
use super::dns_blocked::DnsBlocked;
use super::hosts::is_for_hosts;
use super::{Case, Findings};
use crate::model::{
    Action, Body, Direction, Namespaces, Object, Path, Pods, Policy, Protocol, Question, Stage, Standing, Subject,
    ask_within,
};
use crate::view::Scene;

/// How many steps it may take. Each pair of policies may be a question to all of them.
const STEPS: usize = 1_000_000;

/// Pods that other policies isolate, or deny DNS to, and that have it before the change and not after it.
pub(super) fn check_taken(case: &Case<'_>, findings: &mut Findings) {
    let can_take = |new: &Policy| means_dns(case, new, &[Action::Pass]);
    match &case.change.object().body {
        // What is new takes nothing away but by jumping ahead of others.
        Body::Policies(policies) if case.is_new() && !policies.iter().any(can_take) => return,
        // The policies of a tier in the same folder are judged themselves, in this tier.
        Body::Tier(_) if case.is_new() && !case.view.is_whole() => return,
        Body::Policies(_) | Body::Tier(_) => {}
        Body::Namespace(_) | Body::Workload(_) | Body::Service(_) => return,
    }
    let scene = case.after();
    let isolates = |policy: &Policy| policy.isolates(Direction::Egress, &scene);
    let denies = |policy: &Policy| means_dns(case, policy, &[Action::Deny]);
    // In this order, since what was there before is read only if somebody asks for it.
    let mut stopping = case.others(|policy| isolates(policy) || denies(policy));
    if let Body::Tier(_) = case.change.object().body {
        let stage = Stage::Tier(case.change.object().id.name.clone());
        stopping.retain(|policy| policy.stage == stage);
    }
    if stopping.is_empty() {
        return;
    }
    // Whose DNS depends on the object: those whom it let through before, or leaves to a later stage now.
    let in_force = |policy: &&Policy| policy.standing == Standing::InForce;
    let old = case.change.old().map(Object::policies).unwrap_or_default().iter().filter(in_force);
    let mut opening: Vec<&Pods> =
        old.filter(|old| means_dns(case, old, &[Action::Allow, Action::Pass])).map(|old| &old.subject).collect();
    opening.extend(case.policies().iter().filter(in_force).filter(|new| can_take(new)).map(|new| &new.subject));

    let (mut steps, mut found, verb) = (STEPS, 0, case.verb());
    let (mut before, mut after) = (Ways::new(case, case.before()), Ways::new(case, case.after()));
    let is_tier = matches!(case.change.object().body, Body::Tier(_));
    for policy in stopping {
        let concerned: Vec<Pods> = match case.change.object().body {
            Body::Tier(_) => vec![policy.subject.clone()],
            _ => {
                let both = |pods: &&Pods| {
                    let both = policy.subject.and(pods, case.view)?;
                    (!policy.subject.excludes(pods, case.view, &mut steps)).then_some(both)
                };
                opening.iter().take(Case::MOST_OTHERS).filter_map(both).collect()
            }
        };
        for pods in concerned {
            // Mostly nothing is taken, so this is asked first.
            let is_taken = !after.pass(&pods, &mut steps) && before.pass(&pods, &mut steps);
            if steps == 0 {
                return;
            }
            if !is_taken || is_for_hosts(case, policy) || is_tier && !stops(case, policy) {
                continue;
            }
            let message = if isolates(policy) {
                text!(
                    "{verb} it takes the last way to the cluster's DNS from {pods}, which {} isolates for egress",
                    policy.object
                )
            } else {
                text!(
                    "{verb} it takes the last way to the cluster's DNS from {pods}, to which {} denies egress",
                    policy.object
                )
            };
            let help = "let another policy allow DNS to these pods first, or remove the one that stops them";
            findings.add::<DnsBlocked>(case, Path::root().field("spec"), message, help.into(), None);
            found += 1;
            if found == Case::MOST_OTHERS {
                return;
            }
        }
    }
}

/// Returns true if something of a policy itself stops DNS, and not another one that is for some of its pods.
fn stops(case: &Case<'_>, policy: &Policy) -> bool {
    let around = case.after().policies_for(&policy.subject);
    let mut ways = case.site.cluster_dns.iter();
    ways.any(|dns| stopped(case.view, case.after(), &around, policy, dns, Protocol::Udp).0.is_own())
}

/// The ways to the cluster's DNS in one state of the cluster.
struct Ways<'a> {
    case: Case<'a>,
    scene: Scene<'a>,
    /// The policies that can concern pods of a namespace, by its name.
    around: HashMap<Box<str>, Vec<&'a Policy>>,
}

impl<'a> Ways<'a> {
    fn new(case: &Case<'a>, scene: Scene<'a>) -> Self {
        Self { case: *case, scene, around: HashMap::new() }
    }

    /// Whether one of them is open to all of these pods.
    fn pass(&mut self, pods: &Pods, steps: &mut usize) -> bool {
        let of_many;
        let around = match &pods.namespaces {
            Namespaces::Own(name) => {
                let name = name.as_deref().unwrap_or_default();
                self.around.entry(name.into()).or_insert_with(|| self.scene.policies(name).collect())
            }
            Namespaces::Matching(_) => {
                of_many = self.scene.policies_for(pods);
                &of_many
            }
        };
        self.case.site.cluster_dns.iter().any(|dns| {
            servers(self.case.view, dns).into_iter().all(|server| {
                let (subject, direction) = (Subject::Each(pods), Direction::Egress);
                let question =
                    Question { subject, direction, other: server.end, traffic: server.traffic(Protocol::Udp) };
                ask_within(around.iter().copied(), &question, &self.scene, steps).passes()
            })
        })
    }
}

/// Whether a rule of a policy with one of these actions means what pods send to the cluster's DNS.
fn means_dns(case: &Case<'_>, policy: &Policy, actions: &[Action]) -> bool {
    policy.egress.rules.iter().filter(|rule| actions.contains(&rule.action)).any(|rule| {
        let mut ways = case.site.cluster_dns.iter();
        ways.any(|dns| {
            let is_meant =
                |server: &Server<'_>| rule.means(&server.end, server.traffic(Protocol::Udp), case.view) == Some(true);
            servers(case.view, dns).iter().any(is_meant)
        })
    })
}
