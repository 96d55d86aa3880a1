//! The installation to check: its names from the arguments of the command and from the Deployment, and its objects.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, Client, ResourceExt};

use super::server::{Origin, Server};
use super::{Arguments, Check};
use crate::cli::NAME;
use crate::cli::sources::Sources;
use crate::cli::webhooks::{Address, PORT, WebhookMode};
use crate::cluster::words;
use crate::config::{Configuration, NAMESPACE};

/// An object of the cluster: `None` if it does not exist, or the reason why it could not be read.
pub(super) type Found<T> = Result<Option<T>, String>;

/// The source of the configuration in force.
pub(super) enum Settings {
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
pub(super) enum Certificate {
    /// The Secret in which Portcullis keeps it.
    Kept { namespace: String, name: String },
    /// A Secret of another writer, whose key is mounted as a file.
    Mounted { namespace: String, name: String, key: String },
    /// A file that no Secret provides.
    Unknown,
}

impl Certificate {
    /// Returns the namespace, the name and the key of the Secret.
    pub(super) fn secret(&self) -> Option<(&str, &str, &str)> {
        match self {
            Self::Kept { namespace, name } => Some((namespace, name, "tls.crt")),
            Self::Mounted { namespace, name, key } => Some((namespace, name, key)),
            Self::Unknown => None,
        }
    }
}

/// A Helm release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// The installation to check.
pub(super) struct Installation {
    pub(super) client: Client,
    /// The kubeconfig and the context of the arguments.
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) kube_context: Option<String>,
    /// The namespace of Portcullis.
    pub(super) namespace: String,
    /// The name of the Deployment.
    pub(super) name: String,
    pub(super) webhook_name: String,
    pub(super) webhook_mode: WebhookMode,
    pub(super) deployment: Found<Deployment>,
    pub(super) home: Found<Namespace>,
    pub(super) certificate: Certificate,
    /// The Secret of the certificate.
    pub(super) secret: Found<Secret>,
    /// The address by which the API server calls Portcullis.
    pub(super) address: Address,
    /// The configuration in force.
    pub(super) configuration: Configuration,
    pub(super) settings: Settings,
    /// The release to which the installation belongs, if Helm manages it.
    pub(super) release: Option<Release>,
}

/// The label that selects the Deployment and its pods.
pub(super) const SELECTOR: &str = "app.kubernetes.io/name=portcullis";

impl Installation {
    /// Reads the objects that several checks need, and the configuration in force.
    pub(super) async fn read(arguments: &Arguments, client: Client) -> Result<(Self, Check)> {
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
            _ => {
                let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
                let services = services.list(&ListParams::default().labels(SELECTOR)).await;
                services.iter().flatten().find_map(|service| release(&service.metadata, &namespace))
            }
        };
        let of_deployment = |flag: &str| server(&deployment).and_then(|server| server.flag(flag));
        let webhook_name =
            arguments.webhook_name.as_deref().or_else(|| of_deployment("--webhook-name")).unwrap_or(NAME);
        let mut installation = Installation {
            webhook_name: webhook_name.to_owned(),
            webhook_mode: webhook_mode(&deployment),
            address: address(arguments, &deployment, &namespace)?,
            configuration: Configuration::shipped()?,
            settings: Settings::Unknown,
            client,
            kubeconfig: arguments.cluster.kubeconfig.clone(),
            kube_context: arguments.cluster.kube_context.clone(),
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

    /// Returns the server as the Deployment runs it.
    pub(super) fn server(&self) -> Option<Server<'_>> {
        server(&self.deployment)
    }
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
            let edit = installation.kubectl(format_args!("edit configmap {name} --namespace {namespace}"));
            let fix = installation.upgrade(" --values values.yaml").unwrap_or(edit);
            Check::fault(CHECK, format!("ConfigMap {namespace}/{name} is invalid, {error}"), fix)
        }
    }
}

/// Returns the server as the Deployment runs it.
fn server(deployment: &Found<Deployment>) -> Option<Server<'_>> {
    Server::of(deployment.as_ref().ok()?.as_ref()?)
}

/// Reads an object by its name.
pub(super) async fn get<K>(api: Api<K>, name: &str) -> Found<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.get_opt(name).await.map_err(|error| words(&error))
}
