//! Writes contracts as manifests.

use serde::Serialize;

use crate::dialect::label_selector;
use crate::model::{
    AddressSet, Contract, Demand, Enforcement, Entity, Extent, NAME_LABEL, Namespaces, Operator, Party, Pods, PortSpan,
    Selector,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    owner: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    must_reach: Option<Connections<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    must_not_reach: Option<Connections<'a>>,
}

#[derive(Serialize)]
struct Connections<'a> {
    from: Vec<WrittenParty<'a>>,
    to: Vec<WrittenParty<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<WrittenPort>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", untagged)]
enum WrittenParty<'a> {
    Pods(WrittenPods<'a>),
    #[serde(rename_all = "camelCase")]
    AllExcept {
        all_pods_except: Vec<WrittenPods<'a>>,
    },
    Entity {
        entity: &'static str,
    },
    Domain {
        domain: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPods<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<&'a [Box<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_selector: Option<label_selector::Written<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_selector: Option<label_selector::Written<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPort {
    protocol: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_port: Option<u16>,
}

/// Writes a contract as the JSON text of its manifest. None if it has CIDRs, or selectors that a LabelSelector cannot
/// express.
#[must_use]
pub fn write(contract: &Contract) -> Option<String> {
    let connections = Connections {
        from: contract.from.iter().map(party).collect::<Option<_>>()?,
        to: contract.to.iter().map(party).collect::<Option<_>>()?,
        ports: contract.ports.iter().map(port).collect(),
    };
    let (must_reach, must_not_reach) = match contract.demand {
        Demand::MustReach => (Some(connections), None),
        Demand::MustNotReach => (None, Some(connections)),
    };
    let spec = Spec {
        reason: &contract.reason,
        owner: &contract.owner,
        pods: (contract.extent == Extent::Existing).then_some("Existing"),
        enforcement: (contract.enforcement == Enforcement::Warn).then_some("Warn"),
        must_reach,
        must_not_reach,
    };
    let metadata = Metadata { name: &contract.name };
    let manifest = Manifest { api_version: "portcullis.dev/v1alpha1", kind: "Contract", metadata, spec };
    serde_json::to_string(&manifest).ok()
}

fn party(party: &Party) -> Option<WrittenParty<'_>> {
    Some(match party {
        Party::Pods { pods, except } if pods.are_all() => {
            WrittenParty::AllExcept { all_pods_except: except.iter().map(written).collect::<Option<_>>()? }
        }
        Party::Pods { pods, except } if except.is_empty() => WrittenParty::Pods(written(pods)?),
        Party::Pods { .. } => return None,
        Party::Addresses { set, .. } if *set == AddressSet::internet() => WrittenParty::Entity { entity: "Internet" },
        // A set of addresses does not tell the CIDR that the author wrote.
        Party::Addresses { .. } => return None,
        Party::Domain(name) => WrittenParty::Domain { domain: name.to_string() },
        Party::Entity(Entity::RemoteNode) => WrittenParty::Entity { entity: "Nodes" },
        Party::Entity(Entity::KubeApiserver) => WrittenParty::Entity { entity: "APIServer" },
        Party::Entity(_) => return None,
        Party::ClusterDns => WrittenParty::Entity { entity: "ClusterDNS" },
    })
}

fn written(pods: &Pods) -> Option<WrittenPods<'_>> {
    let Namespaces::Matching(namespaces) = &pods.namespaces else { return None };
    let names = match namespaces {
        Selector::Label(label) if *label.key == *NAME_LABEL => match &label.operator {
            Operator::In(names) => Some(names.as_slice()),
            _ => None,
        },
        _ => None,
    };
    let namespace_selector = match names {
        Some(_) => None,
        None => Some(label_selector::write(namespaces)?),
    };
    let pod_selector = match &pods.labels {
        Some(labels) if !labels.is_empty() => Some(label_selector::write(labels)?),
        _ => None,
    };
    Some(WrittenPods { namespaces: names, namespace_selector, pod_selector })
}

fn port(span: &PortSpan) -> WrittenPort {
    let end_port = (span.last != span.first).then_some(span.last);
    WrittenPort { protocol: span.protocol.to_string(), port: span.first, end_port }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::contract::read;
    use crate::dialect::{Manifest as Read, Origin};
    use crate::model::Body;
    use serde_json::{Value, json};

    fn contract(spec: &Value) -> Contract {
        let json = json!({"metadata": {"name": "c"}, "spec": spec}).to_string();
        let manifest = Read::read("portcullis.dev/v1alpha1", "Contract", &json, Origin::Author).unwrap();
        match read::object(&manifest).unwrap().body {
            Body::Contract(contract) => contract,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_written_contract_reads_as_the_same() {
        let pods = json!({"namespaces": ["shop", "web"], "podSelector": {"matchLabels": {"app": "db"}}});
        let by_labels = json!({"namespaceSelector": {"matchLabels": {"team": "a"}, "matchExpressions": [
            {"key": "stage", "operator": "NotIn", "values": ["test"]}, {"key": "b", "operator": "DoesNotExist"}]}});
        let to = |party: Value| json!({"mustReach": {"from": [pods], "to": [party]}});
        for spec in [
            json!({"reason": "r", "owner": "o", "pods": "Existing", "enforcement": "Warn",
                "mustNotReach": {"from": [{"allPodsExcept": [pods, by_labels]}], "to": [pods],
                    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 80, "endPort": 90}]}}),
            to(json!({"allPodsExcept": []})),
            to(by_labels.clone()),
            to(json!({"entity": "Internet"})),
            to(json!({"entity": "Nodes"})),
            to(json!({"entity": "APIServer"})),
            to(json!({"entity": "ClusterDNS"})),
            to(json!({"domain": "api.example.com"})),
        ] {
            let own = contract(&spec);
            let written: Value = serde_json::from_str(&write(&own).unwrap()).unwrap();
            assert_eq!(contract(&written["spec"]), own, "{written}");
            assert_eq!((&written["kind"], &written["metadata"]["name"]), (&json!("Contract"), &json!("c")));
        }
        assert_eq!(write(&contract(&to(json!({"cidr": "10.0.0.0/8"})))), None, "the text of a CIDR is not kept");
    }
}
