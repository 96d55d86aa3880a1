//! The gate: policies, namespaces, pods, and the webhooks themselves, in NetworkPolicy's own dialect.

use serde_json::{Value, json};

use crate::cluster::*;
use crate::manifests::*;

// === Policies ===

pub(crate) fn a_good_policy_is_stored_without_a_word(cluster: &mut Cluster) {
    cluster.namespace("good");
    // Not as an administrator, whom nothing but a webhook would stop.
    let role = ["create", "role", "editor", "--verb=*", "--resource=networkpolicies.networking.k8s.io", "-n", "good"];
    accepted(&cluster.plane.kubectl(&role));
    let binding = ["create", "rolebinding", "editor", "--role=editor", "--group=developers", "-n", "good"];
    accepted(&cluster.plane.kubectl(&binding));
    let developer = cluster.plane.as_user("ada", &["developers"]);

    let applied = developer.apply(&policy("web", "good", &both(&[FROM_FRONTEND], &[TO_DB, TO_DNS])), &[]);
    accepted(&applied);
    assert!(!applied.stderr.contains("Warning"), "{applied}");
    let stored = cluster.policy("web", "good").expect("it is stored");
    assert_eq!(stored["spec"]["egress"][0]["ports"][0]["port"], 5432);

    let applied = developer.apply(&policy("job", "good", &ingress(&[FROM_BATCH_ON_ANY_PORT])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    assert_eq!(cluster.policy("job", "good"), None);
}

pub(crate) fn a_policy_without_dns_is_denied(cluster: &mut Cluster) {
    cluster.namespace("no-dns");
    let applied = cluster.plane.apply(&policy("web", "no-dns", &egress(&[TO_DB])), &[]);
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("web", "no-dns"), None);
}

pub(crate) fn a_policy_on_any_port_is_denied(cluster: &mut Cluster) {
    cluster.namespace("any-port");
    let applied = cluster.plane.apply(&policy("web", "any-port", &ingress(&[FROM_BATCH_ON_ANY_PORT])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    assert_eq!(cluster.policy("web", "any-port"), None);

    let last = [FROM_FRONTEND, FROM_BATCH_ON_ANY_PORT];
    let applied = cluster.plane.apply(&policy("web", "any-port", &ingress(&last)), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[1]");
    assert_eq!(cluster.policy("web", "any-port"), None);
}

pub(crate) fn all_faults_are_named_at_once(cluster: &mut Cluster) {
    cluster.namespace("all-faults");
    let applied = cluster.plane.apply(&policy("web", "all-faults", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DB])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("web", "all-faults"), None);
}

pub(crate) fn a_change_for_the_worse_is_denied(cluster: &mut Cluster) {
    cluster.namespace("worse");
    accepted(&cluster.plane.apply(&policy("web", "worse", &both(&[FROM_FRONTEND], &[TO_DB, TO_DNS])), &[]));
    let before = cluster.policy("web", "worse").expect("it is stored");

    let applied = cluster.plane.apply(&policy("web", "worse", &both(&[FROM_FRONTEND], &[TO_DB])), &[]);
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    let patch = json!([{"op": "remove", "path": "/spec/ingress/0/ports"}]).to_string();
    let patched =
        cluster.plane.kubectl(&["patch", "networkpolicy", "web", "-n", "worse", "--type=json", "--patch", &patch]);
    denied(&patched, POLICIES, "any-port", "spec.ingress[0]");
    assert_eq!(cluster.policy("web", "worse"), Some(before));
}

pub(crate) fn a_split_peer_is_warned_about(cluster: &mut Cluster) {
    cluster.namespace("split");
    let split = "{from: [{namespaceSelector: {matchLabels: {team: a}}}, {podSelector: {matchLabels: {app: b}}}], \
                 ports: [{protocol: TCP, port: 8080}]}";
    let applied = cluster.plane.apply(&policy("web", "split", &ingress(&[FROM_FRONTEND, split])), &[]);
    warned(&applied, "split-peer", "spec.ingress[1].from");
    let stored = cluster.policy("web", "split").expect("it is stored");
    assert_eq!(stored["spec"]["ingress"][1]["from"].as_array().map(Vec::len), Some(2), "{stored}");
}

pub(crate) fn server_side_apply_gets_the_same_answers(cluster: &mut Cluster) {
    cluster.namespace("server-side");
    let server_side = ["--server-side"];
    let good = policy("web", "server-side", &both(&[FROM_FRONTEND], &[TO_DNS]));
    let applied = cluster.plane.apply(&good, &server_side);
    accepted(&applied);
    assert!(!applied.stderr.contains("Warning"), "{applied}");
    let before = cluster.policy("web", "server-side");
    assert!(before.is_some());

    let worse = policy("web", "server-side", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DB]));
    let applied = cluster.plane.apply(&worse, &server_side);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("web", "server-side"), before);

    let applied = cluster.plane.apply(&policy("job", "server-side", &egress(&[TO_DB])), &server_side);
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("job", "server-side"), None);
}

