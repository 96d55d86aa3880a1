//! Reads contracts into the model.

use ipnet::IpNet;

use super::wire;
use crate::dialect::label_selector::LabelSelector;
use crate::dialect::{Manifest, ReadError, cidr};
use crate::model::{
    AddressSet, Body, Contract, Demand, DomainPattern, Enforcement, Entity, Extent, NAME_LABEL, Namespaces, Object,
    ObjectRef, Operator, Party, Path, Pods, PortSpan, Protocol, Selector,
};

/// Maximum number of sources, destinations, ports or excluded pods. A contract is written by hand.
const MAX_ITEMS: usize = 100;

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    // The kind is cluster-scoped, even if the manifest has a namespace.
    let id = ObjectRef { namespace: None, ..manifest.id()? };
    let mut faults = Vec::new();
    let spec: wire::Spec = manifest.strict_spec(&mut faults)?;
    if let Some(unknown) = faults.first() {
        return Err(ReadError::at(&unknown.path, "unknown field of Contract"));
    }
    let path = Path::root().field("spec");
    let (demand, field, connections) = match (&spec.must_reach, &spec.must_not_reach) {
        (Some(connections), None) => (Demand::MustReach, "mustReach", connections),
        (None, Some(connections)) => (Demand::MustNotReach, "mustNotReach", connections),
        _ => return Err(ReadError::at(&path, "expected exactly one of mustReach and mustNotReach")),
    };
    let extent = match spec.pods.as_deref() {
        None | Some("Any") => Extent::Any,
        Some("Existing") => Extent::Existing,
        Some(other) => return Err(ReadError::at(&path.field("pods"), neither(other, "Any", "Existing"))),
    };
    let enforcement = match spec.enforcement.as_deref() {
        None | Some("Deny") => Enforcement::Deny,
        Some("Warn") => Enforcement::Warn,
        Some(other) => return Err(ReadError::at(&path.field("enforcement"), neither(other, "Deny", "Warn"))),
    };
    let path = path.field(field);
    let from = parties(connections.from.as_deref(), &path.field("from"))?;
    let to = parties(connections.to.as_deref(), &path.field("to"))?;
    for (side, place) in [(&from, "from"), (&to, "to")] {
        let has_no_policies = |party: &&Party| !matches!(party, Party::Pods { .. });
        let other = if place == "from" { &to } else { &from };
        // Policies apply to pods, so at least one end of each connection has to be a pod.
        if let (Some(place_party), Some(_)) =
            (side.iter().position(|party| has_no_policies(&party)), other.iter().find(has_no_policies))
        {
            let path = path.field(place).index(place_party);
            return Err(ReadError::at(&path, "connections without a pod at one end are not subject to policies"));
        }
        if place == "from" && side.contains(&Party::ClusterDns) {
            return Err(ReadError::at(&path.field(place), "`ClusterDNS` can only be a destination"));
        }
    }
    let ports = ports(connections.ports.as_deref(), &path.field("ports"))?;
    let contract = Contract {
        name: id.name.clone(),
        demand,
        extent,
        from,
        to,
        ports,
        enforcement,
        reason: spec.reason.unwrap_or_default(),
        owner: spec.owner.unwrap_or_default(),
    };
    let annotations = manifest.annotations()?;
    Ok(Object { id, body: Body::Contract(contract), faults, annotations })
}

fn neither(value: &str, first: &str, second: &str) -> String {
    format!("`{value}` is neither {first} nor {second}")
}

fn at_most(count: usize, path: &Path) -> Result<(), ReadError> {
    if count > MAX_ITEMS {
        return Err(ReadError::at(path, format!("{count} items; a contract may have at most {MAX_ITEMS}")));
    }
    Ok(())
}

fn parties(written: Option<&[wire::Party]>, path: &Path) -> Result<Vec<Party>, ReadError> {
    let written = written.unwrap_or_default();
    if written.is_empty() {
        return Err(ReadError::at(path, "expected at least one entry"));
    }
    at_most(written.len(), path)?;
    written.iter().enumerate().map(|(position, written)| party(written, &path.index(position))).collect()
}

