//! What becomes of a request for which the cluster has to be asked.
//!
//! Who is asked is a stand-in, since no API server can be made to fail in just these ways; the server around it is the real
//! one, over TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use crate::support::client::{Answer, Client, Protocol};
use crate::support::reviews::{
    backend_policy, create, egress, from_on_any_port, ingress, namespace, pod_on_the_node, to_database, to_dns, update,
};
use crate::support::server::until;
use crate::support::verdict::has_finding;
use arc_swap::ArcSwap;
use portcullis::admission::Knowledge;
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::model::Object;
use portcullis::pki;
use portcullis::server::{Certificates, Limits, Readiness, Server, Shared, Stop};
use portcullis::telemetry::Metrics;
use portcullis::view::{Facts, Lookup, Need, View};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What the stand-in for a cluster answers.
#[derive(Clone, Copy, Debug)]
enum Answers {
    /// There is such a namespace, with an isolating profile, and everybody may do everything.
    Yes,
    /// There is none, and nobody may.
    No,
    /// An error.
    Fails,
    /// Nothing, ever.
    Hangs,
}

#[derive(Debug)]
struct StandIn {
    answers: Answers,
    asked: Mutex<Vec<Need>>,
    /// The objects that the cluster stores and no watch has reported yet.
    stored: Mutex<Vec<Object>>,
}

impl Lookup for StandIn {
    fn look_up<'a>(&'a self, needs: Vec<Need>, facts: &'a mut Facts) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for need in needs {
                self.asked.lock().unwrap().push(need.clone());
                match (self.answers, need) {
                    (Answers::Hangs, _) => std::future::pending().await,
                    (Answers::Fails, need) => facts.fail(need, "the API server is on fire"),
                    (Answers::Yes, Need::Namespace(name)) => {
                        let profile = json!({"network-policy.portcullis.dev/profile": "isolated"});
                        let object = json!({"metadata": {"name": name, "labels": profile}});
                        facts.namespaces.insert(name, Ok(Some(read("v1", "Namespace", &object))));
                    }
                    (Answers::No, Need::Namespace(name)) => drop(facts.namespaces.insert(name, Ok(None))),
                    (Answers::Yes, Need::List { resource, namespace, .. }) => {
                        facts.lists.insert((resource, namespace), Ok(true));
                    }
                    (Answers::No, Need::List { resource, namespace, .. }) => {
                        facts.lists.insert((resource, namespace), Ok(false));
                    }
                    (_, Need::Stored(_)) => facts.stored = Some(Ok(self.stored.lock().unwrap().clone())),
                    (Answers::Yes, Need::Bypass { rule, .. }) => drop(facts.bypasses.insert(rule, Ok(true))),
                    (Answers::No, Need::Bypass { rule, .. }) => drop(facts.bypasses.insert(rule, Ok(false))),
                }
            }
        })
    }
}

fn read(api_version: &str, kind: &str, object: &Value) -> Object {
    let json = object.to_string();
    let manifest = Manifest::read(api_version, kind, &json, Origin::Server { namespace: None }).unwrap();
    dialect::read(&manifest).unwrap().unwrap()
}

/// A server that watches a cluster, which is the stand-in.
struct Watching {
    shared: Arc<Shared>,
    stand_in: Arc<StandIn>,
    client: Client,
    _stop: oneshot::Sender<()>,
}

