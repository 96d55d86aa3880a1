//! The text output of `portcullis test`.

use std::io::Write as _;

use anyhow::Result;

use super::{Tested, Verdict};
use crate::cli::words::plural;
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};

/// Maximum number of changes that are listed.
const MAX_LISTED: usize = 20;

pub(super) fn print(tested: &Tested) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for outcome in &tested.contracts {
        let (style, word) = match outcome.result {
            Verdict::Holds => (GREEN, "holds"),
            Verdict::Broken => (RED, "broken"),
            Verdict::Undecided => (YELLOW, "undecided"),
        };
        writeln!(out, "{style}{word}{style:#}: {BOLD}{}{BOLD:#}: {}", outcome.name, outcome.statement)?;
        if let Some(detail) = &outcome.detail {
            writeln!(out, "  {detail}")?;
        }
        for because in &outcome.because {
            writeln!(out, "  because {because}")?;
        }
        if outcome.result != Verdict::Holds {
            for (name, text) in [("reason", &outcome.reason), ("owner", &outcome.owner)] {
                if !text.is_empty() {
                    writeln!(out, "  {FAINT}{name}:{FAINT:#} {text}")?;
                }
            }
        }
    }
    let count = |verdict| tested.contracts.iter().filter(|outcome| outcome.result == verdict).count();
    writeln!(
        out,
        "\n{}: {} hold, {} broken, {} undecided",
        plural(tested.contracts.len(), "contract"),
        count(Verdict::Holds),
        count(Verdict::Broken),
        count(Verdict::Undecided)
    )?;
    if let Some(drill) = &tested.mutations {
        writeln!(
            out,
            "\n{} changes of policies: {} noticed, {} not",
            drill.changes,
            drill.noticed(),
            drill.unnoticed.len()
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
