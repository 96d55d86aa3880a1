//! Manifests that a later manifest of the same run overwrites.

use std::collections::HashMap;

use super::Item;
use crate::cli::inputs::Scope;
use crate::model::Object;

/// Returns, for each item, the position of the last manifest of the same object, if that one comes later and differs.
/// `kubectl apply` stores manifests in order, so the last one wins.
pub(super) fn overwritten(items: &[Item]) -> Vec<Option<usize>> {
    let mut last = HashMap::new();
    let keys: Vec<_> = items.iter().map(key).collect();
    for (position, key) in keys.iter().enumerate().filter_map(|(position, key)| Some((position, key.as_ref()?))) {
        last.insert(key, position);
    }
    let differs = |a: &Item, b: &Item| a.found.document.value != b.found.document.value;
    let overwriting = |(item, key): (&Item, &Option<Key>)| {
        let position = *last.get(key.as_ref()?)?;
        items.get(position).filter(|other| differs(item, other)).map(|_| position)
    };
    items.iter().zip(&keys).map(overwriting).collect()
}

/// An object and its scope, which separates objects in different unnamed namespaces.
type Key<'a> = (Identity<'a>, Scope);

fn key(item: &Item) -> Option<Key<'_>> {
    Some((identity(&item.object)?, item.scope))
}

/// Group, kind, namespace and name.
pub(in crate::cli) type Identity<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

/// Returns the identity of an object in a cluster. None for an object whose name the API server generates.
pub(in crate::cli) fn identity(object: &Object) -> Option<Identity<'_>> {
    let id = &object.id;
    // Calico stores its objects in a second group, under the same names.
    let group = id.group().strip_prefix("crd.").filter(|group| *group == "projectcalico.org").unwrap_or(id.group());
    (!id.name.is_empty()).then(|| (group, &*id.kind, id.namespace.as_deref(), id.bare_name()))
}
