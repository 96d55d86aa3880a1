//! Parses the objects that the API server sends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kube::Resource as _;
use kube::core::ApiResource;
use serde_json::Value;

use super::strip::Arriving;
use crate::dialect::{self, Manifest, Origin};
use crate::model::{Object, ObjectRef};
use crate::view::{Owned, Site};

/// The result of parsing an object.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// The object was parsed.
    Read {
        /// The parsed object.
        object: Box<Object>,
        /// The ownership record, if the baseline controller owns the object.
        owned: Option<Owned>,
    },
    /// The object could not be parsed.
    Unreadable {
        /// The object.
        id: ObjectRef,
        /// The reason.
        why: String,
    },
}

/// The label and the name prefix that mark policies of the baseline controller, and the labels and annotations that it
/// owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owning {
    layer_label: String,
    reserved_prefix: String,
    labels: Vec<String>,
    annotations: Vec<String>,
}

impl From<&Site> for Owning {
    fn from(site: &Site) -> Self {
        Self {
            layer_label: site.layer_label(),
            reserved_prefix: site.baseline.reserved_prefix.clone(),
            labels: site.owned_labels().into(),
            annotations: site.owned_annotations(),
        }
    }
}

/// Returns the reference of an object.
pub(super) fn id(resource: &ApiResource, arriving: &Arriving) -> ObjectRef {
    let meta = arriving.meta();
    ObjectRef {
        api_version: resource.api_version.as_str().into(),
        kind: resource.kind.as_str().into(),
        namespace: meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()).map(Box::from),
        name: meta.name.as_deref().unwrap_or_default().into(),
    }
}

/// Parses an object of a watched kind. A failure, even a panic, must not end the watch of all other objects.
#[must_use]
pub fn read(resource: &ApiResource, owning: &Owning, arriving: &Arriving) -> Decoded {
    let unreadable = |why: String| Decoded::Unreadable { id: id(resource, arriving), why };
    let read = || {
        let origin = Origin::Stored { namespace: arriving.meta().namespace.as_deref() };
        let manifest = Manifest::read(&resource.api_version, &resource.kind, arriving.json(), origin)?;
        dialect::read(&manifest)
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(Some(object))) => {
            let owned = if object.policies().is_empty() { None } else { owned(owning, arriving, &object.id) };
            Decoded::Read { object: Box::new(object), owned }
        }
        Ok(Ok(None)) => unreadable("unsupported kind".to_owned()),
        Ok(Err(error)) => unreadable(error.to_string()),
        Err(_) => unreadable("the parser panicked; this is a bug in Portcullis".to_owned()),
    }
}

/// The suffix of the label with the layer of a policy, in every domain.
const LAYER: &str = "/layer";
/// The label that names the tool which manages an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

fn owned(owning: &Owning, arriving: &Arriving, id: &ObjectRef) -> Option<Owned> {
    // Most policies do not belong to the controller, and parsing one again costs time. Any client can write the layer
    // label and use the controller's field manager, but only the controller may use the reserved name prefix.
    if !id.name.starts_with(&*owning.reserved_prefix) || !arriving.json().contains(LAYER) {
        return None;
    }
    let value: Value = serde_json::from_str(arriving.json()).ok()?;
    let written = value.get("metadata")?.get("labels")?.as_object()?;
    let (layer, domain) = match written.get(&*owning.layer_label) {
        Some(layer) => (layer.as_str()?, None),
        // Applied before `labelDomain` was changed.
        None if arriving.is_applied() && written.get(MANAGED_BY)? == "portcullis" => {
            let mut earlier = written.iter().filter_map(|(label, layer)| Some((label.strip_suffix(LAYER)?, layer)));
            let (domain, layer) = earlier.next()?;
            (layer.as_str()?, Some(domain.into()))
        }
        None => return None,
    };
    let labels: Vec<&str> = owning.labels.iter().map(String::as_str).collect();
    let annotations: Vec<&str> = owning.annotations.iter().map(String::as_str).collect();
    Some(Owned {
        object: id.clone(),
        uid: arriving.meta().uid.as_deref().unwrap_or_default().into(),
        layer: layer.into(),
        fingerprint: dialect::fingerprint(&value, &labels, &annotations),
        is_applied: arriving.is_applied(),
        domain,
    })
}
