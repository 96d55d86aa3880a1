//! The peers of an element: `mergeEndpointSelectors` of `pkg/policy/utils/parserules.go`, `pkg/policy/api/cidr.go`,
//! `entity.go` and `service.go`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::element::{Element, List};
use super::labels::Scope;
use super::selector::{in_words, terms};
use super::validity::Faults;
use super::{names, wire};
use crate::dialect::cidr;
use crate::model::{Action, Block, Entity, Path, Peer, ServicePeer, Who};

/// Reads the peers of an element. Returns None if a peer list is present but empty: since 1.16, such an element selects
/// nothing, whatever its other fields are. Returns an empty list if the element has no peer lists. With ports, such an
/// element matches every peer.
pub(super) fn read(
    element: &Element<'_>,
    list: List,
    scope: &Scope,
    path: &Path,
    faults: &mut Faults,
) -> Option<Vec<Peer>> {
    check_combination(element, list, path, faults);
    let mut peers = Vec::new();
    {
        let mut add = |path: Path, who: Who| peers.push(Peer::new(path, who));
        for (path, selector) in entries(element.endpoints, path, list.endpoints) {
            let who = scope.endpoints(selector, &path, faults);
            add(path, who);
        }
        for (path, selector) in entries(element.nodes, path, list.nodes) {
            let who = Scope::nodes(selector, &path, faults);
            add(path, who);
        }
        for (path, name) in entries(element.entities, path, list.entities) {
            if &**name == "cluster-mesh" {
                // The local cluster, and the pods of other clusters, which are unknown here.
                add(path.clone(), Who::Entity(Entity::Cluster));
                add(path, Who::Unclear("pods of other clusters of the mesh".into()));
            } else {
                let who = entity(name, &path, faults);
                add(path, who);
            }
        }
        for (path, text) in entries(element.cidr, path, list.cidr) {
            let who = address(text, &path, faults);
            add(path, who);
        }
        for (path, rule) in entries(element.cidr_set, path, list.cidr_set) {
            let who = cidr_rule(rule, &path, faults);
            add(path, who);
        }
        for (path, selector) in entries(Some(element.fqdns), path, "toFQDNs") {
            let patterns = names::patterns(selector, false, &path, faults);
            if patterns.is_empty() {
                add(path.clone(), Who::Unclear("an empty name".into()));
            }
            for pattern in patterns {
                add(path.clone(), Who::Domain(pattern));
            }
        }
        for (path, _) in entries(Some(element.groups), path, list.groups) {
            let problem = "Portcullis does not know the addresses of a cloud provider group; the rule was ignored";
            faults.not_understood(path.clone(), problem, "list the addresses as CIDRs");
            add(path, Who::Unclear("a cloud provider group".into()));
        }
        if list.action == Action::Allow {
            for (path, wanted) in entries(Some(element.services), path, "toServices") {
                let by_name = wanted.k8s_service.as_ref().filter(|_| wanted.k8s_service_selector.is_none());
                let namespace = by_name.and_then(|by| by.namespace.clone()).filter(|namespace| !namespace.is_empty());
                let name = by_name.and_then(|by| by.service_name.clone()).filter(|name| !name.is_empty());
                add(path, Who::Service(ServicePeer { namespace, name, words: service(wanted).into() }));
            }
        } else if !element.services.is_empty() {
            // `specHasToServices` checks only `egress`, and `parserules.go` ignores Services.
            let problem = "the agent ignores `toServices` in `egressDeny` and applies the rest of the rule";
            let help = "select the pods behind the Service with `toEndpoints`";
            faults.not_understood(path.field("toServices"), problem, help);
        }
    }
    let is_empty = |length: Option<usize>| length == Some(0);
    let selects_nothing = is_empty(element.endpoints.map(<[_]>::len))
        || is_empty(element.nodes.map(<[_]>::len))
        || is_empty(element.entities.map(<[_]>::len))
        || is_empty(element.cidr.map(<[_]>::len))
        || is_empty(element.cidr_set.map(<[_]>::len));
    (!selects_nothing).then_some(peers)
}

