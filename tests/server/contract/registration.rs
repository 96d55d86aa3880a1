//! How an API server is told to ask, and whom it finds.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;

use crate::support::client::{Blocking, Protocol};
use crate::support::free_ports;
use crate::support::process::Process;
use crate::support::reviews::{
    BASELINE, CONFIG, INJECTS, PROFILE, Webhook, create, egress, namespace, policy, to_database, update,
};
use crate::support::server::{Server, get};
use crate::support::verdict::Verdict;

/// The webhooks of both configurations, with their kinds.
fn webhooks(config: Option<&str>) -> Vec<(String, Value)> {
    let mut server = Server::new();
    server.set_config(config);
    let printed = server.webhooks(&["--url", "https://portcullis.example.com:8443"]);
    let list: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let mut found = Vec::new();
    for configuration in list["items"].as_array().unwrap() {
        let kind = configuration["kind"].as_str().unwrap();
        for webhook in configuration["webhooks"].as_array().unwrap() {
            found.push((kind.to_owned(), webhook.clone()));
        }
    }
    assert!(found.iter().any(|(kind, _)| kind == "ValidatingWebhookConfiguration"), "{printed}");
    assert!(found.iter().any(|(kind, _)| kind == "MutatingWebhookConfiguration"), "{printed}");
    found
}

fn webhook(kind: &str, name: &str) -> Value {
    let found =
        webhooks(Some(INJECTS)).into_iter().find(|(of, webhook)| of.starts_with(kind) && webhook["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} webhook {name}")).1
}

/// Trap 5. With anything else a dry run is refused.
#[test]
fn every_webhook_is_registered_without_side_effects() {
    for config in [None, Some(CONFIG), Some(INJECTS)] {
        for (kind, webhook) in webhooks(config) {
            assert_eq!(webhook["sideEffects"], "None", "{kind}: {webhook}");
            assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]), "{kind}: {webhook}");
        }
    }
}

/// Trap 10. A namespaceSelector looks at the labels that the request is about to set, so a label could exempt itself.
#[test]
fn the_webhook_of_namespaces_has_no_namespace_selector() {
    for (kind, name) in [
        ("Validating", "namespaces.portcullis.dev"),
        ("Validating", "namespace-labels.portcullis.dev"),
        ("Mutating", "namespaces.portcullis.dev"),
    ] {
        let webhook = webhook(kind, name);
        assert_eq!(webhook.get("namespaceSelector"), None, "{webhook}");
        assert_eq!(webhook.get("objectSelector"), None, "{webhook}");
        assert!(resources(&webhook).contains("/namespaces"), "{webhook}");
    }
}

/// Trap 12. An object chooses its own labels.
#[test]
fn no_webhook_looks_at_labels_of_objects() {
    for (kind, webhook) in webhooks(Some(INJECTS)) {
        assert_eq!(webhook.get("objectSelector"), None, "{kind}: {webhook}");
        let selector = webhook["namespaceSelector"]["matchExpressions"].as_array().cloned().unwrap_or_default();
        for expression in selector {
            // How far a baseline is, only the controller says.
            let waits = expression["key"] == BASELINE && webhook["name"] == "pending-pods.portcullis.dev";
            let nobody_chooses = waits || expression["key"] == "kubernetes.io/metadata.name";
            assert!(nobody_chooses, "{webhook}");
        }
    }
}

/// Traps 10 and 12. Whoever changes labels does not choose by them how that change is judged.
#[test]
fn an_exemption_by_a_label_that_the_update_adds_has_no_effect() {
    let config = format!(
        "{CONFIG}overrides:\n- namespaces: {{matchLabels: {{exempt: \"true\"}}}}\n  rules: {{invalid-profile: off}}\n"
    );
    let mut server = Webhook::with(&config, "");
    let place = format!("metadata.labels[\"{PROFILE}\"]");
    let plain = namespace("shop", &json!({PROFILE: "isolated"}));
    let exempt = namespace("shop", &json!({PROFILE: "isolated", "exempt": "true"}));
    let bad = namespace("shop", &json!({PROFILE: "open", "exempt": "true"}));
    server.validate(&update(&plain, &bad)).denied_by(&[("invalid-profile", &place), ("isolation-downgrade", &place)]);
    server.validate(&update(&plain, &exempt)).allowed_without_a_word();
    server.validate(&update(&exempt, &bad)).denied_by(&[("isolation-downgrade", &place)]);
}

/// Trap 18. A served version that is not registered would be a way around.
#[test]
fn every_version_of_a_group_is_registered() {
    for config in [None, Some(INJECTS)] {
        for (kind, webhook) in webhooks(config) {
            assert_eq!(webhook["matchPolicy"], "Equivalent", "{kind}: {webhook}");
            for rule in webhook["rules"].as_array().unwrap() {
                assert_eq!(rule["apiVersions"], json!(["*"]), "{kind}: {webhook}");
            }
        }
    }
}

/// Traps 15 and 17. A `*` would catch connections and subresources, which have objects of other kinds.
#[test]
fn nothing_is_registered_by_a_star_but_versions() {
    for (kind, webhook) in webhooks(Some(INJECTS)) {
        for rule in webhook["rules"].as_array().unwrap() {
            for field in ["apiGroups", "operations", "resources"] {
                for value in rule[field].as_array().unwrap() {
                    let value = value.as_str().unwrap();
                    // The labels of a namespace can be set through its subresources, which are namespaces themselves.
                    let subresource = value.contains('/') && !value.starts_with("namespaces/");
                    assert!(!value.contains('*') && !subresource && value != "CONNECT", "{kind}: {webhook}");
                }
            }
        }
    }
}

