//! Reviews as an API server sends them, the objects in them, and a webhook to send them to.

use serde_json::{Value, json};

use super::client::{Answer, Blocking, Protocol};
use super::server::Server;
use super::verdict::Verdict;

/// The label of a profile.
pub(crate) const PROFILE: &str = "network-policy.homelab/profile";
/// The label that tells how far a baseline is.
pub(crate) const BASELINE: &str = "network-policy.homelab/baseline";
/// The configuration of the corpus.
pub(crate) const CONFIG: &str = include_str!("../corpus/portcullis.yaml");
/// That, where the missing DNS rule is added instead of denied.
pub(crate) const INJECTS: &str =
    concat!(include_str!("../corpus/portcullis.yaml"), "rules: {dns-blocked: {settings: {inject: true}}}\n");
/// A namespace that is isolated.
pub(crate) const SHOP: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {network-policy.homelab/profile: isolated}}}\n";

/// A server, and a connection to it.
pub(crate) struct Webhook {
    pub(crate) client: Blocking,
    pub(crate) server: Server,
}

impl Webhook {
    /// A server that knows the isolated namespace `shop`.
    pub(crate) fn new() -> Self {
        Self::with(CONFIG, SHOP)
    }

    /// A server with this configuration that knows these manifests.
    pub(crate) fn with(config: &str, context: &str) -> Self {
        let mut server = Server::new();
        server.set_config(Some(config));
        if !context.is_empty() {
            server.add_context(context);
        }
        server.start();
        // What an API server speaks to a Service. What differs by protocol has tests of its own.
        Self { client: Blocking::connect(&server, Protocol::Http1), server }
    }

    /// What `/validate` answers.
    #[track_caller]
    pub(crate) fn validate(&mut self, review: &Value) -> Verdict {
        self.ask("/validate", review)
    }

    /// What `/mutate` answers.
    #[track_caller]
    pub(crate) fn mutate(&mut self, review: &Value) -> Verdict {
        self.ask("/mutate", review)
    }

    /// What an endpoint answers, which has to be about this request.
    #[track_caller]
    pub(crate) fn ask(&mut self, endpoint: &str, review: &Value) -> Verdict {
        let answer = self.post(endpoint, review.to_string());
        let verdict = Verdict::read(endpoint, &answer);
        assert_eq!(verdict.uid, review["request"]["uid"].as_str().unwrap_or_default(), "{verdict}");
        verdict
    }

    /// The answer to any body.
    pub(crate) fn post(&mut self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.client.post(path, body.into())
    }

    /// A good policy is allowed and a bad one denied, on new connections and on the one that was open before.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        for protocol in Protocol::ALL {
            let mut client = Blocking::connect(&self.server, protocol);
            let good = client.post("/validate", create(&policy(&egress(&[to_dns()]))).to_string());
            Verdict::read("/validate", &good).allowed_without_a_word();
        }
        self.validate(&create(&policy(&egress(&[to_database()])))).denied_by(&[("dns-blocked", "spec.egress")]);
    }
}

// === Reviews ===

/// The uid of every review here, unless a test gives it another.
pub(crate) const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// The creation of an object.
pub(crate) fn create(object: &Value) -> Value {
    review("CREATE", object, &Value::Null)
}

/// A change of an object.
pub(crate) fn update(old: &Value, new: &Value) -> Value {
    review("UPDATE", new, old)
}

/// The deletion of an object.
pub(crate) fn delete(old: &Value) -> Value {
    review("DELETE", &Value::Null, old)
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    let about = if object.is_null() { old } else { object };
    let api_version = about["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = about["kind"].as_str().unwrap();
    let resource = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let name = about["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = match kind {
        "Namespace" => name,
        _ => about["metadata"]["namespace"].as_str().unwrap_or("shop"),
    };
    let kind = json!({"group": group, "version": version, "kind": kind});
    let resource = json!({"group": group, "version": version, "resource": resource});
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": name,
            "namespace": namespace,
            "operation": operation,
            "userInfo": {"username": "ada", "groups": ["system:authenticated"]},
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": {"kind": format!("{operation}Options"), "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// The review with other values in its request.
pub(crate) fn with(mut review: Value, fields: &Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        review["request"][key] = value.clone();
    }
    review
}

/// The creation of the object by this user.
pub(crate) fn create_as(uid: &str, user: &str, object: &Value) -> String {
    with(create(object), &json!({"uid": uid, "userInfo": {"username": user}})).to_string()
}

/// The review of a policy in which nothing is wrong.
pub(crate) fn good(uid: &str) -> String {
    create_as(uid, "alice", &backend_policy("good", &ingress(&[from("frontend")])))
}

/// The review of a policy that `any-port` fires on, and nothing else.
pub(crate) fn any_port(uid: &str) -> String {
    create_as(uid, "mallory", &backend_policy("any", &ingress(&[from_on_any_port("frontend")])))
}

// === Objects ===

/// A policy in `shop`.
pub(crate) fn policy(spec: &Value) -> Value {
    object("networking.k8s.io/v1", "NetworkPolicy", &json!({"name": "web", "namespace": "shop"}), spec)
}

/// A policy in `shop` that is not for all pods, as the spec says, but for those of the backend.
pub(crate) fn backend_policy(name: &str, spec: &Value) -> Value {
    let mut policy = policy(spec);
    policy["metadata"]["name"] = json!(name);
    policy["spec"]["podSelector"] = json!({"matchLabels": {"app": "backend"}});
    policy
}

/// A namespace as the API server has filled it in.
pub(crate) fn namespace(name: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["kubernetes.io/metadata.name"] = json!(name);
    object("v1", "Namespace", &json!({"name": name, "labels": labels}), &json!({"finalizers": ["kubernetes"]}))
}

/// A pod in `shop` that uses the network of its node.
pub(crate) fn pod_on_the_node() -> Value {
    object("v1", "Pod", &json!({"name": "agent", "namespace": "shop"}), &pod_spec())
}

/// The spec of a pod that uses the network of its node.
pub(crate) fn pod_spec() -> Value {
    json!({"hostNetwork": true, "containers": [{"name": "main", "image": "main:1"}]})
}

/// A Deployment in `shop` of pods that use the network of their node.
pub(crate) fn deployment_on_the_node() -> Value {
    let spec = json!({
        "selector": {"matchLabels": {"app": "main"}},
        "template": {"metadata": {"labels": {"app": "main"}}, "spec": pod_spec()},
    });
    object("apps/v1", "Deployment", &json!({"name": "main", "namespace": "shop"}), &spec)
}

/// An object.
pub(crate) fn object(api_version: &str, kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// The spec of a policy with these ingress rules, for all pods.
pub(crate) fn ingress(rules: &[Value]) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules})
}

/// The spec of a policy with these egress rules, for all pods.
pub(crate) fn egress(rules: &[Value]) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules})
}

/// An egress rule to the cluster's DNS.
pub(crate) fn to_dns() -> Value {
    json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    })
}

/// An egress rule to a database.
pub(crate) fn to_database() -> Value {
    json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"protocol": "TCP", "port": 5432}]})
}

/// An ingress rule on one port.
pub(crate) fn from(app: &str) -> Value {
    json!({"from": [{"podSelector": {"matchLabels": {"app": app}}}], "ports": [{"protocol": "TCP", "port": 8080}]})
}

/// An ingress rule on every port.
pub(crate) fn from_on_any_port(app: &str) -> Value {
    json!({"from": [{"podSelector": {"matchLabels": {"app": app}}}]})
}
