//! Contracts beside the oracle: "holds" is said only if no pod that could exist breaks the contract, and every
//! counterexample breaks it by the oracle too.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis::budget::{self, Limits};
use portcullis::contract::{self, Counterexample, Doubt, Scope, Status, Witness};
use portcullis::model::{Body, Contract, Labels, Protocol};
use portcullis::view::{Scene, Site, View};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::objects::object;
use crate::oracle::generate::{
    world, world_of_calico, world_of_cilium, world_of_cluster_policies, world_of_kubernetes,
};
use crate::oracle::kubernetes::label_selector_matches;
use crate::oracle::{End, Flow, Pod, PodPort, World, answer};
use crate::shipped::CONFIGURATION;

const PORTS: [u16; 6] = [80, 53, 81, 82, 443, 8080];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
/// Addresses of the CIDR of [`cidr`].
const OUTSIDE: [[u8; 4]; 3] = [[192, 0, 2, 0], [192, 0, 2, 1], [192, 0, 2, 200]];

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    // `zz` is a value that no generated selector lists.
    let value = select(vec!["x", "y", "xz", "zz"]).prop_map(str::to_owned);
    btree_map(select(vec!["app", "tier"]).prop_map(str::to_owned), value, 0..=2)
}

/// Pods that could be created, whatever the generated clusters hold.
fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let port = (select(vec!["http", "dns", "media", "new"]), select(PROTOCOLS.to_vec()), select(PORTS.to_vec()))
        .prop_map(|(name, protocol, number)| PodPort { name: name.into(), protocol: protocol.into(), number });
    let address = prop_oneof![
        (0_u8..2, 1_u8..8).prop_map(|(subnet, host)| IpAddr::from([10, 0, subnet, host])),
        (0_u8..2, 1_u8..8).prop_map(|(subnet, host)| IpAddr::from([172, 16, subnet, host])),
    ];
    let account = select(vec!["default", "robot", "third"]);
    let pod = (select(vec!["a", "b", "c"]), labels(), account, address, vec(port, 0..=1)).prop_map(
        |(namespace, labels, account, address, ports)| Pod {
            name: String::new(),
            namespace: namespace.to_owned(),
            labels,
            service_account: account.to_owned(),
            address,
            ports,
        },
    );
    vec(pod, 8)
}

fn selector(namespaces: bool) -> impl Strategy<Value = Value> {
    let key = select(if namespaces { vec!["app", "tier", "kubernetes.io/metadata.name"] } else { vec!["app", "tier"] });
    let values = |key: &str| if key.starts_with("kube") { vec!["a", "b", "c"] } else { vec!["x", "y", "xz"] };
    key.prop_flat_map(move |key| {
        let operator = select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
        (Just(key), operator, subsequence(values(key), 1..=2))
    })
    .prop_map(|(key, operator, values)| match operator {
        "In" | "NotIn" => json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
        _ => json!({"matchExpressions": [{"key": key, "operator": operator}]}),
    })
}

fn pods_of_contract() -> impl Strategy<Value = Value> {
    let namespaces = prop_oneof![
        3 => subsequence(vec!["a", "b", "c"], 1..=2).prop_map(|names| ("namespaces", json!(names))),
        1 => selector(true).prop_map(|selector| ("namespaceSelector", selector)),
        1 => Just(("namespaceSelector", json!({}))),
    ];
    (namespaces, option::weighted(0.7, selector(false))).prop_map(|((field, namespaces), pods)| {
        let mut party = json!({field: namespaces});
        if let Some(pods) = pods {
            party["podSelector"] = pods;
        }
        party
    })
}

fn party() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => pods_of_contract(),
        1 => vec(pods_of_contract(), 1..=2).prop_map(|except| json!({"allPodsExcept": except})),
    ]
}

fn contract() -> impl Strategy<Value = Value> {
    let cidr = Just(json!({"cidr": "192.0.2.0/24"}));
    let ends = prop_oneof![
        6 => (party(), party()),
        1 => (party(), cidr.clone()),
        1 => (cidr, party()),
    ];
    let port = (select(PROTOCOLS.to_vec()), select(PORTS.to_vec()), 0_u16..3)
        .prop_map(|(protocol, port, more)| json!({"protocol": protocol, "port": port, "endPort": port + more}));
    (select(vec!["mustReach", "mustNotReach"]), ends, vec(port, 0..=2)).prop_map(|(demand, (from, to), ports)| {
        json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract", "metadata": {"name": "c"},
            "spec": {demand: {"from": [from], "to": [to], "ports": ports}}})
    })
}

