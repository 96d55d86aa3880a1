//! Portcullis as `deploy/` installs it: what it knows of a cluster, what it keeps there, and who may switch it off.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{NAMESPACES, POLICIES, accepted, denied, warned};
use crate::manifests::*;
use crate::support::control_plane::Output;
use crate::support::installation::{Installation, NAMESPACE, Replica};
use crate::support::verdict::has_finding;

pub(crate) type Scenario = (&'static str, fn(&mut Installation));

/// What a namespace with the profile that ships as the default is due.
const STANDARD: [&str; 5] = [
    "portcullis-baseline-allow-dns",
    "portcullis-baseline-allow-health-probes",
    "portcullis-baseline-allow-prometheus-scrape",
    "portcullis-baseline-default-deny",
    "portcullis-profile-standard",
];
const ENFORCEMENT: &str = "network-policy.portcullis.dev/enforcement";
const REASON: &str = "network-policy.portcullis.dev/reason";
const UNTIL: &str = "network-policy.portcullis.dev/until";

/// Makes a namespace, and waits until it has what it is due.
fn ready(cluster: &Installation, name: &str) {
    accepted(&cluster.plane.kubectl(&["create", "namespace", name]));
    applied(cluster, name);
}

fn applied(cluster: &Installation, name: &str) -> Duration {
    cluster.until(&format!("the baseline of {name}"), |cluster| {
        cluster.namespace(name)["metadata"]["labels"][BASELINE] == "applied"
    })
}

/// The names of all policies of a namespace with the version of each.
fn versions(cluster: &Installation, name: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let each = |policy: &Value| (text(&policy["metadata"]["name"]), text(&policy["metadata"]["resourceVersion"]));
    cluster.policies(name).iter().map(each).collect()
}

/// Somebody who may do what they like with policies and namespaces, and nothing that RBAC calls a bypass.
fn developer(cluster: &Installation) -> crate::support::control_plane::Kubectl {
    cluster.plane.as_user("ada", &["developers"])
}

/// Gives the developers their rights, once.
pub(crate) fn people_are_given_rights(cluster: &mut Installation) {
    let role = [
        "create",
        "clusterrole",
        "developer",
        "--verb=*",
        "--resource=networkpolicies.networking.k8s.io,namespaces,pods",
    ];
    accepted(&cluster.plane.kubectl(&role));
    let binding = ["create", "clusterrolebinding", "developers", "--clusterrole=developer", "--group=developers"];
    accepted(&cluster.plane.kubectl(&binding));
    let role = [
        "create",
        "clusterrole",
        "hatches",
        "--verb=bypass",
        "--resource=rules.portcullis.dev",
        "--resource-name=unguarded-hatch",
    ];
    let made = cluster.plane.kubectl(&role);
    // kubectl asks discovery for the resource, which nobody serves; as a manifest it can be said.
    if !made.ok {
        let rule = json!({"apiGroups": ["portcullis.dev"], "resources": ["rules"], "resourceNames": ["unguarded-hatch"], "verbs": ["bypass"]});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "hatches"}, "rules": [rule]});
        accepted(&cluster.plane.apply(&role.to_string(), &[]));
    }
    let binding = ["create", "clusterrolebinding", "on-call", "--clusterrole=hatches", "--group=on-call"];
    accepted(&cluster.plane.kubectl(&binding));
}

// === The baseline ===

pub(crate) fn a_new_namespace_gets_its_policies(cluster: &mut Installation) {
    let reconciles = |cluster: &Installation, result: &str| -> f64 {
        let series = format!("portcullis_baseline_reconciles_total{{result=\"{result}\"}}");
        cluster.replicas.iter().filter_map(|replica| replica.metric(&series)).sum()
    };
    let [written, failed] = ["written", "failed"].map(|result| reconciles(cluster, result));
    let start = Instant::now();
    accepted(&cluster.plane.kubectl(&["create", "namespace", "fresh"]));
    cluster.until("something is written", |cluster| reconciles(cluster, "written") > written);
    let took = start.elapsed();
    // All of it at once: nothing is left for a later look at it, and nothing had to be tried again.
    assert_eq!(cluster.namespace("fresh")["metadata"]["labels"][BASELINE], "applied");
    assert_eq!(cluster.names("fresh"), STANDARD);
    assert!(reconciles(cluster, "failed") <= failed, "{}", cluster.logs());
    // A figure to be read, not one to be failed by: machines differ.
    eprintln!("         the policies were there {:.2} s after `kubectl create` began", took.as_secs_f64());

    for policy in cluster.policies("fresh") {
        let metadata = &policy["metadata"];
        assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "portcullis");
        assert_eq!(metadata["annotations"]["argocd.argoproj.io/sync-options"], "Prune=false");
    }
    let shown = cluster.plane.kubectl(&[
        "get",
        "networkpolicies",
        "--namespace=fresh",
        "--show-managed-fields",
        "--output=json",
    ]);
    let list: Value = serde_json::from_str(&shown.stdout).unwrap();
    for policy in list["items"].as_array().unwrap() {
        assert_eq!(policy["metadata"]["managedFields"][0]["manager"], "portcullis-baseline", "{policy}");
        assert_eq!(policy["metadata"]["managedFields"][0]["operation"], "Apply", "{policy}");
    }
}

