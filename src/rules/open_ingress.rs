//! See [`OpenIngress`].

use std::collections::HashMap;

use ipnet::IpNet;

use super::shared::combined_rules::{self, Part};
use super::shared::host_policies::is_for_hosts;
use super::shared::later_stages::{LaterStages, verb};
use super::{Case, Findings, Rule};
use crate::budget::charge;
use crate::model::{
    AddressSet, BUDGET, Block, Direction, Entity, Namespaces, Numbers, Operator, Path, Peer, Peers, Pods, Policy, Port,
    Ports, Protocol, Ranges, Rule as TrafficRule, Selector, Stage, Who,
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
    /// - CIDRs. They are reported if they leave out less than 1/256 of the family in private addresses, and less than
    ///   1/16 in public ones. `0.0.0.0/0` except `10.0.0.0/8` is not reported; except `192.0.2.0/24` it is. IPv6 counts
    ///   as `2000::/3` and `fc00::/7`; `2000::/3` alone leaves out the private addresses;
    /// - peers that match all pods of all namespaces, however that is written, except in platform namespaces, which
    ///   serve the whole cluster. Every namespace has the label `kubernetes.io/metadata.name`.
    ///
    /// CIDRs and pods are added up for each port that several rules open, also with those of other policies for the
    /// same pods. So splitting `0.0.0.0/0` into two halves, or all namespaces into those with and without a label,
    /// changes nothing.
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
    /// **Limits.** Pods of several rules are added up for at most 64 ports. Policies are combined as in `any-port`.
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
                match Open::at(rule, is_shared, &mut budget) {
                    Some(open) => open.report(case, findings),
                    None => rest.push(rule),
                }
            }
            let own = by_blocks(&rest);
            if own.is_empty() {
                Together { case, policy, is_shared, budget: &mut budget }.report(rest, findings);
            }
            for open in own {
                open.report(case, findings);
            }
        }
    }
}

const ANY_CLIENT: &str = "any client that can reach the pods";
const EVERY_POD: &str = "every pod of the cluster";

/// A rule that admits too many.
struct Open<'a> {
    rule: &'a TrafficRule,
    path: &'a Path,
    /// The peers, as the manifest names them.
    from: String,
    /// The ports, as text.
    ports: String,
    /// Who may connect.
    who: &'static str,
}

impl<'a> Open<'a> {
    fn anywhere(rule: &'a TrafficRule, path: &'a Path, from: String) -> Self {
        Self { rule, path, from, ports: text!("{}", rule.ports), who: ANY_CLIENT }
    }

    /// Returns how a rule is open by one of its peers.
    fn at(rule: &'a TrafficRule, is_shared: bool, budget: &mut usize) -> Option<Self> {
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
                Who::Pods(pods) if are_every_pod([pods], budget) => EVERY_POD,
                Who::Entity(Entity::Cluster) => "every pod and every node of the cluster",
                Who::Entity(Entity::RemoteNode) if rule.ports != Ports::Any => {
                    "hostNetwork pods of other nodes and NodePort clients outside of the cluster"
                }
                _ => return None,
            };
            Some(Self { rule, path: &peer.path, from: text!("{}", peer.who), ports: text!("{}", rule.ports), who })
        })
    }

    fn report(self, case: &Case<'_>, findings: &mut Findings) {
        let Self { rule, path, from, ports, who } = self;
        let message = text!("ingress from {from} {} on {ports}, so {who} may connect", verb(rule));
        let help = "select the pods, namespaces or addresses that need access".to_owned();
        findings.add::<OpenIngress>(case, path.clone(), message, help, None);
    }
}

/// Returns true if these peers match every pod of the cluster together.
fn are_every_pod<'a>(pods: impl IntoIterator<Item = &'a Pods>, budget: &mut usize) -> bool {
    let may_be_many = |pods: &&Pods| {
        matches!(&pods.namespaces, Namespaces::Matching(selector) if !lists_values(selector))
            && !pods.labels.as_ref().is_some_and(lists_values)
    };
    let pods: Vec<&Pods> = pods.into_iter().filter(may_be_many).collect();
    !pods.is_empty() && (pods.iter().any(|pods| pods.are_all()) || Pods::are_every_pod(pods, budget))
}

/// Returns true if the selector is written so that it requires one of some values. It cannot match everything, and that
/// takes no proof.
fn lists_values(selector: &Selector) -> bool {
    charge(1);
    match selector {
        Selector::Label(label) => matches!(label.operator, Operator::In(_)),
        Selector::All(parts) => parts.iter().any(lists_values),
        Selector::Any(_) | Selector::Not(_) => false,
    }
}

/// The pods that a rule names as peers.
fn pods_of(rule: &TrafficRule) -> impl Iterator<Item = &Pods> {
    rule.peers.listed().iter().filter_map(|peer| match &peer.who {
        Who::Pods(pods) => Some(pods),
        _ => None,
    })
}

/// Maximum number of ports for which peers of several rules are added up.
const MAX_PROBES: usize = 64;

/// Rules for the same pods that are open together on some ports.
struct Together<'a, 'b> {
    case: &'a Case<'a>,
    policy: &'a Policy,
    is_shared: bool,
    budget: &'b mut usize,
}

