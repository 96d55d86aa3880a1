//! See [`UntrustedChange`].

use super::{Case, Change, Findings, Rule};
use crate::model::{Body, Namespace, Object, Path};

rule! {
    /// A user who is not listed changes a policy, or a label that selects policies.
    ///
    /// ## Why
    ///
    /// If policies are deployed from Git, a manual change is either reverted within minutes or goes unnoticed. With
    /// this rule only the deployment tool can change them.
    ///
    /// ## What it checks
    ///
    /// The user who creates, changes or deletes policies of any dialect (NetworkPolicy, Cilium, Calico and its tiers,
    /// ClusterNetworkPolicy), and the user who sets, changes or removes the namespace labels that select policies:
    /// profile, access, enforcement.
    ///
    /// Always allowed are:
    ///
    /// - the default profile that a new namespace gets automatically;
    /// - the user of the baseline controller;
    /// - the namespace controller and the garbage collector, when they finish the deletion of a namespace or of an
    ///   owner;
    /// - Calico's API server (`calicoAPIServers`), when it stores an object that a user sent to it;
    /// - a change that leaves the spec of a policy unchanged.
    ///
    /// Offline the rule never fires, because a file has no author.
    ///
    /// ## Fires
    ///
    /// If a user who is not listed applies it:
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: web
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
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
    ///     team: shop
    /// ```
    ///
    /// ## Settings
    ///
    /// - `users`: the users that may make changes, such as `system:serviceaccount:flux-system:kustomize-controller`.
    ///   None by default.
    /// - `groups`: the groups whose members may make changes. None by default.
    "untrusted-change", Off, on = [Policies, Namespaces],
    #[derive(Default)]
    pub struct UntrustedChange {
        users: Vec<String>,
        groups: Vec<String>,
    }
}

impl Rule for UntrustedChange {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let author = case.occasion.author;
        let Some(username) = author.username().filter(|_| !case.is_passed_on()) else { return };
        let is_listed =
            || self.users.iter().any(|user| user == username) || self.groups.iter().any(|g| author.is_in(g));
        let object = case.change.object();
        let verb = match case.change {
            Change::Write { old: None, .. } => "create",
            Change::Write { .. } => "change",
            Change::Delete { .. } => "delete",
        };
        let places: Vec<(Path, String)> = match &object.body {
            Body::Policies(_) | Body::Tier(_) => vec![(Path::root(), text!("{verb} {}", object.id))],
            Body::Namespace(namespace) => changed_labels(case, namespace),
            Body::Workload(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => return,
        };
        if places.is_empty() || username == case.site.baseline.username || is_listed() {
            return;
        }
        for (path, what) in places {
            let message =
                text!("user {username} may not {what}: not listed in `users` or `groups` of untrusted-change");
            let help = "make this change in its source, such as Git".to_owned();
            findings.add::<Self>(case, path, message, help, None);
        }
    }
}

/// The labels that select policies and are changed, with their paths.
fn changed_labels(case: &Case<'_>, new: &Namespace) -> Vec<(Path, String)> {
    let site = case.site;
    let old = case.change.old().and_then(Object::as_namespace);
    let chooses = |label: &str| {
        label == site.profile_label() || label == site.enforcement_label() || site.access_name(label).is_some()
    };
    let is_given =
        |label: &str, value: &str| label == site.profile_label() && site.profiles.default.as_deref() == Some(value);
    let set = new.labels.iter().filter(|(label, value)| match old {
        Some(old) => old.labels.get(label) != Some(value),
        None => !is_given(label, value),
    });
    let removed =
        old.into_iter().flat_map(|old| old.labels.iter()).filter(|(label, _)| new.labels.get(label).is_none());
    set.chain(removed)
        .filter(|(label, _)| chooses(label))
        .map(|(label, _)| (new.labels_path.key(label), text!("change label `{label}`")))
        .collect()
}
