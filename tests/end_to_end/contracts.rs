//! A contract beside a real kube-apiserver: ways to break it, each denied with the connection that it would open or
//! cut, and changes that leave it alone.

use crate::cluster::accepted;
use crate::support::command::run;
use crate::support::control_plane::{ControlPlane, Output};
use crate::support::installation::Installation;

/// Rules that would deny some of the changes for other reasons are off.
pub(crate) const CONFIGURATION: &str = "\
rules:
  dns-blocked: {mode: off}
  dissolved-baseline: {mode: off}
";

pub(crate) const CRD: &str = include_str!("../../deploy/crds/contracts.yaml");

const CONTRACTS: &str = "\
apiVersion: portcullis.dev/v1alpha1
kind: Contract
metadata: {name: card-database}
spec:
  reason: Only the payment API handles card data (PCI DSS 1.3).
  owner: team-payments
  mustNotReach:
    from:
    - allPodsExcept:
      - {namespaces: [payments], podSelector: {matchLabels: {app: api}}}
      - namespaces: [monitoring, istio-gateway]
    to:
    - {namespaces: [payments], podSelector: {matchLabels: {app: db}}}
    ports: [{port: 5432}]
---
apiVersion: portcullis.dev/v1alpha1
kind: Contract
metadata: {name: api-has-its-database}
spec:
  owner: team-payments
  mustReach:
    from:
    - {namespaces: [payments], podSelector: {matchLabels: {app: api}}}
    to:
    - {namespaces: [payments], podSelector: {matchLabels: {app: db}}}
    ports: [{port: 5432}]
";

pub(crate) fn network_policy(namespace: &str, name: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, namespace: {namespace}}}");
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {metadata}\nspec: {spec}\n---\n")
}

fn cluster_policy(name: &str, priority: u32, action: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         tier: Admin\n  priority: {priority}\n  subject: {{pods: {{namespaceSelector: {{matchLabels: \
         {{kubernetes.io/metadata.name: payments}}}}, podSelector: {{matchLabels: {{app: db}}}}}}}}\n  ingress:\n  - \
         action: {action}\n    from: [{{namespaces: {{matchLabels: {{kubernetes.io/metadata.name: default}}}}}}]\n    \
         protocols: [{{tcp: {{destinationPort: {{number: 5432}}}}}}]\n---\n"
    )
}

/// Ingress to pods from peers, on ports.
pub(crate) fn ingress(pods: &str, peers: &str, ports: &str) -> String {
    format!("{{podSelector: {pods}, policyTypes: [Ingress], ingress: [{{from: [{peers}], ports: [{ports}]}}]}}")
}

pub(crate) const DB: &str = "{matchLabels: {app: db}}";
const API: &str = "{podSelector: {matchLabels: {app: api}}}";
pub(crate) const PUBLIC: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-public}}}";
const DEFAULT: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}";
pub(crate) const POSTGRES: &str = "{protocol: TCP, port: 5432}";

fn database(peers: &str) -> String {
    network_policy("payments", "db", &ingress(DB, peers, POSTGRES))
}

fn egress() -> String {
    let spec = format!(
        "{{podSelector: {{matchLabels: {{app: api}}}}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {DB}}}], \
         ports: [{POSTGRES}]}}]}}"
    );
    network_policy("payments", "api", &spec)
}

/// What the cluster has before each change.
pub(crate) fn state() -> String {
    let trusted = "{namespaceSelector: {matchLabels: {trust: high}}}";
    [
        database(API),
        egress(),
        network_policy("payments", "trusted", &ingress(DB, trusted, POSTGRES)),
        // Only the Deny keeps this from pods of the namespace default.
        network_policy("payments", "legacy", &ingress(DB, DEFAULT, POSTGRES)),
        // The Deny comes before the Accept.
        cluster_policy("deny", 1, "Deny"),
        cluster_policy("accept", 10, "Accept"),
    ]
    .concat()
}

/// A change.
pub(crate) enum Change {
    Apply(String),
    Replace(String),
    ServerSide(String),
    Run(&'static [&'static str]),
}

