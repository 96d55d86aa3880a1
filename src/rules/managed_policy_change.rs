//! See [`ManagedPolicyChange`].

use super::{Case, Defined, Findings, Rule};
use crate::model::{Body, Namespace, Object, Path};

rule! {
    /// What the baseline controller put there, or a name that is its own, is changed by somebody else.
    ///
    /// ## Why
    ///
    /// The baseline of a namespace is what everything else is added to. Whoever deletes it or rewrites it opens the namespace
    /// until the controller puts it back, and whoever takes the name of one of its policies first keeps the controller from
    /// putting its own there.
    ///
    /// ## What it looks at
    ///
    /// Policies of every dialect (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy) whose names start with
    /// `baseline.reservedPrefix`, whoever made them; their labels, annotations, owners and finalizers too, since the
    /// controller knows its policies by them, and what cannot be deleted stays in force. To take a finalizer away is nobody's
    /// harm. In a namespace that is being deleted it holds as elsewhere, since pods may run there for as long as they like; the
    /// namespace controller is not asked.
    ///
    /// And of namespaces the label `baseline`: nobody else sets it to another value or removes `pending`. Removing `applied`
    /// does no harm, since it comes back, and what is written when a namespace is made is written over. And the annotation
    /// `opened`, which says since when a hatch is open.
    ///
    /// Who makes the change counts: the controller is `baseline.username`. What Calico's API server stores
    /// (`calicoAPIServers`) is whoever's who wrote it there, and they were asked then. It holds while a hatch is open, and no
    /// object can be exempt from it. Offline it never fires: a file has no author, and those that ship in `policies/` have these names.
    ///
    /// ## Fires
    ///
    /// If anybody but the controller comes with it:
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
    /// None. Prefix and user are `baseline.reservedPrefix` and `baseline.username` of the configuration. In a cluster others
    /// may if RBAC says so: the verb `bypass` on `rules` of the group portcullis.dev, by the name of this rule.
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
            Body::Tier(_) | Body::Workload(_) | Body::Service(_) => None,
        };
        let Some((path, what)) = found else { return };
        let Err(why) = case.occasion.author.may_bypass(Self::NAME) else { return };
        let message = text!("{what}, and {username} is somebody else: {why}");
        let help = text!(
            "leave it to the controller, or ask somebody with the verb `bypass` on `rules.portcullis.dev`, resource name {}",
            Self::NAME
        );
        findings.add::<Self>(case, path, message, help, None);
    }
}

/// What is the controller's about a policy, if anything is, and where that is written.
fn policy(case: &Case<'_>, object: &Object) -> Option<(Path, String)> {
    if !case.site.is_reserved(&object.id) {
        return None;
    }
    let owned = match object.id.namespace.as_deref() {
        None => case.view.owned_of_cluster(),
        Some(name) => case.view.namespace(name).map(|facts| facts.owned.as_slice()).unwrap_or_default(),
    };
    let what = if owned.iter().any(|owned| owned.is_applied && owned.object.is_same_object(&object.id)) {
        text!("{} is a policy of the baseline controller", object.id)
    } else {
        let prefix = &case.site.baseline.reserved_prefix;
        text!("names that start with {prefix:?} are those of the baseline controller's policies")
    };
    Some((Path::root().field("metadata").field("name"), what))
}

/// What a change of a namespace claims about its baseline, if it claims anything, and where.
fn label(case: &Case<'_>, namespace: &Namespace) -> Option<(Path, String)> {
    // On a CREATE /mutate has the last word.
    let old = case.change.old().and_then(Object::as_namespace)?;
    let label = case.site.baseline_label();
    let what = match (old.labels.get(&label), namespace.labels.get(&label)) {
        (before, Some(after)) if before != Some(after) => text!("the label says that the baseline is {after}"),
        (Some("pending"), None) => "the label says no more that the baseline is pending".to_owned(),
        _ => return None,
    };
    Some((namespace.labels_path.key(&label), text!("{what}, which only the baseline controller knows")))
}

/// What a change of a namespace claims about its hatch, if it claims anything, and where.
fn opened(case: &Case<'_>, new: &Object) -> Option<(Path, String)> {
    let annotation = case.site.opened_annotation();
    let old = case.change.old().filter(|old| old.annotations.get(&annotation) != new.annotations.get(&annotation))?;
    let what = match (old.annotations.get(&annotation), new.annotations.get(&annotation)) {
        (_, Some(since)) => text!("the annotation says that a hatch is open since {since}"),
        (_, None) => "the annotation says no more since when a hatch is open".to_owned(),
    };
    let place = Path::root().field("metadata").field("annotations").key(&annotation);
    Some((place, text!("{what}, which only the baseline controller knows")))
}
