//! What fails, what is undone, and what changes under the controller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portcullis::baseline::PolicySet;
use portcullis::view::SetName;
use serde_json::{Value, json};

use crate::rig::{DOMAIN, Replica, Rig, until};
use crate::scenarios::{DENY, HATCH, POSTGRES, STANDARD, Scenario, profile};

pub(crate) const ALL: &[Scenario] = &[
    ("a failure is told", a_failure_is_told),
    ("one refused write holds nothing else up", one_refused_write_holds_nothing_else_up),
    ("pods do not wait where gates are off", pods_do_not_wait_where_gates_are_off),
    ("a hatch closes in a namespace that is excluded", a_hatch_closes_in_a_namespace_that_is_excluded),
    ("who undoes what is written slows it down", who_undoes_what_is_written_slows_it_down),
    ("another field manager is named", another_field_manager_is_named),
    ("what an API server makes of a policy may change", what_an_api_server_makes_of_a_policy_may_change),
    ("a silent webhook of somebody else holds nothing up", a_silent_webhook_of_somebody_else_holds_nothing_up),
    ("what fails of the cluster is told to who waits for it", what_fails_of_the_cluster_is_told_to_who_waits_for_it),
];

fn a_failure_is_told(rig: &Rig, replica: &Replica) {
    rig.kubectl(&["create", "namespace", "full"]);
    rig.fill("full");
    rig.kubectl(&["label", "namespace", "full", &format!("{DOMAIN}/profile=standard")]);
    until("the status says why", || {
        let status = rig.status("full");
        status.starts_with("failed: applying NetworkPolicy full/portcullis-") && status.contains("exceeded quota")
    });
    until("so does an Event", || {
        rig.events("full", "BaselineFailed").iter().any(|note| note.contains("exceeded quota"))
    });
    until("so does the gauge", || replica.metric("portcullis_baseline_namespaces{state=\"failed\"}") == Some(1.0));
    rig.clear("full");
    rig.until_applied("full", "baseline, profile standard");
    until("it is over", || replica.metric("portcullis_baseline_namespaces{state=\"failed\"}") == Some(0.0));
}

fn one_refused_write_holds_nothing_else_up(rig: &Rig, replica: &Replica) {
    rig.namespace("refused", &[&profile("standard"), &format!("access.{DOMAIN}/postgres: 'true'")]);
    rig.until_applied("refused", "baseline, profile standard, access postgres");
    let spec = rig.policy("refused", DENY).unwrap()["spec"].clone();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let (reason, end) = (format!("{DOMAIN}/reason=an incident"), format!("{DOMAIN}/until={end}"));
    rig.kubectl(&["annotate", "namespace", "refused", &reason, &end]);
    rig.kubectl(&["label", "namespace", "refused", &format!("{DOMAIN}/enforcement=disabled")]);
    until("the hatch is open", || rig.policy("refused", HATCH).is_some());
    let series = "portcullis_hatch_open_since_timestamp_seconds{target_namespace=\"refused\"}";
    until("it is counted", || replica.metric(series).is_some());

    rig.fill("refused");
    rig.kubectl(&["label", "namespace", "refused", &format!("access.{DOMAIN}/dragonfly=true")]);
    until("it is refused", || rig.status("refused").contains("exceeded quota"));
    rig.kubectl(&["label", "namespace", "refused", &format!("access.{DOMAIN}/postgres-")]);
    until("what was taken back is gone", || rig.policy("refused", POSTGRES).is_none());
    let patch = r#"{"spec": {"ingress": [{}]}}"#;
    rig.kubectl(&["patch", "networkpolicy", DENY, "--namespace=refused", "--type=merge", "--patch", patch]);
    until("what was edited is as it was", || rig.policy("refused", DENY).unwrap()["spec"] == spec);
    until("the hatch is closed when its time is over", || rig.policy("refused", HATCH).is_none());
    until("its label is gone", || rig.stored("refused")["metadata"]["labels"][rig.site.enforcement_label()].is_null());
    until("there is no series any more", || replica.metric(series).is_none());
    assert!(rig.status("refused").starts_with("failed: "), "{}", rig.status("refused"));
    rig.clear("refused");
    rig.until_applied("refused", "baseline, profile standard, access dragonfly");
}

