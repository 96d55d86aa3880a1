//! Translates a [`Fix`] into a JSON patch.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::CLUSTERWIDE;
use super::write::{Rule, WrittenPorts, selector, value, write_port};
use crate::dialect::patch::{Patch, find};
use crate::dialect::{Manifest, cidr};
use crate::json::{Unread, objects};
use crate::model::{Direction, Entity, Fix, Numbers, Path, Peer, Port, Step, Who};

pub(super) fn patch(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    let mut patch = Patch::default();
    match fix {
        Fix::Allow { rules, has_rules, direction, peers, ports } => {
            // Deny rules are in a list of their own, and may be the only rules.
            let rules = &rules.parent().field(direction.name());
            for (position, rule) in allow(rules, *direction, peers, ports, manifest)?.iter().enumerate() {
                // Existing rules, or a rule added before, prove that the list exists.
                if *has_rules || position > 0 {
                    patch.push_item(rules, rule);
                } else {
                    patch.append(manifest, rules, rule)?;
                }
            }
        }
        Fix::RepeatPort { port, protocol } => {
            let mut entry: Value = serde_json::from_str(find(manifest, port)?.get()).ok()?;
            entry.as_object_mut()?.insert("protocol".into(), protocol.name().filter(|_| protocol.has_ports())?.into());
            let Some(Step::Index(position)) = port.steps().last() else { return None };
            patch.add(&port.parent().index(position + 1), &entry);
        }
        Fix::LeaveOut { peer, net } => {
            let text = net.to_string();
            let list = peer.parent();
            match list.steps().last()? {
                Step::Field(name) if name == "toCIDRSet" || name == "fromCIDRSet" => {
                    patch.append(manifest, &peer.field("except"), &text)?;
                }
                Step::Field(name) if name == "toCIDR" => move_to_set(&mut patch, manifest, peer, "toCIDRSet", &text)?,
                Step::Field(name) if name == "fromCIDR" => {
                    move_to_set(&mut patch, manifest, peer, "fromCIDRSet", &text)?;
                }
                _ => return None,
            }
        }
        Fix::JoinPeers { namespaces, pods } => {
            join(&mut patch, manifest, namespaces, pods)?;
        }
        Fix::WatchLookups { lists } => {
            for ports in lists {
                // Set next to these ports, in their entry of `toPorts`.
                let rules = ports.parent().field("rules");
                if find(manifest, &rules).is_some_and(|rules| !matches!(rules.get(), "null" | "{}")) {
                    return None;
                }
                patch.add(&rules, &serde_json::json!({"dns": [{"matchPattern": "*"}]}));
            }
        }
        // The isolated directions are always explicit: from their rules, or from `enableDefaultDeny`.
        Fix::DeclareTypes { .. } => return None,
    }
    Some(patch)
}

/// Builds the allow rules. A rule has peers of one kind only.
fn allow(
    rules: &Path,
    direction: Direction,
    peers: &[Peer],
    ports: &[Port],
    manifest: &Manifest<'_>,
) -> Option<Vec<Rule>> {
    let is_ingress = direction == Direction::Ingress;
    let is_clusterwide = manifest.kind == CLUSTERWIDE;
    let (mut endpoints, mut blocks, mut entities) = (Vec::new(), Vec::new(), Vec::new());
    for peer in peers {
        match &peer.who {
            Who::Pods(pods) => {
                endpoints.push(value(&selector(is_clusterwide, &pods.namespaces, pods.labels.as_ref())?)?);
            }
            Who::Addresses(block) => blocks.push(block),
            Who::Entity(entity) => entities.push(*entity),
            _ => return None,
        }
    }
    let mut written = Vec::with_capacity(ports.len());
    for port in ports {
        written.push(write_port(port)?);
    }
    // The agent learns the addresses behind a name only from lookups that it observes.
    let is_dns = !is_ingress && !ports.is_empty() && ports.iter().all(|port| port.numbers == Numbers::Range(53, 53));
    let lookups = is_dns && has_names(rules, manifest);
    let dns = lookups.then(|| serde_json::json!({"dns": [{"matchPattern": "*"}]}));
    let to_ports = if written.is_empty() { Vec::new() } else { vec![WrittenPorts { ports: written, rules: dns }] };

    let mut lists = Vec::new();
    if !endpoints.is_empty() {
        lists.push((if is_ingress { "fromEndpoints" } else { "toEndpoints" }, Value::from(endpoints)));
    }
    if blocks.iter().any(|block| !block.except.is_empty()) {
        let blocks: Vec<cidr::Written> = blocks.into_iter().map(Into::into).collect();
        lists.push((if is_ingress { "fromCIDRSet" } else { "toCIDRSet" }, value(&blocks)?));
    } else if !blocks.is_empty() {
        let blocks: Vec<String> = blocks.into_iter().map(|block| block.net.to_string()).collect();
        lists.push((if is_ingress { "fromCIDR" } else { "toCIDR" }, value(&blocks)?));
    }
    if !entities.is_empty() {
        let entities: Vec<&str> = entities.into_iter().map(Entity::name).collect();
        lists.push((if is_ingress { "fromEntities" } else { "toEntities" }, value(&entities)?));
    }
    if peers.is_empty() {
        lists.push((if is_ingress { "fromEntities" } else { "toEntities" }, value(&["all"])?));
    }
    Some(lists.into_iter().map(|list| Rule { peers: list, to_ports: to_ports.clone() }).collect())
}

