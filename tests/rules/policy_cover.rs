//! The proof that some policies allow all that another one allows.

use crate::case::{cluster, cnp, np};
use crate::objects::objects;
use portcullis::model::{
    Direction, End, Endpoint, Labels, Names, Object, Policy, Protocol, Question, Subject, Traffic, ask, uncovered,
};
use portcullis::view::View;
use proptest::prelude::*;

fn policies(yaml: &[String]) -> Vec<Object> {
    yaml.iter().flat_map(|yaml| objects(yaml)).collect()
}

fn of(objects: &[Object]) -> Vec<&Policy> {
    objects.iter().flat_map(Object::policies).collect()
}

/// The places of the rules that are not covered.
fn cut(before: &[String], after: &[String]) -> Vec<String> {
    let (before, after) = (policies(before), policies(after));
    uncovered(&of(&before), &of(&after), &View::default())
        .unwrap()
        .iter()
        .map(|cut| format!("{} {}", cut.policy.object.name, cut.rule.path))
        .collect()
}

fn to(name: &str, ports: &str) -> String {
    np(name, &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{{port: {ports}}}]}}]}}"))
}

#[test]
fn what_a_change_of_policies_cuts() {
    assert!(cut(&[to("a", "443")], &[to("b", "443")]).is_empty());
    assert_eq!(cut(&[to("a", "443"), to("b", "80")], &[to("c", "443")]), ["b spec.egress[0]"]);
    assert!(cut(&[to("a", "443")], &[]).is_empty(), "nothing isolates any more");
    let ingress_only = np("b", "{podSelector: {}, policyTypes: [Ingress]}");
    assert!(cut(&[to("a", "443")], &[ingress_only]).is_empty());
    let others = np("b", "{podSelector: {matchLabels: {app: x}}, policyTypes: [Egress]}");
    assert_eq!(cut(&[to("a", "443")], &[others]).len(), 1, "some of the pods are isolated");
}

#[test]
fn denials_and_stages_are_not_overlooked() {
    let denies = cnp("denies", "{endpointSelector: {}, egressDeny: [{toEntities: [world]}]}");
    assert_eq!(cut(&[to("a", "443")], &[to("b", "443"), denies.clone()]).len(), 1);
    assert!(cut(&[to("a", "443"), denies.clone()], &[to("b", "443"), denies]).is_empty(), "it was there before");
    let late =
        cluster("Baseline", "subject: {namespaces: {}}, egress: [{action: Accept, to: [{networks: [0.0.0.0/0]}]}]");
    let isolates = np("isolates", "{podSelector: {}, policyTypes: [Egress]}");
    let block = np("a", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}");
    assert_eq!(cut(&[block], &[late, isolates]).len(), 1, "it is asked too late");
}

/// Which requests a proxy lets through is not told by the model, so that nothing is proved of it.
#[test]
fn other_requests_are_not_the_same() {
    let of = |name: &str, rules: &str| {
        let ports = format!("[{{ports: [{{port: '80', protocol: TCP}}], rules: {{{rules}}}}}]");
        cnp(name, &format!("{{endpointSelector: {{}}, egress: [{{toEntities: [world], toPorts: {ports}}}]}}"))
    };
    let (get_a, get_b) = (of("a", "http: [{path: /a}]"), of("a", "http: [{path: /b}]"));
    assert_eq!(cut(&[get_a], &[get_b]).len(), 1);
    let lookups = |name| of(name, "dns: [{matchName: a.example}]").replace("TCP", "UDP").replace("'80'", "'53'");
    assert!(cut(&[lookups("a")], &[lookups("b")]).is_empty());
}

/// Two hundred policies that all deny something are looked at in no time, or not to the end: else this does not return.
#[test]
fn many_denials_take_no_time() {
    let denying = |number: usize| {
        let ports = format!("toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]", number + 1);
        let rules =
            format!("egress: [{{toEntities: [world], {ports}}}], egressDeny: [{{toEntities: [host], {ports}}}]");
        cnp(&format!("p{number}"), &format!("{{endpointSelector: {{}}, {rules}}}"))
    };
    let all: Vec<String> = (0..200).map(denying).collect();
    let (before, after) = (policies(&all), policies(&all[..199]));
    let cut = uncovered(&of(&before), &of(&after), &View::default());
    assert!(cut.is_none_or(|cut| cut.len() == 1));
}

