//! Translates a [`Fix`] into a JSON patch.
//!
//! A patch applies to the manifest as written, not to the model read from it. Missing parents are added, and fields
//! that are not understood are kept.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::dialect::label_selector::{self, Written};
use crate::dialect::patch::{Patch, find};
use crate::dialect::{Manifest, cidr};
use crate::model::{Direction, Fix, Namespaces, Numbers, Path, Peer, Port, Protocol, Who};

/// A rule to write.
#[derive(Serialize)]
struct Rule<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    from: &'a [WrittenPeer<'a>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    to: &'a [WrittenPeer<'a>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<WrittenPort<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPeer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_selector: Option<Written<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_selector: Option<Written<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_block: Option<cidr::Written>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPort<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<IntOrString<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_port: Option<u16>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum IntOrString<'a> {
    Number(u16),
    Name(&'a str),
}

pub(super) fn patch(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    let mut patch = Patch::default();
    match fix {
        Fix::Allow { rules, has_rules, direction, peers, ports } => {
            let peers: Vec<WrittenPeer<'_>> = peers.iter().map(write_peer).collect::<Option<_>>()?;
            let (from, to) = match direction {
                Direction::Ingress => (peers.as_slice(), &[][..]),
                Direction::Egress => (&[][..], peers.as_slice()),
            };
            let rule = Rule { from, to, ports: ports.iter().map(write_port).collect::<Option<_>>()? };
            // Existing rules prove that the list exists.
            if *has_rules {
                patch.push_item(rules, &rule);
            } else {
                patch.append(manifest, rules, &rule)?;
            }
        }
        Fix::RepeatPort { port, protocol } => {
            let mut entry: Value = serde_json::from_str(find(manifest, port)?.get()).ok()?;
            entry.as_object_mut()?.insert("protocol".into(), protocol.name()?.into());
            patch.append(manifest, &port.parent(), &entry)?;
        }
        Fix::JoinPeers { namespaces, pods } => {
            let selector: &RawValue = find(manifest, &pods.field("podSelector"))?;
            patch.add(&namespaces.field("podSelector"), selector);
            patch.remove(pods);
        }
        Fix::LeaveOut { peer, net } => {
            patch.append(manifest, &peer.field("ipBlock").field("except"), &net.to_string())?;
        }
        Fix::WatchLookups { .. } => return None,
        Fix::DeclareTypes { directions } => {
            patch.add_types(&Path::root().field("spec").field("policyTypes"), directions);
        }
    }
    Some(patch)
}

fn write_peer(peer: &Peer) -> Option<WrittenPeer<'_>> {
    let mut written = WrittenPeer { namespace_selector: None, pod_selector: None, ip_block: None };
    match &peer.who {
        Who::Pods(pods) => {
            if let Namespaces::Matching(namespaces) = &pods.namespaces {
                written.namespace_selector = Some(label_selector::write(namespaces)?);
            }
            if let Some(labels) = &pods.labels {
                written.pod_selector = Some(label_selector::write(labels)?);
            }
        }
        Who::Addresses(block) => {
            written.ip_block = Some(block.into());
        }
        _ => return None,
    }
    Some(written)
}

fn write_port(port: &Port) -> Option<WrittenPort<'_>> {
    let (number, end_port) = match &port.numbers {
        Numbers::All => (None, None),
        Numbers::Range(first, last) => (Some(IntOrString::Number(*first)), (first != last).then_some(*last)),
        Numbers::Named(name) => (Some(IntOrString::Name(name)), None),
        Numbers::Messages(..) => return None,
    };
    Some(WrittenPort { protocol: port.protocol.and_then(Protocol::name), port: number, end_port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use crate::model::{Pods, Selector};
    use serde_json::json;

    fn made(fix: &Fix, json: &str) -> Option<Patch> {
        patch(fix, &Manifest::read("networking.k8s.io/v1", "NetworkPolicy", json, Origin::Author).unwrap())
    }

    fn fixed(fix: &Fix, manifest: &Value) -> Value {
        made(fix, &manifest.to_string()).unwrap().applied_to(manifest).unwrap()
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
            has_rules: false,
            direction: Direction::Egress,
            peers: vec![Peer::new(Path::root(), Who::Pods(pods))],
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
        assert!(made(&allow_dns(), r#"{"spec": {"egress": "text"}}"#).is_none(), "what is no list is left alone");
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
