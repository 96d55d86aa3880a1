//! The rule open-ingress: peers that are everything only together, or only by another spelling.

use crate::case::{calico, cnp, found, np};

const RULE: &str = "open-ingress";

/// The findings for a policy with these ingress rules.
fn of(rules: &str) -> Vec<String> {
    found(RULE, &[np("p", &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}"))])
}

fn rule(peers: &str, ports: &str) -> String {
    format!("{{from: [{peers}], ports: [{ports}]}}")
}

const HALVES: [&str; 2] = ["{ipBlock: {cidr: 0.0.0.0/1}}", "{ipBlock: {cidr: 128.0.0.0/1}}"];
const WITH: &str = "{namespaceSelector: {matchExpressions: [{key: x, operator: Exists}]}}";
const WITHOUT: &str = "{namespaceSelector: {matchExpressions: [{key: x, operator: DoesNotExist}]}}";

#[test]
fn every_namespace_is_one_however_it_is_written() {
    let named = "key: kubernetes.io/metadata.name, operator: Exists";
    for wide in [
        "{namespaceSelector: {}}".to_owned(),
        format!("{{namespaceSelector: {{matchExpressions: [{{{named}}}]}}}}"),
        format!("{{namespaceSelector: {{matchExpressions: [{{{named}}}]}}, podSelector: {{}}}}"),
        format!("{WITH}, {WITHOUT}"),
    ] {
        assert_eq!(of(&rule(&wide, "{port: 80}")).len(), 1, "{wide}");
    }
    for narrow in [
        WITH,
        "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [a]}]}}",
        "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: x, operator: Exists}]}}",
        "{podSelector: {}}",
    ] {
        assert!(of(&rule(narrow, "{port: 80}")).is_empty(), "{narrow}");
    }
    let either = "{selector: all(), types: [Ingress], ingress: [{action: Allow, source: {namespaceSelector: \
                  \"a == 'b' || a != 'b'\"}}]}";
    assert_eq!(found(RULE, &[calico(either)]).len(), 1);
    let one = "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchExpressions: [{key: \
               'k8s:io.kubernetes.pod.namespace', operator: Exists}]}]}]}";
    assert_eq!(found(RULE, &[cnp("p", one)]).len(), 1);
}

#[test]
fn peers_of_several_rules_add_up_on_the_ports_that_they_share() {
    let two =
        |peers: [&str; 2], ports: [&str; 2]| of(&format!("{}, {}", rule(peers[0], ports[0]), rule(peers[1], ports[1])));
    for peers in [HALVES, [WITH, WITHOUT]] {
        for ports in [
            ["{port: 80}", "{port: 80}"],
            ["{port: 80}", "{port: 80}, {port: 443}"],
            ["{port: 80}, {port: 81}", "{port: 80}, {port: 82}"],
            ["{port: 80, endPort: 90}", "{port: 85, endPort: 95}"],
            ["{port: http}", "{port: http}"],
        ] {
            assert_eq!(two(peers, ports).len(), 1, "{peers:?} {ports:?}");
        }
        for ports in [["{port: 80}", "{port: 81}"], ["{port: 80}", "{port: 80, protocol: UDP}"]] {
            assert!(two(peers, ports).is_empty(), "{peers:?} {ports:?}");
        }
    }
    let v6 = ["{ipBlock: {cidr: '2000::/3'}}", "{ipBlock: {cidr: 'fc00::/7'}}"];
    assert_eq!(two(v6, ["{port: 80}", "{port: 80}"]).len(), 1);
    assert!(of(&rule(v6[0], "{port: 80}")).is_empty(), "private addresses are closed");
    assert!(of(&rule("{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}", "{port: 80}")).is_empty());
}

#[test]
fn peers_of_several_policies_add_up_if_they_are_for_the_same_pods() {
    let policy = |name: &str, app: &str, peers: &str| {
        let rule = rule(peers, "{port: 80}");
        np(name, &format!("{{podSelector: {{matchLabels: {app}}}, policyTypes: [Ingress], ingress: [{rule}]}}"))
    };
    for peers in [HALVES, [WITH, WITHOUT]] {
        let judged = |apps: [&str; 2]| found(RULE, &[policy("a", apps[0], peers[0]), policy("b", apps[1], peers[1])]);
        assert_eq!(judged(["{app: a}", "{app: a}"]).len(), 1, "{peers:?}");
        assert_eq!(judged(["{app: a}", "{}"]).len(), 1, "{peers:?}");
        assert!(judged(["{app: a}", "{app: b}"]).is_empty(), "{peers:?}");
    }
    let around = policy("a", "{app: a}", "{ipBlock: {cidr: 0.0.0.0/0}}");
    assert!(found(RULE, &[around, policy("b", "{app: a}", HALVES[0])]).is_empty(), "the other one is open alone");
}
