//! `portcullis audit`: its outputs, the agreement of its matrix with `trace`, and manifests that are not clean.

use std::collections::BTreeMap;
use std::path::Path;

use crate::objects::object;
use crate::oracle::World;
use crate::oracle::generate::{
    world, world_of_calico, world_of_cilium, world_of_cluster_policies, world_of_kubernetes,
};
use crate::shipped::{CONFIGURATION, POLICIES};
use crate::support::command::run;
use crate::support::golden;
use jiff::Timestamp;
use portcullis::audit::{Input, Reach, Report, Scope};
use portcullis::trace::{Place, Verdict, explain, resolve};
use portcullis::view::{Scene, View};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The name of a golden file, the arguments, and the exit status.
const CASES: &[(&str, &[&str], i32)] = &[
    ("rich.txt", &["tests/audit/rich"], 1),
    ("rich.md", &["--output", "markdown", "tests/audit/rich"], 1),
    ("rich.json", &["--output", "json", "--namespace", "legacy", "tests/audit/rich"], 1),
    ("clean.txt", &["tests/audit/clean"], 0),
    ("clean.md", &["--output", "markdown", "tests/audit/clean"], 0),
    ("clean.json", &["--output", "json", "tests/audit/clean"], 0),
];

#[test]
fn outputs_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit");
    let mut wrong = Vec::new();
    for (name, arguments, code) in CASES {
        let done = run(&[&["audit"], *arguments].concat(), "");
        wrong.extend(golden::compare(&folder.join(name), &done.out).err());
        if done.code != *code || !done.err.is_empty() {
            wrong.push(format!("{name}: exit status {}, expected {code}\n{}", done.code, done.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The report on manifests, and the exit status.
fn report(arguments: &[&str]) -> (i32, Value) {
    let done = run(&[&["audit", "--output", "json"], arguments].concat(), "");
    let report = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}{}", done.out, done.err));
    (done.code, report)
}

fn counts(report: &Value) -> BTreeMap<String, u64> {
    let sections = report["sections"].as_array().unwrap().iter();
    sections.map(|section| (section["id"].as_str().unwrap().to_owned(), section["count"].as_u64().unwrap())).collect()
}

#[test]
fn every_section_fires_on_the_rich_set_and_none_on_the_clean_one() {
    let (_, rich) = report(&["tests/audit/rich"]);
    let silent: Vec<String> = counts(&rich).into_iter().filter(|(_, count)| *count == 0).map(|(id, _)| id).collect();
    assert_eq!(silent, Vec::<String>::new());
    let (_, clean) = report(&["tests/audit/clean"]);
    let firing: Vec<String> = counts(&clean).into_iter().filter(|(_, count)| *count > 0).map(|(id, _)| id).collect();
    // The size of policies is a number of every cluster.
    assert_eq!(firing, ["policy-size"]);
    // The list behind a number holds what it counts.
    for section in rich["sections"].as_array().unwrap().iter().filter(|section| section["id"] != "policy-size") {
        let counted: u64 =
            section["items"].as_array().unwrap().iter().map(|item| item["counted"].as_u64().unwrap()).sum();
        assert_eq!(section["count"].as_u64(), Some(counted), "{section:#}");
    }
}

#[test]
fn findings_are_those_of_check() {
    let (_, audited) = report(&["tests/audit/rich"]);
    let checked = run(&["check", "--output", "json", "tests/audit/rich"], "");
    let checked: Value = serde_json::from_str(&checked.out).unwrap();
    let of_audit = audited["findings"].as_array().unwrap().iter();
    let mut of_audit: Vec<String> =
        of_audit.map(|finding| format!("{} {} {}", finding["action"], finding["rule"], finding["message"])).collect();
    let of_check = checked["findings"].as_array().unwrap().iter();
    let mut of_check: Vec<String> =
        of_check.map(|finding| format!("{} {} {}", finding["action"], finding["rule"], finding["message"])).collect();
    // Contracts have a section of their own, for the whole state instead of each object.
    assert!(of_check.iter().any(|finding| finding.contains("broken-contract")), "{of_check:?}");
    of_check.retain(|finding| !finding.contains("\"broken-contract\""));
    of_audit.sort();
    of_check.sort();
    assert_eq!(of_audit, of_check);
}

/// The names and results of the contracts.
fn contracts(report: &Value) -> Vec<(&str, &str)> {
    let contracts = report["contracts"].as_array().unwrap().iter();
    contracts.map(|one| (one["name"].as_str().unwrap(), one["result"].as_str().unwrap())).collect()
}

/// A contract of the clean set that no pod of namespace shop may connect to the cluster DNS, which all of them may.
fn broken(enforcement: &str) -> Value {
    let connections = json!({"from": [{"namespaces": ["shop"]}], "to": [{"entity": "ClusterDNS"}]});
    json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract", "metadata": {"name": "no-dns"},
        "spec": {"enforcement": enforcement, "owner": "team\u{1b}[31m", "mustNotReach": connections}})
}

#[test]
fn a_broken_contract_is_a_finding() {
    for (enforcement, option, code) in
        [("Deny", "finding", 1), ("Deny", "deny", 1), ("Warn", "finding", 1), ("Warn", "deny", 0)]
    {
        let contract = broken(enforcement).to_string();
        let done = run(&["audit", "--fail-on", option, "tests/audit/clean", "-"], &contract);
        assert_eq!(done.code, code, "{enforcement}, {option}: {}", done.out);
        assert!(done.out.contains("Broken contracts: 1 of 2"), "{}", done.out);
        assert!(!done.out.contains('\u{1b}'), "the text of a user stays text: {}", done.out);
        let tested = run(&["test", "tests/audit/clean", "-"], &contract);
        let lines = tested.out.lines().filter(|line| line.contains("could reach") || line.contains("because"));
        assert_eq!(lines.clone().count(), 2, "{}", tested.out);
        lines.for_each(|line| assert!(done.out.contains(line), "the words of `portcullis test`: {line}"));
    }
}

#[test]
fn a_namespace_limits_the_report_and_not_the_answers() {
    let (code, all) = report(&["tests/audit/rich"]);
    assert_eq!(code, 1);
    let (code, one) = report(&["--namespace", "shop", "tests/audit/rich"]);
    assert_eq!(code, 1);
    let names = |report: &Value| -> Vec<String> {
        report["namespaces"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&one), ["shop"]);
    assert!(names(&all).len() > 1);
    let cells = |report: &Value| report["matrix"]["workloads"]["cells"].as_array().unwrap().clone();
    let of_shop =
        |cell: &Value| [&cell["from"], &cell["to"]].iter().any(|end| end.as_str().unwrap().starts_with("shop/"));
    let outcome = |cells: Vec<Value>| -> BTreeMap<(String, String), String> {
        let with_shop = cells.into_iter().filter(of_shop);
        with_shop.map(|cell| ((cell["from"].to_string(), cell["to"].to_string()), cell["ports"].to_string())).collect()
    };
    assert!(cells(&one).iter().all(of_shop));
    for section in one["sections"].as_array().unwrap() {
        // Contracts are about several namespaces.
        if section["id"].as_str().unwrap().ends_with("-contracts") {
            continue;
        }
        for item in section["items"].as_array().unwrap() {
            assert_eq!(item["namespace"], "shop", "{}: {item:#}", section["id"]);
        }
    }
    assert_eq!(outcome(cells(&one)), outcome(cells(&all)));
    assert_eq!(contracts(&one), [("dns", "holds")]);
    assert_eq!(contracts(&all), [("store", "broken"), ("vendor", "undecided"), ("dns", "holds"), ("metrics", "holds")]);
    let unknown = run(&["audit", "--namespace", "nowhere", "tests/audit/rich"], "");
    assert!(unknown.code == 2 && unknown.err.contains("namespace `nowhere` is unknown"), "{}", unknown.err);
}

#[test]
fn a_calico_policy_in_both_of_its_groups_is_one_policy() {
    let folder = tempfile::tempdir().unwrap();
    let spec = json!({"selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Allow"}]});
    for (file, api_version, name) in
        [("a.json", "projectcalico.org/v3", "open"), ("b.json", "crd.projectcalico.org/v1", "default.open")]
    {
        let policy = json!({"apiVersion": api_version, "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        std::fs::write(folder.path().join(file), policy.to_string()).unwrap();
    }
    let (_, report) = report(&[folder.path().to_str().unwrap()]);
    let findings = report["findings"].as_array().unwrap();
    let sources: Vec<&str> = findings.iter().filter_map(|finding| finding["source"].as_str()).collect();
    assert!(!sources.is_empty() && sources.iter().all(|source| source.contains("b.json")), "{sources:?}");
}

#[test]
fn a_search_that_stops_early_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let rules = |count: usize, block: u8| -> Value {
        (0..count).map(|n| json!({"toCIDR": [format!("{block}.0.{}.{}/32", n / 256, n % 256)]})).collect()
    };
    let policy = |name: &str, spec: Value| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop",
        "labels": {"app": "web"}}, "spec": {"containers": []}});
    let stops = |count: usize| {
        let deny = policy("deny", json!({"endpointSelector": {}, "egressDeny": rules(count, 10)}));
        let allow = policy("allow", json!({"endpointSelector": {}, "egress": rules(count, 11)}));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [deny, allow, pod]});
        std::fs::write(folder.path().join("list.json"), list.to_string()).unwrap();
        let (_, report) = report(&["--namespace", "shop", folder.path().to_str().unwrap()]);
        report["assumed"].as_array().unwrap().iter().any(|text| text.as_str().unwrap().starts_with("only 100000 pairs"))
    };
    assert!(!stops(10));
    assert!(stops(320), "320 × 320 pairs");
}

