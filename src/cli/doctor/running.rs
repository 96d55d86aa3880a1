//! What runs: the Service, the Deployment, the Lease, and the CRDs of the configured policy set.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;

use super::Check;
use super::installation::{Installation, SELECTOR, get};
use crate::cli::NAME;
use crate::cli::webhooks::Address;
use crate::cluster::{Cluster, Served, discover, words};
use crate::view::SetName;

/// Checks that the Service by which the API server calls Portcullis exists and has ready endpoints.
pub(super) async fn service(installation: &Installation) -> Check {
    const CHECK: &str = "service";
    let client = &installation.client;
    let (namespace, name) = match &installation.address {
        Address::Service { namespace, name, .. } => (namespace, name),
        Address::Url(url) => return Check::ok(CHECK, format!("the webhooks use {url} and no Service")),
    };
    let service = match get::<Service>(Api::namespaced(client.clone(), namespace), name).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            let message = format!("Service {namespace}/{name} does not exist");
            return Check::fault(CHECK, message, installation.restore());
        }
        Err(why) => return Check::unknown(CHECK, why),
    };
    if let Some(external) = service.spec.and_then(|spec| spec.external_name) {
        return Check::ok(CHECK, format!("Service {namespace}/{name} is an ExternalName for {external}"));
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let slices = slices.list(&ListParams::default().labels(&format!("kubernetes.io/service-name={name}"))).await;
    let slices = match slices {
        Ok(slices) => slices.items,
        Err(error) => return Check::unknown(CHECK, words(&error)),
    };
    let endpoints = || slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
    let ready = endpoints()
        .filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)))
        .count();
    if ready == 0 {
        let fix = installation.kubectl(format_args!("get pods --namespace {namespace} --selector {SELECTOR}"));
        return Check::fault(CHECK, format!("Service {namespace}/{name} has no ready endpoint"), fix);
    }
    Check::ok(CHECK, format!("Service {namespace}/{name} has {ready} of {} endpoints ready", endpoints().count()))
}

/// Checks that all replicas are ready.
pub(super) fn deployment(installation: &Installation) -> Check {
    const CHECK: &str = "replicas";
    let Installation { namespace, name, .. } = installation;
    let deployment = match &installation.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let message = format!("Deployment {namespace}/{name} does not exist");
            return Check::fault(CHECK, message, installation.restore());
        }
        Err(why) => return Check::unknown(CHECK, why.clone()),
    };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let message = format!("{ready} of {wanted} replicas are ready");
    if wanted == 0 {
        let scale =
            || installation.kubectl(format_args!("scale deployment/{name} --namespace {namespace} --replicas=2"));
        let fix = installation.upgrade(" --set replicas=2").unwrap_or_else(scale);
        return Check::fault(CHECK, "the Deployment is scaled to 0 replicas", fix);
    }
    if ready < wanted {
        let fix = installation.kubectl(format_args!("rollout status deployment/{name} --namespace {namespace}"));
        return Check::fault(CHECK, message, fix);
    }
    Check::ok(CHECK, message)
}

/// Checks that a replica holds the Lease and renews it.
pub(super) async fn lease(installation: &Installation) -> Check {
    const CHECK: &str = "lease";
    if installation.server().is_some_and(|server| !server.is_set("--controller")) {
        return Check::ok(CHECK, "the Deployment runs serve without --controller, which needs no Lease");
    }
    let (namespace, logs) = (&installation.namespace, installation.logs());
    // All installations use this name.
    let lease = match get::<Lease>(Api::namespaced(installation.client.clone(), namespace), NAME).await {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            return Check::fault(CHECK, format!("Lease {namespace}/{NAME} does not exist: no controller runs"), logs);
        }
        Err(why) => return Check::unknown(CHECK, why),
    };
    let spec = lease.spec.unwrap_or_default();
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else {
        return Check::fault(CHECK, format!("no replica holds Lease {namespace}/{NAME}"), logs);
    };
    let length = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(15)));
    let age = spec.renew_time.map(|renewed| Timestamp::now().duration_since(renewed.0));
    match age {
        Some(age) if age <= length => Check::ok(CHECK, format!("{holder} holds the Lease")),
        Some(age) => {
            let age = age.as_secs();
            Check::fault(CHECK, format!("the Lease has expired: {holder} renewed it {age} s ago"), logs)
        }
        None => Check::fault(CHECK, format!("{holder} has never renewed the Lease"), logs),
    }
}

/// Checks that the API server serves the kinds of the configured policy set.
pub(super) async fn dialect(installation: &Installation, cluster: &Cluster) -> Check {
    const CHECK: &str = "policy-set";
    let served = match discover(&cluster.client, &Served::default()).await {
        Ok(served) => served,
        Err(why) => return Check::unknown(CHECK, why),
    };
    let (set, kind, groups): (_, _, &[&str]) = match installation.configuration.site.policy_set {
        SetName::Kubernetes => ("kubernetes", "NetworkPolicy", &["networking.k8s.io"]),
        SetName::Cilium => ("cilium", "CiliumClusterwideNetworkPolicy", &["cilium.io"]),
        SetName::Calico => ("calico", "GlobalNetworkPolicy", &["projectcalico.org", "crd.projectcalico.org"]),
    };
    if groups.iter().any(|group| served.find(group, kind).is_some()) {
        return Check::ok(CHECK, format!("policySet is {set}, and the API server serves {kind}"));
    }
    match served.unclear().iter().find(|(group, _)| groups.contains(&group.as_str())) {
        Some((group, why)) => Check::unknown(CHECK, format!("API group {group}: {why}")),
        None => Check::fault(
            CHECK,
            format!("policySet is {set}, but the API server does not serve {kind}"),
            installation.kubectl(format_args!("get crd | grep {}", groups.first().copied().unwrap_or_default())),
        ),
    }
}
