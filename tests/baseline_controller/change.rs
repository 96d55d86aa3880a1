//! Changes that users and administrators make: hatches, the Lease, the label domain, a second installation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portcullis::view::{SetName, Site};
use serde_json::{Value, json};

use crate::feed::CLUSTER_WIDE;
use crate::rig::{DOMAIN, Replica, Rig, until};
use crate::scenarios::{DENY, HATCH, STANDARD, Scenario, profile};

pub(crate) const ALL: &[Scenario] = &[
    ("a hatch opens and closes many times without delay", a_hatch_opens_and_closes_many_times_without_delay),
    ("another policy set deletes nothing", another_policy_set_deletes_nothing),
    ("a deleted Lease resets no metric", a_deleted_lease_resets_no_metric),
    ("a second installation does nothing", a_second_installation_does_nothing),
    ("another label domain adopts what was applied", another_label_domain_adopts_what_was_applied),
];

fn open(rig: &Rig, namespace: &str) {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let (reason, end) = (format!("{DOMAIN}/reason=an incident"), format!("{DOMAIN}/until={end}"));
    rig.kubectl(&["annotate", "--overwrite", "namespace", namespace, &reason, &end]);
    rig.kubectl(&["label", "namespace", namespace, &format!("{DOMAIN}/enforcement=disabled")]);
}

fn a_hatch_opens_and_closes_many_times_without_delay(rig: &Rig, _: &Replica) {
    rig.namespace("toggled", &[&profile("isolated")]);
    rig.until_applied("toggled", "baseline, profile isolated");
    let opened = || !rig.stored("toggled")["metadata"]["annotations"][rig.site.opened_annotation()].is_null();
    let mut longest = Duration::ZERO;
    for _ in 0..7 {
        open(rig, "toggled");
        let start = Instant::now();
        until("the hatch is open", || rig.policy("toggled", HATCH).is_some() && opened());
        longest = longest.max(start.elapsed());
        rig.kubectl(&["label", "namespace", "toggled", &format!("{DOMAIN}/enforcement-")]);
        let start = Instant::now();
        until("the hatch is closed", || rig.policy("toggled", HATCH).is_none() && !opened());
        longest = longest.max(start.elapsed());
    }
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    assert!(rig.events("toggled", "BaselineContested").is_empty());
}

fn a_deleted_lease_resets_no_metric(rig: &Rig, replica: &Replica) {
    let series = "portcullis_baseline_namespaces{state=\"unlabelled\"}";
    let before = replica.metric(series);
    assert!(before.is_some_and(|count| count >= 1.0), "{before:?}");
    let uid = || {
        rig.plane.stored(&["lease", "portcullis", "--namespace=default"]).map(|lease| lease["metadata"]["uid"].clone())
    };
    let old = uid();
    rig.kubectl(&["delete", "lease", "portcullis", "--namespace=default"]);
    until("there is another Lease", || uid().is_some_and(|uid| Some(&uid) != old.as_ref()) && replica.leads());
    replica.until_quiet(20.0);
    assert_eq!(replica.metric(series), before);
}

fn another_policy_set_deletes_nothing(rig: &Rig, replica: &Replica) {
    rig.namespace("switched", &[&profile("standard")]);
    rig.until_applied("switched", "baseline, profile standard");
    let before = rig.policies("switched");
    for (group, version, kind, plural) in CLUSTER_WIDE {
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Cluster", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": any}}],
            },
        });
        assert!(rig.plane.apply(&crd.to_string(), &[]).ok);
    }
    replica.serve_cluster_wide();
    let uids = |plural: &str| -> BTreeMap<String, String> {
        let list = rig.plane.stored(&[plural]).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let items = list["items"].as_array().into_iter().flatten();
        items.map(|item| (text(&item["metadata"]["name"]), text(&item["metadata"]["uid"]))).collect()
    };
    let [cilium, calico] = CLUSTER_WIDE.map(|(group, _, _, plural)| format!("{plural}.{group}"));
    rig.configure(|site| site.policy_set = SetName::Cilium);
    let kept = "applied: baseline, profile standard; kept: baseline, profile standard";
    until("Cilium's policies are there", || uids(&cilium).len() == 14 && rig.status("switched") == kept);
    let old = uids(&cilium);

    rig.configure(|site| site.policy_set = SetName::Calico);
    until("Calico's policies are there", || uids(&calico).len() == 14);
    let wide = format!("{kept}; kept cluster-wide: 14 CiliumClusterwideNetworkPolicy");
    until("the status names what stays", || rig.status("switched") == wide);
    until("so does an Event", || {
        rig.events("default", "PoliciesKept").iter().any(|note| note.starts_with("14 CiliumClusterwideNetworkPolicy"))
    });
    until("so does a metric", || replica.metric("portcullis_baseline_kept_policies") == Some(14.0));
    replica.until_quiet(20.0);
    assert_eq!(uids(&cilium), old, "none of them was deleted or created again");
    assert_eq!(rig.policies("switched"), before, "nor any in the namespace");

    rig.configure(|_| ());
    for plural in [&cilium, &calico] {
        rig.kubectl(&["delete", plural, "--all"]);
    }
    rig.until_applied("switched", "baseline, profile standard");
}

fn a_second_installation_does_nothing(rig: &Rig, first: &Replica) {
    rig.kubectl(&["create", "namespace", "second"]);
    let second = rig.replica_in("second", "second");
    until("it says so", || second.metric("portcullis_baseline_another_controller") == Some(1.0));
    until("an Event names the other one", || {
        rig.events("second", "AnotherController").iter().any(|note| note.contains("in namespace default is active"))
    });
    assert!(rig.plane.stored(&["lease", "portcullis", "--namespace=second"]).is_none());
    assert!(second.metric("portcullis_leader") == Some(0.0) && second.writes() < 0.5);
    assert!(first.leads() && first.metric("portcullis_baseline_another_controller") == Some(0.0));
    second.stop(&rig.runtime);
}

fn another_label_domain_adopts_what_was_applied(rig: &Rig, _: &Replica) {
    let status = |site: &Site| {
        rig.stored("moved")["metadata"]["annotations"][site.status_annotation()].as_str().unwrap_or_default().to_owned()
    };
    rig.namespace("moved", &[&profile("standard")]);
    rig.until_applied("moved", "baseline, profile standard");
    open(rig, "moved");
    until("the hatch is open", || rig.policy("moved", HATCH).is_some());
    let deny = rig.policy("moved", DENY).unwrap()["metadata"]["uid"].clone();

    rig.configure(|site| site.label_domain = "other.example".to_owned());
    let other = rig.wanted.borrow().site.clone();
    until("the hatch of the old domain is closed", || rig.policy("moved", HATCH).is_none());
    let expected =
        format!("applied: baseline; kept: profile standard; found with labelDomain {DOMAIN}: profile standard");
    until("the status names what was found", || status(&other) == expected);
    let adopted = rig.policy("moved", DENY).unwrap();
    assert_eq!(adopted["metadata"]["uid"], deny, "it was never away");
    assert_eq!(adopted["metadata"]["labels"][other.layer_label()], "baseline");
    assert!(adopted["metadata"]["labels"][rig.site.layer_label()].is_null());
    assert!(rig.policy("moved", STANDARD).is_some());
    rig.kubectl(&["label", "namespace", "moved", "other.example/profile=standard"]);
    until("the profile is adopted", || status(&other) == "applied: baseline, profile standard");

    rig.kubectl(&["label", "namespace", "moved", &format!("{DOMAIN}/enforcement-")]);
    rig.configure(|_| ());
    rig.until_applied("moved", "baseline, profile standard");
}
