//! `portcullis trace`: its texts, its agreement with the oracle, and its repairs, which the oracle confirms.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::objects::object;
use crate::oracle::generate::{
    Pick, flow, world, world_of_calico, world_of_cilium, world_of_cluster_policies, world_of_kubernetes,
};
use crate::oracle::{self, Flow, Pod, World};
use crate::shipped::{CONFIGURATION, POLICIES};
use crate::support::command::{git, run};
use crate::support::golden;
use portcullis::model::{Body, ObjectRef};
use portcullis::trace::{Change, Place, Port, PortName, Repair, Verdict, compare, explain, repairs, resolve};
use portcullis::view::{Scene, View};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The name of a golden file, the arguments, and the exit status.
const CASES: &[(&str, &[&str], i32)] = &[
    ("service", &["--from", "shop/web", "--to", "shop/service/api:80"], 1),
    ("every-port", &["--from", "shop/web", "--to", "shop/deploy/api"], 1),
    ("port-of-a-rule", &["--from", "shop/app=frontend", "--to", "shop/api:9091"], 1),
    ("address", &["--from", "shop/web", "--to", "203.0.113.9:443"], 0),
    ("block", &["--from", "shop/web", "--to", "203.0.0.0/16:443"], 2),
    ("internet", &["--from", "shop/web", "--to", "internet:443"], 2),
    ("profile", &["--from", "shop/api", "--to", "internet:443"], 1),
    ("domain", &["--from", "shop/web", "--to", "api.example.com:443"], 2),
    ("node", &["--from", "node", "--to", "shop/api:8080"], 1),
    ("host-network", &["--from", "shop/agent", "--to", "shop/api:metrics"], 1),
    ("itself", &["--from", "database/postgres-1", "--to", "10.1.0.7:5432"], 0),
    ("access", &["--from", "shop/api", "--to", "database/pod/postgres-1:5432"], 1),
    ("new-policy", &["--from", "database/postgres-1", "--to", "shop/web:8080/UDP", "--output", "json"], 1),
];

