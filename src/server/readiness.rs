//! Whether requests should come here, and why not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

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
    /// When the certificate in use expires.
    expires: Option<SystemTime>,
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
        });
    }

    /// The certificate in the files is not in use.
    pub fn certificate_fault(&self, fault: String) {
        self.with(|detail| detail.certificate = Some(fault));
    }

    /// Whether requests should come here, and the detail as JSON. A broken file does not make the server unready: the
    /// last good state is in force. An expired certificate does: nobody can talk to it.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let started = self.started.load(Ordering::Acquire);
        let stopping = self.is_stopping();
        let (expired, detail) = self.with(|detail| {
            let expired = detail.expires.is_some_and(|expires| expires <= SystemTime::now());
            let certificate = match (&detail.certificate, expired) {
                (_, true) => "expired".to_owned(),
                (Some(fault), false) => format!("the last good one is in use: {fault}"),
                (None, false) => "ok".to_owned(),
            };
            let configuration = match &detail.configuration {
                Some(fault) => format!("the last good one is in force: {fault}"),
                None => "ok".to_owned(),
            };
            (expired, json!({"certificate": certificate, "configuration": configuration}))
        });
        let ready = started && !stopping && !expired;
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
}
