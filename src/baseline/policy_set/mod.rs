//! The policies folder, by layer.
//!
//! `policies/` holds plain manifests: `baseline/` for every namespace, `profiles/<name>/` and `access/<name>/` for
//! namespaces with the label for it, and `hatch/` for namespaces whose hatch is open. These are NetworkPolicies, which
//! are applied in each of these namespaces. `cilium/` and `calico/` hold the same folders in those dialects, as
//! cluster-wide policies that select namespaces by the same labels. A cluster uses one of the three sets.
//!
//! The desired policies of a namespace are a pure function of the folder and of the labels of the namespace.

mod check;

use std::collections::BTreeMap;
use std::fmt;

use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use crate::dialect;
use crate::model::{Labels, Namespaces, Object, Policy, Selector};
use crate::view::{SetName, Site};
use crate::yaml;

/// The folder that ships with Portcullis.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/policies");
/// The domain of the labels that the shipped policies select.
const SHIPPED_DOMAIN: &str = "network-policy.portcullis.dev/";

/// The policies of the folder, in each dialect that has any.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    kubernetes: Layers,
    cilium: Layers,
    calico: Layers,
}

/// The policies of one dialect.
#[derive(Clone, Debug, Default)]
struct Layers {
    baseline: Vec<Template>,
    profiles: BTreeMap<String, Vec<Template>>,
    access: BTreeMap<String, Vec<Template>>,
    hatch: Vec<Template>,
}

/// The layer of a policy in the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// For every namespace with a baseline.
    Baseline,
    /// For namespaces with this profile.
    Profile(String),
    /// For namespaces that are granted this access.
    Access(String),
    /// For namespaces whose hatch is open.
    Hatch,
}

impl Layer {
    /// Parses a layer from the layer label of an object.
    #[must_use]
    pub fn read(label: &str) -> Option<Self> {
        match label.split_once('.') {
            None if label == "baseline" => Some(Self::Baseline),
            None if label == "hatch" => Some(Self::Hatch),
            Some(("profile", name)) => Some(Self::Profile(name.to_owned())),
            Some(("access", name)) => Some(Self::Access(name.to_owned())),
            _ => None,
        }
    }

    /// Returns the value of the layer label.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Baseline => "baseline".to_owned(),
            Self::Profile(name) => format!("profile.{name}"),
            Self::Access(name) => format!("access.{name}"),
            Self::Hatch => "hatch".to_owned(),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Baseline => f.write_str("baseline"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::Access(name) => write!(f, "access {name}"),
            Self::Hatch => f.write_str("hatch"),
        }
    }
}

/// A manifest of the folder, without a namespace.
#[derive(Clone, Debug)]
pub struct Template {
    /// The manifest, without a namespace.
    pub value: Value,
    /// The parsed manifest.
    pub object: Object,
    /// The file of the manifest.
    file: String,
}

impl Template {
    /// Returns the namespaces that the cluster-wide policies in the manifest select.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Selector> {
        self.object.policies().iter().filter_map(|policy: &Policy| match &policy.subject.namespaces {
            Namespaces::Matching(selector) => Some(selector),
            Namespaces::Own(_) => None,
        })
    }

    /// Returns the manifest with this namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Value {
        let mut value = self.value.clone();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".into(), json!(namespace));
        }
        value
    }

    /// Returns true if the policy is cluster-wide.
    #[must_use]
    pub(crate) fn is_of_cluster(&self) -> bool {
        self.namespaces().next().is_some()
    }
}

/// An error in the policies folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Error {
    /// The file or folder, relative to the policies folder.
    pub file: String,
    /// The description of the error.
    pub problem: String,
}

impl PolicySet {
    /// Returns the policies that ship, with this domain in the labels that they select.
    ///
    /// # Errors
    /// Never, unless the build is broken: a test reads the shipped policies.
    pub fn shipped(label_domain: &str) -> Result<Self, Error> {
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
        let domain = format!("{label_domain}/");
        Self::read(found.into_iter().map(|(file, text)| (file, text.replace(SHIPPED_DOMAIN, &domain))))
    }

    /// Parses the policies in these files. Each file is a path, relative to the folder and with `/` as separator, and a
    /// text. Files whose name or place is not that of a manifest are skipped.
    ///
    /// # Errors
    /// Returns the first file that cannot be used, and the reason.
    pub fn read(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut set = Self::default();
        let mut files: Vec<(String, String)> = files.into_iter().collect();
        files.sort();
        for (file, text) in files {
            let parts: Vec<&str> = file.split('/').collect();
            let is_manifest = file.ends_with(".yaml") || file.ends_with(".yml") || file.ends_with(".json");
            let (layers, parts) = match parts.as_slice() {
                ["cilium", parts @ ..] => (&mut set.cilium, parts),
                ["calico", parts @ ..] => (&mut set.calico, parts),
                parts => (&mut set.kubernetes, parts),
            };
            let layer = match parts {
                _ if !is_manifest => continue,
                ["baseline", _] => &mut layers.baseline,
                ["profiles", name, _] => layers.profiles.entry((*name).to_owned()).or_default(),
                ["access", name, _] => layers.access.entry((*name).to_owned()).or_default(),
                ["hatch", _] => &mut layers.hatch,
                _ => continue,
            };
            for template in templates(&file, &text)? {
                layer.push(template);
            }
        }
        Ok(set)
    }