pub(crate) fn an_old_namespace_is_left_alone_until_it_asks(cluster: &mut Installation) {
    // Made before anybody asked Portcullis.
    assert!(cluster.names("before").is_empty());
    assert_eq!(cluster.namespace("before")["metadata"]["labels"][BASELINE], Value::Null);
    accepted(&cluster.plane.kubectl(&["label", "namespace", "before", &format!("{PROFILE}=isolated")]));
    applied(cluster, "before");
    assert!(cluster.names("before").contains(&"portcullis-baseline-default-deny".to_owned()));
}

pub(crate) fn what_an_administrator_deletes_comes_back(cluster: &mut Installation) {
    ready(cluster, "deleted");
    let before = cluster.policies("deleted");
    let delete = ["delete", "networkpolicy", "portcullis-baseline-default-deny", "--namespace=deleted"];
    accepted(&cluster.plane.kubectl(&delete));
    cluster.until("the policy is back", |cluster| cluster.names("deleted") == STANDARD);
    let after = cluster.policies("deleted");
    assert_ne!(before[3]["metadata"]["uid"], after[3]["metadata"]["uid"], "it is a new one");
    assert_eq!(before[3]["spec"], after[3]["spec"]);
    assert_eq!(
        before[0]["metadata"]["resourceVersion"], after[0]["metadata"]["resourceVersion"],
        "others are not touched"
    );
}

pub(crate) fn what_an_administrator_changes_is_put_right(cluster: &mut Installation) {
    ready(cluster, "changed");
    let before = cluster.policies("changed");
    // What the controller wrote is changed, and what it did not write is added.
    let patches = [
        r#"[{"op": "replace", "path": "/spec/podSelector", "value": {"matchLabels": {"app": "x"}}}]"#,
        r#"[{"op": "add", "path": "/spec/egress", "value": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]}]"#,
        r#"[{"op": "remove", "path": "/metadata/labels"}]"#,
    ];
    for patch in patches {
        let policy = "portcullis-baseline-default-deny";
        accepted(&cluster.plane.kubectl(&[
            "patch",
            "networkpolicy",
            policy,
            "-n",
            "changed",
            "--type=json",
            "--patch",
            patch,
        ]));
        cluster.until(&format!("{patch} is put right"), |cluster| {
            let after = &cluster.policies("changed")[3];
            after["spec"] == before[3]["spec"] && after["metadata"]["labels"] == before[3]["metadata"]["labels"]
        });
    }
}

pub(crate) fn nobody_else_changes_what_is_managed(cluster: &mut Installation) {
    ready(cluster, "guarded-policies");
    let (developer, before) = (developer(cluster), versions(cluster, "guarded-policies"));
    let name = "portcullis-baseline-default-deny";
    let deleted = developer.run(&["delete", "networkpolicy", name, "--namespace=guarded-policies"]);
    denied(&deleted, POLICIES, "managed-policy-change", "metadata.name");
    let patch = r#"{"spec": {"podSelector": {"matchLabels": {"app": "x"}}}}"#;
    let patched =
        developer.run(&["patch", "networkpolicy", name, "-n", "guarded-policies", "--type=merge", "--patch", patch]);
    denied(&patched, POLICIES, "managed-policy-change", "metadata.name");
    let labelled =
        developer.run(&["label", "networkpolicy", name, "-n", "guarded-policies", "app.kubernetes.io/managed-by-"]);
    denied(&labelled, POLICIES, "managed-policy-change", "metadata.name");
    let made = developer.apply(&policy("portcullis-of-my-own", "guarded-policies", &ingress(&[FROM_FRONTEND])), &[]);
    denied(&made, POLICIES, "managed-policy-change", "metadata.name");
    let label = format!("{BASELINE}=pending");
    let labelled = developer.run(&["label", "namespace", "guarded-policies", "--overwrite", &label]);
    denied(&labelled, NAMESPACES, "managed-policy-change", &format!("metadata.labels[\"{BASELINE}\"]"));
    let all = developer.run(&["delete", "networkpolicies", "--all", "--namespace=guarded-policies"]);
    denied(&all, POLICIES, "managed-policy-change", "metadata.name");
    assert_eq!(versions(cluster, "guarded-policies"), before);
}

pub(crate) fn a_change_of_profile_leaves_no_moment_without(cluster: &mut Installation) {
    ready(cluster, "swap");
    // kubectl's own lists have no version.
    let path = "/apis/networking.k8s.io/v1/namespaces/swap/networkpolicies";
    let listed = cluster.plane.kubectl(&["get", "--raw", path]);
    let start: Value = serde_json::from_str(&listed.stdout).unwrap();
    let version = start["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let old = "portcullis-profile-standard";
    accepted(&cluster.plane.kubectl(&[
        "label",
        "namespace",
        "swap",
        "--overwrite",
        &format!("{PROFILE}=internal-egress"),
    ]));
    let gone = |cluster: &Installation| !cluster.names("swap").iter().any(|name| name == old);
    cluster.until("the old profile's policy is gone", gone);
    let now = cluster.names("swap");
    let new: Vec<&String> = now.iter().filter(|name| name.as_str() == "portcullis-profile-internal-egress").collect();
    assert_eq!(new.len(), 1, "{now:?}");

    // What happened, in its order, as the API server tells it.
    let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=2");
    let watched = cluster.plane.kubectl(&["get", "--raw", &path]);
    accepted(&watched);
    let events: Vec<(String, String)> = watched
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["object"]["metadata"]["name"].is_string())
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
        })
        .collect();
    assert_eq!(events, [("ADDED".to_owned(), new[0].clone()), ("DELETED".to_owned(), old.to_owned())]);
}

