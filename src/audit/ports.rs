//! The ports of a connection by outcome.

use std::collections::HashMap;

use crate::model::{Protocol, Ranges};

/// Every port of TCP, UDP and SCTP by outcome. A port that is neither allowed nor undecided is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PortMap {
    /// The allowed ports of each protocol, in the order of [`Protocol::WITH_PORTS`].
    pub(super) allowed: [Vec<(u16, u16)>; 3],
    pub(super) undecided: [Vec<(u16, u16)>; 3],
}

impl PortMap {
    /// Every port is allowed.
    pub(super) fn open() -> Self {
        let all = || vec![(1, u16::MAX)];
        Self { allowed: [all(), all(), all()], undecided: Default::default() }
    }

    pub(super) fn allows_all(&self) -> bool {
        self.allowed.iter().all(|ranges| ranges.as_slice() == [(1, u16::MAX)])
    }

    pub(super) fn allows_any(&self) -> bool {
        self.allowed.iter().any(|ranges| !ranges.is_empty())
    }

    pub(super) fn is_undecided(&self) -> bool {
        !self.allows_any() && self.undecided.iter().any(|ranges| !ranges.is_empty())
    }

    /// The ports of a connection with these outcomes at its two ends: a port that one end blocks is blocked.
    fn and(&self, other: &Self) -> Self {
        let both = |a: &[(u16, u16)], b: &[(u16, u16)]| meet(&ranges(a), &ranges(b));
        let mut and = Self::default();
        let each = and.allowed.iter_mut().zip(&mut and.undecided).zip(self.sides()).zip(other.sides());
        for (((allowed, undecided), own), others) in each {
            let allowed_by_both = both(own.0, others.0);
            let mut possible = meet(&possible(own), &possible(others));
            possible.subtract(&allowed_by_both);
            *allowed = allowed_by_both.as_slice().to_vec();
            *undecided = possible.as_slice().to_vec();
        }
        and
    }

    /// The ports that are allowed by one of both.
    fn or(&self, other: &Self) -> Self {
        let mut or = Self::default();
        let each = or.allowed.iter_mut().zip(&mut or.undecided).zip(self.sides()).zip(other.sides());
        for (((allowed, undecided), own), others) in each {
            let mut either = ranges(own.0);
            either.extend(&ranges(others.0));
            let mut unknown = ranges(own.1);
            unknown.extend(&ranges(others.1));
            unknown.subtract(&either);
            *allowed = either.as_slice().to_vec();
            *undecided = unknown.as_slice().to_vec();
        }
        or
    }

    /// The allowed and the undecided ports of each protocol.
    fn sides(&self) -> impl Iterator<Item = (&Vec<(u16, u16)>, &Vec<(u16, u16)>)> {
        self.allowed.iter().zip(&self.undecided)
    }

    /// The allowed ports in words: `TCP 80, every UDP port`.
    pub(super) fn words(&self) -> String {
        if self.allows_all() {
            return "every port".to_owned();
        }
        let mut words = Vec::new();
        for (protocol, ranges) in Protocol::WITH_PORTS.into_iter().zip(&self.allowed) {
            words.extend(ranges.iter().map(|range| match *range {
                (1, u16::MAX) => format!("every {protocol} port"),
                (first, last) if first == last => format!("{protocol} {first}"),
                (first, last) => format!("{protocol} {first}-{last}"),
            }));
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

fn ranges(of: &[(u16, u16)]) -> Ranges<u16> {
    of.iter().copied().collect()
}

fn meet(a: &Ranges<u16>, b: &Ranges<u16>) -> Ranges<u16> {
    let mut not_b = Ranges::all();
    not_b.subtract(b);
    let mut both = a.clone();
    both.subtract(&not_b);
    both
}

fn possible((allowed, undecided): (&Vec<(u16, u16)>, &Vec<(u16, u16)>)) -> Ranges<u16> {
    allowed.iter().chain(undecided).copied().collect()
}

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
        let both = self.get(a).zip(self.get(b)).map(|(a, b)| a.and(b)).unwrap_or_default();
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
        let either = self.get(a).zip(self.get(b)).map(|(a, b)| a.or(b)).unwrap_or_default();
        let either = self.insert(either);
        self.ors.insert(key, either);
        either
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(allowed: &[(u16, u16)], undecided: &[(u16, u16)]) -> PortMap {
        PortMap {
            allowed: [allowed.to_vec(), Vec::new(), Vec::new()],
            undecided: [undecided.to_vec(), Vec::new(), Vec::new()],
        }
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