/// A generated cluster without its pods, a contract, and pods that could be created.
#[derive(Clone, Debug)]
struct Case {
    world: World,
    manifest: Value,
    pods: Vec<Pod>,
}

impl Case {
    fn connections(&self) -> &Value {
        let spec = &self.manifest["spec"];
        if spec["mustReach"].is_object() { &spec["mustReach"] } else { &spec["mustNotReach"] }
    }

    fn is_required(&self) -> bool {
        self.manifest["spec"]["mustReach"].is_object()
    }

    /// The pod belongs to the party of the contract.
    fn belongs(&self, party: &Value, pod: &Pod) -> bool {
        let matches = |pods: &Value| {
            let labels = &self.world.namespaces[&pod.namespace];
            let there = match pods["namespaces"].as_array() {
                Some(names) => names.contains(&json!(pod.namespace)),
                None => label_selector_matches(&pods["namespaceSelector"], labels),
            };
            there && (pods["podSelector"].is_null() || label_selector_matches(&pods["podSelector"], &pod.labels))
        };
        match party["allPodsExcept"].as_array() {
            Some(except) => !except.iter().any(matches),
            None => matches(party),
        }
    }

    fn has_port(&self, protocol: &str, number: u16) -> bool {
        let ports = self.connections()["ports"].as_array().unwrap();
        ports.is_empty()
            || ports.iter().any(|port| {
                let range = port["port"].as_u64().unwrap()..=port["endPort"].as_u64().unwrap();
                port["protocol"] == protocol && range.contains(&u64::from(number))
            })
    }

    /// The flow breaks the contract.
    fn breaks(&self, flow: &Flow<'_>) -> bool {
        answer(&self.world, flow).connected() != self.is_required()
    }

    /// The ends among the pods that could be created, or the addresses.
    fn ends(&self, side: &str) -> Vec<End<'_>> {
        let party = &self.connections()[side][0];
        if party["cidr"].is_string() {
            return OUTSIDE.iter().map(|address| End::Outside(IpAddr::from(*address))).collect();
        }
        self.pods.iter().filter(|pod| self.belongs(party, pod)).map(End::Pod).collect()
    }

    /// The first flow between these pods that breaks the contract.
    fn broken(&self) -> Option<String> {
        for from in self.ends("from") {
            for to in self.ends("to") {
                for protocol in PROTOCOLS {
                    for port in PORTS.into_iter().filter(|port| self.has_port(protocol, *port)) {
                        let flow = Flow { from, to, protocol, port };
                        if self.breaks(&flow) {
                            return Some(format!("{flow:?}"));
                        }
                    }
                }
            }
        }
        None
    }

    /// The counterexample breaks the contract by the oracle too, whatever the addresses of the pods are.
    fn confirm(&self, found: &Counterexample) -> Result<(), String> {
        let protocol = match found.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            other => return Err(format!("{other} has no ports")),
        };
        for subnet in [[10, 0, 0], [10, 0, 1], [172, 16, 9]] {
            let [a, b, c] = subnet;
            let pod = |witness: &Witness, host: u8, ports: Vec<PodPort>| match witness {
                Witness::Pod { namespace, labels, service_account, .. } => Ok(Pod {
                    name: String::new(),
                    namespace: namespace.to_string(),
                    labels: owned(labels),
                    service_account: service_account.as_deref().unwrap_or("default").to_owned(),
                    address: IpAddr::from([a, b, c, host]),
                    ports,
                }),
                Witness::Other(text) => Err(text.split(' ').next().unwrap().parse::<IpAddr>().unwrap()),
                Witness::Existing { .. } => panic!("no pod exists"),
            };
            let name =
                |name: &str| PodPort { name: name.to_owned(), protocol: protocol.to_owned(), number: found.port };
            let ports = found.port_names.iter().map(|text| name(text)).collect();
            let (from, to) = (pod(&found.from, 2, Vec::new()), pod(&found.to, 3, ports));
            for (side, end) in [("from", &from), ("to", &to)] {
                if let Ok(pod) = end
                    && !self.belongs(&self.connections()[side][0], pod)
                {
                    return Err(format!("{pod:?} does not belong to {side}"));
                }
            }
            let end = |pod: &Result<Pod, IpAddr>| match pod {
                Ok(pod) => End::Pod(Box::leak(Box::new(pod.clone()))),
                Err(address) => End::Outside(*address),
            };
            let flow = Flow { from: end(&from), to: end(&to), protocol, port: found.port };
            if !self.has_port(protocol, found.port) || !self.breaks(&flow) {
                return Err(format!("{flow:?} does not break it; {}", found.why()));
            }
        }
        Ok(())
    }
}

