//! The connections that a change of one policy cuts or opens, as warnings of the webhook: what they must not say, what
//! they say for each dialect, and that `trace::compare` says the same of generated clusters.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use crate::objects::object;
use crate::shipped::POLICIES;
use std::collections::BTreeSet;

use portcullis::admission::{Knowledge, Reply, validate};
use portcullis::config::Configuration;
use portcullis::model::{Protocol, Ranges};
use portcullis::preview::connections::{self, Effect, Flow, Group, STEPS};
use portcullis::rules::Change;
use portcullis::trace;
use portcullis::view::{Facts, Need, View};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::oracle::World;
use crate::oracle::generate::{
    world, world_of_calico, world_of_cilium, world_of_cluster_policies, world_of_kubernetes,
};

fn namespace(name: &str) -> Value {
    let labels = json!({"kubernetes.io/metadata.name": name});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn pods(namespace: &str, labels: Value, ports: &[u16], count: usize) -> Vec<Value> {
    let name = labels["app"].as_str().unwrap().to_owned();
    let ports: Vec<Value> = ports.iter().map(|port| json!({"containerPort": port})).collect();
    let pod = |number| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-{number}"), "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": ports}]}})
    };
    (0..count).map(pod).collect()
}

/// Namespace shop with three applications, and two namespaces of other teams.
fn cluster() -> Vec<Value> {
    let mut objects = ["shop", "data", "monitoring"].map(namespace).to_vec();
    objects.extend(pods("shop", json!({"app": "frontend"}), &[], 2));
    objects.extend(pods("shop", json!({"app": "backend"}), &[8080], 3));
    objects.extend(pods("shop", json!({"app": "api"}), &[8443], 14));
    objects.extend(pods("data", json!({"app": "postgres", "owner": "hidden"}), &[5432], 1));
    objects.extend(pods("monitoring", json!({"app": "prometheus"}), &[9090], 2));
    objects
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn pods_of(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

fn deny(types: &[&str]) -> Value {
    policy("default-deny", json!({"podSelector": {}, "policyTypes": types}))
}

/// Pods app=backend accept app=frontend on this port.
fn allow(port: u16) -> Value {
    policy(
        "allow-frontend",
        json!({"podSelector": pods_of("backend"), "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": pods_of("frontend")}], "ports": [{"protocol": "TCP", "port": port}]}]}),
    )
}

/// A change and the cluster around it.
struct Case {
    knowledge: Knowledge,
    /// Namespaces in which the user may list pods and policies.
    may_list: Vec<Option<&'static str>>,
    /// Namespaces in which the user may list pods, and no policies.
    may_list_pods: Vec<Option<&'static str>>,
    asked: BTreeSet<Option<String>>,
}

impl Case {
    /// A cluster with these policies besides. Nothing is denied, so that each test can have the policy that it needs.
    fn with(policies: &[Value]) -> Self {
        Self::configured("preset: warn", policies)
    }

    fn configured(settings: &str, policies: &[Value]) -> Self {
        let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{settings}\n");
        let mut view = View::of_cluster();
        for manifest in cluster().iter().chain(policies) {
            view.insert(object(manifest));
        }
        let knowledge = Knowledge::new(Configuration::read(&text).unwrap(), view, POLICIES.clone());
        Self { knowledge, may_list: Vec::new(), may_list_pods: Vec::new(), asked: BTreeSet::new() }
    }

    fn listing(mut self, namespaces: &[Option<&'static str>]) -> Self {
        self.may_list = namespaces.to_vec();
        self
    }

    /// The lines of the preview in the answer of the webhook.
    fn lines(&mut self, old: Option<&Value>, new: Option<&Value>) -> Vec<String> {
        let object = new.or(old).unwrap();
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
        let operation = match (old, new) {
            (None, _) => "CREATE",
            (_, None) => "DELETE",
            _ => "UPDATE",
        };
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "kind": {"group": group, "version": version, "kind": object["kind"]},
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"], "operation": operation,
            "userInfo": {"username": "jane"}, "object": new, "oldObject": old, "dryRun": true}})
        .to_string();
        let mut facts = Facts::default();
        for _ in 0..4 {
            match validate(&self.knowledge, &facts, review.as_bytes()).unwrap() {
                Reply::Needs(needs) => needs.into_iter().for_each(|need| self.answer(need, &mut facts)),
                Reply::Answer(answer) => {
                    let body: Value = serde_json::from_slice(&answer.body).unwrap();
                    let warnings = body["response"]["warnings"].as_array().cloned().unwrap_or_default();
                    let lines = warnings.iter().filter_map(|line| line.as_str()?.strip_prefix("preview: "));
                    return lines.map(str::to_owned).collect();
                }
            }
        }
        panic!("the decision always needs more")
    }

    fn answer(&mut self, need: Need, facts: &mut Facts) {
        match need {
            Need::List { resource, namespace, .. } => {
                let wanted = namespace.as_deref();
                let may = match resource {
                    "pods" => [&self.may_list, &self.may_list_pods].iter().any(|list| list.contains(&wanted)),
                    "networkpolicies.networking.k8s.io" => self.may_list.contains(&wanted),
                    _ => false,
                };
                self.asked.insert(wanted.map(str::to_owned));
                facts.lists.insert((resource, namespace), Ok(may));
            }
            need => facts.fail(need, "not in this test"),
        }
    }
}

