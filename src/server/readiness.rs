//! The readiness of the server, and the reasons why it is not ready.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

/// The readiness of the server.
#[derive(Debug, Default)]
pub struct Readiness {
    started: AtomicBool,
    stopping: AtomicBool,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    /// The fault that keeps changed configuration files from being in force.
    configuration: Option<String>,
    /// The fault that keeps a new certificate from being in use.
    certificate: Option<String>,
    /// Set if client certificates are required. The inner value is the fault of the file of their CAs.
    client_ca: Option<Option<String>>,
    /// The expiry of the certificate in use.
    expires: Option<SystemTime>,
    /// True while the server waits for its first certificate.
    awaited: bool,
    /// The state of the watches. None without a cluster.
    watches: Option<Watches>,
    /// The state of the webhook configurations in the cluster. None if they are not compared.
    webhooks: Option<String>,
}

/// The state of the watches of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    /// The reason why the view is not complete yet. None once every watch was synced.
    pub unsynced: Option<String>,
    /// The watches by kind.
    pub kinds: BTreeMap<String, Watch>,
    /// Further remarks by subject.
    pub notes: BTreeMap<String, String>,
}

/// The state of the watch of one kind.
#[derive(Clone, Debug)]
pub enum Watch {
    /// The watch has reported all objects and continues.
    Synced,
    /// The watch has not reported all objects yet. The value is the problem that delays it, if there is one.
    Syncing(Option<String>),
    /// The watch was synced and then lost. Its objects stay in the view.
    Lost {
        /// The time at which the watch was lost.
        since: Instant,
        /// The cause.
        why: String,
    },
}

impl Watch {
    fn words(&self) -> String {
        match self {
            Self::Synced => "synced".to_owned(),
            Self::Syncing(None) => "syncing".to_owned(),
            Self::Syncing(Some(why)) => format!("syncing: {why}"),
            Self::Lost { since, why } => format!("lost for {} s: {why}", since.elapsed().as_secs()),
        }
    }
}

impl Watches {
    fn words(&self) -> (Value, Value) {
        let kinds = self.kinds.iter().map(|(kind, watch)| (kind.clone(), watch.words().into())).collect();
        (self.unsynced.as_deref().unwrap_or("ok").into(), Value::Object(kinds))
    }
}

impl Readiness {
    /// Records that the server accepts connections.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Records that the server shuts down.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Returns true if the server shuts down.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Records the fault of changed configuration files. None if they are in force.
    pub fn configuration(&self, fault: Option<String>) {
        self.with(|detail| detail.configuration = fault);
    }

    /// Records that a certificate with this expiry is in use.
    pub fn certificate(&self, expires: SystemTime) {
        self.with(|detail| {
            detail.certificate = None;
            detail.expires = Some(expires);
            detail.awaited = false;
        });
    }

    /// Records that the server waits for its first certificate.
    pub(crate) fn certificate_awaited(&self) {
        self.with(|detail| detail.awaited = true);
    }

    /// Records the fault that keeps a new certificate from being in use.
    pub(crate) fn certificate_fault(&self, fault: String) {
        self.with(|detail| detail.certificate = Some(fault));
    }

    /// Records that client certificates are required, and the fault of the file of their CAs. None if the file is in
    /// use.
    pub(crate) fn client_ca(&self, fault: Option<String>) {
        self.with(|detail| detail.client_ca = Some(fault));
    }

    /// Records the state of the watches of a cluster.
    pub fn watches(&self, watches: Watches) {
        self.with(|detail| detail.watches = Some(watches));
    }

    /// Sets the state of the webhook configurations in the cluster. Without its webhooks a server gets no requests, and
    /// a restart would not write them, so it stays ready.
    pub fn webhooks(&self, status: String) {
        self.with(|detail| detail.webhooks = Some(status));
    }

