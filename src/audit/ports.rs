//! The ports of a connection by outcome.

use std::collections::HashMap;

use crate::model::{Protocol, Ranges};

/// Every port of TCP, UDP and SCTP by outcome, in the order of [`Protocol::WITH_PORTS`]. A port that is neither allowed
/// nor undecided is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PortMap([Outcomes; 3]);

/// The ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outcomes {
    pub(super) allowed: Ranges<u16>,
    pub(super) undecided: Ranges<u16>,
}

impl Outcomes {
    fn possible(&self) -> Ranges<u16> {
        let mut possible = self.allowed.clone();
        possible.extend(&self.undecided);
        possible
    }

    fn and(&self, other: &Self) -> Self {
        let allowed = self.allowed.intersection(&other.allowed);
        let mut undecided = self.possible().intersection(&other.possible());
        undecided.subtract(&allowed);
        Self { allowed, undecided }
    }

    fn or(&self, other: &Self) -> Self {
        let (mut allowed, mut undecided) = (self.allowed.clone(), self.undecided.clone());
        allowed.extend(&other.allowed);
        undecided.extend(&other.undecided);
        undecided.subtract(&allowed);
        Self { allowed, undecided }
    }
}

impl PortMap {
    pub(super) fn of(each: impl FnMut(Protocol) -> Outcomes) -> Self {
        Self(Protocol::WITH_PORTS.map(each))
    }

    /// Every port is allowed.
    pub(super) fn open() -> Self {
        Self::of(|_| Outcomes { allowed: Ranges::between(1, u16::MAX), undecided: Ranges::none() })
    }

    /// Every port is blocked.
    pub(super) fn closed() -> Self {
        Self::of(|_| Outcomes { allowed: Ranges::none(), undecided: Ranges::none() })
    }

    pub(super) fn allows_all(&self) -> bool {
        self.0.iter().all(|ports| ports.allowed.as_slice() == [(1, u16::MAX)])
    }

    pub(super) fn allows_any(&self) -> bool {
        self.0.iter().any(|ports| !ports.allowed.is_empty())
    }

    pub(super) fn is_undecided(&self) -> bool {
        !self.allows_any() && self.0.iter().any(|ports| !ports.undecided.is_empty())
    }

    /// The ports of a connection with these outcomes at its two ends: a port that one end blocks is blocked.
    fn and(&self, other: &Self) -> Self {
        self.with(other, Outcomes::and)
    }

    /// The ports that one of both allows.
    fn or(&self, other: &Self) -> Self {
        self.with(other, Outcomes::or)
    }

    fn with(&self, other: &Self, join: impl Fn(&Outcomes, &Outcomes) -> Outcomes) -> Self {
        let ([a, b, c], [x, y, z]) = (&self.0, &other.0);
        Self([join(a, x), join(b, y), join(c, z)])
    }

    /// The allowed ports in words: `TCP 80, every UDP port`.
    pub(super) fn words(&self) -> String {
        if self.allows_all() {
            return "every port".to_owned();
        }
        let mut words = Vec::new();
        for (protocol, ports) in Protocol::WITH_PORTS.into_iter().zip(&self.0) {
            words.extend(ports.allowed.as_slice().iter().map(|(first, last)| protocol.ports(*first, *last)));
        }
        if let Some(more @ 1..) = words.len().checked_sub(MAX_WORDS) {
            words.truncate(MAX_WORDS);
            words.push(format!("{more} more"));
        }
        words.join(", ")
    }
}

/// Maximum number of port ranges in words.
const MAX_WORDS: usize = 20;

/// A number that stands for a [`PortMap`]. Few different ones exist in a cluster.
pub(super) type MapId = u32;

/// The different port maps of an audit, each kept once.
#[derive(Debug, Default)]
pub(super) struct PortMaps {
    maps: Vec<PortMap>,
    numbers: HashMap<PortMap, MapId>,
    ands: HashMap<(MapId, MapId), MapId>,
    ors: HashMap<(MapId, MapId), MapId>,
}

impl PortMaps {
    pub(super) fn insert(&mut self, map: PortMap) -> MapId {
        if let Some(number) = self.numbers.get(&map) {
            return *number;
        }
        let number = MapId::try_from(self.maps.len()).unwrap_or(MapId::MAX);
        self.maps.push(map.clone());
        self.numbers.insert(map, number);
        number
    }

    pub(super) fn get(&self, number: MapId) -> Option<&PortMap> {
        self.maps.get(number as usize)
    }

    /// The ports of a connection with these outcomes at its two ends.
    pub(super) fn and(&mut self, a: MapId, b: MapId) -> MapId {
        if a == b {
            return a;
        }
        let key = (a.min(b), a.max(b));
        if let Some(known) = self.ands.get(&key) {
            return *known;
        }
        let both = self.get(a).zip(self.get(b)).map_or_else(PortMap::closed, |(a, b)| a.and(b));
        let both = self.insert(both);
        self.ands.insert(key, both);
        both
    }

    /// The ports that one of both allows.
    pub(super) fn or(&mut self, a: MapId, b: MapId) -> MapId {
        if a == b {
            return a;
        }
        let key = (a.min(b), a.max(b));
        if let Some(known) = self.ors.get(&key) {
            return *known;
        }
        let either = self.get(a).zip(self.get(b)).map_or_else(PortMap::closed, |(a, b)| a.or(b));
        let either = self.insert(either);
        self.ors.insert(key, either);
        either
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(allowed: &[(u16, u16)], undecided: &[(u16, u16)]) -> PortMap {
        PortMap::of(|protocol| match protocol {
            Protocol::Tcp => {
                Outcomes { allowed: allowed.iter().copied().collect(), undecided: undecided.iter().copied().collect() }
            }
            _ => Outcomes { allowed: Ranges::none(), undecided: Ranges::none() },
        })
    }

    #[test]
    fn a_port_that_one_end_blocks_is_blocked() {
        let (own, other) = (map(&[(1, 100)], &[(200, 300)]), map(&[(50, 250)], &[(1, 10)]));
        assert_eq!(own.and(&other), map(&[(50, 100)], &[(1, 10), (200, 250)]));
        assert_eq!(own.and(&other), other.and(&own));
        assert_eq!(own.or(&other), map(&[(1, 250)], &[(251, 300)]));
    }

    #[test]
    fn equal_maps_have_one_number() {
        let mut maps = PortMaps::default();
        let (open, some) = (maps.insert(PortMap::open()), maps.insert(map(&[(80, 80), (443, 443)], &[])));
        assert_eq!(maps.and(open, some), some);
        assert_eq!(maps.or(some, open), open);
        assert_eq!(maps.get(some).unwrap().words(), "TCP 80, TCP 443");
        assert_eq!(maps.get(open).unwrap().words(), "every port");
    }
}
