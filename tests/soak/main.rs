//! Two replicas under mixed traffic for a long time, with everything that happens to an installation in the course of weeks.
//!
//! `SOAK_MINUTES=20 cargo test --release --test soak -- --nocapture --test-threads=1` runs it for 20 minutes and compares
//! resident memory, descriptors, threads and latencies of the last quarter with those of the second. A short run, as in CI,
//! is too noisy for that: it asserts that every request is accounted for, that both replicas live within the memory limit of
//! the Deployment, and that no namespace loses its baseline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

mod changes;
mod etcd;
mod faults;
mod samples;
#[path = "../support/shapes.rs"]
mod shapes;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use etcd::History;
use faults::{Ended, FREQUENT, Fault, RARE};
use samples::{Held, QUANTITIES, Sample};
use support::control_plane::ControlPlane;
use support::installation::{Installation, NAMESPACE, Replica};
use support::limit::{DEPLOYMENT_LIMIT, MemoryLimit, status_bytes};
use support::load::{Outcomes, Prober, counted, load_average};
use traffic::{DIRECT_KINDS, Traffic};

/// Well-behaved and hostile clients of the replicas.
const GOOD: usize = 2;
const HOSTILE: usize = 4;
/// The shortest soak from which a drift can be told.
const LONG: Duration = Duration::from_secs(5 * 60);
/// The intervals of a long soak, each with one fault.
const STEPS: u32 = 40;

/// The soak as it goes on.
pub(crate) struct Soak {
    cluster: Installation,
    traffic: Arc<Traffic>,
    /// The addresses that are probed.
    admins: Arc<Mutex<Vec<SocketAddr>>>,
    /// Processes that were killed.
    ended: Vec<Ended>,
    /// The configuration without changes, and the number of changes so far.
    configuration: String,
    changes: u32,
}

