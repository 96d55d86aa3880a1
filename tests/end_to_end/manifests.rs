//! What is applied.

pub(crate) const PROFILE: &str = "network-policy.portcullis.dev/profile";
pub(crate) const BASELINE: &str = "network-policy.portcullis.dev/baseline";

/// An egress rule to the cluster's DNS.
pub(crate) const TO_DNS: &str = "{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, \
    podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}";
/// An egress rule to a database.
pub(crate) const TO_DB: &str = "{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{protocol: TCP, port: 5432}]}";
/// An egress rule to a cache.
pub(crate) const TO_CACHE: &str =
    "{to: [{podSelector: {matchLabels: {app: cache}}}], ports: [{protocol: TCP, port: 6379}]}";
/// An ingress rule on one port.
pub(crate) const FROM_FRONTEND: &str =
    "{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{protocol: TCP, port: 8080}]}";
/// An ingress rule on every port.
pub(crate) const FROM_BATCH_ON_ANY_PORT: &str = "{from: [{podSelector: {matchLabels: {app: batch}}}]}";

/// The spec of a pod.
pub(crate) const ORDINARY: &str = "{containers: [{name: main, image: main:1}]}";
/// The spec of a pod that uses the network of its node.
pub(crate) const ON_THE_NODE: &str = "{hostNetwork: true, containers: [{name: main, image: main:1}]}";

/// A configuration that adds the missing DNS rule instead of denying.
pub(crate) const INJECTS: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: Configuration
rules:
  dns-blocked:
    mode: deny
    settings: {inject: true}
";

/// A configuration with namespaces of the platform that are said by the start of their names.
pub(crate) const PLATFORM: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: Configuration
platformNamespaces: [kube-system, kube-public, kube-node-lease, portcullis-system, 'openshift-*']
";

/// What is stored before anybody is asked and the server is told of.
pub(crate) const KNOWN: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: guarded, labels: {network-policy.portcullis.dev/profile: isolated}}
---
apiVersion: v1
kind: Namespace
metadata: {name: resolving}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolate, namespace: resolving}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-dns, namespace: resolving}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
---
apiVersion: v1
kind: Namespace
metadata: {name: leaving}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolate, namespace: leaving}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-dns, namespace: leaving}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
";

/// What is stored before anybody is asked, and would have been denied.
pub(crate) const OLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: old}
---
apiVersion: v1
kind: Namespace
metadata: {name: old-labels, labels: {network-policy.portcullis.dev/profile: open}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: labelled, namespace: old}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: batch}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: extended, namespace: old}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: batch}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: worsened, namespace: old}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: batch}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: held, namespace: old, finalizers: [example.com/held]}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: batch}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns-less, namespace: old}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old, namespace: guarded}
spec:
  selector: {matchLabels: {app: main}}
  template:
    metadata: {labels: {app: main}}
    spec: {hostNetwork: true, containers: [{name: main, image: main:1}]}
";

/// A Service that leads to this machine. The API server resolves it by itself, without a network of a cluster.
pub(crate) const SERVICE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: portcullis-system}
---
apiVersion: v1
kind: Service
metadata: {name: portcullis, namespace: portcullis-system}
spec: {type: ExternalName, externalName: localhost}
";

/// A policy.
pub(crate) fn policy(name: &str, namespace: &str, spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", name, namespace, spec)
}

/// The spec of a policy with these ingress rules, for all pods.
pub(crate) fn ingress(rules: &[&str]) -> String {
    format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{}]}}", rules.join(", "))
}

/// The spec of a policy with these egress rules, for all pods.
pub(crate) fn egress(rules: &[&str]) -> String {
    format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{}]}}", rules.join(", "))
}

/// The spec of a policy with these ingress and egress rules, for all pods.
pub(crate) fn both(ingress: &[&str], egress: &[&str]) -> String {
    let (ingress, egress) = (ingress.join(", "), egress.join(", "));
    format!("{{podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{ingress}], egress: [{egress}]}}")
}

/// A namespace.
pub(crate) fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
}

/// An object with a spec.
pub(crate) fn object(api_version: &str, kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, namespace: {namespace}}}");
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n")
}

/// The spec of a Deployment of these pods.
pub(crate) fn deployment(pod: &str) -> String {
    let labels = "{app: main}";
    format!("{{selector: {{matchLabels: {labels}}}, template: {{metadata: {{labels: {labels}}}, spec: {pod}}}}}")
}

/// The path of all policies of a namespace.
pub(crate) fn collection(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
}
