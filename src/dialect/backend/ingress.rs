//! `networking.k8s.io` Ingress.

use serde::Deserialize;

use super::{Found, number};
use crate::budget::charge;
use crate::dialect::int_or_string::IntOrString;
use crate::dialect::{Manifest, ReadError};
use crate::json::{objects, optional};
use crate::model::{BackendPort, Caller, Path};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "optional")]
    default_backend: Option<IngressBackend>,
    /// The default backend in v1beta1.
    #[serde(deserialize_with = "optional")]
    backend: Option<IngressBackend>,
    #[serde(deserialize_with = "objects")]
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    #[serde(deserialize_with = "optional")]
    http: Option<Http>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Http {
    #[serde(deserialize_with = "objects")]
    paths: Option<Vec<HttpPath>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HttpPath {
    #[serde(deserialize_with = "optional")]
    backend: Option<IngressBackend>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressBackend {
    #[serde(deserialize_with = "optional")]
    service: Option<Service>,
    /// The Service in v1beta1.
    service_name: Option<Box<str>>,
    service_port: Option<IntOrString>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    name: Option<Box<str>>,
    #[serde(deserialize_with = "optional")]
    port: Option<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<Box<str>>,
    number: Option<IntOrString>,
}

pub(super) fn read(manifest: &Manifest<'_>, found: &mut Found<'_>) -> Result<(), ReadError> {
    let Spec { default_backend, backend, rules } = manifest.spec()?;
    let spec = Path::root().field("spec");
    if let Some(default) = default_backend {
        add(default, found, || spec.field("defaultBackend"));
    }
    if let Some(default) = backend {
        add(default, found, || spec.field("backend"));
    }
    for (rule, written) in rules.into_iter().flatten().enumerate() {
        charge(1);
        let paths = written.http.and_then(|http| http.paths).into_iter().flatten();
        for (position, written) in paths.enumerate() {
            if let Some(backend) = written.backend {
                add(backend, found, || {
                    let rule = spec.field("rules").index(rule);
                    rule.field("http").field("paths").index(position).field("backend")
                });
            }
        }
    }
    Ok(())
}

fn add(backend: IngressBackend, found: &mut Found<'_>, path: impl FnOnce() -> Path) {
    let namespace = found.object.namespace.clone();
    match backend.service {
        Some(Service { name, port }) => {
            let Port { name: port, number: written } = port.unwrap_or_default();
            let named = port.filter(|name| !name.is_empty()).map(BackendPort::Named);
            let port = named.or_else(|| number(&written?));
            found.add(Caller::Proxy, namespace, name, port, || path().field("service"));
        }
        None => {
            let port = match backend.service_port {
                Some(IntOrString::Text(name)) => Some(BackendPort::Named(name)),
                Some(written) => number(&written),
                None => None,
            };
            found.add(Caller::Proxy, namespace, backend.service_name, port, path);
        }
    }
}
