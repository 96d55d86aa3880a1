//! Backends: Services to which callers outside of the pods' namespace connect, and the objects that say so.

use super::{ObjectRef, Path, Protocol, Service, ServicePort};

/// A Service to which an object sends connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The object: an Ingress, an HTTPRoute, a webhook configuration or an APIService.
    pub object: ObjectRef,
    /// The component that connects.
    pub caller: Caller,
    /// The namespace of the Service. `None`: the namespace of the object, if its manifest leaves that out.
    pub namespace: Option<Box<str>>,
    /// The name of the Service.
    pub service: Box<str>,
    /// The port of the Service.
    pub port: BackendPort,
    /// The path at which the object names the Service.
    pub path: Path,
}

/// The component that connects to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// The API server. It runs outside of the pod network: as a hostNetwork pod, or outside of the cluster.
    ApiServer,
    /// An ingress controller or a gateway. Its pods run in another namespace than those of the Service, as far as is known.
    Proxy,
}

/// A port of a Service, as an object names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendPort {
    /// The port number.
    Number(u16),
    /// The port name.
    Named(Box<str>),
}

impl Service {
    /// Returns the TCP port that a backend names. Ingress controllers, gateways and API servers connect over TCP.
    #[must_use]
    pub(crate) fn backend_port(&self, port: &BackendPort) -> Option<&ServicePort> {
        let is_named = |own: &&ServicePort| match port {
            BackendPort::Number(number) => own.number == *number,
            BackendPort::Named(name) => own.name == *name,
        };
        self.ports.iter().filter(|own| own.protocol == Protocol::Tcp).find(is_named)
    }
}
