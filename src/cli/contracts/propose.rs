//! `portcullis contracts propose`: contracts that hold and look intended.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::progress::Progress;
use crate::cli::state::{State, StateArguments};
use crate::cli::words::plural;
use crate::cli::{FAILED, OK, YELLOW};
use crate::proposal::{self, Proposal, Proposals, Request};
use crate::yaml::{self, Ordered};

/// Propose contracts that hold and look intended, for a person to review.
///
/// Reads manifests, a cluster (--cluster), or both: then the manifests count as if they were applied. Prints YAML documents,
/// each with a comment that says why it is proposed. Every contract is proved first, and one that existing contracts imply is
/// left out. Delete what is not intended, and edit the reasons.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis contracts propose manifests/ > contracts.yaml
  portcullis contracts propose --cluster --namespace shop

Exit status: 0 success, 2 failed, or a part of the input could not be read.")]
pub(super) struct Arguments {
    /// Files and folders with manifests; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    /// Propose only contracts about pods in this namespace. Repeatable [default: all but platform namespaces].
    #[arg(long, short, value_name = "NAME")]
    namespace: Vec<String>,
    /// Maximum number of contracts. They are taken from each kind in turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 40)]
    limit: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    arguments.state.expect_input(&arguments.paths)?;
    let (base, mut missing) = arguments.state.base()?;
    let State { view, site, missing: unread, .. } = arguments.state.apply(arguments.paths.clone(), base)?;
    missing.extend(unread);
    let namespaces: BTreeSet<&str> = arguments.namespace.iter().map(String::as_str).collect();
    if let Some(name) = namespaces.iter().find(|name| view.namespace(name).is_none()) {
        bail!("namespace `{name}` is unknown: it is neither in the manifests nor in the cluster");
    }
    let mut progress = Progress::start();
    let request = Request { namespaces: &namespaces, limit: arguments.limit };
    let update = |done, all| progress.update("proving", done, all, "contracts");
    let Proposals { proposals, omitted, known } = proposal::propose(&view, &site, request, update);
    drop(progress);
    print(&proposals)?;
    let mut counts = vec![format!("{} proposed", plural(proposals.len(), "contract"))];
    if omitted > 0 {
        counts.push(format!("{omitted} more left out by --limit {}", arguments.limit));
    }
    if known > 0 {
        counts.push(format!("{known} implied by existing contracts"));
    }
    anstream::eprintln!("{}", counts.join(", "));
    for missing in &missing {
        anstream::eprintln!("{YELLOW}not read{YELLOW:#}: {missing}");
    }
    Ok(if missing.is_empty() { OK } else { FAILED })
}

fn print(proposals: &[Proposal]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for (number, proposal) in proposals.iter().enumerate() {
        if number > 0 {
            writeln!(out, "---")?;
        }
        let manifest: Ordered = serde_json::from_str(&proposal.manifest)?;
        // A line break in a label would end the comment.
        let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        let why = proposal.why.replace(is_break, " ");
        write!(out, "# Proposed: {why}\n{}", yaml::write(&manifest))?;
    }
    Ok(())
}
