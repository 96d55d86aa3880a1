//! An oracle for connectivity: what the specifications of the policies say, told as naively as can be.
//!
//! Nothing in here knows anything of the crate under test. Every dialect has its own file of plain functions over JSON
//! that follow the specification of that dialect from the top to the bottom; what they share is [`Policy`], the least
//! that an evaluation needs: where a policy stands, whether it isolates, and which of its rules match.

#![allow(dead_code, reason = "each test file compiles all of this and uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

pub(crate) mod calico;
pub(crate) mod cilium;
pub(crate) mod cluster;
pub(crate) mod conformance;
pub(crate) mod generate;
pub(crate) mod kubernetes;
mod objects;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// A port that a container of a pod declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPort {
    /// The name of the port, by which policies may ask for it.
    pub(crate) name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: String,
    /// The number of the port.
    pub(crate) number: u16,
}

/// A running pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.namespace`; a key of [`World::namespaces`].
    pub(crate) namespace: String,
    /// `metadata.labels`.
    pub(crate) labels: BTreeMap<String, String>,
    /// `spec.serviceAccountName`.
    pub(crate) service_account: String,
    /// `status.podIP`.
    pub(crate) address: IpAddr,
    /// The ports that its containers declare.
    pub(crate) ports: Vec<PodPort>,
}

/// A cluster: what runs in it, and the policies that are in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct World {
    /// Namespaces and their labels, of which `kubernetes.io/metadata.name` is always one.
    pub(crate) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The pods.
    pub(crate) pods: Vec<Pod>,
    /// Policies and Calico tiers of any dialect, as whole Kubernetes objects.
    pub(crate) manifests: Vec<Value>,
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End<'a> {
    /// A pod of the cluster.
    Pod(&'a Pod),
    /// An address that no pod and no node of the cluster has.
    Outside(IpAddr),
}

impl<'a> End<'a> {
    /// The pod, if it is one.
    pub(crate) fn pod(self) -> Option<&'a Pod> {
        match self {
            Self::Pod(pod) => Some(pod),
            Self::Outside(_) => None,
        }
    }

    /// The address that packets from or to this end carry.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Pod(pod) => pod.address,
            Self::Outside(address) => address,
        }
    }
}

/// An attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flow<'a> {
    /// Who connects.
    pub(crate) from: End<'a>,
    /// To whom.
    pub(crate) to: End<'a>,
    /// `TCP`, `UDP`, `SCTP` or `ICMP`.
    pub(crate) protocol: &'static str,
    /// The destination port; ignored for `ICMP`.
    pub(crate) port: u16,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The policies of the source let it out; true if the source is outside.
    pub(crate) egress: bool,
    /// The policies of the destination let it in; true if the destination is outside.
    pub(crate) ingress: bool,
}

impl Answer {
    /// The flow arrives: both ends let it pass.
    pub(crate) fn connected(self) -> bool {
        self.egress && self.ingress
    }
}

/// The direction of a flow as the pod that is the subject of a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Towards the subject.
    Ingress,
    /// Away from the subject.
    Egress,
}

/// One half of a flow: what the policies of one of its two ends have to say about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// Where this happens.
    pub(crate) world: &'a World,
    /// The pod whose policies are asked.
    pub(crate) subject: &'a Pod,
    /// Whether the flow comes to the subject or leaves it.
    pub(crate) direction: Direction,
    /// The other end.
    pub(crate) other: End<'a>,
    /// `TCP`, `UDP`, `SCTP` or `ICMP`.
    pub(crate) protocol: &'static str,
    /// The destination port.
    pub(crate) port: u16,
}

impl<'a> Question<'a> {
    /// The end that the flow goes to, which is the one that named ports are looked up on.
    pub(crate) fn destination(&self) -> End<'a> {
        match self.direction {
            Direction::Ingress => End::Pod(self.subject),
            Direction::Egress => self.other,
        }
    }

    /// The end that the flow comes from.
    pub(crate) fn source(&self) -> End<'a> {
        match self.direction {
            Direction::Ingress => self.other,
            Direction::Egress => End::Pod(self.subject),
        }
    }

    /// The destination is a pod that declares a port of this name for the protocol and the port of the flow.
    pub(crate) fn goes_to_port_named(&self, name: &str) -> bool {
        match self.destination().pod() {
            Some(pod) => pod
                .ports
                .iter()
                .any(|port| port.name == name && port.protocol == self.protocol && port.number == self.port),
            None => false,
        }
    }
}

/// What a rule does with a flow that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Let it pass, and ask nobody else.
    Allow,
    /// Drop it, and ask nobody else.
    Deny,
    /// Ask no one else in this tier.
    Pass,
    /// Write it down, and go on with the next rule.
    Log,
}

/// A rule of a policy, held against one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What it does.
    pub(crate) action: Action,
    /// Whether it is about the flow in question.
    pub(crate) matches: bool,
}

