//! Rules that compare the ports of a policy with Services and containers: where they fire, and where they must be silent.

use crate::apps::{Stranger, app, judged, object, service};
use crate::objects::objects;
use portcullis::model::{Finding, Object};
use portcullis::rules::{Anonymous, Author};

fn policy(spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", "shop", spec).replace("name: x", "name: p")
}

fn ingress(ports: &str) -> String {
    policy(&format!(
        "{{podSelector: {{matchLabels: {{app: api}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: [{ports}]}}]}}"
    ))
}

fn egress(peer: &str, ports: &str) -> String {
    policy(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}], ports: [{ports}]}}]}}"))
}

/// The findings of a rule in the last object. The others are in manifests, or in a cluster.
fn findings(rule: &str, yaml: &[String], is_whole: bool, old: Option<&Object>, author: &dyn Author) -> Vec<Finding> {
    let found = judged(rule, yaml, is_whole, old, author);
    crate::texts::check("tests/rules/ports_of_services.rs", "services", &crate::texts::named(yaml), &found);
    found.into_iter().map(|judgement| judgement.finding).collect()
}

fn found(rule: &str, yaml: &[String]) -> Vec<String> {
    findings(rule, yaml, false, None, &Anonymous).iter().map(|finding| finding.path.to_string()).collect()
}

fn check(rule: &str, cases: &[(&[&str], Vec<String>)]) {
    let mut wrong = Vec::new();
    for (wanted, yaml) in cases {
        let found = found(rule, yaml);
        if found != *wanted {
            wrong.push(format!("wanted {wanted:?}, found {found:?}:\n{}", yaml.join("---\n")));
        }
    }
    assert!(wrong.is_empty(), "{rule}\n{}", wrong.join("\n"));
}

const LISTS_8080: &str = "{containerPort: 8080, name: web}";
const TO_8080: &str = "ports: [{port: 80, targetPort: 8080, name: http}]";
const PORT: &[&str] = &["spec.ingress[0].ports[0]"];
const EGRESS: &[&str] = &["spec.egress[0].ports[0]"];

