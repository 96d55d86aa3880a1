//! The manifests of a rule of the backstop.

use serde_json::{Value, json};

use super::subject::bypass_variables;
use super::{Delivery, cel};
use crate::config::Configuration;

/// A rule of the backstop for some kinds of objects.
pub(super) struct AdmissionPolicy {
    pub(super) rule: &'static str,
    /// The part of the name after the rule, if the rule has several policies.
    pub(super) part: Option<&'static str>,
    /// The resources, as in `matchConstraints.resourceRules`.
    pub(super) resources: Vec<Value>,
    /// True if the policy is for objects in namespaces. The namespaces of the control plane are then excluded.
    pub(super) is_namespaced: bool,
    /// Conditions that decide quickly that the policy does not apply. All of them have to be true.
    pub(super) conditions: Vec<(&'static str, String)>,
    /// Variables. Each may use the ones before it, and none is evaluated before it is used.
    pub(super) variables: Vec<(&'static str, String)>,
    /// True if the object has a fault that it did not have before.
    pub(super) fault: String,
    /// True if the rule denies in the namespace.
    pub(super) enforced: String,
    /// True if the request is allowed despite the fault.
    pub(super) spared: String,
    /// The message after the name of the rule, as an expression.
    pub(super) message: String,
    /// The advice below the message.
    pub(super) help: String,
}

/// The label of all objects of the backstop.
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "backstop");

/// The end of the names of static manifests, which the API server requires.
const STATIC: &str = ".static.k8s.io";

impl AdmissionPolicy {
    /// The policy and its binding.
    pub(super) fn render(&self, configuration: &Configuration, delivery: Delivery) -> [Value; 2] {
        let part = self.part.map(|part| format!("-{part}")).unwrap_or_default();
        let suffix = if delivery == Delivery::StaticManifests { STATIC } else { "" };
        let name = format!("portcullis-{}{part}{suffix}", self.rule);
        let version = "admissionregistration.k8s.io/v1";
        let (key, component) = COMPONENT;
        let metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": "portcullis", key: component}});
        let control_plane = ["kube-system", &*configuration.site.namespace];
        let elsewhere = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": control_plane},
        ]});
        let constraints = json!({
            "matchPolicy": "Equivalent",
            "resourceRules": self.resources,
            "namespaceSelector": if self.is_namespaced { elsewhere } else { json!({}) },
        });
        let named = |(name, expression): &(&str, String)| json!({"name": name, "expression": expression});
        // The API server drops a message with line breaks.
        let message = format!(
            "{} + {} + {}",
            cel::text(&format!("{}: ", self.rule)),
            self.message,
            cel::text(&format!("; help: {}", self.help))
        );
        let decision =
            [("fault", self.fault.clone()), ("enforced", self.enforced.clone()), ("spared", self.spared.clone())];
        let variables = bypass_variables(self.rule).into_iter().chain(decision);
        let variables: Vec<(&str, String)> = self.variables.iter().cloned().chain(variables).collect();
        let policy = json!({
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Ignore",
                "matchConstraints": constraints,
                "matchConditions": self.conditions.iter().map(named).collect::<Vec<_>>(),
                "variables": variables.iter().map(named).collect::<Vec<_>>(),
                "validations": [{
                    "expression": "!variables.fault || !variables.enforced || variables.spared",
                    "messageExpression": message,
                    "message": format!("{}: see docs/rules/{}.md", self.rule, self.rule),
                    "reason": "Forbidden",
                }],
            },
        });
        let binding = json!({
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        [policy, binding]
    }
}
