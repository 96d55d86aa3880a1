//! The request of an AdmissionReview.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::budget;
use crate::dialect::Written;
use crate::json::{Object, object, required};
use crate::view::Requester;

/// The only supported version of the API. In v1beta1 a response does not have to contain the uid of its request.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of a review and of its answer.
pub(super) const KIND: &str = "AdmissionReview";

/// The reason why a body is not answered with a review. The API server treats this as a failed call, and its
/// failurePolicy decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "required")]
    request: Request<'a>,
}

/// The request of a review. Its objects are parsed on first use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Ties the answer to the request.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// The kind of the objects below. It may differ from the kind that the user sent (`requestKind`).
    #[serde(borrow, deserialize_with = "required")]
    pub kind: Kind<'a>,
    /// The subresource of the request, if any.
    #[serde(borrow, default)]
    pub(crate) sub_resource: Option<Cow<'a, str>>,
    /// The name of the object. Empty if the API server does not know it, for example with generateName, or when a
    /// collection is deleted.
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    /// The object's namespace; for a Namespace its own name.
    #[serde(borrow, default)]
    pub namespace: Option<Cow<'a, str>>,
    /// CREATE, UPDATE, DELETE or CONNECT.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The user who sends the request.
    #[serde(borrow, default, deserialize_with = "object")]
    pub(crate) user_info: User<'a>,
    /// The new object.
    #[serde(borrow, default)]
    pub object: Option<Written<'a>>,
    /// The old object.
    #[serde(borrow, default)]
    pub(crate) old_object: Option<Written<'a>>,
    /// True for a dry run. It does not affect the decision.
    #[serde(default)]
    pub(crate) dry_run: Option<bool>,
}

/// A kind.
#[derive(Debug, Deserialize)]
pub struct Kind<'a> {
    /// The API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// The version.
    #[serde(borrow, default)]
    pub version: Cow<'a, str>,
    /// The name of the kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// The user who sends a request.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct User<'a> {
    /// The username.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// The remaining fields, which few decisions need. They are parsed on first use.
    #[serde(borrow, default)]
    uid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    groups: Option<&'a RawValue>,
    #[serde(borrow, default)]
    extra: Option<&'a RawValue>,
}

impl User<'_> {
    /// All fields of the user in the request.
    pub(super) fn requester(&self) -> Requester {
        fn read<T: serde::de::DeserializeOwned + Default>(text: Option<&RawValue>) -> T {
            text.and_then(|text| serde_json::from_str::<Option<T>>(text.get()).ok().flatten()).unwrap_or_default()
        }
        let extra: BTreeMap<Box<str>, Vec<Box<str>>> = read(self.extra);
        Requester {
            username: (*self.username).into(),
            uid: read(self.uid),
            groups: read(self.groups),
            extra: extra.into_iter().collect(),
        }
    }
}

/// A review whose request is malformed, but has a uid.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) uid: String,
    pub(super) problem: String,
}

/// The minimal fields for a response.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Uid {
    uid: String,
}

/// Estimated bytes for each JSON object in a tree, in addition to the charge of [`budget::charge_json`]: a map node has
/// room for 11 fields, and a patch is tried on a copy.
const BYTES_PER_OBJECT: usize = 1000;

/// Parses the whole object of a request, which is needed only for a patch.
pub(super) fn whole_object(request: &Request<'_>, body: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(body).ok().filter(|_| request.object.is_some())?;
    budget::charge_json(text);
    budget::hold_objects(text, BYTES_PER_OBJECT);
    #[derive(Deserialize)]
    struct Whole {
        request: WholeRequest,
    }
    #[derive(Deserialize)]
    struct WholeRequest {
        object: Value,
    }
    serde_json::from_slice::<Whole>(body).ok().map(|whole| whole.request.object)
}

impl Kind<'_> {
    /// The group and version, as in a manifest.
    pub(super) fn api_version(&self) -> Cow<'_, str> {
        if self.group.is_empty() {
            Cow::Borrowed(&self.version)
        } else {
            Cow::Owned(format!("{}/{}", self.group, self.version))
        }
    }
}

impl<'a> Request<'a> {
    /// Returns true if the object is a namespace.
    pub(super) fn is_about_a_namespace(&self) -> bool {
        self.kind.kind == "Namespace" && self.kind.group.is_empty()
    }

