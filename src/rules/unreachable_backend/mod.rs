//! See [`UnreachableBackend`].

mod called;
mod source;

use std::collections::HashSet;

use super::shared::attribution::can_stop;
use super::shared::destination::{Looks, destinations};
use super::shared::host_policies::is_for_hosts;
use super::{Case, Findings, Rule};
use crate::model::{Backend, Body, Object, Path, Policy, Service, Standing};
use crate::view::NamespaceFacts;

use called::{Blocked, Called, Cause};
use source::Source;

rule! {
    /// Policies block an Ingress, an HTTPRoute, a webhook, an APIService or an exposed Service from its pods.
    ///
    /// ## Why
    ///
    /// The API server is not a pod. It runs on the host network or outside of the cluster, so a policy that isolates the pods
    /// of an admission webhook and allows only pods blocks the webhook, and every request that the webhook is for fails or is
    /// not checked. The same applies to an aggregated API. A LoadBalancer or NodePort Service receives connections from
    /// outside of the cluster, and an ingress controller connects from its own namespace.
    ///
    /// ## What it checks
    ///
    /// Each policy that isolates ingress of known pods behind such a Service, or denies it. All policies count, over all
    /// dialects. The target port of the Service is compared with the places where the caller may be:
    ///
    /// | caller | named by | allowed by |
    /// |---|---|---|
    /// | the API server | a webhook configuration, an APIService | a rule without peers, with addresses, entities or nodes |
    /// | clients outside of the cluster | a Service of type `LoadBalancer` or `NodePort`, or with `externalIPs` | the same, and pods of platform namespaces, which the load balancer of k3s uses |
    /// | an ingress controller or a gateway | an Ingress, an HTTPRoute | the same, and pods of any other namespace |
    ///
    /// A policy is reported once for each Service, if all known pods of the Service are blocked. An Ingress, an HTTPRoute, a
    /// webhook configuration, an APIService and a new exposed Service are checked too, in files. The webhooks do not send
    /// them.
    ///
    /// It is not reported if
    ///
    /// - a rule may allow the port: one with addresses that are not link-local, a condition or a peer that Portcullis does not
    ///   understand, a port name that the pods may have, a Pass rule, or a policy in an unknown tier;
    /// - a rule may allow an ingress controller TCP 15008 of pods that may be in an Istio ambient mesh;
    /// - no pod of the Service is known, one of them uses hostNetwork, or the target port is a name that no container lists;
    /// - one port of an exposed Service is allowed: the others are blocked on purpose;
    /// - the ingress controller may run in the namespace of the Service: it is a platform namespace, the Gateway is in it, it
    ///   has a hostNetwork pod, other pods in it are behind an exposed Service, or an operator creates pods in it;
    /// - the API server may connect through Konnectivity: its agents run in kube-system, and a rule allows pods there;
    /// - the policy is staged, or its agent rejects it;
    /// - the author of the change may not list the objects that the message would name.
    ///
    /// **Limits.** At most 10,000 pods, Services and rules are compared in one decision, and at most 50 different pods of one
    /// Service. Beyond that no backend is reported. Most agents allow connections from the node of a pod, so in a cluster of
    /// one node the API server reaches its webhooks despite the policy.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy, Cilium, Calico: policies that isolate ingress, and deny rules. A Cilium rule for the entity `ingress`
    ///   may allow an ingress controller; entities of nodes and of the API server may allow all callers. A Calico selector
    ///   may match a network set with any address, unless it names the label `projectcalico.org/orchestrator` of pods.
    /// - ClusterNetworkPolicy: does not isolate; a deny rule is reported, and a rule that accepts or passes counts.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: webhook
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: webhook
    ///     spec:
    ///       containers:
    ///       - name: webhook
    ///         image: webhook:1
    ///         ports:
    ///         - containerPort: 10250
    /// ---
    /// apiVersion: v1
    /// kind: Service
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     app: webhook
    ///   ports:
    ///   - port: 443
    ///     targetPort: 10250
    /// ---
    /// apiVersion: admissionregistration.k8s.io/v1
    /// kind: ValidatingWebhookConfiguration
    /// metadata:
    ///   name: shop
    /// webhooks:
    /// - name: orders.shop.example.com
    ///   clientConfig:
    ///     service:
    ///       namespace: shop
    ///       name: webhook
    ///   rules:
    ///   - apiGroups: [shop.example.com]
    ///     apiVersions: [v1]
    ///     operations: [CREATE]
    ///     resources: [orders]
    ///   sideEffects: None
    ///   admissionReviewVersions: [v1]
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: webhook
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector: {}
    ///     ports:
    ///     - protocol: TCP
    ///       port: 10250
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: webhook
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: webhook
    ///     spec:
    ///       containers:
    ///       - name: webhook
    ///         image: webhook:1
    ///         ports:
    ///         - containerPort: 10250
    /// ---
    /// apiVersion: v1
    /// kind: Service
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     app: webhook
    ///   ports:
    ///   - port: 443
    ///     targetPort: 10250
    /// ---
    /// apiVersion: admissionregistration.k8s.io/v1
    /// kind: ValidatingWebhookConfiguration
    /// metadata:
    ///   name: shop
    /// webhooks:
    /// - name: orders.shop.example.com
    ///   clientConfig:
    ///     service:
    ///       namespace: shop
    ///       name: webhook
    ///   rules:
    ///   - apiGroups: [shop.example.com]
    ///     apiVersions: [v1]
    ///     operations: [CREATE]
    ///     resources: [orders]
    ///   sideEffects: None
    ///   admissionReviewVersions: [v1]
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: webhook
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: webhook
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - ports:
    ///     - protocol: TCP
    ///       port: 10250
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "unreachable-backend", Warn, adds_up = true,
    #[derive(Default)]
    pub struct UnreachableBackend {}
}

