//! The two ends of a connection, and the facts about them.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::budget::charge;

use super::ternary::{all_of, any_of};
use super::{
    AddressSet, Block, DomainPattern, Entity, Fact, Labels, NAME_LABEL, Namespaces, NetworkSet, Owner, Peers, Pods,
    Selector, Tier, Who, Workload, is_added_to_pods, is_link_local,
};

/// The known state of the cluster around a connection. `None` always means "unknown", never "does not exist".
pub trait Surroundings {
    /// All labels of a namespace, if they are known.
    fn namespace_labels(&self, namespace: &str) -> Option<&Labels>;

    /// The state of a label of a namespace. The name of the namespace is always known as a label.
    fn namespace_label<'a>(&'a self, namespace: &'a str, key: &str) -> Fact<'a> {
        match self.namespace_labels(namespace) {
            _ if key == NAME_LABEL => Fact::Value(namespace),
            Some(labels) => Fact::of(labels, key),
            None => Fact::Unknown,
        }
    }

    /// A tier, if it is known.
    fn tier(&self, name: &str) -> Option<&Tier>;

    /// The known network sets. There may be others.
    fn network_sets(&self) -> &[NetworkSet] {
        &[]
    }
}

/// A cluster without any known facts.
#[cfg(test)]
pub(crate) struct Nowhere;

#[cfg(test)]
impl Surroundings for Nowhere {
    fn namespace_labels(&self, _: &str) -> Option<&Labels> {
        None
    }

    fn tier(&self, _: &str) -> Option<&Tier> {
        None
    }
}

impl dyn Surroundings + '_ {
    /// Returns true if a namespace selector matches this namespace. `None` if that is unknown.
    #[must_use]
    pub(crate) fn means_namespace(&self, selector: &Selector, namespace: &str) -> Option<bool> {
        let facts = |_, key: &str| self.namespace_label(namespace, key);
        selector.decided(&facts).or_else(|| selector.covers(&Selector::equals(NAME_LABEL, namespace)).then_some(true))
    }
}

/// The other end of a connection, as seen from the pods whose policies are evaluated.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A pod, or several pods with these properties.
    Pod(Endpoint<'a>),
    /// An unknown pod of any namespace but this one.
    Foreign(&'a str),
    /// All of these addresses. They do not belong to pods.
    Addresses {
        /// The addresses.
        set: &'a AddressSet,
        /// True if they are known to be outside of the cluster. False if they may belong to a node.
        outside: bool,
    },
    /// An address outside of the cluster that is known by a DNS name only.
    Domain(&'a DomainPattern),
    /// An entity of Cilium: a named group of endpoints.
    Entity(Entity),
}

/// A pod, or several pods with these properties.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The known labels.
    pub labels: &'a Labels,
    /// True if these are all of the labels.
    pub complete: bool,
    /// The keys that are known to be absent, if the labels are incomplete.
    pub absent: &'a [Box<str>],
    /// True if these are the labels of a template. Controllers and service meshes add more labels to its pods.
    pub is_template: bool,
    /// The name of the service account, if it is known.
    pub account: Option<&'a str>,
    /// The keys of labels that are known to be present, with unknown values.
    pub present: &'a [&'a str],
    /// The addresses. Empty if they are unknown.
    pub addresses: &'a [IpAddr],
    /// The set that is assumed to hold the addresses if they are unknown. `None`: every address that a pod can have.
    pub within: Option<&'a AddressSet>,
    /// The names of Services in its namespace that are known to select it.
    pub services: &'a [Box<str>],
}

/// Every IPv4 address that a pod can have.
static EVERY_V4: LazyLock<AddressSet> = LazyLock::new(AddressSet::every_v4_of_pods);

