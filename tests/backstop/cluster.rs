//! A cluster with Portcullis and the backstop, and what they answer to many requests.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::generate;
use crate::support::client::{Answer, Client, Protocol};
use crate::support::command::run;
use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::{Installation, NAMESPACE};
use crate::support::process::Process;

/// The configuration: that of the corpus, with an override by a label.
pub(crate) const CONFIG: &str = "labelDomain: network-policy.homelab\n\
    platformNamespaces: [kube-system, monitoring, database, istio-system, istio-gateway]\n\
    overrides: [{namespaces: {matchLabels: {team: web}}, rules: {any-port: warn, host-network: warn}}]\n";

/// Other settings of the rules that the backstop compiles.
pub(crate) const OTHER_SETTINGS: &str = "labelDomain: network-policy.homelab\n\
    platformNamespaces: [kube-system, 'mon*']\n\
    excludedNamespaces: ['ope*']\n\
    lookups: {onFailure: allow}\n\
    rules:\n  \
      any-port: {settings: {sameNamespace: true, nodeIngress: false, most: 65535}}\n  \
      host-network: {settings: {profiles: [isolated], policies: false, exemptServiceAccounts: [a/robot]}}\n\
    overrides:\n\
    - {namespaces: {names: [b]}, rules: {any-port: {settings: {sameNamespace: false, most: 1000}}}}\n\
    - {namespaces: {platform: false, matchExpressions: [{key: team, operator: NotIn, values: [db]}]}, rules: {invalid-profile: warn}}\n";

/// Connections at a time.
const CONNECTIONS: usize = 8;

/// How often a request is sent if the webhook does not answer in time, on a machine that does other work too.
const ATTEMPTS: usize = 5;

/// How long the API server may take to notice a policy or a binding.
const NOTICE: Duration = Duration::from_secs(20);

/// The counter of evaluated policies.
const CHECKS: &str = "apiserver_validating_admission_policy_check_total{";

/// The kinds that are served, with their plurals. `true`: namespaced.
const KINDS: [(&str, &str, &str, bool); 26] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Pod", "pods", true),
    ("v1", "PodTemplate", "podtemplates", true),
    ("v1", "ReplicationController", "replicationcontrollers", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    ("batch/v1", "Job", "jobs", true),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true),
    ("cilium.io/v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", true),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", false),
    ("projectcalico.org/v3", "NetworkPolicy", "networkpolicies", true),
    ("projectcalico.org/v3", "GlobalNetworkPolicy", "globalnetworkpolicies", false),
    ("crd.projectcalico.org/v1", "NetworkPolicy", "networkpolicies", true),
    ("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "globalnetworkpolicies", false),
    ("projectcalico.org/v3", "StagedNetworkPolicy", "stagednetworkpolicies", true),
    ("projectcalico.org/v3", "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", false),
    ("projectcalico.org/v3", "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", true),
    ("crd.projectcalico.org/v1", "StagedNetworkPolicy", "stagednetworkpolicies", true),
    ("crd.projectcalico.org/v1", "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", false),
    ("crd.projectcalico.org/v1", "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", true),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies", false),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies", false),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies", false),
];

