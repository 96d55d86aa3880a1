//! Rules that compare a policy with what is around it: where they fire, and first of all where they must be silent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "support/objects.rs"]
mod objects;
#[path = "support/texts.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod texts;

use objects::objects;
use portcullis::config::Configuration;
use portcullis::engine::{Judgement, judge};
use portcullis::model::{
    Direction, End, Endpoint, Finding, Labels, Names, Object, Policy, Protocol, Question, Subject, Traffic, ask,
    uncovered,
};
use portcullis::rules::{Change, Occasion};
use portcullis::view::{Owned, View};
use proptest::prelude::*;

/// What a rule finds in the last of the objects; the others are there already, in manifests or in a cluster.
fn findings(rule: &str, yaml: &[String], is_whole: bool) -> Vec<Finding> {
    let mut objects: Vec<Object> = yaml.iter().flat_map(|yaml| objects(yaml)).collect();
    let new = objects.pop().unwrap();
    let mut view = if is_whole { View::of_cluster() } else { View::default() };
    for object in objects {
        view.insert(object);
    }
    let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nrules: {{{rule}: warn}}\n");
    let configuration = Configuration::read(&text).unwrap();
    let verdict = judge(&configuration, &view, Change::Write { new: &new, old: None }, Occasion::default());
    let of_rule = |judgement: &Judgement| judgement.finding.rule == rule;
    let found: Vec<Judgement> = verdict.judgements.into_iter().filter(of_rule).collect();
    texts::check("tests/surroundings.rs", "surroundings", &texts::named(yaml), &found);
    found.into_iter().map(|judgement| judgement.finding).collect()
}

/// Where a rule finds something, in manifests.
fn found(rule: &str, yaml: &[String]) -> Vec<String> {
    findings(rule, yaml, false).iter().map(|finding| finding.path.to_string()).collect()
}

/// Where a rule finds something, in a cluster.
fn found_live(rule: &str, yaml: &[String]) -> Vec<String> {
    findings(rule, yaml, true).iter().map(|finding| finding.path.to_string()).collect()
}

fn object(api_version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n")
}

fn np(name: &str, spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", &format!("name: {name}, namespace: shop"), spec)
}

fn cnp(name: &str, spec: &str) -> String {
    object("cilium.io/v2", "CiliumNetworkPolicy", &format!("name: {name}, namespace: shop"), spec)
}

fn ccnp(spec: &str) -> String {
    object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "name: wide", spec)
}

fn calico(spec: &str) -> String {
    object("projectcalico.org/v3", "NetworkPolicy", "name: calico, namespace: shop", spec)
}

fn gnp(spec: &str) -> String {
    object("projectcalico.org/v3", "GlobalNetworkPolicy", "name: global", spec)
}

fn cluster(tier: &str, spec: &str) -> String {
    let spec = format!("{{tier: {tier}, priority: 10, {spec}}}");
    object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "name: cluster", &spec)
}

fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

fn pod(namespace: &str, name: &str, labels: &str) -> String {
    object("v1", "Pod", &format!("name: {name}, namespace: {namespace}, labels: {{{labels}}}"), "{}")
}

fn deployment(labels: &str, annotations: &str) -> String {
    let spec =
        format!("{{template: {{metadata: {{labels: {{{labels}}}, annotations: {{{annotations}}}}}, spec: {{}}}}}}");
    object("apps/v1", "Deployment", "name: web, namespace: shop", &spec)
}

const PROFILE: &str = "network-policy.portcullis.dev/profile: internal";

fn from(peer: &str) -> String {
    np("p", &format!("{{podSelector: {{}}, ingress: [{{from: [{peer}], ports: [{{port: 80}}]}}]}}"))
}

mod dangling_selector {
    use super::*;

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
        let named = |name: &str| {
            from(&format!("{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}"))
        };
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
            assert!(
                found(RULE, &[shop.clone(), team(other)]).is_empty(),
                "{other} may be the label of another namespace"
            );
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
        let several =
            "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [gateway, other]}]}";
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
}

