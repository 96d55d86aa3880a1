//! Policies of other dialects. Their CRDs are stand-ins that let everything through: what is shown here is how requests
//! reach Portcullis and what becomes of them, not what a schema of an agent refuses by itself.

use crate::cluster::*;
use crate::manifests::*;
use crate::support::control_plane::ControlPlane;

/// Has the API server serve the kinds.
pub(crate) fn serve(plane: &ControlPlane) {
    let crds: Vec<String> = [
        ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", "Namespaced"),
        ("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", "Cluster"),
        ("crd.projectcalico.org", "v1", "GlobalNetworkPolicy", "globalnetworkpolicies", "Cluster"),
        ("projectcalico.org", "v3", "StagedNetworkPolicy", "stagednetworkpolicies", "Namespaced"),
        ("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies", "Cluster"),
    ]
    .map(|(group, version, kind, plural, scope)| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {plural}.{group}\n  \
             annotations: {{api-approved.kubernetes.io: unapproved}}\nspec:\n  group: {group}\n  scope: {scope}\n  \
             names: {{kind: {kind}, plural: {plural}}}\n  versions:\n  - name: {version}\n    served: true\n    storage: true\n    \
             schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}\n"
        )
    })
    .into();
    accepted(&plane.apply(&crds.join("---\n"), &[]));
    accepted(&plane.kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"]));
}

pub(crate) fn a_cilium_policy_is_judged(cluster: &mut Cluster) {
    cluster.namespace("cilium");
    let policy = |dns: &str| {
        let spec = format!(
            "{{endpointSelector: {{}}, egress: [{{toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: \
             kube-system, k8s:k8s-app: kube-dns}}}}], toPorts: [{{ports: [{{port: '53', protocol: ANY}}]{dns}}}]}}, \
             {{toFQDNs: [{{matchName: example.com}}], toPorts: [{{ports: [{{port: '443', protocol: TCP}}]}}]}}]}}"
        );
        object("cilium.io/v2", "CiliumNetworkPolicy", "names", "cilium", &spec)
    };
    let refused = cluster.plane.apply(&policy(""), &[]);
    denied(&refused, POLICIES, "fqdn-without-dns", "spec.egress[1].toFQDNs[0]");
    assert_eq!(cluster.plane.stored(&["ciliumnetworkpolicies", "names", "--namespace=cilium"]), None);

    let stored = cluster.plane.apply(&policy(", rules: {dns: [{matchPattern: '*'}]}"), &[]);
    accepted(&stored);
    assert_eq!(stored.stderr, "");
    assert!(cluster.plane.stored(&["ciliumnetworkpolicies", "names", "--namespace=cilium"]).is_some());
}

pub(crate) fn each_of_several_specs_is_judged(cluster: &mut Cluster) {
    cluster.namespace("specs");
    let manifest = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: two, namespace: specs}\nspecs:\n\
                    - {endpointSelector: {}, ingress: [{}]}\n\
                    - {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: batch}}]}]}\n";
    let refused = cluster.plane.apply(manifest, &[]);
    denied(&refused, POLICIES, "any-port", "specs[1].ingress[0]");
    assert_eq!(cluster.plane.stored(&["ciliumnetworkpolicies", "two", "--namespace=specs"]), None);
}

pub(crate) fn a_policy_of_the_cluster_serves_dns_to_network_policies(cluster: &mut Cluster) {
    // By context: CiliumClusterwideNetworkPolicy dns-for-served, for namespaces with a label.
    let isolate = |namespace: &str| policy("isolate", namespace, &egress(&[TO_DB]));
    accepted(&cluster.plane.apply(&isolate("served"), &[]));
    cluster.namespace("unserved");
    denied(&cluster.plane.apply(&isolate("unserved"), &[]), POLICIES, "dns-blocked", "spec.egress");
}

pub(crate) fn the_last_way_to_dns_of_a_cluster_cannot_be_deleted(cluster: &mut Cluster) {
    let delete = ["delete", "ciliumclusterwidenetworkpolicies", "dns-for-served"];
    let refused = cluster.plane.kubectl(&delete);
    denied(&refused, POLICIES, "dns-blocked", "spec");
    assert!(refused.stderr.contains("NetworkPolicy served/known"), "{refused}");
    assert!(cluster.plane.stored(&["ciliumclusterwidenetworkpolicies", "dns-for-served"]).is_some());
}

pub(crate) fn a_global_policy_with_a_bad_selector_is_denied(cluster: &mut Cluster) {
    let manifest = "apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {name: bad}\nspec: {selector: \
                    \"app = 'web'\", types: [Ingress]}\n";
    let refused = cluster.plane.apply(manifest, &[]);
    denied(&refused, POLICIES, "invalid-selector", "spec.selector");
    assert!(refused.stderr.contains("=="), "it says what to write: {refused}");
    assert_eq!(cluster.plane.stored(&["globalnetworkpolicies.crd.projectcalico.org", "bad"]), None);
}

pub(crate) fn a_staged_policy_is_warned_about_and_stored(cluster: &mut Cluster) {
    cluster.namespace("staged");
    let manifest = object(
        "projectcalico.org/v3",
        "StagedNetworkPolicy",
        "trial",
        "staged",
        "{selector: all(), types: [Ingress], ingress: [{action: Allow, source: {selector: app == 'batch'}}]}",
    );
    warned(&cluster.plane.apply(&manifest, &[]), "any-port, staged", "spec.ingress[0]");
    assert!(cluster.plane.stored(&["stagednetworkpolicies", "trial", "--namespace=staged"]).is_some());
}

pub(crate) fn a_cluster_network_policy_on_any_port_is_denied(cluster: &mut Cluster) {
    let policy = |name: &str, protocols: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: \
             {{tier: Admin, priority: 10, subject: {{namespaces: {{}}}}, ingress: [{{action: Accept, from: [{{namespaces: \
             {{matchLabels: {{kubernetes.io/metadata.name: monitoring}}}}}}]{protocols}}}]}}\n"
        )
    };
    denied(&cluster.plane.apply(&policy("wide", ""), &[]), POLICIES, "any-port", "spec.ingress[0]");
    assert_eq!(cluster.plane.stored(&["clusternetworkpolicies", "wide"]), None);
    let stored = cluster.plane.apply(&policy("narrow", ", protocols: [{tcp: {destinationPort: {number: 9090}}}]"), &[]);
    accepted(&stored);
    assert_eq!(stored.stderr, "");
}

/// What is stored before anybody is asked and the server is told of.
pub(crate) const KNOWN_WIDE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: served, labels: {example.com/dns: cilium}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: known, namespace: served}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: dns-for-served}
spec:
  endpointSelector: {matchLabels: {k8s:io.cilium.k8s.namespace.labels.example.com/dns: cilium}}
  egress:
  - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: '53', protocol: ANY}]}]
";
