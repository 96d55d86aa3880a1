//! Sets of numbers laid over each other, which come and go: the size of everything that is in at least one of them.
//!
//! The numbers are cut into cells where a set begins or ends. A segment tree over the cells counts the sets on each
//! node (Klee's measure problem), so that a set is added or removed in logarithmic time for each of its ranges.

use std::ops::ControlFlow;

use super::{Number, Ranges};
use crate::budget::charge;

/// Sets of numbers laid over each other. A size has `N` parts, such as numbers of different kinds.
#[derive(Clone, Debug)]
pub(crate) struct Layers<T, const N: usize> {
    /// The first number of each cell, sorted.
    starts: Vec<T>,
    /// The nodes of the tree: the children of node `n` are `2n` and `2n + 1`.
    nodes: Vec<Node<N>>,
}

/// A node of the tree: one cell, or several neighbouring cells.
#[derive(Clone, Copy, Debug)]
struct Node<const N: usize> {
    /// The number of sets that cover the whole node, but not its whole parent.
    layers: u32,
    /// The size of the node.
    size: [u128; N],
    /// The size of everything below that is in at least one set.
    covered: [u128; N],
}

impl<T: Number, const N: usize> Layers<T, N> {
    /// Prepares the cells for these sets, without any set on them. `size` is the size of a range of numbers that no set
    /// divides.
    pub(crate) fn new<'a>(sets: impl IntoIterator<Item = &'a Ranges<T>>, size: impl Fn(T, T) -> [u128; N]) -> Self
    where
        T: 'a,
    {
        let mut starts = vec![T::MIN];
        for set in sets {
            set.cuts(&mut starts);
        }
        starts.sort_unstable();
        starts.dedup();
        let width = starts.len().next_power_of_two();
        charge(2 * width);
        let mut nodes = vec![Node { layers: 0, size: [0; N], covered: [0; N] }; 2 * width];
        let lasts = starts.iter().skip(1).map(|next| next.previous().unwrap_or(T::MIN)).chain([T::MAX]);
        for ((first, last), leaf) in starts.iter().zip(lasts).zip(nodes.iter_mut().skip(width)) {
            leaf.size = size(*first, last);
        }
        for at in (1..width).rev() {
            let size = sum(&nodes, at, |node| node.size);
            if let Some(node) = nodes.get_mut(at) {
                node.size = size;
            }
        }
        Self { starts, nodes }
    }

    /// Adds a set, or removes one that was added. It has to be one of the sets that the cells were prepared for.
    pub(crate) fn change(&mut self, set: &Ranges<T>, is_added: bool) {
        for (first, last) in set.as_slice() {
            let from = self.starts.partition_point(|start| start < first);
            let to = self.starts.partition_point(|start| start <= last);
            self.change_below(1, (0, self.nodes.len() / 2), (from, to), is_added);
        }
    }

    /// The size of everything that is in at least one set.
    #[must_use]
    pub(crate) fn covered(&self) -> [u128; N] {
        self.nodes.get(1).map_or([0; N], |root| root.covered)
    }

    /// Changes the cells from `cells.0` up to, but not including, `cells.1`. The node has the cells `own`.
    fn change_below(&mut self, at: usize, own: (usize, usize), cells: (usize, usize), is_added: bool) {
        charge(1);
        if cells.1 <= own.0 || own.1 <= cells.0 {
            return;
        }
        let is_whole = cells.0 <= own.0 && own.1 <= cells.1;
        if !is_whole {
            let middle = own.0.midpoint(own.1);
            self.change_below(2 * at, (own.0, middle), cells, is_added);
            self.change_below(2 * at + 1, (middle, own.1), cells, is_added);
        }
        let below = sum(&self.nodes, at, |node| node.covered);
        let Some(node) = self.nodes.get_mut(at) else { return };
        if is_whole {
            node.layers = if is_added { node.layers + 1 } else { node.layers.saturating_sub(1) };
        }
        node.covered = if node.layers > 0 { node.size } else { below };
    }
}

/// The sum over the children of a node. A leaf has none.
fn sum<const N: usize>(nodes: &[Node<N>], at: usize, of: impl Fn(&Node<N>) -> [u128; N]) -> [u128; N] {
    let mut sum = [0_u128; N];
    for child in nodes.get(2 * at..2 * at + 2).unwrap_or_default() {
        for (sum, part) in sum.iter_mut().zip(of(child)) {
            *sum = sum.saturating_add(part);
        }
    }
    sum
}

/// Visits the numbers at which sets begin and end, in order. `visit` gets such a number and the sets, by their
/// positions in the list; true for a set that begins there, false for one that no longer holds the number.
pub(crate) fn sweep<T: Number>(sets: &[&Ranges<T>], mut visit: impl FnMut(T, &[(T, bool, usize)]) -> ControlFlow<()>) {
    let mut events: Vec<(T, bool, usize)> = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        for (first, last) in set.as_slice() {
            events.push((*first, true, at));
            events.extend(last.next().map(|next| (next, false, at)));
        }
    }
    charge(2 * events.len());
    events.sort_unstable();
    for changes in events.chunk_by(|a, b| a.0 == b.0) {
        let Some((number, ..)) = changes.first() else { continue };
        if visit(*number, changes).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(pairs: &[(u16, u16)]) -> Ranges<u16> {
        pairs.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect()
    }

    fn width(first: u16, last: u16) -> [u128; 1] {
        [u128::from(last - first) + 1]
    }

    #[test]
    fn sets_of_every_number_fit() {
        let all = Ranges::<u16>::all();
        let mut layers = Layers::new([&all], width);
        layers.change(&all, true);
        assert_eq!(layers.covered(), [65_536]);
    }

    proptest! {
        #[test]
        fn layers_hold_the_union_of_the_sets_on_them(
            sets in prop::collection::vec(prop::collection::vec((0u16..40, 0u16..40), 0..4), 1..6),
            removed in prop::collection::vec(any::<bool>(), 6),
        ) {
            let sets: Vec<Ranges<u16>> = sets.iter().map(|pairs| set(pairs)).collect();
            let mut layers = Layers::new(&sets, width);
            sets.iter().for_each(|set| layers.change(set, true));
            let union = |sets: &[&Ranges<u16>]| -> Ranges<u16> {
                sets.iter().flat_map(|set| set.as_slice().to_vec()).collect()
            };
            prop_assert_eq!(layers.covered(), [union(&sets.iter().collect::<Vec<_>>()).count()]);
            let (mut left, mut gone) = (Vec::new(), Vec::new());
            for (set, removed) in sets.iter().zip(&removed) {
                if *removed { gone.push(set) } else { left.push(set) }
            }
            gone.into_iter().for_each(|set| layers.change(set, false));
            prop_assert_eq!(layers.covered(), [union(&left).count()]);
        }

        #[test]
        fn a_sweep_knows_the_sets_at_each_number(
            sets in prop::collection::vec(prop::collection::vec((0u16..40, 0u16..40), 0..4), 1..6),
        ) {
            let sets: Vec<Ranges<u16>> = sets.iter().map(|pairs| set(pairs)).collect();
            let sets: Vec<&Ranges<u16>> = sets.iter().collect();
            let mut here = vec![false; sets.len()];
            sweep(&sets, |number, changes| {
                changes.iter().for_each(|(_, begins, at)| here[*at] = *begins);
                let expected: Vec<bool> = sets.iter().map(|set| set.contains(number)).collect();
                assert_eq!(here, expected);
                ControlFlow::Continue(())
            });
        }
    }
}
