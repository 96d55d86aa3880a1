//! The common form of the three kinds.

use super::Which;
use super::wire::{
    AdminEgress, AdminIngress, AdminPort, AdminSpec, BaselineEgress, BaselinePeer, BaselineSpec, ClusterEgress,
    ClusterIngress, ClusterSpec, IngressPeer, Peer, Protocol, Subject,
};
use crate::dialect::{Manifest, ReadError};
use crate::model::{Fault, Order, Path, Precedence, Stage};

/// The spec of any kind.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) stage: Stage,
    pub(super) order: Order,
    pub(super) subject: Option<Subject>,
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
}

impl Spec {
    pub(super) fn read(which: Which, manifest: &Manifest<'_>, faults: &mut Vec<Fault>) -> Result<Self, ReadError> {
        Ok(match which {
            Which::Cluster => {
                let spec: ClusterSpec = manifest.strict_spec(faults)?;
                Self {
                    stage: tier(spec.tier.as_deref())?,
                    order: order(spec.priority)?,
                    subject: spec.subject,
                    ingress: all(spec.ingress),
                    egress: all(spec.egress),
                }
            }
            Which::Admin => {
                let spec: AdminSpec = manifest.strict_spec(faults)?;
                Self {
                    stage: Stage::Admin,
                    order: order(spec.priority)?,
                    subject: spec.subject,
                    ingress: all(spec.ingress),
                    egress: all(spec.egress),
                }
            }
            // A cluster has at most one BaselineAdminNetworkPolicy, so it has no priority.
            Which::Baseline => {
                let spec: BaselineSpec = manifest.strict_spec(faults)?;
                Self {
                    stage: Stage::Baseline,
                    order: Order::At(Precedence(0.0)),
                    subject: spec.subject,
                    ingress: all(spec.ingress),
                    egress: all(spec.egress),
                }
            }
        })
    }
}

fn tier(tier: Option<&str>) -> Result<Stage, ReadError> {
    match tier {
        Some("Admin") => Ok(Stage::Admin),
        Some("Baseline") => Ok(Stage::Baseline),
        other => Err(ReadError::at(
            &Path::root().field("spec").field("tier"),
            other.map_or_else(
                || "a tier is required: Admin or Baseline".to_owned(),
                |other| format!("`{other}` is neither Admin nor Baseline"),
            ),
        )),
    }
}

fn order(priority: Option<i64>) -> Result<Order, ReadError> {
    let problem = match priority.map(|priority| (priority, u16::try_from(priority))) {
        Some((_, Ok(priority @ 0..=1000))) => return Ok(Order::At(Precedence(priority.into()))),
        Some((priority, _)) => format!("`{priority}` is not a priority from 0 to 1000"),
        None => "a priority from 0 to 1000 is required".to_owned(),
    };
    Err(ReadError::at(&Path::root().field("spec").field("priority"), problem))
}

/// A rule of any kind.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: Option<Box<str>>,
    pub(super) peers: Option<Vec<Peer>>,
    pub(super) ports: Ports,
}

/// The ports of a rule, in the form of its kind.
#[derive(Debug)]
pub(super) enum Ports {
    Protocols(Option<Vec<Protocol>>),
    Ports(Option<Vec<AdminPort>>),
}

fn all<A: Into<B>, B>(items: Option<Vec<A>>) -> Option<Vec<B>> {
    items.map(|items| items.into_iter().map(Into::into).collect())
}

impl From<IngressPeer> for Peer {
    fn from(IngressPeer { namespaces, pods }: IngressPeer) -> Self {
        Self { namespaces, pods, ..Self::default() }
    }
}

impl From<BaselinePeer> for Peer {
    fn from(BaselinePeer { namespaces, pods, networks, nodes }: BaselinePeer) -> Self {
        Self { namespaces, pods, networks, nodes, domain_names: None }
    }
}

impl From<ClusterIngress> for Rule {
    fn from(rule: ClusterIngress) -> Self {
        Self { action: rule.action, peers: all(rule.from), ports: Ports::Protocols(rule.protocols) }
    }
}

impl From<ClusterEgress> for Rule {
    fn from(rule: ClusterEgress) -> Self {
        Self { action: rule.action, peers: rule.to, ports: Ports::Protocols(rule.protocols) }
    }
}

impl From<AdminIngress> for Rule {
    fn from(rule: AdminIngress) -> Self {
        Self { action: rule.action, peers: all(rule.from), ports: Ports::Ports(rule.ports) }
    }
}

impl From<AdminEgress> for Rule {
    fn from(rule: AdminEgress) -> Self {
        Self { action: rule.action, peers: rule.to, ports: Ports::Ports(rule.ports) }
    }
}

impl From<BaselineEgress> for Rule {
    fn from(rule: BaselineEgress) -> Self {
        Self { action: rule.action, peers: all(rule.to), ports: Ports::Ports(rule.ports) }
    }
}