/// Returns true if the policy that contains these rules has `toFQDNs` peers.
fn has_names(rules: &Path, manifest: &Manifest<'_>) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Egress {
        #[serde(rename = "toFQDNs")]
        names: Option<Vec<Unread>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Spec {
        #[serde(deserialize_with = "objects")]
        egress: Option<Vec<Egress>>,
    }
    let spec = find(manifest, &rules.parent()).and_then(|text| serde_json::from_str::<Option<Spec>>(text.get()).ok());
    let egress = spec.flatten().and_then(|spec| spec.egress).unwrap_or_default();
    egress.iter().any(|rule| rule.names.as_ref().is_some_and(|names| !names.is_empty()))
}

/// Moves a list of plain CIDRs to a CIDR set, whose CIDRs can have exceptions. One rule cannot have both lists, so all
/// entries are moved.
fn move_to_set(patch: &mut Patch, manifest: &Manifest<'_>, peer: &Path, set: &'static str, except: &str) -> Option<()> {
    let list = peer.parent();
    let set = list.parent().field(set);
    let Some(Step::Index(chosen)) = peer.steps().last() else { return None };
    if find(manifest, &set).is_some_and(|set| set.get() != "null") {
        return None;
    }
    let blocks: Vec<String> = serde_json::from_str(find(manifest, &list)?.get()).ok()?;
    let blocks: Vec<cidr::Written> = blocks
        .into_iter()
        .enumerate()
        .map(|(position, text)| cidr::Written {
            // A set does not accept an address without a prefix length.
            cidr: text.parse().map(|address: std::net::IpAddr| ipnet::IpNet::from(address).to_string()).unwrap_or(text),
            except: if position == *chosen { vec![except.to_owned()] } else { Vec::new() },
        })
        .collect();
    patch.remove(&list);
    patch.add(&set, &blocks);
    Some(())
}

