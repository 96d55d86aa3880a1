//! The rule dissolved-baseline: what all policies of a namespace open together.

use crate::case::{
    PROFILE, calico, ccnp, cluster, cnp, deployment, findings, found, found_live, gnp, namespace, np, object, pod,
};

const RULE: &str = "dissolved-baseline";

/// A policy that allows these ports to anywhere.
fn open(name: &str, peers: &str, first: u16, last: u16) -> String {
    let ports = format!("ports: [{{port: {first}, endPort: {last}, protocol: UDP}}]");
    np(name, &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peers}], {ports}}}]}}"))
}

#[test]
fn a_share_of_the_ports_is_enough_however_it_is_split() {
    let v4 = "{ipBlock: {cidr: 0.0.0.0/0}}";
    let found = |policies: &[String]| {
        let mut all = vec![namespace("shop", PROFILE)];
        all.extend_from_slice(policies);
        found(RULE, &all).len()
    };
    assert_eq!(found(&[open("a", v4, 1, 16_384)]), 0, "a quarter");
    assert_eq!(found(&[open("a", v4, 1, 16_385)]), 1);
    assert_eq!(found(&[open("a", v4, 10_000, 20_000)]), 0, "media servers");
    assert_eq!(found(&[open("a", v4, 1, 9_000), open("b", v4, 9_001, 18_000)]), 1, "two policies");
    assert_eq!(found(&[open("a", v4, 1, 16_384), open("b", v4, 443, 443)]), 0, "nothing new");
    assert_eq!(found(&[open("a", v4, 1, 16_384), open("b", v4, 20_000, 20_015)]), 0, "little");
    let halves = ["{ipBlock: {cidr: 0.0.0.0/1}}", "{ipBlock: {cidr: 128.0.0.0/1}}"];
    assert_eq!(found(&[open("a", halves[0], 1, 20_000), open("b", halves[1], 1, 20_000)]), 1, "by addresses");
    assert_eq!(found(&[open("a", halves[0], 1, 20_000), open("b", halves[1], 20_001, 40_000)]), 0);
    let mixed = [open("a", halves[0], 1, 20_000), open("b", halves[1], 1, 10_000), open("c", v4, 30_000, 36_500)];
    assert_eq!(found(&mixed), 1, "by both");
    assert_eq!(found(&mixed[..2]), 0);
    let without = |net: &str| format!("{{ipBlock: {{cidr: 0.0.0.0/0, except: [{net}]}}}}");
    let [doc, class_e] = ["192.0.2.0/24", "240.0.0.0/4"].map(without);
    assert_eq!(found(&[open("a", &doc, 1, 9_000), open("b", &class_e, 9_001, 18_000)]), 1, "but little");
    assert_eq!(found(&[open("a", "{podSelector: {}}", 1, 60_000)]), 0, "not to anywhere");
}

fn judged(spec: &str) -> Vec<String> {
    found(RULE, &[namespace("shop", PROFILE), np("p", spec)])
}

#[test]
fn all_peers_or_all_addresses_on_every_port() {
    let egress = |rule: &str| judged(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{rule}]}}"));
    for wide in [
        "{}",
        "{ports: [{port: 1, endPort: 65535}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}",
        "{to: [{ipBlock: {cidr: '::/0'}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [127.0.0.0/8, 224.0.0.0/4, 0.0.0.0/8]}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.1/32, 10.0.0.0/25]}}]}",
        "{to: [{ipBlock: {cidr: '::/0', except: ['2001:db8::1/128']}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/24, 25.0.0.0/8]}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [240.0.0.0/4]}}]}",
        "{to: [{ipBlock: {cidr: '::/0', except: ['fd00::/120']}}]}",
        "{to: [{ipBlock: {cidr: '2000::/3'}}, {ipBlock: {cidr: 'fc00::/7'}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}]}",
    ] {
        assert_eq!(egress(wide), ["spec.egress[0]"], "{wide}");
    }
    for narrow in [
        "{ports: [{port: 443}]}",
        "{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}",
        "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [0.0.0.0/4]}}]}",
        "{to: [{ipBlock: {cidr: '::/0', except: ['fd00::/8']}}]}",
        "{to: [{namespaceSelector: {}}]}",
        "{to: [{podSelector: {}}]}",
    ] {
        assert!(egress(narrow).is_empty(), "{narrow}");
    }
}

