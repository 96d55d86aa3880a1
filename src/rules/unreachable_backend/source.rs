//! The places from which a caller may connect.

use std::sync::LazyLock;

use super::super::Case;
use super::super::shared::destination::Looks;
use crate::model::{AddressSet, Caller, End, Endpoint, Entity, Service};
use crate::view::NamespaceFacts;

/// A caller, by the places from which it may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The API server.
    ApiServer,
    /// Clients outside of the cluster.
    Outside,
    /// Clients outside of the cluster, through the pods of a load balancer.
    OutsideByPods,
    /// An ingress controller or a gateway.
    Proxy,
}

impl From<Caller> for Source {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::ApiServer => Self::ApiServer,
            Caller::Proxy => Self::Proxy,
        }
    }
}

/// The namespace of the agents of Konnectivity, and of the load balancer of k3s.
const SYSTEM: &str = "kube-system";

/// The start of the names of Konnectivity's agents. On managed control planes they connect in place of the API server.
const TUNNEL: &str = "konnectivity-agent";

impl Source {
    /// The source of the connections that an exposed Service receives.
    pub(super) fn of_exposed(service: &Service) -> Self {
        if service.has_load_balancer_class { Self::OutsideByPods } else { Self::Outside }
    }

    /// Returns true for an ingress controller or a gateway.
    pub(super) fn is_proxy(self) -> bool {
        self == Self::Proxy
    }

    /// The places from which connections to pods of a namespace may come, the most likely one first. None if the limit
    /// of comparisons is reached.
    pub(super) fn ends<'a>(self, case: &Case<'a>, namespace: &'a str, looks: &mut Looks) -> Option<Vec<End<'a>>> {
        // Link-local addresses are those of the node of the pod: rules for kubelet probes allow them.
        static ANYWHERE: LazyLock<AddressSet> =
            LazyLock::new(|| AddressSet::union([AddressSet::every_v4_of_pods(), AddressSet::every_v6_of_pods()]));
        let mut ends = vec![End::Addresses { set: &ANYWHERE, outside: false }];
        match self {
            Self::ApiServer => ends.extend(may_have_tunnel(case, looks)?.then(|| End::Pod(Endpoint::unknown(SYSTEM)))),
            Self::Outside => {
                let platform = case.site.platform_namespaces.iter().filter_map(|pattern| pattern.name());
                looks.take(case.site.platform_namespaces.len())?;
                let platform = platform.filter(|name| *name != SYSTEM).chain([SYSTEM]);
                ends.extend(platform.map(|name| End::Pod(Endpoint::unknown(name))));
            }
            Self::OutsideByPods => ends.push(End::Foreign(namespace)),
            Self::Proxy => ends.extend([End::Foreign(namespace), End::Entity(Entity::Ingress)]),
        }
        Some(ends)
    }
}

/// Returns true if the API server may connect through Konnectivity. Only a whole cluster shows that it does not.
fn may_have_tunnel(case: &Case<'_>, looks: &mut Looks) -> Option<bool> {
    if !case.view.is_whole() {
        return Some(true);
    }
    let running = case.view.namespace(SYSTEM).into_iter().flat_map(NamespaceFacts::distinct);
    for running in running {
        looks.take(1)?;
        if running.name.starts_with(TUNNEL) && running.workload.host_network.is_none() {
            return Some(true);
        }
    }
    Some(false)
}
