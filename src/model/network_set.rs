//! Calico's network sets: labelled addresses, which the selectors of a rule match like pods.

use super::ternary::{all_of, any_of};
use super::{AddressSet, Block, End, Entity, Fact, Labels, Namespaces, Owner, Peer, Pods, Surroundings, Who};
use crate::budget::charge;

/// A network set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSet {
    /// The namespace. `None` for a GlobalNetworkSet.
    pub namespace: Option<Box<str>>,
    /// The labels.
    pub labels: Labels,
    /// The addresses.
    pub blocks: Vec<Block>,
    /// True if it also contains addresses that are unknown, such as those of a DNS name.
    pub(crate) has_more: bool,
}

/// The network sets that a peer matches besides pods, by the same selectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sets {
    /// None.
    #[default]
    None,
    /// The sets in the namespaces of the peer.
    Namespaced,
    /// The sets in the namespaces of the peer, and global sets.
    All,
}

impl Peer {
    /// Returns true if the peer matches the end. `None` if that is unknown.
    #[must_use]
    pub fn means(&self, end: &End<'_>, around: &dyn Surroundings) -> Option<bool> {
        self.who.means_with(self.sets, end, around, None)
    }
}

impl Who {
    /// Returns true if the peer, or a network set that its selectors match, matches the end. `None` if that is unknown.
    /// `unknown` is the answer for network sets that are not known.
    fn means_with(&self, sets: Sets, end: &End<'_>, around: &dyn Surroundings, unknown: Option<bool>) -> Option<bool> {
        match self {
            _ if sets == Sets::None => self.means(end, around),
            Self::All(parts) => all_of(parts.iter().map(|part| part.means_with(sets, end, around, unknown))),
            // "Everything but these" is said of an address unless a known set is excluded.
            Self::Not(part) => part.means_with(sets, end, around, Some(false)).map(|meant| !meant),
            Self::Pods(pods) => any_of([pods.sets_mean(sets, end, around, unknown), self.means(end, around)]),
            _ => self.means(end, around),
        }
    }
}

impl Pods {
    /// Returns true if a network set with these labels contains the end. `None` if that is unknown: the known sets are
    /// never all of them. An unknown set counts as one without addresses of pods.
    fn sets_mean(&self, sets: Sets, end: &End<'_>, around: &dyn Surroundings, unknown: Option<bool>) -> Option<bool> {
        let known = any_of(around.network_sets().iter().map(|set| {
            charge(1);
            match self.mean_set(set, sets, around) {
                Some(false) => Some(false),
                is_selected => all_of([is_selected, set.contains(end)]),
            }
        }));
        if known != Some(false) || matches!(end, End::Pod(_) | End::Foreign(_) | End::Entity(Entity::None)) {
            return known;
        }
        let labels = self.labels.as_ref().map(|labels| {
            labels.decided(&|owner, key| match (owner, &self.namespaces) {
                (Owner::Namespace, Namespaces::Own(Some(name))) => around.namespace_label(name, key),
                (Owner::Account, _) => Fact::Absent,
                _ => Fact::Unknown,
            })
        });
        if labels == Some(Some(false)) { Some(false) } else { unknown }
    }

    /// Returns true if these labels and namespaces select a network set. `None` if that is unknown.
    fn mean_set(&self, set: &NetworkSet, sets: Sets, around: &dyn Surroundings) -> Option<bool> {
        let is_there = match (&set.namespace, &self.namespaces) {
            (Some(name), namespaces) => namespaces.mean(name, around),
            // It has no label of a namespace.
            (None, Namespaces::Matching(selector)) if sets == Sets::All => selector.decided(&|_, _| Fact::Absent),
            (None, _) => Some(false),
        };
        let labels = self.labels.as_ref().map_or(Some(true), |labels| {
            labels.decided(&|owner, key| match (owner, &set.namespace) {
                (Owner::Itself, _) => Fact::of(&set.labels, key),
                (Owner::Namespace, Some(name)) => around.namespace_label(name, key),
                (Owner::Namespace, None) | (Owner::Account, _) => Fact::Absent,
            })
        });
        all_of([is_there, labels])
    }
}

impl NetworkSet {
    /// Returns true if the set contains the end. `None` if that is unknown.
    fn contains(&self, end: &End<'_>) -> Option<bool> {
        charge(self.blocks.len());
        let contained = match end {
            End::Addresses { set, .. } => {
                let own = AddressSet::union(self.blocks.iter().map(Block::addresses));
                match (own.covers(set), own.overlaps(set)) {
                    (true, _) => Some(true),
                    (false, true) => None,
                    (false, false) => Some(false),
                }
            }
            _ => any_of(self.blocks.iter().map(|block| block.means(end))),
        };
        if contained == Some(false) && self.has_more { None } else { contained }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Endpoint, Path, Selector, Tier};

