//! The webhook configurations in the cluster: compared, written, reported, and left alone where an administrator says so.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{POLICIES, accepted, denied};
use crate::manifests::*;
use crate::support::installation::{Installation, NAMESPACE};

const VALIDATING: &str = "validatingwebhookconfiguration";
const MUTATING: &str = "mutatingwebhookconfiguration";
const BOTH: &str = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
const PAUSED: &str = "portcullis.dev/webhooks-paused";
/// Longer than several checks.
const A_WHILE: Duration = Duration::from_secs(7);

fn stored(cluster: &Installation, kind: &str) -> Option<Value> {
    cluster.plane.stored(&[kind, "portcullis"])
}

fn delete(cluster: &Installation) {
    accepted(&cluster.plane.kubectl(&["delete", BOTH, "portcullis"]));
}

fn webhooks(cluster: &Installation, kind: &str) -> Option<Value> {
    stored(cluster, kind).map(|configuration| configuration["webhooks"].clone())
}

/// Both configurations without what a write of the same content changes.
fn content(cluster: &Installation) -> [Option<Value>; 2] {
    [VALIDATING, MUTATING].map(|kind| webhooks(cluster, kind))
}

/// The replicas report this state of a configuration.
fn all_report(cluster: &Installation, configuration: &str, state: &str) -> bool {
    let series = format!(r#"portcullis_webhooks_state{{configuration="{configuration}",state="{state}"}}"#);
    cluster.replicas.iter().all(|replica| replica.metric(&series) == Some(1.0))
}

fn are_ok(cluster: &Installation) -> bool {
    let says_ok = |replica: &crate::support::installation::Replica| {
        replica.readyz().is_some_and(|(status, detail)| status == 200 && detail["detail"]["webhooks"] == "ok")
    };
    cluster.replicas.iter().all(says_ok)
        && all_report(cluster, "validating", "ok")
        && all_report(cluster, "mutating", "ok")
}

/// The Events with this reason, each with the object they are about.
fn events(cluster: &Installation, reason: &str) -> Vec<(String, String)> {
    let listed = cluster.plane.kubectl(&["get", "events", "--all-namespaces", "--output=json"]);
    accepted(&listed);
    let list: Value = serde_json::from_str(&listed.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list["items"].as_array().unwrap().iter().filter(|event| event["reason"] == reason);
    all.map(|event| (text(&event["involvedObject"]["kind"]), text(&event["message"]))).collect()
}

#[track_caller]
fn bad_policies_are_denied(cluster: &Installation) {
    cluster.until_asked();
    let bad = policy("web", "default", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    denied(&cluster.plane.apply(&bad, &[]), POLICIES, "any-port", "spec.ingress[0]");
}

pub(crate) fn its_rights_are_limited_to_the_two_objects(cluster: &mut Installation) {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:portcullis-system", "system:authenticated"];
    let account = cluster.plane.as_user("system:serviceaccount:portcullis-system:portcullis", &groups);
    let other = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "other"}, "webhooks": [],
    });
    let created = account.run_with_input(&["create", "--filename=-"], &other.to_string());
    assert!(!created.ok && created.stderr.contains("forbidden"), "{created}");
    let applied = account.apply(&other.to_string(), &["--server-side"]);
    assert!(!applied.ok && applied.stderr.contains("forbidden"), "{applied}");
    for verb in ["delete", "update"] {
        let answer = account.run(&["auth", "can-i", verb, "validatingwebhookconfigurations/portcullis"]);
        assert_eq!(answer.stdout.trim(), "no", "{verb}: {answer}");
    }
    let configuration = stored(cluster, VALIDATING).expect("the server has created it by server-side apply");
    let owner = &configuration["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Namespace"), &json!(NAMESPACE)));
    let managed = cluster.plane.kubectl(&["get", VALIDATING, "portcullis", "--output=json", "--show-managed-fields"]);
    let managed: Value = serde_json::from_str(&managed.stdout).unwrap();
    let managers = managed["metadata"]["managedFields"].as_array().unwrap().iter();
    let applies: Vec<&Value> = managers.filter(|entry| entry["operation"] == "Apply").collect();
    assert_eq!(applies.len(), 1, "{applies:?}");
    assert_eq!(applies[0]["manager"], "portcullis-webhooks");
    cluster.until("every replica is content", are_ok);
}

