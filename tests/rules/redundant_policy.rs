//! The rule redundant-policy: where it must be silent, and where it fires.

use crate::case::{calico, ccnp, cluster, cnp, findings, found, found_live, np};
use crate::objects::objects;
use crate::shipped::CONFIGURATION;
use portcullis::engine::judge;
use portcullis::model::Object;
use portcullis::rules::{Change, Occasion};
use portcullis::view::{Owned, View};

const RULE: &str = "redundant-policy";

fn ingress(name: &str, pods: &str, rules: &str) -> String {
    np(name, &format!("{{podSelector: {pods}, policyTypes: [Ingress], ingress: [{rules}]}}"))
}

const A: &str = "{matchLabels: {app: a}}";
const WEB: &str = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}";

#[test]
fn a_policy_whose_rules_others_have() {
    let broad = ingress("broad", "{}", "{from: [{podSelector: {}}], ports: [{port: 80}, {port: 443}]}");
    assert_eq!(found(RULE, &[broad.clone(), ingress("p", A, WEB)]), ["spec"]);
    let other_port = ingress("p", A, "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 81}]}");
    assert!(found(RULE, &[broad.clone(), other_port]).is_empty());
    let more_pods = ingress("broad", A, "{from: [{podSelector: {}}], ports: [{port: 80}]}");
    assert!(found(RULE, &[more_pods, ingress("p", "{}", WEB)]).is_empty(), "fewer pods");
    let mut elsewhere = broad;
    elsewhere = elsewhere.replace("namespace: shop", "namespace: other");
    assert!(found(RULE, &[elsewhere, ingress("p", A, WEB)]).is_empty(), "another namespace");
}

#[test]
fn several_others_together() {
    let [a, b] = ["a", "b"].map(|app| ingress(app, &format!("{{matchLabels: {{app: {app}}}}}"), WEB));
    let both = ingress("p", "{matchExpressions: [{key: app, operator: In, values: [a, b]}]}", WEB);
    assert_eq!(found(RULE, &[a.clone(), b.clone(), both.clone()]), ["spec"]);
    assert!(found(RULE, &[a, both]).is_empty());
    let ports =
        |name: &str, ports: &str| ingress(name, "{}", &format!("{{from: [{{podSelector: {{}}}}], ports: {ports}}}"));
    let yaml = [
        ports("a", "[{port: 80}]"),
        ports("b", "[{port: 443}]"),
        ports("c", "[{port: 9}]"),
        ports("p", "[{port: 80}, {port: 443}]"),
    ];
    let found = findings(RULE, &yaml, true);
    assert_eq!(found.len(), 1);
    let by = "NetworkPolicy shop/a and NetworkPolicy shop/b already";
    assert!(found[0].message.contains(by), "{}", found[0].message);
}

#[test]
fn one_that_isolates_is_not_redundant() {
    // Cilium can let something in without isolating.
    let allows = cnp(
        "allows",
        "{endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingress: [{fromEndpoints: [{matchLabels: {app: web}}], \
         toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]}",
    );
    assert!(found(RULE, &[allows.clone(), ingress("p", A, WEB)]).is_empty());
    let isolates = np("isolates", "{podSelector: {}, policyTypes: [Ingress]}");
    assert_eq!(found(RULE, &[allows, isolates, ingress("p", A, WEB)]), ["spec"]);
    let egress_too = np("p", &format!("{{podSelector: {A}, policyTypes: [Ingress, Egress], ingress: [{WEB}]}}"));
    assert!(found(RULE, &[ingress("broad", "{}", WEB), egress_too]).is_empty(), "it isolates egress");
}

#[test]
fn of_two_that_say_the_same_one_stays() {
    let [a, b] = ["a", "b"].map(|name| ingress(name, "{}", WEB));
    assert_eq!(found(RULE, &[a.clone(), b.clone()]), ["spec"]);
    assert!(found(RULE, &[b.clone(), a.clone()]).is_empty(), "offline each is judged in turn");
    assert_eq!(found_live(RULE, &[b, a]), ["spec"], "on a cluster it is the one at hand");
}

