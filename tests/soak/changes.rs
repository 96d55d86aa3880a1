//! Every change of an installation that replaces policies, and the proof from etcd that no namespace was ever without.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::etcd::History;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;

const DOMAIN: &str = "network-policy.portcullis.dev";
const OTHER: &str = "np.example.com";
/// Namespaces with a profile each.
const NAMESPACES: [(&str, &str); 4] =
    [("kept-a", "standard"), ("kept-b", "isolated"), ("kept-c", "internal"), ("kept-d", "internal-egress")];

/// Waits until each namespace reports this baseline in a label domain.
fn until_all(cluster: &Installation, domain: &str, what: &str, status: impl Fn(&str) -> bool) {
    cluster.until(what, |cluster| {
        NAMESPACES.iter().all(|(namespace, _)| {
            let metadata = cluster.namespace(namespace)["metadata"].clone();
            let text = metadata["annotations"][format!("{domain}/baseline-status")].as_str().unwrap_or_default();
            metadata["labels"][format!("{domain}/baseline")] == "applied" && status(text)
        })
    });
}

/// Waits until each namespace has the policy of this profile and of no other.
fn until_profiles(cluster: &Installation, wanted: impl Fn(&'static str) -> &'static str) {
    for (namespace, profile) in NAMESPACES {
        let wanted = format!("portcullis-profile-{}", wanted(profile));
        cluster.until(&format!("{namespace} has only {wanted}"), |cluster| {
            let names = cluster.names(namespace).into_iter();
            names.filter(|name| name.contains("-profile-")).eq([wanted.clone()])
        });
    }
}

fn configure(cluster: &Installation, text: &str) {
    let next = cluster.config.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, &cluster.config).unwrap();
}

fn label(cluster: &Installation, label: impl Fn(&str) -> String) {
    for (namespace, profile) in NAMESPACES {
        let labelled = cluster.plane.kubectl(&["label", "namespace", namespace, "--overwrite", &label(profile)]);
        assert!(labelled.ok, "{labelled}");
    }
}

fn serve_cilium(plane: &ControlPlane) {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumclusterwidenetworkpolicies.cilium.io"},
        "spec": {
            "group": "cilium.io", "scope": "Cluster",
            "names": {"plural": "ciliumclusterwidenetworkpolicies", "kind": "CiliumClusterwideNetworkPolicy"},
            "versions": [{"name": "v2", "served": true, "storage": true, "schema": {"openAPIV3Schema": any}}],
        },
    });
    let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/components/cilium/rbac.yaml");
    assert!(plane.apply(&crd.to_string(), &[]).ok);
    assert!(plane.kubectl(&["apply", "--filename", rights]).ok);
}

#[test]
fn no_namespace_loses_its_baseline_whatever_changes_around_it() {
    let Some(plane) = ControlPlane::start() else { return };
    let mut history = History::new(plane.etcd_port());
    let mut cluster = Installation::new(plane, 2, "");
    serve_cilium(&cluster.plane);
    let before = fs::read_to_string(&cluster.config).unwrap();
    for (namespace, profile) in NAMESPACES {
        let labels = json!({format!("{DOMAIN}/profile"): profile, format!("access.{DOMAIN}/postgres"): "true"});
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        assert!(cluster.plane.run_create(&object.to_string()).ok);
    }
    until_all(&cluster, DOMAIN, "the baselines", |_| true);

    // Profiles are replaced while the leader is killed, and another replica goes on from there.
    let other = |profile: &str| if profile == "isolated" { "internal" } else { "isolated" };
    label(&cluster, |profile| format!("{DOMAIN}/profile={}", other(profile)));
    cluster.kill_leader();
    cluster.start_replica();
    until_profiles(&cluster, other);
    label(&cluster, |profile| format!("{DOMAIN}/profile={profile}"));
    until_profiles(&cluster, |profile| profile);

    configure(&cluster, &format!("{before}rules: {{any-port: {{mode: warn}}}}\n"));
    let series = r#"portcullis_configuration_reloads_total{result="success"}"#;
    cluster.until("the configuration is in force", |cluster| {
        cluster.replicas.iter().all(|replica| replica.metric(series).is_some_and(|count| count > 0.0))
    });
    configure(&cluster, &format!("{before}policySet: cilium\n"));
    cluster.until("the policies of the cluster", |cluster| {
        let list: Value = cluster.plane.stored(&["ciliumclusterwidenetworkpolicies"]).unwrap_or_default();
        list["items"].as_array().is_some_and(|items| items.len() > 5)
    });
    until_all(&cluster, DOMAIN, "both sets are named", |status| status.contains("kept"));
    cluster.kill_leader();
    cluster.start_replica();
    configure(&cluster, &before);
    until_all(&cluster, DOMAIN, "the set of NetworkPolicies counts again", |status| !status.contains("kept: "));

    configure(&cluster, &format!("{before}labelDomain: {OTHER}\n"));
    until_all(&cluster, OTHER, "what was applied is found", |status| status.contains(DOMAIN));
    label(&cluster, |profile| format!("{OTHER}/profile={profile}"));
    until_all(&cluster, OTHER, "the profiles are adopted", |status| status.contains("profile "));
    cluster.kill_leader();
    cluster.start_replica();
    configure(&cluster, &before);
    until_all(&cluster, DOMAIN, "the old domain counts again", |status| !status.contains("found with"));
    // What the controller would still delete.
    thread::sleep(Duration::from_secs(3));

    history.read();
    println!("{:?}", history.seen);
    assert!(history.gaps.is_empty(), "{:#?}", history.gaps);
    assert!(
        history.seen.namespaces >= NAMESPACES.len() && history.seen.deleted >= 2 * NAMESPACES.len(),
        "{:?}",
        history.seen
    );

    // The proof would see a gap.
    let delete = ["delete", "networkpolicy", "portcullis-baseline-default-deny", "--namespace", NAMESPACES[0].0];
    assert!(cluster.plane.kubectl(&delete).ok);
    history.read();
    assert_eq!(history.gaps.len(), 1, "{:#?}", history.gaps);
}
