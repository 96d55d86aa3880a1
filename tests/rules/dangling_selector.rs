//! The rule dangling-selector: where it must be silent, and where it fires.

use crate::case::{PROFILE, calico, cnp, deployment, findings, found, found_live, from, gnp, namespace, np, pod};

const RULE: &str = "dangling-selector";

fn subject(selector: &str) -> String {
    np("p", &format!("{{podSelector: {selector}, policyTypes: [Ingress]}}"))
}

#[test]
fn a_slip_in_the_subject_is_found_with_what_was_meant() {
    let yaml = [deployment("app: backend", ""), subject("{matchLabels: {app: backedn}}")];
    let found = findings(RULE, &yaml, false);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path.to_string(), "spec.podSelector");
    // Warnings are cut, so it comes first.
    let start = "no pod has app=backedn (did you mean app=backend?)";
    assert!(found[0].message.starts_with(start), "{}", found[0].message);
    let far = findings(RULE, &[pod("shop", "a", "app: backend"), subject("{matchLabels: {team: x}}")], true);
    assert!(!far[0].message.contains("did you mean"), "{}", far[0].message);
}

#[test]
fn the_place_is_that_of_the_dialect() {
    let there = deployment("app: backend", "");
    let in_cilium = cnp("p", "{endpointSelector: {matchLabels: {app: x}}, ingress: [{}]}");
    assert_eq!(found(RULE, &[there.clone(), in_cilium]), ["spec.endpointSelector"]);
    assert_eq!(found(RULE, &[there, calico("{selector: \"app == 'x'\", types: [Ingress]}")]), ["spec.selector"]);
}

#[test]
fn nothing_is_said_of_pods_where_nothing_runs() {
    let nowhere = subject("{matchLabels: {app: x}}");
    let other = pod("elsewhere", "a", "app: other");
    assert!(found(RULE, std::slice::from_ref(&nowhere)).is_empty());
    assert!(found_live(RULE, &[namespace("shop", ""), other.clone(), nowhere.clone()]).is_empty());
    assert!(found(RULE, &[namespace("shop", ""), other, nowhere]).is_empty());
}

#[test]
fn nothing_is_said_of_selectors_that_ask_for_nothing_or_only_for_absence() {
    for selector in [
        "{}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
        "{matchExpressions: [{key: app, operator: DoesNotExist}]}",
    ] {
        assert!(found_live(RULE, &[pod("shop", "a", "app: web"), subject(selector)]).is_empty(), "{selector}");
    }
}

#[test]
fn labels_that_pods_get_later_may_match() {
    for key in ["pod-template-hash", "security.istio.io/tlsMode", "batch.kubernetes.io/job-name"] {
        let policy = subject(&format!("{{matchLabels: {{{key}: x}}}}"));
        assert!(found(RULE, &[deployment("app: web", ""), policy.clone()]).is_empty(), "{key}");
        assert_eq!(found_live(RULE, &[pod("shop", "a", "app: web"), policy]).len(), 1, "{key}");
    }
}

#[test]
fn peers_in_the_same_namespace() {
    let there = deployment("app: web", "");
    let place = ["spec.ingress[0].from[0]"];
    assert_eq!(found(RULE, &[there.clone(), from("{podSelector: {matchLabels: {app: wbe}}}")]), place);
    assert!(found(RULE, &[there.clone(), from("{podSelector: {matchLabels: {app: web}}}")]).is_empty());
    assert!(found(RULE, &[there, from("{podSelector: {}}")]).is_empty());
}

#[test]
fn namespaces_offline_only_where_they_can_be_known() {
    let team = |team: &str| from(&format!("{{namespaceSelector: {{matchLabels: {{team: {team}}}}}}}"));
    let named =
        |name: &str| from(&format!("{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}"));
    let shop = namespace("shop", "team: web");
    let found_near = &findings(RULE, &[shop.clone(), team("wbe")], false)[0];
    let start = "no namespace has team=wbe (did you mean team=web?)";
    assert!(found_near.message.starts_with(start), "{}", found_near.message);
    assert!(found(RULE, &[shop.clone(), team("web")]).is_empty());
    assert!(found(RULE, &[team("wbe")]).is_empty(), "no namespace is known");
    assert!(found(RULE, &[namespace("kube-system", "team: web"), team("wbe")]).is_empty(), "every cluster has it");
    assert!(found(RULE, &[pod("shop", "a", "app: web"), team("wbe")]).is_empty(), "its labels are not known");
    assert_eq!(found(RULE, &[shop.clone(), named("shpo")]).len(), 1);
    for elsewhere in ["monitoring", "kube-system", "portcullis-system"] {
        assert!(found(RULE, &[shop.clone(), named(elsewhere)]).is_empty(), "{elsewhere}");
    }
    for other in ["web-1", "api", "webs-and-more"] {
        assert!(found(RULE, &[shop.clone(), team(other)]).is_empty(), "{other} may be the label of another namespace");
    }
    let by_old_label = from("{namespaceSelector: {matchLabels: {name: kube-system}}}");
    assert!(found(RULE, &[shop.clone(), by_old_label]).is_empty());
    // A cluster is known.
    assert_eq!(found_live(RULE, &[shop.clone(), named("monitoring")]).len(), 1);
    assert_eq!(found_live(RULE, &[shop, team("wbe")]).len(), 1);
}

