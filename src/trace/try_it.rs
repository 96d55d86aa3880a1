//! Commands that try a connection for real, and that show its packets on the node.

use super::place::{Place, PlaceKind};
use crate::model::Protocol;
use crate::view::Scene;

/// Returns a command that opens the connection from the sender's pods. None for senders that are no pods, for every port,
/// and for protocols that `nc` does not speak.
pub(super) fn command(from: &Place, to: &Place) -> Option<String> {
    let PlaceKind::Pods { namespace, object: Some((kind, name)), .. } = &from.kind else { return None };
    let (protocol, number) = to.port?;
    let flags = match protocol {
        Protocol::Tcp => "-vz",
        Protocol::Udp => "-vzu",
        _ => return None,
    };
    let address = match &to.kind {
        PlaceKind::Pods { addresses, .. } if !addresses.is_empty() => addresses.first()?.to_string(),
        PlaceKind::Pods { namespace, workload, .. } => {
            let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let selector = labels.join(",");
            format!(
                "$(kubectl --namespace {namespace} get pods --selector {selector} --output jsonpath='{{.items[0].status.podIP}}')"
            )
        }
        PlaceKind::Domain(_) => to.name.clone(),
        PlaceKind::Addresses { .. } => to.name.parse::<std::net::IpAddr>().ok()?.to_string(),
        PlaceKind::Entity(_) => return None,
    };
    let kind = kind.to_ascii_lowercase();
    Some(format!("kubectl --namespace {namespace} exec {kind}/{name} -- nc {flags} -w 3 {address} {number}"))
}

/// Returns a command that shows dropped packets, for the network plugin whose policies apply at either end.
pub(super) fn inspection(scene: Scene<'_>, from: &Place, to: &Place) -> Option<&'static str> {
    let mut policies =
        [from, to].into_iter().filter_map(Place::namespace).flat_map(|namespace| scene.policies(namespace));
    policies.find_map(|policy| match policy.object.group() {
        "cilium.io" => Some("kubectl --namespace kube-system exec daemonset/cilium -- cilium-dbg monitor --type drop"),
        "projectcalico.org" | "crd.projectcalico.org" => Some(
            "iptables-save --counters | grep -- cali- (packets of rules that drop), or calicoctl get workloadendpoints",
        ),
        _ => None,
    })
}
