//! What runs: the Service, the Deployment, the Lease, and the CRDs of the configured policy set.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Check, Installation, NAME, get};
use crate::cluster::{Cluster, Served, discover, words};
use crate::view::SetName;

/// The command that installs what is missing.
const INSTALL: &str = "kubectl apply -k deploy/";

/// Checks that the Service exists and has ready endpoints.
pub(super) async fn service(client: &Client, namespace: &str) -> Check {
    const CHECK: &str = "service";
    let service = match get::<Service>(Api::namespaced(client.clone(), namespace), NAME).await {
        Ok(Some(service)) => service,
        Ok(None) => return Check::fault(CHECK, format!("Service {namespace}/{NAME} does not exist"), INSTALL),
        Err(why) => return Check::unknown(CHECK, why),
    };
    if let Some(name) = service.spec.and_then(|spec| spec.external_name) {
        return Check::ok(CHECK, format!("Service {namespace}/{NAME} is an ExternalName for {name}"));
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let slices = slices.list(&ListParams::default().labels(&format!("kubernetes.io/service-name={NAME}"))).await;
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
        let fix = format!("kubectl get pods --namespace {namespace} --selector app.kubernetes.io/name={NAME}");
        return Check::fault(CHECK, format!("Service {namespace}/{NAME} has no ready endpoint"), fix);
    }
    Check::ok(CHECK, format!("Service {namespace}/{NAME} has {ready} of {} endpoints ready", endpoints().count()))
}

/// Checks that all replicas are ready.
pub(super) fn deployment(installation: &Installation) -> Check {
    const CHECK: &str = "replicas";
    let namespace = &installation.namespace;
    let deployment = match &installation.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => return Check::fault(CHECK, format!("Deployment {namespace}/{NAME} does not exist"), INSTALL),
        Err(why) => return Check::unknown(CHECK, why.clone()),
    };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let message = format!("{ready} of {wanted} replicas are ready");
    if wanted == 0 {
        let fix = format!("kubectl scale deployment/{NAME} --namespace {namespace} --replicas=2");
        return Check::fault(CHECK, "the Deployment is scaled to 0 replicas", fix);
    }
    if ready < wanted {
        return Check::fault(
            CHECK,
            message,
            format!("kubectl rollout status deployment/{NAME} --namespace {namespace}"),
        );
    }
    Check::ok(CHECK, message)
}

/// Checks that a replica holds the Lease and renews it.
pub(super) async fn lease(client: &Client, namespace: &str) -> Check {
    const CHECK: &str = "lease";
    let logs = format!("kubectl logs deployment/{NAME} --namespace {namespace}");
    let lease = match get::<Lease>(Api::namespaced(client.clone(), namespace), NAME).await {
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
            format!("kubectl get crd | grep {}", groups.first().copied().unwrap_or_default()),
        ),
    }
}
