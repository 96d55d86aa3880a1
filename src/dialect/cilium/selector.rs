//! Selectors of endpoints and nodes, and label keys with their sources.
//!
//! Sources are defined in `pkg/labels/labels.go`, special keys in `pkg/k8s/apis/cilium.io/const.go`.

use super::validity::{Faults, is_value, key_problem};
use super::wire;
use crate::model::{NAME_LABEL, Operator, Owner, Path, Requirement, Selector};

/// The label key for the name of a pod's namespace.
pub(super) const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The prefix of label keys for labels of a pod's namespace.
pub(super) const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
/// The label key for the name of a pod's service account.
pub(super) const ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
/// The label key for the name of a pod's cluster.
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

/// A parsed label key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// A label of the pod.
    Pod(&'a str),
    /// The name of the pod's namespace, with the source `k8s` or any source.
    Namespace { is_k8s: bool },
    /// A label of the pod's namespace.
    NamespaceLabel(&'a str),
    /// The name of the pod's service account.
    Account,
    /// The name of the pod's cluster.
    Cluster,
    /// A label of the source `reserved`, which only endpoints other than pods have.
    Reserved(&'a str),
    /// A label of another source.
    Foreign,
}

impl<'a> Key<'a> {
    fn of(written: &'a str) -> Self {
        let (source, key) = written.split_once(':').unwrap_or(("any", written));
        match (source, key) {
            ("reserved", name) => Self::Reserved(name),
            ("k8s" | "any", NAMESPACE) => Self::Namespace { is_k8s: source == "k8s" },
            ("k8s" | "any", ACCOUNT) => Self::Account,
            ("k8s" | "any", CLUSTER) => Self::Cluster,
            ("k8s" | "any", key) => key.strip_prefix(NAMESPACE_LABELS).map_or(Self::Pod(key), Self::NamespaceLabel),
            _ => Self::Foreign,
        }
    }
}

/// A requirement on one label.
#[derive(Debug)]
pub(super) struct Term<'a> {
    pub(super) written: &'a str,
    pub(super) key: Key<'a>,
    pub(super) operator: Operator,
    /// True if it is part of `matchLabels`.
    pub(super) is_label: bool,
}

impl Term<'_> {
    /// The requirement as a selector of namespaces. None if it does not concern the namespace.
    pub(super) fn of_namespace(&self) -> Option<Selector> {
        match self.key {
            // Every namespace has a name.
            Key::Namespace { .. } if self.operator == Operator::Exists => Some(Selector::everything()),
            Key::Namespace { .. } => Some(Selector::label(NAME_LABEL, self.operator.clone())),
            Key::NamespaceLabel(key) => Some(Selector::label(key, self.operator.clone())),
            _ => None,
        }
    }

    /// The requirement as a selector of pods. None if it does not concern the pod or its service account.
    pub(super) fn of_pod(&self) -> Option<Selector> {
        let (owner, key) = match self.key {
            Key::Pod(key) => (Owner::Itself, key),
            Key::Account => (Owner::Account, NAME_LABEL),
            _ => return None,
        };
        Some(Selector::Label(Requirement { owner, key: key.into(), operator: self.operator.clone() }))
    }

    /// The requirement with its key as written, for messages.
    pub(super) fn as_written(&self) -> Selector {
        Selector::label(self.written, self.operator.clone())
    }

    /// Returns true if only objects with this label can match.
    pub(super) fn asks_for_it(&self) -> bool {
        !matches!(self.operator, Operator::NotIn(_) | Operator::Absent)
    }
}