    /// Returns true if the server is ready, and the detail as JSON.
    ///
    /// The server is not ready until every watch of a cluster has synced. A watch that is lost later is only reported,
    /// because its objects stay in the view. A broken file is only reported, because the last good state is in force.
    /// An expired or missing certificate makes the server not ready, because clients cannot connect.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let started = self.started.load(Ordering::Acquire);
        let stopping = self.is_stopping();
        let (certified, synced, detail) = self.with(|detail| {
            let expired = detail.expires.is_some_and(|expires| expires <= SystemTime::now());
            let certified = !expired && !detail.awaited;
            let certificate = match (&detail.certificate, expired) {
                (Some(fault), _) if detail.awaited => format!("no certificate yet: {fault}"),
                (None, _) if detail.awaited => "no certificate yet".to_owned(),
                (_, true) => "expired".to_owned(),
                (Some(fault), false) => format!("using the last good certificate: {fault}"),
                (None, false) => "ok".to_owned(),
            };
            let configuration = match &detail.configuration {
                Some(fault) => format!("using the last good configuration: {fault}"),
                None => "ok".to_owned(),
            };
            let mut words = json!({"certificate": certificate, "configuration": configuration});
            if let (Some(watches), Some(words)) = (&detail.watches, words.as_object_mut()) {
                let (cluster, kinds) = watches.words();
                words.extend([("cluster".to_owned(), cluster), ("watches".to_owned(), kinds)]);
                if !watches.notes.is_empty() {
                    words.insert("notes".to_owned(), json!(watches.notes));
                }
            }
            if let (Some(fault), Some(words)) = (&detail.client_ca, words.as_object_mut()) {
                let status = fault.as_ref().map(|fault| format!("using the last good client CA: {fault}"));
                words.insert("clientCA".to_owned(), status.unwrap_or_else(|| "ok".to_owned()).into());
            }
            if let (Some(webhooks), Some(words)) = (&detail.webhooks, words.as_object_mut()) {
                words.insert("webhooks".to_owned(), json!(webhooks));
            }
            (certified, detail.watches.as_ref().is_none_or(|watches| watches.unsynced.is_none()), words)
        });
        let ready = started && !stopping && certified && synced;
        let state = match (started, stopping) {
            (_, true) => "stopping",
            (false, false) => "starting",
            (true, false) => "serving",
        };
        (ready, json!({"ready": ready, "state": state, "detail": detail}))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Detail) -> T) -> T {
        // A panic while the lock was held leaves no partial change, because the changes are plain assignments.
        let mut detail = self.detail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        use_it(&mut detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_is_ready_only_while_it_serves() {
        let readiness = Readiness::default();
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        assert!(!readiness.report().0);
        readiness.start();
        assert!(readiness.report().0);
        readiness.configuration(Some("line 3: no".into()));
        let (ready, detail) = readiness.report();
        assert!(ready, "the last good state is in force");
        assert_eq!(detail["detail"]["configuration"], "using the last good configuration: line 3: no");
        readiness.certificate(SystemTime::now() - Duration::from_secs(1));
        assert!(!readiness.report().0, "no client can connect to a server whose certificate has expired");
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        readiness.stop();
        assert_eq!(readiness.report().1["state"], "stopping");
        assert!(!readiness.report().0);
    }

    #[test]
    fn it_is_not_ready_before_it_knows_the_cluster_and_stays_so_when_a_watch_is_lost() {
        let readiness = Readiness::default();
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        readiness.start();
        let kinds = |watch| BTreeMap::from([("Pod".to_owned(), watch)]);
        let unsynced = Some("waiting for Pod".to_owned());
        readiness.watches(Watches { unsynced, kinds: kinds(Watch::Syncing(Some("no".into()))), ..Watches::default() });
        let (ready, detail) = readiness.report();
        assert!(!ready);
        assert_eq!(detail["detail"]["cluster"], "waiting for Pod");
        assert_eq!(detail["detail"]["watches"]["Pod"], "syncing: no");
        let since = Instant::now().checked_sub(Duration::from_secs(12)).unwrap();
        readiness.watches(Watches { kinds: kinds(Watch::Lost { since, why: "away".into() }), ..Watches::default() });
        let (ready, detail) = readiness.report();
        assert!(ready);
        assert_eq!(detail["detail"]["cluster"], "ok");
        assert_eq!(detail["detail"]["watches"]["Pod"], "lost for 12 s: away");
    }

    #[test]
    fn it_stays_ready_when_its_webhook_configurations_differ() {
        let readiness = Readiness::default();
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        readiness.start();
        assert_eq!(readiness.report().1["detail"].get("webhooks"), None);
        readiness.webhooks("ValidatingWebhookConfiguration portcullis is missing (for 2 s)".into());
        let (ready, detail) = readiness.report();
        assert!(ready);
        assert_eq!(detail["detail"]["webhooks"], "ValidatingWebhookConfiguration portcullis is missing (for 2 s)");
    }

    #[test]
    fn it_is_not_ready_without_a_certificate() {
        let readiness = Readiness::default();
        readiness.start();
        readiness.certificate_awaited();
        assert!(!readiness.report().0);
        readiness.certificate_fault("forbidden".into());
        let (ready, detail) = readiness.report();
        assert!(!ready);
        assert_eq!(detail["detail"]["certificate"], "no certificate yet: forbidden");
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        let (ready, detail) = readiness.report();
        assert!(ready);
        assert_eq!(detail["detail"]["certificate"], "ok");
    }
}
