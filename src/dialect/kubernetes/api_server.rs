//! Egress rules to the API server.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::model::ApiServer;

/// Returns true if a manifest is a NetworkPolicy that isolates egress by its `policyTypes`, so that it allows nothing
/// without egress rules.
#[must_use]
pub(crate) fn can_allow_api_server(manifest: &Value) -> bool {
    let field = |name: &str| manifest.get(name).and_then(Value::as_str);
    let types = manifest.pointer("/spec/policyTypes").and_then(Value::as_array);
    let is_policy = field("kind") == Some("NetworkPolicy")
        && field("apiVersion").is_some_and(|version| version.starts_with("networking.k8s.io/"));
    is_policy && types.is_some_and(|types| types.iter().any(|of| of == "Egress"))
}

/// Adds egress rules to the API server to a NetworkPolicy: one rule for each set of ports, with one `ipBlock` for each
/// address. Equal endpoints give equal rules.
pub(crate) fn allow_api_server(manifest: &mut Value, api_server: &ApiServer) {
    let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let egress = spec.entry("egress").or_insert(Value::Null);
    if !egress.is_array() {
        *egress = json!([]);
    }
    let Some(rules) = egress.as_array_mut() else { return };
    rules.extend(api_server.by_ports().map(|(ports, addresses)| {
        let block = |address: &IpAddr| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            json!({"ipBlock": {"cidr": format!("{address}/{length}")}})
        };
        let to: Vec<Value> = addresses.iter().map(block).collect();
        let port =
            |(protocol, port): &(crate::model::Protocol, u16)| json!({"protocol": protocol.to_string(), "port": port});
        let ports: Vec<Value> = ports.iter().map(port).collect();
        json!({"to": to, "ports": ports})
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PortSet, Protocol};

    #[test]
    fn each_set_of_ports_has_a_rule_and_each_address_a_block() {
        let mut api_server = ApiServer::default();
        for (address, port) in [("fd00::1", 6443), ("10.0.0.2", 6443), ("10.0.0.1", 6443), ("10.0.0.1", 443)] {
            api_server.insert(address.parse().unwrap(), &PortSet::from([(Protocol::Tcp, port)]));
        }
        let own = json!({"ports": [{"protocol": "TCP", "port": 53}]});
        for (before, count) in [(json!({}), 0), (json!({"egress": null}), 0), (json!({"egress": [own]}), 1)] {
            let mut manifest = json!({"spec": before});
            allow_api_server(&mut manifest, &api_server);
            let rules = manifest["spec"]["egress"].as_array().unwrap();
            assert_eq!(
                rules[count..],
                [
                    json!({"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}),
                    json!({
                        "to": [
                            {"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "10.0.0.2/32"}},
                            {"ipBlock": {"cidr": "fd00::1/128"}},
                        ],
                        "ports": [{"protocol": "TCP", "port": 6443}],
                    }),
                ]
            );
        }
    }

    #[test]
    fn only_a_network_policy_that_isolates_egress_can_be_filled() {
        let manifest = |api_version: &str, kind: &str, types: Value| json!({"apiVersion": api_version, "kind": kind, "spec": {"policyTypes": types}});
        let policy = |types: Value| manifest("networking.k8s.io/v1", "NetworkPolicy", types);
        assert!(can_allow_api_server(&policy(json!(["Ingress", "Egress"]))));
        assert!(!can_allow_api_server(&policy(json!(["Ingress"]))) && !can_allow_api_server(&policy(Value::Null)));
        assert!(!can_allow_api_server(&manifest("projectcalico.org/v3", "NetworkPolicy", json!(["Egress"]))));
    }
}
