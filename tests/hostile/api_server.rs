//! The attack through a kube-apiserver that asks two replicas: eight users with the role `edit`, each in a namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::shapes::{SHAPES, Shape};
use crate::support::client::{Answer, Client, Fault, Protocol};
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, Replica};
use crate::support::limit::{DEPLOYMENT_LIMIT, MemoryLimit, status_bytes};
use crate::support::load::{Latencies, Outcomes, Prober, counted, load_average};
use crate::{USERS, check_probes, finish, print_ratio, seconds};

/// Connections of each attacker.
const CONNECTIONS: usize = 2;
/// Pause of an attacker between two requests. Without one, the API server itself keeps two cores busy and answers its
/// well-behaved client a hundred times later than in calm, with webhooks or without.
const ATTACK_PAUSE: Duration = Duration::from_millis(1_500);
/// Sizes of the bodies, in bytes. Larger ones cost the API server more than Portcullis, whose work has a limit, so they
/// would show how the API server shares its cores.
const SIZES: &[usize] = &[40_000, 160_000];
/// The size of the policies that are stored before Portcullis is installed, so that an update has an old object as large.
const STORED: usize = 150_000;
/// The group of all users here.
const GROUP: &str = "developers";
const PAUSE: &str = "portcullis.dev/webhooks-paused=hostile";

/// A request to the API server.
#[derive(Clone)]
struct Call {
    method: Method,
    path: String,
    body: Vec<u8>,
}

fn collection(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
}

/// The policies of the shapes, which are of the only kind here that the role `edit` may write and webhooks are asked about.
fn shapes() -> impl Iterator<Item = (usize, &'static Shape)> {
    SHAPES
        .iter()
        .filter(|shape| shape.kind == "NetworkPolicy" && shape.api_version.starts_with("networking"))
        .enumerate()
}

fn policy(shape: &Shape, number: usize, size: usize, namespace: &str) -> Value {
    let each = shape.object(1_000).to_string().len() / 1_000;
    let mut object = shape.object(size / each);
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["name"] = format!("shape-{number}").into();
    object
}

/// Creations and updates of every third shape in every size, all of them in a dry run.
fn calls(user: usize, namespace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for (number, shape) in shapes().filter(|(number, _)| number % 3 == user % 3) {
        for size in SIZES {
            let mut object = policy(shape, number, *size, namespace);
            let path = format!("{}/shape-{number}?dryRun=All", collection(namespace));
            calls.push(Call { method: Method::PUT, path, body: object.to_string().into_bytes() });
            object["metadata"]["name"] = "new".into();
            let path = format!("{}?dryRun=All", collection(namespace));
            calls.push(Call { method: Method::POST, path, body: object.to_string().into_bytes() });
        }
    }
    calls
}

/// An ordinary policy, which is created and updated in a dry run.
fn ordinary(name: &str, port: u16) -> Value {
    let dns = json!({
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    let database =
        json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"protocol": "TCP", "port": port}]});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [dns, database]}})
}

/// The outcome of a request to the API server.
fn outcome(answer: &Result<Answer, Fault>) -> String {
    match answer {
        Ok(answer) if answer.status < 300 => "allowed".to_owned(),
        Ok(answer) if answer.text.contains("failed calling webhook") => "webhook failed".to_owned(),
        Ok(answer) if answer.text.contains("denied the request") => "denied".to_owned(),
        // By the API server itself: 404 where the policy to be updated was not valid and so is not stored.
        Ok(answer) => format!("rejected with {}", answer.status),
        Err(_) => "lost".to_owned(),
    }
}

/// Creates and updates an ordinary policy until the end, from a thread of its own.
fn work(client: Client, stop: Arc<AtomicBool>) -> thread::JoinHandle<(Latencies, Outcomes)> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = client.connect(Protocol::Http2).await;
            let (mut took, mut outcomes) = (Latencies::default(), Outcomes::default());
            for turn in 0_u16.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (method, path, name) = match turn % 2 {
                    0 => (Method::POST, collection("shop"), "other"),
                    _ => (Method::PUT, format!("{}/web", collection("shop")), "web"),
                };
                let body = ordinary(name, 5000 + turn % 1000).to_string();
                let started = Instant::now();
                let answer = connection.request(method, &format!("{path}?dryRun=All"), body).await;
                took.push(started.elapsed());
                let outcome = outcome(&answer);
                if outcome != "allowed" {
                    println!("the well-behaved client: {answer:?}");
                }
                outcomes.add(&outcome);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (took, outcomes)
        })
    })
}

/// Sends requests until the end.
async fn attack(client: Client, calls: Arc<Vec<Call>>, first: usize, stop: Arc<AtomicBool>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut connection = client.connect(Protocol::Http1).await;
    for call in calls.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(ATTACK_PAUSE).await;
        let answer = connection.request(call.method.clone(), &call.path, call.body.clone()).await;
        outcomes.add(&outcome(&answer));
        if connection.is_closed() {
            connection = client.connect(Protocol::Http1).await;
        }
    }
    outcomes
}

