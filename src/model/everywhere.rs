//! The share of an address family that counts as all of it.

use super::{AddressSet, Number, Ranges};

/// The addresses of one family that pods and their clients have. Class E (240.0.0.0/4, RFC 1112 §4) and IPv6 addresses
/// outside of the allocated blocks do not count.
#[derive(Clone, Debug)]
pub(crate) struct Family<T> {
    /// Addresses for private use, which pods mostly have.
    pub(crate) private: Ranges<T>,
    /// Addresses of the internet.
    pub(crate) public: Ranges<T>,
    /// A set that leaves out fewer private addresses is nearly everywhere: 1/256 of the family.
    private_limit: u128,
    /// A set that leaves out fewer public addresses is nearly everywhere: 1/16 of the family, of IPv6 1/16 of
    /// 2000::/3.
    public_limit: u128,
}

impl Family<u32> {
    /// IPv4.
    #[must_use]
    pub(crate) fn v4() -> Self {
        let public = AddressSet::internet().v4().clone();
        let mut private = AddressSet::every_v4_of_pods().v4().clone();
        private.subtract(&public);
        private.subtract(&Ranges::between(0xf000_0000, u32::MAX));
        Self { private, public, private_limit: 1 << 24, public_limit: 1 << 28 }
    }
}

impl Family<u128> {
    /// IPv6: unique local addresses (fc00::/7, RFC 4193), and global unicast addresses (2000::/3, RFC 4291 §2.4).
    #[must_use]
    pub(crate) fn v6() -> Self {
        let private = Ranges::between(0xfc << 120, (0xfe << 120) - 1);
        let public = Ranges::between(0x20 << 120, (0x40 << 120) - 1);
        Self { private, public, private_limit: 1 << 120, public_limit: 1 << 121 }
    }
}

impl<T: Number> Family<T> {
    /// The private and the public addresses in a range that lies in one part.
    pub(crate) fn size(&self, first: T, last: T) -> [u128; 2] {
        [&self.private, &self.public]
            .map(|part| if part.contains(first) { (last.into() - first.into()).saturating_add(1) } else { 0 })
    }

    /// Returns true if a set with so many private and public addresses is nearly everywhere.
    #[must_use]
    pub(crate) fn is_nearly_all_of(&self, [private, public]: [u128; 2]) -> bool {
        self.private.count().saturating_sub(private) < self.private_limit
            && self.public.count().saturating_sub(public) < self.public_limit
    }

    /// Returns true if the set is nearly everywhere.
    #[must_use]
    pub(crate) fn is_nearly_all(&self, set: &Ranges<T>) -> bool {
        self.is_nearly_all_of([&self.private, &self.public].map(|part| part.intersection(set).count()))
    }
}
