//! Objects of which one list or map is as long as wanted: every list and map of every kind that is judged.
//!
//! The growth test, the memory test, the benchmark and the hostile clients send them.

#![allow(dead_code, reason = "each test file compiles all of this and uses a part of it")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]
#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use portcullis::admission::{Knowledge, validate};
use portcullis::budget::{self, Limits};
use portcullis::view::Facts;
use serde_json::{Map, Value, json};

/// An object of one kind in which one list or map has a given length.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The kind and the list.
    pub(crate) name: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    /// The object, without `apiVersion` and `kind`.
    object: fn(usize) -> Value,
}

impl Shape {
    /// The object with a list of this length.
    pub(crate) fn object(&self, length: usize) -> Value {
        let mut object = (self.object)(length);
        object["apiVersion"] = self.api_version.into();
        object["kind"] = self.kind.into();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.entry("name").or_insert("shape".into());
        let is_namespaced = !matches!(
            self.kind,
            "Namespace"
                | "CiliumClusterwideNetworkPolicy"
                | "GlobalNetworkPolicy"
                | "ClusterNetworkPolicy"
                | "Tier"
                | "ValidatingWebhookConfiguration"
        );
        if is_namespaced {
            metadata.insert("namespace".into(), NAMESPACE.into());
        }
        object
    }

    /// The body of a review that creates it, or updates an object of another length.
    pub(crate) fn review(&self, length: usize, old: Option<usize>, user: &str) -> Vec<u8> {
        let object = self.object(length);
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", self.api_version));
        let name = object["metadata"]["name"].clone();
        let namespace = match self.kind {
            "Namespace" => name.clone(),
            _ => object["metadata"].get("namespace").cloned().unwrap_or_default(),
        };
        let kind = json!({"group": group, "version": version, "kind": self.kind});
        // In the order in which an API server writes them.
        let head = json!({"uid": "shape", "kind": kind, "name": name, "namespace": namespace,
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" }})
        .to_string();
        let (head, _) = head.rsplit_once('}').unwrap();
        let old = old.map_or(Value::Null, |length| self.object(length));
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{head},"userInfo":{{"username":"{user}","groups":["system:authenticated"]}},"object":{object},"oldObject":{old},"dryRun":true}}}}"#
        )
        .into_bytes()
    }

    /// The steps of a review that creates it, or that makes an object longer by one.
    pub(crate) fn steps(&self, knowledge: &Knowledge, length: usize, changes: bool) -> usize {
        let body = self.review(length, changes.then_some(length - 1), "mallory");
        let limits = Limits { steps: usize::MAX / 2, bytes: usize::MAX / 2, ..Limits::default() };
        let judged = budget::run(limits, || {
            validate(knowledge, &Facts::default(), &body).unwrap().answer().unwrap();
            budget::spent().steps
        });
        judged.unwrap()
    }
}

/// The namespace of the objects that have one.
pub(crate) const NAMESPACE: &str = "shop";

fn list(length: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..length).map(item).collect()
}

fn map(length: usize) -> Value {
    let pairs = (0..length).map(|number| (format!("key-{number}"), format!("value-{number}").into()));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

fn cidr(number: usize) -> String {
    format!("10.{}.{}.{}/32", number / 65_536 % 256, number / 256 % 256, number % 256)
}

fn port(number: usize) -> usize {
    1 + number % 65_535
}

/// A range of less than half of all ports, as an entry of a NetworkPolicy.
fn range(number: usize) -> Value {
    json!({"protocol": "TCP", "port": 1 + number % 9_000, "endPort": 20_000 + number % 20_000})
}

/// A NetworkPolicy with these fields beside `podSelector: {}`.
fn policy(fields: Value) -> Value {
    let mut spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"metadata": {}, "spec": spec})
}

fn cilium(fields: Value) -> Value {
    let mut spec = json!({"endpointSelector": {}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"metadata": {}, "spec": spec})
}

