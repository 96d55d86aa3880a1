//! Samples of the replicas over time, and the comparison that finds a drift.

use std::fs;
use std::time::Duration;

use crate::support::installation::Replica;
use crate::support::limit::status_bytes;
use crate::support::load::{CONTROL, Latencies, Probed};

/// Resources that one process holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The process, which is another one after a restart.
    pub(crate) id: u32,
    /// Resident memory, in MiB.
    pub(crate) resident: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
}

/// One interval of the soak.
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// The fault that was caused in the interval.
    pub(crate) fault: &'static str,
    pub(crate) held: Vec<Held>,
    /// Latencies of the well-behaved clients, at the replicas and at the API server.
    pub(crate) took: [Latencies; 2],
    pub(crate) probed: Probed,
}

impl Held {
    pub(crate) fn of(replica: &Replica) -> Self {
        let id = replica.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        Self {
            id,
            resident: status_bytes(id, "VmRSS").unwrap() as f64 / 1024.0 / 1024.0,
            descriptors: fs::read_dir(format!("/proc/{id}/fd")).unwrap().count() as f64,
            threads: threads.trim().parse().unwrap(),
        }
    }
}

impl Sample {
    /// The heading of the lines that [`Sample::print`] writes.
    pub(crate) const HEADING: &str = "    time  resident MiB  descriptors  threads  direct p50/p99 ms  API p50/p99 ms  live/ready/control p99 ms  fault";

    pub(crate) fn print(&self) {
        let pair = |field: fn(&Held) -> f64| {
            self.held.iter().map(|held| format!("{:.0}", field(held))).collect::<Vec<_>>().join("/")
        };
        let [direct, asked] = self.took.each_ref().map(|took| format!("{:.2}/{:.1}", took.at(0.5), took.at(0.99)));
        let slowest = |path: &str| self.probed.took.get(path).map_or(0.0, |took| took.at(0.99));
        let probes = format!("{:.1}/{:.1}/{:.1}", slowest("/livez"), slowest("/readyz"), slowest(CONTROL));
        println!(
            "{:6.0} s  {:>12}  {:>11}  {:>7}  {direct:>17}  {asked:>14}  {probes:>27}  {}",
            self.at.as_secs_f64(),
            pair(|held| held.resident),
            pair(|held| held.descriptors),
            pair(|held| held.threads),
            self.fault
        );
    }
}

/// A quantity that must not drift, and how far the last quarter may exceed the second.
pub(crate) struct Quantity {
    pub(crate) name: &'static str,
    /// By this factor.
    factor: f64,
    /// And by this much besides.
    offset: f64,
    value: fn(&Sample, usize) -> Option<f64>,
}

/// The tolerances: a leak of one descriptor or of 100 KiB for each of the faults exceeds them in 20 minutes.
pub(crate) const QUANTITIES: [Quantity; 6] = [
    Quantity {
        name: "resident MiB",
        factor: 1.15,
        offset: 4.0,
        value: |sample, at| sample.held.get(at).map(|held| held.resident),
    },
    Quantity {
        name: "descriptors",
        factor: 1.0,
        offset: 6.0,
        value: |sample, at| sample.held.get(at).map(|held| held.descriptors),
    },
    Quantity {
        name: "threads",
        factor: 1.0,
        offset: 2.0,
        value: |sample, at| sample.held.get(at).map(|held| held.threads),
    },
    Quantity { name: "direct p50 ms", factor: 1.5, offset: 0.5, value: |sample, _| latency(&sample.took[0], 0.5) },
    Quantity { name: "direct p99 ms", factor: 2.0, offset: 5.0, value: |sample, _| latency(&sample.took[0], 0.99) },
    Quantity { name: "API p50 ms", factor: 1.5, offset: 5.0, value: |sample, _| latency(&sample.took[1], 0.5) },
];

fn latency(took: &Latencies, share: f64) -> Option<f64> {
    (took.len() > 0).then(|| took.at(share))
}

impl Quantity {
    /// The medians of the second and of the last quarter, and true if the difference is tolerated. None without samples.
    pub(crate) fn drift(&self, samples: &[Sample], replica: usize) -> Option<(f64, f64, bool)> {
        let count = samples.len();
        let quarter = |range: std::ops::Range<usize>| {
            median(samples[range].iter().filter_map(|sample| (self.value)(sample, replica)).collect())
        };
        let (second, last) = (quarter(count / 4..count / 2)?, quarter(count * 3 / 4..count)?);
        Some((second, last, last <= second * self.factor + self.offset))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
