//! A server that watches a cluster: what it decides follows what is in there, moments later.

use std::time::{Duration, Instant};

use crate::support::control_plane::ControlPlane;
use crate::support::reviews::create_as;
use crate::support::server::{Portcullis, until};
use serde_json::{Value, json};

/// What `/validate` says about the creation of an object by this user: whether it is allowed, and why not.
async fn ask(server: &Portcullis, user: &str, object: &Value) -> (bool, String) {
    let answer = server.client.post("/validate", create_as("u", user, object)).await;
    let response = answer.response();
    let message = response["status"]["message"].as_str().unwrap_or_default().to_owned();
    (response["allowed"].as_bool().unwrap(), message)
}

fn pod(namespace: &str) -> Value {
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "x"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": spec})
}

/// A policy that opens every port, and is exempt from the rule against that.
fn exempt(namespace: &str) -> Value {
    let domain = "network-policy.portcullis.dev";
    let annotations = json!({format!("{domain}/exempt"): "any-port", format!("{domain}/reason"): "a test"});
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": namespace, "annotations": annotations},
        "spec": {"podSelector": {"matchLabels": {"app": "y"}}, "policyTypes": ["Ingress"], "ingress": [rule]},
    })
}

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ciliumnetworkpolicies.cilium.io}
spec:
  group: cilium.io
  scope: Namespaced
  names: {kind: CiliumNetworkPolicy, plural: ciliumnetworkpolicies}
  versions:
  - {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

const CILIUM: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: all, namespace: shop}
spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}]}], egress: [{toEndpoints: [{}]}]}
";

const BYPASS: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: may-open}
rules:
- {apiGroups: [portcullis.dev], resources: [rules], resourceNames: [any-port], verbs: [bypass]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: may-open}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: may-open}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]
";

