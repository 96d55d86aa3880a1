//! Files that change while the server runs: what is whole is put in force, what is broken leaves the last good state.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use support::wire::{Answer, Portcullis, Protocol, any_port, command, good, policy, review, serial, until};
use tempfile::TempDir;

const CERTIFICATE: &str = "certificate";
const CONFIGURATION: &str = "configuration";
const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority whose certificates expire when the test says so.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, with what tells it from others.
struct Leaf {
    certificate: String,
    key: String,
    serial: Vec<u8>,
    expires: u64,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate that expires at this time, to the second.
    fn leaf(&self, expires: SystemTime) -> Leaf {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = (SystemTime::now() - 30 * DAY).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(expires)).into();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate: signed.pem(), key: key.serialize_pem(), serial: serial(signed.der()), expires }
    }

    /// A certificate that expires in so many days.
    fn days(&self, days: u32) -> Leaf {
        self.leaf(SystemTime::now() + days * DAY)
    }
}

/// A folder with the pair of a server.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-reload-").tempdir().unwrap();
        Self { dir, authority: Authority::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As editors do it: nobody sees half a file.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    fn write_pair(&self, leaf: &Leaf) -> (PathBuf, PathBuf) {
        (self.write("tls.crt", &leaf.certificate), self.write("tls.key", &leaf.key))
    }

    /// Starts a server on `tls.crt` and `tls.key`.
    async fn serve(&self, arguments: &[&str]) -> Portcullis {
        let pair = (self.path("tls.crt"), self.path("tls.key"));
        let arguments = [&["--reload-every", "0.1"], arguments].concat();
        Portcullis::launch(self.dir.path(), (&pair.0, &pair.1), &self.authority.pem, &arguments).await
    }

    /// Starts a server that has a good pair, on other files.
    async fn serve_with_pair(&self, arguments: &[&str]) -> Portcullis {
        self.write_pair(&self.authority.days(90));
        let server = self.serve(arguments).await;
        server.until_ready().await;
        server
    }
}

/// A folder as a kubelet mounts a Secret or a ConfigMap: names that link to `..data`, which links to a folder.
struct Mount {
    path: PathBuf,
    versions: u32,
}

impl Mount {
    fn new(path: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Self { path, versions: 0 };
        mount.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), mount.path.join(name)).unwrap();
        }
        mount
    }

    /// Puts another version in place, all of it at once.
    fn swap(&mut self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.path.join("..data")).ok();
        self.versions += 1;
        let version = format!("..2026_11_21_{}", self.versions);
        fs::create_dir(self.path.join(&version)).unwrap();
        for (name, text) in files {
            fs::write(self.path.join(&version).join(name), text).unwrap();
        }
        symlink(&version, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path.join(old)).unwrap();
        }
    }
}

/// Waits until a detail of /readyz has this in it, and says it whole. The server is ready all the time.
async fn until_detail(server: &Portcullis, of: &str, has: &str) -> String {
    until(&format!("{has} in the detail of the {of}"), async || {
        let (status, answer) = server.readyz()?;
        let detail = answer["detail"][of].as_str().unwrap().to_owned();
        assert_eq!((status, &answer["state"]), (200, &"serving".into()), "the last good state is in force: {answer}");
        detail.contains(has).then_some(detail)
    })
    .await
}

async fn until_served(server: &Portcullis, leaf: &Leaf) {
    until("a new certificate", async || (server.client.serial().await? == leaf.serial).then_some(())).await;
    server.until_metric(EXPIRY, leaf.expires as f64).await;
}

async fn until_answer(server: &Portcullis, path: &str, body: &str, what: &str, is: impl Fn(&Answer) -> bool) {
    let answer = async || Some(server.client.post(path, body.to_owned()).await).filter(|answer| is(answer));
    until(what, async || answer().await.map(drop)).await;
}

const EXPIRY: &str = "portcullis_certificate_expiry_timestamp_seconds";
const GOOD: &str = "portcullis_configuration_good";

