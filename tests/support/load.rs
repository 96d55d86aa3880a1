//! Measurements of load tests: latencies, outcomes, and the probes of a process under load.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Answer, Fault};
use super::server::get;

/// Latencies, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The latency that this share of the requests stays within; 0 without requests.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| self.at(share));
        write!(f, "{:6} requests, p50 {p50:7.2} ms, p99 {p99:7.2} ms, slowest {worst:7.2} ms", self.len())
    }
}

/// The number of requests by outcome: a status, `allowed` or `denied` for a review that was answered, `lost` without an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes(pub(crate) BTreeMap<String, u64>);

impl Outcomes {
    pub(crate) fn add(&mut self, outcome: &str) {
        *self.0.entry(outcome.to_owned()).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (outcome, count) in &other.0 {
            *self.0.entry(outcome.clone()).or_default() += count;
        }
    }

    pub(crate) fn get(&self, outcome: &str) -> u64 {
        self.0.get(outcome).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The outcome of a review that was sent to a webhook.
pub(crate) fn outcome(answer: &Result<Answer, Fault>) -> String {
    match answer {
        Ok(answer) if answer.status == 200 && answer.allowed() => "allowed".to_owned(),
        Ok(answer) if answer.status == 200 => "denied".to_owned(),
        Ok(answer) => answer.status.to_string(),
        Err(_) => "lost".to_owned(),
    }
}

/// The requests that a process has counted, by outcome, as clients name them. Reviews of other kinds than these are left
/// out, if any are given.
pub(crate) fn counted(metrics: &str, kinds: &[&str]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let label = |name: &str| {
            let (_, rest) = series.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0)
        };
        let is_asked = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
        let outcome = if series.starts_with("portcullis_admission_requests_total") {
            if !label("kind").is_some_and(is_asked) {
                continue;
            }
            match label("decision") {
                Some("denied") => "denied",
                _ => "allowed",
            }
        } else if series.starts_with("portcullis_admission_refused_total") {
            match label("reason") {
                Some("share" | "overload") => "429",
                Some("deadline") => "504",
                Some("too-large") => "413",
                Some("broken" | "not-a-review") => "400",
                Some("lookup" | "panic") => "500",
                // These are about connections, or about requests whose client has gone.
                _ => continue,
            }
        } else {
            continue;
        };
        let value = value.parse::<f64>().unwrap_or_default() as u64;
        if value > 0 {
            *outcomes.0.entry(outcome.to_owned()).or_default() += value;
        }
    }
    outcomes
}

/// A thread that sends probes as a kubelet does, ten times as often.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    probed: Arc<Mutex<Probed>>,
}

/// Probes that were sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probed {
    /// By path, and [`CONTROL`].
    pub(crate) took: BTreeMap<&'static str, Latencies>,
    /// Probes of `/livez` without an answer of 200.
    pub(crate) dead: u64,
    /// Probes of `/readyz` without an answer of 200.
    pub(crate) unready: u64,
}

/// The name under which probes of a thread that only answers probes are recorded. They tell how long the machine itself
/// takes under the same load.
pub(crate) const CONTROL: &str = "control";

/// Starts a thread that answers every request with 200, as long as the test runs.
fn control() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok\n");
        }
    });
    address
}

impl Prober {
    /// Probes these admin addresses until it is stopped.
    pub(crate) fn start(addresses: impl Fn() -> Vec<SocketAddr> + Send + 'static) -> Self {
        let control = control();
        let (stop, probed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Probed::default())));
        let (stopped, results) = (Arc::clone(&stop), Arc::clone(&probed));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let probe = |address: SocketAddr, path: &'static str| {
                    let start = Instant::now();
                    let status = get(address, path).map(|(status, _)| status);
                    results.lock().unwrap().took.entry(path).or_default().push(start.elapsed());
                    u64::from(status != Some(200))
                };
                probe(control, CONTROL);
                for address in addresses() {
                    let (dead, unready) = (probe(address, "/livez"), probe(address, "/readyz"));
                    let mut results = results.lock().unwrap();
                    results.dead += dead;
                    results.unready += unready;
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, thread, probed }
    }

    /// Takes what was probed since the last time.
    pub(crate) fn take(&self) -> Probed {
        std::mem::take(&mut self.probed.lock().unwrap())
    }

    /// Ends the thread and returns what was probed.
    pub(crate) fn stop(self) -> Probed {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut self.probed.lock().unwrap())
    }
}

/// The one-minute load average of the machine, which tells how far latencies can be compared.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
