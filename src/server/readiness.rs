//! Whether requests should come here, and why not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

/// Whether requests should come here.
#[derive(Debug, Default)]
pub struct Readiness {
    started: AtomicBool,
    stopping: AtomicBool,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    /// Why what is in the files is not in force, if it is not.
    configuration: Option<String>,
    /// Why the certificate that is in the files is not in use, if it is not.
    certificate: Option<String>,
    /// Whether client certificates are required, and the problem with the file of their CAs.
    client_ca: Option<Option<String>>,
    /// When the certificate in use expires.
    expires: Option<SystemTime>,
    /// There is no certificate yet.
    awaited: bool,
    /// How the watches are, where there is a cluster.
    watches: Option<Watches>,
    /// The state of the webhook configurations in the cluster, where they are compared.
    webhooks: Option<String>,
}

/// How the watches of a cluster are.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    /// Why it is not known yet what is in the cluster, if it is not.
    pub unsynced: Option<String>,
    /// Each of them, by the name of its kind.
    pub kinds: BTreeMap<String, Watch>,
    /// What else is worth knowing, by what it is about.
    pub notes: BTreeMap<String, String>,
}

/// How the watch of one kind is.
#[derive(Clone, Debug)]
pub enum Watch {
    /// It has told all there is, and goes on.
    Synced,
    /// It has not told all there is, perhaps because something is in the way.
    Syncing(Option<String>),
    /// It had told all there was, and what it told stays.
    Lost {
        /// Since when nothing is heard.
        since: Instant,
        /// Why.
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
    /// Connections are being accepted.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The server is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the server is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What is in the files of the configuration is in force, or why it is not.
    pub fn configuration(&self, fault: Option<String>) {
        self.with(|detail| detail.configuration = fault);
    }

    /// A certificate that expires then is in use.
    pub fn certificate(&self, expires: SystemTime) {
        self.with(|detail| {
            detail.certificate = None;
            detail.expires = Some(expires);
            detail.awaited = false;
        });
    }

    /// There is no certificate yet.
    pub fn certificate_awaited(&self) {
        self.with(|detail| detail.awaited = true);
    }

    /// The certificate in the files is not in use.
    pub fn certificate_fault(&self, fault: String) {
        self.with(|detail| detail.certificate = Some(fault));
    }

    /// Client certificates are required, and the file of their CAs is in use or has this problem.
    pub fn client_ca(&self, fault: Option<String>) {
        self.with(|detail| detail.client_ca = Some(fault));
    }

    /// There is a cluster that is watched, and this is how the watches are.
    pub fn watches(&self, watches: Watches) {
        self.with(|detail| detail.watches = Some(watches));
    }

    /// Sets the state of the webhook configurations in the cluster. Without its webhooks a server gets no requests, and
    /// a restart would not write them, so it stays ready.
    pub fn webhooks(&self, status: String) {
        self.with(|detail| detail.webhooks = Some(status));
    }

    /// Whether requests should come here, and the detail as JSON. Not before every watch of a cluster has told what there
    /// is; a watch that is lost later is said here, and what it told stays. A broken file does not make the server unready: the
    /// last good state is in force. An expired certificate does, and one that is not there yet:
    /// nobody can talk to it.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let started = self.started.load(Ordering::Acquire);
        let stopping = self.is_stopping();
        let (certified, synced, detail) = self.with(|detail| {
            let expired = detail.expires.is_some_and(|expires| expires <= SystemTime::now());
            let certified = !expired && !detail.awaited;
            let certificate = match (&detail.certificate, expired) {
                (Some(fault), _) if detail.awaited => format!("there is none yet: {fault}"),
                (None, _) if detail.awaited => "there is none yet".to_owned(),
                (_, true) => "expired".to_owned(),
                (Some(fault), false) => format!("the last good one is in use: {fault}"),
                (None, false) => "ok".to_owned(),
            };
            let configuration = match &detail.configuration {
                Some(fault) => format!("the last good one is in force: {fault}"),
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
                let status = fault.as_ref().map(|fault| format!("the last good one is in use: {fault}"));
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
        // A panic while it was held cannot have left it half changed: each change is one assignment.
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
        assert_eq!(detail["detail"]["configuration"], "the last good one is in force: line 3: no");
        readiness.certificate(SystemTime::now() - Duration::from_secs(1));
        assert!(!readiness.report().0, "nobody can talk to a server whose certificate has expired");
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
        assert_eq!(detail["detail"]["certificate"], "there is none yet: forbidden");
        readiness.certificate(SystemTime::now() + Duration::from_secs(60));
        let (ready, detail) = readiness.report();
        assert!(ready);
        assert_eq!(detail["detail"]["certificate"], "ok");
    }
}
