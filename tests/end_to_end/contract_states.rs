//! The states of contracts in a cluster: status, metrics and Events after changes that the webhook did not deny, and the
//! schema of the CustomResourceDefinition.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::accepted;
use crate::contracts::{CRD, CUT, Change, DB, OPENED, POSTGRES, PUBLIC, breaking, ingress, network_policy, state};
use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::{Installation, NAMESPACE};

const DATABASE: &str = "card-database";
const API: &str = "api-has-its-database";

fn status(cluster: &Installation, contract: &str) -> Value {
    cluster.plane.stored(&["contract", contract]).expect("the contract is stored")["status"].clone()
}

/// Waits until the status, and the metrics of every replica, have a state.
#[track_caller]
fn until(cluster: &Installation, contract: &str, state: &str) -> Value {
    cluster.until(&format!("{contract} has the state {state}"), |cluster| status(cluster, contract)["state"] == state);
    let series = format!("portcullis_contract_state{{contract=\"{contract}\",state=\"{}\"}}", state.to_lowercase());
    cluster.until(&series, |cluster| cluster.replicas.iter().all(|replica| replica.metric(&series) == Some(1.0)));
    status(cluster, contract)
}

/// The reasons and notes of the Events about a contract.
fn events(cluster: &Installation, contract: &str) -> Vec<(String, String)> {
    let listed = cluster.plane.kubectl(&["get", "events.events.k8s.io", "--all-namespaces", "--output=json"]);
    let list: Value = serde_json::from_str(&listed.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let about = list["items"].as_array().unwrap().iter().filter(|event| event["regarding"]["name"] == contract);
    about.map(|event| (text(&event["reason"]), text(&event["note"]))).collect()
}

/// A policy that opens the database, with an exemption.
fn exempt() -> String {
    let annotations = json!({
        "network-policy.portcullis.dev/exempt": "broken-contract",
        "network-policy.portcullis.dev/reason": "an incident",
    });
    network_policy("payments", "bypass", &ingress(DB, PUBLIC, POSTGRES))
        .replace("namespace: payments", &format!("namespace: payments, annotations: {annotations}"))
}

pub(crate) fn a_status_says_since_when_and_by_what_a_contract_is_broken(cluster: &mut Installation) {
    for contract in [DATABASE, API] {
        let status = until(cluster, contract, "Holds");
        let condition = &status["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!("Holds"), &json!("True")), "{status:#}");
        assert_eq!((&condition["reason"], &condition["observedGeneration"]), (&json!("Proved"), &json!(1)));
    }
    accepted(&cluster.plane.apply(&exempt(), &[]));
    let broken = until(cluster, DATABASE, "Broken");
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "payments", "name": "bypass",
    });
    assert!(broken["connection"].as_str().unwrap().ends_with(OPENED), "{broken:#}");
    assert_eq!((&broken["policies"], &broken["brokenBy"]), (&json!([policy]), &policy), "{broken:#}");
    let condition = &broken["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("ConnectionFound")));
    assert_eq!(status(cluster, API)["state"], "Holds");

    let shown = cluster.plane.kubectl(&["get", "contract", DATABASE]);
    accepted(&shown);
    let [head, row] = shown.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["NAME", "STATE", "SINCE", "OWNER", "ENFORCEMENT", "AGE"]);
    assert!(row.contains("Broken") && row.contains("team-payments"), "{shown}");
    let note = "NetworkPolicy payments/bypass allows it";
    cluster.until("the Event", |cluster| {
        events(cluster, DATABASE).iter().any(|(reason, text)| reason == "ContractBroken" && text.contains(note))
    });
}

pub(crate) fn a_restart_keeps_the_time_and_the_object(cluster: &mut Installation) {
    let stored = |cluster: &Installation| cluster.plane.stored(&["contract", DATABASE]).unwrap();
    let before = stored(cluster);
    cluster.stop_replicas();
    cluster.start_replica();
    cluster.until("it leads", |cluster| cluster.replicas[0].metric("portcullis_leader") == Some(1.0));
    until(cluster, DATABASE, "Broken");
    thread::sleep(Duration::from_secs(3));
    // An unchanged status is not written, by this replica either.
    assert_eq!(stored(cluster), before);

    accepted(&cluster.plane.kubectl(&["delete", "networkpolicy", "bypass", "--namespace=payments"]));
    let holds = until(cluster, DATABASE, "Holds");
    assert_eq!((&holds["connection"], &holds["brokenBy"]), (&Value::Null, &Value::Null), "{holds:#}");
    let time = |status: &Value| status["conditions"][0]["lastTransitionTime"].as_str().unwrap().to_owned();
    assert!(time(&holds) > time(&before["status"]), "{holds:#}");
    cluster.until("the Event", |cluster| events(cluster, DATABASE).iter().any(|(reason, _)| reason == "ContractHolds"));
}

pub(crate) fn the_status_is_all_that_may_be_written(cluster: &mut Installation) {
    let account = format!("system:serviceaccount:{NAMESPACE}:portcullis");
    let account = cluster.plane.as_user(&account, &[]);
    for (verb, resource, expected) in [
        ("patch", "contracts.portcullis.dev/status", "yes"),
        ("update", "contracts.portcullis.dev/status", "no"),
        ("patch", "contracts.portcullis.dev", "no"),
        ("delete", "contracts.portcullis.dev", "no"),
    ] {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let answer = account.run(&["auth", "can-i", verb, resource, &format!("--subresource={subresource}")]);
        assert_eq!(answer.stdout.trim(), expected, "{verb} {resource}/{subresource}: {answer}");
    }
    let shown = cluster.plane.kubectl(&["get", "contract", DATABASE, "--output=json", "--show-managed-fields"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let managed = shown["metadata"]["managedFields"].as_array().unwrap();
    let of_status: Vec<&Value> = managed.iter().filter(|entry| entry["subresource"] == "status").collect();
    assert_eq!(of_status.len(), 1, "{shown:#}");
    assert_eq!(
        (&of_status[0]["manager"], &of_status[0]["operation"]),
        (&json!("portcullis-contracts"), &json!("Apply"))
    );
}

// === Counterexamples ===

/// A source or a destination as the status describes it: the namespace and the labels.
fn witness(text: &str) -> (String, Value) {
    let (pod, namespace) = text.split_once(" in namespace ").unwrap_or_else(|| panic!("{text}"));
    let labels = pod.strip_prefix("a pod with ").unwrap_or_default();
    let labels = labels.split(" and service account ").next().unwrap();
    let pairs = labels.split(',').filter_map(|label| label.split_once('='));
    (namespace.to_owned(), pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

fn pod(name: &str, namespace: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "example.com/c"}]},
    })
}

