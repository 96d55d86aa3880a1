//! The output formats that most commands have, and JSON for programs.

use std::io::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// The output format of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
}

/// Prints a value as JSON for programs.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
