//! Tests of the traffic that Cilium policies allow.

use serde_json::{Value, json};

use super::testing::object;
use crate::model::{
    AddressSet, Direction, End, Endpoint, Entity, Labels, Names, Nowhere, Protocol, Question, Subject, Traffic, ask,
};

/// Returns true if a pod in namespace `shop` with `app=web` may connect to the other side on this TCP port.
fn passes(spec: &Value, other: End<'_>, number: u16) -> bool {
    let object = object(spec);
    assert!(object.faults.is_empty(), "{:?}", object.faults);
    let labels: Labels = [("app", "web")].into_iter().collect();
    let subject = Endpoint { labels: &labels, complete: true, ..Endpoint::unknown("shop") };
    let question = Question {
        subject: Subject::One(subject),
        direction: Direction::Egress,
        other,
        traffic: Traffic::Port { protocol: Protocol::Tcp, number, names: Names::Exactly(&[]) },
    };
    ask(object.policies(), &question, &Nowhere).passes()
}

fn to_pod(spec: &Value, namespace: &str, port: u16) -> bool {
    let labels: Labels = [("app", "db")].into_iter().collect();
    let addresses = ["10.1.1.1".parse().unwrap()];
    let pod = Endpoint { labels: &labels, complete: true, addresses: &addresses, ..Endpoint::unknown(namespace) };
    passes(spec, End::Pod(pod), port)
}

fn to_address(spec: &Value, address: &str, port: u16) -> bool {
    let set = AddressSet::from(address.parse::<std::net::IpAddr>().unwrap());
    passes(spec, End::Addresses { set: &set, outside: true }, port)
}

#[test]
fn elements_with_nothing_in_them_isolate() {
    for element in [json!({}), json!({"toEndpoints": []}), json!({"toEntities": ["all"], "toPorts": [{}]})] {
        assert!(!to_pod(&json!({"egress": [element]}), "shop", 80), "{element}");
        assert!(!to_pod(&json!({"egressDeny": [element]}), "shop", 80), "{element}");
    }
    let open = json!({"egressDeny": [{"toCIDR": ["1.0.0.0/8"]}], "enableDefaultDeny": {"egress": false}});
    assert!(to_pod(&open, "shop", 80) && to_address(&open, "2.0.0.1", 80));
    assert!(!to_address(&open, "1.0.0.1", 80));
    assert!(to_pod(&json!({"ingress": [{}]}), "shop", 80), "the other direction is left alone");
}

#[test]
fn an_empty_selector_means_the_own_namespace() {
    let own = json!({"egress": [{"toEndpoints": [{}]}]});
    assert!(to_pod(&own, "shop", 80) && !to_pod(&own, "other", 80) && !to_address(&own, "1.0.0.1", 80));
    let exists = json!({"matchExpressions": [{"key": "io.kubernetes.pod.namespace", "operator": "Exists"}]});
    let all = json!({"egress": [{"toEndpoints": [exists]}]});
    assert!(to_pod(&all, "other", 80) && !to_address(&all, "1.0.0.1", 80));
}

#[test]
fn blocks_never_mean_pods() {
    let anywhere = json!({"egress": [{"toCIDR": ["0.0.0.0/0"]}]});
    assert!(to_address(&anywhere, "10.1.1.1", 80) && !to_pod(&anywhere, "shop", 80));
    assert!(!passes(&anywhere, End::Entity(Entity::Host), 80));
    let part = json!({"egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}]});
    assert!(to_address(&part, "10.2.0.1", 80) && !to_address(&part, "10.1.0.1", 80));
}

#[test]
fn what_is_denied_is_denied_whatever_else_is_allowed() {
    let ports = json!([{"ports": [{"port": "80"}]}]);
    let spec = json!({
        "egress": [{"toEntities": ["all"]}],
        "egressDeny": [{"toEntities": ["world"], "toPorts": ports}],
    });
    assert!(!to_address(&spec, "1.0.0.1", 80) && to_address(&spec, "1.0.0.1", 443) && to_pod(&spec, "other", 80));
}

#[test]
fn ports_without_peers_apply_to_every_peer() {
    let spec =
        json!({"egress": [{"toPorts": [{"ports": [{"port": "80", "endPort": 89}]}, {"ports": [{"port": "443"}]}]}]});
    assert!(to_address(&spec, "1.0.0.1", 85) && to_pod(&spec, "other", 443) && !to_pod(&spec, "shop", 90));
}

#[test]
fn what_is_not_known_allows_nothing() {
    let condition = json!([{"ports": [{"port": "443", "protocol": "TCP"}], "serverNames": ["a.com"]}]);
    assert!(!to_address(&json!({"egress": [{"toEntities": ["world"], "toPorts": condition}]}), "1.0.0.1", 443));
    assert!(!to_address(&json!({"egress": [{"toFQDNs": [{"matchName": "a.com"}]}]}), "1.0.0.1", 443));
    let service = json!({"egress": [{"toServices": [{"k8sService": {"serviceName": "db"}}]}]});
    assert!(!to_pod(&service, "shop", 80));
    let other = json!({"matchLabels": {"io.cilium.k8s.policy.cluster": "b"}});
    assert!(!to_pod(&json!({"egress": [{"toEndpoints": [other]}]}), "shop", 80));
}
