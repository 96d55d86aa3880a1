//! The watch of one kind: a list in pages, then every change.
//!
//! This is `kube::runtime::watcher` with two differences: it reports when a lost watch is resumed, and each wait has a
//! time limit.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource as _};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::decode::{Owning, id, read};
use super::feed::Event;
use super::strip::Arriving;
use super::words;

/// Number of objects in a page of a list.
const PAGE: u32 = 500;
/// Maximum time for a page.
const LIST: Duration = Duration::from_secs(60);
/// Maximum time until a watch has started.
const BEGIN: Duration = Duration::from_secs(10);
/// Time after which the API server ends a watch, in seconds. The next watch continues from there.
const WATCH: u32 = 290;
/// Maximum time without an event. API servers send a bookmark about once a minute. If one does not, the watch is
/// restarted from the last resource version, and misses no event.
const SILENCE: Duration = Duration::from_secs(75);
/// First and maximum backoff after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Field selector without pods that have ended, because these have no network.
pub(super) const LIVE_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The name of a kind, the number of its watch, and an event of that watch.
pub(super) type Told = (Arc<str>, u64, Event);

/// The watch of one kind.
pub(super) struct Watch {
    pub(super) client: Client,
    pub(super) resource: ApiResource,
    pub(super) owning: Arc<Owning>,
    /// The name of the kind.
    pub(super) name: Arc<str>,
    /// The number of this watch. A later watch of the same kind has a higher one.
    pub(super) number: u64,
    pub(super) out: mpsc::Sender<Told>,
    /// Notified when the connection to the API server may be dead.
    pub(super) doubt: watch::Receiver<()>,
}

/// The reason why a watch ended.
enum End {
    /// The watch ended normally.
    Over,
    /// The API server no longer knows the changes after the resource version.
    TooOld,
    /// A request or the watch failed.
    Failed(String),
    /// The receiver was dropped.
    Unheard,
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 410 => Self::TooOld,
            _ => Self::Failed(words(&error)),
        }
    }
}

impl Watch {
    /// Watches until the receiver is dropped.
    pub(super) async fn run(self) {
        let api: Api<Arriving> = Api::all_with(self.client.clone(), &self.resource);
        let mut pauses = Pauses::default();
        let mut version: Option<String> = None;
        let mut expired = 0;
        loop {
            let began = Instant::now();
            let end = match &mut version {
                None => match self.list(&api).await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(end) => end,
                },
                Some(version) => self.follow(&api, version).await,
            };
            // A watch that lasted resets the backoff. A watch that ended at once must not restart at once.
            if began.elapsed() > PAUSES.1 {
                pauses.reset();
                expired = 0;
            }
            match end {
                End::Unheard => return,
                End::Over if began.elapsed() > PAUSES.1 => continue,
                End::Over => {}
                End::TooOld => {
                    version = None;
                    expired += 1;
                    let why = "the resource version of the last list has expired".to_owned();
                    if expired > 1 && self.tell(Event::Lost(why)).await.is_err() {
                        return;
                    }
                }
                End::Failed(why) => {
                    if self.tell(Event::Lost(why)).await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Sends all objects. Returns the resource version of the list.
    async fn list(&self, api: &Api<Arriving>) -> Result<String, End> {
        self.tell(Event::Begin).await?;
        let mut page = self.list_params();
        loop {
            let list = within(LIST, api.list(&page)).await??;
            for arriving in list.items {
                self.tell(Event::Listed(read(&self.resource, &self.owning, &arriving))).await?;
            }
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                self.tell(Event::End).await?;
                let version = list.metadata.resource_version.filter(|version| !version.is_empty());
                return version.ok_or_else(|| End::Failed("the list has no resource version".to_owned()));
            }
        }
    }

    /// Sends all changes after a resource version, and advances the version.
    async fn follow(&self, api: &Api<Arriving>, version: &mut String) -> End {
        match self.changes(api, version).await {
            Ok(()) => End::Over,
            Err(end) => end,
        }
    }

    async fn changes(&self, api: &Api<Arriving>, version: &mut String) -> Result<(), End> {
        let mut stream = pin!(within(BEGIN, api.watch(&self.watch_params(), version)).await??);
        self.tell(Event::Resumed).await?;
        let mut doubt = self.doubt.clone();
        doubt.mark_unchanged();
        loop {
            let event = tokio::select! {
                event = timeout(SILENCE, stream.next()) => event,
                Ok(()) = doubt.changed() => return Ok(()),
            };
            let Ok(Some(event)) = event else { return Ok(()) };
            let (arriving, is_there) = match event? {
                WatchEvent::Added(arriving) | WatchEvent::Modified(arriving) => (arriving, true),
                WatchEvent::Deleted(arriving) => (arriving, false),
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            let event = if is_there {
                Event::Applied(read(&self.resource, &self.owning, &arriving))
            } else {
                Event::Removed(id(&self.resource, &arriving))
            };
            self.tell(event).await?;
            if let Some(after) = &arriving.meta().resource_version {
                version.clone_from(after);
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), End> {
        self.out.send((Arc::clone(&self.name), self.number, event)).await.map_err(|_| End::Unheard)
    }

    fn fields(&self) -> Option<String> {
        (self.resource.group.is_empty() && self.resource.kind == "Pod").then(|| LIVE_PODS.to_owned())
    }

    fn list_params(&self) -> ListParams {
        ListParams { field_selector: self.fields(), limit: Some(PAGE), ..ListParams::default() }
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams { field_selector: self.fields(), timeout: Some(WATCH), ..WatchParams::default() }
    }
}

/// Waits for the answer. Fails if it takes too long.
async fn within<T>(patience: Duration, answer: impl Future<Output = T>) -> Result<T, End> {
    let late = |_| End::Failed(format!("no answer within {} s", patience.as_secs()));
    timeout(patience, answer).await.map_err(late)
}

/// A backoff that doubles.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pauses {
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = jittered(self.0);
        self.0 = (self.0 * 2).min(PAUSES.1);
        pause
    }
}

/// Returns a random duration from three quarters of this one to this one, so that many clients do not act in step.
pub(super) fn jittered(time: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    // Each `RandomState` has its own keys.
    let random = u32::try_from(RandomState::new().hash_one(()) % 1000).unwrap_or_default();
    time * 3 / 4 + time * random / 4000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = (0..20).map(|_| pauses.next()).collect();
        assert!(all[0] <= PAUSES.0 && all[0] >= PAUSES.0 * 3 / 4, "{all:?}");
        assert!(all.iter().all(|pause| *pause <= PAUSES.1));
        assert!(all[19] >= PAUSES.1 * 3 / 4);
        pauses.reset();
        assert!(pauses.next() <= PAUSES.0);
    }
}