#[test]
fn texts_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace");
    let manifests = folder.join("shop.yaml");
    let mut wrong = Vec::new();
    for (name, arguments, code) in CASES {
        let done = run(&[&["trace"], *arguments, &[manifests.to_str().unwrap()]].concat(), "");
        let text = format!("$ portcullis trace {} shop.yaml\n{}{}", arguments.join(" "), done.out, done.err);
        wrong.extend(golden::compare(&folder.join(format!("{name}.txt")), &text).err());
        if done.code != *code {
            wrong.push(format!("{name}: exit status {}, expected {code}", done.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_end_that_is_not_there_is_named() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace/shop.yaml");
    for (from, to, expected) in [
        (
            "shop/wep",
            "shop/api:80",
            "`wep` is not in namespace `shop`; known there: deployment/api, deployment/web, pod/agent, service/api",
        ),
        ("nowhere/web", "shop/api:80", "namespace `nowhere` is unknown"),
        ("shop/web", "shop/api:0", "`0` is not a port"),
        ("shop/web", "shop/api:70000", "`70000` is not a port"),
        ("shop/web", "shop/api:80/ICMP", "`80/ICMP` is not a port"),
        ("shop/web", "shop/service/api:81", "Service shop/api has no port 81/TCP; its ports are 80/TCP"),
        ("shop/web", "shop/deployment/api:web", "Deployment shop/api lists no port with the name web"),
        ("shop/web", "internet:http", "port name `http` needs pods that list it"),
        ("/web", "shop/api:80", "`/web` is not a source or destination"),
    ] {
        let done = run(&["trace", "--from", from, "--to", to, manifests.to_str().unwrap()], "");
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{from} {to}");
        assert!(done.err.contains(expected), "{from} {to}: {}", done.err);
    }
}

#[test]
fn a_difference_is_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace");
    let (before, after) = (folder.join("shop.yaml"), folder.join("shop-after.yaml"));
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
    for (name, format) in [("diff", "text"), ("diff-markdown", "markdown"), ("diff-json", "json")] {
        let done = run(&["diff", "--output", format, "--before", before, "--", before, after], "");
        assert_eq!(done.code, 1, "{}", done.err);
        assert_eq!(golden::compare(&folder.join(format!("{name}.txt")), &done.out), Ok(()));
    }
    let same = run(&["diff", "--before", before, "--", before], "");
    assert_eq!((same.code, same.out.as_str()), (0, "no connection changes\n"), "{}", same.err);
    let neither = run(&["diff", after], "");
    assert!(neither.code == 2 && neither.err.contains("--before, --since or --cluster"), "{}", neither.err);
}

#[test]
fn replicas_of_one_workload_are_compared_with_each_other() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}});
    let pod = object(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cache-1", "namespace": "shop", "labels": {"app": "cache"}},
        "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 7000}]}]}}));
    let Body::Workload(workload) = &pod.body else { panic!("{pod:?}") };
    // As the watches of a cluster do, which share the workload of replicas.
    let workload = Arc::new(workload.clone());
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let site = &CONFIGURATION.site;
    let change = |before: usize, after: usize| {
        let view = |replicas: usize, policies: &[Value]| {
            let mut view = View::of([&namespace].into_iter().chain(policies).map(object));
            for number in 1..=replicas {
                let id = ObjectRef { name: format!("cache-{number}").into(), ..pod.id.clone() };
                view.insert_workload(&id, Arc::clone(&workload), None);
            }
            view
        };
        let difference = compare(&view(before, &[]), &view(after, std::slice::from_ref(&deny)), site);
        let name = "Pod shop/cache-1";
        let change = difference.connections.into_iter().find(|change| change.from == name && change.to == name);
        change.map(|change| (change.closed, change.opened))
    };
    let closed = ["every TCP port", "every UDP port", "every SCTP port"].map(str::to_owned).to_vec();
    assert_eq!(change(2, 2), Some((closed, Vec::new())));
    assert_eq!(change(1, 1), None, "a pod always reaches itself");
    assert_eq!(change(1, 2), None, "there was no second pod before");
}

#[test]
fn a_revision_is_compared_with_the_working_tree() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| git(folder.path(), arguments);
    git(&["init", "--quiet", "--initial-branch=main"]);
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace");
    std::fs::copy(source.join("shop.yaml"), manifests.join("shop.yaml")).unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    let diff = |revision: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let done = command.current_dir(&folder).args(["diff", "--since", revision, "manifests"]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
    };
    assert_eq!(diff("HEAD").0, 0);
    // The later file of a name overwrites the policy of the earlier one.
    std::fs::copy(source.join("shop-after.yaml"), manifests.join("zz.yaml")).unwrap();
    let (code, out, error) = diff("HEAD");
    assert_eq!(code, 1, "{error}");
    assert!(out.contains("opens      Deployment shop/web to Deployment shop/api on TCP 8080"), "{out}");
    assert!(out.contains("loses DNS  Pod database/postgres-1"), "{out}");
    let outside = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(&manifests)
        .args(["diff", "--since", "HEAD", "../manifests"])
        .output()
        .unwrap();
    assert_eq!(outside.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&outside.stderr).contains("below the current folder"));
    let (code, _, error) = diff("nowhere");
    assert!(code == 2 && error.contains("nowhere"), "{error}");
}

/// The view of a generated cluster, with its pods.
fn view(world: &World) -> View {
    View::of(world.objects().iter().chain(&world.manifests).map(object))
}

/// The ends of a flow as a user names them.
fn places(view: &View, flow: &Flow<'_>) -> Option<(Place, Place)> {
    let protocol =
        portcullis::model::Protocol::WITH_PORTS.into_iter().find(|protocol| protocol.name() == Some(flow.protocol))?;
    let port = Port { protocol, port: PortName::Number(flow.port) };
    let name = |end: oracle::End<'_>| match end {
        oracle::End::Pod(pod) => format!("{}/pod/{}", pod.namespace, pod.name),
        oracle::End::Outside(address) => address.to_string(),
    };
    let from = resolve(view, &name(flow.from), None, "default").unwrap().remove(0);
    let to = resolve(view, &name(flow.to), Some(&port), "default").unwrap().remove(0);
    (!from.is_same_pod(&to) && flow.port > 0).then_some((from, to))
}

