//! `v1` Service.

use serde::Deserialize;

use super::label_map::LabelMap;
use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::budget::{charge, hold};
use crate::model::{Body, Fix, Object, Protocol, Service, ServicePort, TargetPort};

/// The dialect.
#[derive(Debug)]
pub struct Services;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    r#type: Option<Box<str>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Box<str>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<Box<str>>>,
    load_balancer_class: Option<Box<str>>,
    selector: Option<LabelMap>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: Option<Box<str>>,
    protocol: Option<Box<str>>,
    port: i64,
    target_port: Option<Target>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Target {
    Number(i64),
    Named(Box<str>),
}

impl Dialect for Services {
    fn name(&self) -> &'static str {
        "service"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind { group: "", versions: &["v1"], kind: "Service" }]
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        let Spec { r#type, cluster_ip, external_ips, load_balancer_class, selector, ports } = manifest.spec()?;
        // An ExternalName is a CNAME record: it leads to no pods.
        let leads_to_pods = r#type.as_deref() != Some("ExternalName");
        let LabelMap(selector) = selector.filter(|_| leads_to_pods).unwrap_or_default();
        let service = Service {
            selector,
            ports: ports.into_iter().flatten().filter_map(port).collect(),
            is_headless: cluster_ip.as_deref() == Some("None"),
            is_exposed: matches!(r#type.as_deref(), Some("NodePort" | "LoadBalancer"))
                || external_ips.is_some_and(|addresses| !addresses.is_empty()),
            has_load_balancer_class: load_balancer_class.is_some_and(|class| !class.is_empty()),
        };
        let annotations = manifest.annotations()?;
        Ok(Object { id: manifest.id()?, body: Body::Service(service), faults: Vec::new(), annotations })
    }

    fn fix(&self, _fix: &Fix, _manifest: &Manifest<'_>) -> Option<Patch> {
        None
    }
}

/// Reads a port. None for a port that the API server rejects.
fn port(written: Port) -> Option<ServicePort> {
    charge(1);
    let Port { name, protocol, port, target_port } = written;
    let protocol = match protocol.as_deref() {
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    let number = u16::try_from(port).ok().filter(|number| *number > 0)?;
    let target = match target_port {
        None => TargetPort::Number(number),
        // `targetPort: 0` counts as unset.
        Some(Target::Number(0)) => TargetPort::Number(number),
        Some(Target::Number(target)) => TargetPort::Number(u16::try_from(target).ok()?),
        Some(Target::Named(target)) if target.is_empty() => TargetPort::Number(number),
        Some(Target::Named(target)) => TargetPort::Named(target),
    };
    hold(size_of::<ServicePort>());
    Some(ServicePort { name: name.unwrap_or_default(), protocol, number, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use serde_json::json;

    fn service(spec: &serde_json::Value) -> Service {
        let json = json!({"metadata": {"name": "api", "namespace": "shop"}, "spec": spec}).to_string();
        let manifest = Manifest::read("v1", "Service", &json, Origin::Author).unwrap();
        match Services.read(&manifest).unwrap().body {
            Body::Service(service) => service,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_forwards_to_its_target_or_to_itself() {
        let ports = json!([
            {"port": 80, "targetPort": 8080},
            {"name": "web", "port": 81, "targetPort": "http", "protocol": "TCP"},
            {"port": 53, "protocol": "UDP"},
            {"port": 0},
            {"port": 1, "protocol": "ICMP"},
        ]);
        let read = service(&json!({"selector": {"app": "api"}, "ports": ports}));
        let port = |name: &str, protocol, number, target| ServicePort { name: name.into(), protocol, number, target };
        assert_eq!(
            *read.ports,
            [
                port("", Protocol::Tcp, 80, TargetPort::Number(8080)),
                port("web", Protocol::Tcp, 81, TargetPort::Named("http".into())),
                port("", Protocol::Udp, 53, TargetPort::Number(53)),
            ]
        );
        assert!(!read.is_headless && !read.is_exposed);
    }

    #[test]
    fn only_some_services_can_be_reached_from_outside() {
        assert!(service(&json!({"clusterIP": "None"})).is_headless);
        for (spec, is_exposed) in [
            (json!({"type": "LoadBalancer"}), true),
            (json!({"type": "NodePort"}), true),
            (json!({"externalIPs": ["192.0.2.1"]}), true),
            (json!({"type": "ClusterIP", "externalIPs": []}), false),
        ] {
            assert_eq!(service(&spec).is_exposed, is_exposed, "{spec}");
        }
        assert!(service(&json!({"type": "LoadBalancer", "loadBalancerClass": "tailscale"})).has_load_balancer_class);
        let external = service(&json!({"type": "ExternalName", "externalName": "x.example", "selector": {"app": "a"}}));
        assert!(external.selector.is_empty());
    }
}
