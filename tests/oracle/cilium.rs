//! `cilium.io/v2`: CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, by the documentation of Cilium ("Network
//! Policy": "Layer 3 Policies", "Layer 4 Policies", "Deny Policies", "Endpoint default policy") and the comments on
//! `api.Rule`, as of Cilium 1.20.

use serde_json::{Value, json};

use super::kubernetes::requirement_matches;
use super::{Action, DEFAULT_TIER, Direction, End, Pod, Policy, Question, Rule, World};
use super::{is_kind, is_within, items, name, namespace, text};

/// The cluster that all pods are in, as far as its name goes.
const CLUSTER: &str = "default";

/// The policies that a manifest of Cilium is made of, as far as they select the subject of the question: for each of
/// its rules one that denies and one that allows.
///
/// "Deny policies take precedence over allow policies, regardless of whether they are a Cilium Network Policy, a
/// Clusterwide Cilium Network Policy or even a Kubernetes Network Policy."
pub(crate) fn policies(manifest: &Value, question: &Question<'_>) -> Vec<Policy> {
    let is_namespaced = is_kind(manifest, "cilium.io", "CiliumNetworkPolicy");
    if !is_namespaced && !is_kind(manifest, "cilium.io", "CiliumClusterwideNetworkPolicy") {
        return Vec::new();
    }
    let own_namespace = is_namespaced.then(|| namespace(manifest));
    specs(manifest)
        .into_iter()
        .filter(|spec| selects(spec, own_namespace, question))
        .flat_map(|spec| {
            let policy = |order: f64, action: Action, field: &str| Policy {
                tier: DEFAULT_TIER.to_owned(),
                order,
                name: name(manifest).to_owned(),
                isolates: isolates(spec, question.direction),
                rules: items(&spec[field])
                    .iter()
                    .map(|rule| Rule { action, matches: rule_matches(rule, own_namespace, question) })
                    .collect(),
            };
            match question.direction {
                Direction::Ingress => [
                    policy(f64::NEG_INFINITY, Action::Deny, "ingressDeny"),
                    policy(super::kubernetes::ORDER, Action::Allow, "ingress"),
                ],
                Direction::Egress => [
                    policy(f64::NEG_INFINITY, Action::Deny, "egressDeny"),
                    policy(super::kubernetes::ORDER, Action::Allow, "egress"),
                ],
            }
        })
        .collect()
}

/// CiliumNetworkPolicy.spec: "the desired Cilium specific rule specification"; specs: "a list of desired Cilium
/// specific rule specification". Both may be there.
fn specs(manifest: &Value) -> Vec<&Value> {
    let mut specs = Vec::new();
    if manifest["spec"].is_object() {
        specs.push(&manifest["spec"]);
    }
    specs.extend(items(&manifest["specs"]));
    specs
}

/// Rule.endpointSelector: "selects all endpoints which should be subject to this rule". A rule with a nodeSelector in
/// its stead is one for nodes.
///
/// A CiliumNetworkPolicy applies to the endpoints of its own namespace; the requirement for it takes the place of one
/// that the selector has under the same key (`k8s:io.kubernetes.pod.namespace`).
fn selects(spec: &Value, own_namespace: Option<&str>, question: &Question<'_>) -> bool {
    if !spec["endpointSelector"].is_object() {
        return false;
    }
    let mut selector = spec["endpointSelector"].clone();
    if let Some(own_namespace) = own_namespace {
        require_equal(&mut selector, NAMESPACE, own_namespace);
    }
    selector_matches(&selector, &labels_of(End::Pod(question.subject), question.world))
}

/// Rule.enableDefaultDeny: "determines whether this policy configures the subject endpoint(s) to have a default deny
/// mode. If enabled, this causes all traffic not explicitly allowed by a network policy to be dropped. If not
/// specified, the default is true for each traffic direction that has rules, and false otherwise. [...] If multiple
/// policies apply to an endpoint, that endpoint's default deny will be enabled if any policy requests it."
///
/// It is the rules of a direction that ask for it, so a direction without any does not have it whatever the field says.
fn isolates(spec: &Value, direction: Direction) -> bool {
    let (field, allowed, denied) = match direction {
        Direction::Ingress => ("ingress", "ingress", "ingressDeny"),
        Direction::Egress => ("egress", "egress", "egressDeny"),
    };
    let has_rules = !items(&spec[allowed]).is_empty() || !items(&spec[denied]).is_empty();
    has_rules && spec["enableDefaultDeny"][field].as_bool().unwrap_or(true)
}