impl Watching {
    async fn start(answers: Answers, configuration: &str) -> Self {
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        let configuration = Configuration::read(&format!("{head}{configuration}")).unwrap();
        let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
        let stand_in = Arc::new(StandIn { answers, asked: Mutex::default(), stored: Mutex::default() });
        let shared = Arc::new(Shared {
            knowledge: ArcSwap::from_pointee(Knowledge::new(configuration, View::of_cluster(), policies)),
            lookup: Some(stand_in.clone()),
            readiness: Readiness::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
        });
        let ca = pki::new_ca("test CA").unwrap();
        let leaf = pki::new_leaf(&ca, &["localhost".into()]).unwrap();
        let certificates = Arc::new(Certificates::from_pem(&leaf, &shared).unwrap());
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(Arc::clone(&shared), certificates, anywhere, anywhere).await.unwrap();
        let (address, _) = server.addresses().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(async move {
            let _ = stopped.await;
            Stop::Soon
        }));
        Self { shared, stand_in, client: Client::new(address, &ca.certificate, "localhost"), _stop: stop }
    }

    async fn validate(&self, review: &Value) -> Answer {
        self.client.post("/validate?timeout=2s", review.to_string()).await
    }

    fn asked(&self) -> usize {
        self.stand_in.asked.lock().unwrap().len()
    }

    /// Puts an object into the view.
    fn insert(&self, object: &Object) {
        self.shared.knowledge.rcu(|knowledge| {
            let mut view = View::clone(&knowledge.view);
            view.insert(object.clone());
            Knowledge { view: Arc::new(view), ..Knowledge::clone(knowledge) }
        });
    }
}

fn message(answer: &Answer) -> String {
    answer.response()["status"]["message"].as_str().unwrap_or_default().to_owned()
}

fn denied(answer: &Answer, what: &str) {
    assert!(!answer.allowed() && message(answer).contains(what), "{answer}");
}

fn denied_by(answer: &Answer, rule: &str, path: &str) {
    assert!(!answer.allowed() && has_finding(&message(answer), rule, path), "{answer}");
}

/// A policy that is made exempt from a rule.
fn exempt() -> Value {
    let mut policy = backend_policy("any", &ingress(&[from_on_any_port("frontend")]));
    policy["metadata"]["annotations"] = json!({
        "network-policy.portcullis.dev/exempt": "any-port",
        "network-policy.portcullis.dev/reason": "a legacy application",
    });
    policy
}

fn known_namespace() -> Object {
    read("v1", "Namespace", &json!({"metadata": {"name": "shop"}}))
}

#[tokio::test]
async fn a_namespace_that_no_watch_has_told_of_is_looked_up() {
    let server = Watching::start(Answers::Yes, "").await;
    denied_by(&server.validate(&create(&pod_on_the_node())).await, "host-network", "spec.hostNetwork");
    assert_eq!(server.asked(), 1, "a denial is decided twice, and asks once");

    server.insert(&known_namespace());
    assert!(server.validate(&create(&pod_on_the_node())).await.allowed(), "the view says that it has no profile");
    assert_eq!(server.asked(), 1, "what is known is not asked");
}

#[tokio::test]
async fn a_failed_lookup_is_no_allowance_unless_the_configuration_says_so() {
    let pod = create(&pod_on_the_node());
    let server = Watching::start(Answers::Fails, "").await;
    denied(&server.validate(&pod).await, "the lookup of namespace shop failed: the API server is on fire");
    let server = Watching::start(Answers::No, "").await;
    denied(&server.validate(&pod).await, "namespace shop does not exist");
    let server = Watching::start(Answers::Hangs, "").await;
    denied(&server.validate(&pod).await, "the API server did not answer before the deadline of the request");
    for answers in [Answers::Fails, Answers::No, Answers::Hangs] {
        let server = Watching::start(answers, "lookups: {onFailure: allow}\n").await;
        assert!(server.validate(&pod).await.allowed(), "{answers:?}");
    }
}

#[tokio::test]
async fn a_request_whose_client_has_gone_is_counted_as_cancelled() {
    let server = Watching::start(Answers::Hangs, "").await;
    let pod = create(&pod_on_the_node()).to_string();
    for (position, protocol) in Protocol::ALL.into_iter().enumerate() {
        let mut connection = server.client.connect(protocol).await;
        let body = pod.clone();
        let request = tokio::spawn(async move { connection.post("/validate?timeout=30s", body).await });
        until("the cluster is asked", async || (server.asked() > position).then_some(())).await;
        request.abort();
        let counted = format!("portcullis_admission_refused_total{{reason=\"cancelled\"}} {}\n", position + 1);
        until("it is counted", async || server.shared.metrics.text().contains(&counted).then_some(())).await;
    }
}

