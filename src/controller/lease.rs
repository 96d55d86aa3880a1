//! Leader election by a Lease: one replica works and the others wait.
//!
//! A waiting replica uses its own clock. A Lease has expired when it was not renewed for its full duration since this
//! process saw it change. The holder stops before that, so that two replicas never work at once unless a clock runs
//! much too slow.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff::{jittered, noise};
use super::error::{is_conflict, is_missing};

/// The durations of leader election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The time after which a Lease expires that is not renewed.
    pub lease: Duration,
    /// The renewal interval.
    pub renew: Duration,
    /// The time without a renewal after which the holder stops. Less than `lease`.
    pub give_up: Duration,
    /// The interval at which other replicas check the Lease, and at which the holder retries a failed renewal.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            give_up: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Returns a unique name for this process.
#[must_use]
pub fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    format!("{}-{:08x}", host.as_deref().unwrap_or("portcullis"), noise() & 0xffff_ffff)
}

/// A candidate in the leader election.
pub(super) struct Election {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
    terms: Terms,
    /// True while any replica holds the Lease.
    held: watch::Sender<bool>,
    seen: Option<Seen>,
}

/// The last state of the Lease that differed from the one before.
struct Seen {
    version: Option<String>,
    is_held: bool,
    length: Duration,
    at: Instant,
}

