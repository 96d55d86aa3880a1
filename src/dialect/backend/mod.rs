//! Objects that send connections to Services from outside of the pods' namespace: Ingress, HTTPRoute, webhook configurations
//! and APIService.
//!
//! They are read for the Services that they name, and for nothing else. Fields that are not read are not checked.

mod api_service;
mod ingress;
mod route;
mod webhook;

use std::collections::HashSet;

use super::int_or_string::IntOrString;
use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::budget::{charge, hold};
use crate::model::{Backend, BackendPort, Body, Caller, Fix, Object, ObjectRef, Path};

/// The dialect.
#[derive(Debug)]
pub struct Backends;

const KINDS: &[Kind] = &[
    Kind { group: "networking.k8s.io", versions: &["v1", "v1beta1"], kind: "Ingress" },
    Kind { group: "gateway.networking.k8s.io", versions: &["v1", "v1beta1", "v1alpha2"], kind: "HTTPRoute" },
    Kind {
        group: "admissionregistration.k8s.io",
        versions: &["v1", "v1beta1"],
        kind: "ValidatingWebhookConfiguration",
    },
    Kind { group: "admissionregistration.k8s.io", versions: &["v1", "v1beta1"], kind: "MutatingWebhookConfiguration" },
    Kind { group: "apiregistration.k8s.io", versions: &["v1", "v1beta1"], kind: "APIService" },
];

impl Dialect for Backends {
    fn name(&self) -> &'static str {
        "backend"
    }

    fn kinds(&self) -> &'static [Kind] {
        KINDS
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        let mut id = manifest.id()?;
        let is_namespaced = matches!(manifest.kind, "Ingress" | "HTTPRoute");
        id.namespace = id.namespace.filter(|_| is_namespaced);
        let mut found = Found::new(&id);
        match manifest.kind {
            "Ingress" => ingress::read(manifest, &mut found)?,
            "HTTPRoute" => route::read(manifest, &mut found)?,
            "APIService" => api_service::read(manifest, &mut found)?,
            _ => webhook::read(manifest, &mut found)?,
        }
        let body = Body::Backends(found.backends);
        Ok(Object { id, body, faults: Vec::new(), annotations: manifest.annotations()? })
    }

    fn fix(&self, _fix: &Fix, _manifest: &Manifest<'_>) -> Option<Patch> {
        None
    }
}

/// The backends of an object that were found so far. Each port of a Service is listed once, at its first place.
struct Found<'a> {
    object: &'a ObjectRef,
    seen: HashSet<(Option<Box<str>>, Box<str>, BackendPort)>,
    backends: Vec<Backend>,
}

impl<'a> Found<'a> {
    fn new(object: &'a ObjectRef) -> Self {
        Self { object, seen: HashSet::new(), backends: Vec::new() }
    }

    /// Adds a backend, unless its name or its port is missing: the API server rejects such an object.
    fn add(
        &mut self,
        caller: Caller,
        namespace: Option<Box<str>>,
        service: Option<Box<str>>,
        port: Option<BackendPort>,
        path: impl FnOnce() -> Path,
    ) {
        charge(1);
        let (Some(service), Some(port)) = (service.filter(|name| !name.is_empty()), port) else { return };
        if !self.seen.insert((namespace.clone(), service.clone(), port.clone())) {
            return;
        }
        let path = path();
        hold(2 * size_of::<Backend>() + size_of_val(path.steps()));
        self.backends.push(Backend { object: self.object.clone(), caller, namespace, service, port, path });
    }
}

/// The Service that a webhook or an APIService names.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct CalledService {
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
    port: Option<IntOrString>,
}

/// The port of a webhook and of an APIService that name none.
const DEFAULT_PORT: u16 = 443;

impl CalledService {
    /// Adds the Service as a backend of the API server.
    fn add_to(self, found: &mut Found<'_>, path: impl FnOnce() -> Path) {
        let port = match self.port {
            None => Some(BackendPort::Number(DEFAULT_PORT)),
            Some(port) => number(&port),
        };
        // Without a namespace it is no Service: the API server rejects it.
        if self.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
            found.add(Caller::ApiServer, self.namespace, self.name, port, path);
        }
    }
}

