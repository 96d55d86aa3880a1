//! What becomes of Portcullis and of namespaces that Argo CD or Flux apply from Git again and again.
//!
//! The controllers do not run here. Their writes are made as they make them: with their field managers, by force, and for Flux
//! after a takeover of the fields that kubectl wrote. docs/operate/gitops.md states the results, and the manifests come from
//! its pages.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use portcullis::yaml;
use serde_json::{Map, Value, json};

use super::support::control_plane::{ControlPlane, Kubectl, Output};
use super::support::installation::{Installation, Replica};
use super::support::verdict::has_finding;
use super::{objects, rendered, skipped};

const DOMAIN: &str = "network-policy.portcullis.dev";
const PAGES: [&str; 3] = ["gitops", "argo-cd", "flux"];
const ROUNDS: usize = 10;
const WEBHOOKS: [&str; 2] = ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tool {
    /// Argo CD as it ships: a three-way patch with the last applied manifest in an annotation.
    ArgoCd,
    /// Argo CD with `ServerSideApply=true`.
    ArgoCdServerSide,
    /// The kustomize-controller of Flux.
    Flux,
}

const TOOLS: [Tool; 3] = [Tool::Flux, Tool::ArgoCd, Tool::ArgoCdServerSide];

/// A GitOps controller with the rights that its installation gives it.
struct GitOps {
    tool: Tool,
    kubectl: Kubectl,
}

impl GitOps {
    fn new(plane: &ControlPlane, tool: Tool) -> Self {
        let account = match tool {
            Tool::ArgoCd | Tool::ArgoCdServerSide => "system:serviceaccount:argocd:argocd-application-controller",
            Tool::Flux => "system:serviceaccount:flux-system:kustomize-controller",
        };
        let groups = ["system:serviceaccounts", "system:authenticated"];
        Self { tool, kubectl: plane.as_user(account, &groups) }
    }

    /// Applies what Git contains.
    fn apply(&self, manifests: &[Value]) -> Output {
        let tracked: Vec<Value> = manifests.iter().map(|manifest| self.tracked(manifest)).collect();
        let list = list(&tracked);
        let manager = match self.tool {
            Tool::ArgoCd => return self.kubectl.apply(&list, &["--field-manager=argocd-controller"]),
            Tool::ArgoCdServerSide => "--field-manager=argocd-controller",
            Tool::Flux => {
                self.stored(manifests).iter().for_each(|stored| self.take_over(stored));
                "--field-manager=kustomize-controller"
            }
        };
        self.kubectl.apply(&list, &["--server-side", "--force-conflicts", manager])
    }

    /// Adds the labels or the annotation by which the tool recognizes its objects.
    fn tracked(&self, manifest: &Value) -> Value {
        let mut tracked = manifest.clone();
        let metadata = &mut tracked["metadata"];
        if self.tool == Tool::Flux {
            metadata["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("platform");
            metadata["labels"]["kustomize.toolkit.fluxcd.io/namespace"] = json!("flux-system");
        } else {
            let id = format!("platform:{}:{}", kind(manifest), manifest["metadata"]["name"]);
            metadata["annotations"]["argocd.argoproj.io/tracking-id"] = json!(id);
        }
        tracked
    }

    /// Makes the fields that kubectl wrote fields of Flux, so that the next apply removes those that are not in Git.
    fn take_over(&self, stored: &Value) {
        let metadata = &stored["metadata"];
        let mut entries = metadata["managedFields"].as_array().unwrap().clone();
        let mut is_changed = false;
        for entry in &mut entries {
            let manager = entry["manager"].as_str().unwrap();
            let is_main = entry.get("subresource").is_none();
            if is_main && (manager.starts_with("kubectl") || manager == "before-first-apply") {
                entry["manager"] = json!("kustomize-controller");
                entry["operation"] = json!("Apply");
                is_changed = true;
            }
        }
        if is_changed {
            let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": entries}]).to_string();
            let namespace = format!("--namespace={}", metadata["namespace"].as_str().unwrap_or("default"));
            let (kind, name) = (kind(stored), metadata["name"].as_str().unwrap());
            let arguments = ["patch", &kind, name, &namespace, "--type=json", "--field-manager=kustomize-controller"];
            accepted(&self.kubectl.run(&[&arguments[..], &["--patch", &patch]].concat()));
        }
    }

    /// The stored objects of these manifests.
    fn stored(&self, manifests: &[Value]) -> Vec<Value> {
        let arguments = ["get", "--filename=-", "--output=json", "--ignore-not-found", "--show-managed-fields"];
        let got = self.kubectl.run_with_input(&arguments, &list(manifests));
        accepted(&got);
        if got.stdout.trim().is_empty() {
            return Vec::new();
        }
        let mut got: Value = serde_json::from_str(&got.stdout).unwrap();
        match got["items"].take() {
            Value::Array(items) => items,
            // kubectl prints an empty list without items.
            _ if got["kind"] == "List" => Vec::new(),
            _ => vec![got],
        }
    }

    /// Applies what Git contains.
    #[track_caller]
    fn sync(&self, manifests: &[Value]) {
        accepted(&self.apply(manifests));
    }

    fn versions(&self, manifests: &[Value]) -> BTreeMap<String, Value> {
        let each = |stored: &Value| {
            let metadata = &stored["metadata"];
            (format!("{} {}", kind(stored), metadata["name"]), metadata["resourceVersion"].clone())
        };
        self.stored(manifests).iter().map(each).collect()
    }

    /// Applies what Git contains several times. None of them may change an object.
    #[track_caller]
    fn sync_without_changes(&self, manifests: &[Value], holds: impl Fn()) {
        let before = self.versions(manifests);
        assert_eq!(before.len(), manifests.len(), "{before:?}");
        for round in 0..ROUNDS {
            self.sync(manifests);
            assert_eq!(self.versions(manifests), before, "{:?}, round {round}", self.tool);
            holds();
        }
    }

    /// A namespace name of its own.
    fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{:?}", self.tool).to_lowercase()
    }
}

