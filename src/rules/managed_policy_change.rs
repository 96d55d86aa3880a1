//! See [`ManagedPolicyChange`].

use super::shared::bypass::ask_for_bypass;
use super::{Case, Defined, Findings, Rule};
use crate::model::{Body, Namespace, Object, Path};

rule! {
    /// A user other than the baseline controller changes a managed policy, or uses a name reserved for one.
    ///
    /// ## Why
    ///
    /// All other policies of a namespace build on its baseline. Deleting or rewriting the baseline opens the namespace
    /// until the controller restores it. Creating a policy under a reserved name stops the controller from applying its
    /// own policy of this name.
    ///
    /// ## What it checks
    ///
    /// Policies of every dialect (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy) whose names start with
    /// `baseline.reservedPrefix`, no matter which user created them. Their labels, annotations, owners and finalizers
    /// are protected too: the controller identifies its policies by them, and a policy that cannot be deleted stays in
    /// force. Removing a finalizer is allowed. The rule also applies in a namespace that is being deleted, because its
    /// pods may run for a long time; the namespace controller is exempt.
    ///
    /// On namespaces, the rule protects:
    ///
    /// - the label `baseline`: other users may neither set it to another value nor remove `pending`. Removing `applied`
    ///   is allowed, because the controller sets it again. A value written when a namespace is created is overwritten.
    /// - the annotation `opened`, the time since when the escape hatch is open.
    ///
    /// The controller is the user `baseline.username`. Writes by Calico's own API server (`calicoAPIServers`) are not
    /// checked again: the user was checked when the request arrived. The rule also applies while the escape hatch is
    /// open, and objects cannot be exempted from it. Offline it never fires: a file has no author, and the policies
    /// shipped in `policies/` have reserved names.
    ///
    /// ## Fires
    ///
    /// If any user other than the controller applies it:
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: portcullis-baseline-allow-dns
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-dns
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    /// ```
    ///
    /// ## Settings
    ///
    /// None. The prefix and the user are `baseline.reservedPrefix` and `baseline.username` of the configuration. On a
    /// cluster RBAC can grant other users the permission: the verb `bypass` on `rules` of the group portcullis.dev,
    /// with the name of this rule.
    "managed-policy-change", Deny, guard = true, on = [Policies, Namespaces],
    #[derive(Default)]
    pub struct ManagedPolicyChange {}
}

impl Rule for ManagedPolicyChange {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some(username) = case.occasion.author.username() else { return };
        if username == case.site.baseline.username || case.is_passed_on() {
            return;
        }
        let object = case.change.object();
        let found = match &object.body {
            Body::Policies(_) => policy(case, object),
            Body::Namespace(namespace) => label(case, namespace).or_else(|| opened(case, object)),
            Body::Tier(_) | Body::Workload(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => None,
        };
        let Some((path, what)) = found else { return };
        let Err(why) = case.occasion.author.may_bypass(Self::NAME) else { return };
        let message = text!("only the baseline controller may {what}: {why}");
        let help = text!("leave the object to the controller, or {}", ask_for_bypass(Self::NAME));
        findings.add::<Self>(case, path, message, help, None);
    }
}

/// Describes why a policy belongs to the controller, with the path. None if it does not.
fn policy(case: &Case<'_>, object: &Object) -> Option<(Path, String)> {
    if !case.site.is_reserved(&object.id) {
        return None;
    }
    let owned = match object.id.namespace.as_deref() {
        None => case.view.owned_of_cluster(),
        Some(name) => case.view.namespace(name).map(|facts| facts.owned.as_slice()).unwrap_or_default(),
    };
    let what = if owned.iter().any(|owned| owned.is_applied && owned.object.is_same_object(&object.id)) {
        text!("change its policy {}", object.id)
    } else {
        let prefix = &case.site.baseline.reserved_prefix;
        text!("write policies with names that start with `{prefix}`")
    };
    Some((Path::root().field("metadata").field("name"), what))
}

/// Describes a forbidden change of the `baseline` label, with the path.
fn label(case: &Case<'_>, namespace: &Namespace) -> Option<(Path, String)> {
    // On CREATE `/mutate` sets the final value.
    let old = case.change.old().and_then(Object::as_namespace)?;
    let label = case.site.baseline_label();
    let what = match (old.labels.get(&label), namespace.labels.get(&label)) {
        (before, Some(after)) if before != Some(after) => text!("set label `{label}={after}`"),
        (Some("pending"), None) => text!("remove label `{label}=pending`"),
        _ => return None,
    };
    Some((namespace.labels_path.key(&label), what))
}

/// Describes a forbidden change of the `opened` annotation, with the path.
fn opened(case: &Case<'_>, new: &Object) -> Option<(Path, String)> {
    let annotation = case.site.opened_annotation();
    let old = case.change.old().filter(|old| old.annotations.get(&annotation) != new.annotations.get(&annotation))?;
    let what = match (old.annotations.get(&annotation), new.annotations.get(&annotation)) {
        (_, Some(since)) => text!("set annotation `{annotation}` to `{since}`"),
        (_, None) => text!("remove annotation `{annotation}`"),
    };
    let place = Path::root().field("metadata").field("annotations").key(&annotation);
    Some((place, what))
}
