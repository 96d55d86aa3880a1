//! See [`BaselinePending`].

use super::{Case, Findings, Rule};
use crate::model::Path;

rule! {
    /// A pod is created in a namespace whose baseline is not applied yet.
    ///
    /// ## Why
    ///
    /// Until its policies exist, a namespace is open in both directions. A pod that starts in this time can connect to
    /// anything, and the connections that it opens may outlive the policies.
    ///
    /// ## What it checks
    ///
    /// Pods on creation, in namespaces with the label `baseline: pending`.
    ///
    /// - A pod with the scheduling gate of the baseline waits, and is not reported.
    /// - A pod without the gate is reported even if `baseline.gate` is on: the rule runs after `/mutate`, so nothing
    ///   else will hold the pod. Offline, with `baseline.gate` on, the gate is assumed to be set later.
    /// - hostNetwork pods are reported by `host-network` instead, because no baseline applies to them.
    /// - Pod templates (Deployments, Jobs and so on) are not checked. Their pods are checked when they are created.
    /// - Platform namespaces and excluded namespaces have no baseline, so their label is ignored.
    ///
    /// The dialect of the baseline (NetworkPolicy, Cilium or Calico; ClusterNetworkPolicy is not supported) makes no
    /// difference.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/baseline: pending
    /// ---
    /// apiVersion: v1
    /// kind: Pod
    /// metadata:
    ///   name: web
    ///   namespace: shop
    /// spec:
    ///   containers:
    ///   - name: web
    ///     image: web:1
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/baseline: applied
    /// ---
    /// apiVersion: v1
    /// kind: Pod
    /// metadata:
    ///   name: web
    ///   namespace: shop
    /// spec:
    ///   containers:
    ///   - name: web
    ///     image: web:1
    /// ```
    ///
    /// ## Settings
    ///
    /// None. With `baseline.gate` in the configuration such pods wait.
    "baseline-pending", Warn, on = [PendingPods],
    #[derive(Default)]
    pub struct BaselinePending {}
}

impl Rule for BaselinePending {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let (Some(pod), true) = (case.workload(), case.is_new()) else { return };
        let (site, id) = (case.site, &case.change.object().id);
        let gate = site.gate_name();
        let will_wait = case.occasion.author.username().is_none() && site.baseline.gate;
        if &*id.kind != "Pod" || pod.host_network.is_some() || will_wait || pod.gates.iter().any(|own| **own == *gate) {
            return;
        }
        let namespace = id.namespace.as_deref().unwrap_or_default();
        if site.is_left_alone(namespace) {
            return;
        }
        let labels = case.view.all_labels(namespace);
        if labels.and_then(|labels| labels.get(&site.baseline_label())) != Some("pending") {
            return;
        }
        let message = text!("the pod starts without the baseline of namespace {namespace}, which is not applied yet");
        let help = text!(
            "wait until the namespace has `{}=applied`, or set `baseline.gate` in the configuration to hold pods back",
            site.baseline_label()
        );
        findings.add::<Self>(case, Path::root().field("metadata").field("namespace"), message, help, None);
    }
}
