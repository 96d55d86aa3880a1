//! Pods that share a workload: one end of the compared connections.

use std::net::IpAddr;

use crate::model::{Endpoint, Workload};
use crate::view::{NamespaceFacts, Running};

/// Pods that are alike: those of one template share their workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alike<'a> {
    pub(super) namespace: &'a str,
    /// The kind and the name of the first of them.
    pub(super) id: (&'a str, &'a str),
    pub(super) workload: &'a Workload,
    /// The address, if it is one pod.
    addresses: &'a [IpAddr],
    /// True if it is one pod. A workload in a manifest has an unknown number of pods.
    pub(super) is_one_pod: bool,
}

impl<'a> Alike<'a> {
    /// The pods of a namespace that are not hostNetwork pods.
    pub(super) fn on_pod_network(namespace: &'a str, facts: &'a NamespaceFacts) -> impl Iterator<Item = Self> {
        facts.alike().filter_map(move |alike| {
            let first = alike.first().filter(|running| running.workload.host_network.is_none())?;
            let id = (&*first.kind, &*first.name);
            let addresses =
                if let [Running { address: Some(address), .. }] = alike { std::slice::from_ref(address) } else { &[] };
            let is_one_pod = alike.len() == 1 && id.0 == "Pod";
            Some(Self { namespace, id, workload: &first.workload, addresses, is_one_pod })
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint<'a> {
        Endpoint { addresses: self.addresses, ..Endpoint::of(self.namespace, self.workload) }
    }

    pub(super) fn name(&self) -> String {
        let (kind, name) = self.id;
        format!("{kind} {}/{name}", self.namespace)
    }
}
