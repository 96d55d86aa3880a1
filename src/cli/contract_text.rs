//! Contracts as text, as `portcullis test` and `portcullis audit` print them.

use std::io::Write;

use anyhow::Result;

use super::words::{plural, printable};
use super::{BOLD, FAINT, GREEN, RED, YELLOW};
use crate::contract::{ContractState, Verdict};

/// Prints the state of a contract.
pub(super) fn print_state(out: &mut impl Write, state: &ContractState) -> Result<()> {
    let style = match state.result {
        Verdict::Holds => GREEN,
        Verdict::Broken => RED,
        Verdict::Undecided => YELLOW,
    };
    let (word, statement) = (state.result.name(), printable(&state.statement));
    writeln!(out, "{style}{word}{style:#}: {BOLD}{}{BOLD:#}: {statement}", printable(&state.name))?;
    if let Some(detail) = &state.detail {
        writeln!(out, "  {}", printable(detail))?;
    }
    for because in &state.because {
        writeln!(out, "  because {}", printable(because))?;
    }
    for note in &state.notes {
        writeln!(out, "  {YELLOW}note{YELLOW:#}: {}", printable(note))?;
    }
    if state.result != Verdict::Holds {
        for (name, text) in [("reason", &state.reason), ("owner", &state.owner)] {
            if !text.is_empty() {
                writeln!(out, "  {FAINT}{name}:{FAINT:#} {}", printable(text))?;
            }
        }
    }
    Ok(())
}

/// The number of contracts by result: `5 contracts: 4 hold, 1 broken, 0 undecided`.
pub(super) fn counts(states: &[ContractState]) -> String {
    let count = |result| states.iter().filter(|state| state.result == result).count();
    let [hold, broken, undecided] = [Verdict::Holds, Verdict::Broken, Verdict::Undecided].map(count);
    format!("{}: {hold} hold, {broken} broken, {undecided} undecided", plural(states.len(), "contract"))
}