/// The kind with its group, as kubectl takes it.
fn kind(manifest: &Value) -> String {
    let kind = manifest["kind"].as_str().unwrap();
    match manifest["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => format!("{kind}.{version}.{group}"),
        None => kind.to_owned(),
    }
}

fn list(manifests: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string()
}

#[track_caller]
fn accepted(output: &Output) {
    assert!(output.ok, "{output}");
}

/// The documents of the YAML blocks of a page.
fn blocks(page: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/operate/{page}.md"));
    let text = fs::read_to_string(file).unwrap();
    let fences = text.split("\n```yaml\n").skip(1).map(|rest| rest.split_once("\n```\n").unwrap().0);
    fences.flat_map(|block| yaml::read(block).unwrap()).map(|document| document.value).collect()
}

/// The manifest of a page with this kind and name.
fn block(page: &str, kind: &str, name: &str) -> Value {
    let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    blocks(page).into_iter().find(is_it).unwrap_or_else(|| panic!("{page}.md has no {kind} {name}"))
}

/// The namespace of a page, with another name.
fn namespace_of_page(block_name: &str, name: &str) -> Value {
    let mut namespace = block("gitops", "Namespace", block_name);
    namespace["metadata"]["name"] = json!(name);
    namespace
}

fn label(namespace: &Value, name: &str) -> Value {
    namespace["metadata"]["labels"][format!("{DOMAIN}/{name}")].clone()
}

fn is_applied(cluster: &Installation, name: &str) -> bool {
    label(&cluster.namespace(name), "baseline") == "applied"
}

#[track_caller]
fn until_applied(cluster: &Installation, name: &str) {
    cluster.until(&format!("the baseline of {name}"), |cluster| is_applied(cluster, name));
}

/// The policies of a namespace, with their versions.
fn policies(cluster: &Installation, name: &str) -> Vec<(Value, Value)> {
    let each = |policy: &Value| (policy["metadata"]["name"].clone(), policy["metadata"]["resourceVersion"].clone());
    cluster.policies(name).iter().map(each).collect()
}

fn has_hatch_policy(cluster: &Installation, name: &str) -> bool {
    cluster.names(name).iter().any(|policy| policy == "portcullis-hatch-allow-all")
}

/// Returns the sum of a series over all replicas.
fn metric(cluster: &Installation, series: &str) -> f64 {
    cluster.replicas.iter().filter_map(|replica| replica.metric(series)).sum()
}

fn start() -> Option<(Installation, Vec<GitOps>)> {
    let plane = ControlPlane::start()?;
    let cluster = Installation::new(plane, 2, "");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "gitops"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"kind": "ServiceAccount", "name": "argocd-application-controller", "namespace": "argocd"},
            {"kind": "ServiceAccount", "name": "kustomize-controller", "namespace": "flux-system"},
        ],
    });
    accepted(&cluster.plane.apply(&binding.to_string(), &[]));
    let tools = TOOLS.map(|tool| GitOps::new(&cluster.plane, tool)).into();
    Some((cluster, tools))
}

