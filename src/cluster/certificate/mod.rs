//! The serving certificate: created here, stored in a Secret, renewed, and trusted by the webhooks.
//!
//! Every replica does this, without a leader. An object is replaced only if it has not changed since it was read. If
//! two replicas create a certificate at once, one stores its own, and the other one uses that.

mod content;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::content::{Change, Circumstances, Content, Data, KEYS};
use super::words;
use crate::pki::{self, Pem};

/// The field manager that writes the CA bundle into webhook configurations.
const FIELD_MANAGER: &str = "portcullis-certificates";
/// First backoff after a failure. It doubles with each failure, up to the interval of checks.
const AGAIN: Duration = Duration::from_secs(1);
/// Maximum time for each half of a check: the Secret, then the webhook configurations.
const PATIENCE: Duration = Duration::from_secs(20);
/// Maximum number of attempts to write an object that other clients write too.
const ATTEMPTS: usize = 5;
/// The API server's status for a write of an object that has changed since it was read.
const CONFLICT: u16 = 409;
/// The API server's status for a write of an object that does not exist.
const NOT_FOUND: u16 = 404;

/// The intervals of the certificate keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateTerms {
    /// The interval of checks. A webhook configuration that is reapplied lacks the CA bundle until the next check, so
    /// its requests are rejected.
    pub every: Duration,
    /// The time for which every webhook has to trust a new CA before that CA signs, so that every API server has
    /// noticed it.
    pub notice: Duration,
}

impl Default for CertificateTerms {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), notice: Duration::from_secs(60) }
    }
}

/// A keeper of the serving certificate in its Secret, and of the CA bundle in the webhook configurations of one name.
pub struct CertificateKeeper {
    client: Client,
    namespace: String,
    name: String,
    names: Vec<String>,
    webhooks: String,
    terms: CertificateTerms,
    bundle: watch::Sender<Option<ByteString>>,
}