pub(crate) fn an_access_is_given_and_taken_by_its_label(cluster: &mut Installation) {
    ready(cluster, "access");
    let label = "access.network-policy.portcullis.dev/postgres";
    let has = |cluster: &Installation| cluster.names("access").iter().any(|name| name.contains("postgres"));
    accepted(&cluster.plane.kubectl(&["label", "namespace", "access", &format!("{label}=true")]));
    cluster.until("the access is there", has);
    accepted(&cluster.plane.kubectl(&["label", "namespace", "access", &format!("{label}-")]));
    cluster.until("the access is gone", |cluster| !has(cluster));
    assert_eq!(cluster.names("access"), STANDARD);
}

pub(crate) fn a_label_that_is_lost_takes_nothing_away(cluster: &mut Installation) {
    ready(cluster, "lost");
    accepted(&cluster.plane.kubectl(&["label", "namespace", "lost", &format!("{PROFILE}-")]));
    // Something that is done after it shows that it was looked at.
    let label = "access.network-policy.portcullis.dev/postgres";
    accepted(&cluster.plane.kubectl(&["label", "namespace", "lost", &format!("{label}=true")]));
    cluster.until("the access is there", |cluster| cluster.names("lost").len() == STANDARD.len() + 1);
    for name in STANDARD {
        assert!(cluster.names("lost").iter().any(|other| other == name), "{name} is gone");
    }
}

pub(crate) fn what_only_looks_managed_is_not_deleted(cluster: &mut Installation) {
    ready(cluster, "lookalike");
    let mut alike = cluster.policies("lookalike")[4].clone();
    alike["metadata"] = json!({"name": "lookalike", "namespace": "lookalike", "labels": alike["metadata"]["labels"]});
    accepted(&cluster.plane.apply(&alike.to_string(), &[]));
    accepted(&cluster.plane.kubectl(&[
        "label",
        "namespace",
        "lookalike",
        "--overwrite",
        &format!("{PROFILE}=isolated"),
    ]));
    cluster.until("the profile is changed", |cluster| !cluster.names("lookalike").contains(&STANDARD[4].to_owned()));
    assert!(cluster.names("lookalike").contains(&"lookalike".to_owned()));
}

pub(crate) fn what_changes_nothing_is_not_written(cluster: &mut Installation) {
    ready(cluster, "quiet");
    let (policies, namespace) = (versions(cluster, "quiet"), cluster.namespace("quiet"));
    for round in 0..3 {
        accepted(&cluster.plane.kubectl(&[
            "annotate",
            "namespace",
            "quiet",
            "--overwrite",
            &format!("example.com/round={round}"),
        ]));
    }
    // What is made after it is done after it.
    ready(cluster, "quiet-after");
    assert_eq!(versions(cluster, "quiet"), policies);
    let mut after = cluster.namespace("quiet");
    assert_eq!(after["metadata"]["annotations"]["example.com/round"], "2");
    after["metadata"]["annotations"].as_object_mut().unwrap().remove("example.com/round");
    assert_eq!(after["metadata"]["annotations"], namespace["metadata"]["annotations"]);
    assert_eq!(after["metadata"]["labels"], namespace["metadata"]["labels"]);
}

pub(crate) fn a_namespace_that_comes_and_goes_is_no_trouble(cluster: &mut Installation) {
    let before: Vec<usize> = cluster.replicas.iter().map(|replica| replica.log().len()).collect();
    for round in 0..50 {
        accepted(&cluster.plane.kubectl(&["create", "namespace", "again"]));
        if round % 5 == 0 {
            applied(cluster, "again");
        }
        cluster.delete_namespace("again");
    }
    ready(cluster, "again");
    assert_eq!(cluster.names("again"), STANDARD);
    for (replica, from) in cluster.replicas.iter().zip(before) {
        let log = replica.log();
        let trouble = trouble(&log[from..]);
        assert!(trouble.is_empty(), "{trouble:#?}");
    }
}