mod monitoring_blocked {
    use super::*;

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
        let others =
            np("others", &format!("{{podSelector: {{}}, ingress: [{{from: [{all}], ports: [{{port: 9090}}]}}]}}"));
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
}

mod any_port {
    use super::*;

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
                format!(
                    "{{endpointSelector: {pods}, ingress: [{{fromEntities: [all], toPorts: [{{ports: [{port}]}}]}}]}}"
                )
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
}

mod dissolved_baseline {
    use super::*;

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
            "{to: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}]}",
        ] {
            assert_eq!(egress(wide), ["spec.egress[0]"], "{wide}");
        }
        for narrow in [
            "{ports: [{port: 443}]}",
            "{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}",
            "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}",
            "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/24]}}]}",
            "{to: [{ipBlock: {cidr: '::/0', except: ['fd00::/120']}}]}",
            "{to: [{namespaceSelector: {}}]}",
            "{to: [{podSelector: {}}]}",
        ] {
            assert!(egress(narrow).is_empty(), "{narrow}");
        }
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
        let open = |selector: &str| {
            gnp(&format!("{{selector: \"{selector}\", types: [Egress], egress: [{{action: Allow}}]}}"))
        };
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
        let denies =
            cnp("p", "{endpointSelector: {}, egress: [{toEntities: [all]}], egressDeny: [{toEntities: [all]}]}");
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
}

mod hosts {
    use super::*;

    #[test]
    fn policies_of_calico_for_hosts_are_none_for_pods() {
        let around = [namespace("shop", ""), pod("shop", "a", "app: web"), deployment("app: web", "")];
        for (rule, egress) in [
            ("any-port", "[{action: Allow}]"),
            ("dns-blocked", "[{action: Allow, protocol: TCP, destination: {ports: [22]}}]"),
        ] {
            let judged = |more: &[String], selector: &str, is_whole| {
                let spec =
                    format!("{{selector: \"{selector}\", applyOnForward: true, types: [Egress], egress: {egress}}}");
                let yaml: Vec<String> = around.iter().chain(more).cloned().chain([gnp(&spec)]).collect();
                findings(rule, &yaml, is_whole).len()
            };
            for host in [
                "has(host-endpoint)",
                "has(kubernetes-host) && environment == 'dev'",
                "kubernetes-host == ''",
                "has(node-role.kubernetes.io/control-plane)",
                "projectcalico.org/created-by == 'calico-kube-controllers'",
            ] {
                assert_eq!(judged(&[], host, true), 0, "{rule} {host}");
                assert_eq!(judged(&[], host, false), 1, "a few manifests do not tell: {rule} {host}");
            }
            let marked = pod("shop", "b", "kubernetes-host: x");
            assert_eq!(judged(&[marked], "has(kubernetes-host)", true), 1, "{rule}: it is for a pod too");
            for pods in [
                "all()",
                "role == 'webserver'",
                "has(kubernetes-host) || app == 'web'",
                "!has(kubernetes-host)",
                "has(kubernetes-host) && projectcalico.org/namespace == 'shop'",
            ] {
                assert_eq!(judged(&[], pods, true), 1, "{rule} {pods}");
            }
            let sure = "role == 'webserver' && !has(projectcalico.org/namespace)";
            assert_eq!(judged(&[], sure, false), 0, "{rule}: no pod is without a namespace");
        }
        let own = calico("{selector: has(kubernetes-host), types: [Egress], egress: [{action: Allow}]}");
        assert_eq!(found_live("any-port", &[namespace("shop", ""), own]).len(), 1, "no host is in a namespace");
    }
}