pub(crate) fn deleted_configurations_come_back(cluster: &mut Installation) {
    let before = content(cluster);
    delete(cluster);
    let took = cluster.until("both are back", |cluster| content(cluster) == before);
    eprintln!("         both were back after {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(10), "{took:?}");
    bad_policies_are_denied(cluster);
    cluster.until("every replica is content", are_ok);
    cluster.until("an Event says so", |cluster| {
        let said = "ValidatingWebhookConfiguration portcullis is missing. Portcullis wrote it";
        events(cluster, "WebhooksWritten")
            .iter()
            .any(|(kind, note)| kind == "ValidatingWebhookConfiguration" && note == said)
    });
}

pub(crate) fn changed_configurations_are_reverted(cluster: &mut Installation) {
    let before = content(cluster);
    let extra = json!({
        "name": "other.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
        "clientConfig": {"url": "https://127.0.0.1:9"}, "rules": [],
    });
    let never = json!({"name": "never", "expression": "false"});
    for patch in [
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        json!([
            {"op": "replace", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"a": "b"}}},
            {"op": "add", "path": "/webhooks/0/matchConditions/0", "value": never},
            {"op": "remove", "path": "/webhooks/1"},
            {"op": "add", "path": "/webhooks/-", "value": extra},
        ]),
        json!([{"op": "replace", "path": "/webhooks", "value": []}]),
    ] {
        let patch = patch.to_string();
        accepted(&cluster.plane.kubectl(&["patch", VALIDATING, "portcullis", "--type=json", "--patch", &patch]));
        cluster.until_within(Duration::from_secs(90), &format!("{patch} is reverted"), |cluster| {
            content(cluster)[0] == before[0]
        });
    }
    cluster.until("every replica is content", are_ok);
    let contested = events(cluster, "WebhooksContested");
    let field = "webhooks[policies.portcullis.dev].failurePolicy is \"Ignore\", expected \"Fail\"";
    assert!(contested.iter().any(|(_, note)| note.contains(field)), "{contested:?}");
    assert!(contested.iter().any(|(_, note)| note.contains("Another writer keeps reverting it")), "{contested:?}");
}

pub(crate) fn a_changed_configuration_file_changes_the_webhooks(cluster: &mut Installation) {
    let before = fs::read_to_string(&cluster.config).unwrap();
    fs::write(&cluster.config, format!("{before}labelDomain: np.example.com\n")).unwrap();
    let guards = |cluster: &Installation, domain: &str| {
        webhooks(cluster, VALIDATING).is_some_and(|webhooks| webhooks.to_string().contains(domain))
    };
    let took = cluster.until("the webhooks ask about the new labels", |cluster| guards(cluster, "np.example.com/"));
    assert!(took < Duration::from_secs(10), "{took:?}");
    fs::write(&cluster.config, before).unwrap();
    cluster.until("the webhooks ask about the old labels", |cluster| !guards(cluster, "np.example.com/"));
    cluster.until("every replica is content", are_ok);
}