/// Merges two selectors into one.
fn join(patch: &mut Patch, manifest: &Manifest<'_>, namespaces: &Path, pods: &Path) -> Option<()> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Parts<'a> {
        match_labels: Option<BTreeMap<String, Option<String>>>,
        #[serde(borrow)]
        match_expressions: Option<Vec<&'a RawValue>>,
    }
    let (of_namespaces, of_pods) = (find(manifest, namespaces)?, find(manifest, pods)?);
    let of_namespaces: Parts<'_> = serde_json::from_str(of_namespaces.get()).ok()?;
    let of_pods: Parts<'_> = serde_json::from_str(of_pods.get()).ok()?;
    if let Some(labels) = of_pods.match_labels {
        let mut all = of_namespaces.match_labels.unwrap_or_default();
        for (key, value) in labels {
            if all.insert(key, value).is_some() {
                return None;
            }
        }
        patch.add(&namespaces.field("matchLabels"), &all);
    }
    if let Some(expressions) = of_pods.match_expressions {
        let mut all = of_namespaces.match_expressions.unwrap_or_default();
        all.extend(expressions);
        patch.add(&namespaces.field("matchExpressions"), &all);
    }
    patch.remove(pods);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NAMESPACED, read_fields};
    use super::*;
    use crate::dialect::Origin;
    use crate::model::{Block, NAME_LABEL, Namespaces, Operator, Owner, Pods, Protocol, Selector};
    use serde_json::json;

    fn made(fix: &Fix, manifest: &Value) -> Option<Patch> {
        patch(fix, &Manifest::read("cilium.io/v2", NAMESPACED, &manifest.to_string(), Origin::Author).unwrap())
    }

    /// The manifest after the fix. It has to read without faults.
    fn fixed(fix: &Fix, manifest: &Value) -> Value {
        let fixed = made(fix, manifest).unwrap().applied_to(manifest).unwrap();
        let object = read_fields(NAMESPACED, &fixed).unwrap();
        assert!(object.faults.is_empty(), "{fixed}: {:?}", object.faults);
        fixed
    }

    /// The peers and ports of the last egress rule of the only policy.
    fn last_rule(manifest: &Value) -> String {
        let object = read_fields(NAMESPACED, manifest).unwrap();
        let rule = object.policies()[0].egress.rules.last().unwrap();
        format!("{} on {}", rule.peers, rule.ports)
    }

    fn spec() -> Path {
        Path::root().field("spec")
    }

    fn egress(rules: &Value) -> Value {
        json!({"spec": {"endpointSelector": {}, "egress": rules}})
    }

    fn allow(whos: Vec<Who>) -> Fix {
        let port = |protocol| Port { path: Path::root(), protocol: Some(protocol), numbers: Numbers::Range(53, 53) };
        Fix::Allow {
            rules: spec().field("egress"),
            has_rules: false,
            direction: Direction::Egress,
            peers: whos.into_iter().map(|who| Peer::new(Path::root(), who)).collect(),
            ports: vec![port(Protocol::Udp), port(Protocol::Tcp)],
        }
    }

    fn dns_pods() -> Who {
        Who::Pods(Pods {
            namespaces: Namespaces::Matching(Selector::equals(NAME_LABEL, "kube-system")),
            labels: Some(Selector::equals("k8s-app", "kube-dns")),
        })
    }

    #[test]
    fn a_rule_is_added_wherever_its_list_is_or_is_missing() {
        let rule = json!({
            "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}],
            "toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}, {"port": "53", "protocol": "TCP"}]}],
        });
        let other = json!({"toEntities": ["world"]});
        let deny = json!({"spec": {"endpointSelector": {}, "egressDeny": [other]}});
        let mut allowed = deny.clone();
        allowed["spec"]["egress"] = json!([rule]);
        assert_eq!(fixed(&allow(vec![dns_pods()]), &deny), allowed);
        let after = fixed(&allow(vec![dns_pods()]), &egress(&json!([other])));
        assert_eq!(after, egress(&json!([other, rule])));
        assert_eq!(
            last_rule(&after),
            "pods with k8s-app=kube-dns in namespaces with kubernetes.io/metadata.name=kube-system on UDP 53, TCP 53"
        );
        let at = |list: Path| {
            let Fix::Allow { has_rules, direction, peers, ports, .. } = allow(vec![dns_pods()]) else { panic!() };
            Fix::Allow { rules: list, has_rules, direction, peers, ports }
        };
        let before = json!({"specs": [{"endpointSelector": {}, "ingress": [{}]}]});
        let fix = at(Path::root().field("specs").index(0).field("egress"));
        assert_eq!(fixed(&fix, &before)["specs"][0]["egress"], json!([rule]));
        assert_eq!(fixed(&at(spec().field("egressDeny")), &deny), allowed, "never among what is denied");
    }

    #[test]
    fn lookups_are_seen_where_names_are_allowed() {
        let before = egress(&json!([{"toFQDNs": [{"matchName": "a.com"}], "toPorts": [{"ports": [{"port": "443"}]}]}]));
        let after = fixed(&allow(vec![dns_pods()]), &before);
        assert_eq!(after["spec"]["egress"][1]["toPorts"][0]["rules"], json!({"dns": [{"matchPattern": "*"}]}));
        let without = fixed(&allow(vec![dns_pods()]), &egress(&json!([{"toFQDNs": []}])));
        assert_eq!(without["spec"]["egress"][1]["toPorts"][0].get("rules"), None);
    }

    #[test]
    fn lookups_are_watched_on_all_their_ports() {
        let rule = |udp: Value, tcp: Value| egress(&json!([{"toEntities": ["cluster"], "toPorts": [udp, tcp]}]));
        let port = |protocol: &str| json!({"ports": [{"port": "53", "protocol": protocol}]});
        let seen = |protocol: &str| {
            let mut seen = port(protocol);
            seen["rules"] = json!({"dns": [{"matchPattern": "*"}]});
            seen
        };
        let ports = |entry: usize| spec().field("egress").index(0).field("toPorts").index(entry).field("ports");
        let both = Fix::WatchLookups { lists: vec![ports(0), ports(1)] };
        assert_eq!(fixed(&both, &rule(port("UDP"), port("TCP"))), rule(seen("UDP"), seen("TCP")));
        assert!(made(&both, &rule(port("UDP"), seen("TCP"))).is_none(), "what is written there stays");
    }

    #[test]
    fn other_peers_are_written_too() {
        let block = |net: &str, except: &[&str]| {
            let except = except.iter().map(|net| net.parse().unwrap()).collect();
            Who::Addresses(Block { net: net.parse().unwrap(), except, inside: true })
        };
        let peers = |whos: Vec<Who>| {
            let after = fixed(&allow(whos), &egress(&json!([{}])));
            let mut rules = after["spec"]["egress"].as_array().unwrap().clone();
            rules.remove(0);
            for rule in &mut rules {
                rule.as_object_mut().unwrap().remove("toPorts").unwrap();
            }
            Value::from(rules)
        };
        assert_eq!(peers(vec![block("10.0.0.10/32", &[])]), json!([{"toCIDR": ["10.0.0.10/32"]}]));
        assert_eq!(
            peers(vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("fd00::/8", &[])]),
            json!([{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidr": "fd00::/8"}]}])
        );
        assert_eq!(
            peers(vec![dns_pods(), Who::Entity(Entity::World)]).as_array().unwrap().len(),
            2,
            "peers of two kinds do not go together in one rule"
        );
        let before = json!({"spec": {"endpointSelector": {}, "ingress": [{}]}});
        let after = fixed(&allow(vec![dns_pods(), Who::Entity(Entity::World)]), &before);
        assert_eq!(after["spec"]["egress"].as_array().unwrap().len(), 2);
        assert_eq!(peers(vec![]), json!([{"toEntities": ["all"]}]));
        let own = Who::Pods(Pods { namespaces: Namespaces::Own(Some("shop".into())), labels: None });
        assert_eq!(peers(vec![own]), json!([{"toEndpoints": [{}]}]));
        let everywhere = Pods {
            namespaces: Namespaces::Matching(Selector::everything()),
            labels: Some(Selector::All(vec![
                Selector::label("a", Operator::In(vec!["x".into(), "y".into()])),
                Selector::label("b", Operator::Absent),
            ])),
        };
        assert_eq!(
            peers(vec![Who::Pods(everywhere)]),
            json!([{"toEndpoints": [{"matchExpressions": [
                {"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"},
                {"key": "k8s:a", "operator": "In", "values": ["x", "y"]},
                {"key": "k8s:b", "operator": "DoesNotExist"},
            ]}]}])
        );
        let labelled = Pods {
            namespaces: Namespaces::Matching(Selector::equals("a/team", "x")),
            labels: Some(Selector::equals(NAME_LABEL, "bot").on(Owner::Account)),
        };
        assert_eq!(
            peers(vec![Who::Pods(labelled)]),
            json!([{"toEndpoints": [{"matchLabels": {
                "k8s:io.cilium.k8s.namespace.labels.a/team": "x",
                "k8s:io.cilium.k8s.policy.serviceaccount": "bot",
            }}]}])
        );
        assert!(made(&allow(vec![Who::Unclear("x".into())]), &egress(&json!([{}]))).is_none());
    }

    #[test]
    fn the_own_namespace_of_another_policy_is_named() {
        let own = |name: Option<&str>| Namespaces::Own(name.map(Into::into));
        let shop = own(Some("shop"));
        let written = |is_clusterwide| value(&selector(is_clusterwide, &shop, None).unwrap()).unwrap();
        assert_eq!(written(false), json!({}));
        assert_eq!(written(true), json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "shop"}}));
        assert!(selector(true, &own(None), None).is_none());
    }

    #[test]
    fn a_port_is_repeated_beside_the_entry() {
        let ports = |ports: Value| egress(&json!([{"toEntities": ["world"], "toPorts": [{"ports": ports}]}]));
        let (udp, tcp) = (json!({"port": "53", "protocol": "UDP"}), json!({"port": "53", "protocol": "TCP"}));
        let other = json!({"port": "80", "protocol": "TCP"});
        let port = spec().field("egress").index(0).field("toPorts").index(0).field("ports").index(0);
        let fix = Fix::RepeatPort { port, protocol: Protocol::Tcp };
        assert_eq!(fixed(&fix, &ports(json!([udp]))), ports(json!([udp, tcp])));
        assert_eq!(fixed(&fix, &ports(json!([udp, other]))), ports(json!([udp, tcp, other])));
    }

    #[test]
    fn an_address_is_left_out_of_a_block() {
        let list = |field| spec().field("egress").index(0).field(field);
        let fix = |peer| Fix::LeaveOut { peer, net: "169.254.169.254/32".parse().unwrap() };
        let except = json!(["169.254.169.254/32"]);
        let set = egress(&json!([{"toCIDRSet": [{"cidr": "0.0.0.0/0"}]}]));
        let after = egress(&json!([{"toCIDRSet": [{"cidr": "0.0.0.0/0", "except": except}]}]));
        assert_eq!(fixed(&fix(list("toCIDRSet").index(0)), &set), after);
        assert_eq!(fixed(&fix(list("toCIDR").index(0)), &egress(&json!([{"toCIDR": ["0.0.0.0/0"]}]))), after);
        let several = egress(&json!([{"toCIDR": ["10.0.0.1", "0.0.0.0/0"], "toPorts": [{"ports": [{"port": "80"}]}]}]));
        let after = fixed(&fix(list("toCIDR").index(1)), &several);
        assert_eq!(
            after["spec"]["egress"][0]["toCIDRSet"],
            json!([{"cidr": "10.0.0.1/32"}, {"cidr": "0.0.0.0/0", "except": except}])
        );
        assert_eq!(after["spec"]["egress"][0].get("toCIDR"), None);
        assert_eq!(last_rule(&after), "10.0.0.1/32 or 0.0.0.0/0 except 169.254.169.254/32 on port 80 of any protocol");
        let both = egress(&json!([{"toCIDR": ["0.0.0.0/0"], "toCIDRSet": []}]));
        assert!(made(&fix(list("toCIDR").index(0)), &both).is_none());
        assert!(made(&fix(list("toEntities").index(0)), &egress(&json!([{"toEntities": ["world"]}]))).is_none());
    }

    #[test]
    fn two_peers_become_one_in_either_order() {
        let from = spec().field("egress").index(0).field("toEndpoints");
        let wrap = |peers: Value| egress(&json!([{"toEndpoints": peers}]));
        let fix = |namespaces: usize, pods: usize| Fix::JoinPeers {
            namespaces: from.index(namespaces),
            pods: from.index(pods),
        };
        let namespaces = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "dns"}});
        let pods = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "Exists"}],
        });
        let joined = json!({
            "matchLabels": {"k8s:io.kubernetes.pod.namespace": "dns", "app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "Exists"}],
        });
        assert_eq!(fixed(&fix(0, 1), &wrap(json!([namespaces, pods]))), wrap(json!([joined])));
        let after = fixed(&fix(1, 0), &wrap(json!([pods, namespaces])));
        assert_eq!(after, wrap(json!([joined])));
        assert_eq!(
            last_rule(&after),
            "pods with app=web,tier in namespaces with kubernetes.io/metadata.name=dns on every port"
        );
        assert!(made(&Fix::DeclareTypes { directions: vec![] }, &egress(&json!([{}]))).is_none());
    }
}