fn created(policies: &[Value], new: &Value) -> Vec<String> {
    Case::with(policies).lines(None, Some(new))
}

#[test]
fn a_change_without_effect_says_nothing() {
    let none: [&str; 0] = [];
    let elsewhere = policy("none", json!({"podSelector": pods_of("absent"), "policyTypes": ["Ingress", "Egress"]}));
    assert_eq!(created(&[], &elsewhere), none, "it selects no pods");
    let mut annotated = allow(8080);
    annotated["metadata"]["annotations"] = json!({"team": "shop"});
    assert_eq!(Case::with(&[allow(8080)]).lines(Some(&allow(8080)), Some(&annotated)), none, "only metadata");
    let mut reordered = allow(8080);
    let from = json!([{"podSelector": pods_of("frontend")}, {"podSelector": pods_of("frontend")}]);
    reordered["spec"]["ingress"][0]["from"] = from;
    assert_eq!(Case::with(&[allow(8080)]).lines(Some(&allow(8080)), Some(&reordered)), none, "the same peers");
    let open = policy("open", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}));
    assert_eq!(created(&[], &open), none, "everything was allowed before");
    assert_eq!(created(&[deny(&["Ingress"])], &policy("again", deny(&["Ingress"])["spec"].clone())), none);
    let staged = json!({"apiVersion": "projectcalico.org/v3", "kind": "StagedNetworkPolicy",
        "metadata": {"name": "staged", "namespace": "shop"}, "spec": {"selector": "all()", "types": ["Ingress"]}});
    assert_eq!(created(&[], &staged), none, "a staged policy is not enforced");
    let requires = json!([{"fromRequires": [{"matchLabels": {"app": "frontend"}}]}]);
    let refused = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "refused", "namespace": "shop"},
        "spec": {"endpointSelector": {}, "ingress": requires}});
    assert_eq!(created(&[], &refused), none, "its agent ignores the policy");
    let (site, view) = (Configuration::shipped().unwrap().site, View::of(cluster().iter().map(object)));
    for manifest in [staged, refused] {
        let new = object(&manifest);
        let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
        assert_eq!(effect.steps, 0, "{manifest}");
    }
}

