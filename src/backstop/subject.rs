//! The objects that rules of the backstop are about: their resources, variables and exemptions.

use serde_json::{Value, json};

use super::cel::{self, text};
use crate::config::Configuration;
use crate::rules::TOO_COMPLEX;
use crate::view::Site;

/// The resources of an API group, as in `matchConstraints.resourceRules`.
pub(super) fn resources(group: &str, operations: &[&str], resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources})
}

/// Operations that store an object.
pub(super) const WRITES: [&str; 2] = ["CREATE", "UPDATE"];

/// The API groups of Calico: the one that it shows, and the one that it stores.
pub(super) const CALICO_GROUPS: [&str; 2] = ["projectcalico.org", "crd.projectcalico.org"];

/// The variables `namespaceName` and `namespaceLabels` of an object: the name and the labels of its namespace.
pub(super) fn namespace_variables() -> Vec<(&'static str, String)> {
    vec![
        ("namespaceName", r#"request.?namespace.orValue("")"#.to_owned()),
        (
            "namespaceLabels",
            r#"variables.namespaceName == "" ? {} : namespaceObject.metadata.?labels.orValue({})"#.to_owned(),
        ),
    ]
}

/// The variables `namespaceName` and `namespaceLabels` of a Namespace, which decide about modes: on an update the old labels. `now`
/// and `was` are its labels after and before the change.
pub(super) fn own_variables() -> Vec<(&'static str, String)> {
    vec![
        ("namespaceName", r#"object.metadata.?name.orValue("")"#.to_owned()),
        ("now", "object.metadata.?labels.orValue({})".to_owned()),
        ("was", "oldObject == null ? {} : oldObject.metadata.?labels.orValue({})".to_owned()),
        ("namespaceLabels", "oldObject == null ? variables.now : variables.was".to_owned()),
    ]
}

/// The resources of namespaces. Labels can be changed through a subresource too.
pub(super) fn namespaces() -> Vec<Value> {
    vec![resources("", &WRITES, &["namespaces", "namespaces/finalize", "namespaces/status"])]
}

/// The condition of the webhook for namespaces: not a namespace of the control plane.
pub(super) fn not_the_control_plane(site: &Site) -> (&'static str, String) {
    let names = cel::list(&["kube-system", &site.namespace]);
    ("not-the-control-plane", format!(r#"!(object.metadata.?name.orValue("") in {names})"#))
}

/// The variables with the decisions of the authorizer about the bypass of a rule and of `too-complex`. A check has a third
/// of the maximum cost of an expression, so each is a variable, which is evaluated once.
pub(super) fn bypass_variables(rule: &str) -> [(&'static str, String); 2] {
    let check = |rule: &str| {
        format!(
            r#"authorizer.group("portcullis.dev").resource("rules").namespace(request.?namespace.orValue("")).name({}).check("bypass")"#,
            text(rule)
        )
    };
    [("bypass", check(rule)), ("bypassOfTooComplex", check(TOO_COMPLEX))]
}

/// True if the user may bypass the rule.
pub(super) fn may_bypass(site: &Site) -> String {
    is_allowed(site, "variables.bypass")
}

/// True if the authorizer allows. If lookups that fail allow (`lookups.onFailure`), it is also true if the authorizer
/// failed.
fn is_allowed(site: &Site, decision: &str) -> String {
    if site.denies_unknown {
        format!("{decision}.allowed()")
    } else {
        format!("({decision}.allowed() || {decision}.errored())")
    }
}

/// True if the hatch of the namespace may be open. CEL has no clock, so a hatch whose time is over counts as open.
pub(super) fn may_have_open_hatch(site: &Site) -> String {
    format!(r#"variables.namespaceLabels[?{}].orValue("") == "disabled""#, text(&site.enforcement_label()))
}

/// True if the object may be exempt from a rule, given an expression with the text of the exemption annotations.
///
/// A new object is exempt only if its author may bypass the rule, or if `copies` is true: a controller copies the
/// annotations of another object. On an update the exemption may be an old one. An exemption from `too-complex` counts
/// too, because with it the engine can allow an object without evaluating the rule.
pub(super) fn may_be_exempt(configuration: &Configuration, rule: &str, annotations: &str, copies: &str) -> String {
    let site = &configuration.site;
    let rules = [rule, TOO_COMPLEX];
    let named = rules.map(|rule| format!("{annotations}.contains({})", text(rule)));
    let granted = ["variables.bypass", "variables.bypassOfTooComplex"].map(|decision| is_allowed(site, decision));
    let valid = [&["oldObject != null".to_owned(), copies.to_owned()], &granted[..]].concat();
    cel::all(&[cel::any(&named), cel::any(&valid)])
}

/// The text of the exemption annotation of an object, given the expression of the object.
pub(super) fn exemptions(site: &Site, object: &str) -> String {
    format!(r#"{object}.?metadata.?annotations[?{}].orValue("")"#, text(&site.exempt_annotation()))
}

/// True if the CIDR in this expression is certainly not one of the addresses of a node, which ingress may come from on
/// every port: not link-local, and not the IPv6 address of probes in the mesh.
pub(super) fn is_not_of_a_node(cidr: &str) -> String {
    format!(
        r#"({cidr} == "0.0.0.0/0" || {cidr} == "::/0" || ({cidr}.matches("^[1-9]") && !{cidr}.startsWith("169.")))"#
    )
}
