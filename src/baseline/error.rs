//! What can go wrong between the controller and an API server.

use crate::model::ObjectRef;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The namespace is being deleted, or is not there, or is another one by now. There is nothing to do.
    #[error("the namespace is gone")]
    Gone,
    /// The API server does not serve the kind.
    #[error("the cluster does not serve `{0}` `{1}`")]
    NotServed(Box<str>, Box<str>),
    /// Somebody makes something else of what is written.
    #[error("{0} is stored otherwise than it is written: a webhook or a controller of somebody else changes it")]
    Interfered(ObjectRef),
    /// The API server refused it, or did not answer.
    #[error("{doing}: {}", said(source))]
    Refused {
        /// What was tried.
        doing: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// It waits for a policy of the cluster, and this is what became of those.
    #[error("policies of the cluster: {0}")]
    OfCluster(Box<str>),
    /// Its work came to an end that nobody foresaw.
    #[error("a fault of Portcullis: {0}")]
    Fault(Box<str>),
    /// It took too long.
    #[error("there was no answer in time")]
    TimedOut,
}

impl Failure {
    /// What came back from an attempt to do something.
    pub(super) fn of(doing: impl Into<String>, source: kube::Error) -> Self {
        if is_gone(&source) { Self::Gone } else { Self::Refused { doing: doing.into(), source: Box::new(source) } }
    }
}

/// What is worth telling of an error: the same text each time.
fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    // It stands in an annotation, and in Events, which take 1024 bytes.
    text.chars().take(400).collect()
}

/// Whether the API server says that the namespace goes away, or is away.
fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let details = status.details.as_ref();
    let is_terminating =
        || details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    match status.code {
        403 => is_terminating(),
        404 => details.is_some_and(|details| details.kind == "namespaces"),
        _ => false,
    }
}

/// Whether an object is not there.
pub(super) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether an object is another one than was meant, or has changed since.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use kube::core::response::{StatusCause, StatusDetails};

    fn refused(code: u16, kind: &str, cause: &str) -> kube::Error {
        let cause = StatusCause { reason: cause.into(), message: String::new(), field: String::new() };
        let mut details: StatusDetails = serde_json::from_value(serde_json::json!({"kind": kind})).unwrap();
        details.causes.push(cause);
        kube::Error::Api(Box::new(Status::failure("no", "Because").with_code(code).with_details(details)))
    }

    #[test]
    fn a_namespace_that_goes_away_is_no_failure() {
        let gone = |code, kind, cause| matches!(Failure::of("x", refused(code, kind, cause)), Failure::Gone);
        assert!(gone(403, "", "NamespaceTerminating"));
        assert!(gone(404, "namespaces", ""));
        assert!(!gone(403, "", "Forbidden"));
        assert!(!gone(404, "networkpolicies", ""), "a policy that is not there says nothing of its namespace");
    }

    #[test]
    fn what_is_told_is_what_the_api_server_said() {
        assert_eq!(Failure::of("writing x", refused(422, "", "")).to_string(), "writing x: no");
    }
}
