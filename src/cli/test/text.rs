//! The text output of `portcullis test`.

use std::io::Write as _;

use anyhow::Result;

use super::Tested;
use crate::cli::YELLOW;
use crate::cli::contract_text::{counts, print_state};
use crate::cli::words::plural;

/// Maximum number of changes that are listed.
const MAX_LISTED: usize = 20;

pub(super) fn print(tested: &Tested) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for state in &tested.contracts {
        print_state(&mut out, state)?;
    }
    writeln!(out, "\n{}", counts(&tested.contracts))?;
    if let Some(drill) = &tested.mutations {
        writeln!(
            out,
            "\n{} of policies: {} noticed, {} not, {} without effect",
            plural(drill.changes, "change"),
            drill.noticed(),
            drill.unnoticed.len(),
            drill.without_effect.len()
        )?;
        for (name, noticed) in drill.by_contract.iter().chain(&drill.by_rule) {
            writeln!(out, "  {name}: {noticed}")?;
        }
        if !drill.unnoticed.is_empty() {
            writeln!(out, "not noticed by any contract or rule:")?;
        }
        for change in drill.unnoticed.iter().take(MAX_LISTED) {
            writeln!(out, "  {change}")?;
        }
        if let Some(more) = drill.unnoticed.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
            writeln!(out, "  and {more} more; --output json lists all")?;
        }
    }
    for missing in &tested.missing {
        writeln!(out, "{YELLOW}not read{YELLOW:#}: {missing}")?;
    }
    Ok(())
}