impl<'a> Endpoint<'a> {
    /// A pod of which only the namespace is known.
    #[must_use]
    pub fn unknown(namespace: &'a str) -> Self {
        static NOTHING: LazyLock<Labels> = LazyLock::new(Labels::default);
        Self {
            namespace,
            labels: &NOTHING,
            complete: false,
            absent: &[],
            is_template: false,
            account: None,
            present: &[],
            addresses: &[],
            within: None,
            services: &[],
        }
    }

    /// The pod that a workload describes. Its addresses and Services are unknown.
    #[must_use]
    pub fn of(namespace: &'a str, workload: &'a Workload) -> Self {
        let (labels, account) = (&workload.labels, Some(&*workload.service_account));
        let is_template = workload.is_template;
        Self { labels, complete: true, is_template, account, ..Self::unknown(namespace) }
    }

    /// The addresses that the pod may have, if they are unknown.
    fn possible(&self) -> &'a AddressSet {
        self.within.unwrap_or(&EVERY_V4)
    }

    /// The state of a label of the pod, of its namespace or of its service account.
    #[must_use]
    pub fn label(&self, owner: Owner, key: &str, around: &'a dyn Surroundings) -> Fact<'a> {
        match owner {
            Owner::Itself if self.complete && !(self.is_template && is_added_to_pods(key)) => {
                Fact::of(self.labels, key)
            }
            Owner::Itself => match self.labels.get(key) {
                Some(value) => Fact::Value(value),
                None if self.absent.iter().any(|absent| **absent == *key) => Fact::Absent,
                None if self.present.contains(&key) => Fact::Present,
                None => Fact::Unknown,
            },
            Owner::Namespace => around.namespace_label(self.namespace, key),
            Owner::Account if key == NAME_LABEL => self.account.map_or(Fact::Unknown, Fact::Value),
            Owner::Account => Fact::Unknown,
        }
    }
}

impl Namespaces {
    /// Returns true if these namespaces include every namespace but `own`, and false if they include none of them. `None`
    /// if neither is known.
    fn mean_all_but(&self, own: &str) -> Option<bool> {
        match self {
            Self::Own(name) => (name.as_deref().unwrap_or_default() == own).then_some(false),
            Self::Matching(selector) => match selector.values_of(NAME_LABEL) {
                Some(names) => names.iter().all(|name| **name == *own).then_some(false),
                None => selector.decided(&|_, _| Fact::Unknown),
            },
        }
    }

    /// Returns true if these namespaces include `namespace`. `None` if that is unknown.
    #[must_use]
    pub fn mean(&self, namespace: &str, around: &dyn Surroundings) -> Option<bool> {
        match self {
            Self::Own(own) => Some(own.as_deref().unwrap_or_default() == namespace),
            Self::Matching(selector) => around.means_namespace(selector, namespace),
        }
    }
}

impl Pods {
    /// The state of a label that all of these pods share. A namespace label is known if the pods are in one namespace.
    /// A label of the pods is known if the selector lists exactly one value for it.
    #[must_use]
    pub fn label<'a>(&'a self, owner: Owner, key: &str, around: &'a dyn Surroundings) -> Fact<'a> {
        match (owner, &self.namespaces) {
            (Owner::Namespace, Namespaces::Own(Some(name))) => around.namespace_label(name, key),
            (Owner::Itself, _) => match self.labels.as_ref().and_then(|labels| labels.values_of(key)) {
                Some([value]) => Fact::Value(value),
                _ => Fact::Unknown,
            },
            _ => Fact::Unknown,
        }
    }

    /// Returns true if all of these pods match the label selector of the others, and false if none does. `None` if that
    /// would take a proof.
    #[must_use]
    pub fn have(&self, others: &Self, around: &dyn Surroundings) -> Option<bool> {
        let Some(labels) = &others.labels else { return Some(true) };
        charge(1 + labels.size() / 16);
        if self.labels.as_ref() == Some(labels) {
            return Some(true);
        }
        labels.decided(&|owner, key| self.label(owner, key, around))
    }

