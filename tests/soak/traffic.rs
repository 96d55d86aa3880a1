//! Clients of the replicas and of the API server, and what became of each of their requests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::shapes::SHAPES;
use crate::support::client::{Answer, Client, Connection, Fault, Protocol};
use crate::support::control_plane::ControlPlane;
use crate::support::load::{Latencies, Outcomes, outcome};
use crate::support::reviews::create;

/// The kinds that are sent to the replicas directly. The API server does not serve them, so that it never asks about them.
pub(crate) const DIRECT_KINDS: [&str; 2] = ["CiliumNetworkPolicy", "ClusterNetworkPolicy"];
/// Sizes of hostile bodies, in bytes.
const SIZES: [usize; 2] = if cfg!(debug_assertions) { [20_000, 60_000] } else { [160_000, 1_000_000] };
/// Pause between two requests of the same client.
const PAUSE: Duration = Duration::from_millis(20);
/// The same, of a hostile client.
const HOSTILE_PAUSE: Duration = Duration::from_millis(200);

/// One process of a replica, from its start to its end, and what clients sent it directly.
pub(crate) struct Life {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) answered: Mutex<Outcomes>,
    pub(crate) in_flight: AtomicU64,
}

/// The state that all clients share.
#[derive(Default)]
pub(crate) struct Traffic {
    /// The processes that run, by replica.
    pub(crate) lives: Mutex<Vec<Arc<Life>>>,
    /// True while a replica or the API server is away, so that a request may be lost.
    pub(crate) is_disturbed: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// Latencies of the well-behaved clients since the last sample: of the replicas, and of the API server.
    pub(crate) took: Mutex<[Latencies; 2]>,
    /// Connections whose certificate was not trusted.
    pub(crate) distrusted: AtomicU64,
    /// Outcomes of requests to the API server: of the well-behaved client, and of the hostile one.
    pub(crate) asked: Mutex<[Outcomes; 2]>,
}

impl Traffic {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn life(&self, turn: usize) -> Option<Arc<Life>> {
        let lives = self.lives.lock().unwrap();
        (!lives.is_empty()).then(|| Arc::clone(&lives[turn % lives.len()]))
    }
}

/// An ordinary policy of a kind that only the replicas read.
pub(crate) fn ordinary_cilium() -> Value {
    let from = json!({"fromEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}]});
    let spec = json!({"endpointSelector": {"matchLabels": {"app": "db"}}, "ingress": [from]});
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "db", "namespace": "shop"}, "spec": spec})
}

/// Reviews of the shapes that the replicas alone are sent, as one user sends them.
pub(crate) fn hostile_bodies(user: &str) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for shape in SHAPES.iter().filter(|shape| DIRECT_KINDS.contains(&shape.kind)) {
        let each = shape.review(1_000, None, user).len() / 1_000;
        for length in SIZES.map(|size| size / each) {
            bodies.push(shape.review(length, Some(length - 1), user));
        }
    }
    bodies
}