/// Creates the two pods of a connection, and traces it.
fn trace(cluster: &Installation, connection: &str) -> String {
    let (ends, port) = connection.rsplit_once(" on TCP ").unwrap_or_else(|| panic!("{connection}"));
    let ends = ends.replace(" could not reach ", " could reach ");
    let (from, to) = ends.split_once(" could reach ").unwrap();
    let places = [("witness-from", from), ("witness-to", to)].map(|(name, text)| {
        let (namespace, labels) = witness(text);
        accepted(&cluster.plane.apply(&pod(name, &namespace, &labels).to_string(), &[]));
        (name, namespace)
    });
    let [from, to] = places.each_ref().map(|(name, namespace)| format!("{namespace}/{name}"));
    let port = port.split('-').next().unwrap();
    let traced =
        cluster.portcullis(&["trace", "--cluster", "--output=json", "--from", &from, "--to", &format!("{to}:{port}")]);
    for (name, namespace) in &places {
        let namespace = format!("--namespace={namespace}");
        let delete = ["delete", "pod", name, &namespace, "--force", "--grace-period=0", "--wait=false"];
        accepted(&cluster.plane.kubectl(&delete));
    }
    let answer: Value = serde_json::from_str(&traced.out).unwrap_or_else(|error| panic!("{error}: {}", traced.err));
    answer["verdict"].as_str().unwrap().to_owned()
}

/// Restores the state before a change of [`breaking`].
fn restore(plane: &ControlPlane) {
    accepted(&plane.apply(&state(), &[]));
    for kind in ["networkpolicy", "ciliumnetworkpolicy", "ciliumclusterwidenetworkpolicy", "clusternetworkpolicy"] {
        accepted(&plane.kubectl(&["delete", kind, "new", "--namespace=payments", "--ignore-not-found"]));
    }
    accepted(&plane.kubectl(&["delete", "globalnetworkpolicy", "default.db", "--ignore-not-found"]));
    accepted(&plane.kubectl(&["label", "namespace", "kube-public", "trust-"]));
}

/// Ways of which each breaks a contract by another kind of object or in another direction.
const TRACED: [&str; 8] = [
    "a policy for one namespace",
    "an edit",
    "a namespace label",
    "a Cilium policy",
    "the loss of the Deny",
    "an earlier Pass",
    "the loss of the egress policy",
    "another selector",
];