/// A policy that allows these ports to anywhere but one block, for pods with one of these values of the label `app`.
fn open_for(name: &str, values: &str, except: &str, first: u16, last: u16) -> String {
    let ports = format!("ports: [{{port: {first}, endPort: {last}}}]");
    let peer = format!("to: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [{except}]}}}}]");
    let pods = format!("{{matchExpressions: [{{key: app, operator: In, values: [{values}]}}]}}");
    np(name, &format!("{{podSelector: {pods}, policyTypes: [Egress], egress: [{{{peer}, {ports}}}]}}"))
}

#[test]
fn pods_that_several_policies_have_in_common_lose_their_baseline() {
    let found = |policies: &[String]| {
        let mut all = vec![namespace("shop", PROFILE)];
        all.extend_from_slice(policies);
        findings(RULE, &all, false)
    };
    let [a, b] = [("a", "px, a", "192.0.2.0/24"), ("b", "px, b", "25.0.0.0/8")];
    let halves = [open_for(a.0, a.1, a.2, 1, 9_000), open_for(b.0, b.1, b.2, 9_001, 18_000)];
    let [one] = &found(&halves)[..] else { panic!("one") };
    assert_eq!(
        one.message,
        "egress to 0.0.0.0/0 except 25.0.0.0/8 is allowed for pods with app in (px,b),app in (px,a) in namespace \
         shop on 18000 TCP ports, together with NetworkPolicy shop/a; this cancels the isolation that profile \
         internal gives namespace shop"
    );
    let apart = [open_for("a", "a", a.2, 1, 9_000), open_for("b", "b", b.2, 9_001, 18_000)];
    assert!(found(&apart).is_empty(), "no pod is in both");
    let private = [open_for("a", a.1, "10.0.0.0/8", 1, 9_000), open_for("b", b.1, b.2, 9_001, 18_000)];
    assert!(found(&private).is_empty(), "private addresses are closed on half of the ports");
    let mut many: Vec<String> = (0..40).map(|n| open_for(&format!("n{n}"), &format!("n{n}"), a.2, 1, 16_000)).collect();
    many.extend(halves);
    assert_eq!(found(&many).len(), 1, "beside many that are for other pods");
}

#[test]
fn policies_of_the_cluster_meet_in_a_namespace_with_a_profile() {
    let open = |name: &str, namespaces: &str, ports: &str| {
        let rule = format!("{{action: Allow, protocol: TCP, destination: {{ports: ['{ports}']}}}}");
        let spec = format!("{{namespaceSelector: \"{namespaces}\", types: [Egress], egress: [{rule}]}}");
        object("projectcalico.org/v3", "GlobalNetworkPolicy", &format!("name: {name}"), &spec)
    };
    let judged = |labels: &str, selector: &str| {
        let shop = namespace("shop", labels);
        found(RULE, &[shop, open("a", selector, "1:9000"), open("b", "projectcalico.org/name == 'shop'", "9001:18000")])
    };
    let team = "team == 'web'";
    assert_eq!(judged(&format!("{PROFILE}, team: web"), team).len(), 1);
    assert!(judged(&format!("{PROFILE}, team: data"), team).is_empty(), "it is not for namespace shop");
    assert!(judged("team: web", team).is_empty(), "without a profile");
}

#[test]
fn every_source_port_is_no_condition() {
    let judged = |ports: &str| {
        let rule = format!("{{action: Allow, protocol: TCP, source: {{ports: [{ports}]}}}}");
        found(RULE, &[namespace("shop", PROFILE), calico(&format!("{{types: [Egress], egress: [{rule}]}}"))])
    };
    assert_eq!(judged("'1:65535'"), ["spec.egress[0]"]);
    assert_eq!(judged("'0:1000', '1001:65535'"), ["spec.egress[0]"]);
    assert!(judged("'1024:65535'").is_empty());
}

#[test]
fn some_of_the_pods_are_named() {
    let yaml = [namespace("shop", PROFILE), np("p", "{podSelector: {matchLabels: {app: a}}, ingress: [{}]}")];
    let found = findings(RULE, &yaml, false);
    assert!(found[0].message.contains("pods with app=a in namespace shop"), "{}", found[0].message);
}

