//! A fix on the model → JSON patch.
//!
//! Patches are made for the manifest as it is written, not for what was read from it: parents that are missing are
//! added, and fields that are not understood stay.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Map, Value, json};

use crate::dialect::label_selector;
use crate::model::{Direction, Fix, Namespaces, Numbers, Path, Peer, Port, Who};

pub(super) fn patch(fix: &Fix, manifest: &Value) -> Option<Patch> {
    let operations = match fix {
        Fix::Allow { rules, direction, peers, ports } => {
            let mut rule = Map::new();
            if !peers.is_empty() {
                let field = if *direction == Direction::Ingress { "from" } else { "to" };
                rule.insert(field.into(), peers.iter().map(write_peer).collect::<Option<Value>>()?);
            }
            if !ports.is_empty() {
                rule.insert("ports".into(), ports.iter().map(write_port).collect());
            }
            append(manifest, rules, Value::Object(rule))?
        }
        Fix::RepeatPort { port, protocol } => {
            let mut entry = manifest.pointer(&port.pointer())?.as_object()?.clone();
            entry.insert("protocol".into(), json!(protocol.name()));
            append(manifest, &port.parent(), Value::Object(entry))?
        }
        Fix::JoinPeers { namespaces, pods } => {
            let selector = manifest.pointer(&pods.field("podSelector").pointer())?.clone();
            vec![add(&namespaces.field("podSelector"), selector)?, remove(pods)?]
        }
        Fix::LeaveOut { peer, net } => {
            append(manifest, &peer.field("ipBlock").field("except"), json!(net.to_string()))?
        }
        Fix::DeclareTypes { directions } => {
            let types: Vec<&str> = directions
                .iter()
                .map(|direction| if *direction == Direction::Ingress { "Ingress" } else { "Egress" })
                .collect();
            vec![add(&Path::root().field("spec").field("policyTypes"), json!(types))?]
        }
    };
    Some(Patch(operations))
}

/// Adds an item to a list, with the list and what it is in where they are missing.
fn append(manifest: &Value, list: &Path, item: Value) -> Option<Vec<PatchOperation>> {
    let at = |path: &Path| manifest.pointer(&path.pointer()).filter(|value| !value.is_null());
    let mut operations = Vec::new();
    if at(&list.parent()).is_none() {
        operations.push(add(&list.parent(), json!({}))?);
    }
    match at(list) {
        Some(Value::Array(_)) => {
            let end = format!("{}/-", list.pointer());
            operations.push(PatchOperation::Add(AddOperation { path: PointerBuf::parse(end).ok()?, value: item }));
        }
        Some(_) => return None,
        None => operations.push(add(list, Value::Array(vec![item]))?),
    }
    Some(operations)
}

fn add(path: &Path, value: Value) -> Option<PatchOperation> {
    Some(PatchOperation::Add(AddOperation { path: PointerBuf::parse(path.pointer()).ok()?, value }))
}

fn remove(path: &Path) -> Option<PatchOperation> {
    Some(PatchOperation::Remove(RemoveOperation { path: PointerBuf::parse(path.pointer()).ok()? }))
}

fn write_peer(peer: &Peer) -> Option<Value> {
    let mut written = Map::new();
    match &peer.who {
        Who::Pods(pods) => {
            if let Namespaces::Matching(namespaces) = &pods.namespaces {
                written.insert("namespaceSelector".into(), label_selector::write(namespaces)?);
            }
            if let Some(labels) = &pods.labels {
                written.insert("podSelector".into(), label_selector::write(labels)?);
            }
        }
        Who::Addresses(block) => {
            let mut ip_block = Map::new();
            ip_block.insert("cidr".into(), json!(block.net.to_string()));
            if !block.except.is_empty() {
                ip_block.insert("except".into(), block.except.iter().map(ToString::to_string).collect());
            }
            written.insert("ipBlock".into(), Value::Object(ip_block));
        }
    }
    Some(Value::Object(written))
}