/// IngressRule and EgressRule: "All members of this structure are optional. If omitted or empty, the member will have
/// no effect on the rule. If multiple members are set, all of them need to match in order for the rule to take effect."
///
/// - A list of peers that is there and empty selects nothing, whatever else the rule says.
/// - A rule that has neither peers nor ports matches nothing ("Ingress Default Deny": `ingress: [{}]`).
/// - A rule that has only ports is about every peer; one that has only peers, about every port and every protocol.
fn rule_matches(rule: &Value, own_namespace: Option<&str>, question: &Question<'_>) -> bool {
    let (prefix, peers) = match question.direction {
        Direction::Ingress => ("from", ["Endpoints", "Nodes", "Entities", "CIDR", "CIDRSet"]),
        Direction::Egress => ("to", ["Endpoints", "Nodes", "Entities", "CIDR", "CIDRSet"]),
    };
    let peers = peers.map(|kind| &rule[format!("{prefix}{kind}")]);
    let [endpoints, nodes, entities, cidrs, cidr_sets] = peers;
    if peers.iter().any(|list| list.is_array() && items(list).is_empty()) {
        return false;
    }

    let no_peers = peers.iter().all(|list| items(list).is_empty()) && items(&rule["toFQDNs"]).is_empty();
    let no_ports = items(&rule["toPorts"]).is_empty() && items(&rule["icmps"]).is_empty();
    if no_peers && no_ports {
        return false;
    }

    let other = question.other;
    let peer_matches = no_peers
        || items(endpoints).iter().any(|selector| endpoints_match(selector, own_namespace, question))
        || items(entities).iter().any(|entity| entity_matches(text(entity), other))
        || items(cidrs).iter().any(|cidr| cidr_matches(cidr, &Value::Null, other))
        || items(cidr_sets).iter().any(|set| cidr_matches(&set["cidr"], &set["except"], other));
    // No end of a flow here is a node, and no address has a name: neither nodes nor toFQDNs add to what matches.
    let _ = nodes;

    let port_matches = no_ports
        || items(&rule["toPorts"]).iter().any(|ports| ports_match(&ports["ports"], question))
        || items(&rule["icmps"]).iter().any(|icmp| icmp_matches(&icmp["fields"], question));
    peer_matches && port_matches
}

/// A label of an endpoint: where it comes from, its key and its value.
type Label = (&'static str, String, String);

const NAMESPACE: &str = "k8s:io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

/// The labels that the identity of an end is made of ("Endpoint labels"): those of the pod and of its namespace, the
/// names of its namespace, of its service account and of the cluster; of all that is outside, `reserved:world`.
fn labels_of(end: End<'_>, world: &World) -> Vec<Label> {
    let End::Pod(pod) = end else {
        return vec![("reserved", "world".to_owned(), String::new())];
    };
    labels_of_pod(pod, world)
}

fn labels_of_pod(pod: &Pod, world: &World) -> Vec<Label> {
    let mut labels = Vec::new();
    for (key, value) in &pod.labels {
        labels.push(("k8s", key.clone(), value.clone()));
    }
    for (key, value) in &world.namespaces[&pod.namespace] {
        labels.push(("k8s", format!("{NAMESPACE_LABELS}{key}"), value.clone()));
    }
    labels.push(("k8s", "io.kubernetes.pod.namespace".to_owned(), pod.namespace.clone()));
    labels.push(("k8s", "io.cilium.k8s.policy.serviceaccount".to_owned(), pod.service_account.clone()));
    labels.push(("k8s", "io.cilium.k8s.policy.cluster".to_owned(), CLUSTER.to_owned()));
    labels
}

/// "Labels": a key in a selector is `source:key`; `any:key`, or the key alone, stands for the key of any source.
fn value_of<'a>(key: &str, labels: &'a [Label]) -> Option<&'a String> {
    let (source, key) = key.split_once(':').unwrap_or(("any", key));
    labels
        .iter()
        .find(|(label_source, label_key, _)| (source == "any" || source == *label_source) && key == label_key)
        .map(|(_, _, value)| value)
}

/// EndpointSelector: "a wrapper for k8s LabelSelector". An empty one matches everything.
fn selector_matches(selector: &Value, labels: &[Label]) -> bool {
    let match_labels = selector["matchLabels"]
        .as_object()
        .is_none_or(|pairs| pairs.iter().all(|(key, value)| value_of(key, labels).is_some_and(|found| found == value)));
    match_labels
        && items(&selector["matchExpressions"])
            .iter()
            .all(|requirement| requirement_matches(requirement, value_of(text(&requirement["key"]), labels)))
}

/// The keys that a selector asks for, each with the source that it asks for.
fn keys(selector: &Value) -> Vec<String> {
    let in_labels = selector["matchLabels"].as_object().into_iter().flat_map(|pairs| pairs.keys().cloned());
    let in_expressions = items(&selector["matchExpressions"]).iter().map(|one| text(&one["key"]).to_owned());
    in_labels.chain(in_expressions).map(|key| if key.contains(':') { key } else { format!("any:{key}") }).collect()
}

fn require_equal(selector: &mut Value, key: &str, value: &str) {
    if selector["matchLabels"].is_null() {
        selector["matchLabels"] = json!({});
    }
    selector["matchLabels"][key] = json!(value);
}

fn require_existence(selector: &mut Value, key: &str) {
    if selector["matchExpressions"].is_null() {
        selector["matchExpressions"] = json!([]);
    }
    selector["matchExpressions"].as_array_mut().unwrap().push(json!({"key": key, "operator": "Exists"}));
}

