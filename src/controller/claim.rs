//! The claim that limits a cluster to one controller, and the time of installation. Both are annotations of namespaces,
//! which outlive the Lease.
//!
//! The Lease is in the namespace of Portcullis, so an installation in another namespace has another Lease. Two
//! controllers with different policies delete each other's policies. Each leader therefore claims the cluster by an
//! annotation of `kube-system`, renews the claim, and stops when another installation holds it. A claim that is not
//! renewed expires.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::jittered;
use super::error::is_conflict;
use super::events::Announcer;
use super::limits::Limits;
use crate::telemetry::BaselineMetrics;
use crate::view::FIELD_MANAGER;

/// The namespace that every cluster has.
const PLACE: &str = "kube-system";
/// The annotation that names the installation whose controller works, and the time of the last renewal. It does not depend
/// on `labelDomain`.
const CLAIM: &str = "portcullis.dev/controller";
/// The annotation of the namespace of Portcullis with the time of installation.
const INSTALLED: &str = "portcullis.dev/installed";
/// Maximum time for one request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The claim of an installation to be the only one that writes baselines.
pub(super) struct Claim {
    namespaces: Api<Namespace>,
    home: Arc<str>,
    limits: Limits,
    metrics: BaselineMetrics,
    announcer: Arc<Announcer>,
    /// The claim of another installation, and the time at which this process first saw that value.
    seen: Option<(String, Instant)>,
}

/// The result of an attempt to claim the cluster.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// This installation holds the claim.
    Ours,
    /// The annotation is free, or its claim has expired.
    Free,
    /// Another installation holds the claim.
    Theirs(String),
}

impl Claim {
    pub(super) fn new(
        client: Client,
        home: Arc<str>,
        limits: Limits,
        metrics: BaselineMetrics,
        announcer: Arc<Announcer>,
    ) -> Self {
        Self { namespaces: Api::all(client), home, limits, metrics, announcer, seen: None }
    }