#[test]
fn only_where_a_profile_is_known() {
    let open = np("p", "{podSelector: {}, ingress: [{}]}");
    for around in [
        vec![],
        vec![namespace("shop", "network-policy.portcullis.dev/profile: unknown")],
        vec![namespace("other", PROFILE)],
    ] {
        let yaml: Vec<String> = around.into_iter().chain([open.clone()]).collect();
        assert!(found(RULE, &yaml).is_empty(), "{yaml:?}");
    }
    let own = np("portcullis-hatch", "{podSelector: {}, ingress: [{}]}");
    assert!(found(RULE, &[namespace("shop", PROFILE), own]).is_empty());
}

#[test]
fn policies_of_the_cluster_that_mean_such_a_namespace() {
    let open = |pods: &str| ccnp(&format!("{{endpointSelector: {pods}, egress: [{{toEntities: [all]}}]}}"));
    let with = |labels: &str| format!("{{matchLabels: {{{labels}}}}}");
    let shop = namespace("shop", &format!("{PROFILE}, team: web"));
    assert_eq!(found(RULE, &[shop.clone(), open("{}")]), ["spec.egress[0]"]);
    assert!(found(RULE, &[open("{}")]).is_empty(), "no such namespace is known");
    let of = |key: &str, value: &str| with(&format!("'io.cilium.k8s.namespace.labels.{key}': {value}"));
    assert_eq!(found(RULE, &[shop.clone(), open(&of("team", "web"))]).len(), 1);
    assert!(found(RULE, &[shop.clone(), open(&of("team", "data"))]).is_empty());
    let by_profile = of("network-policy.portcullis.dev/profile", "internal");
    assert_eq!(found(RULE, &[open(&by_profile)]).len(), 1, "it can mean no other");
    let accepts = |tier: &str| {
        cluster(tier, "subject: {namespaces: {}}, egress: [{action: Accept, to: [{networks: [0.0.0.0/0]}]}]")
    };
    assert_eq!(found(RULE, &[shop.clone(), accepts("Admin")]).len(), 1);
    assert!(found(RULE, &[shop, accepts("Baseline")]).is_empty(), "it is asked only after the profile");
}

#[test]
fn policies_of_the_cluster_that_are_for_none_of_its_pods() {
    let shop = namespace("shop", &format!("{PROFILE}, team: web"));
    let open =
        |selector: &str| gnp(&format!("{{selector: \"{selector}\", types: [Egress], egress: [{{action: Allow}}]}}"));
    for nodes in ["!has(projectcalico.org/namespace) && has(kubernetes-host)", "has(kubernetes-host)"] {
        assert!(found(RULE, &[shop.clone(), pod("shop", "a", "app: web"), open(nodes)]).is_empty(), "{nodes}");
    }
    let web = open("app == 'web'");
    assert!(found(RULE, &[shop.clone(), web.clone()]).is_empty(), "no such pod is known there");
    assert!(found(RULE, &[shop.clone(), pod("other", "a", "app: web"), web.clone()]).is_empty());
    assert_eq!(found(RULE, &[shop.clone(), deployment("app: web", ""), web]), ["spec.egress[0]"]);
    assert_eq!(found(RULE, &[shop.clone(), open("all()")]), ["spec.egress[0]"]);
    let named = open("projectcalico.org/namespace == 'shop' && app == 'web'");
    assert_eq!(found(RULE, &[shop.clone(), named]), ["spec.egress[0]"], "it names the namespace");
    let never = np(
        "p",
        "{podSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: DoesNotExist}]}, egress: [{}]}",
    );
    assert!(found(RULE, &[shop, never]).is_empty(), "it is for no pod at all");
}

#[test]
fn rules_that_let_everything_through_together() {
    let judged = |spec: &str| found(RULE, &[namespace("shop", PROFILE), np("p", spec)]);
    let egress = |rules: &[&str]| {
        let rules: Vec<String> =
            rules.iter().map(|cidr| format!("{{to: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}")).collect();
        judged(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{}]}}", rules.join(", ")))
    };
    assert_eq!(egress(&["0.0.0.0/1", "128.0.0.0/1"]), ["spec.egress[1]"]);
    assert_eq!(egress(&["::/1", "8000::/1"]), ["spec.egress[1]"]);
    assert!(egress(&["0.0.0.0/1", "128.0.0.0/2"]).is_empty());
    assert!(egress(&["0.0.0.0/1", "8000::/1"]).is_empty());
    let in_one = "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: '::/1'}}, {ipBlock: {cidr: '8000::/1'}}]}]}";
    assert_eq!(judged(in_one), ["spec.egress[0]"]);
    let on_ports = "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/1}}]}, {to: [{ipBlock: {cidr: \
        128.0.0.0/1}}], ports: [{port: 443}]}]}";
    assert!(judged(on_ports).is_empty(), "the other half only on one port");
}

