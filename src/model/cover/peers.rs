//! Coverage between pods, peers and ports.

use super::{LOOK, spend, step};
use crate::budget::charge;
use crate::model::{
    AddressSet, Block, Entity, NAME_LABEL, Namespaces, Numbers, Operator, Owner, Peers, Pods, Port, Ports, Protocol,
    Ranges, Selector, Surroundings, Who,
};

/// The cost of building the address set of a CIDR, in steps.
fn cost(block: &Block) -> usize {
    LOOK + block.except.len()
}

/// Returns true if it is proved that selector `a` matches everything that `b` matches.
pub(super) fn covers(a: &Selector, b: &Selector, budget: &mut usize) -> bool {
    a.is_empty() || a == b || Selector::contradictory(&[(b, true), (a, false)], budget)
}

impl Namespaces {
    /// The namespaces as a selector of the pods in them.
    fn lifted(&self) -> Selector {
        match self {
            Self::Own(name) => Selector::equals(NAME_LABEL, name.as_deref().unwrap_or_default()).on(Owner::Namespace),
            Self::Matching(selector) => selector.on(Owner::Namespace),
        }
    }
}

impl Pods {
    /// The pods as one selector that includes the labels of their namespace.
    fn lifted(&self) -> Selector {
        let mut parts = vec![self.namespaces.lifted()];
        parts.extend(self.labels.iter().filter(|labels| !labels.is_empty()).map(Selector::copied));
        Selector::all(parts)
    }

    /// The same selector, to be compared with `pods`. If all of those are in one namespace that is known to match, the
    /// part for the namespace is left out.
    fn lifted_for(&self, pods: &Self, around: &dyn Surroundings) -> Selector {
        let is_there = match &pods.namespaces {
            Namespaces::Own(name) => self.namespaces.mean(name.as_deref().unwrap_or_default(), around) == Some(true),
            Namespaces::Matching(_) => false,
        };
        if is_there { self.selector() } else { self.lifted() }
    }

    /// Returns true if it is proved that every pod of `other` is among these pods.
    #[must_use]
    pub fn covers(&self, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        self == other || covers(&self.lifted_for(other, around), &other.lifted(), budget)
    }

    /// Returns true if it is proved that each of these pods is among the pods of at least one of the others.
    #[must_use]
    pub(crate) fn are_covered<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Self>,
        around: &dyn Surroundings,
        budget: &mut usize,
    ) -> bool {
        let own = self.lifted();
        let others: Vec<Selector> = others.into_iter().map(|other| other.lifted_for(self, around)).collect();
        let mut demands = vec![(&own, true)];
        demands.extend(others.iter().map(|other| (other, false)));
        others.iter().any(Selector::is_empty) || Selector::contradictory(&demands, budget)
    }

    /// Returns true if it is proved that none of these pods is among the others.
    #[must_use]
    pub fn excludes(&self, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        Selector::contradictory(&[(&self.lifted_for(other, around), true), (&other.lifted(), true)], budget)
    }

    /// Returns true if it is proved that every pod of the cluster is among these pods. Every namespace has its name as a
    /// label, and every pod has a service account.
    #[must_use]
    pub(crate) fn are_every_pod<'a>(pods: impl IntoIterator<Item = &'a Self>, budget: &mut usize) -> bool {
        let named =
            [Owner::Namespace, Owner::Account].map(|owner| Selector::label(NAME_LABEL, Operator::Exists).on(owner));
        let pods: Vec<Selector> = pods.into_iter().map(Self::lifted).collect();
        let demands: Vec<(&Selector, bool)> =
            named.iter().map(|fact| (fact, true)).chain(pods.iter().map(|pods| (pods, false))).collect();
        Selector::contradictory(&demands, budget)
    }
}

