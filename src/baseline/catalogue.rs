//! The policies of the folder as the controller writes them, and what an API server makes of each.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::policy_set::{Layer, PolicySet};
use crate::dialect;
use crate::model::{Labels, ObjectRef, Selector};
use crate::view::{BaselineScope, NamespaceFacts, Owned, Site};

/// The namespace of the cluster's own DNS, proxies and controllers.
const KUBE_SYSTEM: &str = "kube-system";

/// Every policy that can be due, as it is written.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// What is said about the cluster.
    pub site: Arc<Site>,
    /// Since when Portcullis is in the cluster, as far as that is known.
    pub installed: Option<Timestamp>,
    /// The namespace of Portcullis itself, as far as that is known.
    pub home: Option<Arc<str>>,
    entries: Vec<Entry>,
}

/// A policy as it is written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// For what it is there.
    pub layer: Layer,
    /// Which object, but for the namespace.
    pub id: ObjectRef,
    /// The manifest, with the labels and annotations of the controller, and without a namespace.
    pub manifest: Value,
    /// Whether it is there once, for the cluster.
    pub of_cluster: bool,
    /// The namespaces that it selects, if it is.
    selects: Vec<Selector>,
    /// What the API server makes of it, once that is known.
    stored: Option<Stored>,
}

/// What an API server stores of a manifest: it fills in what was left out.
#[derive(Clone, Debug)]
struct Stored {
    fingerprint: u64,
    spec: Option<Value>,
    specs: Option<Value>,
}

impl Catalogue {
    /// The policies of the set that the site chooses.
    #[must_use]
    pub fn of(site: Arc<Site>, policies: &PolicySet) -> Self {
        let entries = policies.by_layer(&site).into_iter().map(|(layer, template)| Entry {
            manifest: written(&site, &layer, &template.value),
            id: template.object.id.clone(),
            of_cluster: template.is_of_cluster(),
            selects: template.namespaces().cloned().collect(),
            layer,
            stored: None,
        });
        let entries = entries.collect();
        Self { site, installed: None, home: None, entries }
    }

    /// All of them.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Notes what an API server made of an entry.
    pub fn learn(&mut self, position: usize, object: &Value) {
        let fingerprint = self.fingerprint(object);
        if let Some(entry) = self.entries.get_mut(position) {
            let part = |name: &str| object.get(name).filter(|part| !part.is_null()).cloned();
            entry.stored = Some(Stored { fingerprint, spec: part("spec"), specs: part("specs") });
        }
    }

    /// Takes over what is known of the policies that an earlier catalogue has too.
    pub(super) fn remember(&mut self, before: &Self) {
        let names = |site: &Site| (site.owned_labels(), site.owned_annotations());
        if names(&self.site) != names(&before.site) {
            return;
        }
        for entry in &mut self.entries {
            let same = before.entries.iter().find(|known| known.manifest == entry.manifest);
            entry.stored = same.and_then(|known| known.stored.clone());
        }
    }

    /// What a stored object comes to, as the view has it too.
    #[must_use]
    pub fn fingerprint(&self, object: &Value) -> u64 {
        let (labels, annotations) = (self.site.owned_labels(), self.site.owned_annotations());
        let annotations: Vec<&str> = annotations.iter().map(String::as_str).collect();
        dialect::fingerprint(object, &labels.each_ref().map(String::as_str), &annotations)
    }

    /// Whether there are policies of a layer at all.
    #[must_use]
    pub fn has(&self, layer: &Layer) -> bool {
        self.entries.iter().any(|entry| entry.layer == *layer)
    }

    /// Whether there is a policy of the cluster that opens the hatch of every namespace with the label for it.
    #[must_use]
    pub fn has_hatch_of_cluster(&self) -> bool {
        self.entries.iter().any(|entry| entry.layer == Layer::Hatch && entry.of_cluster)
    }

    /// Whether a namespace gets a baseline. Those of the platform and those that are excluded never do.
    #[must_use]
    pub fn is_due(&self, name: &str, labels: &Labels) -> bool {
        self.is_open_to(name) && self.site.wants_baseline(labels)
    }

    /// Whether a namespace would be due a baseline if `/mutate` had been asked when it was made: it was made since Portcullis
    /// is there, and carries none of its labels.
    #[must_use]
    pub fn was_missed(&self, name: &str, labels: &Labels, facts: &NamespaceFacts) -> bool {
        let site = &self.site;
        self.is_open_to(name)
            // Otherwise it was seen to, and the labels were taken away since.
            && facts.annotations.get(&site.status_annotation()).is_none()
            && site.baseline.namespaces == BaselineScope::New
            && [site.baseline_label(), site.profile_label()].iter().all(|label| labels.get(label).is_none())
            && self.installed.zip(facts.created).is_some_and(|(installed, created)| created > installed)
    }

    /// Whether a namespace is neither of the platform nor excluded. Those that no webhook is asked about are of the platform
    /// whatever the configuration says: a default-deny in kube-system would take DNS from everybody, and nothing would refuse
    /// it.
    #[must_use]
    pub fn is_open_to(&self, name: &str) -> bool {
        let is_ours = name == KUBE_SYSTEM || self.home.as_deref() == Some(name);
        !is_ours && !self.site.is_left_alone(name)
    }

