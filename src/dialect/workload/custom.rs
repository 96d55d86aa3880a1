//! Custom resources for which an operator may create pods that no manifest describes.

use serde_json::Value;

/// Kinds of other groups than those of Kubernetes for which no operator creates pods. A group stands for its subgroups
/// too, and a group without kinds for all of its kinds.
const WITHOUT_PODS: [(&str, &[&str]); 39] = [
    ("aquasecurity.github.io", &[]),
    (
        "argoproj.io",
        &["AnalysisTemplate", "AppProject", "ClusterAnalysisTemplate", "ClusterWorkflowTemplate", "WorkflowTemplate"],
    ),
    ("bitnami.com", &["SealedSecret"]),
    ("cert-manager.io", &[]),
    ("cilium.io", &[]),
    ("configuration.konghq.com", &[]),
    ("elbv2.k8s.aws", &[]),
    ("external-secrets.io", &[]),
    ("extensions.istio.io", &[]),
    ("gatekeeper.sh", &[]),
    ("getambassador.io", &[]),
    (
        "grafana.integreatly.org",
        &["GrafanaAlertRuleGroup", "GrafanaContactPoint", "GrafanaDashboard", "GrafanaDatasource", "GrafanaFolder"],
    ),
    ("image.toolkit.fluxcd.io", &[]),
    ("k8s.nginx.org", &[]),
    ("keda.sh", &["ClusterTriggerAuthentication", "ScaledObject", "TriggerAuthentication"]),
    (
        "kyverno.io",
        &["CleanupPolicy", "ClusterCleanupPolicy", "ClusterPolicy", "GlobalContextEntry", "Policy", "PolicyException"],
    ),
    ("linkerd.io", &[]),
    ("metallb.io", &[]),
    (
        "monitoring.coreos.com",
        &["AlertmanagerConfig", "PodMonitor", "Probe", "PrometheusRule", "ScrapeConfig", "ServiceMonitor"],
    ),
    ("networking.gke.io", &[]),
    ("networking.istio.io", &[]),
    ("notification.toolkit.fluxcd.io", &[]),
    (
        "operator.victoriametrics.com",
        &[
            "VMAlertmanagerConfig",
            "VMNodeScrape",
            "VMPodScrape",
            "VMProbe",
            "VMRule",
            "VMScrapeConfig",
            "VMServiceScrape",
            "VMStaticScrape",
            "VMUser",
        ],
    ),
    ("operators.coreos.com", &["OperatorCondition", "OperatorGroup"]),
    ("policies.kyverno.io", &[]),
    ("policies.kubewarden.io", &[]),
    ("portcullis.dev", &[]),
    ("projectcalico.org", &[]),
    ("projectcontour.io", &["HTTPProxy", "TLSCertificateDelegation"]),
    ("route.openshift.io", &[]),
    ("secrets.hashicorp.com", &[]),
    ("secrets-store.csi.x-k8s.io", &[]),
    ("security.istio.io", &[]),
    ("security.openshift.io", &[]),
    ("source.toolkit.fluxcd.io", &[]),
    ("telemetry.istio.io", &[]),
    ("traefik.containo.us", &[]),
    ("traefik.io", &[]),
    ("wgpolicyk8s.io", &[]),
];

/// The namespace in which an operator may create pods for a custom resource, or an empty text if the resource names
/// none. None if it is known that none are created.
#[must_use]
pub(crate) fn operator_pods(manifest: &Value) -> Option<&str> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let ((group, _), kind) = (text("/apiVersion")?.split_once('/')?, text("/kind")?);
    // Argo CD installs applications only into the namespaces that they name.
    match (group, kind) {
        ("argoproj.io", "Application") => return text("/spec/destination/namespace"),
        ("argoproj.io", "ApplicationSet") => return text("/spec/template/spec/destination/namespace"),
        _ if !may_create_pods(group, kind) => return None,
        _ => {}
    }
    // Flux installs whole applications into the namespace that they name.
    let installs = text("/spec/targetNamespace").or_else(|| text("/spec/destination/namespace"));
    Some(installs.or_else(|| text("/metadata/namespace")).unwrap_or_default())
}

fn may_create_pods(group: &str, kind: &str) -> bool {
    // Groups without a dot and groups below k8s.io belong to Kubernetes. A Gateway gets the pods of its proxy.
    if !group.contains('.') || group.ends_with(".k8s.io") {
        return (group, kind) == ("gateway.networking.k8s.io", "Gateway");
    }
    let is_of = |parent: &str| group.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !WITHOUT_PODS.iter().any(|(parent, kinds)| is_of(parent) && (kinds.is_empty() || kinds.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_that_may_make_pods_are_told_from_others() {
        let made = |api_version: &str, kind: &str, spec: Value| {
            let manifest =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": "own"}, "spec": spec});
            operator_pods(&manifest).map(str::to_owned)
        };
        for (api_version, kind) in [
            ("monitoring.coreos.com/v1", "Alertmanager"),
            ("postgresql.cnpg.io/v1", "Cluster"),
            ("acid.zalan.do/v1", "postgresql"),
            ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
            ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
            ("operators.coreos.com/v1alpha1", "Subscription"),
            ("argoproj.io/v1alpha1", "Rollout"),
            ("gateway.networking.k8s.io/v1", "Gateway"),
            ("jobset.x-k8s.io/v1alpha2", "JobSet"),
            ("keda.sh/v1alpha1", "ScaledJob"),
        ] {
            assert_eq!(made(api_version, kind, json!({})).as_deref(), Some("own"), "{kind}");
        }
        for (api_version, kind) in [
            ("monitoring.coreos.com/v1", "ServiceMonitor"),
            ("cert-manager.io/v1", "Certificate"),
            ("acme.cert-manager.io/v1", "Order"),
            ("crd.projectcalico.org/v1", "BGPPeer"),
            ("constraints.gatekeeper.sh/v1beta1", "K8sRequiredLabels"),
            ("argoproj.io/v1alpha1", "AppProject"),
            ("argoproj.io/v1alpha1", "Application"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("keda.sh/v1alpha1", "ScaledObject"),
            ("v1", "ConfigMap"),
        ] {
            assert_eq!(made(api_version, kind, json!({"replicas": 1})), None, "{kind}");
        }
        let other = Some("other".to_owned());
        assert_eq!(made("helm.toolkit.fluxcd.io/v2", "HelmRelease", json!({"targetNamespace": "other"})), other);
        let into = json!({"destination": {"namespace": "other"}});
        assert_eq!(made("argoproj.io/v1alpha1", "Application", into.clone()), other);
        assert_eq!(made("argoproj.io/v1alpha1", "ApplicationSet", json!({"template": {"spec": into}})), other);
    }
}