fn write_port(port: &Port) -> Value {
    let mut written = Map::new();
    if let Some(protocol) = port.protocol {
        written.insert("protocol".into(), json!(protocol.name()));
    }
    match &port.numbers {
        Numbers::All => {}
        Numbers::Range(first, last) => {
            written.insert("port".into(), json!(first));
            if last != first {
                written.insert("endPort".into(), json!(last));
            }
        }
        Numbers::Named(name) => {
            written.insert("port".into(), json!(name));
        }
    }
    Value::Object(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pods, Protocol, Selector};

    fn fixed(fix: &Fix, manifest: &Value) -> Value {
        let mut manifest = manifest.clone();
        let patch = patch(fix, &manifest).unwrap();
        json_patch::patch(&mut manifest, &patch).unwrap();
        manifest
    }

    fn spec() -> Path {
        Path::root().field("spec")
    }

    fn allow_dns() -> Fix {
        let namespace = Selector::equals("kubernetes.io/metadata.name", "kube-system");
        let pods =
            Pods { namespaces: Namespaces::Matching(namespace), labels: Some(Selector::equals("k8s-app", "kube-dns")) };
        Fix::Allow {
            rules: spec().field("egress"),
            direction: Direction::Egress,
            peers: vec![Peer { path: Path::root(), who: Who::Pods(pods) }],
            ports: vec![Port { path: Path::root(), protocol: Some(Protocol::Udp), numbers: Numbers::Range(53, 53) }],
        }
    }

    #[test]
    fn a_rule_is_added_wherever_its_list_is_or_is_missing() {
        let rule = json!({
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }],
            "ports": [{"protocol": "UDP", "port": 53}],
        });
        for (before, after) in [
            (json!({}), json!({"spec": {"egress": [rule]}})),
            (json!({"spec": null}), json!({"spec": {"egress": [rule]}})),
            (json!({"spec": {"x-unknown": 1}}), json!({"spec": {"x-unknown": 1, "egress": [rule]}})),
            (json!({"spec": {"egress": null}}), json!({"spec": {"egress": [rule]}})),
            (json!({"spec": {"egress": [{"future": 1}]}}), json!({"spec": {"egress": [{"future": 1}, rule]}})),
        ] {
            assert_eq!(fixed(&allow_dns(), &before), after);
        }
        assert_eq!(patch(&allow_dns(), &json!({"spec": {"egress": "text"}})), None, "what is no list is left alone");
    }

    #[test]
    fn a_port_is_repeated_for_another_protocol() {
        let ports = spec().field("egress").index(0).field("ports");
        let before = json!({"spec": {"egress": [{"ports": [{"protocol": "UDP", "port": 53}]}]}});
        let fix = Fix::RepeatPort { port: ports.index(0), protocol: Protocol::Tcp };
        let after = json!({"spec": {"egress": [{"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]}});
        assert_eq!(fixed(&fix, &before), after);
    }

    #[test]
    fn two_peers_become_one_in_either_order() {
        let from = spec().field("ingress").index(0).field("from");
        let (namespaces, pods) = (json!({"matchLabels": {"n": "1"}}), json!({"matchLabels": {"p": "2"}}));
        let joined = json!({"namespaceSelector": namespaces, "podSelector": pods});
        let wrap = |peers: Value| json!({"spec": {"ingress": [{"from": peers}]}});
        let fix = |namespaces: usize, pods: usize| Fix::JoinPeers {
            namespaces: from.index(namespaces),
            pods: from.index(pods),
        };
        let (n, p) = (json!({"namespaceSelector": namespaces}), json!({"podSelector": pods}));
        assert_eq!(fixed(&fix(0, 1), &wrap(json!([n, p]))), wrap(json!([joined])));
        assert_eq!(fixed(&fix(1, 0), &wrap(json!([p, n]))), wrap(json!([joined])));
    }

    #[test]
    fn an_address_is_left_out_of_a_block() {
        let peer = spec().field("egress").index(0).field("to").index(0);
        let fix = Fix::LeaveOut { peer, net: "169.254.169.254/32".parse().unwrap() };
        let before = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
        let after = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]}]}});
        assert_eq!(fixed(&fix, &before), after);
    }
}