fn pods_do_not_wait_where_gates_are_off(rig: &Rig, replica: &Replica) {
    rig.kubectl(&["create", "namespace", "stuck"]);
    rig.fill("stuck");
    rig.kubectl(&["label", "namespace", "stuck", &format!("{DOMAIN}/baseline=pending")]);
    let pod = |name: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "stuck"},
            "spec": {
                "schedulingGates": [{"name": "example.com/other"}, {"name": format!("{DOMAIN}/baseline")}],
                "containers": [{"name": "c", "image": "example.com/c"}],
            },
        });
        assert!(rig.plane.apply(&pod.to_string(), &[]).ok);
    };
    let gates =
        |name: &str| rig.plane.stored(&["pod", name, "--namespace=stuck"]).unwrap()["spec"]["schedulingGates"].clone();
    let others = json!([{"name": "example.com/other"}]);
    pod("a");
    pod("b");
    until("it fails", || rig.status("stuck").starts_with("failed: "));
    replica.until_quiet(3.0);
    assert_eq!(gates("a").as_array().unwrap().len(), 2, "its baseline is not there");
    rig.configure(|site| site.baseline.gate = false);
    until("nobody waits", || gates("a") == others && gates("b") == others);
    rig.configure(|_| ());

    // Nor in a namespace that is left alone by now: it is pending no more, and nobody else could say so.
    pod("c");
    rig.configure(|site| site.excluded_namespaces.push(String::from("stuck").try_into().unwrap()));
    until("it waits for nothing", || {
        rig.stored("stuck")["metadata"]["labels"][rig.site.baseline_label()].is_null()
            && rig.status("stuck").starts_with("not applied: ")
            && gates("c") == others
    });
    rig.configure(|_| ());
    rig.kubectl(&["label", "namespace", "stuck", &format!("{}=pending", rig.site.baseline_label())]);
    rig.clear("stuck");
    rig.until_applied("stuck", "baseline");
}

fn a_hatch_closes_in_a_namespace_that_is_excluded(rig: &Rig, _: &Replica) {
    rig.namespace("shut", &[&profile("isolated")]);
    rig.until_applied("shut", "baseline, profile isolated");
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let (reason, end) = (format!("{DOMAIN}/reason=an incident"), format!("{DOMAIN}/until={end}"));
    rig.kubectl(&["annotate", "namespace", "shut", &reason, &end]);
    rig.kubectl(&["label", "namespace", "shut", &format!("{DOMAIN}/enforcement=disabled")]);
    until("the hatch is open", || rig.policy("shut", HATCH).is_some());
    until("it is noted", || !rig.stored("shut")["metadata"]["annotations"][rig.site.opened_annotation()].is_null());
    rig.configure(|site| site.excluded_namespaces.push(String::from("shut").try_into().unwrap()));
    until("nothing is applied there any more", || rig.policy("shut", HATCH).is_none());
    until("its label goes when its time is over", || {
        rig.stored("shut")["metadata"]["labels"][rig.site.enforcement_label()].is_null()
    });
    assert!(rig.policy("shut", DENY).is_some(), "everything else stays");
    rig.configure(|_| ());
}

fn who_undoes_what_is_written_slows_it_down(rig: &Rig, _: &Replica) {
    rig.namespace("contested", &[]);
    rig.until_applied("contested", "baseline");
    let (mut written, end) = (BTreeSet::new(), Instant::now() + Duration::from_secs(9));
    while Instant::now() < end {
        if let Some(policy) = rig.policy("contested", DENY) {
            written.insert(policy["metadata"]["uid"].as_str().unwrap().to_owned());
            rig.plane.kubectl(&["delete", "networkpolicy", DENY, "--namespace=contested", "--ignore-not-found"]);
        }
    }
    assert!((4..=9).contains(&written.len()), "it is written again, and more and more seldom: {}", written.len());
    until("it is told once", || rig.events("contested", "BaselineContested").len() == 1);
    let status = "contested: NetworkPolicy contested/portcullis-baseline-default-deny is deleted each time";
    until("the status says so", || rig.status("contested").starts_with(status));
    until("it is there when nobody deletes it", || rig.policy("contested", DENY).is_some());
}