mod redundant_policy {
    use super::*;

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
        let ports = |name: &str, ports: &str| {
            ingress(name, "{}", &format!("{{from: [{{podSelector: {{}}}}], ports: {ports}}}"))
        };
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
        let wide = ccnp("{endpointSelector: {}, ingress: [{fromEntities: [all]}]}")
            .replace("name: wide", "name: portcullis-x");
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
            let verdict = judge(&Configuration::shipped().unwrap(), &view, change, Occasion::default());
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
        let verdict = judge(&Configuration::shipped().unwrap(), &view, change, Occasion::default());
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
        let block =
            np("a", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}]}");
        assert!(found(RULE, &[block, ingress("p", "{}", WEB)]).is_empty());
        let default_deny = np("b", "{podSelector: {}, policyTypes: [Ingress]}");
        assert!(found(RULE, &[np("a", "{podSelector: {}, policyTypes: [Ingress]}"), default_deny]).is_empty());
        let unnamed = |name: &str| ingress(name, "{}", WEB).replace(", namespace: shop", "");
        assert!(found(RULE, &[unnamed("a"), unnamed("b")]).is_empty(), "who knows where they go");
        let denies = cnp(
            "b",
            "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}], ingressDeny: [{fromEndpoints: [{matchLabels: {a: b}}]}]}",
        );
        assert!(
            found(RULE, &[cnp("a", "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}"), denies]).is_empty()
        );
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
        let policy = |rules: &[String]| {
            calico(&format!("{{selector: all(), types: [Ingress], ingress: [{}]}}", rules.join(", ")))
        };
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
}

mod explicit_default_deny {
    use super::*;

    const RULE: &str = "explicit-default-deny";
    const DENY: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

    #[test]
    fn only_where_a_baseline_is_due() {
        assert_eq!(found(RULE, &[namespace("shop", PROFILE), np("p", DENY)]), ["spec"]);
        let applied = namespace("shop", "network-policy.portcullis.dev/baseline: applied");
        assert_eq!(found(RULE, &[applied, np("p", DENY)]), ["spec"]);
        assert!(found(RULE, &[namespace("shop", ""), np("p", DENY)]).is_empty());
        assert!(found(RULE, &[np("p", DENY)]).is_empty());
        let unknown = namespace("shop", "network-policy.portcullis.dev/profile: other");
        assert!(found(RULE, &[unknown, np("p", DENY)]).is_empty());
        assert!(found(RULE, &[namespace("shop", PROFILE), np("portcullis-default-deny", DENY)]).is_empty());
    }

    #[test]
    fn only_what_does_nothing_else() {
        let judged = |policy: String| found(RULE, &[namespace("shop", PROFILE), policy]);
        assert!(judged(np("p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")).is_empty());
        assert!(judged(cnp("p", "{endpointSelector: {}, ingressDeny: [{fromEntities: [world]}]}")).is_empty());
        assert_eq!(judged(cnp("p", "{endpointSelector: {}, ingress: [{}]}")), ["spec"]);
        assert!(judged(calico("{selector: all(), types: [Ingress], ingress: [{action: Deny}]}")).is_empty());
        assert_eq!(judged(calico("{selector: all(), types: [Ingress]}")), ["spec"]);
    }

    #[test]
    fn what_stops_more_than_the_baseline_or_nothing_is_another_matter() {
        let security = object("projectcalico.org/v3", "Tier", "name: security", "{order: 100}");
        let quarantine = object(
            "projectcalico.org/v3",
            "NetworkPolicy",
            "name: security.quarantine, namespace: shop",
            "{tier: security, selector: \"quarantined == 'true'\", types: [Ingress, Egress]}",
        );
        assert!(found(RULE, &[namespace("shop", PROFILE), security, quarantine]).is_empty());
        let staged = calico("{selector: all(), types: [Ingress]}").replace("kind: Network", "kind: StagedNetwork");
        assert!(found(RULE, &[namespace("shop", PROFILE), staged]).is_empty());
    }

    #[test]
    fn it_is_off_as_shipped() {
        let configuration = Configuration::shipped().unwrap();
        let view = View::of(objects(&namespace("shop", PROFILE)));
        let new = objects(&np("p", "{podSelector: {}, policyTypes: [Ingress]}")).remove(0);
        let verdict = judge(&configuration, &view, Change::Write { new: &new, old: None }, Occasion::default());
        assert!(verdict.judgements.iter().all(|judgement| judgement.finding.rule != RULE));
    }
}

mod covering {
    use super::*;

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
                Endpoint { namespace, labels, complete: true, is_template: false, account: None, addresses, services: &[] }
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
}