/// fromEndpoints: "a list of endpoints identified by an EndpointSelector which are allowed to communicate with the
/// endpoint subject to the rule".
///
/// "The user can explicitly specify the namespace in the FromEndpoints selector. If omitted, we limit the scope to the
/// namespace the policy lives in." A selector on the labels of namespaces is such a one, too. "For a clusterwide policy
/// if a namespace is not specified in the labels we add a selector to only match endpoints that contains a namespace
/// label." In the same way the cluster is the local one unless the selector says otherwise. A selector for reserved
/// labels is left as it is.
fn endpoints_match(selector: &Value, own_namespace: Option<&str>, question: &Question<'_>) -> bool {
    let mut selector = selector.clone();
    let keys = keys(&selector);
    let has_key =
        |suffix: &str| keys.iter().any(|key| *key == format!("k8s:{suffix}") || *key == format!("any:{suffix}"));
    let has_prefix = |prefix: &str| {
        keys.iter().any(|key| key.starts_with(&format!("k8s:{prefix}")) || key.starts_with(&format!("any:{prefix}")))
    };
    if !keys.iter().any(|key| key.starts_with("reserved:")) {
        if !has_key("io.kubernetes.pod.namespace") {
            match own_namespace {
                None => require_existence(&mut selector, NAMESPACE),
                Some(own_namespace) if !has_prefix(NAMESPACE_LABELS) => {
                    require_equal(&mut selector, NAMESPACE, own_namespace);
                }
                Some(_) => {}
            }
        }
        if !has_key("io.cilium.k8s.policy.cluster") {
            require_equal(&mut selector, "k8s:io.cilium.k8s.policy.cluster", CLUSTER);
        }
    }
    selector_matches(&selector, &labels_of(question.other, question.world))
}

/// "Entities based": who the entities are. A pod is of the cluster, and an address outside of it is of the world.
fn entity_matches(entity: &str, other: End<'_>) -> bool {
    match entity {
        "all" => true,
        "cluster" | "cluster-mesh" => matches!(other, End::Pod(_)),
        "world" => matches!(other, End::Outside(_)),
        "host" | "remote-node" | "kube-apiserver" | "ingress" | "health" | "init" | "unmanaged" | "none" => false,
        entity => panic!("{entity} is no entity"),
    }
}

/// "IP/CIDR based": "CIDR policies are used to define policies to and from endpoints which are not managed by Cilium
/// and thus do not have labels associated with them. [...] CIDR rules do not apply to traffic where both sides of the
/// connection are either managed by Cilium or use an IP belonging to a node in the cluster".
///
/// except: "a list of IP blocks which the endpoint subject to the rule is not allowed to initiate connections to. [...]
/// These exceptions are only applied to the Cidr in this CIDRRule, and do not apply to any other CIDR prefixes".
fn cidr_matches(cidr: &Value, except: &Value, other: End<'_>) -> bool {
    match other {
        End::Pod(_) => false,
        End::Outside(address) => {
            is_within(address, text(cidr)) && !items(except).iter().any(|block| is_within(address, text(block)))
        }
    }
}

/// PortRule.ports: "a list of L4 port/protocol"; a list without any adds no port.
///
/// PortProtocol.port: "can be an L4 port number, or a name in the form of http or http-8080"; "0" stands for all ports.
/// endPort: "can only be an L4 port number. It is ignored when Port is 0 or a named port." protocol: "If omitted or
/// empty, any protocol matches. Accepted values: TCP, UDP, SCTP, ANY", where any is any of these three: "Matching on
/// ICMP is not supported". L7 rules do not decide on whether a connection comes about.
fn ports_match(ports: &Value, question: &Question<'_>) -> bool {
    items(ports).iter().any(|port| {
        let protocol_matches = match port["protocol"].as_str().unwrap_or("ANY") {
            "ANY" | "" => ["TCP", "UDP", "SCTP"].contains(&question.protocol),
            protocol => protocol == question.protocol,
        };
        protocol_matches && port_matches(port, question)
    })
}

fn port_matches(port: &Value, question: &Question<'_>) -> bool {
    let Ok(first) = text(&port["port"]).parse::<u64>() else {
        return question.goes_to_port_named(&text(&port["port"]).to_lowercase());
    };
    let last = port["endPort"].as_u64().unwrap_or(first).max(first);
    let number = u64::from(question.port);
    first == 0 || (first <= number && number <= last)
}

/// ICMPRule.fields: "a list of ICMP fields"; ICMPField.type: "a ICMP-type. It should be an 8bit code (0-255), or it's
/// CamelCase name (for example, EchoReply)"; family: "specifies a IP address version. Currently we support IPv4 and
/// IPv6. IPv4 is set as default."
///
/// A flow of ICMP is an echo request over IPv4 here: type 8.
fn icmp_matches(fields: &Value, question: &Question<'_>) -> bool {
    question.protocol == "ICMP"
        && items(fields).iter().any(|field| {
            let is_ipv4 = field["family"].as_str().unwrap_or("IPv4") == "IPv4";
            let kind = &field["type"];
            is_ipv4 && (*kind == 8 || ["8", "Echo", "EchoRequest"].iter().any(|name| kind == name))
        })
}
