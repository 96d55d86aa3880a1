//! The check for pods that lose their last path to the cluster DNS by a change of another policy or tier. See
//! [`DnsBlocked`].

use std::collections::HashMap;

use super::super::shared::cluster_dns::{Server, servers, stopped};
use super::super::shared::host_policies::is_for_hosts;
use super::super::{Case, Findings};
use super::DnsBlocked;
use crate::model::{
    Action, Body, Direction, Namespaces, Object, Path, Pods, Policy, Protocol, Question, Stage, Standing, Subject,
    ask_within,
};
use crate::view::Scene;

/// Maximum number of steps. Each pair of policies may require an evaluation of all policies.
const STEPS: usize = 1_000_000;

/// Reports pods that other policies isolate, or deny DNS to, and that lose the cluster DNS by this change.
pub(super) fn check_loss(case: &Case<'_>, findings: &mut Findings) {
    let can_take = |new: &Policy| means_dns(case, new, &[Action::Pass]);
    match &case.change.object().body {
        // A new policy can cut off DNS only by a Pass rule that takes precedence over other policies.
        Body::Policies(policies) if case.is_new() && !policies.iter().any(can_take) => return,
        // Offline, the policies of a new tier are checked themselves, in this tier.
        Body::Tier(_) if case.is_new() && !case.view.is_whole() => return,
        Body::Policies(_) | Body::Tier(_) => {}
        Body::Namespace(_) | Body::Workload(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => return,
    }
    let scene = case.after();
    let isolates = |policy: &Policy| policy.isolates(Direction::Egress, &scene);
    let denies = |policy: &Policy| means_dns(case, policy, &[Action::Deny]);
    // Evaluated before the old object, which is parsed only on first use.
    let mut stopping = case.others(|policy| isolates(policy) || denies(policy));
    if let Body::Tier(_) = case.change.object().body {
        let stage = Stage::Tier(case.change.object().id.name.clone());
        stopping.retain(|policy| policy.stage == stage);
    }
    if stopping.is_empty() {
        return;
    }
    // The pods whose DNS depends on the object: the old policies allow or pass it, or the new ones pass it to a later
    // stage.
    let in_force = |policy: &&Policy| policy.standing == Standing::InForce;
    let old = case.change.old().map(Object::policies).unwrap_or_default().iter().filter(in_force);
    let mut opening: Vec<&Pods> =
        old.filter(|old| means_dns(case, old, &[Action::Allow, Action::Pass])).map(|old| &old.subject).collect();
    opening.extend(case.policies().iter().filter(in_force).filter(|new| can_take(new)).map(|new| &new.subject));

    let (mut steps, mut found, verb) = (STEPS, 0, case.verb());
    let (mut before, mut after) = (Ways::new(case, case.before()), Ways::new(case, case.after()));
    let is_tier = matches!(case.change.object().body, Body::Tier(_));
    let what = if is_tier { "tier" } else { "policy" };
    // A Pass rule or the order of a tier may skip a policy that allows DNS.
    let is_last = !is_tier && !case.policies().iter().any(can_take);
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
            // Evaluated first, because most changes leave DNS reachable.
            let is_taken = !after.pass(&pods, &mut steps) && before.pass(&pods, &mut steps);
            if steps == 0 {
                return;
            }
            if !is_taken || is_for_hosts(case, policy) || is_tier && !stops(case, policy) {
                continue;
            }
            let by = &policy.object;
            let why = match isolates(policy) {
                true if is_last => text!("{by} isolates their egress and no other policy allows DNS"),
                true => text!("{by} isolates their egress"),
                false => text!("{by} denies their egress to the cluster DNS"),
            };
            let message = text!("{verb} this {what} cuts off DNS for {pods}: {why}");
            let help = text!("first allow DNS for these pods in another policy, or delete {by}");
            findings.add::<DnsBlocked>(case, Path::root().field("spec"), message, help, None);
            found += 1;
            if found == Case::MOST_OTHERS {
                return;
            }
        }
    }
}

/// Returns true if the policy itself stops DNS, and not another policy for some of its pods.
fn stops(case: &Case<'_>, policy: &Policy) -> bool {
    let around = case.after().policies_for(&policy.subject);
    let mut ways = case.site.cluster_dns.iter();
    ways.any(|dns| stopped(case.view, case.after(), &around, policy, dns, Protocol::Udp).0.is_own())
}

/// The paths to the cluster DNS in one state of the cluster.
struct Ways<'a> {
    case: Case<'a>,
    scene: Scene<'a>,
    /// The policies that may apply to pods of a namespace, by its name.
    around: HashMap<Box<str>, Vec<&'a Policy>>,
}

impl<'a> Ways<'a> {
    fn new(case: &Case<'a>, scene: Scene<'a>) -> Self {
        Self { case: *case, scene, around: HashMap::new() }
    }

    /// Returns true if one path is open to all of these pods.
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

/// Returns true if a rule of the policy with one of these actions matches the pods' queries to the cluster DNS.
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