/// An error of the certificate keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server rejected a request, or did not answer.
    #[error("{what}: {}", words(source))]
    Cluster {
        /// The action that failed.
        what: String,
        /// The error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate could not be created.
    #[error(transparent)]
    Make(#[from] pki::Error),
    /// Other clients changed the object at each attempt.
    #[error("{} changed during each of {} attempts", .0, ATTEMPTS)]
    Busy(String),
    /// The Secret holds a key that Portcullis did not create.
    #[error("Secret {0} holds a key that Portcullis did not create; choose another name")]
    Foreign(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s", PATIENCE.as_secs())]
    Silence,
}

/// A CA that every webhook was observed to trust, and the time since which it was.
type Trusted = Option<(String, SystemTime)>;

impl CertificateKeeper {
    /// Creates a keeper of a certificate for these names in this Secret, and of the webhook configurations with this
    /// name.
    #[must_use]
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        names: Vec<String>,
        webhooks: &str,
        terms: CertificateTerms,
    ) -> Self {
        let (namespace, name, webhooks) = (namespace.to_owned(), name.to_owned(), webhooks.to_owned());
        Self { client, namespace, name, names, webhooks, terms, bundle: watch::channel(None).0 }
    }

    /// Receives the CA bundle that webhooks need, as soon as the Secret has been read.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Option<ByteString>> {
        self.bundle.subscribe()
    }

    /// Keeps the certificate until `end` is cancelled. After each check, `tell` receives the serving certificate,
    /// changed or not, and the error if the check failed.
    pub async fn run(&self, tell: impl Fn(Result<&Pem, &KeepError>), end: &CancellationToken) {
        let (mut trusted, mut again, mut complaint) = (None, AGAIN, String::new());
        let mut last: Option<Content> = None;
        loop {
            let look = async {
                let content = within(self.content(trusted.as_ref(), last.as_ref())).await;
                let content = content.inspect_err(|error| tell(Err(error)))?;
                self.bundle.send_replace(Some(ByteString(content.bundle().into_bytes())));
                let trust = within(self.trust(&content, trusted.take())).await;
                tell(Ok(&content.leaf));
                last = Some(content);
                trusted = trust.inspect_err(|error| tell(Err(error)))?;
                Ok::<(), KeepError>(())
            };
            let Some(looked) = end.run_until_cancelled(look).await else { return };
            let wait = match looked {
                Ok(()) => {
                    complaint.clear();
                    again = AGAIN;
                    self.terms.every
                }
                Err(error) => {
                    // The same error is logged once.
                    let text = error.to_string();
                    if text != complaint {
                        tracing::error!(%error, "failed to maintain the serving certificate; retrying");
                        complaint = text;
                    }
                    let wait = again;
                    again = (again * 2).min(self.terms.every);
                    wait
                }
            };
            if end.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Returns the content of the Secret, after it was repaired or renewed if necessary.
    async fn content(
        &self,
        trusted: Option<&(String, SystemTime)>,
        last: Option<&Content>,
    ) -> Result<Content, KeepError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = format!("{}/{}", self.namespace, self.name);
        let fault = |doing: &str| cluster_fault(format!("failed to {doing} Secret {secret}"));
        for _ in 0..ATTEMPTS {
            let found = secrets.get_opt(&self.name).await.map_err(fault("read"))?;
            let data: Data = found
                .iter()
                .flat_map(|secret| secret.data.iter().flatten())
                .map(|(key, ByteString(bytes))| (key.clone(), bytes.clone()))
                .collect();
            let now = Circumstances {
                now: SystemTime::now(),
                names: &self.names,
                trusted: trusted.map(|(ca, since)| (ca.as_str(), *since)),
                notice: self.terms.notice,
            };
            if found.as_ref().is_some_and(is_foreign) {
                return Err(KeepError::Foreign(secret));
            }
            let (content, changes) = Content::tend(&data, last, &now)?;
            if changes.is_empty() {
                return Ok(content);
            }
            let is_new = found.is_none();
            let written = self.secret(found, &content);
            let stored = if is_new {
                secrets.create(&PostParams::default(), &written).await
            } else {
                secrets.replace(&self.name, &PostParams::default(), &written).await
            };
            match stored {
                Ok(_) => {
                    for change in &changes {
                        match change {
                            Change::Replaced(_) => tracing::error!(secret, %change, "updated the Secret"),
                            _ => tracing::info!(secret, %change, "updated the Secret"),
                        }
                    }
                    return Ok(content);
                }
                // Another replica wrote the Secret. Its content is as good.
                Err(kube::Error::Api(status)) if [CONFLICT, NOT_FOUND].contains(&status.code) && !is_gone(&status) => {}
                Err(error) => return Err(fault("write")(error)),
            }
        }
        Err(KeepError::Busy(format!("Secret {secret}")))
    }

    /// Returns the Secret to store. Keys that Portcullis does not manage stay.
    fn secret(&self, found: Option<Secret>, content: &Content) -> Secret {
        let mut secret = found.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "portcullis".to_owned())])),
                ..ObjectMeta::default()
            },
            // The type cannot be changed later, and `kubernetes.io/tls` does not cover a CA.
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        });
        let data = secret.data.get_or_insert_default();
        data.retain(|key, _| !KEYS.contains(&key.as_str()));
        data.extend(content.data().into_iter().map(|(key, bytes)| (key, ByteString(bytes))));
        secret
    }

    /// Writes the bundle into every webhook. Returns the next CA, and the time since which all webhooks trust it.
    async fn trust(&self, content: &Content, before: Trusted) -> Result<Trusted, KeepError> {
        let bundle = ByteString(content.bundle().into_bytes());
        let validating = Api::all(self.client.clone());
        let mutating = Api::all(self.client.clone());
        let changed = [
            self.patch(&validating, &bundle, |found: &ValidatingWebhookConfiguration| {
                let webhooks = found.webhooks.iter().flatten();
                webhooks.map(|webhook| (webhook.name.clone(), &webhook.client_config)).collect()
            })
            .await?,
            self.patch(&mutating, &bundle, |found: &MutatingWebhookConfiguration| {
                let webhooks = found.webhooks.iter().flatten();
                webhooks.map(|webhook| (webhook.name.clone(), &webhook.client_config)).collect()
            })
            .await?,
        ];
        let Some(next) = &content.next else { return Ok(None) };
        let next = next.certificate.clone();
        let since = before.filter(|(ca, _)| *ca == next && !changed.contains(&true)).map(|(_, since)| since);
        Ok(Some((next, since.unwrap_or_else(SystemTime::now))))
    }

    /// Writes the bundle into the webhooks of a configuration that have another one. Returns true if there were any. A
    /// missing configuration is no error, because the API server does not call its webhooks.
    async fn patch<K>(
        &self,
        api: &Api<K>,
        bundle: &ByteString,
        webhooks: fn(&K) -> Vec<(String, &WebhookClientConfig)>,
    ) -> Result<bool, KeepError>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let configuration = format!("{}/{}", K::kind(&()), self.webhooks);
        let fault = |doing: &str| cluster_fault(format!("failed to {doing} {configuration}"));
        for _ in 0..ATTEMPTS {
            let Some(found) = api.get_opt(&self.webhooks).await.map_err(fault("read"))? else { return Ok(false) };
            let stale: Vec<Value> = webhooks(&found)
                .into_iter()
                .filter(|(_, client)| client.ca_bundle.as_ref() != Some(bundle))
                .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
                .collect();
            if stale.is_empty() {
                return Ok(false);
            }
            // Only if the object has not changed since it was read: the patch would add a deleted webhook again, with
            // only a name and a bundle.
            let patch =
                Patch::Strategic(json!({"metadata": {"resourceVersion": found.resource_version()}, "webhooks": stale}));
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match api.patch(&self.webhooks, &parameters, &patch).await {
                Ok(_) => {
                    tracing::info!(configuration, webhooks = stale.len(), "wrote the CA into the webhooks");
                    return Ok(true);
                }
                Err(kube::Error::Api(status)) if [CONFLICT, NOT_FOUND].contains(&status.code) => {}
                Err(error) => return Err(fault("write")(error)),
            }
        }
        Err(KeepError::Busy(configuration))
    }
}

/// Returns true if a Secret holds a key that Portcullis did not create. The Secrets of Portcullis carry a label.
fn is_foreign(secret: &Secret) -> bool {
    let is_ours = secret.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "portcullis");
    !is_ours && secret.data.iter().flatten().any(|(key, _)| KEYS.contains(&key.as_str()))
}

/// Returns true if the namespace is missing or terminating, so that writes to it fail.
fn is_gone(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

fn cluster_fault(what: String) -> impl FnOnce(kube::Error) -> KeepError {
    |source| KeepError::Cluster { what, source: Box::new(source) }
}

async fn within<T>(work: impl Future<Output = Result<T, KeepError>>) -> Result<T, KeepError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(KeepError::Silence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_another_client_is_told_by_the_missing_label() {
        let secret = |labels: Value, data: Value| {
            let secret = json!({"metadata": {"labels": labels}, "type": "kubernetes.io/tls", "data": data});
            is_foreign(&serde_json::from_value(secret).unwrap())
        };
        let (pair, ours) =
            (json!({"tls.crt": "YQ==", "tls.key": "YQ=="}), json!({"app.kubernetes.io/name": "portcullis"}));
        assert!(secret(json!({}), pair.clone()));
        assert!(!secret(ours, pair), "what is damaged is put right");
        assert!(!secret(json!({}), json!({})), "an empty one may be made beforehand");
    }
}
