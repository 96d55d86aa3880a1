//! The manifests in a file.

use std::path::Path as FilePath;

use serde_json::Value;

use super::{File, Problem, Skipped};
use crate::cli::variables::{self, Unresolved};
use crate::dialect::calico::{host_endpoint, network_set};
use crate::dialect::workload::operator_pods;
use crate::dialect::{self, Manifest, Origin, Patch, ReadError};
use crate::model::{Fix, Object, Path};
use crate::view::View;
use crate::yaml::{self, Document};

/// One manifest and its place.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Found {
    pub(in crate::cli) file: String,
    pub(in crate::cli) document: Document,
    /// The manifest as JSON.
    json: String,
    api_version: String,
    kind: String,
    /// The position of the document in the file.
    number: usize,
}

/// The contents of a file.
#[derive(Debug, Default)]
pub(in crate::cli) struct Contents {
    pub(in crate::cli) found: Vec<Found>,
    pub(in crate::cli) problems: Vec<Problem>,
    /// Set if the file is no manifest and the user did not name it.
    pub(in crate::cli) skipped: Option<Skipped>,
}

impl Found {
    /// Parses the object. None if no dialect reads its kind.
    pub(in crate::cli) fn read(&self) -> Result<Option<Object>, ReadError> {
        dialect::read(&self.manifest()?)
    }

    /// Adds objects that no dialect reads to a view: host endpoints, network sets, and pods that an operator creates from a custom
    /// resource.
    pub(in crate::cli) fn insert_unread(&self, view: &mut View) {
        if let Some(labels) = host_endpoint(&self.document.value) {
            view.insert_host_endpoint(labels);
        }
        if let Some(set) = network_set(&self.document.value) {
            view.insert_network_set(set);
        }
        if let Some(namespace) = operator_pods(&self.document.value) {
            view.insert_operator_pods(namespace);
        }
    }

    /// Returns a fix as a patch of the manifest. None if the dialect cannot express it.
    pub(in crate::cli) fn fix(&self, fix: &Fix) -> Option<Patch> {
        dialect::fix(fix, &self.manifest().ok()?)
    }

    /// Returns the position of the document in the file, and of the manifest in the list that it is an item of.
    pub(in crate::cli) fn position(&self) -> (usize, Option<usize>) {
        (self.number, self.document.item)
    }

    /// Returns true if the manifest names its namespace.
    pub(super) fn has_namespace(&self) -> bool {
        let namespace = self.document.value.pointer("/metadata/namespace");
        namespace.is_some_and(|namespace| !namespace.is_null() && namespace != "")
    }

    /// Returns the name and the namespace that the manifest sets.
    pub(in crate::cli) fn name_and_namespace(&self) -> [Option<String>; 2] {
        let text = |pointer| self.document.value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        [text("/metadata/name"), text("/metadata/namespace")]
    }

    /// Returns true if the manifest is a Namespace.
    pub(super) fn is_core_namespace(&self) -> bool {
        self.api_version == "v1" && self.kind == "Namespace"
    }

    /// Returns the same manifest with this namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Self {
        self.with_metadata("namespace", namespace)
    }

    /// Returns the same manifest with this name.
    pub(super) fn renamed(&self, name: &str) -> Self {
        self.with_metadata("name", name)
    }

    fn with_metadata(&self, field: &str, value: &str) -> Self {
        let mut found = self.clone();
        if let Some(metadata) = found.document.value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert(field.into(), value.into());
        }
        found.json = found.document.value.to_string();
        found
    }

    fn manifest(&self) -> Result<Manifest<'_>, ReadError> {
        Manifest::read(&self.api_version, &self.kind, &self.json, Origin::Author)
    }

    /// Returns the values that contain a variable.
    pub(in crate::cli) fn unresolved(&self) -> Vec<Unresolved> {
        if variables::may_have_some(&self.json) { variables::find(&self.document.value) } else { Vec::new() }
    }

    /// Returns a problem with a part of the manifest.
    pub(in crate::cli) fn problem(&self, path: &Path, message: String) -> Problem {
        Problem { file: self.file.clone(), line: Some(self.document.line_of(path)), message }
    }

    /// Returns file and line, for messages.
    pub(in crate::cli) fn place(&self) -> String {
        format!("{}:{}", self.file, self.document.line)
    }
}

