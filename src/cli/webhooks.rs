//! `portcullis webhooks`: the webhook configurations for a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::output::print_json;
use super::sources::Sources;
use super::{NAME, OK};
use crate::cluster::WantedWebhooks;
use crate::config::{Configuration, NAMESPACE};
use crate::rules::{self, ChangeKind, Definition, Mode};
use crate::view::NamePattern;
use crate::yaml;

/// The built-in webhook configurations, for the Service `portcullis-system/portcullis`.
const SHIPPED: &str = include_str!("../../deploy/webhooks.yaml");
/// The port of that Service.
pub(super) const PORT: u16 = 443;
/// The label domain in [`SHIPPED`].
const DOMAIN: &str = "network-policy.portcullis.dev/";

/// Print the webhook configurations for a cluster as one JSON list for `kubectl apply -f -`.
///
/// The failure policies follow the modes of the rules: a webhook whose rules never deny gets failurePolicy Ignore. The
/// policies webhook of /mutate is included only if a rule is configured to repair policies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis webhooks --url https://10.0.0.7:8443 --ca certs/ca.pem | kubectl apply -f -\n  \
    portcullis webhooks --service portcullis-system/portcullis --ca certs/ca.pem | kubectl apply -f -\n\n\
    Emergency stop, if the server is down and a change cannot wait. Until the webhooks are back, the API server \
    checks no request, and new namespaces get no profile and no baseline:\n  \
    kubectl annotate namespace portcullis-system portcullis.dev/webhooks-paused='INC-1234'\n  \
    kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration portcullis")]
pub(super) struct Arguments {
    /// Let the API server call Portcullis by this URL: https, host and port.
    #[arg(long, value_name = "URL", conflicts_with = "service")]
    url: Option<String>,
    /// Let the API server call Portcullis through this Service [default: portcullis in installation.namespace of the
    /// configuration].
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    /// Call this port of the Service.
    #[arg(long, default_value_t = PORT, conflicts_with = "url")]
    port: u16,
    /// Give both webhook configurations this name. `portcullis serve` compares only those of its --webhook-name.
    #[arg(long, value_name = "NAME", default_value = NAME)]
    webhook_name: String,
    /// Set caBundle to the CA in this file, which signed the serving certificate [default: no caBundle].
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Read the configuration from this file [default: the built-in configuration].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What `portcullis serve` does with webhook configurations that differ from the expected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WebhookMode {
    /// Report the difference, and write the configurations. The replica with the Lease writes.
    Manage,
    /// Report the difference in /readyz, the log, Events and metrics. For clusters that keep the configurations in Git.
    Report,
    /// Do not compare them.
    Off,
}

impl WebhookMode {
    /// Returns the given mode, or the default of a server that keeps its certificate in a Secret and of one that runs the
    /// controller.
    pub(super) fn of(given: Option<Self>, has_secret: bool, has_controller: bool) -> Self {
        match (given, has_secret, has_controller) {
            (Some(mode), ..) => mode,
            (None, true, true) => Self::Manage,
            (None, true, false) => Self::Report,
            (None, false, _) => Self::Off,
        }
    }
}

/// The address by which the API server calls Portcullis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A URL with https, host and port.
    Url(String),
    /// A Service of the cluster.
    Service { namespace: String, name: String, port: u16 },
}

impl Address {
    /// Returns the Service of `deploy/`, in this namespace and with this port.
    pub(super) fn shipped(namespace: &str, port: u16) -> Self {
        Self::Service { namespace: namespace.to_owned(), name: NAME.to_owned(), port }
    }

    /// Parses a URL.
    pub(super) fn url(flag: &str, url: &str) -> Result<Self> {
        if !url.starts_with("https://") {
            bail!("{flag} `{url}` must start with https://");
        }
        if url.contains(['?', '#', '@']) {
            bail!("{flag} `{url}` must not contain a query, a fragment or a user");
        }
        Ok(Self::Url(url.trim_end_matches('/').to_owned()))
    }

