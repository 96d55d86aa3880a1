//! The backstop: the rules that need no view of the cluster, as ValidatingAdmissionPolicies of the API server.
//!
//! The API server evaluates them itself, so they deny while every replica is down. They deny only what the webhook would
//! deny too. Each condition is therefore one-sided: where the engine needs another object, the time, or a parser, the
//! condition allows. `docs/operate/backstop.md` lists what they miss, and `tests/backstop` compares both.
//!
//! - A policy has `failurePolicy: Ignore`. An expression fails on an object that its type does not allow, and on one that
//!   exceeds the cost limit of the API server, which is another limit than the budget of the webhook.
//! - On an update a rule denies only if the old object did not have the fault, in any direction. That is coarser than the
//!   ratchet of the engine, and never stricter.
//! - Hatches and exemptions spare an object as in the engine. CEL has no clock, so an expired hatch still spares.

mod any_port;
mod cel;
mod guards;
mod host_network;
mod invalid_profile;
mod manifest;
mod settings;
mod subject;

use serde_json::Value;

use crate::config::Configuration;
use manifest::AdmissionPolicy;

/// The place that the API server loads the backstop from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Objects of the API.
    Objects,
    /// Files in the directory of static manifests of the API server (KEP-5793).
    StaticManifests,
}

/// The ValidatingAdmissionPolicies for a configuration, each followed by its binding.
#[must_use]
pub fn manifests(configuration: &Configuration, delivery: Delivery) -> Vec<Value> {
    policies(configuration).iter().flat_map(|policy| policy.render(configuration, delivery)).collect()
}

/// The rules that deny somewhere under this configuration.
fn policies(configuration: &Configuration) -> Vec<AdmissionPolicy> {
    let guards = guards::policies(configuration);
    let profiles = invalid_profile::policy(configuration);
    let ports = any_port::policies(configuration);
    let host_network = host_network::policies(configuration);
    guards.into_iter().chain(profiles).chain(ports).chain(host_network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Configuration {
        Configuration::read(&format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{rest}")).unwrap()
    }

    fn names(rest: &str) -> Vec<String> {
        let manifests = manifests(&read(rest), Delivery::Objects);
        let policies = manifests.iter().filter(|manifest| manifest["kind"] == "ValidatingAdmissionPolicy");
        policies.map(|policy| policy["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    const GUARDS: [&str; 4] = [
        "portcullis-managed-policy-change-policies",
        "portcullis-managed-policy-change-namespaces",
        "portcullis-unguarded-hatch",
        "portcullis-isolation-downgrade",
    ];

    #[test]
    fn only_rules_that_deny_are_compiled() {
        assert_eq!(names("preset: observe\n"), GUARDS, "guards deny under every preset");
        assert_eq!(names("preset: warn\nrules: {unguarded-hatch: warn}\n").len(), 3);
        let any_port = |rest: &str| names(rest).into_iter().filter(|name| name.contains("any-port")).count();
        assert_eq!(any_port(""), 4, "one for each dialect");
        assert_eq!(any_port("rules: {any-port: audit}\n"), 0);
        assert_eq!(any_port("rules: {too-complex: warn}\n"), 0, "the webhook may allow without evaluating any-port");
        // Under this preset the webhook allows what it cannot parse, and only the API server parses NetworkPolicies.
        assert_eq!(any_port("preset: observe\nrules: {any-port: deny, too-complex: deny}\n"), 1);
    }

    #[test]
    fn a_policy_is_followed_by_its_binding() {
        for delivery in [Delivery::Objects, Delivery::StaticManifests] {
            let manifests = manifests(&read(""), delivery);
            for pair in manifests.chunks(2) {
                let [policy, binding] = pair else { panic!("{pair:?}") };
                let name = policy["metadata"]["name"].as_str().unwrap();
                assert_eq!(name.ends_with(".static.k8s.io"), delivery == Delivery::StaticManifests, "{name}");
                assert_eq!(binding["metadata"]["name"], name);
                assert_eq!(binding["spec"], serde_json::json!({"policyName": name, "validationActions": ["Deny"]}));
                assert_eq!(policy["spec"]["failurePolicy"], "Ignore");
                assert_eq!(policy["spec"].get("paramKind"), None, "static manifests cannot have one");
            }
        }
    }

    #[test]
    fn names_of_the_configuration_are_in_the_conditions() {
        let text = |rest: &str| serde_json::to_string(&manifests(&read(rest), Delivery::Objects)).unwrap();
        let own = text(
            "installation: {namespace: guard}\nlabelDomain: net.example.com\nbaseline: {reservedPrefix: own-}\n\
             profiles: {names: [closed, open], default: open}\n",
        );
        for expected in ["guard", "net.example.com/profile", "own-", "closed", "system:serviceaccount:guard:portcullis"]
        {
            assert!(own.contains(expected), "{expected}");
        }
        for absent in ["portcullis-system", "network-policy.portcullis.dev", "isolated"] {
            assert!(!own.contains(absent), "{absent}");
        }
    }
}