    struct Around(Vec<NetworkSet>);

    impl Surroundings for Around {
        fn namespace_labels(&self, _: &str) -> Option<&Labels> {
            None
        }

        fn tier(&self, _: &str) -> Option<&Tier> {
            None
        }

        fn network_sets(&self) -> &[NetworkSet] {
            &self.0
        }
    }

    fn set(namespace: Option<&str>, role: &str, net: &str) -> NetworkSet {
        NetworkSet {
            namespace: namespace.map(Box::from),
            labels: [("role", role)].into_iter().collect(),
            blocks: vec![Block::whole(net.parse().unwrap())],
            has_more: false,
        }
    }

    fn peer(sets: Sets, namespaces: Namespaces) -> Peer {
        let pods = Pods { namespaces, labels: Some(Selector::equals("role", "db")) };
        Peer { sets, ..Peer::new(Path::root(), Who::Pods(pods)) }
    }

    fn means(peer: &Peer, sets: Vec<NetworkSet>, address: &str) -> Option<bool> {
        let set = AddressSet::from(address.parse::<IpAddr>().unwrap());
        peer.means(&End::Addresses { set: &set, outside: true }, &Around(sets))
    }

    #[test]
    fn an_address_may_be_in_a_set_that_is_not_known() {
        let (own, every) = (Namespaces::Own(Some("shop".into())), Namespaces::Matching(Selector::everything()));
        let namespaced = peer(Sets::Namespaced, own.clone());
        assert_eq!(means(&peer(Sets::None, own), Vec::new(), "192.0.2.1"), Some(false));
        assert_eq!(means(&namespaced, Vec::new(), "192.0.2.1"), None);
        assert_eq!(means(&namespaced, vec![set(Some("shop"), "db", "192.0.2.0/24")], "192.0.2.1"), Some(true));
        for other in [
            set(Some("shop"), "cache", "192.0.2.0/24"),
            set(Some("bank"), "db", "192.0.2.0/24"),
            set(None, "db", "192.0.2.0/24"),
            set(Some("shop"), "db", "198.51.100.0/24"),
        ] {
            assert_eq!(means(&namespaced, vec![other.clone()], "192.0.2.1"), None, "{other:?}");
        }
        let global = set(None, "db", "192.0.2.0/24");
        assert_eq!(means(&peer(Sets::All, every.clone()), vec![global.clone()], "192.0.2.1"), Some(true));
        assert_eq!(means(&peer(Sets::Namespaced, every), vec![global], "192.0.2.1"), None, "it has no namespace");
    }

    #[test]
    fn an_address_is_outside_of_excluded_pods_unless_a_known_set_contains_it() {
        let every = Namespaces::Matching(Selector::everything());
        let Peer { path, who, sets } = peer(Sets::All, every);
        let not = Peer { path, who: Who::Not(Box::new(who)), sets };
        assert_eq!(means(&not, Vec::new(), "192.0.2.1"), Some(true));
        assert_eq!(means(&not, vec![set(None, "db", "192.0.2.0/24")], "192.0.2.1"), Some(false));
    }

    #[test]
    fn a_set_has_no_service_account() {
        let account = Selector::label("role", crate::model::Operator::Exists).on(Owner::Account);
        let pods = Pods { namespaces: Namespaces::Own(Some("shop".into())), labels: Some(account) };
        let peer = Peer { sets: Sets::Namespaced, ..Peer::new(Path::root(), Who::Pods(pods)) };
        assert_eq!(means(&peer, Vec::new(), "192.0.2.1"), Some(false));
    }

    #[test]
    fn an_unknown_set_contains_no_pod_and_a_known_one_may() {
        let peer = peer(Sets::Namespaced, Namespaces::Own(Some("shop".into())));
        let labels = Labels::default();
        let addresses = ["10.1.0.1".parse().unwrap()];
        let pod = Endpoint { labels: &labels, complete: true, addresses: &addresses, ..Endpoint::unknown("bank") };
        let means = |sets: Vec<NetworkSet>| peer.means(&End::Pod(pod), &Around(sets));
        assert_eq!(means(Vec::new()), Some(false));
        assert_eq!(means(vec![set(Some("shop"), "db", "10.1.0.0/16")]), Some(true));
        assert_eq!(means(vec![set(Some("shop"), "db", "192.0.2.0/24")]), Some(false));
    }
}