    /// Waits until no other installation holds the claim.
    pub(super) async fn wait_until_free(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.read().await {
                Ok(Attempt::Theirs(other)) => self.report(&other).await,
                Ok(Attempt::Ours | Attempt::Free) => break,
                Err(error) => {
                    tracing::warn!(%error, "failed to read the claim of the controller");
                    break;
                }
            }
            stop.run_until_cancelled(sleep(jittered(self.limits.claim / 10))).await;
        }
        self.metrics.rival(false);
    }

    /// Claims the cluster. Returns false if another installation holds it.
    pub(super) async fn begin(&mut self) -> bool {
        match timeout(PATIENCE, self.take()).await {
            Ok(Ok(Some(other))) => {
                self.report(&other).await;
                false
            }
            Ok(Ok(None)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to write the claim of the controller");
                true
            }
            Err(_) => {
                tracing::warn!("timed out writing the claim of the controller");
                true
            }
        }
    }

    /// Claims the cluster and renews the claim, until another installation holds it.
    pub(super) async fn hold(&mut self) {
        loop {
            match timeout(PATIENCE, self.take()).await {
                Ok(Ok(Some(other))) => return self.report(&other).await,
                Ok(Ok(None)) => {}
                // The Lease still holds among the replicas of this installation.
                Ok(Err(error)) => tracing::warn!(%error, "failed to renew the claim of the controller"),
                Err(_) => tracing::warn!("timed out renewing the claim of the controller"),
            }
            sleep(jittered(self.limits.claim)).await;
        }
    }

    /// Writes the claim. Returns the other installation if it holds the claim.
    async fn take(&mut self) -> kube::Result<Option<String>> {
        for _ in 0..3 {
            let live = self.namespaces.get_metadata(PLACE).await?.metadata;
            if let Attempt::Theirs(other) = self.observe(&live) {
                return Ok(Some(other));
            }
            let claim = format!("{} {:.0}", self.home, Timestamp::now());
            let metadata = json!({"resourceVersion": live.resource_version, "annotations": {CLAIM: claim}});
            match self.patch(PLACE, &metadata).await {
                Err(error) if is_conflict(&error) => {}
                written => return written.map(|()| None),
            }
        }
        Ok(None)
    }

    async fn read(&mut self) -> kube::Result<Attempt> {
        let live = self.namespaces.get_metadata_opt(PLACE).await?;
        Ok(live.map_or(Attempt::Free, |live| self.observe(&live.metadata)))
    }

    /// Evaluates the claim. It expires when this process has seen no renewal for three intervals.
    fn observe(&mut self, live: &ObjectMeta) -> Attempt {
        let Some(claim) = live.annotations.as_ref().and_then(|annotations| annotations.get(CLAIM)) else {
            return Attempt::Free;
        };
        let holder = claim.split(' ').next().unwrap_or_default();
        if holder == &*self.home || holder.is_empty() {
            return Attempt::Ours;
        }
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != claim) {
            self.seen = Some((claim.clone(), Instant::now()));
        }
        let is_expired = self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() > self.limits.claim * 3);
        if is_expired { Attempt::Free } else { Attempt::Theirs(holder.to_owned()) }
    }

    async fn report(&self, other: &str) {
        self.metrics.rival(true);
        tracing::error!(
            holder = other,
            annotation = CLAIM,
            "the controller of another installation is active in this cluster; this one is idle"
        );
        let note = format!(
            "The Portcullis controller in namespace {other} is active in this cluster, so the one in {} is idle. \
             Uninstall one of them; annotation {CLAIM} of namespace {PLACE} names the active one",
            self.home
        );
        self.announcer.say(&self.home, "", true, "AnotherController", note).await;
    }

    /// The time of installation: the creation of the first Lease, which an annotation keeps when the Lease is deleted.
    pub(super) async fn installed(&self, lease: Option<Timestamp>) -> Option<Timestamp> {
        match timeout(PATIENCE, self.record_installation(lease)).await {
            Ok(Ok(installed)) => installed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to record the time of installation");
                lease
            }
            Err(_) => lease,
        }
    }

    async fn record_installation(&self, lease: Option<Timestamp>) -> kube::Result<Option<Timestamp>> {
        let Some(live) = self.namespaces.get_metadata_opt(&self.home).await? else { return Ok(lease) };
        let recorded = live.metadata.annotations.as_ref().and_then(|annotations| annotations.get(INSTALLED));
        let recorded: Option<Timestamp> = recorded.and_then(|recorded| recorded.parse().ok());
        let earliest = recorded.into_iter().chain(lease).min();
        if let Some(earliest) = earliest.filter(|earliest| recorded != Some(*earliest)) {
            self.patch(&self.home, &json!({"annotations": {INSTALLED: earliest.to_string()}})).await?;
        }
        Ok(earliest)
    }

    async fn patch(&self, name: &str, metadata: &serde_json::Value) -> kube::Result<()> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        self.namespaces.patch_metadata(name, &parameters, &patch).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(home: &str) -> Claim {
        let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| async {
            Ok::<_, tower::BoxError>(hyper::Response::new(kube::client::Body::empty()))
        });
        let client = Client::new(service, "default");
        let announcer = Arc::new(Announcer::new(client.clone(), "test"));
        let limits = Limits { claim: Duration::from_millis(100), ..Limits::default() };
        Claim::new(client, home.into(), limits, BaselineMetrics::default(), announcer)
    }

    fn written(text: Option<&str>) -> ObjectMeta {
        let annotations = text.map(|text| [(CLAIM.to_owned(), text.to_owned())].into());
        ObjectMeta { annotations, ..ObjectMeta::default() }
    }

    #[tokio::test]
    async fn a_claim_expires_when_it_is_not_renewed() {
        let mut claim = claim("a");
        assert_eq!(claim.observe(&written(None)), Attempt::Free);
        assert_eq!(claim.observe(&written(Some("a 2026-11-28T12:00:00Z"))), Attempt::Ours);
        let other = written(Some("b 2026-11-28T12:00:00Z"));
        assert_eq!(claim.observe(&other), Attempt::Theirs("b".to_owned()));
        sleep(claim.limits.claim * 4).await;
        let renewed = written(Some("b 2026-11-28T12:00:29Z"));
        assert_eq!(claim.observe(&renewed), Attempt::Theirs("b".to_owned()), "it was renewed");
        sleep(claim.limits.claim * 4).await;
        assert_eq!(claim.observe(&renewed), Attempt::Free);
    }
}