    /// Returns the policies of the configured set, each with its layer. Profiles and access names that are not
    /// configured are left out.
    #[must_use]
    pub(crate) fn by_layer(&self, site: &Site) -> Vec<(Layer, &Template)> {
        let (_, layers) = self.chosen(site);
        let profiles = site.profiles.names.iter();
        let profiles = profiles.map(|name| (Layer::Profile(name.clone()), layers.profiles.get(name)));
        let access = site.access.iter().map(|name| (Layer::Access(name.clone()), layers.access.get(name)));
        [(Layer::Baseline, Some(&layers.baseline))]
            .into_iter()
            .chain(profiles)
            .chain(access)
            .chain([(Layer::Hatch, Some(&layers.hatch))])
            .flat_map(|(layer, of)| of.into_iter().flatten().map(move |template| (layer.clone(), template)))
            .collect()
    }

    /// Returns the desired namespaced manifests of a namespace with these labels. Empty for platform namespaces and
    /// excluded namespaces.
    #[must_use]
    pub fn due(&self, site: &Site, namespace: &str, labels: &Labels) -> Vec<Value> {
        if site.is_left_alone(namespace) {
            return Vec::new();
        }
        self.templates(site, labels)
            .filter(|template| !template.is_of_cluster())
            .map(|template| template.in_namespace(namespace))
            .collect()
    }

    /// Returns the desired policies of a namespace with these labels, including the cluster-wide policies that select
    /// it.
    #[must_use]
    pub(crate) fn meant_for(&self, site: &Site, namespace: &str, labels: &Labels) -> Vec<&Policy> {
        if site.is_left_alone(namespace) {
            return Vec::new();
        }
        let is_selected = |policy: &&Policy| match &policy.subject.namespaces {
            Namespaces::Matching(selector) => selector.matches(labels),
            Namespaces::Own(_) => true,
        };
        self.templates(site, labels).flat_map(|template| template.object.policies()).filter(is_selected).collect()
    }

    /// Returns the templates of the baseline, and of the profile and access labels.
    pub(super) fn templates<'a>(
        &'a self,
        site: &Site,
        labels: &Labels,
    ) -> impl Iterator<Item = &'a Template> + use<'a> {
        let (_, layers) = self.chosen(site);
        let profile = labels.get(&site.profile_label()).and_then(|profile| layers.profiles.get(profile));
        let access = labels
            .iter()
            .filter(|(_, value)| *value == "true")
            .filter_map(|(label, _)| layers.access.get(site.access_name(label)?));
        let chosen: Vec<&Vec<Template>> = [&layers.baseline].into_iter().chain(profile).chain(access).collect();
        chosen.into_iter().flatten()
    }

    /// Returns the folder of the configured policy set, and its layers.
    fn chosen(&self, site: &Site) -> (&'static str, &Layers) {
        match site.policy_set {
            SetName::Kubernetes => ("", &self.kubernetes),
            SetName::Cilium => ("cilium/", &self.cilium),
            SetName::Calico => ("calico/", &self.calico),
        }
    }
}

fn templates(file: &str, text: &str) -> Result<Vec<Template>, Error> {
    let fault = |problem: String| Error { file: file.to_owned(), problem };
    let documents = yaml::read(text).map_err(|error| fault(error.to_string()))?;
    let mut templates = Vec::new();
    for document in documents.into_iter().flat_map(yaml::Document::items).filter(|one| !one.value.is_null()) {
        let at_line = |problem: String| fault(format!("line {}: {problem}", document.line));
        let field = |name: &str| document.value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (field("apiVersion"), field("kind"));
        let object = dialect::read_value(&document.value).map_err(|error| at_line(error.to_string()))?;
        let Some(object) = object.filter(|object| !object.policies().is_empty()) else {
            return Err(at_line(format!("`{api_version}` `{kind}` is not a supported network policy")));
        };
        if object.id.namespace.is_some() {
            return Err(at_line("metadata.namespace: must not be set; the controller fills it in".into()));
        }
        if object.id.name.is_empty() {
            return Err(at_line("metadata.name: a name is required".into()));
        }
        templates.push(Template { value: document.value, object, file: file.to_owned() });
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
    fn layers_read_what_they_write() {
        let access = Layer::Access("garage.s3".to_owned());
        for layer in [Layer::Baseline, Layer::Profile("internal-egress".to_owned()), access, Layer::Hatch] {
            assert_eq!(Layer::read(&layer.label()), Some(layer));
        }
        for other in ["", "profile", "profiles.standard", "hatch.x"] {
            assert_eq!(Layer::read(other), None, "{other}");
        }
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
            "baseline/a.yaml: line 1: `v1` `ConfigMap` is not a supported network policy"
        );
        let named = policy("a").replace("{name: a}", "{name: a, namespace: b}");
        assert!(fault("baseline/a.yaml", &named).contains("metadata.namespace: must not be set"));
        let site = Configuration::shipped().unwrap().site;
        let alone = Configuration::read(
            "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nprofiles: {names: [], default: null}\naccess: []\n",
        );
        let set = PolicySet::read([("hatch/a.yaml".to_owned(), policy("a"))]).unwrap();
        assert_eq!(
            set.check(&alone.unwrap().site).unwrap_err().to_string(),
            "hatch/a.yaml: metadata.name: `a` must start with `portcullis-` (`baseline.reservedPrefix`)"
        );
        assert_eq!(
            PolicySet::default().check(&site).unwrap_err().to_string(),
            "profiles/isolated: the configuration lists `isolated`, but the folder has no policies"
        );
    }
}
