//! `portcullis doctor`: checks an installation and names the command that fixes each fault.

mod certificate;
mod command;
mod probe;
mod rights;
mod running;
mod server;
mod webhooks;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use self::command::Release;
use self::server::{Origin, Server};
use super::cluster_arguments::ClusterArguments;
use super::output::{Output, print_json};
use super::sources::Sources;
use super::webhooks::{Address, PORT, WebhookMode, render};
use super::{BOLD, DENIED, FAILED, FAINT, GREEN, NAME, OK, RED, YELLOW, block_on};
use crate::cluster::words;
use crate::config::{Configuration, NAMESPACE};

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

/// An object of the cluster: `None` if it does not exist, or the reason why it could not be read.
type Found<T> = Result<Option<T>, String>;

/// The source of the configuration in force.
enum Settings {
    /// Unknown: the built-in configuration is assumed.
    Unknown,
    /// The built-in configuration.
    BuiltIn,
    /// The file of `--config`.
    File(PathBuf),
    /// A key of a ConfigMap in the namespace of Portcullis.
    ConfigMap { name: String, key: String },
}

/// The source of the serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Certificate {
    /// The Secret in which Portcullis keeps it.
    Kept { namespace: String, name: String },
    /// A Secret of another writer, whose key is mounted as a file.
    Mounted { namespace: String, name: String, key: String },
    /// A file that no Secret provides.
    Unknown,
}

impl Certificate {
    /// Returns the namespace, the name and the key of the Secret.
    fn secret(&self) -> Option<(&str, &str, &str)> {
        match self {
            Self::Kept { namespace, name } => Some((namespace, name, "tls.crt")),
            Self::Mounted { namespace, name, key } => Some((namespace, name, key)),
            Self::Unknown => None,
        }
    }
}

/// The installation to check.
struct Installation {
    client: Client,
    /// The namespace of Portcullis.
    namespace: String,
    /// The name of the Deployment.
    name: String,
    webhook_name: String,
    webhook_mode: WebhookMode,
    deployment: Found<Deployment>,
    home: Found<Namespace>,
    certificate: Certificate,
    /// The Secret of the certificate.
    secret: Found<Secret>,
    /// The address by which the API server calls Portcullis.
    address: Address,
    /// The configuration in force.
    configuration: Configuration,
    settings: Settings,
    /// The release to which the installation belongs, if Helm manages it.
    release: Option<Release>,
}

impl Installation {
    fn server(&self) -> Option<Server<'_>> {
        server(&self.deployment)
    }
}

/// The label that selects the Deployment and its pods.
const SELECTOR: &str = "app.kubernetes.io/name=portcullis";

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
    let given = match &arguments.config {
        Some(file) => {
            let sources = Sources { config: Some(file.clone()), ..Sources::default() };
            Some((sources.read()?.configuration()?, file))
        }
        None => None,
    };
    let namespace = match (&arguments.namespace, &given) {
        (Some(namespace), _) => namespace.clone(),
        (None, Some((configuration, _))) => configuration.site.namespace.clone(),
        (None, None) => NAMESPACE.to_owned(),
    };
    let (name, deployment) = deployment(&client, &namespace, arguments.name.as_deref()).await;
    let home = get::<Namespace>(Api::all(client.clone()), &namespace).await;
    let certificate = certificate_of(&deployment, &namespace);
    let secret = match certificate.secret() {
        Some((namespace, name, _)) => get::<Secret>(Api::namespaced(client.clone(), namespace), name).await,
        None => Ok(None),
    };
    let release = match &deployment {
        Ok(Some(deployment)) => release(&deployment.metadata, &namespace),
        // The Service may tell what the missing Deployment cannot.
        _ => match get::<Service>(Api::namespaced(client.clone(), &namespace), &name).await {
            Ok(Some(service)) => release(&service.metadata, &namespace),
            _ => None,
        },
    };
    let of_deployment = |flag: &str| server(&deployment).and_then(|server| server.flag(flag));
    let webhook_name = arguments.webhook_name.as_deref().or_else(|| of_deployment("--webhook-name")).unwrap_or(NAME);
    let mut installation = Installation {
        webhook_name: webhook_name.to_owned(),
        webhook_mode: webhook_mode(&deployment),
        address: address(arguments, &deployment, &namespace)?,
        configuration: Configuration::shipped()?,
        settings: Settings::Unknown,
        client,
        namespace,
        name,
        deployment,
        home,
        certificate,
        secret,
        release,
    };
    let check = match given {
        Some((configuration, file)) => {
            installation.configuration = configuration;
            installation.settings = Settings::File(file.clone());
            Check::ok("configuration", format!("read from {}", file.display()))
        }
        None => read_configuration(&mut installation).await,
    };
    Ok((installation, check))
}

/// Returns the name of the Deployment, and the Deployment: the one of this name; otherwise the one with the label of
/// Portcullis, or the one with the name in `deploy/`.
async fn deployment(client: &Client, namespace: &str, name: Option<&str>) -> (String, Found<Deployment>) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    if let Some(name) = name {
        return (name.to_owned(), get(api, name).await);
    }
    let found = api.list(&ListParams::default().labels(SELECTOR)).await;
    // A user who may not list Deployments may still be allowed to read one.
    let mut found = found.map(|list| list.items).unwrap_or_default();
    let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
    match names.iter().position(|name| name == NAME || names.len() == 1) {
        Some(position) => {
            let found = found.swap_remove(position);
            (found.name_any(), Ok(Some(found)))
        }
        None if names.is_empty() => (NAME.to_owned(), get(api, NAME).await),
        None => (NAME.to_owned(), Err(format!("several Deployments have the label {SELECTOR}; set --name"))),
    }
}

