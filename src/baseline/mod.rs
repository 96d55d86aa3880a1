//! Which policies a namespace is due.
//!
//! `policies/` holds plain manifests: `baseline/` for every namespace, `profiles/<name>/` and `access/<name>/` for those
//! that ask for them by label. What a namespace is due is a pure function of that folder and of its labels.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use crate::dialect::{self, Origin};
use crate::manifest;
use crate::model::{Labels, Object};
use crate::view::Site;

/// The folder that ships.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/policies");

/// The policies that namespaces can be due.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    baseline: Vec<Template>,
    profiles: BTreeMap<String, Vec<Template>>,
    access: BTreeMap<String, Vec<Template>>,
}

/// A manifest for whichever namespace is due it.
#[derive(Clone, Debug)]
pub struct Template {
    /// The manifest, without a namespace.
    pub value: Value,
    /// What it means.
    pub object: Object,
}

/// A folder of policies that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Error {
    /// The file, or the folder, within the folder of policies.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

impl PolicySet {
    /// The policies that ship.
    ///
    /// # Errors
    /// None, unless the build is broken: a test reads them.
    pub fn shipped() -> Result<Self, Error> {
        fn files<'a>(dir: &Dir<'a>, found: &mut Vec<(String, String)>) {
            for file in dir.files() {
                let text = file.contents_utf8().unwrap_or_default();
                found.push((file.path().to_string_lossy().into_owned(), text.to_owned()));
            }
            for dir in dir.dirs() {
                files(dir, found);
            }
        }
        let mut found = Vec::new();
        files(&SHIPPED, &mut found);
        Self::read(found)
    }

    /// The policies in these files: paths within the folder, with `/` between their parts, and texts. Files that are no
    /// manifests by their name or their place are passed over.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn read(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut set = Self::default();
        let mut files: Vec<(String, String)> = files.into_iter().collect();
        files.sort();
        for (file, text) in files {
            let parts: Vec<&str> = file.split('/').collect();
            let is_manifest = file.ends_with(".yaml") || file.ends_with(".yml") || file.ends_with(".json");
            let layer = match parts.as_slice() {
                _ if !is_manifest => continue,
                ["baseline", _] => &mut set.baseline,
                ["profiles", name, _] => set.profiles.entry((*name).to_owned()).or_default(),
                ["access", name, _] => set.access.entry((*name).to_owned()).or_default(),
                _ => continue,
            };
            for template in templates(&file, &text)? {
                layer.push(template);
            }
        }
        Ok(set)
    }

    /// Whether there is a folder for every name that the configuration has.
    ///
    /// # Errors
    /// The first name without a folder.
    pub fn check(&self, site: &Site) -> Result<(), Error> {
        for (layer, names, known) in
            [("profiles", &site.profiles.names, &self.profiles), ("access", &site.access, &self.access)]
        {
            if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
                let problem = format!("the configuration names `{name}`, and there are no policies for it");
                return Err(Error { file: format!("{layer}/{name}"), problem });
            }
        }
        Ok(())
    }

    /// The manifests that a namespace with these labels is due. Namespaces of the platform and those that are excluded
    /// are due none.
    #[must_use]
    pub fn due(&self, site: &Site, namespace: &str, labels: &Labels) -> Vec<Value> {
        if site.is_platform(namespace) || site.is_excluded(namespace) {
            return Vec::new();
        }
        let profile = labels.get(&site.profile_label()).and_then(|profile| self.profiles.get(profile));
        let access = labels
            .iter()
            .filter(|(_, value)| *value == "true")
            .filter_map(|(label, _)| self.access.get(site.access_name(label)?));
        [&self.baseline]
            .into_iter()
            .chain(profile)
            .chain(access)
            .flatten()
            .map(|template| {
                let mut value = template.value.clone();
                if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert("namespace".into(), json!(namespace));
                }
                value
            })
            .collect()
    }
}

fn templates(file: &str, text: &str) -> Result<Vec<Template>, Error> {
    let fault = |problem: String| Error { file: file.to_owned(), problem };
    let documents = manifest::read(text).map_err(|error| fault(error.to_string()))?;
    let mut templates = Vec::new();
    for document in documents.into_iter().flat_map(manifest::Document::items).filter(|one| !one.value.is_null()) {
        let at_line = |problem: String| fault(format!("line {}: {problem}", document.line));
        let field = |name: &str| document.value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (field("apiVersion"), field("kind"));
        let json = document.value.to_string();
        let object = dialect::Manifest::read(api_version, kind, &json, Origin::Author)
            .and_then(|manifest| dialect::read(&manifest))
            .map_err(|error| at_line(error.to_string()))?;
        let Some(object) = object.filter(|object| !object.policies().is_empty()) else {
            return Err(at_line(format!("`{api_version}` `{kind}` is not a network policy that is understood")));
        };
        if object.id.namespace.is_some() {
            return Err(at_line(
                "metadata.namespace: it has to be left out; it is filled in for each namespace".into(),
            ));
        }
        if object.id.name.is_empty() {
            return Err(at_line("metadata.name: a name is needed".into()));
        }
        templates.push(Template { value: document.value, object });
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}}}\n"
        )
    }

    fn set() -> PolicySet {
        PolicySet::read([
            ("baseline/deny.yaml".into(), policy("deny")),
            ("profiles/standard/out.yaml".into(), policy("out")),
            ("profiles/isolated/none.yaml".into(), policy("none")),
            ("access/postgres/db.yaml".into(), policy("db")),
            ("README.md".into(), "not a manifest".into()),
            ("portcullis.yaml".into(), "not: [in, a, layer".into()),
        ])
        .unwrap()
    }

    fn due(namespace: &str, labels: &[(&str, &str)]) -> Vec<String> {
        let site = Configuration::shipped().unwrap().site;
        let labels: Labels = labels.iter().copied().collect();
        let manifests = set().due(&site, namespace, &labels);
        assert!(manifests.iter().all(|manifest| manifest["metadata"]["namespace"] == namespace));
        manifests.iter().map(|manifest| manifest["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_namespace_is_due_the_baseline_and_what_its_labels_ask_for() {
        let domain = "network-policy.portcullis.dev";
        let (profile, postgres) = (format!("{domain}/profile"), format!("access.{domain}/postgres"));
        assert_eq!(due("shop", &[]), ["deny"]);
        assert_eq!(due("shop", &[(&profile, "standard")]), ["deny", "out"]);
        assert_eq!(due("shop", &[(&profile, "isolated"), (&postgres, "true")]), ["deny", "none", "db"]);
        assert_eq!(due("shop", &[(&profile, "unknown"), (&postgres, "yes")]), ["deny"]);
    }

    #[test]
    fn the_platform_and_what_is_excluded_are_due_nothing() {
        assert!(due("kube-system", &[]).is_empty());
        assert!(due("default", &[]).is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let fault =
            |file: &str, text: &str| PolicySet::read([(file.to_owned(), text.to_owned())]).unwrap_err().to_string();
        assert_eq!(
            fault("baseline/a.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
            "baseline/a.yaml: line 1: `v1` `ConfigMap` is not a network policy that is understood"
        );
        let named = policy("a").replace("{name: a}", "{name: a, namespace: b}");
        assert!(fault("baseline/a.yaml", &named).contains("metadata.namespace: it has to be left out"));
        let site = Configuration::shipped().unwrap().site;
        assert_eq!(
            PolicySet::default().check(&site).unwrap_err().to_string(),
            "profiles/isolated: the configuration names `isolated`, and there are no policies for it"
        );
    }
}