#[test]
fn the_port_of_a_service_is_not_that_of_its_pods() {
    let (api, lead) = (|| app("shop", "api", LISTS_8080), || service("shop", "api", TO_8080));
    let there = |more: Vec<String>, policy: String| [vec![api(), lead()], more, vec![policy]].concat();
    let named = || service("shop", "api", "ports: [{port: 80, targetPort: web}]");
    check(
        "service-port",
        &[
            (PORT, there(vec![], ingress("{port: 80}"))),
            (PORT, vec![api(), named(), ingress("{port: 80}")]),
            (&[], there(vec![], ingress("{port: 8080}"))),
            (&[], there(vec![], ingress("{port: 80}, {port: 8080}"))),
            (&[], there(vec![], ingress("{port: web}, {port: 80}"))),
            (&[], there(vec![], ingress("{port: 80, protocol: UDP}"))),
            (&[], there(vec![], ingress("{port: 80, endPort: 90}"))),
            (&[], there(vec![], ingress("{port: 443}"))),
            // Some pod listens on the port itself, or may.
            (&[], vec![app("shop", "api", "{containerPort: 80}"), lead(), ingress("{port: 80}")]),
            (&[], there(vec![app("shop", "other", "")], ingress("{port: 80}").replace("matchLabels: {app: api}", ""))),
            (
                &[],
                there(
                    vec![
                        service("shop", "api", "ports: [{port: 8000, targetPort: 80}]").replace("name: api", "name: b"),
                    ],
                    ingress("{port: 80}"),
                ),
            ),
            (&[], vec![api(), service("shop", "api", &format!("clusterIP: None, {TO_8080}")), ingress("{port: 80}")]),
            (
                &[],
                vec![api(), service("shop", "api", "ports: [{port: 80, targetPort: unlisted}]"), ingress("{port: 80}")],
            ),
            (&[], vec![app("shop", "api", LISTS_8080), service("other", "api", TO_8080), ingress("{port: 80}")]),
            (&[], vec![api().replace("containers:", "hostNetwork: true, containers:"), lead(), ingress("{port: 80}")]),
            (
                &[],
                vec![
                    app("shop", "api", "{containerPort: 8443}"),
                    service("shop", "api", "ports: [{port: 15008, targetPort: 8443}]"),
                    ingress("{port: 15008}"),
                ],
            ),
            // Another policy allows the target port to the same peers.
            (&[], there(vec![ingress("{port: 8080}").replace("name: p", "name: other")], ingress("{port: 80}"))),
            (
                PORT,
                there(
                    vec![
                        ingress("{port: 8080}")
                            .replace("name: p", "name: other")
                            .replace("from: [{podSelector: {}}]", "from: [{podSelector: {matchLabels: {app: web}}}]"),
                    ],
                    ingress("{port: 80}"),
                ),
            ),
            // A policy that does not isolate allows nothing that was not allowed before.
            (&[], there(vec![], ingress("{port: 80}").replace("ingress:", "policyTypes: [Egress], ingress:"))),
            (EGRESS, there(vec![], egress("{podSelector: {matchLabels: {app: api}}}", "{port: 80}"))),
            (&[], there(vec![], egress("{podSelector: {matchLabels: {app: api}}}", "{port: 8080}"))),
            (&[], there(vec![], egress("{podSelector: {matchLabels: {app: web}}}", "{port: 80}"))),
            (&[], there(vec![], egress("{ipBlock: {cidr: 10.0.0.0/8}}", "{port: 80}"))),
        ],
    );
    let elsewhere =
        |peer: &str| vec![app("data", "api", LISTS_8080), service("data", "api", TO_8080), egress(peer, "{port: 80}")];
    let by_name = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}, podSelector: {}}";
    let by_label = "{namespaceSelector: {matchLabels: {team: data}}, podSelector: {}}";
    check("service-port", &[(EGRESS, elsewhere(by_name)), (&[], elsewhere(by_label))]);
    let cilium = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: \
                  {endpointSelector: {matchLabels: {app: api}}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: \
                  '80', protocol: TCP}]}]}]}\n";
    let calico = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: \
                  {selector: app == 'api', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: \
                  [80]}}]}\n";
    check(
        "service-port",
        &[
            (&["spec.ingress[0].toPorts[0].ports[0]"], there(vec![], cilium.to_owned())),
            (&["spec.ingress[0].destination.ports[0]"], there(vec![], calico.to_owned())),
        ],
    );
}

#[test]
fn the_message_names_the_service_and_the_port_to_allow() {
    let yaml = [app("shop", "api", LISTS_8080), service("shop", "api", TO_8080), ingress("{port: 80}")];
    let found = findings("service-port", &yaml, false, None, &Anonymous).remove(0);
    assert!(found.message.contains("Service shop/api forwards port 80 to TCP 8080"), "{}", found.message);
    assert!(found.help.contains("TCP 8080"), "{}", found.help);
}

#[test]
fn a_message_tells_nobody_of_services_that_they_may_not_list() {
    let peer = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}, podSelector: {}}";
    for (rule, ports) in [("service-port", "{port: 80}"), ("unknown-port-name", "{port: http}")] {
        let there = |namespace: &str, policy: String| {
            [app(namespace, "api", LISTS_8080), service(namespace, "api", TO_8080), policy]
        };
        let found = |yaml: &[String], author: &dyn Author| findings(rule, yaml, true, None, author).len();
        let other = there("data", egress(peer, ports));
        assert_eq!((found(&other, &Anonymous), found(&other, &Stranger)), (1, 0), "{rule}");
        let own = there("shop", ingress(ports));
        assert_eq!((found(&own, &Anonymous), found(&own, &Stranger)), (1, 1), "{rule}");
    }
}

