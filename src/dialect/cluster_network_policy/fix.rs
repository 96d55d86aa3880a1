//! Translates a [`Fix`] into a JSON patch for the manifest as written.
//!
//! Only an allow rule can be expressed. It is inserted before all other rules, so that it is evaluated first. The patch
//! uses only fields of the standard channel.

use serde::Serialize;

use super::Which;
use crate::dialect::Manifest;
use crate::dialect::label_selector::{self, Written};
use crate::dialect::patch::Patch;
use crate::model::{Direction, Fix, Namespaces, Numbers, Peer, Port, Protocol, Who};

/// A rule to write.
#[derive(Serialize)]
struct Rule<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    from: &'a [WrittenPeer<'a>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    to: &'a [WrittenPeer<'a>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    protocols: &'a [WrittenPort<'a>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ports: &'a [WrittenPort<'a>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum WrittenPeer<'a> {
    Namespaces(Written<'a>),
    Pods { namespace_selector: Written<'a>, pod_selector: Written<'a> },
    Networks([String; 1]),
}

/// An entry of `protocols`, or of `ports` in v1alpha1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum WrittenPort<'a> {
    Tcp { destination_port: DestinationPort },
    Udp { destination_port: DestinationPort },
    Sctp { destination_port: DestinationPort },
    DestinationNamedPort(&'a str),
    PortNumber { protocol: &'static str, port: u16 },
    PortRange { protocol: &'static str, start: u16, end: u16 },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum DestinationPort {
    Number(u16),
    Range { start: u16, end: u16 },
}

pub(super) fn patch(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    let Fix::Allow { rules, has_rules, direction, peers, ports } = fix else { return None };
    let which = Which::of(manifest);
    let peers: Vec<WrittenPeer<'_>> = peers.iter().map(|peer| write_peer(peer, *direction)).collect::<Option<_>>()?;
    // A rule needs at least one peer. The API cannot express "any peer".
    if peers.is_empty() {
        return None;
    }
    let mut written = Vec::with_capacity(ports.len());
    for port in ports {
        write_port(port, which, &mut written)?;
    }
    let (from, to) = match direction {
        Direction::Ingress => (peers.as_slice(), &[][..]),
        Direction::Egress => (&[][..], peers.as_slice()),
    };
    let (protocols, ports) = match which {
        Which::Cluster => (written.as_slice(), &[][..]),
        Which::Admin | Which::Baseline => (&[][..], written.as_slice()),
    };
    let rule = Rule { action: which.allow(), from, to, protocols, ports };
    let mut patch = Patch::default();
    if *has_rules {
        patch.add(&rules.index(0), &rule);
    } else {
        patch.append(manifest, rules, &rule)?;
    }
    Some(patch)
}

fn write_peer(peer: &Peer, direction: Direction) -> Option<WrittenPeer<'_>> {
    match &peer.who {
        Who::Pods(pods) => {
            let Namespaces::Matching(namespaces) = &pods.namespaces else { return None };
            let namespaces = label_selector::write(namespaces)?;
            Some(match &pods.labels {
                Some(labels) => {
                    WrittenPeer::Pods { namespace_selector: namespaces, pod_selector: label_selector::write(labels)? }
                }
                None => WrittenPeer::Namespaces(namespaces),
            })
        }
        Who::Addresses(block) if direction == Direction::Egress && block.inside && block.except.is_empty() => {
            Some(WrittenPeer::Networks([block.net.to_string()]))
        }
        _ => None,
    }
}

fn write_port<'a>(port: &'a Port, which: Which, written: &mut Vec<WrittenPort<'a>>) -> Option<()> {
    let (start, end) = match &port.numbers {
        Numbers::All => (1, u16::MAX),
        Numbers::Range(first, last) => (*first, *last),
        // A named port includes its protocol. In v1alpha1, named ports are only in the experimental channel.
        Numbers::Named(name) if which == Which::Cluster && port.protocol.is_none() => {
            written.push(WrittenPort::DestinationNamedPort(name));
            return Some(());
        }
        Numbers::Named(_) | Numbers::Messages(..) => return None,
    };
    let every = Protocol::WITH_PORTS;
    for protocol in port.protocol.as_ref().map_or(every.as_slice(), std::slice::from_ref) {
        written.push(if which == Which::Cluster {
            let destination_port =
                if start == end { DestinationPort::Number(start) } else { DestinationPort::Range { start, end } };
            match protocol {
                Protocol::Tcp => WrittenPort::Tcp { destination_port },
                Protocol::Udp => WrittenPort::Udp { destination_port },
                Protocol::Sctp => WrittenPort::Sctp { destination_port },
                _ => return None,
            }
        } else {
            let protocol = protocol.name().filter(|_| protocol.has_ports())?;
            if start == end {
                WrittenPort::PortNumber { protocol, port: start }
            } else {
                WrittenPort::PortRange { protocol, start, end }
            }
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use crate::dialect::cluster_network_policy::read;
    use crate::model::{Action, Block, Path, Pods, Policy, Selector};
    use serde_json::{Value, json};

    const CLUSTER: (&str, &str) = ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy");
    const BASELINE: (&str, &str) = ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy");

    fn made(fix: &Fix, (version, kind): (&str, &str), manifest: &Value) -> Option<Patch> {
        patch(fix, &Manifest::read(version, kind, &manifest.to_string(), Origin::Author).unwrap())
    }

    /// The manifest after the fix, and the policy read from it.
    fn fixed(fix: &Fix, (version, kind): (&str, &str), manifest: &Value) -> (Value, Policy) {
        let after = made(fix, (version, kind), manifest).unwrap().applied_to(manifest).unwrap();
        let json = after.to_string();
        let object = read::object(&Manifest::read(version, kind, &json, Origin::Author).unwrap()).unwrap();
        assert!(object.faults.is_empty(), "{:?}", object.faults);
        (after, object.policies()[0].clone())
    }

    fn peer(who: Who) -> Peer {
        Peer::new(Path::root(), who)
    }

    fn dns() -> Peer {
        let namespaces = Namespaces::Matching(Selector::equals("kubernetes.io/metadata.name", "kube-system"));
        peer(Who::Pods(Pods { namespaces, labels: Some(Selector::equals("k8s-app", "kube-dns")) }))
    }

    fn port(protocol: Option<Protocol>, numbers: Numbers) -> Port {
        Port { path: Path::root(), protocol, numbers }
    }

    fn allow(has_rules: bool, direction: Direction, peers: Vec<Peer>, ports: Vec<Port>) -> Fix {
        let rules = Path::root().field("spec").field(direction.name());
        Fix::Allow { rules, has_rules, direction, peers, ports }
    }

    fn allow_dns(has_rules: bool) -> Fix {
        let ports = [Protocol::Udp, Protocol::Tcp].map(|protocol| port(Some(protocol), Numbers::Range(53, 53)));
        allow(has_rules, Direction::Egress, vec![dns()], ports.into())
    }

    #[test]
    fn a_rule_is_put_before_those_that_deny() {
        let deny = json!({"action": "Deny", "to": [{"namespaces": {}}]});
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [deny]});
        let (after, policy) = fixed(&allow_dns(true), CLUSTER, &json!({"spec": spec}));
        let accept = json!({
            "action": "Accept",
            "to": [{"pods": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }}],
            "protocols": [
                {"udp": {"destinationPort": {"number": 53}}},
                {"tcp": {"destinationPort": {"number": 53}}},
            ],
        });
        assert_eq!(after["spec"]["egress"], json!([accept, deny]));
        let actions: Vec<Action> = policy.egress.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [Action::Allow, Action::Deny]);
        assert_eq!(policy.egress.rules[0].ports.to_string(), "UDP 53, TCP 53");
    }

    #[test]
    fn kinds_of_v1alpha1_have_their_own_words() {
        let deny = json!({"action": "Deny", "to": [{"namespaces": {}}]});
        let manifest = json!({"spec": {"subject": {"namespaces": {}}, "egress": [deny]}});
        let (after, policy) = fixed(&allow_dns(true), BASELINE, &manifest);
        assert_eq!(after["spec"]["egress"][0]["action"], "Allow");
        assert_eq!(
            after["spec"]["egress"][0]["ports"],
            json!([{"portNumber": {"protocol": "UDP", "port": 53}}, {"portNumber": {"protocol": "TCP", "port": 53}}])
        );
        assert_eq!(policy.egress.rules[0].ports.to_string(), "UDP 53, TCP 53");
        let some = port(None, Numbers::Range(5, 9));
        let (after, _) = fixed(&allow(true, Direction::Egress, vec![dns()], vec![some]), BASELINE, &manifest);
        assert_eq!(
            after["spec"]["egress"][0]["ports"],
            json!(["TCP", "UDP", "SCTP"].map(|name| json!({"portRange": {"protocol": name, "start": 5, "end": 9}})))
        );
    }

    #[test]
    fn a_list_that_is_missing_is_made() {
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}});
        for list in [None, Some(json!(null)), Some(json!([]))] {
            let mut spec = spec.clone();
            if let Some(list) = list {
                spec["egress"] = list;
            }
            let (_, policy) = fixed(&allow_dns(false), CLUSTER, &json!({"spec": spec}));
            assert_eq!(policy.egress.rules.len(), 1);
        }
    }

    #[test]
    fn what_cannot_be_said_is_not_written() {
        let manifest = json!({"spec": {"subject": {"namespaces": {}}}});
        let address = |except: Option<&str>| {
            let except = except.map(|net| net.parse().unwrap()).into_iter().collect();
            peer(Who::Addresses(Block { net: "10.0.0.0/8".parse().unwrap(), except, inside: true }))
        };
        let egress = |peers: Vec<Peer>| made(&allow(false, Direction::Egress, peers, Vec::new()), CLUSTER, &manifest);
        assert!(egress(vec![address(None)]).is_some());
        assert!(egress(vec![address(Some("10.1.0.0/16"))]).is_none());
        assert!(egress(vec![peer(Who::Nodes(Selector::everything()))]).is_none());
        assert!(egress(Vec::new()).is_none());
        let own = Pods { namespaces: Namespaces::Own(None), labels: None };
        assert!(egress(vec![peer(Who::Pods(own))]).is_none());
        let ingress = allow(false, Direction::Ingress, vec![address(None)], Vec::new());
        assert!(made(&ingress, CLUSTER, &manifest).is_none());
        let named =
            |protocol| allow(false, Direction::Egress, vec![dns()], vec![port(protocol, Numbers::Named("dns".into()))]);
        assert!(made(&named(None), CLUSTER, &manifest).is_some());
        assert!(made(&named(Some(Protocol::Udp)), CLUSTER, &manifest).is_none());
        assert!(made(&named(None), BASELINE, &manifest).is_none());
        assert!(made(&Fix::DeclareTypes { directions: Vec::new() }, CLUSTER, &manifest).is_none());
    }
}
