//! What happens to namespaces, and what the controller makes of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use portcullis::baseline::PolicySet;
use portcullis::controller::Wanted;
use portcullis::view::View;
use serde_json::json;
use tokio::sync::watch;

use crate::rig::{DOMAIN, Replica, Rig, until};

pub(crate) type Scenario = (&'static str, fn(&Rig, &Replica));

pub(crate) const ALL: &[Scenario] = &[
    ("a new namespace gets its policies and its label", a_new_namespace_gets_its_policies_and_its_label),
    ("drift is repaired", drift_is_repaired),
    ("a deleted policy comes back", a_deleted_policy_comes_back),
    ("a new profile comes before the old one goes", a_new_profile_comes_before_the_old_one_goes),
    ("access that is taken back goes", access_that_is_taken_back_goes),
    ("a label that vanishes deletes nothing", a_label_that_vanishes_deletes_nothing),
    ("what others made is not deleted", what_others_made_is_not_deleted),
    ("what is in order is not written", what_is_in_order_is_not_written),
    ("a namespace made anew gets its policies again", a_namespace_made_anew_gets_its_policies_again),
    ("a hatch opens and closes by itself", a_hatch_opens_and_closes_by_itself),
    ("a change of the folder reaches all", a_change_of_the_folder_reaches_all),
];

pub(crate) const DENY: &str = "portcullis-baseline-default-deny";
pub(crate) const STANDARD: &str = "portcullis-profile-standard";
pub(crate) const ISOLATED: &str = "portcullis-profile-isolated";
pub(crate) const POSTGRES: &str = "portcullis-access-postgres";
pub(crate) const HATCH: &str = "portcullis-hatch-allow-all";

pub(crate) fn profile(name: &str) -> String {
    format!("{DOMAIN}/profile: {name}")
}

pub(crate) fn one_that_sees_nothing_leaves_the_lease_to_others(rig: &Rig) {
    let (_views, nothing) = watch::channel(Arc::<View>::default());
    let blind = rig.replica_that_sees("blind", nothing);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(rig.plane.stored(&["lease", "portcullis", "--namespace", "default"]).is_none(), "it asks for no lease");
    assert_eq!(blind.metric("portcullis_leader"), Some(0.0), "who could lead and does not says so");
    blind.stop(&rig.runtime);
}

pub(crate) fn gates_are_lifted_when_the_baseline_is_there(rig: &Rig) {
    rig.namespace("gated", &[]);
    let pod = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "gated"},
            "spec": {
                "schedulingGates": [{"name": "example.com/other"}, {"name": format!("{DOMAIN}/baseline")}],
                "containers": [{"name": "c", "image": "example.com/c"}],
            },
        })
        .to_string()
    };
    assert!(rig.plane.apply(&pod("early"), &[]).ok);
    let replica = rig.replica("gates");
    let gates = |name: &str| {
        let pod = rig.plane.stored(&["pod", name, "--namespace", "gated"]).unwrap();
        pod["spec"]["schedulingGates"].clone()
    };
    until("the gate is lifted", || gates("early") == json!([{"name": "example.com/other"}]));
    assert_eq!(rig.stored("gated")["metadata"]["labels"][rig.site.baseline_label()], "applied");
    assert!(rig.policy("gated", DENY).is_some());
    // One that came by a webhook that had not heard yet.
    assert!(rig.plane.apply(&pod("late"), &[]).ok);
    until("the gate of the late one is lifted", || gates("late") == json!([{"name": "example.com/other"}]));
    replica.stop(&rig.runtime);
    let lease = rig.plane.stored(&["lease", "portcullis", "--namespace", "default"]).unwrap();
    assert!(lease["spec"]["holderIdentity"].is_null(), "it is given back: {lease}");
}

fn a_new_namespace_gets_its_policies_and_its_label(rig: &Rig, replica: &Replica) {
    rig.namespace("new", &[&profile("standard"), &format!("access.{DOMAIN}/postgres: 'true'")]);
    rig.until_applied("new", "baseline, profile standard, access postgres");
    let names: BTreeSet<String> = rig.policies("new").into_keys().collect();
    let baseline = ["allow-dns", "allow-health-probes", "allow-prometheus-scrape", "default-deny"];
    let expected = baseline.iter().map(|name| format!("portcullis-baseline-{name}"));
    assert_eq!(names, expected.chain([STANDARD.to_owned(), POSTGRES.to_owned()]).collect());
    let stored = rig.policy("new", POSTGRES).unwrap();
    assert_eq!(stored["metadata"]["labels"][rig.site.layer_label()], "access.postgres");
    assert_eq!(stored["metadata"]["annotations"]["argocd.argoproj.io/sync-options"], "Prune=false");
    assert_eq!(stored["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    until("the gauge counts it", || {
        replica.metric("portcullis_baseline_namespaces{state=\"applied\"}").is_some_and(|count| count >= 1.0)
    });
    // The platform and namespaces that ask for nothing are left alone.
    rig.kubectl(&["create", "namespace", "plain"]);
    replica.until_quiet(3.0);
    assert!(rig.policies("plain").is_empty() && rig.policies("kube-system").is_empty());
    // It was made since Portcullis is there, and nobody labelled it.
    assert_eq!(replica.metric("portcullis_baseline_namespaces{state=\"unlabelled\"}"), Some(1.0));
}