fn owned(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn read(manifest: &Value) -> Contract {
    match object(manifest).body {
        Body::Contract(contract) => contract,
        other => panic!("{other:?}"),
    }
}

fn site() -> Site {
    CONFIGURATION.site.clone()
}

/// The steps that one proof may take.
const STEPS: usize = 3_000_000;

/// A view of a cluster that has no other namespaces.
fn whole(manifests: impl Iterator<Item = Value>) -> View {
    let mut view = View::of_cluster();
    manifests.for_each(|manifest| view.insert(object(&manifest)));
    view
}

fn status(view: &View, contract: &Contract, site: &Site, scope: Scope<'_>) -> Status {
    let limits = Limits { steps: 10 * STEPS, ..Limits::default() };
    budget::run(limits, || contract::verify(contract, Scene::of(view), site, scope, STEPS)).unwrap()
}

#[test]
fn what_holds_holds_for_every_pod_and_what_is_broken_is_broken() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(120);
    let site = site();
    for (mix, worlds) in [
        ("NetworkPolicy", world_of_kubernetes()),
        ("Cilium", world_of_cilium()),
        ("Calico", world_of_calico()),
        ("ClusterNetworkPolicy", world_of_cluster_policies()),
        ("all", world()),
    ] {
        let seen = std::cell::RefCell::new(BTreeMap::<String, usize>::new());
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
        let generated = (worlds, contract(), pods()).prop_map(|(mut world, manifest, pods)| {
            for name in ["a", "b", "c"] {
                let labels = || BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
                world.namespaces.entry(name.to_owned()).or_insert_with(labels);
            }
            Case { world, manifest, pods }
        });
        let result = runner.run(&generated, |case| {
            let manifests = case.world.namespace_objects().chain(case.world.manifests.iter().cloned());
            let view = whole(manifests);
            let contract = read(&case.manifest);
            let status = status(&view, &contract, &site, Scope::All);
            let name = match &status {
                Status::Holds => "holds".to_owned(),
                Status::Broken(_) => "broken".to_owned(),
                Status::Undecided(Doubt::TooComplex) => "too complex".to_owned(),
                Status::Undecided(Doubt::Facts(_)) => "undecided".to_owned(),
            };
            *seen.borrow_mut().entry(name).or_default() += 1;
            match &status {
                Status::Holds => prop_assert_eq!(case.broken(), None),
                Status::Broken(found) => {
                    if let Err(why) = case.confirm(found) {
                        return Err(TestCaseError::fail(format!("{}: {why}", found.sentence(&contract))));
                    }
                }
                Status::Undecided(_) => {}
            }
            same_after_a_change(&case, &contract, &site)?;
            let changed = unchanged_by_a_removal(&case, &site)?;
            *seen.borrow_mut().entry(format!("removal {changed}")).or_default() += 1;
            Ok(())
        });
        println!("{mix}: {:?}", seen.borrow());
        if let Err(error) = result {
            panic!("{mix}: {error}");
        }
        let seen = seen.borrow();
        let count = |name: &str| seen.get(name).copied().unwrap_or_default();
        let decided = count("holds") + count("broken");
        assert!(count("holds") > 0 && count("broken") > 0, "{mix}: {seen:?}");
        assert!(2 * decided > usize::try_from(cases).unwrap(), "{mix}: most contracts are decided: {seen:?}");
    }
}

/// If a contract held before a policy of one namespace was added, the connections of that namespace tell whether it holds
/// after it.
fn same_after_a_change(case: &Case, contract: &Contract, site: &Site) -> Result<(), TestCaseError> {
    let is_of_namespace = |manifest: &&Value| manifest["metadata"]["namespace"].is_string();
    let Some(added) = case.world.manifests.iter().rfind(is_of_namespace) else { return Ok(()) };
    let namespace = added["metadata"]["namespace"].as_str().unwrap();
    let rest = case.world.manifests.iter().filter(|manifest| *manifest != added).cloned();
    let before = whole(case.world.namespace_objects().chain(rest));
    if status(&before, contract, site, Scope::All) != Status::Holds {
        return Ok(());
    }
    let mut after = before.clone();
    after.insert(object(added));
    let whole = status(&after, contract, site, Scope::All);
    for scope in [Scope::Namespace(namespace), Scope::PoliciesOf(namespace)] {
        let scoped = status(&after, contract, site, scope);
        match (&whole, &scoped) {
            (Status::Holds, Status::Holds) | (Status::Broken(_), Status::Broken(_)) => {}
            (Status::Undecided(_), _) | (_, Status::Undecided(_)) => {}
            _ => return Err(TestCaseError::fail(format!("{scope:?}: {whole:?} and {scoped:?}"))),
        }
        let scenes = (Scene::of(&before), Scene::of(&after));
        let limits = Limits { steps: 10 * STEPS, ..Limits::default() };
        let changed = budget::run(limits, || contract::verify_change(contract, scenes, site, scope, STEPS)).unwrap();
        match (&whole, &changed) {
            (Status::Holds, Status::Holds) | (Status::Broken(_), Status::Broken(_)) => {}
            (Status::Undecided(_), _) | (_, Status::Undecided(_)) => {}
            _ => return Err(TestCaseError::fail(format!("after a change: {whole:?} and {changed:?}"))),
        }
    }
    Ok(())
}