/// What of a log says that something went wrong. A failed reconcile is a warning; what exceeds a quota was
/// meant to.
fn trouble(log: &str) -> Vec<&str> {
    let signs = [r#""level":"ERROR""#, "failed to reconcile"];
    let is_trouble = |line: &&str| signs.iter().any(|sign| line.contains(sign)) && !line.contains("exceeded quota");
    log.lines().filter(is_trouble).collect()
}

// === Who may what ===

pub(crate) fn a_hatch_needs_a_reason_an_end_and_the_right(cluster: &mut Installation) {
    ready(cluster, "hatch-guarded");
    let place = format!("metadata.labels[\"{ENFORCEMENT}\"]");
    let on_call = cluster.plane.as_user("grace", &["developers", "on-call"]);
    let open = |who: &crate::support::control_plane::Kubectl, annotations: Value| {
        let patch = json!({"metadata": {"labels": {ENFORCEMENT: "disabled"}, "annotations": annotations}});
        who.run(&["patch", "namespace", "hatch-guarded", "--type=merge", "--patch", &patch.to_string()])
    };
    let in_an_hour = until_in(3600);
    denied(&open(&on_call, json!({UNTIL: in_an_hour})), NAMESPACES, "unguarded-hatch", &place);
    denied(&open(&on_call, json!({REASON: "an outage"})), NAMESPACES, "unguarded-hatch", &place);
    let until = format!("metadata.annotations[\"{UNTIL}\"]");
    denied(&open(&on_call, json!({REASON: "an outage", UNTIL: until_in(-60)})), NAMESPACES, "unguarded-hatch", &until);
    denied(
        &open(&on_call, json!({REASON: "an outage", UNTIL: until_in(25 * 3600)})),
        NAMESPACES,
        "unguarded-hatch",
        &until,
    );
    let whole = json!({REASON: "an outage", UNTIL: in_an_hour});
    denied(&open(&developer(cluster), whole.clone()), NAMESPACES, "unguarded-hatch", &place);
    assert_eq!(cluster.namespace("hatch-guarded")["metadata"]["labels"][ENFORCEMENT], Value::Null);
    accepted(&open(&on_call, whole));
    cluster.until("the allow-all is there", |cluster| {
        cluster.names("hatch-guarded").iter().any(|name| name.contains("hatch"))
    });
    for name in STANDARD {
        assert!(cluster.names("hatch-guarded").contains(&name.to_owned()), "nothing is deleted: {name}");
    }
    // Prolonging it is opening it again.
    let longer = json!({"metadata": {"annotations": {UNTIL: until_in(2 * 3600)}}}).to_string();
    let prolonged =
        developer(cluster).run(&["patch", "namespace", "hatch-guarded", "--type=merge", "--patch", &longer]);
    denied(&prolonged, NAMESPACES, "unguarded-hatch", &place);
    // Anybody may close it.
    accepted(&developer(cluster).run(&["label", "namespace", "hatch-guarded", &format!("{ENFORCEMENT}-")]));
    cluster.until("the allow-all is gone", |cluster| cluster.names("hatch-guarded") == STANDARD);
}

/// A time as RFC 3339 writes it, so many seconds from now.
fn until_in(seconds: i64) -> String {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn a_hatch_closes_by_itself(cluster: &mut Installation) {
    ready(cluster, "hatch-timed");
    let developer = developer(cluster);
    let bad = policy("web", "hatch-timed", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    denied(&developer.apply(&bad, &[]), POLICIES, "any-port", "spec.ingress[0]");

    let opened = cluster.portcullis(&["hatch", "open", "hatch-timed", "--reason", "an outage", "--for", "6s"]);
    assert_eq!(opened.code, 0, "{}", opened.err);
    cluster.until("the allow-all is there", |cluster| {
        cluster.names("hatch-timed").iter().any(|name| name.contains("hatch"))
    });
    let warning = developer.apply(&bad, &[]);
    warned(&warning, "any-port", "spec.ingress[0]");
    let series = r#"portcullis_hatch_open_since_timestamp_seconds{target_namespace="hatch-timed"}"#;
    cluster.until("a gauge says since when", |cluster| {
        cluster.replicas.iter().any(|replica| replica.metric(series).is_some_and(|since| since > 1e9))
    });
    let listed = cluster.portcullis(&["hatch", "list", "--output", "json"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    assert!(listed.out.contains("hatch-timed") && listed.out.contains("an outage"), "{}{}", listed.out, listed.err);

    cluster.until("it is closed", |cluster| {
        cluster.namespace("hatch-timed")["metadata"]["labels"][ENFORCEMENT] == Value::Null
    });
    cluster.until("the allow-all is gone", |cluster| {
        !cluster.names("hatch-timed").iter().any(|name| name.contains("hatch"))
    });
    let annotations = &cluster.namespace("hatch-timed")["metadata"]["annotations"];
    assert_eq!((&annotations[REASON], &annotations[UNTIL]), (&Value::Null, &Value::Null));
    cluster
        .until("the gauge is gone", |cluster| cluster.replicas.iter().all(|replica| replica.metric(series).is_none()));
    cluster.until("an Event says so", |cluster| {
        let events = cluster.plane.kubectl(&["get", "events.events.k8s.io", "--all-namespaces", "--output=json"]);
        let events: Value = serde_json::from_str(&events.stdout).unwrap();
        let of = |event: &Value| event["regarding"]["name"] == "hatch-timed" && event["reason"] == "HatchClosed";
        events["items"].as_array().unwrap().iter().any(of)
    });
    let other = policy("job", "hatch-timed", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    denied(&developer.apply(&other, &[]), POLICIES, "any-port", "spec.ingress[0]");
}

pub(crate) fn a_hatch_is_opened_and_closed_by_command(cluster: &mut Installation) {
    ready(cluster, "hatch-command");
    let refused = cluster.portcullis(&["hatch", "open", "hatch-command", "--reason", "", "--for", "1h"]);
    assert!(refused.code == 2 && refused.err.contains("the reason must not be empty"), "{}", refused.err);
    let opened = cluster.portcullis(&["hatch", "open", "hatch-command", "--reason", "an outage", "--for", "1h"]);
    assert_eq!(opened.code, 0, "{}", opened.err);
    assert_eq!(cluster.namespace("hatch-command")["metadata"]["labels"][ENFORCEMENT], "disabled");
    let opened_by = "network-policy.portcullis.dev/opened-by";
    let opener =
        |cluster: &Installation| cluster.namespace("hatch-command")["metadata"]["annotations"][opened_by].clone();
    let user = opener(cluster);
    assert!(user.as_str().is_some_and(|user| !user.is_empty()), "{user}");
    let listed = cluster.portcullis(&["hatch", "list"]);
    assert!(listed.out.contains(&format!("opened by {}: an outage", user.as_str().unwrap())), "{}", listed.out);
    let forged = format!("{opened_by}=somebody-else");
    accepted(&cluster.plane.kubectl(&["annotate", "--overwrite", "namespace", "hatch-command", &forged]));
    assert_eq!(opener(cluster), user, "/mutate restores it");
    accepted(&cluster.plane.kubectl(&["annotate", "namespace", "hatch-command", &format!("{opened_by}-")]));
    assert_eq!(opener(cluster), user, "nor can it be removed");
    let closed = cluster.portcullis(&["hatch", "close", "hatch-command"]);
    assert_eq!(closed.code, 0, "{}", closed.err);
    assert_eq!(cluster.namespace("hatch-command")["metadata"]["labels"][ENFORCEMENT], Value::Null);
    assert_eq!(opener(cluster), Value::Null);
}

pub(crate) fn an_exemption_needs_the_right(cluster: &mut Installation) {
    ready(cluster, "exempt");
    let annotations = json!({"network-policy.portcullis.dev/exempt": "any-port", REASON: "a legacy application"});
    let bad = policy("legacy", "exempt", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    // The manifests here are YAML of one line; JSON is YAML too.
    let bad = bad.replace("namespace: exempt", &format!("namespace: exempt, annotations: {annotations}"));
    assert!(bad.contains("legacy application"), "{bad}");
    let refused = developer(cluster).apply(&bad, &[]);
    denied(&refused, POLICIES, "any-port", "metadata.annotations[\"network-policy.portcullis.dev/exempt\"]");
    let taken = cluster.plane.apply(&bad, &[]);
    warned(&taken, "any-port", "spec.ingress[0]");
    // Whoever changes it later does not have to be the one who may exempt it.
    let changed = bad.replace("app: batch", "app: other");
    accepted(&developer(cluster).apply(&changed, &[]));
}

pub(crate) fn a_role_binding_grants_a_bypass_in_its_namespace_alone(cluster: &mut Installation) {
    for namespace in ["granted", "not-granted"] {
        ready(cluster, namespace);
    }
    let binding = ["create", "rolebinding", "bypass", "--namespace=granted", "--clusterrole=portcullis-bypass"];
    accepted(&cluster.plane.kubectl(&[&binding[..], &["--group=developers"]].concat()));
    let developer = developer(cluster);
    let isolate = |namespace: &str| {
        let label = format!("{PROFILE}=isolated");
        accepted(&cluster.plane.kubectl(&["label", "namespace", namespace, "--overwrite", &label]));
        applied(cluster, namespace);
    };
    let downgrade = |namespace: &str| {
        developer.run(&["label", "namespace", namespace, "--overwrite", &format!("{PROFILE}=standard")])
    };
    isolate("granted");
    isolate("not-granted");
    cluster.until("the binding counts", |_| downgrade("granted").ok);
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    denied(&downgrade("not-granted"), NAMESPACES, "isolation-downgrade", &place);

    let annotations = json!({"network-policy.portcullis.dev/exempt": "any-port", REASON: "a legacy application"});
    let exempt = |namespace: &str| {
        let bad = policy("legacy", namespace, &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
        let name = format!("namespace: {namespace}");
        developer.apply(&bad.replace(&name, &format!("{name}, annotations: {annotations}")), &[])
    };
    warned(&exempt("granted"), "any-port", "spec.ingress[0]");
    let place = "metadata.annotations[\"network-policy.portcullis.dev/exempt\"]";
    denied(&exempt("not-granted"), POLICIES, "any-port", place);
}

pub(crate) fn less_isolation_needs_the_right(cluster: &mut Installation) {
    accepted(&cluster.plane.kubectl(&["create", "namespace", "downgrade"]));
    accepted(&cluster.plane.kubectl(&[
        "label",
        "namespace",
        "downgrade",
        "--overwrite",
        &format!("{PROFILE}=isolated"),
    ]));
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    let moved =
        developer(cluster).run(&["label", "namespace", "downgrade", "--overwrite", &format!("{PROFILE}=standard")]);
    denied(&moved, NAMESPACES, "isolation-downgrade", &place);
    let removed = developer(cluster).run(&["label", "namespace", "downgrade", &format!("{PROFILE}-")]);
    denied(&removed, NAMESPACES, "isolation-downgrade", &place);
    accepted(&cluster.plane.kubectl(&[
        "label",
        "namespace",
        "downgrade",
        "--overwrite",
        &format!("{PROFILE}=standard"),
    ]));
    let up =
        developer(cluster).run(&["label", "namespace", "downgrade", "--overwrite", &format!("{PROFILE}=isolated")]);
    accepted(&up);
}

// === What is known ===

pub(crate) fn what_is_in_the_cluster_counts(cluster: &mut Installation) {
    ready(cluster, "known");
    // The baseline lets all pods ask DNS, so nobody else has to.
    let developer = developer(cluster);
    let applied = developer.apply(&policy("web", "known", &both(&[FROM_FRONTEND], &[TO_DB])), &[]);
    accepted(&applied);
    assert!(!applied.stderr.contains("dns-blocked"), "{applied}");

    let plain = "before-dns";
    accepted(&developer.apply(&policy("dns", plain, &egress(&[TO_DNS])), &[]));
    let web = policy("web", plain, &egress(&[TO_DB]));
    cluster.until("the policy is known", |_| developer.apply(&web, &["--dry-run=server"]).ok);
    accepted(&developer.apply(&web, &[]));
    cluster.until("its user is known", |_| {
        let deleted = developer.run(&["delete", "networkpolicy", "dns", "-n", plain, "--dry-run=server"]);
        has_finding(&deleted.stderr, "dns-blocked", "spec")
    });
}

pub(crate) fn the_command_in_a_denial_works(cluster: &mut Installation) {
    let (namespace, name) = ("before-update", ["networkpolicy", "web", "--namespace=before-update"]);
    accepted(&cluster.plane.apply(&policy("web", namespace, &egress(&[TO_DB, TO_DNS])), &[]));
    let before = cluster.plane.stored(&name).expect("it is stored");
    let applied = cluster.plane.apply(&policy("web", namespace, &egress(&[TO_CACHE])), &[]);
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    let command = applied.stderr.lines().find_map(|line| line.strip_prefix("  fix: kubectl "));
    // A shell splits the command into words.
    let command = format!("printf '%s\\n' {}", command.unwrap_or_else(|| panic!("no command: {applied}")));
    let words = Command::new("sh").arg("-c").arg(command).output().expect("sh runs").stdout;
    let words = String::from_utf8(words).expect("UTF-8");
    accepted(&cluster.plane.kubectl(&words.lines().collect::<Vec<_>>()));
    let after = cluster.plane.stored(&name).expect("it is stored");
    assert_eq!(after["spec"]["egress"][0]["ports"][0]["port"], 6379, "{after}");
    assert_eq!(after["spec"]["egress"][1], before["spec"]["egress"][1], "{after}");
}

/// A kind of policies of the whole cluster.
const WIDE: &str = "CiliumClusterwideNetworkPolicy";
/// One that lets some pods ask DNS.
const LETS_ASK: &str = "apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: dns}
spec:
  endpointSelector: {matchLabels: {asks: dns}}
  egress:
  - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: '53', protocol: ANY}]}]
";

/// What is said to a policy for the same pods that would cut them off from DNS without the other one.
fn asks(cluster: &Installation) -> Output {
    let spec = format!("{{podSelector: {{matchLabels: {{asks: dns}}}}, policyTypes: [Egress], egress: [{TO_DB}]}}");
    cluster.plane.apply(&policy("asks", "before-crd", &spec), &["--dry-run=server"])
}

pub(crate) fn a_crd_that_comes_later_is_watched(cluster: &mut Installation) {
    assert!(cluster.replicas.iter().all(|replica| {
        replica.metric(&format!("portcullis_watch_synced{{kind=\"{WIDE}\"}}")).is_none_or(|synced| synced == 0.0)
    }));
    crate::dialects::serve(&cluster.plane);
    accepted(&cluster.plane.apply(LETS_ASK, &[]));
    cluster.until("the kind is watched", |cluster| asks(cluster).ok);
    accepted(&cluster.plane.kubectl(&["delete", "ciliumclusterwidenetworkpolicy", "dns"]));
    cluster.until("its end is known", |cluster| has_finding(&asks(cluster).stderr, "dns-blocked", "spec.egress"));
}

pub(crate) fn a_crd_that_goes_takes_with_it_what_its_policies_allowed(cluster: &mut Installation) {
    accepted(&cluster.plane.apply(LETS_ASK, &[]));
    // An API server goes on asking the replica that it has a connection to, and the other one may find the kind later.
    let series = format!("portcullis_watch_synced{{kind=\"{WIDE}\"}}");
    cluster.until("every replica watches it", |cluster| {
        cluster.replicas.iter().all(|replica| replica.metric(&series) == Some(1.0))
    });
    cluster.until("it counts", |cluster| asks(cluster).ok);
    accepted(&cluster.plane.kubectl(&["delete", "crd", "ciliumclusterwidenetworkpolicies.cilium.io"]));
    cluster.until("it counts for nothing", |cluster| has_finding(&asks(cluster).stderr, "dns-blocked", "spec.egress"));
    denied(&asks(cluster), POLICIES, "dns-blocked", "spec.egress");
    assert!(cluster.replicas.iter().all(Replica::is_ready), "a kind that goes is no trouble");
}

/// It is looked for twice before that is believed, half a minute apart.
pub(crate) fn a_crd_that_is_gone_is_watched_no_more(cluster: &mut Installation) {
    let series = format!("portcullis_watch_synced{{kind=\"{WIDE}\"}}");
    cluster.until_within(Duration::from_secs(90), "nobody watches it", |cluster| {
        assert!(cluster.replicas.iter().all(Replica::is_ready), "nor is it trouble later on");
        cluster.replicas.iter().all(|replica| replica.metric(&series).is_none())
    });
    for replica in &cluster.replicas {
        let (status, answer) = replica.readyz().unwrap();
        assert_eq!((status, &answer["detail"]["cluster"]), (200, &json!("ok")), "{answer}");
        assert_eq!(answer["detail"]["watches"][WIDE], Value::Null, "{answer}");
        assert_eq!(answer["detail"]["watches"]["CiliumNetworkPolicy"], "synced", "its group is still there: {answer}");
        assert!(replica.log().contains("stopped the watch"), "{}", replica.log());
    }
    denied(&asks(cluster), POLICIES, "dns-blocked", "spec.egress");
}

pub(crate) fn a_change_of_profile_is_previewed(cluster: &mut Installation) {
    let preview = |cluster: &Installation, namespace: &str| {
        let label = format!("{PROFILE}=isolated");
        let arguments = ["label", "namespace", namespace, "--overwrite", "--dry-run=server", &label];
        let shown = cluster.plane.kubectl(&arguments);
        accepted(&shown);
        shown.stderr
    };
    ready(cluster, "previewed");
    let shown = preview(cluster, "previewed");
    assert!(shown.contains("Warning: preview: ") && shown.contains("443"), "{shown}");
    assert_eq!(cluster.namespace("previewed")["metadata"]["labels"][PROFILE], "standard");

    // Nothing isolates it yet, so the pod may be there. It is named as soon as a watch has told of it.
    accepted(&cluster.plane.apply(&object("v1", "Pod", "agent", "before-profile", ON_THE_NODE), &[]));
    let line = "Warning: preview: 1 hostNetwork pod is not isolated by profile isolated: agent\n";
    cluster.until("the pod is named", |cluster| preview(cluster, "before-profile").contains(line));
    assert_eq!(cluster.namespace("before-profile")["metadata"]["labels"][PROFILE], Value::Null);
}

/// A policy of the cluster isolates the pods of namespaces with a label that is not Portcullis's. Whoever sets it is told.
pub(crate) fn a_label_that_takes_dns_away_is_previewed(cluster: &mut Installation) {
    let on_purpose = json!({
        "network-policy.portcullis.dev/exempt": "dns-blocked",
        "network-policy.portcullis.dev/reason": "quarantine has no DNS",
    });
    let isolate = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "quarantine", "annotations": on_purpose},
        "spec": {
            "endpointSelector": {"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.quarantine": "yes"}},
            "egress": [{}],
        },
    });
    accepted(&cluster.plane.apply(&isolate.to_string(), &[]));
    let web = "{containers: [{name: web, image: web}]}";
    accepted(&cluster.plane.apply(&object("v1", "Pod", "web", "before-profile", web), &[]));
    let label = |cluster: &Installation, label: &str| {
        let shown =
            cluster.plane.kubectl(&["label", "namespace", "before-profile", "--overwrite", "--dry-run=server", label]);
        accepted(&shown);
        shown.stderr
    };
    let line =
        "Warning: preview: 1 pod loses DNS by these labels: web; isolated by CiliumClusterwideNetworkPolicy quarantine";
    cluster.until("the pod is named", |cluster| label(cluster, "quarantine=yes").contains(line));
    assert_eq!(label(cluster, "quarantine=no"), "");
    accepted(&cluster.plane.kubectl(&["delete", "ciliumclusterwidenetworkpolicy", "quarantine"]));
}

