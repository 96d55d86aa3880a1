//! The response to an AdmissionReview.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::review::{API_VERSION, KIND};
use crate::dialect::Patch;

/// The content of a response.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) denial: Option<Denial>,
    /// The warnings, the most important first.
    pub(super) warnings: Vec<String>,
    /// The rules with findings, for the audit log of the API server.
    pub(super) audit: Option<String>,
    pub(super) patch: Option<Patch>,
}

/// The reason for the denial of a request.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) causes: Vec<Cause>,
}

/// One cause of a denial, for clients that read `status.details.causes`.
#[derive(Debug, Serialize)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: String,
}

impl Denial {
    /// The object cannot be parsed.
    pub(super) fn unreadable(message: String) -> Self {
        Self { code: 422, reason: "Invalid", message, causes: Vec::new() }
    }

    /// A lookup that the decision requires failed.
    pub(super) fn undecided(message: String) -> Self {
        Self { code: 403, reason: "Forbidden", message, causes: Vec::new() }
    }

    /// The review is malformed.
    pub(super) fn malformed(message: String) -> Self {
        Self { code: 400, reason: "BadRequest", message, causes: Vec::new() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    /// The JSON patch in base64, the encoding of Go's `[]byte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations<'a>>,
}

#[derive(Serialize)]
struct AuditAnnotations<'a> {
    rules: &'a str,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    causes: &'a [Cause],
}

/// Serializes the response to the request with this uid.
pub(super) fn write(uid: &str, outcome: &Outcome) -> Vec<u8> {
    let status = outcome.denial.as_ref().map(|denial| Status {
        status: "Failure",
        code: denial.code,
        reason: denial.reason,
        message: &denial.message,
        details: (!denial.causes.is_empty()).then_some(Details { causes: &denial.causes }),
    });
    let patch = outcome.patch.as_ref().and_then(|patch| serde_json::to_vec(patch).ok());
    let review = Review {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: outcome.denial.is_none(),
            status,
            // The API server rejects one without the other.
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            warnings: &outcome.warnings,
            audit_annotations: outcome.audit.as_deref().map(|rules| AuditAnnotations { rules }),
        },
    };
    let mut body = Vec::with_capacity(256);
    // Serialization cannot fail: all maps have string keys, and writing to a Vec always succeeds.
    if serde_json::to_writer(&mut body, &review).is_err() {
        body.clear();
    }
    body
}