impl Rule for UnreachableBackend {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some(object) = case.written() else { return };
        let mut looks = Looks::default();
        // None means that the limit of comparisons was reached.
        let _ = match &object.body {
            Body::Policies(policies) => check_policies(case, policies, &mut looks, findings),
            Body::Backends(backends) => check_backends(case, backends, &mut looks, findings),
            // An update of a stored Service is sent for its ports, which service-port is for.
            Body::Service(service) if case.is_new() => check_service(case, object, service, &mut looks, findings),
            Body::Service(_) | Body::Namespace(_) | Body::Tier(_) | Body::Workload(_) | Body::Contract(_) => None,
        };
    }
}

/// Reports the Services whose pods a policy isolates from their callers.
fn check_policies<'a>(
    case: &Case<'a>,
    policies: &'a [Policy],
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    for policy in policies {
        if policy.standing != Standing::InForce || !can_stop(&policy.ingress) || is_for_hosts(case, policy) {
            continue;
        }
        for destination in destinations(case, &policy.subject, looks)? {
            let (namespace, facts) = (destination.namespace, destination.facts);
            let backends = by_service(facts, looks)?;
            for (name, service) in &facts.services {
                looks.take(1)?;
                let first = backends.partition_point(|backend| *backend.service < **name);
                let own = backends.get(first..).unwrap_or_default();
                let own = own.iter().take_while(|backend| *backend.service == **name);
                let mut own = own.copied().peekable();
                if own.peek().is_none() && !service.is_exposed {
                    continue;
                }
                looks.take(destination.matched.len())?;
                if !destination.matched.iter().any(|running| service.selects(&running.workload)) {
                    continue;
                }
                let called = Called::new(namespace, facts, (name, service), looks)?;
                if let Some(blocked) = called.blocked(case, own, Some(policy), looks)? {
                    let path = match &blocked.cause {
                        Cause::Others => continue,
                        Cause::Isolation => policy.ingress.path.clone(),
                        Cause::Denial(path) => path.clone(),
                    };
                    report(case, path, &called, &blocked, findings);
                }
            }
        }
    }
    Some(())
}

/// The backends in a namespace, sorted by Service.
fn by_service<'a>(facts: &'a NamespaceFacts, looks: &mut Looks) -> Option<Vec<&'a Backend>> {
    looks.take(facts.backends.len())?;
    let mut backends: Vec<&Backend> = facts.backends.iter().map(|backend| &**backend).collect();
    backends.sort_by(|a, b| a.service.cmp(&b.service));
    Some(backends)
}

