//! `portcullis diff`: the connections that a change opens or closes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::sources::Sources;
use super::{BOLD, FAINT, GREEN, OK, RED, YELLOW};
use crate::baseline;
use crate::trace::{Change, Difference, compare};
use crate::view::View;

/// Show which connections a change of manifests opens or closes, and which pods lose DNS.
///
/// Compares two sets of manifests, a Git revision with the working tree, or a cluster with the cluster after `kubectl apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis diff --before old/ new/
  portcullis diff --since origin/main manifests/
  portcullis diff --cluster new-policy.yaml

Exit status: 0 nothing changes, 1 connections change, 2 failed.")]
pub(super) struct Arguments {
    /// Files and folders with the manifests after the change; - is standard input.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Files and folders with the manifests before the change.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["since", "cluster"])]
    before: Vec<PathBuf>,
    /// The Git revision whose state of the paths is the one before the change.
    #[arg(long, value_name = "REV", conflicts_with = "cluster")]
    since: Option<String>,
    /// Compare the cluster with the cluster in which the manifests are applied. Needs read access only.
    #[arg(long)]
    cluster: bool,
    /// The kubeconfig [default: $KUBECONFIG, then ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The configuration [default: the shipped one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of baseline policies [default: the shipped ones].
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
    /// Markdown for a pull request.
    Markdown,
}

/// The exit status if connections change.
const CHANGED: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let (before, after, site) = match (&arguments.since, arguments.cluster) {
        (Some(revision), _) => {
            let folder = checkout(revision, &arguments.paths)?;
            let old: Vec<PathBuf> = arguments.paths.iter().map(|path| folder.path().join(path)).collect();
            let old = old.into_iter().filter(|path| path.exists()).collect();
            views(arguments, View::default(), old)?
        }
        (None, true) => {
            views(arguments, super::trace::from_cluster(&arguments.kubeconfig, &arguments.context)?.0, Vec::new())?
        }
        (None, false) if arguments.before.is_empty() => {
            bail!("give the state before the change: --before, --since or --cluster")
        }
        (None, false) => views(arguments, View::default(), arguments.before.clone())?,
    };
    let difference = compare(&before, &after, &site);
    match arguments.output {
        Output::Text => print_text(&difference)?,
        Output::Json => super::print_json(&difference)?,
        Output::Markdown => print_markdown(&difference)?,
    }
    Ok(if difference.is_empty() { OK } else { CHANGED })
}

/// The views before and after the change: both hold the base, and each its own manifests.
fn views(arguments: &Arguments, base: View, old: Vec<PathBuf>) -> Result<(View, View, crate::view::Site)> {
    let mut site = None;
    let mut read = |paths: Vec<PathBuf>, mut view: View| -> Result<View> {
        let sources =
            Sources { config: arguments.config.clone(), policies: arguments.policies.clone(), context: paths };
        let sources = sources.read()?;
        let configuration = sources.configuration()?;
        let policies = sources.policies(&configuration)?;
        let (objects, problems) = sources.context_objects(&mut view);
        if let Some(problem) = problems.into_iter().next() {
            bail!(problem);
        }
        for mut object in objects {
            baseline::give_profile(&mut object, &configuration.site);
            view.insert(object);
        }
        baseline::complete(&mut view, &policies, &configuration.site);
        site = Some(configuration.site);
        Ok(view)
    };
    let before = read(old, base.clone())?;
    let after = read(arguments.paths.clone(), base)?;
    site.map(|site| (before, after, site)).context("no configuration")
}

/// Writes the state of paths in a revision into a temporary folder.
fn checkout(revision: &str, paths: &[PathBuf]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for path in paths {
        if path.is_absolute() {
            bail!("--since needs paths relative to the current folder; {} is absolute", path.display());
        }
        let listed = git(&["ls-tree", "-r", "--name-only", "-z", revision, "--"], Some(path))?;
        for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name).into_owned();
            let content = git(&["show", &format!("{revision}:./{name}")], None)?;
            let file = folder.path().join(&name);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&file, content)?;
        }
    }
    Ok(folder)
}

fn git(arguments: &[&str], path: Option<&Path>) -> Result<Vec<u8>> {
    let output = Command::new("git").args(arguments).args(path).output().context("git cannot be started")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn print_text(difference: &Difference) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let (closed, opened) = counts(difference);
    writeln!(out, "{BOLD}{}{BOLD:#}", summary(difference, closed, opened))?;
    for name in &difference.lose_dns {
        writeln!(out, "{RED}loses DNS{RED:#}  {name}")?;
    }
    for name in &difference.gain_dns {
        writeln!(out, "{GREEN}gains DNS{GREEN:#}  {name}")?;
    }
    for Change { from, to, closed, opened } in &difference.connections {
        if !closed.is_empty() {
            writeln!(out, "{RED}closes{RED:#}     {from} to {to} on {}", closed.join(", "))?;
        }
        if !opened.is_empty() {
            writeln!(out, "{YELLOW}opens{YELLOW:#}      {from} to {to} on {}", opened.join(", "))?;
        }
    }
    if difference.is_partial {
        writeln!(out, "{FAINT}only the first {} pairs of ends were compared{FAINT:#}", difference.compared)?;
    }
    Ok(())
}

fn counts(difference: &Difference) -> (usize, usize) {
    let closed = difference.connections.iter().filter(|change| !change.closed.is_empty()).count();
    let opened = difference.connections.iter().filter(|change| !change.opened.is_empty()).count();
    (closed, opened)
}

fn summary(difference: &Difference, closed: usize, opened: usize) -> String {
    if difference.is_empty() {
        return "no connection changes".to_owned();
    }
    let dns = match difference.lose_dns.len() {
        0 => String::new(),
        1 => ", 1 workload loses DNS".to_owned(),
        count => format!(", {count} workloads lose DNS"),
    };
    let plural = |count: usize| if count == 1 { "connection" } else { "connections" };
    format!("closes {closed} {}, opens {opened} {}{dns}", plural(closed), plural(opened))
}

/// Maximum number of rows of the Markdown table.
const MAX_ROWS: usize = 200;

fn print_markdown(difference: &Difference) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let (closed, opened) = counts(difference);
    writeln!(out, "**portcullis diff**: {}\n", summary(difference, closed, opened))?;
    for name in &difference.lose_dns {
        writeln!(out, "- :x: `{name}` loses DNS")?;
    }
    for name in &difference.gain_dns {
        writeln!(out, "- `{name}` gains DNS")?;
    }
    if difference.connections.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| from | to | closed | opened |\n|---|---|---|---|")?;
    for Change { from, to, closed, opened } in difference.connections.iter().take(MAX_ROWS) {
        writeln!(out, "| {from} | {to} | {} | {} |", closed.join(", "), opened.join(", "))?;
    }
    if let Some(more @ 1..) = difference.connections.len().checked_sub(MAX_ROWS) {
        writeln!(out, "\n{more} more connections change.")?;
    }
    Ok(())
}
