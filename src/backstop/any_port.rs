//! `any-port`: rules that list no ports, and for NetworkPolicies also entries without a port and wide ranges.
//!
//! The rule is not compiled for Pass rules of Calico, because later tiers may stop the traffic, and not for ports that
//! several entries, rules or policies add up to.

use super::cel::{self, all, any};
use super::guards::{is_passed_on, is_reserved};
use super::manifest::AdmissionPolicy;
use super::settings::{denies_within_budget, setting};
use super::subject::{
    CALICO_GROUPS, WRITES, exemptions, is_not_of_a_node, may_be_exempt, may_have_open_hatch, namespace_variables,
    resources,
};
use crate::config::Configuration;
use crate::rules::any_port::AnyPort;

const RULE: &str = "any-port";

/// The two directions: their lists of rules in most dialects, the value of `policyTypes`, and the field of the peers.
const DIRECTIONS: [Direction; 2] = [
    Direction { rules: "ingress", name: "Ingress", peers: "from" },
    Direction { rules: "egress", name: "Egress", peers: "to" },
];

struct Direction {
    rules: &'static str,
    name: &'static str,
    peers: &'static str,
}

impl Direction {
    fn is_ingress(&self) -> bool {
        self.rules == "ingress"
    }
}

/// Maximum number of rules of one direction. A larger object passes.
const MAX_RULES: usize = 2_000;
/// Maximum number of `specs` of Cilium. A larger object passes.
const MAX_SPECS: usize = 100;

/// The settings of the rule in the namespace, as CEL expressions.
struct Settings {
    enforced: String,
    same_namespace: String,
    most: String,
}

/// The policies for the dialects.
pub(super) fn policies(configuration: &Configuration) -> Vec<AdmissionPolicy> {
    let Some(enforced) = denies_within_budget(configuration, RULE) else { return Vec::new() };
    let settings = Settings {
        enforced,
        same_namespace: setting(configuration, RULE, |rule: &AnyPort| rule.same_namespace.to_string()),
        most: setting(configuration, RULE, |rule: &AnyPort| rule.most.to_string()),
    };
    let mut policies = vec![kubernetes(configuration, &settings)];
    // The API server validates NetworkPolicies. The webhook may not be able to parse an object of another kind, and this
    // setting decides whether it then denies.
    if configuration.site.denies_unjudged {
        policies.push(cilium(configuration, &settings));
        policies.push(calico(configuration, &settings));
        policies.push(cluster_network_policy(configuration, &settings));
    }
    policies
}

