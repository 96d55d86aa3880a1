//! Kustomization files: the files that they list, and what they change in the manifests of these files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::read_file;
use crate::dialect;
use crate::yaml::{self, Document};

/// A kustomization file. Paths are absolute, with symbolic links resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Kustomization {
    pub(super) namespace: Option<String>,
    /// The manifest files that it lists as resources.
    pub(super) resources: BTreeSet<PathBuf>,
    /// The folders of the kustomizations that it lists as resources.
    pub(super) bases: Vec<PathBuf>,
    /// The folders of its components, whose changes apply to its own resources too.
    pub(super) components: Vec<PathBuf>,
    /// The files of its patches.
    pub(super) patches: BTreeSet<PathBuf>,
    /// The objects that its patches delete.
    pub(super) deletions: Vec<Deletion>,
    /// True if it changes objects in a way that only kustomize can tell.
    pub(super) has_patches: bool,
}

/// The names of a kustomization file.
pub(in crate::cli) const KUSTOMIZATION_FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

impl Kustomization {
    /// Reads the kustomization in a folder. None if the folder has no readable kustomization file.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = KUSTOMIZATION_FILES.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
        let mut kustomization = Self::default();
        let Some(Ok(Document { value, .. })) = yaml::read_each(&text).into_iter().next() else {
            return Some(kustomization);
        };
        let list = |name: &str| value.get(name).and_then(Value::as_array).into_iter().flatten();
        let path = |path: &str| fs::canonicalize(folder.join(path)).ok();
        let paths = |name: &'static str| list(name).filter_map(Value::as_str).filter_map(path);
        kustomization.namespace =
            value.get("namespace").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
        (kustomization.bases, kustomization.resources) = split(["resources", "bases"].into_iter().flat_map(paths));
        kustomization.components = paths("components").filter(|path| path.is_dir()).collect();
        kustomization.has_patches =
            ["replacements", "transformers"].into_iter().any(|name| list(name).next().is_some());
        for patch in list("patchesStrategicMerge").filter_map(Value::as_str) {
            match path(patch) {
                Some(file) => kustomization.add_file(file, None),
                None => kustomization.add(patch, None),
            }
        }
        for patch in ["patches", "patchesJson6902"].into_iter().flat_map(list) {
            let (text, target) = (|name: &str| patch.get(name).and_then(Value::as_str), patch.get("target"));
            if let Some(file) = text("path").and_then(path) {
                kustomization.add_file(file, target);
            }
            if let Some(patch) = text("patch") {
                kustomization.add(patch, target);
            }
        }
        Some(kustomization)
    }

    fn add_file(&mut self, file: PathBuf, target: Option<&Value>) {
        // Reading a pipe would wait for its writer.
        match Some(&file).filter(|file| file.is_file()).map(|file| read_file(file)) {
            Some(Ok(text)) => self.add(&text, target),
            _ => self.has_patches = true,
        }
        self.patches.insert(file);
    }

    /// Adds the text of a patch.
    fn add(&mut self, text: &str, target: Option<&Value>) {
        for document in yaml::read_each(text) {
            let Ok(document) = document else {
                self.has_patches = true;
                continue;
            };
            for patch in document.items().into_iter().map(|document| document.value).filter(|patch| !patch.is_null()) {
                match Deletion::of(&patch, target) {
                    Some(deletion) => self.deletions.push(deletion),
                    None => self.has_patches |= is_for_read_kind(&patch, target),
                }
            }
        }
    }
}

/// Separates the folders from the files.
fn split(paths: impl Iterator<Item = PathBuf>) -> (Vec<PathBuf>, BTreeSet<PathBuf>) {
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| path.is_dir());
    (folders, files.into_iter().collect())
}

/// Returns false if a patch is for a kind that no dialect reads.
fn is_for_read_kind(patch: &Value, target: Option<&Value>) -> bool {
    let kind = target.map_or_else(|| patch.get("kind"), |target| target.get("kind")).and_then(Value::as_str);
    // The kind of a target is a regular expression.
    kind.is_none_or(|kind| !is_literal(kind) || dialect::reads_kind(kind))
}

/// An object that a patch deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    /// None for any group.
    group: Option<String>,
    kind: String,
    /// None for any namespace.
    namespace: Option<String>,
    name: String,
}

impl Deletion {
    /// Reads a patch that deletes one object. None for another patch, and for a target that is a pattern.
    fn of(patch: &Value, target: Option<&Value>) -> Option<Self> {
        if patch.get("$patch").and_then(Value::as_str) != Some("delete") {
            return None;
        }
        let text = |from: &Value, pointer: &str| {
            from.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let deletion = match target {
            None => Self {
                group: text(patch, "/apiVersion").map(|version| group_of(&version).to_owned()),
                kind: text(patch, "/kind")?,
                namespace: text(patch, "/metadata/namespace"),
                name: text(patch, "/metadata/name")?,
            },
            Some(target) => {
                let has_selector =
                    ["labelSelector", "annotationSelector"].iter().any(|name| target.get(name).is_some());
                if has_selector {
                    return None;
                }
                Self {
                    group: text(target, "/group"),
                    kind: text(target, "/kind")?,
                    namespace: text(target, "/namespace"),
                    name: text(target, "/name")?,
                }
            }
        };
        let parts = [deletion.group.as_ref(), Some(&deletion.kind), deletion.namespace.as_ref(), Some(&deletion.name)];
        let are_literal = parts.into_iter().flatten().all(|part| is_literal(part));
        are_literal.then_some(deletion)
    }

    /// Returns true if it deletes the object of this manifest.
    pub(super) fn applies_to(&self, manifest: &Value) -> bool {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        text("/kind") == Some(&self.kind)
            && text("/metadata/name") == Some(&self.name)
            && self.group.as_deref().is_none_or(|group| text("/apiVersion").map(group_of) == Some(group))
            && self.namespace.as_deref().is_none_or(|namespace| text("/metadata/namespace") == Some(namespace))
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Returns true if a regular expression that has to match a whole name matches the same name literally.
fn is_literal(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deletion_is_for_one_object() {
        let patch = json!({"$patch": "delete", "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}});
        let object = |namespace: Value, name: &str| {
            let metadata = json!({"name": name, "namespace": namespace});
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata})
        };
        let of_any = Deletion::of(&patch, None).unwrap();
        assert!(of_any.applies_to(&object(json!("x"), "a")) && of_any.applies_to(&object(Value::Null, "a")));
        assert!(!of_any.applies_to(&object(json!("x"), "b")));
        let target = json!({"kind": "NetworkPolicy", "name": "b", "namespace": "x"});
        let of_target = Deletion::of(&patch, Some(&target)).unwrap();
        assert!(of_target.applies_to(&object(json!("x"), "b")) && !of_target.applies_to(&object(json!("y"), "b")));
        for target in [json!({"kind": "NetworkPolicy"}), json!({"kind": "NetworkPolicy", "name": "a.*"})] {
            assert_eq!(Deletion::of(&patch, Some(&target)), None, "{target}");
        }
        assert_eq!(Deletion::of(&object(Value::Null, "a"), None), None);
    }
}
