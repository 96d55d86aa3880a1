//! The webhook configurations in the cluster, compared with the configuration in force, and written where they differ.
//!
//! Every replica compares and reports. Only the replica that holds the Lease writes, so two replicas with different
//! configurations do not overwrite each other during a rollout. The order of the reads matters: the configurations first,
//! then the namespace. An administrator annotates the namespace and then deletes the configurations, so a check that sees
//! the deletion also sees the annotation.
//!
//! Server-side apply authorizes a creation by name, so a role can restrict `create` to the two objects. It does not
//! remove list entries that another field manager added. If such entries are left, a merge patch replaces the list.

mod backoff;
mod difference;
mod events;
mod pause;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::EventType;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::difference::difference;
pub use self::pause::PAUSE_ANNOTATION;

use self::backoff::Backoff;
use self::pause::Home;
use self::state::{Paused, Status, Tracked, status_line};
use super::words;
use crate::telemetry::WebhookMetrics;

/// The field manager of webhook configurations.
const FIELD_MANAGER: &str = "portcullis-webhooks";
/// Maximum time of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// The API server's status for a write of an object that has changed since it was read.
const CONFLICT: u16 = 409;

/// The webhook configurations that the configuration in force needs, as `portcullis webhooks` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedWebhooks {
    /// The ValidatingWebhookConfiguration.
    pub validating: Value,
    /// The MutatingWebhookConfiguration.
    pub mutating: Value,
}

/// A keeper of the webhook configurations of one name. It compares them with the desired ones, reports
/// differences and writes them.
pub struct WebhookKeeper {
    /// The client of the cluster.
    pub client: Client,
    /// The name of both webhook configurations.
    pub name: String,
    /// The namespace of Portcullis, which may carry [`PAUSE_ANNOTATION`].
    pub namespace: String,
    /// The desired configurations. A new value is compared at once.
    pub wanted: watch::Receiver<Arc<WantedWebhooks>>,
    /// True while this replica holds the Lease. Without a Lease every replica writes Events.
    pub leads: Option<watch::Receiver<bool>>,
    /// The CA bundle for new webhooks. None if differences are only reported.
    pub bundle: Option<watch::Receiver<Option<ByteString>>>,
    /// The name of this replica, for Events.
    pub identity: String,
    /// The interval of checks.
    pub every: Duration,
    /// The metrics of the webhook configurations.
    pub metrics: WebhookMetrics,
}

/// One of the two configurations.
struct Configuration {
    resource: ApiResource,
    label: &'static str,
    wanted: fn(&WantedWebhooks) -> &Value,
    tracked: Tracked,
    backoff: Backoff,
    /// The desired content. If it changes, the backoff starts over.
    last_wanted: Value,
    /// The difference that the last Event reported.
    announced: Option<String>,
}

impl Configuration {
    fn both() -> [Self; 2] {
        let configuration = |label, kind: &str, plural: &str, wanted| Self {
            resource: ApiResource {
                group: "admissionregistration.k8s.io".to_owned(),
                version: "v1".to_owned(),
                api_version: "admissionregistration.k8s.io/v1".to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            },
            label,
            wanted,
            tracked: Tracked::default(),
            backoff: Backoff::default(),
            last_wanted: Value::Null,
            announced: None,
        };
        [
            configuration(
                "validating",
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                |wanted: &WantedWebhooks| &wanted.validating,
            ),
            configuration(
                "mutating",
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                |wanted: &WantedWebhooks| &wanted.mutating,
            ),
        ]
    }
}

impl WebhookKeeper {
    /// Checks until the end. Each check hands its result to `tell`, as one line for `/readyz`.
    pub async fn run(mut self, tell: impl Fn(String), end: &CancellationToken) {
        self.metrics.begin();
        let mut configurations = Configuration::both();
        let mut paused: Option<Paused> = None;
        loop {
            let check = tokio::time::timeout(CHECK_TIMEOUT, self.check(&mut configurations, &mut paused));
            let Some(checked) = end.run_until_cancelled(check).await else { return };
            if checked.is_err() {
                let late = format!("the API server did not answer within {} s", CHECK_TIMEOUT.as_secs());
                self.track(&mut configurations, &Status::Unknown(late));
            }
            for configuration in &configurations {
                self.metrics.state(configuration.label, configuration.tracked.word());
                self.metrics.drift(configuration.label, configuration.tracked.age());
            }
            tell(status_line(configurations.each_ref().map(|one| &one.tracked), paused.as_ref()));
            let wake = async {
                tokio::select! {
                    () = tokio::time::sleep(self.every) => {}
                    Ok(()) = self.wanted.changed() => {}
                }
            };
            if end.run_until_cancelled(wake).await.is_none() {
                return;
            }
        }
    }