/// Reports the Services that the object names and that policies block.
fn check_backends<'a>(
    case: &Case<'a>,
    backends: &'a [Backend],
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    // Each Service is reported at the first place that names it.
    let mut reported: HashSet<(&str, &str)> = HashSet::new();
    for backend in backends {
        looks.take(1)?;
        let Some((namespace, facts)) = case.view.named(backend.namespace.as_deref().unwrap_or_default()) else {
            continue;
        };
        let Ok(at) = facts.services.binary_search_by(|(name, _)| name.cmp(&backend.service)) else { continue };
        let Some((name, service)) = facts.services.get(at) else { continue };
        if reported.contains(&(namespace, &**name)) {
            continue;
        }
        let called = Called::new(namespace, facts, (name, service), looks)?;
        if let Some(blocked) = called.blocked_for(case, backend, looks)? {
            report(case, backend.path.clone(), &called, &blocked, findings);
            reported.insert((namespace, &**name));
        }
    }
    Some(())
}

/// Reports a new Service that clients outside of the cluster cannot reach.
fn check_service<'a>(
    case: &Case<'a>,
    object: &'a Object,
    service: &'a Service,
    looks: &mut Looks,
    findings: &mut Findings,
) -> Option<()> {
    let namespace = object.id.namespace.as_deref().unwrap_or_default();
    let (namespace, facts) = case.view.named(namespace)?;
    let called = Called::new(namespace, facts, (&object.id.name, service), looks)?;
    if let Some(blocked) = called.blocked(case, std::iter::empty(), None, looks)? {
        report(case, Path::root().field("spec"), &called, &blocked, findings);
    }
    Some(())
}

fn report(case: &Case<'_>, path: Path, called: &Called<'_>, blocked: &Blocked<'_>, findings: &mut Findings) {
    let (namespace, slash) = (called.namespace, if called.namespace.is_empty() { "" } else { "/" });
    let service = text!("Service {namespace}{slash}{}", called.name);
    let pods = &called.service.selector;
    let ports = blocked.ports(" or ");
    // An object that is checked itself is not named, so that equal findings in several objects have equal messages.
    let object = blocked.object.filter(|object| !object.is_same_object(&case.change.object().id));
    let who = match (blocked.source, object) {
        (Source::ApiServer, None) => text!("the API server cannot reach {service}"),
        (Source::ApiServer, Some(object)) => text!("the API server cannot reach {service} for {object}"),
        (Source::Proxy, None) => text!("an ingress controller or a gateway cannot reach {service}"),
        (Source::Proxy, Some(object)) if &*object.kind == "HTTPRoute" => {
            text!("the gateway of {object} cannot reach {service}")
        }
        (Source::Proxy, Some(object)) => text!("the ingress controller of {object} cannot reach {service}"),
        (Source::Outside | Source::OutsideByPods, _) => text!("clients outside of the cluster cannot reach {service}"),
    };
    let place = match blocked.source {
        Source::ApiServer | Source::Outside => "outside of the pod network",
        Source::OutsideByPods | Source::Proxy => "other namespaces or outside of the pod network",
    };
    let message = match blocked.cause {
        Cause::Denial(_) => text!("{who}, because this rule denies {ports} from {place} to pods {pods}"),
        Cause::Isolation | Cause::Others => {
            text!("{who}, because no policy allows {ports} from {place} to pods {pods}")
        }
    };
    let ports = blocked.ports(" and ");
    let help = match blocked.source {
        _ if matches!(blocked.cause, Cause::Denial(_)) => text!("narrow this rule so that it does not deny {ports}"),
        Source::ApiServer => {
            text!("add an ingress rule for {ports} without peers, or with the addresses of the API server")
        }
        Source::Outside | Source::OutsideByPods => {
            text!("add an ingress rule for {ports} without peers, or with the addresses of the clients and the nodes")
        }
        Source::Proxy => {
            text!("add an ingress rule for {ports} from the namespace of the ingress controller or the gateway")
        }
    };
    findings.add::<UnreachableBackend>(case, path, message, help, None);
}
