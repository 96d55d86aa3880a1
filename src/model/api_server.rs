//! The endpoints of the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Protocol;

/// A set of ports, each with its protocol.
pub type PortSet = BTreeSet<(Protocol, u16)>;

/// The addresses and ports of the API server, as a policy has to name them: those behind the Service
/// `default/kubernetes`. Addresses with the same set of ports are kept together, and everything is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer(BTreeMap<PortSet, BTreeSet<IpAddr>>);

impl ApiServer {
    /// Adds an address with its ports. Addresses that no other host can have, and addresses without ports, are ignored.
    pub fn insert(&mut self, address: IpAddr, ports: &PortSet) {
        let address = address.to_canonical();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if ports.is_empty() || is_link_local {
            return;
        }
        if !(address.is_unspecified() || address.is_loopback() || address.is_multicast()) {
            self.0.entry(ports.clone()).or_default().insert(address);
        }
    }

    /// Returns true if it has no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of addresses. An address with several sets of ports counts once for each.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// The addresses by their ports, in a stable order.
    pub(crate) fn by_ports(&self) -> impl Iterator<Item = (&PortSet, &BTreeSet<IpAddr>)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_grouped_by_their_ports_and_sorted() {
        let (https, both) =
            (PortSet::from([(Protocol::Tcp, 6443)]), PortSet::from([(Protocol::Tcp, 443), (Protocol::Tcp, 80)]));
        let mut api_server = ApiServer::default();
        for (address, ports) in [
            ("10.0.0.2", &https),
            ("fd00::1", &https),
            ("10.0.0.1", &https),
            ("10.0.0.9", &both),
            ("::ffff:10.0.0.1", &https),
        ] {
            api_server.insert(address.parse().unwrap(), ports);
        }
        let found: Vec<(usize, Vec<String>)> = api_server
            .by_ports()
            .map(|(ports, addresses)| (ports.len(), addresses.iter().map(ToString::to_string).collect()))
            .collect();
        let of = |addresses: &[&str]| addresses.iter().map(|&address| address.to_owned()).collect::<Vec<_>>();
        assert_eq!(found, [(2, of(&["10.0.0.9"])), (1, of(&["10.0.0.1", "10.0.0.2", "fd00::1"]))]);
        assert_eq!(api_server.len(), 4);
    }

    #[test]
    fn addresses_of_no_other_host_are_ignored() {
        let ports = PortSet::from([(Protocol::Tcp, 6443)]);
        let mut api_server = ApiServer::default();
        for address in
            ["0.0.0.0", "::", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255"]
        {
            api_server.insert(address.parse().unwrap(), &ports);
        }
        api_server.insert("10.0.0.1".parse().unwrap(), &PortSet::new());
        assert!(api_server.is_empty());
    }
}