/// The API server writes `policyTypes` before it asks, so that only what it records of the author tells.
pub(crate) fn what_was_inferred_is_warned_about(cluster: &mut Cluster) {
    cluster.namespace("inferred");
    let spec = format!("{{podSelector: {{}}, egress: [{TO_DNS}]}}");
    for (name, arguments) in [("client-side", [].as_slice()), ("server-side", &["--server-side"])] {
        let applied = cluster.plane.apply(&policy(name, "inferred", &spec), arguments);
        warned(&applied, "implicit-policy-types", "spec.policyTypes");
        let stored = cluster.policy(name, "inferred").expect("it is stored");
        assert_eq!(stored["spec"]["policyTypes"], json!(["Ingress", "Egress"]));

        let written = format!("written-{name}");
        let applied = cluster.plane.apply(&policy(&written, "inferred", &both(&[], &[TO_DNS])), arguments);
        accepted(&applied);
        assert!(!applied.stderr.contains("implicit-policy-types"), "{applied}");
    }
}

pub(crate) fn a_generated_name_changes_nothing(cluster: &mut Cluster) {
    cluster.namespace("generated");
    let create = |manifest: String| {
        let manifest = manifest.replace("name: web,", "generateName: web-,");
        cluster.plane.admin().run_with_input(&["create", "--filename=-"], &manifest)
    };
    let count = || {
        let stored = cluster.plane.stored(&["networkpolicies", "--namespace", "generated"]);
        stored.map_or(0, |list| list["items"].as_array().map_or(0, Vec::len))
    };
    denied(&create(policy("web", "generated", &egress(&[TO_DB]))), POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(count(), 0);
    accepted(&create(policy("web", "generated", &egress(&[TO_DB, TO_DNS]))));
    assert_eq!(count(), 1);
}

/// Larger than what web frameworks take as shipped, since a change carries the old object too.
pub(crate) fn a_policy_as_large_as_etcd_takes_is_judged(cluster: &mut Cluster) {
    cluster.namespace("large");
    let write = |verb: &str, blocks: u32, ports: Value| {
        let address = |n: u32| format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255);
        let from: Vec<Value> = (0..blocks).map(|n| json!({"ipBlock": {"cidr": address(n)}})).collect();
        let manifest = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": "large"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": from, "ports": ports}]},
        });
        cluster.plane.admin().run_with_input(&[verb, "--filename=-"], &manifest.to_string())
    };
    let length = || {
        let template = "--output=go-template={{len (index .spec.ingress 0).from}}";
        cluster.plane.kubectl(&["get", "networkpolicy", "web", "--namespace", "large", template]).stdout
    };
    warned(&write("create", 40_000, json!([{"port": 8080}])), "hardcoded-address", "spec.ingress[0].from[0]");
    assert_eq!(length(), "40000");
    accepted(&write("replace", 39_999, json!([{"port": 8080}])));
    assert_eq!(length(), "39999");
    denied(&write("replace", 39_998, json!([])), POLICIES, "any-port", "spec.ingress[0]");
    assert_eq!(length(), "39999");
}

pub(crate) fn a_dry_run_of_a_policy_gets_the_same_answers(cluster: &mut Cluster) {
    cluster.namespace("dry");
    for arguments in [["--dry-run=server"].as_slice(), &["--dry-run=server", "--server-side"]] {
        let applied = cluster.plane.apply(&policy("web", "dry", &both(&[FROM_FRONTEND], &[TO_DNS])), arguments);
        accepted(&applied);
        assert_eq!(cluster.policy("web", "dry"), None);

        let applied = cluster.plane.apply(&policy("web", "dry", &egress(&[TO_DB])), arguments);
        denied(&applied, POLICIES, "dns-blocked", "spec.egress");
        assert_eq!(cluster.policy("web", "dry"), None);
    }
}

pub(crate) fn a_dry_run_of_a_namespace_shows_its_labels(cluster: &mut Cluster) {
    let created = cluster.plane.kubectl(&["create", "namespace", "dry-too", "--dry-run=server", "--output=json"]);
    accepted(&created);
    let shown: Value = serde_json::from_str(&created.stdout).unwrap();
    assert_eq!(shown["metadata"]["labels"][PROFILE], "standard", "{created}");
    assert_eq!(shown["metadata"]["labels"][BASELINE], "pending", "{created}");
    assert_eq!(cluster.plane.stored(&["namespace", "dry-too"]), None);
}

// === What was stored before anybody was asked ===