pub(crate) fn a_counterexample_is_a_connection_between_real_pods(cluster: &mut Installation) {
    let before = fs::read_to_string(&cluster.config).unwrap();
    fs::write(&cluster.config, format!("{before}  broken-contract: {{mode: warn}}\n")).unwrap();
    let probe = Change::Apply(network_policy("payments", "probe", &ingress(DB, PUBLIC, POSTGRES)));
    cluster.until("changes are only warned about", |cluster| probe.make(&cluster.plane, true).ok);
    // What broke a contract together with a reload of the configuration is not known.
    thread::sleep(Duration::from_secs(3));
    let ways: Vec<(&str, Change, &str)> = breaking().into_iter().filter(|(name, ..)| TRACED.contains(name)).collect();
    assert_eq!(ways.len(), TRACED.len());
    let mut wrong = Vec::new();
    for (name, change, flow) in ways {
        accepted(&change.make(&cluster.plane, false));
        let (contract, verdict) = if flow == CUT { (API, "blocked") } else { (DATABASE, "allowed") };
        let broken = until(cluster, contract, "Broken");
        let connection = broken["connection"].as_str().unwrap();
        let traced = trace(cluster, connection);
        if traced != verdict || broken["brokenBy"]["name"].is_null() {
            wrong.push(format!("{name}: {connection} is {traced}\n{broken:#}"));
        }
        restore(&cluster.plane);
        until(cluster, contract, "Holds");
    }
    fs::write(&cluster.config, before).unwrap();
    cluster.until("changes are denied again", |cluster| !probe.make(&cluster.plane, true).ok);
    assert!(wrong.is_empty(), "{} ways:\n{}", wrong.len(), wrong.join("\n"));
}

// === The schema ===

/// A contract with these parties and ports.
fn written(name: &str, from: &str, to: &str, ports: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {{name: {name}}}\nspec:\n  mustReach: {{from: [{from}], \
         to: [{to}], ports: [{ports}]}}\n"
    )
}

fn tried(plane: &ControlPlane, from: &str, to: &str, ports: &str) -> Output {
    plane.apply(&written("tried", from, to, ports), &["--dry-run=server"])
}

