//! Converts the selectors of a policy to its subject and peers.
//!
//! For the labels that Cilium adds to them, see `pkg/k8s/apis/cilium.io/utils/utils.go` (`getEndpointSelector`,
//! `ParseToCiliumRule`).

use super::selector::{Key, Term, terms};
use super::validity::Faults;
use super::wire;
use crate::model::{Entity, NAME_LABEL, Namespaces, Operator, Owner, Path, Pods, Selector, Who};

/// Reads the selectors of a policy.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The namespace of the policy, if the manifest has one.
    pub(super) namespace: Option<Box<str>>,
    /// True if the policy is cluster-scoped.
    pub(super) is_clusterwide: bool,
}

impl Scope {
    /// The pods that a policy selects. None if it selects endpoints other than pods, which is reported as a fault.
    pub(super) fn subject(&self, selector: &wire::LabelSelector, path: &Path, faults: &mut Faults) -> Option<Pods> {
        let Some(terms) = terms(selector, path, faults) else { return Some(self.nothing()) };
        let is_empty = terms.is_empty();
        let (mut namespaces, mut labels) = (Vec::new(), Vec::new());
        for term in &terms {
            match term.key {
                // No pod has such a label, so its absence always holds.
                Key::Reserved(_) | Key::Foreign if !term.asks_for_it() => {}
                Key::Reserved(_) | Key::Foreign => {
                    let problem =
                        format!("`{}` does not select by pod labels; the policy is not evaluated", term.as_written());
                    faults.not_understood(path.clone(), problem, "no change is needed");
                    return None;
                }
                Key::Cluster => {
                    let problem = format!(
                        "`{}` selects by cluster name, which Portcullis does not know; the condition was ignored",
                        term.as_written()
                    );
                    let help = "remove it, because a policy applies only to pods of its own cluster";
                    faults.not_understood(path.clone(), problem, help);
                }
                // In `matchLabels`, Cilium overwrites "k8s:io.kubernetes.pod.namespace" with the policy's own
                // namespace.
                Key::Namespace { is_k8s: true } if term.is_label && !self.is_clusterwide => {}
                _ => {
                    namespaces.extend(term.of_namespace().filter(|selector| !selector.is_empty()));
                    labels.extend(term.of_pod());
                }
            }
        }
        if self.is_clusterwide {
            let labels = of_pods(labels, is_empty);
            return Some(Pods { namespaces: Namespaces::Matching(Selector::all(namespaces)), labels });
        }
        for namespace in namespaces {
            match (&namespace, &self.namespace) {
                (Selector::Label(label), Some(own)) if *label.key == *NAME_LABEL => {
                    if !label.operator.accepts(Some(own)) {
                        return Some(self.nothing());
                    }
                }
                _ => labels.push(namespace.on(Owner::Namespace)),
            }
        }
        Some(Pods { namespaces: Namespaces::Own(self.namespace.clone()), labels: of_pods(labels, is_empty) })
    }

    /// A selector that does not match any pod.
    pub(super) fn nothing(&self) -> Pods {
        let namespaces = if self.is_clusterwide {
            Namespaces::Matching(Selector::everything())
        } else {
            Namespaces::Own(self.namespace.clone())
        };
        Pods { namespaces, labels: Some(Selector::Any(Vec::new())) }
    }