/// The path of a kind of objects, in a namespace if it is namespaced.
fn path(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let known = KINDS.iter().find(|known| (known.0, known.1) == (version, kind));
    let (_, _, plural, namespaced) = known.unwrap_or_else(|| panic!("{version} {kind} is not served"));
    let prefix = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    if *namespaced {
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        format!("{prefix}/namespaces/{namespace}/{plural}")
    } else {
        format!("{prefix}/{plural}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

/// A request of a user for a dry run.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) user: &'static str,
    pub(crate) action: Action,
    pub(crate) object: Value,
}

impl Request {
    pub(crate) fn create(user: &'static str, object: Value) -> Self {
        Self { user, action: Action::Create, object }
    }
}

/// The decisions about a request.
#[derive(Debug)]
pub(crate) struct Verdict {
    status: u16,
    /// The webhook that denied it.
    pub(crate) webhook: Option<String>,
    /// The policies of the backstop that warned.
    pub(crate) backstop: Vec<String>,
    /// The message of the answer.
    pub(crate) message: String,
}

impl Verdict {
    fn of(answer: &Answer) -> Self {
        let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let message = body["message"].as_str().unwrap_or_default().to_owned();
        let quoted =
            |text: &str, before: &str, quote: char| Some(text.split_once(before)?.1.split(quote).next()?.to_owned());
        let webhook = quoted(&message, "admission webhook \"", '"').filter(|_| message.contains("denied the request"));
        let warned = |warning: String| quoted(&warning, "ValidatingAdmissionPolicy '", '\'');
        let backstop = answer.headers("warning").into_iter().filter_map(warned).collect();
        Self { status: answer.status, webhook, backstop, message }
    }

    /// Whether the webhook denied whatever the backstop would deny.
    pub(crate) fn is_sound(&self) -> bool {
        self.backstop.is_empty() || self.webhook.is_some()
    }

    pub(crate) fn denied_by_backstop(&self) -> bool {
        self.status == 403 && self.message.contains("ValidatingAdmissionPolicy 'portcullis-")
    }

    /// Whether the API server rejected the request for another reason.
    pub(crate) fn is_rejected(&self) -> bool {
        !(200..300).contains(&self.status) && self.webhook.is_none() && !self.denied_by_backstop()
    }
}

/// The cluster.
pub(crate) struct Cluster {
    installation: Installation,
}

impl Cluster {
    /// Starts it with what is stored before Portcullis is there, where the binaries are there.
    pub(crate) fn start() -> Option<Self> {
        let plane = ControlPlane::start()?;
        serve(&plane);
        let objects = generate::namespaces();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        accepted(&plane.run_create(&list.to_string()));
        let groups = [
            "",
            "apps",
            "batch",
            "networking.k8s.io",
            "cilium.io",
            "projectcalico.org",
            "crd.projectcalico.org",
            "policy.networking.k8s.io",
        ];
        let editors = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "developer"},
             "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "developers"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "developer"},
             "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "developers"}]},
        ]});
        accepted(&plane.apply(&editors.to_string(), &[]));
        let installation = Installation::new(plane, 1, CONFIG);
        installation.until("the baseline of namespace a", |cluster| !cluster.policies("a").is_empty());
        Some(Self { installation })
    }

    /// Applies the backstop with this action of its bindings, and waits until it has an effect.
    pub(crate) fn apply_backstop(&self, action: &str) {
        let printed = run(&["backstop", "--config", self.installation.config.to_str().unwrap()], "");
        assert_eq!(printed.code, 0, "{}", printed.err);
        let text = printed.out.replace(r#""Deny""#, &format!("{action:?}"));
        accepted(&self.plane().apply(&text, &[]));
        self.until("the backstop is in force", |answer| match action {
            "Warn" => !Verdict::of(answer).backstop.is_empty(),
            _ => Verdict::of(answer).denied_by_backstop(),
        });
    }

    /// The documented way out.
    pub(crate) fn delete_bindings(&self) {
        let selector = "--selector=app.kubernetes.io/component=backstop";
        accepted(&self.plane().kubectl(&["delete", "validatingadmissionpolicybinding", selector]));
    }

    pub(crate) fn until_allowed(&self) {
        self.until("the backstop is gone", |answer| answer.status == 201);
    }

    /// Asks for objects that the first and the last policy of the backstop deny, until both answers are as expected.
    fn until(&self, what: &str, holds: impl Fn(&Answer) -> bool) {
        let requests = generate::probes().map(|object| Request::create("ada", object));
        let deadline = Instant::now() + NOTICE;
        loop {
            let answers = self.send(requests.to_vec());
            if answers.iter().all(&holds) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not after {} s: {}", NOTICE.as_secs(), answers[0]);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes the configuration of replicas that start from now on, and of the backstop.
    pub(crate) fn write_configuration(&self, rest: &str) {
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        fs::write(&self.installation.config, format!("{head}{rest}")).unwrap();
    }

    /// Replaces the replica by one with another configuration, and the backstop by that of the configuration.
    pub(crate) fn configure(&mut self, rest: &str) {
        self.delete_bindings();
        self.installation.stop_replicas();
        self.write_configuration(rest);
        self.installation.start_replica();
        self.until("only the webhook answers", |answer| {
            let verdict = Verdict::of(answer);
            verdict.webhook.is_some() && verdict.backstop.is_empty()
        });
        self.apply_backstop("Warn");
    }

    pub(crate) fn stop_replicas(&mut self) {
        self.installation.stop_replicas();
    }

    /// Changes the webhooks to `failurePolicy: Ignore`, as users may who apply the configurations themselves.
    pub(crate) fn ignore_failures(&self) {
        for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
            let mut stored = self.plane().stored(&[kind, "portcullis"]).unwrap();
            for webhook in stored["webhooks"].as_array_mut().unwrap() {
                webhook["failurePolicy"] = json!("Ignore");
            }
            accepted(&self.plane().admin().run_with_input(&["replace", "--filename=-"], &stored.to_string()));
        }
    }

    /// Stores objects while the webhooks are paused. Returns what is stored then, with the policies of the controller.
    pub(crate) fn store_unchecked(&self) -> Vec<Value> {
        let pause = "portcullis.dev/webhooks-paused";
        let annotate = |value: &str| {
            let annotation = format!("{pause}{value}");
            accepted(&self.plane().kubectl(&["annotate", "namespace", NAMESPACE, &annotation]));
        };
        annotate("=a test");
        let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
        accepted(&self.plane().kubectl(&["delete", kinds, "portcullis"]));
        self.until("the webhooks are gone", |answer| answer.status == 201);
        let mut stored = generate::unchecked();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": stored});
        accepted(&self.plane().run_create(&list.to_string()));
        annotate("-");
        self.installation.until_asked();
        stored.extend(self.installation.policies("a"));
        for object in &mut stored {
            let kind = match object["apiVersion"].as_str().unwrap().split_once('/') {
                None => object["kind"].as_str().unwrap().to_lowercase(),
                Some((group, version)) => format!("{}.{version}.{group}", object["kind"].as_str().unwrap()),
            };
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let mut arguments = vec![kind, name];
            if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                arguments.push(format!("--namespace={namespace}"));
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            *object = self.plane().stored(&arguments).expect("it is stored");
        }
        stored
    }

    /// Sends all requests as dry runs. The verdicts are in the order of the requests.
    pub(crate) fn ask(&self, requests: Vec<Request>) -> Vec<Verdict> {
        self.send(requests).iter().map(Verdict::of).collect()
    }

    fn send(&self, requests: Vec<Request>) -> Vec<Answer> {
        let clients = [("ada", "developers"), ("admin", "system:masters")]
            .map(|(user, group)| (user, self.plane().client(user, group)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (requests, clients) = (Arc::new(requests), Arc::new(clients));
        let next = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..CONNECTIONS.min(requests.len()))
            .map(|_| runtime.spawn(worker(Arc::clone(&requests), Arc::clone(&clients), Arc::clone(&next))))
            .collect();
        let mut answers: Vec<(usize, Answer)> =
            tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Checks that the controller which checks the types of expressions warns about none. Kinds of plugins have no schema here.
    pub(crate) fn no_expression_has_type_warnings(&self) {
        let Some(program) = controller_manager() else {
            // Not `eprintln!`, which the harness captures.
            let _ = writeln!(io::stderr(), "SKIPPED, without a kube-controller-manager: the types of expressions");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--kubeconfig={}", self.plane().kubeconfig().display()))
            .args(["--controllers=validatingadmissionpolicy-status-controller", "--leader-elect=false"])
            .args(["--secure-port=0", "--cert-dir"])
            .arg(dir.path());
        let _controller = Process::start(&mut command, &dir.path().join("log"));
        let policies = || {
            let list = self.plane().kubectl(&["get", "validatingadmissionpolicies", "--output=json"]);
            accepted(&list);
            serde_json::from_str::<Value>(&list.stdout).unwrap()["items"].as_array().unwrap().clone()
        };
        let is_checked = |policy: &Value| policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        self.installation.until("the types are checked", |_| policies().iter().all(is_checked));
        for policy in policies() {
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            assert!(warnings.is_null(), "{}: {warnings:#}", policy["metadata"]["name"]);
        }
    }

    /// Checks that the API server evaluated all expressions without an error. It counts an allowed request only if an
    /// expression failed.
    pub(crate) fn no_expression_failed(&self) {
        let metrics = self.plane().kubectl(&["get", "--raw", "/metrics"]);
        accepted(&metrics);
        let checks = metrics.stdout.lines().filter(|line| line.starts_with(CHECKS));
        let (failed, counted): (Vec<&str>, Vec<&str>) =
            checks.partition(|line| line.contains(r#"enforcement_action="allow""#));
        assert!(!counted.is_empty(), "the API server counts warnings");
        assert!(failed.is_empty(), "{failed:#?}");
    }

    fn plane(&self) -> &ControlPlane {
        &self.installation.plane
    }
}

/// Sends the requests that are left on connections of its own.
async fn worker(
    requests: Arc<Vec<Request>>,
    clients: Arc<[(&'static str, Client); 2]>,
    next: Arc<AtomicUsize>,
) -> Vec<(usize, Answer)> {
    let mut connections = Vec::new();
    for (user, client) in clients.iter() {
        connections.push((*user, client.connect(Protocol::Http1).await));
    }
    let mut answers = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(Request { user, action, object }) = requests.get(number) else { return answers };
        let (_, connection) = connections.iter_mut().find(|(known, _)| known == user).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let (method, path) = match action {
            Action::Create => (Method::POST, path(object)),
            Action::Update => (Method::PUT, format!("{}/{name}", path(object))),
            Action::Delete => (Method::DELETE, format!("{}/{name}", path(object))),
        };
        let body = if *action == Action::Delete { String::new() } else { object.to_string() };
        let path = format!("{path}?dryRun=All");
        let mut attempts = ATTEMPTS;
        let answer = loop {
            let answer = connection.request(method.clone(), &path, body.clone()).await.expect("an answer");
            attempts -= 1;
            if attempts == 0 || !answer.text.contains("failed calling webhook") {
                break answer;
            }
        };
        answers.push((number, answer));
    }
}

/// The program beside the API server, if it is installed.
fn controller_manager() -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").unwrap_or_else(|| "/usr/local/kubebuilder/bin".into());
    Some(PathBuf::from(assets).join("kube-controller-manager")).filter(|program| program.is_file())
}

/// Has the API server serve the kinds of all dialects, without schemas.
fn serve(plane: &ControlPlane) {
    let crds = KINDS
        .iter()
        .filter(|(version, ..)| version.contains(".io/v") || version.contains(".org/"))
        .filter(|(version, ..)| !version.starts_with("networking.k8s.io"));
    let crds: Vec<Value> = crds
        .map(|(version, kind, plural, namespaced)| {
            let (group, version) = version.split_once('/').unwrap();
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved"}},
                "spec": {
                    "group": group, "scope": if *namespaced { "Namespaced" } else { "Cluster" },
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema":
                        {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
                },
            })
        })
        .collect();
    accepted(&plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": crds}).to_string(), &[]));
    accepted(&plane.kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"]));
}

#[track_caller]
pub(crate) fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}
