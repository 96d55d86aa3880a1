//! `v1` Namespace.

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Body, Fix, NAME_LABEL, Namespace, Object, ObjectRef, Path};

/// The dialect of namespaces.
#[derive(Debug)]
pub struct Namespaces;

impl Dialect for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind { group: "", versions: &["v1"], kind: "Namespace" }]
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        // An admission request for a namespace has its name as `namespace`. The object itself is cluster-scoped.
        let id = ObjectRef { namespace: None, ..manifest.id()? };
        let labels = manifest.labels()?.with(NAME_LABEL, &id.name);
        let labels_path = Path::root().field("metadata").field("labels");
        let (uid, terminating, created) = (manifest.uid()?, manifest.deleting(), manifest.created());
        let body = Body::Namespace(Namespace { labels, labels_path, uid, terminating, created });
        Ok(Object { id, body, faults: Vec::new(), annotations: manifest.annotations()? })
    }

    fn fix(&self, _fix: &Fix, _manifest: &Manifest<'_>) -> Option<Patch> {
        None
    }
}
