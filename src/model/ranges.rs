//! Sets of whole numbers as sorted, disjoint, inclusive ranges: port numbers and addresses alike.

use std::fmt::Debug;

/// A number that ranges can be made of.
pub trait Number: Copy + Ord + Debug {
    /// The smallest number there is.
    const MIN: Self;
    /// The largest number there is.
    const MAX: Self;
    /// The number after this one, if there is one.
    fn next(self) -> Option<Self>;
    /// The number before this one, if there is one.
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
    /// No number at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every number.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(T::MIN, T::MAX)])
    }

    /// The numbers from `first` to `last`, both included; none where `last` is smaller.
    #[must_use]
    pub fn between(first: T, last: T) -> Self {
        if first <= last { Self(vec![(first, last)]) } else { Self::none() }
    }

    /// The ranges, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }

    /// Whether there is no number in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every number is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == [(T::MIN, T::MAX)]
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: T) -> bool {
        self.0.iter().any(|(first, last)| *first <= number && number <= *last)
    }

    /// Whether every number of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(first, last)| self.0.iter().any(|(from, to)| from <= first && last <= to))
    }

    /// Adds the numbers of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }

    /// Takes the numbers of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        for &(from, to) in &other.0 {
            let mut left = Vec::with_capacity(self.0.len() + 1);
            for &(first, last) in &self.0 {
                if to < first || last < from {
                    left.push((first, last));
                    continue;
                }
                if let Some(before) = from.previous().filter(|before| first <= *before) {
                    left.push((first, before));
                }
                if let Some(after) = to.next().filter(|after| *after <= last) {
                    left.push((after, last));
                }
            }
            self.0 = left;
        }
    }
}

impl Ranges<u16> {
    /// How many numbers are in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|(first, last)| usize::from(*last) - usize::from(*first) + 1).sum()
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
            for number in 0..45 {
                prop_assert_eq!(union.contains(number), left.contains(number) || right.contains(number));
                prop_assert_eq!(difference.contains(number), left.contains(number) && !right.contains(number));
            }
            prop_assert_eq!(left.covers(&right), (0..45).all(|n| !right.contains(n) || left.contains(n)));
            prop_assert!(union.covers(&left) && union.covers(&right) && left.covers(&difference));
        }
    }
}