pub(crate) fn the_metadata_of_an_old_policy_can_change(cluster: &mut Cluster) {
    let change = |arguments: &[&str]| {
        accepted(&cluster.plane.kubectl(&[arguments, &["--namespace", "old"]].concat()));
    };
    change(&["label", "networkpolicy", "labelled", "team=a"]);
    change(&["annotate", "networkpolicy", "labelled", "example.com/note=seen"]);
    change(&["patch", "networkpolicy", "labelled", "--patch", "metadata: {labels: {tier: web}}"]);
    change(&["label", "networkpolicy", "labelled", "team-"]);
    let stored = cluster.policy("labelled", "old").expect("it is stored");
    assert_eq!(stored["metadata"]["labels"], json!({"tier": "web"}));
    assert_eq!(stored["metadata"]["annotations"]["example.com/note"], "seen");
}

pub(crate) fn the_spec_of_an_old_policy_can_change_with_a_warning(cluster: &mut Cluster) {
    // The fault moves to another place of the list, and stays the same fault.
    let applied =
        cluster.plane.apply(&policy("extended", "old", &ingress(&[FROM_FRONTEND, FROM_BATCH_ON_ANY_PORT])), &[]);
    warned(&applied, "any-port", "spec.ingress[1]");
    let stored = cluster.policy("extended", "old").expect("it is stored");
    assert_eq!(stored["spec"]["ingress"].as_array().map(Vec::len), Some(2), "{stored}");
}

pub(crate) fn an_old_policy_cannot_get_worse(cluster: &mut Cluster) {
    let before = cluster.policy("worsened", "old").expect("it is stored");
    let also = "{from: [{podSelector: {matchLabels: {app: other}}}]}";
    let applied = cluster.plane.apply(&policy("worsened", "old", &ingress(&[also, FROM_BATCH_ON_ANY_PORT])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    let applied = cluster.plane.apply(&policy("worsened", "old", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DB])), &[]);
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("worsened", "old"), Some(before));
}

pub(crate) fn what_is_being_deleted_can_let_go(cluster: &mut Cluster) {
    let held = ["networkpolicy", "held", "--namespace", "old"];
    accepted(&cluster.plane.kubectl(&[&["delete", "--wait=false"], held.as_slice()].concat()));
    let stored = cluster.policy("held", "old").expect("its finalizer holds it");
    assert!(stored["metadata"]["deletionTimestamp"].is_string(), "{stored}");
    let patch = "metadata: {finalizers: null}";
    accepted(&cluster.plane.kubectl(&[&["patch", "--type=merge", "--patch", patch], held.as_slice()].concat()));
    assert_eq!(cluster.policy("held", "old"), None);
}

// === Namespaces ===

pub(crate) fn a_profile_has_to_exist(cluster: &mut Cluster) {
    cluster.namespace("profiles");
    let label = |profile: &str| {
        let label = format!("{PROFILE}={profile}");
        cluster.plane.kubectl(&["label", "--overwrite", "namespace", "profiles", &label])
    };
    let path = format!("metadata.labels[\"{PROFILE}\"]");
    let labelled = label("isolatd");
    denied(&labelled, NAMESPACES, "invalid-profile", &path);
    assert!(labelled.stderr.contains("isolated"), "the nearest profile is proposed: {labelled}");
    assert_eq!(cluster.labels("profiles")[PROFILE], "standard");
    accepted(&label("isolated"));
    assert_eq!(cluster.labels("profiles")[PROFILE], "isolated");

    let created = cluster.plane.apply(&namespace("unknown-profile", &format!("{{{PROFILE}: open}}")), &[]);
    denied(&created, NAMESPACES, "invalid-profile", &path);
    assert_eq!(cluster.plane.stored(&["namespace", "unknown-profile"]), None);
}

/// Labels can be written through every subresource of a namespace.
pub(crate) fn a_subresource_is_no_way_to_a_profile(cluster: &mut Cluster) {
    cluster.namespace("subresources");
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    for subresource in ["status", "finalize"] {
        let mut namespace = cluster.plane.stored(&["namespace", "subresources"]).expect("it is stored");
        namespace["metadata"]["labels"][PROFILE] = json!("open");
        let path = format!("/api/v1/namespaces/subresources/{subresource}");
        let replace = ["replace", "--raw", &path, "--filename=-"];
        let replaced = cluster.plane.admin().run_with_input(&replace, &namespace.to_string());
        denied(&replaced, NAMESPACES, "invalid-profile", &place);
        assert_eq!(cluster.labels("subresources")[PROFILE], "standard", "{subresource}");
    }
}

pub(crate) fn access_has_to_exist(cluster: &mut Cluster) {
    cluster.namespace("accesses");
    let label = |label: &str| {
        let label = format!("access.network-policy.portcullis.dev/{label}");
        cluster.plane.kubectl(&["label", "--overwrite", "namespace", "accesses", &label])
    };
    let place = |name: &str| format!("metadata.labels[\"access.network-policy.portcullis.dev/{name}\"]");
    denied(&label("mongo=true"), NAMESPACES, "invalid-profile", &place("mongo"));
    denied(&label("postgres=yes"), NAMESPACES, "invalid-profile", &place("postgres"));
    accepted(&label("postgres=true"));
    let labels = cluster.labels("accesses");
    assert_eq!(labels["access.network-policy.portcullis.dev/postgres"], "true");
    assert_eq!(labels.get("access.network-policy.portcullis.dev/mongo"), None);
}

