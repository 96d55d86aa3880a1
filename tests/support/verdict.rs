//! What a webhook answered, read as strictly as nobody else does.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube_core::DynamicObject;
use kube_core::admission::AdmissionReview;
use portcullis::rules::RULES;
use serde_json::{Value, json};

use super::client::Answer;

/// A rule, and the place at which it found something.
pub(crate) type Found = (String, String);

/// An AdmissionReview that came back, of which every part is as it has to be.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) uid: String,
    pub(crate) allowed: bool,
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// What denies, in order.
    pub(crate) denials: Vec<Found>,
    /// What is warned about, in order.
    pub(crate) warned: Vec<Found>,
    /// That which would deny, had it not been there before.
    pub(crate) before: Vec<Found>,
    pub(crate) warnings: Vec<String>,
    pub(crate) patch: Option<Patch>,
    pub(crate) audit: Option<Value>,
    /// The bytes as they came.
    pub(crate) body: String,
}

impl Verdict {
    /// Reads the answer of this endpoint.
    ///
    /// # Panics
    ///
    /// If anything in it is not as the API of admission says, with the answer.
    #[track_caller]
    pub(crate) fn read(endpoint: &str, answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
        let review: Value = serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(keys(&review), ["apiVersion", "kind", "response"], "{answer}");
        assert_eq!(
            (&review["apiVersion"], &review["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        let response = &review["response"];
        let known = ["allowed", "auditAnnotations", "patch", "patchType", "status", "uid", "warnings"];
        for key in keys(response) {
            assert!(known.contains(&key), "{key} is no field of a response: {answer}");
        }
        let uid = response["uid"].as_str().unwrap_or_else(|| panic!("no uid: {answer}")).to_owned();
        let allowed = response["allowed"].as_bool().unwrap_or_else(|| panic!("neither allowed nor denied: {answer}"));
        let patch = patch(endpoint, response, answer);
        let verdict = Self {
            uid,
            allowed,
            patch: patch.as_ref().map(|bytes| serde_json::from_slice(bytes).expect("the patch is a JSON patch")),
            audit: response.get("auditAnnotations").cloned(),
            warnings: warnings(response, answer),
            body: answer.text.clone(),
            code: 0,
            reason: String::new(),
            message: String::new(),
            denials: Vec::new(),
            warned: Vec::new(),
            before: Vec::new(),
        };
        as_others_read_it(&review, patch.as_deref(), &verdict);
        verdict.with_warned().with_denial(response)
    }

    fn with_warned(mut self) -> Self {
        for warning in &self.warnings {
            if let Some((found, before)) = found(warning) {
                if before {
                    self.before.push(found.clone());
                }
                self.warned.push(found);
            }
        }
        self
    }

    fn with_denial(mut self, response: &Value) -> Self {
        let Some(status) = response.get("status") else {
            assert!(self.allowed, "denied without a reason: {self}");
            return self;
        };
        assert!(!self.allowed, "allowed with a status: {self}");
        for key in keys(status) {
            assert!(["code", "details", "message", "reason", "status"].contains(&key), "{key} in a status: {self}");
        }
        assert_eq!(status["status"], "Failure", "{self}");
        let read: Status = serde_json::from_value(status.clone()).unwrap_or_else(|error| panic!("{error}: {self}"));
        self.code = read.code.unwrap_or_default();
        self.reason = read.reason.unwrap_or_default();
        self.message = read.message.unwrap_or_default();
        assert!((400..500).contains(&self.code), "a denial is 4xx: {self}");
        assert!(!self.reason.is_empty() && !self.message.is_empty(), "a denial has a reason and a message: {self}");
        assert!(self.message.lines().count() <= 61 && self.message.len() <= 8300, "a denial is for a person: {self}");
        assert!(!self.message.contains(|c: char| c.is_control() && c != '\n'), "control characters: {self}");
        let causes = read.details.and_then(|details| details.causes).unwrap_or_default();
        // The message names what the causes name, in the same order, as far as it goes.
        let mut lines = self.message.lines().peekable();
        let (mut more, count) = (0, causes.len());
        for cause in causes {
            let found = (cause.reason.unwrap_or_default(), cause.field.unwrap_or_default());
            if more == 0 {
                more = lines.next_if(|line| line.starts_with("and ")).map_or(0, |line| self.left_out(line));
                assert!(more == 0 || self.denials.len() + more == count, "{count} findings: {self}");
            }
            if more == 0 {
                let summary = format!("{}: {}", found.0, cause.message.unwrap_or_default());
                assert_eq!(lines.next(), Some(&*summary), "{self}");
                let mut place = format!("  at {}", found.1);
                if found.1.is_empty() {
                    place.clear();
                }
                let at = lines.next_if(|line| line.starts_with("  at ")).unwrap_or_default();
                assert_eq!(at, place, "{self}");
                lines.next_if(|line| line.starts_with("  closest: "));
                assert!(lines.next().is_some_and(|line| line.starts_with("  help: ")), "no help: {self}");
                let is_fix =
                    |line: &&str| line.starts_with("  fix: kubectl patch ") || line.starts_with("  JSON patch: ");
                lines.next_if(is_fix);
            }
            self.denials.push(found);
        }
        assert!(count == 0 || lines.next().is_none(), "more lines than findings: {self}");
        self
    }

    /// The number of findings that a denial leaves out, by its last line.
    #[track_caller]
    fn left_out(&self, line: &str) -> usize {
        let number = line.split(' ').nth(1).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no number in {line}: {self}"))
    }

    /// Allowed, and not a word more: no warning, no patch.
    #[track_caller]
    pub(crate) fn allowed_without_a_word(&self) {
        self.allowed_with(&[]);
        assert!(self.warnings.is_empty(), "{self}");
        assert!(self.patch.is_none(), "{self}");
    }

    /// Allowed, with warnings of exactly these rules at these places.
    #[track_caller]
    pub(crate) fn allowed_with(&self, warned: &[(&str, &str)]) {
        assert!(self.allowed, "{self}");
        assert_eq!(borrowed(&self.warned), warned, "{self}");
    }

    /// Denied by exactly these rules at these places.
    #[track_caller]
    pub(crate) fn denied_by(&self, rules: &[(&str, &str)]) {
        assert!(!self.allowed, "{self}");
        assert_eq!((self.code, self.reason.as_str()), (403, "Forbidden"), "{self}");
        assert_eq!(borrowed(&self.denials), rules, "{self}");
    }

    /// Denied since it could not be judged, in words that hold these.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, reason: &str, words: &[&str]) {
        assert!(!self.allowed, "{self}");
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self}");
        for word in words {
            assert!(self.message.contains(word), "nothing of {word}: {self}");
        }
    }

    /// The object after the patch; as it was where there is none.
    #[track_caller]
    pub(crate) fn patched(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if let Some(patch) = &self.patch {
            json_patch::patch(&mut object, patch).unwrap_or_else(|error| panic!("{error}: {patch}\n{object}\n{self}"));
        }
        object
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.body)?;
        match &self.patch {
            Some(patch) => write!(f, "\nin which the patch is {patch}"),
            None => Ok(()),
        }
    }
}

