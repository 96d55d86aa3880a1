//! The policies of the policies folder as the controller applies them, with the result of a dry run for each.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fill::fill;
use super::policy_set::{Layer, PolicySet};
use crate::dialect;
use crate::model::{ApiServer, Labels, ObjectRef, Selector};
use crate::view::{BaselineScope, NamespaceFacts, Owned, Site};

/// The namespace of the cluster DNS, the kube-proxies and the controllers of Kubernetes.
const KUBE_SYSTEM: &str = "kube-system";

/// All policies that the controller can apply.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// The part of the configuration that describes the cluster.
    pub site: Arc<Site>,
    /// The time at which Portcullis was installed, if it is known.
    pub installed: Option<Timestamp>,
    /// The namespace of Portcullis itself, if it is known.
    pub home: Option<Arc<str>>,
    entries: Vec<Entry>,
}

/// A policy as the controller applies it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The layer of the policy.
    pub layer: Layer,
    /// The object, without a namespace.
    pub id: ObjectRef,
    /// The manifest, with the labels and annotations of the controller, and without a namespace.
    pub manifest: Value,
    /// True if the policy is cluster-wide.
    pub of_cluster: bool,
    /// True if the policy waits for the endpoints of the API server. Until they are known, a stored policy stays as it
    /// is.
    pub waits: bool,
    /// The namespaces that a cluster-wide policy selects.
    selects: Vec<Selector>,
    /// The object that the API server would store, once a dry run has returned it.
    stored: Option<Stored>,
}

/// The stored form of a manifest, with the defaults of the API server.
#[derive(Clone, Debug)]
struct Stored {
    fingerprint: u64,
    spec: Option<Value>,
    specs: Option<Value>,
}

impl Catalogue {
    /// Creates the catalogue of the policies that the site selects from a set, while the endpoints of the API server are
    /// unknown.
    #[must_use]
    pub fn of(site: Arc<Site>, policies: &PolicySet) -> Self {
        Self::filled(site, policies, None)
    }

    /// Creates the catalogue of the policies that the site selects from a set, with the endpoints of the API server
    /// filled in.
    #[must_use]
    pub fn filled(site: Arc<Site>, policies: &PolicySet, api_server: Option<&ApiServer>) -> Self {
        let entries = policies.by_layer(&site).into_iter().map(|(layer, template)| {
            let mut value = template.value.clone();
            let is_complete = fill(&site, &mut value, api_server);
            Entry {
                manifest: written(&site, &layer, &value),
                id: template.object.id.clone(),
                of_cluster: template.is_of_cluster(),
                waits: !is_complete,
                selects: template.namespaces().cloned().collect(),
                layer,
                stored: None,
            }
        });
        let entries = entries.collect();
        Self { site, installed: None, home: None, entries }
    }

    /// All entries. The steps of a plan refer to them by position.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Records the object that a dry run of an entry returned.
    pub fn record_dry_run(&mut self, position: usize, object: &Value) {
        let fingerprint = self.fingerprint(object);
        if let Some(entry) = self.entries.get_mut(position) {
            let part = |name: &str| object.get(name).filter(|part| !part.is_null()).cloned();
            entry.stored = Some(Stored { fingerprint, spec: part("spec"), specs: part("specs") });
        }
    }

    /// Copies the dry-run results of the policies that an earlier catalogue has too. If the label or annotation names
    /// of the controller differ, nothing is copied.
    pub(crate) fn remember(&mut self, before: &Self) {
        let names = |site: &Site| (site.owned_labels(), site.owned_annotations());
        if names(&self.site) != names(&before.site) {
            return;
        }
        for entry in &mut self.entries {
            let same = before.entries.iter().find(|known| known.manifest == entry.manifest);
            entry.stored = same.and_then(|known| known.stored.clone());
        }
    }

    /// Returns the fingerprint of a stored object. It is comparable with the fingerprints in the view.
    #[must_use]
    pub fn fingerprint(&self, object: &Value) -> u64 {
        let (labels, annotations) = (self.site.owned_labels(), self.site.owned_annotations());
        let annotations: Vec<&str> = annotations.iter().map(String::as_str).collect();
        dialect::fingerprint(object, &labels.each_ref().map(String::as_str), &annotations)
    }

    /// Returns true if a layer has at least one policy.
    #[must_use]
    pub fn has(&self, layer: &Layer) -> bool {
        self.entries.iter().any(|entry| entry.layer == *layer)
    }

    /// Returns true if a policy of a layer waits for the endpoints of the API server.
    #[must_use]
    pub fn waits(&self, layer: &Layer) -> bool {
        self.entries.iter().any(|entry| entry.layer == *layer && entry.waits)
    }

    /// Returns true if a cluster-wide policy opens the hatch of every namespace with the hatch label.
    #[must_use]
    pub(crate) fn has_hatch_of_cluster(&self) -> bool {
        self.entries.iter().any(|entry| entry.layer == Layer::Hatch && entry.of_cluster)
    }

    /// Returns true if a namespace gets a baseline. Platform namespaces and excluded namespaces never get one.
    #[must_use]
    pub(crate) fn is_due(&self, name: &str, labels: &Labels) -> bool {
        self.is_open_to(name) && self.site.wants_baseline(labels)
    }

