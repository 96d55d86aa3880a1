//! See [`OpenIngress`].

use std::collections::HashMap;

use ipnet::IpNet;

use super::shared::host_policies::is_for_hosts;
use super::shared::later_stages::{LaterStages, verb};
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    AddressSet, BUDGET, Block, Direction, Entity, Path, Peer, Peers, Ports, Rule as TrafficRule, Selector, Stage, Who,
};

rule! {
    /// Ingress is allowed from anywhere, or from the whole cluster.
    ///
    /// ## Why
    ///
    /// `0.0.0.0/0` and a missing `from` admit every pod of the cluster and every machine that can reach the network of the
    /// pods. `namespaceSelector: {}` admits every pod of every tenant. For a public entry or a shared service that is right.
    /// Everywhere else it defeats the purpose of the policy.
    ///
    /// ## What it checks
    ///
    /// The rules of a policy that allow ingress:
    ///
    /// - rules without peers;
    /// - CIDRs. The CIDRs of all rules of the policy for the same ports are added up, so splitting `0.0.0.0/0` into two
    ///   halves changes nothing. They are reported if they omit less than 1/256 of the addresses that a pod can have in
    ///   IPv4 or in IPv6. `0.0.0.0/0` except `10.0.0.0/8` is not reported; except `192.0.2.0/24` it is;
    /// - peers that match all pods of all namespaces, except in platform namespaces, which serve the whole cluster.
    ///
    /// By dialect:
    ///
    /// - NetworkPolicy: `from` left out or empty; `ipBlock` with and without `except`; `namespaceSelector: {}` without
    ///   `podSelector` or with an empty one.
    /// - Cilium: a rule with ports and no peers; `fromCIDR` and `fromCIDRSet`; the entities `all`, `world` and
    ///   `cluster`; and the entity `remote-node` if `toPorts` lists ports, because it includes hostNetwork pods of other
    ///   nodes and NodePort traffic that another node forwards.
    /// - Calico: an Allow rule without a source; `nets` minus `notNets`; `namespaceSelector: all()`. A Pass rule in the
    ///   default tier is checked too, unless a later tier denies all of its traffic. A GlobalNetworkPolicy for hosts is not
    ///   checked, as in `any-port`.
    /// - ClusterNetworkPolicy: not checked, because its ingress comes from pods only and administrators write it for
    ///   the whole cluster.
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
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            let later = LaterStages::after(case, policy, &mut budget);
            let namespace = policy.object.namespace.as_deref();
            let is_shared =
                policy.stage != Stage::Policies || namespace.is_some_and(|name| case.site.is_platform(name));
            let mut rest = Vec::new();
            for rule in &policy.ingress.rules {
                if !later.lets_through(Direction::Ingress, rule, &mut budget) {
                    continue;
                }
                match Open::at(rule, is_shared) {
                    Some(open) => open.report(case, findings),
                    None => rest.push(rule),
                }
            }
            for open in by_blocks(&rest) {
                open.report(case, findings);
            }
        }
    }
}

/// A rule that admits too many.
struct Open<'a> {
    rule: &'a TrafficRule,
    path: &'a Path,
    /// The peers, as the manifest names them.
    from: String,
    /// Who may connect.
    who: &'static str,
}

impl<'a> Open<'a> {
    fn anywhere(rule: &'a TrafficRule, path: &'a Path, from: String) -> Self {
        Self { rule, path, from, who: "any client that can reach the pods" }
    }

    /// Returns how a rule is open by one of its peers.
    fn at(rule: &'a TrafficRule, is_shared: bool) -> Option<Self> {
        let Peers::Only(peers) = &rule.peers else {
            return Some(Self::anywhere(rule, &rule.path, "anywhere".to_owned()));
        };
        // A comparison of one peer takes less time than a step.
        charge(1 + peers.len() / 16);
        if let Some(peer) = peers.iter().find(|peer| peer.who.is_anywhere()) {
            return Some(Self::anywhere(rule, &peer.path, text!("{}", peer.who)));
        }
        peers.iter().filter(|_| !is_shared).find_map(|peer| {
            let who = match &peer.who {
                Who::Pods(pods) if pods.are_all() => "every pod of the cluster",
                Who::Entity(Entity::Cluster) => "every pod and every node of the cluster",
                Who::Entity(Entity::RemoteNode) if rule.ports != Ports::Any => {
                    "hostNetwork pods of other nodes and NodePort clients outside of the cluster"
                }
                _ => return None,
            };
            Some(Self { rule, path: &peer.path, from: text!("{}", peer.who), who })
        })
    }

