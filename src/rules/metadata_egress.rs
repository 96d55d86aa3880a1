//! See [`MetadataEgress`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Case, Findings, Rule};
use crate::model::{Direction, Fix, Peers, Protocol};

rule! {
    /// Egress reaches the cloud's metadata service, which hands out the credentials of the node.
    ///
    /// ## Why
    ///
    /// On most clouds `http://169.254.169.254` answers any process on the machine with tokens of the machine's own
    /// identity. A pod that reaches it can act as the node. It is the usual step from one broken container to the
    /// whole account.
    ///
    /// ## What it looks at
    ///
    /// Each rule for egress that includes TCP port 80, on its own: one that lets pods send anywhere; blocks that hold
    /// 169.254.169.254 or fd00:ec2::254 and do not leave it out. Peers that are pods never reach it.
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
    /// - `addresses`: where metadata services answer. `169.254.169.254` and `fd00:ec2::254` by default.
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
        let rules = case.allow_rules();
        for (direction, rule) in rules {
            if direction != Direction::Egress || !rule.has_port(Protocol::Tcp, 80, &[]) {
                continue;
            }
            let (path, to, fix) = match &rule.peers {
                Peers::Any => (rule.path.clone(), "anywhere".to_owned(), None),
                Peers::Only(_) => {
                    let reached = rule.blocks().find_map(|(peer, block)| {
                        let address = self.addresses.iter().find(|address| block.contains(**address))?;
                        Some((peer, block, *address))
                    });
                    let Some((peer, block, address)) = reached else { continue };
                    let net = ipnet::IpNet::from(address);
                    let fix = (block.net != net).then(|| Fix::LeaveOut { peer: peer.path.clone(), net });
                    (peer.path.clone(), block.to_string(), fix)
                }
            };
            let message = format!(
                "egress to {to} reaches the metadata service of the cloud on TCP 80, which hands out the credentials of \
                 the node"
            );
            let help = match (&fix, &rule.peers) {
                (Some(_), _) => "leave it out with `except`",
                (None, Peers::Any) => "name where the pods have to send, or leave the metadata service out of a block",
                (None, Peers::Only(_)) => "remove it, unless the pods really need the identity of the node",
            };
            findings.add::<Self>(case, path, message, help.into(), fix);
        }
    }
}