/// Labels open a hatch, and annotations keep it open: both reach the webhook, and so does what a profile will do.
pub(crate) fn a_hatch_is_guarded(cluster: &mut Cluster) {
    cluster.namespace("hatch");
    let set = |verb: &str, what: &str| {
        let what = format!("network-policy.portcullis.dev/{what}");
        cluster.plane.kubectl(&[verb, "--overwrite", "namespace", "hatch", &what])
    };
    let opened = set("label", "enforcement=disabled");
    let label = "network-policy.portcullis.dev/enforcement";
    denied(&opened, NAMESPACES, "unguarded-hatch", &format!("metadata.labels[\"{label}\"]"));
    assert_eq!(cluster.labels("hatch").get(label), None);

    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    accepted(&set("annotate", "reason=an outage"));
    accepted(&set("annotate", &format!("until={end}")));
    accepted(&set("label", "enforcement=disabled"));
    let prolonged = set("annotate", "until=2999-01-01T00:00:00Z");
    let place = "metadata.annotations[\"network-policy.portcullis.dev/until\"]";
    denied(&prolonged, NAMESPACES, "unguarded-hatch", place);
    let stored = cluster.plane.stored(&["namespace", "hatch"]).expect("it is stored");
    assert_eq!(stored["metadata"]["annotations"]["network-policy.portcullis.dev/until"], end.to_string());
    accepted(&set("label", "enforcement-"));

    let told = cluster.plane.kubectl(&[
        "label",
        "--overwrite",
        "namespace",
        "hatch",
        &format!("{PROFILE}=isolated"),
        "--dry-run=server",
    ]);
    assert!(told.ok && told.stderr.contains("Warning: preview: profile isolated cuts "), "{told}");
    assert_eq!(cluster.labels("hatch")[PROFILE], "standard");
}

pub(crate) fn an_old_namespace_is_left_alone(cluster: &mut Cluster) {
    let label = |label: &str| cluster.plane.kubectl(&["label", "--overwrite", "namespace", "old-labels", label]);
    accepted(&label("team=a"));
    let labels = cluster.labels("old-labels");
    assert_eq!((&labels["team"], &labels[PROFILE]), (&json!("a"), &json!("open")));

    let labelled = label("access.network-policy.portcullis.dev/postgres=true");
    warned(&labelled, "invalid-profile", &format!("metadata.labels[\"{PROFILE}\"]"));
    assert_eq!(cluster.labels("old-labels")["access.network-policy.portcullis.dev/postgres"], "true");
}

pub(crate) fn an_outage_stops_no_other_label(cluster: &mut Cluster) {
    cluster.namespace("labels");
    cluster.stop();
    accepted(&cluster.plane.kubectl(&["label", "namespace", "labels", "team=a"]));
    accepted(&cluster.plane.kubectl(&["annotate", "namespace", "labels", "example.com/note=seen"]));
    assert_eq!(cluster.labels("labels")["team"], "a");

    let guarded = format!("{PROFILE}=isolated");
    let labelled = cluster.plane.kubectl(&["label", "--overwrite", "namespace", "labels", &guarded]);
    not_reached(&labelled, NAMESPACES);
    assert_eq!(cluster.labels("labels")[PROFILE], "standard");
}

/// A condition that looks at each of them would take seconds.
pub(crate) fn a_namespace_with_thousands_of_labels_is_asked_about(cluster: &mut Cluster) {
    cluster.namespace("labelled");
    let labels: serde_json::Map<String, Value> = (0..2_000).map(|n| (format!("l{n}"), json!(""))).collect();
    let patch = |labels: Value| {
        let patch = json!({"metadata": {"labels": labels}}).to_string();
        cluster.plane.kubectl(&["patch", "namespace", "labelled", "--type=merge", "--patch", &patch])
    };
    accepted(&patch(Value::Object(labels)));
    accepted(&patch(json!({"team": "web"})));
    let path = format!("metadata.labels[\"{PROFILE}\"]");
    denied(&patch(json!({PROFILE: "open"})), NAMESPACES, "invalid-profile", &path);
    assert_eq!(cluster.labels("labelled")["team"], "web");
}

pub(crate) fn a_new_namespace_gets_labels(cluster: &mut Cluster) {
    cluster.namespace("new");
    let labels = json!({"kubernetes.io/metadata.name": "new", PROFILE: "standard", BASELINE: "pending"});
    assert_eq!(cluster.labels("new"), labels);
}

