//! CIDRs and sets of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

use super::{Family, Ranges};
use crate::budget::charge;

/// A CIDR without its exceptions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The CIDR.
    pub net: IpNet,
    /// The excluded parts.
    pub except: Vec<IpNet>,
    /// True if the CIDR also matches pods and nodes with such addresses. Cilium matches those only by labels.
    pub inside: bool,
}

impl Block {
    /// A CIDR without exceptions.
    #[must_use]
    pub fn whole(net: IpNet) -> Self {
        Self { net, except: Vec::new(), inside: true }
    }

    /// The addresses of the CIDR without its exceptions.
    #[must_use]
    pub fn addresses(&self) -> AddressSet {
        let mut set = AddressSet::from(self.net);
        set.subtract(&self.except.iter().copied().collect());
        set
    }

    /// Returns true if an address is in the CIDR and not in an exception.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.net.contains(&address) && !self.except.iter().any(|net| net.contains(&address))
    }

    /// Returns true if the CIDR is every IPv4 address, with exceptions that contain none of these.
    pub(super) fn is_everywhere_but_outside(&self, set: &AddressSet) -> bool {
        charge(self.except.len());
        let is_outside = |net: &IpNet| is_link_local(*net) || !set.overlaps(&AddressSet::from(*net));
        self.net.addr().is_ipv4() && self.net.prefix_len() == 0 && self.except.iter().all(is_outside)
    }

    /// Returns true if the CIDR is every address of a family, without exceptions.
    #[must_use]
    pub(crate) fn is_everywhere(&self) -> bool {
        self.net.prefix_len() == 0 && self.except.is_empty()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net)?;
        for (position, net) in self.except.iter().enumerate() {
            write!(f, "{}{net}", if position == 0 { " except " } else { ", " })?;
        }
        Ok(())
    }
}

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl AddressSet {
    /// Every IPv4 address that a pod can have. Excluded are "this network" and loopback (RFC 1122 §3.2.1.3), link-local
    /// addresses, which never leave the node (RFC 3927), and multicast addresses (RFC 5771).
    #[must_use]
    pub(crate) fn every_v4_of_pods() -> Self {
        let block = |a: u8, b: u8, length: u32| {
            let first = u32::from(Ipv4Addr::new(a, b, 0, 0));
            (first, first | (u32::MAX >> length))
        };
        let mut v4 = Ranges::all();
        v4.subtract(&[block(0, 0, 8), block(127, 0, 8), block(169, 254, 16), block(224, 0, 4)].into_iter().collect());
        Self { v4, v6: Ranges::none() }
    }

    /// The IPv4 addresses that pods usually have: those for private use (RFC 1918) and shared addresses (RFC 6598).
    ///
    /// Kubernetes accepts any other unicast range too. But the default ranges of its distributions are private, clouds
    /// take the addresses of pods from their private networks or, where these are full, from 100.64.0.0/10, and pods
    /// with the addresses of others could not reach those hosts on the internet.
    #[must_use]
    pub(crate) fn usual_v4_of_pods() -> &'static Self {
        static USUAL: LazyLock<AddressSet> = LazyLock::new(|| {
            let nets = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];
            nets.iter().filter_map(|net| net.parse::<IpNet>().ok()).collect()
        });
        &USUAL
    }

    /// Every IPv6 address that a pod can have. Excluded are the unspecified address, loopback, link-local and multicast
    /// addresses (RFC 4291 §2.5.2, §2.5.3, §2.5.6 and §2.7).
    #[must_use]
    pub(crate) fn every_v6_of_pods() -> Self {
        let block = |start: u16, length: u32| {
            let first = u128::from(Ipv6Addr::new(start, 0, 0, 0, 0, 0, 0, 0));
            (first, first | (u128::MAX >> length))
        };
        let mut v6 = Ranges::all();
        v6.subtract(&[(0, 1), block(0xfe80, 10), block(0xff00, 8)].into_iter().collect());
        Self { v4: Ranges::none(), v6 }
    }

    /// The IPv4 addresses of the internet. Excluded are addresses for private use (RFC 1918, RFC 6598), for benchmarks
    /// (RFC 2544), of class E, and all that a pod cannot have.
    #[must_use]
    pub fn internet() -> Self {
        let mut set = Self::every_v4_of_pods();
        let private =
            ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4"];
        set.subtract(&private.iter().filter_map(|net| net.parse::<IpNet>().ok()).collect());
        set
    }

    /// Returns true if the set is nearly everywhere in IPv4 or in IPv6: it leaves out little of the addresses that pods
    /// and their clients have (see [`Family`]).
    #[must_use]
    pub(crate) fn is_nearly_everywhere(&self) -> bool {
        Family::v4().is_nearly_all(&self.v4) || Family::v6().is_nearly_all(&self.v6)
    }

    /// Every link-local address (RFC 3927, RFC 4291 §2.5.6).
    #[must_use]
    pub(crate) fn link_local() -> Self {
        let v4 = u32::from(Ipv4Addr::new(169, 254, 0, 0));
        let v6 = u128::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0));
        Self { v4: Ranges::between(v4, v4 | 0xffff), v6: Ranges::between(v6, v6 | (u128::MAX >> 10)) }
    }

    /// Returns true if every address in the set is link-local, and therefore on the node itself.
    #[must_use]
    pub(crate) fn is_link_local(&self) -> bool {
        Self::link_local().covers(self)
    }

    /// Returns true if the set holds an address that a pod can have.
    #[must_use]
    pub(crate) fn may_be_of_pods(&self) -> bool {
        [Self::every_v4_of_pods(), Self::every_v6_of_pods()].iter().any(|pods| pods.overlaps(self))
    }

    /// The number of addresses, capped at `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.v4.count().saturating_add(self.v6.count())
    }

    /// The union of these sets.
    #[must_use]
    pub fn union(sets: impl IntoIterator<Item = Self>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend_from_slice(set.v4.as_slice());
            v6.extend_from_slice(set.v6.as_slice());
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }

    /// Adds the addresses of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.v4.extend(&other.v4);
        self.v6.extend(&other.v6);
    }

    /// One address of each part of this set, if every other set contains each part as a whole or not at all.
    #[must_use]
    pub fn samples<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Vec<IpAddr> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for other in others {
            other.v4.cuts(&mut v4);
            other.v6.cuts(&mut v6);
        }
        let v4 = self.v4.samples(v4).into_iter().map(|number| IpAddr::from(Ipv4Addr::from(number)));
        let v6 = self.v6.samples(v6).into_iter().map(|number| IpAddr::from(Ipv6Addr::from(number)));
        v4.chain(v6).collect()
    }

    /// Removes the addresses of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.v4.subtract(&other.v4);
        self.v6.subtract(&other.v6);
    }

    /// Returns true if the address is in the set. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4.into()),
            IpAddr::V6(v6) => self.v6.contains(v6.into()),
        }
    }

    /// Returns true if every address of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.v4.covers(&other.v4) && self.v6.covers(&other.v6)
    }
}