#[test]
fn a_service_that_moves_away_from_its_policy_is_reported() {
    let moved = |before: &str, after: &str, policies: &[String]| {
        let old = objects(&service("shop", "api", &format!("ports: [{before}]"))).remove(0);
        let mut yaml = vec![app("shop", "api", "{containerPort: 8080, name: web}, {containerPort: 9090, name: new}")];
        yaml.push(service("shop", "api", &format!("ports: [{before}]")));
        yaml.extend_from_slice(policies);
        yaml.push(service("shop", "api", &format!("ports: [{after}]")));
        let found = findings("service-port", &yaml, true, Some(&old), &Anonymous);
        found.iter().map(|finding| finding.path.to_string()).collect::<Vec<_>>()
    };
    let (from, to) = ("{port: 80, targetPort: 8080}", "{port: 80, targetPort: 9090}");
    let target = ["spec.ports[0].targetPort"];
    assert_eq!(moved(from, to, &[ingress("{port: 8080}")]), target);
    assert_eq!(
        moved("{port: 80, targetPort: web}", "{port: 80, targetPort: new}", &[ingress("{port: web}")]),
        [""; 0],
        "a name in the policy may be either"
    );
    assert_eq!(moved("{port: 80, targetPort: web}", "{port: 80, targetPort: new}", &[ingress("{port: 8080}")]), target);
    let none: [&str; 0] = [];
    assert_eq!(moved(from, to, &[]), none, "nothing isolates the pods");
    assert_eq!(moved(from, from, &[ingress("{port: 8080}")]), none);
    assert_eq!(moved(from, to, &[ingress("{port: 9090}")]), none);
    assert_eq!(moved(from, to, &[ingress("{port: 443}")]), none, "it was blocked before");
    assert_eq!(
        moved(from, to, &[ingress("{port: 8080}"), ingress("{port: 9090}").replace("name: p", "name: q")]),
        none
    );
}

#[test]
fn a_name_is_that_of_a_container_port() {
    let there = |policy: String| vec![app("shop", "api", LISTS_8080), service("shop", "api", TO_8080), policy];
    let cilium = |side: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: \
             {{endpointSelector: {{matchLabels: {{app: api}}}}, {side}: [{{toPorts: [{{ports: [{{port: http, protocol: \
             TCP}}]}}], PEER: [{{}}]}}]}}\n"
        )
    };
    check(
        "unknown-port-name",
        &[
            (PORT, there(ingress("{port: http}"))),
            (&[], there(ingress("{port: web}"))),
            (PORT, there(ingress("{port: web, protocol: UDP}"))),
            (&[], there(ingress("{port: http-envoy-prom}"))),
            (&[], there(ingress("{port: 80}"))),
            (&[], vec![app("shop", "web", LISTS_8080), ingress("{port: http}")]),
            (&[], there(ingress("{port: http}").replace("app: api", "pod-template-hash: abc"))),
            (
                &[],
                [
                    vec![
                        app("shop", "api", "{containerPort: 1, name: http}")
                            .replace("name: api", "name: other")
                            .replace("app: other", "app: api"),
                    ],
                    there(ingress("{port: http}")),
                ]
                .concat(),
            ),
            (EGRESS, there(egress("{podSelector: {matchLabels: {app: api}}}", "{port: http}"))),
            (&[], there(egress("{ipBlock: {cidr: 10.0.0.0/8}}", "{port: http}"))),
            (&["spec.ingress[0].toPorts[0].ports[0]"], there(cilium("ingress").replace("PEER", "fromEndpoints"))),
            (&[], there(cilium("egress").replace("PEER", "toEndpoints"))),
        ],
    );
    let found = findings("unknown-port-name", &there(ingress("{port: http}")), false, None, &Anonymous).remove(0);
    assert!(found.help.contains("`web`"), "{}", found.help);
    assert!(found.closest.unwrap().contains("Service shop/api"));
}

/// The same policies are in every namespace, and list the usual ports of metrics. `check` on a dump of a cluster sees them.
#[test]
fn the_ports_of_shipped_policies_are_alternatives() {
    let shipped = include_str!("../../policies/baseline/allow-prometheus-scrape.yaml");
    let shipped = shipped.replace("\nmetadata:\n", "\nmetadata:\n  namespace: shop\n");
    let own = shipped.replace("portcullis-baseline-allow", "allow");
    let around = [app("shop", "api", LISTS_8080), service("shop", "api", "ports: [{port: 9090, targetPort: 8080}]")];
    for (rule, findings) in [("unknown-port-name", 2), ("service-port", 0)] {
        assert_eq!(found(rule, &[around.to_vec(), vec![shipped.clone()]].concat()), [""; 0], "{rule}");
        assert_eq!(found(rule, &[around.to_vec(), vec![own.clone()]].concat()).len(), findings, "{rule}");
    }
}
