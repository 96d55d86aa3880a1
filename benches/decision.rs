//! What a decision costs, bytes to bytes, beside what it costs to parse the same bytes into a `serde_json::Value`.
//!
//! `cargo bench` prints, for each body that a real API server sent, `…/decide` and `…/parse`: the first must not be
//! slower than the second.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that cannot run says so by a panic")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portcullis::admission::{Knowledge, validate};
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::view::{Facts, View};
use serde_json::Value;

/// That of the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODIES: &[(&str, &[u8])] = &[
    ("policy-create-denied", include_bytes!("../tests/admission-reviews/networkpolicy-create.json")),
    ("policy-create-two-findings", include_bytes!("../tests/admission-reviews/networkpolicy-create-port-any.json")),
    ("policy-update-apply", include_bytes!("../tests/admission-reviews/networkpolicy-update-server-side-apply.json")),
    ("policy-update-patch", include_bytes!("../tests/admission-reviews/networkpolicy-update-json-patch.json")),
    ("cilium-create-denied", include_bytes!("../tests/admission-reviews/ciliumnetworkpolicy-create.json")),
    ("calico-create-denied", include_bytes!("../tests/admission-reviews/calico-v3-networkpolicy-create.json")),
    ("cluster-create", include_bytes!("../tests/admission-reviews/clusternetworkpolicy-create.json")),
    ("policy-delete", include_bytes!("../tests/admission-reviews/networkpolicy-delete.json")),
    ("namespace-update", include_bytes!("../tests/admission-reviews/namespace-update-profile.json")),
    ("pod-create-host-network", include_bytes!("../tests/admission-reviews/pod-create-host-network.json")),
    ("deployment-update", include_bytes!("../tests/admission-reviews/deployment-update-host-network.json")),
];

/// As the API server sends it: without white space.
fn compact(body: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::from_slice::<Value>(body).unwrap()).unwrap()
}

fn decisions(criterion: &mut Criterion) {
    let knowledge = Knowledge::new(
        Configuration::shipped().unwrap(),
        View::default(),
        PolicySet::shipped("network-policy.portcullis.dev").unwrap(),
    );
    let facts = Facts::default();
    let mut group = criterion.benchmark_group("review");
    for (name, body) in BODIES {
        let body = compact(body);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new(*name, "decide"), &body, |bencher, body| {
            bencher.iter(|| validate(&knowledge, &facts, black_box(body)).unwrap().answer().unwrap().body);
        });
        group.bench_with_input(BenchmarkId::new(*name, "parse"), &body, |bencher, body| {
            bencher.iter(|| serde_json::from_slice::<Value>(black_box(body)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
