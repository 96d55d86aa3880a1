//! A small server that plays an API server, for what a real one cannot be brought to do when a test wants it.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use portcullis::cluster::Cluster;
use serde_json::{Value, json};

/// A cluster whose API server answers like this.
pub(crate) async fn cluster<A>(answer: impl Fn(Request) -> A + Clone + Send + Sync + 'static) -> Cluster
where
    A: Future<Output = Response> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |request: Request| answer(request));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "t", "cluster": {"server": server}}],
        "users": [{"name": "t", "user": {}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "current-context": "t",
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    Cluster::connect(Some(&kubeconfig), None).await.unwrap().unwrap()
}

/// An answer.
pub(crate) fn json_body(value: &Value) -> Response {
    value.to_string().into_response()
}

/// Which groups there are, each in one version.
pub(crate) fn groups(versions: &[&str]) -> Response {
    let each = |group_version: &&str| {
        let (group, version) = group_version.split_once('/').unwrap();
        let version = json!({"groupVersion": group_version, "version": version});
        json!({"name": group, "versions": [version], "preferredVersion": version})
    };
    let groups: Vec<Value> = versions.iter().map(each).collect();
    json_body(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// What is in one version of a group: resources and their kinds.
pub(crate) fn resources(version: &str, kinds: &[(&str, &str)]) -> Response {
    let each = |(name, kind): &(&str, &str)| {
        let is_namespaced = *kind != "Namespace";
        json!({"name": name, "singularName": "", "namespaced": is_namespaced, "kind": kind, "verbs": ["list", "watch"]})
    };
    let resources: Vec<Value> = kinds.iter().map(each).collect();
    json_body(&json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources}))
}