#[test]
fn a_namespace_in_a_file_gets_its_profile_when_it_is_made() {
    const LABEL: &str = "network-policy.portcullis.dev/profile";
    let by_profile = from(&format!("{{namespaceSelector: {{matchLabels: {{{LABEL}: standard}}}}}}"));
    let without = namespace("shop", "team: web");
    assert!(found(RULE, &[without.clone(), by_profile.clone()]).is_empty());
    assert!(found(RULE, &[namespace("shop", PROFILE), by_profile.clone()]).is_empty(), "another one may have it");
    assert_eq!(found_live(RULE, &[namespace("shop", PROFILE), by_profile.clone()]).len(), 1, "it has another one");
    assert_eq!(found_live(RULE, &[without, by_profile]).len(), 1, "in a cluster it has none");
}

#[test]
fn only_what_then_matches_is_proposed() {
    let there = [pod("shop", "a", "app: web, tier: front"), pod("shop", "b", "app: cart, tier: back")];
    let asking = |labels: &str| [there.to_vec(), vec![subject(&format!("{{matchLabels: {{{labels}}}}}"))]].concat();
    let message = |labels: &str| findings(RULE, &asking(labels), true)[0].message.clone();
    assert!(message("app: wbe, tier: front").starts_with("no pod has app=wbe (did you mean app=web?)"));
    assert!(!message("app: wbe, tier: back").contains("did you mean"));
}

#[test]
fn pods_in_other_namespaces() {
    let peer = |namespaces: &str, app: &str| {
        from(&format!("{{namespaceSelector: {namespaces}, podSelector: {{matchLabels: {{app: {app}}}}}}}"))
    };
    let gateway = "{matchLabels: {kubernetes.io/metadata.name: gateway}}";
    let there = pod("gateway", "a", "app: proxy");
    assert_eq!(found(RULE, &[there.clone(), peer(gateway, "porxy")]).len(), 1);
    assert!(found(RULE, &[there.clone(), peer(gateway, "proxy")]).is_empty());
    assert!(found(RULE, &[there.clone(), peer("{}", "porxy")]).is_empty(), "there are more namespaces");
    assert_eq!(found_live(RULE, &[there.clone(), peer("{}", "porxy")]).len(), 1);
    assert!(found(RULE, &[namespace("gateway", ""), peer(gateway, "proxy")]).is_empty(), "nothing runs there");
    let several = "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [gateway, other]}]}";
    assert!(found(RULE, &[there, peer(several, "porxy")]).is_empty(), "of the other one nothing is known");
}

#[test]
fn the_pods_of_dns_are_never_missed() {
    let dns = |namespaces: &str| {
        from(&format!("{{namespaceSelector: {namespaces}, podSelector: {{matchLabels: {{k8s-app: kube-dns}}}}}}"))
    };
    let system = pod("kube-system", "a", "k8s-app: other");
    for namespaces in ["{}", "{matchLabels: {kubernetes.io/metadata.name: kube-system}}"] {
        assert!(found_live(RULE, &[system.clone(), dns(namespaces)]).is_empty(), "{namespaces}");
    }
}

#[test]
fn what_calico_selects_may_be_no_pod() {
    let there = pod("shop", "a", "app: web");
    let peers = "ingress: [{action: Allow, source: {selector: \"app == 'trusted'\"}}]";
    let own = calico(&format!("{{selector: all(), types: [Ingress], {peers}}}"));
    assert!(found_live(RULE, &[there.clone(), own]).is_empty());
    assert!(found_live(RULE, &[there, gnp("{selector: \"role == 'host'\", types: [Ingress]}")]).is_empty());
}

#[test]
fn past_what_is_looked_at_nothing_is_said() {
    let many = (0..10_001).map(|n| pod("shop", &format!("p{n}"), "app: web")).collect::<Vec<_>>().join("---\n");
    assert!(found_live(RULE, &[many, subject("{matchLabels: {app: x}}")]).is_empty());
}

#[test]
fn policies_of_the_controller_are_not_judged() {
    let own = np("portcullis-p", "{podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress]}");
    assert!(found_live(RULE, &[pod("shop", "a", "app: web"), own]).is_empty());
}
