//! A manifest as written: the parts that all kinds share.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::calico::stored;
use super::error::{parse, parse_value};
use super::label_map::{ANNOTATIONS, LabelMap, means_something};
use super::{ReadError, strict};
use crate::budget;
use crate::model::{Fault, Labels, ObjectRef, Path};

/// An object as written.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// Group and version.
    pub api_version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The fields, not parsed yet.
    pub written: Written<'a>,
    /// The origin of the manifest, which decides if defaults are filled in.
    pub origin: Origin<'a>,
}

/// The origin of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The author, as in a file: no defaults are filled in.
    Author,
    /// The API server, as the new object of an admission request: defaults are filled in.
    Server {
        /// The namespace of the request, if it has one.
        namespace: Option<&'a str>,
    },
    /// The store of the API server, as in a watch or as the old object of an admission request: it is what the agents
    /// read.
    Stored {
        /// The namespace of the object, if it has one.
        namespace: Option<&'a str>,
    },
}

parts! {
    /// The fields of an object that Portcullis reads. They are found in one pass over the text, and parsed when they
    /// are needed.
    pub struct Written passing ["apiVersion", "kind"] {
        /// `metadata`.
        metadata: "metadata" => Metadata<'a>,
        /// `spec`.
        spec: "spec" => &'a RawValue,
        /// `specs`, of Cilium's policies.
        specs: "specs" => &'a RawValue,
        /// `template`, of a PodTemplate.
        template: "template" => &'a RawValue,
        /// `webhooks`, of a webhook configuration.
        webhooks: "webhooks" => &'a RawValue,
        /// `status`.
        status: "status" => &'a RawValue,
    }
}

parts! {
    /// The fields of `metadata` that Portcullis reads.
    pub struct Metadata passing [] {
        /// `name`.
        name: "name" => &'a RawValue,
        /// `namespace`.
        namespace: "namespace" => &'a RawValue,
        /// `labels`.
        labels: "labels" => &'a RawValue,
        /// `annotations`.
        annotations: "annotations" => &'a RawValue,
        /// `managedFields`.
        managed_fields: "managedFields" => &'a RawValue,
        /// `deletionTimestamp`.
        deletion_timestamp: "deletionTimestamp" => &'a RawValue,
        /// `creationTimestamp`.
        creation_timestamp: "creationTimestamp" => &'a RawValue,
        /// `uid`.
        uid: "uid" => &'a RawValue,
        /// `finalizers`.
        finalizers: "finalizers" => &'a RawValue,
        /// `ownerReferences`.
        owner_references: "ownerReferences" => &'a RawValue,
    }
}

