//! Eight users send the worst bodies that are known, and one well-behaved client works beside them.
//!
//! `HOSTILE_SECONDS=60 cargo test --release --test hostile -- --nocapture --test-threads=1` runs it for a minute and prints
//! latencies. How fast a machine is decides nothing here: what is asserted is that the client loses no request, that probes
//! are answered, that each replica stays within the memory limit of the Deployment, and that every request is counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

mod api_server;
mod direct;
#[path = "../support/shapes.rs"]
mod shapes;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::load::{Latencies, Outcomes, Probed};
use tokio::task::JoinHandle;

/// Users that attack.
const USERS: usize = 8;

/// The length of an attack.
fn seconds() -> Duration {
    Duration::from_secs(std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5))
}

/// Lets an attack last its time. Returns what the well-behaved client saw, its outcomes, and those of the attackers.
async fn finish(
    attacks: Vec<JoinHandle<Outcomes>>,
    working: thread::JoinHandle<(Latencies, Outcomes)>,
    stop: &AtomicBool,
) -> (Latencies, Outcomes, Outcomes) {
    tokio::time::sleep(seconds()).await;
    stop.store(true, Ordering::Relaxed);
    let (attacked, good) = working.join().unwrap();
    let mut bad = Outcomes::default();
    for attack in attacks {
        bad.merge(&attack.await.unwrap());
    }
    (attacked, good, bad)
}

/// Prints what a well-behaved client saw.
fn print_ratio(what: &str, calm: &Latencies, attacked: &Latencies) {
    println!("{what}, calm:     {calm}");
    println!("{what}, attacked: {attacked}");
    let ratio = |share: f64| attacked.at(share) / calm.at(share);
    println!("{what}, ratio:    p50 {:.1}, p99 {:.1}", ratio(0.5), ratio(0.99));
}

/// Asserts that the kubelet would not restart a replica, and prints how long its probes took.
fn check_probes(probed: &Probed) {
    for (path, took) in &probed.took {
        println!("{path:8} {took}");
    }
    assert!(probed.took["/livez"].len() > 10);
    assert_eq!((probed.dead, probed.unready), (0, 0), "every probe of a replica under attack is answered with 200");
}