    /// Returns true if these pods include the endpoint. `None` if that is unknown.
    #[must_use]
    pub fn mean(&self, endpoint: &Endpoint<'_>, around: &dyn Surroundings) -> Option<bool> {
        let there = self.namespaces.mean(endpoint.namespace, around);
        if there == Some(false) {
            return there;
        }
        let labels =
            self.labels.as_ref().map(|selector| selector.decided(&|owner, key| endpoint.label(owner, key, around)));
        all_of([there, labels.unwrap_or(Some(true))])
    }

    /// Returns true if these pods include every pod outside of the namespace `own`, and false if they include none. `None`
    /// if neither is known.
    fn mean_foreign(&self, own: &str) -> Option<bool> {
        let labels = self.labels.as_ref().map(|labels| labels.decided(&|_, _| Fact::Unknown));
        all_of([self.namespaces.mean_all_but(own), labels.unwrap_or(Some(true))])
    }
}

impl Peers {
    /// Returns true if these peers match the end. `None` if that is unknown.
    #[must_use]
    pub fn mean(&self, end: &End<'_>, around: &dyn Surroundings) -> Option<bool> {
        let Self::Only(peers) = self else { return Some(true) };
        let each = any_of(peers.iter().map(|peer| peer.means(end, around)));
        if each.is_some() || peers.len() < 2 {
            return each;
        }
        // Several blocks may together cover addresses that none of them covers alone.
        let blocks = |inside: bool| {
            AddressSet::union(peers.iter().filter_map(|peer| match &peer.who {
                Who::Addresses(block) if block.inside || !inside => Some(block.addresses()),
                _ => None,
            }))
        };
        match end {
            End::Addresses { set, .. } => blocks(false).covers(set).then_some(true),
            End::Pod(endpoint @ Endpoint { addresses: [], .. }) => {
                blocks(true).covers(endpoint.possible()).then_some(true)
            }
            End::Foreign(_) => blocks(true).covers(&EVERY_V4).then_some(true),
            End::Pod(_) | End::Entity(_) | End::Domain(_) => None,
        }
    }
}

impl Who {
    /// Returns true if the peer matches the end. `None` if that is unknown.
    #[must_use]
    pub fn means(&self, end: &End<'_>, around: &dyn Surroundings) -> Option<bool> {
        charge(1);
        match (self, end) {
            (Self::All(parts), _) => all_of(parts.iter().map(|part| part.means(end, around))),
            (Self::Not(part), _) => part.means(end, around).map(|meant| !meant),
            (Self::Service(service), End::Pod(endpoint)) => {
                let named = service.name.as_ref().is_some_and(|name| endpoint.services.contains(name));
                let there = service.namespace.as_deref().is_none_or(|namespace| namespace == endpoint.namespace);
                (named && there).then_some(true)
            }
            (Self::Unclear(_) | Self::Service(_), _) => None,
            (Self::Pods(pods), End::Pod(endpoint)) => pods.mean(endpoint, around),
            (Self::Pods(pods), End::Foreign(own)) => pods.mean_foreign(own),
            (_, End::Foreign(_)) => self.means(&End::Pod(Endpoint::unknown("")), around),
            (Self::Pods(_), End::Addresses { .. } | End::Entity(_) | End::Domain(_)) => Some(false),
            (Self::Addresses(block), _) => block.means(end),
            (Self::Entity(entity), End::Pod(_)) => match entity {
                Entity::All | Entity::Cluster => Some(true),
                // These entities depend on the state of the pod at run time, not on a manifest.
                Entity::Init | Entity::Unmanaged => None,
                _ => Some(false),
            },
            (Self::Entity(entity), End::Addresses { set, outside }) => match entity {
                Entity::All => Some(true),
                Entity::World if *outside => Some(true),
                Entity::WorldV4 | Entity::WorldV6 if *outside => match (set.has_v4(), set.has_v6()) {
                    (true, true) => None,
                    (has_v4, _) => Some(has_v4 == (*entity == Entity::WorldV4)),
                },
                Entity::None | Entity::Init | Entity::Unmanaged | Entity::Ingress | Entity::Health => Some(false),
                _ if *outside => Some(false),
                // A link-local address is answered by the node of the pod.
                Entity::Host | Entity::Cluster if set.is_link_local() => Some(true),
                _ => None,
            },
            (Self::Entity(entity), End::Domain(_)) => match entity {
                Entity::All | Entity::World => Some(true),
                // The address may be of either family.
                Entity::WorldV4 | Entity::WorldV6 => None,
                _ => Some(false),
            },
            // The API server is on a node, or outside of the cluster.
            (
                Self::Entity(Entity::Host | Entity::RemoteNode | Entity::World | Entity::WorldV4 | Entity::WorldV6),
                End::Entity(Entity::KubeApiserver),
            ) => None,
            (Self::Entity(entity), End::Entity(other)) => Some(entity.includes(*other)),
            // A DNS name resolves to addresses outside of the cluster, known only at run time.
            (Self::Domain(_), End::Pod(_) | End::Entity(_)) => Some(false),
            (Self::Domain(_), End::Addresses { .. }) => None,
            (Self::Domain(pattern), End::Domain(name)) => Some(pattern.overlaps(name)),
            (Self::Nodes(_), End::Pod(_) | End::Domain(_)) => Some(false),
            (Self::Nodes(_), End::Addresses { outside, .. }) => outside.then_some(false),
            (Self::Nodes(labels), End::Entity(entity)) => match entity {
                Entity::Host | Entity::RemoteNode => labels.is_empty().then_some(true),
                Entity::KubeApiserver => None,
                _ => Some(false),
            },
        }
    }
}

