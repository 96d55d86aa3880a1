//! A Service that is called from outside of the namespace, and the policies that block these calls.

use super::super::Case;
use super::super::shared::attribution::surely_stopped;
use super::super::shared::destination::Looks;
use super::source::Source;
use crate::model::{
    Backend, Decision, Direction, Endpoint, Labels, Names, ObjectRef, Path, Policy, Protocol, Question, Service,
    ServicePort, Stage, Subject, Surroundings as _, Traffic, Workload,
};
use crate::view::{NamespaceFacts, Running};

/// Maximum number of different pods of one Service that are compared.
const MAX_PODS: usize = 50;

/// Maximum number of ports in a message.
const MAX_NAMED: usize = 5;

/// Maximum number of objects of one call that the author is checked for.
const MAX_CHECKED: usize = 3;

/// The label of namespaces and pods in an Istio ambient mesh.
const MESH_LABEL: (&str, &str) = ("istio.io/dataplane-mode", "ambient");

/// HBONE, which carries the connections of an Istio ambient mesh to every port.
const MESH_TUNNEL: (Protocol, u16) = (Protocol::Tcp, 15008);

/// A Service with its known pods.
pub(super) struct Called<'a> {
    pub(super) namespace: &'a str,
    facts: &'a NamespaceFacts,
    pub(super) name: &'a str,
    pub(super) service: &'a Service,
    pods: Vec<&'a Running>,
}

/// A call that policies block for all known pods of the Service.
pub(super) struct Blocked<'a> {
    pub(super) source: Source,
    /// The object that names the Service. None for a Service that is exposed.
    pub(super) object: Option<&'a ObjectRef>,
    pub(super) cause: Cause,
    /// The first ports of the pods.
    targets: Vec<(Protocol, u16)>,
}

/// The part of a policy that blocks a call.
#[derive(Debug)]
pub(super) enum Cause {
    /// Other policies alone.
    Others,
    /// The policy isolates the pods.
    Isolation,
    /// The rule of the policy at this path.
    Denial(Path),
}

/// A caller with the ports of the Service that it uses. One open port suffices.
struct Call<'a> {
    source: Source,
    ports: Vec<&'a ServicePort>,
    /// The objects that name these ports.
    objects: Vec<&'a ObjectRef>,
}

impl Blocked<'_> {
    /// The ports as text.
    pub(super) fn ports(&self, joint: &str) -> String {
        let ports: Vec<String> = self.targets.iter().map(|(protocol, number)| text!("{protocol} {number}")).collect();
        ports.join(joint)
    }
}

impl<'a> Called<'a> {
    /// The Service with its pods: none if one of them uses hostNetwork, since policies do not apply to it, and none if there
    /// are too many. None if the limit of comparisons is reached.
    pub(super) fn new(
        namespace: &'a str,
        facts: &'a NamespaceFacts,
        (name, service): (&'a str, &'a Service),
        looks: &mut Looks,
    ) -> Option<Self> {
        let mut pods = Vec::new();
        for running in facts.distinct() {
            looks.take(1)?;
            if !service.selects(&running.workload) {
                continue;
            }
            if running.workload.host_network.is_some() || pods.len() == MAX_PODS {
                pods.clear();
                break;
            }
            pods.push(running);
        }
        Some(Self { namespace, facts, name, service, pods })
    }

