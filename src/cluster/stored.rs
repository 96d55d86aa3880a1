//! Reads the policies that are stored now, before a denial that a policy missing from the view could change.
//!
//! `kubectl apply -f` creates the policy with DNS, and then the next one before a watch has reported the first. So a
//! denial that depends on other objects is checked against a consistent read of the namespace and its policies.
//!
//! **Limits**: [`MAX_READS`] concurrent reads, [`TIMEOUT`] each. After a failure, reads are paused for [`PAUSE`], so
//! that an API server under load gets no more requests than it can answer. Without a read, the denial stands.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use kube::api::{Api, ListParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};

use super::decode::{Decoded, Owning, read};
use super::discovery::Served;
use super::strip::Arriving;
use super::words;
use crate::model::Object;

/// Maximum number of concurrent reads.
const MAX_READS: usize = 16;
/// Maximum time of a read.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Time without reads after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of objects of one kind that are read.
const MAX_OBJECTS: u32 = 1000;

/// A reader of the policies that are stored now.
#[derive(Default)]
pub(super) struct StoredReads {
    running: AtomicUsize,
    paused_until: Mutex<Option<Instant>>,
}

/// Returns true if objects of a kind are policies.
fn is_policy(resource: &ApiResource) -> bool {
    !matches!(resource.group.as_str(), "" | "apps" | "batch") && resource.kind != "Tier"
}

impl StoredReads {
    /// Reads the namespace, its policies, and the cluster-wide policies.
    pub(super) async fn read(
        &self,
        client: &Client,
        served: &Served,
        namespace: Option<&str>,
    ) -> Result<Vec<Object>, String> {
        if self.paused().is_some_and(|until| until > Instant::now()) {
            return Err("reads are paused after a failed read".to_owned());
        }
        let running = Running::start(&self.running).ok_or("too many concurrent reads")?;
        let reads = async {
            let mut reads = Vec::new();
            for resource in served.watched() {
                let api: Api<Arriving> = match (served.is_namespaced(&resource.group, &resource.kind), namespace) {
                    (true, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
                    (true, None) => continue,
                    (false, _) => Api::all_with(client.clone(), resource),
                };
                let fields = match (resource.kind.as_str(), resource.group.as_str(), namespace) {
                    ("Namespace", "", Some(namespace)) => Some(format!("metadata.name={namespace}")),
                    _ if is_policy(resource) => None,
                    _ => continue,
                };
                let mut parameters = ListParams::default().limit(MAX_OBJECTS);
                parameters.field_selector = fields;
                reads.push(async move { Ok((resource, api.list(&parameters).await?)) });
            }
            try_join_all(reads).await.map_err(|error: kube::Error| words(&error))
        };
        let found = tokio::time::timeout(TIMEOUT, reads).await;
        drop(running);
        let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        if found.is_err() {
            *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
        }
        let all = found?.into_iter().flat_map(|(resource, list)| {
            let understood = list.items.into_iter().filter_map(|arriving| {
                match read(resource, &Owning::default(), &arriving) {
                    Decoded::Read { object, .. } => Some(*object),
                    // The watch reports unreadable objects.
                    Decoded::Unreadable { why, .. } => {
                        tracing::debug!(
                            name = arriving.name_any(),
                            why,
                            "ignoring a stored object that cannot be parsed"
                        );
                        None
                    }
                }
            });
            understood.collect::<Vec<_>>()
        });
        Ok(all.collect())
    }

    fn paused(&self) -> Option<Instant> {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot for a read, which is freed on drop.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn start(running: &'a AtomicUsize) -> Option<Self> {
        let one = Self(running);
        (running.fetch_add(1, Ordering::Relaxed) < MAX_READS).then_some(one)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_failure_none_is_tried_for_a_while() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let mut served = Served::default();
        let resource = ApiResource {
            group: "networking.k8s.io".into(),
            version: "v1".into(),
            api_version: "networking.k8s.io/v1".into(),
            kind: "NetworkPolicy".into(),
            plural: "networkpolicies".into(),
        };
        served.insert(resource, true);
        let reads = StoredReads::default();
        let failure = reads.read(&client, &served, Some("shop")).await.unwrap_err();
        assert_ne!(failure, "reads are paused after a failed read");
        assert_eq!(
            reads.read(&client, &served, Some("shop")).await.unwrap_err(),
            "reads are paused after a failed read"
        );
        assert_eq!(reads.running.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn there_are_so_many_at_once() {
        let running = AtomicUsize::new(0);
        let all: Vec<_> = std::iter::from_fn(|| Running::start(&running)).take(100).collect();
        assert_eq!(all.len(), MAX_READS);
        drop(all);
        assert_eq!(running.load(Ordering::Relaxed), 0);
    }
}
