//! The baseline controller on a real API server: what it writes, what it leaves alone, and when it takes something away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod change;
mod endpoints;
mod feed;
mod rig;
mod scenarios;
mod trouble;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rig::Rig;

#[test]
fn baselines_are_kept() {
    let Some(rig) = Rig::start() else { return };
    scenarios::one_that_sees_nothing_leaves_the_lease_to_others(&rig);
    scenarios::gates_are_lifted_when_the_baseline_is_there(&rig);
    let replica = rig.replica("first");
    rig::until("the controller leads", || replica.leads());
    let mut failed = Vec::new();
    for (name, scenario) in scenarios::ALL.iter().chain(trouble::ALL).chain(change::ALL) {
        let start = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| scenario(&rig, &replica))).is_err() {
            failed.push(*name);
        }
        let outcome = if failed.last() == Some(name) { "FAILED" } else { "ok" };
        eprintln!("{outcome:6} {:5.1} s  {name}", start.elapsed().as_secs_f64());
    }
    replica.stop(&rig.runtime);
    scenarios::another_takes_over_and_applies_nothing_twice(&rig);
    assert!(failed.is_empty(), "failed: {failed:?}");
}