fn another_field_manager_is_named(rig: &Rig, replica: &Replica) {
    rig.namespace("vandal", &[]);
    rig.until_applied("vandal", "baseline");
    let report = "contested: NetworkPolicy vandal/portcullis-baseline-default-deny is changed by field manager vandal";
    let patch = r#"{"spec": {"ingress": [{}]}}"#;
    let manager = "--field-manager=vandal";
    until("the status names object and manager", || {
        let arguments =
            ["patch", "networkpolicy", DENY, "--namespace=vandal", "--type=merge", "--patch", patch, manager];
        rig.kubectl(&arguments);
        rig.status("vandal") == format!("{report}; applied: baseline")
    });
    until("so does the Event", || {
        rig.events("vandal", "BaselineContested").iter().any(|note| note.starts_with(report))
    });
    let series = "portcullis_baseline_namespaces{state=\"contested\"}";
    until("it is counted", || replica.metric(series).is_some_and(|count| count >= 1.0));
    // A request of a user does not wait for the backoff.
    rig.kubectl(&["label", "namespace", "vandal", &format!("{DOMAIN}/profile=standard")]);
    let start = Instant::now();
    until("the profile is applied", || rig.policy("vandal", STANDARD).is_some());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// What a CRD of Cilium's says of the spec of its policies.
fn crd(spec: &Value) -> String {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
        "spec": {
            "group": "cilium.io", "scope": "Namespaced",
            "names": {"plural": "ciliumnetworkpolicies", "kind": "CiliumNetworkPolicy"},
            "versions": [{"name": "v2", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
    .to_string()
}

fn what_an_api_server_makes_of_a_policy_may_change(rig: &Rig, _: &Replica) {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = |description: Option<Value>| {
        let mut properties = json!({"endpointSelector": any, "ingress": {"type": "array", "items": any}});
        if let Some(description) = description {
            properties["description"] = description;
        }
        json!({"type": "object", "properties": properties})
    };
    let manifest = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: portcullis-x}\n\
                    spec: {endpointSelector: {}, ingress: [{}]}\n";
    let made = || {
        let tried = manifest.replace("{name: portcullis-x}", "{name: tried, namespace: default}");
        let made = rig.plane.apply(&tried, &["--dry-run=server", "--output=json"]);
        let value = || serde_json::from_str::<Value>(&made.stdout).unwrap();
        made.ok.then(|| value()["spec"]["description"].clone())
    };
    assert!(rig.plane.apply(&crd(&spec(Some(json!({"type": "string", "default": "one"})))), &[]).ok);
    until("it is served", || made() == Some(json!("one")));
    let shipped = rig.wanted.borrow().policies.clone();
    let set = PolicySet::read([("baseline/x.yaml".to_owned(), manifest.to_owned())]).unwrap();
    rig.wanted.send_modify(|wanted| wanted.policies = Arc::new(set));
    let stored = |namespace: &str| {
        rig.plane.stored(&["ciliumnetworkpolicy.cilium.io", "portcullis-x", "--namespace", namespace])
    };
    rig.namespace("before-crd", &[]);
    until("it is applied", || stored("before-crd").is_some_and(|one| one["spec"]["description"] == "one"));

    assert!(rig.plane.apply(&crd(&spec(None)), &[]).ok);
    until("it is another", || made() == Some(Value::Null));
    rig.namespace("since-crd", &[]);
    rig.until_applied("since-crd", "baseline");
    assert!(rig.events("since-crd", "BaselineFailed").is_empty());
    assert!(stored("since-crd").unwrap()["spec"]["description"].is_null());
    rig.wanted.send_modify(|wanted| wanted.policies = shipped);
}

fn a_silent_webhook_of_somebody_else_holds_nothing_up(rig: &Rig, _: &Replica) {
    rig.namespace("silence", &[&profile("standard")]);
    rig.until_applied("silence", "baseline, profile standard");
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(12);
    let (reason, end) = (format!("{DOMAIN}/reason=an incident"), format!("{DOMAIN}/until={end}"));
    rig.kubectl(&["annotate", "namespace", "silence", &reason, &end]);
    rig.kubectl(&["label", "namespace", "silence", &format!("{DOMAIN}/enforcement=disabled")]);
    until("the hatch is open", || rig.policy("silence", HATCH).is_some());

    let asked = rig.plane.install_silent_webhook(&json!({"failurePolicy": "Fail", "timeoutSeconds": 10}));
    let tried = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "tried", "namespace": "default"}, "spec": {"podSelector": {}},
    });
    let try_one = || rig.plane.apply(&tried.to_string(), &["--dry-run=server", "--request-timeout=1s"]).ok;
    until("the API server asks it", || !try_one());
    let before = asked.load(Ordering::Relaxed);
    // Each of them is another policy, of which it is not known what the API server makes of it.
    rig.configure(|site| drop(site.baseline.annotations.insert("example.com/note".into(), "other".into())));
    until("all of them are tried", || asked.load(Ordering::Relaxed) > before);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "silence"},
        "spec": {
            "schedulingGates": [{"name": format!("{DOMAIN}/baseline")}],
            "containers": [{"name": "c", "image": "example.com/c"}],
        },
    });
    assert!(rig.plane.apply(&pod.to_string(), &[]).ok);
    let is_gated =
        || !rig.plane.stored(&["pod", "p", "--namespace=silence"]).unwrap()["spec"]["schedulingGates"].is_null();
    until("the gate is lifted", || !is_gated());
    until("the hatch is closed when its time is over", || rig.policy("silence", HATCH).is_none());
    until("its label is gone", || rig.stored("silence")["metadata"]["labels"][rig.site.enforcement_label()].is_null());

    rig.kubectl(&["delete", "validatingwebhookconfiguration", "silent"]);
    until("nobody asks it any more", try_one);
    rig.configure(|_| ());
    rig.namespace("sound", &[]);
    rig.until_applied("sound", "baseline");
}

fn what_fails_of_the_cluster_is_told_to_who_waits_for_it(rig: &Rig, replica: &Replica) {
    rig.configure(|site| site.policy_set = SetName::Cilium);
    rig.namespace("waiting", &[&profile("standard")]);
    let why = "cluster-wide policies: the cluster does not serve `cilium.io/v2` `CiliumClusterwideNetworkPolicy`";
    until("its status says why", || rig.status("waiting") == format!("failed: {why}"));
    until("so does an Event", || rig.events("waiting", "BaselineFailed").iter().any(|note| note == why));
    until("so does the gauge", || {
        replica.metric("portcullis_baseline_namespaces{state=\"failed\"}").is_some_and(|count| count >= 1.0)
    });
    rig.configure(|_| ());
    rig.until_applied("waiting", "baseline, profile standard");
    until("it is over", || replica.metric("portcullis_baseline_namespaces{state=\"failed\"}") == Some(0.0));
}