    /// Finds the first call that policies block, of the backends and of clients if the Service is exposed. The inner None says
    /// that no call is known to be blocked.
    pub(super) fn blocked(
        &self,
        case: &Case<'a>,
        backends: impl Iterator<Item = &'a Backend>,
        policy: Option<&Policy>,
        looks: &mut Looks,
    ) -> Option<Option<Blocked<'a>>> {
        let mut calls = self.calls(backends, looks)?;
        if self.service.is_exposed {
            let ports = self.service.ports.iter().collect();
            calls.push(Call { source: Source::of_exposed(self.service), ports, objects: Vec::new() });
        }
        calls.sort_by_key(|call| call.source);
        self.first_blocked(case, calls, policy, looks)
    }

    /// Checks if policies block the call of one backend.
    pub(super) fn blocked_for(
        &self,
        case: &Case<'a>,
        backend: &'a Backend,
        looks: &mut Looks,
    ) -> Option<Option<Blocked<'a>>> {
        let calls = self.calls(std::iter::once(backend), looks)?;
        self.first_blocked(case, calls, None, looks)
    }

    /// The calls of backends, one for each caller and port.
    fn calls(&self, backends: impl Iterator<Item = &'a Backend>, looks: &mut Looks) -> Option<Vec<Call<'a>>> {
        let mut single: Vec<(Source, &ServicePort, &ObjectRef)> = Vec::new();
        for backend in backends {
            looks.take(1 + self.service.ports.len())?;
            if let Some(port) = self.service.backend_port(&backend.port) {
                single.push((backend.caller.into(), port, &backend.object));
            }
        }
        single.sort_by(|(a, own, one), (b, port, other)| (a, own.number, one).cmp(&(b, port.number, other)));
        let alike = single.chunk_by(|(a, own, _), (b, port, _)| (a, own.number) == (b, port.number));
        let calls = alike.filter_map(|alike| {
            let (source, port, _) = *alike.first()?;
            let objects = alike.iter().map(|(_, _, object)| *object).collect();
            Some(Call { source, ports: vec![port], objects })
        });
        Some(calls.collect())
    }

    fn first_blocked(
        &self,
        case: &Case<'a>,
        calls: Vec<Call<'a>>,
        policy: Option<&Policy>,
        looks: &mut Looks,
    ) -> Option<Option<Blocked<'a>>> {
        if calls.is_empty() || self.pods.is_empty() {
            return Some(None);
        }
        let policies: Vec<&'a Policy> = case.after().policies(self.namespace).collect();
        for call in calls {
            if call.source.is_proxy() && self.may_have_proxy_beside(case, looks)? {
                continue;
            }
            let Some((cause, targets)) = self.stopped(case, &call, &policies, policy, looks)? else { continue };
            let object = call.objects.iter().copied().take(MAX_CHECKED).find(|object| may_tell(case, object));
            if call.objects.is_empty() || object.is_some() {
                return Some(Some(Blocked { source: call.source, object, cause, targets }));
            }
        }
        Some(None)
    }

    /// Finds the cause that blocks a call for all pods on all of its ports, with these ports. The inner None says that it
    /// passes, or may pass.
    #[allow(clippy::type_complexity, reason = "two kinds of nothing, as everywhere in this rule")]
    fn stopped(
        &self,
        case: &Case<'a>,
        call: &Call<'a>,
        policies: &[&'a Policy],
        policy: Option<&Policy>,
        looks: &mut Looks,
    ) -> Option<Option<(Cause, Vec<(Protocol, u16)>)>> {
        let ends = call.source.ends(case, self.namespace, looks)?;
        let rules: usize = policies.iter().map(|policy| 1 + policy.ingress.rules.len()).sum();
        let (mut found, mut targets) = (Cause::Others, Vec::new());
        for pod in &self.pods {
            let workload = &*pod.workload;
            for port in &call.ports {
                let Some(number) = port.target_in(workload) else { return Some(None) };
                let target = (port.protocol, number);
                let tunnel = (call.source.is_proxy() && self.may_be_in_mesh(case, workload)).then_some(MESH_TUNNEL);
                for (protocol, number) in [target].into_iter().chain(tunnel) {
                    let names = names(workload, protocol, number);
                    // Of containers that list no ports the names are not known.
                    let names = if workload.ports.is_empty() { Names::AtLeast(&[]) } else { Names::Exactly(&names) };
                    for end in &ends {
                        looks.take(1 + rules)?;
                        let question = Question {
                            subject: Subject::One(Endpoint::of(self.namespace, workload)),
                            direction: Direction::Ingress,
                            other: *end,
                            traffic: Traffic::Port { protocol, number, names },
                        };
                        let Some(cause) = stop(case, policies, &question, policy) else { return Some(None) };
                        if matches!(found, Cause::Others) {
                            found = cause;
                        }
                    }
                }
                if targets.len() < MAX_NAMED && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        Some((!targets.is_empty()).then_some((found, targets)))
    }

    /// Returns true if a pod may be in an Istio ambient mesh.
    fn may_be_in_mesh(&self, case: &Case<'_>, workload: &Workload) -> bool {
        let is_ambient = |labels: &Labels| labels.get(MESH_LABEL.0) == Some(MESH_LABEL.1);
        case.view.all_labels(self.namespace).is_none_or(is_ambient) || is_ambient(&workload.labels)
    }

    /// Returns true if an ingress controller or a gateway may run in the namespace of the Service.
    fn may_have_proxy_beside(&self, case: &Case<'_>, looks: &mut Looks) -> Option<bool> {
        if self.facts.has_operator_pods || case.site.is_platform(self.namespace) {
            return Some(true);
        }
        looks.take(self.facts.services.len())?;
        let exposed: Vec<&Service> =
            self.facts.services.iter().map(|(_, service)| &**service).filter(|service| service.is_exposed).collect();
        for running in self.facts.distinct() {
            looks.take(1 + exposed.len())?;
            let workload = &*running.workload;
            let is_exposed = || exposed.iter().any(|service| service.selects(workload));
            if workload.host_network.is_some() || !self.service.selects(workload) && is_exposed() {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// The names that the containers of a pod give to a port.
fn names(workload: &Workload, protocol: Protocol, number: u16) -> Vec<Box<str>> {
    let listed = workload.ports.iter().filter(|port| (port.protocol, port.number) == (protocol, number));
    listed.filter_map(|port| port.name.clone()).collect()
}

/// Finds the cause that surely blocks a connection. None if it passes or may pass.
fn stop<'q>(case: &Case<'q>, policies: &[&'q Policy], question: &Question<'q>, own: Option<&Policy>) -> Option<Cause> {
    let scene = case.after();
    // Neither the position of an unknown tier nor its default action is known.
    let is_unclear = |policy: &&&Policy| matches!(&policy.stage, Stage::Tier(name) if scene.tier(name).is_none());
    if let Subject::One(pod) = question.subject
        && policies.iter().filter(is_unclear).any(|policy| policy.subject.mean(&pod, &scene) != Some(false))
    {
        return None;
    }
    let is_own = |by: &Policy| own.is_some_and(|own| std::ptr::eq(own, by));
    Some(match surely_stopped(scene, policies.iter().copied(), question)? {
        Decision::Isolated(by) if by.iter().any(|by| is_own(by)) => Cause::Isolation,
        Decision::Denied(by, rule) if is_own(by) => Cause::Denial(rule.path.clone()),
        _ => Cause::Others,
    })
}

/// Returns true if the author of the change may read of an object.
fn may_tell(case: &Case<'_>, object: &ObjectRef) -> bool {
    let resource = match &*object.kind {
        "Ingress" => "ingresses.networking.k8s.io",
        "HTTPRoute" => "httproutes.gateway.networking.k8s.io",
        "ValidatingWebhookConfiguration" => "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "MutatingWebhookConfiguration" => "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        _ => "apiservices.apiregistration.k8s.io",
    };
    let is_in_own_namespace =
        object.namespace.is_some() && object.namespace.as_deref() == case.change.object().namespace();
    is_in_own_namespace || case.occasion.author.may_list(resource, object.namespace.as_deref())
}