fn calico(fields: Value) -> Value {
    let mut spec = json!({"selector": "all()", "types": ["Ingress", "Egress"]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"metadata": {}, "spec": spec})
}

fn cluster(fields: Value) -> Value {
    let mut spec = json!({"tier": "Admin", "priority": 5, "subject": {"namespaces": {}}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"metadata": {}, "spec": spec})
}

fn expression(length: usize) -> Value {
    json!({"matchExpressions": [{"key": "app", "operator": "In", "values": list(length, |n| format!("app-{n}").into())}]})
}

fn expressions(length: usize) -> Value {
    json!({"matchExpressions": list(length, |n| json!({"key": format!("key-{n}"), "operator": "NotIn", "values": ["a"]}))})
}

fn terms(length: usize, joint: &str) -> String {
    (0..length).map(|n| format!("k{n}=='v'")).collect::<Vec<_>>().join(joint)
}

const KUBERNETES: (&str, &str) = ("networking.k8s.io/v1", "NetworkPolicy");
const CILIUM: (&str, &str) = ("cilium.io/v2", "CiliumNetworkPolicy");
const CILIUM_CLUSTER: (&str, &str) = ("cilium.io/v2", "CiliumClusterwideNetworkPolicy");
const CALICO: (&str, &str) = ("projectcalico.org/v3", "NetworkPolicy");
const CALICO_GLOBAL: (&str, &str) = ("projectcalico.org/v3", "GlobalNetworkPolicy");
const CLUSTER: (&str, &str) = ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy");
const POD: (&str, &str) = ("v1", "Pod");
const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");
const NAMESPACES: (&str, &str) = ("v1", "Namespace");
const SERVICES: (&str, &str) = ("v1", "Service");
const INGRESSES: (&str, &str) = ("networking.k8s.io/v1", "Ingress");
const ROUTES: (&str, &str) = ("gateway.networking.k8s.io/v1", "HTTPRoute");
const WEBHOOKS: (&str, &str) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");

macro_rules! shapes {
    ($($kind:ident $name:literal $object:expr;)*) => {
        &[$(Shape { name: $name, api_version: $kind.0, kind: $kind.1, object: $object }),*]
    };
}