/// Its length.
fn length() -> Duration {
    let minutes = std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(minutes.unwrap_or(0.4) * 60.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_drifts_and_every_request_is_accounted_for() {
    let Some(plane) = ControlPlane::start() else { return };
    traffic::prepare(&plane);
    assert!(plane.kubectl(&["create", "namespace", NAMESPACE]).ok);
    assert!(plane.run_create(&faults::old_secret().to_string()).ok);
    let mut history = History::new(plane.etcd_port());
    let cluster = Installation::within(plane, 2, "", Some(DEPLOYMENT_LIMIT));

    let traffic = Arc::new(Traffic::default());
    let lives = cluster.replicas.iter().map(|replica| faults::life(&cluster, replica));
    *traffic.lives.lock().unwrap() = lives.collect();
    let admins: Vec<SocketAddr> = cluster.replicas.iter().map(Replica::admin_address).collect();
    let admins = Arc::new(Mutex::new(admins));
    let configuration = std::fs::read_to_string(&cluster.config).unwrap();
    let mut tasks = Vec::new();
    let good = Arc::new(traffic::good_bodies());
    for _ in 0..GOOD {
        tasks.push(tokio::spawn(traffic::send_directly(Arc::clone(&traffic), Arc::clone(&good), false)));
    }
    for user in 0..HOSTILE {
        let bodies = Arc::new(traffic::hostile_bodies(&format!("mallory-{user}")));
        tasks.push(tokio::spawn(traffic::send_directly(Arc::clone(&traffic), bodies, true)));
    }
    for is_hostile in [false, true] {
        let client = cluster.plane.client(if is_hostile { "mallory" } else { "ada" }, "system:masters");
        tasks.push(tokio::spawn(traffic::ask(Arc::clone(&traffic), client, is_hostile)));
    }
    let probed = Arc::clone(&admins);
    let prober = Prober::start(move || probed.lock().unwrap().clone());
    let mut soak = Soak { cluster, traffic, admins, ended: Vec::new(), configuration, changes: 0 };

    let samples = tokio::task::block_in_place(|| run(&mut soak, &mut history, &prober));
    soak.traffic.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let last = prober.stop();
    let dead: u64 = samples.iter().map(|sample| sample.probed.dead).sum::<u64>() + last.dead;
    assert_eq!(dead, 0, "every liveness probe is answered");
    check_replicas(&mut soak.cluster);
    check_accounts(&soak);
    check_faults(&soak.cluster);
    println!("history: {:?}", history.seen);
    assert!(history.gaps.is_empty(), "{:#?}", history.gaps);
    assert!(history.seen.namespaces > 0);
    check_drift(&samples);
}

/// Causes one fault after the other, and takes a sample after each.
fn run(soak: &mut Soak, history: &mut History, prober: &Prober) -> Vec<Sample> {
    let (start, length) = (Instant::now(), length());
    let steps = if length >= LONG { STEPS } else { 12 };
    let mut rare = RARE.into_iter().peekable();
    let mut frequent = FREQUENT.into_iter().cycle();
    let mut samples: Vec<Sample> = Vec::new();
    println!("load average {}\n{}", load_average(), Sample::HEADING);
    for step in 0..steps {
        let share = f64::from(step) / f64::from(steps);
        let (name, cause): Fault = match rare.next_if(|(after, _)| *after <= share) {
            Some((_, fault)) => fault,
            None => frequent.next().unwrap(),
        };
        cause(soak);
        come_and_go(soak, step);
        thread::sleep((start + length * (step + 1) / steps).saturating_duration_since(Instant::now()));
        history.read();
        let took = std::mem::take(&mut *soak.traffic.took.lock().unwrap());
        let held = soak.cluster.replicas.iter().map(Held::of).collect();
        samples.push(Sample { at: start.elapsed(), fault: name, held, took, probed: prober.take() });
        samples.last().unwrap().print();
    }
    println!("load average {}", load_average());
    samples
}

/// Creates a namespace, and deletes the one of the step before once it has its baseline.
fn come_and_go(soak: &mut Soak, step: u32) {
    let created = soak.cluster.plane.kubectl(&["create", "namespace", &format!("soak-{step}")]);
    assert!(created.ok, "{created}");
    let Some(before) = step.checked_sub(1).map(|before| format!("soak-{before}")) else { return };
    soak.cluster.until(&format!("the baseline of {before}"), |cluster| {
        cluster.namespace(&before)["metadata"]["labels"]["network-policy.portcullis.dev/baseline"] == "applied"
    });
    soak.cluster.delete_namespace(&before);
}

fn check_replicas(cluster: &mut Installation) {
    for replica in &mut cluster.replicas {
        let (peak, id) = (status_bytes(replica.id(), "VmHWM").unwrap(), replica.id());
        let charged = replica.limit().map_or(0, MemoryLimit::peak);
        println!("process {id}: peak {} MiB resident, {} MiB charged", peak >> 20, charged >> 20);
        assert!(peak < DEPLOYMENT_LIMIT, "{peak} bytes");
        assert_eq!(replica.limit().map_or(0, MemoryLimit::oom_kills), 0);
        assert!(!replica.has_ended(), "{}", replica.log());
    }
}

/// Asserts that the faults reached the replicas.
fn check_faults(cluster: &Installation) {
    for series in [
        r#"portcullis_certificate_reloads_total{result="success"}"#,
        r#"portcullis_configuration_reloads_total{result="success"}"#,
        r#"portcullis_configuration_reloads_total{result="failure"}"#,
        r#"portcullis_watch_failures_total{kind="Namespace"}"#,
    ] {
        let counts: Vec<f64> = cluster.replicas.iter().filter_map(|replica| replica.metric(series)).collect();
        println!("{series}: {counts:?}");
        assert!(counts.len() == 2 && counts.iter().all(|count| *count > 0.0), "{series}: {counts:?}");
    }
}

/// Compares what clients were answered with what processes have counted.
fn check_accounts(soak: &Soak) {
    let [good, hostile] = soak.traffic.asked.lock().unwrap().clone();
    println!("API server, well-behaved client: {:?}\nAPI server, hostile client: {:?}", good.0, hostile.0);
    let is_lost =
        |outcome: &String| ["lost", "webhook failed", "rejected by the API server", "denied"].contains(&&**outcome);
    assert!(
        !good.0.keys().any(is_lost),
        "the client loses nothing while both replicas and the API server run: {good:?}"
    );
    assert_eq!(soak.traffic.distrusted.load(Ordering::Relaxed), 0, "every certificate is trusted");
    for Ended { life, before, counted } in &soak.ended {
        let after = life.answered.lock().unwrap().clone();
        println!(
            "{} (killed): answered {:?} before, counted {:?}, answered {:?}",
            life.name, before.0, counted.0, after.0
        );
        assert_eq!(life.in_flight.load(Ordering::SeqCst), 0);
        for outcome in ["allowed", "denied"] {
            // A request that was in flight may be counted and its answer lost.
            let most = after.get(outcome) + after.get("lost");
            assert!((before.get(outcome)..=most).contains(&counted.get(outcome)), "{outcome}: {counted:?}");
        }
    }
    let lives = soak.traffic.lives.lock().unwrap().clone();
    for (life, replica) in lives.iter().zip(&soak.cluster.replicas) {
        let answered = life.answered.lock().unwrap().clone();
        let counted: Outcomes = counted(&replica.metrics().unwrap(), &DIRECT_KINDS);
        println!("{}: answered {:?}, counted {:?}", life.name, answered.0, counted.0);
        assert_eq!(life.in_flight.load(Ordering::SeqCst), 0);
        assert_eq!(answered.get("lost"), 0, "a process that lives loses no request");
        for outcome in ["allowed", "denied"] {
            assert_eq!(answered.get(outcome), counted.get(outcome), "{}: {outcome}", life.name);
        }
        // These are counted without their kind, so those of the API server are among them.
        for outcome in ["429", "504", "413", "400", "500"] {
            assert!(answered.get(outcome) <= counted.get(outcome), "{}: {outcome}", life.name);
        }
    }
}

/// Prints the medians of the second and of the last quarter, and asserts that they agree if the soak was long.
fn check_drift(samples: &[Sample]) {
    let mut drifted = Vec::new();
    for quantity in &QUANTITIES {
        for replica in 0..2 {
            let Some((second, last, is_tolerated)) = quantity.drift(samples, replica) else { continue };
            println!("{:14} replica {replica}: second quarter {second:8.2}, last quarter {last:8.2}", quantity.name);
            if !is_tolerated {
                drifted.push(quantity.name);
            }
        }
    }
    let is_long = samples.last().is_some_and(|sample| sample.at >= LONG);
    assert!(!is_long || drifted.is_empty(), "these drift: {drifted:?}");
    let ids = |sample: &Sample| sample.held.iter().map(|held| held.id).collect::<Vec<_>>();
    let from = &samples[samples.len() / 4];
    assert_eq!(ids(from), ids(samples.last().unwrap()), "no process was restarted but by a fault of the first quarter");
}