/// Returns true if ports in words, such as `TCP 1-80`, hold a port.
fn covers(words: &str, protocol: &str, port: u16) -> bool {
    if words == format!("every {protocol} port") {
        return true;
    }
    let Some(range) = words.strip_prefix(protocol) else { return false };
    let (first, last) = range.trim().split_once('-').unwrap_or((range.trim(), range.trim()));
    (first.parse().unwrap()..=last.parse::<u16>().unwrap()).contains(&port)
}

/// The verdict is that of the oracle, or undecided where a rule is about what no manifest says.
fn agrees(world: &World, picks: &[Pick]) -> Result<(), TestCaseError> {
    let view = view(world);
    for pick in picks {
        let flow = pick.flow(world);
        let Some((from, to)) = places(&view, &flow) else { continue };
        let verdict = explain(Scene::of(&view), &from, &to).remove(0).verdict;
        let truth = if oracle::answer(world, &flow).connected() { Verdict::Allowed } else { Verdict::Blocked };
        prop_assert!(verdict == truth || verdict == Verdict::Undecided, "{verdict:?}: {flow:#?}");
    }
    Ok(())
}

/// The repairs with the configuration and the policies that are shipped.
fn shipped_repairs(view: &View, from: &Place, to: &Place) -> Vec<Repair> {
    repairs(view, &CONFIGURATION.site, &POLICIES, from, to)
}

/// Every repair of a blocked flow opens it, and lists the other pairs of pods that it opens and no more.
fn repairs_open_what_they_list(world: &World, flow: &Flow<'_>) -> Result<(), TestCaseError> {
    let view = view(world);
    let Some((from, to)) = places(&view, flow) else { return Ok(()) };
    if oracle::answer(world, flow).connected() {
        return Ok(());
    }
    for repair in shipped_repairs(&view, &from, &to) {
        // A label changes what the controller writes, which the oracle does not know.
        if repair.manifests.is_empty() && repair.patches.is_empty() {
            continue;
        }
        let mended = apply(world, &repair);
        prop_assert!(oracle::answer(&mended, flow).connected(), "{repair:#?} does not open {flow:#?}");
        let Some(announced) = &repair.also_opens else { continue };
        let mut opened = BTreeSet::new();
        for from in ends_like(world, flow.from) {
            for to in ends_like(world, flow.to) {
                let other = Flow { from, to, ..*flow };
                let opens = !oracle::answer(world, &other).connected() && oracle::answer(&mended, &other).connected();
                // The user asked for all pods with the same labels, and a pod always reaches itself.
                let is_asked = is_alike(flow.from, from) && is_alike(flow.to, to);
                if opens && !is_asked && from != to {
                    opened.insert(format!("{} to {} on {} {}", name(from), name(to), flow.protocol, flow.port));
                }
            }
        }
        let listed: BTreeSet<String> = announced.iter().filter(|line| *line != "more").cloned().collect();
        if listed.len() < announced.len() {
            prop_assert!(listed.is_subset(&opened), "{listed:#?} of {opened:#?}: {repair:#?}");
        } else {
            prop_assert_eq!(listed, opened, "{:#?}", repair);
        }
    }
    Ok(())
}

/// The world after a repair.
fn apply(world: &World, repair: &Repair) -> World {
    let mut mended = world.clone();
    mended.manifests.extend(repair.manifests.iter().cloned());
    for patched in &repair.patches {
        let is_it = |manifest: &&mut Value| {
            manifest["metadata"]["name"] == *patched.name && manifest["metadata"]["namespace"] == *patched.namespace
        };
        let manifest = mended.manifests.iter_mut().find(is_it).unwrap();
        let patch: json_patch::Patch = serde_json::from_value(patched.patch.clone()).unwrap();
        json_patch::patch(manifest, &patch).unwrap();
    }
    mended
}