fn party(written: &wire::Party, path: &Path) -> Result<Party, ReadError> {
    let wire::Party { namespaces, namespace_selector, pod_selector, all_pods_except, cidr, domain, entity } = written;
    let has_pods = namespaces.is_some() || namespace_selector.is_some() || pod_selector.is_some();
    let kinds = [has_pods, all_pods_except.is_some(), cidr.is_some(), domain.is_some(), entity.is_some()];
    if kinds.iter().filter(|is_set| **is_set).count() != 1 {
        let expected = "expected pods (namespaces or namespaceSelector, and podSelector), or exactly one of \
                        allPodsExcept, cidr, domain and entity";
        return Err(ReadError::at(path, expected));
    }
    if let Some(excluded) = all_pods_except {
        let path = path.field("allPodsExcept");
        at_most(excluded.len(), &path)?;
        let everything = Pods { namespaces: Namespaces::Matching(Selector::everything()), labels: None };
        let except = excluded.iter().enumerate().map(|(position, written)| {
            let wire::Pods { namespaces, namespace_selector, pod_selector } = written;
            let path = path.index(position);
            pods(namespaces.as_deref(), namespace_selector.as_ref(), pod_selector.as_ref(), &path)
        });
        return Ok(Party::Pods { pods: everything, except: except.collect::<Result<_, _>>()? });
    }
    if let Some(text) = cidr {
        return addresses(text, &path.field("cidr"));
    }
    if let Some(name) = domain {
        if name.is_empty() || name.contains('*') {
            return Err(ReadError::at(&path.field("domain"), format!("`{name}` is not a DNS name without a wildcard")));
        }
        return Ok(Party::Domain(DomainPattern::name(name)));
    }
    match entity.as_deref() {
        None => {
            let pods = pods(namespaces.as_deref(), namespace_selector.as_ref(), pod_selector.as_ref(), path)?;
            Ok(Party::Pods { pods, except: Vec::new() })
        }
        Some("Internet") => {
            Ok(Party::Addresses { set: AddressSet::internet(), outside: true, text: "the internet".into() })
        }
        Some("Nodes") => Ok(Party::Entity(Entity::RemoteNode)),
        Some("APIServer") => Ok(Party::Entity(Entity::KubeApiserver)),
        Some("ClusterDNS") => Ok(Party::ClusterDns),
        Some(other) => {
            let problem = format!("`{other}` is not one of Internet, Nodes, APIServer, ClusterDNS");
            Err(ReadError::at(&path.field("entity"), problem))
        }
    }
}

fn pods(
    names: Option<&[Box<str>]>,
    namespaces: Option<&LabelSelector>,
    pods: Option<&LabelSelector>,
    path: &Path,
) -> Result<Pods, ReadError> {
    let selector =
        |written: Option<&LabelSelector>, field| written.map(|selector| selector.read(&path.field(field))).transpose();
    let by_labels = selector(namespaces, "namespaceSelector")?;
    let namespaces = match (names, by_labels) {
        (Some(names), None) if !names.is_empty() => {
            at_most(names.len(), &path.field("namespaces"))?;
            let is_name = |name: &str| {
                !name.is_empty()
                    && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            };
            if let Some(position) = names.iter().position(|name| !is_name(name)) {
                let name = names.get(position).map(|name| &**name).unwrap_or_default();
                let problem = format!("`{name}` is not the name of a namespace; namespaceSelector selects by labels");
                return Err(ReadError::at(&path.field("namespaces").index(position), problem));
            }
            Selector::label(NAME_LABEL, Operator::In(names.to_vec()))
        }
        (None, Some(selector)) => selector,
        (Some(_), Some(_)) => {
            return Err(ReadError::at(path, "namespaces and namespaceSelector exclude each other"));
        }
        // In a NetworkPolicy a lone podSelector means the policy's own namespace, which a contract does not have.
        _ => return Err(ReadError::at(path, "expected namespaces or namespaceSelector; {} selects all namespaces")),
    };
    let labels = selector(pods, "podSelector")?.filter(|labels| !labels.is_empty());
    Ok(Pods { namespaces: Namespaces::Matching(namespaces), labels })
}

fn addresses(text: &str, path: &Path) -> Result<Party, ReadError> {
    let net: IpNet = cidr::parse(text)
        .ok_or_else(|| ReadError::at(path, format!("`{text}` is not a CIDR, such as 10.0.0.0/8 or fd00::/8")))?
        .trunc();
    let set = AddressSet::from(net);
    let outside = AddressSet::internet().covers(&set);
    Ok(Party::Addresses { set, outside, text: format!("addresses in {net} that no pod has").into() })
}

fn ports(written: Option<&[wire::Port]>, path: &Path) -> Result<Vec<PortSpan>, ReadError> {
    let written = written.unwrap_or_default();
    at_most(written.len(), path)?;
    written.iter().enumerate().map(|(position, written)| port(written, &path.index(position))).collect()
}

