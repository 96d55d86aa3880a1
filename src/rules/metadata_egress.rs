//! See [`MetadataEgress`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::shared::host_policies::is_for_hosts;
use super::shared::later_stages::LaterStages;
use super::{Case, Findings, Rule};
use crate::model::{
    Action, AddressSet, BUDGET, Block, Decision, Direction, End, Fix, Names, Peer, Peers, Policy, Protocol, Question,
    Subject, Traffic, Who,
};

rule! {
    /// Egress reaches the cloud metadata service, which hands out the credentials of the node.
    ///
    /// ## Why
    ///
    /// On most clouds `http://169.254.169.254` gives any process on the machine tokens for the identity of the machine.
    /// A pod that reaches it can act as the node. It is the usual step from one compromised container to the whole
    /// cloud account.
    ///
    /// ## What it checks
    ///
    /// Each egress rule that allows TCP port 80 to any destination, or to a CIDR that contains 169.254.169.254 or
    /// fd00:ec2::254 and does not except it. Pod peers never match it. The rule does not fire if a deny rule, of any
    /// policy and dialect, keeps all the pods from the address.
    ///
    /// - NetworkPolicy: no `to`, `ipBlock`.
    /// - Cilium: a rule with ports and no peers, `toCIDR` and `toCIDRSet`, the entities all and world.
    /// - Calico: an Allow rule without a destination, `nets` and `notNets`. In the default tier a Pass rule counts too,
    ///   unless a later tier stops all of its traffic. A GlobalNetworkPolicy for hosts is not checked, as in `any-port`.
    /// - ClusterNetworkPolicy: `networks`.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-web-out
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - ipBlock:
    ///         cidr: 0.0.0.0/0
    ///     ports:
    ///     - protocol: TCP
    ///       port: 80
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-web-out
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - ipBlock:
    ///         cidr: 0.0.0.0/0
    ///         except: [169.254.169.254/32]
    ///     ports:
    ///     - protocol: TCP
    ///       port: 80
    /// ```
    ///
    /// ## Settings
    ///
    /// - `addresses`: the addresses of metadata services. `169.254.169.254` and `fd00:ec2::254` by default.
    "metadata-egress", Warn,
    pub struct MetadataEgress {
        addresses: Vec<IpAddr>,
    }
}

impl Default for MetadataEgress {
    fn default() -> Self {
        let v4 = Ipv4Addr::new(169, 254, 169, 254);
        let v6 = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
        Self { addresses: vec![v4.into(), v6.into()] }
    }
}

impl Rule for MetadataEgress {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let services: Vec<(IpAddr, AddressSet)> =
            self.addresses.iter().map(|address| (*address, AddressSet::from(*address))).collect();
        let mut budget = BUDGET;
        for policy in case.policies().iter().filter(|policy| !is_for_hosts(case, policy)) {
            let later = LaterStages::after(case, policy, &mut budget);
            // Evaluated once for all rules, and only if one of them reaches the address.
            let mut denied: HashMap<IpAddr, bool> = HashMap::new();
            for rule in &policy.egress.rules {
                let reached = services.iter().find_map(|(address, set)| {
                    let end = End::Addresses { set, outside: true };
                    let mut is_denied = || *denied.entry(*address).or_insert_with(|| is_denied(case, policy, end));
                    let reached = rule.means(&end, PORT, case.view) == Some(true) && !is_denied();
                    reached.then_some((*address, end))
                });
                let Some((address, end)) = reached else { continue };
                if !later.lets_through(Direction::Egress, rule, &mut budget) {
                    continue;
                }
                let through = |peer: &&Peer| peer.means(&end, case.view) == Some(true);
                let mut peers = rule.peers.listed().iter().filter(through);
                let peer = peers.next();
                let is_only = peers.next().is_none();
                let (path, to) = match peer {
                    Some(peer) => (peer.path.clone(), text!("{}", peer.who)),
                    None => (rule.path.clone(), text!("{}", rule.peers)),
                };
                let net = ipnet::IpNet::from(address);
                let is_larger = |block: &Block| block.net != net;
                let block = peer.filter(|peer| matches!(&peer.who, Who::Addresses(block) if is_larger(block)));
                // With several matching peers, the address would have to be excepted from each.
                let fix = block.filter(|_| is_only).map(|peer| Fix::LeaveOut { peer: peer.path.clone(), net });
                let message = text!(
                    "egress to {to} reaches the cloud metadata service on TCP 80, which serves the credentials of the node"
                );
                let help = match (block, &rule.peers) {
                    (Some(_), _) => text!("exclude {address} from the allowed addresses"),
                    (None, Peers::Any) => {
                        text!("list the destinations, or allow a CIDR that excludes {address}")
                    }
                    (None, Peers::Only(_)) => {
                        text!("replace {to} with a CIDR that excludes {address}")
                    }
                };
                findings.add::<Self>(case, path, message, help, fix);
            }
        }
    }
}

/// The port of metadata services.
const PORT: Traffic<'static> = Traffic::Port { protocol: Protocol::Tcp, number: 80, names: Names::Exactly(&[]) };

/// Returns true if, with all policies added up, all pods of the policy are kept from the address.
fn is_denied<'a>(case: &Case<'a>, policy: &'a Policy, end: End<'a>) -> bool {
    let scene = case.supposing();
    let around = scene.policies_for(&policy.subject);
    if !around.iter().any(|policy| policy.egress.rules.iter().any(|rule| rule.action == Action::Deny)) {
        return false;
    }
    let question =
        Question { subject: Subject::Each(&policy.subject), direction: Direction::Egress, other: end, traffic: PORT };
    !scene.ask(around, &question).decisions.iter().any(Decision::passes)
}