pub(crate) fn a_namespace_keeps_the_profile_it_brings(cluster: &mut Cluster) {
    for (name, arguments) in [("brings", [].as_slice()), ("brings-too", &["--server-side"])] {
        // Nothing has been applied yet, whatever is claimed.
        let labels = format!("{{{PROFILE}: internal, {BASELINE}: applied, team: a}}");
        accepted(&cluster.plane.apply(&namespace(name, &labels), arguments));
        let labels =
            json!({"kubernetes.io/metadata.name": name, PROFILE: "internal", BASELINE: "pending", "team": "a"});
        assert_eq!(cluster.labels(name), labels);
    }
}

pub(crate) fn a_namespace_with_a_generated_name_gets_labels(cluster: &mut Cluster) {
    let manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {generateName: tenant-}\n";
    let create = ["create", "--filename=-", "--output=json"];
    let created = cluster.plane.admin().run_with_input(&create, manifest);
    accepted(&created);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let labels = cluster.labels(created["metadata"]["name"].as_str().expect("the API server gave it a name"));
    assert_eq!((&labels[PROFILE], &labels[BASELINE]), (&json!("standard"), &json!("pending")));

    let unknown =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{generateName: unknown-, labels: {{{PROFILE}: open}}}}\n");
    let created = cluster.plane.admin().run_with_input(&create, &unknown);
    denied(&created, NAMESPACES, "invalid-profile", &format!("metadata.labels[\"{PROFILE}\"]"));
}

pub(crate) fn a_namespace_of_the_platform_has_no_profile(cluster: &mut Cluster) {
    cluster.namespace("portcullis-system");
    assert_eq!(cluster.labels("portcullis-system"), json!({"kubernetes.io/metadata.name": "portcullis-system"}));

    let before = cluster.labels("kube-public");
    let profile = format!("{PROFILE}=standard");
    let labelled = cluster.plane.kubectl(&["label", "namespace", "kube-public", &profile]);
    denied(&labelled, NAMESPACES, "invalid-profile", &format!("metadata.labels[\"{PROFILE}\"]"));
    assert_eq!(cluster.labels("kube-public"), before);
}

pub(crate) fn an_outage_stops_no_namespace(cluster: &mut Cluster) {
    cluster.namespace("before-an-outage");
    cluster.stop();
    cluster.namespace("during-an-outage");
    assert_eq!(cluster.labels("during-an-outage"), json!({"kubernetes.io/metadata.name": "during-an-outage"}));
    for namespace in ["before-an-outage", "during-an-outage"] {
        accepted(&cluster.plane.kubectl(&["delete", "namespace", namespace, "--wait=false"]));
        cluster.finalize(namespace);
    }
}

// === Deletion ===

pub(crate) fn policies_can_be_deleted(cluster: &mut Cluster) {
    cluster.namespace("deletion");
    let names = ["a", "b", "c", "d"];
    for name in names {
        accepted(&cluster.plane.apply(&policy(name, "deletion", &both(&[FROM_FRONTEND], &[TO_DNS])), &[]));
    }
    let rest = |cluster: &Cluster| names.into_iter().filter(|name| cluster.policy(name, "deletion").is_some()).count();
    accepted(&cluster.plane.kubectl(&["delete", "networkpolicy", "a", "--namespace", "deletion", "--dry-run=server"]));
    assert_eq!(rest(cluster), 4);
    accepted(&cluster.plane.kubectl(&["delete", "networkpolicy", "a", "--namespace", "deletion"]));
    assert_eq!(rest(cluster), 3);
    accepted(&cluster.plane.kubectl(&["delete", "--raw", &collection("deletion")]));
    assert_eq!(rest(cluster), 0);

    accepted(&cluster.plane.apply(&policy("a", "deletion", &ingress(&[FROM_FRONTEND])), &[]));
    accepted(&cluster.plane.kubectl(&["delete", "networkpolicy", "--all", "--namespace", "deletion"]));
    assert_eq!(rest(cluster), 0);
}

/// A deletecollection is one call for each item, without its name.
pub(crate) fn the_last_way_to_dns_cannot_be_deleted(cluster: &mut Cluster) {
    let delete = ["delete", "networkpolicy", "allow-dns", "--namespace", "resolving"];
    denied(&cluster.plane.kubectl(&delete), POLICIES, "dns-blocked", "spec");
    let dry = [&delete, ["--dry-run=server"].as_slice()].concat();
    denied(&cluster.plane.kubectl(&dry), POLICIES, "dns-blocked", "spec");
    denied(&cluster.plane.kubectl(&["delete", "--raw", &collection("resolving")]), POLICIES, "dns-blocked", "spec");
    let stored = cluster.policy("allow-dns", "resolving").expect("it is still there");
    assert!(stored["metadata"]["deletionTimestamp"].is_null(), "{stored}");
}