    async fn check(&mut self, configurations: &mut [Configuration; 2], paused: &mut Option<Paused>) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let [validating, mutating] = &*configurations;
        let found = tokio::join!(self.get(validating), self.get(mutating));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let home = namespaces.get_opt(&self.namespace).await;
        let found: [Result<Option<DynamicObject>, kube::Error>; 2] = found.into();
        let home = match home {
            Ok(home) => home.as_ref().map(Home::of),
            Err(error) => {
                let why = format!("failed to read namespace {}: {}", self.namespace, words(&error));
                self.track(configurations, &Status::Unknown(why));
                return;
            }
        };
        self.note_pause(home.as_ref(), paused).await;
        for (configuration, found) in configurations.iter_mut().zip(found) {
            match found {
                Ok(found) => {
                    let wanted = (configuration.wanted)(&wanted);
                    self.settle(configuration, wanted, found, home.as_ref()).await;
                }
                Err(error) => {
                    let why =
                        format!("failed to read {} {}: {}", configuration.resource.kind, self.name, words(&error));
                    self.track(std::slice::from_mut(configuration), &Status::Unknown(why));
                }
            }
        }
    }

    async fn get(&self, configuration: &Configuration) -> Result<Option<DynamicObject>, kube::Error> {
        self.api(configuration).get_opt(&self.name).await
    }

    fn api(&self, configuration: &Configuration) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &configuration.resource)
    }

    /// Compares a configuration, and writes it if it differs and may be written.
    async fn settle(
        &self,
        configuration: &mut Configuration,
        wanted: &Value,
        found: Option<DynamicObject>,
        home: Option<&Home>,
    ) {
        // A changed configuration and the end of a pause are decisions of an administrator, and are written without
        // backoff.
        if configuration.last_wanted != *wanted || home.is_some_and(|home| home.pause.is_some()) {
            configuration.last_wanted.clone_from(wanted);
            configuration.backoff = Backoff::default();
        }
        let mut status = Status::of(wanted, found.as_ref());
        let kind = configuration.resource.kind.clone();
        let uid = found.as_ref().and_then(DynamicObject::uid);
        let may_write = status != Status::Same && self.may_write(home);
        let is_due = configuration.backoff.is_over(Instant::now());
        let Some(home) = home.filter(|_| may_write && is_due) else {
            // The last failure stands until the next attempt.
            if let Some(why) = configuration.tracked.failure().filter(|_| may_write) {
                status = status.with_failure(&why);
            }
            configuration.tracked.set(status, &kind, &self.name);
            // A replica may take the Lease after it has seen the difference.
            let difference = configuration.tracked.difference();
            if self.leads() && configuration.announced != difference {
                configuration.announced.clone_from(&difference);
                if let Some(difference) = difference {
                    let note = format!("{kind} {} {difference}", self.name);
                    self.announce((&kind, &self.name, uid), EventType::Warning, "WebhooksDiffer", note).await;
                }
            }
            return;
        };
        let difference = status.difference().unwrap_or_default();
        match self.write(configuration, wanted, found.as_ref(), home).await {
            Ok(Some(written)) => {
                let writes = configuration.backoff.wrote(Instant::now());
                self.metrics.wrote(configuration.label);
                let is_contested = Backoff::is_contested(writes);
                tracing::warn!(
                    configuration = kind,
                    name = self.name,
                    difference,
                    writes,
                    "wrote the webhook configuration"
                );
                let mut note = format!("{kind} {} {difference}. Portcullis wrote it", self.name);
                if is_contested {
                    note = format!(
                        "{note}. Another writer keeps reverting it ({writes} writes); further writes are delayed by a \
                         backoff"
                    );
                }
                let reason = if is_contested { "WebhooksContested" } else { "WebhooksWritten" };
                let of = (kind.as_str(), self.name.as_str(), written.uid());
                self.announce(of, EventType::Warning, reason, note).await;
                configuration.tracked.set(Status::of(wanted, Some(&written)), &kind, &self.name);
            }
            // The object has changed since it was read, or its CA is not known yet.
            Ok(None) => drop(configuration.tracked.set(status, &kind, &self.name)),
            Err(error) => {
                configuration.backoff.wrote(Instant::now());
                let status = status.with_failure(&words(&error));
                configuration.tracked.set(status, &kind, &self.name);
            }
        }
    }

    /// Returns true if this replica may write: it leads, its namespace stays, and no administrator has paused writes.
    fn may_write(&self, home: Option<&Home>) -> bool {
        let is_home_stable = home.is_some_and(|home| !home.is_ending && home.pause.is_none());
        self.bundle.is_some() && self.leads() && is_home_stable
    }

    /// Returns true if this replica speaks for all: it holds the Lease, or uses none.
    fn leads(&self) -> bool {
        self.leads.as_ref().is_none_or(|leads| *leads.borrow())
    }

    /// Writes a configuration. Returns none if nothing was written and the next check decides again.
    async fn write(
        &self,
        configuration: &Configuration,
        wanted: &Value,
        found: Option<&DynamicObject>,
        home: &Home,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let bundle = self.bundle.as_ref().and_then(|bundle| bundle.borrow().clone());
        // API servers do not trust a webhook without a bundle, so a new configuration would fail every request.
        if found.is_none() && bundle.is_none() {
            return Ok(None);
        }
        let webhooks = with_bundles(wanted, found, bundle.as_ref());
        let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": self.namespace, "uid": home.uid});
        let mut metadata = json!({
            "name": self.name,
            "labels": wanted.pointer("/metadata/labels"),
            // The garbage collector removes the configurations with the namespace, however Portcullis is uninstalled.
            "ownerReferences": [owner],
        });
        let version = found.and_then(DynamicObject::resource_version);
        if let (Some(metadata), Some(version)) = (metadata.as_object_mut(), version) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        let resource = &configuration.resource;
        let applied = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "webhooks": webhooks});
        let api = self.api(configuration);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let Some(written) = unless_changed(api.patch(&self.name, &parameters, &Patch::Apply(&applied)).await)? else {
            return Ok(None);
        };
        if difference(wanted, &written.data).is_none() {
            return Ok(Some(written));
        }
        let version = written.resource_version();
        let rest = json!({"metadata": {"resourceVersion": version}, "webhooks": webhooks});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        unless_changed(api.patch(&self.name, &parameters, &Patch::Merge(&rest)).await)
    }

    /// Records the start and the end of a pause, and reports both once.
    async fn note_pause(&self, home: Option<&Home>, paused: &mut Option<Paused>) {
        let pause = home.and_then(|home| home.pause.as_ref());
        match (pause, &paused) {
            (Some(pause), Some(Paused { reason, .. })) if *reason == pause.reason => {}
            (Some(pause), _) => {
                let age = pause.since.map(|since| jiff::Timestamp::now().duration_since(since));
                let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
                let now = Instant::now();
                let since = now.checked_sub(age).unwrap_or(now);
                *paused = Some(Paused { reason: pause.reason.clone(), since, is_announced: false });
                tracing::warn!(reason = pause.reason, "writes of the webhook configurations are paused");
            }
            (None, Some(_)) => {
                *paused = None;
                tracing::info!("resumed writing the webhook configurations");
            }
            (None, None) => {}
        }
        // A pause has a non-zero age from its first check on.
        let age = |paused: &Paused| paused.since.elapsed().max(Duration::from_nanos(1));
        self.metrics.paused(paused.as_ref().map_or(Duration::ZERO, age));
        if let Some(Paused { reason, is_announced: is_announced @ false, .. }) = paused
            && self.leads()
        {
            *is_announced = true;
            let note = format!(
                "The annotation {PAUSE_ANNOTATION} pauses writes of the webhook configurations {}: {reason}",
                self.name
            );
            let uid = home.map(|home| home.uid.clone());
            self.announce(("Namespace", &self.namespace, uid), EventType::Warning, "WebhooksPaused", note).await;
        }
    }

    fn track(&self, configurations: &mut [Configuration], status: &Status) {
        for configuration in configurations {
            configuration.tracked.set(status.clone(), &configuration.resource.kind, &self.name);
        }
    }

    /// Writes an Event about an object, if this replica speaks for all.
    async fn announce(
        &self,
        (kind, name, uid): (&str, &str, Option<String>),
        type_: EventType,
        reason: &'static str,
        note: String,
    ) {
        if !self.leads() {
            return;
        }
        events::publish(&self.client, &self.identity, (kind, name, uid), type_, reason, note).await;
    }
}

/// The desired webhooks, each with the bundle it has in the cluster: the certificate keeper alone replaces bundles.
fn with_bundles(wanted: &Value, found: Option<&DynamicObject>, bundle: Option<&ByteString>) -> Vec<Value> {
    let webhooks = |configuration: &Value| -> Vec<Value> {
        configuration.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let live = found.map(|found| webhooks(&found.data)).unwrap_or_default();
    let mut all = webhooks(wanted);
    for webhook in &mut all {
        let same = live.iter().find(|live| live.get("name") == webhook.get("name"));
        let own = same.and_then(|live| live.pointer("/clientConfig/caBundle")).cloned();
        let bundle = own.or_else(|| bundle.map(|bundle| json!(bundle)));
        if let (Some(client), Some(bundle)) = (webhook.get_mut("clientConfig").and_then(Value::as_object_mut), bundle) {
            client.insert("caBundle".to_owned(), bundle);
        }
    }
    all
}

/// The written object; none if it had changed since it was read.
fn unless_changed(written: Result<DynamicObject, kube::Error>) -> Result<Option<DynamicObject>, kube::Error> {
    match written {
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(None),
        written => written.map(Some),
    }
}
