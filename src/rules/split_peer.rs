//! See [`SplitPeer`].

use super::{Case, Findings, Rule};
use crate::model::{Fix, Namespaces, Path, Peers, Pods, Who};

rule! {
    /// A rule lists a namespaceSelector and a podSelector as two peers, so a match of either is enough.
    ///
    /// ## Why
    ///
    /// `- namespaceSelector` and `- podSelector` as two list items allow all pods of the selected namespaces, and the
    /// selected pods of the policy's own namespace. As one item they allow only the selected pods in the selected
    /// namespaces. The difference is one dash, and a policy that looks strict allows a whole namespace.
    ///
    /// ## What it checks
    ///
    /// Rules with two kinds of peers: a peer that selects namespaces without a pod selector, and a peer that selects
    /// some pods without a namespace selector. Exempt are a podSelector that selects every pod, which is the usual way
    /// to write "my own namespace, and that other one", and peers with both selectors.
    ///
    /// - NetworkPolicy: `namespaceSelector` and `podSelector` in one `from` or `to`.
    /// - Cilium: two selectors in one `fromEndpoints` or `toEndpoints`, one with only namespace labels, the other with
    ///   only pod labels.
    /// - Calico and ClusterNetworkPolicy: not checked, because they have both selectors in one place.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           team: web
    ///     - podSelector:
    ///         matchLabels:
    ///           app: frontend
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           team: web
    ///       podSelector:
    ///         matchLabels:
    ///           app: frontend
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "split-peer", Warn,
    #[derive(Default)]
    pub struct SplitPeer {}
}

impl Rule for SplitPeer {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for (direction, rule) in case.allow_rules() {
            let Peers::Only(peers) = &rule.peers else { continue };
            let bare = |is_bare: fn(&Pods) -> bool| -> Vec<(&Path, &Pods)> {
                let pods = peers.iter().filter_map(|peer| match &peer.who {
                    Who::Pods(pods) => Some((&peer.path, pods)),
                    _ => None,
                });
                pods.filter(|(_, pods)| is_bare(pods)).collect()
            };
            let namespaces = bare(|pods| matches!(pods.namespaces, Namespaces::Matching(_)) && pods.labels.is_none());
            let pods = bare(|pods| matches!(pods.namespaces, Namespaces::Own(_)) && !pods.all_pods());
            let (Some((namespaces_path, all_of)), Some((pods_path, some_of))) = (namespaces.first(), pods.first())
            else {
                continue;
            };
            let preposition = direction.preposition();
            let message = text!(
                "{direction} is allowed {preposition} {all_of}, and also {preposition} {some_of}; matching one of the \
                 two peers is enough"
            );
            let help = "to require both, put namespaceSelector and podSelector into one list item; otherwise write a \
                        rule for each";
            let fix = (namespaces.len() == 1 && pods.len() == 1)
                .then(|| Fix::JoinPeers { namespaces: (*namespaces_path).clone(), pods: (*pods_path).clone() });
            let path = namespaces_path.parent();
            findings.add::<Self>(case, path, message, help.into(), fix);
        }
    }
}