#[tokio::test]
async fn nothing_is_let_in_before_the_cluster_is_known() {
    let server = Watching::start(Answers::Yes, "").await;
    server
        .shared
        .knowledge
        .rcu(|knowledge| Knowledge { unsynced: Some("Pod is being listed".into()), ..Knowledge::clone(knowledge) });
    let good = create(&backend_policy("good", &egress(&[to_dns()])));
    denied(&server.validate(&good).await, "the state of the cluster is not known yet: Pod is being listed");

    // Only the labels of Portcullis are judged. What others take away is told where it is known.
    let relabel = |before: Value, after: Value| update(&namespace("shop", &before), &namespace("shop", &after));
    let profile = "network-policy.portcullis.dev/profile";
    let standard = json!({profile: "standard"});
    let opened = server.validate(&relabel(standard.clone(), json!({"team": "web"}))).await;
    denied(&opened, "the state of the cluster is not known yet: Pod is being listed");
    let told = server.validate(&relabel(standard, json!({profile: "standard", "team": "web"}))).await;
    assert!(told.allowed() && told.response().get("warnings").is_none(), "{told}");
}

#[tokio::test]
async fn who_exempts_an_object_is_asked_about() {
    for (answers, refusal) in [
        (Answers::Yes, None),
        (Answers::No, Some("RBAC does not allow ada to bypass any-port")),
        (Answers::Fails, Some("the access review for ada to bypass any-port failed: the API server is on fire")),
        (Answers::Hangs, Some("the API server did not answer before the deadline of the request")),
    ] {
        let server = Watching::start(answers, "").await;
        server.insert(&known_namespace());
        let answer = server.validate(&create(&exempt())).await;
        match refusal {
            None => {
                assert!(answer.allowed(), "{answer}");
                let warning = answer.response()["warnings"][0].as_str().unwrap().to_owned();
                assert!(warning.contains(" (any-port, exempt, at spec.ingress[0]); "), "{warning}");
            }
            Some(why) => {
                denied_by(&answer, "any-port", "metadata.annotations[\"network-policy.portcullis.dev/exempt\"]");
                denied(&answer, why);
            }
        }
        let needs = server.stand_in.asked.lock().unwrap().clone();
        let Need::Bypass { rule, requester, namespace } = &needs[0] else { panic!("{needs:?}") };
        assert_eq!(namespace.as_deref(), Some("shop"), "a RoleBinding in the namespace of the object counts");
        assert_eq!((*rule, &*requester.username, &*requester.groups[0]), ("any-port", "ada", "system:authenticated"));
    }
}

/// The namespace with which a bypass is looked up for this review.
async fn looked_up_in(review: &Value) -> Option<Box<str>> {
    let server = Watching::start(Answers::No, "").await;
    server.insert(&known_namespace());
    let answer = server.validate(review).await;
    assert!(!answer.allowed(), "{answer}");
    let needs = server.stand_in.asked.lock().unwrap().clone();
    let mut bypasses = needs.into_iter().filter_map(|need| match need {
        Need::Bypass { namespace, .. } => Some(namespace),
        Need::Namespace(_) | Need::Stored(_) | Need::List { .. } => None,
    });
    bypasses.next().unwrap_or_else(|| panic!("no bypass was looked up: {answer}"))
}