    fn report(self, case: &Case<'_>, findings: &mut Findings) {
        let Self { rule, path, from, who } = self;
        let message = text!("ingress from {from} {} on {}, so {who} may connect", verb(rule), rule.ports);
        let help = "select the pods, namespaces or addresses that need access".to_owned();
        findings.add::<OpenIngress>(case, path.clone(), message, help, None);
    }
}

/// A CIDR, with its peer and its rule.
type Written<'a> = (&'a TrafficRule, &'a Peer, &'a Block);

/// Returns the rules that are open by their CIDRs. The CIDRs of rules for the same pods and ports are added up.
fn by_blocks<'a>(rules: &[&'a TrafficRule]) -> Vec<Open<'a>> {
    let nets = || rules.iter().flat_map(|rule| rule.blocks()).map(|(_, block)| block.net);
    charge(1 + nets().count() / 16);
    if !may_be_everywhere(nets()) {
        return Vec::new();
    }
    let mut sums: HashMap<(String, Option<&'a Selector>), Vec<Written<'a>>> = HashMap::new();
    let mut order = Vec::new();
    // A rule for some addresses of the local side is for pods that no other rule is known to be for.
    for rule in rules.iter().filter(|rule| rule.within.is_none()) {
        let cost: usize = rule.blocks().map(|(_, block)| 1 + block.except.len()).sum();
        charge(cost);
        if cost == 0 {
            continue;
        }
        // The words are the same where the ports are, wherever they are written.
        charge(rule.ports.entries());
        let key = (text!("{}", rule.ports), rule.only.as_ref());
        let blocks = sums.entry(key.clone()).or_default();
        if blocks.is_empty() {
            order.push(key);
        }
        blocks.extend(rule.blocks().map(|(peer, block)| (*rule, peer, block)));
    }
    let open = |key| {
        let blocks = sums.remove(&key)?;
        // Only a block of a whole family can be nearly everywhere alone.
        let mut whole = blocks.iter().filter(|(_, _, block)| block.net.prefix_len() == 0);
        if let Some((rule, peer, block)) = whole.find(|(_, _, block)| block.addresses().is_nearly_everywhere()) {
            return Some(Open::anywhere(rule, &peer.path, text!("{block}")));
        }
        if !may_be_everywhere(blocks.iter().map(|(_, _, block)| block.net)) {
            return None;
        }
        let all = AddressSet::union(blocks.iter().map(|(_, _, block)| block.addresses()));
        let (rule, peer, _) = blocks.last().filter(|_| all.is_nearly_everywhere())?;
        let named: Vec<String> = blocks.iter().take(MAX_NAMED).map(|(_, _, block)| text!("{block}")).collect();
        let mut from = named.join(" and ");
        if let Some(more @ 1..) = blocks.len().checked_sub(MAX_NAMED) {
            from.push_str(&text!(" and {more} more CIDRs"));
        }
        Some(Open::anywhere(rule, &peer.path, from))
    };
    order.into_iter().filter_map(open).collect()
}

/// Returns false if the CIDRs are too small to be nearly everywhere together. This is cheap, and holds for most lists.
fn may_be_everywhere(nets: impl Iterator<Item = IpNet>) -> bool {
    let (mut v4, mut v6) = (0_u128, 0_u128);
    for net in nets {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
        let sum = if net.addr().is_ipv4() { &mut v4 } else { &mut v6 };
        *sum = sum.saturating_add(size);
    }
    // Three quarters of the family, which is less than what pods can have without 1/256.
    v4 >= 3 << 30 || v6 >= 3 << 126
}

/// Maximum number of CIDRs that a message names.
const MAX_NAMED: usize = 4;