/// Returns the Helm release of an object.
fn release(metadata: &ObjectMeta, namespace: &str) -> Option<Release> {
    let labels = metadata.labels.as_ref()?;
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(&format!("meta.helm.sh/{name}"));
    if labels.get("app.kubernetes.io/managed-by").map(String::as_str) != Some("Helm") {
        return None;
    }
    let name = annotation("release-name").or_else(|| labels.get("app.kubernetes.io/instance"))?;
    let namespace = annotation("release-namespace").map_or(namespace, String::as_str);
    Some(Release { name: name.clone(), namespace: namespace.to_owned() })
}

/// Returns the source of the serving certificate; without a Deployment that of `deploy/`.
fn certificate_of(deployment: &Found<Deployment>, home: &str) -> Certificate {
    let Some(server) = server(deployment) else {
        return Certificate::Kept { namespace: home.to_owned(), name: format!("{NAME}-tls") };
    };
    if let Some(secret) = server.flag("--tls-secret") {
        let (namespace, name) = secret.split_once('/').unwrap_or((home, secret));
        return Certificate::Kept { namespace: namespace.to_owned(), name: name.to_owned() };
    }
    let file = server.flag_or_variable("--tls-cert", "PORTCULLIS_TLS_CERT");
    match file.and_then(|file| server.origin(file)) {
        Some(Origin::Secret { name, key }) => Certificate::Mounted { namespace: home.to_owned(), name, key },
        _ => Certificate::Unknown,
    }
}

/// Returns what the server does with webhook configurations; without a Deployment what `deploy/` does.
fn webhook_mode(deployment: &Found<Deployment>) -> WebhookMode {
    let Some(server) = server(deployment) else { return WebhookMode::Manage };
    let given = server.flag_or_variable("--webhooks", "PORTCULLIS_WEBHOOKS");
    let given = given.and_then(|mode| WebhookMode::from_str(mode, false).ok());
    WebhookMode::of(given, server.flag("--tls-secret").is_some(), server.is_set("--controller"))
}

/// Returns the address that the webhook configurations should have.
fn address(arguments: &Arguments, deployment: &Found<Deployment>, namespace: &str) -> Result<Address> {
    let of_deployment = |flag: &str| server(deployment).and_then(|server| server.flag(flag));
    if let Some(service) = &arguments.webhook_service {
        return Address::service_with_port("--webhook-service", service, namespace);
    }
    if let Some(url) = arguments.webhook_url.as_deref().or_else(|| of_deployment("--webhook-url")) {
        return Address::url("--webhook-url", url);
    }
    match of_deployment("--webhook-service") {
        Some(service) => Address::service_with_port("--webhook-service", service, namespace),
        None => Ok(Address::shipped(namespace, PORT)),
    }
}

/// Reads the configuration from the ConfigMap that the Deployment names. Otherwise the assumed one stays.
async fn read_configuration(installation: &mut Installation) -> Check {
    const CHECK: &str = "configuration";
    let assumed =
        |why: &str| Check::unknown(CHECK, format!("{why}; the built-in configuration is assumed, set --config"));
    let namespace = installation.namespace.clone();
    let server = match &installation.deployment {
        Ok(Some(_)) => installation.server(),
        Ok(None) => return assumed(&format!("Deployment {namespace}/{} does not exist", installation.name)),
        Err(why) => return assumed(why),
    };
    let Some(file) = server.and_then(|server| server.flag_or_variable("--config", "PORTCULLIS_CONFIG")) else {
        installation.settings = Settings::BuiltIn;
        return Check::ok(CHECK, "the built-in configuration");
    };
    let Some(Origin::ConfigMap { name, key }) = server.and_then(|server| server.origin(file)) else {
        return assumed(&format!("file {file} of the Deployment does not come from a ConfigMap"));
    };
    let map = match get::<ConfigMap>(Api::namespaced(installation.client.clone(), &namespace), &name).await {
        Ok(Some(map)) => map,
        Ok(None) => return assumed(&format!("ConfigMap {namespace}/{name} does not exist")),
        Err(why) => return assumed(&why),
    };
    let Some(text) = map.data.as_ref().and_then(|data| data.get(&key)) else {
        return assumed(&format!("ConfigMap {namespace}/{name} has no key {key}"));
    };
    match Configuration::read(text) {
        Ok(configuration) => {
            installation.configuration = configuration;
            installation.settings = Settings::ConfigMap { name: name.clone(), key };
            Check::ok(CHECK, format!("ConfigMap {namespace}/{name} is valid"))
        }
        Err(error) => {
            let edit = format!("kubectl edit configmap {name} --namespace {namespace}");
            let fix = installation.upgrade(" --values values.yaml").unwrap_or(edit);
            Check::fault(CHECK, format!("ConfigMap {namespace}/{name} is invalid, {error}"), fix)
        }
    }
}

/// Makes all checks.
async fn examine(
    installation: &Installation,
    cluster: &crate::cluster::Cluster,
    probe_namespace: &str,
) -> Result<Vec<Check>> {
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

/// Returns the server as the Deployment runs it.
fn server(deployment: &Found<Deployment>) -> Option<Server<'_>> {
    Server::of(deployment.as_ref().ok()?.as_ref()?)
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