pub(crate) fn a_pod_waits_for_its_baseline(cluster: &mut Installation) {
    ready(cluster, "waits");
    // Nobody can put anything there for a while, and nobody else keeps count of quotas here.
    let count = "count/networkpolicies.networking.k8s.io";
    let hard = format!("--hard={count}=0");
    accepted(&cluster.plane.kubectl(&["create", "quota", "none", "--namespace=waits", &hard]));
    let status = json!({"status": {"hard": {count: "0"}, "used": {count: "0"}}}).to_string();
    let patch =
        ["patch", "quota", "none", "--namespace=waits", "--subresource=status", "--type=merge", "--patch", &status];
    accepted(&cluster.plane.kubectl(&patch));
    let delete = ["delete", "networkpolicy", "portcullis-baseline-default-deny", "--namespace=waits"];
    accepted(&cluster.plane.kubectl(&delete));
    let pending = format!("{BASELINE}=pending");
    accepted(&cluster.plane.kubectl(&["label", "namespace", "waits", "--overwrite", &pending]));
    let pod = object("v1", "Pod", "early", "waits", ORDINARY);
    let gates = |cluster: &Installation, name: &str| {
        let pod = cluster.plane.stored(&["pod", name, "--namespace=waits"]).unwrap();
        pod["spec"]["schedulingGates"].clone()
    };
    cluster.until("the label is known", |cluster| {
        cluster.plane.apply(&pod, &["--dry-run=server", "--output=json"]).stdout.contains("schedulingGates")
    });
    accepted(&cluster.plane.apply(&pod, &[]));
    assert_eq!(gates(cluster, "early"), json!([{"name": BASELINE}]), "it waits");

    accepted(&cluster.plane.kubectl(&["delete", "quota", "none", "--namespace=waits"]));
    accepted(&cluster.plane.kubectl(&["annotate", "namespace", "waits", "example.com/news=some"]));
    applied(cluster, "waits");
    cluster.until("the gate is lifted", |cluster| gates(cluster, "early").as_array().is_none_or(Vec::is_empty));
    // One that comes later does not wait.
    cluster.until("that it is applied is known", |cluster| {
        let late = object("v1", "Pod", "late", "waits", ORDINARY);
        let tried = cluster.plane.apply(&late, &["--dry-run=server", "--output=json"]);
        tried.ok && !tried.stdout.contains("schedulingGates")
    });
}