    /// Reads an entry of `fromEndpoints` or `toEndpoints`.
    ///
    /// A selector that requires no label, such as `NotIn` on the name of the namespace, matches pods only: Cilium adds
    /// the name of the local cluster, a label that nodes and addresses do not have. With `enable-node-selector-labels`
    /// nodes have it too (`nodeIdentityLabels` in `pkg/node/manager/manager.go`), and before 1.19 it is not added; both
    /// are not assumed.
    pub(super) fn endpoints(&self, selector: &wire::LabelSelector, path: &Path, faults: &mut Faults) -> Who {
        let Some(terms) = terms(selector, path, faults) else { return unparsed() };
        // Cilium adds no namespace to a selector with a reserved label.
        if terms.iter().any(|term| matches!(term.key, Key::Reserved(_))) {
            return reserved(&terms);
        }
        let is_hidden = |term: &Term<'_>| match term.key {
            Key::Foreign => true,
            // A selector that excludes a cluster may also match endpoints outside of every cluster.
            Key::Cluster => !term.asks_for_it(),
            _ => false,
        };
        if terms.iter().any(is_hidden) {
            return unclear(&terms);
        }
        let namespaces: Vec<Selector> =
            terms.iter().filter_map(Term::of_namespace).filter(|selector| !selector.is_empty()).collect();
        let leaves_own = terms.iter().any(|term| term.of_namespace().is_some());
        let namespaces = if self.is_clusterwide || leaves_own {
            Namespaces::Matching(Selector::all(namespaces))
        } else {
            Namespaces::Own(self.namespace.clone())
        };
        let labels = of_pods(terms.iter().filter_map(Term::of_pod).collect(), terms.is_empty());
        let pods = Who::Pods(Pods { namespaces, labels });
        // Without a cluster label, only pods of the local cluster match (`policy-default-local-cluster`, since 1.19).
        let clusters: Vec<Selector> =
            terms.iter().filter(|term| term.key == Key::Cluster).map(Term::as_written).collect();
        if clusters.is_empty() {
            return pods;
        }
        Who::All(vec![pods, Who::Unclear(format!("pods with {}", Selector::all(clusters)).into())])
    }

    /// Reads an entry of `fromNodes` or `toNodes`. Cilium adds the label `reserved:remote-node`, which the node of the
    /// pod does not have.
    pub(super) fn nodes(selector: &wire::LabelSelector, path: &Path, faults: &mut Faults) -> Who {
        let Some(terms) = terms(selector, path, faults) else { return unparsed() };
        let mut labels = Vec::with_capacity(terms.len());
        for term in &terms {
            let key = match term.key {
                Key::Pod(key) => key,
                Key::Foreign if term.written.starts_with("node:") => term.written.trim_start_matches("node:"),
                _ => return Who::Unclear(format!("nodes with {}", written(&terms)).into()),
            };
            labels.push(Selector::label(key, term.operator.clone()));
        }
        Who::All(vec![Who::Nodes(Selector::all(labels)), Who::Entity(Entity::RemoteNode)])
    }
}

/// Combines the selectors of pod labels. None if only namespaces are selected.
fn of_pods(parts: Vec<Selector>, is_empty: bool) -> Option<Selector> {
    (is_empty || !parts.is_empty()).then(|| Selector::all(parts))
}

fn unparsed() -> Who {
    Who::Unclear("a selector that does not parse".into())
}