#[tokio::test(flavor = "multi_thread")]
async fn decisions_follow_what_is_in_the_cluster() {
    let Some(mut plane) = ControlPlane::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portcullis.yaml");
    let configure = |text: &str| {
        std::fs::write(&file, format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{text}")).unwrap();
    };
    configure("");
    let arguments = ["--config", file.to_str().unwrap(), "--reload-every", "0.1"];
    let server = Portcullis::watching(plane.kubeconfig(), &arguments).await;
    server.until_ready().await;
    let (_, ready) = server.readyz().unwrap();
    for kind in [
        "Namespace",
        "NetworkPolicy",
        "Pod",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "CronJob",
        "Service",
        "Ingress",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "APIService",
    ] {
        assert_eq!(ready["detail"]["watches"][kind], "synced", "{ready}");
    }
    for kind in ["CiliumNetworkPolicy", "HTTPRoute"] {
        assert!(ready["detail"]["watches"][kind].is_null(), "a missing CRD is no error: {ready}");
    }

    // What the watches have not told of is asked for.
    let (allowed, why) = ask(&server, "alice", &pod("shop")).await;
    assert!(!allowed && why == "namespace shop does not exist", "{why}");
    let asked = r#"portcullis_lookups_total{what="namespace",result="success"}"#;
    assert_eq!(server.metric(asked), 1.0);

    // A namespace, and its labels.
    assert!(plane.kubectl(&["create", "namespace", "shop"]).ok);
    until("the pod is allowed", async || ask(&server, "alice", &pod("shop")).await.0.then_some(())).await;
    let label = "network-policy.portcullis.dev/profile";
    assert!(plane.kubectl(&["label", "namespace", "shop", &format!("{label}=isolated")]).ok);
    let denial = until("the pod is denied", async || {
        Some(ask(&server, "alice", &pod("shop")).await.1).filter(|why| !why.is_empty())
    })
    .await;
    assert!(denial.contains("host-network"), "{denial}");

    // Files that change leave alone what was watched.
    configure("rules: {any-port: {mode: deny}}\n");
    server.until_metric(r#"portcullis_configuration_reloads_total{result="success"}"#, 1.0).await;
    assert!(ask(&server, "alice", &pod("shop")).await.1.contains("host-network"));
    assert!(plane.kubectl(&["label", "namespace", "shop", &format!("{label}-")]).ok);
    until("the pod is allowed again", async || ask(&server, "alice", &pod("shop")).await.0.then_some(())).await;

    // Who may what is asked of the cluster's own RBAC, by name.
    let (allowed, why) = ask(&server, "alice", &exempt("shop")).await;
    assert!(!allowed && why.contains("does not allow alice to bypass any-port"), "{why}");
    assert!(plane.apply(BYPASS, &[]).ok);
    until("alice may", async || ask(&server, "alice", &exempt("shop")).await.0.then_some(())).await;
    let (allowed, why) = ask(&server, "mallory", &exempt("shop")).await;
    assert!(!allowed && why.contains("does not allow mallory to bypass any-port"), "{why}");
    assert_eq!(server.metric(r#"portcullis_lookups_total{what="access",result="failure"}"#), 0.0);

    // A kind that appears later. It is looked for twice a minute.
    assert!(plane.apply(CRD, &[]).ok);
    assert!(plane.kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"]).ok);
    assert!(plane.apply(CILIUM, &[]).ok);
    let deadline = Instant::now() + Duration::from_secs(60);
    let isolated = async || Some(ask(&server, "alice", &pod("shop")).await.1).filter(|why| !why.is_empty());
    let denial = loop {
        if let Some(denial) = isolated().await {
            break denial;
        }
        assert!(Instant::now() < deadline, "the kind was never found: {:?}", server.readyz());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(denial.contains("host-network"), "{denial}");
    assert_eq!(server.readyz().unwrap().1["detail"]["watches"]["CiliumNetworkPolicy"], "synced");

    // And one that is not served any more: nobody tells of the end of its objects. It is looked for twice before it is gone.
    let unserved = r#"[{"op": "replace", "path": "/spec/versions/0/served", "value": false}]"#;
    let crd = "ciliumnetworkpolicies.cilium.io";
    assert!(plane.kubectl(&["patch", "crd", crd, "--type=json", "--patch", unserved]).ok);
    let deadline = Instant::now() + Duration::from_secs(90);
    while !ask(&server, "alice", &pod("shop")).await.0 {
        assert_eq!(server.readyz().unwrap().0, 200, "a kind that is gone is no trouble");
        assert!(Instant::now() < deadline, "it counts for ever: {:?}", server.readyz());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (status, ready) = server.readyz().unwrap();
    assert_eq!((status, &ready["detail"]["watches"]["CiliumNetworkPolicy"]), (200, &Value::Null), "{ready}");

    // Without the API server the last state stays, and it is said that it grows old.
    assert!(plane.kubectl(&["label", "namespace", "shop", &format!("{label}=isolated")]).ok);
    until("the pod is denied again", isolated).await;
    plane.stop_api_server();
    let lost = async || {
        let (status, ready) = server.readyz()?;
        let watch = ready["detail"]["watches"]["NetworkPolicy"].as_str()?.to_owned();
        watch.starts_with("lost for ").then_some((status, watch))
    };
    let (status, watch) = until("the watch is lost", lost).await;
    assert_eq!(status, 200, "{watch}");
    assert_eq!(server.metric(r#"portcullis_watch_synced{kind="NetworkPolicy"}"#), 0.0);
    assert!(server.metric(r#"portcullis_watch_failures_total{kind="NetworkPolicy"}"#) >= 1.0);
    assert!(isolated().await.unwrap().contains("host-network"), "a lost watch is no empty cluster");
    let (allowed, why) = ask(&server, "alice", &pod("bank")).await;
    assert!(!allowed && why.contains("the lookup of namespace bank failed: "), "{why}");
    assert!(server.metric(r#"portcullis_lookups_total{what="namespace",result="failure"}"#) >= 1.0);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_no_empty_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let [nobody] = crate::support::free_ports();
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "t", "cluster": {"server": format!("http://127.0.0.1:{nobody}")}}],
        "users": [{"name": "t", "user": {}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "current-context": "t",
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let server = Portcullis::watching(&kubeconfig, &[]).await;
    let (allowed, why) = ask(&server, "alice", &exempt("shop")).await;
    assert!(!allowed && why.starts_with("the state of the cluster is not known yet: "), "{why}");
    let (status, ready) = server.readyz().unwrap();
    assert_eq!((status, &ready["ready"]), (503, &json!(false)), "{ready}");

    // An operator may have chosen otherwise.
    let file = dir.path().join("portcullis.yaml");
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nlookups: {onFailure: allow}\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--stop-after", "0.1"];
    let mut server = Portcullis::watching(&kubeconfig, &arguments).await;
    let (allowed, why) = ask(&server, "alice", &exempt("shop")).await;
    assert!(allowed, "{why}");

    // Who is told to end is not broken, whatever becomes of the watches first.
    server.signal("TERM");
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("bug in Portcullis"), "{}", server.log());
}