#[test]
fn namespaces_from_git_keep_their_baseline_and_hatch() {
    let Some((cluster, tools)) = start() else { return };
    for tool in &tools {
        labels_and_policies_stay(&cluster, tool);
        a_hatch_of_the_command_stays(&cluster, tool);
        a_hatch_of_kubectl_stays_except_under_flux(&cluster, tool);
        a_hatch_in_git_opens_and_closes_with_git(&cluster, tool);
        a_hatch_that_expired_in_git_fails_the_sync(&cluster, tool);
        nothing_that_portcullis_wrote_is_pruned(&cluster, tool);
    }
    assert_eq!(metric(&cluster, r#"portcullis_baseline_namespaces{state="contested"}"#), 0.0);
}

fn labels_and_policies_stay(cluster: &Installation, tool: &GitOps) {
    let (shop, plain) = (tool.name("shop"), tool.name("plain"));
    let without_labels = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plain}});
    let git = [namespace_of_page("shop", &shop), without_labels];
    tool.sync(&git);
    for name in [&shop, &plain] {
        until_applied(cluster, name);
    }
    // The first sync of Argo CD after a create may write its annotation.
    tool.sync(&git);
    let before = [&shop, &plain].map(|name| policies(cluster, name));
    assert!(before.iter().all(|policies| policies.len() == 5), "{before:?}");
    tool.sync_without_changes(&git, || {
        assert_eq!(label(&cluster.namespace(&shop), "profile"), "internal");
        assert_eq!(label(&cluster.namespace(&plain), "profile"), "standard", "/mutate set it");
        assert!(is_applied(cluster, &shop) && is_applied(cluster, &plain));
    });
    assert_eq!([&shop, &plain].map(|name| policies(cluster, name)), before);

    let [mut git, _] = git;
    let labels = git["metadata"]["labels"].as_object_mut().unwrap();
    labels.insert(format!("{DOMAIN}/baseline"), json!("pending"));
    tool.sync(std::slice::from_ref(&git));
    until_applied(cluster, &shop);
    let labels = git["metadata"]["labels"].as_object_mut().unwrap();
    labels.clear();
    tool.sync(&[git]);
    assert_eq!(label(&cluster.namespace(&shop), "profile"), Value::Null);
    until_applied(cluster, &shop);
    assert_eq!(policies(cluster, &shop), before[0], "a namespace without a profile keeps its policies");
}

/// Creates a namespace from Git that has its baseline.
fn shop(cluster: &Installation, tool: &GitOps, prefix: &str) -> (String, Value) {
    let name = tool.name(prefix);
    let git = namespace_of_page("shop", &name);
    tool.sync(std::slice::from_ref(&git));
    until_applied(cluster, &name);
    (name, git)
}

fn a_hatch_of_the_command_stays(cluster: &Installation, tool: &GitOps) {
    let (name, git) = shop(cluster, tool, "command");
    let opened = cluster.portcullis(&["hatch", "open", &name, "--reason=INC-1", "--for=1h"]);
    assert_eq!(opened.code, 0, "{}", opened.err);
    tool.sync(std::slice::from_ref(&git));
    tool.sync_without_changes(&[git], || assert_eq!(label(&cluster.namespace(&name), "enforcement"), "disabled"));
    assert!(has_hatch_policy(cluster, &name));
    let closed = cluster.portcullis(&["hatch", "close", &name]);
    assert_eq!(closed.code, 0, "{}", closed.err);
}

fn a_hatch_of_kubectl_stays_except_under_flux(cluster: &Installation, tool: &GitOps) {
    let (name, git) = shop(cluster, tool, "kubectl");
    let until = after(Duration::from_secs(3600));
    let (reason, until) = (format!("{DOMAIN}/reason=INC-2"), format!("{DOMAIN}/until={until}"));
    let open = |arguments: &[&str]| {
        let annotate = ["annotate", "namespace", &name, &reason, &until];
        accepted(&cluster.plane.kubectl(&[&annotate, arguments].concat()));
        let label = ["label", "namespace", &name, &format!("{DOMAIN}/enforcement=disabled")];
        accepted(&cluster.plane.kubectl(&[&label, arguments].concat()));
        cluster.until("the hatch is open", |cluster| has_hatch_policy(cluster, &name));
    };
    open(&[]);
    tool.sync(std::slice::from_ref(&git));
    if tool.tool == Tool::Flux {
        cluster.until("the hatch is closed", |cluster| !has_hatch_policy(cluster, &name));
        assert_eq!(label(&cluster.namespace(&name), "enforcement"), Value::Null);
        open(&["--field-manager=portcullis-hatch"]);
        tool.sync(std::slice::from_ref(&git));
    }
    tool.sync_without_changes(&[git], || assert!(has_hatch_policy(cluster, &name)));
    accepted(&cluster.plane.kubectl(&["label", "namespace", &name, &format!("{DOMAIN}/enforcement-")]));
}