impl<'a> Manifest<'a> {
    /// Reads a manifest from JSON.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn read(api_version: &'a str, kind: &'a str, json: &'a str, origin: Origin<'a>) -> Result<Self, ReadError> {
        let written = serde_json::from_str(json).map_err(|error| ReadError::at(&Path::root(), error.to_string()))?;
        Ok(Self { api_version, kind, written, origin })
    }

    /// The reference to the object. A request knows the namespace; a file may not.
    pub(super) fn id(&self) -> Result<ObjectRef, ReadError> {
        if !self.written.is_object {
            return Err(ReadError::at(&Path::root(), "expected an object"));
        }
        let metadata = self.metadata();
        if self.written.metadata.is_some_and(|metadata| !metadata.is_object) {
            return Err(ReadError::at(&Path::root().field("metadata"), "expected an object"));
        }
        let given = match self.origin {
            Origin::Author => None,
            Origin::Server { namespace } | Origin::Stored { namespace } => namespace.map(Box::from),
        };
        let text = |part, name| field::<Box<str>>(part, &Path::root().field("metadata").field(name));
        Ok(ObjectRef {
            api_version: self.api_version.into(),
            kind: self.kind.into(),
            namespace: text(metadata.namespace, "namespace")?.filter(|namespace| !namespace.is_empty()).or(given),
            name: text(metadata.name, "name")?.unwrap_or_default(),
        })
    }

    /// Returns true if the object is already being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// The creation time, if it is set. Only the API server sets it, so an invalid time is treated as missing.
    pub(super) fn created(&self) -> Option<jiff::Timestamp> {
        serde_json::from_str(self.metadata().creation_timestamp?.get()).ok()
    }

    /// The labels of the object.
    pub(super) fn labels(&self) -> Result<Labels, ReadError> {
        let labels = field(self.metadata().labels, &Path::root().field("metadata").field("labels"))?;
        Ok(labels.map(|LabelMap(labels)| labels).unwrap_or_default())
    }

    /// The annotations of the object that Portcullis reads. If the text has none of their names, it is not parsed,
    /// since that would cost more than most decisions.
    pub(super) fn annotations(&self) -> Result<Labels, ReadError> {
        let Some(written) = self.metadata().annotations else { return Ok(Labels::default()) };
        if !ANNOTATIONS.iter().any(|name| written.get().contains(name)) {
            return Ok(Labels::default());
        }
        let all: Option<LabelMap> = field(Some(written), &Path::root().field("metadata").field("annotations"))?;
        let LabelMap(all) = all.unwrap_or_default();
        Ok(all.iter().filter(|(key, _)| means_something(key)).collect())
    }

    /// The annotation of the object with this key.
    pub(super) fn annotation(&self, key: &str) -> Result<Option<Box<str>>, ReadError> {
        let Some(written) = self.metadata().annotations.filter(|written| written.get().contains(key)) else {
            return Ok(None);
        };
        let all: Option<LabelMap> = field(Some(written), &Path::root().field("metadata").field("annotations"))?;
        Ok(all.and_then(|LabelMap(all)| all.get(key).map(Box::from)))
    }

    /// The UID, which differs for each object that ever had this name. Empty if the API server did not set it.
    pub(super) fn uid(&self) -> Result<Box<str>, ReadError> {
        let uid = field(self.metadata().uid, &Path::root().field("metadata").field("uid"))?;
        Ok(uid.unwrap_or_default())
    }

    /// Returns true if the object was read from a cluster: by Portcullis, or into a file by `kubectl get`. Only the API
    /// server sets a UID.
    pub(super) fn is_stored(&self) -> bool {
        match self.origin {
            Origin::Author => self.uid().is_ok_and(|uid| !uid.is_empty()),
            Origin::Server { .. } => false,
            Origin::Stored { .. } => true,
        }
    }

    /// Parses the spec into the wire struct of its kind.
    pub(super) fn spec<T: DeserializeOwned + Default>(&self) -> Result<T, ReadError> {
        self.written.spec.map_or_else(|| Ok(T::default()), |spec| parse(spec, &Path::root().field("spec")))
    }

    /// Parses the spec into the wire struct of its kind. Fields that the kind does not have are added to `faults`.
    pub(super) fn strict_spec<T: DeserializeOwned + Default>(&self, faults: &mut Vec<Fault>) -> Result<T, ReadError> {
        self.strict(self.written.spec, "spec", faults).map(Option::unwrap_or_default)
    }

    /// Parses a field next to `metadata`. Fields that the kind does not have, in it or next to it, are added to
    /// `faults`.
    pub(super) fn strict<T: DeserializeOwned>(
        &self,
        part: Option<&RawValue>,
        name: &'static str,
        faults: &mut Vec<Fault>,
    ) -> Result<Option<T>, ReadError> {
        // Only webhook configurations have `webhooks`, and these are not parsed here.
        if let Some(other) = self.written.other.or_else(|| self.written.webhooks.map(|_| "webhooks")) {
            let fault = strict::unknown(self.kind, Path::root().unknown_field(other));
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        let path = Path::root().field(name);
        part.filter(|part| part.get() != "null").map(|part| strict::read(part, &path, self.kind, faults)).transpose()
    }

    /// The metadata. Empty if the manifest has none.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'a> {
        self.written.metadata.unwrap_or_default()
    }

    /// Returns true if the labels and annotations of both manifests have the same text.
    #[must_use]
    pub(crate) fn has_same_labels_and_annotations(&self, other: &Self) -> bool {
        let (own, others) = (self.metadata(), other.metadata());
        same(own.labels, others.labels) && same(own.annotations, others.annotations)
    }

    /// Returns true if the manifest is unchanged from `old`, except that it may have lost finalizers.
    #[must_use]
    pub(crate) fn only_loses_finalizers(&self, old: &Self) -> bool {
        fn list<T: DeserializeOwned>(part: Option<&RawValue>) -> Vec<T> {
            let Some(part) = part else { return Vec::new() };
            budget::charge_json(part.get());
            serde_json::from_str(part.get()).unwrap_or_default()
        }
        #[derive(Deserialize)]
        struct Managed {
            manager: Option<String>,
        }
        let (own, others) = (self.metadata(), old.metadata());
        if !self.has_same_labels_and_annotations(old)
            || !self.differs_in_metadata_only(old)
            || !same(own.owner_references, others.owner_references)
        {
            return false;
        }
        // The lists have no maximum length, so they are compared as hash sets.
        let finalizers: HashSet<String> = list(others.finalizers).into_iter().collect();
        let managers: HashSet<Option<String>> =
            list::<Managed>(own.managed_fields).into_iter().map(|one| one.manager).collect();
        // A user can replace the text of `managedFields`, so none of its managers may be missing.
        list::<String>(own.finalizers).iter().all(|finalizer| finalizers.contains(finalizer))
            && list::<Managed>(others.managed_fields).iter().all(|one| managers.contains(&one.manager))
    }

    /// Returns true if the manifests differ only in status and metadata. Returns false if the annotations changed and have
    /// an exemption, or if the metadata changed that Calico stores in an annotation.
    #[must_use]
    pub(crate) fn differs_in_metadata_only(&self, other: &Self) -> bool {
        let (own, others) = (self.metadata().annotations, other.metadata().annotations);
        let exempts = |annotations: Option<&RawValue>| annotations.is_some_and(|text| text.get().contains("/exempt"));
        if !same(own, others) && (exempts(own) || !stored::says_the_same(self, other)) {
            return false;
        }
        same(self.written.spec, other.written.spec)
            && same(self.written.specs, other.written.specs)
            && same(self.written.template, other.written.template)
            && same(self.written.webhooks, other.written.webhooks)
    }
}

/// Returns true if both parts have the same text, or both are missing.
fn same(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    a.map(RawValue::get) == b.map(RawValue::get)
}

/// Parses an optional field.
fn field<T: DeserializeOwned>(part: Option<&RawValue>, path: &Path) -> Result<Option<T>, ReadError> {
    part.map(|part| parse_value(part, path)).transpose().map(Option::flatten)
}