/// Removes the last policy. If that is proved to have no effect, the oracle answers every flow as before.
fn unchanged_by_a_removal(case: &Case, site: &Site) -> Result<&'static str, TestCaseError> {
    let Some(removed) = case.world.manifests.last() else { return Ok("of nothing") };
    let mut world = case.world.clone();
    world.manifests.pop();
    let before = whole(case.world.namespace_objects().chain(case.world.manifests.iter().cloned()));
    let mut after = before.clone();
    after.remove(&object(removed).id);
    let scenes = (Scene::of(&before), Scene::of(&after));
    let limits = Limits { steps: 10 * STEPS, ..Limits::default() };
    let prove = |namespace| budget::run(limits.clone(), || contract::is_equivalent(scenes, namespace, site, STEPS));
    let own = removed["metadata"]["namespace"].as_str();
    if !prove(own).unwrap() {
        return Ok("with effect");
    }
    let outside = OUTSIDE.iter().map(|address| End::Outside(IpAddr::from(*address)));
    let ends: Vec<End<'_>> = case.pods.iter().map(End::Pod).chain(outside).collect();
    for from in &ends {
        for to in &ends {
            if let (End::Outside(_), End::Outside(_)) = (from, to) {
                continue;
            }
            for protocol in PROTOCOLS {
                for port in PORTS {
                    let flow = Flow { from: *from, to: *to, protocol, port };
                    let (old, new) = (answer(&case.world, &flow), answer(&world, &flow));
                    prop_assert_eq!(old.connected(), new.connected(), "{:?}", flow);
                }
            }
        }
    }
    Ok("without effect")
}

/// A contract that the pods of these namespaces must reach the cluster DNS.
fn from_namespaces(pods: &str, from: Value) -> Contract {
    let connections = json!({"from": [from], "to": [{"entity": "ClusterDNS"}]});
    read(&json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract", "metadata": {"name": "c"},
        "spec": {"pods": pods, "mustReach": connections}}))
}

#[test]
fn an_end_that_matches_nothing_in_a_cluster_is_noted() {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop",
        "labels": {"app": "web"}}, "spec": {"containers": [{"name": "main"}]}});
    let cluster = whole([namespace, pod].into_iter());
    let team = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
    let app = |app: &str| json!({"namespaces": ["shop"], "podSelector": {"matchLabels": {"app": app}}});
    let misspelt = "no namespace matches `shpo`, so nothing can break the contract there";
    for (pods, from, expected) in [
        ("Any", json!({"namespaces": ["shpo"]}), vec![misspelt]),
        ("Existing", json!({"namespaces": ["shpo"]}), vec![misspelt]),
        ("Any", team("b"), vec!["no namespace matches `team=b`, so nothing can break the contract there"]),
        ("Any", team("a"), vec![]),
        ("Any", json!({"namespaces": ["shop", "shpo"]}), vec![]),
        ("Any", json!({"namespaceSelector": {}}), vec![]),
        ("Any", json!({"allPodsExcept": [{"namespaceSelector": {}}]}), vec![]),
        ("Existing", json!({"allPodsExcept": [{"namespaceSelector": {}}]}), vec![]),
        ("Any", app("db"), vec![]),
        (
            "Existing",
            app("db"),
            vec!["no existing pod matches pods with app=db in namespace shop, so nothing can break the contract there"],
        ),
        ("Existing", app("web"), vec![]),
    ] {
        let contract = from_namespaces(pods, from);
        assert_eq!(contract::unmatched(&contract, Scene::of(&cluster)), expected, "{contract}, {pods}");
    }
}
