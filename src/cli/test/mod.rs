//! `portcullis test`: do the contracts hold?

mod drill;
mod junit;
mod text;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::output::print_json;
use super::progress::Progress;
use super::state::{State, StateArguments};
use super::{DENIED, FAILED, OK};
use crate::contract::{self, ContractState, Scope, Status, Verdict};
use crate::model::Contract;
use crate::view::{Scene, Site, View};

use drill::Drill;

/// Test contracts: which pods must, and must never, reach which others.
///
/// Reads contracts and policies from manifests, from a cluster (--cluster), or both: then the manifests count as if they
/// were applied. A contract with `pods: Any` holds only if that is proved for every pod that could be created.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis test manifests/ contracts/
  portcullis test --cluster contracts/
  portcullis test --mutate manifests/ contracts/
  portcullis test --output junit manifests/ contracts/ > contracts.xml

Exit status: 0 every contract holds, 1 one is broken, 2 one is undecided, or failed.")]
pub(super) struct Arguments {
    /// Files and folders with manifests; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    /// Change the policies in many small ways, and list the changes that no contract and no rule notices.
    #[arg(long)]
    mutate: bool,
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
    /// JUnit XML.
    Junit,
}

/// The results of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    contracts: Vec<ContractState>,
    /// The fault drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    mutations: Option<Drill>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// Maximum number of steps of one proof, some ten seconds.
const STEPS: usize = 100_000_000;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    arguments.state.expect_input(&arguments.paths)?;
    let (base, mut missing) = arguments.state.base()?;
    let settings = if arguments.mutate { Some(arguments.state.settings()?.0) } else { None };
    let state = arguments.state.apply(arguments.paths.clone(), base)?;
    state.print_assumptions();
    let State { view, site, missing: unread, .. } = state;
    missing.extend(unread);
    let contracts: Vec<&Contract> = view.contracts().map(|contract| &**contract).collect();
    if contracts.is_empty() {
        if let Some(unread) = missing.first() {
            bail!("no contract could be read: {unread}");
        }
        bail!("no contract found; name a file with a manifest of kind Contract (portcullis.dev/v1alpha1)");
    }
    let mut progress = Progress::start();
    let mut states = Vec::new();
    for (number, contract) in contracts.iter().enumerate() {
        progress.update("testing", number, contracts.len(), "contracts");
        let status = verify(contract, &view, &site, Scope::All);
        states.push(ContractState::of(contract, Scene::of(&view), &status));
    }
    drop(progress);
    let mutations = settings.map(|configuration| drill::run(&configuration, &view, &contracts));
    let tested = Tested { contracts: states, mutations, missing };
    match arguments.output {
        Output::Text => text::print(&tested)?,
        Output::Json => print_json(&tested)?,
        Output::Junit => junit::print(&tested)?,
    }
    let has = |verdict| tested.contracts.iter().any(|state| state.result == verdict);
    Ok(match (has(Verdict::Broken), has(Verdict::Undecided) || !tested.missing.is_empty()) {
        (true, _) => DENIED,
        (false, true) => FAILED,
        (false, false) => OK,
    })
}

/// Decides whether a contract holds.
fn verify<'a>(contract: &'a Contract, view: &'a View, site: &'a Site, scope: Scope<'a>) -> Status {
    contract::verify_alone(contract, Scene::of(view), site, scope, STEPS).0
}