#[tokio::test]
async fn a_bypass_is_looked_up_in_the_namespace_of_the_object() {
    assert_eq!(looked_up_in(&create(&exempt())).await.as_deref(), Some("shop"));
    // A hatch is opened on the namespace itself.
    let annotations = json!({
        "network-policy.portcullis.dev/reason": "INC-1",
        "network-policy.portcullis.dev/until": "2999-01-01T00:00:00Z",
    });
    let labels = json!({"network-policy.portcullis.dev/enforcement": "disabled"});
    let metadata = json!({"name": "market", "labels": labels, "annotations": annotations});
    let opened = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    assert_eq!(looked_up_in(&create(&opened)).await.as_deref(), Some("market"));
    // A cluster-scoped policy is in no namespace, so only a ClusterRoleBinding counts.
    let mut wide = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "wide"},
        "spec": {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "a"}}]}]},
    });
    wide["metadata"]["annotations"] = exempt()["metadata"]["annotations"].clone();
    let mut review = create(&wide);
    review["request"].as_object_mut().unwrap().remove("namespace");
    assert_eq!(looked_up_in(&review).await, None);
    review["request"]["namespace"] = json!("");
    assert_eq!(looked_up_in(&review).await, None);
}

#[tokio::test]
async fn ordinary_requests_ask_nothing() {
    let server = Watching::start(Answers::Hangs, "").await;
    server.insert(&known_namespace());
    assert!(server.validate(&create(&backend_policy("good", &egress(&[to_dns()])))).await.allowed());
    let refused = server.validate(&create(&backend_policy("any", &ingress(&[from_on_any_port("frontend")])))).await;
    denied_by(&refused, "any-port", "spec.ingress[0]");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn what_was_stored_just_before_still_counts() {
    let server = Watching::start(Answers::Yes, "").await;
    server.insert(&known_namespace());
    let dns = read("networking.k8s.io/v1", "NetworkPolicy", &{
        let mut dns = backend_policy("dns", &egress(&[to_dns()]));
        dns["metadata"]["namespace"] = json!("shop");
        dns
    });
    let web = create(&backend_policy("web", &egress(&[to_database()])));
    denied_by(&server.validate(&web).await, "dns-blocked", "spec.egress");
    assert_eq!(*server.stand_in.asked.lock().unwrap(), [Need::Stored(Some("shop".into()))]);
    // The API server has stored it, and no watch has reported it yet.
    server.stand_in.stored.lock().unwrap().push(dns);
    let answer = server.validate(&web).await;
    assert!(answer.allowed(), "{answer}");
    // A policy that opens every port does so whatever else is stored.
    let open = create(&backend_policy("any", &ingress(&[from_on_any_port("frontend")])));
    denied_by(&server.validate(&open).await, "any-port", "spec.ingress[0]");
    assert_eq!(server.asked(), 2);
}

/// A label of a pod in another namespace, which the policy misses by a letter.
#[tokio::test]
async fn labels_of_other_namespaces_are_told_to_those_who_may_list_pods() {
    let pod = |namespace: &str| {
        let labels = json!({"app": "postgres-payroll"});
        let json =
            json!({"metadata": {"name": "db", "namespace": namespace, "labels": labels}, "spec": {}}).to_string();
        let manifest = Manifest::read("v1", "Pod", &json, Origin::Server { namespace: Some(namespace) }).unwrap();
        dialect::read(&manifest).unwrap().unwrap()
    };
    let peer = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "payroll"}},
        "podSelector": {"matchLabels": {"app": "postgres-payrol"}},
    });
    let rule = json!({"to": [peer], "ports": [{"port": 5432, "protocol": "TCP"}]});
    let policy = create(&backend_policy("db", &egress(&[to_dns(), rule])));
    for (answers, is_told) in [(Answers::Yes, true), (Answers::No, false), (Answers::Fails, false)] {
        let server = Watching::start(answers, "").await;
        server.insert(&known_namespace());
        server.insert(&read("v1", "Namespace", &json!({"metadata": {"name": "payroll"}})));
        server.insert(&pod("payroll"));
        let answer = server.validate(&policy).await;
        assert!(answer.allowed() && answer.text.contains("dangling-selector"), "{answer}");
        assert_eq!(answer.text.contains("postgres-payroll"), is_told, "{answers:?}: {answer}");
        let needs = server.stand_in.asked.lock().unwrap().clone();
        let lists = |need: &Need| matches!(need, Need::List { resource: "pods", namespace: Some(name), .. } if &**name == "payroll");
        assert!(needs.iter().any(lists), "{needs:?}");
    }
}
