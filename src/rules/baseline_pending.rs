//! See [`BaselinePending`].

use super::{Case, Findings, Rule};
use crate::model::Path;

rule! {
    /// A pod arrives in a namespace whose baseline is not applied yet.
    ///
    /// ## Why
    ///
    /// Until its policies are there, a namespace is open both ways. A pod that starts in that moment talks to whomever it
    /// likes, and the connections that it has opened by then may outlive the policies.
    ///
    /// ## What it looks at
    ///
    /// Pods when they are made, and whether their namespace carries the label `baseline: pending`. A pod that carries the
    /// scheduling gate of the baseline waits for it, and is passed over; whether gates are set at all is not asked, since
    /// this is decided after `/mutate` had its turn: without the gate nothing holds the pod. Offline, where `baseline.gate` is
    /// on, it is assumed that the gate will be set. Pods that use the network of their node are told of by `host-network`;
    /// no baseline holds them. Templates make pods later, and those are asked about then. Namespaces of the platform and
    /// excluded ones get no baseline, whatever their label says.
    ///
    /// Which dialect the baseline is in (NetworkPolicy, Cilium, Calico; no ClusterNetworkPolicy) makes no difference.
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
    /// None. `baseline.gate` of the configuration makes such pods wait.
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
        let message =
            text!("the baseline of namespace {namespace} is not applied yet, so the pod starts with no policies");
        let help =
            "wait until its label says `applied`, or let pods wait by `baseline.gate` of the configuration".into();
        findings.add::<Self>(case, Path::root().field("metadata").field("namespace"), message, help, None);
    }
}