/// A policy for a dialect, given the variables from which `fault` is computed.
fn policy(
    configuration: &Configuration,
    settings: &Settings,
    dialect: &'static str,
    resources: Vec<serde_json::Value>,
    (own_variables, fault): (Vec<(&'static str, String)>, String),
) -> AdmissionPolicy {
    let site = &configuration.site;
    let name = r#"object.metadata.?name.orValue("")"#;
    let own = exemptions(site, "dyn(object)");
    let annotations = match dialect {
        // Calico stores the annotations of its own objects in this annotation.
        "calico" => format!(r#"{own} + dyn(object).?metadata.?annotations[?"projectcalico.org/metadata"].orValue("")"#),
        _ => own,
    };
    let mut variables = namespace_variables();
    variables.extend([
        ("exemptions", annotations),
        ("policy", "dyn(object)".to_owned()),
        ("before", "dyn(oldObject)".to_owned()),
    ]);
    variables.extend(own_variables);
    let passed_on = is_passed_on(site);
    let is_controller = format!("request.userInfo.username == {}", cel::text(&site.baseline.username));
    let controller = all(&[is_reserved(site, name), any(&[is_controller, passed_on.clone()])]);
    let spared = any(&[
        controller,
        may_have_open_hatch(site),
        may_be_exempt(configuration, RULE, "variables.exemptions", &passed_on),
    ]);
    AdmissionPolicy {
        rule: RULE,
        part: Some(dialect),
        resources,
        is_namespaced: true,
        conditions: vec![
            ("not-too-large", is_small("object")),
            ("was-not-too-large", format!("oldObject == null || {}", is_small("oldObject"))),
        ],
        variables,
        fault,
        enforced: settings.enforced.clone(),
        spared,
        message: format!(
            r#"request.kind.kind + " " + (variables.namespaceName == "" ? "" : variables.namespaceName + "/") + {name} + " allows a peer on every port""#
        ),
        help: format!(
            "list the ports that are needed, each with its protocol, or exempt the object: annotation {}",
            site.exempt_annotation()
        ),
    }
}

/// True if the object in this expression has few enough rules. The API server takes longer than linear time for a loop,
/// and its cost limit does not stop that early enough.
fn is_small(object: &str) -> String {
    let few = |list: &str, most: usize| format!("dyn({object}).?{list}.orValue([]).size() <= {most}");
    let [ingress, egress] = DIRECTIONS.map(|direction| few(&format!("spec.?{}", direction.rules), MAX_RULES));
    all(&[ingress, egress, few("specs", MAX_SPECS)])
}

/// True if a new object has the fault, or a changed one that did not have it.
fn is_new(fault: &str, clean_before: &str) -> String {
    format!("{fault} && (oldObject == null || ({clean_before}))")
}

/// NetworkPolicy.
fn kubernetes(configuration: &Configuration, settings: &Settings) -> AdmissionPolicy {
    let Settings { same_namespace, most, .. } = settings;
    let no_list = "(!has(rule.ports) || rule.ports.size() == 0)";
    // A range has one port more than the difference of its ends.
    let wide = format!(
        "(has(rule.ports) && rule.ports.size() <= 100 && rule.ports.exists(port, has(port.port) ? has(port.endPort) && port.endPort - int(port.port) >= {most} : {most} < 65535))"
    );
    let peers = |direction: &Direction| {
        let list = format!("rule.{}", direction.peers);
        let block = if direction.is_ingress() {
            format!("(has(peer.ipBlock) && {})", is_not_of_a_node("peer.ipBlock.cidr"))
        } else {
            "has(peer.ipBlock)".to_owned()
        };
        format!(
            "(!has({list}) || {list}.size() == 0 || {list}.exists(peer, has(peer.namespaceSelector) || (has(peer.podSelector) && !{same_namespace}) || {block}))"
        )
    };
    let rules = |direction: &Direction, what: &str| {
        let Direction { rules, name, .. } = direction;
        format!(
            r#"("{name}" in object.spec.?policyTypes.orValue([]) && object.spec.?{rules}.orValue([]).exists(rule, {what} && {}))"#,
            peers(direction)
        )
    };
    let everywhere = |what: &str| any(&DIRECTIONS.each_ref().map(|direction| rules(direction, what)));
    let before = |what: &str| {
        all(&DIRECTIONS
            .each_ref()
            .map(|Direction { rules, .. }| format!("oldObject.spec.?{rules}.orValue([]).all(rule, {what})")))
    };
    // With few single ports, no sum of ports in a rule can have been too wide before.
    let narrow = "has(rule.ports) && rule.ports.size() > 0 && rule.ports.size() <= 100 && rule.ports.all(port, has(port.port) && !has(port.endPort))";
    let variables = vec![
        ("noList", is_new(&everywhere(no_list), &before("has(rule.ports) && rule.ports.size() > 0"))),
        ("wide", is_new(&everywhere(&wide), &before(narrow))),
    ];
    let fault = "variables.noList || variables.wide".to_owned();
    let resources = vec![resources("networking.k8s.io", &WRITES, &["networkpolicies"])];
    policy(configuration, settings, "kubernetes", resources, (variables, fault))
}

/// CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: elements without `toPorts` and `icmps`.
fn cilium(configuration: &Configuration, settings: &Settings) -> AdmissionPolicy {
    let size = |field: &str| format!("rule.?{field}.orValue([]).size()");
    let no_ports = format!("{} == 0 && {} == 0", size("toPorts"), size("icmps"));
    let element = |direction: &Direction| {
        let to = direction.peers;
        // An element with an empty list of peers matches nothing.
        let lists = ["Endpoints", "Nodes", "Entities", "CIDR", "CIDRSet"].map(|list| format!("{to}{list}"));
        let some = format!("{}.all(list, !(list in rule) || rule[list].size() > 0)", cel::list(&lists));
        let entities = r#"["all", "world", "cluster"]"#;
        let blocks = |field: &str, cidr: &str| {
            if direction.is_ingress() {
                format!("rule.?{field}.orValue([]).exists(block, {})", is_not_of_a_node(cidr))
            } else {
                format!("{} > 0", size(field))
            }
        };
        let mut peers = vec![
            format!("({} > 0 && !{})", size(&format!("{to}Endpoints")), settings.same_namespace),
            format!("rule.?{to}Entities.orValue([]).exists(entity, entity in {entities})"),
            blocks(&format!("{to}CIDR"), "block"),
            blocks(&format!("{to}CIDRSet"), "block.cidr"),
        ];
        if !direction.is_ingress() {
            peers.push(format!("{} > 0", size("toFQDNs")));
        }
        format!("({no_ports} && {some} && {})", any(&peers))
    };
    let lists = DIRECTIONS
        .each_ref()
        .map(|direction| format!("spec.?{}.orValue([]).exists(rule, {})", direction.rules, element(direction)));
    // A selector of hosts, or of labels that pods do not have, is not evaluated.
    let of_pods =
        r#"(!key.contains(":") || key.startsWith("k8s:") || key.startsWith("any:")) && !key.startsWith("reserved")"#;
    let selects_pods = format!(
        "has(spec.endpointSelector) && spec.endpointSelector.?matchLabels.orValue({{}}).all(key, {of_pods}) && \
         spec.endpointSelector.?matchExpressions.orValue([]).map(one, one.key).all(key, {of_pods})"
    );
    let specs = |object: &str| format!("[{object}.?spec.orValue({{}})] + {object}.?specs.orValue([])");
    let clean = DIRECTIONS.each_ref().map(|Direction { rules, .. }| {
        format!("spec.?{rules}.orValue([]).all(rule, {} > 0 || {} > 0)", size("toPorts"), size("icmps"))
    });
    let variables = vec![("specs", specs("variables.policy")), ("specsBefore", specs("variables.before"))];
    let fault = is_new(
        &format!("variables.specs.exists(spec, {selects_pods} && {})", any(&lists)),
        &format!("variables.specsBefore.all(spec, {})", all(&clean)),
    );
    let resources = ["ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"];
    policy(
        configuration,
        settings,
        "cilium",
        vec![self::resources("cilium.io", &WRITES, &resources)],
        (variables, fault),
    )
}

/// Calico's NetworkPolicy, and GlobalNetworkPolicies for all pods: Allow rules without ports.
fn calico(configuration: &Configuration, settings: &Settings) -> AdmissionPolicy {
    let Settings { same_namespace, most, .. } = settings;
    let rule = |direction: &Direction| {
        let (far, near) = if direction.is_ingress() { ("source", "destination") } else { ("destination", "source") };
        let empty = |list: &str| format!("rule.?{list}.orValue([]).size() == 0");
        let absent = |field: &str| format!("!rule.?{field}.hasValue()");
        let mut parts: Vec<String> =
            ["notProtocol", "icmp", "notICMP", "ipVersion", "source.?services", "destination.?services"]
                .map(absent)
                .into();
        for list in ["destination.?ports".to_owned(), "destination.?notPorts".to_owned()] {
            parts.push(empty(&list));
        }
        for list in [format!("{near}.?nets"), format!("{near}.?notNets"), format!("{far}.?notNets")] {
            parts.push(empty(&list));
        }
        parts.push(format!(
            r#"(!has(rule.protocol) || (string(rule.protocol) in ["TCP", "UDP", "SCTP"] && {most} < 65535))"#
        ));
        let nets = format!("rule.?{far}.?nets.orValue([])");
        let outside = if direction.is_ingress() {
            format!("{nets}.exists(net, {})", is_not_of_a_node("net"))
        } else {
            format!("{nets}.size() > 0")
        };
        // Without a selector of namespaces, a selector of pods may mean the own namespace.
        let pods = any(&[
            format!("!{same_namespace}"),
            format!("!rule.?{far}.hasValue()"),
            format!(r#"rule.?{far}.?namespaceSelector.orValue("") != """#),
        ]);
        parts.push(format!("({outside} || ({nets}.size() == 0 && {pods}))"));
        let Direction { rules, name, .. } = direction;
        format!(
            r#"((variables.policy.spec.?types.orValue([]).size() == 0 || "{name}" in variables.policy.spec.types) && variables.policy.spec.?{rules}.orValue([]).exists(rule, rule.action == "Allow" && {}))"#,
            all(&parts)
        )
    };
    let open = any(&DIRECTIONS.each_ref().map(rule));
    // A selector may mean hosts, and only the engine parses it.
    let everything = |field: &str| format!(r#"variables.policy.spec.?{field}.orValue("") in ["", "all()"]"#);
    let all_pods = all(&[
        everything("selector"),
        everything("namespaceSelector"),
        r#"variables.policy.spec.?serviceAccountSelector.orValue("") == """#.to_owned(),
        "!variables.policy.spec.?doNotTrack.orValue(false)".to_owned(),
        "!variables.policy.spec.?preDNAT.orValue(false)".to_owned(),
    ]);
    let clean = DIRECTIONS.each_ref().map(|Direction { rules, .. }| {
        format!(
            r#"variables.before.?spec.?{rules}.orValue([]).all(rule, rule.action in ["Deny", "Log"] || (rule.?destination.?ports.orValue([]).size() > 0 && rule.destination.ports.all(port, !string(port).contains(":"))))"#
        )
    });
    let variables = vec![("selectsPods", format!(r#"request.resource.resource == "networkpolicies" || {all_pods}"#))];
    let fault = is_new(&format!("variables.selectsPods && {open}"), &all(&clean));
    let kinds = ["networkpolicies", "globalnetworkpolicies"];
    let resources = CALICO_GROUPS.map(|group| resources(group, &WRITES, &kinds)).into();
    policy(configuration, settings, "calico", resources, (variables, fault))
}

/// ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy: rules that accept without a list of ports.
fn cluster_network_policy(configuration: &Configuration, settings: &Settings) -> AdmissionPolicy {
    let open = "rule.action == variables.accept && !(variables.list in rule)";
    let known = |direction: &Direction| {
        let kinds: &[&str] =
            if direction.is_ingress() { &["namespaces", "pods"] } else { &["namespaces", "pods", "nodes", "networks"] };
        // A rule with a peer that is not known accepts nothing.
        any(&kinds.iter().map(|kind| format!("has(peer.{kind})")).collect::<Vec<_>>())
    };
    let rules = DIRECTIONS.each_ref().map(|direction| {
        let Direction { rules, peers, .. } = direction;
        format!(
            "variables.policy.spec.?{rules}.orValue([]).exists(rule, {open} && rule.{peers}.size() > 0 && rule.{peers}.all(peer, {}) && rule.{peers}.exists(peer, !has(peer.networks) || peer.networks.size() > 0))",
            known(direction)
        )
    });
    let clean = DIRECTIONS.each_ref().map(|Direction { rules, .. }| {
        format!("variables.before.?spec.?{rules}.orValue([]).all(rule, rule.action != variables.accept || variables.list in rule)")
    });
    let is_cluster = r#"request.resource.resource == "clusternetworkpolicies""#;
    let variables = vec![
        ("accept", format!(r#"{is_cluster} ? "Accept" : "Allow""#)),
        ("list", format!(r#"{is_cluster} ? "protocols" : "ports""#)),
    ];
    let fault = is_new(&any(&rules), &all(&clean));
    let resources = vec![resources(
        "policy.networking.k8s.io",
        &WRITES,
        &["clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies"],
    )];
    policy(configuration, settings, "cluster-network-policy", resources, (variables, fault))
}
