//! Every review in `admission-reviews`, as a kube-apiserver sent it, answered over TLS by the built binary.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::client::{Blocking, Protocol};
use crate::support::reviews::{BASELINE, CONFIG, INJECTS, PROFILE, SHOP};
use crate::support::server::Server;
use crate::support::verdict::{Verdict, borrowed};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

/// A rule at a place.
type Found = (&'static str, &'static str);

/// What is answered to a file.
#[derive(Clone, Copy)]
struct Expected {
    file: &'static str,
    /// What denies, whatever is known.
    denied: &'static [Found],
    /// What denies where the namespace is known to be isolated.
    denied_in_shop: &'static [Found],
    warned: &'static [Found],
    patch: Patched,
}

/// What `/mutate` does to the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patched {
    Never,
    /// The labels of a new namespace.
    Labels,
    /// The user that opens a hatch.
    Opener,
    /// The missing DNS rule, where that is configured.
    Dns,
    /// The same, in Cilium's words.
    CiliumDns,
}

const fn allowed(file: &'static str) -> Expected {
    Expected { file, denied: &[], denied_in_shop: &[], warned: &[], patch: Patched::Never }
}

const fn labelled(file: &'static str) -> Expected {
    Expected { patch: Patched::Labels, ..allowed(file) }
}

const fn without_dns(file: &'static str) -> Expected {
    Expected { denied: &[DNS_BLOCKED], patch: Patched::Dns, ..allowed(file) }
}

const fn on_the_node(file: &'static str, denied_in_shop: &'static [Found]) -> Expected {
    Expected { denied_in_shop, ..allowed(file) }
}

const DNS_BLOCKED: Found = ("dns-blocked", "spec.egress");

const TABLE: &[Expected] = &[
    // Other dialects.
    Expected {
        denied: &[("port-without-protocol", "spec.ingress[0].destination.ports")],
        ..allowed("calico-v1-globalnetworkpolicy-create")
    },
    Expected {
        denied: &[("any-port", "spec.ingress[0]"), ("invalid-selector", "spec.selector")],
        ..allowed("calico-v3-networkpolicy-create")
    },
    Expected {
        denied: &[DNS_BLOCKED, ("any-port", "spec.ingress[0]")],
        patch: Patched::CiliumDns,
        ..allowed("ciliumclusterwidenetworkpolicy-create")
    },
    Expected {
        denied: &[("invalid-fqdn", "spec.egress[1].toFQDNs[1].matchName")],
        warned: &[("dns-udp-only", "spec.egress[0].toPorts[0].ports[0]")],
        ..allowed("ciliumnetworkpolicy-create")
    },
    allowed("clusternetworkpolicy-create"),
    // Pods on their own network.
    allowed("cronjob-create"),
    allowed("deployment-create"),
    allowed("job-create"),
    allowed("pod-create-generate-name"),
    // Pods on the network of their node.
    on_the_node("daemonset-create-host-network", &[("host-network", "spec.template.spec.hostNetwork")]),
    on_the_node("deployment-update-host-network", &[("host-network", "spec.template.spec.hostNetwork")]),
    on_the_node("pod-create-host-network", &[("host-network", "spec.hostNetwork")]),
    on_the_node("pod-create-host-network-dry-run", &[("host-network", "spec.hostNetwork")]),
    // What cannot change the network of a pod.
    allowed("deployment-scale"),
    allowed("pod-eviction"),
    allowed("pod-update-ephemeralcontainers"),
    allowed("pod-update-label"),
    labelled("namespace-create"),
    labelled("namespace-create-dry-run"),
    allowed("namespace-delete"),
    Expected {
        denied: &[("unguarded-hatch", "metadata.labels[\"network-policy.homelab/enforcement\"]")],
        patch: Patched::Opener,
        ..allowed("namespace-update-enforcement-disabled")
    },
    allowed("namespace-update-profile"),
    without_dns("networkpolicy-create"),
    without_dns("networkpolicy-create-dry-run"),
    Expected {
        warned: &[("implicit-policy-types", "spec.policyTypes")],
        ..without_dns("networkpolicy-create-no-policy-types")
    },
    Expected { denied: &[DNS_BLOCKED, ("any-port", "spec.egress[0]")], ..without_dns("networkpolicy-create-port-any") },
    allowed("networkpolicy-delete"),
    allowed("networkpolicy-delete-dry-run"),
    // Nothing but metadata changes, of a policy that lacks DNS and keeps lacking it.
    allowed("networkpolicy-update-json-patch"),
    allowed("networkpolicy-update-server-side-apply"),
    // Adds DNS, as `kubectl apply` does what a denial proposed.
    allowed("networkpolicy-update-label"),
];

#[test]
fn the_table_has_every_file_once() {
    let mut files: Vec<String> = bodies().into_keys().collect();
    let mut rows: Vec<&str> = TABLE.iter().map(|expected| expected.file).collect();
    files.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, files, "the table on the left, the folder on the right");
}

#[test]
fn every_review_is_answered_where_its_namespace_is_known() {
    answers(CONFIG, SHOP);
}

#[test]
fn every_review_is_answered_where_nothing_is_known() {
    answers(CONFIG, "");
}

#[test]
fn every_review_is_answered_where_dns_is_added() {
    answers(INJECTS, "");
}

