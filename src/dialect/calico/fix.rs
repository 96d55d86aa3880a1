//! Translates a [`Fix`] into a JSON patch.

use serde::Serialize;
use serde_json::{Value, json};

use super::selector::write;
use crate::dialect::Manifest;
use crate::dialect::patch::{Patch, find};
use crate::model::{
    Block, Direction, Fix, Namespaces, Numbers, Path, Peer, Pods, Port, Protocol, Selector, Step, Who,
    is_stored_by_calico,
};

/// A rule to write.
#[derive(Serialize)]
struct Rule<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<IntOrString<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Entity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Entity<'a>>,
}

#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_selector: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_nets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<IntOrString<'a>>,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum IntOrString<'a> {
    Number(u16),
    Range(String),
    Name(&'a str),
}

pub(super) fn patch(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    if manifest.kind == "StagedKubernetesNetworkPolicy" {
        use crate::dialect::Dialect;
        return crate::dialect::kubernetes::Kubernetes.fix(fix, manifest);
    }
    let mut patch = Patch::default();
    match fix {
        Fix::Allow { rules, has_rules, direction, peers, ports } => {
            let written = allow(*direction, peers, ports, manifest.kind.contains("Global"))?;
            for (position, rule) in written.iter().enumerate() {
                // Inserted before all other rules, since a later rule may deny the same traffic.
                match (has_rules, position) {
                    (true, _) => patch.add(&rules.index(position), rule),
                    (false, 0) => patch.append(manifest, rules, rule)?,
                    (false, _) => patch.push_item(rules, rule),
                }
            }
            // Without `types`, a stored policy isolates both directions. Next to rules of one direction that would look
            // like a mistake, so the patch sets both types explicitly.
            let types = Path::root().field("spec").field("types");
            let are_missing = find(manifest, &types).is_none_or(|types| ["null", "[]"].contains(&types.get()));
            let is_unfilled = is_stored_by_calico(manifest.api_version) || manifest.is_stored();
            if !has_rules && are_missing && is_unfilled {
                patch.add_types(&types, &[Direction::Ingress, Direction::Egress]);
            }
        }
        Fix::RepeatPort { port, protocol } => {
            let (rule, position) = rule_of(port)?;
            let mut written: Value = serde_json::from_str(find(manifest, &rule)?.get()).ok()?;
            written.as_object_mut()?.insert("protocol".into(), json!(protocol.name()?));
            // The copy has only the port that is repeated.
            if let [.., Step::Field(field), Step::Index(_)] = port.steps()
                && field == "ports"
            {
                let entry: Value = serde_json::from_str(find(manifest, port)?.get()).ok()?;
                written.get_mut("destination")?.as_object_mut()?.insert("ports".into(), json!([entry]));
            }
            patch.add(&rule.parent().index(position + 1), &written);
        }
        Fix::LeaveOut { peer, net } => {
            let (rule, _) = rule_of(peer)?;
            let end = match rule.steps() {
                [_, Step::Field(direction), _] if direction == "ingress" => "source",
                _ => "destination",
            };
            patch.append(manifest, &rule.field(end).field("notNets"), &net.to_string())?;
        }
        Fix::DeclareTypes { directions } => {
            patch.add_types(&Path::root().field("spec").field("types"), directions);
        }
        Fix::JoinPeers { .. } | Fix::WatchLookups { .. } => return None,
    }
    Some(patch)
}

/// The rule that contains a path, such as `spec.egress[0]`, and its position.
fn rule_of(place: &Path) -> Option<(Path, usize)> {
    let mut rule = place.clone();
    while rule.steps().len() > 3 {
        rule = rule.parent();
    }
    match rule.steps() {
        [_, _, Step::Index(position)] => Some((rule.clone(), *position)),
        _ => None,
    }
}

