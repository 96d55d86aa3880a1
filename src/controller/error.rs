//! The failures of the controller in its work with the API server.

use crate::model::ObjectRef;

/// The reason why work failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The namespace is terminating, missing or recreated. No work is left.
    #[error("the namespace is gone")]
    Gone,
    /// The API server does not serve the kind.
    #[error("the cluster does not serve `{0}` `{1}`")]
    NotServed(Box<str>, Box<str>),
    /// Another client or a webhook changes the policy whenever it is written.
    #[error("{0} is stored differently than it was written; another webhook or controller changes it")]
    Interfered(ObjectRef),
    /// The API server rejected the request, or did not answer.
    #[error("{doing}: {}", said(source))]
    Refused {
        /// The action that failed.
        doing: String,
        /// The error of the client.
        source: Box<kube::Error>,
    },
    /// The namespace waits for cluster-wide policies, which failed for this reason.
    #[error("cluster-wide policies: {0}")]
    OfCluster(Box<str>),
    /// The task ended unexpectedly.
    #[error("bug in Portcullis: {0}")]
    Fault(Box<str>),
    /// The work timed out.
    #[error("timed out")]
    TimedOut,
}

impl Failure {
    /// Creates the failure of an action from an error of the client.
    pub(super) fn of(doing: impl Into<String>, source: kube::Error) -> Self {
        if is_gone(&source) { Self::Gone } else { Self::Refused { doing: doing.into(), source: Box::new(source) } }
    }
}

/// Returns the text of an error. It is the same at each attempt.
fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    // The text goes into an annotation and into Events, which are limited to 1024 bytes.
    text.chars().take(400).collect()
}

/// Returns true if the API server reports that the namespace is terminating or missing.
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

/// Returns true if an object does not exist.
pub(super) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Returns true if an object was replaced or changed in the meantime.
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
        assert!(!gone(404, "networkpolicies", ""), "a missing policy does not mean that its namespace is gone");
    }

    #[test]
    fn what_is_told_is_what_the_api_server_said() {
        assert_eq!(Failure::of("writing x", refused(422, "", "")).to_string(), "writing x: no");
    }
}
