//! Metrics of contracts. Clones share their values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The values of the label `state`, the worst one first.
const STATES: [&str; 4] = ["broken", "invalid", "undecided", "holds"];
/// Maximum number of contracts that have series of their own.
const MAX_CONTRACTS: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContractLabels {
    contract: String,
    state: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Metrics of contracts.
#[derive(Clone, Debug)]
pub struct ContractMetrics {
    state: Family<ContractLabels, Gauge>,
    count: Family<StateLabel, Gauge>,
    /// The contracts that have series.
    shown: Arc<Mutex<BTreeSet<String>>>,
}

impl Default for ContractMetrics {
    fn default() -> Self {
        let metrics = Self { state: Family::default(), count: Family::default(), shown: Arc::default() };
        for state in STATES {
            let _ = metrics.count.get_or_create(&StateLabel { state });
        }
        metrics
    }
}

impl ContractMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "contract_state",
            "1 for the state of a contract, 0 for the other states; for up to 200 contracts, those first that do not hold",
            self.state.clone(),
        );
        registry.register("contracts", "Contracts, by state", self.count.clone());
    }

    /// Sets the states of all contracts: pairs of a name and `holds`, `broken`, `undecided` or `invalid`. Of two contracts
    /// with the same name the worse state counts.
    pub fn states<'a>(&self, contracts: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut worst: BTreeMap<&str, usize> = BTreeMap::new();
        let mut counts = [0_i64; STATES.len()];
        for (contract, state) in contracts {
            let Some(rank) = STATES.iter().position(|known| *known == state) else { continue };
            if let Some(count) = counts.get_mut(rank) {
                *count += 1;
            }
            let known = worst.entry(contract).or_insert(rank);
            *known = rank.min(*known);
        }
        for (state, count) in STATES.into_iter().zip(counts) {
            self.count.get_or_create(&StateLabel { state }).set(count);
        }
        let mut ranked: Vec<(usize, &str)> = worst.into_iter().map(|(contract, rank)| (rank, contract)).collect();
        ranked.sort_unstable();
        ranked.truncate(MAX_CONTRACTS);
        let new: BTreeSet<String> = ranked.iter().map(|(_, contract)| (*contract).to_owned()).collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (contract, state) in shown.difference(&new).flat_map(|gone| STATES.map(|state| (gone, state))) {
            self.state.remove(&ContractLabels { contract: contract.clone(), state });
        }
        for (rank, contract) in ranked {
            for (other, state) in STATES.into_iter().enumerate() {
                let labels = ContractLabels { contract: contract.to_owned(), state };
                self.state.get_or_create(&labels).set(i64::from(other == rank));
            }
        }
        *shown = new;
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn a_contract_has_one_state_until_it_is_gone() {
        let metrics = Metrics::default();
        let contracts = metrics.contracts.clone();
        contracts.states([("dns", "holds"), ("db", "holds"), ("db", "broken")]);
        let text = metrics.text();
        for line in [
            r#"portcullis_contract_state{contract="db",state="broken"} 1"#,
            r#"portcullis_contract_state{contract="db",state="holds"} 0"#,
            r#"portcullis_contract_state{contract="dns",state="holds"} 1"#,
            r#"portcullis_contracts{state="holds"} 2"#,
            r#"portcullis_contracts{state="broken"} 1"#,
            r#"portcullis_contracts{state="invalid"} 0"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
        contracts.states([("dns", "undecided")]);
        let text = metrics.text();
        assert!(!text.contains(r#"contract="db""#), "{text}");
        assert!(text.contains(r#"portcullis_contract_state{contract="dns",state="undecided"} 1"#), "{text}");
    }

    #[test]
    fn the_number_of_series_is_limited_and_broken_contracts_come_first() {
        let metrics = Metrics::default();
        let names: Vec<String> = (0..1000).map(|number| format!("c{number:04}")).collect();
        let state = |number| if number == 999 { "broken" } else { "holds" };
        metrics.contracts.states(names.iter().enumerate().map(|(number, name)| (&**name, state(number))));
        let text = metrics.text();
        assert_eq!(text.matches("portcullis_contract_state{").count(), 800);
        assert!(text.contains(r#"portcullis_contract_state{contract="c0999",state="broken"} 1"#));
        assert!(text.contains(r#"portcullis_contracts{state="holds"} 999"#));
    }
}