// === Failures ===

pub(crate) fn another_replica_takes_over(cluster: &mut Installation) {
    ready(cluster, "handed-over");
    let before = versions(cluster, "handed-over");
    let log = cluster.kill_leader();
    let trouble = trouble(&log);
    assert!(trouble.is_empty(), "{trouble:#?}");
    accepted(&cluster.plane.kubectl(&["create", "namespace", "after-the-leader"]));
    let start = Instant::now();
    let opened = cluster.portcullis(&["hatch", "open", "handed-over", "--reason", "an outage", "--for", "1h"]);
    assert_eq!(opened.code, 0, "it waits for another replica: {}", opened.err);
    assert!(opened.err.contains("another replica takes over when its Lease expires"), "{}", opened.err);
    let closed = cluster.portcullis(&["hatch", "close", "handed-over"]);
    assert_eq!(closed.code, 0, "{}", closed.err);
    applied(cluster, "after-the-leader");
    eprintln!("         another replica took over within {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(cluster.names("after-the-leader"), STANDARD);
    assert_eq!(versions(cluster, "handed-over"), before, "nothing is applied twice");
    cluster.start_replica();
    ready(cluster, "after-the-return");
    assert_eq!(versions(cluster, "handed-over"), before);
}

pub(crate) fn an_api_server_that_goes_and_comes_is_followed(cluster: &mut Installation) {
    ready(cluster, "during");
    let before = versions(cluster, "during");
    cluster.plane.stop_api_server();
    cluster.until("readiness tells", |cluster| {
        cluster
            .replicas
            .iter()
            .all(|replica| replica.readyz().is_some_and(|(_, detail)| detail.to_string().contains("lost")))
    });
    cluster.plane.start_api_server();
    cluster.until("the watches are back", |cluster| {
        cluster.replicas.iter().all(|replica| {
            replica.readyz().is_some_and(|(status, detail)| status == 200 && !detail.to_string().contains("lost"))
        })
    });
    assert_eq!(versions(cluster, "during"), before);
    ready(cluster, "since");
    let bad = policy("web", "since", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    denied(&developer(cluster).apply(&bad, &[]), POLICIES, "any-port", "spec.ingress[0]");
}

pub(crate) fn a_server_that_knows_nothing_yet_lets_nothing_in(cluster: &mut Installation) {
    cluster.stop_replicas();
    let bad = policy("web", "since", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DNS]));
    let refused = developer(cluster).apply(&bad, &[]);
    assert!(!refused.ok && refused.stderr.contains("failed calling webhook"), "{refused}");
    cluster.start_replica();
    cluster.start_replica();
    denied(&developer(cluster).apply(&bad, &[]), POLICIES, "any-port", "spec.ingress[0]");
}

