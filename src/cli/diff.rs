//! `portcullis diff`: the connections that a change opens or closes.

use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::git::git;
use super::inputs::KUSTOMIZATION_FILES;
use super::state::{State, StateArguments};
use super::words::plural;
use super::{BOLD, FAINT, GREEN, OK, RED, YELLOW};
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
    #[command(flatten)]
    state: StateArguments,
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

/// The option that needs Git.
const OPTION: &str = "--since";

/// The exit status if connections change.
const CHANGED: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let (base, missing) = arguments.state.base()?;
    // What could not be read is in neither state, and a change of it is not seen.
    for missing in missing {
        anstream::eprintln!("{YELLOW}not read{YELLOW:#}: {missing}");
    }
    let checked_out = arguments.since.as_deref().map(|revision| checkout(revision, &arguments.paths)).transpose()?;
    let old: Vec<PathBuf> = match &checked_out {
        Some(folder) => {
            let old = arguments.paths.iter().map(|path| folder.path().join(path));
            old.filter(|path| path.exists()).collect()
        }
        None if arguments.before.is_empty() && !arguments.state.cluster => {
            bail!("give the state before the change: --before, --since or --cluster")
        }
        None => arguments.before.clone(),
    };
    let before = read(&arguments.state, old, base.clone())?;
    let after = read(&arguments.state, arguments.paths.clone(), base)?;
    after.print_assumptions();
    let difference = compare(&before.view, &after.view, &after.site);
    match arguments.output {
        Output::Text => print_text(&difference)?,
        Output::Json => super::output::print_json(&difference)?,
        Output::Markdown => print_markdown(&difference)?,
    }
    Ok(if difference.is_empty() { OK } else { CHANGED })
}

/// Reads a state. Fails if a manifest cannot be read, because its connections would count as unchanged.
fn read(arguments: &StateArguments, paths: Vec<PathBuf>, base: View) -> Result<State> {
    let state = arguments.apply(paths, base)?;
    match state.missing.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(state),
    }
}

/// Writes the state of paths in a revision into a temporary folder.
fn checkout(revision: &str, paths: &[PathBuf]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let here = Path::new(".");
    for path in paths {
        // A path that leads upwards would leave the temporary folder too.
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            bail!("--since needs paths below the current folder; {} is not", path.display());
        }
        let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        if revision.starts_with('-') {
            bail!("--since: `{revision}` is not a revision");
        }
        // A kustomization in a folder above decides which of the files are patches.
        let above = Path::new(path).ancestors().skip(1);
        let above: Vec<String> = above
            .flat_map(|folder| KUSTOMIZATION_FILES.map(|name| folder.join(name).to_string_lossy().into_owned()))
            .collect();
        let arguments = ["ls-tree", "-r", "--name-only", "-z", revision, "--", path].into_iter();
        let listed = git(OPTION, here, &arguments.chain(above.iter().map(String::as_str)).collect::<Vec<&str>>())?;
        for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name).into_owned();
            let content = git(OPTION, here, &["show", &format!("{revision}:./{name}")])?;
            let file = folder.path().join(&name);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&file, content)?;
        }
    }
    Ok(folder)
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
        writeln!(out, "{FAINT}only the first {} source-destination pairs were compared{FAINT:#}", difference.compared)?;
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
    format!("closes {}, opens {}{dns}", plural(closed, "connection"), plural(opened, "connection"))
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
