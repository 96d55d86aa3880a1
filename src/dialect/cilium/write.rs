//! The parts of a policy that a fix writes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use super::selector::{ACCOUNT, NAMESPACE, NAMESPACE_LABELS};
use crate::model::{NAME_LABEL, Namespaces, Numbers, Operator, Owner, Port, Requirement, Selector};

/// A rule to write: one list of peers, and ports if it has any.
pub(super) struct Rule {
    pub(super) peers: (&'static str, Value),
    pub(super) to_ports: Vec<WrittenPorts>,
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rule = serializer.serialize_map(None)?;
        rule.serialize_entry(self.peers.0, &self.peers.1)?;
        if !self.to_ports.is_empty() {
            rule.serialize_entry("toPorts", &self.to_ports)?;
        }
        rule.end()
    }
}

#[derive(Clone, Serialize)]
pub(super) struct WrittenPorts {
    pub(super) ports: Vec<WrittenPort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rules: Option<Value>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenPort {
    port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_port: Option<u16>,
    protocol: &'static str,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenSelector<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<WrittenExpression<'a>>,
}

#[derive(Serialize)]
pub(super) struct WrittenExpression<'a> {
    key: String,
    operator: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    values: &'a [Box<str>],
}

/// Converts a part to JSON.
pub(super) fn value(written: &impl Serialize) -> Option<Value> {
    serde_json::to_value(written).ok()
}

pub(super) fn write_port(port: &Port) -> Option<WrittenPort> {
    let protocol = match port.protocol {
        None => "ANY",
        Some(protocol) => protocol.name().filter(|_| protocol.has_ports())?,
    };
    let (port, end_port) = match &port.numbers {
        Numbers::All => ("0".to_owned(), None),
        Numbers::Range(first, last) => (first.to_string(), (first != last).then_some(*last)),
        Numbers::Named(name) => (name.to_string(), None),
        Numbers::Messages(..) => return None,
    };
    Some(WrittenPort { port, end_port, protocol })
}

/// Writes a selector of endpoints. None if Cilium cannot express it.
pub(super) fn selector<'a>(
    is_clusterwide: bool,
    namespaces: &'a Namespaces,
    labels: Option<&'a Selector>,
) -> Option<WrittenSelector<'a>> {
    let mut written = WrittenSelector::default();
    match namespaces {
        // Cilium adds the policy's own namespace to a selector without one. A cluster-scoped policy has no namespace.
        Namespaces::Own(_) if !is_clusterwide => {}
        Namespaces::Own(name) => {
            written.match_labels.insert(format!("k8s:{NAMESPACE}"), name.as_deref()?);
        }
        Namespaces::Matching(namespaces) => {
            if namespaces.is_empty() {
                let key = format!("k8s:{NAMESPACE}");
                written.match_expressions.push(WrittenExpression { key, operator: "Exists", values: &[] });
            }
            for label in conjunction(namespaces)? {
                written.require(label, Owner::Namespace)?;
            }
        }
    }
    if let Some(labels) = labels {
        for label in conjunction(labels)? {
            written.require(label, label.owner)?;
        }
    }
    Some(written)
}

/// The requirements of a selector that is a conjunction of them. None for other selectors.
fn conjunction(selector: &Selector) -> Option<Vec<&Requirement>> {
    match selector {
        Selector::Label(label) => Some(vec![label]),
        Selector::All(parts) => {
            let mut labels = Vec::with_capacity(parts.len());
            for part in parts {
                labels.extend(conjunction(part)?);
            }
            Some(labels)
        }
        Selector::Any(_) | Selector::Not(_) => None,
    }
}

impl<'a> WrittenSelector<'a> {
    fn require(&mut self, label: &'a Requirement, owner: Owner) -> Option<()> {
        let key = match (owner, &*label.key) {
            (Owner::Itself, key) => format!("k8s:{key}"),
            (Owner::Namespace, NAME_LABEL) => format!("k8s:{NAMESPACE}"),
            (Owner::Namespace, key) => format!("k8s:{NAMESPACE_LABELS}{key}"),
            (Owner::Account, NAME_LABEL) => format!("k8s:{ACCOUNT}"),
            (Owner::Account, _) => return None,
        };
        let (operator, values): (_, &[Box<str>]) = match &label.operator {
            Operator::In(values) => match values.as_slice() {
                [value] if !self.match_labels.contains_key(&key) => {
                    self.match_labels.insert(key, value);
                    return Some(());
                }
                _ => ("In", values),
            },
            Operator::NotIn(values) => ("NotIn", values),
            Operator::Exists => ("Exists", &[]),
            Operator::Absent => ("DoesNotExist", &[]),
            Operator::Contains(_) | Operator::StartsWith(_) | Operator::EndsWith(_) => return None,
        };
        self.match_expressions.push(WrittenExpression { key, operator, values });
        Some(())
    }
}