fn entries<'a, T>(
    items: Option<&'a [T]>,
    path: &Path,
    field: &'static str,
) -> impl Iterator<Item = (Path, &'a T)> + use<'a, T> {
    let items = items.unwrap_or_default();
    let list = if items.is_empty() { Path::root() } else { path.field(field) };
    items.iter().enumerate().map(move |(position, item)| (list.index(position), item))
}

fn check_combination(element: &Element<'_>, list: List, path: &Path, faults: &mut Faults) {
    let length = |length: Option<usize>| length.unwrap_or_default();
    let filled: Vec<&str> = [
        (list.endpoints, length(element.endpoints.map(<[_]>::len))),
        (list.cidr, length(element.cidr.map(<[_]>::len))),
        (list.cidr_set, length(element.cidr_set.map(<[_]>::len))),
        (list.entities, length(element.entities.map(<[_]>::len))),
        (list.nodes, length(element.nodes.map(<[_]>::len))),
        (list.groups, element.groups.len()),
        ("toServices", element.services.len()),
        ("toFQDNs", element.fqdns.len()),
    ]
    .into_iter()
    .filter_map(|(name, length)| (length > 0).then_some(name))
    .collect();
    if let [first, second, ..] = filled.as_slice() {
        let problem = format!("`{first}` and `{second}` are combined in one rule");
        faults.never(path.clone(), &problem, "write one rule for each of them");
    }
}

/// Reads an entity (`pkg/policy/api/entity.go`). The agent accepts `world-ipv4` and `world-ipv6`; the API server does
/// not.
fn entity(name: &str, path: &Path, faults: &mut Faults) -> Who {
    Who::Entity(match name {
        "all" => Entity::All,
        "world" => Entity::World,
        "world-ipv4" => Entity::WorldV4,
        "world-ipv6" => Entity::WorldV6,
        "cluster" => Entity::Cluster,
        "host" => Entity::Host,
        "init" => Entity::Init,
        "ingress" => Entity::Ingress,
        "unmanaged" => Entity::Unmanaged,
        "remote-node" => Entity::RemoteNode,
        "health" => Entity::Health,
        "none" => Entity::None,
        "kube-apiserver" => Entity::KubeApiserver,
        other => {
            let help = "write one of all, world, cluster, cluster-mesh, host, remote-node, kube-apiserver, health, init, \
                        ingress, unmanaged and none";
            faults.never(path.clone(), &format!("`{other}` is not an entity"), help);
            return Who::Unclear(format!("entity {other}").into());
        }
    })
}

/// Reads an entry of `fromCIDR` or `toCIDR`. The agent also accepts an address without a prefix length. The API server
/// has rejected it since 1.16.
fn address(text: &str, path: &Path, faults: &mut Faults) -> Who {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => prefix(text),
    };
    match net {
        Some(net) => Who::Addresses(Block { net, except: Vec::new(), inside: false }),
        None => bad_cidr(text, path.clone(), faults),
    }
}

/// Parses a CIDR and clears its host bits.
fn prefix(text: &str) -> Option<IpNet> {
    cidr::parse(text).map(|net| net.trunc())
}

fn bad_cidr(text: &str, path: Path, faults: &mut Faults) -> Who {
    let help = "write an address and a length, such as 10.0.0.0/8 or fd00::/8";
    faults.never(path, &format!("`{text}` is not a CIDR"), help);
    Who::Unclear(format!("the addresses `{text}`").into())
}

fn cidr_rule(rule: &wire::CidrRule, path: &Path, faults: &mut Faults) -> Who {
    let cidr = rule.cidr.as_deref().filter(|text| !text.is_empty());
    let group = rule.cidr_group_ref.as_deref().filter(|name| !name.is_empty());
    let selector = rule.cidr_group_selector.as_ref();
    let sources = usize::from(cidr.is_some()) + usize::from(group.is_some()) + usize::from(selector.is_some());
    if sources != 1 {
        let problem = if sources == 0 {
            "the entry requires one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`"
        } else {
            "the entry has more than one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`"
        };
        faults.never(path.clone(), problem, "write one of them");
    }
    if let Some(cidr) = cidr {
        let Some(net) = prefix(cidr) else { return bad_cidr(cidr, path.field("cidr"), faults) };
        let mut except = Vec::new();
        for (path, text) in entries(rule.except.as_deref(), path, "except") {
            match prefix(text) {
                None => {
                    bad_cidr(text, path, faults);
                }
                Some(part) if net.contains(&part) => except.push(part),
                Some(_) => {
                    let problem = format!("`{text}` is not within `{cidr}`");
                    faults.never(path, &problem, "exclude a part of the CIDR, or remove the entry");
                }
            }
        }
        return Who::Addresses(Block { net, except, inside: false });
    }
    if let Some(selector) = selector {
        terms(selector, &path.field("cidrGroupSelector"), faults);
    }
    let (place, words) = match (group, selector) {
        (Some(name), _) => ("cidrGroupRef", format!("the addresses of CiliumCIDRGroup {name}")),
        (None, Some(selector)) => {
            ("cidrGroupSelector", format!("the addresses of CiliumCIDRGroups with {}", in_words(selector)))
        }
        (None, None) => return Who::Unclear("unspecified addresses".into()),
    };
    let problem = format!("Portcullis does not know {words}; the rule was ignored");
    faults.not_understood(path.field(place), problem, "list the addresses as CIDRs");
    Who::Unclear(words.into())
}

