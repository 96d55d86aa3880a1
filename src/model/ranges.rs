//! Sets of whole numbers as sorted, disjoint, inclusive ranges, for port numbers and addresses.

use std::fmt::Debug;

use crate::budget::charge;

/// An integer type that ranges can hold.
pub trait Number: Copy + Ord + Debug + Into<u128> {
    /// The smallest number of the type.
    const MIN: Self;
    /// The largest number of the type.
    const MAX: Self;
    /// The next larger number, if there is one.
    fn next(self) -> Option<Self>;
    /// The next smaller number, if there is one.
    fn previous(self) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty),+) => {$(
        impl Number for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )+};
}
number!(u16, u32, u128);

/// A set of numbers. The ranges are kept sorted, disjoint and not adjacent, so that equal sets are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranges<T>(Vec<(T, T)>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Number> Ranges<T> {
    /// The empty set.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The set of all numbers.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(T::MIN, T::MAX)])
    }

    /// The numbers from `first` to `last`, both included. Empty if `last` is smaller than `first`.
    #[must_use]
    pub fn between(first: T, last: T) -> Self {
        if first <= last { Self(vec![(first, last)]) } else { Self::none() }
    }

    /// The ranges, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }

    /// Returns true if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the set holds every number.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == [(T::MIN, T::MAX)]
    }

    /// Returns true if `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| number <= *last)
    }

    /// Returns true if every number of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        charge(other.0.len());
        other.0.iter().all(|(first, last)| {
            let after = self.0.partition_point(|(from, _)| from <= first);
            after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, to)| last <= to)
        })
    }

    /// Adds the numbers at which a range begins, and those after the end of a range.
    pub fn cuts(&self, cuts: &mut Vec<T>) {
        charge(self.0.len());
        cuts.extend(self.0.iter().flat_map(|(first, last)| std::iter::once(*first).chain(last.next())));
    }

    /// The first number of each range, and every cut within one.
    #[must_use]
    pub fn samples(&self, mut cuts: Vec<T>) -> Vec<T> {
        charge(self.0.len() + cuts.len());
        cuts.retain(|cut| self.contains(*cut));
        cuts.extend(self.0.iter().map(|(first, _)| *first));
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// Adds the numbers of `other`.
    pub fn extend(&mut self, other: &Self) {
        *self = self.0.iter().chain(&other.0).copied().collect();
    }

    /// Removes the numbers of `other`. Both sets are sorted, so each range is visited once.
    pub fn subtract(&mut self, other: &Self) {
        charge(self.0.len() + other.0.len());
        let mut left = Vec::with_capacity(self.0.len());
        let mut cuts = other.0.as_slice();
        for &(first, last) in &self.0 {
            let mut start = Some(first);
            while let (Some(from), Some((&(cut, end), rest))) = (start, cuts.split_first()) {
                if cut > last {
                    break;
                }
                if let Some(before) = cut.previous().filter(|before| from <= *before) {
                    left.push((from, before));
                }
                start = if end < from { Some(from) } else { end.next().filter(|next| *next <= last) };
                if end > last {
                    break;
                }
                cuts = rest;
            }
            left.extend(start.map(|from| (from, last)));
        }
        self.0 = left;
    }
}

impl<T: Number> Ranges<T> {
    /// The numbers that are in both sets. Both are sorted, so each range is visited once.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        charge(self.0.len() + other.0.len());
        let (mut own, mut others) = (self.0.as_slice(), other.0.as_slice());
        let mut both = Vec::new();
        while let ([(own_first, own_last), own_rest @ ..], [(first, last), rest @ ..]) = (own, others) {
            let (start, end) = ((*own_first).max(*first), (*own_last).min(*last));
            if start <= end {
                both.push((start, end));
            }
            if own_last < last {
                own = own_rest;
            } else {
                others = rest;
            }
        }
        Self(both)
    }
}

impl<T: Number> FromIterator<(T, T)> for Ranges<T> {
    /// The union of these ranges, both ends included.
    fn from_iter<I: IntoIterator<Item = (T, T)>>(ranges: I) -> Self {
        let mut ranges: Vec<(T, T)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        charge(2 * ranges.len());
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl<T: Number> Ranges<T> {
    /// The number of elements, capped at `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        let sizes = self.0.iter().map(|(first, last)| ((*last).into() - (*first).into()).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(pairs: &[(u16, u16)]) -> Ranges<u16> {
        let mut set = Ranges::none();
        for &(a, b) in pairs {
            set.extend(&Ranges::between(a.min(b), a.max(b)));
        }
        set
    }

    #[test]
    fn adjacent_ranges_become_one() {
        assert_eq!(set(&[(1, 32767), (32768, 65535)]), Ranges::between(1, 65535));
        assert_eq!(set(&[(0, 65535)]), Ranges::all());
        assert_eq!(set(&[(1, 65535)]).count(), 65535);
    }

    #[test]
    fn subtracting_the_middle_leaves_both_ends() {
        let mut ports: Ranges<u16> = Ranges::between(10, 20);
        ports.subtract(&Ranges::between(12, 18));
        assert_eq!(ports.as_slice(), [(10, 11), (19, 20)]);
        ports.subtract(&Ranges::all());
        assert!(ports.is_empty());
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(
            a in prop::collection::vec((0u16..40, 0u16..40), 0..6),
            b in prop::collection::vec((0u16..40, 0u16..40), 0..6),
        ) {
            let (left, right) = (set(&a), set(&b));
            let mut union = left.clone();
            union.extend(&right);
            let mut difference = left.clone();
            difference.subtract(&right);
            let intersection = left.intersection(&right);
            prop_assert_eq!(&intersection, &intersection.as_slice().iter().copied().collect());
            for number in 0..45 {
                prop_assert_eq!(union.contains(number), left.contains(number) || right.contains(number));
                prop_assert_eq!(difference.contains(number), left.contains(number) && !right.contains(number));
                prop_assert_eq!(intersection.contains(number), left.contains(number) && right.contains(number));
            }
            prop_assert_eq!(left.covers(&right), (0..45).all(|n| !right.contains(n) || left.contains(n)));
            prop_assert!(union.covers(&left) && union.covers(&right) && left.covers(&difference));
        }
    }
}