/// The time after a duration, to the second.
fn after(duration: Duration) -> String {
    let time = Timestamp::try_from(SystemTime::now() + duration).unwrap();
    time.round(jiff::Unit::Second).unwrap().to_string()
}

/// The namespace of the page with an open hatch.
fn hatched(name: &str, until: &str) -> Value {
    let mut git = namespace_of_page("shop-with-hatch", name);
    let annotations = git["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.insert(format!("{DOMAIN}/until"), json!(until));
    git
}

fn a_hatch_in_git_opens_and_closes_with_git(cluster: &Installation, tool: &GitOps) {
    let (name, without) = shop(cluster, tool, "git");
    let git = [hatched(&name, &after(Duration::from_secs(3600)))];
    tool.sync(&git);
    cluster.until("the hatch is open", |cluster| has_hatch_policy(cluster, &name));
    cluster.until("its start is recorded", |cluster| {
        cluster.namespace(&name)["metadata"]["annotations"].get(format!("{DOMAIN}/opened")).is_some()
    });
    tool.sync(&git);
    tool.sync_without_changes(&git, || assert!(has_hatch_policy(cluster, &name)));
    tool.sync(&[without]);
    cluster.until("the hatch is closed", |cluster| !has_hatch_policy(cluster, &name));
}

fn a_hatch_that_expired_in_git_fails_the_sync(cluster: &Installation, tool: &GitOps) {
    let (name, without) = shop(cluster, tool, "expired");
    let git = [hatched(&name, &after(Duration::from_secs(4)))];
    tool.sync(&git);
    cluster.until("the hatch was open", |cluster| has_hatch_policy(cluster, &name));
    cluster.until("the controller closes it", |cluster| {
        !has_hatch_policy(cluster, &name) && label(&cluster.namespace(&name), "enforcement").is_null()
    });
    let place = format!("metadata.annotations[\"{DOMAIN}/until\"]");
    for _ in 0..3 {
        let denied = tool.apply(&git);
        assert!(!denied.ok && has_finding(&denied.stderr, "unguarded-hatch", &place), "{:?}: {denied}", tool.tool);
        assert!(!has_hatch_policy(cluster, &name));
    }
    tool.sync(std::slice::from_ref(&without));
    tool.sync(std::slice::from_ref(&without));
    tool.sync_without_changes(&[without], || assert!(is_applied(cluster, &name)));
}

/// Argo CD and Flux prune objects with their tracking label or annotation.
fn nothing_that_portcullis_wrote_is_pruned(cluster: &Installation, tool: &GitOps) {
    for policy in cluster.policies(&tool.name("shop")) {
        let metadata = &policy["metadata"];
        let keys =
            [&metadata["labels"], &metadata["annotations"]].map(|map| map.as_object().cloned().unwrap_or_default());
        for key in keys.iter().flat_map(Map::keys) {
            let is_tracking =
                ["tracking-id", "/instance", "toolkit.fluxcd.io/name"].iter().any(|end| key.ends_with(end));
            assert!(!is_tracking, "{key} in {metadata}");
        }
        assert_eq!(metadata["annotations"]["argocd.argoproj.io/sync-options"], "Prune=false");
        assert_eq!(metadata["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    }
}

/// The objects of the chart with the values of the page, or of the kustomize base without helm. The Service is left out, because it
/// leads to processes of this machine.
fn installation() -> Option<Vec<Value>> {
    let values = block("flux", "HelmRelease", "portcullis")["spec"]["values"].to_string();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), values).unwrap();
    let mut helm = Command::new("helm");
    helm.args(["template", "portcullis", "deploy/chart", "--namespace=portcullis-system", "--values"]).arg(file.path());
    let text = match helm.current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            skipped("there is no helm: the kustomize base stands for the chart");
            rendered("deploy")?
        }
        Err(error) => panic!("helm: {error}"),
    };
    let is_applied = |object: &Value| {
        let is_hook = object["metadata"]["annotations"].get("helm.sh/hook").is_some();
        !object.is_null() && object["kind"] != "Service" && !is_hook
    };
    Some(objects(&text).into_iter().filter(is_applied).collect())
}

