//! Pods without DNS are always reported: each combination of some policies in tiers, as a whole set of manifests.

use crate::case::{np, object};
use crate::objects::objects;
use crate::shipped::CONFIGURATION;
use portcullis::engine::judge;
use portcullis::model::{Direction, End, Endpoint, Labels, Names, Object, Protocol, Question, Subject, Traffic};
use portcullis::rules::{Change, Occasion};
use portcullis::view::{Scene, View};

const DNS: &str = "{namespaceSelector: projectcalico.org/name == 'kube-system', ports: [53]}";

/// Policies of two tiers for the same pods, and for some of them.
fn policies() -> Vec<String> {
    let calico = |kind: &str, metadata: &str, spec: &str| object("projectcalico.org/v3", kind, metadata, spec);
    let global = |name: &str, spec: &str| {
        calico("GlobalNetworkPolicy", &format!("name: {name}"), &format!("{{types: [Egress], {spec}}}"))
    };
    let own = |name: &str, spec: &str| {
        calico("NetworkPolicy", &format!("name: {name}, namespace: shop"), &format!("{{types: [Egress], {spec}}}"))
    };
    let rule = |action: &str, protocol: &str| format!("{{action: {action}, protocol: {protocol}, destination: {DNS}}}");
    let dns = format!("egress: [{}, {}]", rule("Allow", "UDP"), rule("Allow", "TCP"));
    let peer = |label: &str| format!("to: [{{namespaceSelector: {{matchLabels: {{{label}: kube-system}}}}}}]");
    let split = |label: &str, pods: &str| {
        let peer = peer(label);
        format!(
            "{{podSelector: {pods}, policyTypes: [Egress], egress: [{{{peer}, ports: [{{protocol: UDP, port: 53}}]}}, \
             {{{peer}, ports: [{{protocol: TCP, port: 53}}]}}]}}"
        )
    };
    vec![
        global(
            "sec.metadata",
            "tier: sec, order: 1, egress: [{action: Deny, destination: {nets: [169.254.169.254/32]}}]",
        ),
        global("sec.dns", &format!("tier: sec, order: 2, selector: app == 'web', {dns}")),
        own("sec.web", "tier: sec, order: 3, selector: app == 'web', egress: [{action: Pass, protocol: TCP}]"),
        global("deny-dns", &format!("order: 5, selector: app == 'web', egress: [{}]", rule("Deny", "UDP"))),
        global("dns", &format!("order: 10, {dns}")),
        np("deny", "{podSelector: {}, policyTypes: [Egress]}"),
        np("dns", &split("kubernetes.io/metadata.name", "{}")),
        np("by-name", &split("name", "{}")),
        np("web", &split("kubernetes.io/metadata.name", "{matchLabels: {app: web}}")),
    ]
}

#[test]
fn pods_without_dns_are_reported_at_some_policy() {
    let tier = objects(&object("projectcalico.org/v3", "Tier", "name: sec", "{order: 50}")).pop().unwrap();
    let policies: Vec<Object> = policies().iter().flat_map(|yaml| objects(yaml)).collect();
    let labels: Labels = [("app", "web")].into_iter().collect();
    let pod = Endpoint { labels: &labels, complete: true, ..Endpoint::unknown("shop") };
    let labels_of_dns: Labels = [("k8s-app", "kube-dns")].into_iter().collect();
    let other = End::Pod(Endpoint { labels: &labels_of_dns, ..Endpoint::unknown("kube-system") });
    let traffic = Traffic::Port { protocol: Protocol::Udp, number: 53, names: Names::Exactly(&[]) };
    let mut blocked = 0;
    for chosen in 1..1_u32 << policies.len() {
        let chosen: Vec<&Object> =
            policies.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, policy)| policy).collect();
        let view = View::of(chosen.iter().copied().chain([&tier]).cloned());
        let scene = Scene::of(&view);
        let question = Question { subject: Subject::One(pod), direction: Direction::Egress, other, traffic };
        if scene.ask(scene.policies("shop"), &question).passes() {
            continue;
        }
        blocked += 1;
        let is_reported = chosen.iter().any(|new| {
            let verdict = judge(&CONFIGURATION, &view, Change::Write { new, old: None }, Occasion::default());
            verdict.judgements.iter().any(|judgement| judgement.finding.rule == "dns-blocked")
        });
        let names: Vec<String> = chosen.iter().map(|policy| policy.id.to_string()).collect();
        assert!(is_reported, "no finding: {}", names.join(", "));
    }
    assert!(blocked > 100, "{blocked}");
}