impl File {
    /// Returns the folder of the file. None for standard input.
    pub(in crate::cli) fn folder(&self) -> Option<&FilePath> {
        self.path.as_deref().and_then(FilePath::parent)
    }

    /// Parses the manifests in the file. A broken document is one problem and does not hide the other documents.
    pub(in crate::cli) fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        let mut incomplete = Vec::new();
        let mut broken = Vec::new();
        let mut patches = Vec::new();
        for (number, document) in yaml::read_each(&self.text).into_iter().enumerate() {
            let document = match document {
                Ok(document) => document,
                Err(error) => {
                    broken.push(error);
                    continue;
                }
            };
            for document in document.items().into_iter().filter(|document| !document.value.is_null()) {
                if document.value.get("$patch").is_some() {
                    patches.push(document);
                    continue;
                }
                let field = |name: &str| document.value.get(name).and_then(Value::as_str).map(str::to_owned);
                if let (Some(api_version), Some(kind)) = (field("apiVersion"), field("kind")) {
                    let json = document.value.to_string();
                    let file = self.name.clone();
                    contents.found.push(Found { file, document, json, api_version, kind, number });
                } else {
                    incomplete.push(document);
                }
            }
        }
        let has_head =
            |document: &Document| document.value.get("apiVersion").is_some() || document.value.get("kind").is_some();
        let may_be_other = !self.is_named && contents.found.is_empty() && !incomplete.iter().any(has_head);
        let reason = match broken.first() {
            None if may_be_other && !incomplete.is_empty() => {
                Some("not a manifest: it has neither `apiVersion` nor `kind`")
            }
            Some(_) if may_be_other && !mentions_a_kind(&self.text) => {
                Some("not a manifest: it is not YAML and has no `kind`")
            }
            Some(_) if !self.is_named && has_actions(&self.text) => Some("a Go template"),
            None if may_be_other && !patches.is_empty() => Some("a strategic merge patch"),
            _ => None,
        };
        if let Some(reason) = reason {
            let skipped = Some(Skipped { file: self.name.clone(), reason });
            return Contents { skipped, ..Contents::default() };
        }
        let problem = |line: usize, message: String| Problem { file: self.name.clone(), line: Some(line), message };
        contents.problems.extend(incomplete.iter().map(|document| {
            problem(document.line, "not a Kubernetes object: `apiVersion` and `kind` are required".into())
        }));
        contents.problems.extend(patches.iter().map(|document| {
            problem(document.line, "a strategic merge patch (`$patch`), not a Kubernetes object".into())
        }));
        contents.problems.extend(broken.into_iter().map(|error| {
            let hint = self.hint(error.line);
            problem(error.line, format!("{}{hint}", error.problem))
        }));
        contents.problems.sort_by_key(|problem| problem.line);
        contents
    }

    /// Returns the probable reason why the text is not valid YAML.
    fn hint(&self, line: usize) -> String {
        let line = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        if has_actions(&self.text) {
            "; the file is a Go template, render it first".into()
        } else if let Some(variable) = variables::first(line) {
            format!("; the line contains the unresolved variable `{variable}`")
        } else {
            String::new()
        }
    }
}

/// Returns true if a text that is not YAML may be a manifest.
pub(super) fn mentions_a_kind(text: &str) -> bool {
    ["kind:", "\"kind\"", "'kind'", "apiVersion"].iter().any(|name| text.contains(name))
}

/// Returns true if a line has a Go template action where YAML has a value or the start of a line. An action in quotes
/// is plain text.
fn has_actions(text: &str) -> bool {
    text.lines().any(|line| {
        let Some((before, after)) = line.split_once("{{") else { return false };
        let before = before.trim_end();
        let is_open =
            before.is_empty() || before.ends_with(':') || before.ends_with('-') || before.ends_with(['[', ',', '{']);
        is_open && after.contains("}}")
    })
}