impl<'a> Together<'a, '_> {
    /// Reports the last of these rules of the policy if they are open together, or together with other policies.
    fn report(&mut self, rules: Vec<&'a TrafficRule>, findings: &mut Findings) {
        let may_have_pods = !self.is_shared && rules.iter().any(|rule| pods_of(rule).next().is_some());
        if !may_have_pods && rules.iter().all(|rule| rule.blocks().next().is_none()) {
            return;
        }
        let parts = combined_rules::all_parts(self.case, self.policy, Direction::Ingress, rules);
        let nets = || parts.iter().flat_map(|part| part.rule.blocks()).map(|(_, block)| block.net);
        charge(1 + nets().count() / 16);
        let may_have_addresses = may_be_everywhere(nets());
        let may_have_pods =
            may_have_pods && are_every_pod(parts.iter().flat_map(|part| pods_of(part.rule)), self.budget);
        if !may_have_addresses && !may_have_pods {
            return;
        }
        for parts in combined_rules::for_same_pods(&parts, self.case) {
            let open = may_have_addresses.then(|| self.by_addresses(&parts)).flatten();
            let open = open.or_else(|| may_have_pods.then(|| self.by_pods(&parts)).flatten());
            if let Some(open) = open {
                open.report(self.case, findings);
                return;
            }
        }
    }

    /// The last rule with CIDRs, if the CIDRs of all rules are nearly everywhere on some port.
    fn by_addresses(&self, parts: &[Part<'a>]) -> Option<Open<'a>> {
        let others: Vec<Part<'a>> = parts.iter().filter(|part| !part.is_own).copied().collect();
        let rule = parts.iter().rfind(|part| part.is_own && part.rule.blocks().next().is_some())?.rule;
        let (peer, _) = rule.blocks().last()?;
        let ports = Protocol::WITH_PORTS.into_iter().find_map(|protocol| {
            let mut open = combined_rules::open_to_anywhere(parts, protocol);
            open.subtract(&combined_rules::open_to_anywhere(&others, protocol));
            // Port 0 receives no traffic.
            open.subtract(&Ranges::between(0, 0));
            let (first, last) = open.as_slice().first()?;
            Some(protocol.ports(*first, *last))
        })?;
        let whos = parts.iter().flat_map(|part| part.rule.blocks()).map(|(peer, _)| &peer.who);
        Some(self.open(parts, (rule, peer), whos, &ports, ANY_CLIENT))
    }

    /// The last rule with pods as peers, if the peers of all rules are every pod of the cluster on some port.
    fn by_pods(&mut self, parts: &[Part<'a>]) -> Option<Open<'a>> {
        let every_port = Port::new(Path::root(), None, Numbers::All);
        let probes = parts.iter().flat_map(|part| probes(&part.rule.ports)).chain([every_port]);
        let probes: Vec<Port> = probes.take(MAX_PROBES).collect();
        probes.iter().find_map(|probe| {
            charge(parts.len());
            let here = |part: &&Part<'a>| part.rule.ports.cover(probe) && pods_of(part.rule).next().is_some();
            let here: Vec<Part<'a>> = parts.iter().filter(here).copied().collect();
            let rule = here.iter().rfind(|part| part.is_own)?.rule;
            let peer = rule.peers.listed().iter().rfind(|peer| matches!(peer.who, Who::Pods(_)))?;
            let others = here.iter().filter(|part| !part.is_own);
            if !are_every_pod(here.iter().flat_map(|part| pods_of(part.rule)), self.budget)
                || are_every_pod(others.flat_map(|part| pods_of(part.rule)), self.budget)
            {
                return None;
            }
            let whos = here.iter().flat_map(|part| part.rule.peers.listed()).map(|peer| &peer.who);
            let whos = whos.filter(|who| matches!(who, Who::Pods(_)));
            let ports = if probe.numbers == Numbers::All { text!("{}", rule.ports) } else { text!("{probe}") };
            Some(self.open(&here, (rule, peer), whos, &ports, EVERY_POD))
        })
    }

    fn open(
        &self,
        parts: &[Part<'a>],
        (rule, peer): (&'a TrafficRule, &'a Peer),
        whos: impl Iterator<Item = &'a Who>,
        ports: &str,
        who: &'static str,
    ) -> Open<'a> {
        let from = named(whos);
        let is_alone = parts.iter().all(|part| part.other_object(self.case).is_none());
        let with = if is_alone { String::new() } else { text!(", {}", combined_rules::with_whom(parts, self.case)) };
        Open { rule, path: &peer.path, from, ports: text!("{ports}{with}"), who }
    }
}

/// One port for each entry of a list. Ranges that overlap do so at the first port of one of them.
fn probes(ports: &Ports) -> Vec<Port> {
    let mut probes = Vec::new();
    ports.for_each(&mut |port| {
        let numbers = match &port.numbers {
            Numbers::Range(first, _) => Numbers::Range(*first, *first),
            other => other.clone(),
        };
        if probes.len() < MAX_PROBES {
            probes.push(Port { path: Path::root(), protocol: port.protocol, numbers });
        }
    });
    probes
}

/// The first of these peers, and the number of the others.
fn named<'a>(mut whos: impl Iterator<Item = &'a Who>) -> String {
    let some: Vec<String> = whos.by_ref().take(MAX_NAMED).map(|who| text!("{who}")).collect();
    match whos.count() {
        0 => some.join(" and "),
        more => text!("{} and {more} more peers", some.join(" and ")),
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
    // Less than what counts as nearly everywhere: three quarters of IPv4, and three quarters of 2000::/3.
    v4 >= 3 << 30 || v6 >= 3 << 123
}

/// Maximum number of CIDRs that a message names.
const MAX_NAMED: usize = 4;