fn written(terms: &[Term<'_>]) -> Selector {
    Selector::all(terms.iter().map(Term::as_written).collect())
}

fn unclear(terms: &[Term<'_>]) -> Who {
    Who::Unclear(format!("endpoints with {}", written(terms)).into())
}

/// Reads a selector of `reserved` labels. They have no value, and an endpoint with one of them is an entity.
fn reserved(terms: &[Term<'_>]) -> Who {
    let [Term { key: Key::Reserved(name), operator, .. }] = terms else { return unclear(terms) };
    let entity = match *name {
        "host" => Entity::Host,
        "world" => Entity::World,
        "world-ipv4" => Entity::WorldV4,
        "world-ipv6" => Entity::WorldV6,
        "health" => Entity::Health,
        "init" => Entity::Init,
        "remote-node" => Entity::RemoteNode,
        "unmanaged" => Entity::Unmanaged,
        "kube-apiserver" => Entity::KubeApiserver,
        "ingress" => Entity::Ingress,
        "none" => Entity::None,
        _ => return unclear(terms),
    };
    match operator {
        Operator::Exists => Who::Entity(entity),
        Operator::In(_) if operator.accepts(Some("")) => Who::Entity(entity),
        Operator::In(_) => Who::Entity(Entity::None),
        _ => unclear(terms),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CLUSTERWIDE;
    use super::super::selector::NAMESPACE;
    use super::super::testing::{NAMESPACED, faults, object, object_of, read_fields};
    use super::*;
    use crate::model::{End, Nowhere};
    use serde_json::{Value, json};

    /// The peer of an entry of `fromEndpoints`.
    fn peer(kind: &str, selector: &Value) -> Who {
        let object = object_of(kind, &json!({"ingress": [{"fromEndpoints": [selector]}]}));
        assert!(object.faults.is_empty(), "{selector}: {:?}", object.faults);
        object.policies()[0].ingress.rules[0].peers.listed()[0].who.clone()
    }

    fn in_words(kind: &str, selector: &Value) -> String {
        peer(kind, selector).to_string()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn peers_of_a_namespaced_policy_are_in_its_namespace_unless_they_say_otherwise() {
        let words = |selector: &Value| in_words(NAMESPACED, selector);
        assert_eq!(words(&json!({})), "all pods in namespace shop");
        assert_eq!(words(&json!(null)), "all pods in namespace shop");
        assert_eq!(words(&json!({"matchLabels": {"app": "web"}})), "pods with app=web in namespace shop");
        for key in ["io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace", "any:io.kubernetes.pod.namespace"]
        {
            assert_eq!(
                words(&json!({"matchLabels": {key: "dns", "k8s:app": "web"}})),
                "pods with app=web in namespaces with kubernetes.io/metadata.name=dns"
            );
            assert_eq!(words(&expression(key, "Exists", &[])), "all pods in every namespace");
            assert_eq!(
                words(&expression(key, "NotIn", &["a", "b"])),
                "all pods in namespaces with kubernetes.io/metadata.name notin (a,b)"
            );
        }
        assert_eq!(
            words(&json!({"matchLabels": {"io.cilium.k8s.namespace.labels.a.b/team": "x"}})),
            "all pods in namespaces with a.b/team=x"
        );
        assert_eq!(
            words(&json!({"matchLabels": {"k8s:io.cilium.k8s.policy.serviceaccount": "bot"}})),
            "pods with service account name=bot in namespace shop"
        );
    }

    #[test]
    fn peers_of_a_policy_of_the_cluster_are_anywhere() {
        let words = |selector: &Value| in_words(CLUSTERWIDE, selector);
        assert_eq!(words(&json!({})), "all pods in every namespace");
        assert_eq!(words(&json!({"matchLabels": {"app": "web"}})), "pods with app=web in every namespace");
        assert_eq!(
            words(&json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "dns"}})),
            "all pods in namespaces with kubernetes.io/metadata.name=dns"
        );
    }

    #[test]
    fn what_only_namespaces_are_asked_for_has_no_selector_of_pods() {
        let labels = |selector: &Value| match peer(NAMESPACED, selector) {
            Who::Pods(pods) => pods.labels,
            other => panic!("{other}"),
        };
        assert_eq!(labels(&json!({"matchLabels": {NAMESPACE: "dns"}})), None);
        assert_eq!(labels(&json!({})), Some(Selector::everything()));
        assert_eq!(labels(&json!({"matchLabels": {"app": "web"}})), Some(Selector::equals("app", "web")));
    }

    #[test]
    fn a_reserved_label_is_an_entity() {
        assert_eq!(peer(NAMESPACED, &json!({"matchLabels": {"reserved:host": ""}})), Who::Entity(Entity::Host));
        assert_eq!(
            peer(CLUSTERWIDE, &expression("reserved:remote-node", "Exists", &[])),
            Who::Entity(Entity::RemoteNode)
        );
        assert_eq!(peer(NAMESPACED, &json!({"matchLabels": {"reserved:host": "x"}})), Who::Entity(Entity::None));
        for selector in [
            json!({"matchLabels": {"reserved:host": "", "app": "web"}}),
            expression("reserved:host", "DoesNotExist", &[]),
            json!({"matchLabels": {"reserved:nothing": ""}}),
            json!({"matchLabels": {"cidrgroup:a": "b"}}),
            expression("io.cilium.k8s.policy.cluster", "DoesNotExist", &[]),
        ] {
            let who = peer(NAMESPACED, &selector);
            assert!(matches!(&who, Who::Unclear(words) if words.starts_with("endpoints with ")), "{selector}: {who}");
        }
    }

    /// Whether the peers of an ingress rule match an entity.
    fn matches(element: &Value, entity: Entity) -> Option<bool> {
        let object = object(&json!({"endpointSelector": {}, "ingress": [element]}));
        let rule = &object.policies()[0].ingress.rules[0];
        rule.peers.mean(&End::Entity(entity), &Nowhere)
    }

    #[test]
    fn nodes_are_other_nodes() {
        let every = json!({"fromNodes": [{}]});
        assert_eq!(matches(&every, Entity::Host), Some(false));
        assert_eq!(matches(&every, Entity::RemoteNode), Some(true));
        assert_eq!(matches(&every, Entity::KubeApiserver), None, "it may be on a node");
        let some = json!({"fromNodes": [{"matchLabels": {"role": "edge"}}]});
        assert_eq!(matches(&some, Entity::RemoteNode), None);
        assert_eq!(matches(&some, Entity::Host), Some(false));
    }

    #[test]
    fn the_api_server_may_be_on_a_node_or_outside() {
        for rule in [
            json!({"fromEntities": ["remote-node"]}),
            json!({"fromEntities": ["host"]}),
            json!({"fromEntities": ["world"]}),
            json!({"fromCIDR": ["192.0.2.0/24"]}),
        ] {
            assert_eq!(matches(&rule, Entity::KubeApiserver), None, "{rule}");
        }
        for name in ["kube-apiserver", "cluster", "all"] {
            assert_eq!(matches(&json!({"fromEntities": [name]}), Entity::KubeApiserver), Some(true), "{name}");
        }
        assert_eq!(matches(&json!({"fromEntities": ["health"]}), Entity::KubeApiserver), Some(false));
    }

    #[test]
    fn what_excludes_namespaces_matches_pods_only() {
        let not = json!({"fromEndpoints": [expression(NAMESPACE, "NotIn", &["a"])]});
        for entity in [Entity::Host, Entity::RemoteNode, Entity::World, Entity::Health] {
            assert_eq!(matches(&not, entity), Some(false), "{entity:?}");
        }
    }

    #[test]
    fn the_name_of_the_cluster_is_not_known() {
        assert_eq!(
            in_words(NAMESPACED, &json!({"matchLabels": {"app": "web", "io.cilium.k8s.policy.cluster": "b"}})),
            "pods with app=web in namespace shop and pods with io.cilium.k8s.policy.cluster=b"
        );
    }

    #[test]
    fn a_namespaced_policy_concerns_pods_of_its_namespace() {
        let subject = |selector: Value| {
            let object = object(&json!({"endpointSelector": selector, "ingress": [{}]}));
            assert!(object.faults.is_empty(), "{:?}", object.faults);
            object.policies()[0].subject.clone()
        };
        let own = |labels| Pods { namespaces: Namespaces::Own(Some("shop".into())), labels };
        let nothing = Selector::Any(Vec::new());
        assert_eq!(subject(json!({})), own(Some(Selector::everything())));
        assert_eq!(subject(json!({"matchLabels": {"any:app": "web"}})), own(Some(Selector::equals("app", "web"))));
        // In `matchLabels`, only the key with the source `k8s` is overwritten.
        assert_eq!(subject(json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}})), own(None));
        assert_eq!(subject(json!({"matchLabels": {NAMESPACE: "other"}})), own(Some(nothing.clone())));
        assert_eq!(subject(json!({"matchLabels": {NAMESPACE: "shop"}})), own(None));
        assert_eq!(subject(expression("k8s:io.kubernetes.pod.namespace", "In", &["other"])), own(Some(nothing)));
        assert_eq!(
            subject(json!({"matchLabels": {"io.cilium.k8s.namespace.labels.team": "x"}})),
            own(Some(Selector::equals("team", "x").on(Owner::Namespace)))
        );
        assert_eq!(subject(expression("reserved:host", "DoesNotExist", &[])), own(None), "no pod is the host");
    }

    #[test]
    fn the_namespace_of_a_file_may_not_be_known() {
        let spec = json!({"endpointSelector": {"matchLabels": {NAMESPACE: "other"}}, "ingress": [{}]});
        let object = read_fields(NAMESPACED, &json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let name = Selector::equals(NAME_LABEL, "other").on(Owner::Namespace);
        let subject = Pods { namespaces: Namespaces::Own(None), labels: Some(name) };
        assert_eq!(object.policies()[0].subject, subject);
    }

    #[test]
    fn a_policy_of_the_cluster_selects_namespaces_too() {
        let labels = json!({"matchLabels": {"io.cilium.k8s.namespace.labels.a/profile": "standard", NAMESPACE: "x", "app": "web"}});
        let object = object_of(CLUSTERWIDE, &json!({"endpointSelector": labels, "ingress": [{}]}));
        let namespaces =
            Selector::All(vec![Selector::equals("a/profile", "standard"), Selector::equals(NAME_LABEL, "x")]);
        let subject =
            Pods { namespaces: Namespaces::Matching(namespaces), labels: Some(Selector::equals("app", "web")) };
        assert_eq!(object.policies()[0].subject, subject);
        assert_eq!(object.id.namespace, None);
    }

    #[test]
    fn endpoints_that_are_no_pods_are_not_judged() {
        let selector = json!({"matchLabels": {"reserved:ingress": ""}});
        let object = object_of(CLUSTERWIDE, &json!({"endpointSelector": selector, "ingress": [{}]}));
        assert!(object.policies().is_empty());
        assert_eq!(
            super::super::testing::faults_of(&object),
            ["spec.endpointSelector: `reserved:ingress=` does not select by pod labels; the policy is not evaluated"]
        );
        let selector = json!({"matchLabels": {"io.cilium.k8s.policy.cluster": "a"}});
        let spec = json!({"endpointSelector": selector, "ingress": [{}]});
        assert!(
            faults(&spec)[0]
                .starts_with("spec.endpointSelector: `io.cilium.k8s.policy.cluster=a` selects by cluster name")
        );
    }
}