fn stored_webhooks(cluster: &Installation) -> Vec<Value> {
    WEBHOOKS.map(|kind| cluster.plane.stored(&[kind, "portcullis"]).unwrap()["webhooks"].clone()).into()
}

#[test]
fn an_installation_from_git_does_not_drift() {
    let Some((mut cluster, tools)) = start() else { return };
    let Some(git) = installation() else { return };
    let secret = |cluster: &Installation| {
        let stored = cluster.plane.stored(&["secret", "portcullis-tls", "--namespace=portcullis-system"]).unwrap();
        (stored["metadata"]["resourceVersion"].clone(), stored["data"].clone())
    };
    let writes = |cluster: &Installation| {
        ["validating", "mutating"].map(|configuration| {
            metric(cluster, &format!(r#"portcullis_webhooks_writes_total{{configuration="{configuration}"}}"#))
        })
    };
    let before = (stored_webhooks(&cluster), secret(&cluster), writes(&cluster));
    for tool in &tools {
        tool.sync(&git);
        tool.sync(&git);
        tool.sync_without_changes(&git, || {
            assert!(cluster.replicas.iter().all(Replica::is_ready));
        });
        assert_eq!((stored_webhooks(&cluster), secret(&cluster), writes(&cluster)), before, "{:?}", tool.tool);
    }
    webhook_configurations_in_git_keep_their_ca(&mut cluster, &tools);
}

/// With `--webhooks=report`, Git owns the webhook configurations and Portcullis their CA bundle.
fn webhook_configurations_in_git_keep_their_ca(cluster: &mut Installation, tools: &[GitOps]) {
    cluster.stop_replicas();
    cluster.arguments = vec!["--webhooks=report".to_owned()];
    cluster.start_replica();
    let service = cluster.webhook_service();
    let (service, port) = service.split_once(':').unwrap();
    let printed = cluster.plane.kubectl(&["delete", &WEBHOOKS.join(","), "portcullis"]);
    accepted(&printed);
    let list = super::support::command::run(&["webhooks", "--service", service, "--port", port], "");
    assert_eq!(list.code, 0, "{}", list.err);
    let list: Value = serde_json::from_str(&list.out).unwrap();
    let git = list["items"].as_array().unwrap().clone();
    for tool in tools {
        tool.sync(&git);
        let has_ca = |cluster: &Installation| {
            stored_webhooks(cluster)
                .iter()
                .flat_map(|webhooks| webhooks.as_array().unwrap())
                .all(|webhook| webhook["clientConfig"]["caBundle"].is_string())
        };
        cluster.until("the CA bundle is there", has_ca);
        tool.sync(&git);
        tool.sync_without_changes(&git, || assert!(has_ca(cluster)));
        cluster.until_asked();
    }
    let state = r#"portcullis_webhooks_state{configuration="validating",state="ok"}"#;
    cluster.until("the server finds no difference", |cluster| metric(cluster, state) == 1.0);
}

/// Fields that the CRDs of Argo CD and Flux do not have are rejected.
#[test]
fn manifests_of_the_pages_have_only_fields_that_exist() {
    let Some(plane) = ControlPlane::start() else { return };
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas/gitops.yaml");
    accepted(&plane.kubectl(&["apply", "--server-side", "--filename", crds]));
    accepted(&plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]));
    for namespace in ["argocd", "flux-system"] {
        accepted(&plane.kubectl(&["create", "namespace", namespace]));
    }
    for page in PAGES {
        let blocks = blocks(page);
        assert!(!blocks.is_empty(), "{page}");
        for block in blocks {
            let tried = plane.apply(&block.to_string(), &["--dry-run=server", "--validate=strict"]);
            assert!(tried.ok, "{page}: {tried}\n{block:#}");
        }
    }
    let mut wrong = block("flux", "Kustomization", "namespaces");
    wrong["spec"]["dependOn"] = json!([]);
    let tried = plane.apply(&wrong.to_string(), &["--dry-run=server", "--validate=strict"]);
    assert!(!tried.ok && tried.stderr.contains("dependOn"), "{tried}");
}