/// Sends bodies to the replicas in turn until the end.
pub(crate) async fn send_directly(traffic: Arc<Traffic>, bodies: Arc<Vec<Vec<u8>>>, is_hostile: bool) {
    let mut open: Vec<(Arc<Life>, Connection)> = Vec::new();
    for turn in 0.. {
        if traffic.is_stopped() {
            return;
        }
        tokio::time::sleep(if is_hostile { HOSTILE_PAUSE } else { PAUSE }).await;
        let Some(life) = traffic.life(turn) else { continue };
        open.retain(|(_, connection)| !connection.is_closed());
        let at = open.iter().position(|(other, _)| Arc::ptr_eq(other, &life));
        let (_, mut connection) = match at.map(|at| open.swap_remove(at)) {
            Some(known) => known,
            None => match life.client.try_connect(Protocol::Http1).await {
                Ok(connection) => (Arc::clone(&life), connection),
                Err(error) => {
                    if error.kind() == std::io::ErrorKind::InvalidData {
                        traffic.distrusted.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
            },
        };
        let body = bodies[turn / 2 % bodies.len()].clone();
        life.in_flight.fetch_add(1, Ordering::SeqCst);
        let start = Instant::now();
        let answer = connection.post("/validate?timeout=10s", body).await;
        let took = start.elapsed();
        life.answered.lock().unwrap().add(&outcome(&answer));
        life.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !is_hostile {
            traffic.took.lock().unwrap()[0].push(took);
        }
        open.push((life, connection));
    }
}

/// The body of an ordinary review that is sent directly.
pub(crate) fn good_bodies() -> Vec<Vec<u8>> {
    vec![create(&ordinary_cilium()).to_string().into_bytes()]
}

/// A NetworkPolicy of a namespace, with these egress rules after one to the cluster's DNS.
fn network_policy(name: &str, namespace: &str, rules: &[Value]) -> Value {
    let dns = json!({
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    let egress = [&[dns], rules].concat();
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": egress}})
}

/// Creates policies through the API server until the end: ordinary ones, in a dry run and stored in turn, or hostile ones.
pub(crate) async fn ask(traffic: Arc<Traffic>, client: Client, is_hostile: bool) {
    let rule = |port: usize| json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"protocol": "TCP", "port": port}]});
    let path = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
    let hostile: Vec<Vec<u8>> = [300, 1_200]
        .iter()
        .map(|count| {
            let rules: Vec<Value> = (0..*count).map(|port| rule(port + 1)).collect();
            network_policy("large", "shop", &rules).to_string().into_bytes()
        })
        .collect();
    let mut open: Option<Connection> = None;
    for turn in 0_usize.. {
        if traffic.is_stopped() {
            return;
        }
        tokio::time::sleep(if is_hostile { HOSTILE_PAUSE } else { PAUSE }).await;
        let was_disturbed = traffic.is_disturbed.load(Ordering::SeqCst);
        let mut connection = match open.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => match client.try_connect(Protocol::Http2).await {
                Ok(connection) => connection,
                Err(_) => continue,
            },
        };
        let (method, path, body) = match (is_hostile, turn % 4) {
            (true, _) => (Method::POST, format!("{path}?dryRun=All"), hostile[turn % hostile.len()].clone()),
            (false, 0) => {
                let policy = network_policy("web", "shop", &[rule(1 + turn % 60_000)]);
                (Method::PUT, format!("{path}/web"), policy.to_string().into_bytes())
            }
            (false, _) => {
                let policy = network_policy("other", "shop", &[rule(1 + turn % 60_000)]);
                (Method::POST, format!("{path}?dryRun=All"), policy.to_string().into_bytes())
            }
        };
        let start = Instant::now();
        let answer = connection.request(method, &path, body).await;
        let took = start.elapsed();
        let is_disturbed = was_disturbed || traffic.is_disturbed.load(Ordering::SeqCst);
        let outcome = describe(&answer);
        let outcome = match outcome {
            "allowed" | "denied" => outcome.to_owned(),
            _ if is_disturbed => format!("{outcome} while a process was away"),
            _ => {
                println!("{outcome}: {answer:?}");
                outcome.to_owned()
            }
        };
        traffic.asked.lock().unwrap()[usize::from(is_hostile)].add(&outcome);
        if !is_hostile && !is_disturbed {
            traffic.took.lock().unwrap()[1].push(took);
        }
        open = Some(connection);
    }
}

fn describe(answer: &Result<Answer, Fault>) -> &'static str {
    match answer {
        Ok(answer) if answer.status < 300 => "allowed",
        Ok(answer) if answer.text.contains("denied the request") => "denied",
        Ok(answer) if answer.text.contains("failed calling webhook") => "webhook failed",
        Ok(_) => "rejected by the API server",
        Err(_) => "lost",
    }
}

/// A namespace, and a policy in it that the well-behaved client changes.
pub(crate) fn prepare(plane: &ControlPlane) {
    for manifest in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        network_policy("web", "shop", &[]),
    ] {
        let output = plane.run_create(&manifest.to_string());
        assert!(output.ok, "{output}");
    }
}