/// Traps 6, 19 and 24. An API server takes no other values.
#[test]
fn what_is_registered_is_what_an_api_server_takes() {
    for (kind, webhook) in webhooks(Some(INJECTS)) {
        assert!((1..=30).contains(&webhook["timeoutSeconds"].as_u64().unwrap()), "{kind}: {webhook}");
        assert!(webhook["matchConditions"].as_array().map_or(0, Vec::len) <= 64, "{kind}: {webhook}");
        let path = if kind.starts_with("Validating") { "validate" } else { "mutate" };
        let client = &webhook["clientConfig"];
        assert_eq!(client["url"], format!("https://portcullis.example.com:8443/{path}"), "{kind}: {webhook}");
        let bundle = STANDARD.decode(client["caBundle"].as_str().unwrap()).unwrap();
        assert!(bundle.starts_with(b"-----BEGIN CERTIFICATE-----"), "{kind}: {webhook}");
        assert_eq!(client.get("service"), None, "{kind}: {webhook}");
    }
}

/// Trap 29. `hostNetwork` of a pod cannot be changed, that of a template can.
#[test]
fn pods_are_asked_about_once_and_templates_whenever_they_change() {
    let pods = webhook("Validating", "pods.portcullis.dev");
    assert_eq!(resources(&pods), BTreeSet::from(["/pods".to_owned()]), "{pods}");
    assert_eq!(pods["rules"][0]["operations"], json!(["CREATE"]), "{pods}");

    let workloads = webhook("Validating", "workloads.portcullis.dev");
    let kinds = [
        "/podtemplates",
        "/replicationcontrollers",
        "apps/daemonsets",
        "apps/deployments",
        "apps/replicasets",
        "apps/statefulsets",
        "batch/cronjobs",
        "batch/jobs",
    ];
    assert_eq!(resources(&workloads), kinds.map(str::to_owned).into(), "{workloads}");
    for rule in workloads["rules"].as_array().unwrap() {
        assert_eq!(rule["operations"], json!(["CREATE", "UPDATE"]), "{workloads}");
    }
}

fn resources(webhook: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in webhook["rules"].as_array().unwrap() {
        for group in rule["apiGroups"].as_array().unwrap() {
            for resource in rule["resources"].as_array().unwrap() {
                found.insert(format!("{}/{}", group.as_str().unwrap(), resource.as_str().unwrap()));
            }
        }
    }
    found
}

/// Trap 24. An API server that calls a Service asks for `<service>.<namespace>.svc`.
#[test]
fn the_certificate_that_it_makes_is_for_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("made/certs");
    let (_process, address) = serve_self_signed(&certs, dir.path());

    let (_, pem) = x509_parser::pem::parse_x509_pem(&fs::read(certs.join("tls.pem")).unwrap()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().expect("names").value.general_names.clone();
    for name in ["portcullis.portcullis-system.svc", "localhost"] {
        assert!(names.contains(&GeneralName::DNSName(name)), "{names:?}");
    }
    // Not only named, but taken by somebody who checks.
    for name in ["portcullis.portcullis-system.svc", "portcullis.portcullis-system", "localhost", "127.0.0.1"] {
        let mut client = Blocking::connect_as(address, &certs.join("ca.pem"), name, Protocol::Http2);
        let answer = client.post("/validate", create(&policy(&egress(&[to_database()]))).to_string());
        Verdict::read("/validate", &answer).denied_by(&[("dns-blocked", "spec.egress")]);
    }
}

/// Trap 24. OpenSSL, and with it curl and Python, takes a certificate that has the name of its issuer for one that
/// nobody signed, and refuses it whatever CA it is given.
#[test]
fn the_certificate_that_it_makes_has_another_name_than_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let _process = serve_self_signed(&certs, dir.path());
    let (_, pem) = x509_parser::pem::parse_x509_pem(&fs::read(certs.join("tls.pem")).unwrap()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_ne!(certificate.subject().to_string(), certificate.issuer().to_string(), "subject and issuer");
}

/// Trap 24.
#[test]
fn keys_that_it_makes_can_be_read_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let (mut process, _) = serve_self_signed(&certs, dir.path());
    let mode = |name: &str| fs::metadata(certs.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("tls.key"), mode("ca.key")), (0o600, 0o600));

    // What is there is used again: a CA that changed would have to be given to the API server anew.
    process.stop();
    let before = ["ca.pem", "ca.key", "tls.pem", "tls.key"].map(|name| fs::read(certs.join(name)).unwrap());
    let _process = serve_self_signed(&certs, dir.path());
    let after = ["ca.pem", "ca.key", "tls.pem", "tls.key"].map(|name| fs::read(certs.join(name)).unwrap());
    assert!(before == after, "the certificates changed");
}

fn serve_self_signed(certs: &Path, dir: &Path) -> (Process, SocketAddr) {
    let [port, admin_port] = free_ports();
    let [address, admin] = [port, admin_port].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(["serve", "--standalone", "--stop-after", "0.1", "--self-signed", "--certs"])
        .arg(certs)
        .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
        .env_remove("RUST_LOG");
    let mut process = Process::start(&mut command, &dir.join("log"));
    let deadline = Instant::now() + Duration::from_secs(15);
    while get(admin, "/readyz").map(|(status, _)| status) != Some(200) {
        assert!(process.ended().is_none() && Instant::now() < deadline, "{}", process.log_tail());
        thread::sleep(Duration::from_millis(10));
    }
    (process, address)
}