/// A calm phase and an attack: the latencies of the well-behaved client in both, and all outcomes.
async fn phases(plane: &ControlPlane, all_calls: &[Arc<Vec<Call>>]) -> (Latencies, Latencies, Outcomes, Outcomes) {
    let ada = plane.client("ada", GROUP);
    let stop = Arc::new(AtomicBool::new(false));
    let calm = work(ada.clone(), Arc::clone(&stop));
    tokio::time::sleep(seconds().min(Duration::from_secs(10))).await;
    stop.store(true, Ordering::Relaxed);
    let (calm, mut good) = calm.join().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let mut attacks = Vec::new();
    for (user, calls) in all_calls.iter().enumerate() {
        let client = plane.client(&format!("mallory-{user}"), GROUP);
        for first in 0..CONNECTIONS {
            attacks.push(tokio::spawn(attack(client.clone(), Arc::clone(calls), first * 7, Arc::clone(&stop))));
        }
    }
    let working = work(ada, Arc::clone(&stop));
    let (attacked, more, bad) = finish(attacks, working, &stop).await;
    good.merge(&more);
    (calm, attacked, good, bad)
}

/// Namespaces with the rights of `edit`, and with large policies that no webhook has been asked about.
fn prepare(plane: &ControlPlane) {
    // A controller adds these two up as `edit`, and does not run here.
    let roles = ["system:aggregate-to-edit", "system:aggregate-to-view"];
    let mut namespaces: Vec<(String, String)> = vec![("shop".to_owned(), "ada".to_owned())];
    namespaces.extend((0..USERS).map(|user| (format!("user-{user}"), format!("mallory-{user}"))));
    for (namespace, user) in &namespaces {
        let output = plane.kubectl(&["create", "namespace", namespace]);
        assert!(output.ok, "{output}");
        for role in roles {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": role.replace(':', "-"), "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            });
            let output = plane.run_create(&binding.to_string());
            assert!(output.ok, "{output}");
        }
    }
    let output = plane.run_create(&ordinary("web", 5432).to_string());
    assert!(output.ok, "{output}");
    let mut stored = 0;
    for user in 0..USERS {
        let namespace = format!("user-{user}");
        let policies: Vec<Value> = shapes()
            .filter(|(number, _)| number % 3 == user % 3)
            .map(|(number, shape)| policy(shape, number, STORED, &namespace))
            .collect();
        // Some are not valid, and rejected by the API server itself.
        let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
        stored += plane.run_create(&list.to_string()).stdout.lines().count();
    }
    assert!(stored > USERS, "{stored} large policies are stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_users_of_an_api_server_take_nothing_from_others() {
    let Some(plane) = ControlPlane::start() else { return };
    prepare(&plane);
    let mut cluster = Installation::within(plane, 2, "", Some(DEPLOYMENT_LIMIT));
    let all_calls: Vec<_> = (0..USERS).map(|user| Arc::new(calls(user, &format!("user-{user}")))).collect();
    let admins: Vec<_> = cluster.replicas.iter().map(Replica::admin_address).collect();
    println!("load average {} at the start", load_average());
    let prober = Prober::start(move || admins.clone());
    let (calm, attacked, good, bad) = phases(&cluster.plane, &all_calls).await;
    print_ratio("well-behaved client", &calm, &attacked);
    check_probes(&prober.stop());
    println!("load average {} at the end; attackers by outcome: {:?}", load_average(), bad.0);
    assert!(attacked.len() > 10, "the client works on: {attacked}");
    assert_eq!(good.get("allowed"), good.total(), "the client loses nothing: {good:?}");
    assert!(bad.get("denied") + bad.get("allowed") > 0, "{bad:?}");
    let mut total = Outcomes::default();
    for replica in &mut cluster.replicas {
        let peak = status_bytes(replica.id(), "VmHWM").unwrap();
        let charged = replica.limit().map_or(0, MemoryLimit::peak);
        println!("peak: {} MiB resident, {} MiB charged to the cgroup", peak >> 20, charged >> 20);
        assert!(peak < DEPLOYMENT_LIMIT, "{peak} bytes");
        assert_eq!(replica.limit().map_or(0, MemoryLimit::oom_kills), 0);
        assert!(!replica.has_ended(), "{}", replica.log());
        total.merge(&counted(&replica.metrics().unwrap(), &[]));
    }
    println!("counted by both replicas: {:?}", total.0);
    let decided = good.total() + bad.get("denied") + bad.get("allowed");
    assert!(total.get("allowed") + total.get("denied") >= decided, "every review that was answered is counted");

    if seconds() >= Duration::from_secs(30) {
        // The same without Portcullis tells how much of it is the API server's own.
        let annotate = ["annotate", "namespace", "portcullis-system", PAUSE];
        assert!(cluster.plane.kubectl(&annotate).ok);
        let delete = ["delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "portcullis"];
        assert!(cluster.plane.kubectl(&delete).ok);
        let (calm, attacked, ..) = phases(&cluster.plane, &all_calls).await;
        print_ratio("without webhooks", &calm, &attacked);
    }
}
