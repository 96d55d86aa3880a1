//! One element of `ingress`, `ingressDeny`, `egress` or `egressDeny`, in a common form.

use super::wire;
use crate::json::Unread;
use crate::model::{Action, Direction};

/// The lists of an element. An empty list differs from a missing one.
#[derive(Debug)]
pub(super) struct Element<'a> {
    pub(super) endpoints: Option<&'a [wire::LabelSelector]>,
    pub(super) requires: &'a [Unread],
    pub(super) cidr: Option<&'a [Box<str>]>,
    pub(super) cidr_set: Option<&'a [wire::CidrRule]>,
    pub(super) entities: Option<&'a [Box<str>]>,
    pub(super) groups: &'a [wire::Groups],
    pub(super) nodes: Option<&'a [wire::LabelSelector]>,
    pub(super) services: &'a [wire::Service],
    pub(super) fqdns: &'a [wire::FqdnSelector],
    pub(super) ports: Vec<PortEntry<'a>>,
    pub(super) icmps: &'a [wire::IcmpRule],
    pub(super) authentication: Option<&'a wire::Authentication>,
}

/// An entry of `toPorts`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortEntry<'a> {
    pub(super) ports: &'a [wire::PortProtocol],
    /// The other fields of the entry. None in a deny rule.
    pub(super) rule: Option<&'a wire::PortRule>,
}

/// The list that an element is in, with the names of its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) direction: Direction,
    pub(super) action: Action,
    pub(super) endpoints: &'static str,
    pub(super) requires: &'static str,
    pub(super) cidr: &'static str,
    pub(super) cidr_set: &'static str,
    pub(super) entities: &'static str,
    pub(super) groups: &'static str,
    pub(super) nodes: &'static str,
}

impl List {
    pub(super) const fn of(direction: Direction, action: Action) -> Self {
        match direction {
            Direction::Ingress => Self {
                direction,
                action,
                endpoints: "fromEndpoints",
                requires: "fromRequires",
                cidr: "fromCIDR",
                cidr_set: "fromCIDRSet",
                entities: "fromEntities",
                groups: "fromGroups",
                nodes: "fromNodes",
            },
            Direction::Egress => Self {
                direction,
                action,
                endpoints: "toEndpoints",
                requires: "toRequires",
                cidr: "toCIDR",
                cidr_set: "toCIDRSet",
                entities: "toEntities",
                groups: "toGroups",
                nodes: "toNodes",
            },
        }
    }
}

fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

fn allowed(ports: &Option<Vec<wire::PortRule>>) -> Vec<PortEntry<'_>> {
    list(ports).iter().map(|rule| PortEntry { ports: list(&rule.ports), rule: Some(rule) }).collect()
}

fn denied(ports: &Option<Vec<wire::PortDenyRule>>) -> Vec<PortEntry<'_>> {
    list(ports).iter().map(|rule| PortEntry { ports: list(&rule.ports), rule: None }).collect()
}

impl<'a> From<&'a wire::IngressRule> for Element<'a> {
    fn from(rule: &'a wire::IngressRule) -> Self {
        Self {
            endpoints: rule.from_endpoints.as_deref(),
            requires: list(&rule.from_requires),
            cidr: rule.from_cidr.as_deref(),
            cidr_set: rule.from_cidr_set.as_deref(),
            entities: rule.from_entities.as_deref(),
            groups: list(&rule.from_groups),
            nodes: rule.from_nodes.as_deref(),
            services: &[],
            fqdns: &[],
            ports: allowed(&rule.to_ports),
            icmps: list(&rule.icmps),
            authentication: rule.authentication.as_ref(),
        }
    }
}

impl<'a> From<&'a wire::IngressDenyRule> for Element<'a> {
    fn from(rule: &'a wire::IngressDenyRule) -> Self {
        Self {
            endpoints: rule.from_endpoints.as_deref(),
            requires: list(&rule.from_requires),
            cidr: rule.from_cidr.as_deref(),
            cidr_set: rule.from_cidr_set.as_deref(),
            entities: rule.from_entities.as_deref(),
            groups: list(&rule.from_groups),
            nodes: rule.from_nodes.as_deref(),
            services: &[],
            fqdns: &[],
            ports: denied(&rule.to_ports),
            icmps: list(&rule.icmps),
            authentication: None,
        }
    }
}

impl<'a> From<&'a wire::EgressRule> for Element<'a> {
    fn from(rule: &'a wire::EgressRule) -> Self {
        Self {
            endpoints: rule.to_endpoints.as_deref(),
            requires: list(&rule.to_requires),
            cidr: rule.to_cidr.as_deref(),
            cidr_set: rule.to_cidr_set.as_deref(),
            entities: rule.to_entities.as_deref(),
            groups: list(&rule.to_groups),
            nodes: rule.to_nodes.as_deref(),
            services: list(&rule.to_services),
            fqdns: list(&rule.to_fqdns),
            ports: allowed(&rule.to_ports),
            icmps: list(&rule.icmps),
            authentication: rule.authentication.as_ref(),
        }
    }
}

impl<'a> From<&'a wire::EgressDenyRule> for Element<'a> {
    fn from(rule: &'a wire::EgressDenyRule) -> Self {
        Self {
            endpoints: rule.to_endpoints.as_deref(),
            requires: list(&rule.to_requires),
            cidr: rule.to_cidr.as_deref(),
            cidr_set: rule.to_cidr_set.as_deref(),
            entities: rule.to_entities.as_deref(),
            groups: list(&rule.to_groups),
            nodes: rule.to_nodes.as_deref(),
            services: list(&rule.to_services),
            fqdns: &[],
            ports: denied(&rule.to_ports),
            icmps: list(&rule.icmps),
            authentication: None,
        }
    }
}