impl Block {
    /// Returns true if the CIDR matches the end. `None` if that is unknown.
    pub(super) fn means(&self, end: &End<'_>) -> Option<bool> {
        match end {
            End::Addresses { set, .. } => {
                let own = self.addresses();
                if own.covers(set) {
                    Some(true)
                } else if own.overlaps(set) {
                    None
                } else {
                    Some(false)
                }
            }
            End::Pod(_) | End::Foreign(_) if !self.inside => Some(false),
            // Link-local addresses never leave the node, and no pod has one that other pods can reach.
            End::Pod(Endpoint { addresses: [], .. }) | End::Foreign(_) if is_link_local(self.net) => Some(false),
            // The addresses of the pods are unknown. A block of every IPv4 address includes theirs, even if it excludes
            // parts that no pod can use. In an IPv6-only cluster `clusterDNS` has to list addresses.
            End::Pod(endpoint @ Endpoint { addresses: [], .. }) => {
                self.is_everywhere_but_outside(endpoint.possible()).then_some(true)
            }
            End::Foreign(_) => self.is_everywhere_but_outside(&EVERY_V4).then_some(true),
            End::Pod(Endpoint { addresses, .. }) => {
                let in_block = |address: &IpAddr| Some(self.contains(*address));
                match (all_of(addresses.iter().map(in_block)), any_of(addresses.iter().map(in_block))) {
                    (Some(true), _) => Some(true),
                    (_, Some(false)) => Some(false),
                    _ => None,
                }
            }
            // The addresses of the name are unknown. Nearly every name has one of IPv4.
            End::Domain(_) => (self.net.addr().is_ipv4() && self.is_everywhere()).then_some(true),
            End::Entity(entity) => match entity {
                Entity::World | Entity::WorldV4 | Entity::WorldV6 | Entity::All => None,
                Entity::None => Some(true),
                Entity::KubeApiserver if !self.inside => None,
                Entity::Ingress if is_link_local(self.net) => Some(false),
                _ if !self.inside => Some(false),
                _ => (self.is_everywhere() || self.is_everywhere_but_outside(&EVERY_V4)).then_some(true),
            },
        }
    }
}