    /// Parses a Service.
    pub(super) fn service(flag: &str, service: &str, port: u16) -> Result<Self> {
        match service.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::Service { namespace: namespace.to_owned(), name: name.to_owned(), port })
            }
            _ => bail!("{flag} `{service}`: expected NAMESPACE/NAME"),
        }
    }

    /// Parses `[NAMESPACE/]NAME[:PORT]`, with this namespace and [`PORT`] by default.
    pub(super) fn service_with_port(flag: &str, service: &str, namespace: &str) -> Result<Self> {
        let (name, port) = match service.rsplit_once(':') {
            Some((name, port)) => match port.parse() {
                Ok(port) => (name, port),
                Err(_) => bail!("{flag} `{service}`: port `{port}` is not a number from 1 to 65535"),
            },
            None => (service, PORT),
        };
        let name = if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") };
        Self::service(flag, &name, port)
    }

    /// Returns the name that the serving certificate has to cover.
    pub(super) fn server_name(&self) -> String {
        match self {
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Self::Url(url) => {
                let authority = url.trim_start_matches("https://").split('/').next().unwrap_or_default();
                let host = match authority.strip_prefix('[') {
                    Some(address) => address.split(']').next(),
                    None => authority.split(':').next(),
                };
                host.unwrap_or_default().to_owned()
            }
        }
    }

    /// Returns the namespace of Portcullis, which the webhooks exclude.
    fn namespace<'a>(&'a self, configuration: &'a Configuration) -> &'a str {
        match self {
            Self::Url(_) => &configuration.site.namespace,
            Self::Service { namespace, .. } => namespace,
        }
    }

    /// Returns the clientConfig of a webhook with this path.
    fn client(&self, path: &str, ca: Option<&str>) -> Value {
        let mut client = match self {
            Self::Url(url) => json!({"url": format!("{url}{path}")}),
            Self::Service { namespace, name, port } => {
                json!({"service": {"namespace": namespace, "name": name, "path": path, "port": port}})
            }
        };
        if let (Some(client), Some(ca)) = (client.as_object_mut(), ca) {
            client.insert("caBundle".into(), json!(ca));
        }
        client
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources { config: arguments.config.clone(), ..Sources::default() };
    let configuration = sources.read()?.configuration()?;
    let ca = match &arguments.ca {
        Some(path) => Some(STANDARD.encode(std::fs::read(path).with_context(|| path.display().to_string())?)),
        None => None,
    };
    let address = match (&arguments.url, &arguments.service) {
        (Some(url), _) => Address::url("--url", url)?,
        (None, Some(service)) => Address::service("--service", service, arguments.port)?,
        (None, None) => Address::shipped(&configuration.site.namespace, arguments.port),
    };
    let items = render(&configuration, &address, &arguments.webhook_name, ca.as_deref())?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [items.validating, items.mutating]});
    print_json(&list)?;
    Ok(OK)
}

/// Renders the webhook configurations of this name for a configuration and an address.
pub(super) fn render(
    configuration: &Configuration,
    address: &Address,
    name: &str,
    ca: Option<&str>,
) -> Result<WantedWebhooks> {
    let domain = format!("{}/", configuration.site.label_domain);
    let text = SHIPPED.replace(DOMAIN, &domain).replace(NAMESPACE, address.namespace(configuration));
    let mut items = Vec::new();
    for mut document in yaml::read(&text)? {
        *document.value.pointer_mut("/metadata/name").context("no name")? = json!(name);
        let webhooks = document.value.get_mut("webhooks").and_then(Value::as_array_mut).context("no webhooks")?;
        webhooks.retain(|webhook| is_needed(webhook, configuration));
        for webhook in webhooks.iter_mut().filter_map(Value::as_object_mut) {
            let fails = webhook.get("failurePolicy") == Some(&json!("Fail")) && denies(webhook, configuration);
            webhook.insert("failurePolicy".into(), json!(if fails { "Fail" } else { "Ignore" }));
            webhook.insert("clientConfig".into(), address.client(path(webhook), ca));
            if subject(webhook) == ChangeKind::NodeWorkloads {
                spare_the_platform(webhook, configuration);
            }
        }
        items.push(document.value);
    }
    match <[Value; 2]>::try_from(items) {
        Ok([validating, mutating]) => Ok(WantedWebhooks { validating, mutating }),
        Err(items) => bail!("found {} built-in webhook configurations, expected 2", items.len()),
    }
}

/// Returns the path of the server that a webhook calls.
fn path(webhook: &Map<String, Value>) -> &'static str {
    let client = webhook.get("clientConfig").unwrap_or(&Value::Null);
    if client.pointer("/service/path") == Some(&json!("/mutate")) { "/mutate" } else { "/validate" }
}