/// The pods of a world if an end is a pod, or the end alone.
fn ends_like<'a>(world: &'a World, end: oracle::End<'a>) -> Vec<oracle::End<'a>> {
    match end {
        oracle::End::Pod(_) => world.pods.iter().map(oracle::End::Pod).collect(),
        oracle::End::Outside(_) => vec![end],
    }
}

/// Returns true if the ends are pods with the same labels in one namespace, or one address.
fn is_alike(one: oracle::End<'_>, other: oracle::End<'_>) -> bool {
    match (one.pod(), other.pod()) {
        (Some(one), Some(other)) => one.namespace == other.namespace && one.labels == other.labels,
        _ => one == other,
    }
}

/// The name of an end in reports.
fn name(end: oracle::End<'_>) -> String {
    match end {
        oracle::End::Pod(pod) => format!("Pod {}/{}", pod.namespace, pod.name),
        oracle::End::Outside(address) => address.to_string(),
    }
}

/// A world of the namespaces `a` and `b`, with pods by name, namespace and label keys, and NetworkPolicies by namespace.
fn small_world<const N: usize>(pods: [(&str, &str, &[&str]); N], policies: &[(&str, Value)]) -> World {
    let namespaces = ["a", "b"].map(|name| {
        let labels = [("kubernetes.io/metadata.name".to_owned(), name.to_owned())];
        (name.to_owned(), labels.into())
    });
    let pods = (1..).zip(pods).map(|(host, (name, namespace, labels))| Pod {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels: labels.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect(),
        service_account: "default".to_owned(),
        address: [10, 0, 0, host].into(),
        ports: Vec::new(),
    });
    let manifests = policies.iter().enumerate().map(|(number, (namespace, spec))| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("policy-{number}"), "namespace": namespace}, "spec": spec})
    });
    World { namespaces: namespaces.into(), pods: pods.collect(), manifests: manifests.collect() }
}

/// The flow from the first pod of a world to an end.
fn from_first<'a>(world: &'a World, to: oracle::End<'a>) -> Flow<'a> {
    Flow { from: oracle::End::Pod(&world.pods[0]), to, protocol: "TCP", port: 80 }
}

/// The connections that the repairs of a flow list.
fn listed(view: &View, flow: &Flow<'_>) -> Vec<Vec<String>> {
    let (from, to) = places(view, flow).unwrap();
    shipped_repairs(view, &from, &to).into_iter().filter_map(|repair| repair.also_opens).collect()
}

/// The rule of the repair also selects a pod whose own policy admits the sender by its address.
#[test]
fn a_repair_lists_connections_that_a_policy_admits_by_address() {
    let world = small_world(
        [("p1", "b", &["app"]), ("p2", "a", &["app"]), ("p3", "a", &["app", "tier"])],
        &[
            ("b", json!({"podSelector": {}, "policyTypes": ["Egress"]})),
            ("a", json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}]})),
        ],
    );
    let flow = from_first(&world, oracle::End::Pod(&world.pods[1]));
    repairs_open_what_they_list(&world, &flow).unwrap();
    let mut view = view(&world);
    assert_eq!(listed(&view, &flow), [["Pod b/p1 to Pod a/p3 on TCP 80"]]);
    // Replicas share a workload, and the policy could admit the address of each of them or not.
    let replica = object(&world.pods[0].object());
    let Body::Workload(workload) = replica.body else { panic!("{replica:?}") };
    let workload = Arc::new(workload);
    for (name, host) in [("p1", 1), ("p4", 4)] {
        let id = ObjectRef { name: name.into(), ..replica.id.clone() };
        view.insert_workload(&id, Arc::clone(&workload), Some([10, 0, 0, host].into()));
    }
    assert_eq!(listed(&view, &flow), [["Pod b/p1 to Pod a/p3 on TCP 80 (undecided)"]]);
}

