//! The cost of a decision in the length of each list of a request, in steps of the budget: n log n at most.
//!
//! Steps are counted and not timed, so this says the same on every machine. `cargo bench --bench growth` shows it
//! for each rule, and measures what a step costs.

use portcullis::config::Configuration;
use portcullis::rules::RULES;

use crate::shapes::SHAPES;

/// Lengths of the list that is varied: once and eight times the same.
const LENGTHS: [usize; 2] = [60, 480];
/// Largest exponent of growth. n log n gives 1.15 between these lengths.
const MAX_EXPONENT: f64 = 1.2;

/// Two lists at once, of which each rule is about each pair; and policies of one object, each of which is held against the
/// others. The budget ends them all.
const SQUARED: [&str; 3] =
    ["CiliumNetworkPolicy specs", "CiliumNetworkPolicy toPorts and peers", "Calico NetworkPolicy nets and selector"];

#[test]
fn a_decision_costs_at_most_n_log_n_in_every_list() {
    let mut text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\noverrides: []\nrules:\n".to_owned();
    for rule in RULES {
        text.push_str(&format!("  {}: deny\n", rule.name));
    }
    let knowledge = crate::crowd::knowledge(Configuration::read(&text).unwrap());
    let mut wrong = Vec::new();
    for shape in SHAPES.iter().filter(|shape| !SQUARED.contains(&shape.name)) {
        for changes in [false, true] {
            let cost = LENGTHS.map(|length| shape.steps(&knowledge, length, changes));
            let exponent = (cost[1] as f64 / cost[0] as f64).log2() / 3.0;
            if exponent > MAX_EXPONENT {
                let operation = if changes { "update" } else { "create" };
                wrong.push(format!("{exponent:.2} {operation} {:<55} {cost:?}", shape.name));
            }
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} grow faster:\n{}", wrong.len(), wrong.join("\n"));
}