fn drift_is_repaired(rig: &Rig, _: &Replica) {
    rig.namespace("drift", &[&profile("standard")]);
    rig.until_applied("drift", "baseline, profile standard");
    let spec = |name: &str| rig.policy("drift", name).unwrap()["spec"].clone();
    let before = (spec(STANDARD), spec(DENY));
    let patch = |name: &str, patch: &str| {
        rig.kubectl(&["patch", "networkpolicy", name, "--namespace", "drift", "--type=merge", "--patch", patch]);
    };
    patch(STANDARD, r#"{"spec": {"ingress": [{}]}}"#);
    until("what was edited is as it was", || spec(STANDARD) == before.0);
    // A field that the controller does not have stays its author's when the controller applies its own.
    patch(DENY, r#"{"spec": {"ingress": [{}], "egress": [{}]}}"#);
    until("what was added is gone", || spec(DENY) == before.1);
    patch(DENY, &format!(r#"{{"metadata": {{"labels": {{"{}": null}}}}}}"#, rig.site.layer_label()));
    until("the label is back", || {
        rig.policy("drift", DENY).unwrap()["metadata"]["labels"][rig.site.layer_label()] == "baseline"
    });
    // What others note on it is theirs.
    patch(DENY, r#"{"metadata": {"annotations": {"example.com/note": "mine"}}}"#);
    rig.kubectl(&["delete", "networkpolicy", STANDARD, "--namespace", "drift"]);
    until("it is back", || rig.policy("drift", STANDARD).is_some());
    assert_eq!(rig.policy("drift", DENY).unwrap()["metadata"]["annotations"]["example.com/note"], "mine");
}

fn a_deleted_policy_comes_back(rig: &Rig, _: &Replica) {
    rig.namespace("deleted", &[]);
    rig.until_applied("deleted", "baseline");
    let uid = |stored: Option<serde_json::Value>| stored.map(|stored| stored["metadata"]["uid"].clone());
    let before = uid(rig.policy("deleted", DENY)).unwrap();
    rig.kubectl(&["delete", "networkpolicies", "--all", "--namespace", "deleted"]);
    until("it is there again", || uid(rig.policy("deleted", DENY)).is_some_and(|uid| uid != before));
    until("all are", || rig.policies("deleted").len() == 4);
}

fn a_new_profile_comes_before_the_old_one_goes(rig: &Rig, _: &Replica) {
    rig.namespace("swap", &[&profile("standard")]);
    rig.until_applied("swap", "baseline, profile standard");
    // In the order in which the API server stored it.
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let api: Api<NetworkPolicy> = Api::namespaced(rig.client.clone(), "swap");
    let watching = {
        let heard = Arc::clone(&heard);
        rig.runtime.spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let line = match event.unwrap() {
                    Event::InitDone => "ready".to_owned(),
                    Event::Apply(policy) => format!("+{}", policy.name_any()),
                    Event::Delete(policy) => format!("-{}", policy.name_any()),
                    Event::Init | Event::InitApply(_) => continue,
                };
                heard.lock().unwrap().push(line);
            }
        })
    };
    until("the watch is there", || heard.lock().unwrap().contains(&"ready".to_owned()));
    rig.kubectl(&["label", "--overwrite", "namespace", "swap", &format!("{DOMAIN}/profile=isolated")]);
    rig.until_applied("swap", "baseline, profile isolated");
    until("the old one is gone", || heard.lock().unwrap().contains(&format!("-{STANDARD}")));
    watching.abort();
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, ["ready", &format!("+{ISOLATED}"), &format!("-{STANDARD}")]);
}

fn access_that_is_taken_back_goes(rig: &Rig, _: &Replica) {
    rig.namespace("access", &[&format!("access.{DOMAIN}/postgres: 'true'")]);
    rig.until_applied("access", "baseline, access postgres");
    rig.kubectl(&["label", "namespace", "access", &format!("access.{DOMAIN}/postgres-")]);
    until("its policy is gone", || rig.policy("access", POSTGRES).is_none());
    rig.until_applied("access", "baseline");
    assert_eq!(rig.policies("access").len(), 4);
}

fn a_label_that_vanishes_deletes_nothing(rig: &Rig, replica: &Replica) {
    rig.namespace("vanish", &[&profile("standard")]);
    rig.until_applied("vanish", "baseline, profile standard");
    let before = rig.policies("vanish");
    for (change, status) in [
        ("profile-", "applied: baseline; kept: profile standard"),
        ("profile=unknown", "applied: baseline; kept: profile standard; unknown profile unknown"),
    ] {
        rig.kubectl(&["label", "--overwrite", "namespace", "vanish", &format!("{DOMAIN}/{change}")]);
        until(status, || rig.status("vanish") == status);
        assert_eq!(rig.policies("vanish"), before);
    }
    // All of them at once, as a tool does that puts a namespace back to what is in Git.
    rig.kubectl(&["label", "namespace", "vanish", &format!("{DOMAIN}/profile-"), &format!("{DOMAIN}/baseline-")]);
    until("its baseline is looked after all the same", || {
        rig.stored("vanish")["metadata"]["labels"][rig.site.baseline_label()] == "applied"
            && rig.status("vanish") == "applied: baseline; kept: profile standard"
    });
    replica.until_quiet(3.0);
    assert_eq!(rig.policies("vanish"), before);
}

fn what_others_made_is_not_deleted(rig: &Rig, replica: &Replica) {
    rig.namespace("foreign", &[&profile("standard")]);
    rig.until_applied("foreign", "baseline, profile standard");
    let foreign = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": "portcullis-profile-internal", "namespace": "foreign",
            "labels": {rig.site.layer_label(): "profile.internal", "app.kubernetes.io/managed-by": "portcullis"},
        },
        "spec": {"podSelector": {}},
    });
    assert!(rig.plane.apply(&foreign.to_string(), &[]).ok);
    replica.until_quiet(5.0);
    assert!(rig.policy("foreign", "portcullis-profile-internal").is_some(), "it carries the label, and is not ours");
    rig.kubectl(&["label", "--overwrite", "namespace", "foreign", &format!("{DOMAIN}/profile=isolated")]);
    until("ours is gone", || rig.policy("foreign", STANDARD).is_none());
    replica.until_quiet(5.0);
    assert!(rig.policy("foreign", "portcullis-profile-internal").is_some());
}