    /// Whether any policy of these layers is for a namespace with these labels: policies of the cluster select some
    /// namespaces only. Where there are none at all, nothing is missing.
    #[must_use]
    pub fn reaches(&self, layers: &[Layer], labels: &Labels) -> bool {
        let mut entries = self.entries.iter().filter(|entry| layers.contains(&entry.layer)).peekable();
        entries.peek().is_none() || entries.any(|entry| entry.is_for(labels))
    }

    /// The profile of a namespace, if it has one that is known.
    #[must_use]
    pub fn profile(&self, labels: &Labels) -> Option<Layer> {
        self.site.profile(labels).map(|name| Layer::Profile(name.to_owned()))
    }

    /// The layers that a namespace which is due a baseline is due, but for the hatch.
    #[must_use]
    pub fn layers(&self, labels: &Labels) -> Vec<Layer> {
        let granted = |name: &&String| labels.get(&self.site.access_label(name)) == Some("true");
        let access = self.site.access.iter().filter(granted).cloned().map(Layer::Access);
        [Layer::Baseline].into_iter().chain(self.profile(labels)).chain(access).collect()
    }
}

impl Entry {
    /// Whether it is for namespaces with these labels: put into each, or there for those that it selects.
    #[must_use]
    pub fn is_for(&self, labels: &Labels) -> bool {
        !self.of_cluster || self.selects.iter().any(|selector| selector.matches(labels))
    }

    /// Whether this is the object, wherever it is.
    #[must_use]
    pub fn is(&self, object: &ObjectRef) -> bool {
        self.id.name == object.name && self.is_same_kind(object)
    }

    /// Returns true if an object has the kind of this entry.
    #[must_use]
    pub fn is_same_kind(&self, object: &ObjectRef) -> bool {
        self.id.kind == object.kind && self.id.group() == object.group()
    }

    /// Whether one of these is this entry as it is to be.
    #[must_use]
    pub fn is_among(&self, owned: &[Owned]) -> bool {
        owned.iter().any(|owned| {
            self.is(&owned.object)
                && owned.is_applied
                && owned.domain.is_none()
                && *owned.layer == *self.layer.label()
                // Before that is known, what it carries has to do.
                && self.stored.as_ref().is_none_or(|stored| stored.fingerprint == owned.fingerprint)
        })
    }

    /// Whether it is known what the API server makes of it.
    #[must_use]
    pub fn is_learnt(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether a stored object with this fingerprint is as it is to be.
    #[must_use]
    pub fn comes_to(&self, fingerprint: u64) -> bool {
        self.stored.as_ref().is_none_or(|stored| stored.fingerprint == fingerprint)
    }

    /// The operations of a JSON patch that make the rest of a stored object what it is to be.
    #[must_use]
    pub fn repair(&self, object: &Value) -> Value {
        let mut operations = Vec::new();
        if let Some(version) = object.pointer("/metadata/resourceVersion") {
            operations.push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
        }
        for (part, wanted) in [
            ("spec", self.stored.as_ref().and_then(|stored| stored.spec.as_ref())),
            ("specs", self.stored.as_ref().and_then(|stored| stored.specs.as_ref())),
        ] {
            let path = format!("/{part}");
            match (object.get(part), wanted) {
                (found, Some(wanted)) if found != Some(wanted) => {
                    operations.push(json!({"op": "add", "path": path, "value": wanted}));
                }
                (Some(_), None) => operations.push(json!({"op": "remove", "path": path})),
                _ => {}
            }
        }
        Value::Array(operations)
    }
}

/// A manifest with the labels and annotations of the controller.
fn written(site: &Site, layer: &Layer, template: &Value) -> Value {
    let mut manifest = template.clone();
    let labels = site.owned_labels().into_iter().zip([layer.label(), "portcullis".to_owned()]);
    let annotations = site.baseline.annotations.iter().map(|(key, value)| (key.clone(), value.clone()));
    // What else of its metadata is the template's cannot be told from what others write there.
    let annotations = annotations.chain([(site.template_annotation(), digest(template))]);
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        add(metadata, "labels", labels);
        add(metadata, "annotations", annotations);
    }
    if let Some(manifest) = manifest.as_object_mut() {
        manifest.remove("status");
    }
    manifest
}

/// A number for a template, the same in every build: FNV-1a.
fn digest(template: &Value) -> String {
    let text = template.to_string();
    let digest = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{digest:016x}")
}

fn add(metadata: &mut Map<String, Value>, part: &str, entries: impl Iterator<Item = (String, String)>) {
    let map = metadata.entry(part).or_insert(Value::Null);
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    if let Some(map) = map.as_object_mut() {
        map.extend(entries.map(|(key, value)| (key, Value::String(value))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_same_in_every_build() {
        assert_eq!(digest(&json!({"b": 1, "a": [null]})), digest(&json!({"a": [null], "b": 1})));
        assert_eq!(digest(&json!("")), "07cc7607b4949e25");
    }
}
