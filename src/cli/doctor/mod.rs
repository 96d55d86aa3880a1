//! `portcullis doctor`: checks an installation and names the command that fixes each fault.

mod certificate;
mod probe;
mod rights;
mod running;
mod webhooks;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodSpec, Secret};
use kube::{Api, Client};
use serde::Serialize;

use super::cluster_arguments::ClusterArguments;
use super::output::{Output, print_json};
use super::sources::Sources;
use super::webhooks::{Address, render};
use super::{BOLD, DENIED, FAILED, FAINT, GREEN, OK, RED, YELLOW, block_on};
use crate::cluster::words;
use crate::config::Configuration;

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
    /// The namespace of Portcullis.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "portcullis-system")]
    namespace: String,
    /// The name of the webhook configurations.
    #[arg(long, value_name = "NAME", default_value = "portcullis")]
    webhook_name: String,
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

/// An object of the cluster: `None` if it does not exist, or the reason why it could not be read.
type Found<T> = Result<Option<T>, String>;

/// The installation to check.
struct Installation {
    client: Client,
    /// The namespace of Portcullis.
    namespace: String,
    webhook_name: String,
    deployment: Found<Deployment>,
    home: Found<Namespace>,
    secret: Found<Secret>,
    /// The namespace and the name of the Secret with the serving certificate.
    secret_name: (String, String),
    /// The address by which the API server calls Portcullis.
    address: Address,
    /// The configuration in force.
    configuration: Configuration,
}

/// The name of the Deployment, the Service, the ServiceAccount and the Lease.
const NAME: &str = "portcullis";

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let checks = block_on(async {
        let cluster = arguments.cluster.connect().await?;
        let (installation, configuration) = installation(arguments, cluster.client.clone()).await?;
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

/// Reads the objects that several checks need, and the configuration in force.
async fn installation(arguments: &Arguments, client: Client) -> Result<(Installation, Check)> {
    let namespace = arguments.namespace.clone();
    let deployment = get::<Deployment>(Api::namespaced(client.clone(), &namespace), NAME).await;
    let home = get::<Namespace>(Api::all(client.clone()), &namespace).await;
    let secret_name = argument(&deployment, "--tls-secret=")
        .and_then(|secret| secret.split_once('/'))
        .map_or_else(|| (namespace.clone(), format!("{NAME}-tls")), |(a, b)| (a.to_owned(), b.to_owned()));
    let secret = get::<Secret>(Api::namespaced(client.clone(), &secret_name.0), &secret_name.1).await;
    let (configuration, check) = match &arguments.config {
        Some(file) => {
            let sources = Sources { config: Some(file.clone()), ..Sources::default() };
            (sources.read()?.configuration()?, Check::ok("configuration", format!("read from {}", file.display())))
        }
        None => configuration(&client, &namespace, &deployment).await?,
    };
    let webhook_name = arguments.webhook_name.clone();
    let address = address(arguments, &deployment)?;
    let installation =
        Installation { client, namespace, webhook_name, deployment, home, secret, secret_name, address, configuration };
    Ok((installation, check))
}

/// Returns the address that the webhook configurations should have.
fn address(arguments: &Arguments, deployment: &Found<Deployment>) -> Result<Address> {
    let of_deployment = |name: &str| argument(deployment, name);
    if let Some(service) = &arguments.webhook_service {
        return Address::service_with_port("--webhook-service", service, &arguments.namespace);
    }
    if let Some(url) = arguments.webhook_url.as_deref().or_else(|| of_deployment("--webhook-url=")) {
        return Address::url("--webhook-url", url);
    }
    match of_deployment("--webhook-service=") {
        Some(service) => Address::service_with_port("--webhook-service", service, &arguments.namespace),
        None => Ok(Address::Service { namespace: arguments.namespace.clone(), name: NAME.to_owned(), port: 443 }),
    }
}

/// Reads the configuration from the ConfigMap of the Deployment.
async fn configuration(
    client: &Client,
    namespace: &str,
    deployment: &Found<Deployment>,
) -> Result<(Configuration, Check)> {
    const CHECK: &str = "configuration";
    let assumed = |why: &str| {
        let message = format!("{why}; the built-in configuration is assumed, set --config");
        anyhow::Ok((Configuration::shipped()?, Check::unknown(CHECK, message)))
    };
    let volumes = pod(deployment).into_iter().flat_map(|pod| pod.volumes.iter().flatten());
    let Some(name) = volumes.filter_map(|volume| volume.config_map.as_ref()).map(|map| map.name.clone()).next() else {
        return match argument(deployment, "--config=") {
            None if matches!(deployment, Ok(Some(_))) => {
                Ok((Configuration::shipped()?, Check::ok(CHECK, "the built-in configuration")))
            }
            _ => assumed("the Deployment names no ConfigMap"),
        };
    };
    let map = match get::<ConfigMap>(Api::namespaced(client.clone(), namespace), &name).await {
        Ok(Some(map)) => map,
        Ok(None) => return assumed(&format!("ConfigMap {namespace}/{name} does not exist")),
        Err(why) => return assumed(&why),
    };
    let text = map.data.iter().flatten().find(|(key, _)| key.ends_with(".yaml")).map(|(_, text)| text.as_str());
    match text.map(Configuration::read) {
        Some(Ok(configuration)) => {
            Ok((configuration, Check::ok(CHECK, format!("ConfigMap {namespace}/{name} is valid"))))
        }
        Some(Err(error)) => {
            let message = format!("ConfigMap {namespace}/{name} is invalid, {error}");
            let fix = format!("kubectl edit configmap {name} --namespace {namespace}");
            Ok((Configuration::shipped()?, Check::fault(CHECK, message, fix)))
        }
        None => assumed(&format!("ConfigMap {namespace}/{name} has no YAML file")),
    }
}

/// Makes all checks.
async fn examine(
    installation: &Installation,
    cluster: &crate::cluster::Cluster,
    probe_namespace: &str,
) -> Result<Vec<Check>> {
    let Installation { client, namespace, .. } = installation;
    let wanted = render(&installation.configuration, &installation.address, &installation.webhook_name, None)?;
    let mut checks = webhooks::checks(installation, &wanted).await;
    checks.extend(certificate::check(installation));
    checks.push(running::service(client, namespace).await);
    checks.push(running::deployment(installation));
    checks.push(running::lease(client, namespace).await);
    checks.push(rights::check(installation).await);
    checks.push(running::dialect(installation, cluster).await);
    checks.push(probe::check(installation, probe_namespace).await);
    Ok(checks)
}

/// Returns the value of an argument of the container.
fn argument<'a>(deployment: &'a Found<Deployment>, name: &str) -> Option<&'a str> {
    let arguments = pod(deployment)?.containers.iter().flat_map(|container| container.args.iter().flatten());
    arguments.into_iter().find_map(|argument| argument.strip_prefix(name))
}

/// Returns the pod template of the Deployment.
fn pod(deployment: &Found<Deployment>) -> Option<&PodSpec> {
    deployment.as_ref().ok()?.as_ref()?.spec.template.spec.as_ref()
}

/// Reads an object by its name.
async fn get<K>(api: Api<K>, name: &str) -> Found<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.get_opt(name).await.map_err(|error| words(&error))
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