#[test]
fn the_exit_status_follows_the_option() {
    for (option, code) in [("finding", 1), ("deny", 1), ("never", 0)] {
        let done = run(&["audit", "--fail-on", option, "tests/audit/rich"], "");
        assert_eq!(done.code, code, "{option}");
    }
    let warned = tempfile::tempdir().unwrap();
    let policies = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/clean/shop.yaml"));
    let copy = policies.unwrap().replace("app: web\n    ports", "app: wep\n    ports");
    std::fs::write(warned.path().join("shop.yaml"), copy).unwrap();
    for (option, code) in [("finding", 1), ("deny", 0)] {
        let done = run(&["audit", "--fail-on", option, warned.path().to_str().unwrap()], "");
        assert_eq!(done.code, code, "{option}: {}", done.out);
    }
    let nothing = run(&["audit"], "");
    assert_eq!(nothing.code, 2);
}

#[test]
fn a_repository_with_broken_files_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let clean = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/clean/shop.yaml"));
    write("shop.yaml", &clean.unwrap());
    write("chart/values.yaml", "replicas: 3\nimage: {tag: v1}\n");
    write(
        "chart/templates/policy.yaml",
        "{{- if .Values.x }}\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n{{- end }}\n",
    );
    write("broken.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a\n");
    write(
        "wrong.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b}\nspec: 3\n",
    );
    write(
        "twice.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: c, uid: '1'}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: c, uid: '1'}\n",
    );
    write("README.md", "# not a manifest\n");
    write("overlay/kustomization.yaml", "namespace: staging\nresources: [deployment.yaml]\n");
    write(
        "overlay/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {labels: {app: d}}, spec: {containers: []}}}\n",
    );
    write(
        "loose.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: '${APP}'}}\nspec: {containers: []}\n",
    );
    let (code, report) = report(&[folder.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    let unread: Vec<&str> =
        report["unread"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert!(unread.len() == 2 && unread[0].contains("broken.yaml") && unread[1].contains("wrong.yaml"), "{unread:?}");
    let ids: Vec<&str> =
        report["workloads"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["pod/p", "shop/deployment/web", "staging/deployment/d"]);
    let assumed = report["assumed"].to_string();
    assert!(assumed.contains("1 manifests contain unresolved variables"), "{assumed}");
}

#[test]
fn a_kind_of_text_that_a_user_writes_does_not_break_a_table() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: a\n  namespace: b\n  annotations:\n    \
        network-policy.portcullis.dev/exempt: any-port\n    \
        network-policy.portcullis.dev/reason: \"x|y<script>\\n\\e[31m\"\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n  ingress: [{}]\n";
    let markdown = run(&["audit", "--output", "markdown", "-"], policy);
    assert!(!markdown.out.contains("<script>") && !markdown.out.contains("x|y"), "{}", markdown.out);
    let text = run(&["audit", "-"], policy);
    assert!(text.out.contains("x|y<script>") && !text.out.contains('\u{1b}'), "{}", text.out);
}

/// The view of a generated cluster. Some of its pods have the Deployment that creates them.
fn view(world: &World) -> View {
    let pods = world.pods.iter().enumerate().flat_map(|(at, pod)| {
        let object = pod.object();
        let template = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": pod.name, "namespace": pod.namespace},
            "spec": {"template": {"metadata": {"labels": pod.labels}, "spec": object["spec"]}},
        });
        match at % 3 {
            0 => vec![object],
            1 => vec![template],
            _ => vec![object, template],
        }
    });
    let manifests = world.namespace_objects().chain(pods).chain(world.manifests.iter().cloned());
    View::of(manifests.map(|manifest| object(&manifest)))
}

