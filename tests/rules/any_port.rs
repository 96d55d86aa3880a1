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

/// A selector of pods with one of these values of the label `app`.
fn app(values: &str) -> String {
    format!("{{matchExpressions: [{{key: app, operator: In, values: [{values}]}}]}}")
}

#[test]
fn selectors_that_overlap_in_part_meet_in_one_pod() {
    let web = "{podSelector: {matchLabels: {app: web}}}";
    let quarters = |pods: [&str; 4]| {
        let policies: Vec<String> = (0_u16..)
            .zip(pods)
            .map(|(n, pods)| range(&format!("p{n}"), pods, web, 1 + n * 16_384, 16_383 + n * 16_384))
            .collect();
        findings(RULE, &policies, false)
    };
    let [a, b, c, d] = ["px, a", "px, b", "px, c", "px, d"].map(app);
    assert_eq!(quarters([&a, &b, &c, &d]).len(), 1, "pods with app=px");
    let alone = ["a", "b", "c", "d"].map(app);
    assert!(quarters([&alone[0], &alone[1], &alone[2], &alone[3]]).is_empty(), "no pod is in two of them");
    let [a, b, c, d] = ["a, b", "b, c", "c, d", "d, a"].map(app);
    assert!(quarters([&a, &b, &c, &d]).is_empty(), "each pod is in two of them, which open half of all ports");
    let labels = ["a", "b", "c", "d"].map(|key| format!("{{matchLabels: {{{key}: x}}}}"));
    let found = quarters([&labels[0], &labels[1], &labels[2], &labels[3]]);
    assert_eq!(found.len(), 1, "a pod can have all labels");
    assert_eq!(
        found[0].message,
        "ingress from pods with app=web in namespace shop is allowed on 49149 of the 65535 TCP ports for pods with \
         d=x,a=x,b=x in namespace shop, together with NetworkPolicy shop/p0, NetworkPolicy shop/p1"
    );
    let absent = "{matchExpressions: [{key: a, operator: DoesNotExist}]}";
    assert!(quarters([&labels[0], absent, &alone[0], &alone[1]]).is_empty());
}

#[test]
fn a_wide_policy_beside_narrow_ones_is_fine() {
    let web = "{podSelector: {matchLabels: {app: web}}}";
    let mut policies = vec![range("wide", &app("ftp"), web, 20_000, 50_000)];
    policies.extend((0..9).map(|n| range(&format!("p{n}"), "{}", web, 8_000 + n, 8_000 + n)));
    policies.push(range("other", &app("rtp"), web, 10_000, 19_999));
    assert!(found(RULE, &policies).is_empty());
}

#[test]
fn peers_that_overlap_in_part_count_where_they_do() {
    let pods = |values: &str| format!("{{podSelector: {}}}", app(values));
    let except = |net: &str| format!("{{ipBlock: {{cidr: 0.0.0.0/0, except: [{net}]}}}}");
    let namespaces = |key: &str| format!("{{namespaceSelector: {{matchLabels: {{{key}: x}}}}}}");
    for (one, other) in [
        (pods("b, c"), pods("c, d")),
        (except("192.0.2.0/24"), except("198.51.100.0/24")),
        (except("192.0.2.1/32"), except("240.0.0.0/4")),
        ("{ipBlock: {cidr: 0.0.0.0/1}}".to_owned(), except("10.0.0.0/8")),
        ("{ipBlock: {cidr: '2001:db8::/32'}}".to_owned(), "{ipBlock: {cidr: '2001:db8:1::/48'}}".to_owned()),
        (namespaces("team"), namespaces("stage")),
        (pods("a"), "{namespaceSelector: {}, podSelector: {matchLabels: {tier: x}}}".to_owned()),
    ] {
        assert_eq!(of(&one, &other), ["spec.ingress[1]"], "{one} and {other}");
    }
    for (one, other) in [
        (pods("b"), pods("c, d")),
        ("{ipBlock: {cidr: 10.0.0.0/8}}".to_owned(), except("10.0.0.0/8")),
        ("{ipBlock: {cidr: 10.0.0.0/9}}".to_owned(), except("10.0.0.0/8")),
        (
            pods("a"),
            "{podSelector: {}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: web}}}".to_owned(),
        ),
        (pods("a"), except("192.0.2.0/24")),
        ("{ipBlock: {cidr: 169.254.0.0/16}}".to_owned(), "{ipBlock: {cidr: 169.254.0.0/16}}".to_owned()),
    ] {
        assert_eq!(of(&one, &other), [""; 0], "{one} and {other}");
    }
}

#[test]
fn entities_hold_addresses_and_pods() {
    let of = |one: &str, other: &str| {
        let spec = |name: &str, peers: &str, first: u16, last: u16| {
            let ports = format!("[{{ports: [{{port: '{first}', endPort: {last}, protocol: TCP}}]}}]");
            let spec = format!("{{endpointSelector: {{}}, egress: [{{{peers}, toPorts: {ports}}}]}}");
            cnp(name, &spec)
        };
        found(RULE, &[spec("a", one, 1, 32_768), spec("b", other, 32_769, 65_535)]).len()
    };
    let cidr = "toCIDR: [192.0.2.0/24]";
    let pods = "toEndpoints: [{matchLabels: {app: web}}]";
    assert_eq!(of("toEntities: [world]", cidr), 1);
    assert_eq!(of("toEntities: [cluster]", pods), 1);
    assert_eq!(of("toEntities: [cluster]", cidr), 0);
    assert_eq!(of("toEntities: [world]", pods), 0);
}