impl AddressSet {
    /// Every address.
    #[must_use]
    pub(crate) fn everything() -> Self {
        Self { v4: Ranges::all(), v6: Ranges::all() }
    }

    /// The set without IPv6 addresses.
    #[must_use]
    pub(crate) fn of_v4(self) -> Self {
        Self { v6: Ranges::none(), ..self }
    }

    /// The set without IPv4 addresses.
    #[must_use]
    pub(crate) fn of_v6(self) -> Self {
        Self { v4: Ranges::none(), ..self }
    }

    /// Its IPv4 addresses.
    #[must_use]
    pub(crate) fn v4(&self) -> &Ranges<u32> {
        &self.v4
    }

    /// Its IPv6 addresses.
    #[must_use]
    pub(crate) fn v6(&self) -> &Ranges<u128> {
        &self.v6
    }

    /// The addresses that are in both sets.
    #[must_use]
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    /// Returns true if the set holds an IPv4 address.
    #[must_use]
    pub(crate) fn has_v4(&self) -> bool {
        !self.v4.is_empty()
    }

    /// Returns true if the set holds an IPv6 address.
    #[must_use]
    pub(crate) fn has_v6(&self) -> bool {
        !self.v6.is_empty()
    }

    /// Returns true if both sets have an address in common.
    #[must_use]
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let mut rest = other.clone();
        rest.subtract(self);
        rest != *other
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl From<IpNet> for AddressSet {
    fn from(net: IpNet) -> Self {
        std::iter::once(net).collect()
    }
}

impl From<IpAddr> for AddressSet {
    fn from(address: IpAddr) -> Self {
        IpNet::from(address).into()
    }
}

/// Returns true if the whole CIDR is link-local: such addresses never leave the node (RFC 3927, RFC 4291 §2.5.6).
#[must_use]
pub(crate) fn is_link_local(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() >= 16 && net.network().is_link_local(),
        IpNet::V6(net) => net.prefix_len() >= 10 && net.network().is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn exceptions_are_left_out() {
        let block = Block { net: net("10.0.0.0/8"), except: vec![net("10.1.0.0/16")], inside: true };
        let set = block.addresses();
        assert!(set.contains("10.0.0.1".parse().unwrap()));
        assert!(!set.contains("10.1.0.1".parse().unwrap()));
        assert!(set.contains("::ffff:10.2.0.1".parse().unwrap()), "a mapped address is the IPv4 address");
        assert!(block.contains("10.0.0.1".parse().unwrap()) && !block.contains("10.1.0.1".parse().unwrap()));
        assert_eq!(block.to_string(), "10.0.0.0/8 except 10.1.0.0/16");
    }

    #[test]
    fn two_halves_are_everything() {
        let mut set = AddressSet::from(net("0.0.0.0/1"));
        assert!(!set.covers(&net("0.0.0.0/0").into()));
        set.extend(&net("128.0.0.0/1").into());
        assert!(set.covers(&net("0.0.0.0/0").into()));
        assert!(set.covers(&net("169.254.169.254/32").into()));
    }

    #[test]
    fn pods_can_have_all_but_addresses_that_are_not_sent_to_one_host_elsewhere() {
        let [mut v4, mut v6] = [AddressSet::every_v4_of_pods(), AddressSet::every_v6_of_pods()];
        for (set, others) in [
            (&mut v4, ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4"]),
            (&mut v6, ["::/128", "::1/128", "fe80::/10", "ff00::/8"]),
        ] {
            for other in others {
                assert!(!set.overlaps(&net(other).into()), "{other}");
                set.extend(&net(other).into());
            }
        }
        assert_eq!((v4, v6), (net("0.0.0.0/0").into(), net("::/0").into()));
    }

    #[test]
    fn a_small_exception_leaves_nearly_every_address() {
        let set = |nets: &[&str], except: &[&str]| {
            let mut set: AddressSet = nets.iter().map(|text| net(text)).collect();
            set.subtract(&except.iter().map(|text| net(text)).collect());
            set.is_nearly_everywhere()
        };
        assert!(set(&["0.0.0.0/0"], &[]) && set(&["::/0"], &[]));
        assert!(set(&["0.0.0.0/1", "128.0.0.0/1"], &[]) && set(&["0.0.0.0/0"], &["10.0.0.0/9"]));
        assert!(set(
            &[
                "1.0.0.0/8",
                "2.0.0.0/7",
                "4.0.0.0/6",
                "8.0.0.0/5",
                "16.0.0.0/4",
                "32.0.0.0/3",
                "64.0.0.0/2",
                "128.0.0.0/2",
                "192.0.0.0/3"
            ],
            &[]
        ));
        assert!(set(&["::/0"], &["fd00::/9"]) && set(&["2000::/3", "fc00::/7"], &[]));
        assert!(set(&["0.0.0.0/0"], &["25.0.0.0/8"]) && set(&["0.0.0.0/0"], &["240.0.0.0/4", "192.0.2.0/24"]));
        assert!(!set(&["0.0.0.0/0"], &["16.0.0.0/4"]) && !set(&["::/0"], &["2000::/7"]));
        assert!(!set(&["0.0.0.0/0"], &["10.0.0.0/8"]) && !set(&["::/0"], &["fd00::/8"]));
        assert!(!set(&["0.0.0.0/1"], &[]) && !set(&["2000::/3"], &[]) && !set(&[], &[]));
    }

    #[test]
    fn an_exception_counts_if_it_holds_an_address_of_the_set() {
        let everywhere = |except: &str, set: &AddressSet| {
            Block { net: net("0.0.0.0/0"), except: vec![net(except)], inside: true }.is_everywhere_but_outside(set)
        };
        for (except, of_any_pod, of_usual_pods) in [
            ("224.0.0.0/4", true, true),
            ("127.0.0.0/8", true, true),
            ("169.254.169.254/32", true, true),
            ("203.0.113.0/24", false, true),
            ("8.0.0.0/8", false, true),
            ("100.64.0.0/10", false, false),
            ("10.0.0.0/8", false, false),
            ("172.20.5.0/24", false, false),
            ("128.0.0.0/1", false, false),
        ] {
            assert_eq!(everywhere(except, &AddressSet::every_v4_of_pods()), of_any_pod, "{except}");
            assert_eq!(everywhere(except, AddressSet::usual_v4_of_pods()), of_usual_pods, "{except}");
        }
        assert!(AddressSet::every_v4_of_pods().covers(AddressSet::usual_v4_of_pods()));
        assert!(!AddressSet::usual_v4_of_pods().overlaps(&AddressSet::internet()));
    }

    #[test]
    fn loopback_is_of_no_pod() {
        for (text, expected) in [
            ("127.0.0.0/8", false),
            ("169.254.0.0/16", false),
            ("::1/128", false),
            ("126.0.0.0/7", true),
            ("10.0.0.0/8", true),
            ("::/0", true),
        ] {
            assert_eq!(AddressSet::from(net(text)).may_be_of_pods(), expected, "{text}");
        }
        assert!(!AddressSet::default().may_be_of_pods());
    }

    #[test]
    fn addresses_are_counted() {
        assert_eq!(AddressSet::default().count(), 0);
        assert_eq!(AddressSet::union([net("10.0.0.0/24").into(), net("fd00::/120").into()]).count(), 512);
        assert_eq!(AddressSet::from(net("::/0")).count(), u128::MAX);
    }

    #[test]
    fn short_ipv6_prefixes_do_not_overflow() {
        assert!(AddressSet::from(net("::/0")).covers(&net("ffff::/16").into()));
        assert!(AddressSet::from(net("fd00::/8")).contains("fd00:ec2::254".parse().unwrap()));
    }

    #[test]
    fn link_local_is_the_whole_block() {
        assert!(is_link_local(net("169.254.0.0/16")));
        assert!(is_link_local(net("169.254.20.10/32")));
        assert!(is_link_local(net("fe80::/10")));
        assert!(!is_link_local(net("169.0.0.0/8")));
        assert!(!is_link_local(net("10.0.0.0/8")));
    }
}