#[test]
fn what_is_unknown_is_not_announced() {
    let none: [&str; 0] = [];
    // The addresses of the pods are unknown, and so is whether they are in the block.
    let by_address = policy(
        "by-address",
        json!({"podSelector": pods_of("backend"), "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 8080}]}]}),
    );
    assert_eq!(created(&[deny(&["Ingress"])], &by_address), none);
}

#[test]
fn a_denied_change_and_a_disabled_preview_say_nothing() {
    let none: [&str; 0] = [];
    let new = deny(&["Egress"]);
    assert_eq!(Case::configured("preset: enforce", &[]).lines(None, Some(&new)), none, "dns-blocked denies it");
    assert_eq!(Case::configured("preset: observe", &[]).lines(None, Some(&new)), none);
    let disabled = "preset: warn\nconnectionPreview: false";
    assert_eq!(Case::configured(disabled, &[]).lines(None, Some(&new)), none);
    assert!(!Case::with(&[]).lines(None, Some(&new)).is_empty());
}

#[test]
fn the_setting_is_a_boolean() {
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nconnectionPreview: often\n";
    let error = Configuration::read(text).err().unwrap().to_string();
    assert!(error.starts_with("line 3: connectionPreview: ") && error.contains("often"), "{error}");
}

#[test]
fn pods_of_other_namespaces_are_named_only_to_users_who_may_list_them_and_their_policies() {
    let to = |namespace: &str| {
        let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        policy(
            "out",
            json!({"podSelector": pods_of("api"), "policyTypes": ["Egress"],
                "egress": [{"to": [{"namespaceSelector": selector}]}]}),
        )
    };
    let mut case = Case::with(&[deny(&["Egress"])]);
    assert_eq!(case.lines(None, Some(&to("data"))), [""; 0]);
    assert_eq!(case.asked, [Some("data".to_owned())].into());
    let mut case = Case::with(&[deny(&["Egress"])]).listing(&[Some("data")]);
    assert_eq!(
        case.lines(None, Some(&to("data"))),
        ["opens TCP 5432 from app=api (14 pods) to app=postgres in namespace data"]
    );
    assert_eq!(case.lines(None, Some(&to("monitoring"))), [""; 0]);
    let mut case = Case::with(&[deny(&["Egress"])]);
    case.may_list_pods = vec![Some("data")];
    assert_eq!(case.lines(None, Some(&to("data"))), [""; 0], "the line would tell what the policies of data allow");
    let mut case = Case::with(&[deny(&["Ingress"])]);
    assert_eq!(case.lines(None, Some(&allow(8080))).len(), 1);
    assert_eq!(case.asked, BTreeSet::new(), "pods of the own namespace need no lookup");
}

#[test]
fn a_default_deny_names_what_it_cuts() {
    assert_eq!(
        created(&[], &deny(&["Ingress"])),
        [
            "cuts TCP 8443 from app=api, app=backend, app=frontend and 1 more to app=api (14 pods)",
            "cuts TCP 8080 from app=api, app=backend, app=frontend and 1 more to app=backend (3 pods)",
            "cuts every port from app=api, app=backend, app=frontend and 1 more to app=frontend (2 pods)",
        ]
    );
    let both = created(&[], &deny(&["Ingress", "Egress"]));
    assert_eq!(both.len(), 3);
    assert_eq!(both[2], "8 more connections change", "{both:#?}");
}

#[test]
fn each_operation_on_a_network_policy_is_previewed() {
    let line = |verb: &str, port: u16| format!("{verb} TCP {port} from app=frontend to app=backend (3 pods)");
    assert_eq!(created(&[deny(&["Ingress"])], &allow(8080)), [line("opens", 8080)]);
    let stored = [deny(&["Ingress"]), allow(8080)];
    assert_eq!(Case::with(&stored).lines(Some(&allow(8080)), None), [line("cuts", 8080)]);
    assert_eq!(
        Case::with(&stored).lines(Some(&allow(8080)), Some(&allow(9090))),
        [line("cuts", 8080), line("opens", 9090)]
    );
    let internet = policy(
        "out",
        json!({"podSelector": pods_of("api"), "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"protocol": "TCP", "port": 443}]}]}),
    );
    assert_eq!(
        created(&[deny(&["Egress"])], &internet),
        [
            // These pods do not list their ports.
            "opens TCP 443 from app=api (14 pods) to app=frontend",
            "opens TCP 443 from app=api (14 pods) to the internet",
        ]
    );
}

#[test]
fn policies_of_other_dialects_are_previewed() {
    let cilium = |name: &str, spec: Value| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    let closed = cilium("closed", json!({"endpointSelector": {}, "egress": [{}]}));
    let world = json!({"endpointSelector": pods_of("api"), "egress": [{"toEntities": ["world"],
        "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}]});
    assert_eq!(created(&[closed], &cilium("out", world)), ["opens TCP 443 from app=api (14 pods) to the internet"]);

    let calico = json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": "backend", "namespace": "shop"},
        "spec": {"selector": "app == 'backend'", "types": ["Ingress"], "ingress": [{"action": "Allow",
            "protocol": "TCP", "source": {"selector": "app == 'frontend'"}, "destination": {"ports": [8080]}}]}});
    // A NetworkSet with the label may hold addresses of the internet.
    assert_eq!(created(&[], &calico), ["cuts TCP 8080 from app=api and app=backend to app=backend (3 pods)"]);

    let in_shop = |app: &str| {
        let shop = json!({"matchLabels": {"kubernetes.io/metadata.name": "shop"}});
        json!({"pods": {"namespaceSelector": shop, "podSelector": pods_of(app)}})
    };
    let admin = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "no-backend"}, "spec": {"tier": "Admin", "priority": 10, "subject": in_shop("api"),
            "egress": [{"action": "Deny", "to": [in_shop("backend")]}]}});
    let mut case = Case::with(&[]).listing(&[None]);
    assert_eq!(
        case.lines(None, Some(&admin)),
        ["cuts TCP 8080 from app=api (14 pods) to app=backend in namespace shop"]
    );
    let mut case = Case::with(&[]).listing(&[Some("shop")]);
    assert_eq!(case.lines(None, Some(&admin)), [""; 0], "a cluster-scoped policy needs the right to list all pods");
    assert_eq!(case.asked, [None].into());
}

#[test]
fn a_large_namespace_and_a_large_policy_stay_within_the_limits() {
    let mut objects = vec![namespace("shop")];
    for number in 0..200 {
        objects.extend(pods("shop", json!({"app": format!("a{number}")}), &[8080], 1));
    }
    let view = View::of(objects.iter().map(object));
    let site = Configuration::shipped().unwrap().site;
    let new = object(&deny(&["Ingress", "Egress"]));
    let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
    assert!(effect.is_partial && effect.steps <= STEPS && !effect.cut.is_empty());
    let blocks: Vec<Value> =
        (0..300).map(|n| json!({"ipBlock": {"cidr": format!("10.0.{}.{}/32", n / 256, n % 256)}})).collect();
    let many = policy("many", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": blocks}]}));
    let many = object(&many);
    let effect = connections::compare(&site, &view, Change::Write { new: &many, old: None });
    assert!(effect.cut.is_empty() && effect.steps < 1_000, "{}", effect.steps);
}

#[test]
fn each_comparison_of_pods_is_charged_for_their_ports() {
    let site = Configuration::shipped().unwrap().site;
    let new = object(&deny(&["Ingress"]));
    let effect = |ports| {
        let view = crate::crowd::pods_with_ports(16, ports);
        let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
        (effect.is_partial, effect.steps)
    };
    assert_eq!(effect(20_000), (true, STEPS));
    let ((_, few), (is_partial, more)) = (effect(16), effect(160));
    // Each of the 16 groups is compared with those before it.
    let comparisons = 16 * 15 / 2;
    assert!(is_partial || more - few >= comparisons * (160 - 16) / 16, "{few} {more}");
}

#[test]
fn a_subject_is_never_a_counterpart() {
    let mut objects = vec![namespace("shop")];
    // Pods that are alike are not neighbours in the order of their names, and there are more groups than are compared.
    for number in 0..40 {
        let app = json!({"app": format!("a{}", number % 20)});
        let mut pod = pods("shop", app, &[8080], 1).remove(0);
        pod["metadata"]["name"] = format!("pod-{number:02}").into();
        objects.push(pod);
    }
    let view = View::of(objects.iter().map(object));
    let anywhere = json!([{"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 9090}]}]);
    let new = policy("own", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": anywhere}));
    let site = Configuration::shipped().unwrap().site;
    let new = object(&new);
    let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
    assert!(effect.is_partial && !effect.cut.is_empty());
    for (_, flow) in announced(&effect) {
        assert!(
            [flow.from, flow.to].into_iter().flatten().all(|group| group.is_subject && group.size == 2),
            "{flow:#?}"
        );
    }
}

#[test]
fn a_typical_change_takes_few_steps() {
    let site = Configuration::shipped().unwrap().site;
    for (what, policies, new) in [
        ("default-deny of ingress", vec![], deny(&["Ingress"])),
        ("default-deny of both", vec![], deny(&["Ingress", "Egress"])),
        ("one rule beside a default-deny", vec![deny(&["Ingress"])], allow(8080)),
    ] {
        let view = View::of(cluster().iter().chain(&policies).map(object));
        let new = object(&new);
        let effect = connections::compare(&site, &view, Change::Write { new: &new, old: None });
        assert!(!effect.is_partial && effect.steps < 1_000, "{what}: {}", effect.steps);
    }
}

// ------------------------------------------------------------------------------------------------ generated clusters

/// The ports that a line of `trace::compare` lists.
fn ports(words: &[String]) -> Vec<(Protocol, Ranges<u16>)> {
    let parse = |words: &String| {
        let named = |name: &str| Protocol::WITH_PORTS.into_iter().find(|one| one.name() == Some(name)).unwrap();
        if let Some(protocol) = words.strip_prefix("every ").and_then(|rest| rest.strip_suffix(" port")) {
            return (named(protocol), Ranges::between(1, u16::MAX));
        }
        let (protocol, numbers) = words.split_once(' ').unwrap();
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        (named(protocol), Ranges::between(first.parse().unwrap(), last.parse().unwrap()))
    };
    words.iter().map(parse).collect()
}

fn covers(all: &[(Protocol, Ranges<u16>)], protocol: Protocol, wanted: &Ranges<u16>) -> bool {
    let mut left = wanted.clone();
    all.iter().filter(|(own, _)| *own == protocol).for_each(|(_, ranges)| left.subtract(ranges));
    left.is_empty()
}

fn name(group: Option<Group<'_>>) -> String {
    group.map_or_else(
        || "the internet".to_owned(),
        |group| format!("{} {}/{}", group.first.kind, group.namespace, group.first.name),
    )
}

/// Compares the preview of one change with the difference of the two clusters. Returns the number of flows.
fn agrees(world: &World, at: usize) -> Result<usize, TestCaseError> {
    let is_policy = |manifest: &&Value| manifest["kind"] != "Tier";
    let Some(policy) = world.manifests.iter().filter(is_policy).nth(at) else { return Ok(0) };
    let changed = object(policy);
    let view = |all: bool| {
        let policies = world.manifests.iter().filter(|manifest| all || *manifest != policy);
        View::of(world.objects().iter().chain(policies).map(object))
    };
    let (without, with) = (view(false), view(true));
    let site = Configuration::shipped().unwrap().site;
    let mut flows = 0;
    for (before, after, change) in [
        (&without, &with, Change::Write { new: &changed, old: None }),
        (&with, &without, Change::Delete { old: &changed }),
    ] {
        let effect = connections::compare(&site, before, change);
        let difference = trace::compare(before, after, &site);
        prop_assert!(effect.steps <= STEPS);
        for (is_cut, flow) in announced(&effect) {
            let (from, to) = (name(flow.from), name(flow.to));
            if from == to {
                continue;
            }
            let real = difference.connections.iter().find(|change| change.from == from && change.to == to);
            let real = real.map(|change| ports(if is_cut { &change.closed } else { &change.opened }));
            let real = real.unwrap_or_default();
            for (protocol, ranges) in &flow.ports {
                prop_assert!(covers(&real, *protocol, ranges), "{from} -> {to} {flow:#?}\n{difference:#?}\n{policy:#}");
            }
            flows += 1;
        }
        if !effect.is_partial {
            is_complete(world, &effect, &difference)?;
        }
    }
    Ok(flows)
}

fn announced<'b, 'a>(effect: &'b Effect<'a>) -> impl Iterator<Item = (bool, &'b Flow<'a>)> {
    effect.cut.iter().map(|flow| (true, flow)).chain(effect.opened.iter().map(|flow| (false, flow)))
}

/// Between two pods of one namespace, each change of a listed port is announced.
fn is_complete(world: &World, effect: &Effect<'_>, difference: &trace::Difference) -> Result<(), TestCaseError> {
    let pod = |name: &str| {
        let (namespace, name) = name.strip_prefix("Pod ")?.split_once('/')?;
        world.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    };
    for change in &difference.connections {
        let (Some(from), Some(to)) = (pod(&change.from), pod(&change.to)) else { continue };
        let twins = |pod: &crate::oracle::Pod| {
            let same = |other: &&crate::oracle::Pod| {
                (&other.namespace, &other.labels, &other.ports, &other.service_account)
                    == (&pod.namespace, &pod.labels, &pod.ports, &pod.service_account)
            };
            world.pods.iter().filter(same).count() > 1
        };
        if from.namespace != to.namespace || twins(from) || twins(to) {
            continue;
        }
        for (is_cut, words) in [(true, &change.closed), (false, &change.opened)] {
            for port in &to.ports {
                let protocol = Protocol::WITH_PORTS.into_iter().find(|one| one.name() == Some(&port.protocol)).unwrap();
                let number = Ranges::between(port.number, port.number);
                if !covers(&ports(words), protocol, &number) {
                    continue;
                }
                let mut same = announced(effect).filter(|(cut, flow)| {
                    *cut == is_cut && name(flow.from) == change.from && name(flow.to) == change.to
                });
                let is_announced = same.any(|(_, flow)| covers(&flow.ports, protocol, &number));
                prop_assert!(is_announced, "{change:#?} on {protocol} {} is missing: {effect:#?}", port.number);
            }
        }
    }
    Ok(())
}

fn agree_in(worlds: impl Strategy<Value = World>) {
    use proptest::test_runner::{Config, TestRunner};
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150);
    let flows = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let result = runner.run(&(worlds, 0..4_usize), |(world, at)| {
        flows.set(flows.get() + agrees(&world, at)?);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(flows.get() > 50, "only {} flows were announced", flows.get());
}

#[test]
fn network_policies_change_what_is_announced() {
    agree_in(world_of_kubernetes());
}

#[test]
fn policies_of_cilium_change_what_is_announced() {
    agree_in(world_of_cilium());
}

#[test]
fn policies_of_calico_change_what_is_announced() {
    agree_in(world_of_calico());
}

#[test]
fn cluster_policies_change_what_is_announced() {
    agree_in(world_of_cluster_policies());
}

#[test]
fn policies_of_all_dialects_change_what_is_announced() {
    agree_in(world());
}
