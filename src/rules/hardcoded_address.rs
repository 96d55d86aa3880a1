//! See [`HardcodedAddress`].

use super::shared::well_known::is_of_node;
use super::{Case, Findings, Rule};
use crate::model::Direction;

rule! {
    /// A peer is an IP address, although the pod or service behind the address may move.
    ///
    /// ## Why
    ///
    /// Pods, nodes, load balancers and managed services get new addresses. A rule by address then either blocks what it
    /// was meant to allow, or allows the next owner of the address. A selector follows the pods that it selects.
    ///
    /// ## What it checks
    ///
    /// Each CIDR among the peers of an allow rule. These are exempt: CIDRs of all addresses (`0.0.0.0/0`, `::/0`), and
    /// addresses that always belong to the node of the pod (link-local addresses, and the IPv6 address from which
    /// Istio's ambient mesh sends probes).
    ///
    /// - NetworkPolicy: `ipBlock`.
    /// - Cilium: the CIDRs of a rule, as strings and as sets.
    /// - Calico: `nets`, if the rule has no additional selector.
    /// - ClusterNetworkPolicy: `networks`.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-proxy
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - ipBlock:
    ///         cidr: 10.4.7.12/32
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
    ///   name: allow-proxy
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: proxy
    ///       podSelector:
    ///         matchLabels:
    ///           app: proxy
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Settings
    ///
    /// - `allowed`: allowed CIDRs, such as the network of an office. A CIDR within one of them is not reported. Empty
    ///   by default.
    "hardcoded-address", Warn,
    #[derive(Default)]
    pub struct HardcodedAddress {
        #[schemars(with = "Vec<String>")]
        allowed: Vec<ipnet::IpNet>,
    }
}

impl Rule for HardcodedAddress {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        for (direction, rule) in case.allow_rules() {
            for (peer, block) in rule.blocks() {
                let net = block.net;
                if net.prefix_len() == 0 || is_of_node(net) || self.allowed.iter().any(|allowed| allowed.contains(&net))
                {
                    continue;
                }
                // A list may hold tens of thousands, and each text costs steps by its parts and its length.
                let way = if direction == Direction::Ingress { "ingress from " } else { "egress to " };
                let message = text!("{way}{block} is allowed by IP address, not by labels");
                let help =
                    "if the peer runs in the cluster, select it by labels, because its address can change".to_owned();
                findings.add::<Self>(case, peer.path.clone(), message, help, None);
            }
        }
    }
}