/// A port number. None for a text, such as a variable that is not replaced yet.
fn number(port: &IntOrString) -> Option<BackendPort> {
    match port {
        IntOrString::Number(number) => {
            u16::try_from(*number).ok().filter(|number| *number > 0).map(BackendPort::Number)
        }
        IntOrString::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use serde_json::{Value, json};

    /// The backends of an object in namespace shop, each as `path: namespace/service port`.
    fn backends(api_version: &str, kind: &str, fields: &Value) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "x", "namespace": "shop"}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let json = object.to_string();
        let manifest = Manifest::read(api_version, kind, &json, Origin::Author).unwrap();
        let Body::Backends(backends) = Backends.read(&manifest).unwrap().body else { panic!("backends") };
        let written = backends.iter().map(|backend| {
            let port = match &backend.port {
                BackendPort::Number(number) => number.to_string(),
                BackendPort::Named(name) => name.to_string(),
            };
            format!("{}: {}/{} {port}", backend.path, backend.namespace.as_deref().unwrap_or("-"), backend.service)
        });
        written.collect()
    }

    fn ingress(spec: &Value) -> Vec<String> {
        backends("networking.k8s.io/v1", "Ingress", &json!({"spec": spec}))
    }

    #[test]
    fn an_ingress_names_services_of_its_namespace() {
        let service = |name: &str, port: Value| json!({"service": {"name": name, "port": port}});
        let spec = json!({
            "defaultBackend": service("fallback", json!({"name": "http"})),
            "rules": [
                {"host": "a", "http": {"paths": [
                    {"path": "/", "backend": service("web", json!({"number": 80}))},
                    {"path": "/again", "backend": service("web", json!({"number": 80}))},
                    {"path": "/files", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                ]}},
                {"host": "b"},
                null,
                {"http": {"paths": [{"backend": service("web", json!({"number": 81}))}]}},
            ],
        });
        assert_eq!(
            ingress(&spec),
            [
                "spec.defaultBackend.service: shop/fallback http",
                "spec.rules[0].http.paths[0].backend.service: shop/web 80",
                "spec.rules[3].http.paths[0].backend.service: shop/web 81",
            ]
        );
        for nothing in [json!(null), json!({}), json!({"rules": [{"http": {"paths": null}}]})] {
            assert!(ingress(&nothing).is_empty(), "{nothing}");
        }
        // Some templates have variables here that are replaced later.
        assert!(ingress(&json!({"defaultBackend": service("web", json!({"number": "${PORT}"}))})).is_empty());
        let old = json!({"backend": {"serviceName": "web", "servicePort": 80},
            "rules": [{"http": {"paths": [{"backend": {"serviceName": "web", "servicePort": "http"}}]}}]});
        assert_eq!(
            backends("networking.k8s.io/v1beta1", "Ingress", &json!({"spec": old})),
            ["spec.backend: shop/web 80", "spec.rules[0].http.paths[0].backend: shop/web http"]
        );
    }

    #[test]
    fn a_route_leads_from_gateways_of_other_namespaces_to_services() {
        let route = |parents: Value, backends_refs: Value| {
            let spec = json!({"parentRefs": parents, "rules": [{"backendRefs": backends_refs}, {}]});
            backends("gateway.networking.k8s.io/v1", "HTTPRoute", &json!({"spec": spec}))
        };
        let edge = || json!([{"name": "edge", "namespace": "gateways"}]);
        let web = || json!([{"name": "web", "port": 80}]);
        let found = ["spec.rules[0].backendRefs[0]: shop/web 80"];
        let none: [&str; 0] = [];
        assert_eq!(route(edge(), web()), found);
        assert_eq!(route(json!([{"name": "edge", "namespace": "gateways", "kind": "ListenerSet"}]), web()), found);
        // Its proxies may run beside the pods.
        assert_eq!(route(json!([{"name": "edge"}]), web()), none);
        assert_eq!(route(json!([{"name": "edge", "namespace": "shop"}]), web()), none);
        // The route of a mesh is for pods, and one without a parent has no clients.
        assert_eq!(route(json!([{"kind": "Service", "group": "", "name": "web"}]), web()), none);
        assert_eq!(route(json!(null), web()), none);
        let refs = json!([
            {"name": "web", "namespace": "other", "port": 80, "weight": 1},
            {"name": "bucket", "kind": "Bucket", "group": "example.com", "port": 80},
            {"name": "off", "port": 80, "weight": 0},
            {"name": "none"},
        ]);
        assert_eq!(route(edge(), refs), ["spec.rules[0].backendRefs[0]: other/web 80"]);
        assert_eq!(
            route(json!([{"name": "edge"}]), json!([{"name": "web", "namespace": "other", "port": 1}])).len(),
            1
        );
    }

    #[test]
    fn the_api_server_calls_webhooks_and_apis() {
        let hook = |service: Value| json!({"name": "x.example.com", "clientConfig": {"service": service}});
        let webhooks = json!({"webhooks": [
            hook(json!({"namespace": "hooks", "name": "hook"})),
            {"name": "y.example.com", "clientConfig": {"url": "https://hook.example.com"}},
            hook(json!({"namespace": "hooks", "name": "hook", "port": 443})),
            hook(json!({"namespace": "hooks", "name": "other", "port": 8443})),
            null,
        ]});
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            assert_eq!(
                backends("admissionregistration.k8s.io/v1", kind, &webhooks),
                [
                    "webhooks[0].clientConfig.service: hooks/hook 443",
                    "webhooks[3].clientConfig.service: hooks/other 8443"
                ]
            );
        }
        let api = |spec: Value| backends("apiregistration.k8s.io/v1", "APIService", &json!({"spec": spec}));
        assert_eq!(
            api(json!({"service": {"namespace": "kube-system", "name": "metrics-server"}})),
            ["spec.service: kube-system/metrics-server 443"]
        );
        assert!(api(json!({"service": null})).is_empty(), "the API server serves it itself");
    }

    #[test]
    fn webhooks_are_an_unknown_field_of_other_kinds() {
        let json = json!({"metadata": {"name": "x"}, "spec": {}, "webhooks": []}).to_string();
        let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", &json, Origin::Author).unwrap();
        let object = crate::dialect::read(&manifest).unwrap().unwrap();
        assert_eq!(object.faults.iter().map(|fault| fault.path.to_string()).collect::<Vec<_>>(), ["webhooks"]);
    }
}
