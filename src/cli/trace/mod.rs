//! `portcullis trace`: is a connection allowed, and why.

mod text;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::output::{Output, print_json};
use super::state::{State, StateArguments};
use super::{DENIED, FAILED, OK};
use crate::baseline::PolicySet;
use crate::trace::{self, Flow, Place, Repair, Verdict, explain, parse_target, repairs};
use crate::view::{Scene, Site, View};

/// Show whether a connection is allowed, which policies decide, and how to open it.
///
/// Reads manifests, a cluster (--cluster), or both: then the manifests count as if they were applied.
#[derive(Debug, Args)]
#[command(after_help = "\
END is one of:
  shop/web                      a pod, or what creates pods, or a Service
  shop/deployment/web           the same by its kind; shop/service/web for a Service
  shop/app=web,tier=front       pods with these labels
  10.0.0.7, 10.0.0.0/8          an address, or a CIDR
  api.example.com               a domain name
  internet, node, apiserver     addresses outside of the cluster, another node, the API server

Examples:
  portcullis trace --from shop/web --to shop/api:8080 manifests/
  portcullis trace --cluster --from shop/web --to data/service/postgres:5432
  portcullis trace --cluster --from shop/web --to internet:443 new-policy.yaml

Exit status: 0 allowed, 1 blocked, 2 undecided or failed.")]
pub(super) struct Arguments {
    /// The source of the connection.
    #[arg(long, value_name = "END")]
    from: String,
    /// The destination: END, END:PORT or END:PORT/PROTOCOL. Without a port, every port is traced.
    #[arg(long, value_name = "END[:PORT]")]
    to: String,
    /// Files and folders with manifests; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    /// The namespace of a source or destination that names none.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The answer of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Traced {
    verdict: Verdict,
    flows: Vec<Flow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repairs: Vec<Repair>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// Maximum number of source-destination pairs.
const MAX_PAIRS: usize = 100;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    arguments.state.expect_input(&arguments.paths)?;
    let (base, mut missing) = arguments.state.base()?;
    let state = arguments.state.apply(arguments.paths.clone(), base)?;
    state.print_assumptions();
    let State { view, site, policies, missing: unread, .. } = state;
    missing.extend(unread);
    let traced = trace(arguments, &view, &site, &policies, missing)?;
    match arguments.output {
        Output::Text => text::print(&traced)?,
        Output::Json => print_json(&traced)?,
    }
    Ok(match traced.verdict {
        Verdict::Allowed => OK,
        Verdict::Blocked => DENIED,
        Verdict::Undecided => FAILED,
    })
}

fn trace(
    arguments: &Arguments,
    view: &View,
    site: &Site,
    policies: &PolicySet,
    missing: Vec<String>,
) -> Result<Traced> {
    let target = parse_target(&arguments.to)?;
    let senders = trace::resolve(view, &arguments.from, None, &arguments.namespace)?;
    let receivers = trace::resolve(view, &target.end, target.port.as_ref(), &arguments.namespace)?;
    let pairs: Vec<(&Place, &Place)> =
        senders.iter().flat_map(|from| receivers.iter().map(move |to| (from, to))).collect();
    if pairs.len() > MAX_PAIRS {
        bail!("{} source-destination pairs match (limit {MAX_PAIRS}); name one workload or one port", pairs.len());
    }
    let mut flows = Vec::new();
    let mut mended = Vec::new();
    for (from, to) in pairs {
        let of_pair = explain(Scene::of(view), from, to);
        let is_blocked = of_pair.iter().any(|flow| flow.verdict == Verdict::Blocked);
        if is_blocked && mended.is_empty() {
            mended = repairs(view, site, policies, from, to);
        }
        flows.extend(of_pair);
    }
    let verdict = if receivers.iter().all(|to| to.port.is_some()) {
        flows.iter().map(|flow| flow.verdict).max()
    } else {
        // Without a port the question is whether anything passes.
        flows.iter().map(|flow| flow.verdict).min()
    };
    Ok(Traced { verdict: verdict.unwrap_or(Verdict::Undecided), flows, repairs: mended, missing })
}