#[test]
fn a_rule_that_is_never_asked_dissolves_nothing() {
    let judged = |rules: &str| {
        let policy = calico(&format!("{{selector: all(), types: [Egress], egress: [{rules}]}}"));
        found(RULE, &[namespace("shop", PROFILE), policy])
    };
    assert!(judged("{action: Deny}, {action: Allow}").is_empty());
    assert_eq!(judged("{action: Pass}, {action: Allow}"), ["spec.egress[0]"], "of both it is the first one");
    assert_eq!(judged("{action: Allow}, {action: Deny}"), ["spec.egress[0]"]);
    assert_eq!(judged("{action: Log}, {action: Allow}"), ["spec.egress[1]"]);
    let one_block = "{action: Deny, destination: {nets: [10.0.0.0/8]}}, {action: Allow}";
    assert_eq!(judged(one_block), ["spec.egress[1]"], "what is left is everything else");
    let denies = cnp("p", "{endpointSelector: {}, egress: [{toEntities: [all]}], egressDeny: [{toEntities: [all]}]}");
    assert!(found(RULE, &[namespace("shop", PROFILE), denies]).is_empty(), "wherever it is written");
}

#[test]
fn a_pass_in_the_last_stage_leaves_it_to_nobody() {
    let pass = |tier: &str| {
        let side = "[{action: Pass}]";
        calico(&format!("{{tier: {tier}, types: [Ingress, Egress], ingress: {side}, egress: {side}}}"))
    };
    let judged = |around: &[String], tier: &str| {
        let mut yaml = vec![namespace("shop", PROFILE)];
        yaml.extend(around.iter().cloned().chain([pass(tier)]));
        found(RULE, &yaml)
    };
    let both = ["spec.egress[0]", "spec.ingress[0]"];
    assert_eq!(judged(&[], "default"), both);
    assert!(judged(&[], "security").is_empty(), "nobody knows whether it comes after");
    let security =
        |order: u32| object("projectcalico.org/v3", "Tier", "name: security", &format!("{{order: {order}}}"));
    assert!(judged(&[security(10)], "security").is_empty(), "what isolates comes after it");
    let last = gnp("{tier: security, types: [Ingress, Egress]}");
    assert!(judged(&[security(2_000_000), last.clone()], "default").is_empty(), "another tier isolates after it");
    assert_eq!(judged(&[security(10), last], "default"), both, "not if that is asked before");
    let baseline = cluster(
        "Baseline",
        "subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}]",
    );
    assert_eq!(judged(&[baseline], "default"), both, "pods are not denied");
    let policy = [namespace("shop", PROFILE), pass("default")];
    assert!(findings(RULE, &policy, false)[0].message.contains(" is passed on"));
}

#[test]
fn rules_for_addresses_of_no_pod_dissolve_nothing() {
    let judged = |nets: &str| {
        let rule = format!("{{action: Allow, destination: {{nets: [{nets}]}}}}");
        found(RULE, &[namespace("shop", PROFILE), calico(&format!("{{types: [Ingress], ingress: [{rule}]}}"))])
    };
    assert!(judged("127.0.0.0/8").is_empty());
    assert_eq!(judged("127.0.0.0/8, 10.0.0.0/8"), ["spec.ingress[0]"]);
}

#[test]
fn namespaces_without_the_profile_are_open() {
    let open = np("p", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}");
    assert!(found(RULE, &[namespace("shop", "team: web"), open.clone()]).is_empty());
    assert!(found_live(RULE, &[namespace("shop", "team: web"), open.clone()]).is_empty());
    assert!(found(RULE, &[open]).is_empty(), "of its namespace nothing is known");
}

#[test]
fn requests_that_are_filtered_are_not_everything() {
    let filtered = cnp(
        "p",
        "{endpointSelector: {}, egress: [{toEntities: [all], toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}]}",
    );
    assert!(found(RULE, &[namespace("shop", PROFILE), filtered]).is_empty());
}