pub(crate) fn a_paused_deletion_stays(cluster: &mut Installation) {
    let annotation = format!("{PAUSED}=INC-1234");
    accepted(&cluster.plane.kubectl(&["annotate", "namespace", NAMESPACE, &annotation]));
    delete(cluster);
    cluster.until("every replica reports it", |cluster| all_report(cluster, "validating", "missing"));
    thread::sleep(A_WHILE);
    assert_eq!(content(cluster), [None, None], "a pause holds");
    for replica in &cluster.replicas {
        let (status, detail) = replica.readyz().unwrap();
        assert_eq!(status, 200, "{detail}");
        let line = detail["detail"]["webhooks"].as_str().unwrap();
        assert!(line.starts_with("paused for ") && line.contains("INC-1234"), "{line}");
        assert!(line.contains("ValidatingWebhookConfiguration portcullis is missing (for "), "{line}");
        for series in
            ["portcullis_webhooks_paused_seconds", r#"portcullis_webhooks_drift_seconds{configuration="validating"}"#]
        {
            assert!(replica.metric(series).unwrap() >= 5.0, "{series} is {:?}", replica.metric(series));
        }
    }
    let paused = events(cluster, "WebhooksPaused");
    assert!(paused.iter().any(|(kind, note)| kind == "Namespace" && note.contains("INC-1234")), "{paused:?}");

    // A replica that starts during a pause knows how long it has lasted.
    cluster.start_replica();
    cluster.until("the new replica tells the age of the pause", |cluster| {
        cluster.replicas.last().unwrap().metric("portcullis_webhooks_paused_seconds").is_some_and(|age| age >= 5.0)
    });
    accepted(&cluster.plane.kubectl(&["annotate", "namespace", NAMESPACE, &format!("{PAUSED}-")]));
    cluster
        .until_within(Duration::from_secs(90), "both are back", |cluster| content(cluster).iter().all(Option::is_some));
    cluster.until("every replica is content", are_ok);
    let ended = |replica: &crate::support::installation::Replica| {
        replica.metric("portcullis_webhooks_paused_seconds") == Some(0.0)
    };
    assert!(cluster.replicas.iter().all(ended));
    bad_policies_are_denied(cluster);
}

/// During a rollout two replicas have different configurations.
pub(crate) fn a_replica_without_the_lease_writes_nothing(cluster: &mut Installation) {
    let versions = |cluster: &Installation| {
        [VALIDATING, MUTATING].map(|kind| stored(cluster, kind).unwrap()["metadata"]["resourceVersion"].clone())
    };
    let before = versions(cluster);
    let old = cluster.config.clone();
    let text = fs::read_to_string(&old).unwrap();
    cluster.config = old.with_file_name("next.yaml");
    fs::write(&cluster.config, format!("{text}labelDomain: np.example.com\n")).unwrap();
    cluster.start_replica();
    cluster.until("the new replica reports the difference", |cluster| {
        let series = r#"portcullis_webhooks_state{configuration="validating",state="different"}"#;
        cluster.replicas.last().unwrap().metric(series) == Some(1.0)
    });
    thread::sleep(A_WHILE);
    assert_eq!(versions(cluster), before, "the leader has the old configuration, and its webhooks stay");
    // The old replicas end, and the new one takes the Lease.
    let next = cluster.replicas.pop().unwrap();
    cluster.stop_replicas();
    cluster.replicas.push(next);
    cluster.announce();
    cluster.until("the new configuration is written", |cluster| {
        webhooks(cluster, VALIDATING).is_some_and(|webhooks| webhooks.to_string().contains("np.example.com/"))
    });
    cluster.stop_replicas();
    cluster.config = old;
}

pub(crate) fn in_report_mode_a_difference_is_only_reported(cluster: &mut Installation) {
    cluster.arguments = vec!["--webhooks=report".to_owned()];
    cluster.start_replica();
    // The configurations are still those of another label domain.
    cluster.until("the replica reports the difference", |cluster| all_report(cluster, "validating", "different"));
    let before = content(cluster);
    thread::sleep(A_WHILE);
    assert_eq!(content(cluster), before);
    let (status, detail) = cluster.replicas[0].readyz().unwrap();
    let line = detail["detail"]["webhooks"].as_str().unwrap().to_owned();
    assert_eq!(status, 200, "it stays ready: {detail}");
    assert!(
        line.contains("webhooks[namespace-labels.portcullis.dev].matchConditions.another-label-changes differs"),
        "{line}"
    );
    cluster.until("an Event names the field", |cluster| {
        let notes = events(cluster, "WebhooksDiffer");
        notes.iter().any(|(_, note)| note.contains("matchConditions.another-label-changes differs"))
    });
    assert!(cluster.replicas[0].log().contains("the webhook configuration differs"));
    delete(cluster);
    cluster.until("the replica reports the deletion", |cluster| all_report(cluster, "mutating", "missing"));
    thread::sleep(A_WHILE);
    assert_eq!(content(cluster), [None, None]);
    cluster.stop_replicas();
    cluster.arguments.clear();
}

pub(crate) fn an_uninstallation_beside_running_replicas_stays(cluster: &mut Installation) {
    cluster.start_replica();
    cluster.until("both are back", |cluster| content(cluster).iter().all(Option::is_some));
    let taken = cluster.portcullis(&["uninstall", "--yes"]);
    assert_eq!(taken.code, 0, "{}", taken.err);
    thread::sleep(A_WHILE);
    assert_eq!(content(cluster), [None, None]);
}