fn what_is_in_order_is_not_written(rig: &Rig, replica: &Replica) {
    rig.namespace("quiet", &[&profile("standard")]);
    rig.until_applied("quiet", "baseline, profile standard");
    // Until the feed has told of the last write.
    replica.until_quiet(20.0);
    let state = || {
        let versions = rig.policies("quiet");
        (versions, rig.stored("quiet")["metadata"]["resourceVersion"].clone(), replica.writes().to_bits())
    };
    let before = state();
    let resyncs = 3.0 * replica.metric("portcullis_baseline_namespaces{state=\"applied\"}").unwrap();
    replica.until_quiet(resyncs);
    assert_eq!(state(), before);
}

fn a_namespace_made_anew_gets_its_policies_again(rig: &Rig, replica: &Replica) {
    rig.namespace("anew", &[]);
    rig.until_applied("anew", "baseline");
    let uid = rig.stored("anew")["metadata"]["uid"].clone();
    rig.kubectl(&["delete", "namespace", "anew", "--wait=false"]);
    rig.kubectl(&["delete", "networkpolicies", "--all", "--namespace", "anew"]);
    replica.until_quiet(5.0);
    assert!(rig.policies("anew").is_empty(), "nothing is put into what is going away");
    let mut terminating = rig.stored("anew");
    assert_eq!(terminating["status"]["phase"], "Terminating");
    terminating["spec"]["finalizers"] = json!([]);
    let replace = ["replace", "--raw", "/api/v1/namespaces/anew/finalize", "--filename=-"];
    let done = rig.plane.admin().run_with_input(&replace, &terminating.to_string());
    assert!(done.ok, "{done}");
    rig.namespace("anew", &[]);
    rig.until_applied("anew", "baseline");
    assert_ne!(rig.stored("anew")["metadata"]["uid"], uid);
    assert_eq!(rig.policies("anew").len(), 4);
}