fn reloads(of: &str, result: &str) -> String {
    format!(r#"portcullis_{of}_reloads_total{{result="{result}"}}"#)
}

// Certificates.

#[tokio::test]
async fn a_new_certificate_is_served_and_open_connections_stay_open() {
    let files = Files::new();
    let (old, new) = (files.authority.days(10), files.authority.days(20));
    files.write_pair(&old);
    let server = files.serve(&[]).await;
    until_served(&server, &old).await;
    let mut open = [server.client.connect(Protocol::Http1).await, server.client.connect(Protocol::Http2).await];
    for connection in &mut open {
        connection.post("/validate", good("before")).await.unwrap();
    }

    files.write_pair(&new);
    until_served(&server, &new).await;
    for connection in &mut open {
        let answer = connection.post("/validate", good("after")).await.expect("the connection is still open");
        assert!(answer.allowed() && answer.connection.is_none(), "{answer:?}");
    }
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 1.0);
}

#[tokio::test]
async fn each_swap_of_a_mounted_secret_is_noticed() {
    let files = Files::new();
    let leaf = files.authority.days(1);
    let mut mount = Mount::new(files.path("secret"), &[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)]);
    let pair = (mount.path.join("tls.crt"), mount.path.join("tls.key"));
    let arguments = ["--reload-every", "0.1"];
    let server = Portcullis::launch(files.dir.path(), (&pair.0, &pair.1), &files.authority.pem, &arguments).await;
    until_served(&server, &leaf).await;
    // Who watches the file with inotify notices the first by luck, and the others never.
    for days in 2..=4 {
        let leaf = files.authority.days(days);
        mount.swap(&[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)]);
        until_served(&server, &leaf).await;
    }
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 3.0);
    assert_eq!(server.metric(&reloads(CERTIFICATE, "failure")), 0.0, "a swap shows no half of anything");
}

#[tokio::test]
async fn half_a_pair_leaves_the_last_good_one_in_use() {
    let files = Files::new();
    let (first, second, third) = (files.authority.days(1), files.authority.days(2), files.authority.days(3));
    files.write_pair(&first);
    let server = files.serve(&[]).await;
    until_served(&server, &first).await;
    let failures = reloads(CERTIFICATE, "failure");

    files.write("tls.crt", &second.certificate);
    let detail = until_detail(&server, CERTIFICATE, "the last good one is in use: ").await;
    assert!(detail.contains("cannot be used together"), "{detail}");
    assert_eq!(server.client.serial().await.unwrap(), first.serial);
    assert_eq!(server.metric(EXPIRY), first.expires as f64, "the gauge is about what is in use");
    assert_eq!(server.metric(&failures), 1.0);
    assert!(server.client.post("/validate", good("meanwhile")).await.allowed());
    files.write("tls.key", &second.key);
    until_served(&server, &second).await;
    until_detail(&server, CERTIFICATE, "ok").await;

    // A copy that was cut off.
    files.write("tls.key", &third.key);
    files.write("tls.crt", third.certificate.split_at(third.certificate.len() / 2).0);
    until_detail(&server, CERTIFICATE, "PEM").await;
    assert_eq!(server.client.serial().await.unwrap(), second.serial);
    assert!(server.metric(&failures) >= 2.0);
    files.write("tls.crt", &third.certificate);
    until_served(&server, &third).await;
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 2.0);

    // A change that is taken back.
    files.write("tls.crt", &second.certificate);
    until_detail(&server, CERTIFICATE, "the last good one is in use: ").await;
    files.write("tls.crt", &third.certificate);
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.client.serial().await.unwrap(), third.serial);
}

