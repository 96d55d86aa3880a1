//! Network sets: addresses that the selectors of rules match by the labels of the set
//! (`libcalico-go/lib/backend/syncersv1/updateprocessors/networksetprocessor.go`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::budget::charge;
use crate::dialect::cidr;
use crate::model::{Block, NetworkSet};

/// The network set of a NetworkSet or GlobalNetworkSet manifest. None for other manifests.
#[must_use]
pub(crate) fn network_set(manifest: &Value) -> Option<NetworkSet> {
    let text = |field: &str| manifest.get(field).and_then(Value::as_str);
    let (group, _) = text("apiVersion")?.split_once('/')?;
    if !matches!(group, "projectcalico.org" | "crd.projectcalico.org") {
        return None;
    }
    let namespace = match text("kind")? {
        "NetworkSet" => {
            Some(manifest.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().into())
        }
        "GlobalNetworkSet" => None,
        _ => return None,
    };
    let labels = manifest.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let list = |field: &str| manifest.pointer(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let nets = list("/spec/nets").iter().filter_map(Value::as_str).inspect(|_| charge(1));
    // Felix leaves out what it cannot parse.
    let nets = nets.filter_map(|net| cidr::parse_net(net).or_else(|| net.parse::<IpAddr>().ok().map(IpNet::from)));
    Some(NetworkSet {
        namespace,
        labels: labels.collect(),
        blocks: nets.map(|net| Block::whole(net.trunc())).collect(),
        // DNS names, in editions of Calico that support them.
        has_more: !list("/spec/allowedEgressDomains").is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_set_has_its_labels_and_its_nets() {
        let manifest = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "NetworkSet",
            "metadata": {"name": "db", "namespace": "shop", "labels": {"role": "db"}},
            "spec": {"nets": ["192.0.2.7/24", "198.51.100.1", "fd00::/8", "garbage"]},
        });
        let set = network_set(&manifest).unwrap();
        assert_eq!((set.namespace.as_deref(), set.labels.get("role")), (Some("shop"), Some("db")));
        let blocks: Vec<String> = set.blocks.iter().map(ToString::to_string).collect();
        assert_eq!(blocks, ["192.0.2.0/24", "198.51.100.1/32", "fd00::/8"]);
        assert!(!set.has_more);
        let global = json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkSet", "metadata": {"name": "db"},
            "spec": {"allowedEgressDomains": ["example.com"]},
        });
        let set = network_set(&global).unwrap();
        assert!(set.namespace.is_none() && set.blocks.is_empty() && set.has_more);
        let other = json!({"apiVersion": "example.com/v1", "kind": "NetworkSet", "metadata": {"name": "db"}});
        assert_eq!(network_set(&other), None);
    }
}