use Change::{Apply, Replace, Run, ServerSide};

impl Change {
    pub(crate) fn make(&self, plane: &ControlPlane, is_dry_run: bool) -> Output {
        let dry: &[&str] = if is_dry_run { &["--dry-run=server"] } else { &[] };
        match self {
            Apply(manifest) => plane.apply(manifest, dry),
            ServerSide(manifest) => plane.apply(manifest, &[&["--server-side", "--force-conflicts"], dry].concat()),
            Replace(manifest) => plane.admin().run_with_input(&[&["replace", "--filename=-"], dry].concat(), manifest),
            Run(arguments) => plane.kubectl(&[*arguments, dry].concat()),
        }
    }
}

/// From a pod of a namespace without policies to the database.
pub(crate) const OPENED: &str = "could reach a pod with app=db in namespace payments on TCP 5432";
/// From the API to the database.
pub(crate) const CUT: &str =
    "a pod with app=api in namespace payments could not reach a pod with app=db in namespace payments on TCP 5432";

pub(crate) fn breaking() -> Vec<(&'static str, Change, &'static str)> {
    let allow =
        |pods: &str, peers: &str, ports: &str| Apply(network_policy("payments", "new", &ingress(pods, peers, ports)));
    let cilium = |kind: &str, metadata: &str, spec: &str| {
        Apply(format!("apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"))
    };
    let calico = |action: &str| {
        Apply(format!(
            "apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {{name: default.db}}\nspec: {{tier: \
             default, order: 1, selector: app == 'db', types: [Ingress], ingress: [{{action: {action}, protocol: TCP, \
             destination: {{ports: [5432]}}}}]}}\n"
        ))
    };
    let ports = "toPorts: [{ports: [{port: '5432', protocol: TCP}]}]";
    vec![
        ("a policy for every namespace", allow("{}", "{namespaceSelector: {}}", POSTGRES), OPENED),
        ("a policy for one namespace", allow(DB, PUBLIC, POSTGRES), OPENED),
        ("a range of ports", allow(DB, PUBLIC, "{protocol: TCP, port: 5000, endPort: 6000}"), OPENED),
        ("every port", allow(DB, PUBLIC, ""), OPENED),
        ("every address", allow(DB, "{ipBlock: {cidr: 0.0.0.0/0}}", POSTGRES), OPENED),
        ("two peers instead of one", allow(DB, &format!("{API}, {{namespaceSelector: {{}}}}"), POSTGRES), OPENED),
        ("an edit", Apply(database(&format!("{API}, {PUBLIC}"))), OPENED),
        ("a replacement", Replace(database(&format!("{API}, {PUBLIC}"))), OPENED),
        ("server-side apply", ServerSide(database(&format!("{API}, {PUBLIC}"))), OPENED),
        (
            "a JSON patch",
            Run(&[
                "patch",
                "networkpolicy",
                "db",
                "--namespace=payments",
                "--type=json",
                "--patch=[{\"op\": \"add\", \"path\": \"/spec/ingress/0/from/-\", \"value\": {\"namespaceSelector\": {}}}]",
            ]),
            OPENED,
        ),
        (
            "a Cilium policy",
            cilium(
                "CiliumNetworkPolicy",
                "{name: new, namespace: payments}",
                &format!("{{endpointSelector: {DB}, ingress: [{{fromEntities: [cluster], {ports}}}]}}"),
            ),
            OPENED,
        ),
        (
            "a Cilium policy of the cluster",
            cilium(
                "CiliumClusterwideNetworkPolicy",
                "{name: new}",
                &format!("{{endpointSelector: {DB}, ingress: [{{fromEntities: [all], {ports}}}]}}"),
            ),
            OPENED,
        ),
        ("a Calico policy of the cluster", calico("Allow"), OPENED),
        ("an earlier Accept", Apply(cluster_policy("new", 0, "Accept")), OPENED),
        ("an earlier Pass", Apply(cluster_policy("new", 0, "Pass")), OPENED),
        ("a later Deny", Apply(cluster_policy("deny", 20, "Deny")), OPENED),
        ("the loss of the Deny", Run(&["delete", "clusternetworkpolicy", "deny"]), OPENED),
        (
            "a namespace label",
            Run(&["label", "namespace", "kube-public", "trust=high"]),
            "in namespace kube-public could reach a pod with app=db in namespace payments on TCP 5432",
        ),
        ("the loss of the ingress policy", Run(&["delete", "networkpolicy", "db", "--namespace=payments"]), CUT),
        ("the loss of the egress policy", Run(&["delete", "networkpolicy", "api", "--namespace=payments"]), CUT),
        (
            "another port",
            Apply(network_policy("payments", "db", &ingress(DB, API, "{protocol: TCP, port: 5433}"))),
            CUT,
        ),
        ("another selector", Apply(database("{podSelector: {matchLabels: {app: apis}}}")), CUT),
        (
            "a Cilium denial",
            cilium(
                "CiliumNetworkPolicy",
                "{name: new, namespace: payments}",
                &format!(
                    "{{endpointSelector: {DB}, ingressDeny: [{{fromEndpoints: [{{matchLabels: {{app: api}}}}], {ports}}}]}}"
                ),
            ),
            CUT,
        ),
        ("a Calico denial", calico("Deny"), CUT),
    ]
}

