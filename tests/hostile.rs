//! Eight users send the worst bodies that are known, and one well-behaved client works beside them.
//!
//! `HOSTILE_SECONDS=60 cargo test --release --test hostile -- --nocapture` runs it for a minute and prints latencies. How fast
//! a machine is decides nothing here: what is asserted is that the client loses no request, that probes are answered, and
//! that the memory stays below the limit of the Deployment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "support/shapes.rs"]
mod shapes;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use shapes::SHAPES;
use support::client::{Client, Fault, Protocol};
use support::reviews::{backend_policy, create, egress, to_dns};
use support::server::Portcullis;

/// The memory limit in deploy/deployment.yaml.
const MEMORY_LIMIT: u64 = 512 * 1024 * 1024;
/// Users that attack, and the connections of each.
const USERS: usize = 8;
const CONNECTIONS: usize = 4;
/// Sizes of the bodies, in bytes. Without optimization the largest take minutes to be made.
const SIZES: &[usize] = if cfg!(debug_assertions) { &[40_000, 160_000] } else { &[160_000, 1_000_000, 3_000_000] };

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5))
}

/// Every shape in every size, as one user sends them.
fn bodies(user: usize) -> Vec<Vec<u8>> {
    let name = format!("mallory-{user}");
    let mut bodies = Vec::new();
    for shape in SHAPES.iter().skip(user).step_by(USERS) {
        let each = shape.review(1_000, None, &name).len() / 1_000;
        for size in SIZES.iter().copied() {
            let length = size / each;
            bodies.push(shape.review(length, Some(length - 1), &name));
        }
    }
    bodies
}

/// Sends a good policy again and again, and returns how long each answer took, in milliseconds and in order.
async fn work(client: Client, stop: Arc<AtomicBool>) -> Vec<f64> {
    let body = create(&backend_policy("good", &egress(&[to_dns()]))).to_string();
    let mut connection = client.connect(Protocol::Http1).await;
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = connection.post("/validate?timeout=10s", body.clone()).await.expect("an answer");
        took.push(started.elapsed().as_secs_f64() * 1e3);
        assert!(answer.allowed(), "{answer}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort_by(f64::total_cmp);
    took
}

/// Sends bodies again and again, and counts the statuses of the answers.
async fn attack(
    client: Client,
    bodies: Arc<Vec<Vec<u8>>>,
    first: usize,
    stop: Arc<AtomicBool>,
) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    let mut connection = client.connect(Protocol::Http1).await;
    for body in bodies.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match connection.post("/validate?timeout=10s", body.clone()).await {
            Ok(answer) => *statuses.entry(answer.status).or_default() += 1,
            // The server ends a connection whose request it does not read to the end.
            Err(Fault::NotTaken(_) | Fault::Lost(_)) => connection = client.connect(Protocol::Http1).await,
        }
    }
    statuses
}

/// The largest number of bytes that the process has held, as the kernel counts them.
fn peak_memory(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_users_take_nothing_from_others() {
    let context = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    let labels = json!({"network-policy.portcullis.dev/profile": "isolated"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    fs::write(context.path(), namespace.to_string()).unwrap();
    let server = Portcullis::start(&["--context", context.path().to_str().unwrap()]).await;

    let stop = Arc::new(AtomicBool::new(false));
    let calm = tokio::spawn(work(server.client.clone(), Arc::clone(&stop)));
    tokio::time::sleep(seconds().min(Duration::from_secs(5)) / 2).await;
    stop.store(true, Ordering::Relaxed);
    let calm = calm.await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let good = tokio::spawn(work(server.client.clone(), Arc::clone(&stop)));
    let mut attacks = Vec::new();
    for user in 0..USERS {
        let bodies = Arc::new(bodies(user));
        for first in 0..CONNECTIONS {
            attacks.push(tokio::spawn(attack(
                server.client.clone(),
                Arc::clone(&bodies),
                first * 3,
                Arc::clone(&stop),
            )));
        }
    }
    let end = Instant::now() + seconds();
    let mut probes = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        let status = server.admin("/livez").map(|(status, _)| status);
        assert_eq!(status, Some(200), "the kubelet would restart it");
        probes.push(started.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let loaded = good.await.unwrap();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for attack in attacks {
        for (status, count) in attack.await.unwrap() {
            *statuses.entry(status).or_default() += count;
        }
    }
    let peak = peak_memory(server.id());
    probes.sort_by(f64::total_cmp);
    let at = |took: &[f64], share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "well-behaved client, calm:   {} requests, p50 {:.2} ms, p99 {:.2} ms",
        calm.len(),
        at(&calm, 0.5),
        at(&calm, 0.99)
    );
    println!(
        "well-behaved client, attack: {} requests, p50 {:.2} ms, p99 {:.2} ms",
        loaded.len(),
        at(&loaded, 0.5),
        at(&loaded, 0.99)
    );
    println!(
        "/livez: p50 {:.2} ms, slowest {:.2} ms; attackers by status: {statuses:?}",
        at(&probes, 0.5),
        at(&probes, 1.0)
    );
    println!("resident memory at its peak: {:.0} MB", peak as f64 / 1e6);
    assert!(loaded.len() > 10, "the client works on: {} requests", loaded.len());
    assert!(
        statuses.values().sum::<usize>() > 0 && statuses.keys().all(|status| [200, 413, 429, 504].contains(status))
    );
    assert!(peak < MEMORY_LIMIT, "{peak} bytes");
}