/// Every shape.
pub(crate) const SHAPES: &[Shape] = shapes! {
    KUBERNETES "NetworkPolicy ingress: [{}]" |n| policy(json!({"ingress": list(n, |_| json!({}))}));
    KUBERNETES "NetworkPolicy egress: [{}]" |n| policy(json!({"egress": list(n, |_| json!({}))}));
    KUBERNETES "NetworkPolicy ingress, a port each" |n| policy(json!({"ingress": list(n, |n| json!({"ports": [{"protocol": "TCP", "port": port(n)}]}))}));
    KUBERNETES "NetworkPolicy egress, nearly DNS each" |n| policy(json!({"egress": list(n, |n| json!({"to": [{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": format!("dns-{n}")}}}], "ports": [{"protocol": "TCP", "port": 53}]}))}));
    KUBERNETES "NetworkPolicy ingress, a range each" |n| policy(json!({"ingress": list(n, |n| json!({"ports": [{"protocol": "TCP", "port": port(n), "endPort": 65535}]}))}));
    KUBERNETES "NetworkPolicy ingress, pods and a range each" |n| policy(json!({"ingress": list(n, |n| json!({"from": [{"podSelector": {"matchLabels": {"app": format!("a{n}")}}}], "ports": [{"protocol": "TCP", "port": 1 + n % 20_000, "endPort": 30_000 + n % 30_000}]}))}));
    KUBERNETES "NetworkPolicy egress, a block and a range each" |n| policy(json!({"egress": list(n, |n| json!({"to": [{"ipBlock": {"cidr": cidr(n)}}], "ports": [{"protocol": "TCP", "port": 1 + n % 20_000, "endPort": 30_000 + n % 30_000}]}))}));
    KUBERNETES "NetworkPolicy ingress, other pods and a range each" |n| policy(json!({"ingress": list(n, |n| json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [format!("a{n}")]}]}}], "ports": [range(n)]}))}));
    KUBERNETES "NetworkPolicy egress, other addresses and a range each" |n| policy(json!({"egress": list(n, |n| json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [cidr(n)]}}], "ports": [range(n)]}))}));
    KUBERNETES "NetworkPolicy ingress, a half and a port each" |n| policy(json!({"ingress": list(n, |n| json!({"from": [{"ipBlock": {"cidr": if n % 2 == 0 { "0.0.0.0/1" } else { "128.0.0.0/1" }}}], "ports": [{"port": port(n)}]}))}));
    KUBERNETES "NetworkPolicy from namespaces without a label" |n| policy(json!({"ingress": [{"from": list(n, |n| json!({"namespaceSelector": {"matchExpressions": [{"key": format!("k{n}"), "operator": "DoesNotExist"}]}}))}]}));
    KUBERNETES "NetworkPolicy from pods" |n| policy(json!({"ingress": [{"from": list(n, |n| json!({"podSelector": {"matchLabels": {"app": format!("a{n}")}}}))}]}));
    KUBERNETES "NetworkPolicy from namespaces" |n| policy(json!({"ingress": [{"from": list(n, |n| json!({"namespaceSelector": {"matchLabels": {"team": format!("a{n}")}}}))}]}));
    KUBERNETES "NetworkPolicy to blocks" |n| policy(json!({"egress": [{"to": list(n, |n| json!({"ipBlock": {"cidr": cidr(n)}})), "ports": [{"port": 443}]}]}));
    KUBERNETES "NetworkPolicy except" |n| policy(json!({"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(n, |n| cidr(n).into())}}]}]}));
    KUBERNETES "NetworkPolicy ports" |n| policy(json!({"egress": [{"ports": list(n, |n| json!({"protocol": "UDP", "port": port(n)}))}]}));
    KUBERNETES "NetworkPolicy podSelector labels" |n| { let mut object = policy(json!({"ingress": [{}], "egress": []})); object["spec"]["podSelector"] = json!({"matchLabels": map(n)}); object };
    KUBERNETES "NetworkPolicy podSelector values" |n| { let mut object = policy(json!({"ingress": [{}], "egress": []})); object["spec"]["podSelector"] = expression(n); object };
    KUBERNETES "NetworkPolicy podSelector expressions" |n| { let mut object = policy(json!({"ingress": [{}], "egress": []})); object["spec"]["podSelector"] = expressions(n); object };
    KUBERNETES "NetworkPolicy from values" |n| policy(json!({"ingress": [{"from": [{"podSelector": expression(n)}]}]}));
    KUBERNETES "NetworkPolicy policyTypes" |n| { let mut object = policy(json!({})); object["spec"]["policyTypes"] = list(n, |_| "Ingress".into()); object };
    KUBERNETES "NetworkPolicy unknown fields" |n| policy(map(n));
    KUBERNETES "NetworkPolicy labels" |n| { let mut object = policy(json!({"egress": []})); object["metadata"]["labels"] = map(n); object };
    KUBERNETES "NetworkPolicy annotations" |n| { let mut object = policy(json!({"egress": []})); object["metadata"]["annotations"] = map(n); object };
    KUBERNETES "NetworkPolicy exemptions" |n| { let mut object = policy(json!({"egress": [], "ingress": list(50, |_| json!({}))})); object["metadata"]["annotations"] = json!({"network-policy.portcullis.dev/exempt": vec!["any-port"; n].join(","), "network-policy.portcullis.dev/reason": "x"}); object };
    CILIUM "CiliumNetworkPolicy egress, requests or lookups each" |n| cilium(json!({"egress": list(n, |n| json!({"toEndpoints": [{"matchLabels": {"app": format!("a{}", n / 2)}}], "toPorts": [{"ports": [{"port": "53", "protocol": "TCP"}], "rules": if n % 2 == 0 { json!({"http": [{}]}) } else { json!({"dns": [{"matchPattern": "*"}]}) }}]}))}));
    CILIUM "CiliumNetworkPolicy specs" |n| json!({"metadata": {}, "specs": list(n, |n| json!({"endpointSelector": {"matchLabels": {"app": format!("a{n}")}}, "egress": [{"toEntities": ["world"]}]}))});
    CILIUM "CiliumNetworkPolicy ingress" |n| cilium(json!({"ingress": list(n, |_| json!({"fromEntities": ["all"]}))}));
    CILIUM "CiliumNetworkPolicy ingressDeny" |n| cilium(json!({"ingressDeny": list(n, |n| json!({"fromEndpoints": [{"matchLabels": {"app": format!("a{n}")}}]})), "ingress": [{"fromEntities": ["all"]}]}));
    CILIUM "CiliumNetworkPolicy egressDeny and egress" |n| cilium(json!({"egressDeny": list(n, |n| json!({"toCIDR": [cidr(n)]})), "egress": list(n, |n| json!({"toCIDR": [cidr(n)]}))}));
    CILIUM "CiliumNetworkPolicy fromEndpoints" |n| cilium(json!({"ingress": [{"fromEndpoints": list(n, |n| json!({"matchLabels": {"app": format!("a{n}")}}))}]}));
    CILIUM "CiliumNetworkPolicy toCIDRSet" |n| cilium(json!({"egress": [{"toCIDRSet": list(n, |n| json!({"cidr": cidr(n)}))}]}));
    CILIUM "CiliumNetworkPolicy toFQDNs" |n| cilium(json!({"egress": [{"toFQDNs": list(n, |n| json!({"matchName": format!("host-{n}.example.com")}))}]}));
    CILIUM "CiliumNetworkPolicy toFQDNs patterns" |n| cilium(json!({"egress": [{"toFQDNs": list(n, |n| json!({"matchPattern": format!("*.host-{n}.example.com")}))}, {"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}], "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": list(n, |n| json!({"matchPattern": format!("*.other-{n}.example.com")}))}}]}]}));
    CILIUM "CiliumNetworkPolicy toPorts" |n| cilium(json!({"egress": [{"toEntities": ["world"], "toPorts": list(n, |n| json!({"ports": [{"port": port(n).to_string(), "protocol": "TCP"}], "serverNames": [format!("a{n}.example.com")]}))}]}));
    CILIUM "CiliumNetworkPolicy toPorts and peers" |n| cilium(json!({"egress": [{"toCIDR": list(n, |n| cidr(n).into()), "toPorts": list(n, |n| json!({"ports": [{"port": port(n).to_string(), "protocol": "TCP"}], "serverNames": [format!("a{n}.example.com")]}))}]}));
    CILIUM "CiliumNetworkPolicy ports" |n| cilium(json!({"ingress": [{"fromEntities": ["all"], "toPorts": [{"ports": list(n, |n| json!({"port": port(n).to_string(), "protocol": "TCP"}))}]}]}));
    CILIUM "CiliumNetworkPolicy rules.http" |n| cilium(json!({"ingress": [{"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": list(n, |n| json!({"method": "GET", "path": format!("/a{n}")}))}}]}]}));
    CILIUM_CLUSTER "CiliumClusterwideNetworkPolicy endpointSelector values" |n| { let mut object = cilium(json!({"egress": [{"toEntities": ["world"]}]})); object["spec"]["endpointSelector"] = expression(n); object };
    CILIUM_CLUSTER "CiliumClusterwideNetworkPolicy egress" |n| cilium(json!({"egress": list(n, |_| json!({"toEntities": ["world"]}))}));
    CALICO "Calico NetworkPolicy ingress" |n| calico(json!({"ingress": list(n, |_| json!({"action": "Allow"}))}));
    CALICO "Calico NetworkPolicy deny, then allow" |n| calico(json!({"egress": list(n, |n| json!({"action": if n % 2 == 0 { "Deny" } else { "Allow" }, "destination": {"nets": [cidr(n)]}}))}));
    CALICO "Calico NetworkPolicy ingress, some pods and a range each" |n| calico(json!({"ingress": list(n, |n| json!({"action": "Allow", "protocol": "TCP", "destination": {"selector": format!("app != 'a{n}'"), "ports": [format!("{}:{}", 1 + n % 9_000, 20_000 + n % 9_000)]}}))}));
    CALICO "Calico NetworkPolicy ingress, one app and a range each" |n| calico(json!({"ingress": list(n, |n| json!({"action": "Allow", "protocol": "TCP", "destination": {"selector": format!("app == 'a{n}'"), "ports": [format!("{}:{}", 1 + n % 9_000, 20_000 + n % 9_000)]}}))}));
    CALICO "Calico NetworkPolicy pass" |n| calico(json!({"egress": list(n, |n| json!({"action": "Pass", "destination": {"nets": [cidr(n)]}}))}));
    CALICO "Calico NetworkPolicy nets" |n| calico(json!({"egress": [{"action": "Allow", "destination": {"nets": list(n, |n| cidr(n).into())}}]}));
    CALICO "Calico NetworkPolicy notNets" |n| calico(json!({"egress": [{"action": "Allow", "destination": {"nets": ["0.0.0.0/0"], "notNets": list(n, |n| cidr(n).into())}}]}));
    CALICO "Calico NetworkPolicy ports" |n| calico(json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": list(n, |n| port(n).into())}}]}));
    CALICO "Calico NetworkPolicy notPorts" |n| calico(json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"notPorts": list(n, |n| port(n).into())}}]}));
    CALICO "Calico NetworkPolicy selector &&" |n| { let mut object = calico(json!({"ingress": [{"action": "Allow"}]})); object["spec"]["selector"] = terms(n, " && ").into(); object };
    CALICO "Calico NetworkPolicy selector ||" |n| { let mut object = calico(json!({"ingress": [{"action": "Allow"}]})); object["spec"]["selector"] = terms(n, " || ").into(); object };
    CALICO "Calico NetworkPolicy source selector ||" |n| calico(json!({"ingress": [{"action": "Allow", "source": {"selector": terms(n, " || ")}}]}));
    CALICO "Calico NetworkPolicy ingress: [null]" |n| calico(json!({"ingress": list(n, |_| Value::Null)}));
    CILIUM "CiliumNetworkPolicy fromEntities" |n| cilium(json!({"ingressDeny": [{"fromEntities": list(n, |_| "all".into())}]}));
    CALICO "Calico NetworkPolicy one port" |n| calico(json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": list(n, |_| 1.into())}}]}));
    CILIUM "CiliumNetworkPolicy egress: [null]" |n| cilium(json!({"egress": list(n, |_| Value::Null)}));
    KUBERNETES "NetworkPolicy ingress: [null]" |n| policy(json!({"ingress": list(n, |_| Value::Null)}));
    CLUSTER "ClusterNetworkPolicy egress: [null]" |n| cluster(json!({"egress": list(n, |_| Value::Null)}));
    KUBERNETES "reserved NetworkPolicy finalizers" |n| { let mut object = policy(json!({})); object["metadata"] = json!({"name": "portcullis-x", "finalizers": list(n, |n| format!("f{n}").into())}); object };
    CALICO "Calico NetworkPolicy performanceHints" |n| calico(json!({"ingress": [{"action": "Allow"}], "performanceHints": list(n, |_| "".into())}));
    CALICO "Calico NetworkPolicy nets and selector" |n| calico(json!({"ingress": [{"action": "Allow", "source": {"nets": list(n, |n| cidr(n).into()), "selector": terms(n, " && ")}}]}));
    CALICO_GLOBAL "GlobalNetworkPolicy egress" |n| calico(json!({"egress": list(n, |n| json!({"action": "Allow", "destination": {"nets": [cidr(n)]}}))}));
    CLUSTER "ClusterNetworkPolicy ingress" |n| cluster(json!({"ingress": list(n, |n| json!({"name": format!("r{n}"), "action": "Accept", "from": [{"namespaces": {}}]}))}));
    CLUSTER "ClusterNetworkPolicy from" |n| cluster(json!({"ingress": [{"action": "Accept", "from": list(n, |n| json!({"namespaces": {"matchLabels": {"team": format!("a{n}")}}}))}]}));
    CLUSTER "ClusterNetworkPolicy networks" |n| cluster(json!({"egress": [{"action": "Deny", "to": [{"networks": list(n, |n| cidr(n).into())}]}]}));
    CLUSTER "ClusterNetworkPolicy protocols" |n| cluster(json!({"egress": [{"action": "Accept", "to": [{"namespaces": {}}], "protocols": list(n, |n| json!({"tcp": {"destinationPort": {"number": port(n)}}}))}]}));
    NAMESPACES "Namespace labels" |n| { let mut labels = map(n); labels["network-policy.portcullis.dev/profile"] = "isolated".into(); json!({"metadata": {"name": NAMESPACE, "labels": labels}}) };
    NAMESPACES "Namespace annotations" |n| json!({"metadata": {"name": NAMESPACE, "annotations": map(n), "labels": {"network-policy.portcullis.dev/profile": "internal"}}});
    NAMESPACES "Namespace ownerReferences" |n| json!({"metadata": {"name": NAMESPACE, "ownerReferences": list(n, |_| json!({"name": "a"}))}});
    SERVICES "Service ports" |n| json!({"metadata": {}, "spec": {"type": "NodePort", "selector": {"app": "a1"}, "ports": list(n, |n| json!({"name": format!("p{n}"), "port": port(n)}))}});
    INGRESSES "Ingress paths" |n| json!({"metadata": {}, "spec": {"rules": [{"http": {"paths": list(n, |n| json!({"path": format!("/{n}"), "backend": {"service": {"name": "hook", "port": {"number": port(n)}}}}))}}]}});
    INGRESSES "Ingress rules" |n| json!({"metadata": {}, "spec": {"rules": list(n, |n| json!({"http": {"paths": [{"backend": {"service": {"name": format!("s{n}"), "port": {"name": "a"}}}}]}}))}});
    ROUTES "HTTPRoute parentRefs" |n| json!({"metadata": {}, "spec": {"parentRefs": list(n, |n| json!({"name": "edge", "namespace": format!("n{n}")})), "rules": [{"backendRefs": [{"name": "hook", "port": 443}]}]}});
    ROUTES "HTTPRoute backendRefs" |n| json!({"metadata": {}, "spec": {"parentRefs": [{"name": "edge", "namespace": "edge"}], "rules": [{"backendRefs": list(n, |n| json!({"name": "hook", "port": port(n)}))}]}});
    WEBHOOKS "ValidatingWebhookConfiguration webhooks" |n| json!({"metadata": {}, "webhooks": list(n, |n| json!({"name": format!("a{n}.example.com"), "clientConfig": {"service": {"namespace": NAMESPACE, "name": "hook", "port": port(n)}}}))});
    POD "Pod labels" |n| json!({"metadata": {"labels": map(n)}, "spec": {"hostNetwork": true, "containers": []}});
    POD "Pod containers" |n| json!({"metadata": {}, "spec": {"hostNetwork": true, "containers": list(n, |n| json!({"name": format!("c{n}"), "image": "x", "ports": [{"containerPort": port(n)}]}))}});
    DEPLOYMENT "Deployment containers" |n| json!({"metadata": {}, "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"hostNetwork": true, "containers": list(n, |n| json!({"name": format!("c{n}"), "image": "x"}))}}}});
};
