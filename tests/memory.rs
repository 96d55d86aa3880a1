//! The memory that a request can take, for every recorded review and for hostile ones: never more than its
//! budget. `cargo test --release --test memory -- --nocapture` sends up to 3 MB and prints the peak for each byte of input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/shapes.rs"]
mod shapes;

use peak_alloc::PeakAlloc;
use portcullis::admission::{Knowledge, mutate, validate};
use portcullis::budget::{self, Limits, MAX_BYTES};
use portcullis::config::Configuration;
use portcullis::view::Facts;

use shapes::SHAPES;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that any request may take besides what its budget counts: answers, findings, what serde holds for a moment.
const SLACK: usize = 24 * 1024 * 1024;

/// Sizes of the bodies, in bytes. Without optimization the largest take minutes.
const SIZES: &[usize] = if cfg!(debug_assertions) { &[150_000] } else { &[100_000, 300_000, 1_000_000, 3_000_000] };

/// The largest number of bytes that were held at once while a review was judged, without the body.
fn peak(knowledge: &Knowledge, body: &[u8]) -> usize {
    let mut largest = 0;
    for endpoint in [validate, mutate] {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let answered = budget::run(Limits::default(), || endpoint(knowledge, &Facts::default(), body).map(drop));
        // The budget may end the envelope too: then the server answers 413.
        let _ = answered;
        largest = largest.max(ALLOCATOR.peak_usage().saturating_sub(before));
    }
    largest
}

#[test]
fn no_request_takes_more_than_its_budget() {
    let knowledge = crowd::knowledge(Configuration::shipped().unwrap());
    let mut rows = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/admission-reviews");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let body = std::fs::read(&path).unwrap();
        rows.push((peak(&knowledge, &body), body.len(), path.file_name().unwrap().to_string_lossy().into_owned()));
    }
    for shape in SHAPES {
        let each = shape.review(1_000, None, "mallory").len() / 1_000;
        for size in SIZES.iter().copied() {
            let length = size / each;
            for old in [None, Some(length - 1)] {
                let body = shape.review(length, old, "mallory");
                let operation = if old.is_some() { "update" } else { "create" };
                rows.push((peak(&knowledge, &body), body.len(), format!("{operation} {} × {length}", shape.name)));
            }
        }
    }
    rows.sort();
    println!("{:>10} {:>9} {:>9}", "peak", "body", "per byte");
    for (peak, body, name) in rows.iter().rev() {
        println!("{:>7.1} MB {body:>9} {:>9.1}  {name}", *peak as f64 / 1e6, *peak as f64 / *body as f64);
    }
    let (largest, _, name) = rows.last().unwrap();
    assert!(*largest <= MAX_BYTES + SLACK, "{name} takes {largest} bytes");
}
