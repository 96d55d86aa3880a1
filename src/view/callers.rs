//! The objects that send connections to Services, and the namespaces of these Services.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Backend, ObjectRef};

/// An object: its group, kind, namespace and name.
type Key = (Box<str>, Box<str>, Option<Box<str>>, Box<str>);

/// The namespaces that hold backends of each object. One object may reference Services in several namespaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers(Arc<HashMap<Key, Box<[Box<str>]>>>);

impl Callers {
    /// Records the backends of an object. Returns the namespaces that hold its earlier ones.
    pub(super) fn insert(&mut self, object: &ObjectRef, backends: &[Backend]) -> Box<[Box<str>]> {
        let mut namespaces: Vec<Box<str>> =
            backends.iter().map(|backend| backend.namespace.clone().unwrap_or_default()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        Arc::make_mut(&mut self.0).insert(key(object), namespaces.into()).unwrap_or_default()
    }

    /// Removes an object. Returns the namespaces that hold its backends, if it was known.
    pub(super) fn remove(&mut self, object: &ObjectRef) -> Option<Box<[Box<str>]>> {
        let key = key(object);
        // Most removed objects have no backends, and a change copies the map.
        if !self.0.contains_key(&key) {
            return None;
        }
        Arc::make_mut(&mut self.0).remove(&key)
    }

    /// The group, kind, namespace and name of each object.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, Option<&str>, &str)> {
        self.0.keys().map(|(group, kind, namespace, name)| (&**group, &**kind, namespace.as_deref(), &**name))
    }
}

fn key(object: &ObjectRef) -> Key {
    (object.group().into(), object.kind.clone(), object.namespace.clone(), object.name.clone())
}