impl Who {
    /// Returns true if it is proved that this peer matches everything that `other` matches.
    pub(crate) fn covers(&self, other: &Self, around: &dyn Surroundings, budget: &mut usize) -> bool {
        charge(1);
        if !self.is_clear() || !other.is_clear() || step(budget).is_none() {
            return false;
        }
        match (self, other) {
            (Self::All(parts), _) => parts.iter().all(|part| part.covers(other, around, budget)),
            (_, Self::All(parts)) => parts.iter().any(|part| self.covers(part, around, budget)),
            (Self::Pods(own), Self::Pods(other)) => own.covers(other, around, budget),
            (Self::Addresses(own), Self::Addresses(other)) => {
                (own.inside || !other.inside)
                    && spend(cost(own) + cost(other), budget).is_some()
                    && own.addresses().covers(&other.addresses())
            }
            (Self::Entity(Entity::All), _) => true,
            (Self::Entity(own), Self::Entity(other)) => own.includes(*other),
            (Self::Nodes(own), Self::Nodes(other)) => covers(own, other, budget),
            (Self::Not(own), Self::Not(other)) => other.covers(own, around, budget),
            (Self::Domain(_) | Self::Service(_), _) => self == other,
            _ => false,
        }
    }

    /// Returns true if every part is understood, and matches the same endpoints in every policy.
    fn is_clear(&self) -> bool {
        match self {
            Self::Unclear(_) => false,
            Self::Service(service) => service.namespace.is_some() && service.name.is_some(),
            Self::All(parts) => parts.iter().all(Self::is_clear),
            Self::Not(part) => part.is_clear(),
            Self::Pods(_) | Self::Addresses(_) | Self::Entity(_) | Self::Nodes(_) | Self::Domain(_) => true,
        }
    }
}

impl Peers {
    /// Returns true if it is proved that these peers match everything that `other` matches.
    pub fn cover(&self, other: &Who, around: &dyn Surroundings, budget: &mut usize) -> bool {
        let Self::Only(own) = self else { return other.is_clear() };
        if own.iter().any(|own| own.who.covers(other, around, budget)) {
            return true;
        }
        // Several blocks may together cover a block that none of them covers alone.
        let Who::Addresses(block) = other else { return false };
        let blocks = || {
            own.iter().filter_map(|own| match &own.who {
                Who::Addresses(own) if own.inside || !block.inside => Some(own),
                _ => None,
            })
        };
        blocks().nth(1).is_some()
            && spend(cost(block) + blocks().map(cost).sum::<usize>(), budget).is_some()
            && AddressSet::union(blocks().map(Block::addresses)).covers(&block.addresses())
    }

    /// Returns true if these peers match any endpoint.
    #[must_use]
    pub(crate) fn are_everything(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Only(peers) => peers.iter().any(|peer| peer.who == Who::Entity(Entity::All)),
        }
    }
}

impl Ports {
    /// Returns true if it is proved that these ports match everything that the other entry matches.
    #[must_use]
    pub(crate) fn cover(&self, other: &Port) -> bool {
        charge(1 + self.entries());
        let (own, not) = match self {
            Self::Any => return true,
            Self::OfService(_) => return false,
            Self::Only(own) => (own.as_slice(), [].as_slice()),
            Self::But { of, not } => match &**of {
                Self::Any => ([].as_slice(), not.as_slice()),
                Self::Only(own) => (own.as_slice(), not.as_slice()),
                Self::But { .. } | Self::OfService(_) => return false,
            },
        };
        let has_any = matches!(self, Self::But { of, .. } if **of == Self::Any);
        let protocols: &[Protocol] = match &other.protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None => &Protocol::WITH_PORTS,
        };
        protocols.iter().all(|protocol| {
            let mut not = not.iter().filter(|port| port.is_for(*protocol));
            let mut all = own.iter().filter(|port| port.is_for(*protocol));
            match &other.numbers {
                // The port number of a name is not known.
                Numbers::Range(first, last) if not.clone().all(|port| port.known_numbers().is_some()) => {
                    self.known_numbers(*protocol).covers(&Ranges::between(*first, *last))
                }
                Numbers::Range(..) => false,
                _ if not.next().is_some() => false,
                _ if has_any || all.clone().any(|port| port.numbers == Numbers::All) => true,
                Numbers::All | Numbers::Named(_) if self.known_numbers(*protocol).is_all() => true,
                Numbers::Messages(kind, _) => {
                    all.any(|port| port.numbers == Numbers::Messages(*kind, None) || port.numbers == other.numbers)
                }
                Numbers::Named(_) => all.any(|port| port.numbers == other.numbers),
                Numbers::All => false,
            }
        })
    }
}
