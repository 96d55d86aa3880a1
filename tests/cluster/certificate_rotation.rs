//! A CA that is replaced while two replicas serve: at no moment does one of them show a certificate that the webhook
//! configurations do not trust.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::client::{self, Protocol, serial};
use crate::support::control_plane::ControlPlane;
use crate::support::server::until;
use arc_swap::ArcSwap;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{Api, Client};
use portcullis::admission::Knowledge;
use portcullis::baseline::PolicySet;
use portcullis::cluster::{CertificateKeeper, CertificateTerms, Cluster};
use portcullis::config::Configuration;
use portcullis::pki::{self, Pem, Validity};
use portcullis::server::{Certificates, Limits, Readiness, Server, Shared, Stop};
use portcullis::telemetry::Metrics;
use portcullis::view::View;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often replicas look, and how many looks are many.
const EVERY: Duration = Duration::from_millis(100);
const MANY: usize = 10;
const NAMESPACE: &str = "default";
const SECRET: &str = "portcullis-tls";

/// A replica: a server, and what it is given to serve.
struct Replica {
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    address: SocketAddr,
    /// How often somebody has looked whether its certificate is as it should be.
    looks: Arc<AtomicUsize>,
}

impl Replica {
    async fn start() -> Self {
        let configuration = Configuration::shipped().unwrap();
        let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
        let shared = Arc::new(Shared {
            knowledge: ArcSwap::from_pointee(Knowledge::new(configuration, View::default(), policies)),
            lookup: None,
            readiness: Readiness::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
        });
        let certificates = Arc::new(Certificates::awaited(&shared).unwrap());
        let loopback = || "127.0.0.1:0".parse().unwrap();
        let server =
            Server::bind(Arc::clone(&shared), Arc::clone(&certificates), loopback(), loopback()).await.unwrap();
        let address = server.addresses().unwrap().0;
        tokio::spawn(server.run(std::future::pending::<Stop>()));
        Self { shared, certificates, address, looks: Arc::default() }
    }

    /// Has its certificate looked after, until the end.
    fn keep(&self, client: Client, notice: Duration, end: &CancellationToken) -> JoinHandle<()> {
        let terms = CertificateTerms { every: EVERY, notice };
        let keeper = CertificateKeeper::new(client, (NAMESPACE, SECRET), names(), "portcullis", terms);
        let (certificates, shared) = (Arc::clone(&self.certificates), Arc::clone(&self.shared));
        let (looks, end) = (Arc::clone(&self.looks), end.clone());
        tokio::spawn(async move {
            let tell = |found: Result<&Pem, &_>| {
                certificates.replace(found.expect("the certificate can be kept"), &shared);
                looks.fetch_add(1, Ordering::Relaxed);
            };
            keeper.run(tell, &end).await;
        })
    }
}

/// What was seen at one moment: what every webhook trusted, and then what each replica showed.
#[derive(Clone, Debug)]
struct Sample {
    trusted: BTreeSet<Vec<u8>>,
    shown: Vec<Vec<u8>>,
}

/// Both replicas, and what is trusted.
struct Rotation {
    client: Client,
    replicas: [Replica; 2],
    samples: Mutex<Vec<Sample>>,
}

impl Rotation {
    /// What every webhook trusts: certificates, one after the other as PEM.
    async fn bundles(&self) -> BTreeSet<String> {
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let (validating, mutating) =
            (validating.get("portcullis").await.unwrap(), mutating.get("portcullis").await.unwrap());
        let clients = validating.webhooks.into_iter().flatten().map(|webhook| webhook.client_config);
        let all = clients.chain(mutating.webhooks.into_iter().flatten().map(|webhook| webhook.client_config));
        let text = |bundle: Option<ByteString>| String::from_utf8(bundle.map_or_else(Vec::new, |bundle| bundle.0));
        all.map(|client| text(client.ca_bundle).unwrap()).collect()
    }

    /// Connects to each replica as an API server would that asks now.
    ///
    /// # Panics
    ///
    /// If it would not trust what it is shown.
    async fn sample(&self) -> Sample {
        let mut trusted: Option<BTreeSet<Vec<u8>>> = None;
        let mut shown = Vec::new();
        for bundle in self.bundles().await {
            for replica in &self.replicas {
                let asking = client::Client::new(replica.address, &bundle, "localhost");
                let stream = asking.tls(Protocol::Http1).await.unwrap_or_else(|error| panic!("{error}: {bundle}"));
                shown.push(serial(&stream.get_ref().1.peer_certificates().unwrap()[0]));
            }
            let here = authorities(&bundle);
            trusted =
                Some(trusted.map_or_else(|| here.clone(), |others| others.intersection(&here).cloned().collect()));
        }
        Sample { trusted: trusted.unwrap(), shown }
    }

    /// Samples until the end.
    async fn watch(&self, end: CancellationToken) {
        while !end.is_cancelled() {
            let sample = self.sample().await;
            self.samples.lock().unwrap().push(sample);
        }
    }

    fn last(&self) -> Option<Sample> {
        self.samples.lock().unwrap().last().cloned()
    }

    /// Waits until both have looked many times, and it has been sampled since.
    async fn until_looked_at(&self) {
        let count = || self.replicas.each_ref().map(|replica| replica.looks.load(Ordering::Relaxed));
        let (looks, samples) = (count(), self.samples.lock().unwrap().len());
        until("many looks at the certificate", async || {
            let is_looked_at = count().iter().zip(&looks).all(|(now, before)| *now >= before + MANY);
            (is_looked_at && self.samples.lock().unwrap().len() > samples + MANY).then_some(())
        })
        .await;
    }
}

