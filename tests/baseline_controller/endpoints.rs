//! The access `kube-api`: its policy names the endpoints of the API server, and follows them.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use portcullis::cluster::{self, Cluster, Owning};
use portcullis::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::rig::{DOMAIN, Rig, until};
use crate::scenarios::profile;

const KUBE_API: &str = "portcullis-access-kube-api";
const NAMESPACE: &str = "operator";
const APPLIED: &str = "baseline, profile isolated, access kube-api";

/// Writes an EndpointSlice of the Service `default/kubernetes`. The API server of the test writes none itself.
fn write_slice(rig: &Rig, name: &str, kind: &str, addresses: &[&str], port: u16) {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": kind, "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let applied = rig.plane.apply(&slice.to_string(), &[]);
    assert!(applied.ok, "{applied}");
}

/// An egress rule to these blocks.
fn rule(blocks: &[&str], port: u16) -> Value {
    let to: Vec<Value> = blocks.iter().map(|block| json!({"ipBlock": {"cidr": block}})).collect();
    json!({"to": to, "ports": [{"protocol": "TCP", "port": port}]})
}

/// The versions of the policy of a namespace in the order in which the API server stored them: the rules of each, and
/// null where it was deleted.
fn history(rig: &Rig) -> Arc<Mutex<Vec<Value>>> {
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let api: Api<NetworkPolicy> = Api::namespaced(rig.client.clone(), NAMESPACE);
    let ours = Arc::clone(&heard);
    rig.runtime.spawn(async move {
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
        while let Some(event) = events.next().await {
            // The API server ends before the runtime does.
            let Ok(event) = event else { return };
            let version = match event {
                Event::Apply(policy) | Event::InitApply(policy) if policy.name_any() == KUBE_API => {
                    serde_json::to_value(policy).unwrap()["spec"]["egress"].clone()
                }
                Event::Delete(policy) if policy.name_any() == KUBE_API => Value::Null,
                _ => continue,
            };
            ours.lock().unwrap().push(version);
        }
    });
    heard
}

#[test]
fn the_endpoints_of_the_api_server_are_filled_in() {
    let Some(rig) = Rig::start() else { return };
    let stop = CancellationToken::new();
    let (_owning, owning) = watch::channel(Owning::from(&*rig.site));
    let cluster = Cluster { client: rig.client.clone(), server: String::new(), served: Arc::default() };
    // The watches of `serve`, since the feed of the other tests knows no endpoints.
    let running = {
        let _runtime = rig.runtime.enter();
        cluster::run(&cluster, owning, Metrics::default().cluster.clone(), stop.clone())
    };
    let replica = rig.replica_that_sees("endpoints", running.views.clone());
    until("the controller leads", || replica.leads());

    // The endpoints are unknown, and only the policy that names them waits.
    rig.namespace(NAMESPACE, &[&profile("isolated"), &format!("access.{DOMAIN}/kube-api: 'true'")]);
    let waiting =
        "baseline, profile isolated; waiting until the endpoints of the API server are known: access kube-api";
    rig.until_applied(NAMESPACE, waiting);
    assert_eq!(rig.policy(NAMESPACE, KUBE_API), None);
    until("a metric counts it", || replica.metric("portcullis_baseline_namespaces{state=\"pending\"}") == Some(1.0));

    let heard = history(&rig);
    let last = || heard.lock().unwrap().last().cloned();
    write_slice(&rig, "kubernetes", "IPv4", &["10.0.0.2", "10.0.0.1"], 6443);
    let first = json!([rule(&["10.0.0.1/32", "10.0.0.2/32"], 6443)]);
    until("the policy names the endpoints", || last().as_ref() == Some(&first));
    rig.until_applied(NAMESPACE, APPLIED);
    let stored = rig.policy(NAMESPACE, KUBE_API).unwrap();
    assert_eq!(stored["spec"]["policyTypes"], json!(["Egress"]));
    assert_eq!(stored["metadata"]["labels"][rig.site.layer_label()], "access.kube-api");

    // Each change is one write, and so is what is changed by hand.
    write_slice(&rig, "kubernetes", "IPv4", &["10.0.0.1", "10.0.0.3"], 6443);
    let second = json!([rule(&["10.0.0.1/32", "10.0.0.3/32"], 6443)]);
    until("the policy follows", || last().as_ref() == Some(&second));
    write_slice(&rig, "kubernetes-v6", "IPv6", &["fd00::1"], 443);
    let third = json!([rule(&["fd00::1/128"], 443), rule(&["10.0.0.1/32", "10.0.0.3/32"], 6443)]);
    until("another slice is added", || last().as_ref() == Some(&third));
    replica.until_quiet(3.0);
    let versions = [first.clone(), second.clone(), third.clone()];
    assert_eq!(*heard.lock().unwrap(), versions);
    let edited = json!({"spec": {"egress": [rule(&["0.0.0.0/0"], 443)]}}).to_string();
    rig.kubectl(&["patch", "networkpolicy", KUBE_API, "--namespace", NAMESPACE, "--type=merge", "--patch", &edited]);
    until("what was edited is as it was", || heard.lock().unwrap().len() == 5 && last().as_ref() == Some(&third));
    rig.kubectl(&["delete", "endpointslice", "kubernetes-v6", "--namespace=default"]);
    until("a slice is removed", || last().as_ref() == Some(&second));

    // Without endpoints the last ones stay.
    let before = rig.policies(NAMESPACE);
    rig.kubectl(&["delete", "endpointslice", "kubernetes", "--namespace=default"]);
    replica.until_quiet(5.0);
    assert_eq!(rig.policies(NAMESPACE), before);
    assert_eq!(rig.status(NAMESPACE), format!("applied: {APPLIED}"));
    write_slice(&rig, "kubernetes", "IPv4", &["10.0.0.9"], 6443);
    let fourth = json!([rule(&["10.0.0.9/32"], 6443)]);
    until("there are endpoints again", || last().as_ref() == Some(&fourth));

    // Many changes in a short time are no write conflict.
    for host in 10..16 {
        write_slice(&rig, "kubernetes", "IPv4", &[&format!("10.0.0.{host}")], 6443);
        let next = json!([rule(&[&format!("10.0.0.{host}/32")], 6443)]);
        until("the policy follows each time", || last().as_ref() == Some(&next));
    }
    replica.until_quiet(3.0);
    assert!(rig.events(NAMESPACE, "BaselineContested").is_empty());
    let history = heard.lock().unwrap().clone();
    assert!(!history.contains(&Value::Null), "it was never away: {history:#?}");
    // Three versions, the edit and its repair, one without a slice, one after all were gone, and six more.
    assert_eq!(history.len(), 3 + 2 + 1 + 1 + 6, "{history:#?}");

    // Another replica that takes over writes nothing.
    let before = (rig.policies(NAMESPACE), rig.stored(NAMESPACE)["metadata"]["resourceVersion"].clone());
    replica.stop(&rig.runtime);
    let next = rig.replica_that_sees("next", running.views.clone());
    until("it leads", || next.leads());
    next.until_quiet(3.0);
    assert_eq!((rig.policies(NAMESPACE), rig.stored(NAMESPACE)["metadata"]["resourceVersion"].clone()), before);
    assert!(next.writes() < 0.5);
    next.stop(&rig.runtime);
    stop.cancel();
    rig.runtime.block_on(running.task).unwrap();
}