#[tokio::test]
async fn a_pair_that_is_away_for_a_moment_is_in_use_all_the_time() {
    let files = Files::new();
    let (first, second) = (files.authority.days(1), files.authority.days(2));
    files.write_pair(&first);
    let server = files.serve(&[]).await;
    until_served(&server, &first).await;
    let remove = || ["tls.crt", "tls.key"].map(|name| fs::remove_file(files.path(name)).unwrap());

    remove();
    let detail = until_detail(&server, CERTIFICATE, "the last good one is in use: ").await;
    assert!(detail.contains("tls.crt: No such file"), "{detail}");
    assert_eq!(server.client.serial().await.unwrap(), first.serial);
    assert!(server.metric(&reloads(CERTIFICATE, "failure")) >= 1.0);
    files.write_pair(&second);
    until_served(&server, &second).await;
    until_detail(&server, CERTIFICATE, "ok").await;

    // The same pair as before comes back.
    remove();
    until_detail(&server, CERTIFICATE, "No such file").await;
    files.write_pair(&second);
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.client.serial().await.unwrap(), second.serial);
}

#[tokio::test]
async fn an_expired_certificate_makes_it_unready_until_there_is_another() {
    let files = Files::new();
    let expired = files.authority.leaf(SystemTime::now() - DAY);
    files.write_pair(&expired);
    let server = files.serve(&[]).await;
    let (status, answer) = until("an answer of /readyz", async || server.readyz()).await;
    assert_eq!((status, &answer["detail"]["certificate"]), (503, &"expired".into()), "{answer}");
    assert_eq!(server.metric(EXPIRY), expired.expires as f64);
    let new = files.authority.days(1);
    files.write_pair(&new);
    until_served(&server, &new).await;
    server.until_ready().await;
}

// Configuration, policies and context.

#[tokio::test]
async fn a_new_configuration_is_put_in_force() {
    let files = Files::new();
    let config = files.write("portcullis.yaml", HEAD);
    let server = files.serve_with_pair(&["--config", config.to_str().unwrap()]).await;
    let denied = server.client.post("/validate", any_port("u-1")).await.response();
    assert_eq!(denied["allowed"], false, "{denied}");

    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: warn\n"));
    until_answer(&server, "/validate", &any_port("u-2"), "a warning", Answer::allowed).await;
    let warned = server.client.post("/validate", any_port("u-3")).await.response();
    assert!(warned["warnings"][0].as_str().unwrap().starts_with("any-port at spec.ingress[0]"), "{warned}");
    until_detail(&server, CONFIGURATION, "ok").await;
    server.until_metric(&reloads(CONFIGURATION, "success"), 1.0).await;
    assert_eq!(server.metric(GOOD), 1.0);
}

#[tokio::test]
async fn a_broken_configuration_leaves_the_last_good_one_in_force() {
    let files = Files::new();
    let config = files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: warn\n"));
    let server = files.serve_with_pair(&["--config", config.to_str().unwrap()]).await;

    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-prot: deny\n"));
    let detail = until_detail(&server, CONFIGURATION, "the last good one is in force: ").await;
    let fault = format!("{}: line 4: rules.any-prot: there is no rule `any-prot`; did you mean", config.display());
    assert!(detail.contains(&fault), "{detail}");
    assert_eq!(server.metric(GOOD), 0.0);
    assert!(server.client.post("/validate", any_port("u-1")).await.allowed(), "what was in force is in force");
    // It is looked at once, however often it is seen.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.metric(&reloads(CONFIGURATION, "failure")), 1.0);

    fs::remove_file(&config).unwrap();
    until_detail(&server, CONFIGURATION, "No such file").await;
    assert_eq!(server.metric(GOOD), 0.0);
    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: deny\n"));
    until_detail(&server, CONFIGURATION, "ok").await;
    assert_eq!(server.metric(GOOD), 1.0);
    assert!(!server.client.post("/validate", any_port("u-2")).await.allowed(), "the mended file is in force");

    // A file that is away for a moment, and is what it was.
    fs::remove_file(&config).unwrap();
    until_detail(&server, CONFIGURATION, "No such file").await;
    files.write("portcullis.yaml", &format!("{HEAD}rules:\n  any-port: deny\n"));
    until_detail(&server, CONFIGURATION, "ok").await;
    assert_eq!(server.metric(GOOD), 1.0);
}

