//! Clusters that resolve names in other ways than the shipped configuration says, with objects as such clusters have them.

use std::fs;

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::Installation;
use crate::support::verdict::has_finding;

/// The egress rule of a policy in a namespace that has no baseline.
fn policy(rule: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         podSelector: {{}}\n  policyTypes: [Egress]\n  egress: [{rule}]\n"
    )
}

/// An egress rule to pods.
fn to_pods(namespace: &str, label: &str, port: u16) -> String {
    format!(
        "{{to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}, podSelector: \
         {{matchLabels: {{{label}}}}}}}], ports: [{{protocol: UDP, port: {port}}}, {{protocol: TCP, port: {port}}}]}}"
    )
}

/// An egress rule to a block of addresses.
fn to_block(cidr: &str, port: u16) -> String {
    format!(
        "{{to: [{{ipBlock: {{cidr: {cidr}}}}}], ports: [{{protocol: UDP, port: {port}}}, {{protocol: TCP, port: {port}}}]}}"
    )
}

fn ask(cluster: &Installation, rule: &str) -> Output {
    cluster.plane.apply(&policy(rule), &["--dry-run=server"])
}

/// Stores a pod as it is once it runs.
fn run_pod(cluster: &Installation, name: &str, namespace: &str, label: (&str, &str), port: u16, address: &str) {
    let (key, value) = label;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {key: value}},
        "spec": {"containers": [{"name": "dns", "image": "example.com/dns", "ports": [
            {"name": "dns", "containerPort": port, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": port, "protocol": "TCP"},
        ]}]},
    });
    let created = cluster.plane.apply(&pod.to_string(), &[]);
    assert!(created.ok, "{created}");
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}).to_string();
    let namespace = format!("--namespace={namespace}");
    let patch = ["patch", "pod", name, &namespace, "--subresource=status", "--type=merge", "--patch", &status];
    let patched = cluster.plane.kubectl(&patch);
    assert!(patched.ok, "{patched}");
}

/// Puts the entry of `clusterDNS` that a denial names into the configuration.
fn follow_the_help(cluster: &Installation, denial: &Output) {
    let (_, rest) = denial.stderr.split_once("set `clusterDNS: [").unwrap_or_else(|| panic!("{denial}"));
    let (entry, _) = rest.split_once("]` in the configuration").unwrap_or_else(|| panic!("{denial}"));
    let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
    fs::write(&cluster.config, format!("{head}clusterDNS: [{entry}]\n")).unwrap();
}

fn is_denied_for_dns(output: &Output) -> bool {
    let places = ["spec.egress", "spec.egress[0]"];
    !output.ok && places.iter().any(|place| has_finding(&output.stderr, "dns-blocked", place))
}

#[test]
fn other_ways_to_resolve_names_are_known_or_configured_by_the_help() {
    let Some(plane) = ControlPlane::start() else { return };
    let cluster = Installation::new(plane, 1, "");
    let kube_dns = "k8s-app: kube-dns";

    // NodeLocal DNSCache answers on the node.
    let node_local = to_block("169.254.20.10/32", 53);
    let denial = ask(&cluster, &node_local);
    assert!(is_denied_for_dns(&denial), "{denial}");
    follow_the_help(&cluster, &denial);
    cluster.until("the address is a way to DNS", |cluster| ask(cluster, &node_local).ok);
    let denial = ask(&cluster, &to_pods("kube-system", kube_dns, 53));
    assert!(is_denied_for_dns(&denial), "{denial}");

    // OpenShift has DNS pods of its own, behind another port.
    fs::write(&cluster.config, "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n").unwrap();
    cluster.until("the shipped way is in force", |cluster| ask(cluster, &to_pods("kube-system", kube_dns, 53)).ok);
    let label = "dns.operator.openshift.io/daemonset-dns";
    assert!(cluster.plane.kubectl(&["create", "namespace", "openshift-dns"]).ok);
    run_pod(&cluster, "dns-default-x7k2p", "openshift-dns", (label, "default"), 5353, "10.128.0.7");
    let openshift = to_pods("openshift-dns", &format!("{label}: default"), 5353);
    let denial = ask(&cluster, &openshift);
    assert!(is_denied_for_dns(&denial), "{denial}");
    follow_the_help(&cluster, &denial);
    cluster.until("the pods of OpenShift are a way to DNS", |cluster| ask(cluster, &openshift).ok);
    assert!(is_denied_for_dns(&ask(&cluster, &to_pods("openshift-dns", &format!("{label}: default"), 53))));

    // CoreDNS on a port that needs no privileges, behind the Service on port 53.
    fs::write(&cluster.config, "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n").unwrap();
    run_pod(&cluster, "coredns-5d78c9869d-abcde", "kube-system", ("k8s-app", "kube-dns"), 8053, "10.244.0.5");
    let on_8053 = to_pods("kube-system", kube_dns, 8053);
    cluster.until("the port of the pods is known", |cluster| ask(cluster, &on_8053).ok);
    let denial = ask(&cluster, &to_pods("kube-system", kube_dns, 53));
    assert!(is_denied_for_dns(&denial) && denial.stderr.contains("the DNS pods listen on 8053"), "{denial}");
    // Its address is known too.
    let allowed = ask(&cluster, &to_block("10.244.0.0/16", 8053));
    assert!(allowed.ok, "{allowed}");
    assert!(is_denied_for_dns(&ask(&cluster, &to_block("10.245.0.0/16", 8053))));

    let stored: Option<Value> = cluster.plane.stored(&["networkpolicy", "web", "--namespace=default"]);
    assert_eq!(stored, None, "all of it was a dry run");
}
