//! `portcullis audit`: the state of network policy in a cluster or in manifests.

mod html;
mod load;
mod markdown;
mod network_plugin;
mod text;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::OK;
use super::state::StateArguments;
use crate::audit::{Input, Report, Scope};

pub(super) use load::Loaded;

/// Show which pods are isolated, which policies have no effect, what the rules report, which contracts hold, and which
/// connections are possible.
///
/// Reads manifests, a cluster (--cluster), or both: then the manifests count as if they were applied. Gives the same
/// verdicts as the webhook. What could not be read is named, and everything else is answered.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis audit --cluster
  portcullis audit --cluster --namespace shop --output json
  portcullis audit --output markdown manifests/

Exit status: 0 no findings, 1 findings, 2 failed.")]
pub(super) struct Arguments {
    /// Files and folders with manifests; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    /// Report only on this namespace. Repeatable. The other namespaces still count for the answers.
    #[arg(long, short, value_name = "NAME")]
    namespace: Vec<String>,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What makes the exit status 1.
    #[arg(long, value_enum, default_value_t = FailOn::Finding)]
    fail_on: FailOn,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people: the counts and the first objects of each.
    Text,
    /// One JSON object with everything.
    Json,
    /// Markdown, for an issue or a wiki.
    Markdown,
    /// A page for a browser, in one file that loads nothing else.
    Html,
}

/// What makes the exit status 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Any finding.
    Finding,
    /// A stored object that a rule would deny, or a broken contract with `enforcement: Deny`.
    Deny,
    /// Nothing.
    Never,
}

/// The exit status if there are findings.
const FOUND: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    arguments.state.expect_input(&arguments.paths)?;
    let loaded = Loaded::read(&arguments.state, &arguments.paths)?;
    let scope = Scope::of(arguments.namespace.iter().cloned());
    for name in scope.names() {
        if loaded.stored.namespace(name).is_none() {
            bail!("namespace `{name}` is unknown: it is neither in the manifests nor in the cluster");
        }
    }
    let objects = loaded.objects();
    let mut report = Report::of(&Input {
        configuration: &loaded.configuration,
        policies: &loaded.policies,
        view: &loaded.view,
        stored: &loaded.stored,
        objects: &objects,
        scope: &scope,
        now: Timestamp::now(),
    });
    if let Some(plugin) = loaded.plugin {
        report = report.with_plugin(plugin);
    }
    report.assumed.extend(loaded.assumed.iter().cloned());
    report.unread.extend(loaded.unread.iter().cloned());
    match arguments.output {
        Output::Text => text::print(&report)?,
        Output::Json => super::output::print_json(&report)?,
        Output::Markdown => markdown::print(&report)?,
        Output::Html => html::write(&mut std::io::stdout().lock(), &report)?,
    }
    let is_failure = match arguments.fail_on {
        FailOn::Finding => report.has_findings(),
        FailOn::Deny => report.has_denials(),
        FailOn::Never => false,
    };
    Ok(if is_failure { FOUND } else { OK })
}