#[test]
fn all_that_are_named_can_go_at_once() {
    let ports = |name: &str, ports: &str| {
        ingress(name, "{}", &format!("{{from: [{{podSelector: {{matchLabels: {{app: web}}}}}}], ports: {ports}}}"))
    };
    let [a, b] = [ports("a", "[{port: 80}]"), ports("b", "[{port: 443}]")];
    let both = ports("z", "[{port: 80}, {port: 443}]");
    assert_eq!(found(RULE, &[a.clone(), b.clone(), both.clone()]), ["spec"]);
    for (others, last) in [([&b, &both], &a), ([&a, &both], &b)] {
        let yaml = [others[0].clone(), others[1].clone(), last.clone()];
        assert!(found(RULE, &yaml).is_empty(), "{last}");
        assert_eq!(found_live(RULE, &yaml), ["spec"], "on a cluster it is the one at hand");
    }
    // One that stays makes up for the others, wherever its name is.
    let more = ports("z", "[{port: 80}, {port: 443}, {port: 9}]");
    assert_eq!(found(RULE, &[b.clone(), more.clone(), a.clone()]), ["spec"]);
    assert!(found(RULE, &[a, b, more]).is_empty());
}

#[test]
fn what_an_open_hatch_allows_is_not_there_to_stay() {
    let all = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}";
    let hatch = np("portcullis-hatch-allow-all", all);
    assert!(found(RULE, &[hatch.clone(), ingress("p", A, WEB)]).is_empty());
    assert!(found_live(RULE, &[hatch, ingress("p", A, WEB)]).is_empty());
    let wide =
        ccnp("{endpointSelector: {}, ingress: [{fromEntities: [all]}]}").replace("name: wide", "name: portcullis-x");
    assert!(found_live(RULE, &[wide, ingress("p", A, WEB)]).is_empty());
    let baseline = ingress("portcullis-baseline-x", "{}", WEB);
    assert_eq!(found_live(RULE, &[baseline, ingress("p", A, WEB)]), ["spec"], "the rest of the baseline stays");
    // Whatever it is called and allows, if it was put there for a hatch.
    let of_folder = ingress("portcullis-open-web", "{}", WEB);
    let object = objects(&of_folder).pop().unwrap();
    let new = objects(&ingress("p", A, WEB)).pop().unwrap();
    let mut view = View::of_cluster();
    let owned = |layer: &str| Owned {
        object: object.id.clone(),
        uid: "u".into(),
        layer: layer.into(),
        fingerprint: 0,
        is_applied: true,
        domain: None,
    };
    view.insert(object.clone());
    for (layer, wanted) in [("baseline", 1), ("hatch", 0)] {
        view.own(&object.id, Some(owned(layer)));
        let change = Change::Write { new: &new, old: None };
        let verdict = judge(&CONFIGURATION, &view, change, Occasion::default());
        let found = verdict.judgements.iter().filter(|judgement| judgement.finding.rule == RULE).count();
        assert_eq!(found, wanted, "{layer}");
    }
}

#[test]
fn a_rule_that_is_not_understood_is_not_redundant() {
    let accept = |peer: &str| format!("{{action: Accept, to: [{peer}]}}");
    let known = accept("{namespaces: {matchLabels: {team: a}}}");
    let yaml = cluster(
        "Admin",
        &format!("subject: {{namespaces: {{}}}}, egress: [{known}, {}]", accept("{services: {x: y}}")),
    );
    assert!(found(RULE, &[yaml]).is_empty());
}