#[tokio::test]
async fn each_swap_of_a_mounted_config_map_is_noticed() {
    let files = Files::new();
    let with = |mode: &str| format!("{HEAD}rules:\n  any-port: {mode}\n");
    let mut config = Mount::new(files.path("config"), &[("portcullis.yaml", &with("deny"))]);
    let mut context = Mount::new(files.path("context"), &[("known.yaml", &dns_for("another"))]);
    let (file, known) = (config.path.join("portcullis.yaml"), context.path.clone());
    let arguments = ["--config", file.to_str().unwrap(), "--context", known.to_str().unwrap()];
    let server = files.serve_with_pair(&arguments).await;

    for (mode, allowed) in [("warn", true), ("deny", false), ("off", true)] {
        config.swap(&[("portcullis.yaml", &with(mode))]);
        until_answer(&server, "/validate", &any_port("u-1"), mode, |answer| answer.allowed() == allowed).await;
    }
    for (pods, allowed) in [("backend", true), ("another", false), ("backend", true)] {
        context.swap(&[("known.yaml", &dns_for(pods))]);
        until_answer(&server, "/validate", &needs_dns("u-2"), pods, |answer| answer.allowed() == allowed).await;
    }
    // One folder is swapped, and the other is left as it is; each time that is one change.
    assert_eq!(server.metric(&reloads(CONFIGURATION, "success")), 6.0);
    assert_eq!(server.metric(&reloads(CONFIGURATION, "failure")), 0.0);
}

#[tokio::test]
async fn new_context_is_put_in_force() {
    let files = Files::new();
    let known = files.path("known");
    fs::create_dir(&known).unwrap();
    let server = files.serve_with_pair(&["--context", known.to_str().unwrap()]).await;
    assert!(!server.client.post("/validate", needs_dns("u-1")).await.allowed());

    files.write("known/dns.yaml", &dns_for("backend"));
    until_answer(&server, "/validate", &needs_dns("u-2"), "DNS from another policy", Answer::allowed).await;
    files.write(
        "known/more.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\nmetadata: {name: x}\n",
    );
    let detail = until_detail(&server, CONFIGURATION, "more.yaml:").await;
    assert!(detail.contains("more.yaml:5: this is no Kubernetes object"), "{detail}");
    assert_eq!(server.metric(GOOD), 0.0);
    assert!(server.client.post("/validate", needs_dns("u-3")).await.allowed(), "what was known is known");
    fs::remove_file(files.path("known/more.yaml")).unwrap();
    fs::remove_file(files.path("known/dns.yaml")).unwrap();
    until_answer(&server, "/validate", &needs_dns("u-4"), "no DNS", |answer| !answer.allowed()).await;
    until_detail(&server, CONFIGURATION, "ok").await;
}