/// A policy that selects the subject of a question, held against that question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// The name of the tier that it stands in.
    pub(crate) tier: String,
    /// Where it stands in that tier: lower comes first.
    pub(crate) order: f64,
    /// Decides where two policies have the same order.
    pub(crate) name: String,
    /// What no policy of the tier decides on is left to the default action of the tier.
    pub(crate) isolates: bool,
    /// Its rules in this direction, in sequence.
    pub(crate) rules: Vec<Rule>,
}

/// A group of policies, of which one comes after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tier {
    /// `metadata.name` of a Calico tier, and for the tiers of other dialects the name that Calico has for them.
    pub(crate) name: String,
    /// Lower comes first.
    pub(crate) order: f64,
    /// What policies that isolate do not decide on is dropped (and not left to the next tier).
    pub(crate) denies_by_default: bool,
}

/// The tier of AdminNetworkPolicy and of ClusterNetworkPolicy in tier Admin.
pub(crate) const ADMIN_TIER: &str = "kube-admin";
/// The tier of NetworkPolicy, of Cilium, and of the policies of Calico that say nothing else.
pub(crate) const DEFAULT_TIER: &str = "default";
/// The tier of BaselineAdminNetworkPolicy and of ClusterNetworkPolicy in tier Baseline.
pub(crate) const BASELINE_TIER: &str = "kube-baseline";

/// All tiers that there are in a world, in the order in which they are asked.
pub(crate) fn tiers(world: &World) -> Vec<Tier> {
    let mut tiers = vec![
        Tier { name: ADMIN_TIER.to_owned(), order: 1_000.0, denies_by_default: false },
        Tier { name: DEFAULT_TIER.to_owned(), order: 1_000_000.0, denies_by_default: true },
        Tier { name: BASELINE_TIER.to_owned(), order: 10_000_000.0, denies_by_default: false },
    ];
    for tier in world.manifests.iter().filter_map(calico::tier) {
        if tiers.iter().all(|known| known.name != tier.name) {
            tiers.push(tier);
        }
    }
    for name in world.manifests.iter().filter_map(calico::tier_of_policy) {
        if tiers.iter().all(|known| known.name != name) {
            tiers.push(Tier { name, order: f64::INFINITY, denies_by_default: true });
        }
    }
    tiers.sort_by(|one, other| one.order.total_cmp(&other.order).then_with(|| one.name.cmp(&other.name)));
    tiers
}

/// The policies of all dialects that select the subject of the question, in no particular order.
pub(crate) fn policies(question: &Question<'_>) -> Vec<Policy> {
    let mut policies = Vec::new();
    for manifest in &question.world.manifests {
        policies.extend(kubernetes::policy(manifest, question));
        policies.extend(cilium::policies(manifest, question));
        policies.extend(calico::policy(manifest, question));
        policies.extend(cluster::policy(manifest, question));
    }
    policies
}

/// What the policies of one end say.
pub(crate) fn lets_pass(question: &Question<'_>) -> bool {
    let mut policies = policies(question);
    policies.sort_by(|one, other| one.order.total_cmp(&other.order).then_with(|| one.name.cmp(&other.name)));
    'tiers: for tier in tiers(question.world) {
        let mut isolated = false;
        for policy in policies.iter().filter(|policy| policy.tier == tier.name) {
            isolated |= policy.isolates;
            for rule in policy.rules.iter().filter(|rule| rule.matches) {
                match rule.action {
                    Action::Allow => return true,
                    Action::Deny => return false,
                    Action::Pass => continue 'tiers,
                    Action::Log => {}
                }
            }
        }
        if isolated && tier.denies_by_default {
            return false;
        }
    }
    true
}

/// What becomes of a flow.
pub(crate) fn answer(world: &World, flow: &Flow<'_>) -> Answer {
    let ask = |subject, direction, other| {
        lets_pass(&Question { world, subject, direction, other, protocol: flow.protocol, port: flow.port })
    };
    Answer {
        egress: flow.from.pod().is_none_or(|pod| ask(pod, Direction::Egress, flow.to)),
        ingress: flow.to.pod().is_none_or(|pod| ask(pod, Direction::Ingress, flow.from)),
    }
}

/// The address is in the block; a block may also be a single address without a length.
pub(crate) fn is_within(address: IpAddr, block: &str) -> bool {
    match (block.parse::<IpNet>(), block.parse::<IpAddr>()) {
        (Ok(net), _) => net.contains(&address),
        (Err(_), Ok(single)) => single == address,
        (Err(_), Err(_)) => panic!("{block} is neither a block of addresses nor an address"),
    }
}

/// The items of a list; none where there is no list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a value that has to be one.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The object is of the API group and of the kind.
pub(crate) fn is_kind(manifest: &Value, group: &str, kind: &str) -> bool {
    let api_version = text(&manifest["apiVersion"]);
    api_version.split_once('/').map_or("", |(group, _)| group) == group && manifest["kind"] == kind
}

/// `metadata.namespace`, which a namespaced object has to have.
pub(crate) fn namespace(manifest: &Value) -> &str {
    text(&manifest["metadata"]["namespace"])
}

/// `metadata.name`.
pub(crate) fn name(manifest: &Value) -> &str {
    text(&manifest["metadata"]["name"])
}