/// Reads the requirements of a selector of endpoints or nodes. None if the selector does not parse.
pub(super) fn terms<'a>(selector: &'a wire::LabelSelector, path: &Path, faults: &mut Faults) -> Option<Vec<Term<'a>>> {
    let mut terms = Vec::new();
    let mut parses = true;
    let labels_path = path.field("matchLabels");
    for (key, value) in selector.match_labels.iter().flat_map(|labels| labels.0.iter()) {
        parses &= check_key(key, || labels_path.key(key), faults);
        parses &= check_value(value, || labels_path.key(key), faults);
        terms.push(Term {
            written: key,
            key: Key::of(key),
            operator: Operator::In(vec![value.into()]),
            is_label: true,
        });
    }
    for (position, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let place = || path.field("matchExpressions").index(position);
        let key = expression.key.as_deref().unwrap_or_default();
        parses &= check_key(key, || place().field("key"), faults);
        let values = expression.values.clone().unwrap_or_default();
        for (at, value) in values.iter().enumerate() {
            parses &= check_value(value, || place().field("values").index(at), faults);
        }
        let name = expression.operator.as_deref().unwrap_or_default();
        let operator = match (name, values.is_empty()) {
            ("In", false) => Operator::In(values),
            ("NotIn", false) => Operator::NotIn(values),
            ("Exists", true) => Operator::Exists,
            ("DoesNotExist", true) => Operator::Absent,
            ("In" | "NotIn", true) => {
                let problem = format!("`{name}` of `{key}` has no values");
                faults.selector(place().field("values"), &problem, "list the values");
                parses = false;
                continue;
            }
            ("Exists" | "DoesNotExist", false) => {
                let problem = format!("`{name}` of `{key}` must not have values");
                faults.selector(place().field("values"), &problem, "remove the values, or write In or NotIn");
                parses = false;
                continue;
            }
            _ => {
                let problem = format!("`{name}` is not one of In, NotIn, Exists, DoesNotExist");
                faults.selector(place().field("operator"), &problem, "write one of them");
                parses = false;
                continue;
            }
        };
        terms.push(Term { written: key, key: Key::of(key), operator, is_label: false });
    }
    parses.then_some(terms)
}

fn check_key(key: &str, path: impl Fn() -> Path, faults: &mut Faults) -> bool {
    let Some(problem) = key_problem(key) else { return true };
    faults.selector(path(), &problem, "write a label key, optionally with one source before it: `k8s:app`");
    false
}

fn check_value(value: &str, path: impl Fn() -> Path, faults: &mut Faults) -> bool {
    if is_value(value) {
        return true;
    }
    let help = "write at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends";
    faults.selector(path(), &format!("`{value}` is not a label value"), help);
    false
}

/// Describes a selector of objects other than pods.
pub(super) fn in_words(selector: &wire::LabelSelector) -> String {
    let labels = selector.match_labels.iter().flat_map(|labels| labels.0.iter());
    let mut parts: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.as_deref().unwrap_or_default().join(",");
        let key = expression.key.as_deref().unwrap_or_default();
        parts.push(format!("{key} {} ({values})", expression.operator.as_deref().unwrap_or_default()));
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::testing::object;
    use super::*;
    use crate::model::Who;
    use serde_json::{Value, json};

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn selectors_that_do_not_parse_are_told_with_their_place() {
        let of = |selector: Value| {
            let object = object(&json!({"endpointSelector": selector, "ingress": [{}]}));
            assert_eq!(object.policies()[0].subject.labels, Some(Selector::Any(Vec::new())));
            super::super::testing::faults_of(&object)
        };
        assert_eq!(
            of(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Is"}]})),
            ["spec.endpointSelector.matchExpressions[1].operator: `Is` is not one of In, NotIn, Exists, DoesNotExist"]
        );
        assert_eq!(
            of(expression("a", "In", &[])),
            ["spec.endpointSelector.matchExpressions[0].values: `In` of `a` has no values"]
        );
        assert_eq!(
            of(expression("a", "Exists", &["b"])),
            ["spec.endpointSelector.matchExpressions[0].values: `Exists` of `a` must not have values"]
        );
        assert_eq!(
            of(json!({"matchLabels": {"a b": "c d"}})),
            [
                "spec.endpointSelector.matchLabels[\"a b\"]: `a b` is not a label key",
                "spec.endpointSelector.matchLabels[\"a b\"]: `c d` is not a label value"
            ]
        );
        let object = object(&json!({"ingress": [{"fromEndpoints": [expression("a", "In", &[])]}]}));
        assert_eq!(
            object.policies()[0].ingress.rules[0].peers.listed()[0].who,
            Who::Unclear("a selector that does not parse".into())
        );
    }
}
