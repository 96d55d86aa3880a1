//! See [`HostNetwork`].

use super::{Case, Findings, Rule};
use crate::model::{Action, Direction, Peers, Policy, Ports, Rule as TrafficRule};

rule! {
    /// A pod uses the network of its node, in a namespace that is isolated.
    ///
    /// ## Why
    ///
    /// A pod with `hostNetwork: true` has the address of its node. Network policies do not select it: it reaches
    /// whatever the node reaches, cloud metadata and the kubelet included, and everything that may talk to the node may
    /// talk to it. In an isolated namespace that is the way out.
    ///
    /// ## What it looks at
    ///
    /// Pods, and the templates of everything that makes pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job,
    /// CronJob, ReplicationController, PodTemplate. The namespace is isolated if it carries the label of a profile
    /// that isolates, or if a policy isolates all its pods. A namespace of which nothing is known is not isolated.
    ///
    /// Policies of the cluster count where their selector is known to mean the namespace.
    ///
    /// - NetworkPolicy, Cilium, Calico: a policy that isolates a direction for all pods, unless a rule of it lets everything
    ///   through, or leaves everything to later tiers. In a tier whose default action is Pass a policy isolates nothing.
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
    /// - `profiles`: the profiles that isolate. Where it is left out all of `profiles.names` do, since the baseline denies
    ///   what it does not allow.
    /// - `policies`: whether a policy that isolates all pods of the namespace counts too. `true` by default.
    /// - `exemptServiceAccounts`: service accounts, as `namespace/name`, whose pods may use the node's network. None by
    ///   default.
    "host-network", Deny, on = [NodeWorkloads],
    pub struct HostNetwork {
        profiles: Option<Vec<String>>,
        policies: bool,
        exempt_service_accounts: Vec<String>,
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
        let what = if &*object.id.kind == "Pod" { "the pod uses" } else { "its pods use" };
        let place = if namespace.is_empty() { "its namespace".to_owned() } else { text!("namespace {namespace}") };
        let message = text!(
            "{what} the network of the node (service account {account}), where no policy holds, but {place} is isolated \
             {why}"
        );
        let help = "remove `hostNetwork`, or run it in a namespace of the platform".to_owned();
        findings.add::<Self>(case, path.clone(), message, help, None);
    }
}

impl HostNetwork {
    /// What isolates the namespace, if anything is known to.
    fn isolated_by(&self, case: &Case<'_>, namespace: &str) -> Option<String> {
        let label = case.site.profile_label();
        // Where nobody gives it the policies, the label isolates nothing.
        let labels = case.view.all_labels(namespace).filter(|_| !case.site.is_left_alone(namespace));
        let profile = labels.and_then(|labels| labels.get(&label));
        let isolating = self.profiles.as_ref().unwrap_or(&case.site.profiles.names);
        if let Some(profile) = profile.filter(|profile| isolating.iter().any(|isolating| isolating == profile)) {
            return Some(text!("by its profile {profile}"));
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
        Some(text!("by {}", policy.object))
    }
}

/// Whether a rule lets everything through, or leaves it to others.
fn is_open(rule: &TrafficRule) -> bool {
    matches!(rule.action, Action::Allow | Action::Pass)
        && (&rule.peers, &rule.ports) == (&Peers::Any, &Ports::Any)
        && rule.conditions.is_empty()
        && (&rule.only, &rule.within) == (&None, &None)
}
