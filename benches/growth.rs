//! The processor time of the most expensive requests: every list of every kind, in bodies of up to 3 MB, within the budget of
//! a request; and of the preview for pods with many ports. `cargo bench --bench growth` prints the worst, and the time of a
//! step in each; `-- exponents` the growth of each rule in each list, in steps.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run says so by a panic"
)]

#[path = "../tests/support/crowd.rs"]
mod crowd;
#[path = "../tests/support/shapes.rs"]
mod shapes;

use std::time::Instant;

use portcullis::admission::{Knowledge, validate};
use portcullis::budget::{self, Limits};
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::model::Object;
use portcullis::preview::connections;
use portcullis::rules::{Change, RULES};
use portcullis::view::Facts;

use shapes::SHAPES;

/// That of the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What decides where only this rule is on.
fn only(rule: &str) -> Knowledge {
    let mut text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\noverrides: []\nrules:\n".to_owned();
    for other in RULES {
        text.push_str(&format!("  {}: {}\n", other.name, if other.name == rule { "deny" } else { "'off'" }));
    }
    crowd::knowledge(Configuration::read(&text).unwrap())
}

/// Prints the exponent of the growth of each rule in each list, where it is more than 1.
fn exponents() {
    const LENGTHS: [usize; 4] = [100, 200, 400, 800];
    let without = only("");
    let mut rows = Vec::new();
    for rule in RULES {
        let knowledge = only(rule.name);
        for shape in SHAPES {
            for changes in [false, true] {
                let cost = LENGTHS.map(|length| {
                    let base = shape.steps(&without, length, changes);
                    shape.steps(&knowledge, length, changes).saturating_sub(base) + 100
                });
                let [first, .., last] = cost;
                let exponent = (last as f64 / first as f64).log2() / 3.0;
                let operation = if changes { "update" } else { "create" };
                rows.push((exponent, format!("{:<22} {operation} {:<55} {cost:?}", rule.name, shape.name)));
            }
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{} rows; exponent of steps from 100 to 800 items, more than 1.05:", rows.len());
    for (exponent, row) in rows.iter().filter(|(exponent, _)| *exponent > 1.05) {
        println!("{exponent:.2} {row}");
    }
}

/// Prints the cost of the preview of a policy for pods with many ports. Steps, and so the time, have a limit of their own.
fn preview_of_ports() {
    let new = policy();
    let site = Configuration::shipped().unwrap().site;
    println!("{:>10} {:>9}", "time", "steps");
    for ports in [10, 100, 1_000, 10_000, 60_000] {
        let view = crowd::pods_with_ports(400, ports);
        let started = Instant::now();
        let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
        let took = started.elapsed().as_secs_f64() * 1e3;
        println!("{took:>7.1} ms {:>9}  preview, 400 pods × {ports} ports", effect.steps);
    }
}

/// Isolates all pods of namespace shop for ingress.
fn policy() -> Object {
    let text = r#"{"metadata":{"name":"deny","namespace":"shop"},"spec":{"podSelector":{},"policyTypes":["Ingress"]}}"#;
    let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", text, Origin::Author).unwrap();
    dialect::read(&manifest).unwrap().unwrap()
}

fn main() {
    if std::env::args().any(|argument| argument == "exponents") {
        return exponents();
    }
    preview_of_ports();
    let knowledge = crowd::knowledge(Configuration::shipped().unwrap());
    let mut rows = Vec::new();
    for shape in SHAPES {
        let each = shape.review(1_000, None, "mallory").len() / 1_000;
        for size in [3_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000] {
            for changes in [false, true] {
                let length = (size / each).max(2);
                let body = shape.review(length, changes.then_some(length - 1), "mallory");
                let mut best: Option<(f64, usize, bool)> = None;
                for _ in 0..2 {
                    let started = Instant::now();
                    let judged = budget::run(Limits::default(), || {
                        let answer = validate(&knowledge, &Facts::default(), &body).unwrap().answer().unwrap();
                        let is_whole = !answer.decision.judgements.iter().any(|one| one.finding.rule == "too-complex");
                        (budget::spent().steps, is_whole)
                    });
                    let took = started.elapsed().as_secs_f64() * 1e3;
                    let (steps, is_whole) = judged.unwrap_or_default();
                    if best.is_none_or(|(least, ..)| took < least) {
                        best = Some((took, steps, is_whole));
                    }
                }
                let (took, steps, is_whole) = best.unwrap();
                let operation = if changes { "update" } else { "create" };
                if took > 250.0 {
                    println!("over the bar: {took:.0} ms {operation} {} × {length}", shape.name);
                }
                let end = if is_whole { "judged" } else { "too complex" };
                rows.push((
                    took,
                    steps,
                    format!("{operation} {} × {length} ({} kB), {end}", shape.name, body.len() / 1000),
                ));
            }
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{:>10} {:>9} {:>8}", "time", "steps", "a step");
    for (took, steps, name) in rows.iter().take(40) {
        println!("{took:>7.1} ms {steps:>9} {:>5.0} ns  {name}", took * 1e6 / (*steps).max(1) as f64);
    }
}