/// Builds one rule per protocol and peer, since a rule of Calico has one of each.
fn allow<'a>(direction: Direction, peers: &[Peer], ports: &'a [Port], is_global: bool) -> Option<Vec<Rule<'a>>> {
    let far = ends(peers, is_global)?;
    let mut rules = Vec::new();
    for (protocol, ports) in by_protocol(ports)? {
        for end in &far {
            let (source, destination) = match direction {
                Direction::Ingress => {
                    let own = Entity { ports: ports.clone(), ..Entity::default() };
                    (Some(end.clone()), (!ports.is_empty()).then_some(own))
                }
                Direction::Egress => (None, Some(Entity { ports: ports.clone(), ..end.clone() })),
            };
            rules.push(Rule { action: "Allow", protocol: protocol.clone(), source, destination });
        }
    }
    Some(rules)
}

fn ends<'a>(peers: &[Peer], is_global: bool) -> Option<Vec<Entity<'a>>> {
    let mut ends: Vec<Entity<'a>> = Vec::new();
    let mut blocks: [Vec<String>; 2] = Default::default();
    for peer in peers {
        match &peer.who {
            Who::Pods(pods) => ends.push(selected(pods, is_global)?),
            Who::Addresses(Block { net, except, .. }) if except.is_empty() => {
                let [v4, v6] = &mut blocks;
                // All blocks of a rule have the same family.
                if net.addr().is_ipv4() { v4.push(net.to_string()) } else { v6.push(net.to_string()) }
            }
            Who::Addresses(Block { net, except, .. }) => {
                let not_nets = except.iter().map(ToString::to_string).collect();
                ends.push(Entity { nets: vec![net.to_string()], not_nets, ..Entity::default() });
            }
            _ => return None,
        }
    }
    ends.extend(blocks.into_iter().filter(|nets| !nets.is_empty()).map(|nets| Entity { nets, ..Entity::default() }));
    (!ends.is_empty()).then_some(ends)
}

fn selected<'a>(pods: &Pods, is_global: bool) -> Option<Entity<'a>> {
    let namespace_selector = match &pods.namespaces {
        Namespaces::Matching(selector) => Some(write(selector)?),
        Namespaces::Own(_) if is_global => return None,
        Namespaces::Own(_) => None,
    };
    let selector = match &pods.labels {
        Some(labels) if !labels.is_empty() => Some(write(labels)?),
        // Without any selector, the rule would match every address.
        _ if namespace_selector.is_none() => Some(write(&Selector::everything())?),
        _ => None,
    };
    Some(Entity { namespace_selector, selector, ..Entity::default() })
}

type OfProtocol<'a> = (Option<IntOrString<'a>>, Vec<IntOrString<'a>>);

fn by_protocol(ports: &[Port]) -> Option<Vec<OfProtocol<'_>>> {
    let mut protocols: Vec<Protocol> = Vec::new();
    for port in ports {
        let protocol = port.protocol?;
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    if protocols.is_empty() {
        return Some(vec![(None, Vec::new())]);
    }
    let of_protocol = |protocol: Protocol| {
        let entries = || ports.iter().filter(move |port| port.protocol == Some(protocol));
        let written = match protocol {
            Protocol::Other(number) => IntOrString::Number(number.into()),
            named => IntOrString::Name(named.name()?),
        };
        if entries().any(|port| port.numbers == Numbers::All) {
            return Some((Some(written), Vec::new()));
        }
        Some((Some(written), entries().map(write_port).collect::<Option<_>>()?))
    };
    protocols.into_iter().map(of_protocol).collect()
}

