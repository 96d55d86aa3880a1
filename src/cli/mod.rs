//! The command line. Each command has its own file. Only this module prints to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "commands print their results")]

mod audit;
mod backstop;
mod check;
mod cluster_arguments;
mod completions;
mod config;
mod connection;
mod contract_text;
mod contracts;
mod demo;
mod diff;
mod doctor;
mod exempt;
mod git;
mod hatch;
mod init;
mod inputs;
mod output;
mod progress;
mod report;
mod review;
mod rules;
mod self_signed;
mod serve;
mod sources;
mod state;
mod status;
mod tasks;
mod test;
mod tls;
mod trace;
mod uninstall;
mod variables;
mod webhooks;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Admission control for Kubernetes network policy.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about = "Admission control for Kubernetes network policy.\n\n\
        Portcullis denies policies that leave pods without DNS or open every port, denies hostNetwork pods in isolated \
        namespaces, and gives every new namespace a working baseline. It evaluates the combined effect of all policies.",
    after_help = "Exit status: 0 success; 1 denied, or something was found; 2 failure. The help of each command has its own.",
    disable_help_subcommand = true,
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // The help of a command is the doc comment of its arguments. A doc comment here would replace it as a whole.
    Serve(Box<serve::Arguments>),
    Check(check::Arguments),
    Trace(trace::Arguments),
    Test(test::Arguments),
    Contracts(contracts::Arguments),
    Diff(diff::Arguments),
    Audit(audit::Arguments),
    Review(review::Arguments),
    Rules(rules::Arguments),
    Init(init::Arguments),
    Config(config::Arguments),
    Webhooks(webhooks::Arguments),
    Backstop(backstop::Arguments),
    Hatch(hatch::Arguments),
    Status(status::Arguments),
    Exempt(exempt::Arguments),
    Doctor(doctor::Arguments),
    Uninstall(uninstall::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
}

/// The exit status of a success.
const OK: u8 = 0;
/// The exit status of a denial.
const DENIED: u8 = 1;
/// The exit status of a failure.
const FAILED: u8 = 2;

/// The name of the Deployment, the Service and the webhook configurations in `deploy/`.
const NAME: &str = "portcullis";

/// The name of the binary as a plugin of kubectl.
const PLUGIN: &str = "kubectl-portcullis";

/// Returns the command line. The name of the program decides only the name in the help.
fn command(program: Option<OsString>) -> clap::Command {
    let command = Cli::command();
    let is_plugin = program.is_some_and(|program| Path::new(&program).file_stem().is_some_and(|stem| stem == PLUGIN));
    if is_plugin { command.bin_name("kubectl portcullis").display_name("kubectl portcullis") } else { command }
}

/// Parses the arguments of the process and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let matches = command(std::env::args_os().next()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Contracts(arguments) => contracts::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Review(arguments) => review::run(&arguments),
        Command::Rules(arguments) => rules::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Webhooks(arguments) => webhooks::run(&arguments),
        Command::Backstop(arguments) => backstop::run(&arguments),
        Command::Hatch(arguments) => hatch::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Exempt(arguments) => exempt::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Uninstall(arguments) => uninstall::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(OK),
        Err(error) => {
            anstream::eprintln!("{RED}error{RED:#}: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs the asynchronous part of a server, on all cores.
fn block_on_all_cores<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("failed to start the runtime threads")?.block_on(work)
}

/// Runs the asynchronous part of a command on the current thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Returns true if the reader of the output has closed the pipe, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = match (cause.downcast_ref::<std::io::Error>(), cause.downcast_ref::<serde_json::Error>()) {
            (Some(error), _) => Some(error.kind()),
            (None, Some(error)) => error.io_error_kind(),
            (None, None) => None,
        };
        kind == Some(std::io::ErrorKind::BrokenPipe)
    })
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const FAINT: anstyle::Style = anstyle::Style::new().dimmed();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
    }
}
