//! The rule monitoring-blocked: where it must be silent, and where it fires.

use crate::case::{ccnp, cluster, deployment, findings, found, np, object, pod};

const RULE: &str = "monitoring-blocked";
const SCRAPE: &str = "prometheus.io/scrape: 'true', prometheus.io/port: '9090'";

fn web(annotations: &str) -> String {
    deployment("app: web", annotations)
}

#[test]
fn a_policy_that_isolates_what_is_scraped() {
    let isolates = np("p", "{podSelector: {}, policyTypes: [Ingress]}");
    assert_eq!(found(RULE, &[web(SCRAPE), isolates.clone()]), ["spec.ingress"]);
    assert!(found(RULE, &[web(""), isolates.clone()]).is_empty(), "nobody asks");
    assert!(found(RULE, &[web("prometheus.io/scrape: 'false'"), isolates.clone()]).is_empty());
    assert!(found(RULE, &[web(SCRAPE), np("p", "{podSelector: {}, policyTypes: [Egress]}")]).is_empty());
    let others = np("p", "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}");
    assert!(found(RULE, &[web(SCRAPE), others]).is_empty(), "other pods");
    let on_node = object(
        "v1",
        "Pod",
        "name: a, namespace: shop, annotations: {prometheus.io/scrape: 'true'}",
        "{hostNetwork: true}",
    );
    assert!(found(RULE, &[on_node, isolates]).is_empty(), "no policy isolates it");
}

#[test]
fn who_lets_the_monitoring_namespace_in() {
    let policy = |peer: &str, port: &str| {
        np("p", &format!("{{podSelector: {{}}, ingress: [{{from: [{peer}], ports: [{{port: {port}}}]}}]}}"))
    };
    let monitoring = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}";
    let all = format!("{{{monitoring}}}");
    let other_label = format!("{{{monitoring}, podSelector: {{matchLabels: {{app: prometheus}}}}}}");
    for (peer, port) in [
        (all.as_str(), "9090"),
        (other_label.as_str(), "9090"),
        ("{namespaceSelector: {matchLabels: {team: platform}}}", "9090"),
        ("{ipBlock: {cidr: 10.0.0.0/8}}", "9090"),
        (all.as_str(), "metrics"),
    ] {
        assert!(found(RULE, &[web(SCRAPE), policy(peer, port)]).is_empty(), "{peer} on {port}");
    }
    assert_eq!(found(RULE, &[web(SCRAPE), policy(&all, "8080")]).len(), 1, "another port");
    assert_eq!(found(RULE, &[web(SCRAPE), policy("{podSelector: {}}", "9090")]).len(), 1, "another namespace");
    // Whichever port it is, one is open.
    assert!(found(RULE, &[web("prometheus.io/scrape: 'true'"), policy(&all, "8080")]).is_empty());
    // What the pods of Prometheus are called is known where they run.
    let prometheus = pod("monitoring", "a", "app.kubernetes.io/name: prometheus, app: other");
    assert_eq!(found(RULE, &[prometheus, web(SCRAPE), policy(&other_label, "9090")]).len(), 1);
    let others = np("others", &format!("{{podSelector: {{}}, ingress: [{{from: [{all}], ports: [{{port: 9090}}]}}]}}"));
    assert!(found(RULE, &[web(SCRAPE), others, policy("{podSelector: {}}", "80")]).is_empty(), "the union counts");
}

#[test]
fn link_local_addresses_are_those_of_no_pod() {
    let probes =
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 169.254.0.0/16}}, {ipBlock: {cidr: 'fe80::/10'}}]}]}";
    assert_eq!(found(RULE, &[web(SCRAPE), np("probes", probes)]), ["spec.ingress"]);
    let wider = probes.replace("169.254.0.0/16", "169.0.0.0/8");
    assert!(found(RULE, &[web(SCRAPE), np("probes", &wider)]).is_empty(), "a pod may have such an address");
}

#[test]
fn a_port_by_its_name_where_the_pods_list_theirs() {
    let listing = |ports: &str| {
        let template = format!(
            "{{metadata: {{labels: {{app: web}}, annotations: {{{SCRAPE}}}}}, spec: {{containers: [{{ports: {ports}}}]}}}}"
        );
        object("apps/v1", "Deployment", "name: web, namespace: shop", &format!("{{template: {template}}}"))
    };
    let monitoring = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}";
    let metrics =
        np("p", &format!("{{podSelector: {{}}, ingress: [{{from: [{monitoring}], ports: [{{port: metrics}}]}}]}}"));
    for (ports, wanted) in [
        ("[{name: http, containerPort: 9090}]", 1),
        ("[{name: metrics, containerPort: 8080}, {containerPort: 9090}]", 1),
        ("[{name: metrics, containerPort: 9090}]", 0),
        ("[{name: http, containerPort: 9090}, {name: metrics, containerPort: 9090}]", 0),
        ("[]", 0),
        ("null", 0),
    ] {
        assert_eq!(found(RULE, &[listing(ports), metrics.clone()]).len(), wanted, "{ports}");
    }
}

#[test]
fn a_workload_that_arrives_where_it_is_isolated() {
    let isolates = np("p", "{podSelector: {}, policyTypes: [Ingress]}");
    let found_in = findings(RULE, &[isolates.clone(), web(SCRAPE)], false);
    assert_eq!(found_in.len(), 1);
    assert!(found_in[0].message.contains("NetworkPolicy shop/p"), "{}", found_in[0].message);
    assert!(found(RULE, &[isolates, web("")]).is_empty());
    assert!(found(RULE, &[web(SCRAPE)]).is_empty(), "nothing isolates it");
}

#[test]
fn policies_of_the_cluster() {
    let wide = "{endpointSelector: {}, ingress: [{fromEntities: [host]}]}";
    assert_eq!(found(RULE, &[web(SCRAPE), ccnp(wide)]), ["spec.ingress"]);
    let denies = cluster("Admin", "subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]");
    assert_eq!(found(RULE, &[web(SCRAPE), denies]), ["spec.ingress[0]"]);
}