    /// Parses a body. Returns the request, or the error to put into a response, or a [`Refusal`] if the body is not a
    /// review.
    pub(super) fn read(body: &'a [u8]) -> Result<Result<Self, Malformed>, Refusal> {
        // Validated once for the whole body, instead of once per string.
        budget::charge(body.len() / 64);
        let json = std::str::from_utf8(body)
            .map_err(|error| Refusal(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
        match serde_json::from_str::<Object<Review<'a>>>(json) {
            Ok(Object(Review { api_version, kind, request }))
                if api_version == API_VERSION && kind == KIND && !request.uid.is_empty() =>
            {
                Ok(Ok(request))
            }
            Ok(_) => Err(refusal(json, None)),
            Err(error) => malformed(json, &error).map(Err),
        }
    }
}

/// Extracts the uid from a review that cannot be parsed, so that it can still be answered.
fn malformed(body: &str, error: &serde_json::Error) -> Result<Malformed, Refusal> {
    let envelope = serde_json::from_str::<Object<Envelope<'_>>>(body).map_err(|_| refusal(body, Some(error)))?.0;
    let uid = envelope.request.and_then(|request| serde_json::from_str::<Object<Uid>>(request.get()).ok());
    match uid {
        Some(Object(Uid { uid })) if envelope.is_understood() && !uid.is_empty() => {
            Ok(Malformed { uid, problem: format!("the review cannot be parsed: {error}") })
        }
        _ => Err(refusal(body, Some(error))),
    }
}

impl Envelope<'_> {
    fn is_understood(&self) -> bool {
        self.api_version.as_deref() == Some(API_VERSION) && self.kind.as_deref() == Some(KIND)
    }
}

/// Describes why a body is not a review that can be answered.
fn refusal(body: &str, error: Option<&serde_json::Error>) -> Refusal {
    if body.is_empty() {
        return Refusal(format!("the body is empty; expected an {API_VERSION} {KIND}"));
    }
    Refusal(match serde_json::from_str::<Object<Envelope<'_>>>(body).map(|Object(envelope)| envelope) {
        Err(error) => format!("the body is not an {API_VERSION} {KIND}: {error}"),
        Ok(envelope) if !envelope.is_understood() => {
            let api_version = envelope.api_version.as_deref().unwrap_or("none");
            let kind = envelope.kind.as_deref().unwrap_or("none");
            format!("apiVersion is {api_version} and kind is {kind}; expected {API_VERSION} {KIND}")
        }
        Ok(Envelope { request: None, .. }) => "the review has no request".to_owned(),
        Ok(_) => match error {
            Some(error) => format!("the request has no uid: {error}"),
            None => "the request has no uid".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(body: &[u8]) -> String {
        Request::read(body).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_review_is_refused_with_the_reason() {
        assert_eq!(refused(b""), "the body is empty; expected an admission.k8s.io/v1 AdmissionReview");
        assert!(refused(b"{\"kind\": ").starts_with("the body is not an admission.k8s.io/v1 AdmissionReview: EOF"));
        assert_eq!(refused(b"{}\xff"), "the body is not UTF-8 at byte 2");
        assert!(refused(b"[]").contains("invalid type: sequence, expected an object"));
        assert_eq!(
            refused(br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}"#),
            "apiVersion is admission.k8s.io/v1beta1 and kind is AdmissionReview; expected admission.k8s.io/v1 AdmissionReview"
        );
        assert_eq!(
            refused(br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#),
            "the review has no request"
        );
        let no_uid = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"","kind":{"kind":"Pod"},"operation":"CREATE"}}"#;
        assert_eq!(refused(no_uid), "the request has no uid");
    }

    #[test]
    fn a_uid_is_saved_from_a_request_of_the_wrong_form() {
        let body = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","operation":5,"kind":[]}}"#;
        let malformed = Request::read(body).unwrap().unwrap_err();
        assert_eq!(malformed.uid, "u-1");
        assert!(malformed.problem.contains("invalid type"), "{}", malformed.problem);
    }

    #[test]
    fn deep_nesting_is_read_without_deep_recursion() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let body = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"kind":"Pod"}},"operation":"CREATE","object":{deep}}}}}"#
        );
        assert_eq!(Request::read(body.as_bytes()).unwrap().unwrap().uid, "u");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::read(&body);
        }

        #[test]
        fn no_cut_of_a_review_is_taken_for_a_whole_one(cut in 0usize..400) {
            let body = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","object":{"spec":{"hostNetwork":true}}}}"#;
            if cut < body.len() {
                prop_assert!(Request::read(&body[..cut]).is_err());
            }
        }
    }
}