#[test]
fn many_blocks_with_many_exceptions_take_no_time() {
    let rule = |length: u8| {
        let block = |n: u8| {
            let length = if n == 199 { length } else { 25 };
            let excepts = (0..250).map(|m| format!("10.{n}.{m}.0/{length}")).collect::<Vec<_>>().join(", ");
            format!("{{ipBlock: {{cidr: 10.{n}.0.0/16, except: [{excepts}]}}}}")
        };
        format!("{{from: [{}], ports: [{{port: 80}}]}}", (0..200).map(block).collect::<Vec<_>>().join(", "))
    };
    // What the first one leaves out is more, which only the last of its blocks tells.
    let yaml = [ingress("a", "{}", &rule(25)), ingress("p", "{}", &rule(26))];
    let mut read: Vec<Object> = yaml.iter().flat_map(|yaml| objects(yaml)).collect();
    let new = read.pop().unwrap();
    let view = View::of(read);
    let start = std::time::Instant::now();
    let change = Change::Write { new: &new, old: None };
    let verdict = judge(&CONFIGURATION, &view, change, Occasion::default());
    assert!(!verdict.judgements.is_empty());
    // So that it does not hang: how long it takes is for benchmarks.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn what_is_not_proved_is_not_claimed() {
    let lookups = |rules: &str| {
        let egress = "toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system}}]";
        format!(
            "{{endpointSelector: {{}}, egress: [{{{egress}, toPorts: [{{ports: [{{port: '53', protocol: UDP}}]{rules}}}]}}]}}"
        )
    };
    let filtered = ", rules: {dns: [{matchPattern: '*'}]}";
    assert_eq!(found(RULE, &[cnp("a", &lookups("")), cnp("b", &lookups(""))]), ["spec"]);
    assert!(found(RULE, &[cnp("a", &lookups("")), cnp("b", &lookups(filtered))]).is_empty(), "names are learned");
    assert!(found(RULE, &[cnp("a", &lookups(filtered)), cnp("b", &lookups(""))]).is_empty());
    // Blocks of addresses are no pods in Cilium.
    let block = np("a", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}]}");
    assert!(found(RULE, &[block, ingress("p", "{}", WEB)]).is_empty());
    let default_deny = np("b", "{podSelector: {}, policyTypes: [Ingress]}");
    assert!(found(RULE, &[np("a", "{podSelector: {}, policyTypes: [Ingress]}"), default_deny]).is_empty());
    let unnamed = |name: &str| ingress(name, "{}", WEB).replace(", namespace: shop", "");
    assert!(found(RULE, &[unnamed("a"), unnamed("b")]).is_empty(), "who knows where they go");
    let denies = cnp(
        "b",
        "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}], ingressDeny: [{fromEndpoints: [{matchLabels: {a: b}}]}]}",
    );
    assert!(found(RULE, &[cnp("a", "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}"), denies]).is_empty());
    let own = ingress("portcullis-b", "{}", WEB);
    assert!(found(RULE, &[ingress("a", "{}", WEB), own]).is_empty(), "the controller's own");
}

#[test]
fn rules_of_one_policy() {
    let narrow = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}";
    let broad = "{from: [{podSelector: {}}], ports: [{port: 1, endPort: 100}]}";
    assert_eq!(found(RULE, &[ingress("p", "{}", &format!("{broad}, {narrow}"))]), ["spec.ingress[1]"]);
    assert_eq!(found(RULE, &[ingress("p", "{}", &format!("{narrow}, {broad}"))]), ["spec.ingress[0]"]);
    assert_eq!(found(RULE, &[ingress("p", "{}", &format!("{narrow}, {narrow}"))]), ["spec.ingress[1]"]);
    let named = "{from: [{podSelector: {}}], ports: [{port: http}]}";
    assert!(found(RULE, &[ingress("p", "{}", &format!("{broad}, {named}"))]).is_empty(), "who knows its number");
    let udp = "{from: [{podSelector: {}}], ports: [{port: 80, protocol: UDP}]}";
    assert!(found(RULE, &[ingress("p", "{}", &format!("{broad}, {udp}"))]).is_empty());
}

#[test]
fn rules_that_have_an_order() {
    let rule = |action: &str, selector: &str| {
        format!(
            "{{action: {action}, protocol: TCP, source: {{selector: \"{selector}\"}}, destination: {{ports: [80]}}}}"
        )
    };
    let policy =
        |rules: &[String]| calico(&format!("{{selector: all(), types: [Ingress], ingress: [{}]}}", rules.join(", ")));
    let (all, web) = ("all()", "app == 'web'");
    assert_eq!(found(RULE, &[policy(&[rule("Allow", all), rule("Allow", web)])]), ["spec.ingress[1]"]);
    assert!(found(RULE, &[policy(&[rule("Allow", web), rule("Allow", all)])]).is_empty());
    assert_eq!(found(RULE, &[policy(&[rule("Allow", all), rule("Deny", web)])]), ["spec.ingress[1]"]);
    assert!(found(RULE, &[policy(&[rule("Log", all), rule("Allow", web)])]).is_empty());
}

#[test]
fn thousands_of_rules_are_given_up() {
    let many = |count: usize| {
        let rules = (0..count)
            .map(|n| format!("{{from: [{{podSelector: {{matchLabels: {{app: a{n}}}}}}}], ports: [{{port: 80}}]}}"));
        rules.collect::<Vec<_>>().join(", ")
    };
    let start = std::time::Instant::now();
    assert!(found(RULE, &[ingress("a", "{}", &many(2_000)), ingress("b", A, &many(2_000))]).is_empty());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
