//! The serving certificate: made here, kept in a Secret, renewed, and trusted by the webhooks.
//!
//! Every replica does this, and needs no leader for it: what is stored is replaced only if it is still what was read, so
//! that of two that make a certificate at once one stores its own and the other one finds it.

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

/// Who writes the bundle of CAs into webhook configurations.
const FIELD_MANAGER: &str = "portcullis-certificates";
/// How soon it is tried again after a failure. That grows until it is as seldom as it is looked at anyway.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is tried to store something while others store something too.
const ATTEMPTS: usize = 5;
/// The answer of an API server to who writes what somebody else has written meanwhile.
const CONFLICT: u16 = 409;
/// Its answer to who writes what is gone.
const NOT_FOUND: u16 = 404;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateTerms {
    /// How often it is looked whether everything is as it should be. Webhooks that are applied anew are refused until then.
    pub every: Duration,
    /// How long every webhook has to have trusted a new CA before that signs: until every API server has noticed.
    pub notice: Duration,
}

impl Default for CertificateTerms {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), notice: Duration::from_secs(60) }
    }
}

/// Keeps the serving certificate in its Secret, and the webhook configurations of one name trusting it.
pub struct CertificateKeeper {
    client: Client,
    namespace: String,
    name: String,
    names: Vec<String>,
    webhooks: String,
    terms: CertificateTerms,
    bundle: watch::Sender<Option<ByteString>>,
}

/// The certificate cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server says no, or nothing.
    #[error("{what}: {}", words(source))]
    Cluster {
        /// What was tried.
        what: String,
        /// What came of it.
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Make(#[from] pki::Error),
    /// Somebody else always was faster.
    #[error("the Secret {0} changes faster than it can be read")]
    Busy(String),
    /// There is something in it that was not made here.
    #[error("the Secret {0} holds a key that Portcullis did not make, and it is left as it is: name another one")]
    Foreign(String),
    /// The API server does not answer.
    #[error("the API server has not answered for {} s", PATIENCE.as_secs())]
    Silence,
}

/// A CA that every webhook was seen to trust, and since when.
type Trusted = Option<(String, SystemTime)>;

impl CertificateKeeper {
    /// Keeps the certificate for these names in this Secret, and the webhook configurations with this name.
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

    /// The CA bundle that webhooks need, as soon as the Secret has been read.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Option<ByteString>> {
        self.bundle.subscribe()
    }

    /// Keeps it until the end. What is to be served is told each time it was looked at, changed or not, and so is why
    /// there is nothing to be told.
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
                    // The same complaint is made once.
                    let text = error.to_string();
                    if text != complaint {
                        tracing::error!(%error, "the serving certificate cannot be looked after; trying again");
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

    /// What is in the Secret, which is put in order before if it has to be.
    async fn content(
        &self,
        trusted: Option<&(String, SystemTime)>,
        last: Option<&Content>,
    ) -> Result<Content, KeepError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = format!("{}/{}", self.namespace, self.name);
        let fault = |doing: &str| cluster_fault(format!("{doing} the Secret {secret}"));
        for _ in 0..ATTEMPTS {
            let found = secrets.get_opt(&self.name).await.map_err(fault("reading"))?;
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
                            Change::Replaced(_) => tracing::error!(secret, %change, "stored"),
                            _ => tracing::info!(secret, %change, "stored"),
                        }
                    }
                    return Ok(content);
                }
                // Another replica did it. What it stored is as good.
                Err(kube::Error::Api(status)) if [CONFLICT, NOT_FOUND].contains(&status.code) && !is_gone(&status) => {}
                Err(error) => return Err(fault("writing")(error)),
            }
        }
        Err(KeepError::Busy(secret))
    }

    /// The Secret as it is to be stored. Keys that are nobody's here stay.
    fn secret(&self, found: Option<Secret>, content: &Content) -> Secret {
        let mut secret = found.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "portcullis".to_owned())])),
                ..ObjectMeta::default()
            },
            // The type cannot be changed later, and kubernetes.io/tls says nothing of a CA.
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        });
        let data = secret.data.get_or_insert_default();
        data.retain(|key, _| !KEYS.contains(&key.as_str()));
        data.extend(content.data().into_iter().map(|(key, bytes)| (key, ByteString(bytes))));
        secret
    }

    /// Has every webhook trust what it has to, and says since when all of them trust the next CA.
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

    /// Writes the bundle into the webhooks of a configuration that have another one, and says whether there were any. A
    /// configuration that is not there is not missed: nobody calls then.
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
        let fault = |doing: &str| cluster_fault(format!("{doing} {configuration}"));
        for _ in 0..ATTEMPTS {
            let Some(found) = api.get_opt(&self.webhooks).await.map_err(fault("reading"))? else { return Ok(false) };
            let stale: Vec<Value> = webhooks(&found)
                .into_iter()
                .filter(|(_, client)| client.ca_bundle.as_ref() != Some(bundle))
                .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
                .collect();
            if stale.is_empty() {
                return Ok(false);
            }
            // Only if nobody has changed it since: a webhook that was taken out must not come back as a stump.
            let patch =
                Patch::Strategic(json!({"metadata": {"resourceVersion": found.resource_version()}, "webhooks": stale}));
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match api.patch(&self.webhooks, &parameters, &patch).await {
                Ok(_) => {
                    tracing::info!(configuration, webhooks = stale.len(), "the webhooks trust this server's CA");
                    return Ok(true);
                }
                Err(kube::Error::Api(status)) if [CONFLICT, NOT_FOUND].contains(&status.code) => {}
                Err(error) => return Err(fault("writing")(error)),
            }
        }
        Err(KeepError::Busy(configuration))
    }
}

/// Whether a Secret holds a key of somebody else. Those that were made here carry a label.
fn is_foreign(secret: &Secret) -> bool {
    let is_ours = secret.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "portcullis");
    !is_ours && secret.data.iter().flatten().any(|(key, _)| KEYS.contains(&key.as_str()))
}

/// Whether it is the namespace that is gone, or going: nothing can be stored in it.
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
    fn a_key_that_somebody_else_made_is_told_by_the_missing_label() {
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
