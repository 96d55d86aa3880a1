//! Changes that users and administrators make: hatches, the Lease, the label domain, a second installation.

use std::time::{Duration, Instant};

use portcullis::view::Site;

use crate::rig::{DOMAIN, Replica, Rig, until};
use crate::scenarios::{DENY, HATCH, STANDARD, Scenario, profile};

pub(crate) const ALL: &[Scenario] = &[
    ("a hatch opens and closes many times without delay", a_hatch_opens_and_closes_many_times_without_delay),
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

fn a_second_installation_does_nothing(rig: &Rig, first: &Replica) {
    rig.kubectl(&["create", "namespace", "second"]);
    let second = rig.replica_in("second", "second");
    until("it says so", || second.metric("portcullis_baseline_another_controller") == Some(1.0));
    until("an Event names the other one", || {
        rig.events("second", "AnotherController").iter().any(|note| note.contains("in namespace default works"))
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