/// Allowed ports of each protocol as ranges that do not touch, from words such as `TCP 1-79, TCP 80`.
fn ranges<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<(u32, u32)>> {
    let mut ranges: BTreeMap<String, Vec<(u32, u32)>> = BTreeMap::new();
    let parts = words.into_iter().flat_map(|words| words.split(", ")).filter(|part| !part.is_empty());
    for part in parts {
        if part == "every port" {
            for protocol in ["TCP", "UDP", "SCTP"] {
                ranges.insert(protocol.to_owned(), vec![(1, 65_535)]);
            }
        } else if let Some(rest) = part.strip_prefix("every ") {
            ranges.insert(rest.trim_end_matches(" port").to_owned(), vec![(1, 65_535)]);
        } else {
            let (protocol, numbers) = part.split_once(' ').unwrap();
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            ranges.entry(protocol.to_owned()).or_default().push((first.parse().unwrap(), last.parse().unwrap()));
        }
    }
    for list in ranges.values_mut() {
        list.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for &(first, last) in list.iter() {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        *list = merged;
    }
    ranges
}

/// What `trace` says about a connection over every port: the verdict and the allowed ports.
fn traced(view: &View, from: &Place, to: &Place) -> (Verdict, Vec<String>) {
    let flows = explain(Scene::of(view), from, to);
    let verdict = flows.iter().map(|flow| flow.verdict).min().unwrap();
    let allowed = flows.into_iter().filter(|flow| flow.verdict == Verdict::Allowed).map(|flow| flow.ports);
    (verdict, allowed.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Each cell says what `trace` says for the same ends, and a pair of namespaces what all pairs of its pods say.
    #[test]
    fn the_matrix_is_what_trace_says(
        world in prop_oneof![world_of_kubernetes(), world_of_cilium(), world_of_calico(), world_of_cluster_policies(), world()],
    ) {
        let view = view(&world);
        let scope = Scope::default();
        let input = Input {
            configuration: &CONFIGURATION, policies: &POLICIES, view: &view, stored: &view, objects: &[], scope: &scope,
            now: Timestamp::UNIX_EPOCH,
        };
        let report = Report::of(&input);
        prop_assert_eq!(report.matrix.omitted + report.matrix.workloads.omitted, 0);
        let place = |id: &str| resolve(&view, id, None, "").unwrap().remove(0);
        for cell in &report.matrix.workloads.cells {
            let (from, to) = (place(&cell.from), place(&cell.to));
            // Two pods of one workload are not one pod.
            if from.is_same_pod(&to) {
                continue;
            }
            let (verdict, ports) = traced(&view, &from, &to);
            prop_assert_eq!(cell.outcome, verdict, "{} to {}", &cell.from, &cell.to);
            prop_assert_eq!(ranges([&*cell.ports]), ranges(ports.iter().map(String::as_str)), "{} to {}", &cell.from, &cell.to);
        }
        // Every pod, and every template without pods, whatever class it is in.
        let mut ends: Vec<(String, Place)> = Vec::new();
        for (at, pod) in world.pods.iter().enumerate() {
            let has_pods = world.pods.iter().enumerate().any(|(other_at, other)| {
                other_at % 3 != 1 && (&other.namespace, &other.labels, &other.ports, &other.service_account)
                    == (&pod.namespace, &pod.labels, &pod.ports, &pod.service_account)
            });
            let kind = if at % 3 == 1 { "deployment" } else { "pod" };
            if at % 3 != 1 || !has_pods {
                ends.push((pod.namespace.clone(), place(&format!("{}/{kind}/{}", pod.namespace, pod.name))));
            }
        }
        let matrix = &report.matrix;
        for (from, sender) in matrix.namespaces.iter().enumerate() {
            for (to, receiver) in matrix.namespaces.iter().enumerate() {
                let cell = matrix.cells.iter().find(|cell| (cell.from, cell.to) == (from, to));
                let outcome = cell.map_or(matrix.otherwise, |cell| cell.outcome);
                let senders = ends.iter().filter(|(namespace, _)| namespace == sender);
                let pairs = senders.flat_map(|from| ends.iter().map(move |to| (from, to)));
                let pairs = pairs.filter(|(from, to)| to.0 == *receiver && !from.1.is_same_pod(&to.1));
                let answers: Vec<(Verdict, Vec<String>)> = pairs.map(|(from, to)| traced(&view, &from.1, &to.1)).collect();
                let everything = ranges(["every port"]);
                let is_all = answers.iter().all(|(_, ports)| ranges(ports.iter().map(String::as_str)) == everything);
                let expected = match answers.iter().map(|(verdict, _)| *verdict).min() {
                    _ if is_all => Reach::All,
                    Some(Verdict::Allowed) => Reach::Some,
                    Some(Verdict::Undecided) => Reach::Undecided,
                    _ => Reach::None,
                };
                prop_assert_eq!(outcome, expected, "{} to {}: {:?}", sender, receiver, answers);
                // The only pod of a namespace reaches itself.
                if let Some(cell) = cell.filter(|_| !answers.is_empty()) {
                    let ports = answers.iter().flat_map(|(_, ports)| ports).map(String::as_str);
                    prop_assert_eq!(ranges([&*cell.ports]), ranges(ports), "{} to {}", sender, receiver);
                }
            }
        }
    }
}