fn a_hatch_opens_and_closes_by_itself(rig: &Rig, replica: &Replica) {
    rig.namespace("hatch", &[&profile("isolated")]);
    rig.until_applied("hatch", "baseline, profile isolated");
    let before = rig.policies("hatch");
    let enforcement = format!("{DOMAIN}/enforcement=disabled");
    rig.kubectl(&["label", "namespace", "hatch", &enforcement]);
    replica.until_quiet(5.0);
    assert!(rig.policy("hatch", HATCH).is_none(), "it does not open without a reason and an end");
    // Not earlier: what comes before it takes longer on a busy machine.
    let until_time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let (reason, end) = (format!("{DOMAIN}/reason=an incident"), format!("{DOMAIN}/until={until_time}"));
    rig.kubectl(&["annotate", "namespace", "hatch", &reason, &end]);
    until("the hatch is open", || rig.policy("hatch", HATCH).is_some());
    let series = "portcullis_hatch_open_since_timestamp_seconds{target_namespace=\"hatch\"}";
    until("the gauge says since when", || replica.metric(series).is_some_and(|since| since > 1e9));
    until("it is told", || rig.events("hatch", "HatchOpened").iter().any(|note| note.contains("an incident")));
    let beside = rig.policies("hatch");
    assert!(before.iter().all(|policy| beside.get(policy.0) == Some(policy.1)), "the rest is as it was");

    until("the hatch is closed", || rig.policy("hatch", HATCH).is_none());
    assert!(jiff::Timestamp::now() >= until_time, "not before its time");
    until("its label is gone", || rig.stored("hatch")["metadata"]["labels"][rig.site.enforcement_label()].is_null());
    let annotations = rig.stored("hatch")["metadata"]["annotations"].clone();
    for name in [rig.site.reason_annotation(), rig.site.until_annotation(), rig.site.opened_annotation()] {
        assert!(annotations[&name].is_null(), "{name} in {annotations}");
    }
    until("it is told", || rig.events("hatch", "HatchClosed").len() == 1);
    until("there is no series any more", || replica.metric(series).is_none());
    until("both are counted", || {
        ["opened", "closed"]
            .iter()
            .all(|what| replica.metric(&format!("portcullis_hatch_changes_total{{what=\"{what}\"}}")) == Some(1.0))
    });
    rig.until_applied("hatch", "baseline, profile isolated");
    assert_eq!(rig.policies("hatch"), before);
}

fn a_change_of_the_folder_reaches_all(rig: &Rig, _: &Replica) {
    rig.namespace("folder", &[&profile("standard")]);
    rig.until_applied("folder", "baseline, profile standard");
    let shipped = rig.wanted.borrow().policies.clone();
    let policy = |name: &str| {
        let manifest = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        });
        manifest.to_string()
    };
    // Others of the baseline are still there, and nothing is left of the profile.
    let files =
        [("baseline/deny.yaml".to_owned(), policy(DENY)), ("baseline/x.yaml".to_owned(), policy("portcullis-x"))];
    let policies = Arc::new(PolicySet::read(files).unwrap());
    rig.wanted.send_replace(Wanted { site: Arc::clone(&rig.site), policies });
    let names = || rig.policies("folder").into_keys().collect::<Vec<_>>();
    until("it is announced", || {
        rig.events("default", "PolicyRemoved").iter().any(|note| note.contains("portcullis-baseline-allow-dns"))
    });
    until("what was dropped is gone, and the rest is kept", || names() == [DENY, STANDARD, "portcullis-x"]);
    until("what was changed is changed", || {
        rig.policy("folder", DENY).unwrap()["spec"]["policyTypes"] == json!(["Ingress"])
    });
    rig.wanted.send_replace(Wanted { site: Arc::clone(&rig.site), policies: shipped });
    until("all is back", || names().len() == 5 && !names().contains(&"portcullis-x".to_owned()));
}

pub(crate) fn another_takes_over_and_applies_nothing_twice(rig: &Rig) {
    let (first, second) = (rig.replica("one"), rig.replica("two"));
    until("one of them leads", || first.leads() || second.leads());
    let (leader, other) = if first.leads() { (first, second) } else { (second, first) };
    rig.namespace("handover", &[&profile("standard")]);
    rig.until_applied("handover", "baseline, profile standard");
    until("both know that somebody works", || *leader.running.borrow() && *other.running.borrow());
    assert_eq!(other.metric("portcullis_leader"), Some(0.0), "one works at a time");
    leader.until_quiet(20.0);
    let before = (rig.policies("handover"), rig.stored("handover")["metadata"]["resourceVersion"].clone());
    leader.crash(&rig.runtime);
    until("the other takes over", || other.leads());
    other.until_quiet(20.0);
    assert_eq!((rig.policies("handover"), rig.stored("handover")["metadata"]["resourceVersion"].clone()), before);
    assert!(other.writes() < 0.5, "everything was in order");
    rig.kubectl(&["delete", "networkpolicy", DENY, "--namespace", "handover"]);
    until("it works", || rig.policy("handover", DENY).is_some());
    other.stop(&rig.runtime);
}
