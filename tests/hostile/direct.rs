//! The attack on two replicas, without an API server between.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::shapes::SHAPES;
use crate::support::client::{Client, Protocol};
use crate::support::limit::{DEPLOYMENT_LIMIT, MemoryLimit, status_bytes};
use crate::support::load::{Latencies, Outcomes, Prober, counted, load_average, outcome};
use crate::support::reviews::{backend_policy, create, egress, to_dns};
use crate::support::server::Portcullis;
use crate::{USERS, check_probes, finish, print_ratio, seconds};

/// Connections of each attacker.
const CONNECTIONS: usize = 4;
/// Sizes of the bodies, in bytes. Without optimization the largest take minutes to be made.
const SIZES: &[usize] = if cfg!(debug_assertions) { &[40_000, 160_000] } else { &[160_000, 1_000_000] };
/// The size of every fourth body besides.
const LARGE: usize = if cfg!(debug_assertions) { 300_000 } else { 3_000_000 };

/// Every shape in every size, as one user sends them.
fn bodies(user: usize) -> Vec<Vec<u8>> {
    let name = format!("mallory-{user}");
    let mut bodies = Vec::new();
    for (number, shape) in SHAPES.iter().skip(user).step_by(USERS).enumerate() {
        let each = shape.review(1_000, None, &name).len() / 1_000;
        let large = (number % 4 == 0).then_some(LARGE);
        for size in SIZES.iter().copied().chain(large) {
            let length = size / each;
            bodies.push(shape.review(length, Some(length - 1), &name));
        }
    }
    bodies
}

/// Sends a good policy to the replicas in turn until the end, from a thread of its own.
fn work(clients: Vec<Client>, stop: Arc<AtomicBool>) -> thread::JoinHandle<(Latencies, Outcomes)> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = create(&backend_policy("good", &egress(&[to_dns()]))).to_string();
            let mut connections = Vec::new();
            for client in &clients {
                connections.push(client.connect(Protocol::Http1).await);
            }
            let (mut took, mut outcomes) = (Latencies::default(), Outcomes::default());
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let turn = turn % connections.len();
                let started = Instant::now();
                let answer = connections[turn].post("/validate?timeout=10s", body.clone()).await;
                took.push(started.elapsed());
                outcomes.add(&outcome(&answer));
                if answer.is_err() {
                    connections[turn] = clients[turn].connect(Protocol::Http1).await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (took, outcomes)
        })
    })
}

/// Sends bodies until the end.
async fn attack(client: Client, bodies: Arc<Vec<Vec<u8>>>, first: usize, stop: Arc<AtomicBool>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut connection = client.connect(Protocol::Http1).await;
    for body in bodies.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = connection.post("/validate?timeout=10s", body.clone()).await;
        outcomes.add(&outcome(&answer));
        if answer.is_err() {
            connection = client.connect(Protocol::Http1).await;
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_users_take_nothing_from_others() {
    let context = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    let labels = json!({"network-policy.portcullis.dev/profile": "isolated"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    fs::write(context.path(), namespace.to_string()).unwrap();
    let limits = [MemoryLimit::new(DEPLOYMENT_LIMIT), MemoryLimit::new(DEPLOYMENT_LIMIT)];
    let mut replicas = Vec::new();
    for limit in &limits {
        let arguments = ["--context", context.path().to_str().unwrap()];
        replicas.push(Portcullis::start_within(limit.as_ref(), &arguments).await);
    }
    let clients: Vec<Client> = replicas.iter().map(|replica| replica.client.clone()).collect();
    let bodies: Vec<Arc<Vec<Vec<u8>>>> = (0..USERS).map(|user| Arc::new(bodies(user))).collect();

    println!("load average {} at the start", load_average());
    let stop = Arc::new(AtomicBool::new(false));
    let calm = work(clients.clone(), Arc::clone(&stop));
    tokio::time::sleep(seconds().min(Duration::from_secs(10))).await;
    stop.store(true, Ordering::Relaxed);
    let (calm, mut good) = calm.join().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let admins: Vec<_> = replicas.iter().map(Portcullis::admin_address).collect();
    let prober = Prober::start(move || admins.clone());
    let mut attacks = Vec::new();
    for (user, bodies) in bodies.iter().enumerate() {
        for first in 0..CONNECTIONS {
            let client = clients[(user + first) % clients.len()].clone();
            attacks.push(tokio::spawn(attack(client, Arc::clone(bodies), first * 3, Arc::clone(&stop))));
        }
    }
    let working = work(clients, Arc::clone(&stop));
    let (attacked, more, bad) = finish(attacks, working, &stop).await;
    good.merge(&more);

    print_ratio("well-behaved client", &calm, &attacked);
    check_probes(&prober.stop());
    println!("load average {} at the end; attackers by outcome: {:?}", load_average(), bad.0);
    assert!(attacked.len() > 10, "the client works on: {attacked}");
    assert_eq!(good.get("allowed"), good.total(), "the client loses nothing: {good:?}");
    assert!(
        bad.total() > 0 && bad.0.keys().all(|one| ["allowed", "denied", "lost", "413", "429", "504"].contains(&&**one))
    );

    let mut total = Outcomes::default();
    for (replica, limit) in replicas.iter_mut().zip(&limits) {
        let peak = status_bytes(replica.id(), "VmHWM").unwrap();
        let charged = limit.as_ref().map_or(0, MemoryLimit::peak);
        println!("peak: {} MiB resident, {} MiB charged to the cgroup", peak >> 20, charged >> 20);
        assert!(peak < DEPLOYMENT_LIMIT, "{peak} bytes");
        assert_eq!(limit.as_ref().map_or(0, MemoryLimit::oom_kills), 0);
        assert!(replica.has_not_ended(), "{}", replica.log());
        total.merge(&counted(&replica.metrics(), &[]));
    }
    let mut sent = good;
    sent.merge(&bad);
    // A request whose client has lost its connection may be counted or not.
    let lost = sent.0.remove("lost").unwrap_or_default();
    println!("sent: {:?} and {lost} lost; counted: {:?}", sent.0, total.0);
    if lost == 0 {
        assert_eq!(total, sent, "every request is counted");
    } else {
        assert!(total.total() >= sent.total() && total.total() <= sent.total() + lost, "{total:?} of {sent:?}");
    }
}