pub(crate) fn the_schema_rejects_what_the_reader_rejects(cluster: &mut Installation) {
    let pods = "{namespaces: [shop]}";
    let one_of = "expected pods (namespaces or namespaceSelector, and podSelector), or exactly one of allPodsExcept, cidr, \
                  domain and entity";
    let mut wrong = Vec::new();
    for (from, to, ports, expected) in [
        (pods, "{cidr: 10.0.0.0}", "", "cidr"),
        (pods, "{cidr: 10.0.0.0/33}", "", "cidr"),
        (pods, "{cidr: 10.0.0.0/08}", "", "cidr"),
        (pods, "{cidr: 10.0.0.0/8, domain: example.com}", "", one_of),
        (pods, "{namespaces: [shop], entity: Nodes}", "", one_of),
        (pods, "{podSelector: {}, cidr: 10.0.0.0/8}", "", one_of),
        (pods, "{allPodsExcept: [], entity: Internet}", "", one_of),
        ("{}", pods, "", one_of),
        (
            "{namespaces: [shop], namespaceSelector: {}}",
            pods,
            "",
            "namespaces and namespaceSelector exclude each other",
        ),
        ("{podSelector: {}}", pods, "", "podSelector requires namespaces or namespaceSelector"),
        ("{allPodsExcept: [{podSelector: {}}]}", pods, "", "expected either namespaces or namespaceSelector"),
        (
            "{allPodsExcept: [{namespaces: [shop], namespaceSelector: {}}]}",
            pods,
            "",
            "expected either namespaces or namespaceSelector",
        ),
        ("{namespaces: [Shop]}", pods, "", "namespaces[0]"),
        ("{namespaces: []}", pods, "", "namespaces"),
        ("{entity: ClusterDNS}", pods, "", "ClusterDNS can only be a destination"),
        ("{entity: Nodes}", "{cidr: 192.0.2.0/24}", "", "connections without a pod at one end"),
        (pods, "{entity: World}", "", "entity"),
        (pods, "{domain: \"*.example.com\"}", "", "domain"),
        (pods, "{domain: \"\"}", "", "domain"),
        (pods, pods, "{endPort: 80}", "endPort requires port"),
        (pods, pods, "{port: 80, endPort: 79}", "endPort is smaller than port"),
        (pods, pods, "{port: 0}", "port"),
        (pods, pods, "{port: 70000}", "port"),
        (pods, pods, "{protocol: ICMP}", "protocol"),
        ("{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}", pods, "", "values"),
        ("{namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}", pods, "", "values"),
        ("{namespaceSelector: {matchExpressions: [{key: a, operator: Is}]}}", pods, "", "operator"),
        ("", pods, "", "from"),
    ] {
        let output = tried(&cluster.plane, from, to, ports);
        if output.ok || !output.stderr.contains("is invalid") || !output.stderr.contains(expected) {
            wrong.push(format!("from {from} to {to} on {ports}: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{} contracts:\n{}", wrong.len(), wrong.join("\n"));
}

pub(crate) fn the_schema_accepts_what_the_reader_accepts(cluster: &mut Installation) {
    let examples =
        include_str!("../contracts/contracts.yaml").replace("metadata: {name: ", "metadata: {name: example-");
    accepted(&cluster.plane.apply(&examples, &["--dry-run=server"]));
    let page = include_str!("../../docs/dialects/contract.md");
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    accepted(&cluster.plane.apply(example, &["--dry-run=server"]));
    let pods = "{namespaces: [shop], podSelector: {}}";
    for (from, to, ports) in [
        (pods, "{cidr: 10.1.2.3/8}", ""),
        (pods, "{cidr: \"fd00::/8\"}", "{protocol: SCTP}"),
        (pods, "{domain: api.example.com}, {entity: Nodes}, {entity: ClusterDNS}", "{port: 80, endPort: 80}"),
        ("{cidr: 192.0.2.0/24}, {entity: Internet}", "{allPodsExcept: []}", ""),
        ("{namespaceSelector: {matchExpressions: [{key: a, operator: Exists}]}}", pods, "{port: 65535}"),
        ("{namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}}", pods, ""),
    ] {
        accepted(&tried(&cluster.plane, from, to, ports));
    }
}

/// The schema of an older version accepted more.
pub(crate) fn a_contract_that_cannot_be_read_is_invalid_until_it_can(cluster: &mut Installation) {
    let older = CRD.replace("format: cidr", "minLength: 1").replace("pattern: /(0|[1-9][0-9]*)$", "");
    accepted(&cluster.plane.apply(&older, &[]));
    let [wrong, right] = ["10.0.0.0", "10.0.0.0/8"]
        .map(|cidr| written("typo", "{namespaces: [shop]}", &format!("{{cidr: {cidr}}}"), "{port: 4789}"));
    cluster.until("the schema accepts it", |cluster| cluster.plane.apply(&wrong, &[]).ok);
    let invalid = until(cluster, "typo", "Invalid");
    let condition = &invalid["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("Unknown"), &json!("Invalid")), "{invalid:#}");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains("spec.mustReach.to[0].cidr") && message.contains("`10.0.0.0` is not a CIDR"), "{message}");
    cluster.until("the Event", |cluster| events(cluster, "typo").iter().any(|(reason, _)| reason == "ContractInvalid"));

    accepted(&cluster.plane.apply(CRD, &[]));
    accepted(&cluster.plane.apply(&right, &[]));
    // shop has no policy that allows this egress.
    let broken = until(cluster, "typo", "Broken");
    assert_eq!(broken["conditions"][0]["observedGeneration"], 2, "{broken:#}");
    accepted(&cluster.plane.kubectl(&["delete", "contract", "typo"]));
    let series = r#"portcullis_contract_state{contract="typo",state="broken"}"#;
    cluster.until("the series is gone", |cluster| cluster.replicas[0].metric(series).is_none());
}

/// A namespace that is recreated with a label of a rule is another namespace.
pub(crate) fn a_recreated_namespace_is_evaluated_anew(cluster: &mut Installation) {
    let namespace = |labels: &str| {
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n");
        Change::Apply(manifest)
    };
    cluster.delete_namespace("shop");
    cluster.until("it is gone", |cluster| cluster.plane.stored(&["namespace", "shop"]).is_none());
    let mut denied = namespace("trust: high").make(&cluster.plane, true);
    cluster.until("it is evaluated as a new one", |cluster| {
        denied = namespace("trust: high").make(&cluster.plane, true);
        denied.stderr.contains("in namespace shop could reach a pod with app=db")
    });
    assert!(!denied.ok && denied.stderr.contains("broken-contract"), "{denied}");
    accepted(&namespace("trust: low").make(&cluster.plane, false));
    until(cluster, DATABASE, "Holds");
}