fn write_port(port: &Port) -> Option<IntOrString<'_>> {
    match &port.numbers {
        Numbers::Range(first, last) if first == last => Some(IntOrString::Number(*first)),
        Numbers::Range(first, last) => Some(IntOrString::Range(format!("{first}:{last}"))),
        Numbers::Named(name) => Some(IntOrString::Name(name)),
        Numbers::All | Numbers::Messages(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::object;
    use super::*;
    use crate::dialect::Origin;
    use crate::model::{
        AddressSet, Decision, End, Endpoint, Labels, Names, Nowhere, Object, Question, Subject, Traffic, ask,
    };

    fn manifest<'a>(kind: &'a str, json: &'a str) -> Manifest<'a> {
        Manifest::read("projectcalico.org/v3", kind, json, Origin::Author).unwrap()
    }

    fn made(kind: &str, fix: &Fix, before: &Value) -> Option<Patch> {
        patch(fix, &manifest(kind, &before.to_string()))
    }

    fn fixed(kind: &str, fix: &Fix, before: &Value) -> Value {
        made(kind, fix, before).unwrap().applied_to(before).unwrap()
    }

    fn read(kind: &str, json: &Value) -> Object {
        let object = object(&manifest(kind, &json.to_string())).unwrap();
        assert_eq!(object.faults, [], "{json}");
        object
    }

    /// Returns true if the policy allows this traffic from all pods that it selects.
    fn passes(kind: &str, json: &Value, other: End<'_>, protocol: Protocol, number: u16) -> bool {
        let object = read(kind, json);
        let policy = &object.policies()[0];
        let question = Question {
            subject: Subject::Each(&policy.subject),
            direction: Direction::Egress,
            other,
            traffic: Traffic::Port { protocol, number, names: Names::Exactly(&[]) },
        };
        ask([policy], &question, &Nowhere).decisions.iter().all(Decision::passes)
    }

    fn dns_passes(kind: &str, json: &Value, protocol: Protocol) -> bool {
        let labels: Labels = [("k8s-app", "kube-dns")].into_iter().collect();
        let pod = Endpoint { labels: &labels, ..Endpoint::unknown("kube-system") };
        passes(kind, json, End::Pod(pod), protocol, 53)
    }

    fn spec() -> Path {
        Path::root().field("spec")
    }

    fn dns_pods() -> Who {
        let namespace = Selector::equals(crate::model::NAME_LABEL, "kube-system");
        let labels = Selector::of(&[("k8s-app", "kube-dns")].into_iter().collect());
        Who::Pods(Pods { namespaces: Namespaces::Matching(namespace), labels: Some(labels) })
    }

    fn allow_dns(has_rules: bool, who: Vec<Who>) -> Fix {
        let port = |protocol| Port { path: Path::root(), protocol: Some(protocol), numbers: Numbers::Range(53, 53) };
        Fix::Allow {
            rules: spec().field("egress"),
            has_rules,
            direction: Direction::Egress,
            peers: who.into_iter().map(|who| Peer::new(Path::root(), who)).collect(),
            ports: vec![port(Protocol::Udp), port(Protocol::Tcp)],
        }
    }

    #[test]
    fn rules_for_dns_come_first() {
        let rule = |protocol: &str| {
            json!({
                "action": "Allow",
                "protocol": protocol,
                "destination": {
                    "namespaceSelector": "projectcalico.org/name == 'kube-system'",
                    "selector": "k8s-app == 'kube-dns'",
                    "ports": [53],
                },
            })
        };
        let (udp, tcp, deny) = (rule("UDP"), rule("TCP"), json!({"action": "Deny"}));
        for kind in ["NetworkPolicy", "GlobalNetworkPolicy"] {
            for (has_rules, before, after) in [
                (false, json!({"types": ["Egress"]}), json!([udp, tcp])),
                (false, json!({"types": ["Egress"], "egress": null}), json!([udp, tcp])),
                (false, json!({"types": ["Egress"], "egress": []}), json!([udp, tcp])),
                (true, json!({"types": ["Egress"], "egress": [deny]}), json!([udp, tcp, deny])),
            ] {
                let before = json!({"spec": before});
                assert!(!dns_passes(kind, &before, Protocol::Udp));
                let fixed = fixed(kind, &allow_dns(has_rules, vec![dns_pods()]), &before);
                assert_eq!(fixed["spec"]["egress"], after);
                assert!(dns_passes(kind, &fixed, Protocol::Udp) && dns_passes(kind, &fixed, Protocol::Tcp));
            }
        }
    }

    #[test]
    fn blocks_of_one_family_share_a_rule() {
        let block = |net: &str| Who::Addresses(Block::whole(net.parse().unwrap()));
        let fix = allow_dns(false, vec![block("169.254.20.10/32"), block("fd00::a/128"), block("10.96.0.10/32")]);
        let before = json!({"spec": {"types": ["Egress"]}});
        let fixed = fixed("NetworkPolicy", &fix, &before);
        let nets: Vec<&Value> =
            fixed["spec"]["egress"].as_array().unwrap().iter().map(|rule| &rule["destination"]["nets"]).collect();
        let (v4, v6) = (json!(["169.254.20.10/32", "10.96.0.10/32"]), json!(["fd00::a/128"]));
        assert_eq!(nets, [&v4, &v6, &v4, &v6]);
        read("NetworkPolicy", &fixed);
    }

    #[test]
    fn what_cannot_be_said_is_not_patched() {
        let before = json!({"spec": {}});
        let own = Who::Pods(Pods { namespaces: Namespaces::Own(None), labels: None });
        assert!(made("GlobalNetworkPolicy", &allow_dns(false, vec![own.clone()]), &before).is_none());
        let fixed = fixed("NetworkPolicy", &allow_dns(false, vec![own]), &before);
        assert_eq!(fixed["spec"]["egress"][0]["destination"], json!({"selector": "all()", "ports": [53]}));
        assert!(made("NetworkPolicy", &allow_dns(false, vec![Who::Unclear("x".into())]), &before).is_none());
        let join = Fix::JoinPeers { namespaces: spec(), pods: spec() };
        assert!(made("NetworkPolicy", &join, &before).is_none());
    }

    #[test]
    fn a_rule_is_repeated_for_another_protocol() {
        let rule = |protocol: &str, ports: Value| json!({"action": "Allow", "protocol": protocol, "destination": {"selector": "all()", "ports": ports}});
        let before = json!({"spec": {"egress": [rule("UDP", json!([53, 5353])), {"action": "Deny"}]}});
        let port = spec().field("egress").index(0).field("destination").field("ports").index(0);
        let fix = Fix::RepeatPort { port, protocol: Protocol::Tcp };
        let after = json!({"spec": {"egress": [
            rule("UDP", json!([53, 5353])), rule("TCP", json!([53])), {"action": "Deny"},
        ]}});
        assert_eq!(fixed("NetworkPolicy", &fix, &before), after);
        let whole = json!({"spec": {"egress": [{"action": "Allow", "protocol": "UDP"}]}});
        let fix = Fix::RepeatPort { port: spec().field("egress").index(0).field("protocol"), protocol: Protocol::Tcp };
        assert_eq!(
            fixed("NetworkPolicy", &fix, &whole)["spec"]["egress"][1],
            json!({"action": "Allow", "protocol": "TCP"})
        );
    }

    #[test]
    fn an_address_is_left_out_of_a_rule() {
        let service: AddressSet = "169.254.169.254/32".parse::<ipnet::IpNet>().unwrap().into();
        let end = End::Addresses { set: &service, outside: true };
        for rule in [
            json!({"action": "Allow", "destination": {"nets": ["0.0.0.0/0"]}}),
            json!({"action": "Allow", "destination": {"notNets": ["10.0.0.0/8"]}}),
            json!({"action": "Allow", "ipVersion": 4}),
        ] {
            let before = json!({"spec": {"egress": [rule]}});
            assert!(passes("NetworkPolicy", &before, end, Protocol::Tcp, 80), "{rule}");
            let object = read("NetworkPolicy", &before);
            let peer = object.policies()[0].egress.rules[0].peers.listed()[0].path.clone();
            let fix = Fix::LeaveOut { peer, net: "169.254.169.254/32".parse().unwrap() };
            let fixed = fixed("NetworkPolicy", &fix, &before);
            assert!(!passes("NetworkPolicy", &fixed, end, Protocol::Tcp, 80), "{fixed}");
        }
    }

    #[test]
    fn types_are_declared_and_staged_policies_are_those_of_kubernetes() {
        let fix = Fix::DeclareTypes { directions: vec![Direction::Egress] };
        let before = json!({"spec": {}});
        assert_eq!(fixed("GlobalNetworkPolicy", &fix, &before), json!({"spec": {"types": ["Egress"]}}));
        assert_eq!(fixed("StagedKubernetesNetworkPolicy", &fix, &before), json!({"spec": {"policyTypes": ["Egress"]}}));
    }
}