fn harmless() -> Vec<(&'static str, Change)> {
    let allow = |namespace: &str, pods: &str, peers: &str, ports: &str| {
        Apply(network_policy(namespace, "new", &ingress(pods, peers, ports)))
    };
    let web = "{matchLabels: {app: web}}";
    vec![
        ("nothing changes", Apply(database(API))),
        ("an annotation", Run(&["annotate", "networkpolicy", "db", "--namespace=payments", "note=1"])),
        ("a label of the policy", Run(&["label", "networkpolicy", "db", "--namespace=payments", "note=1"])),
        (
            "a stricter peer",
            Apply(database(
                "{podSelector: {matchLabels: {app: api}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: payments}}}",
            )),
        ),
        ("another port for everybody", allow("payments", DB, PUBLIC, "{protocol: TCP, port: 9187}")),
        ("the same port over UDP", allow("payments", DB, PUBLIC, "{protocol: UDP, port: 5432}")),
        ("other pods", allow("payments", web, PUBLIC, POSTGRES)),
        ("another namespace", allow("shop", DB, PUBLIC, POSTGRES)),
        (
            "an excepted namespace",
            allow(
                "payments",
                DB,
                "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}",
                POSTGRES,
            ),
        ),
        // Their own policies allow no egress on this port.
        ("pods whose egress is closed", allow("payments", DB, "{podSelector: {}}", POSTGRES)),
        ("addresses outside of the cluster", allow("payments", web, "{ipBlock: {cidr: 203.0.113.0/24}}", POSTGRES)),
        (
            "a label that no namespace has",
            allow("payments", DB, "{namespaceSelector: {matchLabels: {trust: highest}}}", POSTGRES),
        ),
        ("a later Accept", Apply(cluster_policy("new", 30, "Accept"))),
        ("a stricter Deny", Apply(cluster_policy("new", 0, "Deny"))),
        ("the loss of the Accept", Run(&["delete", "clusternetworkpolicy", "accept"])),
        ("an earlier Deny", Apply(cluster_policy("deny", 0, "Deny"))),
        ("another label of a namespace", Run(&["label", "namespace", "kube-public", "trust=low"])),
        ("a label of the namespace itself", Run(&["label", "namespace", "payments", "cost-center=7"])),
        ("a new namespace", Run(&["create", "namespace", "more"])),
        (
            "the loss of a policy that allows nobody",
            Run(&["delete", "networkpolicy", "trusted", "--namespace=payments"]),
        ),
        ("a second policy for the same", Apply(network_policy("payments", "new", &ingress(DB, API, POSTGRES)))),
    ]
}

