//! See [`HostNetwork`].

use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, Peers, Policy, Ports, Rule as TrafficRule};

rule! {
    /// A hostNetwork pod runs in a namespace that is isolated.
    ///
    /// ## Why
    ///
    /// A pod with `hostNetwork: true` has the address of its node, and network policies do not select it. It reaches
    /// everything that the node reaches, including cloud metadata and the kubelet, and every peer that may connect to
    /// the node may connect to the pod. It bypasses the isolation of its namespace.
    ///
    /// ## What it checks
    ///
    /// Pods, and the pod templates of Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob,
    /// ReplicationController and PodTemplate. A namespace counts as isolated if it carries the label of an isolating
    /// profile, or if a policy isolates all its pods. An unknown namespace counts as not isolated.
    ///
    /// Cluster-scoped policies count if their selector is known to match the namespace.
    ///
    /// - NetworkPolicy, Cilium, Calico: a policy that isolates a direction for all pods. It does not count if one of
    ///   its rules allows all traffic, or passes all traffic to later tiers. In a tier whose default action is Pass,
    ///   policies do not isolate.
    /// - ClusterNetworkPolicy: does not isolate.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: isolated
    /// ---
    /// apiVersion: v1
    /// kind: Pod
    /// metadata:
    ///   name: agent
    ///   namespace: batch
    /// spec:
    ///   hostNetwork: true
    ///   containers:
    ///   - name: agent
    ///     image: agent:1
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: batch
    ///   labels:
    ///     network-policy.portcullis.dev/profile: isolated
    /// ---
    /// apiVersion: v1
    /// kind: Pod
    /// metadata:
    ///   name: agent
    ///   namespace: batch
    /// spec:
    ///   containers:
    ///   - name: agent
    ///     image: agent:1
    /// ```
    ///
    /// ## Settings
    ///
    /// - `profiles`: the profiles that isolate. All of `profiles.names` by default, because the baseline denies
    ///   everything that it does not allow.
    /// - `policies`: `true` also counts policies that isolate all pods of the namespace. `true` by default.
    /// - `exemptServiceAccounts`: service accounts, as `namespace/name`, whose pods may use hostNetwork. None by
    ///   default.
    "host-network", Deny, on = [NodeWorkloads],
    pub struct HostNetwork {
        pub(crate) profiles: Option<Vec<String>>,
        policies: bool,
        pub(crate) exempt_service_accounts: Vec<String>,
    }
}

impl Default for HostNetwork {
    fn default() -> Self {
        Self { profiles: None, policies: true, exempt_service_accounts: Vec::new() }
    }
}

impl Rule for HostNetwork {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some(workload) = case.workload() else { return };
        let Some(path) = &workload.host_network else { return };
        let object = case.change.object();
        let namespace = object.namespace().unwrap_or_default();
        let account = text!("{namespace}/{}", workload.service_account);
        if self.exempt_service_accounts.contains(&account) {
            return;
        }
        let Some(why) = self.isolated_by(case, namespace) else { return };
        let what = match &*object.id.kind {
            "Pod" => "the pod uses `hostNetwork` and bypasses".to_owned(),
            kind => text!("pods of this {kind} use `hostNetwork` and bypass"),
        };
        let place = if namespace.is_empty() { "their namespace".to_owned() } else { text!("namespace {namespace}") };
        let message = text!("{what} the isolation of {place} by {why} (service account {account})");
        let help = "remove `hostNetwork`, or use a platform namespace".to_owned();
        findings.add::<Self>(case, path.clone(), message, help, None);
    }
}

impl HostNetwork {
    /// Describes the profile or policy that isolates the namespace, if one is known.
    fn isolated_by(&self, case: &Case<'_>, namespace: &str) -> Option<String> {
        let label = case.site.profile_label();
        // In platform and excluded namespaces the label has no policies behind it, so it does not isolate.
        let labels = case.view.all_labels(namespace).filter(|_| !case.site.is_left_alone(namespace));
        let profile = labels.and_then(|labels| labels.get(&label));
        let isolating = self.profiles.as_ref().unwrap_or(&case.site.profiles.names);
        if let Some(profile) = profile.filter(|profile| isolating.iter().any(|isolating| isolating == profile)) {
            return Some(text!("profile {profile}"));
        }
        let scene = case.after();
        let closes = |policy: &Policy, direction: Direction| {
            policy.isolates(direction, &scene) && !policy.side(direction).rules.iter().any(is_open)
        };
        let isolates_all = |policy: &&Policy| {
            policy.subject.all_pods()
                && Direction::ALL.into_iter().any(|direction| closes(policy, direction))
                && policy.subject.namespaces.mean(namespace, case.view) == Some(true)
        };
        let policy = scene.policies(namespace).filter(|_| self.policies).find(isolates_all)?;
        Some(policy.object.to_string())
    }
}

/// Returns true if a rule allows all traffic, or passes all traffic to later tiers.
fn is_open(rule: &TrafficRule) -> bool {
    matches!(rule.action, Action::Allow | Action::Pass)
        && (&rule.peers, &rule.ports) == (&Peers::Any, &Ports::Any)
        && rule.conditions.is_empty()
        && (&rule.only, &rule.within) == (&None, &None)
}