/// The labels of the sender select a second pod, and the selector of the patched policy does not.
#[test]
fn a_patch_opens_nothing_for_pods_that_its_policy_does_not_select() {
    let without_app = json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]});
    let world = small_world(
        [("p1", "b", &["tier"]), ("p2", "b", &["app", "tier"])],
        &[
            ("b", json!({"podSelector": without_app, "policyTypes": ["Egress"], "egress": []})),
            ("b", json!({"podSelector": {}, "policyTypes": ["Egress"]})),
        ],
    );
    let flow = from_first(&world, oracle::End::Outside([192, 0, 2, 1].into()));
    repairs_open_what_they_list(&world, &flow).unwrap();
    assert_eq!(listed(&view(&world), &flow), [[""; 0]]);
}

#[test]
fn a_repair_does_not_list_a_pod_that_reaches_itself() {
    let world = small_world(
        [("p1", "a", &["app", "tier"]), ("p2", "a", &["app"])],
        &[("a", json!({"podSelector": {}, "policyTypes": ["Egress"]}))],
    );
    let flow = from_first(&world, oracle::End::Pod(&world.pods[1]));
    repairs_open_what_they_list(&world, &flow).unwrap();
    assert_eq!(listed(&view(&world), &flow), [[""; 0]]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn verdicts_are_those_of_the_oracle(
        world in prop_oneof![world_of_kubernetes(), world_of_cilium(), world_of_calico(), world_of_cluster_policies(), world()],
        picks in prop::collection::vec(flow(), 50),
    ) {
        agrees(&world, &picks)?;
    }

    /// A connection is said to open or close if and only if the oracle says so, for pods and ports that are surely decided.
    #[test]
    fn a_difference_is_that_of_the_oracle(
        old in world(),
        new in world(),
        picks in prop::collection::vec(flow(), 30),
    ) {
        // The same pods and namespaces with other policies.
        let changed = World { manifests: new.manifests, ..old.clone() };
        let (before, after) = (view(&old), view(&changed));
        let site = &CONFIGURATION.site;
        let difference = compare(&before, &after, site);
        for pick in picks {
            let flow = pick.flow(&old);
            let (Some(from), Some(to)) = (flow.from.pod(), flow.to.pod()) else { continue };
            let Some((sender, receiver)) = places(&before, &flow) else { continue };
            let verdict = |view: &View| explain(Scene::of(view), &sender, &receiver).remove(0).verdict;
            if verdict(&before) == Verdict::Undecided || verdict(&after) == Verdict::Undecided {
                continue;
            }
            // Pods that are alike are one workload.
            let is_first = |pod: &Pod| {
                let alike = |other: &&Pod| other.namespace == pod.namespace && other.labels == pod.labels;
                old.pods.iter().filter(alike).count() == 1
            };
            if !is_first(from) || !is_first(to) {
                continue;
            }
            let is_it = |change: &&Change| change.from == name(flow.from) && change.to == name(flow.to);
            let change = difference.connections.iter().find(is_it);
            let (was, is) = (oracle::answer(&old, &flow).connected(), oracle::answer(&changed, &flow).connected());
            let holds = |ports: Option<&Vec<String>>| {
                ports.is_some_and(|ports| ports.iter().any(|words| covers(words, flow.protocol, flow.port)))
            };
            let closed = holds(change.map(|change| &change.closed));
            let opened = holds(change.map(|change| &change.opened));
            prop_assert_eq!((closed, opened), (was && !is, !was && is), "{:#?} {:#?}", flow, change);
        }
    }

    #[test]
    fn a_repair_opens_the_flow_and_what_it_lists(
        world in world_of_kubernetes(),
        picks in prop::collection::vec(flow(), 8),
    ) {
        for pick in picks {
            repairs_open_what_they_list(&world, &pick.flow(&world))?;
        }
    }
}
