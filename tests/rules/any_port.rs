//! The rule any-port: ports that add up, in one policy and in several.

use crate::case::{cnp, findings, found, np};

const RULE: &str = "any-port";

fn of(one: &str, other: &str) -> Vec<String> {
    let low = "ports: [{port: 1, endPort: 32767}]";
    let high = "ports: [{port: 32768, endPort: 65535}]";
    let rule = |peers: &str, ports| {
        if peers.is_empty() { format!("{{{ports}}}") } else { format!("{{from: [{peers}], {ports}}}") }
    };
    let rules = format!("{}, {}", rule(one, low), rule(other, high));
    found(RULE, &[np("p", &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}"))])
}

#[test]
fn ports_add_up_for_each_peer_however_it_is_written() {
    let (own, all) = ("{podSelector: {}}", "{namespaceSelector: {}}");
    let (web, v4) = ("{podSelector: {matchLabels: {app: web}}}", "{ipBlock: {cidr: 0.0.0.0/0}}");
    let named = "{podSelector: {}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}";
    let halves = "{ipBlock: {cidr: 10.0.0.0/9}}, {ipBlock: {cidr: 10.128.0.0/9}}";
    for (one, other) in [
        ("", ""),
        ("", &*format!("{v4}, {all}")),
        (&*format!("{v4}, {all}"), ""),
        (&*format!("{own}, {all}"), &*format!("{all}, {own}")),
        (own, all),
        (all, own),
        (own, named),
        (web, own),
        ("{ipBlock: {cidr: 10.0.0.0/8}}", halves),
    ] {
        assert_eq!(of(one, other), ["spec.ingress[1]"], "{one} and {other}");
    }
    for (one, other) in [
        (web, "{podSelector: {matchLabels: {app: db}}}"),
        (own, v4),
        ("{ipBlock: {cidr: 10.0.0.0/9}}", "{ipBlock: {cidr: 10.128.0.0/9}}"),
    ] {
        assert_eq!(of(one, other), [""; 0], "{one} and {other}");
    }
}

#[test]
fn of_what_adds_up_the_peer_is_named_that_it_does_for() {
    let (web, db) = ("{podSelector: {matchLabels: {app: web}}}", "{podSelector: {matchLabels: {app: db}}}");
    let rules = format!(
        "{{from: [{web}, {db}], ports: [{{port: 1, endPort: 32767}}]}}, {{from: [{web}], ports: [{{port: 32768, endPort: \
         65535}}]}}"
    );
    let policy = np("p", &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}"));
    let found = findings(RULE, &[policy], false);
    assert_eq!(
        found[0].message,
        "ingress from pods with app=web in namespace shop is allowed on every TCP port, by several rules together"
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn several_specs_of_one_object_add_up_where_they_are_for_the_same_pods() {
    let of = |one: &str, other: &str| {
        let spec = |pods: &str, first: u16, last: u16| {
            let port = format!("{{port: '{first}', endPort: {last}, protocol: TCP}}");
            format!("{{endpointSelector: {pods}, ingress: [{{fromEntities: [all], toPorts: [{{ports: [{port}]}}]}}]}}")
        };
        let specs = format!("[{}, {}]", spec(one, 1, 32_767), spec(other, 32_768, 65_535));
        let object = cnp("p", "{}").replace("spec: {}", &format!("specs: {specs}"));
        found(RULE, &[object])
    };
    let (web, db) = ("{matchLabels: {app: web}}", "{matchLabels: {app: db}}");
    assert_eq!(of("{}", "{}"), ["specs[1].ingress[0]"]);
    assert_eq!(of(web, "{}"), ["specs[1].ingress[0]"]);
    assert_eq!(of(web, db), [""; 0]);
}

/// A policy that allows these ports to a peer.
fn range(name: &str, pods: &str, from: &str, first: u16, last: u16) -> String {
    let ports = format!("ports: [{{port: {first}, endPort: {last}}}]");
    np(name, &format!("{{podSelector: {pods}, policyTypes: [Ingress], ingress: [{{from: [{from}], {ports}}}]}}"))
}

#[test]
fn ports_of_all_policies_for_the_same_pods_add_up() {
    let (web, db) = ("{podSelector: {matchLabels: {app: web}}}", "{podSelector: {matchLabels: {app: db}}}");
    let (app, other) = ("{matchLabels: {app: app}}", "{matchLabels: {app: other}}");
    let low = range("low", "{}", web, 1, 30_000);
    for (pods, first, last, wanted) in [
        ("{}", 30_001, 65_535, 1),
        (app, 30_001, 60_000, 1),
        ("{}", 30_001, 32_768, 0),
        ("{}", 30_001, 32_769, 1),
        ("{}", 8080, 8080, 0),
    ] {
        let found = found(RULE, &[low.clone(), range("high", pods, web, first, last)]);
        assert_eq!(found.len(), wanted, "{pods} {first}-{last}: {found:?}");
    }
    assert!(found(RULE, &[low.clone(), range("high", "{}", db, 30_001, 60_000)]).is_empty(), "another peer");
    let narrow = range("low", app, web, 1, 30_000);
    assert_eq!(found(RULE, &[narrow.clone(), range("high", "{}", web, 30_001, 60_000)]).len(), 1, "for some pods");
    assert!(found(RULE, &[narrow, range("high", other, web, 30_001, 60_000)]).is_empty(), "other pods");
    let halves = [range("low", "{}", web, 1, 32_767), range("high", "{}", web, 32_768, 65_535)];
    let [found] = &findings(RULE, &halves, false)[..] else { panic!("one") };
    assert_eq!(
        found.message,
        "ingress from pods with app=web in namespace shop is allowed on every TCP port, together with NetworkPolicy \
         shop/low"
    );
}

#[test]
fn who_adds_little_to_what_others_open_is_not_blamed() {
    let web = "{podSelector: {matchLabels: {app: web}}}";
    let wide = range("wide", "{}", web, 1, 60_000);
    assert!(found(RULE, &[wide.clone(), range("p", "{}", web, 65_000, 65_000)]).is_empty());
    assert!(found(RULE, &[wide.clone(), range("p", "{}", web, 65_000, 65_015)]).is_empty());
    assert_eq!(found(RULE, &[wide.clone(), range("p", "{}", web, 65_000, 65_016)]).len(), 1);
    assert!(found(RULE, &[wide, range("p", "{}", web, 100, 30_000)]).is_empty(), "nothing new");
    let slices: Vec<String> =
        (0..70).map(|n| range(&format!("s{n:02}"), "{}", web, 1 + n * 900, 900 + n * 900)).collect();
    assert_eq!(found(RULE, &slices).len(), 1, "many slices");
}
