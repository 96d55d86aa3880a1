//! `portcullis completions`: completion scripts for shells.

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, OK};

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  portcullis completions bash > /etc/bash_completion.d/portcullis")]
pub(super) struct Arguments {
    /// Print the script for this shell.
    shell: Shell,
}

#[allow(clippy::unnecessary_wraps, reason = "every command has this form")]
pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "portcullis", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(OK)
}