pub(crate) fn a_namespace_can_be_deleted(cluster: &mut Cluster) {
    cluster.namespace("doomed");
    accepted(&cluster.plane.apply(&policy("web", "doomed", &both(&[FROM_FRONTEND], &[TO_DNS])), &[]));
    accepted(&cluster.plane.kubectl(&["delete", "namespace", "doomed", "--wait=false"]));
    accepted(&cluster.namespace_controller().run(&["delete", "--raw", &collection("doomed")]));
    assert_eq!(cluster.policy("web", "doomed"), None);
    cluster.finalize("doomed");
}

/// The controller deletes what is in a namespace in the order of the names, and goes no further than to the first that it
/// may not delete.
pub(crate) fn a_namespace_goes_with_its_last_way_to_dns(cluster: &mut Cluster) {
    accepted(&cluster.plane.kubectl(&["delete", "namespace", "leaving", "--wait=false"]));
    accepted(&cluster.namespace_controller().run(&["delete", "--raw", &collection("leaving")]));
    for name in ["allow-dns", "isolate"] {
        assert_eq!(cluster.policy(name, "leaving"), None);
    }
    cluster.finalize("leaving");
}

// === Pods, and what makes them ===

pub(crate) fn a_pod_on_the_network_of_the_node_is_denied(cluster: &mut Cluster) {
    let created = cluster.plane.apply(&object("v1", "Pod", "agent", "guarded", ON_THE_NODE), &[]);
    denied(&created, PODS, "host-network", "spec.hostNetwork");
    assert_eq!(cluster.plane.stored(&["pod", "agent", "--namespace", "guarded"]), None);
    accepted(&cluster.plane.apply(&object("v1", "Pod", "plain", "guarded", ORDINARY), &[]));

    cluster.namespace("free");
    accepted(&cluster.plane.apply(&object("v1", "Pod", "agent", "free", ON_THE_NODE), &[]));
    let stored = cluster.plane.stored(&["pod", "agent", "--namespace", "free"]).expect("it is stored");
    assert_eq!(stored["spec"]["hostNetwork"], true);
}

pub(crate) fn an_outage_stops_neither_ordinary_pods_nor_the_control_plane(cluster: &mut Cluster) {
    cluster.stop();
    accepted(&cluster.plane.apply(&object("v1", "Pod", "ordinary", "guarded", ORDINARY), &[]));
    assert!(cluster.plane.stored(&["pod", "ordinary", "--namespace", "guarded"]).is_some());
    let workers = object("apps/v1", "Deployment", "workers", "guarded", &deployment(ORDINARY));
    accepted(&cluster.plane.apply(&workers, &[]));
    assert!(cluster.plane.stored(&["deployment", "workers", "--namespace", "guarded"]).is_some());
    let bad = policy("bad", "kube-system", &ingress(&[FROM_BATCH_ON_ANY_PORT]));
    accepted(&cluster.plane.apply(&bad, &[]));
    assert!(cluster.policy("bad", "kube-system").is_some());
    accepted(&cluster.plane.apply(&object("v1", "Pod", "proxy", "kube-system", ON_THE_NODE), &[]));
    assert!(cluster.plane.stored(&["pod", "proxy", "--namespace", "kube-system"]).is_some());

    let created = cluster.plane.apply(&object("v1", "Pod", "agent", "guarded", ON_THE_NODE), &[]);
    not_reached(&created, PODS);
    assert_eq!(cluster.plane.stored(&["pod", "agent", "--namespace", "guarded"]), None);
}

