//! `portcullis contracts`: contracts as files.

mod propose;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Propose contracts.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    // The help of a command is the doc comment of its arguments.
    Propose(propose::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    match &arguments.what {
        What::Propose(arguments) => propose::run(arguments),
    }
}
