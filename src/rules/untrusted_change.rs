//! See [`UntrustedChange`].

use super::{Case, Findings, Rule};
use crate::model::{Body, Namespace, Object, Path};

rule! {
    /// A policy, or a label that chooses policies, is changed by somebody who is not listed.
    ///
    /// ## Why
    ///
    /// Where policies come from Git, a change by hand is either undone within minutes or never seen by anybody. With this
    /// rule only the tool that brings them changes them.
    ///
    /// ## What it looks at
    ///
    /// Who makes, changes or deletes policies of any dialect (NetworkPolicy, Cilium, Calico and its tiers,
    /// ClusterNetworkPolicy), and who sets, changes or removes the labels of a namespace that choose policies: profile,
    /// access, enforcement. The profile that a new namespace gets of its own accord counts for nobody. The user of the
    /// baseline controller may always, and so may those that only finish the deletion of a namespace or of an owner, and Calico's
    /// API server (`calicoAPIServers`) where it stores what others wrote. A change that leaves the spec of a policy as it is is
    /// not asked about. Offline it never fires, since a file has no author.
    ///
    /// ## Fires
    ///
    /// If somebody comes with it who is not listed:
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
    /// - `users`: the names of those who may, such as `system:serviceaccount:flux-system:kustomize-controller`. None by default.
    /// - `groups`: groups whose members may. None by default.
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
        let places: Vec<(Path, String)> = match &object.body {
            Body::Policies(_) | Body::Tier(_) => vec![(Path::root(), object.id.to_string())],
            Body::Namespace(namespace) => changed_labels(case, namespace),
            Body::Workload(_) | Body::Service(_) => return,
        };
        if places.is_empty() || username == case.site.baseline.username || is_listed() {
            return;
        }
        for (path, what) in places {
            let message = text!("{} {what} is left to those who are listed, and {username} is not", case.verb());
            let help = "make the change where they take it from, such as in Git".to_owned();
            findings.add::<Self>(case, path, message, help, None);
        }
    }
}

/// The labels that choose policies and are not as they were, where they are written.
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
        .map(|(label, _)| (new.labels_path.key(label), text!("the label {label}")))
        .collect()
}