/// Nobody asks about its own namespace, so it is tried in another one.
pub(crate) fn its_own_policy_passes_its_own_rules(cluster: &mut Installation) {
    let own = cluster.policies(NAMESPACE);
    assert!(!own.is_empty());
    for mut policy in own {
        policy["metadata"] = json!({"name": policy["metadata"]["name"], "namespace": "known"});
        let applied = cluster.plane.apply(&policy.to_string(), &["--dry-run=server"]);
        accepted(&applied);
        // That anybody may call it is left alone in its own namespace only; and there is no monitoring here.
        let expected = [" (open-ingress at ", " (dangling-selector at spec.ingress[1].from[0]); "];
        let mut lines = applied.stderr.lines().filter(|line| line.starts_with("Warning"));
        assert!(lines.all(|line| expected.iter().any(|place| line.contains(place))), "{applied}");
    }
}

pub(crate) fn it_is_taken_away_without_a_trace_of_waiting(cluster: &mut Installation) {
    let taken = cluster.portcullis(&["uninstall", "--yes"]);
    assert_eq!(taken.code, 0, "{}", taken.err);
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        assert_eq!(cluster.plane.stored(&[kind, "portcullis"]), None);
    }
    let pods = cluster.plane.stored(&["pods", "--all-namespaces"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        assert!(pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty), "{pod}");
    }
}
