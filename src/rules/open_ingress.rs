//! See [`OpenIngress`].

use super::passed_on::{Later, verb};
use super::{Case, Findings, Rule};
use crate::model::{BUDGET, Direction, Peers};

rule! {
    /// Ingress is allowed from anywhere.
    ///
    /// ## Why
    ///
    /// `0.0.0.0/0` and a missing `from` let in every pod of the cluster and every machine that can reach the pod's
    /// network. For a public entry that is right; for anything behind one it takes the policy's point away.
    ///
    /// ## What it looks at
    ///
    /// Each rule that allows ingress, on its own: no peers; a block of all IPv4 or all IPv6 addresses without exceptions.
    ///
    /// - NetworkPolicy: `from` left out or empty, `0.0.0.0/0`, `::/0`.
    /// - Cilium: a rule with ports and no peers, `fromCIDR` and `fromCIDRSet`, the entities all and world.
    /// - Calico: an Allow rule without a source, or with nets of all addresses. In the default tier a Pass rule too, unless
    ///   something in a later tier stops all of it.
    /// - ClusterNetworkPolicy: not concerned, its ingress comes from pods only.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-web
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: web
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - ports:
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
    ///   name: allow-web
    ///   namespace: shop
    /// spec:
    ///   podSelector:
    ///     matchLabels:
    ///       app: web
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: gateway
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// None.
    "open-ingress", Warn,
    #[derive(Default)]
    pub struct OpenIngress {}
}

impl Rule for OpenIngress {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let mut budget = BUDGET;
        for policy in case.policies() {
            let later = Later::than(case, policy, &mut budget);
            for rule in &policy.ingress.rules {
                let (path, from) = match &rule.peers {
                    Peers::Any => (rule.path.clone(), "anywhere".to_owned()),
                    Peers::Only(peers) => match peers.iter().find(|peer| peer.who.is_anywhere()) {
                        Some(peer) => (peer.path.clone(), text!("{}", peer.who)),
                        None => continue,
                    },
                };
                if !later.lets_through(Direction::Ingress, rule, &mut budget) {
                    continue;
                }
                let message = text!(
                    "ingress from {from} {} on {}: anything that reaches the pods may connect",
                    verb(rule),
                    rule.ports
                );
                let help = "name the pods, the namespaces or the addresses that have to get in".to_owned();
                findings.add::<Self>(case, path, message, help, None);
            }
        }
    }
}
