//! `gateway.networking.k8s.io` HTTPRoute.

use std::collections::HashSet;

use serde::Deserialize;

use super::{Found, number};
use crate::budget::charge;
use crate::dialect::int_or_string::IntOrString;
use crate::dialect::{Manifest, ReadError};
use crate::json::objects;
use crate::model::{Caller, Path};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "objects")]
    parent_refs: Option<Vec<Reference>>,
    #[serde(deserialize_with = "objects")]
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    #[serde(deserialize_with = "objects")]
    backend_refs: Option<Vec<Reference>>,
}

/// A reference to a parent or to a backend.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    group: Option<Box<str>>,
    kind: Option<Box<str>>,
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
    port: Option<IntOrString>,
    weight: Option<IntOrString>,
}

impl Reference {
    /// Returns true if it names a Gateway, or listeners of one. The parent of a route for a mesh is a Service.
    fn is_gateway(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| ["Gateway", "ListenerSet", "XListenerSet"].contains(&kind))
    }

    fn is_service(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "Service") && self.group.as_deref().is_none_or(str::is_empty)
    }
}

pub(super) fn read(manifest: &Manifest<'_>, found: &mut Found<'_>) -> Result<(), ReadError> {
    let Spec { parent_refs, rules } = manifest.spec()?;
    let own = found.object.namespace.clone();
    let namespace = |reference: &Reference| {
        charge(1);
        reference.namespace.clone().filter(|namespace| !namespace.is_empty()).or_else(|| own.clone())
    };
    let gateways: HashSet<Option<Box<str>>> =
        parent_refs.iter().flatten().filter(|parent| parent.is_gateway()).map(namespace).collect();
    if gateways.is_empty() {
        return Ok(());
    }
    let path = Path::root().field("spec").field("rules");
    for (rule, written) in rules.into_iter().flatten().enumerate() {
        charge(1);
        for (position, backend) in written.backend_refs.into_iter().flatten().enumerate() {
            let namespace = namespace(&backend);
            // The proxies of a Gateway may run in its namespace, beside the pods of the Service.
            let is_beside = gateways.contains(&namespace);
            if is_beside || !backend.is_service() || backend.weight == Some(IntOrString::Number(0)) {
                continue;
            }
            let port = backend.port.as_ref().and_then(number);
            let path = || path.index(rule).field("backendRefs").index(position);
            found.add(Caller::Proxy, namespace, backend.name, port, path);
        }
    }
    Ok(())
}
