//! Labels of namespaces and fields as each dialect spells them, for texts that suggest a change of a policy.

use std::borrow::Cow;

use crate::model::{NAME_LABEL, ObjectRef};

/// The group of Cilium's policies.
const CILIUM: &str = "cilium.io";
/// The groups of Calico's policies.
const CALICO: [&str; 2] = ["projectcalico.org", "crd.projectcalico.org"];

/// Label keys that each dialect reserves for the name of a namespace. No pod has a label with one of them.
pub(crate) const NAMESPACE_KEYS: [&str; 3] = [NAME_LABEL, "projectcalico.org/name", "io.kubernetes.pod.namespace"];

/// Returns true if an object is a policy of Cilium.
pub(crate) fn is_of_cilium(object: &ObjectRef) -> bool {
    object.group() == CILIUM
}

/// The key of a namespace label in a selector of this object. In policies of Cilium the labels of a namespace are labels
/// of its endpoints.
pub(crate) fn namespace_key<'a>(object: &ObjectRef, key: &'a str) -> Cow<'a, str> {
    match (is_of_cilium(object), key) {
        (true, NAME_LABEL) => "k8s:io.kubernetes.pod.namespace".into(),
        (true, _) => format!("k8s:io.cilium.k8s.namespace.labels.{key}").into(),
        (false, _) => key.into(),
    }
}

/// A namespace label of the form `key=value`, as a selector of this object spells it.
pub(crate) fn namespace_label(object: &ObjectRef, label: &str) -> String {
    match label.split_once('=') {
        Some((key, value)) => format!("{}={value}", namespace_key(object, key)),
        None => label.to_owned(),
    }
}

/// The selector of one namespace in a policy of this object.
pub(crate) fn selector_of_namespace(object: &ObjectRef, namespace: &str) -> String {
    if CALICO.contains(&object.group()) {
        return format!("namespaceSelector: projectcalico.org/name == '{namespace}'");
    }
    format!("{}: {namespace}", namespace_key(object, NAME_LABEL))
}

/// The field with the directions that a policy isolates.
pub(crate) fn types_field(object: &ObjectRef) -> &'static str {
    if CALICO.contains(&object.group()) { "types" } else { "policyTypes" }
}
