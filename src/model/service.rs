//! Services: the pods that they select, and the ports on which they forward to them.

use super::{Labels, Protocol, Workload};

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The labels of the pods that it selects. A Service without a selector has endpoints that another controller writes.
    pub selector: Labels,
    /// The ports.
    pub ports: Box<[ServicePort]>,
    /// True if it has no address of its own (`clusterIP: None`). Clients then connect to the pods, on the ports of the pods.
    pub(crate) is_headless: bool,
    /// True if clients outside of the cluster can reach it: `NodePort`, `LoadBalancer`, or `externalIPs`.
    pub(crate) is_exposed: bool,
    /// True if it names a class of load balancers. Some of those forward connections by pods of their own.
    pub(crate) has_load_balancer_class: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The name; empty if it has none.
    pub name: Box<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the Service.
    pub number: u16,
    /// The port of the pods. A network policy sees this one, because the Service address is translated before.
    pub target: TargetPort,
}

/// The port of the pods behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port, which can have another number in each pod.
    Named(Box<str>),
}

impl Service {
    /// Returns true if the Service selects the pods of a workload.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    }
}

impl ServicePort {
    /// Returns the number of the port in the pods of a workload. None if its containers do not list a port of that name.
    #[must_use]
    pub(crate) fn target_in(&self, workload: &Workload) -> Option<u16> {
        match &self.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Named(name) => workload.port_named(name, self.protocol),
        }
    }
}

impl Workload {
    /// Returns the number of the container port with this name.
    #[must_use]
    pub(crate) fn port_named(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let is_named = |port: &&super::ContainerPort| port.protocol == protocol && port.name.as_deref() == Some(name);
        self.ports.iter().find(is_named).map(|port| port.number)
    }
}