/// Excludes the platform namespaces in which no rule may deny. Pods that run the network of nodes have to start before
/// Portcullis can answer.
fn spare_the_platform(webhook: &mut Map<String, Value>, configuration: &Configuration) {
    let platform = configuration.site.platform_namespaces.iter();
    let spared: Vec<&NamePattern> =
        platform.filter(|pattern| !configuration.may_deny(ChangeKind::NodeWorkloads, pattern)).collect();
    spare_names(webhook, spared.iter().filter_map(|pattern| pattern.name()));
    spare_starts(webhook, &spared.iter().filter_map(|pattern| pattern.start()).collect::<Vec<_>>());
}

fn spare_names<'a>(webhook: &mut Map<String, Value>, names: impl Iterator<Item = &'a str>) {
    let spared =
        webhook.get_mut("namespaceSelector").and_then(|selector| selector.pointer_mut("/matchExpressions/0/values"));
    let Some(Value::Array(spared)) = spared else { return };
    for name in names {
        if !spared.contains(&json!(name)) {
            spared.push(json!(name));
        }
    }
}

/// Excludes namespaces by prefix. A label selector cannot match prefixes, so this is a match condition. It is one for
/// all prefixes, because a webhook has at most 64.
fn spare_starts(webhook: &mut Map<String, Value>, starts: &[&str]) {
    if starts.is_empty() {
        return;
    }
    // A list of strings has the same syntax in CEL and JSON.
    let expression = format!("!{}.exists(start, request.namespace.startsWith(start))", json!(starts));
    let conditions = webhook.entry("matchConditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.push(json!({"name": "not-in-the-platform", "expression": expression}));
    }
}

/// Returns the subject of the rules behind a webhook.
fn subject(webhook: &Map<String, Value>) -> ChangeKind {
    match webhook.get("name").and_then(Value::as_str) {
        Some("namespaces.portcullis.dev") => ChangeKind::Namespaces,
        Some("namespace-labels.portcullis.dev") => ChangeKind::NamespaceLabels,
        Some("pods.portcullis.dev" | "workloads.portcullis.dev") => ChangeKind::NodeWorkloads,
        Some("pending-pods.portcullis.dev") => ChangeKind::PendingPods,
        Some("services.portcullis.dev") => ChangeKind::Services,
        _ => ChangeKind::Policies,
    }
}

/// Returns the modes of the rules behind a webhook, in all namespaces.
fn modes(webhook: &Map<String, Value>, configuration: &Configuration) -> impl Iterator<Item = Mode> {
    let subject = subject(webhook);
    let is_behind = move |rule| rules::find(rule).is_some_and(|rule| rule.is_about(subject));
    configuration.modes().filter(move |(rule, _)| is_behind(rule)).map(|(_, mode)| mode)
}

/// Returns true if a rule behind the webhook denies in any namespace. Guards do not count for the policies webhook
/// unless `denies_unjudged` is set: under the presets `observe` and `warn`, an outage must not block all policy changes
/// because of a guard that protects a few policies.
fn denies(webhook: &Map<String, Value>, configuration: &Configuration) -> bool {
    let subject = subject(webhook);
    let counts = |rule: &Definition| {
        rule.is_about(subject)
            && (configuration.site.denies_unjudged || subject != ChangeKind::Policies || !rule.is_guard())
    };
    let mut modes = configuration.modes();
    modes.any(|(name, mode)| mode == Mode::Deny && rules::find(name).is_some_and(counts))
}

/// Returns true if the webhook can have an effect.
fn is_needed(webhook: &Value, configuration: &Configuration) -> bool {
    let Some(webhook) = webhook.as_object() else { return false };
    match (subject(webhook), path(webhook)) {
        (ChangeKind::Policies, "/mutate") => configuration.repairs(),
        (ChangeKind::PendingPods, "/mutate") => configuration.site.baseline.gate,
        // Otherwise the API server would send all pods of such namespaces, and all changes of labels, without an
        // effect.
        (ChangeKind::PendingPods | ChangeKind::NamespaceLabels | ChangeKind::Services, "/validate") => {
            modes(webhook, configuration).any(|mode| mode != Mode::Off)
        }
        _ => true,
    }
}