    /// Returns true if a namespace has no baseline only because `/mutate` was not called when it was created: it was
    /// created after Portcullis was installed, and has neither a baseline label nor a profile label.
    #[must_use]
    pub(crate) fn was_missed(&self, name: &str, labels: &Labels, facts: &NamespaceFacts) -> bool {
        let site = &self.site;
        self.is_open_to(name)
            // A status annotation shows that the namespace was reconciled, and that its labels were removed since.
            && facts.annotations.get(&site.status_annotation()).is_none()
            && site.baseline.namespaces == BaselineScope::New
            && [site.baseline_label(), site.profile_label()].iter().all(|label| labels.get(label).is_none())
            && self.installed.zip(facts.created).is_some_and(|(installed, created)| created > installed)
    }

    /// Returns true if a namespace is neither a platform namespace nor excluded.
    ///
    /// `kube-system` and the namespace of Portcullis count as platform namespaces whatever the configuration says. No
    /// webhook is called for them, so Portcullis could not deny a default deny in `kube-system`, which would cut off
    /// DNS for the whole cluster.
    #[must_use]
    pub(crate) fn is_open_to(&self, name: &str) -> bool {
        let is_ours = name == KUBE_SYSTEM || self.home.as_deref() == Some(name);
        !is_ours && !self.site.is_left_alone(name)
    }

    /// Returns true if a policy of these layers applies to a namespace with these labels, or if the layers have no
    /// policies. Cluster-wide policies select only some namespaces.
    #[must_use]
    pub fn reaches(&self, layers: &[Layer], labels: &Labels) -> bool {
        let mut entries = self.entries.iter().filter(|entry| layers.contains(&entry.layer)).peekable();
        entries.peek().is_none() || entries.any(|entry| entry.is_for(labels))
    }

    /// Returns the profile of a namespace, if it has one that is configured.
    #[must_use]
    pub fn profile(&self, labels: &Labels) -> Option<Layer> {
        self.site.profile(labels).map(|name| Layer::Profile(name.to_owned()))
    }

    /// Returns the desired layers of a namespace with a baseline, without the hatch.
    #[must_use]
    pub fn layers(&self, labels: &Labels) -> Vec<Layer> {
        let granted = |name: &&String| labels.get(&self.site.access_label(name)) == Some("true");
        let access = self.site.access.iter().filter(granted).cloned().map(Layer::Access);
        [Layer::Baseline].into_iter().chain(self.profile(labels)).chain(access).collect()
    }
}

impl Entry {
    /// Returns true if the policy is for namespaces with these labels. A namespaced policy is for every namespace, a
    /// cluster-wide one for the namespaces that it selects.
    #[must_use]
    pub(crate) fn is_for(&self, labels: &Labels) -> bool {
        !self.of_cluster || self.selects.iter().any(|selector| selector.matches(labels))
    }

    /// Returns true if an object is this policy, in any namespace.
    #[must_use]
    pub fn is(&self, object: &ObjectRef) -> bool {
        self.id.name == object.name && self.is_same_kind(object)
    }

    /// Returns true if an object has the kind of this entry.
    #[must_use]
    pub(crate) fn is_same_kind(&self, object: &ObjectRef) -> bool {
        self.id.kind == object.kind && self.id.group() == object.group()
    }

    /// Returns true if one of these objects is this policy in its desired state.
    #[must_use]
    pub(crate) fn is_among(&self, owned: &[Owned]) -> bool {
        owned.iter().any(|owned| {
            self.is(&owned.object)
                && owned.is_applied
                && owned.domain.is_none()
                && *owned.layer == *self.layer.label()
                // Before the dry run, only the labels and the field manager are compared.
                && self.stored.as_ref().is_none_or(|stored| stored.fingerprint == owned.fingerprint)
        })
    }

    /// Returns true if a dry run has returned the stored form of the policy, or if the policy waits and needs none.
    #[must_use]
    pub(crate) fn has_dry_run(&self) -> bool {
        self.waits || self.stored.is_some()
    }

    /// Returns true if a stored object with this fingerprint has the desired state. Always true before the dry run.
    #[must_use]
    pub(crate) fn comes_to(&self, fingerprint: u64) -> bool {
        self.stored.as_ref().is_none_or(|stored| stored.fingerprint == fingerprint)
    }

    /// The digest of the manifest, which differs for each version of the file and of what is filled in.
    pub(crate) fn digest(&self) -> u64 {
        hash(&self.manifest)
    }

    /// Returns the JSON patch that sets the `spec` and `specs` of a stored object to the desired state.
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

/// Returns a template as a manifest with the labels and annotations of the controller.
fn written(site: &Site, layer: &Layer, template: &Value) -> Value {
    let mut manifest = template.clone();
    let labels = site.owned_labels().into_iter().zip([layer.label(), "portcullis".to_owned()]);
    let annotations = site.baseline.annotations.iter().map(|(key, value)| (key.clone(), value.clone()));
    // The digest covers the rest of the metadata, in which fields of the template look like those of other writers.
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

/// Returns the digest of a template for its annotation.
fn digest(template: &Value) -> String {
    format!("{:016x}", hash(template))
}

/// Returns a hash of a manifest that is the same in every build: FNV-1a.
fn hash(manifest: &Value) -> u64 {
    let text = manifest.to_string();
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
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
