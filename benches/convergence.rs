//! How long many namespaces at once take to get their baseline from a real API server, with how many calls to it, and
//! what the server needs for that. `cargo bench --bench convergence -- 2000`
//!
//! It takes etcd and kube-apiserver from where the end-to-end tests do, and says so where they are not there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::control_plane::ControlPlane;
use support::installation::Installation;

/// How often it is looked how far it is.
const STEP: Duration = Duration::from_millis(500);
/// When it is given up.
const LIMIT: Duration = Duration::from_secs(1200);

fn main() {
    let Some(count) = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()) else {
        println!("how many namespaces? cargo bench --bench convergence -- 2000");
        return;
    };
    let Some(plane) = ControlPlane::start() else { return };
    // All of them are there before Portcullis is, so that nothing is measured of whoever makes them.
    let namespaces: Vec<Value> = (0..count)
        .map(|number| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("bench-{number}")}}))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": namespaces}).to_string();
    let made = plane.admin().run_with_input(&["create", "--filename=-"], &list);
    assert!(made.ok, "{}", made.stderr.lines().take(3).collect::<Vec<_>>().join("\n"));

    let start = Instant::now();
    let before = calls(&plane);
    let cluster = Installation::new(plane, 2, "baseline: {namespaces: all}\n");
    let mut peak = [0; 2];
    loop {
        for (peak, replica) in peak.iter_mut().zip(&cluster.replicas) {
            *peak = replica.resident().max(*peak);
        }
        let label = "network-policy.portcullis.dev/baseline=applied";
        let done = cluster.plane.kubectl(&["get", "namespaces", "--selector", label, "--output=name"]);
        let done = done.stdout.lines().filter(|line| line.contains("/bench-")).count();
        if done == count {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{done} of {count} after {} s\n{}", LIMIT.as_secs(), cluster.logs());
        std::thread::sleep(STEP);
    }
    let converged = start.elapsed();
    let after = calls(&cluster.plane);
    let policies = cluster.plane.stored(&["networkpolicies", "--all-namespaces"]).unwrap();
    let policies = policies["items"].as_array().unwrap().len();

    println!("{count} namespaces, {policies} policies");
    println!("all applied {:.1} s after `deploy/` began to be applied", converged.as_secs_f64());
    for (verb, calls) in after {
        let calls = calls - before.iter().find(|(other, _)| *other == verb).map_or(0.0, |(_, calls)| *calls);
        if calls > 0.0 {
            println!("{verb}: {calls} calls, {:.2} a namespace", calls / count as f64);
        }
    }
    for (position, replica) in cluster.replicas.iter().enumerate() {
        let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        println!(
            "replica {position}: {:.1} MiB resident at the peak, {:.1} at the end",
            mib(peak[position]),
            mib(replica.resident())
        );
    }
}

/// What replicas asked of the API server, by what they did there.
fn calls(plane: &ControlPlane) -> Vec<(String, f64)> {
    let text = plane.kubectl(&["get", "--raw", "/metrics"]).stdout;
    let mut calls: Vec<(String, f64)> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let Some((labels, value)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            labels
                .split_once(&format!("{name}=\""))
                .and_then(|(_, rest)| rest.split('"').next())
                .unwrap_or_default()
                .to_owned()
        };
        let (verb, resource) = (label("verb"), label("resource"));
        // What the benchmark itself does is to list namespaces.
        let is_ours = matches!(verb.as_str(), "LIST" | "WATCH");
        if is_ours
            || !matches!(
                resource.as_str(),
                "namespaces" | "networkpolicies" | "events" | "leases" | "subjectaccessreviews"
            )
        {
            continue;
        }
        let name = format!("{verb} {resource}");
        let value: f64 = value.parse().unwrap();
        match calls.iter_mut().find(|(other, _)| *other == name) {
            Some((_, sum)) => *sum += value,
            None => calls.push((name, value)),
        }
    }
    calls.sort_by(|a, b| a.0.cmp(&b.0));
    calls
}