#[tokio::test]
async fn new_policies_are_put_in_force() {
    let files = Files::new();
    let alone = "profiles: {names: [standard], default: null}\naccess: []\n";
    let config = files.write("portcullis.yaml", &format!("{HEAD}{alone}"));
    let manifest = policy("p", &json!({"policyTypes": ["Ingress"]}));
    let without_namespace = |mut manifest: Value| {
        manifest["metadata"].as_object_mut().unwrap().remove("namespace");
        manifest.to_string()
    };
    files.write("policies/profiles/standard/p.json", &without_namespace(manifest.clone()));
    let folder = files.path("policies");
    let arguments = ["--config", config.to_str().unwrap(), "--policies", folder.to_str().unwrap()];
    let server = files.serve_with_pair(&arguments).await;
    // A namespace is due no policies as yet, so it gets no label that says that they are pending.
    let namespace =
        review("u-1", "alice", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let is_patched = |answer: &Answer| answer.response()["patch"].is_string();
    assert!(!is_patched(&server.client.post("/mutate", namespace.clone()).await));

    files.write("policies/baseline/p.json", &without_namespace(manifest.clone()));
    until_answer(&server, "/mutate", &namespace, "a label for the baseline", is_patched).await;
    files.write("policies/baseline/q.json", &manifest.to_string());
    let detail = until_detail(&server, CONFIGURATION, "q.json").await;
    assert!(detail.contains("baseline/q.json: line 1: metadata.namespace: it has to be left out"), "{detail}");
    assert!(is_patched(&server.client.post("/mutate", namespace.clone()).await), "what was in force is in force");
    fs::remove_dir_all(files.path("policies/baseline")).unwrap();
    until_answer(&server, "/mutate", &namespace, "no label", |answer| !is_patched(answer)).await;
    until_detail(&server, CONFIGURATION, "ok").await;

    // Configuration and policies have to fit each other, whichever comes first.
    let more = alone.replace("[standard]", "[standard, open]");
    files.write("portcullis.yaml", &format!("{HEAD}{more}"));
    let detail = until_detail(&server, CONFIGURATION, "the configuration names `open`").await;
    assert!(detail.contains("profiles/open"), "{detail}");
    let labels = json!({"network-policy.portcullis.dev/profile": "open"});
    let asks = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let asks = review("u-2", "alice", &asks);
    assert!(!server.client.post("/validate", asks.clone()).await.allowed());
    files.write("policies/profiles/open/p.json", &without_namespace(manifest));
    until_answer(&server, "/validate", &asks, "the profile", Answer::allowed).await;
    until_detail(&server, CONFIGURATION, "ok").await;
}

/// A policy that lets these pods ask the cluster's DNS.
fn dns_for(pods: &str) -> String {
    let to = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    });
    let ports = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let mut dns = policy("dns", &json!({"policyTypes": ["Egress"], "egress": [{"to": [to], "ports": ports}]}));
    dns["spec"]["podSelector"]["matchLabels"]["app"] = json!(pods);
    dns.to_string()
}

/// The review of a policy that isolates the backend for egress and does not let it ask DNS.
fn needs_dns(uid: &str) -> String {
    let to = json!([{"podSelector": {"matchLabels": {"app": "database"}}}]);
    let egress = json!([{"to": to, "ports": [{"protocol": "TCP", "port": 5432}]}]);
    review(uid, "alice", &policy("to-database", &json!({"policyTypes": ["Egress"], "egress": egress})))
}

// At the start there is no last good state.

/// Starts a server that cannot start: how it ends, and what it says.
fn fails(files: &Files, arguments: &[&str]) -> (Option<i32>, String) {
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let output = command()
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--tls-cert"])
        .arg(certificate)
        .arg("--tls-key")
        .arg(key)
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_bad_file_at_the_start_is_an_error_that_says_what_to_write() {
    let files = Files::new();
    let leaf = files.authority.days(1);
    files.write_pair(&leaf);
    for (text, fault) in [
        ("labelDomian: x.y\n", "line 3: labelDomian: there is no such field; did you mean `labelDomain`?"),
        ("rules:\n  any-prot: warn\n", "line 4: rules.any-prot: there is no rule `any-prot`; did you mean `any-port`?"),
        (
            "rules:\n  any-port:\n    settings: {sameNamespaces: true}\n",
            "line 5: rules.any-port.settings.sameNamespaces: there is no such field; did you mean `sameNamespace`?",
        ),
        ("rules: {any-port: [\n", "line "),
    ] {
        let config = files.write("portcullis.yaml", &format!("{HEAD}{text}"));
        let (code, said) = fails(&files, &["--config", config.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("error: configuration {}: {fault}", config.display())), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    let context = files.write("known.yaml", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: [\n");
    let (code, said) = fails(&files, &["--context", context.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains(&format!("{}: line ", context.display())), "{said}");
    for (flag, name) in [("--config", "none.yaml"), ("--context", "none.yaml"), ("--policies", "none")] {
        let (code, said) = fails(&files, &[flag, files.path(name).to_str().unwrap()]);
        assert!(code == Some(2) && said.contains(files.path(name).to_str().unwrap()), "{said}");
    }

    files.write("tls.key", &files.authority.days(1).key);
    let (code, said) = fails(&files, &[]);
    assert!(code == Some(2) && said.contains("tls.key: certificate and key cannot be used together"), "{said}");
}
