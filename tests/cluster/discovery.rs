//! What a cluster is found to serve, and what of it counts as gone: only what the API server does not name any more. A small
//! server plays the API server, since a real one does not fail for a single group when a test wants it.

use std::sync::{Arc, Mutex};

use crate::support::played::{self, groups, resources};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use portcullis::cluster::{Cluster, Served, discover};

/// What the API server makes of each question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It serves what every cluster does, and policies of Cilium.
    Whole,
    /// It cannot say what is in the group of Cilium.
    Unclear,
    /// It cannot say which groups there are.
    Broken,
    /// It has just begun, and names no groups yet of those that CRDs make.
    Unready,
    /// The group of Cilium is there, and its policies are not in it.
    Emptied,
    /// There is no such group.
    Gone,
    /// It forgets what every cluster serves.
    Absurd,
    /// It serves ClusterNetworkPolicy in a newer version.
    Newer,
}

fn answered(path: &str, mood: Mood) -> Response {
    let failed = (StatusCode::SERVICE_UNAVAILABLE, "not now").into_response();
    match (path, mood) {
        ("/readyz", Mood::Unready) | ("/apis", Mood::Broken) | ("/apis/cilium.io/v2", Mood::Unclear) => failed,
        ("/readyz", _) => "ok".into_response(),
        ("/apis", Mood::Gone | Mood::Unready) => groups(&["networking.k8s.io/v1"]),
        ("/apis", Mood::Absurd) => groups(&["cilium.io/v2"]),
        ("/apis", Mood::Newer) => groups(&["networking.k8s.io/v1", "policy.networking.k8s.io/v1beta1"]),
        ("/apis/policy.networking.k8s.io/v1beta1", _) => {
            let kinds = [("clusternetworkpolicies", "ClusterNetworkPolicy"), ("others", "Other")];
            resources("policy.networking.k8s.io/v1beta1", &kinds)
        }
        ("/apis", _) => groups(&["networking.k8s.io/v1", "cilium.io/v2"]),
        ("/api/v1", _) => resources("v1", &[("namespaces", "Namespace"), ("pods", "Pod")]),
        ("/apis/networking.k8s.io/v1", _) => resources("networking.k8s.io/v1", &[("networkpolicies", "NetworkPolicy")]),
        ("/apis/cilium.io/v2", Mood::Emptied) => resources("cilium.io/v2", &[("ciliumnodes", "CiliumNode")]),
        ("/apis/cilium.io/v2", _) => {
            let wide = ("ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy");
            resources("cilium.io/v2", &[("ciliumnetworkpolicies", "CiliumNetworkPolicy"), wide])
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// An API server whose mood the test sets.
async fn cluster() -> (Cluster, Arc<Mutex<Mood>>) {
    let mood = Arc::new(Mutex::new(Mood::Whole));
    let asked = Arc::clone(&mood);
    let answer = move |request: Request| {
        let response = answered(request.uri().path(), *asked.lock().unwrap());
        async move { response }
    };
    (played::cluster(answer).await, mood)
}

fn watched(served: &Served) -> Vec<&str> {
    served.watched().iter().map(|resource| &*resource.kind).collect()
}

const EVERYWHERE: [&str; 3] = ["NetworkPolicy", "Namespace", "Pod"];
const WITH_CILIUM: [&str; 5] =
    ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "Namespace", "Pod"];

#[tokio::test]
async fn what_cannot_be_found_out_stays_and_only_what_is_not_named_is_gone() {
    let (cluster, mood) = cluster().await;
    let discover = async |now, before: &Served| {
        *mood.lock().unwrap() = now;
        discover(&cluster.client, before).await
    };
    let whole = discover(Mood::Whole, &Served::default()).await.unwrap();
    assert_eq!(watched(&whole), WITH_CILIUM);
    assert!(whole.unclear().is_empty());

    let unclear = discover(Mood::Unclear, &whole).await.unwrap();
    assert_eq!(watched(&unclear), WITH_CILIUM, "nobody said that it is gone");
    assert!(unclear.unclear()["cilium.io"].contains("not now"), "{:?}", unclear.unclear());
    // However often.
    let still = discover(Mood::Unclear, &unclear).await.unwrap();
    assert_eq!(watched(&still), watched(&unclear));
    for mood in [Mood::Broken, Mood::Unready] {
        assert!(discover(mood, &whole).await.is_err(), "{mood:?} says nothing about what there is");
    }

    for mood in [Mood::Emptied, Mood::Gone] {
        let gone = discover(mood, &whole).await.unwrap();
        assert_eq!(watched(&gone), EVERYWHERE, "{mood:?}");
        assert!(gone.unclear().is_empty(), "{mood:?}");
    }
}

#[tokio::test]
async fn what_every_cluster_serves_is_never_gone() {
    let (cluster, mood) = cluster().await;
    let whole = discover(&cluster.client, &Served::default()).await.unwrap();
    *mood.lock().unwrap() = Mood::Absurd;
    let absurd = discover(&cluster.client, &whole).await.unwrap();
    assert_eq!(watched(&absurd), WITH_CILIUM);
    let why = &absurd.unclear()["networking.k8s.io"];
    assert_eq!(why, "kind NetworkPolicy is missing, which every cluster serves");
}

#[tokio::test]
async fn a_kind_that_is_served_only_in_a_newer_version_is_watched_in_it() {
    let (cluster, mood) = cluster().await;
    *mood.lock().unwrap() = Mood::Newer;
    let served = discover(&cluster.client, &Served::default()).await.unwrap();
    assert_eq!(watched(&served), ["NetworkPolicy", "ClusterNetworkPolicy", "Namespace", "Pod"]);
    let resource = served.find("policy.networking.k8s.io", "ClusterNetworkPolicy").unwrap();
    assert_eq!(resource.api_version, "policy.networking.k8s.io/v1beta1");
    assert_eq!(served.other_versions()["ClusterNetworkPolicy"], "served as v1beta1, which is read as v1alpha2");
}
