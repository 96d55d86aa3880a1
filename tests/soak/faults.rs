//! The faults and changes that an installation meets in weeks, in minutes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis::pki::{self, Pem, Validity};
use serde_json::{Value, json};

use crate::Soak;
use crate::support::client::Client;
use crate::support::installation::{Installation, NAMESPACE, Replica};
use crate::support::load::{Outcomes, counted};
use crate::traffic::Life;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECRET: &str = "portcullis-tls";
/// The name that the API server expects in the certificate.
const SERVER_NAME: &str = "portcullis.portcullis-system.svc";

pub(crate) type Fault = (&'static str, fn(&mut Soak));

/// Faults that end processes, each with the part of the soak after which it comes. The replicas that drift is measured on
/// live from the first quarter to the end.
pub(crate) const RARE: [(f64, Fault); 4] = [
    (0.05, ("leader killed", kill_leader)),
    (0.15, ("leader killed", kill_leader)),
    (0.30, ("API server restarted", restart_api_server)),
    (0.80, ("API server restarted", restart_api_server)),
];

/// Faults that come in turn.
pub(crate) const FREQUENT: [Fault; 6] = [
    ("certificate rotated", rotate_certificate),
    ("configuration changed", change_configuration),
    ("watches cut", cut_watches),
    ("configuration broken", break_configuration),
    ("Lease lost", lose_lease),
    ("-", |_| ()),
];

/// A Secret with a CA that is due to be replaced, so that the soak begins with a rotation of the CA.
pub(crate) fn old_secret() -> Value {
    let now = SystemTime::now();
    let ca = pki::new_ca_for("portcullis CA", Validity { now: now - 1300 * DAY, lifetime: 1826 * DAY }).unwrap();
    let leaf = pki::new_leaf_for(&ca, &names(), Validity { now: now - DAY, lifetime: 90 * DAY }).unwrap();
    let metadata = json!({"name": SECRET, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "portcullis"}});
    let data = json!({"ca.crt": ca.certificate, "ca.key": ca.key, "tls.crt": leaf.certificate, "tls.key": leaf.key});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
}

fn names() -> Vec<String> {
    ["portcullis", "portcullis.portcullis-system", SERVER_NAME].map(str::to_owned).into()
}

fn secret(cluster: &Installation, key: &str) -> Option<String> {
    let secret = cluster.plane.stored(&["secret", SECRET, "--namespace", NAMESPACE])?;
    String::from_utf8(BASE64.decode(secret["data"][key].as_str()?).ok()?).ok()
}

/// The life of a replica that has just started.
pub(crate) fn life(cluster: &Installation, replica: &Replica) -> Arc<Life> {
    let webhooks = cluster.plane.stored(&["validatingwebhookconfiguration", "portcullis"]).unwrap();
    let bundle = webhooks["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap();
    let bundle = String::from_utf8(BASE64.decode(bundle).unwrap()).unwrap();
    let address = ([127, 0, 0, 1], replica.port()).into();
    Arc::new(Life {
        name: format!("process {}", replica.id()),
        client: Client::new(address, &bundle, SERVER_NAME),
        answered: Default::default(),
        in_flight: 0.into(),
    })
}

/// Kills the replica that leads under load, and starts another one.
fn kill_leader(soak: &mut Soak) {
    let traffic = Arc::clone(&soak.traffic);
    traffic.is_disturbed.store(true, Ordering::SeqCst);
    let leads = |replica: &Replica| replica.metric("portcullis_leader") == Some(1.0);
    soak.cluster.until("one replica leads", |cluster| cluster.replicas.iter().any(leads));
    let at = soak.cluster.replicas.iter().position(leads).unwrap();
    // Probes end first, and new requests; what is in flight is killed with the process.
    soak.admins.lock().unwrap().remove(at);
    let life = traffic.lives.lock().unwrap().remove(at);
    let before = life.answered.lock().unwrap().clone();
    let counted = counted(&soak.cluster.replicas[at].metrics().unwrap(), &crate::traffic::DIRECT_KINDS);
    soak.cluster.kill_leader();
    soak.ended.push(Ended { life, before, counted });
    soak.cluster.start_replica();
    let replica = soak.cluster.replicas.last().unwrap();
    soak.admins.lock().unwrap().push(replica.admin_address());
    let born = self::life(&soak.cluster, replica);
    traffic.lives.lock().unwrap().push(born);
    traffic.is_disturbed.store(false, Ordering::SeqCst);
}

/// A process that was killed: what clients had been answered before it was asked for its metrics, and those.
pub(crate) struct Ended {
    pub(crate) life: Arc<Life>,
    pub(crate) before: Outcomes,
    pub(crate) counted: Outcomes,
}

fn restart_api_server(soak: &mut Soak) {
    soak.traffic.is_disturbed.store(true, Ordering::SeqCst);
    soak.cluster.plane.stop_api_server();
    thread::sleep(Duration::from_secs(2));
    soak.cluster.plane.start_api_server();
    soak.cluster.until("the watches are back", |cluster| {
        cluster.replicas.iter().all(|replica| {
            replica.readyz().is_some_and(|(status, detail)| status == 200 && !detail.to_string().contains("lost"))
        })
    });
    soak.traffic.is_disturbed.store(false, Ordering::SeqCst);
}

/// Stores a certificate that is due to be renewed, signed by the CA of the Secret.
fn rotate_certificate(soak: &mut Soak) {
    let cluster = &soak.cluster;
    let (Some(certificate), Some(key)) = (secret(cluster, "ca.crt"), secret(cluster, "ca.key")) else { return };
    let validity = Validity { now: SystemTime::now() - 80 * DAY, lifetime: 90 * DAY };
    let leaf = pki::new_leaf_for(&Pem { certificate, key }, &names(), validity).unwrap();
    let patch = json!({"stringData": {"tls.crt": leaf.certificate, "tls.key": leaf.key}}).to_string();
    let patched = cluster.plane.kubectl(&["patch", "secret", SECRET, "--namespace", NAMESPACE, "--patch", &patch]);
    assert!(patched.ok, "{patched}");
}

/// Replaces the file at once, as the kubelet replaces the link to a ConfigMap.
fn configure(soak: &Soak, text: &str) {
    let next = soak.cluster.config.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, &soak.cluster.config).unwrap();
}

fn change_configuration(soak: &mut Soak) {
    soak.changes += 1;
    let mode = if soak.changes.is_multiple_of(2) { "warn" } else { "deny" };
    configure(soak, &format!("{}rules: {{hardcoded-address: {{mode: {mode}}}}}\n", soak.configuration));
}

fn break_configuration(soak: &mut Soak) {
    configure(soak, "apiVersion: [\n");
    thread::sleep(Duration::from_secs(1));
    configure(soak, &soak.configuration.clone());
}

/// Breaks every connection of the replicas to the API server.
fn cut_watches(soak: &mut Soak) {
    soak.cluster.upstream.cut();
}

/// Gives the Lease to a process that does not exist.
fn lose_lease(soak: &mut Soak) {
    let patch = json!({"spec": {"holderIdentity": "another"}}).to_string();
    let patch = ["patch", "lease", "portcullis", "--namespace", NAMESPACE, "--type=merge", "--patch", &patch];
    let patched = soak.cluster.plane.kubectl(&patch);
    assert!(patched.ok, "{patched}");
}