/// The bytes of the patch. A patch without its type, and a type without a patch, is an error to an API server.
#[track_caller]
fn patch(endpoint: &str, response: &Value, answer: &Answer) -> Option<Vec<u8>> {
    let (patch, patch_type) = (response.get("patch"), response.get("patchType"));
    assert!(endpoint == "/mutate" || (patch.is_none() && patch_type.is_none()), "{endpoint} patches: {answer}");
    match (patch, patch_type) {
        (None, None) => None,
        (Some(Value::String(patch)), Some(patch_type)) => {
            assert_eq!(patch_type, "JSONPatch", "{answer}");
            let bytes = STANDARD.decode(patch).unwrap_or_else(|error| panic!("{error}: {answer}"));
            let operations: Vec<Value> = serde_json::from_slice(&bytes).expect("a list of operations");
            assert!(!operations.is_empty() && operations.len() <= 10_000, "{} operations: {answer}", operations.len());
            Some(bytes)
        }
        _ => panic!("a patch is base64 and has a type: {answer}"),
    }
}

/// The warnings. One with a control character would be dropped whole, and long ones are cut.
#[track_caller]
fn warnings(response: &Value, answer: &Answer) -> Vec<String> {
    let Some(warnings) = response.get("warnings") else { return Vec::new() };
    let warnings: Vec<String> = serde_json::from_value(warnings.clone()).expect("warnings are texts");
    for warning in &warnings {
        assert!(warning.chars().count() <= 256 && !warning.is_empty(), "{} characters: {answer}", warning.len());
        assert!(!warning.contains(char::is_control), "{warning:?}: {answer}");
    }
    assert!(warnings.iter().map(String::len).sum::<usize>() <= 4096, "an API server takes no more: {answer}");
    assert_eq!(warnings.iter().collect::<BTreeSet<_>>().len(), warnings.len(), "said twice: {answer}");
    warnings
}

/// Reads the review with the types of kube, which want a status in every answer and a patch as a list of numbers.
#[track_caller]
fn as_others_read_it(review: &Value, patch: Option<&[u8]>, verdict: &Verdict) {
    let mut review = review.clone();
    let response = review["response"].as_object_mut().unwrap();
    response.entry("status").or_insert_with(|| json!({}));
    if let Some(patch) = patch {
        response.insert("patch".into(), json!(patch));
    }
    let read: AdmissionReview<DynamicObject> =
        serde_json::from_value(review).unwrap_or_else(|error| panic!("{error}: {verdict}"));
    let response = read.response.unwrap_or_else(|| panic!("no response: {verdict}"));
    assert_eq!((&response.uid, response.allowed), (&verdict.uid, verdict.allowed), "{verdict}");
    assert_eq!(response.patch.as_deref(), patch, "{verdict}");
    assert_eq!(response.warnings.unwrap_or_default(), verdict.warnings, "{verdict}");
}

/// The rule and the path in the parentheses of a warning, and whether the fault was there before.
fn found(warning: &str) -> Option<(Found, bool)> {
    RULES.iter().find_map(|rule| {
        let (_, rest) = warning.split_once(&format!(" ({}", rule.name))?;
        let (note, rest) = match rest.strip_prefix(", ") {
            Some(rest) => rest.split_at(rest.find([',', ')'])?),
            None => ("", rest),
        };
        let path = match rest.trim_start_matches(',').strip_prefix(" at ") {
            Some(rest) => rest.split_once("); ")?.0,
            None => rest.starts_with("); ").then_some("")?,
        };
        Some(((rule.name.to_owned(), path.to_owned()), note == "existing fault"))
    })
}

/// Returns true if a denial has a finding of this rule at this path: a line that ends with the rule and the message, and
/// a line with the path. The text may be a message, or the output of a command.
pub(crate) fn has_finding(text: &str, rule: &str, path: &str) -> bool {
    let (start, place) = (format!("{rule}: "), format!("at {path}"));
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_named = |line: &str| line.starts_with(&start) || line.contains(&format!(" {start}"));
    lines.windows(2).any(|lines| is_named(lines[0]) && lines[1] == place)
}

pub(crate) fn borrowed(found: &[Found]) -> Vec<(&str, &str)> {
    found.iter().map(|(rule, path)| (rule.as_str(), path.as_str())).collect()
}

#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