/// Has the API server serve contracts and the policies of all dialects.
pub(crate) fn serve(plane: &ControlPlane) {
    accepted(&plane.apply(CRD, &[]));
    crate::dialects::serve(plane);
}

/// Installs the contracts, and waits until they count.
pub(crate) fn contracts_are_installed(cluster: &mut Installation) {
    for namespace in ["payments", "shop", "monitoring", "istio-gateway"] {
        accepted(&cluster.plane.kubectl(&["create", "namespace", namespace]));
    }
    cluster.until("the baseline is applied", |cluster| {
        cluster.namespace("payments")["metadata"]["labels"][crate::manifests::BASELINE] == "applied"
    });
    accepted(&cluster.plane.apply(&state(), &[]));
    accepted(&cluster.plane.apply(CONTRACTS, &[]));
    let wrong = CONTRACTS.replace("mustNotReach", "mustNotTouch");
    let refused = cluster.plane.apply(&wrong, &["--validate=ignore"]);
    assert!(!refused.ok && refused.stderr.contains("exactly one of mustReach and mustNotReach"), "{refused}");
    let probe = Apply(network_policy("payments", "probe", &ingress(DB, PUBLIC, POSTGRES)));
    cluster.until("the contracts count", |cluster| !probe.make(&cluster.plane, true).ok);
}

pub(crate) fn every_way_to_break_them_is_denied(cluster: &mut Installation) {
    let mut wrong = Vec::new();
    for (name, change, flow) in breaking() {
        let output = change.make(&cluster.plane, false);
        let says = |text: &str| output.stderr.contains(text);
        if output.ok || !says("broken-contract") || !says(flow) || !says("team-payments") {
            wrong.push(format!("{name}: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{} ways:\n{}", wrong.len(), wrong.join("\n"));
}

pub(crate) fn what_leaves_them_alone_is_not_denied(cluster: &mut Installation) {
    let mut wrong = Vec::new();
    for (name, change) in harmless() {
        let output = change.make(&cluster.plane, true);
        if !output.ok || output.stderr.contains("broken-contract") {
            wrong.push(format!("{name}: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{} changes:\n{}", wrong.len(), wrong.join("\n"));
}

pub(crate) fn a_deleted_contract_counts_no_more(cluster: &mut Installation) {
    accepted(&cluster.plane.kubectl(&["delete", "contract", "card-database"]));
    let probe = Apply(network_policy("payments", "probe", &ingress(DB, PUBLIC, POSTGRES)));
    cluster.until("the policy is accepted", |cluster| probe.make(&cluster.plane, true).ok);
}

/// The names of the contracts in the output of `portcullis contracts propose`.
fn names(manifests: &str) -> Vec<&str> {
    manifests.lines().filter_map(|line| line.strip_prefix("  name: ")).collect()
}

#[test]
fn a_cluster_stores_what_is_proposed_for_it() {
    let Some(plane) = ControlPlane::start() else { return };
    accepted(&plane.apply(include_str!("../contracts/platform.yaml"), &[]));
    accepted(&plane.apply(CRD, &[]));
    accepted(&plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd/contracts.portcullis.dev"]));
    let kubeconfig = plane.kubeconfig().to_str().unwrap();
    let propose = || run(&["contracts", "propose", "--cluster", "--kubeconfig", kubeconfig], "");
    let proposed = propose();
    assert_eq!(proposed.code, 0, "{}", proposed.err);
    let all = names(&proposed.out);
    for name in ["shop-db-sources-tcp-5432", "jobs-no-internet-egress", "shop-web-from-ingress-nginx-8080"] {
        assert!(all.contains(&name), "{name}: {all:?}");
    }
    accepted(&plane.apply(&proposed.out, &[]));
    let tested = run(&["test", "--cluster", "--kubeconfig", kubeconfig], "");
    assert_eq!(tested.code, 0, "{}{}", tested.out, tested.err);
    assert!(tested.out.contains(&format!("{} hold, 0 broken, 0 undecided", all.len())), "{}", tested.out);
    let again = propose();
    assert_eq!(names(&again.out), [""; 0], "{}", again.out);
}
