//! `v1` Namespace.

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Body, Fix, NAME_LABEL, Namespace, Object, ObjectRef, Path};

/// The dialect.
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
        // A request about a namespace names it as its namespace too; the object itself is in none.
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