fn port(written: &wire::Port, path: &Path) -> Result<PortSpan, ReadError> {
    let protocol = match written.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(other) => {
            return Err(ReadError::at(&path.field("protocol"), format!("`{other}` is not one of TCP, UDP, SCTP")));
        }
    };
    let number = |value: i64, field| {
        let number = u16::try_from(value).ok().filter(|number| *number > 0);
        number.ok_or_else(|| ReadError::at(&path.field(field), format!("`{value}` is not a port from 1 to 65535")))
    };
    let (first, last) = match (written.port, written.end_port) {
        (None, None) => (1, u16::MAX),
        (None, Some(_)) => return Err(ReadError::at(path, "endPort requires port")),
        (Some(port), end) => {
            let first = number(port, "port")?;
            (first, end.map_or(Ok(first), |end| number(end, "endPort"))?)
        }
    };
    if last < first {
        return Err(ReadError::at(&path.field("endPort"), format!("`{last}` is smaller than the port {first}")));
    }
    Ok(PortSpan { protocol, first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use serde_json::{Value, json};

    fn read(spec: &Value) -> Result<Contract, String> {
        let json = json!({"metadata": {"name": "c"}, "spec": spec}).to_string();
        let manifest = Manifest::read("portcullis.dev/v1alpha1", "Contract", &json, Origin::Author).unwrap();
        match object(&manifest).map_err(|error| error.to_string())?.body {
            Body::Contract(contract) => Ok(contract),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_contract_reads_as_one_sentence() {
        let contract = read(&json!({
            "reason": "PCI DSS 1.3", "owner": "team-payments",
            "mustNotReach": {
                "from": [{"allPodsExcept": [{"namespaces": ["payments"], "podSelector": {"matchLabels": {"app": "api"}}}]}],
                "to": [{"namespaces": ["payments"], "podSelector": {"matchLabels": {"app": "db"}}}],
                "ports": [{"port": 5432}, {"protocol": "UDP", "port": 6000, "endPort": 6010}],
            },
        }))
        .unwrap();
        assert_eq!(
            contract.to_string(),
            "all pods in every namespace except pods with app=api in namespace payments must not reach pods with app=db \
             in namespace payments on TCP 5432 or UDP 6000-6010"
        );
        assert_eq!((contract.extent, contract.enforcement), (Extent::Any, Enforcement::Deny));
        assert_eq!((&*contract.reason, &*contract.owner), ("PCI DSS 1.3", "team-payments"));
    }

    #[test]
    fn an_error_names_the_field_and_the_value() {
        let pods = json!({"namespaces": ["a"]});
        let must_reach = |from: Value, to: Value| json!({"mustReach": {"from": [from], "to": [to]}});
        for (spec, expected) in [
            (json!({}), "spec: expected exactly one of mustReach and mustNotReach"),
            (json!({"mustReach": {"from": [pods]}}), "spec.mustReach.to: expected at least one entry"),
            (
                must_reach(json!({"podSelector": {}}), pods.clone()),
                "spec.mustReach.from[0]: expected namespaces or namespaceSelector; {} selects all namespaces",
            ),
            (
                must_reach(json!({"namespaces": ["a"], "cidr": "10.0.0.0/8"}), pods.clone()),
                "spec.mustReach.from[0]: expected pods (namespaces or namespaceSelector, and podSelector), or exactly \
                 one of allPodsExcept, cidr, domain and entity",
            ),
            (
                must_reach(pods.clone(), json!({"namespace": "a"})),
                "spec.mustReach.to[0].namespace: unknown field of Contract",
            ),
            (
                must_reach(pods.clone(), json!({"entity": "World"})),
                "spec.mustReach.to[0].entity: `World` is not one of Internet, Nodes, APIServer, ClusterDNS",
            ),
            (
                must_reach(json!({"entity": "Nodes"}), json!({"cidr": "192.0.2.0/24"})),
                "spec.mustReach.from[0]: connections without a pod at one end are not subject to policies",
            ),
            (
                must_reach(json!({"entity": "ClusterDNS"}), pods.clone()),
                "spec.mustReach.from: `ClusterDNS` can only be a destination",
            ),
            (
                json!({"pods": "any", "mustReach": {"from": [pods], "to": [pods]}}),
                "spec.pods: `any` is neither Any nor Existing",
            ),
            (
                json!({"mustReach": {"from": [pods], "to": [pods], "ports": [{"port": 70000}]}}),
                "spec.mustReach.ports[0].port: `70000` is not a port from 1 to 65535",
            ),
            (
                json!({"mustReach": {"from": [pods], "to": [pods], "ports": [{"port": 80, "endPort": 79}]}}),
                "spec.mustReach.ports[0].endPort: `79` is smaller than the port 80",
            ),
        ] {
            assert_eq!(read(&spec).unwrap_err(), expected, "{spec}");
        }
    }
}