fn some_policy() -> impl Strategy<Value = String> {
    let pods = prop::sample::select(vec![
        "{}",
        "{matchLabels: {app: a}}",
        "{matchLabels: {app: b}}",
        "{matchExpressions: [{key: app, operator: In, values: [a, b]}]}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [a]}]}",
    ]);
    let peer = prop::sample::select(vec![
        "{podSelector: {}}",
        "{podSelector: {matchLabels: {app: a}}}",
        "{namespaceSelector: {}}",
        "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}",
        "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}, podSelector: {matchLabels: {app: b}}}",
        "{ipBlock: {cidr: 10.0.0.0/8}}",
        "{ipBlock: {cidr: 10.0.0.0/9}}",
        "{ipBlock: {cidr: 10.128.0.0/9}}",
    ]);
    let ports = prop::sample::select(vec![
        "",
        "ports: [{port: 80}]",
        "ports: [{port: 80}, {port: 443}]",
        "ports: [{port: 1, endPort: 500}]",
        "ports: [{protocol: UDP}]",
        "ports: [{port: http}]",
    ]);
    let rule = (prop::collection::vec(peer, 0..3), ports).prop_map(|(peers, ports)| {
        let from = if peers.is_empty() { String::new() } else { format!("from: [{}]", peers.join(", ")) };
        let comma = if from.is_empty() || ports.is_empty() { "" } else { ", " };
        format!("{{{from}{comma}{ports}}}")
    });
    (pods, prop::collection::vec(rule, 0..3)).prop_map(|(pods, rules)| {
        np("p", &format!("{{podSelector: {pods}, policyTypes: [Ingress], ingress: [{}]}}", rules.join(", ")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever was allowed by a rule that is not named as cut may pass afterwards.
    #[test]
    fn what_is_not_named_still_passes(
        before in prop::collection::vec(some_policy(), 1..3),
        after in prop::collection::vec(some_policy(), 0..4),
    ) {
        let (before, after) = (policies(&before), policies(&after));
        let (before, after) = (of(&before), of(&after));
        let view = View::default();
        let cut = uncovered(&before, &after, &view).unwrap();
        let labels: Vec<Labels> = vec![
            Labels::default(),
            [("app", "a")].into_iter().collect(),
            [("app", "b")].into_iter().collect(),
            [("app", "c")].into_iter().collect(),
        ];
        let addresses: Vec<std::net::IpAddr> =
            ["10.1.0.1", "10.200.0.1", "1.1.1.1"].iter().map(|text| text.parse().unwrap()).collect();
        let sets: Vec<portcullis::model::AddressSet> = addresses.iter().map(|address| (*address).into()).collect();
        let endpoint = |namespace, labels, addresses| {
            Endpoint { labels, complete: true, addresses, ..Endpoint::unknown(namespace) }
        };
        let mut ends: Vec<End<'_>> = sets.iter().map(|set| End::Addresses { set, outside: true }).collect();
        for address in &addresses {
            for namespace in ["shop", "other"] {
                ends.extend(labels.iter().map(|labels| End::Pod(endpoint(namespace, labels, std::slice::from_ref(address)))));
            }
        }
        let http = [Box::from("http")];
        let mut traffics = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for number in [80, 443, 1000] {
                for names in [Names::Exactly(&[]), Names::Exactly(&http)] {
                    traffics.push(Traffic::Port { protocol, number, names });
                }
            }
        }
        for own in &labels {
            let pod = endpoint("shop", own, &[]);
            for other in &ends {
                for traffic in &traffics {
                    let kept = before.iter().any(|policy| {
                        policy.subject.mean(&pod, &view) == Some(true)
                            && policy.ingress.rules.iter().any(|rule| {
                                rule.means(other, *traffic, &view) == Some(true)
                                    && !cut.iter().any(|cut| std::ptr::eq(cut.rule, rule))
                            })
                    });
                    let question =
                        Question { subject: Subject::One(pod), direction: Direction::Ingress, other: *other, traffic: *traffic };
                    if kept {
                        let passes = ask(after.iter().copied(), &question, &view).passes();
                        prop_assert!(passes, "{own} from {other:?} by {traffic:?}");
                    }
                }
            }
        }
    }
}