/// Whoever deletes with a finalizer takes it away later.
pub(crate) fn an_outage_stops_no_deletion_of_what_is_on_the_network_of_the_node(cluster: &mut Cluster) {
    cluster.namespace("daemons");
    accepted(&cluster.plane.apply(&object("apps/v1", "DaemonSet", "agents", "daemons", &deployment(ON_THE_NODE)), &[]));
    let patch = |cluster: &Cluster, patch: &str| {
        cluster.plane.kubectl(&[
            "patch",
            "daemonset",
            "agents",
            "--namespace=daemons",
            "--type=merge",
            "--patch",
            patch,
        ])
    };
    accepted(&patch(cluster, r#"{"metadata": {"finalizers": ["example.com/wait"]}}"#));
    cluster.stop();
    accepted(&cluster.plane.kubectl(&["delete", "daemonset", "agents", "--namespace=daemons", "--wait=false"]));
    let exempt = r#"{"metadata": {"annotations": {"network-policy.portcullis.dev/exempt": "host-network"}}}"#;
    not_reached(&patch(cluster, exempt), WORKLOADS);
    accepted(&patch(cluster, r#"{"metadata": {"finalizers": null}}"#));
    assert_eq!(cluster.plane.stored(&["daemonset", "agents", "--namespace=daemons"]), None);
}

pub(crate) fn a_template_on_the_network_of_the_node_is_denied(cluster: &mut Cluster) {
    let pod = ON_THE_NODE.replacen('{', "{restartPolicy: Never, ", 1);
    let selected = deployment(ON_THE_NODE);
    let job = format!("{{template: {{spec: {pod}}}}}");
    let controller = format!("{{template: {{metadata: {{labels: {{app: main}}}}, spec: {ON_THE_NODE}}}}}");
    let cron = format!("{{schedule: '0 0 * * *', jobTemplate: {{spec: {job}}}}}");
    let template = "spec.template.spec.hostNetwork";
    for (api_version, kind, spec, place) in [
        ("apps/v1", "DaemonSet", &selected, template),
        ("apps/v1", "Deployment", &selected, template),
        ("apps/v1", "ReplicaSet", &selected, template),
        ("apps/v1", "StatefulSet", &selected, template),
        ("batch/v1", "Job", &job, template),
        ("batch/v1", "CronJob", &cron, "spec.jobTemplate.spec.template.spec.hostNetwork"),
        ("v1", "ReplicationController", &controller, template),
        ("v1", "PodTemplate", &job, "template.spec.hostNetwork"),
    ] {
        let mut manifest = object(api_version, kind, "denied", "guarded", spec);
        if kind == "PodTemplate" {
            manifest = manifest.replace("spec: {template: {spec: ", "template: {spec: ").replacen("}}}", "}}", 1);
        }
        let created = cluster.plane.apply(&manifest, &[]);
        denied(&created, WORKLOADS, "host-network", place);
        assert_eq!(cluster.plane.stored(&[kind, "denied", "--namespace", "guarded"]), None, "{kind}");
    }
}

pub(crate) fn a_workload_cannot_move_to_the_network_of_the_node(cluster: &mut Cluster) {
    let name = ["deployment", "turned", "--namespace", "guarded"];
    accepted(&cluster.plane.apply(&object("apps/v1", "Deployment", "turned", "guarded", &deployment(ORDINARY)), &[]));
    let patch = "spec: {template: {spec: {hostNetwork: true}}}";
    let patched = cluster.plane.kubectl(&[&["patch", "--patch", patch], name.as_slice()].concat());
    denied(&patched, WORKLOADS, "host-network", "spec.template.spec.hostNetwork");
    let stored = cluster.plane.stored(&name).expect("it is stored");
    assert_eq!(stored["spec"]["template"]["spec"].get("hostNetwork"), None);
}

pub(crate) fn an_old_workload_can_change(cluster: &mut Cluster) {
    let name = ["deployment", "old", "--namespace", "guarded"];
    let change = |arguments: &[&str]| cluster.plane.kubectl(&[arguments, &name].concat());
    accepted(&change(&["scale", "--replicas=3"]));
    accepted(&change(&["patch", "--subresource=status", "--type=merge", "--patch", "status: {replicas: 3}"]));
    accepted(&change(&["patch", "--patch", "metadata: {labels: {team: a}}"]));
    let patched = change(&["patch", "--patch", "spec: {template: {metadata: {labels: {version: '2'}}}}"]);
    warned(&patched, "host-network", "spec.template.spec.hostNetwork");

    let stored = cluster.plane.stored(&name).expect("it is stored");
    assert_eq!((&stored["spec"]["replicas"], &stored["status"]["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(stored["metadata"]["labels"]["team"], "a");
    assert_eq!(stored["spec"]["template"]["metadata"]["labels"]["version"], "2");
}

/// A condition that cannot be evaluated is as good as an outage, for whoever runs into it.
pub(crate) fn no_condition_of_a_webhook_failed(cluster: &mut Cluster) {
    let metrics = cluster.plane.kubectl(&["get", "--raw", "/metrics"]);
    accepted(&metrics);
    let errors: Vec<&str> = metrics
        .stdout
        .lines()
        .filter(|line| line.starts_with("apiserver_admission_match_condition_evaluation_errors_total{"))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

// === With patterns of names in platformNamespaces ===

pub(crate) fn an_outage_stops_nothing_that_runs_the_network_of_nodes(cluster: &mut Cluster) {
    let names = ["openshift-network", "open"];
    for name in names {
        cluster.namespace(name);
    }
    cluster.stop();
    let try_all = |name: &str| {
        let agent = object("v1", "Pod", "agent", name, ON_THE_NODE);
        let agents = object("apps/v1", "DaemonSet", "agents", name, &deployment(ON_THE_NODE));
        (cluster.plane.apply(&agent, &[]), cluster.plane.apply(&agents, &[]))
    };
    let [(agent, agents), (other_agent, other_agents)] = names.map(try_all);
    accepted(&agent);
    accepted(&agents);
    assert!(cluster.plane.stored(&["pod", "agent", "--namespace", names[0]]).is_some());
    not_reached(&other_agent, PODS);
    not_reached(&other_agents, WORKLOADS);
    assert_eq!(cluster.plane.stored(&["pod", "agent", "--namespace", names[1]]), None);
}

// === With dns-blocked set to inject ===

pub(crate) fn dns_is_added_once(cluster: &mut Cluster) {
    cluster.namespace("inject");
    for (name, arguments) in [("client-side", [].as_slice()), ("server-side", &["--server-side"])] {
        let manifest = policy(name, "inject", &egress(&[TO_DB]));
        let dry = cluster.plane.apply(&manifest, &[arguments, &["--dry-run=server", "--output=json"]].concat());
        accepted(&dry);
        let shown: Value = serde_json::from_str(&dry.stdout).unwrap();
        assert_eq!(cluster.policy(name, "inject"), None);

        accepted(&cluster.plane.apply(&manifest, arguments));
        let stored = cluster.policy(name, "inject").expect("it is stored");
        assert_eq!(stored["spec"], shown["spec"], "the dry run showed what was going to be stored");
        let egress = stored["spec"]["egress"].as_array().expect("a list");
        assert_eq!(egress.len(), 2, "{stored}");
        assert_eq!(egress[0]["ports"][0]["port"], 5432, "what was written stays");
        allows_dns(&egress[1]);

        accepted(&cluster.plane.apply(&manifest, arguments));
        let again = cluster.policy(name, "inject").expect("it is stored");
        assert_eq!(again["metadata"]["resourceVersion"], stored["metadata"]["resourceVersion"], "{again}\n{stored}");
    }
}

pub(crate) fn dns_is_added_where_no_egress_is_written(cluster: &mut Cluster) {
    cluster.namespace("inject-parents");
    accepted(&cluster.plane.apply(&policy("web", "inject-parents", "{podSelector: {}, policyTypes: [Egress]}"), &[]));
    let stored = cluster.policy("web", "inject-parents").expect("it is stored");
    assert_eq!(stored["spec"]["egress"].as_array().map(Vec::len), Some(1), "{stored}");
    allows_dns(&stored["spec"]["egress"][0]);
}

/// Whoever changes a label has not asked for another policy.
pub(crate) fn an_old_policy_is_not_put_right_by_a_label(cluster: &mut Cluster) {
    let before = cluster.policy("dns-less", "old").expect("it is stored");
    accepted(&cluster.plane.kubectl(&["label", "networkpolicy", "dns-less", "team=a", "--namespace", "old"]));
    let after = cluster.policy("dns-less", "old").expect("it is stored");
    assert_eq!(after["metadata"]["labels"]["team"], "a");
    assert_eq!(after["spec"], before["spec"]);
}

pub(crate) fn other_faults_are_not_put_right(cluster: &mut Cluster) {
    cluster.namespace("inject-others");
    let applied = cluster.plane.apply(&policy("web", "inject-others", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DB])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    assert!(!applied.stderr.contains("dns-blocked"), "{applied}");
    assert_eq!(cluster.policy("web", "inject-others"), None);
}

// === Through a Service ===

pub(crate) fn a_service_is_asked_too(cluster: &mut Cluster) {
    let configuration = cluster.plane.stored(&["validatingwebhookconfiguration", "portcullis"]).expect("it is stored");
    for webhook in configuration["webhooks"].as_array().expect("a list") {
        let client = &webhook["clientConfig"];
        assert_eq!((&client["url"], &client["service"]["name"]), (&Value::Null, &json!("portcullis")), "{webhook}");
    }

    cluster.namespace("service");
    assert_eq!(cluster.labels("service")[PROFILE], "standard");
    accepted(&cluster.plane.apply(&policy("web", "service", &both(&[FROM_FRONTEND], &[TO_DB, TO_DNS])), &[]));
    assert!(cluster.policy("web", "service").is_some());
    let applied = cluster.plane.apply(&policy("job", "service", &both(&[FROM_BATCH_ON_ANY_PORT], &[TO_DB])), &[]);
    denied(&applied, POLICIES, "any-port", "spec.ingress[0]");
    denied(&applied, POLICIES, "dns-blocked", "spec.egress");
    assert_eq!(cluster.policy("job", "service"), None);
    let created = cluster.plane.apply(&object("v1", "Pod", "agent", "guarded", ON_THE_NODE), &[]);
    denied(&created, PODS, "host-network", "spec.hostNetwork");
}

pub(crate) fn an_outage_stops_policies_until_the_way_out(cluster: &mut Cluster) {
    cluster.namespace("way-out");
    cluster.stop();
    let manifest = policy("web", "way-out", &both(&[FROM_FRONTEND], &[TO_DNS]));
    not_reached(&cluster.plane.apply(&manifest, &[]), POLICIES);
    assert_eq!(cluster.policy("web", "way-out"), None);
    cluster.uninstall();
    accepted(&cluster.plane.apply(&manifest, &[]));
    assert!(cluster.policy("web", "way-out").is_some());
}
