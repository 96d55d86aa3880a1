//! The ports in spans that every rule treats alike.

use std::collections::BTreeSet;

use super::{Numbers, Ports};
use crate::budget::charge;

/// The ports from 1 to 65535, cut into spans at the ports that rules name. One port of a span stands for all of it.
#[derive(Clone, Debug)]
pub(crate) struct PortSpans {
    /// The first port of each span.
    starts: BTreeSet<u16>,
}

impl Default for PortSpans {
    fn default() -> Self {
        Self { starts: [1].into() }
    }
}

impl PortSpans {
    /// One span of all ports.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Separates the ports from `first` to `last` from the others.
    pub(crate) fn cut(&mut self, first: u16, last: u16) {
        self.starts.insert(first.max(1));
        self.starts.extend(last.checked_add(1));
    }

    /// Separates the port numbers of a rule from the others.
    pub(crate) fn cut_at(&mut self, ports: &Ports) {
        ports.for_each(&mut |port| {
            charge(1);
            if let Numbers::Range(first, last) = port.numbers {
                self.cut(first, last);
            }
        });
    }

    /// The spans in order, each as its first and its last port.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        let ends = self.starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
        self.starts.iter().copied().zip(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_every_port_once() {
        let mut spans = PortSpans::new();
        assert_eq!(spans.iter().collect::<Vec<_>>(), [(1, u16::MAX)]);
        spans.cut(80, 80);
        spans.cut(8000, u16::MAX);
        assert_eq!(spans.iter().collect::<Vec<_>>(), [(1, 79), (80, 80), (81, 7999), (8000, u16::MAX)]);
        spans.cut(0, 10);
        assert_eq!(spans.iter().next(), Some((1, 10)));
    }
}