/// Sends every body to both endpoints, over both protocols.
fn answers(config: &str, context: &str) {
    let mut server = Server::new();
    server.set_config(Some(config));
    if !context.is_empty() {
        server.add_context(context);
    }
    server.start();
    let bodies = bodies();
    let mut over_both = Vec::new();
    for protocol in Protocol::ALL {
        let mut client = Blocking::connect(&server, protocol);
        let mut raw = Vec::new();
        for endpoint in ["/validate", "/mutate"] {
            let rows: Vec<&Expected> = TABLE.iter().filter(|expected| bodies.contains_key(expected.file)).collect();
            let sent = rows.iter().map(|expected| bodies[expected.file].clone()).collect();
            for (expected, answer) in rows.into_iter().zip(client.post_all(endpoint, sent)) {
                let review: Value = serde_json::from_slice(&bodies[expected.file]).unwrap();
                let verdict = Verdict::read(endpoint, &answer);
                let told = format!("{} at {endpoint} over {protocol:?}: {verdict}", expected.file);
                assert_eq!(verdict.uid, review["request"]["uid"].as_str().unwrap(), "{told}");
                assert!(verdict.before.is_empty(), "{told}");
                match endpoint {
                    "/validate" => validated(expected, !context.is_empty(), &verdict, &told),
                    _ => mutated(expected, config == INJECTS, &review["request"]["object"], &verdict, &told),
                }
                raw.push(verdict.body);
            }
        }
        over_both.push(raw);
    }
    assert_eq!(over_both[0], over_both[1], "HTTP/1.1 and HTTP/2 get the same answers");
}

fn validated(expected: &Expected, knows_shop: bool, verdict: &Verdict, told: &str) {
    let (mut denied, warned) = (expected.denied.to_vec(), expected.warned.to_vec());
    if knows_shop {
        denied.extend(expected.denied_in_shop);
    }
    assert_eq!(borrowed(&verdict.denials), denied, "{told}");
    assert_eq!(verdict.allowed, denied.is_empty(), "{told}");
    assert_eq!((verdict.code, verdict.reason.as_str()), if denied.is_empty() { (0, "") } else { (403, "Forbidden") });
    assert_eq!(borrowed(&verdict.warned), warned, "{told}");
    assert_eq!(verdict.warnings.len(), verdict.warned.len(), "a warning names its rule and its place: {told}");
}

fn mutated(expected: &Expected, injects: bool, object: &Value, verdict: &Verdict, told: &str) {
    assert!(verdict.allowed, "it is not for /mutate to deny: {told}");
    assert!(verdict.warnings.is_empty(), "it is not for /mutate to warn: {told}");
    let patch = match expected.patch {
        Patched::Labels => json!([
            {"op": "add", "path": "/metadata/labels/network-policy.homelab~1profile", "value": "standard"},
            {"op": "add", "path": "/metadata/labels/network-policy.homelab~1baseline", "value": "pending"},
        ]),
        Patched::Opener => json!([
            {"op": "add", "path": "/metadata/annotations", "value": {}},
            {"op": "add", "path": "/metadata/annotations/network-policy.homelab~1opened-by", "value": "admin"},
        ]),
        Patched::Dns if injects => json!([{
            "op": "add",
            "path": "/spec/egress/-",
            "value": {
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                }],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
        }]),
        Patched::CiliumDns if injects => json!([{
            "op": "add",
            "path": "/spec/egress/-",
            "value": {
                "toEndpoints": [{
                    "matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"},
                }],
                "toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}, {"port": "53", "protocol": "TCP"}]}],
            },
        }]),
        Patched::Dns | Patched::CiliumDns | Patched::Never => {
            assert_eq!(verdict.patch, None, "{told}");
            return;
        }
    };
    assert_eq!(json!(verdict.patch), patch, "{told}");
    let patched = verdict.patched(object);
    match expected.patch {
        Patched::Labels => {
            let namespace: Namespace =
                serde_json::from_value(patched).unwrap_or_else(|error| panic!("{error}: {told}"));
            let labels = namespace.metadata.labels.unwrap();
            assert_eq!((labels[PROFILE].as_str(), labels[BASELINE].as_str()), ("standard", "pending"), "{told}");
            assert_eq!(labels["kubernetes.io/metadata.name"], "shop", "what was there stays: {told}");
        }
        Patched::Opener => {
            let annotations = &patched["metadata"]["annotations"];
            assert_eq!(*annotations, json!({"network-policy.homelab/opened-by": "admin"}), "{told}");
        }
        // There is no type of Cilium's to hold it against.
        Patched::CiliumDns => assert_eq!(patched["spec"]["egress"].as_array().map(Vec::len), Some(2), "{told}"),
        Patched::Dns | Patched::Never => {
            let policy: NetworkPolicy =
                serde_json::from_value(patched).unwrap_or_else(|error| panic!("{error}: {told}"));
            let egress = policy.spec.unwrap().egress.unwrap();
            let written = object["spec"]["egress"].as_array().unwrap().len();
            assert_eq!(egress.len(), written + 1, "what was there stays: {told}");
            let ports = egress[written].ports.as_ref().unwrap();
            let protocols: Vec<_> = ports.iter().map(|port| port.protocol.as_deref().unwrap()).collect();
            assert_eq!(protocols, ["UDP", "TCP"], "{told}");
        }
    }
}

/// The bodies in the folder, by the names of their files.
fn bodies() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admission-reviews");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|file| {
            assert_eq!(file.extension().unwrap(), "json", "{}", file.display());
            (file.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&file).unwrap())
        })
        .collect()
}