fn names() -> Vec<String> {
    vec!["localhost".to_owned(), "portcullis.default.svc".to_owned()]
}

fn authorities(bundle: &str) -> BTreeSet<Vec<u8>> {
    CertificateDer::pem_slice_iter(bundle.as_bytes()).map(|certificate| serial(&certificate.unwrap())).collect()
}

/// The only certificate in a PEM, by its serial number.
fn only(pem: &str) -> Vec<u8> {
    let all = authorities(pem);
    assert_eq!(all.len(), 1, "{pem}");
    all.into_iter().next().unwrap()
}

/// Webhooks that nobody calls.
fn webhooks(kind: &str) -> Value {
    let webhook = |name: &str| {
        json!({
            "name": format!("{name}.portcullis.dev"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": NAMESPACE, "name": "portcullis"}},
            "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["none"], "operations": ["CREATE"]}],
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "portcullis"},
        "webhooks": [webhook("policies"), webhook("namespaces")],
    })
}

/// A CA that is due to be replaced, in a Secret, with a serving certificate that is not.
fn old() -> (Pem, Pem, Value) {
    let now = SystemTime::now();
    let ca = pki::new_ca_for("portcullis CA", Validity { now: now - 1300 * DAY, lifetime: 1826 * DAY }).unwrap();
    let leaf = pki::new_leaf_for(&ca, &names(), Validity { now: now - DAY, lifetime: 90 * DAY }).unwrap();
    let data = json!({
        "ca.crt": ca.certificate, "ca.key": ca.key, "tls.crt": leaf.certificate, "tls.key": leaf.key,
    });
    let labels = json!({"app.kubernetes.io/name": "portcullis"});
    let metadata = json!({"name": SECRET, "namespace": NAMESPACE, "labels": labels});
    (ca, leaf, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
}

#[tokio::test(flavor = "multi_thread")]
async fn at_no_moment_of_a_rotation_is_a_certificate_shown_that_webhooks_do_not_trust() {
    let Some(plane) = ControlPlane::start() else { return };
    let (ca, leaf, secret) = old();
    for object in [&secret, &webhooks("ValidatingWebhookConfiguration"), &webhooks("MutatingWebhookConfiguration")] {
        assert!(plane.apply(&object.to_string(), &[]).ok);
    }
    let client = Cluster::connect(Some(plane.kubeconfig()), None).await.unwrap().unwrap().client;
    let replicas = [Replica::start().await, Replica::start().await];
    let rotation = Arc::new(Rotation { client: client.clone(), replicas, samples: Mutex::default() });
    let keep = |notice: Duration, end: &CancellationToken| {
        rotation.replicas.each_ref().map(|replica| replica.keep(client.clone(), notice, end))
    };
    let (first, second, sampled) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());

    // The next CA is trusted by everybody, beside the old one, and as long as not every API server may have noticed that, it
    // signs nothing.
    let keeping = keep(DAY, &first);
    until("both look after it", async || {
        rotation.replicas.iter().all(|replica| replica.looks.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    let watching = {
        let (rotation, sampled) = (Arc::clone(&rotation), sampled.clone());
        tokio::spawn(async move { rotation.watch(sampled).await })
    };
    let (old_ca, old_leaf) = (only(&ca.certificate), only(&leaf.certificate));
    until("both CAs are trusted", async || (rotation.last()?.trusted.len() == 2).then_some(())).await;
    let both = rotation.last().unwrap().trusted;
    assert!(both.contains(&old_ca));
    rotation.until_looked_at().await;
    let sample = rotation.last().unwrap();
    assert_eq!(sample.trusted, both);
    assert!(sample.shown.iter().all(|shown| *shown == old_leaf), "{sample:?}");
    first.cancel();
    for kept in keeping {
        kept.await.unwrap();
    }

    // Then it does, and both replicas show the same.
    let keeping = keep(5 * EVERY, &second);
    until("both show a new certificate", async || {
        assert!(!watching.is_finished(), "a certificate was shown that is not trusted");
        let shown = rotation.last()?.shown;
        (shown[0] != old_leaf && shown.iter().all(|other| *other == shown[0])).then_some(())
    })
    .await;
    rotation.until_looked_at().await;
    sampled.cancel();
    watching.await.expect("what is shown is trusted at every moment");
    second.cancel();
    for kept in keeping {
        kept.await.unwrap();
    }

    let samples = rotation.samples.lock().unwrap().clone();
    let announced = samples.iter().position(|sample| sample.trusted == both).unwrap();
    assert!(
        samples[announced..].iter().all(|sample| sample.trusted == both),
        "the old CA stays as long as it may be shown"
    );
    let shown: BTreeSet<Vec<u8>> = samples.iter().flat_map(|sample| sample.shown.clone()).collect();
    assert_eq!(shown.len(), 2, "one old certificate and one new one, on both replicas");
    let stored = plane.stored(&["secret", SECRET, "--output=json"]).unwrap();
    let stored = |key: &str| -> String {
        let ByteString(bytes) = serde_json::from_value(stored["data"][key].clone()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let (ca, leaf) = (stored("ca.crt"), stored("tls.crt"));
    assert_eq!(rotation.last().unwrap().shown[0], only(&leaf));
    assert!(only(&ca) != old_ca && both.contains(&only(&ca)));
    pki::signs(&ca, &leaf).unwrap();
}
