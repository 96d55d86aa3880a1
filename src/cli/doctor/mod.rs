//! `portcullis doctor`: checks an installation and names the command that fixes each fault.

mod certificate;
mod command;
mod installation;
mod probe;
mod rights;
mod running;
mod server;
mod webhooks;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::installation::Installation;
use super::cluster_arguments::ClusterArguments;
use super::output::{Output, print_json};
use super::webhooks::render;
use super::{BOLD, DENIED, FAILED, FAINT, GREEN, OK, RED, YELLOW, block_on};
use crate::cluster::Cluster;

/// Check an installation: webhooks, certificate, Service, replicas, rights, Lease and CRDs.
///
/// Prints one line for each check, with the command that fixes a fault. Needs read access, the right to create
/// subjectaccessreviews and, for the probe, the right to create a NetworkPolicy; nothing is written. A check for which a
/// right is missing is reported as unknown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis doctor
  portcullis doctor --output json

Exit status: 0 every check passed, 1 at least one fault, 2 no fault, but a check could not be made.")]
pub(super) struct Arguments {
    /// The namespace of Portcullis [default: installation.namespace of --config, or portcullis-system].
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The name of the Deployment [default: the Deployment with the label app.kubernetes.io/name=portcullis].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The name of the webhook configurations [default: --webhook-name of the Deployment, or portcullis].
    #[arg(long, value_name = "NAME")]
    webhook_name: Option<String>,
    /// Expect this Service in the webhook configurations [default: --webhook-service of the Deployment, or portcullis in
    /// the namespace of Portcullis, port 443].
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]", conflicts_with = "webhook_url")]
    webhook_service: Option<String>,
    /// Expect this URL in the webhook configurations instead of a Service [default: --webhook-url of the Deployment].
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Read the configuration from this file [default: the ConfigMap of the Deployment].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Send the probe to this namespace: a dry run of a NetworkPolicy that Portcullis denies.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    probe_namespace: String,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print the checks in this format.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The check passed.
    Ok,
    /// The check found a fault.
    Fault,
    /// The check could not be made.
    Unknown,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    message: String,
    /// The command that fixes the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), fix: None }
    }

    fn fault(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Fault, message: message.into(), fix: Some(fix.into()) }
    }

    fn unknown(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Unknown, message: message.into(), fix: None }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let checks = block_on(async {
        let cluster = arguments.cluster.connect().await?;
        let (installation, configuration) = Installation::read(arguments, cluster.client.clone()).await?;
        let mut checks = vec![configuration];
        checks.extend(examine(&installation, &cluster, &arguments.probe_namespace).await?);
        anyhow::Ok(checks)
    })?;
    match arguments.output {
        Output::Text => print_text(&checks)?,
        Output::Json => print_json(&serde_json::json!({ "checks": checks }))?,
    }
    let has = |state: State| checks.iter().any(|check| check.state == state);
    Ok(match (has(State::Fault), has(State::Unknown)) {
        (true, _) => DENIED,
        (false, true) => FAILED,
        (false, false) => OK,
    })
}

/// Makes all checks.
async fn examine(installation: &Installation, cluster: &Cluster, probe_namespace: &str) -> Result<Vec<Check>> {
    let wanted = render(&installation.configuration, &installation.address, &installation.webhook_name, None)?;
    let mut checks = webhooks::checks(installation, &wanted).await;
    checks.push(certificate::check(installation));
    checks.push(running::service(installation).await);
    checks.push(running::deployment(installation));
    checks.push(running::lease(installation).await);
    checks.push(rights::check(installation).await);
    checks.push(running::dialect(installation, cluster).await);
    checks.push(probe::check(installation, probe_namespace).await);
    Ok(checks)
}

fn print_text(checks: &[Check]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let width = checks.iter().map(|check| check.check.len()).max().unwrap_or_default();
    for Check { check, state, message, fix } in checks {
        let (style, word) = match state {
            State::Ok => (GREEN, "ok     "),
            State::Fault => (RED, "fault  "),
            State::Unknown => (YELLOW, "unknown"),
        };
        writeln!(out, "{style}{word}{style:#}  {BOLD}{check:width$}{BOLD:#}  {message}")?;
        if let Some(fix) = fix {
            writeln!(out, "         {:width$}  {FAINT}fix:{FAINT:#} {fix}", "")?;
        }
    }
    Ok(())
}