/// Describes the backends of a Service. A selector takes precedence over a name. Without a namespace, Services in every
/// namespace match (`pkg/policy/k8s/service.go`).
fn service(wanted: &wire::Service) -> String {
    let whereabouts = |namespace: &Option<Box<str>>| match namespace.as_deref() {
        None | Some("") => "in any namespace".to_owned(),
        Some(namespace) => format!("in namespace {namespace}"),
    };
    match (&wanted.k8s_service_selector, &wanted.k8s_service) {
        (Some(by), _) => {
            let labels = by.selector.as_ref().map(in_words).filter(|labels| !labels.is_empty());
            let labels = labels.map_or_else(String::new, |labels| format!(" with {labels}"));
            format!("the backends of Services{labels} {}", whereabouts(&by.namespace))
        }
        (None, Some(by)) => {
            let name = by.service_name.as_deref().unwrap_or_default();
            format!("the backends of Service {name} {}", whereabouts(&by.namespace))
        }
        (None, None) => "the backends of no Service".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fault, faults, object, rules};
    use super::*;
    use crate::model::Peers;
    use serde_json::{Value, json};

    /// The peers of an element without faults, each as `path: peer`.
    fn peers(list: &str, element: &Value) -> Vec<String> {
        let rules = rules(list, element);
        rules[0].peers.listed().iter().map(|peer| format!("{}: {}", peer.path, peer.who)).collect()
    }

    #[test]
    fn every_kind_of_peer_keeps_its_place() {
        assert_eq!(
            peers(
                "ingress",
                &json!({"fromCIDRSet": [{"cidr": "10.1.2.3/8", "except": ["10.9.0.0/16"]}, {"cidr": "::/0"}]})
            ),
            ["spec.ingress[0].fromCIDRSet[0]: 10.0.0.0/8 except 10.9.0.0/16", "spec.ingress[0].fromCIDRSet[1]: ::/0"]
        );
        assert_eq!(
            peers("egress", &json!({"toCIDR": ["10.0.0.1", "fd00::/8"]})),
            ["spec.egress[0].toCIDR[0]: 10.0.0.1/32", "spec.egress[0].toCIDR[1]: fd00::/8"]
        );
        assert_eq!(
            peers("egressDeny", &json!({"toEntities": ["world", "cluster-mesh"]})),
            [
                "spec.egressDeny[0].toEntities[0]: entity `world`",
                "spec.egressDeny[0].toEntities[1]: entity `cluster`",
                "spec.egressDeny[0].toEntities[1]: pods of other clusters of the mesh"
            ]
        );
        assert_eq!(
            peers("egress", &json!({"toFQDNs": [{"matchName": "a.com"}, {"matchPattern": "*.b.com"}]})),
            ["spec.egress[0].toFQDNs[0]: a.com", "spec.egress[0].toFQDNs[1]: *.b.com"]
        );
        assert_eq!(
            peers("ingressDeny", &json!({"fromNodes": [{"matchLabels": {"node:role": "edge"}}, {}]})),
            [
                "spec.ingressDeny[0].fromNodes[0]: nodes with role=edge and entity `remote-node`",
                "spec.ingressDeny[0].fromNodes[1]: every node and entity `remote-node`"
            ]
        );
        let services = json!({"toServices": [
            {"k8sService": {"serviceName": "db", "namespace": "data"}},
            {"k8sServiceSelector": {"selector": {"matchLabels": {"a": "b"}}}},
        ]});
        assert_eq!(
            peers("egress", &services),
            [
                "spec.egress[0].toServices[0]: the backends of Service db in namespace data",
                "spec.egress[0].toServices[1]: the backends of Services with a=b in any namespace"
            ]
        );
    }

    #[test]
    fn blocks_do_not_mean_pods() {
        for element in [json!({"toCIDR": ["0.0.0.0/0"]}), json!({"toCIDRSet": [{"cidr": "0.0.0.0/0"}]})] {
            let rules = rules("egress", &element);
            assert!(rules[0].blocks().all(|(_, block)| !block.inside), "{element}");
        }
    }

    #[test]
    fn an_empty_list_selects_nothing_where_the_agent_looks() {
        let port = json!([{"ports": [{"port": "80", "protocol": "TCP"}]}]);
        for field in ["toEndpoints", "toNodes", "toEntities", "toCIDR", "toCIDRSet"] {
            assert!(rules("egress", &json!({field: []})).is_empty(), "{field}");
            assert!(rules("egress", &json!({field: [], "toPorts": port})).is_empty(), "{field}");
            assert!(rules("egressDeny", &json!({field: [], "toPorts": port})).is_empty(), "{field}");
        }
        for field in ["toFQDNs", "toGroups", "toServices"] {
            assert!(rules("egress", &json!({field: []})).is_empty(), "{field}");
            assert_eq!(rules("egress", &json!({field: [], "toPorts": port}))[0].peers, Peers::Any, "{field}");
        }
        assert!(rules("egress", &json!({"toEntities": [], "toCIDR": ["10.0.0.0/8"]})).is_empty());
        assert_eq!(rules("egress", &json!({"toEntities": null, "toPorts": port}))[0].peers, Peers::Any);
    }

    #[test]
    fn what_the_agent_refuses() {
        assert_eq!(
            fault("ingress", &json!({"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]})),
            "spec.ingress[0]: `fromEndpoints` and `fromCIDR` are combined in one rule"
        );
        assert_eq!(
            fault("egress", &json!({"toFQDNs": [{"matchName": "a.com"}], "toServices": [{}]})),
            "spec.egress[0]: `toServices` and `toFQDNs` are combined in one rule"
        );
        assert_eq!(
            fault("ingress", &json!({"fromEntities": ["universe"]})),
            "spec.ingress[0].fromEntities[0]: `universe` is not an entity"
        );
        for (text, field) in [("10.0.0.0/33", "toCIDR"), ("", "toCIDR"), ("010.0.0.0/8", "toCIDR"), ("a", "toCIDR")] {
            assert_eq!(
                fault("egress", &json!({field: [text]})),
                format!("spec.egress[0].toCIDR[0]: `{text}` is not a CIDR")
            );
        }
        assert_eq!(
            fault("egressDeny", &json!({"toCIDRSet": [{"cidr": "10.0.0.1"}]})),
            "spec.egressDeny[0].toCIDRSet[0].cidr: `10.0.0.1` is not a CIDR"
        );
        assert_eq!(
            fault("egress", &json!({"toCIDRSet": [{"cidr": "10.0.0.0/9", "except": ["10.0.0.0/9", "10.0.0.0/8"]}]})),
            "spec.egress[0].toCIDRSet[0].except[1]: `10.0.0.0/8` is not within `10.0.0.0/9`"
        );
        assert_eq!(
            fault("egress", &json!({"toCIDRSet": [{}]})),
            "spec.egress[0].toCIDRSet[0]: the entry requires one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`"
        );
        let groups = json!({"toCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"a b": "c"}}}]});
        let groups = faults(&json!({"egress": [groups]}));
        let place = "spec.egress[0].toCIDRSet[0].cidrGroupSelector";
        assert_eq!(groups[0], format!("{place}.matchLabels[\"a b\"]: `a b` is not a label key"));
        assert_eq!(
            fault("egress", &json!({"toCIDRSet": [{"cidr": "10.0.0.0/8", "cidrGroupRef": "a"}]})),
            "spec.egress[0].toCIDRSet[0]: the entry has more than one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`"
        );
    }

    #[test]
    fn what_is_not_known_is_unclear_and_said() {
        for (element, place, words) in [
            (json!({"fromCIDRSet": [{"cidrGroupRef": "vpn"}]}), "fromCIDRSet[0].cidrGroupRef", "CiliumCIDRGroup vpn"),
            (
                json!({"fromCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"a": "b"}}}]}),
                "fromCIDRSet[0].cidrGroupSelector",
                "CiliumCIDRGroups with a=b",
            ),
            (
                json!({"fromGroups": [{"aws": {"region": "x", "labels": {"a": "b"}}}]}),
                "fromGroups[0]",
                "a cloud provider group",
            ),
        ] {
            let object = object(&json!({"ingress": [element]}));
            assert_eq!(object.faults[0].path.to_string(), format!("spec.ingress[0].{place}"));
            assert!(!object.faults[0].kind.is_refused());
            let who = object.policies()[0].ingress.rules[0].peers.listed()[0].who.clone();
            assert!(matches!(&who, Who::Unclear(_)) && who.to_string().contains(words), "{who}");
        }
    }

    #[test]
    fn what_denies_looks_up_no_services() {
        let services = json!([{"k8sService": {"serviceName": "db"}}]);
        let denied = object(&json!({"egressDeny": [{"toServices": services}]}));
        assert_eq!(denied.faults[0].path.to_string(), "spec.egressDeny[0].toServices");
        assert!(denied.policies()[0].egress.rules.is_empty() && denied.policies()[0].egress.isolates);
        let ports = json!([{"ports": [{"port": "80"}]}]);
        let denied = object(&json!({"egressDeny": [{"toServices": services, "toPorts": ports}]}));
        assert_eq!(denied.policies()[0].egress.rules[0].peers, Peers::Any);
    }
}