impl Election {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        identity: String,
        terms: Terms,
        held: watch::Sender<bool>,
    ) -> Self {
        Self { api: Api::namespaced(client, namespace), name: "portcullis", identity, terms, held, seen: None }
    }

    /// Does the work whenever this replica holds the Lease, until `end` is cancelled.
    ///
    /// `work` receives the creation time of the Lease. The first replica creates the Lease, and no replica deletes it.
    /// `work` also receives a token that is cancelled when the Lease is lost or `end` is cancelled. Work that does not
    /// stop in time is dropped.
    pub(super) async fn run<W, F>(mut self, end: &CancellationToken, mut work: W)
    where
        W: FnMut(CancellationToken, Option<Timestamp>) -> F,
        F: Future<Output = ()>,
    {
        while !end.is_cancelled() {
            let asked = Instant::now();
            match end.run_until_cancelled(timeout(self.terms.give_up, self.attempt())).await {
                None => break,
                Some(Ok(Ok(Some(lease)))) => self.hold(lease, asked, end, &mut work).await,
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(error))) => tracing::warn!(%error, "failed to read or acquire the Lease"),
                Some(Err(_)) => tracing::warn!("timed out reading or acquiring the Lease"),
            }
            self.tell();
            end.run_until_cancelled(sleep(jittered(self.terms.retry))).await;
        }
    }

    /// Acquires the Lease if no replica holds it.
    async fn attempt(&mut self) -> kube::Result<Option<Lease>> {
        let Some(lease) = self.api.get_opt(self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return taken(self.api.create(&PostParams::default(), &lease).await);
        };
        if self.observe(&lease) {
            return Ok(None);
        }
        let spec = self.spec(lease.spec.as_ref());
        let lease = Lease { spec: Some(spec), ..lease };
        taken(self.api.replace(self.name, &PostParams::default(), &lease).await)
    }

    /// Returns the spec of the Lease with this replica as its new holder.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.terms.lease.as_secs()).unwrap_or(i32::MAX).max(1)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(before.is_some()))),
            ..LeaseSpec::default()
        }
    }

    /// Records the state of the Lease. Returns true if it is held and has not expired.
    fn observe(&mut self, lease: &Lease) -> bool {
        let version = &lease.metadata.resource_version;
        if self.seen.as_ref().is_none_or(|seen| seen.version != *version) {
            let spec = lease.spec.clone().unwrap_or_default();
            let is_held = spec.holder_identity.is_some_and(|holder| !holder.is_empty());
            // The duration that the holder wrote, but at least the configured one.
            let said = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
            let length = self.terms.lease.max(Duration::from_secs(said));
            self.seen = Some(Seen { version: version.clone(), is_held, length, at: Instant::now() });
        }
        self.seen.as_ref().is_some_and(Seen::is_fresh)
    }

    /// Reports whether any replica holds the Lease, as far as is known.
    fn tell(&self) {
        let held = self.seen.as_ref().is_some_and(Seen::is_fresh);
        self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
    }

    /// Does the work while this replica holds the Lease.
    async fn hold<W, F>(&mut self, lease: Lease, asked: Instant, end: &CancellationToken, work: &mut W)
    where
        W: FnMut(CancellationToken, Option<Timestamp>) -> F,
        F: Future<Output = ()>,
    {
        tracing::info!(identity = self.identity, "acquired the Lease");
        self.held.send_replace(true);
        let stop = CancellationToken::new();
        let made = lease.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let mut working = std::pin::pin!(work(stop.clone(), made));
        let mut lease = lease;
        let mut goes_on = true;
        let is_lost = tokio::select! {
            () = &mut working => {
                goes_on = false;
                false
            }
            () = end.cancelled() => false,
            () = self.keep(&mut lease, asked) => true,
        };
        stop.cancel();
        // The work stops at once. If it does not, it is dropped well before another replica may begin.
        if goes_on {
            let _ = timeout((self.terms.lease - self.terms.give_up.min(self.terms.lease)) / 2, working).await;
        }
        if is_lost {
            tracing::warn!(identity = self.identity, "lost the Lease; another replica may lead now");
            self.seen = None;
            return;
        }
        let spec = lease.spec.take().map(|spec| LeaseSpec { holder_identity: None, ..spec });
        let released = Lease { spec, ..lease };
        let parameters = PostParams::default();
        match timeout(self.terms.retry, self.api.replace(self.name, &parameters, &released)).await {
            Ok(Ok(lease)) => {
                self.observe(&lease);
                tracing::info!(identity = self.identity, "released the Lease");
            }
            Ok(Err(error)) => tracing::warn!(%error, "failed to release the Lease"),
            Err(_) => tracing::warn!("timed out releasing the Lease"),
        }
    }

    /// Renews the Lease until it is lost.
    async fn keep(&self, lease: &mut Lease, asked: Instant) {
        let mut renewed = asked;
        loop {
            sleep(self.terms.renew).await;
            let give_up = renewed + self.terms.give_up;
            loop {
                let asked = Instant::now();
                match timeout_at(give_up, self.renew(lease)).await {
                    Ok(Ok(true)) => {
                        renewed = asked;
                        break;
                    }
                    Ok(Ok(false)) | Err(_) => return,
                    Ok(Err(error)) => tracing::warn!(%error, "failed to renew the Lease"),
                }
                if timeout_at(give_up, sleep(self.terms.retry)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Renews the Lease once. Returns true if this replica still holds it.
    async fn renew(&self, lease: &mut Lease) -> kube::Result<bool> {
        let mut next = lease.clone();
        next.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        match self.api.replace(self.name, &PostParams::default(), &next).await {
            Ok(renewed) => {
                *lease = renewed;
                Ok(true)
            }
            // Another client wrote the Lease: a replica that acquired it, or a user who labelled it. Or the response to
            // our own write was lost.
            Err(error) if is_conflict(&error) || is_missing(&error) => {
                let Some(found) = self.api.get_opt(self.name).await? else { return Ok(false) };
                let holder = found.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                if holder != Some(&self.identity) {
                    return Ok(false);
                }
                *lease = found;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// Clears the leader flag on drop, whatever ended the election. The holder is unknown from then on.
impl Drop for Election {
    fn drop(&mut self) {
        self.held.send_replace(false);
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.is_held && self.at.elapsed() < self.length
    }
}

/// Returns the Lease that was written. A conflict means that another replica was faster.
fn taken(written: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if is_conflict(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
